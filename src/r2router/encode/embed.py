"""Embedding many texts, a batch at a time: in this thread, or in parts that any executor does."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

import msgspec
import numpy as np

from r2router.encode.registry import Encoder, load_encoder
from r2router.encode.tokens import count_tokens, well_formed
from r2router.executors import Executor, batched
from r2router.types import FloatArray, IntArray, Progress

BATCH = 256
"""Texts of one call of an encoder: enough to embed well, few enough to show progress."""


def embed(encoder: Encoder, texts: Sequence[str], progress: Progress | None = None) -> FloatArray:
    """Return (n, d) float32 rows of norm 1 for n texts. Raises `EncoderError`."""
    parts = []
    for at in range(0, len(texts), BATCH):
        parts.append(encoder.encode(texts[at : at + BATCH]))
        if progress is not None:
            progress("embedding", min(at + BATCH, len(texts)), len(texts))
    return np.concatenate(parts) if parts else encoder.encode([])


def embed_texts(spec: str, texts: Sequence[str], executor: Executor) -> FloatArray:
    """Return (n, d) float32 embeddings by the encoder of a spec, the same wherever it is done."""
    parts = (part_of(spec, part) for part in batched(texts, BATCH))
    found = [read_part(done)[1] for done in executor.map(embed_part, parts)]
    return np.concatenate(found) if found else np.empty((0, load_encoder(spec).dim), dtype=np.float32)


def part_of(spec: str, texts: Sequence[str]) -> bytes:
    """Texts to embed, as `embed_part` takes them."""
    return msgspec.msgpack.encode((spec, [well_formed(text) for text in texts]))


def embed_part(part: bytes) -> bytes:
    """Embed the texts of a part and count their tokens, one after the other: processors are shared out by whoever has
    the parts.
    """
    spec, texts = msgspec.msgpack.decode(part, type=tuple[str, list[str]])
    return embedded(_encoder(spec), texts)


def embedded(encoder: Encoder, texts: Sequence[str]) -> bytes:
    """Return the counts and vectors of texts, as `read_part` reads them."""
    if not texts:
        return np.int64(0).tobytes()
    counts = count_tokens(texts)
    vectors = np.ascontiguousarray(encoder.encode(texts), dtype=np.float32)
    return b"".join((np.int64(len(counts)).tobytes(), counts.tobytes(), vectors.tobytes()))


def read_part(done: bytes) -> tuple[IntArray, FloatArray]:
    """Return ((n,) token counts, (n, d) vectors) of a part that was embedded."""
    n = int(np.frombuffer(done, dtype=np.int64, count=1)[0])
    counts = np.frombuffer(done, dtype=np.int64, count=n, offset=8)
    vectors = np.frombuffer(done, dtype=np.float32, offset=8 * (1 + n)) if n else np.empty(0, dtype=np.float32)
    return counts, vectors.reshape(n, -1 if n else 0)


def alone(encoder: Encoder) -> tuple[Encoder, int | None]:
    """Return (the encoder on one thread, how many threads may call that at the same time); None where only one may."""
    from r2router.encode.embedded import MiniLM

    return (MiniLM(threads=1), encoder.threads) if isinstance(encoder, MiniLM) else (encoder, None)


@cache
def _encoder(spec: str) -> Encoder:
    return alone(load_encoder(spec))[0]


@lru_cache(maxsize=256)
def vector_of(spec: str, text: str) -> FloatArray:
    """Return (1, d) embedding of one text, read-only. The last 256 are kept, so that the steps of a cascade embed their
    question once.

    Nothing else depends on what is kept: a text has one vector per encoder.
    """
    vector = _encoder(spec).encode([text])
    vector.setflags(write=False)
    return vector
