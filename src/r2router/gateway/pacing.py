"""Spend targets: a preset keeps the mean cost of its requests at a target by changing the value of a correct answer.

A router takes the arm with the largest value * quality - cost. The value is the inverse of the multiplier of the
constraint "mean cost at most the target". After each request it moves against the amount by which the request cost too
much (dual descent in the logarithm, as in budget pacing for advertising: Balseiro & Gur, Management Science 2019).
Three things make the target hold from the start, and when the traffic changes:

- The value moves by the sum of all errors. So it settles where the mean cost is at the target, however good the
  router's forecasts are.
- What was spent too much or too little so far (`pending`) is made up for over the next `REPAY` requests. Without that
  the mean would stay off by |log(value / start)| / (RATE * n) of the target after n requests. With it the mean is off
  by |pending| / n, and pending goes to zero. REPAY makes the loop critically damped where a 1 % higher value raises the
  cost by 0.4 % (4 / (0.4 * RATE) requests); where it raises it less, the mean swings a little before it settles.
- One expensive request moves the value by at most `STEP` times the rate; all of it stays pending.

Dollars per day are kept through dollars per request: the day's target divided by the requests of a day, from the last
week. A mean quality is kept in the same way, where clients score answers: below the target the value rises, above it
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
    """The state of a spend or quality target.

    kind: `cost` (US dollars per request), `day` (US dollars per day) or `quality` (mean score).
    target: in the unit of the kind.
    start: the calibrated value of a correct answer, US dollars.
    pending: what is still to be spent (negative: saved), in multiples of the target.
    n, total: number and sum of what was observed.
    begun, last: times of the first and the last of it, seconds since 1970; 0 for none.
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
        """Make the initial state. Raises `ConfigError`."""
        if kind not in _UNITS:
            raise ConfigError(f"cannot hold {kind!r}: give {', '.join(map(repr, _UNITS))}")
        if not (math.isfinite(target) and target > 0) or (kind == "quality" and target >= 1):
            raise ConfigError(f"target {target!r} is not {_UNITS[kind]}")
        if not (math.isfinite(start) and start > 0):
            raise ConfigError(f"the value to start from is {start!r}; it is in US dollars, above 0")
        return cls(kind=kind, target=target, start=start, log_value=math.log(start))

    def same(self, other: Pace) -> bool:
        """Whether another state has the same target."""
        return (self.kind, self.target) == (other.kind, other.target)

    @property
    def value(self) -> float:
        """US dollars that a correct answer is worth now."""
        return math.exp(self.log_value)

    @property
    def mean(self) -> float:
        """The mean so far, in the unit of the target; NaN where there is none yet."""
        if self.kind == "day":
            seconds = self.last - self.begun
            return self.total / seconds * DAY_S if seconds >= _FIRST_S else math.nan
        return self.total / self.n if self.n else math.nan

    @property
    def error(self) -> float:
        """The distance of the mean from the target, as a share of the target."""
        return self.mean / self.target - 1

    def after(self, observed: float, at: float = 0.0) -> Pace:
        """Return the state after a request of this cost in US dollars, or with an answer of this quality.

        at: when, in seconds since 1970; a clock that was set back counts as standing still.

        Values that are not finite are ignored.
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
        """Return the state after an observed number was corrected, such as a changed score."""
        moved = (now - before) / self.target
        return msgspec.structs.replace(self, total=self.total + now - before, pending=self.pending - moved)
