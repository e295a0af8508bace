"""`r2router train` and `r2router import`: where routers come from."""

from __future__ import annotations

import math
import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from r2router.cli.report import in_words
from r2router.cli.screen import note, progress, say, style
from r2router.cli.tables import Data, data, embeddings, paths_of, vectors
from r2router.cli.values import Number

if TYPE_CHECKING:
    from r2router.figure import Figure
    from r2router.router.router import Router
    from r2router.table.table import Table
    from r2router.types import FloatArray

_FOLDER = click.Path(path_type=Path)
_out = click.option("--out", type=_FOLDER, required=True, metavar="DIR", help="Where the router is saved.")


@click.command(
    epilog="""\b
Examples:
  r2router train r2bench-mini --test 0.2 --out router/
  r2router train outcomes.parquet --prices prices.csv --out router/
  r2router train a.csv b.csv --pool pool.toml --out router/ --learner ridge:alpha=100
  r2router train foreign.csv --prices genai-prices --column query=prompt --column quality=score --out router/"""
)
@click.argument("tables", nargs=-1, required=True, metavar="TABLE...")
@data
@_out
@click.option(
    "--learner",
    metavar="NAME[:KEY=VALUE,...]",
    help="How to learn, for example ridge:alpha=30; default: chosen for the table.",
)
@click.option("--encoder", metavar="ENCODER", help="What turns texts into vectors; default: the embedded MiniLM.")
@vectors
@click.option(
    "--test",
    type=Number(0, 1),
    metavar="SHARE",
    help="Hold out this share of the queries, evaluate on it, and keep it in DIR.held-out.parquet.",
)
@click.option(
    "--cascade", is_flag=True, help="Also learn from the answers (column response), so that Router.step can use them."
)
@click.option(
    "--continue-answers",
    is_flag=True,
    help=(
        "With --cascade: answers are continued under larger budgets (control prefix_sharing), and only what is added is"
        " paid."
    ),
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Random seed of the folds, the bootstrap and the held-out queries.",
)
@click.option(
    "--folds",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    help="Folds of the cross-validation; 0 skips it.",
)
def train(  # noqa: PLR0913, PLR0917 - one an option
    tables: tuple[str, ...],
    data: Data,
    out: Path,
    learner: str | None,
    encoder: str | None,
    vectors: Path | None,
    test: float | None,
    cascade: bool,
    continue_answers: bool,
    seed: int,
    folds: int,
) -> None:
    """Train a router on outcome tables and save it.

    A TABLE is Parquet, CSV, JSON lines, a folder of such files, or hf://...; several read as one. Without --pool the
    models and budgets are those of the tables. r2bench-mini is a small real one that comes with r2router, prices
    included.
    """
    data.check_priced(tables)
    check_out(out)
    kept = None if test is None else _check_kept(out, paths_of(tables))
    if continue_answers and not cascade:
        raise click.UsageError("--continue-answers says how a cascade asks: give --cascade too")
    given: dict[str, Any] = {"seed": seed, "folds": folds, "cascade": cascade}
    given |= {} if learner is None else {"learner": learner_of(learner)}
    given |= {} if encoder is None else {"encoder": encoder}
    from r2router.router.recipe import Recipe

    if continue_answers:
        from r2router.cascade import Cascade

        given["cascade"] = Cascade(seed=seed, continue_answers=True)
    recipe = Recipe(**given)
    x = None if vectors is None else embeddings(vectors)
    note(f"reading {', '.join(tables)}")
    rows = data.rows(tables, keep=test is not None)
    table = data.table(tables, rows)
    table.check_vectors(x)
    train, held_out = (table, None) if test is None else table.split(test, seed)
    note(f"training on {len(train):,} queries and {len(train.arms)} arms")
    with progress() as shown:
        router = recipe.fit(train, _of(train, table, x), progress=shown)
    router.save(out)
    _introduce(router, out)
    if held_out is not None and kept is not None:
        from r2router.evaluation import evaluate
        from r2router.table.split import write_part

        x_held_out = _of(held_out, table, x)
        write_part(rows.frame, held_out.query_ids, kept, x_held_out)
        with progress() as shown:
            report = evaluate(router, held_out, vectors=x_held_out, cascade=cascade, seed=seed, progress=shown)
        say(f"\nOn the held-out queries:\n{in_words(report)}")
        more = "" if x is None else f" --vectors {shlex.quote(str(kept.with_suffix('.vectors.npy')))}"
        note(f"next: r2router evaluate {shlex.quote(str(out))} --table {shlex.quote(str(kept))}{more}")


