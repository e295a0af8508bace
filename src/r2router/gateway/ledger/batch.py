"""One transaction of the ledger: requests that open, settle or are corrected, decided under a lock and written
together.

What a request may do depends on all windows of its key. So the transaction first takes the lock of each key involved
(SQLite: of the file; PostgreSQL: the row of the key's window `total`), then reads, decides and writes. No other process
can have read what it changes. At every committed moment spent + reserved is at most the limit, and the windows are the
sums of the rows.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from r2router.errors import KeyRefused, OverBudget, Refused, UsageError
from r2router.gateway.ledger.advances import SET_ADVANCE, Advances, advance_id, wanted
from r2router.gateway.ledger.database import Database
from r2router.gateway.ledger.entries import Charge, Limits, Opened, ScoreResult, Ticket
from r2router.gateway.ledger.rows import INSERT, SETTLED, UPDATE, Row, text, us
from r2router.gateway.ledger.snapshot import ADD_WINDOW, PACE, WINDOW, Snapshot
from r2router.gateway.ledger.windows import TOTAL, Period, Window, refusal
from r2router.gateway.ledger.work import (
    NO_KEY,
    Correct,
    Draw,
    Elsewhere,
    Expire,
    Forfeit,
    Observe,
    Open,
    RecordScore,
    Return,
    Settle,
    Work,
)
from r2router.gateway.pacing import Pace

_SET_WINDOW = f"UPDATE windows SET {', '.join(f'{name} = ?' for name in WINDOW[2:])} WHERE id = ?"  # noqa: S608 - our own names
_SET_PACE = f"UPDATE pacing SET {', '.join(f'{name} = ?' for name in PACE)} WHERE name = ?"  # noqa: S608
_ELSEWHERE = (
    "SELECT count(*), coalesce(sum(forecast), 0) FROM requests WHERE state = 'open' AND preset = ? AND writer <> ?"
)
_SET_SCORE = "UPDATE requests SET score = ? WHERE id = ?"


class Batch:
    """Reads what some work needs, does the work in memory, and writes the changes. Run it within a transaction."""

    def __init__(
        self,
        database: Database,
        writer: str,
        zone: ZoneInfo,
        advances: Advances | None = None,
        known: Snapshot | None = None,
    ) -> None:
        self._database, self._writer, self._zone = database, writer, zone
        self._advances, self._known = advances or Advances(), known or Snapshot()
        self.granted: list[tuple[str, str, int, bool]] = []  # for `Advances.put`, once this is committed
        self.released: list[tuple[str, str, int]] = []  # to be put back, where it is not
        self._changed: dict[str, bool] = {}  # rows: whether they are new
        self._counted: set[str] = set()
        self._advanced: set[str] = set()
        self._moved: set[str] = set()
        self._scores: dict[str, float] = {}
        self._came: Counter[str] = Counter()

    def run(self, work: Sequence[Work]) -> list[Any]:
        """Return the result of each piece of work: a `Ticket`, a `Charge`, a `Pace`, a `ScoreResult`, or the `R2Error`
        to raise.
        """
        self._known.read(self._database, work, self._writer, self._zone)
        self._came = Counter(one.opened.key or NO_KEY for one in work if isinstance(one, (Open, Draw)))
        given = [self._do(one) for one in work]
        self._write()
        return given

    # -- deciding -----------------------------------------------------------------------------------------------------

    def _do(self, work: Work) -> Any:
        try:
            match work:
                case Open():
                    return self._open(work)
                case Draw():
                    return self._draw(work)
                case Return():
                    return self._return(work)
                case Forfeit():
                    return self._forfeit(work)
                case Settle():
                    return self._settle(work)
                case Expire():
                    return self._expire(work)
                case Correct():
                    return self._correct(work)
                case Observe():
                    return self._observe(work.name, work.observed, work.at)
                case Elsewhere():
                    return self._elsewhere(work.preset)
                case RecordScore():
                    return self._score(work)
        except (Refused, UsageError) as refused:
            return refused

    def _open(self, work: Open) -> Ticket:
        opened = work.opened
        if opened.id in self._known.rows:
            raise UsageError(f"request {opened.id!r} is already in the ledger: give each request an id of its own")
        limits, shadow = work.limits, False
        if opened.key is not None:
            known = self._known.keys.get(opened.key)
            if known is None or known[0] is not None:
                raise KeyRefused(
                    f"key {opened.key} {'is not known' if known is None else 'has ended'}: use another one"
                )
            _, shadow, limits = known
        who = "this gateway" if opened.key is None else f"key {opened.key}"
        if opened.reserved is None and limits.budgeted and not shadow:
            words = (
                f"the price of {opened.arm} is not known (of the model, or at the service tier that is asked for), and"
                f" {who} has a limit in dollars: give its price, or ask for another model or tier"
            )
            raise OverBudget(words, code="price_unknown")
        period = Period.at(opened.time, self._zone)
        if limits.limited and not shadow:
            windows = {name: self._known.window(opened.key or NO_KEY, name) for name in period.names}
            nanos = opened.reserved or 0
            why = refusal(limits, windows, period, nanos, opened.tokens, now=opened.time, zone=self._zone, who=who)
            if isinstance(why, OverBudget) and self._give_back(opened.key or NO_KEY, period.day):
                why = refusal(limits, windows, period, nanos, opened.tokens, now=opened.time, zone=self._zone, who=who)
            if why is not None:
                raise why
        self._begin(opened, period)
        if work.ahead and self._advances.busy(opened.key or NO_KEY):
            self._set_aside(opened, period, Limits() if shadow else limits)
        return Ticket(opened.id, opened)

    # -- money set aside ahead

    def _draw(self, work: Draw) -> Ticket:
        """Write down a request that has been sent already, whatever its limits are."""
        opened, period = work.opened, Period.at(work.opened.time, self._zone)
        scope = opened.key or NO_KEY
        self._begin(opened, period)
        row = self._known.ahead.get(advance_id(self._writer, scope, period.day))
        if row is not None:
            self._move(row, scope, period.day, -min(opened.reserved or 0, row[-1]))
        known = (None, False, work.limits) if opened.key is None else self._known.keys.get(opened.key)
        if known is None or known[0] is not None:
            self.granted.append((scope, period.day, 0, False))
        else:
            self._set_aside(opened, period, Limits() if known[1] else known[2])
        return Ticket(opened.id, opened)

    def _set_aside(self, opened: Opened, period: Period, limits: Limits) -> None:
        """Set enough aside for the next requests of a key, if it may have any."""
        scope, day = opened.key or NO_KEY, period.day
        windows = {name: self._known.window(scope, name) for name in period.names}
        want = wanted(limits, windows, period, opened.reserved or 0, self._came[scope])
        more = max(0, want - self._advances.left(scope, day)) if want else 0
        if more * 2 < want:
            more = 0
        if more:
            name = advance_id(self._writer, scope, day)
            self._move(
                self._known.ahead.setdefault(name, [name, self._writer, scope, day, period.month, 0]), scope, day, more
            )
        self.granted.append((scope, day, more, want > 0))

    def _move(self, row: list[Any], scope: str, day: str, nanos: int) -> None:
        row[-1] += nanos
        self._advanced.add(row[0])
        for period in (day, day[:7], TOTAL):
            window = self._known.window(scope, period)
            window.advanced += nanos
            self._counted.add(window.id)

    def _give_back(self, scope: str, day: str) -> int:
        """Return the rest of this process's advance to the key. Returns how much it was."""
        nanos = self._advances.release(scope, day)
        row = self._known.ahead.get(advance_id(self._writer, scope, day))
        if row is None:
            return 0
        self.released.append((scope, day, nanos))
        self._move(row, scope, day, -min(nanos, row[-1]))
        return nanos

    def _return(self, work: Return) -> None:
        self._give_back(work.scope, work.day)

    def _forfeit(self, work: Forfeit) -> None:
        row = self._known.ahead.get(work.id)
        if row is None:
            return
        nanos, period = row[-1], Period.at(work.now, self._zone)
        self._move(row, work.scope, work.day, -nanos)
        row[-1] = 0
        if not nanos:
            return
        opened = Opened(
            id=f"advance_{secrets.token_hex(8)}", asked="-", arm="-", endpoint="-", reserved=nanos, time=work.now,
            key=None if work.scope == NO_KEY else work.scope,
        )  # fmt: skip
        begun = self._begin(opened, msgspec.structs.replace(period, day=work.day, month=work.month))
        begun.note = "set aside for requests to come, by a gateway that is gone"
        self._expire(Expire(opened.id, work.scope, work.now))

    def _begin(self, opened: Opened, period: Period) -> Row:
        row = Row(
            id=opened.id, time=us(opened.time), day=period.day, month=period.month, minute=period.minute,
            writer=self._writer,
            state="open", key_id=opened.key, session=text(opened.session), preset=text(opened.preset),
            asked=text(opened.asked) or "", arm=text(opened.arm) or "", endpoint=opened.endpoint,
            reserved=opened.reserved or 0, reserved_tokens=opened.tokens,
            priced=int(opened.reserved is not None), price_version=opened.price_version,
            forecast_quality=opened.forecast_quality,
            forecast=opened.forecast, baseline=opened.baseline, baseline_cost=opened.baseline_cost,
            baseline_quality=opened.baseline_quality,
        )  # fmt: skip
        self._known.rows[row.id] = row
        self._changed[row.id] = True
        for window in self._of(row):
            window.begin(row.reserved, row.reserved_tokens)
        return row

    def _of(self, row: Row) -> list[Window]:
        """Return the windows in which a row counts, marked as changed."""
        found = [self._known.window(row.scope, period) for period in row.periods]
        self._counted.update(window.id for window in found)
        return found

    def _settle(self, work: Settle) -> Charge:
        row, settled = self._known.rows.get(work.ticket.id), work.settled
        if row is None:
            if work.ticket.recorded:
                raise UsageError(f"request {work.ticket.id!r} is not in the ledger")
            opened = work.ticket.opened
            row = self._begin(opened, Period.at(opened.time, self._zone))
        held = work.ticket.opened.preset if work.ticket.opened.pace is not None else None
        if row.state not in ("open", "unknown"):
            return Charge(row.cost or 0, repeated=True, pace=self._known.paces.get(held or ""))
        before = msgspec.structs.replace(row)
        usage = settled.usage
        row.state, row.cost, row.estimated = settled.state, settled.cost, int(settled.estimated)
        if usage is not None:
            row.input_tokens, row.cached_tokens, row.output_tokens = usage.input, usage.cached, usage.output
            row.cache_write_tokens, row.cache_write_1h_tokens = usage.cache_write, usage.cache_write_1h
            row.reasoning_tokens = usage.reasoning
        row.served = text(settled.served)
        row.attempts = settled.attempts
        row.note = text(settled.note or None)
        row.latency_us, row.ttft_us = (None if s is None else us(s) for s in (settled.latency_s, settled.ttft_s))
        charge = self._replace(before, row, work.now)
        if held is None:
            return charge
        answered = settled.cost or settled.state in ("done", "cut")  # one that failed for nothing has no part in a mean
        spent = (
            settled.cost / 1e9
            if settled.cost is not None and answered and self._known.paces[held].kind != "quality"
            else None
        )
        return msgspec.structs.replace(charge, pace=self._observe(held, spent, work.now))

    def _expire(self, work: Expire) -> Charge | None:
        row = self._known.rows.get(work.id)
        if row is None or row.state != "open":
            return None
        before = msgspec.structs.replace(row)
        row.state, row.cost, row.estimated = "unknown", row.reserved if row.priced else None, 1
        return self._replace(before, row, work.now)

    def _correct(self, work: Correct) -> Charge:
        row = self._known.rows.get(work.id)
        if row is None:
            raise UsageError(f"request {work.id!r} is not in the ledger")
        if row.state == "open":
            raise UsageError(f"request {work.id!r} is still under way: it is charged when it ends")
        before = msgspec.structs.replace(row)
        row.state, row.cost, row.estimated, row.priced = work.state, work.cost, 0, 1
        return self._replace(before, row, work.now)

    def _replace(self, before: Row, row: Row, now: float) -> Charge:
        """Count a changed row in its windows."""
        row.settled = us(now)
        cost = row.cost or 0
        self._changed.setdefault(row.id, False)
        for window in self._of(row):
            if before.state == "open":
                window.end(row.reserved, row.reserved_tokens, cost, row.tokens)
            else:
                window.correct(cost - (before.cost or 0), row.tokens - before.tokens)
        return Charge(cost, over=max(0, cost - row.reserved) if row.priced else 0)

    def _observe(
        self, name: str, observed: float | None, at: float, *, shift: float = 0.0, late_s: float = 0.0
    ) -> Pace:
        pace = self._known.paces[name]
        if observed is not None:
            pace = self._known.paces[name] = pace.after(observed, at, shift=shift, late_s=late_s)
            self._moved.add(name)
        return pace

    def _elsewhere(self, preset: str) -> tuple[int, float]:
        """Return (number, forecast cost in US dollars) of a preset's requests under way in other gateways."""
        ((n, nanos),) = self._database.rows(_ELSEWHERE, (preset, self._writer))
        return int(n), int(nanos) / 1e9

    def _score(self, work: RecordScore) -> ScoreResult:
        """Keep a client's score of an answer; a second score replaces the first."""
        row = self._known.rows.get(work.id)
        if row is None or (work.key is not None and row.key_id != work.key):
            raise UsageError(
                f"there is no request {work.id!r} of this key: its id is in the answer's header x-r2router-request-id"
            )
        name = row.preset or ""
        before = row.score
        if name in self._known.paces and row.id not in self._scores:  # as it stands now that its pace is held
            before = self._database.rows("SELECT score FROM requests WHERE id = ?", (row.id,))[0][0]
        self._scores[row.id] = row.score = work.score
        if name not in self._known.paces:
            return ScoreResult(row.preset)
        if before is None:
            expected = work.expected.get(name)
            shift = 0.0 if expected is None or row.forecast_quality is None else expected - row.forecast_quality
            late_s = work.now - row.time / 1e6
            return ScoreResult(name, self._observe(name, work.score, work.now, shift=shift, late_s=late_s))
        self._known.paces[name] = self._known.paces[name].instead(before, work.score)
        self._moved.add(name)
        return ScoreResult(name, self._known.paces[name])

    # -- writing ------------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        new = [msgspec.structs.astuple(self._known.rows[name]) for name, is_new in self._changed.items() if is_new]
        rows = [self._known.rows[name] for name, is_new in sorted(self._changed.items()) if not is_new]
        old = [(*(getattr(row, name) for name in SETTLED), row.id) for row in rows]
        added = [
            (name, *msgspec.structs.astuple(self._known.windows[name]))
            for name in sorted(self._counted - self._known.there)
        ]
        moved = [
            (*msgspec.structs.astuple(self._known.windows[name])[2:], name)
            for name in sorted(self._counted & self._known.there)
        ]
        ahead = [tuple(self._known.ahead[name]) for name in sorted(self._advanced)]
        scores = [(score, name) for name, score in sorted(self._scores.items())]
        paces = [(*msgspec.structs.astuple(self._known.paces[name]), name) for name in sorted(self._moved)]
        changes = (
            (INSERT, new),
            (UPDATE, old),
            (ADD_WINDOW, added),
            (_SET_WINDOW, moved),
            (_SET_PACE, paces),
            (_SET_SCORE, scores),
            (SET_ADVANCE, ahead),
        )
        self._database.writes([change for change in changes if change[1]])
        self._known.there |= self._counted
        self._known.end()
