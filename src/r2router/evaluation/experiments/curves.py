"""The curves themselves, before any router: what each LLM's budgets are worth (the paper's Figure 1)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from r2router.evaluation.accuracy import COMPLIES, compliance, skipped
from r2router.evaluation.contenders import EmbeddedTable
from r2router.evaluation.experiment import Study
from r2router.evaluation.tables_and_plots import MIN_QUERIES, REQUESTS, line, signed
from r2router.figure import Figure
from r2router.metrics.crossfit import halves_of
from r2router.metrics.intervals import interval, weights
from r2router.report.findings import Findings, Grid, GridRow, Plot, Section
from r2router.types import Arm, FloatArray

_NEARLY_ALL = 0.95
_NAMED = 12

QUESTION = "What does a longer answer buy, of each LLM?"


def run(study: Study) -> Findings:
    """Quality, cost and tokens of every arm, drawn as one curve per LLM, over all queries and on each task."""
    data = study.data
    n, resamples = len(data), study.plan.resamples
    drawn = weights(n, resamples, 0)
    quality, cost = _means(data.outcomes.quality, drawn), _means(data.outcomes.cost, drawn)
    tokens = _means(data.table.output_tokens, drawn)
    seen = (~np.isnan(data.outcomes.quality)).sum(axis=0)
    every = _curves(data, cost)
    curves, apart = _comparable(data, every)
    halves = [_means(data.outcomes.quality, drawn * half) for half in halves_of(data.outcomes, np.arange(n))]
    series, answers, gains = [], [], []
    for model, arms in curves.items():
        figures = [interval("quality", quality[0, a], quality[1:, a], int(seen[a])) for a in arms]
        budgets = tuple(data.table.arms[a].budget for a in arms)
        curve = line(model, [REQUESTS * cost[0, a] for a in arms], figures)
        series.append(msgspec.structs.replace(curve, labels=budgets))
        if len(arms) < 2:  # one point is no curve
            continue
        best = max(arms, key=lambda a: quality[0, a])
        more = _gain(halves or [quality, quality], arms)
        gap = interval("gain", more[0], more[1:], n)
        at = f", at {cost[0, best] / cost[0, arms[0]]:.1f} times the cost" if cost[0, arms[0]] > 0 else ""
        first, top = (data.table.arms[a] for a in (arms[0], best))
        if best == arms[0]:
            answers.append(f"{model}: no budget is better than its cheapest, {first} ({quality[0, best]:.3f}).")
        else:
            answers.append(f"{model}: {top} is {signed(gap)} above {first}, its cheapest{at}.")
        gains.append(gap.value)
    order = np.argsort([-g for g in gains], kind="stable")
    plot = Plot(
        "Curves",
        f"US dollars per {REQUESTS:,} requests",
        "mean quality",
        tuple(series),
        bool((cost[0][~np.isnan(cost[0])] > 0).all()),
        "money",
        _BANDS,
    )
    parts = (plot, _arms(data, quality, cost, tokens, [a for arms in every.values() for a in arms]))
    sections = [Section("All queries", parts)]
    if (tasks := _tasks(data, curves)) is not None:
        sections.append(Section("By task", (tasks,)))
    asked = " that were asked of the same queries" if apart else ""
    told = [answers[i] for i in order] or [f"No LLM has two budgets{asked}: there are points, and no curves."]
    return study.findings(
        "curves",
        "What budgets are worth",
        QUESTION,
        told,
        sections,
        notes=[*_other_queries(data, apart), *skipped(data.table)],
    )


_BANDS = (
    "One point per budget. Bands: 95 %, bootstrap over queries. What the best budget gains is the gain of the budget"
    " that is best on one half of the queries, measured on the other half."
)


def _means(values: FloatArray, weights: FloatArray) -> FloatArray:
    """Return (draws, arms) means over the queries that were observed; NaN where none was."""
    seen = ~np.isnan(values)
    count = weights @ seen.astype(np.float64)
    total = weights @ np.where(seen, values, 0.0)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def _gain(halves: Sequence[FloatArray], arms: Sequence[int]) -> FloatArray:
    """Return (draws,) by how much the best of some arms is better than the first: chosen on one half of the queries,
    measured on the other.

    halves: (draws, arms) means of each half, as `halves_of` orders them: each beside its counterpart.
    """
    parts = []
    for own, other in ((halves[i], halves[i ^ 1]) for i in range(len(halves))):
        chosen = np.argmax(np.nan_to_num(own[:, arms], nan=-np.inf), axis=1)
        parts.append(np.take_along_axis(other[:, arms], chosen[:, None], axis=1)[:, 0] - other[:, arms[0]])
    return np.asarray(np.mean(parts, axis=0))


def _curves(data: EmbeddedTable, cost: FloatArray) -> dict[str, list[int]]:
    """Model -> its arms that were observed, the cheapest first."""
    found: dict[str, list[int]] = {}
    for column in np.argsort(cost[0], kind="stable"):
        if not np.isnan(cost[0, column]):
            found.setdefault(data.table.arms[column].model, []).append(int(column))
    return {model: found[model] for model in sorted(found)}


def _comparable(data: EmbeddedTable, curves: dict[str, list[int]]) -> tuple[dict[str, list[int]], list[int]]:
    """Return (curves of the arms that were observed on the same queries, the other arms).

    Of each model the arm with the most queries stays, and every arm that was observed on nearly all of those: means of
    other queries say which queries those are before they say what a budget is worth.
    """
    seen = data.outcomes.seen
    kept = dict[str, list[int]]()
    apart = list[int]()
    for model, arms in curves.items():
        fullest = max(arms, key=lambda a: int(seen[:, a].sum()))
        shared = {a: float(seen[seen[:, fullest], a].mean()) for a in arms}
        kept[model] = [a for a in arms if shared[a] >= _NEARLY_ALL]
        apart += [a for a in arms if shared[a] < _NEARLY_ALL]
    return kept, apart


def _other_queries(data: EmbeddedTable, arms: list[int]) -> list[str]:
    """Return a note on the arms that are on no curve."""
    if not arms:
        return []
    names = [str(data.table.arms[a]) for a in arms]
    listed = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    return [
        f"observed on other queries than their LLM's other budgets, so on no curve, and compared with none: {listed}"
    ]


def _arms(data: EmbeddedTable, quality: FloatArray, cost: FloatArray, tokens: FloatArray, order: list[int]) -> Grid:
    keeps: dict[Arm, Figure] = dict(compliance(data.table))
    rows = []
    for a in order:
        seen = int((~np.isnan(data.outcomes.quality[:, a])).sum())
        score, spent, used = (
            interval(name, v[0, a], v[1:, a], 0)
            for name, v in (("quality", quality), ("cost", cost), ("tokens", tokens))
        )
        arm = data.table.arms[a]
        rows.append(GridRow(str(arm), (float(seen), score, spent.scaled(REQUESTS), used, _bare(keeps.get(arm)))))
    heads = ("queries", "quality", "cost", "output tokens", "keep to the budget")
    about = (
        f"Keep to the budget: answers of at most {COMPLIES} times its tokens. Costs: US dollars per {REQUESTS:,}"
        " requests."
    )
    return Grid(
        "Every arm", heads, tuple(rows), (",.0f", ".3f", "money", ",.0f", "share"), ("", "more", "less", "", ""), about
    )


def _bare(figure: Figure | None) -> Figure | None:
    """Return the figure without the number of its queries, which stands in a column of its own."""
    return None if figure is None else msgspec.structs.replace(figure, n=0)


def _tasks(data: EmbeddedTable, curves: dict[str, list[int]]) -> Grid | None:
    """Task x model: quality at the cheapest and the most expensive budget."""
    names = np.array(data.table.tasks)
    sizes = {str(task): int((names == task).sum()) for task in np.unique(names)}
    tasks = [task for task, size in sizes.items() if size >= MIN_QUERIES]
    if len(tasks) < 2:  # one task is all queries again
        return None
    ends = [a for arms in curves.values() for a in dict.fromkeys((arms[0], arms[-1]))]
    rows = []
    for task in tasks:
        found = _means(data.outcomes.quality[names == task], np.ones((1, sizes[task])))[0]
        rows.append(GridRow(task, (float(sizes[task]), *(float(found[a]) for a in ends))))
    heads = ("queries", *(str(data.table.arms[a]) for a in ends))
    about = "Mean quality at each LLM's cheapest and most expensive budget."
    return Grid("Where length pays", heads, tuple(rows), (",.0f", *(".2f" for _ in ends)), about=about)
