"""IRT-Router: arms sit an exam of queries (Song et al., ACL 2025, arXiv 2506.01048), as multidimensional and as neural
item response.

Both fit binary cross-entropy to the quality by Adam, with the settings of the R2-Router comparison: 32 dimensions, 200
epochs, batches of 128 queries, 3e-3. There an ability is a projection of a text about the LLM; an arm has no text, so
its ability is free. Every arm starts at its mean quality, so that stopping early cannot leave one without it. Tokens
are a constant per arm: its mean over the training queries.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from r2router.baselines.adam import Descent, Parameters
from r2router.baselines.cells import Cells, column_means, cross_entropy, levels, sigmoid, standard_error, with_ones
from r2router.predict.linear import check_shapes, rows_of
from r2router.types import Arm, FloatArray, Forecast, IntArray

if TYPE_CHECKING:
    from r2router.table.table import Table

_FLAT = 1e-6  # a principal coordinate of less spread than this is rounding


class _IRTPredictor:
    """What both have: quality is the sigmoid of logits from parameters, by name; spread and tokens are (arms,), NaN
    where unknown.
    """

    kind: ClassVar[str]
    shapes: ClassVar[dict[str, tuple[int | None, ...]]]

    def __init__(self, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> None:
        n = len(arms)
        check_shapes(arrays, {**self.shapes, "ability": (n, None), "spread": (n,), "tokens": (n,)})
        self.arms, self._arrays = arms, arrays

    @staticmethod
    @abstractmethod
    def logits(p: Parameters, inputs: FloatArray) -> FloatArray:
        """Return (n, arms) logits of (n, d + 1) embeddings with a column of ones."""

    def predict(self, x: FloatArray) -> Forecast:
        spread, tokens = (rows_of(self._arrays[name], len(x)) for name in ("spread", "tokens"))
        quality = sigmoid(self.logits(self._arrays, with_ones(x)).astype(np.float64))
        return Forecast.of(self.arms, np.where(np.isnan(spread), np.nan, quality), tokens, spread)

    def arrays(self) -> dict[str, Any]:
        return dict(self._arrays)

    @classmethod
    def from_arrays(cls, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> Self:
        return cls(arms, dict(arrays))


def _finish(
    kind: type[_IRTPredictor], arms: tuple[Arm, ...], fitted: Parameters, inputs: FloatArray, cells: Cells
) -> Any:
    """Return the predictor, with its arms in the table's order and its errors on the training queries."""
    residual = cells.quality - sigmoid(kind.logits(fitted, inputs))
    columns = {
        "ability": fitted["ability"],
        "spread": standard_error(residual, min(fitted["ability"].shape[1] + 1, inputs.shape[1])),
        "tokens": column_means(cells.tokens),
    }
    return kind(arms, fitted | {name: value[cells.back] for name, value in columns.items()})


# -- multidimensional
# ---------------------------------------------------------------------------------------------------


class MIRT(Descent, frozen=True, tag="mirt", tag_field="learner", forbid_unknown_fields=True):
    """P(right) = sigmoid(a . theta - b): an arm's ability theta, a query's discrimination a and difficulty b.

    a (a vector) and b (a number) are linear in the embedding, with intercepts.
    """

    dim: int = 32
    epochs: int = 200
    batch_size: int = 128
    learning_rate: float = 3e-3

    def fit(self, x: FloatArray, table: Table) -> MIRTPredictor:
        cells = Cells.of(x, table)
        inputs = with_ones(cells.x)

        def gradient(p: Parameters, rows: IntArray, _: np.random.Generator) -> tuple[float, int, Parameters]:
            return MIRTPredictor.gradient(p, inputs[rows], cells.quality[rows])

        fitted = self.minimise(gradient, self._start(inputs.shape[1], cells.quality), len(inputs))
        return _finish(MIRTPredictor, table.arms, fitted, inputs, cells)

    def _start(self, d: int, quality: FloatArray) -> Parameters:
        rng = np.random.default_rng(self.seed)
        even = self.dim**-0.5
        level = levels(quality)
        ability = rng.normal(0, even, (len(level), self.dim))
        ability += even * (level - level.mean())[:, None] - ability.mean(axis=1, keepdims=True)
        discrimination = rng.uniform(-(d**-0.5), d**-0.5, (d, self.dim))
        difficulty = np.zeros(d)
        discrimination[-1], difficulty[-1] = even, -level.mean()
        found = {"ability": ability, "discrimination": discrimination, "difficulty": difficulty}
        return {name: value.astype(np.float32) for name, value in found.items()}


