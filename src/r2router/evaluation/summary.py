"""An evaluation in a screenful: what `print(report)` and the terminal show of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from r2router.evaluation.report_sections import tasks_grid
from r2router.evaluation.sentences import answers_of
from r2router.evaluation.tables_and_plots import MIN_QUERIES, grid
from r2router.report.findings import Findings, Paragraph, Part, Section
from r2router.text import money

if TYPE_CHECKING:
    from r2router.evaluation.report import Report

_FIGURES = ("area", "peak", "cost_at_keep", "qnc")
_ARMS = 6  # that are named


def summary_of(report: Report) -> Findings:
    """Return the answers, one table of figures and one of tasks."""
    c = report.comparison
    best = f"Best fixed arm: {c.best_arm}, quality {c.best[1]:.3f} at {money(1000 * c.best[0])} per 1,000 requests."
    return Findings(
        name="evaluate",
        title="Is routing worth it?",
        question=f"{report.queries:,} queries, {len(report.arms)} arms. {best}",
        answers=(*answers_of(report), *_more(report)),
        sections=tuple(_sections(report)),
        settings={
            "intervals": f"95 %, bootstrap over queries, {report.resamples} draws, seed {report.seed}",
            "cost": "US dollars per 1,000 requests, of the tokens used, at the router's prices",
            "curves": (
                "at most twelve settings, fixed without these outcomes; differences keep those that another half of"
                " queries keeps"
            ),
        },
        notes=report.notes,
        simulated=report.simulated,
    )


def _more(report: Report) -> list[str]:
    """Return what a person asks next: how far it is to the oracle, which arms are used, and for how many queries
    nothing is known.
    """
    said = []
    area = report.comparison.differences[report.comparison.mixture]["area"].value
    if math.isfinite(report.gap_closed):
        said.append(
            f"It closes {report.gap_closed:.1%} of the gap from the mixture that knows these outcomes to the oracle."
        )
    elif not math.isnan(area):
        said.append("There is no gap to the oracle.")
    named = ", ".join(f"{arm} {share:.0%}" for arm, share in report.shares[:_ARMS])
    said.append(f"Arms that its own policy uses: {named}{', ...' if len(report.shares) > _ARMS else ''}.")
    if report.out_of_distribution > 0:
        said.append(
            f"{report.out_of_distribution:.1%} of the queries are unlike the training data and got the safe choice."
        )
    return said


def _sections(report: Report) -> list[Section]:
    sections = [Section("Figures", (grid("", report.comparison.figures, _FIGURES, strong=["router"]),))]
    shown = tuple(t for t in report.tasks if t.comparison is not None)
    parts: list[Part] = [tasks_grid(shown)] if shown else []
    if len(shown) < len(report.tasks):
        small = len(report.tasks) - len(shown)
        why = f"fewer than {MIN_QUERIES} queries, or no arm seen on nearly all"
        parts.append(Paragraph(f"{small} of {len(report.tasks)} tasks are not shown: {why}."))
    return [*sections, Section("Tasks", tuple(parts))] if parts else sections
