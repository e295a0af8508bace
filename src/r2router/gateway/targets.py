"""The presets' targets: a mean spend or a mean quality. Their state is in the ledger; this is this process's copy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol

import msgspec

from r2router.decide import AnyPolicy, Policy, Tradeoff, Value
from r2router.errors import ConfigError, Refused
from r2router.gateway.pacing import NONE_IN_FLIGHT, InFlight, Pace
from r2router.metrics.calibrate import MIN_VALUE

_REMEMBERED = 200.0  # requests: how many the ratio of costs to forecasts is about
_AHEAD = 50.0  # requests: how many the mean of forecast scores is about
_FRESH_S = 2.0
"""How old what is known may be before it is read again, beside the requests."""


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The table `target` of a preset; give one of these.

    usd_per_1000_requests: the mean cost of its requests, US dollars per 1,000.
    usd_per_day: the cost of all its requests per day, US dollars.
    quality: the mean score of its answers, 0 to 1, as clients report it (`POST /v1/feedback`), at the least cost.
    """

    usd_per_1000_requests: float | None = None
    usd_per_day: float | None = None
    quality: float | None = None

    def pace(self, start: float) -> Pace:
        """Make the initial state. Raises `ConfigError`.

        start: the value of a correct answer, US dollars.
        """
        given = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}
        if len(given) != 1:
            raise ConfigError(f"target: give one of {', '.join(self.__struct_fields__)}, not {len(given)}")
        name, value = given.popitem()
        maximum = 1.0 if name == "quality" else 1e9
        if not 0 < value < maximum:
            raise ConfigError(f"target: {name} is {value!r}; it must be above 0 and below {maximum:g}")
        if name == "usd_per_1000_requests":
            return Pace.of("cost", value / 1000, start)
        return Pace.of("day" if name == "usd_per_day" else "quality", value, start)


def start_of(policy: AnyPolicy | None, own: Policy, scale: float) -> float:
    """Return the value of a correct answer that a policy stands for, US dollars.

    own, scale: the router's policy and scale, for a preset without a policy.

    Raises `ConfigError` for a policy that has no such value.
    """
    match own if policy is None else policy:
        case Value(usd=usd):
            return max(usd, MIN_VALUE)
        case Tradeoff(lam=lam, scale=given) if 0 < lam < 1:
            return max((given or scale) * (1 - lam) / lam, MIN_VALUE)
    if policy is None:
        return max(scale, MIN_VALUE)
    raise ConfigError(
        "target: it moves the value of a correct answer, which this policy does not have: leave the policy out, or start"
        ' from { policy = "value", usd = 0.01 } or { policy = "tradeoff", lam = 0.5 }'
    )


class Paces(Protocol):
    """A store of the states of targets; `Ledger` is one."""

    async def observe(self, name: str, pace: Pace, observed: float | None = None) -> Pace: ...

    async def elsewhere(self, preset: str) -> tuple[int, float]: ...


class _Traffic(msgspec.Struct):
    """A preset's requests, as this process knows them.

    here, elsewhere: those under way in this process, and in others.
    paid, forecast: means of what requests cost and were forecast to cost of late, US dollars.
    quality: the mean of what their answers were forecast to score.
    """

    paid: float
    forecast: float
    quality: float | None = None
    here: InFlight = NONE_IN_FLIGHT
    elsewhere: InFlight = NONE_IN_FLIGHT

    @property
    def ratio(self) -> float:
        """What requests cost, as a multiple of their forecasts."""
        return self.paid / self.forecast if self.forecast > 0 else 1.0


class Targets:
    """This process's copy of the states of the presets' targets.

    kept: the shared store; None keeps them only here, until the gateway ends.
    """

    def __init__(self, kept: Paces | None) -> None:
        self._kept = kept
        self._known: dict[str, tuple[Pace, float]] = {}
        self._traffic: dict[str, _Traffic] = {}
        self._reading: set[asyncio.Task[None]] = set()
        self._asked: set[str] = set()

    async def current(self, name: str, begun: Pace) -> Pace:
        """Return the state of a preset's target, at most a moment old.

        begun: its initial state.
        """
        known = self._known.get(name)
        if known is None or not known[0].same(begun):
            await self._read(name, begun)
            known = self._known.get(name)
        elif time.monotonic() - known[1] > _FRESH_S and name not in self._asked:
            self._asked.add(name)
            task = asyncio.get_running_loop().create_task(self._read(name, begun))
            self._reading.add(task)
            task.add_done_callback(self._reading.discard)
        return begun if known is None else known[0]

    async def value(self, name: str, begun: Pace) -> float:
        """Return the value of a correct answer for the preset's next request, US dollars.

        begun: the initial state of its target.
        """
        pace = await self.current(name, begun)
        traffic = self._traffic.get(name)
        return pace.value if traffic is None else pace.value_with(traffic.here + traffic.elsewhere)

    def begin(self, name: str, usd: float, quality: float) -> InFlight:
        """Count a request as under way. Hand the result to `end` when it is over, however it ended.

        usd, quality: what it is forecast to cost and to score.
        """
        known = self._known.get(name)
        if known is None:
            return NONE_IN_FLIGHT
        pace = known[0]
        traffic = self._traffic.setdefault(name, _Traffic(paid=pace.target, forecast=pace.target))
        counted = pace.forecast(usd * traffic.ratio)
        traffic.here += counted
        traffic.quality = quality if traffic.quality is None else traffic.quality + (quality - traffic.quality) / _AHEAD
        return counted

    def expected(self) -> dict[str, float]:
        """Return what the answers of each preset are forecast to score now: the mean of its last requests."""
        return {name: found.quality for name, found in self._traffic.items() if found.quality is not None}

    def end(self, name: str, counted: InFlight, usd: float, paid: float | None) -> None:
        """Count a request as over.

        counted: what `begin` returned.
        usd: what it was forecast to cost.
        paid: what it cost; None where that is not known.
        """
        traffic = self._traffic.get(name)
        if traffic is None or not counted.n:
            return
        traffic.here -= counted
        if paid is not None:
            traffic.paid += (paid - traffic.paid) / _REMEMBERED
            traffic.forecast += (usd - traffic.forecast) / _REMEMBERED

    async def _read(self, name: str, begun: Pace) -> None:
        try:
            with suppress(Refused):  # the ledger is down: then nothing is sent either, but by those who say so
                if self._kept is None:
                    self.put(name, begun)
                    return
                self.put(name, await self._kept.observe(name, begun))
                if begun.kind == "cost":
                    n, usd = await self._kept.elsewhere(name)
                    traffic = self._traffic.setdefault(name, _Traffic(paid=begun.target, forecast=begun.target))
                    usd *= traffic.ratio
                    traffic.elsewhere = InFlight(n, usd, n - usd / begun.target)
        finally:
            self._asked.discard(name)

    def put(self, name: str, pace: Pace) -> None:
        """Replace the state of a target."""
        self._known[name] = pace, time.monotonic()

    def spent(self, name: str, begun: Pace, usd: float) -> None:
        """Without a ledger: update a target with what a request cost."""
        known = self._known.get(name)
        pace = known[0] if known is not None and known[0].same(begun) else begun
        self.put(name, pace if pace.kind == "quality" else pace.after(usd, time.time()))

    def known(self, held: Mapping[str, Pace]) -> dict[str, Pace]:
        """Return the states of these presets' targets."""
        return {name: found[0] if (found := self._known.get(name)) else pace for name, pace in held.items()}
