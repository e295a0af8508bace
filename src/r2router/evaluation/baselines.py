"""A fitted router beside the baselines of the literature, and beside itself under noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from r2router.encode import count_tokens, embed, load_encoder
from r2router.errors import ConfigError
from r2router.evaluation.contenders import EmbeddedTable, Tried, attempt, transfer
from r2router.evaluation.methods import published, same_arms
from r2router.evaluation.router_forecasts import EvaluatedTable, align
from r2router.evaluation.typing_noise import NOISES, noisy
from r2router.figure import Figure
from r2router.metrics.intervals import mean
from r2router.metrics.score import Method, Routed, compare
from r2router.predict.crossval import fold_of
from r2router.router.router import Router
from r2router.table.table import Table
from r2router.table.twins import groups_of
from r2router.types import FloatArray, Progress

_FOLDS = 5


def fit_baselines(
    router: Router,
    evaluated: EvaluatedTable,
    train: Table | None,
    vectors: FloatArray,
    seed: int,
    progress: Progress | None = None,
) -> list[Tried]:
    """Return every baseline in both forms on the queries that a router is tested on.

    train: what they learn from; without it each query is forecast from the other four fifths of them.
    vectors: embeddings of the evaluated table.

    Raises `ConfigError` where the training queries cannot be embedded.
    """
    contenders = [*published(), *same_arms()]
    data = EmbeddedTable(
        evaluated.table,
        vectors[evaluated.rows],
        evaluated.input_tokens,
        evaluated.outcomes,
        load_encoder(router.encoder),
    )
    if train is None:
        fold = fold_of(data.table.queries, min(_FOLDS, int(groups_of(data.table.queries).max(initial=0)) + 1), seed)
        return attempt(contenders, data, [fold], progress)
    if router.encoder.startswith("given:"):
        raise ConfigError(
            "this router's embeddings are made elsewhere, so baselines cannot be fitted on --train: leave it out"
        )
    learned = EmbeddedTable.of(align(train, router)[0], data.encoder, progress=progress)
    tried = []
    for number, contender in enumerate(contenders):
        tried.append(transfer(contender, learned, data))
        if progress is not None:
            progress("fitting the baselines", number + 1, len(contenders))
    return tried


def noise_lines(
    router: Router, evaluated: EvaluatedTable, resamples: int, seed: int, progress: Progress | None = None
) -> list[tuple[str, Figure, Figure]]:
    """Return, for each kind of noise, (kind, share of the own policy's decisions that stay, change of area), paired."""
    texts, outcomes = evaluated.table.queries, evaluated.outcomes
    own = _arms(router, evaluated, texts)
    plain = Routed.of(evaluated.forecast.quality, evaluated.forecast.cost, outcomes)
    lines = []
    for number, kind in enumerate(NOISES):
        changed = noisy(texts, kind, seed)
        same = (_arms(router, evaluated, changed) == own).astype(np.float64)
        forecast = router.forecast(changed)
        found: dict[str, Method] = {"router": Routed.of(forecast.quality, forecast.cost, outcomes), "plain": plain}
        area = compare(found, outcomes, min(resamples, 200), seed).differences["plain"]["area"]
        lines.append((kind, mean("unchanged", same, resamples, seed), area))
        if progress is not None:
            progress("typing in another way", number + 1, len(NOISES))
    return lines


def _arms(router: Router, evaluated: EvaluatedTable, texts: Sequence[str]) -> FloatArray:
    """Return (n,) the arm of each text by the router's own policy."""
    choice = router.decide(embed(load_encoder(router.encoder), list(texts)), None, count_tokens(list(texts)))
    return np.asarray(choice.arm)
