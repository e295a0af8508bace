"""Charts and tables in a terminal: braille dots where it has them, plain characters where not, colour where it is
wanted.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from r2router.report.chart import Chart, ChartPoint, Line
from r2router.text import clean

_PALETTE = (33, 208, 35, 161, 98, 137, 37, 169, 142, 244, 74, 130)  # of the 256 colours: readable on black and on white
_GREY = 245
_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_DOT = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # bits of a braille cell: 2 columns of 4 dots
_ASCII = str.maketrans({"±": "+-", "\u2013": "-", "\u2212": "-", "\u00d7": "x", "…": "...", "•": "*"})
_LEFT = 7  # columns for the labels of the y axis


@dataclass(frozen=True, slots=True)
class Style:
    """What the terminal can show.

    width: columns.
    colour: ANSI colours.
    unicode: more than ASCII.
    """

    width: int = 80
    colour: bool = False
    unicode: bool = True

    def paint(self, text: str, colour: int | None = None, *, bold: bool = False) -> str:
        """Return the text in one of the 256 colours, where colours are wanted."""
        codes = (["1"] if bold else []) + ([f"38;5;{colour}"] if colour is not None else [])
        return f"\x1b[{';'.join(codes)}m{text}\x1b[0m" if self.colour and codes else text

    @property
    def chosen(self) -> str:
        return "◆" if self.unicode else "#"

    @property
    def arrow(self) -> str:
        return "▶" if self.unicode else ">"

    def plain(self, text: str) -> str:
        """Return the text without what this terminal cannot show, and without control characters: a query may
        hold any.
        """
        text = clean(" ".join(re.split(r"\s", text)))
        return text if self.unicode else text.translate(_ASCII).encode("ascii", "replace").decode()


def plot(chart: Chart, style: Style, height: int = 18) -> str:
    """Return the chart as lines of text, `style.width` columns wide."""
    columns = max(min(style.width, 120) - _LEFT - 1, 20)
    canvas = _Canvas(chart, columns, height, style)
    for number, line in chart.layers():
        canvas.draw(line, number)
    if chart.mark is not None:
        canvas.put(chart.mark.x, chart.mark.y, style.paint(style.chosen, bold=True))
    lines = [style.plain(text) for text in textwrap.wrap(chart.title, style.width)[:2]]
    lines += [style.plain(chart.y_label)]
    ticks = {canvas.row(y): label for y, label in chart.y_ticks(max(height // 3, 2))}
    wall, corner, floor, notch = "│└─┴" if style.unicode else "|+-+"
    for row in range(height):
        lines.append(f"{ticks.get(row, ''):>{_LEFT - 1}} {wall}{canvas.text(row)}".rstrip())
    base, labels = [floor] * columns, [" "] * columns
    free = 0
    for x, label in chart.x_ticks(columns // 10):
        at = canvas.column(x)
        base[at] = notch
        start = min(max(at - len(label) // 2, 0), columns - len(label))
        if start >= free:
            labels[start : start + len(label)] = label
            free = start + len(label) + 1
    lines += [" " * _LEFT + corner + "".join(base), " " * (_LEFT + 1) + "".join(labels).rstrip()]
    lines += [" " * (_LEFT + 1) + chart.x_label.center(columns).rstrip(), "", *_legend(chart, style)]
    return "\n".join(lines)


class _Canvas:
    """Cells of braille dots with letters on top. A cell shows the line that was drawn first through it."""

    def __init__(self, chart: Chart, columns: int, rows: int, style: Style) -> None:
        self.chart = chart
        self.columns = columns
        self.rows = rows
        self.style = style
        self.left, self.right, self.bottom, self.top = chart.span()
        self.dots: dict[tuple[int, int], tuple[int, int]] = {}
        self.letters: dict[tuple[int, int], str] = {}

    def column(self, log_x: float) -> int:
        return round((log_x - self.left) / (self.right - self.left) * (self.columns - 1))

    def row(self, y: float) -> int:
        return round((self.top - y) / (self.top - self.bottom) * (self.rows - 1))

    def put(self, x: float, y: float, text: str) -> None:
        self.letters[self.column(self.chart.across(x)), self.row(y)] = text

    def draw(self, line: Line, number: int) -> None:
        for run in line.runs() if line.joined else ():
            for (x0, y0), (x1, y1) in pairwise(self._dot(p.x, p.y) for p in run):
                steps = max(abs(x1 - x0), abs(y1 - y0), 1)
                for step in range(steps + 1):
                    self._set(round(x0 + (x1 - x0) * step / steps), round(y0 + (y1 - y0) * step / steps), number)
        letter = _sample(line, number, self.style)
        points = [p for run in line.runs() for p in run]
        for point in points if line.dots else _some(points):
            self.put(point.x, point.y, letter)

    def text(self, row: int) -> str:
        return "".join(self._cell(column, row) for column in range(self.columns))

    def _cell(self, column: int, row: int) -> str:
        if (column, row) in self.letters:
            return self.letters[column, row]
        if (column, row) not in self.dots:
            return " "
        bits, number = self.dots[column, row]
        return self.style.paint(chr(0x2800 + bits) if self.style.unicode else ".", _colour(number))

    def _dot(self, x: float, y: float) -> tuple[int, int]:
        across = (self.chart.across(x) - self.left) / (self.right - self.left) * (self.columns - 1)
        down = (self.top - y) / (self.top - self.bottom) * (self.rows - 1)
        return round(2 * across + 0.5), round(4 * down + 1.5)

    def _set(self, x: int, y: int, number: int) -> None:
        cell = min(max(x // 2, 0), self.columns - 1), min(max(y // 4, 0), self.rows - 1)
        bits, owner = self.dots.get(cell, (0, number))
        self.dots[cell] = bits | _DOT[x % 2][y % 4], owner


def _some(points: list[ChartPoint], many: int = 5) -> list[ChartPoint]:
    """Return a few points of a long line, to tell whose it is."""
    if len(points) <= many:
        return points
    return [points[round(i * (len(points) - 1) / (many - 1))] for i in range(many)]


def _legend(chart: Chart, style: Style) -> list[str]:
    """Return the lines' letters and names in as many columns as fit, and what is marked."""
    names = [style.plain(line.name) for line in chart.lines]
    lines = []
    if names:
        wide = max(map(width, names)) + 4
        across = max((style.width - 2) // wide, 1)
        for first in range(0, len(names), across):
            row = range(first, min(first + across, len(names)))
            parts = [_sample(chart.lines[n], n, style) + " " + pad(names[n], wide - 2) for n in row]
            lines.append(("  " + "".join(parts)).rstrip())
    if chart.mark is not None:
        lines.append(f"  {style.paint(style.chosen, bold=True)} {style.plain(chart.mark.note)}")
    return lines


def _sample(line: Line, number: int, style: Style) -> str:
    """Return what marks the points of a line: a letter, and a dot for what lies in the background."""
    if line.faint:
        return style.paint("·" if style.unicode else ".", _GREY)
    return style.paint(_LETTERS[number % len(_LETTERS)], _colour(number), bold=True)


def _colour(number: int) -> int:
    return _PALETTE[number % len(_PALETTE)]


# -- tables ---------------------------------------------------------------------------------------------------------


def grid(
    head: Sequence[str], rows: Sequence[Sequence[str]], style: Style, *, right: frozenset[int] = frozenset()
) -> str:
    """Return a table as aligned text without rules, so that it can be copied, searched and cut.

    right: columns of numbers.
    """
    shown = [[style.plain(cell) for cell in row] for row in (head, *rows)]
    widths = [max(width(row[i]) for row in shown) for i in range(len(head))]
    lines = []
    for number, row in enumerate(shown):
        text = "  ".join(
            pad(cell, wide, right=i in right) for i, (cell, wide) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        lines.append(style.paint(text, bold=number == 0))
    return "\n".join(lines)


def width(text: str) -> int:
    """Return columns that a text takes: two for East Asian wide characters, none for accents that combine."""
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def pad(text: str, wide: int, *, right: bool = False) -> str:
    """Return the text, filled with spaces to so many columns."""
    space = " " * max(wide - width(text), 0)
    return space + text if right else text + space
