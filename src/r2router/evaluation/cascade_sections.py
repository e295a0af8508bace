"""A cascade in a report: its curve beside others that ask several arms, what it did at each setting, and task by
task.
"""

from __future__ import annotations

import math
from typing import Any

from r2router.evaluation.cascades import CASCADE, ROUTING, CascadeFigures
from r2router.evaluation.tables_and_plots import LABELS, RANGES, REQUESTS, deferral_plot, grid, signed
from r2router.figure import Figure
from r2router.report.findings import Grid, GridRow, Paragraph, Section

_SHOWN = ("area", "gap_closed", "peak", "cost_at_keep", "cost_at_100")


def section_of(found: CascadeFigures, title: str = "Looking at answers: the cascade") -> Section:
    """Return the whole of it. Money is US dollars per 1,000 requests."""
    parts: list[Any] = [Paragraph(sentence(found))]
    parts += [_curves(found), _figures(found), _differences(found), _settings(found)]
    if found.tasks:
        parts.append(_tasks(found))
    return Section(title, tuple(parts))


def sentence(found: CascadeFigures) -> str:
    """Return whether looking pays here, in a sentence."""
    gain = found.comparison.differences[ROUTING]["area"]
    if not found.looks:
        return (
            "In training, looking at answers did not surely pay: this cascade does not look, and decides as the router"
            " does."
        )
    if math.isnan(gain.value):
        return "Whether looking pays cannot be said by area: the fixed arms all cost the same, or one is free."
    word = "pays" if gain.low > 0 else "loses" if gain.high < 0 else "makes no clear difference"
    return (
        f"Looking at answers {word} here: {signed(gain)} of mean quality over log cost against routing alone, all calls"
        f" paid, with {found.calls.value:.2f} calls per query on average over the settings."
    )


def _curves(found: CascadeFigures) -> Any:
    names = [
        m
        for m in (
            CASCADE,
            ROUTING,
            "threshold cascade",
            "cascade routing",
            "majority of three arms",
            "looking oracle",
            "fixed",
        )
        if m in _all(found)
    ]
    return deferral_plot(found.comparison, names, title="Mean quality that a mean cost buys, all calls paid")


def _all(found: CascadeFigures) -> dict[str, dict[str, Figure]]:
    return found.comparison.figures


def _figures(found: CascadeFigures) -> Grid:
    about = (
        "Twelve settings each. Ours are values of a correct answer, fixed by forecast costs; lists, thresholds and voters"
        " of the others are those that were worth most on the other half of the queries. The oracle that looks sees how"
        " good an answer is once it has asked for it."
    )
    return grid("Ways to ask several arms", _all(found), [n for n in _SHOWN if _known(found, n)], (CASCADE,), about)


def _known(found: CascadeFigures, name: str) -> bool:
    return any(name in row and not math.isnan(row[name].value) for row in _all(found).values())


def _differences(found: CascadeFigures) -> Grid:
    rows = tuple(
        GridRow(LABELS.get(m, m), (row["area"], row["area_zero"]))
        for m, row in found.comparison.differences.items()
        if "area" in row
    )
    heads = ("cascade minus it, area where both have it", "cascade minus it, 0 below the cheapest")
    return Grid("Paired differences", heads, rows, ("+.4f", "+.4f"), ("more", "more"), RANGES)


def _settings(found: CascadeFigures) -> Grid:
    timed = any(math.isfinite(line.all_s) for line in found.settings)
    heads = [
        "cost",
        "mean quality",
        "calls per query",
        "stopped too early",
        "asked on needlessly",
        "accepted a worse one",
    ]
    forms = ["money", ".3f", ".2f", "share", "share", "share"]
    if timed:
        heads = [*heads, "seconds, first call", "seconds, all calls", "95 % below"]
        forms = [*forms, ".2f", ".2f", ".2f"]
    rows = []
    for line in found.settings:
        cells = [REQUESTS * line.cost, line.quality, line.calls, line.wrong, line.needless, line.worse]
        cells += [line.first_s, line.all_s, line.late_s] if timed else []
        rows.append(GridRow(_usd(line.usd), tuple(None if math.isnan(c) else c for c in cells)))
    about = (
        "One row per value of a correct answer. Stopped too early: an arm that it might have asked had a better answer."
        " Asked on needlessly: an answer that it had already was as good as the accepted one. Accepted a worse one:"
        " than the best it had seen."
        + (
            ""
            if timed
            else (
                " The table has no times (column latency_s): calls come one after the other, so that their times"
                " add up."
            )
        )
    )
    return Grid("What it did", tuple(heads), tuple(rows), tuple(forms), about=about)


def _usd(usd: float) -> str:
    from r2router.text import money

    return f"a correct answer is worth {money(usd)}"


def _tasks(found: CascadeFigures) -> Grid:
    rows = tuple(
        GridRow(t.task, (float(t.queries), None if math.isnan(t.gain.value) else t.gain, t.calls, t.wrong, t.needless))
        for t in found.tasks
    )
    heads = (
        "queries",
        "cascade minus routing alone (area)",
        "calls per query",
        "stopped too early",
        "asked on needlessly",
    )
    about = (
        "Means over the settings. No difference where a task has too few queries, or no arm seen on nearly all of them."
    )
    return Grid("The cascade by task", heads, rows, (",.0f", "+.3f", ".2f", "share", "share"), about=about)


def plain_of(found: CascadeFigures) -> dict[str, Any]:
    """Everything, in types that JSON has."""
    import msgspec

    c = found.comparison
    rows = {m: {k: _figure(f) for k, f in row.items()} for m, row in c.figures.items()}
    return {
        "looks": found.looks,
        "calls": _figure(found.calls),
        "figures": rows,
        "differences": {m: {k: _figure(f) for k, f in row.items()} for m, row in c.differences.items()},
        "settings": [{k: _number(v) for k, v in msgspec.to_builtins(line).items()} for line in found.settings],
        "tasks": {
            t.task: {
                "queries": t.queries,
                "area": _figure(t.gain),
                "calls": t.calls,
                "wrong": t.wrong,
                "needless": t.needless,
            }
            for t in found.tasks
        },
    }


def _figure(figure: Figure) -> dict[str, Any]:
    return {"value": _number(figure.value), "low": _number(figure.low), "high": _number(figure.high), "n": figure.n}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
