"""Work that needs no endpoint, in parts that can be done anywhere: scoring answers and embedding texts.

`Here` does the parts one after the other in this process; `OnRay` (`r2router.bench.ray_engine`) spreads them over a cluster. Parts and
results cross as bytes of our own structs, and results come in the order of the parts, so that who did the work cannot change a table.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import msgspec
import numpy as np

from r2router.bench.scoring import scorer_named
from r2router.bench.suite import Query, Score
from r2router.encode import load_encoder
from r2router.types import FloatArray

T = TypeVar("T")
_ANSWERS = 64  # a part: some seconds of running code, and little beside the cost of sending for anything else
_TEXTS = 256


class Spread(Protocol):
    """Does parts of work somewhere."""

    def map(self, work: Callable[[bytes], bytes], parts: Iterable[bytes]) -> Iterator[bytes]:
        """The result of each part, in order; few parts are taken before their turn. work: a function of a module."""
        ...


class Here:
    """This process."""

    def map(self, work: Callable[[bytes], bytes], parts: Iterable[bytes]) -> Iterator[bytes]:
        """See `Spread.map`."""
        return map(work, parts)


class Answer(msgspec.Struct, frozen=True):
    """A response to be scored by each of the scorers."""

    query: Query
    response: str
    scorers: tuple[str, ...]


_answers = msgspec.json.Decoder(list[Answer])
_scores = msgspec.json.Decoder(list[list[Score]])


def score_answers(answers: Iterable[tuple[T, Answer]], spread: Spread) -> Iterator[tuple[T, list[Score]]]:
    """Each item with its answer's scores, in order; scorers that ask an LLM are passed over. A stream is read little ahead."""
    taken: deque[T] = deque()

    def parts() -> Iterator[bytes]:
        for part in batched(answers, _ANSWERS):
            taken.extend(item for item, _ in part)
            yield msgspec.json.encode([answer for _, answer in part])

    for scored in spread.map(score_part, parts()):
        for scores in _scores.decode(scored):
            yield taken.popleft(), scores


def score_part(part: bytes) -> bytes:
    """Score the answers of a part."""
    return msgspec.json.encode([_scored(answer) for answer in _answers.decode(part)])


def _scored(answer: Answer) -> list[Score]:
    found = (scorer_named(name).score(answer.query, answer.response) for name in answer.scorers)
    return [score for score in found if isinstance(score, Score)]


def embed_texts(encoder: str, texts: Sequence[str], spread: Spread) -> FloatArray:
    """(n, d) float32 embeddings, as `Encoder.encode` gives them."""
    parts = (msgspec.json.encode((encoder, part)) for part in batched(texts, _TEXTS))
    found = [np.frombuffer(part, dtype=np.float32) for part in spread.map(embed_part, parts)]
    return np.concatenate(found or [np.empty(0, dtype=np.float32)]).reshape(len(texts), load_encoder(encoder).dim)


def embed_part(part: bytes) -> bytes:
    """Embed the texts of a part."""
    encoder, texts = msgspec.json.decode(part, type=tuple[str, list[str]])
    return np.ascontiguousarray(load_encoder(encoder).encode(texts), dtype=np.float32).tobytes()


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most `size` items."""
    held: list[T] = []
    for item in items:
        held.append(item)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held
