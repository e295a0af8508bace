"""`r2router collect` and `r2router compact`: asking real LLMs, and the table of what they said."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from r2router.cli.options import Number, pairs
from r2router.cli.screen import note, say, style

if TYPE_CHECKING:
    from r2router.bench.engine import Engine
    from r2router.bench.journal import Journal
    from r2router.bench.plan import Estimate, Plan
    from r2router.bench.status import Status
    from r2router.bench.suite import Query
    from r2router.upstream.controls import Controls

_FOLDER = click.Path(path_type=Path)
_PLAIN_EVERY = 10.0  # seconds between lines where stderr is a file
_BAR_EVERY = 0.2


def _engine(what: str) -> Callable[[Any], Any]:
    return click.option("--engine", type=click.Choice(["asyncio", "ray"]), default="asyncio", show_default=True, help=what)


@click.command(
    epilog="""\b
Examples:
  r2router collect --suite questions.jsonl --pool pool.toml --out runs/first --dry-run
  r2router collect --suite questions.jsonl --pool pool.toml --out runs/first --max-spend 5
  r2router collect --suite 'reasoning-gym:mini?size=10' --pool pool.toml --out runs/mini
  r2router collect --suite questions.jsonl --pool pool.toml --out runs/first --max-spend 5 --adaptive
  r2router compact runs/first && r2router train runs/first/outcomes.parquet --pool pool.toml --out router/"""
)
@click.option("--suite", "suites", required=True, multiple=True, metavar="SUITE", help="What to ask: a file, or a name. Repeatable.")
@click.option("--column", "columns", multiple=True, metavar="OURS=THEIRS", help="A column's name in --suite (text=prompt). Repeatable.")
@click.option("--pool", "pool_file", type=_FOLDER, required=True, metavar="TOML", help="Whom to ask: models, budgets, prices, providers.")
@click.option(
    "--out", type=_FOLDER, required=True, metavar="DIR", help="Where the journal is; the same DIR again goes on where it stopped."
)
@click.option("--max-spend", type=Number(), metavar="USD", help="Stop before DIR has cost more than this, earlier runs included.")
@click.option("--adaptive", is_flag=True, help="Choose what to ask: spend --max-spend where it makes the best router.")
@click.option("--dry-run", is_flag=True, help="Say what it will cost, by model and budget, and ask nothing.")
@click.option("--yes", is_flag=True, help="Spend without asking first.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first N queries of the suite.")
@click.option("--samples", type=click.IntRange(min=1), default=1, show_default=True, help="Answers a cell.")
@click.option("--concurrency", type=click.IntRange(min=1), metavar="N", help="Calls at once at each provider; by default the pool's.")
@click.option("--control", "controls", multiple=True, metavar="KEY=VALUE", help="How budgets are put (wording=words). Repeatable.")
@click.option("--unjudged", is_flag=True, help="Collect even where nothing but r2router judge --judge LLM can judge the answers.")
@click.option("--retry-failed", is_flag=True, help="Ask again what left an error, but prompts beyond the context.")
@_engine("Where calls are made.")
def collect(  # noqa: PLR0913, PLR0917  one parameter an option
    suites: tuple[str, ...], columns: tuple[str, ...], pool_file: Path, out: Path, max_spend: float | None, adaptive: bool, dry_run: bool,
    yes: bool, limit: int | None, samples: int, concurrency: int | None, controls: tuple[str, ...], unjudged: bool, retry_failed: bool,
    engine: str,
) -> None:  # fmt: skip
    """Ask LLMs a suite of questions, under budgets.

    Every answer is kept. Each call is on the disk before it counts, so a run that is killed, or stopped by its limit, goes on where it
    was. Keys come from the environment variables that the pool names.
    """
    from r2router.bench.folder import JOURNAL, remember
    from r2router.bench.journal import Journal
    from r2router.bench.plan import estimate
    from r2router.bench.suites import load_queries
    from r2router.upstream.wire import ASKED_AGAIN

    if adaptive and max_spend is None:
        raise click.UsageError("--adaptive needs --max-spend USD: it chooses what that buys")
    queries = load_queries(suites, columns=pairs("--column", columns, "text=prompt"), say=note)[:limit]
    _check_judgeable(queries, unjudged)
    plan = _plan(queries, pool_file, samples, concurrency, _controls(controls))
    with Journal(out / JOURNAL, retry=ASKED_AGAIN if retry_failed else (), write=not dry_run) as journal:
        for text in journal.notes:
            note(f"note: {text}")
        for arm in plan.unenforced:
            note(f"note: nothing enforces the budget of {arm}: add control, for example ['instruction', 'max_tokens']")
        if samples > 1 and plan.controls.temperature == 0:
            note(f"note: at temperature 0 the {samples} answers of a cell will hardly differ: give --control temperature=0.7")
        left = estimate(plan, journal)
        show_estimate(left, journal, len(plan))
        if dry_run or not left:
            return
        expected, high = sum(e.usd for e in left), sum(e.high_usd for e in left)
        if max_spend is not None and adaptive:
            expected, high = (min(usd, max(0.0, max_spend - journal.spent)) for usd in (expected, high))
        if not yes and high > 0:
            limited = "" if max_spend is None else f", never above {dollars(max_spend)} in all"
            agree(f"spend about {dollars(expected)} (up to {dollars(high)}{limited})?")
        remember(out, plan.queries)
        status = asyncio.run(run_plan(plan, journal, _opener(engine, plan), max_spend, expected, adaptive=engine if adaptive else None))
    _finish(status, out)


@click.command(
    epilog="""\b
