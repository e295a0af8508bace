"""An evaluation as findings: what a manager asks first, then what a reviewer asks. All money is US dollars per 1,000
requests.
"""

from __future__ import annotations

import math
import platform
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from r2router._version import __version__
from r2router.evaluation.cascade_sections import section_of
from r2router.evaluation.sentences import answers_of
from r2router.evaluation.tables_and_plots import BOUNDS, FIGURES, LABELS, REQUESTS, deferral_plot, drawn, grid, shown
from r2router.evaluation.verdicts import VERDICTS
from r2router.figure import Figure
from r2router.metrics.frontier import envelope_at
from r2router.metrics.score import KEEP
from r2router.report.findings import Findings, Grid, GridRow, Paragraph, Plot, Section, Series
from r2router.text import money

if TYPE_CHECKING:
    from r2router.evaluation.report import Report, TaskLine

_LEVELS = (0.9, KEEP, 1.0)  # shares of the best fixed arm's quality
_SPENDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # shares of the best fixed arm's cost
_MEANINGS = f"""\
Quality is the mean score of the answers, from 0 to 1. Cost is what the tokens really used cost at the router's prices. An arm is a
model under a budget; a fixed arm is always that one, observed on at least 95 % of the queries.

The best mixture of fixed arms sends a share of the requests to each of two, chosen by the outcomes that the router was trained on: it
is the line that a router has to beat. Beside it stands the mixture that knows these very queries' mean results, which no user has; on
few queries it wins over everything. One budget per LLM: the same forecasts, choosing among each model's best arm only. The oracle knows
every answer in advance: no router can do better.

Every curve has at most twelve settings, at equal steps of log forecast spend, so that they are fixed without these outcomes; the
mixture and the oracle that know them have all. Area over log cost: mean quality between the cost of the cheapest and of the most expensive
fixed arm, every tenfold counting the same, and 0 below a method's cheapest setting; how much of the range it has stands beside it. The
difference of areas is over the costs that both methods reach, with the settings that the other half of the queries keeps. Of the gap to
the oracle: the share of the way from the mixture that knows these outcomes to the oracle, by area. Our AUDC: area over linear cost,
between the smallest and the largest cost of all methods shown; without mixing, as trapezoids from setting to setting. Peak: the highest
mean quality of any setting. Cost at {100 * KEEP:.0f} %: the lowest at which {100 * KEEP:.0f} % of the best fixed arm's quality is
reached, mixtures of two settings allowed. Our QNC: that cost as a share of the best fixed arm's; to match, without mixing: the cheapest
single setting with all of that arm's quality.
"""


def findings_of(report: Report, command: str) -> Findings:
    """Return the findings of `r2router.evaluate`.

    command: what was typed, for the reader who repeats it.
    """
    return Findings(
        name="evaluate",
        title="Is routing worth it?",
        question=(
            f"A router that chooses among {len(report.arms)} (model, budget) arms, scored on {report.queries:,} queries"
            " against what it has to beat: always the same arm, and mixtures of such."
        ),
        answers=answers_of(report),
        sections=tuple(_sections(report)),
        sources=report.sources,
        settings={
            "queries": f"{report.queries:,}",
            "own policy": report.own_policy,
            "unlike the training data": (
                f"{100 * report.out_of_distribution:.1f} % of the queries; they got the safe choice"
            ),
            "intervals": (
                f"95 %, percentile bootstrap over queries, {report.resamples} draws, seed {report.seed}; differences"
                " are paired"
            ),
            "versions": f"r2router {__version__}, numpy {np.__version__}, Python {platform.python_version()}",
        },
        command=command,
        notes=report.notes,
        simulated=report.simulated,
    )


