"""Drawing: curves of quality over cost, and what a study found, in a terminal, as a web page, as SVG and PNG.

`Chart` says what is drawn of one query's curves; `plot`, `page` and `image` draw it. `Findings` are drawn by
`report_text`, `report_page`, `plot_svg` and `plot_png`. Nothing here opens a file or a window, and nothing is fetched
from anywhere.
"""

from r2router.report.chart import Chart, ChartPoint, CurveRow, Line, curve_chart, curve_rows
from r2router.report.findings_page import report_page
from r2router.report.findings_text import report_text
from r2router.report.html import page
from r2router.report.plots import plot_png, plot_svg
from r2router.report.png import image
from r2router.report.svg import svg
from r2router.report.terminal import Style, grid, plot

__all__ = [
    "Chart",
    "ChartPoint",
    "CurveRow",
    "Line",
    "Style",
    "curve_chart",
    "curve_rows",
    "grid",
    "image",
    "page",
    "plot",
    "plot_png",
    "plot_svg",
    "report_page",
    "report_text",
    "svg",
]
