"""The embeddings of texts, on all processors or on a Ray cluster, a few batches ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal

import msgspec
import numpy as np

from r2router.encode import Encoder, load_encoder
from r2router.encode.embed import alone, embed_part, embedded, part_of, read_part
from r2router.executors import Executor, Threads
from r2router.stream.batch import QueryBatch
from r2router.types import FloatArray, IntArray

Engine = Literal["threads", "ray"]

_TEXTS = 32  # of a part where several threads share a batch


@dataclass(frozen=True, slots=True)
class Embedded:
    """A batch whose good rows have vectors.

    good: their numbers within the batch.
    counts: their tokens, where they are known.
    """

    batch: QueryBatch
    good: IntArray
    vectors: FloatArray
    counts: FloatArray | IntArray | None


def embedding(batches: Iterator[QueryBatch], encoder: str, engine: Engine, workers: int | None) -> Iterator[Embedded]:
    """Yield the batches in order, each with its vectors. Texts are embedded by the encoder of a spec; what is embedded
    already stays.

    workers: threads of the embedded encoder, by default one for each processor.

    Raises `EncoderError`.
    """
    first = next(batches, None)
    if first is None:
        return
    if not isinstance(first.queries, list):
        yield from map(_ready, _again(first, batches))
    elif engine == "ray":
        from r2router.executors.on_ray import OnRay

        with OnRay() as ray:
            yield from _over(_again(first, batches), encoder, ray, embed_part, None)
    else:
        own, maximum = alone(load_encoder(encoder))
        threads = Threads(1 if maximum is None else workers or maximum)
        yield from _over(
            _again(first, batches), encoder, threads, partial(_embed_here, own), None if maximum is None else _TEXTS
        )


def _again(first: QueryBatch, others: Iterator[QueryBatch]) -> Iterator[QueryBatch]:
    yield first
    yield from others


def _good(batch: QueryBatch) -> IntArray:
    return np.array([i for i in range(len(batch)) if i not in batch.problems], dtype=np.intp)


def _ready(batch: QueryBatch) -> Embedded:
    good = _good(batch)
    vectors = np.asarray(batch.queries)
    if len(good) < len(batch):
        return Embedded(batch, good, vectors[good], None if batch.input_tokens is None else batch.input_tokens[good])
    return Embedded(batch, good, vectors, batch.input_tokens)


def _over(
    batches: Iterator[QueryBatch], spec: str, executor: Executor, work: Callable[[bytes], bytes], size: int | None
) -> Iterator[Embedded]:
    """Split into parts.

    size: texts of a part; None makes each batch a part, so that an encoder that looks at many texts at once sees the
        same ones.
    """
    waiting: deque[tuple[QueryBatch, IntArray, int]] = deque()

    def parts() -> Iterator[bytes]:
        for batch in batches:
            good = _good(batch)
            texts = [batch.queries[i] for i in good]
            step = max(size or len(texts), 1)
            # at least one part, so that a batch without a good row keeps its turn
            starts = range(0, max(len(texts), 1), step)
            waiting.append((batch, good, len(starts)))
            for at in starts:
                yield part_of(spec, texts[at : at + step])

    done = executor.map(work, parts())
    for first in done:
        batch, good, count = waiting.popleft()
        found = [read_part(part) for part in (first, *islice(done, count - 1))]
        counts, vectors = (np.concatenate(values) for values in zip(*found, strict=True))
        yield Embedded(batch, good, vectors, counts)


def _embed_here(encoder: Encoder, part: bytes) -> bytes:
    """Do `embed_part` with an encoder that is loaded."""
    _, texts = msgspec.msgpack.decode(part, type=tuple[str, list[str]])
    return embedded(encoder, texts)
