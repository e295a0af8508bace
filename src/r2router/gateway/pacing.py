"""A spend target: the mean cost of a preset's requests is held by moving its value of a correct answer (a paced dual update).

A router takes the arm with the most value * quality - cost. The value is the inverse of the multiplier of the constraint "mean cost at
most the target"; after each request it takes a step against what the request cost too much (dual descent in the logarithm, as budget
pacing in advertising: Balseiro & Gur, Management Science 2019). Two things make it hold from the start, and through a change of traffic:

- The logarithm of the value is, but for what is pending, the sum of all errors: log value = log start - rate * n * (mean / target - 1).
  So after n requests the mean is off by |log value - log start| / (rate * n) of the target, whatever the traffic does: a value that has
  to move by a factor of e is off by 1 / (rate * n).
- One expensive request moves the value by at most `STEP` times the rate; the rest of it is pending, and is made up for request by request.

A mean quality is held in the same way, where feedback on answers exists: below it the value rises, above it falls.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from r2router.errors import ConfigError

RATE = 0.05
STEP = 3.0
"""The largest error, in targets, that moves the value at once."""
FURTHEST = math.log(1e4)
"""How far the value may move from its start: beyond that no arm would change, and it must find its way back."""
_MAX_PENDING = 50.0

Kind = Literal["cost", "quality"]


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """What is held, and how far it is. start: the calibrated value of a correct answer, US dollars. n, total: of what was observed."""

    kind: Kind
    target: float
    start: float
    log_value: float
    pending: float = 0.0
    n: int = 0
    total: float = 0.0

    @classmethod
    def of(cls, kind: Kind, target: float, start: float) -> Pace:
        """A pace at its beginning. Raises `ConfigError`."""
        if kind not in ("cost", "quality"):
            raise ConfigError(f"cannot hold {kind!r}: give 'cost' or 'quality'")
        if not (math.isfinite(target) and target > 0) or (kind == "quality" and target >= 1):
            unit = "US dollars per request above 0" if kind == "cost" else "a mean quality above 0 and below 1"
            raise ConfigError(f"target {target!r} is not {unit}")
        if not (math.isfinite(start) and start > 0):
            raise ConfigError(f"the value to start from is {start!r}; it is in US dollars, above 0")
        return cls(kind=kind, target=target, start=start, log_value=math.log(start))

    @property
    def value(self) -> float:
        """US dollars that a correct answer is worth now."""
        return math.exp(self.log_value)

    @property
    def mean(self) -> float:
        """What was held so far, on average; NaN of nothing."""
        return self.total / self.n if self.n else math.nan

    @property
    def error(self) -> float:
        """How far the mean is from the target, as a share of it."""
        return self.mean / self.target - 1

    def after(self, observed: float) -> Pace:
        """The pace after a request that cost so many US dollars, or whose answer had this quality. What is not finite says nothing."""
        if not math.isfinite(observed) or observed < 0:
            return self
        gap = 1 - observed / self.target  # too expensive, or better than asked for: a smaller value
        pending = min(max(self.pending + gap, -_MAX_PENDING), _MAX_PENDING)
        step = min(max(pending, -STEP), STEP)
        centre = math.log(self.start)
        log_value = min(max(self.log_value + RATE * step, centre - FURTHEST), centre + FURTHEST)
        return msgspec.structs.replace(self, log_value=log_value, pending=pending - step, n=self.n + 1, total=self.total + observed)
