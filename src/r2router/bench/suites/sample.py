"""Part of a suite: distinct queries, and samples that keep its tasks in proportion."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from r2router.bench.suite import Query
from r2router.errors import DataError
from r2router.text import normalised


def distinct(queries: Iterable[Query]) -> tuple[list[Query], list[tuple[str, str]]]:
    """Return (the first of all queries of the same normalised words, (id left out, id it repeats) of the others), in
    order.
    """
    first: dict[tuple[str, str], str] = {}
    kept, repeats = [], []
    for query in queries:
        words = (normalised(query.text), normalised(query.system or ""))
        if words in first:
            repeats.append((query.id, first[words]))
        else:
            first[words] = query.id
            kept.append(query)
    return kept, repeats


def sample(queries: Sequence[Query], size: int, *, seed: int) -> list[Query]:
    """Sample queries at random, each task in proportion, in the order of the suite.

    Shares are rounded by largest remainders, and every task gets at least one query while there is room. Raises
    `DataError` where there are fewer queries, or the size is not positive.
    """
    if size < 1:
        raise DataError(f"a sample of {size} queries: give a number from 1 on")
    if size > len(queries):
        raise DataError(f"a sample of {size:,} queries cannot be taken of {len(queries):,}")
    rows: dict[str, list[int]] = {}
    for row, query in enumerate(queries):
        rows.setdefault(query.task, []).append(row)
    rng = np.random.default_rng(seed)
    taken: list[int] = []
    for members, count in zip(rows.values(), _shares([len(m) for m in rows.values()], size), strict=True):
        taken += [members[i] for i in rng.permutation(len(members))[:count]]
    return [queries[i] for i in sorted(taken)]


def _shares(sizes: Sequence[int], total: int) -> list[int]:
    """Whole numbers that add up to `total`, in proportion to the sizes and never above them."""
    minimum = 1 if total >= len(sizes) else 0
    exact = np.array(sizes) * (total / sum(sizes))
    shares = np.maximum(np.floor(exact).astype(int), minimum)
    order = np.argsort(-(exact - np.floor(exact)), kind="stable")
    while (missing := total - int(shares.sum())) != 0:
        step = 1 if missing > 0 else -1
        ranked = order if step > 0 else order[::-1]
        able = [i for i in ranked if (shares[i] < sizes[i] if step > 0 else shares[i] > minimum)]
        for i in able[: abs(missing)]:
            shares[i] += step
    return [int(s) for s in shares]
