"""The ledger: at every moment spent + reserved is at most the limit, and the windows are the sums of the rows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from r2router.errors import ConfigError, KeyRefused, LedgerDown, LedgerError, OverBudget, OverRate, Refused, UsageError
from r2router.gateway.keys import Keys
from r2router.gateway.ledger import Charge, Ledger, Limits, Opened, Settled, Ticket
from r2router.gateway.ledger.database import Failed, SQLite, connect, migrate, migrations
from r2router.gateway.ledger.windows import Period, dollars
from r2router.gateway.pacing import Pace
from r2router.upstream.usage import Usage

USD = 10**9
CENT = USD // 100


def opened(name: str, reserved: int | None = CENT, **more: Any) -> Opened:
    return Opened(id=name, asked="auto", arm="m@low", endpoint="/v1/chat/completions", reserved=reserved, **more)


def done(cost: int | None = CENT, **more: Any) -> Settled:
    return Settled(state="done", cost=cost, **more)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return str(tmp_path / "ledger.db")


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, file: str) -> str:
    return file if request.param == "sqlite" else request.getfixturevalue("postgres").new()


@pytest.fixture
def ledger(where: str) -> Iterator[Ledger]:
    with Ledger.at(where) as made:
        yield made


def ask(where: str, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    database = connect(where, write=False)
    try:
        return database.rows(statement, parameters)
    finally:
        database.close()


SUMS = """
SELECT coalesce(key_id, '-') || '/' || {period},
  sum(CASE WHEN state = 'open' THEN 0 ELSE coalesce(cost, 0) END), sum(CASE WHEN state = 'open' THEN reserved ELSE 0 END),
  count(*), sum(CASE WHEN state = 'open' THEN 1 ELSE 0 END),
  sum(CASE state WHEN 'open' THEN 0 WHEN 'unknown' THEN reserved_tokens ELSE coalesce(input_tokens, 0) + coalesce(output_tokens, 0) END),
  sum(CASE WHEN state = 'open' THEN reserved_tokens ELSE 0 END)
