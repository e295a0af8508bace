"""Drawing curves of quality over cost: in a terminal, as a web page, as a PNG.

`Chart` says what is drawn; `plot`, `page` and `image` draw it. Nothing here opens a file or a window, and nothing is
fetched from anywhere.
"""

from r2router.draw.chart import Chart, Line, Point, Row, curve_chart, curve_rows
from r2router.draw.html import page, svg
from r2router.draw.png import image
from r2router.draw.terminal import Style, grid, plot

__all__ = ["Chart", "Line", "Point", "Row", "Style", "curve_chart", "curve_rows", "grid", "image", "page", "plot", "svg"]
