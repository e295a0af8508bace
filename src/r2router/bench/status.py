"""How far a collection is, and what went wrong."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

PACE_FROM = 20
"""Cells of this run before its own pace and cost tell more than the estimate."""


@dataclass
class Status:
    """How far a collection is.

    planned, done, failed: cells; failed ones, recorded with an error, are among the done.
    there: of the done, those of earlier runs.
    calls: made in this run.
    spent_usd: of the journal, in all.
    limit_usd: the spend limit, if any.
    to_come_usd: what is left may cost.
    over_allowance: answers of this run that thought longer than they were allowed to: the endpoint ignores the control.
    above_cap: answers of this run that were longer than `max_tokens`.
    cut: those that only the safety cap cut off.
    errors: of this run, by kind: how many, and the first of them in words.
    stopped: what cannot be asked any more, and why in one line: a provider, a model, or everything (an empty name).
    """

    planned: int
    done: int = 0
    failed: int = 0
    there: int = 0
    calls: int = 0
    spent_usd: float = 0.0
    limit_usd: float | None = None
    to_come_usd: float = 0.0
    over_allowance: int = 0
    above_cap: int = 0
    cut: int = 0
    errors: dict[str, tuple[int, str]] = field(default_factory=dict)
    stopped: dict[str, str] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    @property
    def seconds_to_come(self) -> float | None:
        """Seconds remaining at the pace so far; None where there is none yet."""
        fresh = self.done - self.there
        return None if fresh < PACE_FROM else (self.planned - self.done) * (time.monotonic() - self.began) / fresh


Report = Callable[[Status], None]
