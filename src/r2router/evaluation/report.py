"""The figures of an evaluation, for a person (`str(report)`) and for a program (`report.to_dict()`)."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import Any

from r2router.evaluation.cascade_sections import plain_of
from r2router.evaluation.cascades import CascadeFigures
from r2router.evaluation.report_sections import findings_of
from r2router.evaluation.summary import summary_of
from r2router.figure import Figure
from r2router.metrics.score import Comparison
from r2router.report.findings import Findings, jsonable
from r2router.report.findings_text import report_text
from r2router.report.terminal import Style
from r2router.text import money


@dataclass(frozen=True, slots=True, eq=False)
class TaskLine:
    """The comparison on one task; None where it has too few queries, or no arm was observed on nearly all of them."""

    task: str
    queries: int
    comparison: Comparison | None


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What `evaluate` found.

    queries: number of scored queries.
    arms: the router's arms that the table has.
    fixed_arms: the arms of `comparison.points["fixed"]`, in its order.
    comparison: every figure of every method.
    own_policy: the router's own policy in words.
    own: mean (quality, cost in US dollars) under it.
    shares: how often it chose each arm, the most frequent first.
    tasks: the same comparison for each task.
    out_of_distribution: the share of queries that are unlike the training data.
    sources: (file, sha256) of the data.
    seed: the random seed of the bootstrap.
    resamples: the number of bootstrap draws.
    notes: what a reader must know about the data.
    trained_on: those of the sources that the router was trained on.
    trained_share: the share of the queries that the router was trained on; None where that is not known.
    simulated: whether the table is simulated.
    own_costs: the mean cost under its own policy, by the tokens `forecast` and by the tokens `asked` for.
    accuracy: how accurate the forecasts were (`r2router.evaluation.accuracy`).
    compliance: for each budget in tokens, the share of answers that kept to it.
    regret: US dollars per request that the oracle does better, at the value of the own policy.
    noise: kind of typing noise, share of decisions unchanged, change of the area.
    cascade: the figures of the cascade, where asked for and possible.
    """

    queries: int
    arms: tuple[str, ...]
    fixed_arms: tuple[str, ...]
    comparison: Comparison
    own_policy: str
    own: tuple[Figure, Figure]
    shares: tuple[tuple[str, float], ...]
    tasks: tuple[TaskLine, ...]
    out_of_distribution: float
    sources: tuple[tuple[str, str], ...]
    seed: int
    resamples: int
    notes: tuple[str, ...]
    trained_on: tuple[str, ...] = ()
    trained_share: float | None = None
    simulated: bool = False
    own_costs: dict[str, Figure] = field(default_factory=dict)
    accuracy: dict[str, Figure] = field(default_factory=dict)
    compliance: tuple[tuple[str, Figure], ...] = ()
    regret: Figure | None = None
    noise: tuple[tuple[str, Figure, Figure], ...] = ()
    cascade: CascadeFigures | None = None

    def __repr__(self) -> str:
        quality, cost = self.own
        return (
            f"Report({self.queries} queries x {len(self.arms)} arms; own policy: quality {quality.value:.3f} at "
            f"{money(1000 * cost.value)} per 1,000 requests; print(report) shows all)"
        )

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"

    @property
    def gap_closed(self) -> float:
        """How much of the gap between the best mixture of fixed arms and the oracle the router closes, by area; NaN
        where there is none.
        """
        return self.comparison.figures["router"]["gap_closed"].value

    def summary(self) -> Findings:
        """Return the report on one screen, for a terminal."""
        return summary_of(self)

    def findings(self, command: str = "") -> Findings:
        """Return the report for drawing: a web page, plots.

        command: the command line, for readers who want to repeat it.
        """
        return findings_of(self, command)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON types; a figure that is not available is null."""
        c = self.comparison
        found: dict[str, Any] = jsonable(
            {
                "queries": self.queries,
                "arms": self.arms,
                "best_fixed_arm": {"arm": c.best_arm, "cost_usd": c.best[0], "quality": c.best[1]},
                "cost_range_usd": [c.low, c.high],
                "figures": c.figures,
                "differences": c.differences,
                "verdict": c.verdict,
                "gap_closed": self.gap_closed,
                "own_policy": {
                    "policy": self.own_policy,
                    "quality": self.own[0],
                    "cost_usd": self.own[1],
                    **{f"cost_{name}_usd": figure for name, figure in self.own_costs.items()},
                },
                "shares": dict(self.shares),
                "tasks": {t.task: _task(t.queries, t.comparison) for t in self.tasks},
                "forecasts": self.accuracy,
                "compliance": dict(self.compliance),
                "regret_usd": self.regret,
                "noise": {kind: {"unchanged": same, "area_change": area} for kind, same, area in self.noise},
                "cascade": self.cascade and plain_of(self.cascade),
                "unfamiliar": self.out_of_distribution,
                "trained_share": self.trained_share,
                "sources": [{"file": name, "sha256": digest} for name, digest in self.sources],
                "seed": self.seed,
                "resamples": self.resamples,
                "notes": self.notes,
            }
        )
        return found

    def __str__(self) -> str:
        return report_text(self.summary(), Style(width=120))


def _task(queries: int, compared: Comparison | None) -> dict[str, Any]:
    if compared is None:
        return {"queries": queries, "figures": None, "differences": None, "verdict": None}
    return {
        "queries": queries,
        "figures": {m: f["area"] for m, f in compared.figures.items()},
        "differences": {m: {"area": f["area"]} for m, f in compared.differences.items()},
        "verdict": compared.verdict,
    }
