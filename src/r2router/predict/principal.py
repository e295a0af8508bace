"""Ridge in the outcomes' own coordinates.

Arms agree in most of what they know of a query (how hard it is) and differ in little; a separate ridge for each arm
cannot give the two parts different strengths. So the standardised outcomes are rotated into their principal components,
each component gets the strength with the lowest leave-one-out error (possibly infinite: the arm means), and the result
is rotated back. Directions in which queries differ more are trusted more (weights have a prior variance proportional to
the embeddings' own, squared). What did and did not help on real tables is in `docs/experiments.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import msgspec
import numpy as np

from r2router.errors import ConfigError
from r2router.predict.impute import impute
from r2router.predict.linear import LinearPredictor
from r2router.predict.permutation_test import passes_permutation_test
from r2router.predict.tokens import log_bounds, log_smearing, log_tokens
from r2router.types import BoolArray, FloatArray, IntArray

if TYPE_CHECKING:
    from r2router.table.table import Table

_STRENGTHS = np.geomspace(300.0, 1e-3, 21)  # in units of the mean prior variance; the strongest first
_SCORED = 4_000  # queries whose left-out errors choose the strengths; more do not move the choice
_MIN_SCALE = (
    0.05  # of the widest arm's standard deviation: an arm that hardly varies must not count as much as all others
)


class PrincipalRidge(msgspec.Struct, frozen=True, tag="principal", tag_field="learner", forbid_unknown_fields=True):
    """Ridge heads in the principal components of the outcomes, each with a strength of its own.

    power: the prior variance of a weight is the embeddings' variance along its direction, to this power less one; 1 is
        plain ridge.
    seed: of the shuffles that the forecasts must beat, see `passes_permutation_test`.
    """

    power: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.power <= 4:
            raise ConfigError(f"PrincipalRidge(power={self.power}): power must lie between 1 and 4")

    def fit(self, x: FloatArray, table: Table) -> LinearPredictor:
        """Missing cells are imputed first, so that an arm that was only asked easy queries does not look too good.

        The forecasts are used only where they pass the permutation test. Elsewhere the predictor gives the arm's mean.
        """
        parts = Parts.of(x, table, self.power)
        quality, arms = parts.quality.heads, len(table.arms)
        shifts = (quality.left_out, parts.length.heads.left_out)
        outcomes = (parts.quality.y, parts.length.y)
        trusted = passes_permutation_test(shifts, quality.scored, outcomes, table, self.seed)
        weight, bias = parts.linear(np.full(2 * arms, float(trusted)))
        low, high = log_bounds(table.output_tokens)
        bias[arms:] += log_smearing(np.clip(x @ weight[:, arms:] + bias[arms:], low, high), np.exp(parts.length.y))
        bias[parts.never] = np.nan
        spread = np.where(parts.never[:arms], np.nan, quality.spread if trusted else quality.spread_of_mean)
        return LinearPredictor(table.arms, weight.astype(np.float32), bias, spread, low, high)


@dataclass(frozen=True, slots=True, eq=False)
class OutcomeFit:
    """One outcome, and its heads.

    y: (n, arms), gaps filled.
    seen: the share of it that was measured.
    """

    y: FloatArray
    seen: float
    heads: Heads

    @classmethod
    def of(cls, basis: Basis, cells: FloatArray, low: float = -np.inf, high: float = np.inf) -> Self:
        """Fill the gaps of (n, arms) cells, within bounds, and fit the heads."""
        y = np.clip(impute(basis.u, basis.prior, cells), low, high)
        seen = float(np.isfinite(cells).mean())
        return cls(y, seen, fit_heads(basis, y, seen))


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """What is fitted on a table before it is decided whether to trust it.

    quality, length: the latter is log tokens.
    mean: (2 arms,) of both.
    never: (2 arms,) true where nothing was observed.
    """

    basis: Basis
    quality: OutcomeFit
    length: OutcomeFit
    mean: FloatArray
    never: BoolArray

    @classmethod
    def of(cls, x: FloatArray, table: Table, power: float) -> Self:
        """Fit on (n, d) embeddings."""
        basis = Basis.of(np.asarray(x, dtype=np.float64), power)
        logs = log_tokens(table.output_tokens)
        quality, length = OutcomeFit.of(basis, table.quality, 0.0, 1.0), OutcomeFit.of(basis, logs)
        never = np.concatenate([np.isnan(cells).all(axis=0) for cells in (table.quality, logs)])
        return cls(basis, quality, length, np.concatenate([quality.heads.mean, length.heads.mean]), never)

    def linear(self, share: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return (weights (d, 2 arms), intercepts (2 arms,)), quality heads first, on the embeddings themselves.

        share: (2 arms,) what to multiply the heads with; 0 leaves the arms' means.
        """
        weight = self.basis.v @ (np.concatenate([self.quality.heads.weight, self.length.heads.weight], axis=1) * share)
        return weight, self.mean - self.basis.mean @ weight


