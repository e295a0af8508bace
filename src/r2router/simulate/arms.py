"""The arms of a simulated table, and what is expected of each on a query: a router's own curves, stretched to more
models and budgets.

A model beyond those of the router is a copy of one of them, a little better or worse, more or less expensive, longer or
shorter. Budgets of the simulation's own lie on the model's curve over log tokens: linear between the router's arms,
steeply down to nothing below the shortest, flat above the longest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec
import numpy as np

from r2router.errors import UsageError
from r2router.pool.pool import Pool
from r2router.predict import Predictor
from r2router.router.router import Router
from r2router.types import UNLIMITED, Budget, FloatArray, IntArray, Model, Prices

MAX_BUDGETS = 50
_SHORTEST, _LONGEST = 10, 4_000  # the paper's range of budgets, in tokens
_NOTHING = math.log(3.0)  # log of a length at which no answer is worth anything
_LEVEL_SD, _PRICE_SD, _LENGTH_SD = 0.5, 0.5, 0.3  # of a copy's shifts: log odds of quality, log price, log length


@dataclass(frozen=True, slots=True, eq=False)
class _SimulatedModel:
    """One model of the simulation.

    columns: the router's arms that it is made of, the shortest first.
    level: added to the log odds of its quality.
    length: factor on its tokens.
    budgets: numbers of tokens, inf for unlimited; None keeps the router's own.
    """

    columns: IntArray
    level: float
    length: float
    budgets: FloatArray | None


@dataclass(frozen=True, slots=True, eq=False)
class World:
    """What is true in a simulation.

    pool: its models, budgets, prices.
    factor, overhead: (arms,) input tokens, see `InputTokens`.
    """

    pool: Pool
    factor: FloatArray
    overhead: FloatArray
    _predictor: Predictor
    _sources: tuple[_SimulatedModel, ...]

    def expected(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return (quality, output tokens), each (n, arms), expected on the queries of (n, d) embeddings."""
        forecast = self._predictor.predict(x)
        qualities, lengths = [], []
        for source in self._sources:
            quality: FloatArray = forecast.quality[:, source.columns].astype(np.float64)
            tokens: FloatArray = forecast.tokens[:, source.columns].astype(np.float64)
            if source.budgets is not None:
                quality, tokens = _along(quality, tokens, source.budgets)
            odds = math.exp(source.level)
            qualities.append(quality * odds / (1 - quality + quality * odds))
            lengths.append(np.maximum(tokens * source.length, 1.0))
        return np.concatenate(qualities, axis=1), np.concatenate(lengths, axis=1)


def world(router: Router, x: FloatArray, models: int | None, budgets: int | None, rng: np.random.Generator) -> World:
    """Return the world of a router with so many models and budgets of each (None: its own).

    x: some embeddings, by which a model's arms are put in the order of their lengths.

    Raises `UsageError` where the router has no curves.
    """
    pool = router.pool
    forecast = router.predictor.predict(x)
    known = np.isfinite(forecast.quality).all(axis=0) & np.isfinite(forecast.tokens).all(axis=0)
    tokens = forecast.tokens.mean(axis=0)
    arms_of = [np.flatnonzero((pool.model_of_arm == m) & known) for m in range(len(pool.models))]
    usable = [m for m, arms in enumerate(arms_of) if len(arms)]
    if not usable:
        raise UsageError("the router forecasts no arm at all: it has no curves to simulate from")
    if budgets is not None and all(len(arms_of[m]) == budgets for m in usable):
        budgets = None
    grid = None if budgets is None else _grid(budgets)
    made: list[Model] = []
    sources: list[_SimulatedModel] = []
    inputs: list[FloatArray] = []
    per_arm = np.array(router.input_tokens.arrays)
    for number in range(len(usable) if models is None else models):
        round_, which = divmod(number, len(usable))
        model, columns = pool.models[usable[which]], arms_of[usable[which]]
        level, price, length = (0.0, 0.0, 0.0) if not round_ else rng.normal(0.0, (_LEVEL_SD, _PRICE_SD, _LENGTH_SD))
        own = tuple(pool.budgets[a] for a in columns) if grid is None else tuple(map(_budget, grid))
        name = f"{model.id}-copy{round_}" if round_ else model.id
        made.append(
            msgspec.structs.replace(
                model, id=name, budgets=own, usd_per_million=_scaled(model.usd_per_million, math.exp(price))
            )
        )
        ordered = columns if grid is None else columns[np.argsort(tokens[columns], kind="stable")]
        sources.append(_SimulatedModel(ordered, level, math.exp(length), grid))
        inputs.append(
            per_arm[:, columns]
            if grid is None
            else np.repeat(per_arm[:, columns].mean(axis=1, keepdims=True), len(own), axis=1)
        )
    factor, overhead = np.concatenate(inputs, axis=1)
    return World(Pool(made), factor, overhead, router.predictor, tuple(sources))


def _grid(budgets: int) -> FloatArray:
    """Make budgets: numbers of tokens in equal steps of their logarithm, and unlimited."""
    return np.append(np.rint(np.geomspace(_SHORTEST, _LONGEST, budgets - 1)), np.inf)


def _budget(tokens: float) -> Budget:
    return Budget.of(
        UNLIMITED if math.isinf(tokens) else int(tokens), ("instruction", "max_tokens") if math.isfinite(tokens) else ()
    )


def _along(quality: FloatArray, tokens: FloatArray, budgets: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (n, K) quality and tokens at the budgets, of (n, arms) on a curve; no answer gets longer than the longest
    of them.
    """
    log_length = np.maximum.accumulate(np.log(np.maximum(tokens, 1.0)), axis=1)
    longest = np.exp(log_length[:, -1:])
    lengths = np.minimum(budgets, longest)
    found = np.empty_like(lengths)
    for k in range(lengths.shape[1]):
        at = np.log(lengths[:, k])
        first = log_length[:, 0]
        below = np.clip((at - _NOTHING) / np.maximum(first - _NOTHING, 1e-9), 0.0, 1.0)
        value = np.where(at <= first, quality[:, 0] * below, quality[:, -1])
        for a in range(quality.shape[1] - 1):
            left, right = log_length[:, a], log_length[:, a + 1]
            share = (at - left) / np.maximum(right - left, 1e-9)
            value = np.where(
                (at > left) & (at <= right), quality[:, a] + share * (quality[:, a + 1] - quality[:, a]), value
            )
        found[:, k] = value
    return found, lengths


def _scaled(prices: Prices | None, factor: float) -> Prices | None:
    return prices if prices is None or factor == 1.0 else prices.scaled(factor)
