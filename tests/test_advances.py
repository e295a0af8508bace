"""Money set aside ahead: requests do not wait for the disk, and spent + reserved + set aside is never above a limit."""

from __future__ import annotations

import asyncio
import random
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from r2router.errors import KeyRefused, LedgerDown, OverBudget, Refused
from r2router.gateway.keys import Keys
from r2router.gateway.ledger import Ledger, Limits, Ticket
from r2router.gateway.ledger.advances import ahead_of
from r2router.gateway.ledger.database import Failed, SQLite, connect
from test_ledger import CENT, USD, ask, check_books, done, eventually, opened


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "ledger.db") if request.param == "sqlite" else request.getfixturevalue("postgres").new()


def check_ahead(where: str) -> None:
    """In one snapshot: windows know all that is set aside, and with it nothing is above its limit."""
    check_books(lambda *q: ask(where, *q))
    total = (
        "(SELECT coalesce(sum(nanos), 0) FROM advances a WHERE a.scope = w.scope AND (w.period = 'total' OR a.day ="
        " w.period))"
    )
    query = f"SELECT w.id FROM windows w WHERE (w.period = 'total' OR length(w.period) = 10) AND w.advanced <> {total}"
    assert ask(where, query) == []
    over = (
        "SELECT w.id FROM windows w JOIN keys k ON k.id = w.scope WHERE w.period = 'total' AND spent + reserved +"
        " advanced > k.total_nanos"
    )
    assert ask(where, over) == []


async def begin(ledger: Ledger, names: str, key: str | None = None, reserved: int = CENT) -> list[Ticket]:
    return [await ledger.begin(opened(name, reserved, key=key)) for name in names]


def test_the_third_request_does_not_wait_and_is_written_all_the_same(where: str) -> None:
    key, _ = Keys(where).make("k", Limits(total_nanos=1000 * USD, day_nanos=900 * USD))

    async def run(ledger: Ledger) -> None:
        first, *_ = tickets = await begin(ledger, "xabc", key.id)
        later = [ticket.written for ticket in tickets[2:] if ticket.written is not None]
        assert first.written is None and len(later) == 2
        await asyncio.gather(*later)
        assert ask(where, "SELECT count(*) FROM requests WHERE state = 'open'") == [(4,)]
        check_ahead(where)
        for ticket in tickets:
            assert (await ledger.settle(ticket, done(7))).cost == 7
        check_ahead(where)

    with Ledger.at(where) as ledger:
        asyncio.run(run(ledger))
        assert ask(where, "SELECT reserved, advanced FROM windows WHERE period = 'total'")[0][0] == 0
    # given back at the end
    assert ask(where, "SELECT spent, reserved, advanced, open FROM windows WHERE period = 'total'") == [(28, 0, 0, 0)]


def test_it_is_given_back_when_nobody_uses_it(where: str) -> None:
    key, _ = Keys(where).make("k", Limits(total_nanos=1000 * USD))

    async def run(ledger: Ledger) -> None:
        for ticket in await begin(ledger, "abc", key.id):
            await ledger.settle(ticket, done(1))

    with Ledger.at(where) as ledger:
        asyncio.run(run(ledger))
        assert ask(where, "SELECT advanced FROM windows WHERE period = 'total'")[0][0] > 0
        eventually(lambda: ask(where, "SELECT advanced FROM windows WHERE period = 'total'") == [(0,)])
        check_ahead(where)


@pytest.mark.parametrize(
    "limits", [{"total_nanos": 7 * CENT}, {"total_nanos": 7 * CENT, "day_nanos": 8 * CENT}, {"month_nanos": 7 * CENT}]
)
def test_money_for_seven_calls_makes_seven(where: str, limits: dict[str, int]) -> None:
    key, _ = Keys(where).make("k", Limits(**limits))

    async def run(ledger: Ledger) -> int:
        made = 0
        for number in range(12):
            try:
                ticket = await ledger.begin(opened(str(number), key=key.id))
            except OverBudget:
                continue
            made += 1
            await ledger.settle(ticket, done(CENT))
        return made

    with Ledger.at(where) as ledger:
        assert asyncio.run(run(ledger)) == 7
    check_ahead(where)


def test_what_is_set_aside_is_spent_before_a_request_is_refused(where: str) -> None:
    """An advance is never the reason of a refusal in its own process."""
    key, _ = Keys(where).make("k", Limits(total_nanos=3000))

    async def run(ledger: Ledger) -> None:
        await begin(ledger, "ab", key.id, reserved=1)  # some are set aside
        assert ask(where, "SELECT advanced > 0 FROM windows WHERE period = 'total'") in ([(1,)], [(True,)])
        await ledger.begin(opened("large", 2998, key=key.id))
        check_ahead(where)

    with Ledger.at(where) as ledger:
        asyncio.run(run(ledger))


@pytest.mark.parametrize("limits", [{"minute_requests": 99}, {"minute_tokens": 10**9}, {"concurrent": 50}])
def test_keys_that_count_requests_get_none(where: str, limits: dict[str, int]) -> None:
    key, _ = Keys(where).make("k", Limits(**limits))
    with Ledger.at(where) as ledger:
        assert [ticket.written for ticket in asyncio.run(begin(ledger, "abc", key.id))] == [None] * 3


