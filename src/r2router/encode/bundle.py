"""The files that ship with the embedded encoder, each checked against its pinned sha256 when it is read."""

from __future__ import annotations

import hashlib
from importlib import resources

from r2router.errors import ArtifactError

SHA256 = {
    "model.onnx": "154b389fc01bb63235ec81261712c9460776a73991969e809d5ea4fb894ca794",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
}
"""As printed by scripts/build_minilm.py."""


def read_bundled(name: str) -> bytes:
    """The bytes of a bundled file. Raises `ArtifactError` where it is missing or not the one this version was made
    with.
    """
    path = resources.files("r2router.encode").joinpath("minilm", name)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); reinstall r2router") from error
    found = hashlib.sha256(data).hexdigest()
    if found != SHA256[name]:
        raise ArtifactError(
            f"{path}: the file is altered or incomplete (sha256 {found[:12]}..., expected {SHA256[name][:12]}...);"
            " reinstall r2router"
        )
    return data
