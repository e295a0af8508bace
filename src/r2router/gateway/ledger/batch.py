"""One transaction of the ledger: several requests that open, settle or are corrected, decided under a lock and written together.

What a request may do depends on all windows of its key. So the transaction first takes the lock of each key that it is about (SQLite: of
the file; PostgreSQL: the row of the key's window `total`), reads, decides here, and writes. No other process can have read what it then
changes: at every committed moment spent + reserved is at most the limit, and the windows are the sums of the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from r2router.errors import KeyRefused, OverBudget, Refused, UsageError
from r2router.gateway.ledger.database import Database
from r2router.gateway.ledger.entries import Charge, Limits, Opened, Scored, Ticket
from r2router.gateway.ledger.windows import TOTAL, Period, Window, refusal, window_id
from r2router.gateway.ledger.work import NO_KEY, Correct, Expire, Observe, Open, Score, Settle, Work, id_of, scope_of
from r2router.gateway.pacing import Pace

LIMITS = Limits.__struct_fields__
_WINDOW = Window.__struct_fields__
_LONGEST = 1000  # characters of a name


class Row(msgspec.Struct):
    """A request as it stands in the table `requests`; times in microseconds, money in nano-dollars."""

    id: str
    time: int
    day: str
    month: str
    minute: str
    writer: str
    state: str
    key_id: str | None
    session: str | None
    preset: str | None
    asked: str
    arm: str
    endpoint: str
    reserved: int
    reserved_tokens: int
    priced: int
    price_version: str
    forecast_quality: float | None
    forecast: int | None
    baseline: str | None = None
    baseline_cost: int | None = None
    baseline_quality: float | None = None
    settled: int | None = None
    served: str | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: int | None = None
    estimated: int = 0
    latency_us: int | None = None
    ttft_us: int | None = None
    attempts: int | None = None
    note: str | None = None
    score: float | None = None

    @property
    def scope(self) -> str:
        """Whose windows it counts in."""
        return self.key_id or NO_KEY

    @property
    def periods(self) -> tuple[str, str, str, str]:
        """The windows that it counts in: those of the moment it opened, whenever it is settled."""
        return self.day, self.month, self.minute, TOTAL

    @property
    def tokens(self) -> int:
        """Tokens that count for it once it is settled."""
        if self.state == "unknown":
            return self.reserved_tokens
        return (self.input_tokens or 0) + (self.output_tokens or 0)


ROW = Row.__struct_fields__
_SETTLED = ("state", *ROW[ROW.index("settled") : ROW.index("score")])
_INSERT = f"INSERT INTO requests ({', '.join(ROW)}) VALUES ({', '.join('?' * len(ROW))})"  # noqa: S608 - our own names
_UPDATE = f"UPDATE requests SET {', '.join(f'{name} = ?' for name in _SETTLED)} WHERE id = ?"  # noqa: S608
_ROWS = f"SELECT {', '.join(ROW)} FROM requests WHERE id IN "  # noqa: S608
_KEYS = f"SELECT id, ended, shadow, {', '.join(LIMITS)} FROM keys WHERE id IN "  # noqa: S608
_ADD_WINDOW = f"INSERT INTO windows (id, {', '.join(_WINDOW)}) VALUES (?{', ?' * len(_WINDOW)})"  # noqa: S608
_SET_WINDOW = f"UPDATE windows SET {', '.join(f'{name} = ?' for name in _WINDOW[2:])} WHERE id = ?"  # noqa: S608


_SET_SCORE = "UPDATE requests SET score = ? WHERE id = ?"
_PACE = Pace.__struct_fields__
_ADD_PACE = f"INSERT INTO pacing (name, {', '.join(_PACE)}) VALUES (?{', ?' * len(_PACE)}) ON CONFLICT DO NOTHING"  # noqa: S608
_SET_PACE = f"UPDATE pacing SET {', '.join(f'{name} = ?' for name in _PACE)} WHERE name = ?"  # noqa: S608


class Batch:
    """Reads what some work is about, does it in memory, and writes what changed. To be run within a transaction."""

    def __init__(self, database: Database, writer: str, zone: ZoneInfo) -> None:
        self._database, self._writer, self._zone = database, writer, zone
        self._rows: dict[str, Row] = {}
        self._windows: dict[str, Window] = {}
        self._keys: dict[str, tuple[int | None, bool, Limits]] = {}
        self._there: set[str] = set()
        self._changed: dict[str, bool] = {}  # rows: whether they are new
        self._counted: set[str] = set()
        self._paces: dict[str, Pace] = {}
        self._moved: set[str] = set()
        self._scores: dict[str, float] = {}

    def run(self, work: Sequence[Work]) -> list[Any]:
        """What each piece of work gave: a `Ticket`, a `Charge`, a `Pace`, a `Scored`, or the `R2Error` to raise."""
        self._read(work)
        given = [self._do(one) for one in work]
        self._write()
        return given

    # -- reading ------------------------------------------------------------------------------------------------------

    def _read(self, work: Sequence[Work]) -> None:
        scopes = sorted({scope for one in work if (scope := scope_of(one)) is not None})
        self._lock(scopes)
        for found in self._in(_ROWS, sorted({name for one in work if (name := id_of(one)) is not None})):
            row = Row(*found)
            self._rows[row.id] = row
        for key, ended, shadow, *limits in self._in(_KEYS, [scope for scope in scopes if scope != NO_KEY]):
            self._keys[key] = (ended, bool(shadow), Limits(**dict(zip(LIMITS, limits, strict=True))))
        wanted = {window_id(scope, TOTAL) for scope in scopes}
        wanted |= {window_id(row.scope, period) for row in self._rows.values() for period in row.periods}
        for one in work:
            match one:
                case Open(opened=opened) | Settle(ticket=Ticket(opened=opened, recorded=False)):
                    scope = opened.key or NO_KEY
                    wanted |= {window_id(scope, period) for period in Period.at(opened.time, self._zone).names}
        for found in self._in(f"SELECT {', '.join(_WINDOW)} FROM windows WHERE id IN ", sorted(wanted)):  # noqa: S608
            window = Window(*found)
            self._windows[window.id] = window
            self._there.add(window.id)
        self._read_paces(dict(held for one in work if (held := self._held(one)) is not None))

    def _held(self, work: Work) -> tuple[str, Pace] | None:
        """Which pace a piece of work may move, and how that begins."""
        match work:
            case Observe(name=name, pace=pace):
                return name, pace
            case Settle(ticket=Ticket(opened=Opened(preset=str(name), pace=Pace() as pace))):
                return name, pace
            case Score(id=name, paces=paces) if (row := self._rows.get(name)) is not None and row.preset in paces:
                return str(row.preset), paces[str(row.preset)]
        return None

    def _read_paces(self, begun: dict[str, Pace]) -> None:
        """The paces as they stand, and held until the end; one whose target is another now begins anew."""
        if not begun:
            return
        names = sorted(begun)
        query = f"SELECT name, {', '.join(_PACE)} FROM pacing WHERE name IN ({', '.join('?' * len(names))}) ORDER BY name"  # noqa: S608
        rows = self._database.rows(query + self._database.locking, names)
        if len(rows) < len(names):
            self._database.many(_ADD_PACE, [(name, *msgspec.structs.astuple(begun[name])) for name in names])
            rows = self._database.rows(query + self._database.locking, names)
        for name, *found in rows:
            pace = Pace(**dict(zip(_PACE, found, strict=True)))
            self._paces[name] = pace if pace.same(begun[name]) else begun[name]

    def _lock(self, scopes: Sequence[str]) -> None:
        """Keep others from these keys' windows; in one order, so that no two wait for each other."""
        if not self._database.locking or not scopes:
            return
        names = [window_id(scope, TOTAL) for scope in scopes]
        hold = f"SELECT id FROM windows WHERE id IN ({', '.join('?' * len(names))}) ORDER BY id{self._database.locking}"  # noqa: S608
        if len(self._database.rows(hold, names)) < len(names):
            empty = [(window_id(scope, TOTAL), *_values(Window(scope, TOTAL))) for scope in scopes]
            self._database.many(f"{_ADD_WINDOW} ON CONFLICT DO NOTHING", empty)
            self._database.rows(hold, names)

    def _in(self, statement: str, values: Sequence[str]) -> list[tuple[Any, ...]]:
        return self._database.rows(f"{statement}({', '.join('?' * len(values))})", values) if values else []

    def _window(self, scope: str, period: str) -> Window:
        return self._windows.setdefault(window_id(scope, period), Window(scope, period))

    # -- deciding -----------------------------------------------------------------------------------------------------

    def _do(self, work: Work) -> Any:
        try:
            match work:
                case Open():
                    return self._open(work)
                case Settle():
                    return self._settle(work)
                case Expire():
                    return self._expire(work)
                case Correct():
                    return self._correct(work)
                case Observe():
                    return self._observe(work.name, work.observed, work.at)
                case Score():
                    return self._score(work)
        except (Refused, UsageError) as refused:
            return refused

    def _open(self, work: Open) -> Ticket:
        opened = work.opened
        if opened.id in self._rows:
            raise UsageError(f"request {opened.id!r} is in the ledger already: give each request an id of its own")
        limits, shadow = work.limits, False
        if opened.key is not None:
            known = self._keys.get(opened.key)
            if known is None or known[0] is not None:
                raise KeyRefused(f"key {opened.key} {'is not known' if known is None else 'has ended'}: use another one")
            _, shadow, limits = known
        who = "this gateway" if opened.key is None else f"key {opened.key}"
        if opened.reserved is None and limits.budgeted and not shadow:
            words = f"the price of {opened.arm} is not known, and {who} has a limit in dollars: give its price, or ask another model"
            raise OverBudget(words, code="price_unknown")
        period = Period.at(opened.time, self._zone)
        if limits.limited and not shadow:
            windows = {name: self._window(opened.key or NO_KEY, name) for name in period.names}
            nanos = opened.reserved or 0
            why = refusal(limits, windows, period, nanos, opened.tokens, now=opened.time, zone=self._zone, who=who)
            if why is not None:
                raise why
        self._begin(opened, period)
        return Ticket(opened.id, opened)

    def _begin(self, opened: Opened, period: Period) -> Row:
        row = Row(
            id=opened.id, time=_us(opened.time), day=period.day, month=period.month, minute=period.minute, writer=self._writer,
            state="open", key_id=opened.key, session=_text(opened.session), preset=_text(opened.preset),
            asked=_text(opened.asked) or "", arm=_text(opened.arm) or "", endpoint=opened.endpoint,
            reserved=opened.reserved or 0, reserved_tokens=opened.tokens,
            priced=int(opened.reserved is not None), price_version=opened.price_version, forecast_quality=opened.forecast_quality,
            forecast=opened.forecast, baseline=opened.baseline, baseline_cost=opened.baseline_cost,
            baseline_quality=opened.baseline_quality,
        )  # fmt: skip
        self._rows[row.id] = row
        self._changed[row.id] = True
        for window in self._of(row):
            window.begin(row.reserved, row.reserved_tokens)
        return row

    def _of(self, row: Row) -> list[Window]:
        """The windows that a row counts in, which now change."""
        found = [self._window(row.scope, period) for period in row.periods]
        self._counted.update(window.id for window in found)
        return found

    def _settle(self, work: Settle) -> Charge:
        row, settled = self._rows.get(work.ticket.id), work.settled
        if row is None:
            if work.ticket.recorded:
                raise UsageError(f"request {work.ticket.id!r} is not in the ledger")
            opened = work.ticket.opened
            row = self._begin(opened, Period.at(opened.time, self._zone))
        held = work.ticket.opened.preset if work.ticket.opened.pace is not None else None
        if row.state not in ("open", "unknown"):
            return Charge(row.cost or 0, repeated=True, pace=self._paces.get(held or ""))
        before = msgspec.structs.replace(row)
        usage = settled.usage
        row.state, row.cost, row.estimated = settled.state, settled.cost, int(settled.estimated)
        if usage is not None:
            row.input_tokens, row.cached_tokens, row.output_tokens = usage.input, usage.cached, usage.output
            row.cache_write_tokens, row.cache_write_1h_tokens = usage.cache_write, usage.cache_write_1h
            row.reasoning_tokens = usage.reasoning
        row.served, row.attempts, row.note = _text(settled.served), settled.attempts, _text(settled.note or None)
        row.latency_us, row.ttft_us = (None if s is None else _us(s) for s in (settled.latency_s, settled.ttft_s))
        charge = self._replace(before, row, work.now)
        if held is None:
            return charge
        answered = settled.cost or settled.state in ("done", "cut")  # one that failed for nothing has no part in a mean
        spent = settled.cost / 1e9 if settled.cost is not None and answered and self._paces[held].kind != "quality" else None
        return msgspec.structs.replace(charge, pace=self._observe(held, spent, work.now))

    def _expire(self, work: Expire) -> Charge | None:
        row = self._rows.get(work.id)
        if row is None or row.state != "open":
            return None
        before = msgspec.structs.replace(row)
        row.state, row.cost, row.estimated = "unknown", row.reserved if row.priced else None, 1
        return self._replace(before, row, work.now)

    def _correct(self, work: Correct) -> Charge:
        row = self._rows.get(work.id)
        if row is None:
            raise UsageError(f"request {work.id!r} is not in the ledger")
        if row.state == "open":
            raise UsageError(f"request {work.id!r} is still under way: it is charged when it ends")
        before = msgspec.structs.replace(row)
        row.state, row.cost, row.estimated, row.priced = work.state, work.cost, 0, 1
        return self._replace(before, row, work.now)

    def _replace(self, before: Row, row: Row, now: float) -> Charge:
        """Count a row that has changed in its windows."""
        row.settled = _us(now)
        cost = row.cost or 0
        self._changed.setdefault(row.id, False)
        for window in self._of(row):
            if before.state == "open":
                window.end(row.reserved, row.reserved_tokens, cost, row.tokens)
            else:
                window.correct(cost - (before.cost or 0), row.tokens - before.tokens)
        return Charge(cost, over=max(0, cost - row.reserved) if row.priced else 0)

    def _observe(self, name: str, observed: float | None, at: float) -> Pace:
        pace = self._paces[name]
        if observed is not None:
            pace = self._paces[name] = pace.after(observed, at)
            self._moved.add(name)
        return pace

    def _score(self, work: Score) -> Scored:
        """Keep what a client says of an answer; a second time takes the place of the first."""
        row = self._rows.get(work.id)
        if row is None or (work.key is not None and row.key_id != work.key):
            raise UsageError(f"there is no request {work.id!r} of this key: its id is in the answer's header x-r2router-request-id")
        name = row.preset or ""
        before = row.score
        if name in self._paces and row.id not in self._scores:  # as it stands now that its pace is held
            before = self._database.rows("SELECT score FROM requests WHERE id = ?", (row.id,))[0][0]
        self._scores[row.id] = row.score = work.score
        if name not in self._paces:
            return Scored(row.preset)
        if before is None:
            return Scored(name, self._observe(name, work.score, work.now))
        self._paces[name] = self._paces[name].instead(before, work.score)
        self._moved.add(name)
        return Scored(name, self._paces[name])

    # -- writing ------------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        new = [msgspec.structs.astuple(self._rows[name]) for name, is_new in self._changed.items() if is_new]
        rows = [self._rows[name] for name, is_new in sorted(self._changed.items()) if not is_new]
        old = [(*(getattr(row, name) for name in _SETTLED), row.id) for row in rows]
        added = [(name, *_values(self._windows[name])) for name in sorted(self._counted - self._there)]
        moved = [(*_values(self._windows[name])[2:], name) for name in sorted(self._counted & self._there)]
        scores = [(score, name) for name, score in sorted(self._scores.items())]
        paces = [(*msgspec.structs.astuple(self._paces[name]), name) for name in sorted(self._moved)]
        changes = ((_INSERT, new), (_UPDATE, old), (_ADD_WINDOW, added), (_SET_WINDOW, moved), (_SET_PACE, paces), (_SET_SCORE, scores))
        for statement, parameters in changes:
            if parameters:
                self._database.many(statement, parameters)


def _values(window: Window) -> tuple[Any, ...]:
    return msgspec.structs.astuple(window)


def _text(words: str | None) -> str | None:
    """Words of a client's or provider's as every database takes them: of bounded length, without NUL and lone surrogates."""
    return None if words is None else words[:_LONGEST].encode("utf-8", "replace").decode().replace("\0", "?")


def _us(seconds: float) -> int:
    """Microseconds; what is not finite or beyond every clock is no time."""
    return round(seconds * 1e6)
