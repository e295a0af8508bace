"""Input tokens of a request before it is sent: the embedded tokenizer's count, put on each arm's own scale.

Models cut text into tokens differently, and a budget's instruction adds words to the prompt. So the estimate for an arm
is `factor of its model * count + overhead of the arm`, both learned from a table that recorded input tokens; without
one, the count.
"""

from __future__ import annotations

from functools import cached_property

import msgspec
import numpy as np

from r2router.table.table import Table
from r2router.types import FloatArray, NumberArray


class InputTokens(msgspec.Struct, frozen=True, dict=True):
    """Estimates each arm's input tokens from the count of the embedded tokenizer: factor * count + overhead.

    factor, overhead: one number per arm.
    typical: the mean count of the training queries, for requests without a text.
    """

    factor: tuple[float, ...]
    overhead: tuple[float, ...]
    typical: float

    def estimate(self, counts: NumberArray) -> FloatArray:
        """Return (n, arms) input tokens from (n,) counts."""
        factor, overhead = self.arrays
        return np.asarray(counts, dtype=np.float64)[:, None] * factor + overhead

    def maximum(self, counts: NumberArray) -> float:
        """No arm's estimate of any of (n,) counts is above this."""
        factor, overhead = self._largest
        return float(np.maximum.reduce(counts, initial=0)) * factor + overhead

    @cached_property
    def _largest(self) -> tuple[float, float]:
        return max(self.factor, default=0.0), max(self.overhead, default=0.0)

    @cached_property
    def arrays(self) -> tuple[FloatArray, FloatArray]:
        """factor and overhead as (arms,) arrays."""
        return np.array(self.factor), np.array(self.overhead)

    @classmethod
    def fit(cls, counts: NumberArray, table: Table) -> InputTokens:
        """Learn from (n,) counts of a table's queries. A model without any records gets factor 1 and no overhead."""
        length = np.asarray(counts, dtype=np.float64)
        used, models = table.input_tokens, table.pool.model_of_arm
        seen = ~np.isnan(used)
        n = np.maximum(seen.sum(axis=0), 1)
        mean_used = np.where(seen, used, 0.0).sum(axis=0) / n
        mean_count = np.where(seen, length[:, None], 0.0).sum(axis=0) / n
        count_off = np.where(seen, length[:, None] - mean_count, 0.0)
        used_off = np.where(seen, used - mean_used, 0.0)
        factor, overhead = np.ones(len(models)), np.zeros(len(models))
        for model in range(len(table.pool.models)):
            arms = (models == model) & seen.any(axis=0)
            if not arms.any():
                continue
            variance = (count_off[:, arms] ** 2).sum()
            slope = (count_off[:, arms] * used_off[:, arms]).sum() / variance if variance > 0 else 0.0
            # a steeper line would begin below zero; and where lengths say nothing, scale by the means instead
            steepest = float((mean_used[arms] / np.maximum(mean_count[arms], 1.0)).min())
            slope = min(slope, steepest) if slope > 0 else steepest
            factor[models == model] = slope
            overhead[arms] = np.maximum(mean_used[arms] - slope * mean_count[arms], 0.0)
            overhead[(models == model) & ~arms] = overhead[arms].mean()
        return cls(tuple(factor.tolist()), tuple(overhead.tolist()), float(length.mean()))
