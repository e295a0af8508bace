"""What RouterArena measured: the figures of a scored prediction file or of a `metrics.json`, with intervals where they
can be had.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from r2router.arena.files import entries_of, number_of, read_json, text_of
from r2router.errors import DataError, UsageError
from r2router.figure import Figure
from r2router.metrics.intervals import LEVELS, share, weights
from r2router.text import money
from r2router.types import FloatArray

_RESAMPLES = 1_000
# of the arena score
_MAX_COST, _MIN_COST = 200.0, 0.0044  # US dollars per 1,000 queries
_BETA = 0.1  # the weight of cost


class Results(msgspec.Struct, frozen=True):
    """What RouterArena measured.

    queries: the router's own predictions, without those made for the optimality figures alone; scored: those with an
        accuracy.
    accuracy: mean in [0, 1].
    cost: US dollars per 1,000 queries.
    score: the arena score.
    robustness: share of predictions that are the same on reworded prompts. Intervals are 95 %, by bootstrap over
        queries (of robustness: Wilson's); none for a file of means.
    models: share of the predictions.
    optimality: RouterArena's own figures, where the file has them.
    """

    source: str
    queries: int
    scored: int
    accuracy: Figure
    cost: Figure
    score: Figure
    robustness: Figure | None = None
    models: dict[str, float] = {}
    optimality: dict[str, float] = {}
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has; what was not measured is left out."""
        return {
            name: msgspec.to_builtins(value)
            for name in self.__struct_fields__
            if (value := getattr(self, name)) is not None
        }

    def __str__(self) -> str:
        """Return a few lines for a terminal."""
        lines = [f"{self.source}: {self.queries:,} queries, {self.scored:,} scored", ""]
        lines += [_line("accuracy", self.accuracy), _line("cost", self.cost), _line("arena score", self.score)]
        lines += [] if self.robustness is None else [_line("robustness", self.robustness)]
        lines += [f"{name:<12} {value:.4f}" for name, value in self.optimality.items()]
        if self.models:
            lines += ["", "models       " + ", ".join(f"{name} {share:.1%}" for name, share in self.models.items())]
        return "\n".join([*lines, *(f"note: {text}" for text in self.notes)])


def _line(name: str, figure: Figure) -> str:
    value, low, high = (
        f"{money(v)} per 1,000" if name == "cost" else f"{v:.4f}" for v in (figure.value, figure.low, figure.high)
    )
    return f"{name:<12} {value}" + ("" if math.isnan(figure.low) else f"  [{low}, {high}]")


def read_results(path: str | Path, robustness: str | Path | None = None, *, seed: int = 0) -> Results:
    """Return the figures of a scored prediction file, or of a `metrics.json`.

    robustness: the predictions on the reworded prompts.
    seed: of the bootstrap.

    Raises `DataError` naming file, entry and field.
    """
    content = read_json(path)
    if isinstance(content, dict):
        if robustness is not None:
            raise UsageError(f"{path}: holds means only; robustness is counted from a prediction file")
        return _metrics(content, path)
    entries = [e for e in entries_of(path, content) if not e.get("for_optimality")]
    names = [text_of(e, ("prediction",), f"{path}, entry {i}") for i, e in enumerate(entries)]
    accuracy = np.array(
        [number_of(e, "accuracy", 1.0, f"{path}, entry {i}", flags=True) for i, e in enumerate(entries)]
    )
    cost = np.array([number_of(e, "cost", math.inf, f"{path}, entry {i}") for i, e in enumerate(entries)])
    scored = ~np.isnan(accuracy)
    if not scored.any() or not (cost > 0).any():
        raise DataError(
            f"{path}: no entry has an accuracy and a cost; these are predictions that RouterArena has not scored yet"
        )
    notes = (
        []
        if scored.all()
        else [f"{(~scored).sum():,} entries have no accuracy and count as cost only, as RouterArena has it"]
    )
    accuracy_figure, cost_figure, score_figure = _figures(accuracy, cost, seed)
    return Results(
        source=str(path),
        queries=len(entries),
        scored=int(scored.sum()),
        accuracy=accuracy_figure,
        cost=cost_figure,
        score=score_figure,
        robustness=None if robustness is None else _robustness(entries, names, robustness),
        models={name: n / len(names) for name, n in Counter(names).most_common()},
        notes=tuple(notes),
    )


def arena_score(accuracy: float, cost: float) -> float:
    """Return the arena score of an accuracy in [0, 1] and US dollars per 1,000 queries: their weighted harmonic mean,
    with cost on a log scale from 1 at $0.0044 to 0 at $200 (arXiv 2510.00202; beta 0.1).
    """
    cheapness = math.log(_MAX_COST / min(max(cost, _MIN_COST), _MAX_COST)) / math.log(_MAX_COST / _MIN_COST)
    below = _BETA * accuracy + cheapness
    return (1 + _BETA) * accuracy * cheapness / below if below > 0 else 0.0


def _figures(accuracy: FloatArray, cost: FloatArray, seed: int) -> tuple[Figure, Figure, Figure]:
    """Accuracy, cost and score of (n,) entries; NaN is not scored. Costs add up over all entries, as RouterArena has
    it.
    """
    n = len(accuracy)
    right = np.nan_to_num(accuracy)
    seen = (~np.isnan(accuracy)).astype(float)
    paid = np.nan_to_num(cost)

    def figures(weight: FloatArray) -> tuple[float, float, float]:
        mean = float(weight @ right / max(weight @ seen, 1e-12))
        spent = float(weight @ paid / n * 1000)
        return mean, spent, arena_score(mean, spent)

    value, *draws = (figures(weight) for weight in weights(n, _RESAMPLES, seed))
    low, high = np.quantile(draws, LEVELS, axis=0)
    names = ("accuracy", "cost per 1,000 queries", "arena score")
    one, two, three = (Figure(name, value[i], float(low[i]), float(high[i]), n) for i, name in enumerate(names))
    return one, two, three


def _robustness(entries: Sequence[dict[str, Any]], names: Sequence[str], path: str | Path) -> Figure:
    """Return the share of predictions that are the same on the reworded prompts."""
    first = {
        text_of(e, ("global index", "global_index"), "a prediction"): name
        for e, name in zip(entries, names, strict=True)
    }
    same = []
    for number, entry in enumerate(entries_of(path)):
        where = f"{path}, entry {number}"
        index = text_of(entry, ("global index", "global_index"), where)
        if index in first:
            same.append(first[index] == text_of(entry, ("prediction",), where))
    if not same:
        raise DataError(f"{path}: has none of the prompts of the predictions: robustness cannot be counted")
    return share("robustness", sum(same) / len(same), len(same))


def _metrics(content: dict[str, Any], path: str | Path) -> Results:
    """Return a `metrics.json`: means without intervals."""
    where = str(path)
    values = {
        name: number_of(content, name, maximum, where)
        for name, maximum in (
            ("accuracy", 1.0),
            ("avg_cost_per_1000", math.inf),
            ("arena_score", 1.0),
            ("num_queries", math.inf),
        )
    }
    if missing := [name for name, value in values.items() if math.isnan(value)]:
        raise DataError(f"{path}: no {missing[0]!r}; a metrics.json of RouterArena has one")
    n = int(values["num_queries"])
    optimality = content.get("optimality") or {}
    if not isinstance(optimality, dict):
        raise DataError(f"{path}: 'optimality' is {optimality!r}; it must be an object")
    shares = {name: number_of(optimality, name, math.inf, where) for name in ("opt_sel", "opt_cost", "opt_acc")}
    robust = number_of(content, "robustness_score", 1.0, where)
    return Results(
        source=where,
        queries=n,
        scored=n,
        accuracy=Figure("accuracy", values["accuracy"], n=n),
        cost=Figure("cost per 1,000 queries", values["avg_cost_per_1000"], n=n),
        score=Figure("arena score", values["arena_score"], n=n),
        robustness=None if math.isnan(robust) else Figure("robustness", robust),
        optimality={name: value for name, value in shares.items() if not math.isnan(value)},
        notes=("means only: no intervals can be given",),
    )
