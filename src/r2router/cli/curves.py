"""`r2router curves` and `r2router path`: what a decision is made of."""

from __future__ import annotations

import textwrap
from pathlib import Path

import click

from r2router.cli.mine import Mine, mine
from r2router.cli.outputs import OutputFile
from r2router.cli.route import as_json_text, decided, read_text
from r2router.cli.screen import note, say, style
from r2router.cli.wishes import Wish, load, router_option, wishes


@click.command(
    epilog="""\b
Examples:
  r2router curves "Prove that sqrt(2) is irrational"
  r2router curves --value 0.01 --html curves.html "Who wrote Faust?" """
)
@click.argument("text")
@wishes
@click.option("--html", type=OutputFile(".html", ".htm"), metavar="FILE", help="Draw the curves as one HTML file.")
@click.option(
    "--png", type=OutputFile(".png"), metavar="FILE", help="Draw the curves as a PNG (needs the [plot] extra)."
)
@click.option("--json", "as_json", is_flag=True, help="Print the curves as JSON: one object per model.")
def curves(text: str, wish: Wish, html: Path | None, png: Path | None, as_json: bool) -> None:
    """Show each model's quality over cost for TEXT, and the choice.

    TEXT - reads standard input. In the terminal each model is a letter and a dotted line. A table below has one row per
    arm.
    """
    from r2router.files import whole_file
    from r2router.report import curve_chart, curve_rows, grid, image, page, plot
    from r2router.router.curves import curves_of
    from r2router.text import cost_column

    text = read_text(text)
    router = wish.router()
    decision, forecast, usable = decided(router, text, wish)
    found = curves_of(router.pool, forecast)
    if as_json:
        say(as_json_text(found))
    rows = curve_rows(found, decision, usable)
    chart = curve_chart(_title(text), rows, decision.reason)
    drawn = [(html, page(chart, rows).encode())] if html else []
    drawn += [(png, image(chart))] if png else []
    for target, content in drawn:
        with whole_file(target) as file:
            file.write(content)
        note(f"wrote {target}")
    if as_json or drawn:
        return
    shown = style()
    say(plot(chart, shown))
    cells, last = [], ""
    head, costs = cost_column(row.cost for row in rows)
    for row, cost in zip(rows, costs, strict=True):
        model, *rest, _ = row.cells()
        mark = (
            shown.arrow
            if row.chosen
            else ("•" if shown.unicode else "*")
            if row.best
            else "-"
            if not row.usable
            else ""
        )
        cells.append((mark, "" if model == last else model, *rest, cost))
        last = model
    table = grid(("", "model", "budget", "quality", "tokens", head), cells, shown, right=frozenset({4, 5}))
    say(f"\n{table}\n")
    off = "" if all(r.usable for r in rows) else "   - cannot be chosen"
    say(f"{shown.arrow} chosen   {'•' if shown.unicode else '*'} best for some trade-off{off}")
    say(textwrap.fill(shown.plain(decision.reason), max(shown.width, 40), break_on_hyphens=False))


def _title(text: str, maximum: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= maximum else line[: maximum - 1] + "…"


@click.command(
    epilog="""\b
Example:
  r2router path "Prove that sqrt(2) is irrational" """
)
@click.argument("text")
@router_option
@click.option("--require", multiple=True, metavar="CAP", help="Only models with this capability. Repeatable.")
@click.option("--exclude", multiple=True, metavar="MODEL", help="Exclude this model or arm. Repeatable.")
@mine
@click.option("--json", "as_json", is_flag=True, help="Print the steps as JSON.")
def path(
    text: str, folder: Path | None, require: tuple[str, ...], exclude: tuple[str, ...], as_json: bool, mine: Mine
) -> None:
    """Show every arm that is best for some trade-off on TEXT.

    Each arm is optimal from its lambda down to the next row's. "worth" is the same threshold in dollars for a correct
    answer.
    """
    from r2router.report.terminal import grid
    from r2router.text import cost_column, money

    steps = mine.of(load(folder), starter=folder is None).path(read_text(text), require=require, exclude=exclude)
    if as_json:
        say(as_json_text(steps))
        return
    head, costs = cost_column(s.cost for s in steps)
    rows = zip(steps, costs, strict=True)
    cells = [(s.arm, f"{s.lam:.4f}", money(s.value), f"{s.quality:.2f}", cost) for s, cost in rows]
    say(grid(("arm", "from lambda", "worth", "quality", head), cells, style(), right=frozenset({1, 2, 3, 4})))