def test_a_key_that_has_ended_is_refused(where: str) -> None:
    keys = Keys(where)
    key, _ = keys.make("k")

    async def run(ledger: Ledger) -> None:
        await begin(ledger, "abc", key.id)
        keys.end(key.id)
        await asyncio.sleep(0.4)
        with pytest.raises(KeyRefused):
            await ledger.begin(opened("d", key=key.id))

    with Ledger.at(where) as ledger:
        asyncio.run(run(ledger))


def test_what_a_crash_leaves_of_it_is_charged(where: str) -> None:
    key, _ = Keys(where).make("k", Limits(total_nanos=10**6 * USD))
    gone = Ledger.at(where, lease_s=1000.0)
    tickets = asyncio.run(begin(gone, "ab", key.id))
    eventually(lambda: ask(where, "SELECT count(*) FROM requests") == [(2,)])
    database = connect(where)  # as if its lease had passed
    database.begin()
    database.rows("UPDATE writers SET leased_until = 0")
    database.commit()
    database.close()
    with Ledger.at(where):
        eventually(lambda: ask(where, "SELECT count(*) FROM requests WHERE state = 'unknown'") == [(3,)])
        check_ahead(where)
        assert ask(where, "SELECT spent, reserved, advanced FROM windows WHERE period = 'total'") == [
            ((ahead_of(1) + 2) * CENT, 0, 0)
        ]
        gone.settle_now(tickets[0], done(5))  # it was not gone after all
        check_ahead(where)
    gone.close()
    check_ahead(where)


def test_many_at_once_in_two_gateways_keep_the_invariant(where: str) -> None:
    keys = [
        Keys(where).make(f"k{n}", Limits(total_nanos=limit))[0].id for n, limit in enumerate((40 * CENT, 5000 * CENT))
    ]
    stop, failed = threading.Event(), list[BaseException]()

    def sample() -> None:
        try:
            while not stop.is_set():
                check_ahead(where)
        except BaseException as error:  # noqa: BLE001  told to the test below
            failed.append(error)

    async def client(ledger: Ledger, name: str) -> None:
        rng = random.Random(name)
        for number in range(12):
            try:
                ticket = await ledger.begin(opened(f"{name}-{number}", key=rng.choice(keys)))
            except Refused:
                continue
            await asyncio.sleep(rng.random() * 0.01)
            await ledger.settle(ticket, done(rng.randrange(CENT)))

    async def run(ledger: Ledger, name: str) -> None:
        await asyncio.gather(*(client(ledger, f"{name}{number}") for number in range(12)))

    watcher = threading.Thread(target=sample)
    watcher.start()
    with Ledger.at(where) as one, Ledger.at(where) as two:
        threads: list[Any] = [
            threading.Thread(target=lambda at=at, name=name: asyncio.run(run(at, name)))
            for at, name in ((one, "a"), (two, "b"))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    stop.set()
    watcher.join()
    assert not failed, failed
    check_ahead(where)
    assert ask(where, "SELECT sum(advanced), sum(open) FROM windows") == [(0, 0)]


def test_an_advance_is_of_its_day(where: str) -> None:
    """A month ends: what was set aside before is for nobody after, and goes back where it was taken from."""
    key, _ = Keys(where).make("k", Limits(total_nanos=1000 * USD, day_nanos=100 * USD, month_nanos=500 * USD))
    before, after = (datetime(2026, month, day, 12, tzinfo=UTC).timestamp() for month, day in ((1, 31), (2, 1)))

    async def run(ledger: Ledger) -> None:
        tickets = [await ledger.begin(opened(name, key=key.id, time=before)) for name in "abc"]
        assert tickets[2].written is not None
        late = await ledger.begin(opened("d", key=key.id, time=after))
        assert late.written is None
        for ticket in (*tickets, late):
            await ledger.settle(ticket, done(1))

    with Ledger.at(where) as ledger:
        asyncio.run(run(ledger))
    check_ahead(where)
    spent = dict(ask(where, "SELECT period, spent FROM windows WHERE length(period) = 10"))
    assert spent == {"2026-01-31": 3, "2026-02-01": 1} and ask(where, "SELECT sum(advanced) FROM windows") == [(0,)]


def test_what_was_sent_while_the_disk_was_full_is_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = str(tmp_path / "l.db")
    key, _ = Keys(where).make("k", Limits(total_nanos=1000 * USD))
    full = threading.Event()
    commit = SQLite.commit

    def fails(self: SQLite) -> None:
        if full.is_set():
            raise Failed("database or disk is full", down=True)
        commit(self)

    monkeypatch.setattr(SQLite, "commit", fails)

    async def run(ledger: Ledger) -> None:
        await begin(ledger, "ab", key.id)
        full.set()
        drawn = await ledger.begin(opened("c", key=key.id))  # its money was set aside
        assert drawn.written is not None and (await ledger.settle(drawn, done(5))).later
        with pytest.raises(LedgerDown):
            await ledger.begin(opened("d", 10**6 * CENT, key=key.id))
        full.clear()

    with Ledger.at(where) as ledger:
        asyncio.run(run(ledger))
        eventually(lambda: ask(where, "SELECT cost FROM requests WHERE id = 'c'") == [(5,)])
        check_ahead(where)