Example:
  r2router compact runs/first"""
)
@click.argument("folder", type=_FOLDER, metavar="DIR")
@click.option("--out", type=_FOLDER, metavar="FILE", help="The Parquet file; by default DIR/outcomes.parquet.")
@click.option("--scorer", default="", metavar="NAME", help="Judges queries that name none of their own: exact, numeric, choice, ...")
@click.option("--trust-code", is_flag=True, help="Let queries name code-trusted, which runs answers even where no sandbox works.")
@_engine("Where scorers run: in this process, or on a Ray cluster.")
def compact(folder: Path, out: Path | None, scorer: str, trust_code: bool, engine: str) -> None:
    """Make one table of the collection in DIR.

    It may still be going on. Local scorers judge the answers again each time, so a better scorer needs no new call.
    """
    from r2router.bench.engine import open_spread
    from r2router.bench.folder import OUTCOMES
    from r2router.bench.folder import compact as make

    with open_spread(engine) as spread:
        made = make(folder, out, scorer=scorer, trust_code=trust_code, spread=spread, say=lambda told: note(f"note: {told}"))
    say(f"{out or folder / OUTCOMES}: {made.rows:,} rows, {made.judged:,} judged, {made.errors:,} errors")
    if made.errors == made.rows:
        note("note: no call gave an answer: the errors are in the table; --retry-failed asks again what may pass")
    elif not made.judged:
        note("note: no row has a quality: give --scorer, name a scorer in the suite, or judge the answers")


# -- before ---------------------------------------------------------------------------------------------------------


def _check_judgeable(queries: list[Query], unjudged: bool) -> None:
    """Before anything is spent: somebody must be able to judge the answers."""
    from r2router.bench.scoring import NEED_REFERENCE, scorer_named
    from r2router.errors import DataError

    for name in {q.scorer for q in queries if q.scorer}:
        scorer_named(name)
    lost = [q for q in queries if q.reference is None and (not q.scorer or q.scorer in NEED_REFERENCE)]
    if not unjudged and queries and len(lost) == len(queries):
        raise DataError(
            f"none of the {len(queries):,} queries has a reference, or a scorer that needs none, so no scorer can judge the answers: add "
            "references, or give --unjudged and let an LLM judge them afterwards (r2router judge DIR --judge MODEL)"
        )
    if lost and not unjudged:
        note(f"note: no scorer can judge {len(lost):,} of {len(queries):,} queries, which have no reference (the first is {lost[0].id!r})")
    wrong = [q for q in queries if q.reference is not None and q.scorer in NEED_REFERENCE and not _right(q, q.reference)]
    if wrong:
        note(
            f"note: {len(wrong):,} references are not right by their own scorer, so no answer to these queries can be (the first: query "
            f"{wrong[0].id!r}, scorer {wrong[0].scorer}, reference {wrong[0].reference!r:.60})"
        )


def _right(query: Query, response: str) -> bool:
    from r2router.bench.scoring import scorer_named
    from r2router.bench.suite import Score

    score = scorer_named(query.scorer).score(query, response)
    return isinstance(score, Score) and score.quality == 1


def _plan(queries: list[Query], pool_file: Path, samples: int, concurrency: int | None, controls: Controls) -> Plan:
    import msgspec

    from r2router.bench.plan import Plan
    from r2router.pool.pool import Pool
    from r2router.pool.toml import read_providers

    plan = Plan(queries, Pool.read(pool_file), read_providers(pool_file), controls, samples)
    if concurrency is not None:
        faster = {n: msgspec.structs.replace(p, concurrency=concurrency) for n, p in plan.providers.items()}
        plan = Plan(queries, plan.pool, faster, controls, samples)
    return plan


def _controls(pairs: tuple[str, ...]) -> Controls:
    import msgspec

    from r2router.upstream.controls import Controls

    split = [pair.partition("=") for pair in pairs]
    if any(not (key and equals) for key, equals, _ in split):
        raise click.UsageError("--control: write KEY=VALUE, for example wording=words")
    try:
        return msgspec.convert({key: None if value == "none" else value for key, _, value in split}, Controls, strict=False)
    except msgspec.ValidationError as error:
        raise click.UsageError(f"--control: {error} (there are: {', '.join(Controls.__struct_fields__)})") from None


def show_estimate(left: list[Estimate], journal: Journal, planned: int, what: str = "cells") -> None:
    """Print what is there and what is left to pay for."""
    from r2router.report.terminal import grid

    if journal.records:
        say(f"{journal.records:,} records there, {journal.errors:,} {what} with an error, {dollars(journal.spent)} spent")
    if not left:
        failed = f"; {journal.errors:,} there have an error (--retry-failed asks again what may pass)" if journal.errors else ""
        say(f"all {planned:,} {what} are done{failed}")
        return
    rows = []
    for e in left:
        measured = f"{e.measured:,} calls" if e.measured else "no call"
        rows.append((e.model, e.budget, f"{e.calls:,}", dollars(e.usd), f"{dollars(e.low_usd)} to {dollars(e.high_usd)}", measured))
    calls, usd, low, high = (sum(getattr(e, name) for e in left) for name in ("calls", "usd", "low_usd", "high_usd"))
    rows.append(("all", "", f"{calls:,}", dollars(usd), f"{dollars(low)} to {dollars(high)}", ""))
    head = ("model", "budget", "calls", "expected", "from to", "measured on")
    say(grid(head, rows, style(), right=frozenset({2, 3, 4, 5})))


# -- meanwhile ------------------------------------------------------------------------------------------------------


def _opener(engine: str, plan: Plan) -> Callable[[], Engine]:
    from r2router.bench.engine import open_engine

    return lambda: open_engine(engine, plan.providers)


async def run_plan(
    plan: Plan, journal: Journal, opener: Callable[[], Engine], max_spend: float | None, expected: float, *, adaptive: str | None = None
) -> Status:
    """Ask what is left of a plan, and show how far it is; the engine is opened in the loop that uses it.

    adaptive: the name of the engine, in whose place queries are embedded and answers scored to choose by; None for all of the plan.
    """
    from r2router.bench.collect import collect as ask
    from r2router.bench.engine import open_spread
    from r2router.bench.rounds import collect_rounds

    stop = asyncio.Event()
    with _interrupts(stop), _Shown() as shown:
        caller = opener()
        try:
            if adaptive is not None and max_spend is not None:
                with open_spread(adaptive) as spread:
                    return await collect_rounds(
                        plan, journal, caller, max_spend=max_spend, report=shown, stop=stop, say=note, spread=spread
                    )  # fmt: skip
            return await ask(plan, journal, caller, max_spend=max_spend, to_come_usd=expected, report=shown, stop=stop)
        finally:
            await caller.close()


@contextlib.contextmanager
def _interrupts(stop: asyncio.Event) -> Any:
    """The first Ctrl-C or SIGTERM lets calls in flight, which are paid for, come in; the second ends at once."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)

    def finish() -> None:
        stop.set()
        note("stopping: waiting for the calls in flight (again to drop them)")
        for number in signals:
            loop.remove_signal_handler(number)

    with contextlib.suppress(NotImplementedError):  # Windows
        for number in signals:
            loop.add_signal_handler(number, finish)
    try:
        yield
    finally:
        with contextlib.suppress(NotImplementedError):
            for number in signals:
                loop.remove_signal_handler(number)


