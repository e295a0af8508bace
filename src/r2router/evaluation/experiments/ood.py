"""Leave tasks out: every task is forecast by learners that saw the other tasks only (the paper's Table 1, for every
task in turn).
"""

from __future__ import annotations

import numpy as np

from r2router.errors import DataError
from r2router.evaluation.contenders import attempt, comparable, needed
from r2router.evaluation.experiment import Study, failures
from r2router.evaluation.experiments.main import (
    ahead_of_baselines,
    by_task,
    compared,
    curves,
    differences_table,
    figures_table,
    headlines,
)
from r2router.evaluation.methods import OURS, everybody, ours
from r2router.evaluation.tables_and_plots import MIN_QUERIES, signed
from r2router.figure import Figure
from r2router.metrics.score import Comparison, compare
from r2router.report.findings import Findings, Grid, GridRow, Paragraph, Section

QUESTION = "Does routing still pay on a task that nothing was learned from?"

_MIXTURES = ("chosen on other tasks", "knows these outcomes")


def run(study: Study) -> Findings:
    """One fold per task. Raises `DataError` where there are fewer than two."""
    data = study.data
    names = sorted(set(data.table.tasks))
    if len(names) < 2:
        raise DataError("leaving tasks out needs at least two tasks: this table has one")
    fold = np.array([names.index(task) for task in data.table.tasks])
    tried = attempt(everybody(study.learner), data, [fold], study.progress)
    mine = needed(tried[0])
    result = compared(data, tried, [fold], study.plan.resamples)
    usual = needed(attempt([ours(study.learner)], data, study.plan.folds_of(data)[:1], study.progress)[0])
    both = compare({OURS: mine.routed, "known": usual.routed}, data.outcomes, study.plan.resamples, 0, base=OURS)
    cost = both.differences["known"]["area"]
    known = Grid(
        "What not knowing the task costs ours",
        ("area",),
        (
            GridRow("fitted on other tasks", (both.figures[OURS]["area"],)),
            GridRow("fitted on all tasks", (both.figures["known"]["area"],)),
        ),
        (".3f",),
        ("more",),
        f"Difference, paired: {signed(cost)}.",
    )
    parts = by_task(study, comparable(tried, data, [fold]))
    rows = tuple(GridRow(task, tuple(_gap(part, m) for m in ("fixed", "fixed known"))) for task, part in parts)
    few = (
        f"Not available where a task has fewer than {MIN_QUERIES} queries, or no arm that was observed on nearly all of"
        " them."
    )
    sections = (
        Section("Quality and cost", (curves(result, data.outcomes), figures_table(result, tried))),
        Section("Ours against each", (differences_table(result), Paragraph(ahead_of_baselines(result)))),
        Section(
            "By task", (Grid("Area, ours minus mixture", _MIXTURES, rows, ("+.3f",) * 2, ("more",) * 2, few), known)
        ),
    )
    note = "each task is held out as a whole once; there is nothing to repeat under other seeds"
    return study.findings(
        "ood",
        "Tasks that nothing was learned from",
        QUESTION,
        headlines(result, parts),
        sections,
        notes=[*failures(tried), note],
    )


def _gap(part: Comparison | None, mixture: str) -> Figure | None:
    return part.differences[mixture]["area"] if part is not None and mixture in part.differences else None
