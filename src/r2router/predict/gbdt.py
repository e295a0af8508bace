"""Gradient-boosted trees: one ensemble per arm for quality and one for log tokens. LightGBM grows them, numpy serves.

The paper's ablation ("LightGBM heads"). Trees chase noise sooner than linear heads do, so each ensemble is cut where it
is best on held-out queries, which may be before its first tree: then it is its arm's mean.
"""

from __future__ import annotations

import logging
import math
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec
import numpy as np

from r2router.errors import ArtifactError, ConfigError, MissingExtra
from r2router.predict.linear import check_shapes
from r2router.predict.tokens import log_bounds, log_smearing, log_tokens
from r2router.predict.variance import with_one_unknown
from r2router.types import Arm, BoolArray, FloatArray, Forecast

if TYPE_CHECKING:
    from r2router.table.table import Table

_log = logging.getLogger("r2router")
_FEW_HELD_OUT = 5  # with fewer held-out answers trees cannot show that they beat the mean
_CELLS = 1 << 20  # (query, tree) pairs walked at once: 8 MB an index array


class GBDT(msgspec.Struct, frozen=True, tag="gbdt", tag_field="learner", forbid_unknown_fields=True):
    """Boosted trees per arm. Needs the `[gbdt]` extra to fit, not to predict.

    rounds: the maximum number of trees of an ensemble.
    depth: of a tree, 1 to 8.
    learning_rate: share of each tree's correction that is taken.
    min_leaf: the minimum number of training queries in a leaf.
    feature_share: share of the embedding's dimensions that each tree may look at.
    validation: share of the queries held out to cut each ensemble.
    patience: trees without gain there before growing stops.
    seed: of the held-out queries and of LightGBM.
    threads: of LightGBM; 0 is all. The result does not depend on it.
    """

    rounds: int = 300
    depth: int = 3
    learning_rate: float = 0.03
    min_leaf: int = 20
    feature_share: float = 0.3
    validation: float = 0.1
    patience: int = 30
    seed: int = 0
    threads: int = 0

    def __post_init__(self) -> None:
        for name, minimum in {"rounds": 1, "depth": 1, "min_leaf": 1, "patience": 1, "seed": 0, "threads": 0}.items():
            if getattr(self, name) < minimum:
                raise ConfigError(f"GBDT({name}={getattr(self, name)}): {name} must be at least {minimum}")
        if self.depth > 8:
            raise ConfigError(f"GBDT(depth={self.depth}): depth must be at most 8")
        if not 0 < self.learning_rate < math.inf:
            raise ConfigError(
                f"GBDT(learning_rate={self.learning_rate}): learning_rate must be a finite number above 0"
            )
        if not 0 < self.feature_share <= 1:
            raise ConfigError(f"GBDT(feature_share={self.feature_share}): feature_share must be above 0 and at most 1")
        if not 0 < self.validation < 1:
            raise ConfigError(
                f"GBDT(validation={self.validation}): validation must lie between 0 and 1, for example 0.1"
            )

    def fit(self, x: FloatArray, table: Table) -> GBDTPredictor:
        """Raises `MissingExtra` without lightgbm. Arms with fewer than 5 held-out answers are forecast by their mean."""
        lightgbm = _import_lightgbm()
        order = np.argsort(np.array(table.query_ids), kind="stable")  # so that the order of the rows does not matter
        x = np.ascontiguousarray(x, dtype=np.float32)[order]
        quality = table.quality[order]
        tokens = table.output_tokens[order]
        held = np.zeros(len(x), dtype=np.bool_)
        held[np.random.default_rng(self.seed).permutation(len(x))[: int(self.validation * len(x))]] = True
        arms, targets = len(table.arms), np.concatenate([quality, log_tokens(tokens)], axis=1)
        seen = ~np.isnan(targets)
        bias = np.divide(
            np.nansum(targets, axis=0), seen.sum(axis=0), out=np.full(2 * arms, np.nan), where=seen.any(axis=0)
        )
        forests = self._grow(lightgbm, x, targets - bias, held)
        low, high = log_bounds(tokens)
        arrays = {
            **_stack(forests, self.depth),
            "bias": bias,
            "spread": np.full(arms, np.nan),
            "low": low,
            "high": high,
        }
        predictor = GBDTPredictor(table.arms, arrays)
        fitted = predictor.raw(x)
        arrays["spread"][:] = _spread(fitted[:, :arms] - bias[:arms], quality - bias[:arms], held)
        bias[arms:] += log_smearing(np.clip(fitted[:, arms:], low, high), tokens)
        return predictor

    def _grow(self, lightgbm: Any, x: FloatArray, y: FloatArray, held: BoolArray) -> list[list[Any]]:
        """Return the trees, as LightGBM tells them, of each column of y (n, heads); none where they do not beat 0 on
        the held-out rows.
        """
        seen = ~np.isnan(y)
        worth = (seen & held[:, None]).sum(axis=0) >= _FEW_HELD_OUT
        forests: list[list[Any]] = [[] for _ in worth]
        if not worth.any():
            return forests
        params = {
            "objective": "regression",
            "boost_from_average": False,
            "learning_rate": self.learning_rate,
            "max_depth": self.depth,
            "num_leaves": 2**self.depth,
            "min_data_in_leaf": self.min_leaf,
            "feature_fraction": self.feature_share,
            "feature_pre_filter": False,
            "max_bin": 63,  # embeddings need no finer steps, and this is twice as fast as 255
            "seed": self.seed,
            "deterministic": True,
            # one of the two is needed to be deterministic; with dense features this one is 2.5 times as fast
            "force_col_wise": (True),
            "num_threads": self.threads,
            "verbose": -1,
        }
        binned = lightgbm.Dataset(x, label=np.zeros(len(x)), params=params).construct()  # once for all heads
        for head in np.flatnonzero(worth):
            parts = []
            for rows in (np.flatnonzero(seen[:, head] & ~held), np.flatnonzero(seen[:, head] & held)):
                parts.append(binned.subset(rows, params=params).construct().set_label(y[rows, head]))
            stop = lightgbm.early_stopping(self.patience, verbose=False)
            booster = lightgbm.train(params, parts[0], self.rounds, valid_sets=parts[1:], callbacks=[stop])
            if booster.best_score["valid_0"]["l2"] < np.square(y[rows, head]).mean():
                forests[head] = booster.dump_model(num_iteration=booster.best_iteration)["tree_info"]
            _log.info("gbdt: head %d of %d has %d trees", head + 1, len(worth), len(forests[head]))
        return forests


