"""Compares all methods on equal terms: the paper's main comparison (Table 5 and Figure 4), with what its critics asked
for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from r2router.encode import embed
from r2router.encode.registry import GivenVectors
from r2router.evaluation.accuracy import accuracy, compliance, skipped
from r2router.evaluation.contenders import EmbeddedTable, Form, Tried, attempt, comparable, needed
from r2router.evaluation.experiment import Study, failures, fitting_times
from r2router.evaluation.methods import BASELINES, GROUPS, ONE_BUDGET, OURS, PUBLISHED, SAME_ARMS, everybody, published
from r2router.evaluation.operating_points import SHARES, OperatingPoint, operating_point, points_grid, shares_grid
from r2router.evaluation.robustness import noisy_views, robustness_grid
from r2router.evaluation.tables_and_plots import (
    LABELS,
    MEANINGS,
    MIN_QUERIES,
    RANGES,
    as_much,
    deferral_plot,
    difference_head,
    grid,
    signed,
)
from r2router.evaluation.verdicts import VERDICTS
from r2router.figure import Figure
from r2router.metrics.score import Comparison, Method, Outcomes, compare
from r2router.report.findings import Findings, Grid, GridRow, Paragraph, Plot, Section
from r2router.text import money
from r2router.types import FloatArray, IntArray

QUESTION = "Is routing over (model, budget) pairs worth more than routing over models, whatever the router?"

_FIGURES = (
    "area",
    "covers",
    "gap_closed",
    "audc",
    "audc_points",
    "qnc",
    "qnc_100",
    "qnc_points",
    "peak",
    "cost_at_keep",
)
_DIFFERENCES = ("area", "area_zero", "audc", "qnc", "cheaper")
_TASK_DRAWS = 200
_EQUAL = 1e-9  # qualities that differ by less are rounded differently and no more


def run(study: Study) -> Findings:
    """Every baseline in both forms beside ours."""
    return against(study, "main", "Every method, every trade-off", QUESTION, "one budget")


def against(study: Study, name: str, title: str, question: str, form: Form) -> Findings:
    """Ours beside the baselines on one budget per LLM, chosen as `form` says, and on the same arms."""
    data, plan = study.data, study.plan
    contenders = [
        c if c.form == "arms" or c.name == ONE_BUDGET else type(c)(c.name, c.learner, form)
        for c in everybody(study.learner)
    ]
    folds = plan.folds_of(data)
    mine = needed(attempt(contenders[:1], data, folds, study.progress, _views(study))[0])
    tried = [mine, *attempt(contenders[1:], data, folds, study.progress)]
    found = comparable(tried, data, folds)
    result = compare(found, data.outcomes, plan.resamples, 0, base=OURS, groups=GROUPS, progress=study.progress)
    tasks = by_task(study, found)
    answers, at_cheaper = headlines(result, tasks), list[Grid]()
    if form == "one budget":
        answers, at_cheaper = _at_cheaper_budgets(study, mine, folds, answers)
    sections = [
        Section("Quality and cost", (curves(result, data.outcomes), figures_table(result, tried))),
        Section("Ours against each", (differences_table(result), Paragraph(ahead_of_baselines(result)), *at_cheaper)),
        *one_by_one(study, mine, tasks),
        *reviewers(study, tried),
    ]
    return study.findings(name, title, question, answers, sections, notes=[*failures(tried), *skipped(data.table)])


def _at_cheaper_budgets(
    study: Study, mine: Tried, folds: Sequence[IntArray], answers: list[str]
) -> tuple[list[str], list[Grid]]:
    """Return what is left of the gain where baselines have each LLM at a budget that costs less for nearly its quality:
    (answers with a sentence more, the grid); the best budget by quality may cost several times as much for next to
    nothing.
    """
    tried = attempt(published("cheap enough"), study.data, folds, study.progress)
    found = comparable([mine, *tried], study.data, folds)
    result = compare(
        found, study.data.outcomes, study.plan.resamples, 0, base=OURS, groups=GROUPS, progress=study.progress
    )
    names, lines = ("area", "area_zero", "qnc", "cheaper"), []
    for t in tried:
        row = result.differences.get(t.contender.name)
        cells = (
            (f"not available: {t.failed}", None, None, None)
            if row is None
            else tuple(_difference(name, row[name]) for name in names)
        )
        lines.append(GridRow(t.contender.name, cells))
    about = (
        "Each LLM at its cheapest budget that keeps 95 % of its best quality in the training part. The last column is"
        " the other's cost at 95 % over ours."
    )
    heads = tuple(difference_head(name) for name in names)
    shown = Grid(
        "Ours minus baselines with a cheaper budget per LLM, paired",
        heads,
        tuple(lines),
        ("+.3f", "+.3f", "+.3f", ".2f"),
        about=about,
    )
    rival, times = _best(result)
    if times is None or not math.isfinite(times.value) or result.best[1] <= 0:
        return answers, [shown]
    said = (
        f"If each LLM used its cheapest budget that keeps 95 %, the best baseline, {rival}, would cost {as_much(times)}"
        " as much."
    )
    at = next((i + 1 for i, answer in enumerate(answers) if "published form" in answer), len(answers))
    return [*answers[:at], said, *answers[at:]], [shown]


def _views(study: Study) -> dict[str, FloatArray]:
    """Noisy copies of the queries, where there is an encoder to embed them with."""
    if isinstance(study.data.encoder, GivenVectors):
        return {}
    return noisy_views(study.data, lambda texts: embed(study.data.encoder, texts, study.progress), 0)


def best_of(result: Comparison, names: Sequence[str], figure: str = "cost_at_keep") -> str | None:
    """Return the method with the lowest such cost; by area where none reaches the quality."""
    have = [n for n in names if n in result.figures]
    reach = [n for n in have if math.isfinite(result.figures[n][figure].value)]
    if reach:
        return min(reach, key=lambda n: result.figures[n][figure].value)
    return max(have, key=lambda n: result.figures[n]["area"].value, default=None)


def curves(result: Comparison, outcomes: Outcomes) -> Plot:
    """Return the plot a reader sees first: ours, the best of each kind of baseline, the mixture and the oracle."""
    best = [best_of(result, list(BASELINES)), best_of(result, [n + SAME_ARMS for n in BASELINES])]
    shown = [
        m for m in (OURS, *best, ONE_BUDGET, "fixed", "fixed known", "oracle") if m is not None and m in result.figures
    ]
    return deferral_plot(result, list(dict.fromkeys(shown)), outcomes)


def figures_table(result: Comparison, tried: Sequence[Tried]) -> Grid:
    """Return every figure of every method."""
    rows: dict[str, Mapping[str, Figure] | str] = {}
    for t in tried:
        rows[t.contender.name] = t.failed or result.figures[t.contender.name]
    rows |= {m: result.figures[m] for m in ("fixed", "fixed known", "oracle") if m in result.figures}
    return grid("Figures", rows, _FIGURES, strong=[OURS], about=MEANINGS)


def differences_table(result: Comparison) -> Grid:
    """Ours minus each other method, paired over queries."""
    rows = tuple(
        GridRow(LABELS.get(m, m), tuple(_difference(f, row[f]) for f in _DIFFERENCES))
        for m, row in result.differences.items()
    )
    heads = tuple(difference_head(name) for name in _DIFFERENCES)
    about = f"{RANGES} The last column is the other's cost at 95 % over ours."
    return Grid("Ours minus the other, paired", heads, rows, ("+.3f", "+.3f", "+.3f", "+.3f", ".2f"), about=about)


def _difference(name: str, figure: Figure) -> Figure | str | None:
    """Return a difference, or who it is that never gets to the quality."""
    if math.isinf(figure.value):
        return (
            "it never reaches the target quality"
            if (figure.value < 0) == (name == "qnc")
            else "ours never reaches the target quality"
        )
    return None if math.isnan(figure.value) else figure


def ahead_of_baselines(result: Comparison) -> str:
    """Against how many baselines ours is clearly ahead, and against which not."""
    words = []
    for kind, names in (("published-form", list(BASELINES)), ("same-arms", [n + SAME_ARMS for n in BASELINES])):
        have = [n for n in names if n in result.differences]
        if not have:
            words.append(f"No {kind} baseline is available on this table.")
            continue
        for figure, head in (("area", "Area"), ("qnc", "QNC")):
            rest = [n for n in have if not _ahead(figure, result.differences[n][figure])]
            text = f"{head}: clearly ahead of {len(have) - len(rest)} of {len(have)} {kind} baselines"
            words.append(text + (f" (not of {', '.join(rest)})." if rest else "."))
    return " ".join(words)


def _ahead(figure: str, difference: Figure) -> bool:
    """Is the interval clear of zero, on our side?"""
    return difference.high < 0 if figure == "qnc" else difference.low > 0


def headlines(result: Comparison, tasks: Sequence[tuple[str, Comparison | None]]) -> list[str]:
    """Return what came out, the most important first."""
    ours, said = result.figures[OURS], _alike(result)
    at = ours["cost_at_keep"]
    if result.best[1] <= 0:
        return said
    if math.isfinite(at.value):
        share = 0.95 * result.best[1]
        said.append(
            f"95 % of the best LLM's quality ({share:.3f} of {result.best_arm}'s {result.best[1]:.3f}) costs"
            f" {money(1000 * at.value)} per 1,000 requests with ours [{_usd(at.low)}, {_usd(at.high)}]; that LLM alone"
            f" costs {money(1000 * result.best[0])} at its full quality."
        )
        said += [text for m, words in _MIXTURES.items() for text in _mixture(result, m, words)]
        said += _rival(result)
    else:
        said.append("Ours does not reach 95 % of the best LLM's quality: routing does not help here at that level.")
    if math.isnan(ours["area"].value):
        said.append(
            "Areas are not available: fewer than two arms of different cost were observed on nearly all queries, or one"
            " is free."
        )
        return said
    return [*said, _above(result), *_on_tasks(tasks)]


_MIXTURES = {"fixed": "chosen on the other folds", "fixed known": "chosen with these outcomes known"}


def _above(result: Comparison) -> str:
    """Say where its curve is."""
    gaps = {m: result.differences[m]["area"] for m in _MIXTURES if m in result.differences}
    words = [f"{signed(gap)} against the one {_MIXTURES[m]}" for m, gap in gaps.items()]
    same = all(abs(v) <= _EQUAL for gap in gaps.values() for v in (gap.value, gap.low, gap.high) if not math.isnan(v))
    side = "as high as" if same else VERDICTS[result.verdict].side
    closed = result.figures[OURS]["gap_closed"]
    gap = f" It closes {signed(closed, '.1%')} of the gap from there to the oracle."
    return (
        f"Its curve is {side} the best mixture of fixed arms (area"
        f" {', '.join(words)}).{gap if math.isfinite(closed.value) else ''}"
    )


def _on_tasks(tasks: Sequence[tuple[str, Comparison | None]]) -> list[str]:
    """On how many tasks ours is clearly above or below each mixture, and on how many it has less area, clearly or
    not.
    """
    known = [
        (task, part) for task, part in tasks if part is not None and math.isfinite(part.figures[OURS]["area"].value)
    ]
    said = []
    for m, words in _MIXTURES.items():
        gaps = [(task, part.differences[m]["area"]) for task, part in known if m in part.differences]
        if not gaps:
            continue
        above = sum(gap.low > _EQUAL for _, gap in gaps)
        below = [task for task, gap in gaps if gap.high < -_EQUAL]
        under = sum(gap.value < -_EQUAL for _, gap in gaps)
        named = f" ({', '.join(below)})" if below else ""
        said.append(
            f"On {len(gaps)} tasks against the mixture {words}: clearly above on {above}, clearly below on"
            f" {len(below)}{named}; the difference is negative, clearly or not, on {under}."
        )
    return said


def _alike(result: Comparison) -> list[str]:
    """Said first where the arms do not differ, so that nothing can be gained by choosing among them."""
    quality = result.points["fixed known"][1]
    if result.best[1] <= 0:
        return [
            (
                "No arm has a quality above 0 on nearly all queries: there is nothing that a router could keep, and nothing"
                " to compare."
            )
        ]
    if len(quality) > 1 and float(quality.max() - quality.min()) <= _EQUAL:
        return [
            (
                f"All fixed arms have the same mean quality, {result.best[1]:.3f}: unless queries differ, the cheapest"
                " will do."
            )
        ]
    return []


def _mixture(result: Comparison, mixture: str, words: str) -> list[str]:
    """Return what that quality costs without any router, which is what ours must beat before all else."""
    if mixture not in result.differences:
        return []
    cost, times = result.figures[mixture]["cost_at_keep"].value, result.differences[mixture]["cheaper"]
    if not math.isfinite(times.value):
        return []
    clear = "" if times.low > 1 + _EQUAL or times.high < 1 - _EQUAL else ", which is no clear difference"
    return [
        f"The best mixture of fixed arms, {words}, costs {money(1000 * cost)} there: {as_much(times)} as much{clear}."
    ]


def _best(result: Comparison) -> tuple[str, Figure | None]:
    """Return the best baseline in its published form, and how many times as much it costs; the best is found again in
    every draw.
    """
    if PUBLISHED not in result.best_of:
        return "", None
    name, less = result.best_of[PUBLISHED]
    return name, less["cheaper"]


def _rival(result: Comparison) -> list[str]:
    """Return what the best baseline in its published form costs at that quality."""
    rival, times = _best(result)
    if times is None:
        return ["No baseline in its published form is available on this table."]
    if not math.isfinite(result.figures[rival]["cost_at_keep"].value):
        return ["No baseline in its published form reaches that quality."]
    if math.isnan(times.value):
        return []  # at no cost there is no ratio
    return [f"The best baseline in its published form there, {rival}, costs {as_much(times)} as much."]


def _usd(cost: float) -> str:
    return money(1000 * cost) if math.isfinite(cost) else "never"


def by_task(study: Study, found: Mapping[str, Sequence[Method]]) -> list[tuple[str, Comparison | None]]:
    """Compare ours with the mixture and the oracle for each task; None where it has too few queries, or no arm seen on
    nearly all of them.
    """
    names = sorted(set(study.data.table.tasks))
    if len(names) < 2:
        return []
    tasks = np.array(study.data.table.tasks)
    few = {m: found[m] for m in (OURS, *_MIXTURES, "oracle") if m in found}
    lines: list[tuple[str, Comparison | None]] = []
    for task in names:
        rows = np.flatnonzero(tasks == task)
        if len(rows) < MIN_QUERIES:
            lines.append((task, None))
            continue
        try:
            lines.append(
                (
                    task,
                    compare(few, study.data.outcomes, min(study.plan.resamples, _TASK_DRAWS), 0, base=OURS, rows=rows),
                )
            )
        except ValueError:
            lines.append((task, None))
    return lines


def one_by_one(study: Study, mine: Tried, tasks: Sequence[tuple[str, Comparison | None]]) -> list[Section]:
    """Return the dial in dollars, tasks, arms used."""
    data, draws = study.data, study.plan.resamples
    points = [
        (f"{share:.0%} of the best LLM's quality", operating_point(mine, data, share, draws, 0)) for share in SHARES
    ]
    sections = [Section("In dollars", (points_grid(points),))]
    if tasks:
        rows = []
        for task, part in tasks:
            if part is None:
                rows.append(GridRow(task, (float(study.data.table.tasks.count(task)), *[None] * 6)))
                continue
            area = [part.figures[m]["area"] if m in part.figures else None for m in (OURS, *_MIXTURES, "oracle")]
            area += [part.differences[m]["area"] if m in part.differences else None for m in _MIXTURES]
            rows.append(
                GridRow(task, (float(part.n), *(None if f is None else msgspec.structs.replace(f, n=0) for f in area)))
            )
        heads = ("queries", "ours", "mixture", "knowing mixture", "oracle", "ours minus mixture", "minus knowing one")
        about = (
            f"Not available where a task has fewer than {MIN_QUERIES} queries, or no arm that was observed on nearly"
            " all of them. The first mixture is chosen by all queries of the other folds, of whatever task; the"
            " knowing one by this task's outcomes."
        )
        formats = (",.0f", ".3f", ".3f", ".3f", ".3f", "+.3f", "+.3f")
        sections.append(Section("By task", (Grid("Area by task", heads, tuple(rows), formats, about=about),)))
    usual = points[1][1]
    if usual is not None:
        sections.append(Section("Which arms", (shares_grid(data.table.arms, usual.arms),)))
    if mine.views:
        values = _values(points, mine)
        sections.append(Section("Robustness", (robustness_grid(mine, data, values, draws, 0),)))
    return sections


def _values(points: Sequence[tuple[str, OperatingPoint | None]], mine: Tried) -> Sequence[float]:
    """Return the dial's setting at 95 %, or at 90 %; all the way up where neither is reached."""
    for _, point in (points[1], points[0]):
        if point is not None:
            return point.values
    return [float("inf")] * len(mine.routed)