def _sections(report: Report) -> list[Section]:
    sections = [
        Section("Quality over cost", (_curves(report),)),
        Section("Figures", (_figures(report),)),
        Section(
            "What the money buys", (_costs(report), *([_qualities(report)] if report.comparison.best[0] > 0 else []))
        ),
    ]
    if report.tasks:
        sections.append(Section("Where it helps and where not", (tasks_grid(report.tasks),)))
    if report.cascade is not None:
        sections.append(section_of(report.cascade))
    if report.noise:
        sections.append(Section("Typed in another way", (_noise(report),)))
    sections += [
        Section("Which arms it uses", (_shares(report),), folded=True),
        Section("How good the forecasts are", tuple(_forecasts(report)), folded=True),
        Section("What the words mean", (Paragraph(_MEANINGS.strip()),), folded=True),
    ]
    return sections


# -- curves ---------------------------------------------------------------------------------------------------------


def _curves(report: Report) -> Plot:
    c = report.comparison
    plot = deferral_plot(c, drawn(c), title="Mean quality that a mean cost buys")
    cost, quality = c.points["fixed known"]
    arms = Series(
        "fixed arms",
        tuple((REQUESTS * cost).tolist()),
        tuple(quality.tolist()),
        labels=report.fixed_arms,
        style="points",
    )
    about = (
        f"{plot.about} Higher and further left is better. Between two operating points of a line anything can be had by"
        " mixing them."
    )
    return msgspec.structs.replace(plot, series=(*plot.series, arms), about=about)


# -- tables ---------------------------------------------------------------------------------------------------------


def _figures(report: Report) -> Grid:
    c = report.comparison
    names = list(dict.fromkeys(name for row in c.figures.values() for name in row))
    kinds = [FIGURES.get(name, (name, ".3f", "")) for name in names]
    rows = []
    for method, found in c.figures.items():
        minus = [c.differences[method][name] if method in c.differences else None for name in ("area", "area_zero")]
        values = [shown(name, found.get(name)) for name in names]
        rows.append(_row(method, (*values, *minus)))
    gap = (
        "Of the gap by area from the mixture that knows these outcomes to the oracle the router closes"
        f" {100 * report.gap_closed:.1f} %. "
    )
    closed = gap if math.isfinite(report.gap_closed) else ""
    return Grid(
        title="Every method on the same queries",
        columns=(
            *(kind[0] for kind in kinds),
            "router minus it, area where both have it",
            "router minus it, 0 below the cheapest",
        ),
        rows=tuple(rows),
        formats=(*(kind[1] for kind in kinds), "+.3f", "+.3f"),
        better=(*(kind[2] for kind in kinds), "", ""),
        about=(
            f"Costs are US dollars per 1,000 requests. {closed}What each figure is stands at the end, under What the"
            " words mean."
        ),
    )


def _costs(report: Report) -> Grid:
    """Return the lowest cost of some qualities."""
    c = report.comparison
    rows = []
    for method, figures in c.figures.items():
        costs = (figures["cost_at_90"], figures["cost_at_keep"], figures["cost_at_100"])
        rows.append(_row(method, tuple(shown("cost_at_keep", cost) for cost in costs)))
    cost, quality = c.points["fixed known"]
    alone = [REQUESTS * float(min(cost[quality >= level * c.best[1]], default=math.nan)) for level in _LEVELS]
    return Grid(
        title="What a quality costs, US dollars per 1,000 requests",
        columns=tuple(f"{100 * level:.0f} % of the best ({level * c.best[1]:.3f})" for level in _LEVELS),
        rows=(*rows, GridRow("one fixed arm", tuple(alone))),
        formats=("money",) * len(_LEVELS),
        better=tuple("less" for _ in _LEVELS),
        about=f"The best fixed arm is {c.best_arm}: quality {c.best[1]:.3f}.",
    )


def _qualities(report: Report) -> Grid:
    """Return the best quality for some spends."""
    c = report.comparison
    spends = np.array([share * c.best[0] for share in _SPENDS])
    shares = ", ".join(f"{100 * share:.0f}" for share in _SPENDS[:-1])
    rows = [_row(method, tuple(envelope_at(*points, spends).tolist())) for method, points in c.points.items()]
    cost, quality = c.points["fixed known"]
    alone = [float(max(quality[cost <= spend], default=math.nan)) for spend in spends]
    return Grid(
        title="What a spend buys, mean quality",
        columns=tuple(money(REQUESTS * spend) for spend in spends),
        rows=(*rows, GridRow("one fixed arm", tuple(alone))),
        formats=(".3f",) * len(spends),
        better=tuple("more" for _ in spends),
        about=f"US dollars per 1,000 requests: {shares} and 100 % of what always {c.best_arm} costs.",
    )


