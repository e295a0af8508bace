"""Another judge at test time: fitted on one judge's scores, scored by another's (the paper's Table 4)."""

from __future__ import annotations

import numpy as np

from r2router.errors import DataError
from r2router.evaluation.contenders import Tried, attempt, comparable, needed
from r2router.evaluation.experiment import Study, failures
from r2router.evaluation.experiments.main import ahead_of_baselines, differences_table, figures_table, headlines
from r2router.evaluation.methods import GROUPS, OURS, everybody
from r2router.metrics.intervals import of_rows
from r2router.metrics.score import compare
from r2router.report.findings import Findings, Grid, GridRow, Paragraph, Section
from r2router.types import FloatArray, IntArray

QUESTION = "Does the router only please the judge it was trained on?"


def run(study: Study) -> Findings:
    """Everybody is fitted on the first judge's scores and compared by the second's. Raises `DataError` where there is
    no second one.
    """
    data, other = study.data, study.other
    if other is None:
        raise DataError("the table has one judge's scores only: name two of its judges with --judge A --other-judge B")
    if other.table.arms != data.table.arms or other.table.query_ids != data.table.query_ids:
        raise DataError("the two judges did not score the same queries and arms: nothing can be compared")
    folds = study.plan.folds_of(data)
    tried = attempt(everybody(study.learner), data, folds, study.progress)
    needed(tried[0])
    draws = study.plan.resamples
    own = compare(comparable(tried, data, folds), data.outcomes, draws, 0, base=OURS)
    tried = [t if t.failed else Tried.of(t.contender, t.forecasts, other.outcomes) for t in tried]
    result = compare(comparable(tried, other, folds), other.outcomes, draws, 0, base=OURS, groups=GROUPS)
    rows = tuple(
        GridRow(m, (own.figures[m]["area"], result.figures[m]["area"])) for m in result.figures if m in own.figures
    )
    both = Grid(
        "Area by either judge", ("judge of the training", "other judge"), rows, (".3f", ".3f"), ("more", "more")
    )
    sections = (
        Section(
            "By the other judge",
            (figures_table(result, tried), differences_table(result), Paragraph(ahead_of_baselines(result))),
        ),
        Section("The judges", (both, agreement(data.outcomes.quality, other.outcomes.quality, draws))),
    )
    return study.findings("judge", "Another judge", QUESTION, headlines(result, []), sections, notes=failures(tried))


def agreement(one: FloatArray, other: FloatArray, resamples: int) -> Grid:
    """Correlation of two judges' (n, arms) scores and their mean difference, by bootstrap over queries."""
    both = ~np.isnan(one) & ~np.isnan(other)

    def correlation(rows: IntArray) -> float:
        a, b = one[rows][both[rows]], other[rows][both[rows]]
        return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else float("nan")

    def shift(rows: IntArray) -> float:
        return float((other[rows] - one[rows])[both[rows]].mean())

    figures = [
        of_rows(name, f, np.arange(len(one)), resamples, 0) for name, f in (("r", correlation), ("shift", shift))
    ]
    rows = (GridRow("correlation of scores", (figures[0],)), GridRow("other judge minus the first", (figures[1],)))
    return Grid("Agreement", ("value",), rows, ("+.3f",))
