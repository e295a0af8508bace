"""Charts as SVG: one element for a page, or a file of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from r2router.report.chart import Chart, ChartPoint, Line
from r2router.report.place import BOTTOM, LEFT, RIGHT, TOP, WIDE, Label, Place, Size, labels, shorten

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
GREY = "#9aa5af"
DASHES = ("", "7 4", "2 3", "9 3 2 3")  # with more lines than colours, the colours come again dashed
LIGHT = {
    "--bg": "#ffffff",
    "--ink": "#1c2126",
    "--soft": "#5d6872",
    "--rule": "#dfe3e7",
    "--pick": "#fff3d6",
    "--warn": "#b3261e",
}
DARK = {
    "--bg": "#14171a",
    "--ink": "#e6e9ec",
    "--soft": "#9aa5af",
    "--rule": "#2c3238",
    "--pick": "#3a3117",
    "--warn": "#ff8a80",
}

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
svg .leader { stroke: var(--soft); stroke-width: .75; }
svg .mark circle { fill: none; stroke: var(--ink); stroke-width: 2.5; }
svg .mark text { fill: var(--ink); font-weight: 600; paint-order: stroke; stroke: var(--bg); stroke-width: 4px; }
svg .stamp { font-weight: 700; font-size: 15px; letter-spacing: .08em; fill: var(--warn); }
svg .title { font-weight: 600; font-size: 15px; fill: var(--ink); }
"""


_SPOTS = 60  # points of a long line that say what they are
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def legible(text: str) -> str:
    """Return the text without what no page and no font can hold: control characters and halves of characters."""
    return _UNPRINTABLE.sub("\ufffd", text)


def fill(template: str, /, **values: Any) -> Markup:
    """Return the template with its `{names}` filled in; text is escaped for HTML and XML, `Markup` is not."""
    safe = {name: legible(value) if type(value) is str else value for name, value in values.items()}
    return Markup(template).format(**safe)  # noqa: S704 - the template is ours, the values are escaped


def lines_of(parts: Iterable[Markup]) -> Markup:
    """Elements, one per line."""
    return Markup("\n").join(parts)


def svg(chart: Chart, size: Size = WIDE, *, y: int | None = None) -> Markup:
    """Return the chart as one SVG element; colours of text and rules come from the page's CSS.

    y: its place within another SVG element.
    """
    place = Place(chart, size)
    right, floor = size.width - RIGHT, size.height - BOTTOM
    inside = "" if y is None else fill(' y="{y}" width="{w}" height="{h}"', y=y, w=size.width, h=size.height)
    opened = '<svg{inside} viewBox="0 0 {w} {h}" role="img" aria-label="{title}">'
    parts = [fill(opened, inside=inside, w=size.width, h=size.height, title=chart.title)]
    for value, label in chart.y_ticks(size.y_ticks):
        at = place.y(value)
        parts.append(
            fill(
                '<line class="rule" x1="{left}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>',
                left=LEFT,
                right=right,
                at=at,
            )
        )
        parts.append(
            fill('<text x="{x}" y="{y:.1f}" text-anchor="end">{label}</text>', x=LEFT - 8, y=at + 4, label=label)
        )
    for value, label in chart.x_ticks(size.x_ticks):
        at = place.at(value)
        parts.append(
            fill(
                '<line class="rule" x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{floor}"/>', at=at, top=TOP, floor=floor
            )
        )
        parts.append(
            fill('<text x="{at:.1f}" y="{y}" text-anchor="middle">{label}</text>', at=at, y=floor + 18, label=label)
        )
    parts.append(
        fill(
            '<path class="axis" fill="none" d="M{left} {top}V{floor}H{right}"/>',
            left=LEFT,
            top=TOP,
            floor=floor,
            right=right,
        )
    )
    across = '<text x="{x}" y="{y}" text-anchor="middle">{label}</text>'
    parts.append(fill(across, x=(LEFT + right) / 2, y=size.height - 14, label=_fitting(chart.x_label, right - LEFT)))
    turned = '<text transform="translate(14 {y}) rotate(-90)" text-anchor="middle">{label}</text>'
    parts.append(fill(turned, y=(TOP + floor) / 2, label=_fitting(chart.y_label, floor - TOP)))
    parts += [_band(line, n, place) for n, line in enumerate(chart.lines) if line.band]
    parts += [_line(line, n, place) for n, line in chart.layers()]
    parts += [_label(name, place) for name in labels(chart, size)]
    if chart.mark is not None:
        parts.append(_mark(chart.mark, place))
    if chart.stamp:
        parts.append(
            fill('<text class="stamp" x="{x}" y="{y}">{stamp}</text>', x=LEFT + 12, y=TOP + 20, stamp=chart.stamp)
        )
    return lines_of([*parts, Markup("</svg>")])


