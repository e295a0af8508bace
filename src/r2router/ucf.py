"""The paper's released router, read as data: `read_release(folder)`.

The release is a `config.json` and, for each model, three joblib files of scikit-learn Ridge regressors. A joblib file
is a pickle, and loading a pickle runs whatever its author wrote into it. So there is no unpickler here, not even one
with a short list of imports: `_load` steps through the few opcodes that the released files are made of. A global
becomes a name with nothing behind it; nothing is imported, called or set as an attribute, whatever the bytes say.
"""

from __future__ import annotations

import io
import pickletools
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import numpy as np

from r2router.errors import ArtifactError
from r2router.types import UNLIMITED, Budget, FloatArray, Model, Prices

_MOST_BYTES = 8 << 20  # the released files have 5 and 64 kB; 4096-d float64 embeddings would make 0.5 MB
_MOST_OPCODES = 10_000  # the released files have at most 1,110

_Head: TypeAlias = tuple[FloatArray, float | np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class UcfRelease:
    """The released router as arrays; d is the embedding's dimension, B the number of budgets.

    models: with their OpenRouter ids, prices and budgets; `available` as the release states it (its code ignores it).
    budgets: the order of the budget axis; numbers of tokens and `"unlimited"`.
    quality_coef, quality_intercept: (models, B, d), (models, B); quality is linear in the embedding, then cut to 0..1.
    token_coef, token_intercept: (models, d), (models,); output tokens of an unlimited answer, then cut to at least 0.
    default_lambda: for cost in raw dollars. embedding_model: the encoder's name on Hugging Face.
    """

    models: tuple[Model, ...]
    budgets: tuple[int | str, ...]
    quality_coef: FloatArray
    quality_intercept: FloatArray
    token_coef: FloatArray
    token_intercept: FloatArray
    default_lambda: float
    embedding_model: str


class _ModelEntry(msgspec.Struct):
    openrouter_id: str
    input_price_per_million: Annotated[float, msgspec.Meta(ge=0)]
    output_price_per_million: Annotated[float, msgspec.Meta(ge=0)]
    checkpoint_dir: str
    available: bool = True


class _Config(msgspec.Struct):
    embedding_model: str
    embedding_dim: Annotated[int, msgspec.Meta(ge=1)]
    default_lambda: Annotated[float, msgspec.Meta(ge=0, le=1)]
    token_limits: list[Annotated[int, msgspec.Meta(ge=1)] | Literal["unlimited"]]
    models: Annotated[dict[str, _ModelEntry], msgspec.Meta(min_length=1)]


def read_release(folder: str | Path) -> UcfRelease:
    """The release in `folder`: `config.json` beside `checkpoints/`, or the checkpoints folder itself.

    In the second case `config.json` is looked for inside it, then in its parent. Raises `ArtifactError` naming the file
    and the mend where one is missing, too large, damaged, of the wrong shape, or holds anything but Ridge regressors.
    """
    folder = Path(folder).resolve()
    checkpoints = folder / "checkpoints" if (folder / "checkpoints").is_dir() else folder
    places = (folder / "config.json", folder.parent / "config.json")
    config = _read_config(next((place for place in places if place.is_file()), places[0]))
    heads = [_read_heads(checkpoints / entry.checkpoint_dir, config) for entry in config.models.values()]
    coef, intercept = (np.array([[head[part] for head in row] for row in heads]) for part in (0, 1))
    budgets = tuple(Budget.of(b) for b in config.token_limits)
    return UcfRelease(
        models=tuple(
            Model(
                id=name,
                budgets=budgets,
                provider="openrouter",
                upstream=entry.openrouter_id,
                usd_per_million=Prices(entry.input_price_per_million, entry.output_price_per_million),
                available=entry.available,
            )
            for name, entry in config.models.items()
        ),
        budgets=tuple(config.token_limits),
        quality_coef=coef[:, :-1],
        quality_intercept=intercept[:, :-1],
        token_coef=coef[:, -1],
        token_intercept=intercept[:, -1],
        default_lambda=config.default_lambda,
        embedding_model=config.embedding_model,
    )


def _bad(where: Path | str, what: str) -> ArtifactError:
    return ArtifactError(f"{where}: {what}; fetch this file from the release again")


def _read_bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror}; give the folder of config.json and checkpoints/") from None
    if len(raw) > _MOST_BYTES:
        raise _bad(path, f"is larger than {_MOST_BYTES >> 20} MiB, as no file of the release is")
    return raw


def _read_config(path: Path) -> _Config:
    try:
        config = msgspec.json.decode(_read_bytes(path), type=_Config)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(path, str(error)) from None
    if len(set(config.token_limits)) < len(config.token_limits) or UNLIMITED not in config.token_limits:
        raise _bad(path, "token_limits must name each budget once, 'unlimited' among them")
    for name, entry in config.models.items():
        if entry.checkpoint_dir in ("", ".", "..") or set("/\\\0") & set(entry.checkpoint_dir):
            raise _bad(path, f"checkpoint_dir of model {name!r} must be the plain name of a folder")
    return config


