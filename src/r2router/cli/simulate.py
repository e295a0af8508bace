"""`r2router simulate`: made-up outcomes of any size, whose truth is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from r2router.cli.outputs import OutputFile, check_written
from r2router.cli.screen import note, progress, say
from r2router.cli.tables import embeddings, paths_of
from r2router.cli.wishes import load

if TYPE_CHECKING:
    from r2router.simulate import Simulated

_PATH = click.Path(path_type=Path)


@click.command(
    epilog="""\b
Examples:
  r2router simulate --out made-up.parquet --queries 5000
  r2router simulate --out made-up.parquet --router router/ --like outcomes.parquet --truth
  r2router train made-up.parquet --prices made-up.prices.csv --vectors made-up.vectors.npy --out router/"""
)
@click.option(
    "--out",
    type=OutputFile(".parquet"),
    required=True,
    metavar="FILE",
    help="The table to write (.parquet); related files are written next to it.",
)
@click.option(
    "--router",
    "folder",
    type=_PATH,
    metavar="DIR",
    help="The router whose curves are the truth; default: the bundled starter router.",
)
@click.option("--like", metavar="TABLE", help="A real table; its noise, tasks and query lengths are copied.")
@click.option(
    "--vectors",
    type=_PATH,
    metavar="FILE",
    help="Embeddings of real queries to draw around (.npy); with --like, of its queries.",
)
@click.option("--queries", type=int, default=1000, show_default=True, metavar="N", help="How many queries.")
@click.option("--models", type=int, metavar="M", help="How many models; more than the router has are perturbed copies.")
@click.option("--budgets", type=int, metavar="K", help="How many budgets per model; default: the router's own.")
@click.option("--seed", type=int, default=0, show_default=True, help="Random seed.")
@click.option("--truth", is_flag=True, help="Also write a table of every cell's expected quality and tokens.")
def simulate(  # noqa: PLR0913, PLR0917 - one argument an option
    out: Path,
    folder: Path | None,
    like: str | None,
    vectors: Path | None,
    queries: int,
    models: int | None,
    budgets: int | None,
    seed: int,
    truth: bool,
) -> None:
    """Make up an outcome table from a router's own curves.

    For tests of scale, and of learners and metrics against a known truth. Every row says that it is simulated, and so
    does whatever is made of it: nothing may be claimed from such data.

    Beside out.parquet it writes out.vectors.npy (the embeddings of its queries, whose texts mean nothing),
    out.prices.csv and, with --truth, out.truth.parquet.
    """
    for beside in _beside(out, truth):
        check_written(beside, typed=False)
    if not out.absolute().parent.is_dir():
        raise click.UsageError(f"--out {out}: the folder {out.absolute().parent} does not exist")
    from r2router.simulate import simulate as made_up
    from r2router.table.table import Table

    router = load(folder)
    table = None if like is None else Table.read(paths_of([like]))
    base = None if vectors is None else embeddings(vectors)
    with progress() as shown:
        found = made_up(
            router, queries, seed=seed, table=table, vectors=base, models=models, budgets=budgets, progress=shown
        )
    _write(found, out, truth)
    n = len(found.table)
    arms = len(found.table.arms)
    pool = found.table.pool
    say(f"{out}: simulated, {n:,} queries x {arms} arms of {len(pool.models)} models ({n * arms:,} rows)")
    say(f"also written: {', '.join(path.name for path in _beside(out, truth))}")


def _beside(out: Path, truth: bool) -> list[Path]:
    """Return the files that belong to a table."""
    endings = (".vectors.npy", ".prices.csv", *((".truth.parquet",) if truth else ()))
    return [out.with_name(out.stem + ending) for ending in endings]


def _write(found: Simulated, out: Path, truth: bool) -> None:
    import numpy as np

    from r2router.files import whole_file
    from r2router.pool.prices import write_prices

    vectors, prices, *exact = _beside(out, truth)
    note(f"writing {out}")
    found.table.write(out)
    with whole_file(vectors) as file:
        np.save(file, found.vectors)
    with whole_file(prices) as file:
        file.write(write_prices(found.table.pool.models).encode())
    for path in exact:
        found.exact.write(path)
