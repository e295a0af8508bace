"""Whether a judge pays for what it should not.

Length: the rank correlation of a judge's scores with the length of the responses, given the scores of another judge or
scorer (a partial correlation). Longer answers may well be better; only what the other's scores do not explain is held
against the judge. It is as good as that other judge: two that love length the same way acquit each other, so a local
scorer or people are the better reference.

Order: a judge that sees one answer at a time has no first and second answer to prefer. What can be turned round is its
prompt: the same judge under `response-first-1` should say the same. Compare the two as two judges, and look at their
difference.
"""

from __future__ import annotations

import msgspec
import numpy as np
import polars as pl

from r2router.bench.judging.agreement import group_numbers, judges_of, pearson, ranks
from r2router.figure import Figure
from r2router.metrics.intervals import of_rows
from r2router.types import FloatArray


class LengthBias(msgspec.Struct, frozen=True):
    """A judge's scores against the length of responses. plain: their rank correlation; given: the same given the
    reference's scores.
    """

    judge: str
    reference: str
    n: int
    plain: Figure
    given: Figure


def length_biases(ratings: pl.DataFrame, *, resamples: int = 500, seed: int = 0) -> list[LengthBias]:
    """Return each judge, given each other one. ratings: of `r2router.bench.judging.agreement.read_ratings`."""
    found = []
    for judge in judges_of(ratings):
        for reference in judges_of(ratings):
            if judge == reference:
                continue
            rows = ratings.filter(pl.all_horizontal(pl.col(c).is_not_null() for c in (judge, reference, " length")))
            if len(rows):
                found.append(_bias(rows, judge, reference, resamples, seed))
    return found


def partial_correlation(a: FloatArray, b: FloatArray, given: FloatArray) -> float:
    """Rank correlation of a and b with what `given` explains of both taken out; plain where `given` does not vary."""
    ra, rb, rg = ranks(a), ranks(b), ranks(given)
    ab, ag, bg = pearson(ra, rb), pearson(ra, rg), pearson(rb, rg)
    if np.isnan(ag) or np.isnan(bg):
        return ab if np.isnan(pearson(rg, rg)) else float("nan")
    rest = (1 - ag**2) * (1 - bg**2)
    return (ab - ag * bg) / float(np.sqrt(rest)) if rest > 1e-12 else float("nan")


def _bias(rows: pl.DataFrame, judge: str, reference: str, resamples: int, seed: int) -> LengthBias:
    scores, length, given = (rows[c].to_numpy().astype(float) for c in (judge, " length", reference))
    groups = group_numbers(rows)
    plain = of_rows("rank correlation", lambda i: pearson(ranks(scores[i]), ranks(length[i])), groups, resamples, seed)
    partial = of_rows(
        "partial rank correlation",
        lambda i: partial_correlation(scores[i], length[i], given[i]),
        groups,
        resamples,
        seed,
    )
    return LengthBias(judge, reference, len(rows), plain, partial)
