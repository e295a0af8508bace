"""Collecting round by round: each round's answers say what is worth asking in the next.

Nothing but the journal is kept. What a round asks follows from the seed and the records of the rounds before it, so a
run that was killed finds its rounds again, finishes the one that it was in, and goes on as if nothing had happened;
with a higher limit too.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from r2router.bench.adaptive import RoundState, Settings, asking_order, next_round
from r2router.bench.call_cost import max_usd
from r2router.bench.call_key import chain_budget
from r2router.bench.collect import collect
from r2router.bench.engine import Engine
from r2router.bench.estimate import UNCAPPED
from r2router.bench.first_calls import FirstCalls
from r2router.bench.folder import answer_of
from r2router.bench.journal import Journal
from r2router.bench.plan import CollectionPlan, Work
from r2router.bench.record import Record, read_records
from r2router.bench.scoring import check_choice
from r2router.bench.spend_limit import dollars
from r2router.bench.spread import score_answers
from r2router.bench.status import Report, Status
from r2router.encode import count_tokens
from r2router.encode.embed import embed_texts
from r2router.executors import Executor, Here
from r2router.predict.input_tokens import InputTokens
from r2router.table.table import Table
from r2router.types import BoolArray, Budget, FloatArray, IntArray, Model

_ENOUGH = 0.99  # of the limit: what is left buys less than a round is worth


async def collect_rounds(  # noqa: PLR0913 - what `collect` takes, and how to choose
    plan: CollectionPlan,
    journal: Journal,
    engine: Engine,
    *,
    max_spend: float,
    settings: Settings | None = None,
    report: Report | None = None,
    stop: asyncio.Event | None = None,
    say: Callable[[str], None] = lambda _: None,
    spread: Executor | None = None,
) -> Status:
    """Ask what is worth most until `max_spend` US dollars are spent (as in `collect`); gives how far it came, over all
    rounds.

    Reaching the limit is the end and no stop. Qualities come from the scorers that the queries name; while no answer
    has one, cells are chosen by price alone.

    say: called with a line about each round.
    spread: where queries are embedded and answers scored; by default in this process.

    Raises as `collect` does.
    """
    settings, stop = settings or Settings(), stop or asyncio.Event()
    check_choice(plan.queries)
    field = _Field.of(plan, settings.seed, spread or Here())
    asked = np.zeros(field.askable.shape, dtype=np.bool_)
    total, number = Status(planned=0, spent_usd=journal.spent, limit_usd=max_spend), 0
    first_calls: dict[str, FirstCalls] = {}
    while not stop.is_set():
        known, spent = field.known(journal.path, asked)
        pairs = next_round(known, spent, max_spend, settings)
        if not len(pairs) or (number and spent >= _ENOUGH * max_spend):
            break
        asked[pairs[:, 0], pairs[:, 1]] = True
        part, number = replace(plan, only=field.cells(pairs)), number + 1
        if number == 2 and settings.explore < 1 and not np.isfinite(known.table.quality).any():
            say("note: no answer has a quality, so what is asked goes by price alone; name a scorer in the suite")
        expected = float(known.usd[pairs[:, 1]].sum())
        say(f"round {number}: {len(part):,} cells, about {dollars(expected)}")
        status = await collect(
            part, journal, engine, max_spend=max_spend, to_come_usd=expected, report=_adding(total, report), stop=stop,
            first_calls=first_calls,
        )  # fmt: skip
        _add(total, status)
        reached = status.stopped.pop("", None) is not None
        total.stopped.update(status.stopped)
        if reached and number == 1:
            say("note: the limit ended the first round, before there was anything to choose by; raise it to go on")
        if reached:
            total.planned = total.done
        if reached or status.stopped:
            break
    return total


@dataclass(frozen=True, eq=False)
class _Field:
    """Everything that a plan could ask.

    arms: (model, budgets) of each unit.
    unit: (arms,) the unit of each of the pool's arms.
    """

    plan: CollectionPlan
    units: list[tuple[Model, tuple[Budget, ...]]]
    unit: IntArray
    askable: BoolArray
    order: IntArray
    counts: IntArray
    vectors: FloatArray
    spread: Executor
    qualities: dict[tuple[str, int], float | None] = field(default_factory=dict)  # what a scorer said, once

    @classmethod
    def of(cls, plan: CollectionPlan, seed: int, spread: Executor) -> _Field:
        """Embeds the queries, once."""
        units: list[tuple[Model, tuple[Budget, ...]]] = []
        unit: list[int] = []
        for model in plan.pool.models:
            shared = tuple(b for b in model.budgets if "prefix_sharing" in b.control)
            together = len(units) if shared else -1
            units += [(model, shared)] if shared else []
            for budget in model.budgets:
                unit.append(together if budget in shared else len(units))
                units += [] if budget in shared else [(model, (budget,))]
        askable = np.repeat([[model.available for model, _ in units]], len(plan.queries), axis=0)
        texts = [q.text for q in plan.queries]
        order = asking_order([q.task for q in plan.queries], seed)
        return cls(
            plan,
            units,
            np.array(unit),
            askable,
            order,
            count_tokens(texts),
            embed_texts("minilm", texts, spread),
            spread,
        )

    def cells(self, pairs: IntArray) -> frozenset[tuple[str, str, str]]:
        """Return the (query id, model, budget) of (query, unit) pairs."""
        found = set()
        for row, unit in pairs.tolist():
            model, budgets = self.units[unit]
            found |= {(self.plan.queries[row].id, model.id, b.id) for b in budgets}
        return frozenset(found)

    def known(self, journal: Path, asked: BoolArray) -> tuple[RoundState, float]:
        """Return what the records of the cells asked so far tell, and the US dollars that they were charged; nothing
        else is looked at.
        """
        rows, spent = dict[str, list[tuple[int, int]]](), 0.0
        if asked.any():
            rows = self._rows(asked)
            self._score(journal, rows)
        sums = {
            name: np.zeros((2, len(asked), len(self.unit)))
            for name in ("quality", "input_tokens", "output_tokens", "cost_usd")
        }
        charged: dict[tuple[str, str], list[float]] = defaultdict(list)
        for record in read_records(journal) if rows else ():
            if record.key not in rows:
                continue
            spent += record.charged_usd
            charged[record.model, record.budget].append(record.charged_usd)
            for row, arm in rows[record.key]:
                for name, value in self._values(record, row).items():
                    sums[name][:, row, arm] += (0.0, 0.0) if value is None else (value, 1.0)
        means: dict[str, Any] = {
            name: np.divide(total, n, out=np.full_like(total, np.nan), where=n > 0) for name, (total, n) in sums.items()
        }
        nothing = np.full(means["quality"].shape, np.nan)
        queries = self.plan.queries
        ids, texts, tasks = (tuple(getattr(q, name) for q in queries) for name in ("id", "text", "task"))
        table = Table(self.plan.pool, ids, texts, tasks, **means, cached_tokens=nothing, reasoning_tokens=nothing)
        inputs = InputTokens.fit(self.counts, table).estimate(self.counts)
        usd = np.array([self._usd(*unit, charged) for unit in self.units])
        return RoundState(table, self.vectors, inputs, self.unit, asked.copy(), self.askable, usd, self.order), spent

    def _rows(self, asked: BoolArray) -> dict[str, list[tuple[int, int]]]:
        """Return the (row, arm) cells of each key asked so far; a chain has none of its own."""
        at = {q.id: row for row, q in enumerate(self.plan.queries)}
        arm = {(a.model, a.budget): i for i, a in enumerate(self.plan.pool.arms)}
        rows: dict[str, list[tuple[int, int]]] = {}
        for work in self._work(asked):
            for budget in work.budgets:
                rows.setdefault(self.plan.key(work, budget), []).append(
                    (at[work.query.id], arm[work.model.id, budget.id])
                )
            if work.shared:
                rows.setdefault(self.plan.chain_key(work), [])
        return rows

    def _work(self, asked: BoolArray) -> Iterator[Work]:
        return replace(self.plan, only=self.cells(np.argwhere(asked))).work()

    def _score(self, journal: Path, rows: dict[str, list[tuple[int, int]]]) -> None:
        """Score what was not scored in an earlier round: a verdict does not change, and code takes a while to run."""
        fresh = (
            ((record.key, row), answer_of(record, self.plan.queries[row], self.plan.queries[row].scorer))
            for record in read_records(journal)
            for row, _ in rows.get(record.key, ())
            if record.error is None and (record.key, row) not in self.qualities
        )
        for at, scores in score_answers(fresh, self.spread):
            self.qualities[at] = scores[0].quality if scores else None

    def _values(self, record: Record, row: int) -> dict[str, float | None]:
        if record.error is not None:
            return {}
        quality = self.qualities[record.key, row]
        return {
            "quality": quality, "input_tokens": record.input_tokens, "output_tokens": record.output_tokens,
            "cost_usd": record.cost_usd
        }  # fmt: skip

    def _usd(self, model: Model, budgets: tuple[Budget, ...], charged: dict[tuple[str, str], list[float]]) -> float:
        """US dollars of a unit on one query: of each of its calls the mean of what was charged and a guess that counts
        as one call.
        """
        shared = "prefix_sharing" in budgets[0].control
        total = 0.0
        for budget in (*budgets, *((chain_budget(budgets),) if shared else ())):
            seen = charged.get((model.id, budget.id), [])
            total += (self._guess(model, budget) + sum(seen)) / (1 + len(seen))
        return total * self.plan.samples

    def _guess(self, model: Model, budget: Budget) -> float:
        """US dollars of a call before any was made: half of what its answer may have at most."""
        if "prefix_sharing" in budget.control:
            return max_usd(model, float(self.counts.mean()) + (budget.tokens or 0), self.plan.controls.answer_tokens)
        cap = self.plan.cap(model, budget)
        length = min(UNCAPPED[1], cap) if self.plan.controls.is_safety_cap(budget) else 0.5 * cap
        return max_usd(model, float(self.counts.mean()), length)


def _add(total: Status, part: Status) -> None:
    """Count a round in."""
    total.planned += part.planned
    total.done += part.done
    total.failed += part.failed
    total.there += part.there
    total.calls += part.calls
    total.over_allowance += part.over_allowance
    total.above_cap += part.above_cap
    total.cut += part.cut
    for kind, (count, words) in part.errors.items():
        before, first = total.errors.get(kind, (0, words))
        total.errors[kind] = before + count, first
    total.spent_usd, total.to_come_usd = part.spent_usd, part.to_come_usd


def _adding(total: Status, report: Report | None) -> Report | None:
    """Reports a round's status as that of all rounds."""
    if report is None:
        return None

    def tell(part: Status) -> None:
        whole = replace(
            total, errors=dict(total.errors), stopped={name: why for name, why in part.stopped.items() if name}
        )
        _add(whole, part)
        report(whole)

    return tell
