"""`r2router suite`: what is in a suite, and part of it in a file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from r2router.cli.outputs import OutputFile
from r2router.cli.screen import note, say, style
from r2router.cli.values import pairs

if TYPE_CHECKING:
    from r2router.bench.suite import Query


@click.command(
    epilog="""\b
Examples:
  r2router suite 'reasoning-gym:mini?size=10&seed=7' --out questions.jsonl
  r2router suite mmlu-pro --sample 500 --seed 1 --out mmlu.jsonl
  r2router suite chat:requests.jsonl --distinct --out asked.jsonl
  r2router suite test.jsonl --against train.jsonl"""
)
@click.argument("specs", nargs=-1, required=True, metavar="SUITE...")
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="OURS=THEIRS",
    help="Our column name = the name in the file (text=prompt). Repeatable.",
)
@click.option(
    "--scorer", default="", metavar="NAME", help="Scorer for queries that name none: exact, numeric, choice, code, ..."
)
@click.option("--distinct", "once", is_flag=True, help="Leave out queries whose text was seen before.")
@click.option(
    "--sample",
    "size",
    type=click.IntRange(min=1),
    metavar="N",
    help="Draw N queries at random, in proportion to the tasks.",
)
@click.option("--seed", type=click.IntRange(min=0), default=42, show_default=True, help="Random seed of the sample.")
@click.option(
    "--against",
    multiple=True,
    metavar="SUITE",
    help="Training queries, to find repeated and nearly repeated ones. Repeatable.",
)
@click.option(
    "--out", type=OutputFile(".jsonl", ".ndjson"), metavar="FILE", help="Write the queries as JSON lines (.jsonl)."
)
def suite(
    specs: tuple[str, ...], columns: tuple[str, ...], scorer: str, once: bool, size: int | None, seed: int,
    against: tuple[str, ...],
    out: Path | None,
) -> None:  # fmt: skip
    """Show, sample and check a suite of questions.

    A SUITE is a file of prompts (.jsonl .csv .parquet, also at hf://), chat:FILE with logged requests,
    reasoning-gym:TASKS, or a
    benchmark: mmlu-pro, openhermes, math, gpqa, musr, ragbench.
    """
    import msgspec

    from r2router.bench.scoring import scorer_named
    from r2router.bench.suites import load_queries
    from r2router.bench.suites.contamination import contamination
    from r2router.bench.suites.sample import distinct, sample

    queries = load_queries(specs, columns=pairs("--column", columns, "text=prompt"), say=note)
    if scorer:
        scorer_named(scorer)
        queries = [q if q.scorer else msgspec.structs.replace(q, scorer=scorer) for q in queries]
    kept, repeats = distinct(queries)
    if repeats:
        again, first = repeats[0]
        note(
            f"note: {len(repeats):,} queries {'left out, that' if once else ''} repeat an earlier one ({again} repeats"
            f" {first})".replace("  ", " ")
        )
    if once:
        queries = kept
    if size is not None:
        queries = sample(queries, size, seed=seed)
    _show(queries)
    if against:
        found = contamination(load_queries(against), queries)
        say(f"\n{found}")
        for overlap in found.overlaps[:10]:
            say(f"  {overlap.test_id} and {overlap.train_id}: {overlap.kind}, {overlap.share:.0%}")
        if len(found.overlaps) > 10:
            say(f"  and {len(found.overlaps) - 10:,} more")
    if out is not None:
        _write(queries, out)


def _show(queries: list[Query]) -> None:
    from r2router.report.terminal import grid

    rows: dict[tuple[str, str], Counter[str]] = {}
    for query in queries:
        counts = rows.setdefault((query.task, query.scorer), Counter())
        counts.update(queries=1, references=query.reference is not None)
    cells = [
        (task or "-", scorer or "-", f"{c['queries']:,}", f"{c['references']:,}") for (task, scorer), c in rows.items()
    ]
    say(grid(("task", "scorer", "queries", "with reference"), cells, style(), right=frozenset({2, 3})))
    say(f"{len(queries):,} queries")


def _write(queries: list[Query], out: Path) -> None:
    import msgspec

    from r2router.files import whole_file

    encoder = msgspec.json.Encoder()
    with whole_file(out) as file:
        file.writelines(encoder.encode(query) + b"\n" for query in queries)
    note(f"{len(queries):,} queries in {out}")
