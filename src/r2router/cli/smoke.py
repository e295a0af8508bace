"""`r2router pool check --call`: one short question to each model, to see whether key, address, name and controls are
right.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from r2router.cli.keys import agree_to_keys
from r2router.cli.running import agree, dollars, opener_of, run_plan
from r2router.cli.screen import say, style

if TYPE_CHECKING:
    from r2router.bench.plan import CollectionPlan
    from r2router.bench.record import Record
    from r2router.pool.pool import Pool
    from r2router.types import Provider

_QUESTION = "What is 2 + 3? Answer with the number alone."
_SHOWN = 40


def ask_each(pool: Pool, providers: Mapping[str, Provider], *, yes: bool, send_keys: tuple[str, ...]) -> None:
    """Ask each model that is available and has a provider, under its first budget; show what came.

    Raises `CollectError` where one did not answer, or where the answer to the question before was no.
    """
    from r2router.bench.folder import JOURNAL
    from r2router.bench.journal import Journal
    from r2router.bench.plan import CollectionPlan as Asked
    from r2router.bench.record import read_records
    from r2router.bench.suite import Query
    from r2router.errors import CollectError, ConfigError
    from r2router.pool.pool import Pool as Models

    models = [msgspec.structs.replace(m, budgets=m.budgets[:1]) for m in pool.models if m.available and m.provider]
    if not models:
        raise ConfigError("no model of the pool is available and has a provider, so no model can be called")
    plan = Asked([Query(id="smoke", text=_QUESTION)], Models(models), providers)
    high = sum(2 * plan.ceiling_usd(work, plan.cap(work.model, work.budgets[0])) for work in plan.work())
    if not yes and high > 0:
        agree(f"ask {len(models)} models one question each, for {dollars(high)} at most?")
    agree_to_keys(plan.providers, send_keys)
    with tempfile.TemporaryDirectory() as folder:
        with Journal(Path(folder) / JOURNAL) as journal:
            status = asyncio.run(run_plan(plan, journal, opener_of("asyncio", plan), high or None, 0.0))
        found = {r.model: r for r in read_records(Path(folder) / JOURNAL) if r.kind == "cell"}
    _show(plan, found)
    silent = [
        m.id
        for m in models
        if m.id not in found or found[m.id].error is not None or not (found[m.id].response or "").strip()
    ]
    if silent or status.stopped:
        raise CollectError(
            f"no answer from {', '.join(silent) or 'some models'}; {dollars(status.spent_usd)} were spent in total"
        )
    say(f"all {len(models)} models answered; cost: {dollars(status.spent_usd)}")


def _show(plan: CollectionPlan, found: dict[str, Record]) -> None:
    from r2router.report.terminal import grid

    rows: list[tuple[str, ...]] = []
    for model in plan.models:
        record = found.get(model.id)
        if record is None or record.error is not None:
            rows.append((f"{model.id}@{model.budgets[0].id}", "failed", "", "", "", ""))
            continue
        words = " ".join((record.response or "").split())
        tokens = ["unknown" if n is None else f"{n:,}" for n in (record.input_tokens, record.output_tokens)]
        cost = "unknown" if record.cost_usd is None else dollars(record.cost_usd)
        rows.append(
            (f"{model.id}@{model.budgets[0].id}", words[:_SHOWN], *tokens, cost, f"{record.latency_s or 0:.1f} s")
        )
    say(grid(("arm", "answer", "in", "out", "cost", "time"), rows, style(), right=frozenset({2, 3, 4, 5})))
