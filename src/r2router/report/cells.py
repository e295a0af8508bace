"""What stands in the cells of a grid of findings: the same characters in a browser and in a terminal."""

from __future__ import annotations

import math
from dataclasses import dataclass

from r2router.figure import Figure
from r2router.report.findings import Grid
from r2router.text import money, settled, written

NOTHING = "\u2013"
"""An en dash: what is written where something is not available."""

NEVER = "never"
"""What stands at the end of an interval where some draws never reach a quality."""


@dataclass(frozen=True, slots=True)
class Cell:
    """text, and its 95 % interval in brackets.

    n: queries behind it, 0 if unknown.
    best: of its column.
    numeric: it is a number.
    """

    text: str
    interval: str = ""
    n: int = 0
    best: bool = False
    numeric: bool = False

    @property
    def missing(self) -> bool:
        return self.text == NOTHING and not self.interval


def number(value: float, form: str = "") -> str:
    """Return a number as a format spec, `money` or `share` (per cent) says; without one, with three significant digits
    or as it is.
    """
    if not math.isfinite(value):
        return NOTHING
    value = settled(value)
    match form:
        case "money":
            return money(value)
        case "share":
            return f"{_per_cent(value)} %"
        case "":
            return f"{value:,.0f}" if abs(value) >= 1000 or value == int(value) else f"{value:.3g}"
        case _:
            return written(value, form)


def cells(grid: Grid) -> list[list[Cell]]:
    """Return the cells of each row. The best of a column are all that read the same as the best; bounds are not in the
    running.
    """
    forms = grid.formats or ("",) * len(grid.columns)
    return [
        [
            _cell(content, form, not row.bound and i in best)
            for content, form, best in zip(row.cells, forms, _best(grid, forms), strict=True)
        ]
        for i, row in enumerate(grid.rows)
    ]


def count(shown: list[list[Cell]]) -> int | None:
    """Return the number of queries behind every figure; None where they differ, 0 where no figure says."""
    counts = {cell.n for row in shown for cell in row if cell.n}
    return None if len(counts) > 1 else counts.pop() if counts else 0


def _cell(content: Figure | float | str | None, form: str, best: bool) -> Cell:
    match content:
        case None:
            return Cell(NOTHING)
        case str():
            return Cell(content)
        case Figure():
            value = number(content.value, form) + (content.unit if not form and math.isfinite(content.value) else "")
            return Cell(value, _interval(content, form), content.n, best, numeric=True)
        case _:
            return Cell(number(content, form), best=best, numeric=True)


def _interval(figure: Figure, form: str) -> str:
    if not (math.isfinite(figure.low) or math.isfinite(figure.high)):
        return ""
    return f"[{_end(figure.low, form)}, {_end(figure.high, form)}]"


def _end(value: float, form: str) -> str:
    """Return one end of an interval; endless is what is never reached."""
    if math.isinf(value):
        return NEVER
    return _per_cent(value) if form == "share" and math.isfinite(value) else number(value, form)


def _per_cent(share: float) -> str:
    """Return one decimal, or two significant digits below one per cent."""
    per_cent = 100 * settled(share)
    return f"{per_cent:.2g}" if 0 < abs(per_cent) < 1 else written(per_cent, ",.1f")


def _best(grid: Grid, forms: tuple[str, ...]) -> list[set[int]]:
    """Find the rows of the best value in each column; none where there is nothing to choose between."""
    found: list[set[int]] = []
    for column, form in enumerate(forms):
        wanted = grid.better[column] if grid.better else ""
        values = {
            i: v for i, row in enumerate(grid.rows) if not row.bound and (v := _value(row.cells[column])) is not None
        }
        if not wanted or len(values) < 2:
            found.append(set())
            continue
        top = number((max if wanted == "more" else min)(values.values()), form)
        equal = {i for i, v in values.items() if number(v, form) == top}
        found.append(equal if len(equal) < len(values) else set())
    return found


def _value(content: Figure | float | str | None) -> float | None:
    value = content.value if isinstance(content, Figure) else content
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