def alone(chart: Chart) -> str:
    """Return the chart as an SVG file: on white, with its title, its legend and a style of its own."""
    css = CSS
    for name, colour in LIGHT.items():  # programs that draw SVG files know no variables
        css = css.replace(f"var({name})", colour)
    across = 2 if any(len(line.name) > 24 for line in chart.lines) else 4
    wide, top = (WIDE.width - LEFT) // across, 38
    rows = -(-len(chart.lines) // across)
    height = top + WIDE.height + 22 * rows + 10
    opened = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}">'
    parts = [
        fill(opened, w=WIDE.width, h=height),
        fill(
            '<style>{css}</style>\n<rect width="100%" height="100%" fill="{white}"/>',
            css=Markup(css),  # noqa: S704 - our own style sheet
            white=LIGHT["--bg"],
        ),
        fill('<text class="title" x="{x}" y="26">{title}</text>', x=LEFT, title=shorten(chart.title, 100)),
        svg(chart, y=top),
    ]
    for n, line in enumerate(chart.lines):
        x, y = LEFT + wide * (n % across), top + WIDE.height + 22 * (n // across)
        entry = '<g transform="translate({x} {y})">{sample}<text x="34" y="9">{name}</text></g>'
        parts.append(fill(entry, x=x, y=y, sample=_sample(line, n), name=shorten(line.name, wide // 7 - 5)))
    return str(lines_of([*parts, Markup("</svg>\n")]))


def swatch(line: Line, number: int) -> Markup:
    """Return what a line looks like, for a legend."""
    return fill('<svg viewBox="0 0 26 10" aria-hidden="true">{sample}</svg>', sample=_sample(line, number))


def _sample(line: Line, number: int) -> Markup:
    kind = "line strong" if line.strong else "line"
    stroke = fill('<line class="{kind}" x1="1" x2="25" y1="5" y2="5"{stroke}/>', kind=kind, stroke=_stroke(number))
    dot = fill('<circle cx="13" cy="5" r="{r}" fill="{colour}"/>', r=_radius(line), colour=_colour(number, line))
    return Markup("").join([stroke] * line.joined + [dot] * (line.dots or not line.joined))


def _line(line: Line, number: int, place: Place) -> Markup:
    kind, drawn = ("line strong" if line.strong else "line"), []
    for run in line.runs() if line.joined else ():
        path = place.path((p.x, p.y) for p in run)
        drawn.append(
            fill('<polyline class="{kind}" points="{path}"{stroke}/>', kind=kind, path=path, stroke=_stroke(number))
        )
    known = [p for p in line.points if p.known]
    if line.dots or not line.joined:
        drawn += [_dot(p, line, number, place) for p in known]
    elif place.size.hover:
        drawn += [_spot(p, number, place) for p in _spread(known, place)]
    return fill("<g>{drawn}</g>", drawn=Markup("").join(drawn))


def _dot(point: ChartPoint, line: Line, number: int, place: Place) -> Markup:
    x, y = place.x(point.x), place.y(point.y)
    circle = '<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="{r}" fill="{colour}"/>'
    dot = fill(circle, x=x, y=y, r=_radius(line), colour=_colour(number, line))
    if not place.size.hover:
        return dot
    group = '<g class="point"><title>{note}</title><circle class="hit" cx="{x:.1f}" cy="{y:.1f}" r="10"/>{dot}</g>'
    return fill(group, note=point.note, x=x, y=y, dot=dot)


def _spot(point: ChartPoint, number: int, place: Place) -> Markup:
    """Return a dot that is seen under the mouse only."""
    spot = '<circle class="spot" cx="{x:.1f}" cy="{y:.1f}" r="7" fill="{colour}"><title>{note}</title></circle>'
    return fill(spot, x=place.x(point.x), y=place.y(point.y), colour=_colour(number), note=point.note)


def _spread(points: Sequence[ChartPoint], place: Place) -> list[ChartPoint]:
    """Choose some of the points, evenly over the picture."""
    step = (place.size.width - LEFT - RIGHT) / _SPOTS
    return list({int(place.x(p.x) // step): p for p in points}.values())


def _band(line: Line, number: int, place: Place) -> Markup:
    """Return the band of each stretch without gaps."""
    runs: list[list[tuple[float, float, float]]] = [[]]
    for edge in line.band:
        if np.isfinite(edge).all():
            runs[-1].append(edge)
        else:
            runs.append([])
    parts = []
    for run in filter(None, runs):
        above = place.path((x, high) for x, _, high in run)
        below = place.path((x, low) for x, low, _ in reversed(run))
        band = '<polygon class="band" fill="{colour}" points="{above} {below}"/>'
        parts.append(fill(band, colour=_colour(number), above=above, below=below))
    return Markup("").join(parts)


def _label(name: Label, place: Place) -> Markup:
    """Return a name beside its point; with a thin line to the point where it stands further away."""
    x, y = place.x(name.point.x), place.y(name.point.y)
    text = '<text class="name" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
    shown = fill(text, x=x + name.dx, y=y + name.dy, anchor=name.anchor, text=name.text)
    if not name.leader:
        return shown
    leader = '<line class="leader" x1="{x:.1f}" y1="{y:.1f}" x2="{to_x:.1f}" y2="{to_y:.1f}"/>'
    return fill(leader, x=x, y=y, to_x=x + name.leader[0], to_y=y + name.leader[1]) + shown


def _mark(mark: ChartPoint, place: Place) -> Markup:
    """Return a ring around the chosen point, and its name on the side where there is room."""
    x, y = place.x(mark.x), place.y(mark.y)
    side, anchor = (-14, "end") if x > place.size.width * 0.6 else (14, "start")
    above = 20 if y < TOP + 30 else -12
    ring = fill('<circle cx="{x:.1f}" cy="{y:.1f}" r="9" pointer-events="none"/>', x=x, y=y)
    text = '<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">chosen: {label}</text>'
    return fill(
        '<g class="mark">{ring}{text}</g>',
        ring=ring,
        text=fill(text, x=x + side, y=y + above, anchor=anchor, label=mark.label),
    )


def _fitting(label: str, room: float) -> str:
    return shorten(label, int(room / 6.2))


def _colour(number: int, line: Line | None = None) -> str:
    return GREY if line is not None and line.faint else PALETTE[number % len(PALETTE)]


def _radius(line: Line) -> float:
    return 2.5 if line.faint else 4


def _stroke(number: int) -> Markup:
    dash = DASHES[number // len(PALETTE) % len(DASHES)]
    stroke = fill(' stroke="{colour}"', colour=_colour(number))
    return stroke + fill(' stroke-dasharray="{dash}"', dash=dash) if dash else stroke
