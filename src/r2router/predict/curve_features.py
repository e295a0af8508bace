"""Heads for an LLM that arrives later, learned from a few graded queries by the forecasts of the LLMs that are known.

What is hard for the known LLMs is mostly hard for a new one, so a few dozen outcomes suffice to learn how it differs,
where a regression on the embedding alone needs hundreds. The features are the known arms' forecasts (their leading
components first) and the embedding, each block with half of the prior variance; one strength for all arms of the LLM by
leave-one-out error, possibly infinite (the arms' means). How each choice does on real tables is in
`docs/decisions/0014-models-that-arrive-later.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from r2router.predict.impute import impute
from r2router.predict.principal import Basis, choose_strength
from r2router.predict.tokens import log_bounds, log_smearing, log_tokens
from r2router.predict.variance import with_one_unknown
from r2router.types import FloatArray

if TYPE_CHECKING:
    from r2router.table.table import Table

_POWER = 2.0  # of the prior variance over directions, as in `PrincipalRidge`


@dataclass(frozen=True, slots=True, eq=False)
class KnownArms:
    """What a router knows of A arms on the n graded queries, and what it expects of k arms that it does not know.

    quality: (n, A) its forecasts.
    observed: (n, A) what these arms really gave there; NaN where that was not seen.
    mean: (A,) its mean quality of each arm.
    expected: (k,) mean quality of an arm that costs as much as the new one.
    variance: of a new arm's mean quality around what is expected.
    """

    quality: FloatArray
    observed: FloatArray
    mean: FloatArray
    expected: FloatArray
    variance: float


@dataclass(frozen=True, slots=True, eq=False)
class CurveHeads:
    """Linear heads of k arms over A known arms: quality first, then log tokens.

    on_quality: (A, 2k) weights on the known arms' forecasts.
    on_vector: (d, 2k) weights on the embedding.
    bias: (2k,).
    spread: (k,) standard error of a forecast.
    low, high: (k,) bounds of log tokens.
    mean: (k,) quality over the queries the known means are over.
    tokens: (k,) mean tokens.
    left_out: (n, k) forecasts of each graded query's quality by the others.
    """

    on_quality: FloatArray
    on_vector: FloatArray
    bias: FloatArray
    spread: FloatArray
    low: FloatArray
    high: FloatArray
    mean: FloatArray
    tokens: FloatArray
    left_out: FloatArray


def learn_heads(x: FloatArray, table: Table, known: KnownArms) -> CurveHeads:
    """Heads of the table's arms from (n, d) embeddings of its n queries. NaN for an arm without any outcome."""
    features = np.concatenate([known.quality, x], axis=1, dtype=np.float64)
    scale, arms = _scale(features, known.quality.shape[1]), len(table.arms)
    basis = Basis.of(features * scale, _POWER)
    log_length = log_tokens(table.output_tokens)
    quality = np.clip(impute(basis.u, basis.prior, table.quality), 0.0, 1.0)
    length = impute(basis.u, basis.prior, log_length)
    share = float(np.isfinite(table.quality).mean())
    of_quality = _ridge(basis, quality - _control_variate(known, quality), share)
    of_length = _ridge(basis, length, float(np.isfinite(log_length).mean()))
    weight = scale[:, None] * (basis.v @ np.concatenate([of_quality.weight, of_length.weight], axis=1))
    bias = np.concatenate([of_quality.mean, of_length.mean]) - (basis.mean / np.where(scale > 0, scale, 1.0)) @ weight
    typical = np.concatenate([np.where(np.isnan(known.mean), 0.0, known.mean), x.mean(axis=0)])
    mean = typical @ weight[:, :arms] + bias[:arms]
    seen = np.isfinite(table.quality).sum(axis=0)
    noise = with_one_unknown(of_quality.noise * seen, seen)
    # the best of several noisy means is too good a mean: each moves to what is expected, as far as its noise says
    moved = (known.expected - mean) * noise / (noise + known.variance * np.maximum(seen, 1))
    bias[:arms] += moved
    low, high = log_bounds(table.output_tokens)
    bias[arms:] += log_smearing(np.clip(features @ weight[:, arms:] + bias[arms:], low, high), np.exp(length))
    never = np.isnan(table.quality).all(axis=0), np.isnan(log_length).all(axis=0)
    bias[np.concatenate(never)] = np.nan
    return CurveHeads(
        on_quality=weight[: known.quality.shape[1]],
        on_vector=weight[known.quality.shape[1] :],
        bias=bias,
        spread=np.where(never[0], np.nan, np.sqrt(noise * (1.0 + of_quality.parameters) / len(x))),
        low=low,
        high=high,
        mean=np.where(never[0], np.nan, np.clip(mean + moved, 0.0, 1.0)),
        tokens=np.where(never[1], np.nan, np.exp(length).mean(axis=0)),
        left_out=of_quality.left_out,
    )


def _scale(features: FloatArray, known: int) -> FloatArray:
    """Return (A + d,) factors that give both blocks the same variance in all; 0 for a block that does not vary."""
    variance = features.var(axis=0)
    blocks = [float(part.sum()) for part in (variance[:known], variance[known:])]
    factors = [total**-0.5 if total > 1e-12 else 0.0 for total in blocks]
    return np.repeat(factors, [known, features.shape[1] - known])


def _control_variate(known: KnownArms, quality: FloatArray) -> FloatArray:
    """Return (n, k) what the outcomes owe to the draw of queries, as far as outcomes of known arms on the same ones
    tell.

    Where known arms did better than forecast, a new one did too. The surprises are zero on average, so a forecast
    leaves them out; but what they explain is taken off the noise, and off the mean of queries that happened to be easy.
    """
    surprise = np.where(np.isnan(known.observed), 0.0, known.observed - np.clip(known.quality, 0.0, 1.0))
    basis = Basis.of(surprise, _POWER)
    return np.asarray(surprise @ (basis.v @ _ridge(basis, quality, 1.0).weight))


@dataclass(frozen=True, slots=True, eq=False)
class _Fit:
    """A ridge of centred outcomes.

    mean: (k,).
    weight: (r, k) on the basis' coordinates.
    left_out: (n, k) forecasts of each query by the others.
    noise: (k,) their mean squared error.
    parameters: how many the weights spend.
    """

    mean: FloatArray
    weight: FloatArray
    left_out: FloatArray
    noise: FloatArray
    parameters: float


def _ridge(basis: Basis, y: FloatArray, seen: float) -> _Fit:
    """Return the fit of full (n, k) outcomes whose strength has the lowest leave-one-out error; the mean where none has
    less than that.

    seen: share of y that was measured. Filled cells agree with the features too well, so the strength is divided by it.
    """
    n, mean = len(y), y.mean(axis=0)
    z = y - mean
    gains, error = choose_strength(basis, z, np.arange(n), together=True)
    gain = gains[:, 0]
    gain = gain / (gain + (1.0 - gain) / seen)
    return _Fit(mean, gain[:, None] * (basis.u.T @ z), y - error, (error**2).mean(axis=0), float(gain.sum()))