FROM requests GROUP BY 1
"""


def check_books(query: Callable[..., list[tuple[Any, ...]]]) -> None:
    """The invariant, in one snapshot: windows are the sums of the rows, and within the limits of their keys."""
    union = " UNION ALL ".join(SUMS.format(period=period) for period in ("day", "month", "minute", "'total'"))
    both = f"""SELECT 's', * FROM ({union}) a UNION ALL
        SELECT 'w', id, spent, reserved, requests, open, tokens, reserved_tokens FROM windows w"""
    rows = query(both)
    sums = {tuple(int(x) if i else x for i, x in enumerate(row[1:])) for row in rows if row[0] == "s"}
    windows = {tuple(row[1:]) for row in rows if row[0] == "w" and row[4] > 0}
    assert sums == windows, sums ^ windows
    over = query(
        "SELECT w.id, w.spent, w.reserved FROM windows w JOIN keys k ON k.id = w.scope WHERE k.shadow = 0 AND w.spent +"
        " w.reserved > CASE WHEN w.period = 'total' THEN k.total_nanos WHEN length(w.period) = 10 THEN k.day_nanos WHEN"
        " length(w.period) = 7 THEN k.month_nanos END"
    )
    assert not over


# -- one request ------------------------------------------------------------------------------------------------------


def test_a_request_is_reserved_then_charged_what_it_cost(ledger: Ledger, where: str) -> None:
    ticket = ledger.open_now(
        opened("a", 5 * CENT, tokens=100, session="s", preset="auto:cheap", forecast=3, forecast_quality=0.8)
    )
    assert ask(where, "SELECT spent, reserved, open FROM windows WHERE id = '-/total'") == [(0, 5 * CENT, 1)]
    usage = Usage(10, 20, 3, 4, 5, 1)
    charge = ledger.settle_now(
        ticket, done(2 * CENT, usage=usage, latency_s=1.5, ttft_s=0.25, served="n@high", attempts=2)
    )
    assert charge == Charge(2 * CENT)
    assert ask(where, "SELECT spent, reserved, open, tokens FROM windows WHERE id = '-/total'") == [
        (2 * CENT, 0, 0, 30)
    ]
    fields = (
        "state, cost, input_tokens, cached_tokens, cache_write_tokens, cache_write_1h_tokens, output_tokens,"
        " reasoning_tokens"
    )
    assert ask(where, f"SELECT {fields} FROM requests") == [("done", 2 * CENT, 10, 3, 5, 1, 20, 4)]
    more = "session, preset, served, attempts, latency_us, ttft_us, forecast, forecast_quality"
    assert ask(where, f"SELECT {more} FROM requests") == [("s", "auto:cheap", "n@high", 2, 1_500_000, 250_000, 3, 0.8)]
    check_books(lambda *q: ask(where, *q))


def test_a_gateway_knows_what_is_under_way_in_others(ledger: Ledger, where: str) -> None:
    tickets = [ledger.open_now(opened(name, preset="auto:x", forecast=CENT)) for name in ("a", "b")]
    ledger.open_now(opened("c", preset="auto:y", forecast=CENT))
    ledger.open_now(opened("d", preset="auto:x"))  # no forecast
    with Ledger.at(where) as other:
        assert asyncio.run(other.elsewhere("auto:x")) == (3, 0.02)
        assert asyncio.run(ledger.elsewhere("auto:x")) == (0, 0.0)
        ledger.settle_now(tickets[0], done(CENT))
        assert asyncio.run(other.elsewhere("auto:x")) == (2, 0.01)


def test_a_late_score_moves_a_target_by_what_the_answer_would_score_now(ledger: Ledger, where: str) -> None:
    begun = Pace.of("quality", 0.8, 0.01)
    for name in ("a", "b"):
        ledger.settle_now(ledger.open_now(opened(name, preset="auto:x", forecast_quality=0.6)), done(CENT))
    first = asyncio.run(ledger.score("a", None, 0.8, {"auto:x": begun}, {"auto:x": 0.6})).pace
    assert first is not None and first.log_value == pytest.approx(begun.log_value)  # on target, and as forecast
    second = asyncio.run(ledger.score("b", None, 0.8, {"auto:x": begun}, {"auto:x": 0.7})).pace
    assert second is not None and second.log_value < first.log_value  # by now answers are better than that
    assert (second.n, second.mean, second.pending) == (2, pytest.approx(0.8), pytest.approx(0.0))


def test_settling_twice_charges_once(ledger: Ledger, where: str) -> None:
    ticket = ledger.open_now(opened("a"))
    ledger.settle_now(ticket, done(7))
    assert ledger.settle_now(ticket, done(9)) == Charge(7, repeated=True)
    assert ask(where, "SELECT spent FROM windows WHERE id = '-/total'") == [(7,)]


def test_an_id_is_used_once(ledger: Ledger) -> None:
    ledger.open_now(opened("a"))
    with pytest.raises(UsageError, match="id of its own"):
        ledger.open_now(opened("a"))
    with pytest.raises(UsageError, match="1 to 200"):
        ledger.open_now(opened(""))


@pytest.mark.parametrize("cost", [-1, 10**18, 0.5, True])
def test_a_cost_is_a_whole_number(ledger: Ledger, cost: Any) -> None:
    ticket = ledger.open_now(opened("a"))
    with pytest.raises(UsageError, match="whole number"):
        ledger.settle_now(ticket, done(cost))


def test_a_request_without_a_price_has_no_cost_rather_than_none(ledger: Ledger, where: str) -> None:
    ledger.settle_now(ledger.open_now(opened("a", None)), done(None))
    assert ask(where, "SELECT priced, cost FROM requests") == [(0, None)]


# -- limits -----------------------------------------------------------------------------------------------------------


def test_a_key_with_money_for_seven_calls_makes_seven(ledger: Ledger, where: str) -> None:
    key, _ = Keys(where).make("k", Limits(total_nanos=7 * CENT + CENT - 1))
    made, refused = 0, None
    for number in range(20):
        try:
            ticket = ledger.open_now(opened(str(number), key=key.id))
            made += 1
            ledger.settle_now(ticket, done())
        except OverBudget as error:
            refused = error
    assert made == 7
    assert refused is not None and refused.status == 402 and refused.retry_after is None


def test_a_refusal_says_limit_spent_in_flight_and_when_it_resets(where: str) -> None:
    now = datetime(2026, 1, 31, 23, 59, 30, tzinfo=UTC).timestamp()
    with Ledger.at(where, limits=Limits(month_nanos=10 * CENT)) as ledger:
        ledger.settle_now(ledger.open_now(opened("a", 8 * CENT, time=now)), done(6 * CENT))
        ledger.open_now(opened("b", 3 * CENT, time=now))
        with pytest.raises(
            OverBudget, match=r"may spend \$0.10 per month: \$0.06 is spent, \$0.03 is in flight"
        ) as caught:
            ledger.open_now(opened("c", 2 * CENT, time=now))
        assert (caught.value.code, caught.value.retry_after) == ("in_flight_budget_exhausted", 1)
        with pytest.raises(OverBudget, match="resets at 2026-02-01T00:00:00") as caught:
            ledger.open_now(opened("c", 5 * CENT, time=now))
    assert (caught.value.code, caught.value.retry_after) == ("budget_exceeded", 30)
    assert caught.value.details == {
        "window": "month", "limit_usd": "0.10", "spent_usd": "0.06", "in_flight_usd": "0.03", "request_usd": "0.05",
        "resets_at": "2026-02-01T00:00:00+00:00", "time_zone": "UTC",
    }  # fmt: skip


def test_a_budget_below_the_most_expensive_call_is_refused_with_that_number(where: str) -> None:
    with (
        Ledger.at(where, limits=Limits(day_nanos=CENT)) as ledger,
        pytest.raises(OverBudget, match=r"up to \$0.0100000\d*1; that is more than the whole limit") as caught,
    ):
        ledger.open_now(opened("a", CENT + 1))
    assert caught.value.code == "request_exceeds_budget" and caught.value.retry_after is None


@pytest.mark.parametrize("name", Limits.__struct_fields__)
def test_a_limit_of_zero_refuses_everything(where: str, name: str) -> None:
    with Ledger.at(where, limits=Limits(**{name: 0})) as ledger, pytest.raises((OverBudget, OverRate)):
        ledger.open_now(opened("a", 1, tokens=1))


@pytest.mark.parametrize("name", Limits.__struct_fields__)
def test_a_negative_limit_is_an_error(name: str) -> None:
    with pytest.raises(ConfigError, match=f"limit {name} is -1"):
        Limits(**{name: -1})


def test_requests_tokens_and_calls_at_once_are_limited_by_the_minute(where: str) -> None:
    now = datetime(2026, 3, 1, 12, 0, 50, tzinfo=UTC).timestamp()
    with Ledger.at(where, limits=Limits(minute_requests=3, minute_tokens=100, concurrent=2)) as ledger:
        first = ledger.open_now(opened("a", tokens=60, time=now))
        with pytest.raises(OverRate, match="100 tokens per minute; 60 are used") as caught:
            ledger.open_now(opened("b", tokens=50, time=now))
        assert caught.value.status == 429 and caught.value.retry_after == 10
        assert caught.value.details["resets_at"] == "2026-03-01T12:01:00+00:00"
        ledger.settle_now(first, done(usage=Usage(5, 5)))
        ledger.open_now(opened("b", tokens=50, time=now))
        ledger.open_now(opened("c", tokens=1, time=now))
        with pytest.raises(OverRate, match="2 requests in progress") as caught:
            ledger.open_now(opened("d", tokens=1, time=now + 20))
        assert caught.value.code == "concurrency_limit_exceeded"
        ledger.settle_now(Ticket("c", opened("c")), done(0))
        with pytest.raises(OverRate, match="3 requests per minute"):
            ledger.open_now(opened("d", time=now))
        ledger.open_now(opened("d", time=now + 20))


def test_a_price_that_is_not_known_refuses_a_key_with_a_budget_alone(ledger: Ledger, where: str) -> None:
    keys = Keys(where)
    poor, _ = keys.make("poor", Limits(day_nanos=USD))
    free, _ = keys.make("free", Limits(minute_requests=5))
    with pytest.raises(OverBudget, match="price of m@low is not known") as caught:
        ledger.open_now(opened("a", None, key=poor.id))
    assert caught.value.code == "price_unknown"
    ledger.open_now(opened("b", None, key=free.id))


def test_a_shadow_key_counts_and_refuses_nothing(ledger: Ledger, where: str) -> None:
    key, _ = Keys(where).make("k", Limits(day_nanos=0, minute_requests=0, concurrent=0), shadow=True)
    ledger.settle_now(ledger.open_now(opened("a", key=key.id)), done())
    assert ask(where, "SELECT spent, requests FROM windows WHERE id = ?", f"{key.id}/total") == [(CENT, 1)]


def test_a_key_that_ends_in_the_middle_of_a_stream_is_charged_for_it_and_refused_after(
    ledger: Ledger, where: str
) -> None:
    keys = Keys(where)
    key, _ = keys.make("k", Limits(day_nanos=USD))
    ticket = ledger.open_now(opened("a", key=key.id))
    keys.end(key.id)
    with pytest.raises(KeyRefused, match="has ended"):
        ledger.open_now(opened("b", key=key.id))
    assert ledger.settle_now(ticket, done()) == Charge(CENT)
    with pytest.raises(KeyRefused, match="not known"):
        ledger.open_now(opened("c", key="k_nobody"))


def test_usage_above_the_bound_is_counted_and_alarmed(
    ledger: Ledger, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    charge = ledger.settle_now(ledger.open_now(opened("a", 5)), done(12))
    assert charge == Charge(12, over=7)
    assert "7 nano-dollars more than its bound" in caplog.text
    assert ask(where, "SELECT spent FROM windows WHERE id = '-/total'") == [(12,)]


def test_prices_that_change_in_the_middle_leave_the_row_its_own(ledger: Ledger, where: str) -> None:
    ticket = ledger.open_now(opened("a", 10, price_version="p1"))
    ledger.open_now(opened("b", 20, price_version="p2"))
    assert ledger.settle_now(ticket, done(20)).over == 10
    assert ask(where, "SELECT id, price_version, reserved FROM requests ORDER BY id") == [
        ("a", "p1", 10),
        ("b", "p2", 20),
    ]


# -- clocks -----------------------------------------------------------------------------------------------------------


def test_a_month_that_ends_between_reserve_and_settle(where: str) -> None:
    before = datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC).timestamp()
    with Ledger.at(where, limits=Limits(month_nanos=CENT), clock=lambda: before + 5) as ledger:
        ticket = ledger.open_now(opened("a", time=before))
        ledger.open_now(opened("b", time=before + 2))  # a new month, which has its money
        ledger.settle_now(ticket, done(3))
    assert ask(where, "SELECT period, spent, reserved FROM windows WHERE length(period) = 7 ORDER BY period") == [
        ("2026-01", 3, 0), ("2026-02", 0, CENT),
    ]  # fmt: skip
    check_books(lambda *q: ask(where, *q))


def test_a_clock_that_jumps_loses_nothing(where: str) -> None:
    rng = random.Random(7)
    now = datetime(2026, 6, 1, tzinfo=UTC).timestamp()
    with Ledger.at(where, limits=Limits(day_nanos=10 * CENT), clock=lambda: now) as ledger:
        waiting = []
        for number in range(60):
            now += rng.choice((-90_000, -1, 0, 1, 90_000))
            try:
                waiting.append(ledger.open_now(opened(str(number), time=now)))
            except OverBudget:
                continue
            if rng.random() < 0.5:
                ledger.settle_now(waiting.pop(rng.randrange(len(waiting))), done(rng.randrange(CENT)))
    check_books(lambda *q: ask(where, *q))
    assert all(
        row[0] <= 10 * CENT for row in ask(where, "SELECT spent + reserved FROM windows WHERE length(period) = 10")
    )


def test_days_begin_in_the_ledgers_zone(tmp_path: Path) -> None:
    moment = datetime(2026, 1, 31, 12, 30, tzinfo=UTC).timestamp()
    for zone, day in (("UTC", "2026-01-31"), ("Pacific/Auckland", "2026-02-01")):  # UTC+13 in January
        path = tmp_path / f"{day}.db"
        with Ledger.at(path, zone=zone) as ledger:
            ledger.open_now(opened("a", time=moment))
        assert ask(str(path), "SELECT day, month FROM requests") == [(day, day[:7])]
    with pytest.raises(LedgerError, match="counts days in Pacific/Auckland, not in UTC"):
        Ledger.at(path, zone="UTC")
    with pytest.raises(ConfigError, match="Mars/Phobos"):
        Ledger.at(tmp_path / "x.db", zone="Mars/Phobos")


def test_the_hour_that_comes_twice_has_its_minutes_twice() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()
    assert Period.at(first, berlin).minute != Period.at(first + 3600, berlin).minute
    assert Period.at(first, berlin).day == Period.at(first + 3600, berlin).day == "2026-10-25"


# -- a crash, and a database that is not there ------------------------------------------------------------------------


def eventually(true: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_what_a_crash_left_open_is_charged_at_its_reservation_and_can_be_corrected(where: str) -> None:
    code = (
        "import os, sys; from r2router.gateway.ledger import *\n"
        "ledger = Ledger.at(sys.argv[1], lease_s=0.3)\n"
        "ledger.open_now(Opened(id='a', asked='auto', arm='m', endpoint='c', reserved=50, tokens=9)); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, where], timeout=60, check=False).returncode == 9
    with Ledger.at(where, lease_s=0.3) as ledger:
        eventually(lambda: ask(where, "SELECT state FROM requests") == [("unknown",)])
        assert ask(where, "SELECT cost, estimated FROM requests") == [(50, 1)]
        check_books(lambda *q: ask(where, *q))
        assert ledger.correct_now("a", None, 20) == Charge(20)
        check_books(lambda *q: ask(where, *q))
        assert ask(where, "SELECT spent, tokens FROM windows WHERE id = '-/total'") == [(20, 0)]
        ledger.open_now(opened("b"))
        with pytest.raises(UsageError, match="under way"):
            ledger.correct_now("b", None, 20)
        with pytest.raises(UsageError, match="not in the ledger"):
            ledger.correct_now("zzz", None, 20)


def test_a_late_answer_takes_the_place_of_what_was_charged_for_it(where: str) -> None:
    with Ledger.at(where, lease_s=0.3, longest_s=0.2) as ledger:
        ticket = ledger.open_now(opened("a", 50, tokens=9))
        eventually(lambda: ask(where, "SELECT state FROM requests") == [("unknown",)])
        assert ledger.settle_now(ticket, done(20, usage=Usage(1, 1))) == Charge(20)
    assert ask(where, "SELECT spent, reserved, tokens FROM windows WHERE id = '-/total'") == [(20, 0, 2)]


def test_a_full_disk_refuses_and_loses_no_settlement(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger.at(file) as ledger:
        tickets = [ledger.open_now(opened(str(number))) for number in range(90)]
        connection = ledger._writer._database._connection  # type: ignore[union-attr]
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages}")  # SQLite itself now says that the disk is full
        wide = "x" * 5000
        with pytest.raises(LedgerDown, match=r"full.*nothing was sent upstream"):
            ledger.open_now(opened("b", session=wide))
        # rows grow, until they need a page more
        charges = [ledger.settle_now(ticket, done(5, note=wide)) for ticket in tickets]
        later = sum(charge.later for charge in charges)
        assert 0 < later == ledger.waiting
        assert ask(file, "SELECT reserved FROM windows WHERE id = '-/total'") == [(later * CENT,)]
        connection.execute("PRAGMA max_page_count = 1000000")
        eventually(lambda: ledger.waiting == 0)
    assert ask(file, "SELECT spent, reserved, open FROM windows WHERE id = '-/total'") == [(450, 0, 0)]
    check_books(lambda *q: ask(file, *q))


def test_a_read_only_database(file: str) -> None:
    with Ledger.at(file) as ledger:
        ticket = ledger.open_now(opened("a"))
        connection = ledger._writer._database._connection  # type: ignore[union-attr]
        connection.execute("PRAGMA query_only = 1")
        with pytest.raises(LedgerDown, match="readonly"):
            ledger.open_now(opened("b"))
        connection.execute("PRAGMA query_only = 0")
        ledger.settle_now(ticket, done())
    if os.getuid() != 0:  # nothing is read-only to root
        Path(file).chmod(stat.S_IRUSR)
        with pytest.raises(LedgerError, match="cannot be used as a ledger"):
            Ledger.at(file)


def test_while_it_is_down_requests_without_a_limit_may_be_let_through_and_are_written_later(file: str) -> None:
    with Ledger.at(file, when_down="allow") as ledger:
        key, _ = Keys(file).make("k", Limits(day_nanos=USD))
        connection = ledger._writer._database._connection  # type: ignore[union-attr]
        connection.execute("PRAGMA query_only = 1")
        ticket = ledger.open_now(opened("a"))
        assert not ticket.recorded
        with pytest.raises(LedgerDown):
            ledger.open_now(opened("b", key=key.id))
        assert ledger.settle_now(ticket, done(5)).later
        connection.execute("PRAGMA query_only = 0")
        eventually(lambda: ledger.waiting == 0)
    assert ask(file, "SELECT id, state, cost FROM requests") == [("a", "done", 5)]
    check_books(lambda *q: ask(file, *q))


def test_a_newer_ledger_is_refused_and_what_is_none_as_well(file: str, tmp_path: Path) -> None:
    Ledger.at(file).close()
    with contextlib.closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("INSERT INTO schema_version VALUES (9999, 0)")
    with pytest.raises(LedgerError, match="version 9999"):
        Ledger.at(file)
    text = tmp_path / "text.db"
    text.write_text("not a database, and long enough to be read as one\n" * 100)
    with pytest.raises(LedgerError, match="cannot be used as a ledger"):
        Ledger.at(text)
    other = tmp_path / "other.db"
    with contextlib.closing(sqlite3.connect(other)) as connection, connection:
        connection.execute("CREATE TABLE mine (x)")
    with pytest.raises(LedgerError, match="not a ledger"):
        Ledger.at(other)
    with pytest.raises(LedgerError, match="cannot be used"):
        Ledger.at(tmp_path / "no" / "folder.db")


def test_migrations_are_numbered_without_a_gap_and_a_broken_one_changes_nothing(file: str) -> None:
    assert [number for number, _ in migrations()] == list(range(1, len(migrations()) + 1))
    Ledger.at(file).close()
    database = SQLite(file)
    before = database.rows("SELECT * FROM schema_version")
    with pytest.raises(Exception, match="nonsense"):
        migrate(database, [*migrations(), (len(migrations()) + 1, "CREATE TABLE fine (x BIGINT);\nnonsense here;\n")])
    assert database.rows("SELECT * FROM schema_version") == before
    assert database.rows("SELECT name FROM sqlite_master WHERE name = 'fine'") == []
    database.close()


def test_connections_that_break_are_made_again(postgres: Any) -> None:
    where = postgres.new()
    with Ledger.at(where) as ledger:
        ticket = ledger.open_now(opened("a"))
        postgres.disconnect(where)
        charge = ledger.settle_now(ticket, done(5))
        assert charge.later
        eventually(lambda: ledger.waiting == 0)
        ledger.open_now(opened("b"))
    assert ask(where, "SELECT spent, reserved FROM windows WHERE id = '-/total'") == [(5, CENT)]
    check_books(lambda *q: ask(where, *q))


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg", reason="a ledger on PostgreSQL needs the [postgres] extra")
    with pytest.raises(LedgerError, match="127.0.0.1:9/x: cannot be used as a ledger") as caught:
        Ledger.at("postgresql://me:hush@127.0.0.1:9/x")
    assert "hush" not in str(caught.value)


def test_words_of_clients_that_no_database_takes_are_mended(ledger: Ledger, where: str) -> None:
    ledger.open_now(opened("a", session="s\0\ud800" + "x" * 5000, preset="p\0"))
    assert ask(where, "SELECT length(session), preset FROM requests") == [(1000, "p?")]


def test_only_its_owner_may_read_the_file(file: str) -> None:
    Ledger.at(file).close()
    assert stat.S_IMODE(Path(file).stat().st_mode) == 0o600


@pytest.mark.parametrize("write", [True, False])
def test_what_is_no_file_is_no_ledger(tmp_path: Path, write: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), Path("/dev/null"), tmp_path):
        with pytest.raises(LedgerError, match="pipe|device|folder|no such ledger"):
            SQLite(path, write=write)


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_a_link_that_lies_beside_the_ledger_is_not_followed(file: str, suffix: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    Path(file + suffix).symlink_to(victim)
    with (
        contextlib.suppress(LedgerError),
        contextlib.closing(SQLite(file)) as database,
        contextlib.suppress(LedgerError, Failed),
    ):
        migrate(database)
    assert victim.read_text() == "mine"


# -- asyncio ----------------------------------------------------------------------------------------------------------


def test_tasks_share_commits(ledger: Ledger, where: str) -> None:
    async def one(number: int) -> None:
        await ledger.settle(await ledger.open(opened(str(number))), done())

    async def many() -> None:
        await asyncio.gather(*(one(number) for number in range(200)))

    asyncio.run(many())
    assert ask(where, "SELECT spent, open FROM windows WHERE id = '-/total'") == [(200 * CENT, 0)]
    assert ledger._writer.batches < 200


def test_a_client_that_leaves_before_its_request_is_open_leaves_no_reservation(ledger: Ledger, where: str) -> None:
    async def leave() -> None:
        tasks = [asyncio.create_task(ledger.open(opened(str(number)))) for number in range(20)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.3)

    asyncio.run(leave())
    eventually(lambda: ask(where, "SELECT coalesce(sum(open), 0) FROM windows") == [(0,)])
    assert {row[0] for row in ask(where, "SELECT state FROM requests")} <= {"cancelled"}


# -- many at once -----------------------------------------------------------------------------------------------------


def test_sixty_four_threads_keep_the_invariant_at_every_sampled_moment(ledger: Ledger, where: str) -> None:
    keys = Keys(where)
    names = [keys.make(f"k{n}", Limits(day_nanos=9 * CENT, total_nanos=12 * CENT))[0].id for n in range(3)]
    counts: dict[str, int] = dict.fromkeys(names, 0)
    lock, stop = threading.Lock(), threading.Event()

    def client(seed: int) -> None:
        rng = random.Random(seed)
        for number in range(8):
            key = rng.choice(names)
            try:
                ticket = ledger.open_now(opened(f"{seed}-{number}", key=key))
            except OverBudget:
                continue
            with lock:
                counts[key] += 1
            ledger.settle_now(ticket, done(rng.randrange(CENT + 1)))

    samples = 0

    def sampler() -> None:
        nonlocal samples
        while not stop.is_set():
            check_books(lambda *q: ask(where, *q))
            samples += 1

    watcher = threading.Thread(target=sampler)
    watcher.start()
    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    watcher.join()
    assert samples > 0
    check_books(lambda *q: ask(where, *q))
    for key in names:
        rows = ask(where, "SELECT count(*) FROM requests WHERE key_id = ?", key)
        assert rows == [(counts[key],)] and counts[key] >= 9


_SEVEN = """
import sys
from r2router.errors import OverBudget
from r2router.gateway.ledger import *
where, key, name = sys.argv[1:]
made = 0
with Ledger.at(where) as ledger:
    for number in range(9):
        try:
            ticket = ledger.open_now(Opened(id=f"{name}-{number}", asked="auto", arm="m", endpoint="c", reserved=10**7, key=key))
        except OverBudget:
            continue
        made += 1
        ledger.settle_now(ticket, Settled(state="done", cost=10**7))
