"""Is routing worth it on a table of many tasks, on which no arm was seen everywhere? Answered task by task."""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from r2router.evaluation.router_forecasts import Judged
from r2router.evaluation.sources_left_out import LeftOut
from r2router.figure import Figure
from r2router.metrics.by_task import Gaps, gaps, means_of_other_half, pooled, task_means
from r2router.metrics.methods import Means, Outcomes
from r2router.predict.crossval import fold_of
from r2router.report.findings import Findings, Grid, GridRow, Section
from r2router.table.table import Table

_COMPARED = (
    "Each task is compared on the arms that were seen on 95 % of its queries, by mean quality over log cost, with the mixture of those "
    "arms that {how} chooses, and with the best fixed arm at equal cost. In the mean each task counts the same."
)


@dataclass(frozen=True, slots=True, eq=False)
class SparseReport:
    """What `evaluate` found on a table where no arm was seen nearly everywhere.

    gaps: the comparison of each task, see `r2router.metrics.by_task`. how: which answers chose the mixture that the router is compared
    with. pooled: over the mixture of fixed arms by the router's training averages, on the queries of all tasks together, see `pooled`.
    error: mean squared error of the quality forecasts over that of the arm's mean on the task, known from the same answers.
    left_out: what a router of the other files of the table is worth on each, see `sources_left_out`; empty where that was not asked for.
    sources, seed, resamples, notes, unfamiliar, trained_on, trained_share: as in `Report`.
    """

    queries: int
    arms: tuple[str, ...]
    gaps: Gaps
    how: str
    pooled: Figure
    error: float
    unfamiliar: float
    sources: tuple[tuple[str, str], ...]
    seed: int
    resamples: int
    notes: tuple[str, ...]
    trained_on: tuple[str, ...] = ()
    trained_share: float | None = None
    simulated: bool = False
    left_out: tuple[LeftOut, ...] = ()

    def __str__(self) -> str:
        head = f"{'task':34} {'queries':>7} {'arms':>4} {'router minus mixture':>26} {'minus best fixed arm':>26}"
        lines = [
            f"{self.queries:,} queries, {len(self.arms)} arms; no arm was seen on nearly all, so that tasks are compared one by one.",
            _COMPARED.format(how=self.how),
            "",
            head,
            *(
                f"{t.task[:34]:34} {t.queries:7,} {t.arms:4} {_cell(t.over_mixture):>26} {_cell(t.over_best):>26}  ({t.best})"
                for t in self.gaps.tasks
            ),
            f"{f'mean of {len(self.gaps.tasks)} tasks':34} {'':7} {'':4} {_cell(self.gaps.mean):>26} {_cell(self.gaps.mean_over_best):>26}",
            "",
            f"All tasks pooled, over the mixture of fixed arms by their training averages: {_cell(self.pooled)}, n = {self.pooled.n:,}.",
            f"Squared error of the quality forecasts: {self.error:.3f} of that of the arm's mean on the task, the task being known.",
            f"{self.unfamiliar:.1%} of the queries are unlike the training data; they got the safe choice.",
        ]
        if self.left_out:
            lines += ["", "Each file left out, learned from the others: router minus the mixture of fixed arms that the others choose"]
            lines += [f"{Path(one.source).name[:34]:34} {one.queries:7,} {'':4} {_cell(one.over_mixture):>26}" for one in self.left_out]
        if self.gaps.skipped:
            lines.append(f"{len(self.gaps.skipped)} tasks are not compared: fewer than 25 queries or 4 arms that were seen there.")
        if self.trained_on:
            lines.append(f"The router was trained on {', '.join(self.trained_on)}: on it, it looks better than it is.")
        return "\n".join([*lines, *(f"Note: {note}" for note in self.notes)])

    def __repr__(self) -> str:
        return f"SparseReport({self.queries} queries, {len(self.gaps.tasks)} tasks compared; print(report) shows all)"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has; a figure that is not available is null."""
        return {
            "queries": self.queries,
            "arms": list(self.arms),
            "compared_with": f"the mixture that {self.how} chooses",
            "mean": {"over_mixture": _plain(self.gaps.mean), "over_best_fixed_arm": _plain(self.gaps.mean_over_best)},
            "pooled": _plain(self.pooled),
            "tasks": {
                t.task: {
                    "queries": t.queries,
                    "arms": t.arms,
                    "best_fixed_arm": t.best,
                    "area": _plain(t.area),
                    "over_mixture": _plain(t.over_mixture),
                    "over_best_fixed_arm": _plain(t.over_best),
                }
                for t in self.gaps.tasks
            },
            "left_out": {
                one.source: {"queries": one.queries, "over_mixture": _plain(one.over_mixture), "unfamiliar": one.unfamiliar}
                for one in self.left_out
            },
            "not_compared": list(self.gaps.skipped),
            "error_over_known_tasks": self.error if np.isfinite(self.error) else None,
            "unfamiliar": self.unfamiliar,
            "trained_share": self.trained_share,
            "sources": [{"file": name, "sha256": digest} for name, digest in self.sources],
            "seed": self.seed,
            "resamples": self.resamples,
            "notes": list(self.notes),
        }

    def findings(self, command: str = "") -> Findings:
        """The report for drawing: a web page. command: what was typed, for the reader who repeats it."""
        rows = tuple(GridRow(t.task, (float(t.queries), float(t.arms), t.over_mixture, t.over_best)) for t in self.gaps.tasks)
        heads = ("queries", "arms", "router minus mixture", "router minus best fixed arm")
        alone = tuple(GridRow(Path(one.source).name, (float(one.queries), one.over_mixture)) for one in self.left_out)
        grid = Grid("Task by task", heads, rows, (",.0f", ",.0f", "+.3f", "+.3f"), about=_COMPARED.format(how=self.how))
        about = "Each file was left out, and a router of the others compared with the mixture of fixed arms that the others choose."
        others = [Grid("Files left out", ("queries", "router minus mixture"), alone, (",.0f", "+.3f"), about=about)] if alone else []
        answers = (
            f"Over {len(self.gaps.tasks)} tasks the router is {_cell(self.gaps.mean)} above each task's mixture of fixed arms on average.",
            f"At equal cost it is {_cell(self.gaps.mean_over_best)} above each task's best fixed arm on average.",
            f"With all tasks pooled it is {_cell(self.pooled)} above the mixture of fixed arms by their training averages.",
        )
        return Findings(
            name="evaluate",
            title="Is routing worth it, task by task?",
            question=f"A router scored on {self.queries:,} queries of {len(self.gaps.tasks)} tasks; no arm was seen everywhere.",
            answers=answers,
            sections=(Section("Where it helps and where not", (grid, *others)),),
            sources=self.sources,
            settings={"intervals": f"95 %, percentile bootstrap over queries, {self.resamples} draws, seed {self.seed}; paired"},
            command=command,
            notes=self.notes,
            simulated=self.simulated,
        )


def sparse_report(
    judged: Judged,
    table: Table,
    train: Table | None,
    averages: Means | None,
    *,
    resamples: int,
    seed: int,
    trained: tuple[tuple[str, ...], float | None],
    left_out: tuple[LeftOut, ...] = (),
) -> SparseReport:
    """The report of judged forecasts. train: other answers to the same tasks, which choose the mixture; without it, the other half.

    averages: what the router's training outcomes say of each arm, whatever the query.
    """
    outcomes, forecast, tasks = judged.outcomes, judged.forecast, judged.tasks
    if train is None:
        how, half = "the other half of the queries", fold_of(judged.table.queries, 2, seed)
        means = Means(*(means_of_other_half(v, tasks, half) for v in (outcomes.quality, outcomes.cost)))
    else:
        how, known = "the training answers", _aligned(train, judged)
        means = Means(*(task_means(forecast.quality, tasks, v, train.tasks) for v in (known.quality, known.cost)))
    found = gaps(tasks, forecast.quality, forecast.cost, outcomes, means, resamples, seed)
    both = outcomes.seen & np.isfinite(forecast.quality) & np.isfinite(means.quality)
    ours, theirs = (np.square(outcomes.quality - f)[both].mean() if both.any() else np.nan for f in (forecast.quality, means.quality))
    return SparseReport(
        queries=len(tasks),
        arms=tuple(map(str, outcomes.arms)),
        gaps=found,
        how=how,
        pooled=Figure("pooled") if averages is None else pooled(forecast.quality, forecast.cost, outcomes, averages, resamples, seed),
        error=float(ours / theirs) if theirs > 0 else np.nan,
        unfamiliar=float(1 - forecast.familiar.mean()),
        sources=table.sources,
        seed=seed,
        resamples=resamples,
        notes=judged.notes,
        trained_on=trained[0],
        trained_share=trained[1],
        simulated=table.simulated,
        left_out=left_out,
    )


def _aligned(train: Table, judged: Judged) -> Outcomes:
    """The outcomes of the training table on the judged arms, at the judged prices; NaN for an arm that it lacks."""
    own = {arm: i for i, arm in enumerate(train.arms)}
    columns = [own.get(arm) for arm in judged.outcomes.arms]
    nothing = np.full(len(train), np.nan)
    quality, tokens, inputs = (
        np.stack([nothing if c is None else values[:, c] for c in columns], axis=1)
        for values in (train.quality, train.output_tokens, train.input_tokens)
    )
    typical = np.nanmean(judged.input_tokens, axis=0)
    return Outcomes.of(judged.outcomes.arms, quality, judged.table.pool.cost(np.where(np.isnan(inputs), typical, inputs), tokens))


def _cell(figure: Figure) -> str:
    if np.isnan(figure.value):
        return "not known"
    return f"{figure.value:+.3f}" if np.isnan(figure.low) else f"{figure.value:+.3f} [{figure.low:+.3f}, {figure.high:+.3f}]"


def _plain(figure: Figure) -> dict[str, Any]:
    values = {"value": figure.value, "low": figure.low, "high": figure.high}
    return {name: value if np.isfinite(value) else None for name, value in values.items()} | {"n": figure.n}
