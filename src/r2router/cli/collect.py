"""`r2router collect` and `r2router compact`: asking real LLMs, and the table of what they said."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from r2router.cli.keys import agree_to_keys, send_key_option
from r2router.cli.running import (
    agree,
    dollars,
    engine_option,
    opener_of,
    run_plan,
    say_errors,
    say_limit,
    show_estimate,
    whatever_stopped,
)
from r2router.cli.screen import note, say
from r2router.cli.values import Number, pairs

if TYPE_CHECKING:
    from r2router.bench.plan import CollectionPlan
    from r2router.bench.status import Status
    from r2router.bench.suite import Query
    from r2router.upstream.controls import Controls

_FOLDER = click.Path(path_type=Path)


@click.command(
    epilog="""\b
Examples:
  r2router collect --suite questions.jsonl --pool pool.toml --out runs/first --dry-run
  r2router collect --suite questions.jsonl --pool pool.toml --out runs/first --max-spend 5
  r2router collect --suite 'reasoning-gym:mini?size=10' --pool pool.toml --out runs/mini
  r2router collect --suite questions.jsonl --pool pool.toml --out runs/first --max-spend 5 --adaptive
  r2router compact runs/first && r2router train runs/first/outcomes.parquet --pool pool.toml --out router/"""
)
@click.option(
    "--suite",
    "suites",
    required=True,
    multiple=True,
    metavar="SUITE",
    help="The questions: a file, or the name of a suite. Repeatable.",
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="OURS=THEIRS",
    help="Our column name = the name in --suite (text=prompt). Repeatable.",
)
@click.option(
    "--pool",
    "pool_file",
    type=_FOLDER,
    required=True,
    metavar="TOML",
    help="The pool file: models, budgets, prices, providers.",
)
@click.option(
    "--out", type=_FOLDER, required=True, metavar="DIR", help="Folder of the collection; an existing one is continued."
)
@click.option(
    "--max-spend", type=Number(), metavar="USD", help="Stop before DIR costs more than this, earlier runs included."
)
@click.option("--adaptive", is_flag=True, help="Choose what to ask: spend --max-spend where it makes the best router.")
@click.option("--dry-run", is_flag=True, help="Estimate the cost by model and budget; make no call.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation before spending.")
@send_key_option
@click.option(
    "--scorer", default="", metavar="NAME", help="Scorer for queries that name none: exact, numeric, choice, ..."
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N queries of the suite.")
@click.option(
    "--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Answers per (query, model, budget)."
)
@click.option(
    "--concurrency", type=click.IntRange(min=1), metavar="N", help="Concurrent calls per provider; default: the pool's."
)
@click.option(
    "--control",
    "controls",
    multiple=True,
    metavar="KEY=VALUE",
    help="How budgets are enforced (wording=words). Repeatable.",
)
@click.option(
    "--unjudged", is_flag=True, help="Collect even if only an LLM judge (r2router judge) can score the answers."
)
@click.option(
    "--retry-failed",
    is_flag=True,
    help="Repeat calls that ended in an error (except a prompt longer than the context), or gave no usage or no text.",
)
@engine_option("Where calls are made.")
def collect(  # noqa: PLR0913, PLR0917  one parameter an option
    suites: tuple[str, ...], columns: tuple[str, ...], pool_file: Path, out: Path, max_spend: float | None,
    adaptive: bool, dry_run: bool,
    yes: bool, send_keys: tuple[str, ...], scorer: str, limit: int | None, samples: int, concurrency: int | None,
    controls: tuple[str, ...], unjudged: bool, retry_failed: bool, engine: str,
) -> None:  # fmt: skip
    """Ask LLMs a suite of questions under budgets.

    Every answer is kept. Each call is on the disk before it counts: a run that was killed, or stopped by its limit,
    continues where it stopped. Keys come from the environment variables that the pool names.
    """
    from r2router.bench.estimate import estimate
    from r2router.bench.folder import JOURNAL
    from r2router.bench.journal import Journal
    from r2router.bench.suites import load_queries
    from r2router.upstream.wire import ASKED_AGAIN

    if adaptive and max_spend is None:
        raise click.UsageError("--adaptive needs --max-spend USD: it chooses what to ask for that money")
    _check_folder(out)
    queries = _with_scorer(
        load_queries(suites, columns=pairs("--column", columns, "text=prompt"), say=note)[:limit], scorer
    )
    _check_judgeable(queries, unjudged)
    plan = _plan(queries, pool_file, samples, concurrency, _controls(controls))
    with Journal(out / JOURNAL, retry=ASKED_AGAIN if retry_failed else (), write=not dry_run) as journal:
        for text in journal.notes:
            note(f"note: {text}")
        if not dry_run and journal.records:
            _remember(out, plan)
        for arm in plan.unenforced:
            note(f"note: nothing enforces the budget of {arm}: add control, for example ['instruction', 'max_tokens']")
        if samples > 1 and plan.controls.temperature == 0:
            note(f"note: at temperature 0 the {samples} samples will hardly differ: give --control temperature=0.7")
        left = estimate(plan, journal)
        show_estimate(left, journal, len(plan))
        if dry_run or not left:
            return
        expected, high = sum(e.usd for e in left), sum(e.high_usd for e in left)
        if max_spend is not None and adaptive:
            expected, high = (min(usd, max(0.0, max_spend - journal.spent)) for usd in (expected, high))
        say_limit(plan, max_spend)
        if not yes and high > 0:
            limited = "" if max_spend is None else f", never above {dollars(max_spend)} in all"
            agree(f"spend about {dollars(expected)} (up to {dollars(high)}{limited})?")
        agree_to_keys(plan.providers, send_keys)
        _remember(out, plan)
        status = asyncio.run(
            run_plan(plan, journal, opener_of(engine, plan), max_spend, expected, adaptive=engine if adaptive else None)
        )
    _finish(status, out)


# -- before ---------------------------------------------------------------------------------------------------------


def _with_scorer(queries: list[Query], scorer: str) -> list[Query]:
    """Return the queries, with a scorer for those that name none."""
    import msgspec

    from r2router.bench.scoring import scorer_named

    if not scorer:
        return queries
    scorer_named(scorer)
    return [q if q.scorer else msgspec.structs.replace(q, scorer=scorer) for q in queries]


def _check_folder(out: Path) -> None:
    """Refuse a folder in which other files stand under the names of a collection's, or a router."""
    from r2router.bench.folder import JOURNAL, OUTCOMES, QUERIES
    from r2router.errors import SaveError
    from r2router.router.artifact import MANIFEST

    if (out / MANIFEST).exists():
        raise SaveError(f"{out}: is a saved router; choose another folder")
    for name in (QUERIES, OUTCOMES):
        if (out / name).exists() and not (out / JOURNAL).exists():
            raise SaveError(
                f"{out / name}: exists without a {JOURNAL}, so the folder is no collection; choose another one"
            )