print(made)
"""


def test_two_gateways_on_one_file_make_seven_calls_of_seven(where: str) -> None:
    key, _ = Keys(where).make("k", Limits(month_nanos=7 * CENT))
    runs = [
        subprocess.Popen([sys.executable, "-c", _SEVEN, where, key.id, name], stdout=subprocess.PIPE, text=True)
        for name in "ab"
    ]
    assert sum(int(run.communicate(timeout=300)[0]) for run in runs) == 7
    check_books(lambda *q: ask(where, *q))


_KILLED = """
import random, sys, threading, time
from r2router.errors import Refused
from r2router.gateway.ledger import *
where, key, seed, calls = sys.argv[1:]
ledger = Ledger.at(where, lease_s=1.0)
log = open(calls, "ab", buffering=0)
def client(number):
    rng = random.Random(f"{seed}-{number}")
    for n in range(10**9):
        name = f"{seed}-{number}-{n}"
        try:
            ticket = ledger.open_now(Opened(id=name, asked="auto", arm="m", endpoint="c", reserved=1000, key=key))
        except Refused:
            time.sleep(0.01)
            continue
        log.write(f"{name}\\n".encode())  # the fake upstream's log of calls
        time.sleep(rng.random() * 0.02)
        ledger.settle_now(ticket, Settled(state="done", cost=rng.randrange(1001)))
