"""Embedding many texts, a batch at a time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from r2router.encode.registry import Encoder
from r2router.types import FloatArray, Progress

BATCH = 256
"""Texts of one call of an encoder: enough to embed well, few enough to show progress."""


def embed(encoder: Encoder, texts: Sequence[str], progress: Progress | None = None) -> FloatArray:
    """(n, d) float32 rows of norm 1 for n texts. Raises `EncoderError`."""
    parts = []
    for at in range(0, len(texts), BATCH):
        parts.append(encoder.encode(texts[at : at + BATCH]))
        if progress is not None:
            progress("embedding", min(at + BATCH, len(texts)), len(texts))
    return np.concatenate(parts) if parts else encoder.encode([])
