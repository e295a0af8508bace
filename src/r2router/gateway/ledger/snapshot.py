"""What a transaction of the ledger has read: the rows, windows, keys, advances and targets that its work needs.

With SQLite it is kept for the next transaction if no other connection has written since (`PRAGMA data_version`). With
PostgreSQL it is read each time, in one round trip, after the locks are taken.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from r2router.gateway.ledger.advances import ADVANCE, advance_id
from r2router.gateway.ledger.database import Database
from r2router.gateway.ledger.entries import Limits, Opened, Ticket
from r2router.gateway.ledger.rows import ROWS, Row
from r2router.gateway.ledger.windows import TOTAL, Period, Window, window_id
from r2router.gateway.ledger.work import (
    NO_KEY,
    Draw,
    Forfeit,
    Observe,
    Open,
    RecordScore,
    Return,
    Settle,
    Work,
    id_of,
    scope_of,
)
from r2router.gateway.pacing import Pace

LIMITS = Limits.__struct_fields__
WINDOW = Window.__struct_fields__
PACE = Pace.__struct_fields__
ADD_WINDOW = f"INSERT INTO windows (id, {', '.join(WINDOW)}) VALUES (?{', ?' * len(WINDOW)})"  # noqa: S608 - our own names
_KEYS = f"SELECT id, ended, shadow, {', '.join(LIMITS)} FROM keys WHERE id IN "  # noqa: S608
_WINDOWS = f"SELECT {', '.join(WINDOW)} FROM windows WHERE id IN "  # noqa: S608
_ADVANCES = f"SELECT {ADVANCE} FROM advances WHERE id IN "  # noqa: S608
_LOCK = "SELECT id FROM windows WHERE id IN "
_PACES = f"SELECT name, {', '.join(PACE)} FROM pacing WHERE name IN "  # noqa: S608
_ADD_PACE = f"INSERT INTO pacing (name, {', '.join(PACE)}) VALUES (?{', ?' * len(PACE)}) ON CONFLICT DO NOTHING"  # noqa: S608
_MAX_KEPT = 5_000


class Snapshot:
    """What a batch has read.

    rows, windows, keys: by id.
    there: ids of windows that the database has.
    ahead: advances by id, as rows.
    paces: states of targets, by preset.
    """

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.windows: dict[str, Window] = {}
        self.there: set[str] = set()
        self.keys: dict[str, tuple[int | None, bool, Limits]] = {}
        self.ahead: dict[str, list[Any]] = {}
        self.paces: dict[str, Pace] = {}
        self._version: int | None = None

    def forget(self) -> None:
        """Drop everything: it may be outdated."""
        for kept in (self.rows, self.windows, self.there, self.keys, self.ahead, self.paces):
            kept.clear()
        self._version = None

    def begin(self, database: Database) -> None:
        """Keep what is known only if nobody else has written since. Call it within the transaction."""
        found = database.version()
        full = len(self.windows) + len(self.rows) > _MAX_KEPT
        if found is None or found != self._version or full:
            self.forget()
        self._version = found

    def end(self) -> None:
        """Drop settled requests: they are not needed again."""
        for name in [name for name, row in self.rows.items() if row.state != "open"]:
            del self.rows[name]

    def window(self, scope: str, period: str) -> Window:
        """Return a window, an empty one where there is none yet."""
        name = window_id(scope, period)
        found = self.windows.get(name)
        if found is None:
            found = self.windows[name] = Window(scope, period)
        return found

    def read(self, database: Database, work: Sequence[Work], writer: str, zone: ZoneInfo) -> None:
        """Read what the work needs, and lock it until the transaction ends."""
        self.begin(database)
        scopes = sorted({scope for one in work if (scope := scope_of(one)) is not None})
        rows = {name for one in work if (name := id_of(one)) is not None}
        keys = set(scopes) - {NO_KEY}
        ahead = set[str]()
        windows = {window_id(scope, TOTAL) for scope in scopes}
        for one in work:
            match one:
                case Open(opened=opened) | Draw(opened=opened) | Settle(ticket=Ticket(opened=opened)):
                    period, scope = Period.at(opened.time, zone), opened.key or NO_KEY
                    windows |= {window_id(scope, name) for name in period.names}
                    if not isinstance(one, Settle):
                        ahead.add(advance_id(writer, scope, period.day))
                case Return(scope=scope, day=day):
                    windows |= {window_id(scope, day), window_id(scope, day[:7])}
                    ahead.add(advance_id(writer, scope, day))
                case Forfeit(id=name, scope=scope, day=day, month=month, now=now):
                    windows |= {window_id(scope, period) for period in (day, month, Period.at(now, zone).minute)}
                    ahead.add(name)
        totals = [window_id(scope, TOTAL) for scope in scopes] if database.locking else []
        queries = [_in(_KEYS, keys - self.keys.keys()), _in(ROWS, rows - self.rows.keys())]
        queries += [_in(_WINDOWS, windows - self.windows.keys()), _in(_ADVANCES, ahead - self.ahead.keys())]
        found = self._behind_locks(database, totals, queries)
        self._take(*found)
        more = {window_id(row.scope, period) for row in self.rows.values() if row.id in rows for period in row.periods}
        if more := more - windows - self.windows.keys():  # of requests that are known by their id alone
            self._take([], [], database.rows(*_in(_WINDOWS, more)), [])
        self._read_paces(database, dict(held for one in work if (held := self._held(one)) is not None))

    def _take(self, keys: list[Any], rows: list[Any], windows: list[Any], ahead: list[Any]) -> None:
        for key, ended, shadow, *limits in keys:
            self.keys[key] = (ended, bool(shadow), Limits(**dict(zip(LIMITS, limits, strict=True))))
        for found in rows:
            row = Row(*found)
            self.rows[row.id] = row
        for found in windows:
            window = Window(*found)
            self.windows[window.id] = window
            self.there.add(window.id)
        for found in ahead:
            self.ahead[found[0]] = list(found)

    def _behind_locks(
        self, database: Database, totals: list[str], queries: Sequence[tuple[str, Sequence[Any]]]
    ) -> list[list[Any]]:
        """Read after locking these keys' windows. They are locked in one order, so that no two transactions wait for
        each other.
        """
        asked = [query for query in queries if query[1]]
        lock = [(f"{_marks(_LOCK, len(totals))} ORDER BY id{database.locking}", totals)] if totals else []
        given = database.reads([*lock, *asked])
        if lock and len(given[0]) < len(totals):
            empty = [(name, *msgspec.structs.astuple(Window(name.removesuffix(f"/{TOTAL}"), TOTAL))) for name in totals]
            database.many(f"{ADD_WINDOW} ON CONFLICT DO NOTHING", empty)
            given = database.reads([*lock, *asked])
        answers = iter(given[len(lock) :])
        return [next(answers) if values else [] for _, values in queries]

    def _held(self, work: Work) -> tuple[str, Pace] | None:
        """Return which target a piece of work may move, and its initial state."""
        match work:
            case Observe(name=name, pace=pace):
                return name, pace
            case Settle(ticket=Ticket(opened=Opened(preset=str(name), pace=Pace() as pace))):
                return name, pace
            case RecordScore(id=name, paces=paces) if (row := self.rows.get(name)) is not None and row.preset in paces:
                return str(row.preset), paces[str(row.preset)]
        return None

    def _read_paces(self, database: Database, begun: dict[str, Pace]) -> None:
        """Read and lock the states of targets. A target that was changed begins anew."""
        names = sorted(
            name for name, pace in begun.items() if name not in self.paces or not self.paces[name].same(pace)
        )
        if not names:
            return
        query = f"{_marks(_PACES, len(names))} ORDER BY name{database.locking}"
        rows = database.rows(query, names)
        if len(rows) < len(names):
            database.many(_ADD_PACE, [(name, *msgspec.structs.astuple(begun[name])) for name in names])
            rows = database.rows(query, names)
        for name, *found in rows:
            pace = Pace(**dict(zip(PACE, found, strict=True)))
            self.paces[name] = pace if pace.same(begun[name]) else begun[name]


def _marks(statement: str, n: int) -> str:
    return f"{statement}({', '.join('?' * n)})"


def _in(statement: str, values: Iterable[str]) -> tuple[str, list[str]]:
    ordered = sorted(values)
    return _marks(statement, len(ordered)), ordered
