"""What is drawn, before it is drawn: lines of points, most often over a logarithmic axis of cost."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

import numpy as np

from r2router.metrics.frontier import upper_envelope
from r2router.text import money, request_cost
from r2router.types import Arm, BoolArray, Curve, Decision

_MANY = 12  # models whose lines can be told apart
_FREE_STEP = 3.0  # how far left of the cheapest other point something that costs nothing is drawn: log 0 is nowhere


@dataclass(frozen=True, slots=True)
class ChartPoint:
    """A point of a line.

    x: most often US dollars, at least 0.
    y: quality.
    label: its name beside the line's.
    note: what a person reads on hovering over it.

    A y that is not finite is a gap in the line.
    """

    x: float
    y: float
    label: str = ""
    note: str = ""

    @property
    def known(self) -> bool:
        return math.isfinite(self.x) and math.isfinite(self.y)


@dataclass(frozen=True, slots=True)
class Line:
    """A named line through points; they are joined by rising x.

    band: (x, low, high) around it.
    joined: false for points without a line.
    dots: each point is marked; false for curves of many points.
    strong: the line to look at.
    faint: what lies in the background, small and grey.
    """

    name: str
    points: tuple[ChartPoint, ...]
    band: tuple[tuple[float, float, float], ...] = ()
    joined: bool = True
    dots: bool = True
    strong: bool = False
    faint: bool = False

    def runs(self) -> list[list[ChartPoint]]:
        """Return the stretches between gaps."""
        return [list(run) for known, run in groupby(self.points, lambda p: p.known) if known]


@dataclass(frozen=True)
class Chart:
    """Lines over an axis of US dollars.

    mark: the point that was chosen.
    about: a sentence under the title.
    log: the x axis is logarithmic.
    money: its ticks are US dollars.
    stamp: written across the picture, where it must not be missed.
    """

    title: str
    lines: tuple[Line, ...]
    mark: ChartPoint | None = None
    about: str = ""
    x_label: str = "cost per 1,000 requests, US dollars (log scale)"
    y_label: str = "quality"
    log: bool = True
    money: bool = True
    stamp: str = ""

    def layers(self) -> list[tuple[int, Line]]:
        """Return (number, line) in the order of drawing: what is faint lies beneath."""
        return sorted(enumerate(self.lines), key=lambda numbered: not numbered[1].faint)

    @cached_property
    def _all(self) -> tuple[list[float], list[float]]:
        """The x and the y of everything that must fit into the picture."""
        points = [p for line in self.lines for p in line.points if p.known] + ([] if self.mark is None else [self.mark])
        band = [edge for line in self.lines for edge in line.band if all(map(math.isfinite, edge))]
        return [p.x for p in points] + [x for x, _, _ in band], [p.y for p in points] + [
            y for _, *edges in band for y in edges
        ]

    def span(self) -> tuple[float, float, float, float]:
        """Return (lowest place on the x axis, highest, lowest y, highest), with some room around the points."""
        return self._span

    @cached_property
    def _span(self) -> tuple[float, float, float, float]:
        xs, ys = self._all
        if self.log:
            paid = [x for x in xs if x > 0] or [1.0]
            low, high = math.log10(min(paid)), math.log10(max(paid))
            if len(paid) < len(xs):
                low -= math.log10(_FREE_STEP)
            room = max(0.04 * (high - low), 0.05)
        else:
            low, high = min(xs, default=0.0), max(xs, default=1.0)
            room = 0.04 * (high - low) or 0.05 * abs(high) or 1.0
        bottom, top = min(ys, default=0.0), max(ys, default=1.0)
        air = max(0.06 * (top - bottom), 0.01)
        floor = bottom - air if bottom < 0 else max(bottom - air, 0.0)
        return low - room, high + room, floor, top + air if top > 1 else min(top + air, 1.0)

    def across(self, x: float) -> float:
        """Place an x on its axis (log10 on a log axis); there, a cost of zero is left of everything else."""
        if not self.log:
            return x
        if x > 0:
            return math.log10(x)
        low, high, _, _ = self._span
        return low + max(0.04 * (high - low) / 1.08, 0.05)

    def x_ticks(self, maximum: int) -> list[tuple[float, str]]:
        """Return (place on the axis, label) of at most so many ticks, on a log axis at 1, 2 and 5 times powers
        of ten.
        """
        low, high, _, _ = self._span
        if not self.log:
            return [(x, tick_money(x) if self.money else label) for x, label in linear_ticks(low, high, maximum)]
        free = any(x <= 0 for x in self._all[0])
        edge = low + math.log10(_FREE_STEP) if free else low  # no prices beside the "$0" that stands for nothing
        write = tick_money if self.money else "{:,g}".format
        ticks = [(math.log10(v), write(v)) for v in log_ticks(edge, high, maximum)]
        return [(self.across(0.0), write(0.0)), *ticks] if free else ticks

    def y_ticks(self, maximum: int) -> list[tuple[float, str]]:
        """Return (y, label) of at most so many ticks."""
        _, _, low, high = self._span
        return linear_ticks(low, high, maximum)


def log_ticks(low: float, high: float, maximum: int) -> list[float]:
    """Round numbers between 10**low and 10**high: 1, 2, 5 times powers of ten, or fewer where those are too many."""
    decades = range(math.floor(low), math.ceil(high) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [f * 10.0**d for d in decades for f in factors if low <= math.log10(f) + d <= high]
        if len(ticks) <= maximum:
            break
    step = max(math.ceil(len(ticks) / max(maximum, 1)), 1)
    return ticks[::step]


def linear_ticks(low: float, high: float, maximum: int) -> list[tuple[float, str]]:
    """Round numbers from low to high with their labels."""
    rough = max(high - low, 1e-9) / max(maximum, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= rough * (1 - 1e-9))
    places = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(i * step, f"{i * step:,.{places}f}") for i in range(first, last + 1)]


def tick_money(usd: float) -> str:
    """$0.002 rather than $0.00200."""
    text = money(usd)
    return text.rstrip("0").rstrip(".") if "." in text else text


# -- the curves of one query ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CurveRow:
    """One arm in the table below the curves.

    best: it is the best for some trade-off.
    usable: it could have been chosen.
    """

    model: str
    budget: str
    quality: float
    spread: float
    tokens: float
    cost: float
    chosen: bool
    best: bool
    usable: bool

    def cells(self) -> tuple[str, str, str, str, str]:
        """model, budget, quality, tokens, cost as a person reads them."""
        if math.isnan(self.quality):
            return self.model, self.budget, "unknown", "unknown", "unknown"
        spread = "" if math.isnan(self.spread) else f" ± {self.spread:.2f}"
        return (
            self.model,
            self.budget,
            f"{self.quality:.2f}{spread}",
            f"{self.tokens:,.0f}",
            request_cost(self.cost, short=True),
        )


def curve_rows(
    curves: Sequence[Curve], decision: Decision | None = None, usable: BoolArray | None = None
) -> list[CurveRow]:
    """Return one row per arm, in the pool's order; a budget between two anchors that was chosen stands after the lower
    one.

    usable: (arms,) false where an arm could not be chosen.
    """
    flat = [(c, i) for c in curves for i in range(len(c.budgets))]
    may = np.ones(len(flat), dtype=np.bool_) if usable is None else usable
    cost, quality = (np.array([getattr(c, name)[i] for c, i in flat], dtype=np.float64) for name in ("cost", "quality"))
    known = np.flatnonzero(may & np.isfinite(cost) & np.isfinite(quality))
    best = {int(known[i]) for i in upper_envelope(cost[known], quality[known])} if len(known) else set()
    rows = []
    for at, (curve, i) in enumerate(flat):
        arm = Arm.of(curve.model, curve.budgets[i])
        chosen = decision is not None and decision.arm == arm
        numbers = (curve.quality[i], curve.spread[i], curve.tokens[i], curve.cost[i])
        rows.append(CurveRow(curve.model, curve.budgets[i], *numbers, chosen, at in best, bool(may[at])))
    if decision is not None and not any(r.chosen for r in rows):
        numbers = (decision.quality, decision.spread, decision.tokens, decision.cost)
        after = max(
            (n for n, r in enumerate(rows) if r.model == decision.model and r.cost <= decision.cost),
            default=len(rows) - 1,
        )
        rows.insert(after + 1, CurveRow(decision.model, decision.budget, *numbers, True, False, True))
    return rows


def curve_chart(title: str, rows: Sequence[CurveRow], about: str = "") -> Chart:
    """Return one line per model through the arms that could be chosen and whose forecast is known; x is the cost of
    1,000 requests.

    Of many models only those have a line that are the best for some trade-off; the points of the others lie in the
    background.
    """
    drawn = [r for r in rows if r.usable and math.isfinite(r.quality) and math.isfinite(r.cost)]
    models = list(dict.fromkeys(r.model for r in drawn))
    named = (
        models
        if len(models) <= _MANY
        else [m for m in models if any(r.best or r.chosen for r in drawn if r.model == m)]
    )
    lines = [Line(m, tuple(sorted((_point(r) for r in drawn if r.model == m), key=lambda p: p.x))) for m in named]
    if others := [replace(_point(r), label="") for r in drawn if r.model not in named]:
        lines.append(Line(f"{len(models) - len(named)} other models", tuple(others), joined=False, faint=True))
    mark = next((_point(r) for r in drawn if r.chosen), None)
    return Chart(title, tuple(lines), mark, about)


def _point(row: CurveRow) -> ChartPoint:
    model, budget, quality, tokens, cost = row.cells()
    note = f"{model}@{budget}: quality {quality}, {cost}, {tokens} output tokens"
    return ChartPoint(1_000 * row.cost, row.quality, f"{model}@{budget}", note)
