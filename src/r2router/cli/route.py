"""`r2router route`: which arm answers one text, or every row of a file."""

from __future__ import annotations

import math
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import click

from r2router.cli.options import Wish, wishes
from r2router.cli.screen import note, progress, say, style

if TYPE_CHECKING:
    from r2router.report import Row, Style
    from r2router.router.router import Router
    from r2router.types import BoolArray, Decision, Forecast


@click.command(
    epilog="""\b
Examples:
  r2router route "Prove that sqrt(2) is irrational"
  r2router route --max-cost 0.002 --json "Who wrote Faust?"
  cat question.txt | r2router route - --min-quality 0.8
  r2router route --input questions.jsonl --output arms.csv --router router/
  r2router route --input embeddings.npy --output arms.parquet --value 0.01"""
)
@click.argument("text", required=False)
@click.option("--input", "source", type=click.Path(path_type=Path), metavar="FILE", help="Route every row: .jsonl .csv .txt .parquet .npy")
@click.option("--output", "target", type=click.Path(path_type=Path), metavar="FILE", help="Here: .jsonl .csv .parquet; by default stdout.")
@click.option("--column", metavar="NAME", help="Of --input, where it is not query, prompt, text, vector or embedding.")
@wishes
@click.option("--json", "as_json", is_flag=True, help="One JSON object for TEXT. Rows of --input are JSON lines anyway.")
@click.pass_context
def route(
    ctx: click.Context, text: str | None, source: Path | None, target: Path | None, column: str | None, wish: Wish, as_json: bool
) -> None:
    """Choose model and output budget for TEXT, or for a file.

    TEXT - reads standard input; before a text that begins with a dash write --. With --input every row of the file gives one row
    of output, in order; a row that cannot be routed gets an "error" instead of an arm, and the exit code is then 1. Files of
    embeddings (.npy, or a list column in Parquet) are routed without the encoder.
    """
    if (text is None) == (source is None):
        raise click.UsageError("give either a TEXT (or - for standard input) or --input FILE")
    if source is None:
        if target is not None or column is not None:
            raise click.UsageError("--output and --column go with --input")
        _route_text(read_text(text or ""), wish, as_json)
    elif as_json and target is not None:
        raise click.UsageError("--json goes without --output: the extension of the output says what is written")
    elif _route_rows(source, target, column, wish):
        ctx.exit(1)


def read_text(text: str) -> str:
    """The text itself, or standard input for `-`."""
    raw = sys.stdin.buffer.read() if text == "-" else text.encode(errors="surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        where = "standard input" if text == "-" else "TEXT"
        raise click.UsageError(f"{where} is not valid UTF-8 (byte {error.start})") from None


def _route_text(text: str, wish: Wish, as_json: bool) -> None:
    router = wish.router()
    decision, forecast, usable = decided(router, text, wish)
    if as_json:
        say(as_json_text(decision))
        return
    from r2router.report.chart import curve_rows
    from r2router.router.router import curves_of

    shown = style()
    rows = [r for r in curve_rows(curves_of(router.pool, forecast), decision, usable) if r.best or r.chosen]
    steps = _steps(sorted(rows, key=lambda r: r.cost), shown)
    # written at once, so that whoever takes only the first line (`| head -1`) does not make this fail
    by = "" if decision.familiar else " by the arms' averages, as the query is unlike the training data"
    say(f"{_words(decision, shown)}\n\nBest for some trade-off{by}, from the cheapest to the best:\n{steps}")


def decided(router: Router, text: str, wish: Wish) -> tuple[Decision, Forecast, BoolArray | None]:
    """The decision on a text, the forecast behind it, and which arms it could use (None: all). The text is embedded once."""
    from r2router.encode import count_tokens

    forecast = router.forecast(text)
    usable = router.usable(wish.require, wish.exclude, count_tokens([text]))
    decision = router.explain(forecast, wish.policy, usable)
    return decision, forecast, None if usable is None else usable.reshape(-1)


def as_json_text(value: object) -> str:
    """JSON of a struct or a list of them; a number that is not known is null."""
    import msgspec

    return msgspec.json.encode(value, enc_hook=str).decode()


def _words(decision: Decision, shown: Style) -> str:
    """The arm on a line of its own, so that a script can take the first line; then why."""
    from r2router.text import money

    lines = [shown.paint(decision.arm, bold=True), ""]
    spread = "" if math.isnan(decision.spread) else f" ± {decision.spread:.2f}"
    rest = f"{money(decision.cost)}, {decision.tokens:,.0f} output tokens"
    if decision.familiar:
        lines.append(f"forecast   quality {decision.quality:.2f}{spread}, {rest}")
    else:
        lines.append(
            f"forecast   quality {shown.paint('not known', bold=True)} (average of the training queries {decision.quality:.2f}), {rest}"
        )
    if decision.max_tokens is not None:
        lines.append(f"limit      max_tokens {decision.max_tokens}")
    for head, text in (("reason", decision.reason), ("fallbacks", ", ".join(decision.fallbacks) or "none")):
        lines += textwrap.wrap(text, max(shown.width, 40), initial_indent=f"{head:<11}", subsequent_indent=" " * 11, break_on_hyphens=False)
    return "\n".join(shown.plain(line) if "\x1b" not in line else line for line in lines)


def _steps(rows: list[Row], shown: Style) -> str:
    from r2router.report.terminal import grid

    full, empty = "█·" if shown.unicode else "#."
    cells = []
    for row in rows:
        bar = round(12 * row.quality)
        model, budget, quality, tokens, cost = row.cells()
        mark = shown.arrow if row.chosen else ""
        cells.append((mark, f"{model}@{budget}", full * bar + empty * (12 - bar), quality, tokens, cost))
    return grid(("", "arm", "", "quality", "tokens", "cost"), cells, shown, right=frozenset({4, 5}))


def _route_rows(source: Path, target: Path | None, column: str | None, wish: Wish) -> bool:
    """Whether any row failed."""
    from r2router.stream import route_file
    from r2router.text import money

    router = wish.router()
    with progress() as shown:
        summary = route_file(
            router,
            source,
            sys.stdout.buffer if target is None else target,
            wish.policy,
            require=wish.require,
            exclude=wish.exclude,
            column=column,
            progress=lambda rows, share: shown("routing", share, 1.0),
        )
    if target is not None:
        mean = f", mean quality {summary.quality:.2f}, {money(summary.cost)} in all (forecast)" if summary.rows > summary.failed else ""
        note(f"{summary.rows:,} rows in {target}{mean}")
    if summary.failed:
        note(f'error: {summary.failed:,} of {summary.rows:,} rows could not be routed; their "error" says why')
    return bool(summary.failed)
