"""How much data does a user need? Training-set size against gain."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from r2router.errors import DataError
from r2router.evaluation.contenders import EmbeddedTable, beside, held_out
from r2router.evaluation.experiment import Study
from r2router.evaluation.methods import ours
from r2router.evaluation.tables_and_plots import line, signed
from r2router.metrics.score import Method, Routed, compare
from r2router.report.findings import Findings, Grid, GridRow, Plot, Section
from r2router.types import IntArray

QUESTION = "How many graded queries does a router need before it pays?"

SIZES = (25, 50, 100, 200, 400, 800, 1600, 3200, 6400, 12800)


def run(study: Study) -> Findings:
    """Ours fitted on ever more queries of the training part of each fold, always tested on the same held-out part."""
    data, plan = study.data, study.plan
    folds = plan.folds_of(data)
    maximum = min(int((fold != number).sum()) for fold in folds for number in range(plan.folds))
    sizes = [*(size for size in SIZES if size < maximum), maximum]
    found: dict[str, Sequence[Method]] = {}
    names = {size: f"{size:,} queries" for size in sizes}
    for size in sizes:
        routed = []
        for seed, fold in zip(plan.seeds, folds, strict=True):
            routed.append(_few(study, data, fold, size, seed))
        found[names[size]] = tuple(routed)
        if study.progress is not None:
            study.progress("fitting on ever more queries", sizes.index(size) + 1, len(sizes))
    others = beside(data, folds)
    results = {
        s: compare(
            {names[s]: found[names[s]], **others},
            data.outcomes,
            plan.resamples,
            0,
            base=names[s],
            progress=study.progress,
        )
        for s in sizes
    }
    gains, against = {}, {}
    for s in sizes:
        less = results[s].differences
        against[s] = less["fixed known"]["area"]
        gains[s] = less["fixed"]["area"] if "fixed" in less else against[s]
    curves = (
        line("ours minus mixture", sizes, [gains[s] for s in sizes]),
        line("ours minus the mixture that knows these outcomes", sizes, [against[s] for s in sizes]),
    )
    plot = Plot(
        "Gain over the best mixture of fixed arms",
        "graded queries to train on",
        "area, ours minus mixture",
        curves,
        log_x=True,
    )
    rows = []
    for s in sizes:
        figures = results[s].figures[names[s]]
        rows.append(GridRow(names[s], (figures["area"], gains[s], against[s], figures["gap_closed"])))
    columns = ("area", "minus mixture", "minus knowing mixture", "of the gap to the oracle")
    grid = Grid("Figures", columns, tuple(rows), (".3f", "+.3f", "+.3f", "share"), ("more",) * 4)
    enough = next((s for s in sizes if all(results[t].verdict == "above" for t in sizes if t >= s)), None)
    never = "At no size does routing clearly beat the best mixture of fixed arms."
    if math.isnan(gains[maximum].value):
        never = (
            "Areas are not available: fewer than two arms of different cost were observed on nearly all queries, or one"
            " is free."
        )
    answers = [
        f"From {enough:,} graded queries on routing clearly beats the best mixture of fixed arms." if enough else never
    ]
    answers += [
        f"{s:,} queries: {signed(gains[s])} of area; {signed(against[s])} against the mixture that knows these"
        " outcomes."
        for s in sizes
        if math.isfinite(gains[s].value)
    ]
    note = (
        "the mixture is chosen by all queries of the other folds, whatever the number of queries that ours is"
        " trained on"
    )
    return study.findings("queries", "How much data", QUESTION, answers, (Section("Size", (plot, grid)),), notes=[note])


def _few(study: Study, data: EmbeddedTable, fold: IntArray, size: int, seed: int) -> Routed:
    """Ours on all queries, each forecast from `size` queries of the other folds; smaller sets are part of larger
    ones.
    """
    order = np.random.default_rng(seed).permutation(len(data))
    quality = np.full(data.outcomes.quality.shape, np.nan)
    cost = np.full(data.outcomes.quality.shape, np.nan)
    for number in range(int(fold.max()) + 1):
        own, rest = np.flatnonzero(fold == number), order[fold[order] != number][:size]
        role = np.concatenate([np.zeros(len(own), np.intp), np.full(len(rest), -1)])
        made = held_out(ours(study.learner), data.take(np.concatenate([own, rest])), role)[""]
        quality[own], cost[own] = made.quality, made.cost
    try:
        return Routed.of(quality, np.where(np.isnan(quality), np.inf, cost), data.outcomes)
    except ValueError as error:
        raise DataError(f"ours, fitted on {size:,} queries, is not available on this table: {error}") from None