for number in range(8):
    threading.Thread(target=client, args=(number,), daemon=True).start()
time.sleep(3600)
"""


def kill_again_and_again(
    where: str, query: Callable[..., list[tuple[Any, ...]]], tmp_path: Path, seconds: float
) -> None:
    """Two gateways, each killed every two seconds: books that hold at every sampled moment, and no call upstream
    without its row.
    """
    key, _ = Keys(where).make("k", Limits(total_nanos=20_000_000))
    calls = tmp_path / "calls.log"
    end = time.monotonic() + seconds
    round_ = samples = 0
    while time.monotonic() < end:
        runs = [
            subprocess.Popen([sys.executable, "-c", _KILLED, where, key.id, f"{round_}{side}", str(calls)])
            for side in "ab"
        ]
        begun = calls.stat().st_size if calls.exists() else 0
        # they take their time to start; once the money is spent no call comes any more
        until, late = None, time.monotonic() + 30.0
        while until is None or time.monotonic() < until:
            if until is None and ((calls.exists() and calls.stat().st_size > begun) or time.monotonic() > late):
                until = time.monotonic() + 2.0
            check_books(query)
            samples += 1
            time.sleep(0.05)
        for run in runs:
            run.send_signal(signal.SIGKILL)
            run.wait()
        round_ += 1
    check_books(query)
    with Ledger.at(where, lease_s=0.5):
        eventually(lambda: not query("SELECT id FROM requests WHERE state = 'open'"), 20)
    check_books(query)
    called = calls.read_text().split()
    rows = {row[0] for row in query("SELECT id FROM requests")}
    assert called and set(called) <= rows and len(called) == len(set(called)), "a call upstream without a row, or twice"
    assert query("SELECT count(*) FROM requests WHERE state = 'unknown' AND cost <> reserved") == [(0,)]
    assert samples > 5


@pytest.mark.slow
def test_killed_every_two_seconds_for_a_minute(where: str, tmp_path: Path) -> None:
    kill_again_and_again(where, lambda *q: ask(where, *q), tmp_path, 60)


def test_killed_once(where: str, tmp_path: Path) -> None:
    kill_again_and_again(where, lambda *q: ask(where, *q), tmp_path, 1.0)


# -- any order of events ----------------------------------------------------------------------------------------------


class Books(RuleBasedStateMachine):
    """The ledger beside a plain model of it, in any order of events."""

    keys_made: Keys

    @initialize(day=st.integers(0, 40), total=st.integers(0, 60), at_once=st.integers(1, 4))
    def begin(self, day: int, total: int, at_once: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.where = f"{self.folder.name}/ledger.db"
        self.now = datetime(2026, 2, 28, 22, tzinfo=UTC).timestamp()
        self.ledger = Ledger.at(self.where, clock=lambda: self.now)
        self.limits = Limits(day_nanos=day, total_nanos=total, concurrent=at_once)
        self.key = Keys(self.where).make("k", self.limits)[0].id
        self.open: dict[str, tuple[Ticket, str, int]] = {}
        self.spent: dict[str, int] = {}
        self.number = 0

    def used(self, day: str | None) -> int:
        spent = sum(n for d, n in self.spent.items() if day in (None, d))
        return spent + sum(n for _, d, n in self.open.values() if day in (None, d))

    @rule(nanos=st.integers(0, 30))
    def ask(self, nanos: int) -> None:
        self.number += 1
        name, day = str(self.number), Period.at(self.now, ZoneInfo("UTC")).day
        limits = self.limits
        fits = (
            self.used(day) + nanos <= (limits.day_nanos or 0)
            and self.used(None) + nanos <= (limits.total_nanos or 0)
            and len(self.open) < (limits.concurrent or 0)
        )
        try:
            ticket = self.ledger.open_now(opened(name, nanos, key=self.key, time=self.now))
        except Refused:
            assert not fits
        else:
            assert fits
            self.open[name] = (ticket, day, nanos)

    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        if self.open:
            name = data.draw(st.sampled_from(sorted(self.open)))
            ticket, day, nanos = self.open.pop(name)
            cost = data.draw(st.integers(0, nanos))
            self.ledger.settle_now(ticket, done(cost))
            self.spent[day] = self.spent.get(day, 0) + cost

    @rule(hours=st.integers(-30, 30))
    def jump(self, hours: int) -> None:
        self.now += hours * 3600

    @rule()
    def restart(self) -> None:
        self.ledger.close()
        self.ledger = Ledger.at(self.where, clock=lambda: self.now)
        eventually(lambda: not ask(self.where, "SELECT 1 FROM requests WHERE state = 'open'"))
        for _, day, nanos in self.open.values():  # nobody knows what became of them: charged as reserved
            self.spent[day] = self.spent.get(day, 0) + nanos
        self.open.clear()

    @invariant()
    def books_agree(self) -> None:
        if hasattr(self, "where"):
            check_books(lambda *q: ask(self.where, *q))
            rows = ask(self.where, "SELECT spent, reserved FROM windows WHERE id = ?", f"{self.key}/total")
            assert sum(map(sum, rows)) == self.used(None)

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            self.ledger.close()
            self.folder.cleanup()


TestBooks = Books.TestCase
TestBooks.settings = settings(
    max_examples=12, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize(
    ("nanos", "words"),
    [(0, "0.00"), (1, "0.000000001"), (37_500, "0.0000375"), (10**9, "1.00"), (10**17, "100000000.00")],
)
def test_money_is_shown_exactly(nanos: int, words: str) -> None:
    assert dollars(nanos) == words
