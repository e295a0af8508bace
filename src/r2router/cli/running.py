"""A run that asks LLMs, seen from the command line: what it will cost, how far it is, and what stopped it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from r2router.cli.screen import note, say, style

if TYPE_CHECKING:
    from r2router.bench.engine import Engine
    from r2router.bench.estimate import Estimate
    from r2router.bench.journal import Journal
    from r2router.bench.plan import CollectionPlan
    from r2router.bench.status import Status

_PLAIN_EVERY = 10.0  # seconds between lines where stderr is a file
_BAR_EVERY = 0.2


def engine_option(what: str) -> Callable[[Any], Any]:
    """Return the option --engine, with what it is for."""
    return click.option(
        "--engine", type=click.Choice(["asyncio", "ray"]), default="asyncio", show_default=True, help=what
    )


def show_estimate(left: list[Estimate], journal: Journal, planned: int, what: str = "cells") -> None:
    """Print what is there and what is left to pay for."""
    from r2router.report.terminal import grid

    if journal.records:
        say(
            f"{journal.records:,} records there, {journal.errors:,} {what} with an error, {dollars(journal.spent)}"
            " spent"
        )
    if not left:
        failed = (
            f"; {journal.errors:,} there have an error (--retry-failed asks again what may pass)"
            if journal.errors
            else ""
        )
        say(f"all {planned:,} {what} are done{failed}")
        return
    rows = []
    for e in left:
        measured = f"{e.measured:,} calls" if e.measured else "no call"
        rows.append(
            (
                e.model,
                e.budget,
                f"{e.calls:,}",
                dollars(e.usd),
                f"{dollars(e.low_usd)} to {dollars(e.high_usd)}",
                measured,
            )
        )
    calls, usd, low, high = (sum(getattr(e, name) for e in left) for name in ("calls", "usd", "low_usd", "high_usd"))
    rows.append(("all", "", f"{calls:,}", dollars(usd), f"{dollars(low)} to {dollars(high)}", ""))
    head = ("model", "budget", "calls", "expected", "from to", "measured on")
    say(grid(head, rows, style(), right=frozenset({2, 3, 4, 5})))


# -- meanwhile ------------------------------------------------------------------------------------------------------


def say_limit(plan: CollectionPlan, max_spend: float | None) -> None:
    """Say, before spending, what a limit is based on where only a safety cap ends an answer."""
    arms = [(m, b) for m in plan.models for b in m.budgets if plan.controls.is_safety_cap(b)]
    if not arms:
        return
    model, budget = arms[0]
    longest = max(plan.cap(m, b) for m, b in arms)
    note(
        f"note: {len(arms):,} budgets set no cap (the first: {model.id}@{budget.id}): their answers are cut off at"
        f" {longest:,} tokens at most, or at max_output_tokens of the model in the pool"
        + ("" if max_spend is None else ". The limit holds as long as the endpoint keeps to that")
    )


def opener_of(engine: str, plan: CollectionPlan) -> Callable[[], Engine]:
    from r2router.bench.engine import open_engine

    return lambda: open_engine(engine, plan.providers)


async def run_plan(
    plan: CollectionPlan,
    journal: Journal,
    opener: Callable[[], Engine],
    max_spend: float | None,
    expected: float,
    *,
    adaptive: str | None = None,
) -> Status:
    """Ask what is left of a plan, and show how far it is; the engine is opened in the loop that uses it.

    adaptive: the name of the engine, in whose place queries are embedded and answers scored to choose by; None for all
    of the plan.
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
        note("stopping: waiting for the calls in progress (press Ctrl-C again to drop them)")
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
    limit = "" if status.limit_usd is None else f" of {dollars(status.limit_usd)}"
    return (
        f"{status.failed:,} failed, {dollars(status.spent_usd)}{limit} spent, about {dollars(status.to_come_usd)}{wait}"
        " remaining"
    )


def say_errors(status: Status) -> None:
    """What the errors of this run were, the commonest first, and whether a control was ignored."""
    if status.over_allowance:
        note(
            f"note: {status.over_allowance:,} answers used more thinking tokens than allowed: the endpoint does not"
            " respect thinking_tokens"
        )
    if status.above_cap:
        note(
            f"note: {status.above_cap:,} answers were longer than max_tokens: the endpoint does not respect it. All"
            " tokens are counted"
        )
    if status.cut:
        note(
            f"note: {status.cut:,} answers without a budget of their own were cut off at the safety cap: set"
            " max_output_tokens of the model in the pool, and they are asked again"
        )
    for kind, (count, words) in sorted(status.errors.items(), key=lambda item: -item[1][0])[:3]:
        again = "" if kind == "context" else " (--retry-failed asks again)"
        note(f"note: {count:,} failed ({kind}); the first: {words}{again}")


def whatever_stopped(status: Status) -> str:
    """Return what was not asked to the end, by name: why was said when it happened."""
    return "stopped, as said above: " + ", ".join(name or "the spend limit" for name in status.stopped)


def agree(question: str) -> None:
    """Ask before money is spent; end where the answer is no, or where nobody can answer. Raises `CollectError`."""
    from r2router.errors import CollectError

    try:
        yes = click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        note("")
        raise click.UsageError(
            "cannot ask for confirmation (no terminal); pass --yes to spend without being asked"
        ) from None
    if not yes:
        raise CollectError("nothing was spent: you answered no")


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def dollars(amount: float) -> str:
    """Do `r2router.bench.spend_limit.dollars`, loaded when needed."""
    from r2router.bench.spend_limit import dollars as words

    return words(amount)
