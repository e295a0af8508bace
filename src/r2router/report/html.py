"""Web pages of one file: no script, nothing fetched, light or dark as the reader's system is.

Pages are Jinja templates (`templates/`) that escape every value by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from r2router.report import svg as drawn
from r2router.report.chart import Chart, CurveRow
from r2router.report.place import NARROW
from r2router.report.svg import DARK, LIGHT, legible, svg, swatch
from r2router.text import cost_column

if TYPE_CHECKING:
    from jinja2 import Environment


@cache
def _templates() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    made = Environment(
        loader=PackageLoader("r2router.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: legible(value) if type(value) is str else value,
    )
    made.globals |= {
        "picture": picture,
        "light": LIGHT,
        "dark": DARK,
        "chart_css": Markup(drawn.CSS),  # noqa: S704 - our own style sheet
    }
    return made


def render(template: str, **values: Any) -> str:
    """Return a page from a template of this package; text among the values is escaped and cleaned of control
    characters.
    """
    return _templates().get_template(template).render(**values)


def picture(chart: Chart) -> dict[str, Any]:
    """Return the chart for wide and for narrow screens, and what its legend says: (sample of the line, name)."""
    legend = [(swatch(line, n), line.name) for n, line in enumerate(chart.lines)]
    return {"wide": svg(chart), "narrow": svg(chart, NARROW), "legend": legend}


def page(chart: Chart, rows: Sequence[CurveRow] = ()) -> str:
    """Return the chart and a table of the rows as a whole document."""
    head, costs = cost_column(row.cost for row in rows)
    shown = [(row, _kind(row), _note(row), (*row.cells()[:-1], cost)) for row, cost in zip(rows, costs, strict=True)]
    return render("curves.html", chart=chart, cost=head, rows=shown)


def _kind(row: CurveRow) -> str:
    """Return the CSS class of a row."""
    return "chosen" if row.chosen else "" if row.usable else "off"


def _note(row: CurveRow) -> str:
    return (
        "chosen"
        if row.chosen
        else "cannot be chosen"
        if not row.usable
        else "best for some trade-off"
        if row.best
        else ""
    )
