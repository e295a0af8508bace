"""A spend target: the mean cost of a preset's requests is held by moving its value of a right answer (a paced dual
update).

A router takes the arm with the most value * quality - cost. The value is the inverse of the multiplier of the
constraint "mean cost at most the target"; after each request it takes a step against what the request cost too much
(dual descent in the logarithm, as budget pacing in advertising: Balseiro & Gur, Management Science 2019). Three things
make it hold from the start, and through a change of traffic:

- The value moves by the sum of all errors, so it settles where the mean cost is the target, whatever the router's
  forecasts are worth.
- What was spent too much or too little so far (`pending`) is made up for over the next `REPAY` requests. Without that
  the mean would stay off by what the value had to move: |log(value / start)| / (RATE * n) of the target after n
  requests. With it, the mean is off by |pending| / n, and pending goes to zero. REPAY makes the loop critically damped
  where 1 % more value buys 0.4 % more cost (4 / (0.4 * RATE) requests); where it buys less, the mean swings a little
  before it settles.
- One expensive request moves the value by at most `STEP` times the rate; all of it is pending.

Dollars per day are held through dollars per request: a day's target divided by the requests of a day, as the last week
had them. A mean quality is held in the same way, where feedback on answers exists: below it the value rises, above it
falls.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from r2router.errors import ConfigError

RATE = 0.1
STEP = 3.0
"""The largest error, in targets, that moves the value at once."""
REPAY = 100
"""Requests over which what is pending is made up for."""
FURTHEST = math.log(1e4)
"""How far the value may move from its start: beyond that no arm would change, and it must find its way back."""
_MAX_PENDING = 250.0  # targets; of a target that cannot be reached no more is made up for than this
_MAX_REPAID = 0.5  # of the target, per request
DAY_S = 86_400.0
_WEEK_S = 7 * DAY_S
_FIRST_S = 60.0  # how long traffic is taken to have been there when the first request comes

Kind = Literal["cost", "day", "quality"]
"""cost: US dollars per request. day: US dollars per day. quality: a mean score, 0 to 1."""

_UNITS = {
    "cost": "US dollars per request, above 0",
    "day": "US dollars per day, above 0",
    "quality": "a mean quality above 0 and below 1",
}


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    """What is held, and how far it is.

    start: the calibrated value of a right answer, US dollars.
    pending: what is still to be spent (negative: to be saved), in targets.
    n, total: of what was observed.
    begun, last: of the first and the last of it, seconds since 1970; 0: there is none.
    recent: how many in about the last week.
    """

    kind: Kind
    target: float
    start: float
    log_value: float
    pending: float = 0.0
    n: int = 0
    total: float = 0.0
    begun: float = 0.0
    last: float = 0.0
    recent: float = 0.0

    @classmethod
    def of(cls, kind: Kind, target: float, start: float) -> Pace:
        """A pace at its beginning. Raises `ConfigError`."""
        if kind not in _UNITS:
            raise ConfigError(f"cannot hold {kind!r}: give {', '.join(map(repr, _UNITS))}")
        if not (math.isfinite(target) and target > 0) or (kind == "quality" and target >= 1):
            raise ConfigError(f"target {target!r} is not {_UNITS[kind]}")
        if not (math.isfinite(start) and start > 0):
            raise ConfigError(f"the value to start from is {start!r}; it is in US dollars, above 0")
        return cls(kind=kind, target=target, start=start, log_value=math.log(start))

    def same(self, other: Pace) -> bool:
        """Whether another one holds the same."""
        return (self.kind, self.target) == (other.kind, other.target)

    @property
    def value(self) -> float:
        """US dollars that a fully right answer is worth now."""
        return math.exp(self.log_value)

    @property
    def mean(self) -> float:
        """What was held so far, in the unit of the target; NaN where there is nothing to say yet."""
        if self.kind == "day":
            seconds = self.last - self.begun
            return self.total / seconds * DAY_S if seconds >= _FIRST_S else math.nan
        return self.total / self.n if self.n else math.nan

    @property
    def error(self) -> float:
        """How far the mean is from the target, as a share of it."""
        return self.mean / self.target - 1

    def after(self, observed: float, at: float = 0.0) -> Pace:
        """The pace after a request that cost so many US dollars, or whose answer had this quality. What is not finite
        says nothing.

        at: when, in seconds since 1970; a clock that was set back stands still.
        """
        if not math.isfinite(observed) or observed < 0:
            return self
        begun, last = self.begun or at, max(self.last, at)
        passed = min(last - self.last, DAY_S) if self.last else 0.0  # longer silence says nothing of a day's requests
        recent = self.recent * math.exp(-passed / _WEEK_S) + 1.0
        if self.kind == "day":
            per_day = recent / 7.0 / -math.expm1(-(last - begun + _FIRST_S) / _WEEK_S)
            earned, aim, over = passed / DAY_S, self.target / per_day, max(per_day, REPAY) / per_day
            low, high = -7.0, 1.0  # a day's money at most is spent later
            max_repaid = 0.95
        else:
            earned, aim, over = 1.0, self.target, float(REPAY)
            low, high = -_MAX_PENDING, _MAX_PENDING
            max_repaid = _MAX_REPAID
        repaid = min(max(self.pending / over, -max_repaid), max_repaid)
        step = min(max(1.0 - observed / aim, -STEP), STEP) + repaid
        pending = min(max(self.pending + earned, low), high) - observed / self.target
        centre = math.log(self.start)
        return msgspec.structs.replace(
            self,
            log_value=min(max(self.log_value + RATE * step, centre - FURTHEST), centre + FURTHEST),
            pending=max(pending, low),
            n=self.n + 1,
            total=self.total + observed,
            begun=begun,
            last=last,
            recent=recent,
        )

    def instead(self, before: float, now: float) -> Pace:
        """The pace where what was observed once is now known to be another number, such as a score that was changed."""
        moved = (now - before) / self.target
        return msgspec.structs.replace(self, total=self.total + now - before, pending=self.pending - moved)
