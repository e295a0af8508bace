"""Keys, and reports of what was spent: totals are the sums of the rows, in the ledger's own time zone."""

from __future__ import annotations

import contextlib
import csv
import json
import random
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from r2router.cli import main
from r2router.errors import ConfigError, KeyRefused, LedgerError, UsageError
from r2router.gateway.keys import PREFIX, Keys
from r2router.gateway.ledger import Ledger, Limits, Opened, Settled
from r2router.gateway.spend import nanos_of, spend
from r2router.types import Prices
from r2router.upstream.usage import Usage

BEGIN = datetime(2026, 1, 30, tzinfo=UTC).timestamp()


def run(*args: str) -> Result:
    return CliRunner().invoke(main, args)


def fill(where: Path, zone: str, requests: int = 60) -> None:
    rng = random.Random(5)
    with Ledger.at(where, zone=zone) as ledger:
        for number in range(requests):
            opened = Opened(
                id=f"r{number}", asked="auto", arm=rng.choice(("a@low", "a@high", "b@150")), endpoint="/v1/messages",
                reserved=10**7,
                preset=rng.choice(("auto:cheap", "auto:best")), session=f"s{number % 7}",
                time=BEGIN + rng.randrange(3 * 86400),
                forecast_quality=0.8, baseline="b@high", baseline_cost=5 * 10**6, baseline_quality=0.9,
            )  # fmt: skip
            ticket = ledger.open_now(opened)
            if number < requests - 2:
                ledger.settle_now(
                    ticket, Settled(state="done", cost=rng.randrange(10**6), usage=Usage(100, rng.randrange(90), 40, 3))
                )


# -- keys -------------------------------------------------------------------------------------------------------------


def test_a_secret_is_kept_nowhere_and_found_again(tmp_path: Path) -> None:
    where = tmp_path / "l.db"
    keys = Keys(where)
    key, secret = keys.make("team", Limits(day_nanos=5), presets=("auto:*",), models=())
    assert secret.startswith(PREFIX) and keys.find(secret) == key
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert secret.encode() not in held and secret[len(PREFIX) : -4].encode() not in held
    for wrong in ("", "r2-", secret[:-1], secret + "x", "\ud800", secret.upper()):
        with pytest.raises(KeyRefused, match="not known"):
            keys.find(wrong)
    key.check(preset="auto:cheap")
    with pytest.raises(KeyRefused, match="may not ask for model 'gpt-5'") as caught:
        key.check(model="gpt-5")
    assert caught.value.status == 403


def test_a_rotated_key_keeps_what_it_used_and_its_old_secret_for_a_while(tmp_path: Path) -> None:
    now = BEGIN
    keys = Keys(tmp_path / "l.db", clock=lambda: now)
    key, old = keys.make("team")
    new = keys.rotate(key.id, keep_s=3600)
    assert keys.find(old).id == keys.find(new).id == key.id
    now += 3601
    with pytest.raises(KeyRefused):
        keys.find(old)
    assert keys.find(new).id == key.id
    newest = keys.rotate(key.id)
    with pytest.raises(KeyRefused):
        keys.find(new)
    keys.end(key.id)
    with pytest.raises(KeyRefused, match="has ended"):
        keys.find(newest)
    with pytest.raises(UsageError, match="has ended"):
        keys.rotate(key.id)
    assert keys.any()  # the last key has ended: a request still needs one


def test_keys_on_the_command_line(tmp_path: Path) -> None:
    where = str(tmp_path / "l.db")
    made = run(
        "keys", "make", "team", "--per-day", "0.05", "--concurrent", "3", "--preset", "auto:*", "--ledger", where
    )
    assert made.exit_code == 0, made.output
    secret = made.stdout.strip()
    name = Keys(where).find(secret).id
    listed = run("keys", "list", "--ledger", where)
    assert "$0.05 per day, 3 at once, presets auto:*" in listed.stdout and secret not in listed.output
    assert json.loads(run("keys", "list", "--json", "--ledger", where).stdout)[0]["limits"]["day_nanos"] == 5 * 10**7
    assert (
        run("keys", "change", name, "--in-all", "7", "--ledger", where).stdout
        == f"key {name}: $7.00 in all, presets auto:*\n"
    )
    assert run("keys", "rotate", name, "--ledger", where).stdout.strip() != secret
    assert "has ended" in run("keys", "end", name, "--ledger", where).stdout


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("make", "x", "--per-day", "-5"), "'-5' is not an amount in US dollars"),
        (("make", "x", "--per-day", "lots"), "'lots' is not an amount"),
        (("make", "x", "--in-all", "0.0000000001"), "finer than a nano-dollar"),
        (("make", "x", "--in-all", "999999999"), "whole number from 0"),
        (("make", " "), "printable"),
        (("make", "x", "--concurrent", "-1"), "concurrent"),
        (("end", "k_nobody"), "no key 'k_nobody'"),
    ],
)
def test_nonsense_about_keys_is_refused(tmp_path: Path, args: tuple[str, ...], words: str) -> None:
    done = run("keys", *args, "--ledger", str(tmp_path / "l.db"))
    assert isinstance(done.exception, (ConfigError, UsageError)) or done.exit_code == 2
    assert words in done.output


