"""Spend targets: a preset keeps the mean cost of its requests at a target by changing the value of a correct answer.

A router takes the arm with the largest value * quality - cost. The value is the inverse of the multiplier of the
constraint "mean cost at most the target". After each request it moves against the amount by which the request cost too
much (dual descent in the logarithm, as in budget pacing for advertising: Balseiro & Gur, Management Science 2019).
Four things make the target hold from the start, and when the traffic changes:

- The value moves by the sum of all errors. So it settles where the mean cost is at the target, however good the
  router's forecasts are.
- What was spent too much or too little so far (`pending`) is made up for over the next `REPAY` requests. Without that
  the mean would stay off by |log(value / start)| / (RATE * n) of the target after n requests. With it the mean is off
  by |pending| / n, and pending goes to zero. Where a 1 % higher value raises the cost by k %, the loop's damping ratio
  is sqrt(k * RATE * REPAY) / 2: 0.5 for k = 0.4.
- One expensive request moves the value by at most `STEP` times the rate; all of it stays pending.
- Requests that are under way count as what they are forecast to cost, until they have ended (`InFlight`). A loop that
  hears of its decisions only when the answers are there swings ever wider: with 30 requests under way the mean would be
  off by the whole target.

Dollars per day are kept through dollars per request: the day's target divided by the requests of a day, from the last
week. A mean quality is kept in the same way, where clients score answers: below the target the value rises, above it
falls. Scores may come minutes later. So the value moves by what the answer would score now (its score, and what
forecasts have risen by since), and what is pending is made up for over twice the scores that come in that time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import msgspec

from r2router.errors import ConfigError

RATE = 0.05
STEP = 6.0
"""The largest error, in targets, that moves the value at once."""
REPAY = 50
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


class InFlight(msgspec.Struct, frozen=True):
    """Requests that are under way, as what they are forecast to cost.

    n: how many.
    usd: their cost, US dollars.
    steps: what they will move the logarithm of the value by, in units of `RATE`.
    """

    n: int = 0
    usd: float = 0.0
    steps: float = 0.0

    def __add__(self, other: InFlight) -> InFlight:
        return InFlight(self.n + other.n, self.usd + other.usd, self.steps + other.steps)

    def __sub__(self, other: InFlight) -> InFlight:
        left = self.n - other.n
        return InFlight(left, self.usd - other.usd, self.steps - other.steps) if left > 0 else NONE_IN_FLIGHT


NONE_IN_FLIGHT = InFlight()


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
        """Return whether another state has the same target."""
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

    def after(self, observed: float, at: float = 0.0, *, shift: float = 0.0, late_s: float = 0.0) -> Pace:
        """Return the state after a request of this cost in US dollars, or with an answer of this quality.

        at: when, in seconds since 1970; a clock that was set back counts as standing still.
        shift: what answers are forecast to be better by now than when this one was asked for.
        late_s: seconds from its request until now.

        Values that are not finite are ignored.
        """
        if not math.isfinite(observed) or observed < 0:
            return self
        begun, last = self.begun or at, max(self.last, at)
        passed = min(last - self.last, DAY_S) if self.last else 0.0  # longer silence says nothing of a day's requests
        recent = self.recent * math.exp(-passed / _WEEK_S) + 1.0
        earned = passed / DAY_S if self.kind == "day" else 1.0
        # at most a day's money is kept
        low, high = (-7.0, 1.0) if self.kind == "day" else (-_MAX_PENDING, _MAX_PENDING)
        aim, repaid = self._aim(recent, last - begun, late_s)
        pending = min(max(self.pending + earned, low), high) - observed / self.target
        return msgspec.structs.replace(
            self,
            log_value=self._within(self.log_value + RATE * (_step(observed + shift, aim) + repaid(self.pending))),
            pending=max(pending, low),
            n=self.n + 1,
            total=self.total + observed,
            begun=begun,
            last=last,
            recent=recent,
        )

    def forecast(self, usd: float) -> InFlight:
        """Return what a request counts as while it is under way.

        usd: what it is forecast to cost; what is not finite counts as nothing.
        """
        if self.kind == "quality" or not math.isfinite(usd) or usd < 0:
            return NONE_IN_FLIGHT
        return InFlight(1, usd, _step(usd, self._aim(self.recent, self.last - self.begun)[0]))

    def value_with(self, under_way: InFlight) -> float:
        """Return the value of a correct answer, US dollars, as it will be when what is under way has cost its forecast."""
        if not under_way.n:
            return self.value
        earned = 0.0 if self.kind == "day" else float(under_way.n)
        repaid = self._aim(self.recent, self.last - self.begun)[1]
        after = self.pending + earned - under_way.usd / self.target
        mean = (repaid(self.pending) + repaid(after)) / 2.0
        return math.exp(self._within(self.log_value + RATE * (under_way.steps + under_way.n * mean)))

    def _aim(self, recent: float, seconds: float, late_s: float = 0.0) -> tuple[float, Callable[[float], float]]:
        """Return (what a request may cost, a function from what is pending to the part that is made up for at once).

        recent: requests in about the last week.
        seconds: since the first request.
        late_s: how long it takes until a request is heard of.
        """
        aim, over, most = self.target, float(REPAY), _MAX_REPAID
        per_day = max(recent, 1.0) / 7.0 / -math.expm1(-(seconds + _FIRST_S) / _WEEK_S)
        if self.kind == "day":
            aim, over, most = self.target / per_day, max(per_day, REPAY) / per_day, 0.95
        elif self.kind == "quality":  # what was made up for is seen only when so many more scores have come
            over = max(over, 2.0 * per_day * max(late_s, 0.0) / DAY_S)
        return aim, lambda pending: min(max(pending / over, -most), most)

    def _within(self, log_value: float) -> float:
        centre = math.log(self.start)
        return min(max(log_value, centre - FURTHEST), centre + FURTHEST)

    def instead(self, before: float, now: float) -> Pace:
        """Return the state after an observed number was corrected, such as a changed score."""
        moved = (now - before) / self.target
        return msgspec.structs.replace(self, total=self.total + now - before, pending=self.pending - moved)


def _step(observed: float, aim: float) -> float:
    return min(max(1.0 - observed / aim, -STEP), STEP)
