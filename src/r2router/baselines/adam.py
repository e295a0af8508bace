"""Gradient descent in numpy: Adam over minibatches of queries, seeded, with early stopping on held-out queries."""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec
import numpy as np

from r2router.errors import ConfigError
from r2router.types import FloatArray, IntArray

Parameters = dict[str, FloatArray]
Gradient = Callable[[Parameters, IntArray, np.random.Generator], tuple[float, int, Parameters]]
"""(parameters, rows, random numbers) -> (sum of the losses, how many they are, gradient of their mean)."""

_BETA, _BETA_SQUARE, _TINY = 0.9, 0.999, 1e-8  # Kingma & Ba, ICLR 2015


class Descent(msgspec.Struct, frozen=True):
    """How long and how fast to train.

    dim: width of the latent space.
    epochs: the most passes over the training queries.
    batch_size: queries per step.
    learning_rate: Adam's.
    early_stopping: keep the parameters as they were at the epoch of the lowest held-out loss, and stop when that is
        `patience` epochs ago. False is what was published: all queries, all epochs; on tables of hundreds of queries
        that overfits.
    validation: share of the queries held out for it.
    seed: of the first parameters, the held-out queries and the batches.
    """

    dim: int
    epochs: int
    batch_size: int
    learning_rate: float
    early_stopping: bool = True
    patience: int = 10
    validation: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, minimum in (("dim", 1), ("epochs", 1), ("batch_size", 1), ("patience", 1), ("seed", 0)):
            if getattr(self, name) < minimum:
                raise ConfigError(
                    f"{type(self).__name__}({name}={getattr(self, name)}): {name} must be at least {minimum}"
                )
        for name, maximum in (("learning_rate", math.inf), ("validation", 1)):
            if not 0 < getattr(self, name) < maximum:
                raise ConfigError(
                    f"{type(self).__name__}({name}={getattr(self, name)}): {name} must lie between 0 and {maximum}"
                )

    def minimise(self, gradient: Gradient, start: Parameters, n: int) -> Parameters:
        """Return the parameters, from float32 `start`, that fit n queries, whose row numbers `gradient` is given."""
        rng = np.random.default_rng(self.seed)
        order = rng.permutation(n)
        cut = int(self.validation * n) if self.early_stopping else 0
        held, train = order[:cut], order[cut:]
        flat = np.concatenate([value.ravel() for value in start.values()])
        now = _views(flat, start)
        first = np.zeros_like(flat)
        second = np.zeros_like(flat)
        slope = np.empty_like(flat)
        best = flat.copy()
        minimum = self._held_loss(gradient, now, held)
        when = 0
        step = 0
        for epoch in range(1, self.epochs + 1):
            rng.shuffle(train)
            for at in range(0, len(train), self.batch_size):
                parts = gradient(now, train[at : at + self.batch_size], rng)[2]
                np.concatenate([parts[name].ravel() for name in start], out=slope)
                step += 1
                first += (1 - _BETA) * (slope - first)
                second += (1 - _BETA_SQUARE) * (slope * slope - second)
                rate = self.learning_rate * math.sqrt(1 - _BETA_SQUARE**step) / (1 - _BETA**step)
                flat -= np.float32(rate) * first / (np.sqrt(second) + np.float32(_TINY))
            if not cut:
                continue
            loss = self._held_loss(gradient, now, held)
            if loss < minimum:
                best, minimum, when = flat.copy(), loss, epoch
            elif epoch - when >= self.patience:
                break
        return _views(best if cut else flat, start)

    def _held_loss(self, gradient: Gradient, now: Parameters, held: IntArray) -> float:
        """Mean loss on the held-out queries, with the same random numbers each time."""
        if not len(held):
            return math.inf
        total, cells, _ = gradient(now, held, np.random.default_rng(self.seed))
        return total / max(cells, 1)


def _views(flat: FloatArray, like: Parameters) -> Parameters:
    """Return the parameters as parts of one flat array, so that a step of Adam is a few operations whatever their
    number.
    """
    views, at = {}, 0
    for name, value in like.items():
        views[name] = flat[at : at + value.size].reshape(value.shape)
        at += value.size
    return views
