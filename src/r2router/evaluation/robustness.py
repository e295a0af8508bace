"""Robustness: does a decision stay when the question is typed in another way?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from r2router.evaluation.contenders import EmbeddedTable, Tried
from r2router.evaluation.tables_and_plots import turned
from r2router.evaluation.typing_noise import NOISES, noisy
from r2router.figure import Figure
from r2router.metrics.intervals import mean
from r2router.metrics.score import Comparison, Method, compare
from r2router.report.findings import Grid, GridRow
from r2router.types import FloatArray

Embed = Callable[[Sequence[str]], FloatArray]


def noisy_views(data: EmbeddedTable, encode: Embed, seed: int) -> dict[str, FloatArray]:
    """Return (n, d) embeddings of every query under each kind of noise."""
    return {kind: encode(noisy(data.table.queries, kind, seed)) for kind in NOISES}


def unchanged(tried: Tried, kind: str, values: Sequence[float], resamples: int, seed: int) -> Figure:
    """Return the share of queries whose arm stays the same under that noise, at the values of an answer that were given
    (one a repetition).
    """
    same = [
        routed.sweep.at(value) == other.sweep.at(value)
        for routed, other, value in zip(tried.routed, tried.views[kind], values, strict=True)
    ]
    return mean("unchanged", np.mean(same, axis=0), resamples, seed)


def robustness_grid(tried: Tried, data: EmbeddedTable, values: Sequence[float], resamples: int, seed: int) -> Grid:
    """Share of unchanged decisions and change of area for each kind of noise."""
    found: dict[str, Sequence[Method]] = {"plain": tried.routed, **tried.views}
    area: Comparison = compare(found, data.outcomes, resamples, seed, base="plain")
    rows = tuple(
        GridRow(k, (unchanged(tried, k, values, resamples, seed), turned(area.differences[k]["area"])))
        for k in tried.views
    )
    about = (
        "typos: one letter in thirty. case: all small or all capitals. filler: polite words before and after."
        " paraphrase: common phrases said in another way. The router was fitted on the questions as they are, and"
        " chooses among the arms that were observed."
    )
    columns = ("decisions unchanged", "change of area")
    return Grid("Under noise", columns, rows, ("share", "+.4f"), about=about)
