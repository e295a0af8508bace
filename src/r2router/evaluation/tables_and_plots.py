"""Grids and plots of a comparison, the same for every report. All money in reports is US dollars per 1,000 requests."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import msgspec
import numpy as np

from r2router.figure import Figure
from r2router.metrics.score import Band, Comparison, Outcomes
from r2router.report.findings import Better, Grid, GridRow, Plot, Series
from r2router.text import written

MIN_QUERIES = 10
"""A task with fewer has no figures of its own: they would be noise with an interval."""

REQUESTS = 1000
"""Requests that money is given for."""

LABELS = {
    "router": "router",
    "fixed": "best mixture of fixed arms",
    "fixed known": "mixture that knows these outcomes",
    "one budget": "one budget per LLM",
    "oracle": "oracle (knows the answers)",
    "threshold cascade": "threshold cascade (FrugalGPT)",
    "cascade routing": "cascade routing (Dekoninck et al.)",
    "majority of one LLM": "majority of three budgets of one LLM",
    "looking oracle": "oracle that looks",
}
"""What readers call the methods; one that is not here stands under its own name."""

BOUNDS = ("oracle", "looking oracle")
"""Methods that nobody can have."""

FIGURES: dict[str, tuple[str, str, Better]] = {
    "area": ("area over log cost", ".3f", "more"),
    "area_zero": ("area, 0 below its cheapest", ".3f", "more"),
    "covers": ("has that range", "share", "more"),
    "gap_closed": ("of the gap to the oracle", "share", "more"),
    "audc": ("our AUDC", ".3f", "more"),
    "audc_points": ("AUDC without mixing", ".3f", "more"),
    "qnc": ("our QNC (95 %)", ".3f", "less"),
    "qnc_100": ("our QNC (100 %)", ".3f", "less"),
    "qnc_points": ("QNC to match, without mixing", ".3f", "less"),
    "peak": ("peak", ".3f", "more"),
    "cost_at_90": ("cost at 90 %", "money", "less"),
    "cost_at_keep": ("cost at 95 %", "money", "less"),
    "cost_at_100": ("cost at 100 %", "money", "less"),
    "cheaper": ("cost at 95 %, times ours", ".2f", "more"),
    "ece": ("ECE", ".3f", "less"),
    "rmse": ("RMSE of quality", ".3f", "less"),
    "token_factor": ("tokens off by a factor", ".2f", "less"),
    "token_bias": ("tokens forecast / used", ".2f", ""),
}
"""Figure name -> the head of its column, how it is written, and which way is better."""

MEANINGS = (
    "Every method has at most twelve settings, fixed by its forecasts alone, and may mix two of them; the mixture that"
    " knows these outcomes and the oracle have all. Area: mean quality over log cost between the cheapest and the most"
    " expensive fixed arm, 0 below a method's cheapest setting; how much of that range it has stands beside it. Our"
    " AUDC: area over linear cost, between the smallest and the largest cost of all methods shown, and beside it the"
    " same without mixing, as trapezoids from setting to setting. Our QNC: lowest cost that reaches 95 % (100 %) of the"
    " best fixed arm's quality, over that arm's cost; to match, without mixing: the cheapest single setting with all of"
    " that quality. Costs: US dollars per 1,000 requests, of the tokens used."
)
RANGES = (
    "The first area is over the costs that both methods reach, with settings kept by what they gave on the other half"
    " of the queries; the second over all costs of fixed arms, 0 below a method's cheapest setting."
)


def difference_head(name: str) -> str:
    """Return the head of a column of differences."""
    return "area, where both have it" if name == "area" else FIGURES[name][0]


def grid(
    title: str,
    rows: Mapping[str, Mapping[str, Figure] | str],
    names: Sequence[str],
    strong: Iterable[str] = (),
    about: str = "",
) -> Grid:
    """Return one row per method with the figures of those names; a method whose row is a text has no figures, and the
    text says why.
    """
    bold = frozenset(strong)
    lines = []
    for label, figures in rows.items():
        if isinstance(figures, str):
            cells: tuple[Figure | float | str | None, ...] = (f"not available: {figures}", *([None] * (len(names) - 1)))
        else:
            cells = tuple(shown(name, figures.get(name)) for name in names)
        lines.append(GridRow(LABELS.get(label, label), cells, label in bold, label in BOUNDS))
    heads, formats, better = zip(*(FIGURES[name] for name in names), strict=True)
    return Grid(title, heads, tuple(lines), formats, better, about)


def shown(name: str, figure: Figure | None) -> Figure | str | None:
    """Return a figure as it stands in a grid: money for 1,000 requests, `never` for a quality never reached, None where
    it is not available.
    """
    if figure is None or math.isnan(figure.value):
        return None
    if math.isinf(figure.value):
        return "never"
    return figure.scaled(REQUESTS) if FIGURES.get(name, ("", ""))[1] == "money" else figure


def drawn(comparison: Comparison, maximum: int = 6) -> list[str]:
    """Return the methods that fit into one picture: the base and what it is always shown beside, then the cheapest at
    95 % of the others.
    """
    always = [
        m
        for m in (comparison.base, "fixed", "fixed known", "one budget", "oracle", "cascade")
        if m in comparison.figures
    ]
    rest = [m for m in comparison.figures if m not in always]
    rest.sort(key=lambda m: (comparison.figures[m]["cost_at_keep"].value, -comparison.figures[m]["area"].value))
    return [*always, *rest[: maximum - len(always)]]


def deferral_plot(
    comparison: Comparison,
    methods: Sequence[str],
    outcomes: Outcomes | None = None,
    title: str = "Deferral curves",
) -> Plot:
    """Quality over mean cost of each method with its band; with `outcomes` the fixed arms as points."""
    series = [_curve(LABELS.get(m, m), comparison.bands[m], strong=m == comparison.base) for m in methods]
    if outcomes is not None:
        arms = outcomes.fixed_arms()
        cost, quality = (np.nanmean(a[:, arms], axis=0) for a in (outcomes.cost, outcomes.quality))
        names = tuple(str(outcomes.arms[i]) for i in arms)
        series.append(
            Series(
                "fixed arms", tuple((REQUESTS * cost).tolist()), tuple(quality.tolist()), labels=names, style="points"
            )
        )
    about = "Bands: 95 %, bootstrap over queries. A curve begins at the cheapest that its method can do."
    return Plot(
        title, "US dollars per 1,000 requests", "mean quality", tuple(series), comparison.low > 0, "money", about
    )


def _curve(name: str, band: Band, *, strong: bool) -> Series:
    seen = ~np.isnan(band.quality)
    cost, quality, low, high = (
        tuple(a[seen].tolist()) for a in (REQUESTS * band.cost, band.quality, band.low, band.high)
    )
    known = not np.isnan(low).any()
    return Series(name, cost, quality, low if known else (), high if known else (), strong=strong)


def line(name: str, x: Sequence[float], figures: Sequence[Figure]) -> Series:
    """Figures over x, with their intervals as the band."""
    value, low, high = (tuple(getattr(f, end) for f in figures) for end in ("value", "low", "high"))
    return Series(name, tuple(map(float, x)), value, low, high)


def as_much(figure: Figure) -> str:
    """`4.2 times [3.1, 5.0]`, for a sentence."""
    if math.isnan(figure.low):
        return f"{figure.value:.1f} times"
    high = f"{figure.high:.1f}" if math.isfinite(figure.high) else "never reached"
    return f"{figure.value:.1f} times [{figure.low:.1f}, {high}]"


def signed(figure: Figure, form: str = "+.3f") -> str:
    """`+0.012 [+0.004, +0.020]`, for a sentence; words where there is no figure, or no interval."""
    if math.isnan(figure.value):
        return "not available"
    if math.isnan(figure.low):
        return f"{written(figure.value, form)} (no interval)"
    return f"{written(figure.value, form)} [{written(figure.low, form)}, {written(figure.high, form)}]"


def turned(figure: Figure) -> Figure:
    """Return the same difference taken the other way round."""
    value, low, high = (0.0 - v for v in (figure.value, figure.high, figure.low))  # not -v: nothing at all is +0
    return msgspec.structs.replace(figure, value=value, low=low, high=high)