def tasks_grid(tasks: tuple[TaskLine, ...]) -> Grid:
    """Return one row per task: areas, differences and the verdict."""
    rows = []
    for task in tasks:
        if task.comparison is None:
            rows.append(
                GridRow(
                    task.task,
                    (
                        float(task.queries),
                        None,
                        None,
                        None,
                        None,
                        None,
                        "fewer than 10 queries, or no arm seen on nearly all",
                    ),
                )
            )
            continue
        area = {m: row["area"] for m, row in task.comparison.figures.items()}
        mixture = task.comparison.mixture
        gaps = (msgspec.structs.replace(task.comparison.differences[m]["area"], n=0) for m in (mixture, "fixed known"))
        shown = (area["router"].value, area[mixture].value, area["oracle"].value)
        rows.append(GridRow(task.task, (float(task.queries), *shown, *gaps, VERDICTS[task.comparison.verdict].routing)))
    return Grid(
        title="By task, area over log cost",
        columns=(
            "queries",
            "router",
            "best mixture",
            "oracle",
            "router minus mixture",
            "minus knowing one",
            "so routing",
        ),
        rows=tuple(rows),
        formats=(",.0f", ".3f", ".3f", ".3f", "+.3f", "+.3f", ""),
        about=(
            "The mixture is chosen by the router's training outcomes of all tasks; the knowing one by this task's"
            " outcomes. The router is not told the task."
        ),
    )


def _shares(report: Report) -> Grid:
    return Grid(
        title=f"Decisions under the router's own policy: {report.own_policy}",
        columns=("share of the queries",),
        rows=tuple(GridRow(arm, (share,)) for arm, share in report.shares),
        formats=("share",),
        about=f"{len(report.shares)} of {len(report.arms)} arms are used.",
    )


def _noise(report: Report) -> Grid:
    return Grid(
        title="The router's own decisions under noise",
        columns=("decisions unchanged", "change of area"),
        rows=tuple(GridRow(kind, (same, area)) for kind, same, area in report.noise),
        formats=("share", "+.4f"),
        about=(
            "typos: one letter in thirty. case: all small or all capitals. filler: polite words. paraphrase: common"
            " phrases swapped."
        ),
    )


def _forecasts(report: Report) -> list[Grid]:
    parts = [
        grid(
            "The router's forecasts on all observed arms",
            {"router": report.accuracy},
            ("ece", "rmse", "token_factor", "token_bias"),
        )
    ]
    if report.regret is not None:
        row = GridRow("own policy", (report.regret.scaled(REQUESTS),))
        about = "US dollars per 1,000 requests by which the oracle does better, at the same value of a correct answer."
        parts.append(Grid("Regret to the oracle", ("regret",), (row,), ("money",), ("less",), about))
    if report.own_costs:
        costs = {
            "by tokens used": report.own[1],
            "by tokens forecast": report.own_costs["forecast"],
            "by budget asked": report.own_costs["asked"],
        }
        cells = tuple(shown("cost_at_keep", figure) for figure in costs.values())
        about = (
            "US dollars per 1,000 requests. The first is what counts; the last is not available where a chosen budget"
            " is no number."
        )
        parts.append(
            Grid("Cost three ways", tuple(costs), (GridRow("own policy", cells),), ("money",) * 3, about=about)
        )
    if report.compliance:
        about = "Share of answers with at most 1.1 times the tokens asked for."
        rows = tuple(GridRow(arm, (figure,)) for arm, figure in report.compliance)
        parts.append(Grid("Kept to the budget", ("compliance",), rows, ("share",), ("more",), about))
    return parts


def _row(method: str, values: tuple[Figure | float | str | None, ...]) -> GridRow:
    return GridRow(LABELS.get(method, method), values, strong=method == "router", bound=method in BOUNDS)
