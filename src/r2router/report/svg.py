"""Charts as SVG: one element for a page, or a file of its own."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

import numpy as np

from r2router.report.chart import Chart, Line, Point
from r2router.report.place import BOTTOM, LEFT, RIGHT, TOP, WIDE, Place, Size, labels, shorten

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
LIGHT = {"--bg": "#ffffff", "--ink": "#1c2126", "--soft": "#5d6872", "--rule": "#dfe3e7", "--pick": "#fff3d6", "--warn": "#b3261e"}
DARK = {"--bg": "#14171a", "--ink": "#e6e9ec", "--soft": "#9aa5af", "--rule": "#2c3238", "--pick": "#3a3117", "--warn": "#ff8a80"}

CSS = """
svg text { font: 12px system-ui, sans-serif; fill: var(--soft); }
svg .rule { stroke: var(--rule); }
svg .axis { stroke: var(--soft); }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .strong { stroke-width: 3.5; }
svg .band { opacity: .16; stroke: none; }
svg .hit { fill: transparent; }
svg .spot { opacity: 0; }
svg .spot:hover { opacity: 1; }
svg .point:hover .dot { r: 6; }
svg .name { font-size: 11px; paint-order: stroke; stroke: var(--bg); stroke-width: 3px; }
svg .mark circle { fill: none; stroke: var(--ink); stroke-width: 2.5; }
svg .mark text { fill: var(--ink); font-weight: 600; paint-order: stroke; stroke: var(--bg); stroke-width: 4px; }
svg .stamp { font-weight: 700; font-size: 15px; letter-spacing: .08em; fill: var(--warn); }
svg .title { font-weight: 600; font-size: 15px; fill: var(--ink); }
"""


_SPOTS = 60  # points of a long line that say what they are
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def legible(text: str) -> str:
    """The text without what no page and no font can hold: control characters and halves of characters."""
    return _UNPRINTABLE.sub("\ufffd", text)


def safe(text: str) -> str:
    """The text for HTML or XML."""
    return escape(legible(text))


def svg(chart: Chart, size: Size = WIDE) -> str:
    """The chart as one SVG element; colours of text and rules come from the page's CSS."""
    parts = [f'<svg viewBox="0 0 {size.width} {size.height}" role="img" aria-label="{safe(chart.title)}">']
    place = Place(chart, size)
    right, floor = size.width - RIGHT, size.height - BOTTOM
    for y, label in chart.y_ticks(size.y_ticks):
        at = place.y(y)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{label}</text>')
    for x, label in chart.x_ticks(size.x_ticks):
        at = place.at(x)
        parts.append(f'<line class="rule" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{floor}"/>')
        parts.append(f'<text x="{at:.1f}" y="{floor + 18}" text-anchor="middle">{label}</text>')
    parts.append(f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{floor}H{right}"/>')
    middle, height = (LEFT + right) / 2, (TOP + floor) / 2
    parts.append(f'<text x="{middle}" y="{size.height - 14}" text-anchor="middle">{_fitting(chart.x_label, right - LEFT)}</text>')
    turned = f'transform="translate(14 {height}) rotate(-90)" text-anchor="middle"'
    parts.append(f"<text {turned}>{_fitting(chart.y_label, floor - TOP)}</text>")
    parts += [_band(line, n, place) for n, line in enumerate(chart.lines) if line.band]
    for name in labels(chart, size):  # under the lines, that no name breaks one
        x, y = place.x(name.point.x) + name.dx, place.y(name.point.y) + name.dy
        parts.append(f'<text class="name" x="{x:.1f}" y="{y:.1f}" text-anchor="{name.anchor}">{safe(name.text)}</text>')
    parts += [_line(line, n, place) for n, line in enumerate(chart.lines)]
    if chart.mark is not None:
        parts.append(_mark(chart.mark, place))
    if chart.stamp:
        parts.append(f'<text class="stamp" x="{LEFT + 12}" y="{TOP + 20}">{safe(chart.stamp)}</text>')
    return "\n".join([*parts, "</svg>"])


def alone(chart: Chart) -> str:
    """The chart as an SVG file: on white, with its title, its legend and a style of its own."""
    css = CSS
    for name, colour in LIGHT.items():  # programs that draw SVG files know no variables
        css = css.replace(f"var({name})", colour)
    across = 2 if any(len(line.name) > 24 for line in chart.lines) else 4
    wide, top = (WIDE.width - LEFT) // across, 38
    rows = -(-len(chart.lines) // across)
    height = top + WIDE.height + 22 * rows + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE.width} {height}" width="{WIDE.width}" height="{height}">',
        f'<style>{css}</style>\n<rect width="100%" height="100%" fill="{LIGHT["--bg"]}"/>',
        f'<text class="title" x="{LEFT}" y="26">{safe(shorten(chart.title, 100))}</text>',
        svg(chart).replace("<svg ", f'<svg y="{top}" width="{WIDE.width}" height="{WIDE.height}" ', 1),
    ]
    for n, line in enumerate(chart.lines):
        x, y = LEFT + wide * (n % across), top + WIDE.height + 22 * (n // across)
        parts.append(f'<g transform="translate({x} {y})">{_sample(line, n)}')
        parts.append(f'<text x="34" y="9">{safe(shorten(line.name, wide // 7 - 5))}</text></g>')
    return "\n".join([*parts, "</svg>\n"])


def swatch(line: Line, number: int) -> str:
    """What a line looks like, for a legend."""
    return f'<svg viewBox="0 0 26 10" aria-hidden="true">{_sample(line, number)}</svg>'


def _sample(line: Line, number: int) -> str:
    stroke = f'<line class="line{" strong" if line.strong else ""}" x1="1" x2="25" y1="5" y2="5"{_stroke(number)}/>' if line.joined else ""
    dot = f'<circle cx="13" cy="5" r="4" fill="{_colour(number)}"/>' if line.dots or not line.joined else ""
    return stroke + dot


def _line(line: Line, number: int, place: Place) -> str:
    parts = ["<g>"]
    kind = "line strong" if line.strong else "line"
    paths = [place.path((p.x, p.y) for p in run) for run in line.runs()] if line.joined else []
    parts += [f'<polyline class="{kind}" points="{path}"{_stroke(number)}/>' for path in paths]
    known = [p for p in line.points if p.known]
    if line.dots or not line.joined:
        parts += [_dot(p, number, place) for p in known]
    elif place.size.hover:
        parts += [_spot(p, number, place) for p in _spread(known, place)]
    return "".join([*parts, "</g>"])


def _dot(point: Point, number: int, place: Place) -> str:
    centre = f'cx="{place.x(point.x):.1f}" cy="{place.y(point.y):.1f}"'
    dot = f'<circle class="dot" {centre} r="4" fill="{_colour(number)}"/>'
    if not place.size.hover:
        return dot
    return f'<g class="point"><title>{safe(point.note)}</title><circle class="hit" {centre} r="10"/>{dot}</g>'


def _spot(point: Point, number: int, place: Place) -> str:
    """A dot that is seen under the mouse only."""
    centre = f'cx="{place.x(point.x):.1f}" cy="{place.y(point.y):.1f}"'
    return f'<circle class="spot" {centre} r="7" fill="{_colour(number)}"><title>{safe(point.note)}</title></circle>'


def _spread(points: Sequence[Point], place: Place) -> list[Point]:
    """Some of the points, evenly over the picture."""
    step = (place.size.width - LEFT - RIGHT) / _SPOTS
    return list({int(place.x(p.x) // step): p for p in points}.values())


def _band(line: Line, number: int, place: Place) -> str:
    """The band of each stretch without gaps."""
    runs: list[list[tuple[float, float, float]]] = [[]]
    for edge in line.band:
        if np.isfinite(edge).all():
            runs[-1].append(edge)
        else:
            runs.append([])
    parts = []
    for run in filter(None, runs):
        above, below = place.path((x, high) for x, _, high in run), place.path((x, low) for x, low, _ in reversed(run))
        parts.append(f'<polygon class="band" fill="{_colour(number)}" points="{above} {below}"/>')
    return "".join(parts)


def _mark(mark: Point, place: Place) -> str:
    """A ring around the chosen point, and its name on the side where there is room."""
    x, y = place.x(mark.x), place.y(mark.y)
    side, anchor = (-14, "end") if x > place.size.width * 0.6 else (14, "start")
    above = 20 if y < TOP + 30 else -12
    return (
        f'<g class="mark"><circle cx="{x:.1f}" cy="{y:.1f}" r="9" pointer-events="none"/>'
        f'<text x="{x + side:.1f}" y="{y + above:.1f}" text-anchor="{anchor}">chosen: {safe(mark.label)}</text></g>'
    )


def _fitting(label: str, room: float) -> str:
    return safe(shorten(label, int(room / 6.2)))


def _colour(number: int) -> str:
    return PALETTE[number % len(PALETTE)]


def _stroke(number: int) -> str:
    dash = DASHES[number // len(PALETTE) % len(DASHES)]
    return f' stroke="{_colour(number)}"' + (f' stroke-dasharray="{dash}"' if dash else "")
