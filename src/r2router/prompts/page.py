"""Savings in words, tables and a plot: what the terminal and the web page show."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from r2router._version import __version__
from r2router.figure import Figure
from r2router.predict.domain_stats import THIN
from r2router.prompts.promise import UNKNOWN
from r2router.report.findings import Findings, Grid, GridRow, Paragraph, Plot, Section, Series
from r2router.text import money

if TYPE_CHECKING:
    from r2router.prompts.savings import DomainFigures, Savings, WayFigures

_COLUMNS = ("US dollars per 1,000 requests", "less than now", "quality", "quality minus now")
_FORMS = ("money", "share", ".2f", "+.3f")
_MAX_ARMS = 6
_INTERVALS = (
    "What is promised here are forecasts. Their intervals are as wide as such promises were wrong on tasks of the"
    " public record that a router had not seen, with the chance of single answers; what choosing the best of many"
    " forecasts flatters is taken off. Quality is that of answers with a right and a wrong, from 0 to 1. Costs are list"
    " prices without caching, and what is sent before a prompt in a chat is paid for too."
)


def findings_of(found: Savings, command: str = "") -> Findings:
    """Return the savings as findings."""
    whose = " of yours" if any(way.name == "your models" for way in found.ways) else ""
    ways = Grid(
        "At today's quality",
        _COLUMNS,
        tuple(_row(way, strong=way is found.routed) for way in found.ways),
        _FORMS,
        about=(
            f"The least cost at which the forecast quality is that of today's model. A pool of few arms{whose} is"
            " chosen step by step."
        ),
    )
    best = Grid(
        "At today's cost",
        _COLUMNS,
        tuple(map(_row, found.at_cost)),
        _FORMS,
        about="The best forecast quality for what is spent now.",
    )
    sections = [
        Section("What these prompts would cost", (ways, best, _plot(found))),
        Section("Which models would answer", (_arms(found),)),
    ]
    if found.domains and (len(found.domains) > 1 or found.domains[0].domain):
        sections.append(Section("By kind of prompt", (_domains(found), Paragraph(_kinds(found)))))
    return Findings(
        name="savings",
        title="What would these prompts cost?",
        question=f"{_count(found)}, with {found.now} now and with a router instead. Nothing was called.",
        answers=tuple(_answers(found)),
        sections=(*sections, Section("What the intervals mean", (Paragraph(_INTERVALS),))),
        sources=() if found.source is None else (found.source,),
        settings={"r2router": __version__, "now": found.now, "seed": found.seed},
        command=command,
        notes=(
            *found.notes,
            *(f"rows without a prompt: {count:,} ({why})" for why, count in found.left_out),
        ),
    )


def _count(found: Savings) -> str:
    drawn = f" (of {found.read:,})" if found.read != found.prompts else ""
    return f"{found.prompts:,} prompt{'s' if found.prompts != 1 else ''}{drawn}"


def _answers(found: Savings) -> list[str]:
    """Return what came out, the most important first."""
    if found.unknown == 1:
        return [
            (
                "All of these prompts are unlike anything that was graded: how well models answer them is not known, no"
                " saving is promised."
            ),
            (
                "The figures below go by the models' averages over everything else. Grade answers of your own (r2router"
                " collect) and train."
            ),
        ]
    now = found.ways[0]
    lines = [_saved(found.routed, now, found.now)]
    lines += [_saved(way, now, found.now) for way in found.ways if way.name == "all models" and way is not found.routed]
    pools = [way for way in found.ways if way.name.startswith("best pool") and way.met]
    if pools and (few := _enough(pools)) is not None:
        names = ", ".join(arm for arm, _ in few.arms[:_MAX_ARMS])
        many = "1 arm is" if len(few.arms) == 1 else f"{len(few.arms)} arms are"
        lines.append(f"{many} enough for {_percent(few.saving)} less: {names}.")
    lines += [
        _better(way) for way in found.at_cost if way.name == found.routed.name and way.met and way.gain.value > 0.0005
    ]
    if found.unknown > 0:
        lines.append(
            f"{_share(found.unknown)} of the prompts are unlike anything that was graded; what is said of them is a"
            " guess."
        )
    if found.little > 0:
        lines.append(f"{_share(found.little)} are of kinds of which fewer than {THIN} queries were graded.")
    return lines


def _saved(way: WayFigures, now: WayFigures, arm: str) -> str:
    whose = f"With a router over {way.name}"
    costs = f"{money(way.cost.value)} instead of {money(now.cost.value)} per 1,000 requests"
    if not way.met:
        return (
            f"{whose} the quality of {arm} is not reached: {way.quality.value:.2f} instead of {now.quality.value:.2f},"
            f" for {costs}."
        )
    if way.saving.value <= 0:
        return f"{whose} nothing is saved at the quality of {arm}."
    sure = "" if way.saving.low > 0 else ", which may be nothing"
    return (
        f"{whose} these prompts would cost {costs}, at the quality of {arm}: {_percent(way.saving)} less"
        f" {_span(way.saving)}{sure}."
    )


def _better(way: WayFigures) -> str:
    sure = "" if way.gain.low > 0 else ", which may be nothing"
    return (
        f"At today's cost, the router over {way.name} would give quality {way.quality.value:.2f}: {way.gain.value:+.3f}"
        f" [{way.gain.low:+.3f}, {way.gain.high:+.3f}]{sure}."
    )


def _enough(pools: list[WayFigures]) -> WayFigures | None:
    """Return the smallest pool with nine tenths of the best one's saving."""
    maximum = max(pool.saving.value for pool in pools)
    return next((pool for pool in pools if pool.saving.value >= 0.9 * maximum), None) if maximum > 0 else None


