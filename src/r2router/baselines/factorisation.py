"""RouteLLM's matrix factorisation: which of two arms answers a query better (Ong et al., arXiv 2406.18665)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from r2router.baselines.adam import Descent, Parameters
from r2router.baselines.cells import Cells, column_means, cross_entropy, standard_error, with_ones
from r2router.predict.linear import LinearPredictor
from r2router.types import FloatArray, IntArray

if TYPE_CHECKING:
    from r2router.table.table import Table

_TIE = 1e-9


class MatrixFactorisation(Descent, frozen=True, tag="mf", tag_field="learner", forbid_unknown_fields=True):
    """score(arm, query) = w . (v * (W x + c)): a unit vector v per arm. P(one arm beats another) = sigmoid(difference of
    their scores).

    Pairs of arms on the same query are compared, the better quality wins and a tie is half a win. In a step all arms of
    a query are paired at random, so that it holds some hundred times the comparisons of RouteLLM's code (64 pairs, Adam
    3e-4), and the rate is ten times as high; its noise on the embeddings is left out, early stopping does that work.

    Scores only compare. Quality is `level + slope * (score - mean score of the arms)`, both by least squares on the
    training queries; for arms of constant tokens, as here, no decision of a trade-off sweep depends on them. All of it
    is linear in the embedding.
    """

    dim: int = 128
    epochs: int = 100
    batch_size: int = 64
    learning_rate: float = 3e-3

    def fit(self, x: FloatArray, table: Table) -> LinearPredictor:
        cells = Cells.of(x, table)
        inputs = with_ones(cells.x)

        def gradient(p: Parameters, rows: IntArray, rng: np.random.Generator) -> tuple[float, int, Parameters]:
            return pairwise(p, inputs[rows], cells.quality[rows], rng.permutation(cells.quality.shape[1]))

        start = self._start(inputs.shape[1], cells.quality.shape[1])
        score = score_weights(self.minimise(gradient, start, len(inputs))).astype(np.float64)
        known = ~np.isnan(cells.quality).all(axis=0)
        weight, residual = _calibrated(
            score - score[:, known].sum(axis=1, keepdims=True) / max(known.sum(), 1), inputs, cells.quality
        )
        weight[-1, ~known] = np.nan
        logs = np.log(column_means(cells.tokens))[cells.back]
        heads = np.concatenate([weight[:, cells.back], np.zeros(weight.shape)], axis=1)
        heads[-1, len(logs) :] = logs
        spread = standard_error(residual, min(self.dim + 1, inputs.shape[1]))[cells.back]
        low, high = np.nan_to_num(logs), np.nan_to_num(logs)
        return LinearPredictor(table.arms, heads[:-1].astype(np.float32), heads[-1], spread, low, high)

    def _start(self, d: int, arms: int) -> Parameters:
        rng = np.random.default_rng(self.seed)
        edge = self.dim**-0.5
        found = {
            "arm": rng.normal(size=(arms, self.dim)),
            "projection": rng.uniform(-(d**-0.5), d**-0.5, (d, self.dim)),
        }
        found["output"] = rng.uniform(-edge, edge, self.dim)
        return {name: value.astype(np.float32) for name, value in found.items()}


def score_weights(p: Parameters) -> FloatArray:
    """Return (d + 1, arms) the weights of the scores on the embedding, intercepts last."""
    unit = p["arm"] / np.linalg.norm(p["arm"], axis=1, keepdims=True)
    return np.asarray(p["projection"] @ (p["output"] * unit).T)


def pairwise(p: Parameters, inputs: FloatArray, quality: FloatArray, order: IntArray) -> tuple[float, int, Parameters]:
    """Return (sum of the cross-entropy of who wins, pairs, gradient of its mean), the arms paired in this order; an odd
    one is left out.
    """
    norm = np.linalg.norm(p["arm"], axis=1, keepdims=True)
    unit = p["arm"] / norm
    hidden, heads = inputs @ p["projection"], p["output"] * unit
    score = hidden @ heads.T
    one, two = order[: len(order) // 2 * 2].reshape(-1, 2).T
    ahead = quality[:, one] - quality[:, two]
    wins = np.where(np.isnan(ahead), np.nan, 0.5 + 0.5 * np.sign(np.where(np.abs(ahead) < _TIE, 0.0, ahead)))
    loss, pairs, slope = cross_entropy(score[:, one] - score[:, two], wins)
    by_score = np.zeros_like(score)
    by_score[:, one], by_score[:, two] = slope, -slope
    by_head = by_score.T @ hidden
    by_unit = by_head * p["output"]
    return (
        loss,
        pairs,
        {
            "arm": (by_unit - (by_unit * unit).sum(axis=1, keepdims=True) * unit) / norm,
            "projection": inputs.T @ (by_score @ heads),
            "output": (by_head * unit).sum(axis=0),
        },
    )


def _calibrated(weight: FloatArray, inputs: FloatArray, quality: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return (weights of quality, (n, arms) residuals): the least-squares line through all observed cells, from score
    to quality.
    """
    score, seen = inputs @ weight, ~np.isnan(quality)
    if not seen.any():
        return weight, quality
    s, y = score[seen], quality[seen]
    variance = float(np.square(s - s.mean()).sum())
    slope = max(float(((s - s.mean()) * (y - y.mean())).sum()) / variance, 0.0) if variance > 0 else 0.0
    level = float(y.mean() - slope * s.mean())
    calibrated = slope * weight
    calibrated[-1] += level
    return calibrated, quality - (level + slope * score)
