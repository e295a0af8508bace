"""Money set aside ahead: a request that it covers need not wait until its own row is on the disk, as the money that it
may spend is.

A process takes an advance for a key that many requests come from: in one transaction, against all of the key's limits,
where it counts as spent. A request then takes its reservation out of the advance here, in memory, and is sent at once;
its row follows in the next transaction, which moves the money from the advance to the row. So at every committed moment
spent + reserved + advanced is at most the limit, and what a crash leaves of an advance is charged, like an open
request.

Keys with a limit per minute or of requests at once get none: those count requests, not money.
"""

from __future__ import annotations

import threading
import time

import msgspec

from r2router.gateway.ledger.entries import Limits
from r2router.gateway.ledger.windows import TOTAL, Period, Window

_SHARE = 100  # an advance is at most this part of what is left of a limit: nobody is refused because of it until then
_FRESH_S = 0.25  # how old what is known of a key may be
_IDLE_S = 1.0  # after which one is given back
_MAX_KEYS = 10_000


class Advance(msgspec.Struct):
    """What is left of one, nano-dollars.

    checked: when its key was last looked at.
    taken: when it was last used.
    """

    left: int
    checked: float
    taken: float


class Advances:
    """Those of this process, by scope and day. Safe to use from several threads."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], Advance] = {}
        self._came: dict[str, float] = {}
        self._lock = threading.Lock()

    def take(self, scope: str, day: str, nanos: int) -> bool:
        """Take a reservation out of an advance, if one covers it."""
        now = time.monotonic()
        with self._lock:
            found = self._known.get((scope, day))
            if found is None or found.left < nanos or now - found.checked > _FRESH_S:
                return False
            found.left -= nanos
            found.taken = now
            return True

    def busy(self, scope: str) -> bool:
        """Note that a request of a key came; whether the one before came a moment ago."""
        now = time.monotonic()
        with self._lock:
            before = self._came.get(scope, -_IDLE_S)
            if len(self._came) >= _MAX_KEYS:
                self._came.clear()
            self._came[scope] = now
            return now - before < _IDLE_S

    def left(self, scope: str, day: str) -> int:
        """Nano-dollars that can be taken."""
        with self._lock:
            found = self._known.get((scope, day))
            return 0 if found is None else found.left

    def put(self, scope: str, day: str, nanos: int, *, usable: bool = True) -> None:
        """Add what a transaction has set aside, 0 or more. usable: whether its key, which was looked at, may have
        any.
        """
        now = time.monotonic()
        with self._lock:
            found = self._known.setdefault((scope, day), Advance(0, 0.0, now))
            found.left += nanos
            found.checked = now if usable else 0.0

    def release(self, scope: str, day: str) -> int:
        """What is left of one, which can no longer be taken."""
        with self._lock:
            found = self._known.pop((scope, day), None)
            return 0 if found is None else found.left

    def idle(self, *, every: bool = False) -> list[tuple[str, str]]:
        """(scope, day) of those that nobody uses any more, or of every one."""
        now = time.monotonic()
        with self._lock:
            return [name for name, found in self._known.items() if every or now - found.taken > _IDLE_S]


def wanted(limits: Limits, windows: dict[str, Window], period: Period, nanos: int, came: int) -> int:
    """Nano-dollars to have ready for requests of so many each; 0: none.

    windows: by period, those of the scope.
    came: requests that came while the last transaction was written: so many will come during the next one.
    """
    if not nanos or any(
        limit is not None for limit in (limits.minute_requests, limits.minute_tokens, limits.concurrent)
    ):
        return 0
    found = ahead_of(came) * nanos
    for limit, of in ((limits.day_nanos, period.day), (limits.month_nanos, period.month), (limits.total_nanos, TOTAL)):
        if limit is not None:
            window = windows[of]
            found = min(found, (limit - window.spent - window.reserved - window.advanced) // _SHARE)
    return found if found >= nanos else 0


def ahead_of(came: int) -> int:
    """How many requests to be ready for where so many came during one transaction: a few transactions' worth."""
    return 4 * came + 4


def advance_id(writer: str, scope: str, day: str) -> str:
    """The name of an advance in the database."""
    return f"{writer}/{scope}/{day}"


ADVANCE = "id, writer, scope, day, month, nanos"
SET_ADVANCE = (
    f"INSERT INTO advances ({ADVANCE}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET nanos = excluded.nanos"  # noqa: S608
)
