"""The files that ship with the embedded encoder, each checked against its pinned sha256 when it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from r2router.errors import ArtifactError

SHA256 = {
    "model.onnx": "154b389fc01bb63235ec81261712c9460776a73991969e809d5ea4fb894ca794",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
"""As printed by scripts/build_minilm.py."""


def read_bundled(name: str) -> bytes:
    """Return the bytes of a bundled file. Raises `ArtifactError` where it is missing or not the one this version was
    made with.
    """
    path = _place(name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error
    _check(name, path, hashlib.sha256(data).hexdigest())
    return data


@contextmanager
def bundled_file(name: str) -> Iterator[Path]:
    """The path of a bundled file, for readers that would keep its bytes in memory beside what they make of them.

    Raises `ArtifactError` as `read_bundled` does.
    """
    place = _place(name)
    with resources.as_file(place) as path:
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise _unreadable(place, error) from error
        _check(name, place, found)
        yield path


def _place(name: str) -> Traversable:
    return resources.files("r2router.encode").joinpath("minilm", name)


def _unreadable(path: Traversable, error: OSError) -> ArtifactError:
    return ArtifactError(f"{path}: cannot be read ({error.strerror}); reinstall r2router")


def _check(name: str, path: Traversable, found: str) -> None:
    if found != SHA256[name]:
        raise ArtifactError(
            f"{path}: the file is altered or incomplete (sha256 {found[:12]}..., expected {SHA256[name][:12]}...);"
            " reinstall r2router"
        )
