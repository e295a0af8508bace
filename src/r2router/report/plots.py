"""The plots of findings, as the charts that everything here draws."""

from __future__ import annotations

from r2router.report.cells import number
from r2router.report.chart import Chart, ChartPoint, Line
from r2router.report.findings import Plot, Series
from r2router.report.png import image
from r2router.report.svg import alone
from r2router.text import money

SIMULATED = "SIMULATED DATA"
_FEW = 40  # a line of more points is a curve: its points are not marked


def plot_chart(plot: Plot, *, simulated: bool = False) -> Chart:
    """Return the chart of a plot.

    simulated: the data are made up, and the picture says so wherever it is shown.
    """
    return Chart(
        title=plot.title,
        lines=tuple(_line(series, plot.x_unit == "money") for series in plot.series),
        about=plot.about,
        x_label=plot.x_label,
        y_label=plot.y_label,
        log=plot.log_x,
        money=plot.x_unit == "money",
        stamp=SIMULATED if simulated else "",
    )


def plot_svg(plot: Plot, *, simulated: bool = False) -> str:
    """Return the plot as an SVG file: on white, with its title and legend."""
    return alone(plot_chart(plot, simulated=simulated))


def plot_png(plot: Plot, *, simulated: bool = False) -> bytes:
    """Return the plot as a PNG file. Raises `MissingExtra` without matplotlib."""
    return image(plot_chart(plot, simulated=simulated))


def _line(series: Series, in_money: bool) -> Line:
    line = series.style == "line"
    points = [_point(series, i, in_money) for i in range(len(series.x))]
    band = list(zip(series.x, series.low, series.high, strict=True)) if series.low and series.high else []
    if line:
        points.sort(key=lambda p: p.x)
        band.sort()
    return Line(
        name=series.name,
        points=tuple(points),
        band=tuple(band),
        joined=line,
        dots=not line or len(points) <= _FEW,
        strong=series.strong,
    )


def _point(series: Series, i: int, in_money: bool) -> ChartPoint:
    x, y = series.x[i], series.y[i]
    label = series.labels[i] if series.labels else ""
    band = f" [{number(series.low[i])}, {number(series.high[i])}]" if series.low and series.high else ""
    where = money(x) if in_money else number(x)
    return ChartPoint(x, y, label, f"{label or series.name}: {number(y)}{band} at {where}")
