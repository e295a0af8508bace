"""The heads of the paper's released router: linear in the embedding, a length is the budget itself unless it is
unlimited.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np

from r2router.predict.linear import check_shapes, rows_of
from r2router.types import Arm, FloatArray, Forecast, IntArray


class ReleasedPredictor:
    """The paper's released heads, in numpy.

    weight: (d, arms + models) float32 and bias: (arms + models,), quality heads first, then one head of raw tokens per
        model.
    budget_tokens: (arms,) tokens forecast for an arm, NaN for the unlimited ones.
    unlimited: (models,) columns of those.
    least: (models,) the fewest tokens an unlimited answer is forecast at.
    """

    kind: ClassVar[str] = "released"

    def __init__(
        self,
        arms: tuple[Arm, ...],
        weight: FloatArray,
        bias: FloatArray,
        budget_tokens: FloatArray,
        unlimited: IntArray,
        least: FloatArray,
    ) -> None:
        self.arms = arms
        self.weight = weight
        self.bias = bias
        self.budget_tokens = budget_tokens
        self.unlimited = unlimited
        self.least = least

    def predict(self, x: FloatArray) -> Forecast:
        """The spread is NaN: the released code gives no uncertainty."""
        arms = len(self.arms)
        y = x @ self.weight + self.bias
        quality = np.minimum(np.maximum(y[:, :arms], 0.0), 1.0)
        tokens = np.empty_like(quality)
        tokens[:] = self.budget_tokens
        tokens[:, self.unlimited] = np.maximum(y[:, arms:], self.least)
        return Forecast.of(self.arms, quality, tokens, rows_of(np.full(arms, np.nan), len(y)))

    def arrays(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("weight", "bias", "budget_tokens", "unlimited", "least")}

    @classmethod
    def from_arrays(cls, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> Self:
        models = len(arrays.get("unlimited", ()))
        heads = len(arms) + models
        check_shapes(
            arrays,
            {
                "weight": (None, heads),
                "bias": (heads,),
                "budget_tokens": (len(arms),),
                "unlimited": (models,),
                "least": (models,),
            },
        )
        return cls(arms, **arrays)
