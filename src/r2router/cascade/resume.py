"""Continued answers: a model under a larger budget continues its own answer, and only what is added is paid.

The control `prefix_sharing` makes that possible: one long answer is cut at each budget and closed with a short forced
ending. The answer under a larger budget thus begins as the one under a smaller budget does, and the endpoint can
continue an answer (it has to, for the forced ending). Under other controls the answers of two budgets are two different
texts. How one of them would continue was never measured, so it is not assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from r2router.pool.pool import Pool
from r2router.types import BoolArray, FloatArray
from r2router.upstream.controls import Collected


@dataclass(frozen=True, slots=True, eq=False)
class Resumes:
    """Which arms can continue the answer of which, and what that saves.

    goes: (arms, arms) true where the second arm can continue an answer of the first.
    maximum: (arms,) tokens at which an answer is cut.
    usd: (arms,) US dollars saved per token that exists already: it was output once and is now input, at the price of
        uncached input.
    """

    goes: BoolArray
    maximum: FloatArray
    usd: FloatArray

    @classmethod
    def of(cls, pool: Pool, signatures: Sequence[str] = ()) -> Resumes | None:
        """Find which arms can continue the answer of which; None where none can.

        signatures: how each arm was collected, see `Controls.signature`; where empty, as the pool has it.
        """
        known = [Collected.parse(text) for text in signatures] or [None] * len(pool)
        knobs = [budget.control if one is None else one.knobs for one, budget in zip(known, pool.budgets, strict=True)]
        shared = np.array(["prefix_sharing" in own for own in knobs])
        maximum = np.asarray(pool.budget_tokens, dtype=np.float64)
        model = pool.model_of_arm
        goes = shared[:, None] & shared & (model[:, None] == model) & (maximum[:, None] < maximum)
        if not goes.any():
            return None
        given, made = pool.usd_per_token[:2]
        return cls(goes, np.nan_to_num(maximum), np.maximum(np.asarray(made) - np.asarray(given), 0.0))

    def saved(self, asked: BoolArray, tokens: FloatArray) -> FloatArray:
        """Return (n, arms) US dollars that asking each arm costs less.

        asked: (n, arms) which arms were asked.
        tokens: (n, arms) their output tokens.
        """
        found: FloatArray = (
            np.where(asked, np.minimum(np.nan_to_num(tokens), self.maximum), 0.0)[:, :, None] * self.goes
        )
        return found.max(axis=1) * self.usd

    def source(self, arm: int, seen: Sequence[int]) -> int | None:
        """Return the index in `seen` of the answer that `arm` continues, the longest one; None where there is none."""
        places = [at for at, other in enumerate(seen) if self.goes[other, arm]]
        return max(places, key=lambda at: float(self.maximum[seen[at]])) if places else None