class MIRTPredictor(_IRTPredictor):
    """Item response theory with several dimensions. All arrays are float32.

    ability: (arms, dim).
    discrimination: (d + 1, dim), the intercept last.
    difficulty: (d + 1,), the intercept last.
    """

    kind: ClassVar[str] = "mirt"
    shapes: ClassVar[dict[str, tuple[int | None, ...]]] = {"discrimination": (None, None), "difficulty": (None,)}

    @staticmethod
    def logits(p: Parameters, inputs: FloatArray) -> FloatArray:
        """a . theta - b."""
        return np.asarray((inputs @ p["discrimination"]) @ p["ability"].T - (inputs @ p["difficulty"])[:, None])

    @staticmethod
    def gradient(p: Parameters, inputs: FloatArray, quality: FloatArray) -> tuple[float, int, Parameters]:
        """Return (sum of the cross-entropy, cells, gradient of its mean)."""
        a = inputs @ p["discrimination"]
        z = a @ p["ability"].T - (inputs @ p["difficulty"])[:, None]
        loss, cells, slope = cross_entropy(z, quality)
        return (
            loss,
            cells,
            {
                "ability": slope.T @ a,
                "discrimination": inputs.T @ (slope @ p["ability"]),
                "difficulty": -(inputs.T @ slope.sum(axis=1)),
            },
        )


# -- neural
# -------------------------------------------------------------------------------------------------------------


class NIRT(Descent, frozen=True, tag="nirt", tag_field="learner", forbid_unknown_fields=True):
    """P(right) = sigmoid(w . (r * (theta - b)) a + c): abilities theta and difficulties b in [0, 1] in every dimension.

    A query's discrimination a is a number; r says how relevant each dimension is to it. w and c are the output layer.
    As in the R2-Router comparison r is the softmax of the query's leading principal coordinates, here each of standard
    deviation 1: on plain coordinates of embeddings of norm 1 (and with that code's second softmax) all dimensions are
    equally relevant, and one is left.
    """

    dim: int = 32
    epochs: int = 200
    batch_size: int = 128
    learning_rate: float = 3e-3

    def fit(self, x: FloatArray, table: Table) -> NIRTPredictor:
        cells = Cells.of(x, table)
        inputs = with_ones(cells.x)
        projection = _principal(cells.x, self.dim)
        relevance = _relevance(inputs @ projection)

        def gradient(p: Parameters, rows: IntArray, _: np.random.Generator) -> tuple[float, int, Parameters]:
            return NIRTPredictor.gradient(p, inputs[rows], relevance[rows], cells.quality[rows])

        fitted = self.minimise(gradient, self._start(inputs.shape[1], cells.quality), len(inputs))
        return _finish(NIRTPredictor, table.arms, {**fitted, "principal": projection}, inputs, cells)

    def _start(self, d: int, quality: FloatArray) -> Parameters:
        rng, level = np.random.default_rng(self.seed), levels(quality)
        share = 0.5 + (level - level.mean()) / self.dim**0.5  # of full ability, in every dimension
        ability = rng.normal(0, 0.1, (len(level), self.dim)) + _logit(share)[:, None]
        discrimination = np.zeros(d)
        difficulty = rng.uniform(-(d**-0.5), d**-0.5, (d, self.dim))
        discrimination[-1], difficulty[-1] = 1.0, 0.0
        layer = np.full(self.dim + 1, self.dim**-0.5)  # positive: more ability is more quality
        layer[-1] = level.mean()
        found = {"ability": ability, "discrimination": discrimination, "difficulty": difficulty, "layer": layer}
        return {name: value.astype(np.float32) for name, value in found.items()}


