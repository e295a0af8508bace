"""Positions in a picture, in pixels: of points, and of the names beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from r2router.report.chart import Chart, ChartPoint
from r2router.report.thin import thin
from r2router.types import FloatArray

LEFT = 62
RIGHT = 18
TOP = 16
BOTTOM = 56
_BESIDE = (
    (8, 4, "start"),
    (-8, 4, "end"),
    (6, 15, "start"),
    (-6, 15, "end"),
    (-6, -8, "end"),
    (6, -8, "start"),
    (0, 17, "middle"),
)
_AROUND = (
    (1, 0.5, "start"),
    (-1, 0.5, "end"),
    (1, 1, "start"),
    (-1, 1, "end"),
    (1, -1, "start"),
    (-1, -1, "end"),
    (0, 1, "middle"),
)
_FURTHER = (18, 30, 44)  # pixels from a point to a name that has no room beside it
_LETTER = 7.0  # pixels across, of the widest usual font


@dataclass(frozen=True, slots=True)
class Size:
    """How large a picture is, in pixels, and how many ticks it has room for.

    hover: points say what they are under a mouse.
    """

    width: int = 860
    height: int = 470
    x_ticks: int = 9
    y_ticks: int = 6
    hover: bool = True


WIDE = Size()
NARROW = Size(420, 340, 4, 5, hover=False)
"""For a telephone: the same letters in less room. It has no mouse."""


def shorten(text: str, maximum: int) -> str:
    """Cut a text to a maximum number of characters, on one line."""
    text = " ".join(text.split())
    return text if len(text) <= maximum else text[: maximum - 1] + "…"


class Place:
    """Converts points of the chart to positions in the picture."""

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
    """The name of a point.

    dx, dy: pixels from the point to where the text is anchored (start, end, middle of its base line).
    leader: pixels from the point to the end of a thin line that leads to the text; empty where it stands beside its
        point.
    """

    point: ChartPoint
    text: str
    dx: float
    dy: float
    anchor: str
    leader: tuple[float, float] | tuple[()] = ()


def labels(chart: Chart, size: Size = WIDE) -> list[Label]:
    """Return names of points that have no line, the highest first, where they cover no line, no point and no other
    name; else none.
    """
    place = Place(chart, size)
    points = sorted((p for line in chart.lines if not line.joined for p in line.points if p.known), key=lambda p: -p.y)
    if not any(point.label for point in points):
        return []
    taken = [_around(p, 4, place) for p in points]
    if chart.stamp:
        taken.append((LEFT, TOP, LEFT + 190, TOP + 26))
    if chart.mark is not None:
        taken.append(_around(chart.mark, 9, place))
    ink, found = _ink(chart, place), []
    for point in points:
        for spot in _spots(point, leaders=size.hover):
            box = _box(spot, place)
            if _inside(box, size) and not any(_overlap(box, other) for other in taken) and not _touches(box, ink):
                taken.append(box)
                found.append(spot)
                break
    return found


def _spots(point: ChartPoint, *, leaders: bool) -> Iterator[Label]:
    """Yield where a point's name may be, the best position first.

    leaders: positions further away too, with a line to the point.
    """
    text = shorten(point.label, 32)
    if not text:
        return
    for dx, dy, anchor in _BESIDE:
        yield Label(point, text, dx, dy, anchor)
    for far in _FURTHER if leaders else ():
        for right, down, anchor in _AROUND:
            x, y = float(far * right), far * down
            yield Label(point, text, x, y + (8 if down > 0 else 0), anchor, (x - 2 * right, y))


def _ink(chart: Chart, place: Place) -> FloatArray:
    """Return (points, 2) places in pixels all along the drawn lines, close enough that no letter fits between two of
    them.
    """
    parts = [np.empty((0, 2))]
    for line in chart.lines:
        for run in line.runs() if line.joined else ():
            at = np.array([(place.x(p.x), place.y(p.y)) for p in run])
            steps = np.hypot(*np.diff(at, axis=0).T)
            length = np.concatenate([[0.0], np.cumsum(steps)])
            along = np.linspace(0, length[-1], max(int(length[-1] / 3), 2))
            parts.append(np.stack([np.interp(along, length, at[:, 0]), np.interp(along, length, at[:, 1])], axis=1))
    return np.concatenate(parts)


def _touches(box: _Box, ink: FloatArray) -> bool:
    left, top, right, bottom = box
    x, y = ink.T
    return bool(((x > left - 1) & (x < right + 1) & (y > top - 1) & (y < bottom + 1)).any())


_Box = tuple[float, float, float, float]


def _around(point: ChartPoint, room: float, place: Place) -> _Box:
    x, y = place.x(point.x), place.y(point.y)
    return x - room, y - room, x + room, y + room


def _box(label: Label, place: Place) -> _Box:
    """Left, top, right and bottom of a text."""
    long = _LETTER * len(label.text)
    left = place.x(label.point.x) + label.dx - long * {"start": 0.0, "middle": 0.5, "end": 1.0}[label.anchor]
    base = place.y(label.point.y) + label.dy
    return left, base - 9, left + long, base + 3


def _inside(box: _Box, size: Size) -> bool:
    return box[0] > LEFT and box[1] > 0 and box[2] < size.width - 8 and box[3] < size.height - BOTTOM


def _overlap(a: _Box, b: _Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
