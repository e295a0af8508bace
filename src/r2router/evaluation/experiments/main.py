"""All methods on equal terms: the paper's main comparison (its Table 5 and Figure 4), with what its critics asked for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from r2router.encode import embed
from r2router.encode.registry import Given
from r2router.evaluation.accuracy import accuracy, compliance
from r2router.evaluation.contenders import Data, Form, Tried, attempt, comparable, needed
from r2router.evaluation.experiment import Study, failures
from r2router.evaluation.methods import BASELINES, ONE_BUDGET, OURS, SAME_ARMS, everybody, published
from r2router.evaluation.operating_points import SHARES, Point, operating_point, points_grid, shares_grid
from r2router.evaluation.robustness import noisy_views, robustness_grid
from r2router.evaluation.tables_and_plots import FIGURES, LABELS, LEAST_QUERIES, MEANINGS, as_much, deferral_plot, grid, signed
from r2router.figure import Figure
from r2router.metrics.score import Comparison, Method, Outcomes, compare
from r2router.report.findings import Findings, Grid, Plot, Row, Section, Words
from r2router.text import money
from r2router.types import FloatArray, IntArray

QUESTION = "Is routing over (model, budget) pairs worth more than routing over models, whatever the router?"

_FIGURES = ("area", "gap_closed", "audc", "qnc", "qnc_100", "peak", "cost_at_keep")
_DIFFERENCES = ("area", "audc", "qnc", "cheaper")
_TASK_DRAWS = 200
_EQUAL = 1e-9  # qualities that differ by less are rounded differently and no more


def run(study: Study) -> Findings:
    """Every baseline in both forms beside ours."""
    return against(study, "main", "Every method, every trade-off", QUESTION, "one budget")


def against(study: Study, name: str, title: str, question: str, form: Form) -> Findings:
    """Ours beside the baselines on one budget an LLM, chosen as `form` says, and on the same arms."""
    data, plan = study.data, study.plan
    contenders = [c if c.form == "arms" or c.name == ONE_BUDGET else type(c)(c.name, c.learner, form) for c in everybody(study.learner)]
    folds = plan.folds_of(data)
    mine = needed(attempt(contenders[:1], data, folds, study.progress, _views(study))[0])
    tried = [mine, *attempt(contenders[1:], data, folds, study.progress)]
    found = comparable(tried, data.outcomes)
    result = compare(found, data.outcomes, plan.resamples, 0, base=OURS, progress=study.progress)
    answers, thriftier = headlines(result, task_lines(study, found)), list[Grid]()
    if form == "one budget":
        answers, thriftier = _thrifty(study, mine, folds, answers)
    sections = [
        Section("Quality and cost", (curves(result, data.outcomes), figures_table(result, tried))),
        Section("Ours against each", (differences_table(result), Words(verdict(result)), *thriftier)),
        *one_by_one(study, mine, found, result),
        *reviewers(study, tried),
    ]
    return study.findings(name, title, question, answers, sections, notes=failures(tried))


def _thrifty(study: Study, mine: Tried, folds: Sequence[IntArray], answers: list[str]) -> tuple[list[str], list[Grid]]:
    """What is left of the gain where baselines have each LLM at a budget that costs less for nearly its quality: (answers with a sentence
    more, the grid); the best budget by quality may cost several times as much for next to nothing.
    """
    tried = attempt(published("thrifty"), study.data, folds, study.progress)
    found = comparable([mine, *tried], study.data.outcomes)
    result = compare(found, study.data.outcomes, study.plan.resamples, 0, base=OURS, progress=study.progress)
    names, lines = ("area", "qnc", "cheaper"), []
    for t in tried:
        row = result.differences.get(t.contender.name)
        cells = (f"not available: {t.failed}", None, None) if row is None else tuple(_difference(name, row[name]) for name in names)
        lines.append(Row(t.contender.name, cells))
    about = (
        "Each LLM at its cheapest budget that keeps 95 % of its best quality in the training part. The last column is the other's cost at "
        "95 % over ours."
    )
    heads = tuple(FIGURES[name][0] for name in names)
    shown = Grid("Ours minus baselines with a thriftier budget an LLM, paired", heads, tuple(lines), ("+.3f", "+.3f", ".2f"), about=about)
    rival = best_of(result, list(BASELINES))
    times = result.differences[rival]["cheaper"] if rival is not None else None
    if times is None or not math.isfinite(times.value) or result.best[1] <= 0:
        return answers, [shown]
    said = f"Were each LLM at a thriftier budget, the best baseline, {rival}, would cost {as_much(times)} as much."
    at = next((i + 1 for i, answer in enumerate(answers) if "published form" in answer), len(answers))
    return [*answers[:at], said, *answers[at:]], [shown]


def _views(study: Study) -> dict[str, FloatArray]:
    """Noisy copies of the queries, where there is an encoder to embed them with."""
    if isinstance(study.data.encoder, Given):
        return {}
    return noisy_views(study.data, lambda texts: embed(study.data.encoder, texts, study.progress), 0)


def best_of(result: Comparison, names: Sequence[str], figure: str = "cost_at_keep") -> str | None:
    """The method with the least such cost; by area where none gets there."""
    have = [n for n in names if n in result.figures]
    reach = [n for n in have if math.isfinite(result.figures[n][figure].value)]
    if reach:
        return min(reach, key=lambda n: result.figures[n][figure].value)
    return max(have, key=lambda n: result.figures[n]["area"].value, default=None)


def curves(result: Comparison, outcomes: Outcomes) -> Plot:
    """The plot a reader sees first: ours, the best of each kind of baseline, the mixture and the oracle."""
    best = [best_of(result, list(BASELINES)), best_of(result, [n + SAME_ARMS for n in BASELINES])]
    shown = [m for m in (OURS, *best, ONE_BUDGET, "fixed", "oracle") if m is not None and m in result.figures]
    return deferral_plot(result, list(dict.fromkeys(shown)), outcomes)


def figures_table(result: Comparison, tried: Sequence[Tried]) -> Grid:
    """Every figure of every method."""
    rows: dict[str, Mapping[str, Figure] | str] = {}
    for t in tried:
        rows[t.contender.name] = t.failed or result.figures[t.contender.name]
    rows |= {m: result.figures[m] for m in ("fixed", "oracle")}
    return grid("Figures", rows, _FIGURES, strong=[OURS], about=MEANINGS)


def differences_table(result: Comparison) -> Grid:
    """Ours minus each other method, paired over queries."""
    rows = tuple(Row(LABELS.get(m, m), tuple(_difference(f, row[f]) for f in _DIFFERENCES)) for m, row in result.differences.items())
    heads = tuple(FIGURES[name][0] for name in _DIFFERENCES)
    about = "The last column is the other's cost at 95 % over ours."
    return Grid("Ours minus the other, paired", heads, rows, ("+.3f", "+.3f", "+.3f", ".2f"), about=about)


def _difference(name: str, figure: Figure) -> Figure | str | None:
    """A difference, or who it is that never gets to the quality."""
    if math.isinf(figure.value):
        return "it never gets there" if (figure.value < 0) == (name == "qnc") else "ours never gets there"
    return None if math.isnan(figure.value) else figure


def verdict(result: Comparison) -> str:
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


def headlines(result: Comparison, tasks: Sequence[tuple[str, Figure]]) -> list[str]:
    """What came out, the most important first."""
    ours, said = result.figures[OURS], _alike(result)
    at, rival = ours["cost_at_keep"], best_of(result, list(BASELINES))
    if result.best[1] <= 0:
        return said
    if math.isfinite(at.value):
        share = 0.95 * result.best[1]
        said.append(
            f"95 % of the best LLM's quality ({share:.3f} of {result.best_arm}'s {result.best[1]:.3f}) costs {money(1000 * at.value)} per "
            f"1,000 requests with ours [{_usd(at.low)}, {_usd(at.high)}]; that LLM alone costs {money(1000 * result.best[0])} at its full "
            "quality."
        )
        said += _mixture(result)
        said += _rival(result, rival)
    else:
        said.append("Ours does not reach 95 % of the best LLM's quality: routing does not help here at that level.")
    gain, closed = result.differences["fixed"]["area"], ours["gap_closed"]
    if math.isnan(gain.value):
        said.append("Areas are not available: fewer than two arms of different cost were observed on nearly all queries, or one is free.")
        return said
    clear = "clearly" if gain.low > 0 or gain.high < 0 else "not clearly"
    side = "as high as" if abs(gain.value) <= _EQUAL else "above" if gain.value > 0 else "below"
    gap = f" and closes {closed.value:.1%} [{closed.low:.1%}, {closed.high:.1%}] of the gap from there to the oracle"
    curve = side if side == "as high as" else f"{clear} {side}"
    said.append(f"Its curve is {curve} the best mixture of fixed arms (area {signed(gain)}){gap if math.isfinite(closed.value) else ''}.")
    known = [(task, figure) for task, figure in tasks if math.isfinite(figure.value)]
    worse = [task for task, figure in known if figure.value < -_EQUAL]
    if known:
        said.append(f"Below the mixture on {len(worse)} of {len(known)} tasks{': ' + ', '.join(worse) if worse else ''}.")
    return said


def _alike(result: Comparison) -> list[str]:
    """Said first where the arms do not differ, so that nothing can be gained by choosing among them."""
    quality = result.points["fixed"][1]
    if result.best[1] <= 0:
        return ["No arm has a quality above 0 on nearly all queries: there is nothing that a router could keep, and nothing to compare."]
    if len(quality) > 1 and float(quality.max() - quality.min()) <= _EQUAL:
        return [f"All fixed arms have the same mean quality, {result.best[1]:.3f}: unless queries differ, the cheapest will do."]
    return []


def _mixture(result: Comparison) -> list[str]:
    """What that quality costs without any router, which is what ours must beat before all else."""
    cost, times = result.figures["fixed"]["cost_at_keep"].value, result.differences["fixed"]["cheaper"]
    if not math.isfinite(times.value):
        return []
    clear = "" if times.low > 1 or times.high < 1 or math.isnan(times.low) else ", which is no clear difference"
    cost_there = f"costs {money(1000 * cost)} there: {as_much(times)} as much{clear}."
    return [f"The best mixture of fixed arms, chosen with these outcomes known, {cost_there}"]


def _rival(result: Comparison, rival: str | None) -> list[str]:
    """What the best baseline in its published form costs at that quality."""
    if rival is None:
        return ["No baseline in its published form is available on this table."]
    if not math.isfinite(result.figures[rival]["cost_at_keep"].value):
        return ["No baseline in its published form gets to that quality."]
    times = result.differences[rival]["cheaper"]
    if math.isnan(times.value):
        return []  # at no cost there is no ratio
    return [f"The best baseline in its published form there, {rival}, costs {as_much(times)} as much."]


def _usd(cost: float) -> str:
    return money(1000 * cost) if math.isfinite(cost) else "never"


def task_lines(study: Study, found: Mapping[str, Sequence[Method]]) -> list[tuple[str, Figure]]:
    """For each task the difference of area, ours minus the mixture of fixed arms."""
    return [(task, result.differences["fixed"]["area"]) for task, result in by_task(study, found) if result is not None]


def by_task(study: Study, found: Mapping[str, Sequence[Method]]) -> list[tuple[str, Comparison | None]]:
    """For each task ours beside the mixture and the oracle; None where it has too few queries, or no arm seen on nearly all of them."""
    names = sorted(set(study.data.table.tasks))
    if len(names) < 2:
        return []
    tasks, few = np.array(study.data.table.tasks), {m: found[m] for m in (OURS, "fixed", "oracle")}
    lines: list[tuple[str, Comparison | None]] = []
    for task in names:
        rows = np.flatnonzero(tasks == task)
        if len(rows) < LEAST_QUERIES:
            lines.append((task, None))
            continue
        try:
            lines.append((task, compare(few, study.data.outcomes, min(study.plan.resamples, _TASK_DRAWS), 0, base=OURS, rows=rows)))
        except ValueError:
            lines.append((task, None))
    return lines


def one_by_one(study: Study, mine: Tried, found: Mapping[str, Sequence[Method]], result: Comparison) -> list[Section]:
    """The dial in dollars, tasks, arms used."""
    data, draws = study.data, study.plan.resamples
    points = [(f"{share:.0%} of the best LLM's quality", operating_point(mine, data, share, draws, 0)) for share in SHARES]
    sections = [Section("In dollars", (points_grid(points),))]
    lines = by_task(study, found)
    if lines:
        rows = []
        for task, part in lines:
            if part is None:
                rows.append(Row(task, (float(study.data.table.tasks.count(task)), None, None, None, None)))
                continue
            area = [*(part.figures[m]["area"] for m in (OURS, "fixed", "oracle")), part.differences["fixed"]["area"]]
            rows.append(Row(task, (float(part.n), *(msgspec.structs.replace(figure, n=0) for figure in area))))
        heads = ("queries", "ours", "mixture", "oracle", "ours minus mixture")
        about = f"Not available where a task has fewer than {LEAST_QUERIES} queries, or no arm that was observed on nearly all of them."
        formats = (",.0f", ".3f", ".3f", ".3f", "+.3f")
        sections.append(Section("By task", (Grid("Area by task", heads, tuple(rows), formats, about=about),)))
    usual = points[1][1]
    if usual is not None:
        sections.append(Section("Which arms", (shares_grid(data.table.arms, usual.arms),)))
    if mine.views:
        values = _values(points, mine)
        sections.append(Section("Robustness", (robustness_grid(mine, data, values, draws, 0),)))
    return sections


def _values(points: Sequence[tuple[str, Point | None]], mine: Tried) -> Sequence[float]:
    """The dial's setting at 95 %, or at 90 %; all the way up where neither is reached."""
    for _, point in (points[1], points[0]):
        if point is not None:
            return point.values
    return [float("inf")] * len(mine.routed)