class GBDTPredictor:
    """All trees of all heads as full binary trees of one depth D: the children of node i are 2i + 1 and 2i + 2.

    feature: (trees, 2^D - 1) int32.
    threshold: float32; a query goes to the second child where x[feature] > threshold.
    leaf: (trees, 2^D) float64.
    count: (2 arms,) int32 trees of each head, quality heads first, then log-token heads.
    bias: (2 arms,) what the trees are added to, NaN where never observed.
    spread, low, high: (arms,) as in `LinearPredictor`.
    """

    kind: ClassVar[str] = "gbdt"

    def __init__(self, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> None:
        n = len(arms)
        trees: dict[str, tuple[int | None, ...]] = {
            "feature": (None, None),
            "threshold": (None, None),
            "leaf": (None, None),
        }
        check_shapes(arrays, {**trees, "count": (2 * n,), "bias": (2 * n,), "spread": (n,), "low": (n,), "high": (n,)})
        total, nodes = arrays["feature"].shape
        if (
            arrays["threshold"].shape != (total, nodes)
            or arrays["leaf"].shape != (total, nodes + 1)
            or arrays["count"].sum() != total
        ):
            raise ArtifactError(
                "weights: feature, threshold, leaf and count do not describe the same trees: the artifact is damaged"
            )
        self.arms, self._arrays = arms, arrays

    def predict(self, x: FloatArray) -> Forecast:
        a, n = self._arrays, len(self.arms)
        y = self.raw(np.ascontiguousarray(x, dtype=np.float32))
        quality, tokens = np.clip(y[:, :n], 0.0, 1.0), np.exp(np.clip(y[:, n:], a["low"], a["high"]))
        return Forecast.of(self.arms, quality, tokens, np.broadcast_to(a["spread"], quality.shape))

    def raw(self, x: FloatArray) -> FloatArray:
        """Return (n, 2 arms) sums of trees for (n, d) float32, before bounds. All trees are walked together, a level at
        a time.
        """
        a = self._arrays
        trees, nodes = a["feature"].shape
        y = np.tile(a["bias"], (len(x), 1))
        grown = np.flatnonzero(a["count"])
        if not len(grown):
            return y
        first = np.cumsum(a["count"][grown]) - a["count"][grown]  # of each head's trees
        feature = a["feature"].ravel()
        threshold = a["threshold"].ravel()
        root = np.arange(trees) * nodes
        block = max(1, _CELLS // trees)
        for start in range(0, len(x), block):
            part = x[start : start + block]
            row = np.arange(len(part))[:, None]
            node = np.zeros((len(part), trees), dtype=np.intp)
            for _ in range(nodes.bit_length()):
                at = root + node
                node = 2 * node + 1 + (part[row, feature[at]] > threshold[at])
            value = a["leaf"][np.arange(trees), node - nodes]
            y[start : start + block, grown] += np.add.reduceat(value, first, axis=1)
        return y

    def arrays(self) -> dict[str, Any]:
        return dict(self._arrays)

    @classmethod
    def from_arrays(cls, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> Self:
        return cls(arms, dict(arrays))


def _stack(forests: list[list[Any]], depth: int) -> dict[str, Any]:
    """Trees of `Booster.dump_model()`, one list a head, as the arrays of `GBDTPredictor`."""
    trees = [tree["tree_structure"] for forest in forests for tree in forest]
    feature = np.zeros((len(trees), 2**depth - 1), dtype=np.int32)
    threshold = np.full(feature.shape, np.inf, dtype=np.float32)
    leaf = np.zeros((len(trees), 2**depth))

    def fill(t: int, node: int, level: int, told: dict[str, Any]) -> None:
        if "leaf_value" in told:  # all that is below a leaf of this level answers as it does
            width = 2 ** (depth - level)
            start = (node + 1) * width - 2**depth
            leaf[t, start : start + width] = told["leaf_value"]
            return
        feature[t, node], threshold[t, node] = told["split_feature"], _not_above(told["threshold"])
        fill(t, 2 * node + 1, level + 1, told["left_child"])
        fill(t, 2 * node + 2, level + 1, told["right_child"])

    for t, told in enumerate(trees):
        fill(t, 0, 0, told)
    return {
        "feature": feature,
        "threshold": threshold,
        "leaf": leaf,
        "count": np.array([len(f) for f in forests], dtype=np.int32),
    }


def _not_above(threshold: float) -> np.float32:
    """Return the largest float32 that is at most this: float32 inputs fall on the same side of both."""
    near = np.float32(threshold)
    return near if float(near) <= threshold else np.nextafter(near, np.float32(-np.inf))


def _spread(forecast: FloatArray, quality: FloatArray, held: BoolArray) -> FloatArray:
    """Return (arms,) standard error of a head's quality; both (n, arms) less the arm's mean, quality NaN where not
    observed.

    A fit that spends p parameters on n answers errs by noise (1 + p / n) on new answers and noise (1 - p / n) on its
    own, and its own variance is noise p / n (Mallows' argument); trees spend less evenly, so this is an upper estimate,
    and the variance of the forecasts is another. The errors of all arms with trees together give p / n. An arm's noise
    is its held-out error, with one pseudo-answer of variance 1/12. An arm that is its mean spends one parameter.
    """
    seen = ~np.isnan(quality)
    answers, scored = seen.sum(axis=0), seen[held].sum(axis=0)
    squares = np.square(np.nan_to_num(forecast - quality))
    total, new = squares.sum(axis=0), squares[held].sum(axis=0)
    moved = np.where(seen, np.square(forecast), 0).sum(axis=0) / np.maximum(answers, 1)
    grown = moved > 0
    theirs = float((new[grown] / scored[grown]).sum())
    own = float(((total - new)[grown] / (answers - scored)[grown]).sum())
    ratio = max(0.0, theirs - own) / max(theirs + own, 1e-12)
    few = scored < _FEW_HELD_OUT
    noise = with_one_unknown(np.where(few, total, new), np.where(few, answers, scored))
    variance = np.maximum(np.minimum(noise * ratio, moved), noise / np.maximum(answers, 1))
    return np.where(answers > 0, np.sqrt(variance), np.nan)


def _import_lightgbm() -> Any:
    try:
        return import_module("lightgbm")
    except ImportError:
        raise MissingExtra('the gbdt learner needs lightgbm to train: pip install "r2router[gbdt]"') from None
