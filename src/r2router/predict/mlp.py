"""The paper's heads: one small neural network an arm for quality, on a frozen query embedding. Torch trains, numpy serves.

Each head is d -> 256 -> 128 -> 64 -> 1 with ReLU and a sigmoid, trained on squared error by Adam (Xue et al. 2026, section 4). The
heads are independent, so they are trained a few at a time, to the end: their weights, gradients and Adam's moments then stay in
the cache, and memory does not grow with the number of arms. Every head starts from the same weights and sees the same batches, so
what the seed adds is common to all arms and does not choose between them. The output layer starts at the arm's mean with weights
of zero: a head that never beats it on the held-out queries stays there.
"""

from __future__ import annotations

import logging
import math
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec
import numpy as np

from r2router.errors import ConfigError, MissingExtra
from r2router.predict.linear import check_shapes, solve_ridge
from r2router.predict.tokens import log_bounds, log_smearing, log_tokens
from r2router.types import Arm, FloatArray, Forecast, IntArray

if TYPE_CHECKING:
    from r2router.table import Table

_log = logging.getLogger("r2router")
_HIDDEN = (256, 128, 64)
_GROUP = 4  # heads trained together: their weights and moments at d = 1024 are 15 MB (measured: see docs/experiments.md)
_FEW_HELD_OUT = 5  # with fewer held-out answers than this a head cannot show that it beats the mean, and stays there
_CHUNK = 1 << 23  # floats of the widest activation held at once when serving: 32 MB
_PRIOR_VARIANCE = 1 / 12  # of a quality of which nothing is known: uniform on [0, 1]


class MLP(msgspec.Struct, frozen=True, tag="mlp", tag_field="learner", forbid_unknown_fields=True):
    """Neural heads for quality, as in the paper; log-ridge heads for tokens. Needs the `[torch]` extra to fit, not to predict.

    epochs: the most passes over the training queries.
    early_stopping: keep each head as it was at the epoch that was best on held-out queries (or at its arm's mean), and stop
        where that has not improved for `patience` epochs. False is the paper's: all queries, all epochs.
    validation: share of the queries held out for it.
    batch_size: queries a step. None: 1/32 of the queries, as a power of two from 32 to 256. Fewer would starve small tables of
        steps at this learning rate; more buys no speed.
    learning_rate: Adam's.
    seed: of the start, the held-out queries and the batches.
    token_alpha: strength of the ridge heads for log tokens, as in `Ridge`.
    """

    epochs: int = 100
    early_stopping: bool = True
    patience: int = 10
    validation: float = 0.1
    batch_size: int | None = None
    learning_rate: float = 1e-4
    seed: int = 0
    token_alpha: float = 30.0

    def __post_init__(self) -> None:
        for name in ("epochs", "patience", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"MLP({name}={value}): {name} must be at least 1")
        if not 0 < self.validation < 1:
            raise ConfigError(f"MLP(validation={self.validation}): the share held out lies between 0 and 1, for example 0.1")
        for name in ("learning_rate", "token_alpha"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(f"MLP({name}={getattr(self, name)}): {name} must be a finite number above 0")
        if self.seed < 0:
            raise ConfigError(f"MLP(seed={self.seed}): seed must be at least 0")

    def fit(self, x: FloatArray, table: Table) -> MLPPredictor:
        """See `Learner.fit`. Raises `MissingExtra` without torch. Peak memory: the heads, two copies of x, and 64 MB."""
        torch = _import_torch()
        order = np.argsort(np.array(table.query_ids), kind="stable")  # so that the order of the rows does not matter
        quality = table.quality[order]
        xs, centre, scale = _standardise(x[order])
        stack = _Stack.empty(x.shape[1], len(table.arms))
        rng = np.random.default_rng(self.seed)
        start = _start(x.shape[1], rng)
        shuffled = rng.permutation(len(xs))
        held = int(self.validation * len(xs)) if self.early_stopping else 0
        trainer = _Trainer(torch, self, xs, shuffled[held:], shuffled[:held], start)
        for first in range(0, len(table.arms), _GROUP):
            heads = slice(first, min(first + _GROUP, len(table.arms)))
            trainer.train(quality[:, heads], stack, heads)
        stack.fold(centre, scale)
        stack.b4[np.isnan(table.quality).all(axis=0)] = np.nan

        weight, bias = solve_ridge(x, log_tokens(table.output_tokens), self.token_alpha)
        bias += log_smearing(np.asarray(x @ weight.astype(x.dtype) + bias), table.output_tokens)
        low, high = log_bounds(table.output_tokens)
        tokens = {"token_weight": weight.astype(np.float32), "token_bias": bias, "token_low": low, "token_high": high}
        return MLPPredictor(table.arms, {**stack.arrays(), **tokens})
