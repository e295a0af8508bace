"""Does a test part repeat what a router was trained on? A report; nothing is dropped."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import msgspec

from r2router.bench.suite import Query
from r2router.errors import DataError
from r2router.text import normalised

NGRAM = 8
THRESHOLD = 0.8
_COMMON = 50
"""An n-gram of more training queries than this is the suite's own wording, and says nothing about a pair."""


class Overlap(msgspec.Struct, frozen=True):
    """A test query and the training query nearest to it.

    share: of the test query's n-grams, those that the other one has too.
    """

    test_id: str
    train_id: str
    kind: Literal["exact", "near"]
    share: float


class Contamination(msgspec.Struct, frozen=True):
    """What a check found: the test queries that overlap, at most one entry each, in their order."""

    overlaps: tuple[Overlap, ...]
    train: int
    test: int
    ngram: int
    threshold: float

    @property
    def exact(self) -> int:
        """Test queries whose normalised words are in the training part."""
        return sum(o.kind == "exact" for o in self.overlaps)

    @property
    def near(self) -> int:
        """Test queries that share at least the threshold's part of their n-grams with one training query."""
        return len(self.overlaps) - self.exact

    def __str__(self) -> str:
        rule = f"at least {self.threshold:.0%} of the {self.ngram}-grams"
        there = f"{self.exact:,} of {self.test:,} test queries are among the {self.train:,} for training"
        return f"{there} word for word, {self.near:,} nearly ({rule})"


def contamination(
    train: Sequence[Query], test: Sequence[Query], *, ngram: int = NGRAM, threshold: float = THRESHOLD
) -> Contamination:
    """Find test queries that are exactly or nearly in the training part.

    Near: at least `threshold` of the n-grams of normalised words (a query of fewer words is one n-gram) that are no
    common wording occur in one training query. Raises `DataError` for numbers out of range.
    """
    if ngram < 1 or not 0 < threshold <= 1:
        raise DataError(f"ngram {ngram} and threshold {threshold}: from 1 on, and above 0 up to 1")
    exact: dict[str, str] = {}
    index: dict[str, list[int]] = {}
    for row, query in enumerate(train):
        exact.setdefault(normalised(query.text), query.id)
        for gram in _ngrams(query.text, ngram):
            holders = index.setdefault(gram, [])
            if len(holders) <= _COMMON:
                holders.append(row)
    found = []
    for query in test:
        if (same := exact.get(normalised(query.text))) is not None:
            found.append(Overlap(query.id, same, "exact", 1.0))
        elif (near := _nearest(_ngrams(query.text, ngram), index)) is not None and near[1] >= threshold:
            found.append(Overlap(query.id, train[near[0]].id, "near", near[1]))
    return Contamination(tuple(found), len(train), len(test), ngram, threshold)


def _nearest(grams: set[str], index: dict[str, list[int]]) -> tuple[int, float] | None:
    """Return (row, share) of the training query that has the most of these n-grams."""
    telling = [index.get(g, []) for g in grams]
    telling = [holders for holders in telling if len(holders) <= _COMMON]
    counts = Counter(row for holders in telling for row in holders)
    if not counts:
        return None
    row = max(counts, key=lambda r: (counts[r], -r))
    return row, counts[row] / len(telling)


def _ngrams(text: str, n: int) -> set[str]:
    words = re.findall(r"\w+", normalised(text))
    return {" ".join(words[i : i + n]) for i in range(max(1, len(words) - n + 1))} if words else set()