def _row(way: WayFigures, strong: bool = False) -> GridRow:
    name = way.name if way.met else f"{way.name} (does not reach it)"
    now = way.name == "now"
    return GridRow(name, (way.cost, None if now else way.saving, way.quality, None if now else way.gain), strong=strong)


def _arms(found: Savings) -> Grid:
    rows = []
    for way in (*found.ways, *(w for w in found.at_cost if w.name == found.routed.name)):
        shown = ", ".join(f"{arm} {_share(share)}" for arm, share in way.arms[:_MAX_ARMS])
        left = len(way.arms) - _MAX_ARMS
        name = way.name if way in found.ways else f"{way.name}, at today's cost"
        rows.append(GridRow(name, (shown + (f" and {left} more" if left > 0 else ""),)))
    return Grid("", ("arms, share of the prompts",), tuple(rows))


def _domains(found: Savings) -> Grid:
    rows = tuple(GridRow(_kind(part), _part(part)) for part in found.domains)
    heads = (
        "of the prompts",
        "graded",
        "now: US dollars per 1,000",
        "saved by the router",
        "now: quality",
        "quality minus now",
    )
    about = (
        f"The router is that over {found.routed.name}, at the setting that gives today's quality over all prompts"
        " together."
    )
    return Grid("", heads, rows, ("share", ",.0f", "money", "share", ".2f", "+.3f"), about=about)


def _part(part: DomainFigures) -> tuple[Figure | float, ...]:
    return part.share, float(part.graded), part.now.cost, part.routed.saving, part.now.quality, part.routed.gain


def _kind(part: DomainFigures) -> str:
    return "unlike anything graded" if part.domain == UNKNOWN else part.domain or "all"


def _kinds(found: Savings) -> str:
    return (
        f"Graded: queries of the kind in the public record that the router learned from. {_share(found.unknown)} of the"
        " prompts are unlike anything that was graded, or of a kind of which nothing was: for them the averages of all"
        " kinds stand in, with intervals as wide."
    )


def _plot(found: Savings) -> Plot:
    series = []
    for name, ways in (("at today's quality", found.ways[1:]), ("at today's cost", found.at_cost)):
        points = [way for way in ways if way.cost.value > 0]
        if points:
            series.append(_series(name, points))
    return Plot(
        "Cost and quality",
        "US dollars per 1,000 requests (log scale)",
        "quality",
        (_series("now", [found.ways[0]], strong=True), *series),
        log_x=True,
        x_unit="money",
        about="Forecasts; the table has their intervals.",
    )


def _series(name: str, ways: list[WayFigures], strong: bool = False) -> Series:
    costs = tuple(way.cost.value for way in ways)
    qualities = tuple(way.quality.value for way in ways)
    return Series(name, costs, qualities, labels=tuple(way.name for way in ways), style="points", strong=strong)


def _percent(figure: Figure) -> str:
    return f"{100 * figure.value:.0f} %"


def _span(figure: Figure) -> str:
    low, high = ("more" if not math.isfinite(v) else f"{100 * v:.0f}" for v in (figure.low, figure.high))
    return f"[{low}, {high}]"


def _share(part: float) -> str:
    """A share is never rounded to none or all."""
    return f"{100 * part:.0f} %" if part in (0.0, 1.0) else f"{min(max(round(100 * part), 1), 99)} %"
