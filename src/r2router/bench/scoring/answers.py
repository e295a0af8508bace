"""The score where there is nothing to compare with."""

from __future__ import annotations

from r2router.bench.suite import Query, Score


def no_reference(query: Query, judge: str) -> Score | None:
    """Return the score where there is nothing to compare with: none."""
    return Score(quality=None, judge=judge, error="the query has no reference") if query.reference is None else None
