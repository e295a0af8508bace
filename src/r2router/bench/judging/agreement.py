"""How far judges agree, with each other, with a local scorer, or with people.

Pearson's and Spearman's correlation; Cohen's kappa over the 11 points of the grid (J. Cohen, 1960), and the same with
quadratic weights (J. Cohen, 1968), which forgives near misses. Intervals are 95 % percentiles of a bootstrap over
queries, as answers to one query are not independent of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

from r2router.errors import DataError
from r2router.figure import Figure
from r2router.metrics.intervals import of_rows
from r2router.types import FloatArray, IntArray

HUMAN = "human"
CELL = ("query_id", "model", "budget", "sample")
_LEVELS = 11
Statistic = Callable[[FloatArray, FloatArray], float]


class Agreement(msgspec.Struct, frozen=True):
    """Two judges on the answers that both scored.

    n: answers.
    queries: different ones among them.
    difference: mean of a minus b.
    """

    a: str
    b: str
    n: int
    queries: int
    pearson: Figure
    spearman: Figure
    kappa: Figure
    weighted_kappa: Figure
    difference: Figure


def agreements(ratings: pl.DataFrame, *, resamples: int = 500, seed: int = 0) -> list[Agreement]:
    """Return every pair of judges that scored answers in common. ratings: of `read_ratings`."""
    return [
        _agreement(ratings, a, b, resamples, seed)
        for a, b in combinations(judges_of(ratings), 2)
        if len(_both(ratings, a, b))
    ]


def read_ratings(outcomes: str | Path, human: str | Path | None = None) -> pl.DataFrame:
    """Return one row an answer: `CELL`, `length` (characters of the response), and a column of qualities for each
    judge, null where none.

    human: a CSV, JSON lines or Parquet file with query_id, model, budget, quality (and sample, where there are
    several): the judge `human`. Raises `DataError`.
    """
    frame = _read(Path(outcomes), (*CELL, "judge", "quality", "response"))
    scored = frame.filter(pl.col("quality").is_not_null() & pl.col("judge").is_not_null())
    if scored.is_empty():
        raise DataError(f"{outcomes}: no answer has been judged; run r2router judge")
    wide = scored.pivot("judge", index=[*CELL], values="quality", aggregate_function="first", maintain_order=True)
    lengths = (
        frame.filter(pl.col("response").is_not_null())
        .select(*CELL, pl.col("response").str.len_chars().alias(" length"))
        .unique([*CELL])
    )
    wide = wide.join(lengths, on=[*CELL], how="left", maintain_order="left")
    if human is None:
        return wide
    people = _read(Path(human), ("query_id", "model", "budget", "quality"))
    if "sample" not in people.columns:
        people = people.with_columns(sample=pl.lit(0))
    try:
        people = people.select(
            *(pl.col(c).cast(pl.String) for c in CELL[:3]),
            pl.col("sample").cast(wide["sample"].dtype),
            pl.col("quality").cast(pl.Float64).alias(HUMAN),
        )
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{human}: {str(error).splitlines()[0]}") from None
    wrong = people.filter(~pl.col(HUMAN).is_between(0, 1))
    if len(wrong):
        raise DataError(f"{human}: quality {wrong[HUMAN][0]} of query {wrong['query_id'][0]!r} is not between 0 and 1")
    people = people.group_by([*CELL], maintain_order=True).agg(pl.col(HUMAN).mean())  # several people: their mean
    both = wide.join(people, on=[*CELL], how="left", maintain_order="left")
    if both[HUMAN].null_count() == len(both):
        raise DataError(
            f"{human}: none of its rows is of an answer in {outcomes}: query_id, model, budget (and sample) must be the"
            " same"
        )
    return both


def judges_of(ratings: pl.DataFrame) -> list[str]:
    """Return the judges with a column."""
    return [c for c in ratings.columns if c not in CELL and c != " length"]


# -- the statistics -------------------------------------------------------------------------------------------------


def pearson(a: FloatArray, b: FloatArray) -> float:
    """Correlation; NaN where one of the two does not vary."""
    x, y = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / scale if scale > 1e-12 * len(a) else float("nan")


def spearman(a: FloatArray, b: FloatArray) -> float:
    """Correlation of the ranks, ties at their mean rank."""
    return pearson(ranks(a), ranks(b))


def ranks(values: FloatArray) -> FloatArray:
    """Ranks from 1 on; ties have their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2.0)[inverse]


def kappa(a: FloatArray, b: FloatArray, *, quadratic: bool = False) -> float:
    """Agreement on the grid beyond what the judges' own frequencies give by chance; NaN where chance leaves nothing to
    disagree on.
    """
    i, j = (np.rint(np.clip(v, 0, 1) * (_LEVELS - 1)).astype(int) for v in (a, b))
    seen = np.zeros((_LEVELS, _LEVELS))
    np.add.at(seen, (i, j), 1.0)
    by_chance = np.outer(seen.sum(1), seen.sum(0)) / len(a)
    levels = np.arange(_LEVELS)
    weights = (levels[:, None] - levels) ** 2 if quadratic else (levels[:, None] != levels).astype(float)
    chance = float((weights * by_chance).sum())
    return 1 - float((weights * seen).sum()) / chance if chance > 0 else float("nan")


def _agreement(ratings: pl.DataFrame, a: str, b: str, resamples: int, seed: int) -> Agreement:
    both = _both(ratings, a, b)
    x = both[a].to_numpy()
    y = both[b].to_numpy()
    groups = group_numbers(both)

    def figure(name: str, statistic: Statistic) -> Figure:
        return of_rows(name, lambda rows: statistic(x[rows], y[rows]), groups, resamples, seed)

    return Agreement(
        a=a,
        b=b,
        n=len(both),
        queries=int(groups.max()) + 1,
        pearson=figure("pearson", pearson),
        spearman=figure("spearman", spearman),
        kappa=figure("kappa", kappa),
        weighted_kappa=figure("weighted kappa", lambda p, q: kappa(p, q, quadratic=True)),
        difference=figure("difference", lambda p, q: float((p - q).mean())),
    )


def group_numbers(ratings: pl.DataFrame) -> IntArray:
    """Return (n,) the query of each row, as numbers from 0 on."""
    return np.unique(ratings["query_id"].to_numpy(), return_inverse=True)[1]


def _both(ratings: pl.DataFrame, a: str, b: str) -> pl.DataFrame:
    return ratings.filter(pl.col(a).is_not_null() & pl.col(b).is_not_null())


_READERS: Mapping[str, Callable[[Path], pl.DataFrame]] = {
    ".parquet": pl.read_parquet,
    ".csv": lambda path: pl.read_csv(path, infer_schema=False),
    ".jsonl": pl.read_ndjson,
    ".ndjson": pl.read_ndjson,
}


def _read(path: Path, needed: Sequence[str]) -> pl.DataFrame:
    if not path.exists():
        raise DataError(f"{path}: no such file")
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: cannot tell its format; name it {', '.join(_READERS)}")
    try:
        frame = reader(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path}: cannot be read ({(str(error).splitlines() or [''])[0][:200]})") from None
    if missing := [c for c in needed if c not in frame.columns]:
        raise DataError(f"{path}: no column {missing[0]!r}; it needs {', '.join(needed)}")
    return frame
