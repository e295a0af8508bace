"""`r2router answers`: what LLMs answered in a collection, which calls failed, and why."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import click

from r2router.cli.outputs import OutputFile
from r2router.cli.screen import note, say, style
from r2router.cli.tables import paths_of
from r2router.cli.values import Number

_EXCERPT = 400  # characters of a text, unless all of it is asked for
_MAX = 1_000  # answers on the screen; more go into a file


@click.command(
    epilog="""\b
Examples:
  r2router answers run/ --failed
  r2router answers run/ --arm qwen3@100 --below-quality 0.5 --limit 5 --full
  r2router answers r2bench-mini --task gsm8k --query "how many"
  r2router answers run/ --below-quality 1 --out wrong.csv"""
)
@click.argument("source", metavar="RUN")
@click.option("--failed", is_flag=True, help="Only calls that ended in an error or gave no text.")
@click.option(
    "--arm",
    "arms",
    multiple=True,
    metavar="ARM",
    help="Only this arm (MODEL@BUDGET), or all of this model. Repeatable.",
)
@click.option("--task", "tasks", multiple=True, metavar="TASK", help="Only queries of this task. Repeatable.")
@click.option("--below-quality", type=Number(0, 1), metavar="Q", help="Only answers with a lower score than Q.")
@click.option(
    "--query",
    "text",
    default="",
    metavar="TEXT",
    help="Only queries that contain this text; upper and lower case are the same.",
)
@click.option(
    "--limit", type=click.IntRange(1, _MAX), default=20, show_default=True, help="How many answers to show at once."
)
@click.option(
    "--skip",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Skip this many answers, for the next page.",
)
@click.option("--full", is_flag=True, help="Show whole texts; default: only their beginning.")
@click.option(
    "--out",
    type=OutputFile(".csv", ".jsonl", ".ndjson", ".parquet"),
    metavar="FILE",
    help="Write all matching answers: .csv, .jsonl or .parquet.",
)
def answers(  # noqa: PLR0913, PLR0917 - one an option
    source: str,
    failed: bool,
    arms: tuple[str, ...],
    tasks: tuple[str, ...],
    below_quality: float | None,
    text: str,
    limit: int,
    skip: int,
    full: bool,
    out: Path | None,
) -> None:
    """Show, filter and export the answers of a collection.

    RUN is the folder of r2router collect (it may still be running), or a table with a column "response". Each answer is
    shown with its query, its reference, its score and the reason: the judge's words, or the error of a failed call.
    """
    from r2router.bench.answers import Filter, find_answers
    from r2router.table.write import write_frame

    wanted = Filter(arms=arms, tasks=tasks, failed=failed, below_quality=below_quality, text=text)
    (path,) = paths_of([source])
    found = find_answers(path, wanted, first=0 if out else skip, maximum=None if out else limit)
    for words in found.notes:
        note(f"note: {words}")
    if out is not None:
        write_frame(found.rows, out)
        say(f"{out}: {found.found:,} of {found.asked:,} answers")
        return
    for number, row in enumerate(found.rows.iter_rows(named=True), skip + 1):
        say(_shown(number, row, full))
    last = skip + len(found.rows)
    more = f"; the next: --skip {last}" if last < found.found else ""
    say(f"{len(found.rows):,} of {found.found:,} found among {found.asked:,} answers{more}")


def _shown(number: int, row: dict[str, Any], full: bool) -> str:
    """Return one answer as a block of lines."""
    from r2router.bench.answers import why

    shown = style()
    tokens = "" if row.get("output_tokens") is None else f", {row['output_tokens']:,.0f} output tokens"
    sample = "" if not row.get("sample") else f", sample {row['sample']}"
    task = f", task {row['task']}" if row.get("task") else ""
    lines = [shown.paint(shown.plain(f"{number}. {row['model']}@{row['budget']}"), bold=True)]
    lines[0] += shown.plain(f"  query {_cut(row['query_id'], 60)}{task}{sample}{tokens}")
    for name, text in (
        ("query", row["query"]),
        ("reference", row.get("reference")),
        ("answer", row.get("response")),
        ("why", why(row)),
    ):
        if text:
            lines += _block(name, text if full else _cut(text.strip(), _EXCERPT), shown.width)
    return "\n".join([*(line if at == 0 else shown.plain(line) for at, line in enumerate(lines)), ""])


def _block(name: str, text: str, width: int) -> list[str]:
    """Return a text under its name, line by line, as wide as the terminal."""
    wide = max(width, 40) - 13
    lines = [part for line in text.splitlines() for part in (textwrap.wrap(line, wide, break_on_hyphens=False) or [""])]
    return [f"   {name if at == 0 else '':<10}{line}".rstrip() for at, line in enumerate(lines or [""])]


def _cut(text: str, maximum: int) -> str:
    return text if len(text) <= maximum else f"{text[:maximum]} ... ({len(text):,} characters)"
