"""`r2router evaluate` and `r2router calibrate`: what a router is worth, and setting it to a target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from r2router.cli.learn import check_out
from r2router.cli.options import Data, Number, data
from r2router.cli.screen import note, progress, style

if TYPE_CHECKING:
    from r2router.decide import Value
    from r2router.router import Router
    from r2router.table import Table

_FOLDER = click.Path(path_type=Path)
_tables = click.option("--table", "tables", multiple=True, required=True, metavar="FILE", help="Outcomes to judge by. Repeatable.")


@click.command(
    epilog="""\b
Example:
  r2router evaluate router/ --table held-out.parquet"""
)
@click.argument("folder", type=_FOLDER, metavar="DIR")
@_tables
@data
@click.option("--json", "as_json", is_flag=True, help="Every figure as JSON.")
@click.option("--resamples", type=click.IntRange(min=1), default=500, show_default=True, help="Bootstrap draws behind the intervals.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the bootstrap.")
def evaluate(folder: Path, tables: tuple[str, ...], data: Data, as_json: bool, resamples: int, seed: int) -> None:
    """Score the router in DIR on outcomes it has not seen.

    Beside it stands what it has to beat: the best fixed arm, the best mixture of fixed arms, and one budget a model. Costs use the
    router's own prices unless --prices or --pool gives others for the same arms.
    """
    from r2router.evaluation import evaluate as judge

    router, table = _repriced(folder, data), _outcomes(tables, data)
    _warn_if_trained_on(router, table)
    with progress() as shown:
        report = judge(router, table, resamples=resamples, seed=seed, progress=shown)
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(report.to_dict(), enc_hook=str)).decode())
    else:
        click.echo("\n".join(map(style().plain, str(report).splitlines())))


@click.command(
    epilog="""\b
Examples:
  r2router calibrate router/ --table held-out.parquet --spend 0.50
  r2router calibrate router/ --table held-out.parquet --quality 0.8 --out router-80/"""
)
@click.argument("folder", type=_FOLDER, metavar="DIR")
@_tables
@data
@click.option("--spend", type=Number(), metavar="USD_PER_1K", help="The most US dollars to spend on 1,000 requests, on average.")
@click.option("--quality", type=Number(0, 1), metavar="Q", help="The mean quality to reach, as cheaply as can be.")
@click.option("--out", type=_FOLDER, metavar="DIR", help="Where the router is saved; by default where it is.")
def calibrate(folder: Path, tables: tuple[str, ...], data: Data, spend: float | None, quality: float | None, out: Path | None) -> None:
    """Set the router's policy to meet a spend or a quality.

    The router in DIR is saved with the value of an answer at which the queries of the table come out as asked.

    Use a table that it was not trained on: on its own training data a router looks better than it is.
    """
    if (spend is None) == (quality is None):
        raise click.UsageError("give either --spend or --quality")
    check_out(out or folder)
    router, table = _repriced(folder, data), _outcomes(tables, data)
    _warn_if_trained_on(router, table)
    value, got, cost = _calibrated(router, table, spend, quality)
    router.with_policy(value).save(out or folder)
    from r2router.card import policy_words
    from r2router.explain import money

    click.echo(f"{out or folder}: own policy is now: {policy_words(value)}")
    click.echo(f"On {len(table):,} queries that gives quality {got:.3f} at {money(1000 * cost)} per 1,000 requests.")


def _calibrated(router: Router, table: Table, spend: float | None, quality: float | None) -> tuple[Value, float, float]:
    """(policy, mean quality, mean cost in US dollars) for one of the two targets."""
    import numpy as np

    from r2router.calibrate import for_quality, for_spend
    from r2router.encode import count_tokens
    from r2router.errors import DataError
    from r2router.evaluation import align
    from r2router.score import Outcomes, Routed

    seen, notes = align(table, router)
    for text in (*seen.notes, *notes):
        note(f"note: {text}")
    forecast = router.forecast(seen.queries)
    outcomes = Outcomes.of(seen.arms, seen.quality, seen.cost(router.input_tokens.estimate(count_tokens(seen.queries))))
    usable = router.pool.usable()
    kept = np.flatnonzero((outcomes.seen & np.isfinite(forecast.quality) & np.isfinite(forecast.cost) & usable).any(axis=1))
    if not len(kept):
        raise DataError("no query of the table has an outcome on an arm that the router can choose")
    outcomes = Outcomes(outcomes.arms, outcomes.quality[kept], outcomes.cost[kept])
    routed = Routed.of(forecast.quality[kept], forecast.cost[kept], outcomes, np.flatnonzero(usable))
    gained, paid = np.nan_to_num(outcomes.quality), np.nan_to_num(outcomes.cost)
    value = for_spend(routed.sweep, paid, spend / 1000) if spend is not None else for_quality(routed.sweep, gained, quality or 0.0)
    arm, rows = routed.sweep.at(value.usd), np.arange(len(kept))
    return value, float(gained[rows, arm].mean()), float(paid[rows, arm].mean())


def _repriced(folder: Path, data: Data) -> Router:
    """The router in the folder, under the prices that were given."""
    from r2router.router import Router

    router = Router.load(folder)
    if data.pool is not None:
        return router.with_pool(data.priced(data.pool))
    return router if data.prices is None else router.with_pool(router.pool.with_prices(data.prices))


def _outcomes(tables: Sequence[str], data: Data) -> Table:
    """Tables of any arms: the router takes those it knows, under its own prices."""
    from r2router.table import Table

    return Table.read(list(tables), columns=data.columns)


def _warn_if_trained_on(router: Router, table: Table) -> None:
    own = {digest for _, digest in router.facts.sources if digest}
    for name, digest in table.sources:
        if digest in own:
            note(f"note: the router was trained on {name}: on it, it looks better than it is")
