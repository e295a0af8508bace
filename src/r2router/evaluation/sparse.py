"""Is routing worth it on a table of many tasks, on which no arm was seen everywhere? Answered task by task."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r2router.evaluation.router_forecasts import EvaluatedTable
from r2router.evaluation.sentences import leak
from r2router.evaluation.sources_left_out import LeftOut
from r2router.evaluation.tables_and_plots import signed
from r2router.figure import Figure
from r2router.metrics.by_task import MIN_ARMS, MIN_QUERIES, Gaps, gaps, means_of_other_half, pooled, task_means
from r2router.metrics.methods import Means, Outcomes
from r2router.predict.crossval import fold_of
from r2router.report.findings import Findings, Grid, GridRow, Section, jsonable
from r2router.report.findings_text import report_text
from r2router.report.terminal import Style
from r2router.table.table import Table

_COMPARED = (
    "Each task is compared on the arms that were seen on 95 % of its queries, by mean quality over log cost, with the"
    " mixture of those arms that {how} chooses, and with the best fixed arm at equal cost. In the mean each task counts"
    " the same."
)


@dataclass(frozen=True, slots=True, eq=False)
class SparseReport:
    """What `evaluate` found on a table where no arm was seen nearly everywhere.

    gaps: the comparison of each task, see `r2router.metrics.by_task`.
    how: which answers chose the mixture that the router is compared with.
    pooled: over the mixture of fixed arms by the router's training averages, on the queries of all tasks together, see
        `pooled`.
    error: mean squared error of the quality forecasts over that of the arm's mean on the task, known from the same
        answers.
    left_out: what a router of the other files of the table is worth on each, see `sources_left_out`; empty where that
        was not asked for.
    sources, seed, resamples, notes, out_of_distribution, trained_on, trained_share: as in `Report`.
    """

    queries: int
    arms: tuple[str, ...]
    gaps: Gaps
    how: str
    pooled: Figure
    error: float
    out_of_distribution: float
    sources: tuple[tuple[str, str], ...]
    seed: int
    resamples: int
    notes: tuple[str, ...]
    trained_on: tuple[str, ...] = ()
    trained_share: float | None = None
    simulated: bool = False
    left_out: tuple[LeftOut, ...] = ()

    def __str__(self) -> str:
        return report_text(self.summary(), Style(width=120))

    def summary(self) -> Findings:
        """Return the report in a screenful, for a terminal."""
        return self.findings()

    def __repr__(self) -> str:
        return f"SparseReport({self.queries} queries, {len(self.gaps.tasks)} tasks compared; print(report) shows all)"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has; a figure that is not available is null."""
        found: dict[str, Any] = jsonable(
            {
                "queries": self.queries,
                "arms": self.arms,
                "compared_with": f"the mixture that {self.how} chooses",
                "pooled": self.pooled,
                "left_out": {
                    one.source: {"queries": one.queries, "over_mixture": one.over_mixture, "unfamiliar": one.unfamiliar}
                    for one in self.left_out
                },
                "mean": {"over_mixture": self.gaps.mean, "over_best_fixed_arm": self.gaps.mean_over_best},
                "tasks": {
                    t.task: {
                        "queries": t.queries,
                        "arms": t.arms,
                        "best_fixed_arm": t.best,
                        "area": t.area,
                        "over_mixture": t.over_mixture,
                        "over_best_fixed_arm": t.over_best,
                    }
                    for t in self.gaps.tasks
                },
                "not_compared": self.gaps.skipped,
                "error_over_known_tasks": self.error,
                "unfamiliar": self.out_of_distribution,
                "trained_share": self.trained_share,
                "sources": [{"file": name, "sha256": digest} for name, digest in self.sources],
                "seed": self.seed,
                "resamples": self.resamples,
                "notes": self.notes,
            }
        )
        return found

    def findings(self, command: str = "") -> Findings:
        """Return the report for drawing: a web page.

        command: what was typed, for the reader who repeats it.
        """
        tasks = self.gaps.tasks
        rows = [GridRow(t.task, (float(t.queries), float(t.arms), t.over_mixture, t.over_best, t.best)) for t in tasks]
        rows.append(
            GridRow(
                f"mean of {len(tasks)} tasks", (None, None, self.gaps.mean, self.gaps.mean_over_best, None), strong=True
            )
        )
        heads = ("queries", "arms", "router minus mixture", "router minus best fixed arm", "best fixed arm")
        formats = (",.0f", ",.0f", "+.3f", "+.3f", "")
        grid = Grid("Task by task", heads, tuple(rows), formats, about=_COMPARED.format(how=self.how))
        alone = tuple(GridRow(Path(one.source).name, (float(one.queries), one.over_mixture)) for one in self.left_out)
        about = (
            "Each file left out in turn: a router of the others, compared with the mixture of fixed arms that the"
            " others choose."
        )
        others = (
            [Grid("Files left out", ("queries", "router minus mixture"), alone, (",.0f", "+.3f"), about=about)]
            if alone
            else []
        )
        answers = [
            leak(self.trained_on, self.trained_share),
            (
                f"Over {len(tasks)} tasks the router is {signed(self.gaps.mean)} above each task's mixture of fixed"
                " arms on average."
            ),
            (
                f"All tasks pooled: it is {signed(self.pooled)} above the mixture of fixed arms by their training"
                " averages."
            ),
            f"At equal cost it is {signed(self.gaps.mean_over_best)} above each task's best fixed arm on average.",
            (
                f"Squared error of the quality forecasts: {self.error:.3f} of that of the arm's mean on the task, the"
                " task being known."
                if np.isfinite(self.error)
                else ""
            ),
            f"{self.out_of_distribution:.1%} of the queries are unlike the training data and got the safe choice.",
        ]
        if self.gaps.skipped:
            why = f"fewer than {MIN_QUERIES} queries, or {MIN_ARMS} arms that were seen there"
            answers.append(f"{len(self.gaps.skipped)} tasks are not compared: {why}.")
        return Findings(
            name="evaluate",
            title="Is routing worth it, task by task?",
            question=(
                f"A router scored on {self.queries:,} queries of {len(self.gaps.tasks)} tasks; no arm was seen"
                " everywhere."
            ),
            answers=tuple(answer for answer in answers if answer),
            sections=(Section("Where it helps and where not", (grid, *others)),),
            sources=self.sources,
            settings={
                "intervals": (
                    f"95 %, percentile bootstrap over queries, {self.resamples} draws, seed {self.seed}; paired"
                )
            },
            command=command,
            notes=self.notes,
            simulated=self.simulated,
        )


