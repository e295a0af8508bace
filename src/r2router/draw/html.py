"""Charts as SVG and as a web page of one file: no script, nothing fetched, light or dark as the reader's system is."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from r2router.draw.chart import Chart, Line, Point, Row

_WIDTH, _HEIGHT = 860, 470
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 18, 16, 56
PALETTE = (
    "#2f7ed8",
    "#e07b00",
    "#1f9d55",
    "#d64550",
    "#8a63d2",
    "#a0693a",
    "#159fb3",
    "#d4569f",
    "#93890a",
    "#7a8793",
    "#5b8c00",
    "#4f5bd5",
)
DASHES = ("", "7 4", "2 3", "9 3 2 3")  # with more lines than colours, the colours come again dashed

_CSS = """
:root { color-scheme: light dark; --bg: #ffffff; --ink: #1c2126; --soft: #5d6872; --rule: #dfe3e7; --pick: #fff3d6; }
@media (prefers-color-scheme: dark) {
  :root { --bg: #14171a; --ink: #e6e9ec; --soft: #9aa5af; --rule: #2c3238; --pick: #3a3117; }
}
body { background: var(--bg); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; }
body { max-width: 900px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.15rem; margin: 0 0 .3rem; overflow-wrap: anywhere; }
p { color: var(--soft); margin: .2rem 0 1rem; }
svg { width: 100%; height: auto; display: block; }
svg text { font: 12px system-ui, sans-serif; fill: var(--soft); }
svg .rule { stroke: var(--rule); }
svg .axis { stroke: var(--soft); }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .hit { fill: transparent; }
svg .point:hover .dot { r: 6; }
svg .mark circle { fill: none; stroke: var(--ink); stroke-width: 2.5; }
svg .mark text { fill: var(--ink); font-weight: 600; paint-order: stroke; stroke: var(--bg); stroke-width: 4px; }
ul { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem 1.2rem; padding: 0; margin: .6rem 0 1.6rem; font-size: .87rem; }
ul svg { display: inline-block; width: 26px; height: 10px; margin-right: .4rem; vertical-align: middle; }
table { border-collapse: collapse; width: 100%; font-size: .87rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .22rem .6rem; border-bottom: 1px solid var(--rule); }
th { color: var(--soft); font-weight: 600; }
.n { text-align: right; }
tr.chosen td { background: var(--pick); font-weight: 600; }
tr.off td { color: var(--soft); }
"""


def page(chart: Chart, rows: Sequence[Row] = ()) -> str:
    """A whole HTML document: the chart, its legend, and a table of the rows."""
    legend = "".join(f"<li>{_swatch(n)}{escape(line.name)}</li>" for n, line in enumerate(chart.lines))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(chart.title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<h1>{escape(chart.title)}</h1>\n"
        f"<p>{escape(chart.about)}</p>\n{svg(chart)}\n<ul>{legend}</ul>\n{_table(rows) if rows else ''}</body>\n</html>\n"
    )


def svg(chart: Chart) -> str:
    """The chart as one SVG element; colours of text and rules come from the page's CSS."""
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(chart.title)}">']
    place = _Place(chart)
    for y, label in chart.y_ticks(6):
        at = place.y(y)
        parts.append(f'<line class="rule" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{label}</text>')
    floor = _HEIGHT - _BOTTOM
    for x, label in chart.x_ticks(9):
        at = place.at(x)
        parts.append(f'<line class="rule" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" y2="{floor}"/>')
        parts.append(f'<text x="{at:.1f}" y="{floor + 18}" text-anchor="middle">{label}</text>')
    parts.append(f'<path class="axis" fill="none" d="M{_LEFT} {_TOP}V{floor}H{_WIDTH - _RIGHT}"/>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{_HEIGHT - 14}" text-anchor="middle">{escape(chart.x_label)}</text>')
    height = (_TOP + floor) / 2
    parts.append(f'<text transform="translate(16 {height}) rotate(-90)" text-anchor="middle">{escape(chart.y_label)}</text>')
    parts += [_line(line, n, place) for n, line in enumerate(chart.lines)]
    if chart.mark is not None:
        parts.append(_mark(chart.mark, place))
    return "\n".join([*parts, "</svg>"])


class _Place:
    """Where a point of the chart stands in the picture."""

    def __init__(self, chart: Chart) -> None:
        self.chart = chart
        self.left, self.right, self.bottom, self.top = chart.span()

    def at(self, log_x: float) -> float:
        return _LEFT + (log_x - self.left) / (self.right - self.left) * (_WIDTH - _LEFT - _RIGHT)

    def x(self, x: float) -> float:
        return self.at(self.chart.log_x(x))

    def y(self, y: float) -> float:
        return _TOP + (self.top - y) / (self.top - self.bottom) * (_HEIGHT - _TOP - _BOTTOM)


def _line(line: Line, number: int, place: _Place) -> str:
    colour = PALETTE[number % len(PALETTE)]
    path = " ".join(f"{place.x(p.x):.1f},{place.y(p.y):.1f}" for p in line.points)
    parts = [f'<g><polyline class="line" points="{path}" stroke="{colour}"{_dash(number)}/>']
    for p in line.points:
        centre = f'cx="{place.x(p.x):.1f}" cy="{place.y(p.y):.1f}"'
        parts.append(
            f'<g class="point"><title>{escape(p.note)}</title><circle class="hit" {centre} r="10"/>'
            f'<circle class="dot" {centre} r="4" fill="{colour}"/></g>'
        )
    return "".join([*parts, "</g>"])


def _mark(mark: Point, place: _Place) -> str:
    """A ring around the chosen point, and its name on the side where there is room."""
    x, y = place.x(mark.x), place.y(mark.y)
    side, anchor = (-14, "end") if x > _WIDTH * 0.6 else (14, "start")
    above = 20 if y < _TOP + 30 else -12
    return (
        f'<g class="mark"><circle cx="{x:.1f}" cy="{y:.1f}" r="9" pointer-events="none"/>'
        f'<text x="{x + side:.1f}" y="{y + above:.1f}" text-anchor="{anchor}">chosen: {escape(mark.label)}</text></g>'
    )


def _dash(number: int) -> str:
    dash = DASHES[number // len(PALETTE) % len(DASHES)]
    return f' stroke-dasharray="{dash}"' if dash else ""


def _swatch(number: int) -> str:
    colour = PALETTE[number % len(PALETTE)]
    line = f'<line class="line" x1="1" x2="25" y1="5" y2="5" stroke="{colour}"{_dash(number)}/>'
    return f'<svg viewBox="0 0 26 10" aria-hidden="true">{line}<circle cx="13" cy="5" r="4" fill="{colour}"/></svg>'


def _table(rows: Sequence[Row]) -> str:
    names = ("<th>model</th><th>budget</th>", *(f'<th class="n">{name}</th>' for name in ("quality", "output tokens", "cost")), "<th></th>")
    head = f"<tr>{''.join(names)}</tr>"
    body = []
    for row in rows:
        words, numbers = row.cells()[:2], row.cells()[2:]
        note = "chosen" if row.chosen else "cannot be chosen" if not row.usable else "best for some trade-off" if row.best else ""
        kind = ' class="chosen"' if row.chosen else "" if row.usable else ' class="off"'
        cells = "".join(f"<td>{escape(c)}</td>" for c in words) + "".join(f'<td class="n">{escape(c)}</td>' for c in numbers)
        body.append(f"<tr{kind}>{cells}<td>{note}</td></tr>")
    return f"<table>\n<thead>{head}</thead>\n<tbody>\n" + "\n".join(body) + "\n</tbody>\n</table>\n"