def reviewers(study: Study, tried: Sequence[Tried]) -> list[Section]:
    """How good the forecasts are, whether budgets were kept, and what the work took."""
    data, draws = study.data, min(study.plan.resamples, _TASK_DRAWS)
    tokens = data.table.output_tokens
    rows = {
        t.contender.name: accuracy(t.forecasts, data.outcomes, tokens, draws, 0)
        for t in tried
        if not t.failed and t.contender.form == "arms"
    }
    parts: list[Grid | Words] = [grid("Forecasts on all arms", rows, ("ece", "rmse", "token_factor", "token_bias"), strong=[OURS])]
    kept = compliance(data.table)
    if kept:
        about = "Share of answers with at most 1.1 times the tokens asked for; intervals by Wilson. Costs above count the tokens used."
        parts.append(
            Grid("Kept to the budget", ("compliance",), tuple(Row(str(arm), (f,)) for arm, f in kept), ("share",), ("more",), about)
        )
    else:
        parts.append(Words("No budget of this table is a number of tokens, so whether answers keep to it cannot be said."))
    spent = Grid("Work", ("seconds",), tuple(Row(t.contender.name, (t.seconds,)) for t in tried if not t.failed), (".1f",), ("less",))
    return [Section("For reviewers", (*parts, spent), folded=True)]


def judged(data: Data, tried: Sequence[Tried], resamples: int, base: str = OURS) -> Comparison:
    """A comparison of what was tried, with the mixture and the oracle."""
    return compare(comparable(tried, data.outcomes), data.outcomes, resamples, 0, base=base)
