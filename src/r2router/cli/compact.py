"""`r2router compact`: the table of a collection."""

from __future__ import annotations

from pathlib import Path

import click

from r2router.cli.outputs import OutputFile
from r2router.cli.running import engine_option
from r2router.cli.screen import note, say


@click.command(
    epilog="""\b
Example:
  r2router compact runs/first"""
)
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--out",
    type=OutputFile(".parquet", own="outcomes.parquet"),
    metavar="FILE",
    help="The Parquet file; by default DIR/outcomes.parquet.",
)
@click.option(
    "--scorer", default="", metavar="NAME", help="Scorer for queries that name none: exact, numeric, choice, ..."
)
@click.option(
    "--trust-code", is_flag=True, help="Let queries name code-trusted, which runs answers even where no sandbox works."
)
@engine_option("Where scorers run: in this process, or on a Ray cluster.")
def compact(folder: Path, out: Path | None, scorer: str, trust_code: bool, engine: str) -> None:
    """Make one table of the collection in DIR.

    The collection may still be running. Local scorers score the answers again each time, so a better scorer needs no
    new call.
    """
    from r2router.bench.engine import open_spread
    from r2router.bench.folder import OUTCOMES
    from r2router.bench.folder import compact as make

    with open_spread(engine) as spread:
        made = make(
            folder, out, scorer=scorer, trust_code=trust_code, spread=spread, say=lambda told: note(f"note: {told}")
        )
    say(f"{out or folder / OUTCOMES}: {made.rows:,} rows, {made.judged:,} judged, {made.errors:,} errors")
    if made.left_out:
        note(
            f"note: {made.left_out:,} answers are left out, as {folder}/queries.jsonl does not have their queries (was"
            " it lost?): run r2router collect with their suite again, which writes them and asks nothing twice"
        )
    if made.errors == made.rows:
        note(
            "note: no call gave an answer; the errors are in the table. r2router collect --retry-failed repeats those"
            " that may pass"
        )
    elif not made.judged:
        note("note: no row has a quality: give --scorer, name a scorer in the suite, or judge the answers")
