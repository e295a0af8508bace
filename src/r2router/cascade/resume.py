"""Answers that go on: the same model under a larger budget writes on from what it has written, and only what is added
is paid.

That is so by construction under the control `prefix_sharing`: one long answer is cut at each budget and closed with a
short forced one, so that the answer under a larger budget begins as the one under a smaller budget does, and the
endpoint can continue an answer (or it could not be closed). Under other controls the answers of two budgets are two
texts: what one of them would become if it were continued was never measured, and is not assumed.
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
    """Which arms go on from which, and what that saves.

    goes: (arms, arms) true where the second goes on from an answer of the first.
    maximum: (arms,) tokens that an answer is cut at.
    usd: (arms,) US dollars saved per token that is there already: it was output once, and is input now, at the price of
        input that is in no cache.
    """

    goes: BoolArray
    maximum: FloatArray
    usd: FloatArray

    @classmethod
    def of(cls, pool: Pool, signatures: Sequence[str] = ()) -> Resumes | None:
        """Find which arms can continue the answer of which.

        signatures: how each arm was collected, see `Controls.signature`; else as the pool has it. None where no arm
        goes on.
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
        """(n, arms) US dollars that asking each arm costs less, where (n, arms) were `asked` and had so many output
        tokens.
        """
        found: FloatArray = (
            np.where(asked, np.minimum(np.nan_to_num(tokens), self.maximum), 0.0)[:, :, None] * self.goes
        )
        return found.max(axis=1) * self.usd

    def source(self, arm: int, seen: Sequence[int]) -> int | None:
        """The place in `seen`, arms by number, of the answer that `arm` goes on from: the longest; None where there is
        none.
        """
        places = [at for at, other in enumerate(seen) if self.goes[other, arm]]
        return max(places, key=lambda at: float(self.maximum[seen[at]])) if places else None
