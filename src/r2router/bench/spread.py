"""Scoring answers in parts, which can be done anywhere (`r2router.executors`)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from r2router.bench.scoring import scorer_named
from r2router.bench.suite import Query, Score
from r2router.executors import Executor, batched

T = TypeVar("T")
_ANSWERS = 64  # a part: some seconds of running code, and little beside the cost of sending for anything else


class ScoringTask(msgspec.Struct, frozen=True):
    """A response to be scored by each of the scorers."""

    query: Query
    response: str
    scorers: tuple[str, ...]


_answers = msgspec.json.Decoder(list[ScoringTask])
_scores = msgspec.json.Decoder(list[list[Score]])


def score_answers(answers: Iterable[tuple[T, ScoringTask]], spread: Executor) -> Iterator[tuple[T, list[Score]]]:
    """Yield each item with its answer's scores, in order; scorers that ask an LLM are passed over. A stream is read
    little ahead.
    """
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


def _scored(answer: ScoringTask) -> list[Score]:
    found = (scorer_named(name).score(answer.query, answer.response) for name in answer.scorers)
    return [score for score in found if isinstance(score, Score)]