def _remember(out: Path, plan: CollectionPlan) -> None:
    """Keep the queries in the folder; say what is different in them from now on."""
    from r2router.bench.folder import remember

    if changed := remember(out, plan.queries):
        note(
            f"note: {changed:,} queries have another reference, scorer or task than before: nothing is asked again for"
            f" that, and r2router compact {out} scores all answers by what the suite says now"
        )


def _check_judgeable(queries: list[Query], unjudged: bool) -> None:
    """Check, before anything is spent, that the answers can be judged."""
    from r2router.bench.scoring import NEED_REFERENCE, scorer_named
    from r2router.errors import DataError

    for name in {q.scorer for q in queries if q.scorer}:
        scorer_named(name)
    lost = [q for q in queries if q.reference is None and (not q.scorer or q.scorer in NEED_REFERENCE)]
    if not unjudged and queries and len(lost) == len(queries):
        raise DataError(
            f"none of the {len(queries):,} queries has a reference, or a scorer that needs none, so no scorer can judge"
            " the answers: add references, or give --unjudged and let an LLM judge them afterwards (r2router judge DIR"
            " --judge MODEL)"
        )
    if lost and not unjudged:
        note(
            f"note: no scorer can judge {len(lost):,} of {len(queries):,} queries, which have no reference (the first"
            f" is {lost[0].id!r})"
        )
    wrong = [
        q for q in queries if q.reference is not None and q.scorer in NEED_REFERENCE and not _right(q, q.reference)
    ]
    if wrong:
        note(
            f"note: {len(wrong):,} references are not right by their own scorer, so no answer to these queries can be"
            f" (the first: query {wrong[0].id!r}, scorer {wrong[0].scorer}, reference {wrong[0].reference!r:.60})"
        )


def _right(query: Query, response: str) -> bool:
    from r2router.bench.scoring import scorer_named
    from r2router.bench.suite import Score

    score = scorer_named(query.scorer).score(query, response)
    return isinstance(score, Score) and score.quality == 1


def _plan(
    queries: list[Query], pool_file: Path, samples: int, concurrency: int | None, controls: Controls
) -> CollectionPlan:
    import msgspec

    from r2router.bench.plan import CollectionPlan
    from r2router.pool.pool import Pool
    from r2router.pool.toml import read_providers

    plan = CollectionPlan(queries, Pool.read(pool_file), read_providers(pool_file), controls, samples)
    if concurrency is not None:
        faster = {n: msgspec.structs.replace(p, concurrency=concurrency) for n, p in plan.providers.items()}
        plan = CollectionPlan(queries, plan.pool, faster, controls, samples)
    return plan


def _controls(pairs: tuple[str, ...]) -> Controls:
    import msgspec

    from r2router.upstream.controls import Controls

    split = [pair.partition("=") for pair in pairs]
    if any(not (key and equals) for key, equals, _ in split):
        raise click.UsageError("--control: write KEY=VALUE, for example wording=words")
    try:
        return msgspec.convert(
            {key: None if value == "none" else value for key, _, value in split}, Controls, strict=False
        )
    except msgspec.ValidationError as error:
        raise click.UsageError(f"--control: {error} (there are: {', '.join(Controls.__struct_fields__)})") from None


def _finish(status: Status, out: Path) -> None:
    from r2router.errors import CollectError

    cells = f"{status.done:,} of {status.planned:,} cells, {status.done - status.there:,} of them in this run"
    say(f"{out}: {cells}, {status.failed:,} failed, {dollars(status.spent_usd)} spent in all")
    say_errors(status)
    if status.stopped:
        again = (
            ", with --retry-failed to ask again what failed"
            if status.failed or any(name.startswith("model ") for name in status.stopped)
            else ""
        )
        raise CollectError(
            f"{whatever_stopped(status)}. The answers are kept: run the same command again to continue{again}"
        )
    if status.done < status.planned:
        raise CollectError("interrupted. The answers are kept: run the same command again to continue")
    say(f"next: r2router compact {out}")
