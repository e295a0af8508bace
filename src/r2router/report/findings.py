"""What a study found: figures with intervals, plots and plain words, before anybody draws them.

One shape for every report, so that the terminal, JSON, the web page and the plots show the same thing. Evaluations and
experiments make `Findings`; `to_dict` is for a program, `r2router.report` has `report_text` for a terminal and
`report_page` for a browser, and `r2router.report.file` writes files.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec

from r2router.figure import Figure

Better = Literal["more", "less", ""]


class Series(msgspec.Struct, frozen=True):
    """A named line, or points.

    x, y: equally long; a y that is NaN is a gap.
    low, high: a 95 % band around y, or empty.
    labels: a name a point, or empty.
    strong: the line to look at.

    Raises `ValueError` where the lengths differ.
    """

    name: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()
    style: Literal["line", "points"] = "line"
    strong: bool = False

    def __post_init__(self) -> None:
        n = len(self.x)
        if len(self.y) != n or any(len(part) not in (0, n) for part in (self.low, self.high, self.labels)):
            raise ValueError(f"series {self.name!r}: {n} x, but y, low, high or labels are not as many")


class Plot(msgspec.Struct, frozen=True, tag="plot"):
    """Series over one pair of axes.

    x_unit: how ticks are written; money is US dollars.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_x: bool = False
    x_unit: Literal["", "money"] = ""
    about: str = ""


class GridRow(msgspec.Struct, frozen=True):
    """A line of a grid: figures, plain numbers, words, or None where something is not available.

    strong: the line to look at.
    bound: not in the running for the best of a column, as an oracle is not.
    """

    name: str
    cells: tuple[Figure | float | str | None, ...]
    strong: bool = False
    bound: bool = False


class Grid(msgspec.Struct, frozen=True, tag="grid"):
    """A table of figures.

    columns: heads of the cells, without the first one, which is the rows' name.
    formats: for each column how its numbers are written: a format spec, `money`, or `share` (per cent).
    better: for each column whether `more` or `less` is better, or neither. Both may be empty.

    Raises `ValueError` where the lengths differ.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[GridRow, ...]
    formats: tuple[str, ...] = ()
    better: tuple[Better, ...] = ()
    about: str = ""

    def __post_init__(self) -> None:
        wide = len(self.columns)
        if any(len(part) not in (0, wide) for part in (self.formats, self.better)):
            raise ValueError(f"grid {self.title!r}: {wide} columns, but formats or better are not as many")
        for row in self.rows:
            if len(row.cells) != wide:
                raise ValueError(f"grid {self.title!r}, row {row.name!r}: {len(row.cells)} cells for {wide} columns")


class Paragraph(msgspec.Struct, frozen=True, tag="words"):
    """A paragraph."""

    text: str


Part = Plot | Grid | Paragraph


class Section(msgspec.Struct, frozen=True):
    """A headed part of a report.

    folded: for reviewers; a browser shows it closed.
    """

    title: str
    parts: tuple[Part, ...]
    folded: bool = False


class Findings(msgspec.Struct, frozen=True):
    """What a study found.

    name: of the experiment.
    title, question: what was asked.
    answers: what came out, a sentence each, the most important first.
    sources: (file, sha256) of the data.
    settings: seeds, folds, versions: what a rerun needs.
    command: what was typed.
    notes: what a reader must know.
    simulated: the data are made up, and nothing may be claimed from them.
    """

    name: str
    title: str
    question: str
    answers: tuple[str, ...]
    sections: tuple[Section, ...]
    sources: tuple[tuple[str, str], ...] = ()
    settings: dict[str, Any] = {}
    command: str = ""
    notes: tuple[str, ...] = ()
    simulated: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has; a figure that is not available is null."""
        return jsonable(self)


def jsonable(value: Any) -> Any:
    """Return a struct, or anything within one, in builtins only; NaN and infinity as None, as JSON has no word for
    them.
    """
    match value:
        case Figure():
            return {
                "value": jsonable(value.value),
                "low": jsonable(value.low),
                "high": jsonable(value.high),
                "n": value.n,
            }
        case msgspec.Struct():
            kind = value.__struct_config__.tag  # what tells the parts of a section apart
            fields = {name: jsonable(getattr(value, name)) for name in value.__struct_fields__}
            return {"type": kind, **fields} if kind else fields
        case dict():
            return {str(k): jsonable(v) for k, v in value.items()}
        case tuple() | list():
            return [jsonable(v) for v in value]
        case float():
            return value if math.isfinite(value) else None
        case _:
            return value
