"""Charts as PNG, drawn by matplotlib (the `[plot]` extra)."""

from __future__ import annotations

import io
import warnings

from r2router.draw.chart import Chart
from r2router.draw.html import DASHES, PALETTE
from r2router.errors import MissingExtra

_STYLES = ("-", "--", ":", "-.")


def image(chart: Chart) -> bytes:
    """The chart as the bytes of a PNG file. Raises `MissingExtra` without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingExtra("a PNG needs the [plot] extra: pip install 'r2router[plot]' (or draw --html, which needs nothing)") from None
    figure = Figure(figsize=(9, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    left, right, bottom, top = chart.span()
    for number, line in enumerate(chart.lines):
        style = _STYLES[number // len(PALETTE) % len(DASHES)]
        x, y = [chart.log_x(p.x) for p in line.points], [p.y for p in line.points]
        axes.plot(x, y, style, marker="o", markersize=5, color=PALETTE[number % len(PALETTE)], label=_literal(_short(line.name, 40)))
    if chart.mark is not None:
        at = chart.log_x(chart.mark.x)
        axes.plot([at], [chart.mark.y], "o", markersize=13, markerfacecolor="none", markeredgecolor="black", markeredgewidth=1.8)
        side = (-10, "right") if at > left + 0.6 * (right - left) else (10, "left")
        text = f"chosen: {_literal(_short(chart.mark.label, 60))}"
        axes.annotate(text, (at, chart.mark.y), (side[0], 10), textcoords="offset points", ha=side[1], fontweight="bold", fontsize=9)
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel=_literal(chart.x_label), ylabel=_literal(chart.y_label))
    ticks = chart.x_ticks(9)
    axes.set_xticks([x for x, _ in ticks], [_literal(label) for _, label in ticks])
    axes.grid(color="#dfe3e7")
    axes.set_axisbelow(True)
    axes.set_title(_literal(_short(chart.title)), loc="left", fontsize=11)
    if chart.lines:
        figure.legend(loc="outside lower center", ncols=min(len(chart.lines), 4), fontsize=8, frameon=False)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a query in a script that the font lacks shows boxes, no more
        figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def _short(title: str, most: int = 100) -> str:
    title = " ".join(title.split())
    return title if len(title) <= most else title[: most - 1] + "…"


def _literal(text: str) -> str:
    """Without mathematics: matplotlib reads what stands between two dollar signs as a formula."""
    return text.replace("$", r"\$")
