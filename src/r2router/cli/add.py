"""`r2router add`: an LLM that arrives later."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from r2router.cli.learn import check_out
from r2router.cli.screen import note, say, style
from r2router.cli.tables import NO_PRICES, Data, data

if TYPE_CHECKING:
    from r2router.router.card import Added
    from r2router.router.router import Router
    from r2router.table.table import Table
    from r2router.types import Model

_FOLDER = click.Path(path_type=Path)


@click.command(
    epilog="""\b
Examples:
  r2router add router/ --table new-llm.parquet --prices prices.csv
  r2router add router/ --table graded.csv --model gpt-5-nano --pool pool.toml --out router-2/"""
)
@click.argument("folder", type=_FOLDER, metavar="DIR")
@click.option(
    "--table", "tables", multiple=True, required=True, metavar="FILE", help="Outcomes of the new model. Repeatable."
)
@click.option(
    "--model", "models", multiple=True, metavar="ID", help="Add this model only; default: all new models. Repeatable."
)
@data
@click.option("--out", type=_FOLDER, metavar="DIR", help="Where the router is saved; default: DIR itself.")
def add(folder: Path, tables: tuple[str, ...], models: tuple[str, ...], data: Data, out: Path | None) -> None:
    """Add models to the router in DIR, without retraining.

    The table holds what a model's arms gave on 100 to 500 graded queries; the training data is not needed. Outcomes of
    models that the router has, on the same queries, make it more exact. Forecasts of these, the policy and the cost
    scale stay as they are.
    """
    check_out(out or folder)
    from r2router.router.router import Router

    router = Router.load(folder)
    table = data.unpriced(tables)
    for text in table.notes:
        note(f"note: {text}")
    for model in _wanted(router, table, models, data):
        router = router.add_model(
            model, table.with_arms([a for a in table.arms if a.model == model.id or a in router.pool.index])
        )
        _introduce(router.facts.added[-1])
    router.save(out or folder)
    say(
        f"{out or folder}: {len(router.pool.models)} models, {len(router.arms)} arms; own policy unchanged (set it:"
        " r2router calibrate)"
    )


def _wanted(router: Router, table: Table, names: tuple[str, ...], data: Data) -> list[Model]:
    """Return the models to add, with the budgets and prices of --pool, or those of the table under --prices."""
    from r2router.errors import DataError
    from r2router.pool.pool import Pool
    from r2router.router.add_model import new_models
    from r2router.text import listing, suggest

    there = {m.id: m for m in table.pool.models}
    wanted = list(dict.fromkeys(names)) or new_models(router, table)
    if not wanted:
        raise DataError(f"the router already has all models of the table: {listing(there)}")
    if strange := [name for name in wanted if name not in there]:
        raise DataError(
            f"the table holds no outcomes of {listing(strange)}{suggest(strange[0], there)}; it has {listing(there)}"
        )
    if data.pool is not None:
        file = {m.id: m for m in data.priced(data.pool).models}
        if (missing := [name for name in wanted if name not in file]) and not data.drop_unknown:
            raise DataError(
                f"{data.pool} does not list {listing(missing)}: add it there, or leave its rows out (--drop-unknown)"
            )
        return [file[name] for name in wanted if name in file]
    if not data.prices:
        raise click.UsageError(NO_PRICES)
    return list(Pool(there[name] for name in wanted).with_prices(data.prices).models)


def _introduce(added: Added) -> None:
    """What was learned of a model."""
    from r2router.report.terminal import grid

    for text in added.notes:
        note(f"note: {added.model}: {text}")
    say(f"{added.model}, from {added.queries:,} graded queries:")
    rows = [(f.name, f"{f.value:.3g}", f"{f.low:.3g} to {f.high:.3g}", str(f.n)) for f in added.figures]
    say(grid(("figure", "value", "95 % interval", "queries"), rows, style(), right=frozenset({1, 3})))
