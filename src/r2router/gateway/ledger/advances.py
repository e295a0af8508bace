"""Money set aside ahead, so that a request need not wait until its own row is on the disk.

A process takes an advance for a key from which many requests come. It does so in one transaction, against all limits of
the key, where the advance counts as spent. A request then takes its reservation out of the advance in memory and is
sent at once. Its row follows in the next transaction, which moves the money from the advance to the row. So at every
committed moment spent + reserved + advanced is at most the limit. What a crash leaves of an advance is charged, like an
open request.

Keys with a limit per minute, or on concurrent requests, get no advance: such limits count requests, not money.
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
    """The rest of an advance, in nano-dollars.

    checked: when its key was last looked up.
    taken: when it was last used.
    """

    left: int
    checked: float
    taken: float


class Advances:
    """The advances of this process, by scope and day. Safe to use from several threads."""

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
        """Note a request of a key. Returns whether the one before came a moment ago."""
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
        """Add what a transaction has set aside, 0 or more.

        usable: whether its key, which was looked up, may have any.
        """
        now = time.monotonic()
        with self._lock:
            found = self._known.setdefault((scope, day), Advance(0, 0.0, now))
            found.left += nanos
            found.checked = now if usable else 0.0

    def release(self, scope: str, day: str) -> int:
        """Close an advance and return the rest of it."""
        with self._lock:
            found = self._known.pop((scope, day), None)
            return 0 if found is None else found.left

    def idle(self, *, every: bool = False) -> list[tuple[str, str]]:
        """Return the (scope, day) of advances that are no longer used, or of all of them."""
        now = time.monotonic()
        with self._lock:
            return [name for name, found in self._known.items() if every or now - found.taken > _IDLE_S]


def wanted(limits: Limits, windows: dict[str, Window], period: Period, nanos: int, came: int) -> int:
    """Return the nano-dollars to set aside for requests of this size; 0 for none.

    windows: those of the scope, by period.
    came: requests that came while the last transaction was written; as many are expected during the next one.
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
    """Return how many requests to be ready for where so many came during one transaction: those of a few
    transactions.
    """
    return 4 * came + 4


def advance_id(writer: str, scope: str, day: str) -> str:
    """Return the name of an advance in the database."""
    return f"{writer}/{scope}/{day}"


ADVANCE = "id, writer, scope, day, month, nanos"
SET_ADVANCE = (
    f"INSERT INTO advances ({ADVANCE}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET nanos = excluded.nanos"  # noqa: S608
)
