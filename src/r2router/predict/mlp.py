"""The paper's heads: one small neural network an arm for quality, on a frozen query embedding. Torch trains, numpy
serves.

Each head is d -> 256 -> 128 -> 64 -> 1 with ReLU and a sigmoid, fitted to the squared error by Adam (Xue et al. 2026).
Heads do not depend on each other, so they are trained a few at a time, to the end: memory does not grow with the arms,
and a group stops when its heads do. Every head starts from the same weights and sees the same batches, so what the seed
adds is common to all arms and does not choose between them. The output layer starts as the arm's mean: a head that
never beats it on held-out queries stays there.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from itertools import pairwise
from threading import Event
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec
import numpy as np

from r2router.errors import ConfigError, MissingExtra
from r2router.predict.linear import check_shapes, solve_ridge
from r2router.predict.tokens import log_bounds, log_smearing, log_tokens
from r2router.predict.variance import UNKNOWN_VARIANCE, with_one_unknown
from r2router.types import Arm, BoolArray, FloatArray, Forecast

if TYPE_CHECKING:
    from r2router.table.table import Table

_log = logging.getLogger("r2router")
_HIDDEN = (256, 128, 64)
_GROUP = (
    8  # heads trained together: enough work per step to hide Python, few enough that their Adam costs 5 % of the time
)
_FEW_HELD_OUT = 5  # with fewer held-out answers a head cannot show that it beats the mean, and stays there
_TOKEN_ALPHA = 30.0  # strength of the ridge heads for log tokens, as in `Ridge`
_ROWS, _FLOATS = 2048, 1 << 23  # serving: queries per block, and floats of its widest activation (32 MB)


class MLP(msgspec.Struct, frozen=True, tag="mlp", tag_field="learner", forbid_unknown_fields=True):
    """Neural heads for quality, as in the paper; log-ridge heads for tokens. Needs the `[torch]` extra to fit, not to
    predict.

    epochs: the maximum number of passes over the training queries.
    early_stopping: keep each head as it was at the epoch that was best on held-out queries (or as its arm's mean), and
        stop when that is `patience` epochs ago. False is the paper's: all queries, all epochs.
    patience: epochs without gain before it stops.
    validation: share of the queries held out for it.
    batch_size: queries per step. None: 1/32 of the queries, as a power of two from 32 to 256; with more, small tables
        get too few steps at this learning rate, and big ones are no faster.
    learning_rate: Adam's.
    seed: of the first weights, the held-out queries and the batches.
    """

    epochs: int = 100
    early_stopping: bool = True
    patience: int = 10
    validation: float = 0.1
    batch_size: int | None = None
    learning_rate: float = 1e-4
    seed: int = 0

    def __post_init__(self) -> None:
        for name, minimum in (("epochs", 1), ("patience", 1), ("batch_size", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < minimum:
                raise ConfigError(f"MLP({name}={value}): {name} must be at least {minimum}")
        for name, maximum in (("learning_rate", math.inf), ("validation", 1)):
            if not 0 < getattr(self, name) < maximum:
                raise ConfigError(f"MLP({name}={getattr(self, name)}): {name} must lie between 0 and {maximum}")

    def fit(self, x: FloatArray, table: Table) -> MLPPredictor:
        """Raises `MissingExtra` without torch. Holds the heads, three copies of x, and 100 MB a
        core.
        """
        order = np.argsort(np.array(table.query_ids), kind="stable")  # so that the order of the rows does not matter
        x = np.asarray(x, dtype=np.float32)[order]
        quality = table.quality[order]
        tokens = table.output_tokens[order]
        held = np.zeros(len(x), dtype=np.bool_)
        held[np.random.default_rng(self.seed).permutation(len(x))[: int(self.validation * len(x))]] = (
            self.early_stopping
        )
        layers = _train(self, x, quality, held)
        weight, bias = solve_ridge(x, log_tokens(tokens), _TOKEN_ALPHA)
        weight, (low, high) = weight.astype(np.float32), log_bounds(tokens)
        bias += log_smearing(np.clip(x @ weight + bias, low, high), tokens)
        predictor = MLPPredictor(
            table.arms, {**layers, "token_weight": weight, "token_bias": bias, "token_low": low, "token_high": high}
        )
        layers["root"][:] = _roots(predictor, x, quality, held)
        return predictor


class MLPPredictor:
    """Stacked networks. Arrays are float32 unless noted.

    w1: (d, 256 arms).
    b1: (256 arms,).
    w2: (arms, 256, 128).
    b2: (arms, 128).
    w3: (arms, 128, 64).
    b3: (arms, 64).
    w4: (arms, 64).
    b4: (arms,) NaN where never observed.
    root: (arms, 65, 65) inverse Cholesky factors that give the spread.
    token_weight: (d, arms).
    token_bias, token_low, token_high: (arms,) float64, in log tokens.
    """

    kind: ClassVar[str] = "mlp"

    def __init__(self, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> None:
        check_shapes(arrays, _shapes(len(arms)))
        self.arms, self._arrays = arms, arrays

    def predict(self, x: FloatArray) -> Forecast:
        """Blocks of queries and arms keep the activations below 64 MB."""
        a = self._arrays
        x = np.asarray(x, dtype=np.float32)
        quality, spread = np.empty((len(x), len(self.arms))), np.empty((len(x), len(self.arms)))
        for rows, heads, answer, slope in self._blocks(x):
            quality[rows, heads] = answer.T
            spread[rows, heads] = np.sqrt(np.square(slope @ a["root"][heads].transpose(0, 2, 1)).sum(axis=2)).T
        tokens = np.exp(np.clip(x @ a["token_weight"] + a["token_bias"], a["token_low"], a["token_high"]))
        return Forecast.of(self.arms, quality, tokens, spread)

    def _blocks(self, x: FloatArray) -> Iterator[tuple[slice, slice, FloatArray, FloatArray]]:
        """Return (rows, heads, quality (heads, rows), its derivative by the output layer's 64 weights and bias (heads,
        rows, 65)).
        """
        a, wide = self._arrays, _HIDDEN[0]
        step = max(1, _FLOATS // (wide * min(max(len(x), 1), _ROWS)))
        for first_row in range(0, len(x), _ROWS):
            rows = slice(first_row, min(first_row + _ROWS, len(x)))
            for first in range(0, len(self.arms), step):
                heads = slice(first, min(first + step, len(self.arms)))
                columns = slice(heads.start * wide, heads.stop * wide)
                h = np.maximum(x[rows] @ a["w1"][:, columns] + a["b1"][columns], 0)
                h = h.reshape(len(h), -1, wide).transpose(1, 0, 2)
                h = np.maximum(np.matmul(h, a["w2"][heads]) + a["b2"][heads, None], 0)
                h = np.maximum(np.matmul(h, a["w3"][heads]) + a["b3"][heads, None], 0)
                z = np.matmul(h, a["w4"][heads, :, None])[..., 0] + a["b4"][heads, None]
                quality = 0.5 + 0.5 * np.tanh(0.5 * z)  # the sigmoid, without overflow
                slope = np.concatenate([h, np.ones_like(h[..., :1])], axis=2) * (quality * (1 - quality))[..., None]
                yield rows, heads, quality, slope

    def arrays(self) -> dict[str, Any]:
        return dict(self._arrays)

    @classmethod
    def from_arrays(cls, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> Self:
        return cls(arms, dict(arrays))


def _shapes(n: int) -> dict[str, tuple[int | None, ...]]:
    h1, h2, h3 = _HIDDEN
    layers: dict[str, tuple[int | None, ...]] = {
        "w1": (None, n * h1),
        "b1": (n * h1,),
        "w2": (n, h1, h2),
        "b2": (n, h2),
    }
    layers |= {"w3": (n, h2, h3), "b3": (n, h3), "w4": (n, h3), "b4": (n,), "root": (n, h3 + 1, h3 + 1)}
    return layers | {"token_weight": (None, n), "token_bias": (n,), "token_low": (n,), "token_high": (n,)}


def _train(spec: MLP, x: FloatArray, quality: FloatArray, held: BoolArray) -> dict[str, Any]:
    """Return the trained layers, as in `MLPPredictor`, with `root` still empty."""
    try:
        torch: Any = import_module("torch")
    except ImportError:
        raise MissingExtra('the mlp learner needs torch to train: pip install "r2router[torch]"') from None
    d, n = x.shape[1], quality.shape[1]
    out = {
        name: np.zeros([d if k is None else k for k in shape], np.float32)
        for name, shape in _shapes(n).items()
        if "token" not in name
    }
    seen = ~np.isnan(quality)
    mean = np.where(seen, quality, 0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    # Inputs of mean 0 and mean square 1: at norm 1 an entry is so small that Adam's 1e-4 would take thousands of
    # epochs.
    centre = x.mean(axis=0)
    scale = np.float32(1 / max(float(np.sqrt(np.square(x - centre).mean())), 1e-6))
    xs = torch.from_numpy((x - centre) * scale)
    groups = [slice(first, min(first + _GROUP, n)) for first in range(0, n, _GROUP)]
    threads, stop = torch.get_num_threads(), Event()
    # One thread a group: a step is too small to share, and so the result does not depend on the number of cores.
    with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            trained = pool.map(lambda g: _train_group(torch, spec, xs, quality[:, g], held, mean[g], stop), groups)
            for group, layers in zip(groups, trained, strict=True):
                wide = slice(group.start * _HIDDEN[0], group.stop * _HIDDEN[0])
                w1 = layers[0].reshape(d, -1) * scale
                out["w1"][:, wide], out["b1"][wide] = w1, layers[1].ravel() - centre @ w1
                for name, value in zip(("w2", "b2", "w3", "b3", "w4", "b4"), layers[2:], strict=True):
                    out[name][group] = value.reshape(out[name][group].shape)
        finally:
            stop.set()  # where the caller is interrupted, the others need not go on to their last epoch
            torch.set_num_threads(threads)  # what threads that are started later begin with
    out["b4"][~seen.any(axis=0)] = np.nan
    return out


def _train_group(
    torch: Any, spec: MLP, xs: Any, quality: FloatArray, held: BoolArray, mean: FloatArray, stop: Event
) -> list[Any]:
    """Train some heads side by side; their [w1 (d, g, 256), b1 (1, g, 256), w2 (g, 256, 128), b2 (g, 1, 128), ...] as
    numpy arrays.
    """
    rng = np.random.default_rng(spec.seed)
    layers = [torch.from_numpy(value).requires_grad_() for value in _start(rng, xs.shape[1], mean)]
    best = [p.detach().clone() for p in layers]
    adam = torch.optim.Adam(layers, lr=spec.learning_rate, fused=True)
    seen = torch.from_numpy(~np.isnan(quality)).float()
    y = torch.from_numpy(np.nan_to_num(quality)).float()
    train, test = np.flatnonzero(~held), torch.from_numpy(np.flatnonzero(held))
    size = spec.batch_size or min(256, max(32, 1 << max(1, len(train) // 32).bit_length() - 1))

    def loss(rows: Any) -> Any:  # (g,) mean squared error of each head over its observed cells among these rows
        h = torch.addmm(layers[1].view(-1), xs[rows], layers[0].view(xs.shape[1], -1)).relu()
        h = h.view(len(rows), len(mean), _HIDDEN[0]).transpose(0, 1)
        for w, b in ((layers[2], layers[3]), (layers[4], layers[5])):
            h = torch.baddbmm(b, h, w).relu()
        error = torch.baddbmm(layers[7], h, layers[6]).sigmoid().squeeze(2).t() - y[rows]
        return (error.square() * seen[rows]).sum(0) / seen[rows].sum(0).clamp(min=1)

    def held_loss() -> Any:
        with torch.no_grad():
            parts = [loss(rows) * seen[rows].sum(0) for rows in test.split(_ROWS)]
        return sum(parts) / seen[test].sum(0).clamp(min=1)

    scored = seen[test].sum(0) >= _FEW_HELD_OUT
    minimum = held_loss() if spec.early_stopping else torch.full((len(mean),), math.inf)
    when, epoch = torch.zeros(len(mean), dtype=torch.long), 0
    while (
        epoch < spec.epochs
        and not stop.is_set()
        and (not spec.early_stopping or bool((scored & (epoch - when < spec.patience)).any()))
    ):
        epoch += 1
        for rows in torch.from_numpy(rng.permutation(train)).split(size):
            adam.zero_grad()
            loss(rows).sum().backward()
            adam.step()
        if spec.early_stopping:
            now = held_loss()
            better = scored & (now < minimum) & (epoch - when <= spec.patience)
            minimum, when = torch.where(better, now, minimum), torch.where(better, epoch, when)
            for i, (p, kept) in enumerate(zip(layers, best, strict=True)):
                kept.copy_(torch.where(better[:, None] if i < 2 else better[:, None, None], p.detach(), kept))
    _log.info(
        "mlp: %d heads, %d epochs in batches of %d; best were %s, held-out %s",
        len(mean),
        epoch,
        size,
        when.tolist(),
        minimum.tolist(),
    )
    return [p.detach().numpy() for p in (best if spec.early_stopping else layers)]


def _start(rng: np.random.Generator, d: int, mean: FloatArray) -> list[Any]:
    """First weights, uniform within 1 / sqrt(inputs), the same for every head; the last layer answers the arm's
    mean.
    """
    heads, layers = len(mean), []
    for i, (fan_in, fan_out) in enumerate(pairwise((d, *_HIDDEN))):
        # weights, then bias; the first layer is one product for all heads, so they are its second axis
        for rows in fan_in, 1:
            value = rng.uniform(-(fan_in**-0.5), fan_in**-0.5, (rows, fan_out)).astype(np.float32)
            layers.append(np.stack([value] * heads, axis=int(i == 0)))
    bias = -np.log(1 / np.clip(mean, 1e-3, 1 - 1e-3) - 1).astype(np.float32)[:, None, None]
    return [*layers, np.zeros((heads, _HIDDEN[-1], 1), np.float32), bias]


def _roots(predictor: MLPPredictor, x: FloatArray, quality: FloatArray, held: BoolArray) -> FloatArray:
    """Return (arms, 65, 65) roots of the output layers' posterior covariance (a Laplace approximation): spread is |root
    derivative|.

    Noise is the squared residual on held-out answers, where there are enough, with one pseudo-answer of variance 1/12;
    the prior is such that a head without any answer is as unsure as a uniform quality is. Daxberger et al., NeurIPS
    2021.
    """
    n, k = quality.shape[1], _HIDDEN[-1] + 1
    seen = ~np.isnan(quality)
    scored = np.where((seen & held[:, None]).sum(axis=0) >= _FEW_HELD_OUT, seen & held[:, None], seen)
    gram, squares = np.zeros((n, k, k)), np.zeros(n)
    for rows, heads, answer, slope in predictor._blocks(x):
        error = np.nan_to_num(answer.T - quality[rows, heads])
        squares[heads] += (np.square(error) * scored[rows, heads]).sum(axis=0)
        g = np.nan_to_num(slope) * seen[rows, heads].T[..., None]
        gram[heads] += np.matmul(g.transpose(0, 2, 1), g)
    noise = with_one_unknown(squares, scored.sum(axis=0))
    size = np.trace(gram, axis1=1, axis2=2) / np.maximum(seen.sum(axis=0), 1)  # mean of |g|^2
    precision = gram / noise[:, None, None] + np.where(size > 0, size / UNKNOWN_VARIANCE, 1.0)[:, None, None] * np.eye(
        k
    )
    return np.linalg.inv(np.linalg.cholesky(precision)).astype(np.float32)
