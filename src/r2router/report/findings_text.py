"""Findings as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from r2router.report.cells import NOTHING, Cell, cells, count
from r2router.report.findings import Findings, Grid, Paragraph, Part, Plot, Section
from r2router.report.findings_page import plain
from r2router.report.place import shorten
from r2router.report.plots import SIMULATED, plot_chart
from r2router.report.terminal import Style, pad, plot, width

_NAME = 30  # columns for the name of a row
_CELL = 40  # columns for the words of a cell
_DIGEST = 16  # characters of a sha256: enough to compare by eye; JSON and the web page have all


def report_text(findings: Findings | Sequence[Findings], style: Style) -> str:
    """Answers first, then tables and plots as wide as the terminal. Folded sections are named only."""
    every = [findings] if isinstance(findings, Findings) else findings
    rule = ("═" if style.unicode else "=") * min(style.width, 120)
    return f"\n\n{rule}\n\n".join("\n".join(_text(found, style)) for found in every)


def _text(found: Findings, style: Style) -> list[str]:
    lines = [style.paint(text, bold=True) for text in _wrap(found.title, style)]
    lines += _wrap(found.question, style)
    if found.simulated:
        lines += ["", *_wrap(f"{SIMULATED}: nothing may be claimed from these figures.", style)]
    lines.append("")
    for answer in found.answers:
        lines += _wrap(answer, style, "• ")
    shown = [section for section in found.sections if not section.folded]
    if any(isinstance(part, Grid) for section in shown for part in section.parts):
        lines += [
            "",
            *_wrap(
                f"In tables: value [95 % interval]; * is the best value of a column; {NOTHING} is not available.", style
            ),
        ]
    for section in shown:
        lines += _section(section, style)
    if folded := [section.title for section in found.sections if section.folded]:
        lines += ["", *_wrap("In the report as a file also: " + "; ".join(folded) + ".", style)]
    return [*lines, *_made(found, style)]


def _section(section: Section, style: Style) -> list[str]:
    lines = ["", style.paint(style.plain(section.title), bold=True)]
    lines.append(("─" if style.unicode else "-") * min(width(style.plain(section.title)), style.width))
    for part in section.parts:
        lines += [*_part(part, style), ""]
    return lines[:-1]


def _part(part: Part, style: Style) -> list[str]:
    match part:
        case Paragraph(text):
            return _wrap(text, style)
        case Plot():
            return [plot(plot_chart(part), style), *_wrap(part.about, style)]
        case Grid():
            return [*_wrap(part.title, style), *_table(part, style), *_wrap(part.about, style)]


def _made(found: Findings, style: Style) -> list[str]:
    lines = _wrap(found.command, style, "command: ") if found.command else []
    for name, value in found.settings.items():
        lines += _wrap(plain(value), style, f"{name}: ")
    for file, digest in found.sources:
        lines += _wrap(file + (f", sha256 {digest[:_DIGEST]}..." if digest else ""), style, "data: ")
    for note in found.notes:
        lines += _wrap(note, style, "note: ")
    return ["", *lines] if lines else []


def _wrap(text: str, style: Style, head: str = "") -> list[str]:
    text, head = style.plain(text), style.plain(head)
    return textwrap.wrap(
        text,
        max(min(style.width, 120), 20),
        initial_indent=head,
        subsequent_indent=" " * min(len(head), 9),
        break_on_hyphens=False,
    )


# -- tables ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Column:
    """A column as lines of text: its head, and each row's cell.

    right: of numbers.
    """

    head: list[str]
    rows: list[list[str]]
    right: bool

    @property
    def wide(self) -> int:
        return max(width(line) for cell in (self.head, *self.rows) for line in cell)


def _table(grid: Grid, style: Style) -> list[str]:
    """Aligned columns. Where they are too wide, intervals stand below their values; if that does not do, columns below
    columns.
    """
    shown = cells(grid)
    n = count(shown)
    names = _Column([""], [[style.plain(shorten(row.name, _NAME))] for row in grid.rows], right=False)
    room = max(min(style.width, 160) - names.wide, 16)
    columns: list[_Column] = []
    for stacked in (False, True):
        columns = [
            _column(head, [row[j] for row in shown], stacked, n is None, style) for j, head in enumerate(grid.columns)
        ]
        if sum(c.wide + 2 for c in columns) <= room:
            break
    lines = []
    for block in _blocks(columns, room):
        lines += [*_lines([names, *block], [row.strong for row in grid.rows], style), ""]
    return [*lines[:-1], *([f"n = {n:,} queries behind every figure"] if n else [])]


def _column(head: str, shown: list[Cell], stacked: bool, with_n: bool, style: Style) -> _Column:
    rows = []
    for cell in shown:
        n = f"n {cell.n:,}" if with_n and cell.n else ""
        parts = [cell.text + ("*" if cell.best else ""), " ".join(filter(None, (cell.interval, n)))]
        text = parts if stacked and parts[1] else [" ".join(filter(None, parts))]
        rows.append([line for part in text for line in textwrap.wrap(style.plain(part), _CELL) or [""]])
    inner = max((width(line) for row in rows for line in row), default=0)
    return _Column(textwrap.wrap(style.plain(head), max(inner, 12)) or [""], rows, any(cell.numeric for cell in shown))


def _blocks(columns: list[_Column], room: int) -> list[list[_Column]]:
    """Return the columns in as few blocks as fit beside the names; at least one column each."""
    blocks: list[list[_Column]] = [[]]
    left = room
    for column in columns:
        if blocks[-1] and column.wide + 2 > left:
            blocks.append([])
            left = room
        blocks[-1].append(column)
        left -= column.wide + 2
    return blocks


def _lines(columns: list[_Column], strong: list[bool], style: Style) -> list[str]:
    """Return columns beside each other; heads end on the line above the first row."""
    tall = max(len(c.head) for c in columns)
    lines = [
        style.paint(line, bold=True) for line in _beside([(c, [""] * (tall - len(c.head)) + c.head) for c in columns])
    ]
    for i, bold in enumerate(strong):
        lines += [style.paint(line, bold=bold) for line in _beside([(c, c.rows[i]) for c in columns])]
    return lines


def _beside(parts: list[tuple[_Column, list[str]]]) -> list[str]:
    tall = max(len(lines) for _, lines in parts)
    return [
        "  ".join(pad(lines[k] if k < len(lines) else "", c.wide, right=c.right) for c, lines in parts).rstrip()
        for k in range(tall)
    ]