def _read_heads(folder: Path, config: _Config) -> list[_Head]:
    """One model's regressors: quality under each budget, in the order of `token_limits`, then tokens when unlimited."""
    path = folder / "limited_score_predictors.joblib"
    limited = _read_pickle(path)
    keys = [f"{b}_score" for b in config.token_limits if b != UNLIMITED]
    if not isinstance(limited, dict) or set(limited) != set(keys):
        raise _bad(path, "does not hold one regressor for each number in token_limits of config.json")
    heads = {key: _head(f"{path}: {key}", limited[key], config.embedding_dim) for key in keys}
    for key in ("unlimited_score", "unlimited_token"):
        path = folder / f"{key}_predictor.joblib"
        heads[key] = _head(path, _read_pickle(path), config.embedding_dim)
    return [heads[f"{b}_score"] for b in config.token_limits] + [heads["unlimited_token"]]


def _head(where: Path | str, value: Any, dim: int) -> _Head:
    """Coefficients and intercept of one regressor; `where` names it in the `ArtifactError`."""
    match value:
        case {"coef_": np.ndarray(shape=(n,)) as coef, "intercept_": (float() | np.floating()) as intercept}:
            if n == dim and coef.dtype.kind == "f" and np.isfinite(coef).all() and np.isfinite(intercept):
                return coef, intercept
    raise _bad(where, f"is no Ridge regressor of {dim} (embedding_dim in config.json) finite floats and an intercept")


class _Global(Enum):  # of the released files; every other one is refused
    RIDGE = ("sklearn.linear_model._ridge", "Ridge")
    WRAPPER = ("joblib.numpy_pickle", "NumpyArrayWrapper")
    NDARRAY = ("numpy", "ndarray")
    DTYPE = ("numpy", "dtype")
    SCALAR = ("numpy._core.multiarray", "scalar")


_OPCODES = {opcode.code: opcode for opcode in pickletools.opcodes}
_TAKEN = {  # the opcodes of the released files, by how many values they take off the stack; None: all down to the mark
    0: "PROTO FRAME MARK MEMOIZE BINGET LONG_BINGET NONE NEWTRUE NEWFALSE EMPTY_TUPLE EMPTY_DICT BININT BININT1 BININT2"
    " BINFLOAT SHORT_BINUNICODE SHORT_BINBYTES GLOBAL INST",  # the last two only to say which global is refused
    1: "TUPLE1 STOP",
    2: "TUPLE2 STACK_GLOBAL NEWOBJ REDUCE BUILD",
    3: "TUPLE3",
    None: "TUPLE SETITEMS",
}
_TAKES = {name: count for count, names in _TAKEN.items() for name in names.split()}
_DTYPES = {code: np.dtype(f"<{code}") for code in ("f4", "f8", "i4", "i8")}  # looked up, never made from the file


def _read_pickle(path: Path) -> Any:
    """What an uncompressed joblib file holds; a Ridge becomes the dict of its state. Raises `ArtifactError`."""
    raw = _read_bytes(path)
    if raw[:1] != b"\x80":  # zlib, gzip, bz2, xz or lz4 of joblib; a pickle before protocol 2
        raise _bad(path, "is compressed, or not a joblib file at all")
    try:
        return _load(io.BytesIO(raw))
    except ValueError as error:
        raise _bad(path, str(error)) from None
    except (LookupError, TypeError) as error:
        raise _bad(path, f"is damaged or cut short ({type(error).__name__})") from None


def _load(stream: io.BytesIO) -> Any:
    """The one value that the pickle leaves behind; a case an opcode. Raises ValueError, LookupError or TypeError."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: list[Any] = []
    for _ in range(_MOST_OPCODES):
        opcode = _OPCODES[stream.read(1).decode("latin-1")]
        if opcode.name not in _TAKES:
            raise ValueError(f"uses the opcode {opcode.name}, as no file of the release does: refused")
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
                shown = [ascii(v[:80]) if isinstance(v, str) else type(v).__name__ for v in (*taken[:2], arg)]
                raise ValueError(f"has {name} of {' '.join(shown)}, as no file of the release does: refused")
            case name, _:
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}.get(name, arg))
    raise ValueError(f"has more than {_MOST_OPCODES} opcodes, as no file of the release does")


def _array(state: dict[str, Any], stream: io.BytesIO) -> FloatArray:
    """The array whose bytes stand in the file right behind the state of joblib's wrapper."""
    match state:
        case {"subclass": _Global.NDARRAY, "order": "C", "shape": (int(count),), "dtype": np.dtype() as dtype}:
            if state.get("numpy_array_alignment_bytes") is not None:  # a count of filler bytes, then the filler
                stream.seek(stream.read(1)[0], io.SEEK_CUR)
            size = count * dtype.itemsize
            raw = stream.read(size) if 0 < size <= _MOST_BYTES else b""
            if raw and len(raw) == size:
                return np.frombuffer(raw, dtype)
    raise ValueError("holds an array that is cut short, or not a plain row of numbers: refused")