def reviewers(study: Study, tried: Sequence[Tried]) -> list[Section]:
    """Return how good the forecasts are, whether budgets were kept, and what the work took."""
    data, draws = study.data, min(study.plan.resamples, _TASK_DRAWS)
    tokens = data.table.output_tokens
    rows = {
        t.contender.name: accuracy(t.forecasts, data.outcomes, tokens, draws, 0)
        for t in tried
        if not t.failed and t.contender.form == "arms"
    }
    parts: list[Grid | Paragraph] = [
        grid("Forecasts on all arms", rows, ("ece", "rmse", "token_factor", "token_bias"), strong=[OURS])
    ]
    kept = compliance(data.table)
    if kept:
        about = (
            "Share of answers with at most 1.1 times the tokens asked for; intervals by Wilson. Costs above count the"
            " tokens used."
        )
        parts.append(
            Grid(
                "Kept to the budget",
                ("compliance",),
                tuple(GridRow(str(arm), (f,)) for arm, f in kept),
                ("share",),
                ("more",),
                about,
            )
        )
    else:
        parts.append(
            Paragraph("No budget of this table is a number of tokens, so whether answers keep to it cannot be said.")
        )
    return [Section("For reviewers", (*parts, fitting_times(tried)), folded=True)]


def compared(
    data: EmbeddedTable, tried: Sequence[Tried], folds: Sequence[IntArray], resamples: int, base: str = OURS
) -> Comparison:
    """Return a comparison of what was tried, with the mixtures and the oracle."""
    return compare(comparable(tried, data, folds), data.outcomes, resamples, 0, base=base, groups=GROUPS)
