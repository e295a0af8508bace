"""Routing the rows of a file, a batch at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from r2router.decide import NO_ARM, Best, Policy
from r2router.encode import count_tokens
from r2router.errors import NoFeasibleArm, UsageError
from r2router.router.router import Router
from r2router.stream.batch import Batch
from r2router.stream.read import batches, same_file
from r2router.stream.write import COLUMNS, Columns, writer
from r2router.text import money
from r2router.types import Choices, IntArray

Progress = Callable[[int, float], None]
"""Called with the rows routed so far and the share of the input that they are."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What became of a file. cost: US dollars forecast for all rows that were routed. quality: their mean forecast."""

    rows: int
    failed: int
    cost: float
    quality: float


def route_file(
    router: Router,
    source: str | Path,
    target: str | Path | BinaryIO,
    policy: Policy | None = None,
    *,
    require: Iterable[str] = (),
    exclude: Iterable[str] = (),
    column: str | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Route every row of a file; a row that cannot be routed gets an `error` in its place.

    source: `.jsonl`, `.csv`, `.txt`, `.parquet` with texts, or `.npy`, `.parquet` with embeddings of the router's encoder.
    target: a path (`.jsonl`, `.csv`, `.parquet`), complete or not there at all, or an open binary file for JSON lines.
    column: of the source, where its name is not query, prompt, text, vector or embedding.

    Raises `DataError` where the source is of no use, `SaveError`, `EncoderError`, `NoFeasibleArm` where no arm is left at all.
    """
    policy, required, excluded = router.resolve(policy), tuple(require), tuple(exclude)
    if not router.pool.usable(required, excluded).any():
        raise NoFeasibleArm("every model is unavailable, excluded or lacks a required capability")
    if isinstance(target, (str, Path)):
        target = Path(target)
        if same_file(source, target):
            raise UsageError(f"{target}: is the input too; give the output another name")
    rows = failed = 0
    cost = quality = 0.0
    with writer(target) as out:
        for batch in batches(source, router.dim, column):
            columns, choices = _decided(router, batch, policy, required, excluded)
            out.write(columns)
            rows, failed = rows + len(batch), failed + sum(e is not None for e in columns["error"])
            cost, quality = cost + float(np.nansum(choices.cost)), quality + float(np.nansum(choices.quality))
            if progress is not None:
                progress(rows, batch.done)
    return Summary(rows, failed, cost, quality / (rows - failed) if rows > failed else math.nan)


def _decided(router: Router, batch: Batch, policy: Policy, require: tuple[str, ...], exclude: tuple[str, ...]) -> tuple[Columns, Choices]:
    """(rows to write, choices with NaN where a row failed) of a batch."""
    problems = dict(batch.problems)
    good = np.array([i for i in range(len(batch)) if i not in problems], dtype=np.intp)
    if isinstance(batch.queries, list):
        choices = _choose(router, [batch.queries[i] for i in good], policy, require, exclude)
    else:
        counts = None if batch.input_tokens is None else batch.input_tokens[good]
        choices = router.decide(batch.queries[good], policy, counts, require=require, exclude=exclude)
    for i in np.flatnonzero(choices.arm == NO_ARM):
        problems[int(good[i])] = _infeasible(policy)
    return _columns(router, batch, problems, good, choices), choices


def _choose(router: Router, texts: list[str], policy: Policy, require: tuple[str, ...], exclude: tuple[str, ...]) -> Choices:
    if not texts:
        return router.decide(np.zeros((0, router.dim), dtype=np.float32), policy)
    return router.choose(router.forecast(texts), policy, router.usable(require, exclude, count_tokens(texts)))


def _columns(router: Router, batch: Batch, problems: dict[int, str], good: IntArray, choices: Choices) -> Columns:
    columns: dict[str, list[object]] = {name: [None] * len(batch) for name in COLUMNS}
    columns["row"] = list(range(batch.start, batch.start + len(batch)))
    columns["id"] = list(batch.ids)
    columns["error"] = [problems.get(i) for i in range(len(batch))]
    names = router.chosen_arms(choices)
    numbers = {k: getattr(choices, k).tolist() for k in ("quality", "tokens", "cost", "met", "familiar")}
    for at, i in enumerate(good.tolist()):
        if i in problems:
            continue
        arm = names[at]
        columns["arm"][i], columns["model"][i], columns["budget"][i] = arm, arm.model, arm.budget
        for name, values in numbers.items():
            columns[name][i] = values[at]
    return columns


def _infeasible(policy: Policy) -> str:
    return f"no arm costs at most {money(policy.max_cost)}" if isinstance(policy, Best) else "no arm is available"
