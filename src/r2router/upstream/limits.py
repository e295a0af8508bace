"""How fast a provider may be called: a window that 429s narrow and successes widen, and pauses that its headers ask
for.
"""

from __future__ import annotations

import asyncio
import email.utils
import random
import re
import time
from collections import deque
from collections.abc import Mapping

LONGEST_PAUSE_S = 120.0
LONGEST_ASKED_S = 600.0
"""A `Retry-After` above this is a quota that is used up for now, and no pause."""
_ABSURD_S = 32 * 86_400.0
"""A `Retry-After` above this, more than a month, says nothing: no quota is counted in longer spans."""
_PARTS = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|h|m|s)")
_COUNT = re.compile(r"[0-9]{1,18}")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class LimiterClosed(Exception):
    """The limiter is closed: no further call may begin."""


class ConcurrencyLimiter:
    """Lets at most `window` calls through at once, and none before a pause is over.

    The window begins at `maximum`. A 429 halves it, once for all calls that were under way; every success adds
    `1/window`. So it settles just below what the provider allows, without being told.
    """

    def __init__(self, maximum: int) -> None:
        self.maximum = max(1, maximum)
        self.window = float(self.maximum)
        self.active = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._opens_at = 0.0
        self._closing = asyncio.Event()
        self._narrowed_at = -1.0

    async def enter(self) -> float:
        """Wait for a place, and for pauses to be over; gives the time (monotonic) at which the call began.

        Raises `LimiterClosed` at once when the gate is closed.
        """
        if self._closing.is_set():
            raise LimiterClosed
        if self._waiting or self.active >= int(self.window):
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(place)
            try:
                await place  # whoever wakes us has counted us in
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self.leave()
                raise
        else:
            self.active += 1
        while (pause := self._opens_at - time.monotonic()) > 0:
            wait = pause + random.uniform(0, min(1.0, 0.2 * pause))  # noqa: S311  spreads the calls; no secret
            try:
                await asyncio.wait_for(self._closing.wait(), wait)
            except TimeoutError:
                continue
            except asyncio.CancelledError:
                self.leave()
                raise
            self.leave()
            raise LimiterClosed
        return time.monotonic()

    def close(self) -> None:
        """Let nothing through any more; whoever waits is told."""
        self._closing.set()
        while self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                place.set_exception(LimiterClosed())

    def leave(self) -> None:
        """The call is over."""
        self.active -= 1
        self._wake()

    def succeeded(self) -> None:
        """A little more at once."""
        if self.window < self.maximum:
            self.window = min(float(self.maximum), self.window + 1 / self.window)
            self._wake()

    def refused(self, began: float, pause_s: float) -> None:
        """A 429 of a call that began then: less at once, and nothing for `pause_s` seconds."""
        if began >= self._narrowed_at:
            self.window = max(1.0, self.window / 2)
            self._narrowed_at = time.monotonic()
        self.pause(pause_s)

    def pause(self, seconds: float) -> None:
        """Let nothing through for so long."""
        self._opens_at = max(self._opens_at, time.monotonic() + min(seconds, LONGEST_PAUSE_S))

    def read(self, headers: Mapping[str, str]) -> None:
        """Heed `x-ratelimit-remaining-*`: where less is left than calls are under way, wait for the reset."""
        for what in ("requests", "tokens"):
            left = headers.get(f"x-ratelimit-remaining-{what}")
            if left is None or not _COUNT.fullmatch(left.strip()):  # which `str.isdigit` is not: it takes '²'
                continue
            needed = self.active if what == "requests" else 1
            if int(left) < needed and (reset := seconds(headers.get(f"x-ratelimit-reset-{what}", ""))) is not None:
                self.pause(reset)

    def _wake(self) -> None:
        while self._waiting and self.active < int(self.window):
            place = self._waiting.popleft()
            if not place.done():
                self.active += 1
                place.set_result(None)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that `retry-after-ms` or `retry-after` (seconds or a date) ask for; None where neither does."""
    asked = _asked(headers)
    return max(0.0, asked) if asked is not None and asked <= _ABSURD_S else None


def _asked(headers: Mapping[str, str]) -> float | None:
    ms, after = headers.get("retry-after-ms"), headers.get("retry-after")
    try:
        if ms is not None:
            return float(ms) / 1000 if ms.isascii() else None
        if after is None or not after.isascii():
            return None
        try:
            return float(after)
        except ValueError:
            return max(0.0, email.utils.parsedate_to_datetime(after).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, IndexError):  # dates are read by a parser that meets little care
        return None


def seconds(text: str) -> float | None:
    """Return a duration as rate-limit headers write it: `1s`, `6m0s`, `20ms`, or plain seconds; None where it is none
    of these.
    """
    text = text.strip()
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        return float(text)
    if not re.fullmatch(rf"({_PARTS.pattern})+", text):
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in _PARTS.findall(text))