class _Shown:
    """Shows the status on stderr: a bar on a terminal, a rare line elsewhere; whatever stops is said at once."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._said: set[str] = set()
        self._line = ""
        self._next = time.monotonic() + (_BAR_EVERY if sys.stderr.isatty() else _PLAIN_EVERY)

    def __enter__(self) -> _Shown:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, status: Status) -> None:
        """Show it, if it is time."""
        for name in status.stopped.keys() - self._said:
            self._said.add(name)
            note(f"note: {status.stopped[name]}")
        now = time.monotonic()
        if now < self._next and status.done < status.planned:
            return
        if not sys.stderr.isatty():
            self._next = now + _PLAIN_EVERY
            line = f"{status.done:,} of {status.planned:,} done, {_words(status)}"
            if line != self._line:
                note(line)
            self._line = line
            return
        self._next = now + _BAR_EVERY
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False))
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("", total=status.planned)
        self._bar.update(self._task, completed=status.done, total=status.planned, description=_words(status))


def _words(status: Status) -> str:
    left = status.seconds_to_come
    wait = "" if left is None else f" and {_duration(left)}"
    return f"{status.failed:,} failed, {dollars(status.spent_usd)} spent, about {dollars(status.to_come_usd)}{wait} to come"


def _finish(status: Status, out: Path) -> None:
    from r2router.errors import CollectError

    cells = f"{status.done:,} of {status.planned:,} cells, {status.done - status.there:,} of them in this run"
    say(f"{out}: {cells}, {status.failed:,} failed, {dollars(status.spent_usd)} spent in all")
    say_errors(status)
    if status.stopped:
        raise CollectError(f"{whatever_stopped(status)}. What was answered is kept: run the same command again to go on")
    if status.done < status.planned:
        raise CollectError("interrupted. What was answered is kept: run the same command again to go on")
    say(f"next: r2router compact {out}")


def say_errors(status: Status) -> None:
    """What the errors of this run were, the commonest first, and whether a control was ignored."""
    if status.over_allowance:
        note(f"note: {status.over_allowance:,} answers thought longer than their allowance: the endpoint does not keep to thinking_tokens")
    for kind, (count, words) in sorted(status.errors.items(), key=lambda item: -item[1][0])[:3]:
        again = "" if kind == "context" else " (--retry-failed asks again)"
        note(f"note: {count:,} failed ({kind}); the first: {words}{again}")


def whatever_stopped(status: Status) -> str:
    """What was not asked to the end, by name: why was said when it happened."""
    return "stopped, as said above: " + ", ".join(name or "the spending limit" for name in status.stopped)


def agree(question: str) -> None:
    """Ask before money is spent; end where the answer is no, or where nobody can answer."""
    try:
        yes = click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        note("")
        raise click.UsageError("nobody is there to answer: give --yes to spend without being asked") from None
    if not yes:
        raise click.Abort


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def dollars(amount: float) -> str:
    """As `r2router.bench.spend_limit.dollars`, which is loaded when it is needed."""
    from r2router.bench.spend_limit import dollars as words

    return words(amount)
