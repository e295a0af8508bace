"""A predictor with arms that were added to it later: linear in the forecasts of the arms it had and in the embedding.

Over a linear predictor such heads are linear in the embedding alone, so they become columns of it and nothing gets
slower. Over any other they stay beside it.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np

from r2router.errors import ArtifactError
from r2router.predict import Predictor
from r2router.predict.curve_features import CurveHeads
from r2router.predict.linear import LinearPredictor, check_shapes, rows_of
from r2router.router.learners import predictor_class
from r2router.types import Arm, FloatArray, Forecast

_BASE = "base."


class ExtendedPredictor:
    """A predictor with k arms that were added after the training.

    base: the predictor of the first A arms. on_quality: (A, 2k) float32, weights of the new arms on the base's quality
        forecasts. on_vector: (d, 2k) float32, weights on the embedding. bias, spread, low, high: as in
        `LinearPredictor`; bias (2k,), the others (k,).
    """

    kind: ClassVar[str] = "extended"

    def __init__(self, arms: tuple[Arm, ...], base: Predictor, arrays: dict[str, Any]) -> None:
        d, k = arrays["on_vector"].shape[0], len(arms) - len(base.arms)
        shapes = {"on_quality": (len(base.arms), 2 * k), "on_vector": (d, 2 * k), "bias": (2 * k,)}
        check_shapes(arrays, shapes | dict.fromkeys(("spread", "low", "high"), (k,)))
        self.arms, self.base, self._arrays = arms, base, arrays

    def predict(self, x: FloatArray) -> Forecast:
        a, first = self._arrays, self.base.predict(x)
        k = len(a["spread"])
        y = np.nan_to_num(first.quality) @ a["on_quality"] + x @ a["on_vector"] + a["bias"]
        quality = np.minimum(np.maximum(y[:, :k], 0.0), 1.0)
        tokens = np.exp(np.minimum(np.maximum(y[:, k:], a["low"]), a["high"]))
        new = quality, tokens, rows_of(a["spread"], len(y))
        old = first.quality, first.tokens, first.spread
        return Forecast.of(self.arms, *(np.concatenate(pair, axis=1) for pair in zip(old, new, strict=True)))

    def arrays(self) -> dict[str, Any]:
        kind = np.frombuffer(self.base.kind.encode(), dtype=np.uint8)
        return {"kind": kind, **self._arrays} | {_BASE + name: value for name, value in self.base.arrays().items()}

    @classmethod
    def from_arrays(cls, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> Self:
        own = {name: value for name, value in arrays.items() if not name.startswith(_BASE)}
        kind = bytes(np.asarray(own.pop("kind", ()), dtype=np.uint8)).decode("ascii", "replace")
        if kind in ("", cls.kind) or any(
            np.ndim(own.get(name, 0.0)) != n for name, n in (("on_vector", 2), ("spread", 1))
        ):
            raise ArtifactError("weights: the added arms lack their kind, on_vector or spread: the artifact is damaged")
        first = arms[: len(arms) - len(own["spread"])]
        inner = {name.removeprefix(_BASE): value for name, value in arrays.items() if name.startswith(_BASE)}
        return cls(arms, predictor_class(kind).from_arrays(first, inner), own)

    def with_heads(self, arms: tuple[Arm, ...], heads: dict[str, Any]) -> ExtendedPredictor:
        """Return the same with some arms more, whose heads stand on the same base."""
        single = ("spread", "low", "high")
        joined = {
            name: np.concatenate([ours, heads[name]]) if name in single else _by_outcome(ours, heads[name])
            for name, ours in self._arrays.items()
        }
        return ExtendedPredictor(arms, self.base, joined)


def known_quality(predictor: Predictor, x: FloatArray) -> FloatArray:
    """Return (n, A) forecasts that added heads stand on: of all arms of a linear predictor, before they are held within
    [0, 1]; of the base of an extended one; 0 for an arm that was never observed.
    """
    base = predictor.base if isinstance(predictor, ExtendedPredictor) else predictor
    if isinstance(base, LinearPredictor):
        arms = len(base.arms)
        never = np.isnan(base.bias[:arms])
        return np.asarray(np.where(never, 0.0, x @ base.weight[:, :arms] + base.bias[:arms]), dtype=np.float64)
    return np.asarray(np.nan_to_num(base.predict(x).quality), dtype=np.float64)


def extend(predictor: Predictor, added: tuple[Arm, ...], heads: CurveHeads) -> Predictor:
    """Return the predictor with k added arms behind its own. The heads must have been learned on its
    `known_quality`.
    """
    arms = (*predictor.arms, *added)
    own = {name: getattr(heads, name) for name in ("on_quality", "on_vector", "bias", "spread", "low", "high")}
    own |= {name: own[name].astype(np.float32) for name in ("on_quality", "on_vector")}
    if isinstance(predictor, ExtendedPredictor):
        return predictor.with_heads(arms, own)
    return (
        _folded(predictor, arms, heads)
        if isinstance(predictor, LinearPredictor)
        else ExtendedPredictor(arms, predictor, own)
    )


def _folded(base: LinearPredictor, arms: tuple[Arm, ...], heads: CurveHeads) -> LinearPredictor:
    """Return the same heads as columns of the linear predictor they stand on."""
    old = len(base.arms)
    weight = heads.on_vector + base.weight[:, :old].astype(np.float64) @ heads.on_quality
    bias = heads.bias + np.nan_to_num(base.bias[:old]) @ heads.on_quality
    return LinearPredictor(
        arms,
        _by_outcome(base.weight, weight.astype(np.float32)),
        _by_outcome(base.bias, bias),
        *(np.concatenate([getattr(base, name), getattr(heads, name)]) for name in ("spread", "low", "high")),
    )


def _by_outcome(ours: FloatArray, theirs: FloatArray) -> FloatArray:
    """Return columns (quality, then log tokens) of ours and theirs in one array of that order."""
    k, m = ours.shape[-1] // 2, theirs.shape[-1] // 2
    return np.concatenate([ours[..., :k], theirs[..., :m], ours[..., k:], theirs[..., m:]], axis=-1)
