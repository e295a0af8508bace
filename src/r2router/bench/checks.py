"""Checks that run or score an answer as the bench does: a program's tests in the sandbox, and any scorer by name.

They are called as every check of a cascade: `router.answer(text, call, check=PassesTests(tests))`.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable, Mapping

import msgspec

from r2router.bench.scoring import NEED_REFERENCE, TRUSTING, scorer_named
from r2router.bench.suite import JsonLines, Query, Score
from r2router.errors import ConfigError, DataError


class PassesTests(msgspec.Struct, frozen=True):
    """The program in the answer passes its tests, in the sandbox: see the scorer `code`, and
    `r2router.bench.scoring.sandbox`.

    tests: a program that raises where the answer is wrong; with `entry_point` it defines `check(candidate)`, as
    HumanEval's do. Where no sandbox works nothing is run, and the check cannot tell. Raises `ConfigError`.
    """

    tests: str
    entry_point: str = ""

    def __post_init__(self) -> None:
        if not self.tests.strip():
            raise ConfigError("PassesTests: there are no tests")
        if self.entry_point and not self.entry_point.isidentifier():
            raise ConfigError(f"PassesTests: entry_point is {self.entry_point!r:.80}; it is the name of a function")

    def __call__(self, question: str, answer: str) -> float | None:
        meta = {"test": self.tests, "entry_point": self.entry_point}
        return _quality("code", Query(id="check", text=question, meta=meta), answer)


class Scored(msgspec.Struct, frozen=True):
    """What a scorer of the bench says: `exact`, `numeric`, `choice`, `math`, `code`, ... (see
    `r2router.bench.scoring`).

    scorer: its name; a query that names one of its own is scored by that.
    queries: question -> what the scorer needs to know of it; a question that is not among them cannot be told.

    Raises `ConfigError`, `DataError` for a scorer that is not known.
    """

    scorer: str
    queries: Mapping[str, Query]

    def __post_init__(self) -> None:
        for name in {self.scorer, *(query.scorer for query in self.queries.values() if query.scorer)}:
            scorer_named(name)
            if name in TRUSTING:
                raise ConfigError(f"Scored: the scorer {name!r} would run answers without a sandbox: name 'code'")
        if self.scorer in NEED_REFERENCE and not any(query.reference for query in self.queries.values()):
            raise ConfigError(f"Scored({self.scorer!r}): no query has a reference, and the scorer compares with it")

    @classmethod
    def by_reference(cls, scorer: str, references: Mapping[str, str]) -> Scored:
        """Make the check from questions and their right answers.

        references: question -> the correct answer.
        """
        return cls(scorer, {text: Query(id=text, text=text, reference=right) for text, right in references.items()})

    @classmethod
    def by_suite(cls, scorer: str, queries: Iterable[Query] | str) -> Scored:
        """Make the check from the questions of a suite.

        queries: of a suite, or the name of a file in JSON lines. Raises `DataError`.
        """
        found = JsonLines(queries).queries() if isinstance(queries, str) else queries
        return cls(scorer, {query.text: query for query in found})

    def __call__(self, question: str, answer: str) -> float | None:
        query = self.queries.get(question)
        return None if query is None else _quality(query.scorer or self.scorer, query, answer)


def _quality(scorer: str, query: Query, answer: str) -> float | None:
    """Return the quality; None where the scorer cannot judge. Raises `DataError` with its reason, which the cascade
    notes.
    """
    said = scorer_named(scorer).score(query, answer)
    score: Score = asyncio.run(_waited(said)) if inspect.isawaitable(said) else said
    if score.quality is None and score.error:
        raise DataError(f"{scorer}: {score.error}")
    return score.quality


async def _waited(said: object) -> Score:
    return await said  # type: ignore[misc]
