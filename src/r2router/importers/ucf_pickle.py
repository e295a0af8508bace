"""Scikit-learn regressors out of joblib files, read as data.

A joblib file is a pickle, and loading a pickle runs whatever its author wrote into it. So there is no unpickler here,
not even one with a short list of imports: `_load` steps through the few opcodes that the released files are made of. A
global becomes a name with nothing behind it; nothing is imported, called or set as an attribute, whatever the bytes
say.
"""

from __future__ import annotations

import io
import pickletools
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from r2router.errors import ArtifactError
from r2router.files import check_file
from r2router.types import FloatArray

_MAX_BYTES = 8 << 20  # the released files have 5 and 64 kB; 4096-d float64 embeddings would make 0.5 MB
_MAX_OPCODES = 10_000  # the released files have at most 1,110


def bad(where: Path | str, what: str) -> ArtifactError:
    return ArtifactError(f"{where}: {what}; fetch this file from the release again")


def read_bytes(path: Path) -> bytes:
    check_file(path, ArtifactError)
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}; give the folder of config.json and checkpoints/") from None
    if len(raw) > _MAX_BYTES:
        raise bad(path, f"is larger than {_MAX_BYTES >> 20} MiB, as no file of the release is")
    return raw


class _Global(Enum):  # of the released files; every other one is refused
    RIDGE = ("sklearn.linear_model._ridge", "Ridge")
    WRAPPER = ("joblib.numpy_pickle", "NumpyArrayWrapper")
    NDARRAY = ("numpy", "ndarray")
    DTYPE = ("numpy", "dtype")
    SCALAR = ("numpy._core.multiarray", "scalar")


_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
_TAKEN = {  # the opcodes of the released files, by how many values they take off the stack; None: all down to the mark
    0: (  # the last two only to say which global is refused
        "PROTO FRAME MARK MEMOIZE BINGET LONG_BINGET NONE NEWTRUE NEWFALSE EMPTY_TUPLE EMPTY_DICT BININT BININT1"
        " BININT2 BINFLOAT SHORT_BINUNICODE SHORT_BINBYTES GLOBAL INST"
    ),
    1: "TUPLE1 STOP",
    2: "TUPLE2 STACK_GLOBAL NEWOBJ REDUCE BUILD",
    3: "TUPLE3",
    None: "TUPLE SETITEMS",
}
_TAKES = {name: count for count, names in _TAKEN.items() for name in names.split()}
_DTYPES = {code: np.dtype(f"<{code}") for code in ("f4", "f8", "i4", "i8")}  # looked up, never made from the file


def read_pickle(path: Path) -> Any:
    """Return what an uncompressed joblib file holds; a Ridge becomes the dict of its state. Raises `ArtifactError`."""
    raw = read_bytes(path)
    if raw[:1] != b"\x80":  # zlib, gzip, bz2, xz or lz4 of joblib; a pickle before protocol 2
        raise bad(path, "is compressed, or not a joblib file at all")
    try:
        return _load(io.BytesIO(raw))
    except (ValueError, LookupError, TypeError) as error:
        reason = str(error) if isinstance(error, ValueError) else type(error).__name__
        raise bad(path, f"is damaged, cut short or no file of the release ({reason})") from None


def _load(stream: io.BytesIO) -> Any:  # noqa: C901 - one flat match, one case per opcode, reads better than a table
    """Return the one value that the pickle leaves behind; one case per opcode. Raises ValueError, LookupError or
    TypeError.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: list[Any] = []
    for _ in range(_MAX_OPCODES):
        opcode = _OPCODES[stream.read(1).decode("latin-1")]
        if opcode.name not in _TAKES:
            raise ValueError(f"refused: opcode {opcode.name}")
        arg: Any = opcode.arg.reader(stream) if opcode.arg else None
        start = marks.pop() if (count := _TAKES[opcode.name]) is None else len(stack) - count
        if start < 0:
            raise IndexError
        taken = tuple(stack[start:])  # values are never hashed, compared or printed whole: one could be very deep
        del stack[start:]
        match opcode.name, taken:
            case (("PROTO" | "FRAME"), _):
                pass
            case "MARK", _:
                marks.append(len(stack))
            case "MEMOIZE", _:
                memo.append(stack[-1])
            case (("BINGET" | "LONG_BINGET"), _):
                stack.append(memo[arg])
            case "EMPTY_DICT", _:
                stack.append({})
            case (("EMPTY_TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3" | "TUPLE"), _):
                stack.append(taken)
            case "SETITEMS", _ if type(stack[-1]) is dict and all(type(key) is str for key in taken[::2]):
                stack[-1].update(zip(taken[::2], taken[1::2], strict=True))
            case "STACK_GLOBAL", (str(), str()) if any(taken == known.value for known in _Global):
                stack.append(_Global(taken))
            case "NEWOBJ", ((_Global.RIDGE | _Global.WRAPPER) as known, ()):
                stack.append(known)
            case ("BUILD", (_Global.RIDGE, dict() as kept)) | ("BUILD", (np.dtype() as kept, (3, "<", *_))):
                stack.append(kept)
            case "BUILD", (_Global.WRAPPER, dict() as state):
                stack.append(_array(state, stream))
            case "REDUCE", (_Global.DTYPE, (str(code), False, True)) if code in _DTYPES:
                stack.append(_DTYPES[code])
            case "REDUCE", (_Global.SCALAR, (np.dtype() as dtype, bytes(raw))) if len(raw) == dtype.itemsize:
                stack.append(np.frombuffer(raw, dtype)[0])
            case "STOP", (value,) if not stack and not stream.read(1):
                return value
            case ("GLOBAL" | "INST" | "STACK_GLOBAL" | "NEWOBJ" | "REDUCE" | "BUILD" | "SETITEMS" | "STOP") as name, _:
                of = (v[:80] if isinstance(v, str) else getattr(v, "name", type(v).__name__) for v in (*taken, arg)[:2])
                raise ValueError(f"refused: {name} of {' '.join(of)!a}")
            case name, _:
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}.get(name, arg))
    raise ValueError(f"refused: more than {_MAX_OPCODES} opcodes")


def _array(state: dict[str, Any], stream: io.BytesIO) -> FloatArray:
    """Return the array whose bytes stand in the file right behind the state of joblib's wrapper."""
    match state:
        case {"subclass": _Global.NDARRAY, "order": "C", "shape": (int(count),), "dtype": np.dtype() as dtype}:
            if state.get("numpy_array_alignment_bytes") is not None:  # a count of filler bytes, then the filler
                stream.seek(stream.read(1)[0], io.SEEK_CUR)
            size = count * dtype.itemsize
            raw = stream.read(size) if 0 < size <= _MAX_BYTES else b""
            if raw and len(raw) == size:
                return np.frombuffer(raw, dtype)
    raise ValueError("refused: an array that is cut short, or not a plain row of numbers")
