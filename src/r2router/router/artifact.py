"""The folder a router is saved in: router.json + weights.safetensors + card.md. Data only; nothing in it is ever
executed.

router.json carries the schema version, everything but the arrays, and the sha256, names and shapes of what
weights.safetensors holds. The hashes show that the parts belong together and arrived whole; they do not show who made
them, as whoever alters a router can state new ones. Saving writes a new folder beside the old one and swaps them, so
that a full disk or a kill leaves the old router whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

from r2router.errors import ArtifactError, SaveError, UsageError
from r2router.files import check_file

SCHEMA = 1
"""Version of the artifact's layout. A reader refuses a newer one; an older one is read as long as this file says how.
"""

T = TypeVar("T")

MANIFEST, WEIGHTS, CARD = "router.json", "weights.safetensors", "card.md"


class _Head(msgspec.Struct):
    """The part of every router.json, of any version, that must be readable."""

    schema: int
    r2router: str = ""


class _Envelope(msgspec.Struct, forbid_unknown_fields=True):
    schema: int
    r2router: str
    router_sha256: str
    weights_sha256: str
    arrays: dict[str, tuple[str, tuple[int, ...]]]
    router: msgspec.Raw


def save(folder: str | Path, router: Any, arrays: dict[str, np.ndarray], card: str, *, version: str) -> None:
    """Write an artifact. Raises `SaveError`; a router that was at `folder` before is then untouched.

    router: a msgspec struct. Other files that lie in a router's folder stay there.

    Raises `SaveError` too where `folder` exists and holds something that is not a router.
    """
    from safetensors.numpy import save as to_bytes

    folder = Path(os.path.realpath(folder))  # a link stays one, and `.` has a name to put the old router aside under
    if folder.exists() and not (folder / MANIFEST).exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SaveError(f"{folder}: exists and is not a router; choose another folder, so that its files are not lost")
    weights = to_bytes({k: np.asarray(v, order="C") for k, v in arrays.items()})
    content = msgspec.json.encode(router, order="deterministic")  # sets have no order of their own
    envelope = _Envelope(
        schema=SCHEMA,
        r2router=version,
        router_sha256=_digest(content),
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        arrays={k: (str(v.dtype), v.shape) for k, v in sorted(arrays.items())},
        router=msgspec.Raw(content),
    )
    manifest = msgspec.json.format(msgspec.json.encode(envelope), indent=1)
    files = {WEIGHTS: weights, CARD: card.encode(), MANIFEST: manifest + b"\n"}
    fresh: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".new", dir=folder.parent))
        for name, data in files.items():
            _write_through(fresh / name, data)
        _keep_other_files(folder, fresh)
        fresh.chmod(0o755)
        _swap(fresh, folder)
    except BaseException as error:
        if fresh is not None:
            shutil.rmtree(fresh, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        raise SaveError(
            f"{folder}: cannot be saved ({error.strerror or error}); what was there before is untouched"
        ) from None


def load(folder: str | Path, kind: type[T]) -> tuple[T, dict[str, np.ndarray]]:
    """Return (the router struct, its arrays). Raises `ArtifactError` naming the file and what is wrong with it."""
    while True:
        whole = _whole(Path(folder))
        seen = _identity(whole)
        try:
            return _load(whole, kind)
        except ArtifactError:
            if seen is not None and _identity(_whole(Path(folder))) == seen:
                raise
            # somebody saved a router there between two of our reads: read that one


def _load(folder: Path, kind: type[T]) -> tuple[T, dict[str, np.ndarray]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load as from_bytes

    manifest = _read(folder / MANIFEST, folder)
    try:
        head = msgspec.json.decode(manifest, type=_Head)
        _check_schema(folder / MANIFEST, head)
        envelope = msgspec.json.decode(manifest, type=_Envelope)
        router = msgspec.json.decode(envelope.router, type=kind)
        digest = _digest(envelope.router)
    except ArtifactError:
        raise
    except (msgspec.MsgspecError, UsageError, RecursionError) as error:
        raise ArtifactError(
            f"{folder / MANIFEST}: damaged or not a router ({error}); save or download it again"
        ) from None
    if digest != envelope.router_sha256:
        raise ArtifactError(
            f"{folder / MANIFEST}: its sha256 is not the one it states: it was altered by hand; change prices or"
            " policies with Router.with_pool and with_policy, and save"
        )
    weights = _read(folder / WEIGHTS, folder)
    if hashlib.sha256(weights).hexdigest() != envelope.weights_sha256:
        raise ArtifactError(
            f"{folder / WEIGHTS}: its sha256 is not the one in {MANIFEST}: truncated or altered; get the router again"
        )
    try:
        arrays = from_bytes(weights)
    except (SafetensorError, LookupError, TypeError, ValueError) as error:  # also of types that numpy does not know
        raise ArtifactError(f"{folder / WEIGHTS}: not a safetensors file ({error})") from None
    if {k: (str(v.dtype), v.shape) for k, v in arrays.items()} != envelope.arrays:
        raise ArtifactError(f"{folder / WEIGHTS}: names, types or shapes of the arrays are not those in {MANIFEST}")
    return router, arrays


def _check_schema(path: Path, head: _Head) -> None:
    if head.schema < 1:
        raise ArtifactError(f"{path}: schema {head.schema} does not exist; the artifact is damaged")
    if head.schema > SCHEMA:
        raise ArtifactError(
            f"{path}: schema {head.schema} is newer than this r2router reads ({SCHEMA}); "
            f"it was written by r2router {head.r2router}: upgrade with pip install -U r2router"
        )


def _digest(router: bytes) -> str:
    """sha256 of JSON, whatever white space it is written with."""
    return hashlib.sha256(msgspec.json.format(router, indent=-1)).hexdigest()


def _write_through(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _keep_other_files(folder: Path, fresh: Path) -> None:
    """Copy what a person put beside the router's own files."""
    for path in folder.iterdir() if folder.exists() else ():
        if path.name not in (MANIFEST, WEIGHTS, CARD):
            if path.is_dir() and not path.is_symlink():
                shutil.copytree(path, fresh / path.name, symlinks=True)
            else:
                shutil.copy2(path, fresh / path.name, follow_symlinks=False)


def _swap(fresh: Path, folder: Path) -> None:
    """Put `fresh` where `folder` is. Between the two renames the old router stands at `_aside(folder)`, where `load`
    finds it.
    """
    aside = _aside(folder)
    if folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(folder, aside)
    try:
        os.rename(fresh, folder)
    except OSError:
        if aside.exists():
            os.rename(aside, folder)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")


def _whole(folder: Path) -> Path:
    """Return the folder to read: the saved one, or the one before it where a save was killed between its two
    renames.
    """
    real = Path(os.path.realpath(folder))
    if not real.exists() and _aside(real).exists():
        return _aside(real)
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: no such router; a router is a folder with {MANIFEST}, {WEIGHTS} and {CARD}")
    return folder


def _identity(folder: Path) -> tuple[int, int, int] | None:
    """Return what tells a folder from one that another save has put in its place."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _read(path: Path, folder: Path) -> bytes:
    check_file(path, ArtifactError)
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ArtifactError(f"{folder}: {path.name} is missing; a router needs {MANIFEST} and {WEIGHTS}") from None
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror})") from None
