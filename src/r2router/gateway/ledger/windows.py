"""Windows: what a key has used in a day, a month, a minute and in all, and whether a request still fits."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from r2router.errors import OverBudget, OverRate, Refused
from r2router.gateway.ledger.entries import Limits

TOTAL = "total"
ALL = "*"
"""The scope of every request, whatever its key."""

_SOON = 1  # seconds: when money in flight may come back


class Period(msgspec.Struct, frozen=True):
    """The names of the windows of a moment, in the ledger's time zone."""

    day: str
    month: str
    minute: str

    @classmethod
    def at(cls, seconds: float, zone: ZoneInfo) -> Period:
        """Return the windows of a moment in seconds since 1970.

        A minute's name includes the distance from UTC, as clocks are set back once a year.
        """
        return _period(math.floor(seconds / 60), zone)

    @property
    def names(self) -> tuple[str, str, str, str]:
        """Day, month, minute, and `total`."""
        return self.day, self.month, self.minute, TOTAL


@lru_cache(maxsize=256)
def _period(minute: int, zone: ZoneInfo) -> Period:
    moment = datetime.fromtimestamp(minute * 60, zone)
    return Period(f"{moment:%Y-%m-%d}", f"{moment:%Y-%m}", f"{moment:%Y-%m-%dT%H:%M%z}")


class Window(msgspec.Struct):
    """What one window has counted.

    spent, reserved: nano-dollars.
    requests: requests opened in it.
    open: those of them that are not settled yet.
    advanced: nano-dollars that gateways have set aside for later requests.
    """

    scope: str
    period: str
    spent: int = 0
    reserved: int = 0
    requests: int = 0
    open: int = 0
    tokens: int = 0
    reserved_tokens: int = 0
    advanced: int = 0

    @property
    def id(self) -> str:
        """Its name in the database."""
        return window_id(self.scope, self.period)

    def begin(self, nanos: int, tokens: int) -> None:
        """Count a request that opens."""
        self.requests += 1
        self.open += 1
        self.reserved += nanos
        self.reserved_tokens += tokens

    def end(self, reserved: int, reserved_tokens: int, cost: int, tokens: int) -> None:
        """Replace a reservation by the real cost."""
        self.open -= 1
        self.reserved -= reserved
        self.reserved_tokens -= reserved_tokens
        self.spent += cost
        self.tokens += tokens

    def correct(self, cost: int, tokens: int) -> None:
        """Add a difference to what was counted."""
        self.spent += cost
        self.tokens += tokens


def window_id(scope: str, period: str) -> str:
    """Return the name of a window in the database."""
    return f"{scope}/{period}"


def dollars(nanos: int) -> str:
    """Write nano-dollars as dollars, exactly: `0.0000375`, `12.00`."""
    text = f"{Decimal(nanos).scaleb(-9):f}"
    whole, _, rest = text.partition(".")
    return f"{whole}.{rest.rstrip('0').ljust(2, '0')}"


def refusal(
    limits: Limits,
    windows: dict[str, Window],
    period: Period,
    nanos: int,
    tokens: int,
    *,
    now: float,
    zone: ZoneInfo,
    who: str,
) -> Refused | None:
    """Return why a request does not fit; None if it fits.

    windows: those of one scope, by period.
    nanos, tokens: its maximum.
    """
    for name, limit, of in (
        ("day", limits.day_nanos, period.day),
        ("month", limits.month_nanos, period.month),
        (TOTAL, limits.total_nanos, TOTAL),
    ):
        if limit is not None and windows[of].spent + windows[of].reserved + windows[of].advanced + nanos > limit:
            return _over_budget(name, limit, windows[of], nanos, now=now, zone=zone, who=who)
    total = windows[TOTAL]
    if limits.concurrent is not None and total.open + 1 > limits.concurrent:
        words = (
            f"{who} has {total.open:,} requests in progress and may have {limits.concurrent:,} at once; try again when"
            " one is over"
        )
        at_once: dict[str, object] = {"limit": limits.concurrent, "open": total.open}
        return OverRate(words, code="concurrency_limit_exceeded", retry_after=_SOON, details=at_once)
    for name, limit, used in _rates(limits, windows[period.minute]):
        asked = 1 if name == "requests" else tokens
        if used + asked > limit:
            wait = _seconds_until(_next("minute", now, zone), now)
            details: dict[str, Any] = {
                "limit": limit,
                "used": used,
                "asked": asked,
                "resets_at": _next("minute", now, zone).isoformat(),
            }
            never = asked > limit
            words = f"{who} may use {limit:,} {name} per minute; {used:,} are used and this request may take {asked:,}"
            words += (
                "; ask for fewer output tokens"
                if never and name == "tokens"
                else f"; try again in {wait} s"
                if not never
                else ""
            )
            return OverRate(words, retry_after=None if never else wait, details=details)
    return None


def _rates(limits: Limits, minute: Window) -> list[tuple[str, int, int]]:
    found = []
    if limits.minute_requests is not None:
        found.append(("requests", limits.minute_requests, minute.requests))
    if limits.minute_tokens is not None:
        found.append(("tokens", limits.minute_tokens, minute.tokens + minute.reserved_tokens))
    return found


def _over_budget(
    name: str, limit: int, window: Window, nanos: int, *, now: float, zone: ZoneInfo, who: str
) -> OverBudget:
    resets = None if name == TOTAL else _next(name, now, zone)
    details: dict[str, Any] = {
        "window": name,
        "limit_usd": dollars(limit),
        "spent_usd": dollars(window.spent),
        "in_flight_usd": dollars(window.reserved + window.advanced),
        "request_usd": dollars(nanos),
        "resets_at": None if resets is None else resets.isoformat(),
        "time_zone": str(zone),
    }
    per = "in all" if name == TOTAL else f"per {name}"
    words = (
        f"{who} may spend ${details['limit_usd']} {per}: ${details['spent_usd']} is spent, ${details['in_flight_usd']}"
        f" is in flight, and this request may cost up to ${details['request_usd']}"
    )
    if nanos > limit:
        words += "; that is more than the whole limit: raise it, or ask for fewer output tokens or a cheaper model"
        return OverBudget(words, code="request_exceeds_budget", details=details)
    if window.spent + nanos <= limit:
        words += f"; try again in {_SOON} s, when money in flight may have come back"
        return OverBudget(words, code="in_flight_budget_exhausted", retry_after=_SOON, details=details)
    if resets is None:
        return OverBudget(f"{words}; raise the limit", details=details)
    return OverBudget(
        f"{words}; it resets at {details['resets_at']}", retry_after=_seconds_until(resets, now), details=details
    )


def _next(name: str, now: float, zone: ZoneInfo) -> datetime:
    """Return when the next day, month or minute begins."""
    if name == "minute":
        return datetime.fromtimestamp((math.floor(now / 60) + 1) * 60, zone)
    moment = datetime.fromtimestamp(now, zone)
    day = (
        (moment.date() + timedelta(days=1))
        if name == "day"
        else (moment.date().replace(day=1) + timedelta(days=32)).replace(day=1)
    )
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def _seconds_until(moment: datetime, now: float) -> int:
    return max(1, math.ceil(moment.timestamp() - now))
