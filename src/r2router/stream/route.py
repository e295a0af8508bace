"""Routing the rows of a file, a batch at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np

from r2router.decide import NO_ARM, Best, Cheapest, Policy
from r2router.errors import NoFeasibleArm, UsageError
from r2router.router.router import Router
from r2router.stream.batch import QueryBatch
from r2router.stream.embed import Embedded, Engine, embedding
from r2router.stream.read import batches, is_address, same_file
from r2router.stream.write import Columns, named, writer
from r2router.text import money
from r2router.types import Choices, Enforcement, FloatArray, IntArray

Progress = Callable[[int, float], None]
"""Called with the rows routed so far and the share of the input that they are."""

_BLOCK = 512  # rows decided at once: their (row, arm) arrays stay in the processor's cache


@dataclass(slots=True)
class Summary:
    """What became of a file.

    rows: of the input.
    failed: rows that could not be routed.
    cost: US dollars forecast for all rows that were routed.
    quality: their mean forecast.
    unmet: routed rows for which no arm is forecast to reach the quality that a `Cheapest` policy asks for. unfamiliar:
        routed rows that are unlike the router's training data.
    left_out: columns of the source that first came when the header of a CSV output was written already.
    """

    rows: int = 0
    failed: int = 0
    cost: float = 0.0
    quality: float = math.nan
    unmet: int = 0
    out_of_distribution: int = 0
    left_out: tuple[str, ...] = ()

    @property
    def routed(self) -> int:
        """Rows with an arm."""
        return self.rows - self.failed


def route_file(  # noqa: PLR0913 - all but three are optional, and given by name
    router: Router,
    source: str | Path,
    target: str | Path | BinaryIO,
    policy: Policy | None = None,
    *,
    require: Iterable[str] = (),
    exclude: Iterable[str] = (),
    column: str | None = None,
    progress: Progress | None = None,
    engine: Engine = "threads",
    workers: int | None = None,
) -> Summary:
    """Route every row of a file; a row that cannot be routed gets an `error` in its place. The file's own columns are
    kept.

    source: `.jsonl`, `.csv`, `.txt`, `.parquet` with texts, or `.npy`, `.parquet` with embeddings of the router's
        encoder; or an address that polars reads (`s3://bucket/prompts/*.parquet`) of Parquet, CSV or JSON lines.
    target: a path (`.jsonl`, `.csv`, `.parquet`), complete or not there at all; the address of a `.parquet`; or an open
        binary file for JSON lines.
    column: of the source, where its name is not query, prompt, text, vector or embedding.
    engine: where texts are embedded: on the threads of this process, or on a Ray cluster (the one that RAY_ADDRESS
        names, else one on this machine). Decisions are made here, so that the figures are the same.
    workers: threads of the embedded encoder, by default one for each processor.

    Raises `DataError` where the source is of no use, `SaveError`, `EncoderError`, `NoFeasibleArm` where no arm is left
    at all.
    """
    policy = router.resolve(policy)
    required = tuple(require)
    excluded = tuple(exclude)
    if engine not in ("threads", "ray"):
        raise UsageError(f"no engine {engine!r}; there are: threads, ray")
    if not router.pool.usable(required, excluded).any():
        raise NoFeasibleArm("every model is unavailable, excluded or lacks a required capability")
    if isinstance(target, (str, Path)):
        target = target if is_address(target) else Path(target)
        if same_file(source, target):
            raise UsageError(f"{target}: is the input too; give the output another name")
    found, quality = Summary(), 0.0
    with writer(target) as out:
        for item in embedding(batches(source, router.dim, column), router.encoder, engine, workers):
            columns, choices = _decided(router, item, policy, required, excluded)
            out.write(columns)
            routed = choices.arm != NO_ARM
            found.rows += len(item.batch)
            found.failed += len(item.batch) - int(routed.sum())
            found.cost += float(np.nansum(choices.cost))
            found.out_of_distribution += int((routed & ~choices.familiar).sum())
            found.unmet += int((routed & ~choices.met).sum()) if isinstance(policy, Cheapest) else 0
            quality += float(np.nansum(choices.quality))
            if progress is not None:
                progress(found.rows, item.batch.done)
    found.left_out = tuple(sorted(out.left_out))
    found.quality = quality / found.routed if found.routed else math.nan
    return found


def _decided(
    router: Router, item: Embedded, policy: Policy, require: tuple[str, ...], exclude: tuple[str, ...]
) -> tuple[Columns, Choices]:
    """Return (rows to write, choices of the good rows) of a batch."""
    counts = item.counts if item.counts is not None else np.full(len(item.good), router.input_tokens.typical)
    parts: list[Choices] = []
    details: dict[str, list[Any]] = {"spread": [], "max_tokens": [], "enforcement": [], "fallbacks": []}
    for at in range(0, max(len(item.good), 1), _BLOCK):
        vectors, block = item.vectors[at : at + _BLOCK], counts[at : at + _BLOCK]
        if not len(vectors):
            vectors = np.empty((0, router.dim), dtype=np.float32)
        forecast = router.forecast_vectors(vectors, block)
        usable = router.usable(require, exclude, block)
        choices = router.choose(forecast, policy, usable)
        limits = router.limits(forecast, choices, policy, usable)
        parts.append(choices)
        details["spread"] += _known(forecast.spread[np.arange(len(choices)), choices.arm])
        details["max_tokens"] += limits.max_tokens
        details["enforcement"] += _sent(limits.enforcement)
        details["fallbacks"] += limits.fallbacks
    choices = Choices.join(parts)
    problems = dict(item.batch.problems)
    for i in np.flatnonzero(choices.arm == NO_ARM):
        problems[int(item.good[i])] = _infeasible(policy)
    return _columns(router, item.batch, problems, item.good, choices, details), choices


def _sent(enforcement: list[Enforcement]) -> list[dict[str, Any]]:
    """Return what each request must carry, without what is not to be sent; equal ones are one object."""
    plain = {
        id(e): {name: value for name, value in msgspec.structs.asdict(e).items() if value is not None}
        for e in enforcement
    }
    for fields in plain.values():
        if "instruction" not in fields:
            fields.pop("place")
    return [plain[id(e)] for e in enforcement]


def _known(values: FloatArray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


def _columns(
    router: Router,
    batch: QueryBatch,
    problems: dict[int, str],
    good: IntArray,
    choices: Choices,
    details: dict[str, list[Any]],
) -> Columns:
    n = len(batch)
    arms = router.chosen_arms(choices)
    parts = {arm: (arm.model, arm.budget) for arm in set(arms)}
    found: dict[str, list[Any]] = {
        "arm": arms,
        "model": [parts[a][0] for a in arms],
        "budget": [parts[a][1] for a in arms],
    }
    found |= {
        name: getattr(choices, name).tolist() for name in ("quality", "tokens", "cost", "met", "familiar")
    } | details
    if problems:  # then some rows have no decision
        kept = [(at, i) for at, i in enumerate(good.tolist()) if i not in problems]
        for name, values in found.items():
            placed: list[Any] = [None] * n
            for at, i in kept:
                placed[i] = values[at]
            found[name] = placed
    own = dict(batch.own)
    ids = [
        theirs if theirs is not None else known
        for theirs, known in zip(own.pop("id", batch.ids), batch.ids, strict=True)
    ]
    columns: dict[str, Any] = {"row": list(range(batch.start, batch.start + n)), "id": ids, **found}
    columns["error"] = [problems.get(i) for i in range(n)]
    names = named(own)
    return columns | {names[name]: values for name, values in own.items()}


def _infeasible(policy: Policy) -> str:
    return f"no arm costs at most {money(policy.max_cost)}" if isinstance(policy, Best) else "no arm is available"