@dataclass(frozen=True, slots=True, eq=False)
class Basis:
    """Principal directions of the centred embeddings, in which every ridge is diagonal.

    mean: (d,).
    v: (d, r) takes a centred embedding to its coordinates.
    u: (n, r) those of the training queries, orthonormal columns.
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
class Heads:
    """One outcome's heads.

    mean: (arms,).
    weight: (r, arms) on the basis' coordinates.
    left_out: (scored, arms) forecast less mean of queries that the fit did not see, for the queries `scored`.
    spread, spread_of_mean: (arms,) standard error of a forecast.
    scale: (arms,) what the outcomes were divided by.
    """

    mean: FloatArray
    scale: FloatArray
    weight: FloatArray
    left_out: FloatArray
    scored: IntArray
    spread: FloatArray
    spread_of_mean: FloatArray


def choose_strength(
    basis: Basis, z: FloatArray, scored: IntArray, *, together: bool = False
) -> tuple[FloatArray, FloatArray]:
    """Return the ridge strength with the lowest leave-one-out error: ((r, k) factors of the coordinates, (scored, k)
    left-out errors).

    z: (n, k) centred outcomes.
    scored: rows whose errors choose.
    together: one strength for all columns, by their mean error; otherwise one per column. The mean of the others
        (factors 0) is a candidate too, and equals go to the stronger ridge.
    """
    n = len(z)
    u, target, uz = basis.u[scored], z[scored], basis.u.T @ z
    gain = np.zeros((len(basis.prior), z.shape[1]))
    error = target * n / max(n - 1, 1)  # what the mean of the others is off by
    minimum = _loss(error, together=together)
    for strength in _STRENGTHS:
        g = basis.prior / (basis.prior + strength)
        leverage = u**2 @ g + 1.0 / n
        if leverage.max(initial=0.0) > 0.999 or g.sum() > n / 2:
            break
        residual = (target - u @ (g[:, None] * uz)) / (1.0 - leverage)[:, None]
        loss = _loss(residual, together=together)
        better = loss < minimum * (1 - 1e-9)
        minimum = np.where(better, loss, minimum)
        gain[:, better] = g[:, None]
        error[:, better] = residual[:, better]
    return gain, error


def _loss(error: FloatArray, *, together: bool) -> FloatArray:
    loss = (error**2).mean(axis=0)
    return np.full_like(loss, loss.mean()) if together else loss


def fit_heads(basis: Basis, y: FloatArray, seen: float) -> Heads:
    """Heads of full (n, arms) outcomes.

    seen: share of y that was measured. Filled cells agree with the embeddings too well, so the strengths are divided by
        it.
    """
    n = len(y)
    mean = y.mean(axis=0)
    scale = y.std(axis=0)
    scale = np.maximum(scale, max(_MIN_SCALE * float(scale.max(initial=0.0)), 1e-9))
    _, _, rotation = np.linalg.svd((y - mean) / scale, full_matrices=False)
    z = (y - mean) / scale @ rotation.T
    uz = basis.u.T @ z
    scored = np.random.default_rng(0).permutation(n)[:_SCORED]
    target = z[scored]
    gain, error = choose_strength(basis, z, scored)
    gain = gain / (gain + (1.0 - gain) / seen) if seen > 0 else gain
    weight = gain * uz
    noise = (error**2).mean(axis=0)
    back = rotation**2
    # mean over the training queries of sum_j u_j^2 gain_j, as the columns of u have norm 1
    spread = scale * np.sqrt(((1.0 + gain.sum(axis=0)) / n * noise) @ back)
    left_out = (target - error + target / max(n - 1, 1)) @ rotation * scale
    return Heads(mean, scale, weight @ rotation * scale, left_out, scored, spread, scale * np.sqrt(noise / n @ back))
