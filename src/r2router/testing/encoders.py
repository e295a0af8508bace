"""One suite for every encoder, ours and those from outside: `check_encoder(encoder)` raises AssertionError for a broken
promise.
"""

from __future__ import annotations

import numpy as np

from r2router.encode import Encoder

TEXTS = (
    "What is 2 + 2?",
    "Who wrote Faust?",
    "Wer schrieb den Faust?",
    "def f(x):\n    return x",
    "a",
    "\u4f60\u597d",
    "x" * 5_000,
)


def check_encoder(encoder: Encoder) -> None:
    """Run every check; `AssertionError` says what does not hold. The promises are those of
    `r2router.encode.Encoder`.
    """
    assert encoder.id, "an encoder names its vectors by an id"
    all_at_once = encoder.encode(list(TEXTS))
    assert all_at_once.dtype == np.float32, f"vectors are {all_at_once.dtype}, not float32"
    assert all_at_once.shape == (
        len(TEXTS),
        encoder.dim,
    ), f"{len(TEXTS)} texts gave {all_at_once.shape}, not ({len(TEXTS)}, {encoder.dim})"
    assert np.isfinite(all_at_once).all(), "a vector is not finite"
    assert np.allclose(np.linalg.norm(all_at_once, axis=1), 1.0, atol=1e-3), "a vector has not norm 1"
    one_by_one = np.concatenate([encoder.encode([text]) for text in TEXTS])
    assert np.allclose(all_at_once, one_by_one, atol=1e-4), "a text alone gives another vector than among others"
    again = encoder.encode(list(TEXTS[::-1]))[::-1]
    assert np.allclose(all_at_once, again, atol=1e-4), "another order of the texts gives other vectors"
    assert encoder.encode([]).shape == (0, encoder.dim), "no texts must give (0, dim)"
