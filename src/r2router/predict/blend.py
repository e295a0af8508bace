"""The default learner: ridge in the outcomes' principal components, blended with the means of soft clusters of queries.

A linear head follows slow changes over the whole space of embeddings; cluster means follow what is peculiar to one kind
of query. Their errors differ, so that a blend forecasts better than either, and moves less when a query is worded a
little differently (`docs/experiments.md`). Both halves serve as two matrix products and a softmax.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec
import numpy as np

from r2router.errors import ArtifactError, ConfigError
from r2router.predict.clusters import SoftClusters, cluster_means
from r2router.predict.linear import check_shapes, rows_of
from r2router.predict.permutation_test import passes_permutation_test
from r2router.predict.principal import OutcomeFit, Parts
from r2router.predict.tokens import log_bounds, log_smearing
from r2router.types import Arm, FloatArray, Forecast

if TYPE_CHECKING:
    from r2router.table.table import Table

_PRIOR_WEIGHT = 0.5  # of each of the two
_PRIOR_STRENGTH = 0.1  # of that prior, as a share of the noise


class Blend(msgspec.Struct, frozen=True, tag="blend", tag_field="learner", forbid_unknown_fields=True):
    """`PrincipalRidge` and soft cluster means, weighted by their left-out errors.

    power: as in `PrincipalRidge`.
    seed: of the clusters, and of the shuffles that the forecasts must beat (`passes_permutation_test`).
    """

    power: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.power <= 4:
            raise ConfigError(f"Blend(power={self.power}): power must lie between 1 and 4")

    def fit(self, x: FloatArray, table: Table) -> BlendPredictor:
        """Missing cells are imputed. Forecasts are used only where they pass the permutation test."""
        parts, arms = Parts.of(x, table, self.power), len(table.arms)
        clusters = SoftClusters.of(x, np.argsort(np.array(table.query_ids), kind="stable"), self.seed)
        share = clusters.membership(np.asarray(x, dtype=np.float32)).astype(np.float64)
        quality, length = (
            _Blended.of(share, outcome, len(clusters.centres)) for outcome in (parts.quality, parts.length)
        )
        shifts, outcomes = (quality.left_out, length.left_out), (parts.quality.y, parts.length.y)
        trusted = passes_permutation_test(shifts, parts.quality.heads.scored, outcomes, table, self.seed)
        of_linear, of_clusters = trusted * np.repeat([quality.weights, length.weights], arms, axis=0).T
        weight, bias = parts.linear(of_linear)
        values = np.concatenate([quality.means, length.means], axis=1) * of_clusters
        low, high = log_bounds(table.output_tokens)
        logs = x @ weight[:, arms:] + share @ values[:, arms:] + bias[arms:]
        bias[arms:] += log_smearing(np.clip(logs, low, high), np.exp(parts.length.y))
        bias[parts.never] = np.nan
        spread = np.where(parts.never[:arms], np.nan, quality.spread if trusted else parts.quality.heads.spread_of_mean)
        arrays = {"weight": weight.astype(np.float32), "values": values.astype(np.float32), "centres": clusters.centres}
        arrays |= {
            "temperature": np.array([clusters.temperature]),
            "bias": bias,
            "spread": spread,
            "low": low,
            "high": high,
        }
        return BlendPredictor(table.arms, arrays)


@dataclass(frozen=True, slots=True, eq=False)
class _Blended:
    """The blend of one outcome.

    weights: (2,) of linear heads and cluster means.
    means: (clusters, arms) less the arm's mean.
    left_out: (scored, arms) blended forecast less the arm's mean of queries that were left out.
    spread: (arms,) standard error.
    """

    weights: FloatArray
    means: FloatArray
    left_out: FloatArray
    spread: FloatArray

    @classmethod
    def of(cls, share: FloatArray, outcome: OutcomeFit, partitions: int) -> Self:
        """Blend an outcome.

        share: (n, clusters) memberships, in so many partitions.
        """
        heads = outcome.heads
        deviation = outcome.y - heads.mean
        means, left_out = cluster_means(share, deviation, heads.scored, partitions, outcome.seen)
        target = deviation[heads.scored]
        weights = blend_weights(heads.left_out / heads.scale, left_out / heads.scale, target / heads.scale)
        blended = weights[0] * heads.left_out + weights[1] * left_out
        noise = np.square(target - blended).mean(axis=0)
        # of a cluster's mean: noise over its size, by membership; the two halves' errors are taken to agree entirely
        of_means = np.sqrt(noise * float(np.mean(np.square(share) @ (1.0 / np.maximum(share.sum(axis=0), 1.0)))))
        spread = np.maximum(weights[0] * heads.spread + weights[1] * of_means, heads.spread_of_mean)
        return cls(weights, means, blended, spread)


def blend_weights(one: FloatArray, other: FloatArray, target: FloatArray) -> FloatArray:
    """Return (2,) weights, at least 0, of two left-out forecasts of target, all (scored, arms) in units of each arm's
    scale.

    Least squares with a normal prior around equal weights. Where forecasts tell little beside the noise the prior
    holds; where they tell much, their errors decide.
    """
    a, y = np.stack([one.ravel(), other.ravel()], axis=1), target.ravel()
    strength = _PRIOR_STRENGTH * float(np.square(y - _PRIOR_WEIGHT * a.sum(axis=1)).sum()) + 1e-12
    return np.maximum(np.linalg.solve(a.T @ a + strength * np.eye(2), a.T @ y + strength * _PRIOR_WEIGHT), 0.0)


class BlendPredictor:
    """Linear heads plus cluster means.

    weight: (d, 2 arms) float32, quality heads first, then log-token heads.
    bias: (2 arms,), NaN where never observed.
    centres: (partitions, clusters, d) float32.
    temperature: (1,) of the membership.
    values: (partitions x clusters, 2 arms) float32, added by membership.
    spread: (arms,).
    low, high: (arms,) bounds of log tokens.
    """

    kind: ClassVar[str] = "blend"

    def __init__(self, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> None:
        n = len(arms)
        shapes: dict[str, tuple[int | None, ...]] = {"weight": (None, 2 * n), "bias": (2 * n,), "values": (None, 2 * n)}
        check_shapes(
            arrays,
            shapes
            | {"centres": (None, None, None), "temperature": (1,)}
            | dict.fromkeys(("spread", "low", "high"), (n,)),
        )
        partitions, clusters, d = arrays["centres"].shape
        if not (partitions * clusters == len(arrays["values"]) > 0 and d == len(arrays["weight"])):
            raise ArtifactError("weights: centres, values and weight do not fit together: the artifact is damaged")
        if not float(arrays["temperature"][0]) > 0:
            raise ArtifactError(
                f"weights: temperature is {float(arrays['temperature'][0])}, not above 0: the artifact is damaged"
            )
        self.arms, self._arrays = arms, arrays
        self._clusters = SoftClusters(arrays["centres"], float(arrays["temperature"][0]))
        # seven digits of a length are plenty, and float32 exponentials take a third of the time
        self._length_bias, self._low, self._high = (
            a.astype(np.float32) for a in (arrays["bias"][n:], arrays["low"], arrays["high"])
        )

    def predict(self, x: FloatArray) -> Forecast:
        a, n = self._arrays, len(self.arms)
        x = np.asarray(x, dtype=np.float32)
        y = x @ a["weight"] + self._clusters.membership(x) @ a["values"]
        # np.clip costs several times as much on one row
        quality = np.minimum(np.maximum(y[:, :n] + a["bias"][:n], 0.0), 1.0)
        tokens = np.exp(np.minimum(np.maximum(y[:, n:] + self._length_bias, self._low), self._high))
        return Forecast.of(self.arms, quality, tokens, rows_of(a["spread"], len(y)))

    def arrays(self) -> dict[str, Any]:
        return dict(self._arrays)

    @classmethod
    def from_arrays(cls, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> Self:
        return cls(arms, dict(arrays))
