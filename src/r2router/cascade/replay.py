"""Replays cascades on a table of known answers: what each query would have cost, and which answer it would have got."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from r2router.cascade.checks import SECONDS, verdict
from r2router.cascade.evidence import Beliefs, Evidence
from r2router.cascade.resume import Resumes
from r2router.cascade.signals import WORDS, key_words, numbers_of, question_words, value_of
from r2router.cascade.value import STOP, Terms, may_ask, next_arm
from r2router.table.responses import ResponseIndex
from r2router.types import FloatArray, IntArray, Progress


@dataclass(frozen=True, slots=True, eq=False)
class AnswerFeatures:
    """All answers of a table, as numbers.

    there: (n, arms) whether there is an answer.
    numbers: (n, arms, signals) its signals.
    words: (n, arms, `WORDS`) hashes of its key words, see `signals`.
    value: (n, arms) hash of the value that it gives, see `signals`.
    check: (n, arms) verdicts of the user's check, NaN where there is none.
    latency: (n, arms) seconds, NaN where not recorded.
    """

    there: np.ndarray
    numbers: FloatArray
    words: IntArray
    value: IntArray
    check: FloatArray
    latency: FloatArray

    @classmethod
    def read(
        cls,
        queries: Sequence[str],
        responses: ResponseIndex,
        tokens: FloatArray,
        expected: FloatArray,
        check: object = None,
        progress: Progress | None = None,
    ) -> AnswerFeatures:
        """Read the answers of a table one part after the other.

        tokens, expected: (n, arms) output tokens, used and forecast.
        """
        from r2router.cascade.signals import NAMES

        n, arms = tokens.shape
        found = cls(
            np.zeros((n, arms), dtype=np.bool_),
            np.zeros((n, arms, len(NAMES))),
            np.zeros((n, arms, WORDS), dtype=np.uint32),
            np.zeros((n, arms), dtype=np.int64),
            np.full((n, arms), np.nan),
            np.full((n, arms), np.nan),
        )
        asked: dict[int, frozenset[str]] = {}
        slow = 0
        for number, (row, arm, text, why, logprob, seconds) in enumerate(responses.replies()):
            if row not in asked:
                asked[row] = question_words(queries[row])
            found.there[row, arm] = True
            found.numbers[row, arm] = numbers_of(asked[row], text, tokens[row, arm], expected[row, arm], why, logprob)
            found.latency[row, arm] = seconds
            found.words[row, arm] = key_words(asked[row], text)
            found.value[row, arm] = value_of(text)
            if callable(check) and slow < _MAX_SLOW:
                began = time.monotonic()
                found.check[row, arm] = verdict(check, queries[row], text)[0]
                slow += time.monotonic() - began >= SECONDS
            if progress is not None and number % 1_000 == 0:
                progress("reading answers", number, len(responses))
        return found

    def take(self, rows: IntArray) -> AnswerFeatures:
        """Take some queries."""
        return AnswerFeatures(*(getattr(self, f.name)[rows] for f in fields(self)))


@dataclass(frozen=True, slots=True, eq=False)
class CascadeRuns:
    """What cascades did on n queries.

    arms: (n, steps) the arms asked, in order; -1 for none.
    accepted: (n,) the arm whose answer was accepted.
    chance: (n,) the probability of being right that the answer was accepted with.
    """

    arms: IntArray
    accepted: IntArray
    chance: FloatArray

    @property
    def calls(self) -> IntArray:
        """(n,) number of arms asked."""
        found: IntArray = (self.arms >= 0).sum(axis=1)
        return found

    def paid(self, cost: FloatArray, resumes: Resumes | None = None, tokens: FloatArray | None = None) -> FloatArray:
        """Return (n,) the sum of (n, arms) cost, or latency, over the arms asked; NaN where one is not known.

        resumes: which arms continue answers; it needs `tokens`.
        tokens: (n, arms) output tokens used.
        """
        each = np.take_along_axis(cost, np.maximum(self.arms, 0), axis=1)
        found: FloatArray = np.where(self.arms >= 0, each, 0.0).sum(axis=1)
        if resumes is None or tokens is None:
            return found
        asked, rows = np.zeros(cost.shape, dtype=np.bool_), np.arange(len(cost))
        for arm in self.arms.T:
            at = np.flatnonzero(arm >= 0)
            found[at] -= resumes.saved(asked[at], tokens[at])[np.arange(len(at)), arm[at]]
            asked[rows[at], arm[at]] = True
        return found


def replay(  # noqa: PLR0913 - what a cascade knows, by name
    evidence: Evidence,
    quality: FloatArray,
    cost: FloatArray,
    seen: AnswerFeatures,
    ratio: FloatArray,
    terms: Terms,
    *,
    max_steps: int | None = None,
    cap: float = np.inf,
    paid: FloatArray | None = None,
    usable: np.ndarray | None = None,
    resumes: Resumes | None = None,
    tokens: FloatArray | None = None,
) -> CascadeRuns:
    """Run the cascades of n queries.

    quality, cost: (n, arms) forecasts.
    ratio: (n, arms) log likelihood ratios of the answers.
    cap: maximum US dollars of all calls of a query; it needs `paid`.
    paid: (n, arms) real cost.
    usable: (n, arms) arms that can be scored.
    resumes: which arms can continue an answer; it needs `tokens`.
    tokens: (n, arms) forecast output tokens.
    """
    steps = evidence.plan.max_steps if max_steps is None else max_steps
    steps = min(steps, quality.shape[1]) if evidence.plan.active else 1
    n = len(quality)
    beliefs = Beliefs.of(evidence, quality, steps, WORDS)
    asked = np.full((n, steps), -1, dtype=np.intp)
    spent, active = np.zeros(n), np.arange(n)
    expected = np.where(np.isnan(quality), np.inf, cost)
    for step in range(steps):
        own = expected[active]
        if resumes is not None and tokens is not None:
            own = own - resumes.saved(beliefs.asked[active], tokens[active])
        within = np.where(own + spent[active, None] <= cap, own, np.inf) if np.isfinite(cap) else own
        prices = may_ask(beliefs, active, within, None if usable is None else usable[active])
        arm, _ = next_arm(beliefs, active, prices, terms, steps - step - 1)
        go = arm != STOP
        active, arm = active[go], arm[go]
        if not len(active):
            break
        asked[active, step] = arm
        if paid is not None:
            spent[active] += np.nan_to_num(paid[active, arm])
        beliefs.see(active, arm, ratio[active, arm], seen.words[active, arm], seen.value[active, arm], step)
    chance = np.nan_to_num(beliefs.chance, nan=-1.0)
    place = chance.argmax(axis=1)
    return CascadeRuns(asked, asked[np.arange(n), place], chance[np.arange(n), place])


def ratios(evidence: Evidence, x: FloatArray, quality: FloatArray, seen: AnswerFeatures) -> FloatArray:
    """Return (n, arms) log likelihood ratios of all answers; 0 where there is none."""
    rows, arm = np.nonzero(seen.there & ~np.isnan(quality))
    found = np.zeros(quality.shape)
    prior = np.clip(quality[rows, arm], 0.003, 0.997)
    for at in range(0, len(rows), _BLOCK):
        part = slice(at, at + _BLOCK)
        i, a = rows[part], arm[part]
        own = evidence.ratio(x[i], a, seen.numbers[i, a], prior[part])
        found[i, a] = own + evidence.verdicts(seen.check[i, a])
    return found


_BLOCK = 4_096
_MAX_SLOW = 3  # checks that did not end: then the rest of the table is not checked, as it might take days
