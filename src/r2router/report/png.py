"""Charts as PNG, drawn by matplotlib (the `[plot]` extra)."""

from __future__ import annotations

import io
import math
import warnings
from typing import Any

from r2router.errors import MissingExtra
from r2router.report.chart import Chart, Line
from r2router.report.place import labels, shorten
from r2router.report.svg import DASHES, GREY, LIGHT, PALETTE, legible

_STYLES = ("-", "--", ":", "-.")
_ALIGNED = {"start": "left", "end": "right", "middle": "center"}
_POINTS = 0.75  # typographic points to a pixel of the SVG


def image(chart: Chart) -> bytes:
    """Return the chart as the bytes of a PNG file. Raises `MissingExtra` without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra(
            "a PNG needs the [plot] extra: pip install 'r2router[plot]' (or draw --html, which needs nothing)"
        ) from None
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    left, right, bottom, top = chart.span()
    for number, line in chart.layers():
        _draw(axes, line, number, chart)
    for name in labels(chart):
        beside = (_POINTS * name.dx, -_POINTS * name.dy)
        look: dict[str, Any] = {
            "fontsize": 7.5,
            "color": LIGHT["--soft"],
            "ha": _ALIGNED[name.anchor],
            "textcoords": "offset points",
        }
        if name.leader:
            look["arrowprops"] = {"arrowstyle": "-", "color": LIGHT["--soft"], "linewidth": 0.6}
        axes.annotate(_literal(name.text), (chart.across(name.point.x), name.point.y), beside, **look)
    if chart.mark is not None:
        at = chart.across(chart.mark.x)
        axes.plot(
            [at],
            [chart.mark.y],
            "o",
            markersize=13,
            markerfacecolor="none",
            markeredgecolor="black",
            markeredgewidth=1.8,
        )
        side = (-10, "right") if at > left + 0.6 * (right - left) else (10, "left")
        text = f"chosen: {_literal(shorten(chart.mark.label, 60))}"
        axes.annotate(
            text,
            (at, chart.mark.y),
            (side[0], 10),
            textcoords="offset points",
            ha=side[1],
            fontweight="bold",
            fontsize=9,
        )
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel=_literal(chart.x_label), ylabel=_literal(chart.y_label))
    ticks = chart.x_ticks(9)
    axes.set_xticks([x for x, _ in ticks], [_literal(label) for _, label in ticks])
    axes.grid(color="#dfe3e7")
    axes.set_axisbelow(True)
    axes.set_title(_literal(shorten(chart.title, 100)), loc="left", fontsize=11)
    if chart.stamp:
        axes.text(
            0.015,
            0.965,
            _literal(chart.stamp),
            transform=axes.transAxes,
            va="top",
            fontweight="bold",
            color=LIGHT["--warn"],
        )
    if chart.lines:
        figure.legend(loc="outside lower center", ncols=min(len(chart.lines), 4), fontsize=8, frameon=False)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # a query in a script that the font lacks shows boxes, no more
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def _draw(axes: Any, line: Line, number: int, chart: Chart) -> None:
    """A line with its dots and its band."""
    colour = GREY if line.faint else PALETTE[number % len(PALETTE)]
    style = _STYLES[number // len(PALETTE) % len(DASHES)] if line.joined else ""
    x = [chart.across(p.x) for p in line.points]
    y = [p.y if p.known else math.nan for p in line.points]
    marker, wide = "o" if line.dots else "", 2.8 if line.strong else 1.6
    name = _literal(shorten(line.name, 40))
    axes.plot(
        x,
        y,
        linestyle=style,
        linewidth=wide,
        marker=marker,
        markersize=3 if line.faint else 5,
        color=colour,
        label=name,
    )
    if line.band:
        places = [chart.across(x) for x, _, _ in line.band]
        axes.fill_between(
            places,
            [low for _, low, _ in line.band],
            [high for *_, high in line.band],
            color=colour,
            alpha=0.16,
            linewidth=0,
        )


def _literal(text: str) -> str:
    """Escape a text for matplotlib, which reads text between two dollar signs as a formula."""
    return legible(text).replace("$", r"\$")