def sparse_report(
    evaluated: EvaluatedTable,
    table: Table,
    train: Table | None,
    averages: Means | None,
    *,
    resamples: int,
    seed: int,
    trained: tuple[tuple[str, ...], float | None],
    left_out: tuple[LeftOut, ...] = (),
) -> SparseReport:
    """Return the report of a router's forecasts.

    train: other answers to the same tasks, which choose the mixture; without it, the other half.
    averages: what the router's training outcomes say of each arm, whatever the query.
    """
    outcomes, forecast, tasks = evaluated.outcomes, evaluated.forecast, evaluated.tasks
    if train is None:
        how, half = "the other half of the queries", fold_of(evaluated.table.queries, 2, seed)
        means = Means(*(means_of_other_half(v, tasks, half) for v in (outcomes.quality, outcomes.cost)))
    else:
        how, known = "the training answers", _aligned(train, evaluated)
        means = Means(*(task_means(forecast.quality, tasks, v, train.tasks) for v in (known.quality, known.cost)))
    found = gaps(tasks, forecast.quality, forecast.cost, outcomes, means, resamples, seed)
    both = outcomes.seen & np.isfinite(forecast.quality) & np.isfinite(means.quality)
    ours, theirs = (
        np.square(outcomes.quality - f)[both].mean() if both.any() else np.nan
        for f in (forecast.quality, means.quality)
    )
    return SparseReport(
        queries=len(tasks),
        arms=tuple(map(str, outcomes.arms)),
        gaps=found,
        how=how,
        pooled=(
            Figure("pooled")
            if averages is None
            else pooled(forecast.quality, forecast.cost, outcomes, averages, resamples, seed)
        ),
        error=float(ours / theirs) if theirs > 0 else np.nan,
        out_of_distribution=float(1 - forecast.familiar.mean()),
        sources=table.sources,
        seed=seed,
        resamples=resamples,
        notes=evaluated.notes,
        trained_on=trained[0],
        trained_share=trained[1],
        simulated=table.simulated,
        left_out=left_out,
    )


def _aligned(train: Table, evaluated: EvaluatedTable) -> Outcomes:
    """Return the outcomes of the training table on the arms of the evaluated table, at its prices; NaN for an arm that
    it lacks.
    """
    own = {arm: i for i, arm in enumerate(train.arms)}
    columns = [own.get(arm) for arm in evaluated.outcomes.arms]
    nothing = np.full(len(train), np.nan)
    quality, tokens, inputs = (
        np.stack([nothing if c is None else values[:, c] for c in columns], axis=1)
        for values in (train.quality, train.output_tokens, train.input_tokens)
    )
    typical = np.nanmean(evaluated.input_tokens, axis=0)
    return Outcomes.of(
        evaluated.outcomes.arms, quality, evaluated.table.pool.cost(np.where(np.isnan(inputs), typical, inputs), tokens)
    )
