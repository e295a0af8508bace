"""`r2router evaluate` and `r2router calibrate`: what a router is worth, and setting it to a target."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from r2router.cli.learn import check_out
from r2router.cli.report import check_reports, in_words, reports, typed, write_reports
from r2router.cli.screen import note, progress, say
from r2router.cli.tables import Data, data, embeddings, vectors
from r2router.cli.values import Number

if TYPE_CHECKING:
    from r2router.router.router import Router
    from r2router.table.table import Table

_FOLDER = click.Path(path_type=Path)
_tables = click.option(
    "--table", "tables", multiple=True, required=True, metavar="FILE", help="Outcomes to test on. Repeatable."
)


@click.command(
    epilog="""\b
Examples:
  r2router evaluate router/ --table held-out.parquet
  r2router evaluate router/ --table held-out.parquet --report report.html --report report.json"""
)
@click.argument("folder", type=_FOLDER, metavar="DIR")
@_tables
@data
@vectors
@reports
@click.option("--baselines", is_flag=True, help="Also fit and compare the published routers.")
@click.option(
    "--cascade", is_flag=True, help="Also evaluate the cascade on a table with answers; every call is paid for."
)
@click.option(
    "--noise",
    is_flag=True,
    help="Also count the decisions that stay the same under typos, other case, filler words and paraphrase.",
)
@click.option("--leave-out", is_flag=True, help="On a sparse table of several files, also leave each file out in turn.")
@click.option(
    "--train",
    "trained",
    multiple=True,
    metavar="FILE",
    help="Outcomes that the baselines learn from, or that choose the mixtures of a sparse table. Repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print every figure as JSON.")
@click.option(
    "--resamples",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="Bootstrap draws behind the intervals.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed of the bootstrap.")
def evaluate(  # noqa: PLR0913, PLR0917 - one an option
    folder: Path,
    tables: tuple[str, ...],
    data: Data,
    vectors: Path | None,
    files: tuple[Path, ...],
    baselines: bool,
    cascade: bool,
    noise: bool,
    leave_out: bool,
    trained: tuple[str, ...],
    as_json: bool,
    resamples: int,
    seed: int,
) -> None:
    """Score the router in DIR on outcomes it has not seen.

    It is compared with what it has to beat: the best fixed arm, the best mixture of fixed arms, and one budget per
    model. Costs use the router's own prices unless --prices or --pool gives others for the same arms.

    With --baselines the routers of the literature are compared too, each on one budget per model and on the same arms.
    They learn from --train; without it, from the other four fifths of --table, five times over.

    Where no arm was seen on nearly every query, each task is compared on its own with the mixture that --train (or the
    other half of its queries) chooses. With --leave-out a router that is learned from the other files decides on each
    file, too.
    """
    from r2router.evaluation import evaluate as score

    check_reports(files)
    router, table = _repriced(folder, data), _outcomes(tables, data)
    x = None if vectors is None else embeddings(vectors)
    if trained and not baselines and _is_dense(table):
        raise click.UsageError(
            "--train is for the baselines (or, on a sparse table, for the mixtures): give --baselines too"
        )
    _warn_if_trained_on(router, table)
    with progress() as shown:
        train = _outcomes(trained, data) if trained else None
        asked: Any = {
            "baselines": baselines,
            "train": train,
            "noise": noise,
            "cascade": cascade,
            "leave_out": leave_out,
        }
        asked |= {"resamples": resamples, "seed": seed}
        report = score(router, table, vectors=x, progress=shown, **asked)
    write_reports(report.findings(typed()), files)
    if as_json:
        import msgspec

        say(msgspec.json.format(msgspec.json.encode(report.to_dict(), enc_hook=str)).decode())
    else:
        say(in_words(report))


@click.command(
    epilog="""\b
Examples:
  r2router calibrate router/ --table held-out.parquet --spend 0.50
  r2router calibrate router/ --table held-out.parquet --quality 0.8 --out router-80/"""
)
@click.argument("folder", type=_FOLDER, metavar="DIR")
@_tables
@data
@vectors
@click.option(
    "--spend", type=Number(), metavar="USD_PER_1K", help="Maximum mean spend in US dollars per 1,000 requests."
)
@click.option("--quality", type=Number(0, 1), metavar="Q", help="The mean quality to reach at the lowest cost.")
@click.option("--out", type=_FOLDER, metavar="DIR", help="Where the router is saved; default: DIR itself.")
def calibrate(
    folder: Path,
    tables: tuple[str, ...],
    data: Data,
    vectors: Path | None,
    spend: float | None,
    quality: float | None,
    out: Path | None,
) -> None:
    """Set the router's policy to meet a spend or a quality.

    The router in DIR is saved with the value of a correct answer that gives this spend or quality on the queries of the
    table.

    Use a table that it was not trained on: on its own training data a router looks better than it is.
    """
    if (spend is None) == (quality is None):
        raise click.UsageError("give either --spend or --quality")
    check_out(out or folder)
    router, table = _repriced(folder, data), _outcomes(tables, data)
    x = None if vectors is None else embeddings(vectors)
    _warn_if_trained_on(router, table)
    from r2router.evaluation import calibrate as to_target
    from r2router.router.card import policy_words
    from r2router.text import money

    with progress() as shown:
        found = to_target(router, table, spend=spend, quality=quality, vectors=x, progress=shown)
    for text in found.notes:
        note(f"note: {text}")
    router.with_policy(found.policy).save(out or folder)
    say(f"{out or folder}: own policy is now: {policy_words(found.policy)}")
    say(
        f"On {found.n:,} queries it gives quality {found.quality:.3f} at {money(1000 * found.cost)} per 1,000 requests."
    )
    if found.expected is not None:
        gained, paid = found.expected
        say(
            f"On other such queries, by setting each half and measuring on the other: quality {gained.value:.3f}"
            f" [{gained.low:.3f}, {gained.high:.3f}] at {money(1000 * paid.value)} [{money(1000 * paid.low)},"
            f" {money(1000 * paid.high)}]. The target is met on average, not in every sample of queries."
        )


def _repriced(folder: Path, data: Data) -> Router:
    """Return the router in the folder, under the prices that were given."""
    from r2router.router.router import Router

    router = Router.load(folder)
    if data.pool is not None:
        return router.with_pool(data.priced(data.pool))
    return router.with_pool(router.pool.with_prices(data.prices)) if data.prices else router


def _outcomes(tables: Sequence[str], data: Data) -> Table:
    """Tables of any arms: the router takes those it knows, under its own prices."""
    return data.unpriced(tables)


def _warn_if_trained_on(router: Router, table: Table) -> None:
    from r2router.evaluation import leak_words

    if words := leak_words(router, table):
        note(f"note: {words[0].lower()}{words[1:]}")


def _is_dense(table: Table) -> bool:
    """Return whether some arm was seen on nearly every query."""
    from r2router.metrics.methods import Outcomes

    return len(Outcomes.of(table.arms, table.quality, table.quality).fixed_arms()) > 0
