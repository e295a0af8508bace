"""Where things stand in a picture, in pixels: points, and the names beside them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from r2router.report.chart import Chart, Point
from r2router.report.thin import thin

LEFT, RIGHT, TOP, BOTTOM = 62, 18, 16, 56
_BESIDE = ((8, 4, "start"), (-8, 4, "end"), (6, 15, "start"), (-6, 15, "end"), (-6, -8, "end"), (6, -8, "start"), (0, 17, "middle"))


@dataclass(frozen=True, slots=True)
class Size:
    """How large a picture is, in pixels, and how many ticks it has room for. hover: points say what they are under a mouse."""

    width: int = 860
    height: int = 470
    x_ticks: int = 9
    y_ticks: int = 6
    hover: bool = True


WIDE = Size()
NARROW = Size(420, 340, 4, 5, hover=False)
"""For a telephone: the same letters in less room. It has no mouse."""


def shorten(text: str, most: int) -> str:
    """At most so many characters, on one line."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"


class Place:
    """Where a point of the chart stands in the picture."""

    def __init__(self, chart: Chart, size: Size) -> None:
        self.chart, self.size = chart, size
        self.left, self.right, self.bottom, self.top = chart.span()

    def at(self, place: float) -> float:
        return LEFT + (place - self.left) / (self.right - self.left) * (self.size.width - LEFT - RIGHT)

    def x(self, x: float) -> float:
        return self.at(self.chart.across(x))

    def y(self, y: float) -> float:
        return TOP + (self.top - y) / (self.top - self.bottom) * (self.size.height - TOP - BOTTOM)

    def path(self, points: Iterable[tuple[float, float]]) -> str:
        """Coordinates of a line, as few as show it."""
        places = np.array([(self.x(x), self.y(y)) for x, y in points])
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in places[thin(places[:, 0], places[:, 1])])


@dataclass(frozen=True, slots=True)
class Label:
    """The name beside a point. dx, dy: pixels from the point to where the text is anchored (start, end, middle of its base line)."""

    point: Point
    text: str
    dx: float
    dy: float
    anchor: str


def labels(chart: Chart, size: Size = WIDE) -> list[Label]:
    """Names of points that have no line, the highest first, where there is room for them."""
    place = Place(chart, size)
    points = sorted((p for line in chart.lines if not line.joined for p in line.points if p.known), key=lambda p: -p.y)
    if not any(point.label for point in points):
        return []
    taken = [_around(p, 4, place) for p in points]
    if chart.stamp:
        taken.append((LEFT, TOP, LEFT + 190, TOP + 26))
    lines = [_around(p, 2, place) for line in chart.lines if line.joined for p in line.points if p.known]
    found = []
    for point in points:
        name = Label(point, shorten(point.label, 32), 0, 0, "")
        spots = [replace(name, dx=dx, dy=dy, anchor=anchor) for dx, dy, anchor in _BESIDE] if name.text else []
        boxes = [(spot, _box(spot, place)) for spot in spots]
        free = [(spot, box) for spot, box in boxes if _inside(box, size) and not any(_overlap(box, other) for other in taken)]
        clear = [(spot, box) for spot, box in free if not any(_overlap(box, line) for line in lines)]
        for spot, box in (clear or free)[:1]:
            taken.append(box)
            found.append(spot)
    return found


_Box = tuple[float, float, float, float]


def _around(point: Point, room: float, place: Place) -> _Box:
    x, y = place.x(point.x), place.y(point.y)
    return x - room, y - room, x + room, y + room


def _box(label: Label, place: Place) -> _Box:
    """Left, top, right and bottom of a text."""
    long = 6.4 * len(label.text)
    left = place.x(label.point.x) + label.dx - long * {"start": 0.0, "middle": 0.5, "end": 1.0}[label.anchor]
    base = place.y(label.point.y) + label.dy
    return left, base - 9, left + long, base + 3


def _inside(box: _Box, size: Size) -> bool:
    return box[0] > LEFT and box[1] > 0 and box[2] < size.width - 8 and box[3] < size.height - BOTTOM


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
