"""`r2router split`: outcome tables in two parts, one to train on and one to test on."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from r2router.cli.outputs import OutputFile, check_written
from r2router.cli.screen import note, say
from r2router.cli.tables import Texts, embeddings, paths_of, reading, vectors
from r2router.cli.values import Number

FORMATS = (".parquet", ".csv", ".jsonl", ".ndjson")


@click.command(
    epilog="""\b
Examples:
  r2router split r2bench-mini --test 0.2
  r2router split outcomes.parquet --test 0.3 --seed 7 --out parts/outcomes.parquet
  r2router split a.csv b.csv --out both.csv --column query=prompt --scale 100"""
)
@click.argument("tables", nargs=-1, required=True, metavar="TABLE...")
@click.option(
    "--test",
    type=Number(0, 1),
    default=0.2,
    show_default=True,
    metavar="SHARE",
    help="The share of the queries held out.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=42,
    show_default=True,
    help="Random seed; the same seed gives the same parts.",
)
@click.option(
    "--out", type=OutputFile(*FORMATS), metavar="FILE", help="NAME.parquet (.csv, .jsonl) gives NAME.train.parquet, ..."
)
@reading
@vectors
def split(
    tables: tuple[str, ...], test: float, seed: int, out: Path | None, reading: Texts, vectors: Path | None
) -> None:
    """Split outcome tables into one to train on and one to test on.

    Two files are written: NAME.train.parquet and NAME.test.parquet, in this folder unless --out says otherwise. A query
    is in one of them with all its rows; queries of the same text stay together. All columns are kept, under the names
    that r2router uses, so that the parts are read without --column, --scale or --rename.
    """
    from r2router.table.bundled import TABLES
    from r2router.table.split import split_table

    paths = paths_of(tables)
    target = Path(f"{Path(tables[0]).stem}.parquet") if out is None else out
    for part in ("train", "test"):
        check_written(target.with_suffix(f".{part}{target.suffix}"), *FORMATS, typed=False)
    x = None if vectors is None else embeddings(vectors)
    made_parts = split_table(paths, target, test=test, seed=seed, reading=reading.as_reading(), vectors=x)
    for (path, queries), what in zip(made_parts, ("to train on", "to test on"), strict=True):
        say(f"{path}: {queries:,} queries, {what}")
    (train, _), (held_out, _) = made_parts
    prices = f"--pool {tables[0]}" if tables[0] in TABLES else "--prices CSV"
    note(f"next: r2router train {shlex.quote(str(train))} {prices} --out router/")
    note(f"then: r2router evaluate router/ --table {shlex.quote(str(held_out))}")