def test_amounts_are_exact() -> None:
    assert [nanos_of(text) for text in ("0", "12.50", "$0.000000001", "0.1")] == [0, 12_500_000_000, 1, 100_000_000]


# -- reports ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland"])  # the latter is UTC+13 in January
@pytest.mark.parametrize("by", ["day", "month", "key", "model", "arm", "preset", "session"])
def test_totals_are_those_of_sql(tmp_path: Path, zone: str, by: Any) -> None:
    where = tmp_path / "l.db"
    fill(where, zone)
    found = spend(where, by)
    assert found.zone == zone
    column = {"model": "substr(arm, 1, instr(arm, '@') - 1)", "key": "coalesce(key_id, '-')"}.get(by, by)
    query = (
        f"SELECT {column}, count(*), sum(coalesce(cost, 0)), sum(coalesce(output_tokens, 0)) FROM requests GROUP BY 1"
    )
    with contextlib.closing(sqlite3.connect(where)) as connection, connection:
        rows = connection.execute(query).fetchall()
        spent, reserved = connection.execute("SELECT spent, reserved FROM windows WHERE id = '-/total'").fetchone()
        days = dict(connection.execute("SELECT period, spent FROM windows WHERE length(period) = 10").fetchall())
    assert {(line.name, line.requests, line.spent, line.output_tokens) for line in found.lines} == set(rows)
    assert (found.total.spent, found.total.in_flight) == (spent, reserved)
    if by == "day":
        assert {line.name: line.spent for line in found.lines} == days  # what budgets counted, to the nano-dollar
        offset = 13 if zone != "UTC" else 0
        with contextlib.closing(sqlite3.connect(where)) as connection, connection:
            again = "SELECT date((time + ?) / 1000000, 'unixepoch'), sum(coalesce(cost, 0)) FROM requests GROUP BY 1"
            assert dict(connection.execute(again, (offset * 3600 * 10**6,)).fetchall()) == days


def test_csv_and_json_say_the_same(tmp_path: Path) -> None:
    where = tmp_path / "l.db"
    fill(where, "UTC")
    for ending in ("csv", "json"):
        assert (
            run("spend", "--by", "session", "--out", str(tmp_path / f"o.{ending}"), "--ledger", str(where)).exit_code
            == 0
        )
    rows = list(csv.DictReader((tmp_path / "o.csv").read_text(encoding="utf-8").splitlines()))
    data = json.loads((tmp_path / "o.json").read_text())
    assert [row["session"] for row in rows] == [line["name"] for line in data["lines"]]
    assert sum(nanos_of(row["spent_usd"]) for row in rows) == data["total"]["spent"] == spend(where).total.spent
    assert data["time_zone"] == "UTC"


def test_against_one_model_for_all(tmp_path: Path) -> None:
    where = tmp_path / "l.db"
    fill(where, "UTC")
    forecast = spend(where, against=("b", None)).against
    assert forecast is not None and forecast.n == 58 and forecast.instead == 58 * 5 * 10**6
    assert forecast.quality is not None and forecast.quality.value == pytest.approx(-0.1)
    assert forecast.saved.low is not None and forecast.saved.low < forecast.saved.value < (forecast.saved.high or 0)
    assert forecast.saved.value * 58 == pytest.approx((forecast.instead - forecast.spent) / 1e9)
    priced = spend(where, against=("c", Prices(1.0, 2.0))).against
    with contextlib.closing(sqlite3.connect(where)) as connection, connection:
        (by_hand,) = connection.execute(
            "SELECT sum(input_tokens * 1000 + output_tokens * 2000) FROM requests WHERE state = 'done'"
        ).fetchone()
    assert priced is not None and priced.instead == by_hand and priced.quality is None
    with pytest.raises(UsageError, match="no request has a forecast of it; give its prices"):
        spend(where, against=("zzz", None))
    assert "always b (what was forecast" in run("spend", "--against", "b", "--ledger", str(where)).stdout


def test_explain_open_and_correct(tmp_path: Path) -> None:
    where = str(tmp_path / "l.db")
    fill(Path(where), "UTC")
    shown = run("explain", "r0", "--ledger", where).stdout
    assert "compared with     b@high, quality 0.900, cost $0.005" in shown and "100 input, 40 of them cached" in shown
    assert json.loads(run("explain", "r0", "--json", "--ledger", where).stdout)["id"] == "r0"
    listed = run("spend", "--open", "--ledger", where).stdout
    assert "r58" in listed and "r59" in listed
    corrected = run("spend", "--correct", "r0", "0.002", "--ledger", where)
    assert corrected.stdout.startswith("request r0: $0.002 in place of $")
    assert "no request 'nothing'" in run("explain", "nothing", "--ledger", where).output


def test_a_ledger_that_is_not_there_is_not_made_by_looking(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no such ledger"):
        spend(tmp_path / "l.db")
    assert not (tmp_path / "l.db").exists()
    Keys(tmp_path / "l.db")
    assert spend(tmp_path / "l.db").total.requests == 0