def _check_kept(out: Path, sources: Sequence[str]) -> Path:
    """Check where the held-out part is written: beside the router's folder, which may be shared, and never over an
    input.
    """
    from r2router.errors import DataError

    kept = out.with_name(f"{out.name}.held-out.parquet")
    if any(kept.exists() and Path(source).exists() and kept.samefile(source) for source in sources):
        raise DataError(f"{kept}: is an input and would be overwritten by its held-out part; choose another --out")
    return kept


def _of(part: Table, table: Table, vectors: FloatArray | None) -> FloatArray | None:
    """Return the embeddings of a part of the table's queries."""
    row = {query: i for i, query in enumerate(table.query_ids)}
    return None if vectors is None else vectors[[row[query] for query in part.query_ids]]


def learner_of(text: str) -> Any:
    """Return a learner from `name` or `name:key=value,...`. Raises a usage error naming the key or value that
    is wrong.
    """
    import msgspec

    from r2router.router.learners import learner_class

    name, colon, rest = text.partition(":")
    kind = learner_class(name)
    pairs = [pair.partition("=") for pair in rest.split(",")] if colon else []
    if any(not (key and equals) for key, equals, _ in pairs):
        raise click.UsageError(f"--learner {text!r}: write NAME:KEY=VALUE,KEY=VALUE, for example ridge:alpha=30")
    try:
        return msgspec.convert({key: value for key, _, value in pairs}, kind, strict=False)
    except msgspec.ValidationError as error:
        keys = ", ".join(getattr(kind, "__struct_fields__", ()))
        raise click.UsageError(f"--learner {text!r}: {error} ({name} takes: {keys})") from None


def check_out(folder: Path) -> None:
    """Refuse a folder that the router could not be saved in, before hours of work rather than after."""
    from r2router.errors import SaveError
    from r2router.router.artifact import MANIFEST

    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        raise SaveError(f"{folder}: exists and is not a router; choose another folder, so that its files are not lost")
    if folder.exists() and not folder.is_dir():
        raise SaveError(f"{folder}: exists and is not a folder")
    parent = next(p for p in folder.absolute().parents if p.exists())
    if not os.access(parent, os.W_OK):
        raise SaveError(f"{folder}: {parent} cannot be written to")


def _introduce(router: Router, out: Path) -> None:
    """What was made, what it measured, and what to do next."""
    from r2router.report.terminal import grid
    from r2router.router.card import policy_words

    facts, shown = router.facts, style()
    for text in facts.notes:
        note(f"note: {text}")
    queries = f", {facts.queries:,} queries" if facts.queries else ""
    say(f"{out}: {len(router.pool.models)} models, {len(router.arms)} arms{queries}")
    say(f"own policy: {policy_words(router.policy)}" + (f"; {facts.promise}" if facts.promise else ""))
    if facts.figures:
        say(f"\nMeasured by {facts.folds}-fold cross-validation on the training queries:")
        rows = [(f.name, *_written(f)) for f in facts.figures]
        say(grid(("figure", "value", "95 % interval"), rows, shown, right=frozenset({1})))
    what = "--input embeddings.npy --output arms.jsonl" if router.encoder.startswith("given:") else '"your question"'
    say(f"\nnext: r2router route --router {shlex.quote(str(out))} {what}")


def _written(figure: Figure) -> tuple[str, str]:
    """Return a figure and its interval, for a person."""
    from r2router.text import money, written

    def form(value: float) -> str:
        if math.isnan(value):
            return "never"
        return money(value) if figure.name.startswith("USD") else f"{written(value, '.3g')}{figure.unit}"

    return form(figure.value), f"{form(figure.low)} to {form(figure.high)}"


@click.group("import")
def import_() -> None:
    """Import a router from elsewhere."""


@import_.command(
    epilog="""\b
Example:
  r2router import ucf R2-Router/ --out ucf-router/"""
)
@click.argument("folder", type=_FOLDER, metavar="DIR")
@_out
@click.option("--faithful", is_flag=True, help="Decide exactly as the released code does, its mistakes included.")
@click.option(
    "--encoder",
    metavar="ENCODER",
    help="The encoder that makes the release's embeddings; without one it routes embeddings only.",
)
def ucf(folder: Path, out: Path, faithful: bool, encoder: str | None) -> None:
    """Import the paper's released router.

    DIR holds its config.json and checkpoints/. Nothing in it is executed.
    """
    check_out(out)
    from r2router.importers.ucf import import_release

    router = import_release(folder, faithful=faithful, encoder=encoder)
    router.save(out)
    _introduce(router, out)