class NIRTPredictor(_IRTPredictor):
    """Neural item response theory. All arrays are float32.

    ability: (arms, dim), before its sigmoid.
    discrimination: (d + 1,), the intercept last.
    difficulty: (d + 1, dim), the intercept last.
    principal: (d + 1, dim) the coordinates behind the relevance, the intercept last.
    layer: (dim + 1,), its constant last.
    """

    kind: ClassVar[str] = "nirt"
    shapes: ClassVar[dict[str, tuple[int | None, ...]]] = {
        "discrimination": (None,),
        "difficulty": (None, None),
        "principal": (None, None),
        "layer": (None,),
    }

    @staticmethod
    def logits(p: Parameters, inputs: FloatArray) -> FloatArray:
        """w . (r * (theta - b)) a + c."""
        weighted = _relevance(inputs @ p["principal"]) * p["layer"][:-1]
        inner = weighted @ sigmoid(p["ability"]).T - (weighted * sigmoid(inputs @ p["difficulty"])).sum(axis=1)[:, None]
        return np.asarray((inputs @ p["discrimination"])[:, None] * inner + p["layer"][-1])

    @staticmethod
    def gradient(
        p: Parameters, inputs: FloatArray, relevance: FloatArray, quality: FloatArray
    ) -> tuple[float, int, Parameters]:
        """Return (sum of the cross-entropy, cells, gradient of its mean); relevance is (n, dim)."""
        a = inputs @ p["discrimination"]
        b = sigmoid(inputs @ p["difficulty"])
        theta = sigmoid(p["ability"])
        weighted = relevance * p["layer"][:-1]
        inner = weighted @ theta.T - (weighted * b).sum(axis=1)[:, None]
        loss, cells, slope = cross_entropy(a[:, None] * inner + p["layer"][-1], quality)
        inner_slope = slope * a[:, None]
        per_query = inner_slope.sum(axis=1)[:, None]
        layer = (relevance * (inner_slope @ theta - per_query * b)).sum(axis=0)
        return (
            loss,
            cells,
            {
                "ability": (inner_slope.T @ weighted) * theta * (1 - theta),
                "discrimination": inputs.T @ (slope * inner).sum(axis=1),
                "difficulty": inputs.T @ (-per_query * weighted * b * (1 - b)),
                "layer": np.append(layer, slope.sum(dtype=layer.dtype)),
            },
        )


def _logit(share: FloatArray) -> FloatArray:
    share = np.clip(share, 1e-3, 1 - 1e-3)
    return np.asarray(np.log(share / (1 - share)))


def _principal(x: FloatArray, dim: int) -> FloatArray:
    """Return (d + 1, dim) the map from x with a column of ones to its leading principal coordinates, of standard
    deviation 1; 0 if too few.
    """
    mean = x.mean(axis=0, dtype=np.float64)
    centred = x - mean
    values, vectors = np.linalg.eigh(centred.T @ centred / max(len(x), 1))
    leading = np.argsort(-values)[:dim]
    deviation = np.sqrt(np.maximum(values[leading], 0.0))
    found = np.zeros((x.shape[1] + 1, dim))
    weight = np.where(deviation > _FLAT, vectors[:, leading] / np.maximum(deviation, _FLAT), 0.0)
    found[:-1, : len(leading)], found[-1, : len(leading)] = weight, -mean @ weight
    return found.astype(np.float32)


def _relevance(coordinates: FloatArray) -> FloatArray:
    """Return (n, dim) softmax of the coordinates, times dim, so that its mean is 1."""
    power = np.exp(coordinates - coordinates.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(power * np.float32(coordinates.shape[1]) / power.sum(axis=1, keepdims=True))
