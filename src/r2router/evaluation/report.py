"""The figures of an evaluation, for a person (`str(report)`) and for a program (`report.to_dict()`)."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass, field
from typing import Any

from r2router.evaluation.cascade_sections import plain_of
from r2router.evaluation.cascades import CascadeFigures
from r2router.evaluation.report_sections import findings_of
from r2router.evaluation.tables_and_plots import LABELS
from r2router.figure import Figure
from r2router.metrics.score import Comparison
from r2router.report.findings import Findings
from r2router.text import money


@dataclass(frozen=True, slots=True, eq=False)
class TaskLine:
    """One task's comparison; None where it has too few queries, or no arm was observed on nearly all of them."""

    task: str
    queries: int
    comparison: Comparison | None


@dataclass(frozen=True, slots=True, eq=False)
class Report:
    """What `evaluate` found.

    fixed_arms: the arms behind `comparison.points["fixed"]`, in its order. own: mean (quality, cost) under the router's own policy.
    own_costs: its mean cost as it was `forecast`, and if answers had the tokens `asked` for. shares: how often each arm was chosen
    then. unfamiliar: share of queries unlike the training data. trained_on: those of the sources that the router was trained on.
    trained_share: the share of the queries that it was trained on; None where that is not known.
    simulated: the table is made up. notes: what a reader must know about the data. accuracy: of the forecasts
    (`r2router.evaluation.accuracy`). compliance: for each budget in tokens the share of answers that keep to it. regret: US dollars a
    request to the oracle at the own policy's value. noise: kind, share of decisions unchanged, change of area. cascade: where it was asked
    for and could be judged.
    """

    queries: int
    arms: tuple[str, ...]
    fixed_arms: tuple[str, ...]
    comparison: Comparison
    own_policy: str
    own: tuple[Figure, Figure]
    shares: tuple[tuple[str, float], ...]
    tasks: tuple[TaskLine, ...]
    unfamiliar: float
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
        """Share of the way from the best mixture of fixed arms to the oracle that the router goes, by area; NaN where there is none."""
        return self.comparison.figures["router"]["gap_closed"].value

    def findings(self, command: str = "") -> Findings:
        """The report for drawing: a web page, plots. command: what was typed, for the reader who repeats it."""
        return findings_of(self, command)

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has; a figure that is not available is null."""
        c = self.comparison
        return {
            "queries": self.queries,
            "arms": list(self.arms),
            "best_fixed_arm": {"arm": c.best_arm, "cost_usd": c.best[0], "quality": c.best[1]},
            "cost_range_usd": [c.low, c.high],
            "figures": {m: {k: _plain(f) for k, f in row.items()} for m, row in c.figures.items()},
            "differences": {m: {k: _plain(f) for k, f in row.items()} for m, row in c.differences.items()},
            "verdict": c.verdict,
            "gap_closed": _number(self.gap_closed),
            "own_policy": {"policy": self.own_policy, "quality": _plain(self.own[0]), "cost_usd": _plain(self.own[1]), **self._costs()},
            "shares": dict(self.shares),
            "tasks": {
                t.task: {
                    "queries": t.queries,
                    "figures": t.comparison and {m: _plain(f["area"]) for m, f in t.comparison.figures.items()},
                    "differences": t.comparison and {m: {"area": _plain(f["area"])} for m, f in t.comparison.differences.items()},
                    "verdict": t.comparison and t.comparison.verdict,
                }
                for t in self.tasks
            },
            "forecasts": {name: _plain(f) for name, f in self.accuracy.items()},
            "compliance": {arm: _plain(f) for arm, f in self.compliance},
            "regret_usd": self.regret and _plain(self.regret),
            "noise": {kind: {"unchanged": _plain(same), "area_change": _plain(area)} for kind, same, area in self.noise},
            "cascade": self.cascade and plain_of(self.cascade),
            "unfamiliar": self.unfamiliar,
            "trained_share": self.trained_share,
            "sources": [{"file": name, "sha256": digest} for name, digest in self.sources],
            "seed": self.seed,
            "resamples": self.resamples,
            "notes": list(self.notes),
        }

    def _costs(self) -> dict[str, Any]:
        return {f"cost_{name}_usd": _plain(figure) for name, figure in self.own_costs.items()}

    def _knowing(self) -> list[str]:
        """The same against the mixture that nobody can have, where the verdict is against another."""
        c = self.comparison
        if c.mixture == "fixed known":
            return []
        gap = c.differences["fixed known"]
        return [f"Router minus {_MIXTURES['fixed known']}: {_cell(gap['area'], sign=True)}."]

    def __str__(self) -> str:
        c = self.comparison
        lines = [
            f"{self.queries:,} queries, {len(self.arms)} arms.",
            f"Best fixed arm: {c.best_arm}, quality {c.best[1]:.3f} at {money(1000 * c.best[0])} per 1,000 requests.",
            "",
            f"{'':34} {'area over log cost':>22} {'peak quality':>22} {'$ per 1,000 at 95 % quality':>30} {'of best arm':>12}",
        ]
        for method, row in c.figures.items():
            cost = row["cost_at_keep"]
            spent = f"{_usd(cost.value)} [{_usd(cost.low)}, {_usd(cost.high)}]" if math.isfinite(cost.value) else "never"
            share = f"{row['qnc'].value:.1%}" if math.isfinite(row["qnc"].value) else ""
            lines.append(f"{LABELS.get(method, method):34} {_cell(row['area']):>22} {_cell(row['peak']):>22} {spent:>30} {share:>12}")
        difference = c.differences[c.mixture]["area"]
        lines += [
            "",
            f"Router minus {_MIXTURES[c.mixture]} (paired, by area): {_cell(difference, sign=True)}: {_VERDICTS[c.verdict]}",
            *self._knowing(),
            f"Of the gap from there to the oracle it closes {self.gap_closed:.1%}."
            if math.isfinite(self.gap_closed)
            else ("" if math.isnan(difference.value) else "There is no gap to the oracle."),
            (
                f"Own policy ({self.own_policy}): quality {_cell(self.own[0])} at {money(1000 * self.own[1].value)} "
                f"[{money(1000 * self.own[1].low)}, {money(1000 * self.own[1].high)}] per 1,000 requests."
            ),
            "Arms it then uses: "
            + ", ".join(f"{arm} {share:.0%}" for arm, share in self.shares[:6])
            + (", ..." if len(self.shares) > 6 else ""),
        ]
        if self.trained_share:
            lines.append(f"{_percent(self.trained_share)} of the queries are training queries of the router: it looks better than it is.")
        if self.unfamiliar > 0:
            lines.append(f"{self.unfamiliar:.1%} of the queries are unlike the training data and got the safe choice.")
        shown = [(t, t.comparison) for t in self.tasks if t.comparison is not None]
        if shown:
            lines += ["", f"{'task':28} {'queries':>8} {'router':>8} {'mixture':>8} {'oracle':>8}   {'router minus mixture':24} verdict"]
        lines += [_task_line(t, compared) for t, compared in shown]
        if len(shown) < len(self.tasks):
            small = len(self.tasks) - len(shown)
            lines += [] if shown else [""]
            lines.append(f"{small} of {len(self.tasks)} tasks are not shown: fewer than 10 queries, or no arm seen on nearly all.")
        lines += [
            "",
            f"Intervals: 95 %, bootstrap over queries, {self.resamples} draws, seed {self.seed}. Cost: tokens used at the router's prices.",
            "Curves have at most twelve settings, fixed without these outcomes; differences keep those that another half of queries keeps.",
        ]
        lines += [f"Note: {note}" for note in self.notes]
        return "\n".join(lines)


def _task_line(t: TaskLine, compared: Comparison) -> str:
    area = {m: f["area"].value for m, f in compared.figures.items()}
    difference = _cell(compared.differences[compared.mixture]["area"], sign=True)
    router, mixture, oracle = ("-" if math.isnan(area[m]) else f"{area[m]:.3f}" for m in ("router", compared.mixture, "oracle"))
    verdict = {"not clear": "", "not known": ""}.get(compared.verdict, compared.verdict)
    return f"{t.task[:28]:28} {t.queries:>8,} {router:>8} {mixture:>8} {oracle:>8}   {difference:24} {verdict}".rstrip()


def _usd(cost: float) -> str:
    return "never" if math.isinf(cost) else money(1000 * cost)


_MIXTURES = {"fixed": "best mixture, chosen by the training outcomes", "fixed known": "best mixture, chosen with these outcomes known"}
_VERDICTS = {
    "above": "routing pays here.",
    "below": "routing loses here; use the fixed arms.",
    "not clear": "no clear difference on so many queries.",
    "not known": "all fixed arms cost the same, or one is free.",
}


def _cell(figure: Figure, sign: bool = False) -> str:
    form = "+.3f" if sign else ".3f"
    if math.isnan(figure.value):
        return "not available"
    if math.isnan(figure.low):
        return f"{figure.value:{form}}"
    return f"{figure.value:{form}} [{figure.low:{form}}, {figure.high:{form}}]"


def _plain(figure: Figure) -> dict[str, Any]:
    return {"value": _number(figure.value), "low": _number(figure.low), "high": _number(figure.high), "n": figure.n}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def leak(names: tuple[str, ...], share: float | None) -> str:
    """What to say of a table that a router was trained on, in whole or in part; empty where it was not."""
    if not names and not share:
        return ""
    part = "" if share is None else f"{_percent(share)} of these queries"
    what = f"{', '.join(names)}: it has seen {part}, so" if names and part else f"{', '.join(names) or part}:"
    return f"The router was trained on {what} here it looks better than it is. Take a table that it has not seen."


def _percent(share: float) -> str:
    """Never 0 % of some, nor 100 % of nearly all."""
    if share < 0.01:
        return f"{100 * share:.1g} %"
    return f"{100 * share:.0f} %" if share < 0.99 or share == 1 else f"{100 * share:.4g} %"
