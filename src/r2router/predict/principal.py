"""The default learner: ridge in the outcomes' own coordinates.

Arms agree in most of what they know of a query (how hard it is) and differ in little; a separate ridge for each arm cannot give the two
parts different strengths. So the centred outcomes are rotated into their principal components, each component gets the strength with
the least leave-one-out error (possibly infinite: the arm means), and the result is rotated back. Directions in which queries differ
more are trusted more (weights have a prior variance proportional to the embeddings' own, squared). What did and did not help on real
tables is in `docs/experiments.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from r2router.errors import ConfigError
from r2router.frontier import area_over_log_cost, sweep
from r2router.predict.fill import fill
from r2router.predict.linear import LinearPredictor
from r2router.predict.tokens import log_bounds, log_smearing, log_tokens
from r2router.types import FloatArray, IntArray

if TYPE_CHECKING:
    from r2router.table import Table

_STRENGTHS = np.append(np.geomspace(1e-3, 300.0, 21), np.inf)  # in units of the mean prior variance
_JUDGED = 4_000  # queries whose left-out errors choose the strengths; more do not move the choice
_SHUFFLES = 20
_LEAST_QUERIES = 10


class PrincipalRidge(msgspec.Struct, frozen=True, tag="principal", tag_field="learner", forbid_unknown_fields=True):
    """Ridge heads in the principal components of the outcomes, each with a strength of its own.

    power: the prior variance of a weight is the embeddings' variance along its direction, to this power less one; 1 is plain ridge.
    seed: of the shuffles that the forecasts must beat, see `fit`.
    """

    power: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.power <= 4:
            raise ConfigError(f"PrincipalRidge(power={self.power}): power must lie between 1 and 4")

    def fit(self, x: FloatArray, table: Table) -> LinearPredictor:
        """See `Learner.fit`. Missing cells are filled first (`fill`), so that an arm seen on easy queries only is not flattered.

        The forecasts are used only where their left-out decisions (mean quality over log cost) are better than the arm means' and
        better than the same forecasts dealt to the wrong queries; else the predictor knows the arm means and nothing else.
        """
        basis = Basis.of(np.asarray(x, dtype=np.float64), self.power)
        quality, log_length = table.quality, log_tokens(table.output_tokens)
        full_quality = np.clip(fill(basis.u, basis.prior, quality), 0.0, 1.0)
        full_length = fill(basis.u, basis.prior, log_length)
        quality_heads = _fit_heads(basis, full_quality, float(np.isfinite(quality).mean()))
        length_heads = _fit_heads(basis, full_length, float(np.isfinite(log_length).mean()))
        low, high = log_bounds(table.output_tokens)
        trusted = _worth_trusting(quality_heads, length_heads, full_quality, full_length, table, self.seed)
        weight = np.concatenate([quality_heads.weight, length_heads.weight], axis=1)
        weight = basis.v @ weight if trusted else np.zeros((x.shape[1], weight.shape[1]))
        bias = np.concatenate([quality_heads.mean, length_heads.mean]) - basis.mean @ weight
        arms = len(table.arms)
        bias[arms:] += log_smearing(np.clip(x @ weight[:, arms:] + bias[arms:], low, high), np.exp(full_length))
        never = np.concatenate([np.isnan(values).all(axis=0) for values in (quality, log_length)])
        bias[never] = np.nan
        spread = np.where(never[:arms], np.nan, quality_heads.spread if trusted else quality_heads.spread_of_mean)
        return LinearPredictor(table.arms, weight.astype(np.float32), bias, spread, low, high)


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """Principal directions of the centred embeddings, in which every ridge is diagonal.

    mean: (d,). v: (d, r) takes a centred embedding to its coordinates. u: (n, r) those of the training queries, orthonormal columns.
    prior: (r,) prior variance of the coordinates' weights, of mean 1.
    """

    mean: FloatArray
    v: FloatArray
    u: FloatArray
    prior: FloatArray

    @classmethod
    def of(cls, x: FloatArray, power: float) -> Basis:
        mean = x.mean(axis=0)
        centred = x - mean
        n, d = centred.shape
        if d <= n:
            variance, v = np.linalg.eigh(centred.T @ centred)
        else:
            variance, u = np.linalg.eigh(centred @ centred.T)
            v = centred.T @ u / np.sqrt(np.maximum(variance, 1e-12))
        kept = variance > 1e-6 * max(float(variance.max(initial=0.0)), 1e-9)
        variance, v = variance[kept], v[:, kept] / np.sqrt(variance[kept])
        prior = variance**power
        return cls(mean, v, centred @ v, prior / prior.mean() if len(prior) else prior)


@dataclass(frozen=True, slots=True, eq=False)
class _Heads:
    """One outcome's heads. mean: (arms,). weight: (r, arms) on the basis' coordinates. left_out: (judged, arms) forecast less mean
    of queries that the fit did not see, for the queries `judged`. spread, spread_of_mean: (arms,) standard error of a forecast.
    """

    mean: FloatArray
    weight: FloatArray
    left_out: FloatArray
    judged: IntArray
    spread: FloatArray
    spread_of_mean: FloatArray


def _fit_heads(basis: Basis, y: FloatArray, seen: float) -> _Heads:
    """Heads of full (n, arms) outcomes.

    seen: share of y that was measured. Filled cells agree with the embeddings too well, so the strengths are divided by it.
    """
    n = len(y)
    mean = y.mean(axis=0)
    _, _, rotation = np.linalg.svd(y - mean, full_matrices=False)
    z = (y - mean) @ rotation.T
    uz = basis.u.T @ z
    judged = np.random.default_rng(0).permutation(n)[:_JUDGED]
    u, target = basis.u[judged], z[judged]
    gain = np.zeros((len(basis.prior), z.shape[1]))
    error = target * n / max(n - 1, 1)  # what the mean of the others is off by
    least = np.full(z.shape[1], np.inf)
    for strength in _STRENGTHS[::-1]:  # the strongest first: equals go to the simpler forecast
        g = basis.prior / (basis.prior + strength) if np.isfinite(strength) else np.zeros_like(basis.prior)
        leverage = u**2 @ g + 1.0 / n
        if leverage.max(initial=0.0) > 0.999 or g.sum() > n / 2:
            break
        residual = (target - u @ (g[:, None] * uz)) / (1.0 - leverage)[:, None]
        loss = (residual**2).mean(axis=0)
        better = loss < least * (1 - 1e-9)
        least = np.where(better, loss, least)
        gain[:, better] = g[:, None]
        error[:, better] = residual[:, better]
    gain = gain / (gain + (1.0 - gain) / seen) if seen > 0 else gain
    weight = gain * uz
    noise = (error**2).mean(axis=0)
    back = rotation**2
    # mean over the training queries of sum_j u_j^2 gain_j, as the columns of u have norm 1
    spread = np.sqrt(((1.0 + gain.sum(axis=0)) / n * noise) @ back)
    left_out = (target - error + target / max(n - 1, 1)) @ rotation
    return _Heads(mean, weight @ rotation, left_out, judged, spread, np.sqrt(noise / n @ back))


def _worth_trusting(quality: _Heads, length: _Heads, y: FloatArray, log_length: FloatArray, table: Table, seed: int) -> bool:
    """Do left-out forecasts decide better than arm means, and better than forecasts that were dealt to the wrong queries?"""
    judged = quality.judged
    if (
        len(y) < _LEAST_QUERIES
        or not (quality.weight.any() or length.weight.any())
        or any(m.usd_per_million is None for m in table.pool.models)
    ):
        return False
    inputs = np.nan_to_num(table.input_tokens[judged])
    known = np.isfinite(y).all(axis=0) & np.isfinite(log_length).all(axis=0)
    cost = table.pool.cost(inputs, np.exp(log_length[judged]))[:, known]
    mean_cost = cost.mean(axis=0)
    low, high = float(mean_cost.min(initial=np.inf)), float(mean_cost.max(initial=0.0))
    if not 0 < low < high:
        return False
    tokens = np.exp(log_length[judged]).mean(axis=0)

    def area(rows: IntArray | None) -> float:
        shift_q, shift_t = (np.zeros_like(h.left_out) if rows is None else h.left_out[rows] for h in (quality, length))
        lengths = np.exp(length.mean + shift_t)
        lengths *= tokens / lengths.mean(axis=0)
        steps = sweep((quality.mean + shift_q)[:, known], table.pool.cost(inputs, lengths)[:, known])
        return area_over_log_cost(steps.totals(cost), steps.totals(y[judged][:, known]), low, high)

    rows = np.arange(len(judged))
    ours = area(rows)
    if ours <= area(None):
        return False
    rng = np.random.default_rng(seed)
    dealt = np.array([area(rng.permutation(rows)) for _ in range(_SHUFFLES)])
    return bool(ours > dealt.mean() + 2 * dealt.std())
