"""Presets that hold a mean spend or quality, through HTTP: on live traffic, over restarts, in several gateways, beside
each other.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="the gateway needs the [serve] extra")

from fake_provider import Answer, Asked, FakeProvider, as_json
from gateway_rig import KEY, PATHS, Rig, config, rig
from r2router.decide import Cheapest, Tradeoff, Value
from r2router.errors import ConfigError
from r2router.gateway.config import Config
from r2router.gateway.keys import Keys
from r2router.gateway.ledger import Ledger
from r2router.gateway.setting import Setting
from r2router.gateway.spend import spend
from r2router.gateway.targets import Target, start_of

HOLD = 0.8  # US dollars per 1,000 requests
QUESTIONS = [
    "Who wrote Faust?",
    "Prove that the square root of two is irrational.",
    "Sort a list in Python.",
    "What is 17 * 23?",
]


def answering(asked: Asked) -> Answer:
    """A provider whose answers became three times as long some day; more capable models write more."""
    body = asked.body
    text = json.dumps(body["messages"])
    tokens = (900 if "today" in text else 300) + 40 * (len(body["model"]) % 5)
    usage = {"prompt_tokens": 50, "completion_tokens": tokens, "total_tokens": 50 + tokens}
    choice = {"index": 0, "message": {"role": "assistant", "content": "x" * 40}, "finish_reason": "stop"}
    return as_json(
        {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
    )


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with FakeProvider(answering) as found:
        yield found


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_PROVIDER_KEY", KEY)


def ask(gate: Rig, model: str, texts: list[str], **headers: str) -> list[str]:
    """The ids of so many requests, one after the other on one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", gate.port, timeout=30)
    found = []
    for text in texts:
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}]})
        connection.request("POST", PATHS["chat"], body, {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        data = response.read()
        assert response.status == 200, data
        found.append(response.headers["x-r2router-request-id"])
    connection.close()
    return found


def traffic(n: int, when: str) -> list[str]:
    return [f"{QUESTIONS[i % len(QUESTIONS)]} {when}" for i in range(n)]


def settled(where: Path, n: int) -> None:
    """Wait until so many are settled: the last of a connection is, behind its answer."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.closing(sqlite3.connect(where)) as connection, connection:
            if connection.execute("SELECT count(*) FROM requests WHERE state = 'done'").fetchone()[0] >= n:
                return
        time.sleep(0.02)
    raise AssertionError("not settled")


def gauge(gate: Rig, preset: str, what: str) -> float:
    text = gate.request("GET", "/metrics")[2].decode()
    found = re.search(rf'^r2router_target{{kind="\w+",preset="{preset}",what="{what}"}} (\S+)$', text, re.MULTILINE)
    assert found, text
    return float(found[1])


def test_a_spend_is_held_when_the_traffic_changes_half_way(fake: FakeProvider, tmp_path: Path) -> None:
    where = tmp_path / "l.db"
    start = {"policy": "value", "usd": 0.01}
    given = {
        "preset": {"held": {"policy": start, "target": {"usd_per_1000_requests": HOLD}}, "loose": {"policy": start}}
    }
    with Ledger.at(where) as ledger, rig({"fake": fake}, ledger=ledger, given=given) as gate:
        ask(gate, "auto:held", traffic(100, "yesterday") + traffic(220, "today"))
        before, after = (ask(gate, "auto:loose", traffic(12, when)) for when in ("yesterday", "today"))
        settled(where, 344)
        shown = {what: gauge(gate, "auto:held", what) for what in ("target", "actual", "error", "value")}
    (held,) = spend(where).held
    with contextlib.closing(sqlite3.connect(where)) as connection, connection:
        (mean,) = connection.execute("SELECT avg(cost) / 1e6 FROM requests WHERE preset = 'auto:held'").fetchone()
        cost = dict(connection.execute("SELECT id, cost FROM requests WHERE preset = 'auto:loose'").fetchall())
    assert held.n == 320 and held.actual == pytest.approx(mean) and held.target == pytest.approx(HOLD)
    assert abs(mean / HOLD - 1) < 0.05
    # what a fixed value makes of it
    assert sum(cost[name] for name in after) > 1.5 * sum(cost[name] for name in before)
    assert shown["target"] == pytest.approx(HOLD / 1000) and shown["actual"] == pytest.approx(mean / 1000)
    assert shown["error"] == pytest.approx(held.error) and shown["value"] == pytest.approx(held.value)


def test_a_spend_is_held_with_many_requests_at_once(tmp_path: Path) -> None:
    """Each request is decided before the answers of some twenty others are there."""
    where = tmp_path / "l.db"

    def slow(asked: Asked) -> Answer:
        time.sleep(0.05)
        return answering(asked)

    start = {"policy": "value", "usd": 0.01}
    given = {"preset": {"held": {"policy": start, "target": {"usd_per_1000_requests": HOLD}}}}
    with (
        FakeProvider(slow) as fake,
        Ledger.at(where) as ledger,
        rig({"fake": fake}, ledger=ledger, given=given) as gate,
        ThreadPoolExecutor(24) as clients,
    ):
        list(clients.map(lambda _: ask(gate, "auto:held", traffic(14, "today")), range(24)))
        settled(where, 336)
        here = gate.gateway.targets._traffic["auto:held"].here
    (held,) = spend(where).held
    assert held.n == 336 and held.actual is not None and abs(held.actual / HOLD - 1) < 0.1
    assert here.n == 0 and here.usd == 0


def test_each_preset_has_its_own_and_it_survives_restarts_and_is_shared(fake: FakeProvider, tmp_path: Path) -> None:
    where = tmp_path / "l.db"
    start = {"policy": "value", "usd": 0.01}
    given = {
        "preset": {
            "tight": {"policy": start, "target": {"usd_per_1000_requests": 0.01}},
            "wide": {"policy": start, "target": {"usd_per_1000_requests": 50.0}},
            "daily": {"policy": start, "target": {"usd_per_day": 0.5}},
        }
    }
    how: Any = {"given": given}
    with (
        Ledger.at(where) as one,
        Ledger.at(where) as two,
        rig({"f": fake}, ledger=one, **how) as gate,
        rig({"f": fake}, ledger=two, **how) as other,
    ):
        for name in ("tight", "wide", "daily"):
            ask(gate, f"auto:{name}", traffic(10, "today"))
            ask(other, f"auto:{name}", traffic(10, "today"))
        settled(where, 60)
    found = {held.preset: held for held in spend(where).held}
    assert {held.n for held in found.values()} == {20}
    assert found["auto:tight"].value < 0.01 < found["auto:wide"].value and found["auto:daily"].kind == "day"
    with Ledger.at(where) as ledger, rig({"fake": fake}, ledger=ledger, given=given) as gate:
        ask(gate, "auto:wide", traffic(1, "today"))
        settled(where, 61)
        (wide,) = (held for held in spend(where).held if held.preset == "auto:wide")
        assert wide.n == 21 and wide.value > found["auto:wide"].value  # it went on from where it stood


def test_a_policy_of_the_request_goes_before_the_target_and_is_not_counted_in_it(
    fake: FakeProvider, tmp_path: Path
) -> None:
    given = {"preset": {"held": {"target": {"usd_per_1000_requests": HOLD}}}}
    with Ledger.at(tmp_path / "l.db") as ledger, rig({"fake": fake}, ledger=ledger, given=given) as gate:
        own = {"policy": {"policy": "tradeoff", "lam": 0.0}}
        status, _, _ = gate.post(
            "chat", {"model": "auto:held", "messages": [{"role": "user", "content": "Hello"}], "r2router": own}
        )
        assert status == 200
        settled(tmp_path / "l.db", 1)
        assert spend(tmp_path / "l.db").held == ()


def test_a_quality_is_held_by_what_clients_say(fake: FakeProvider, tmp_path: Path) -> None:
    """Scores below the floor raise the value of a correct answer, better ones lower it; one per request, which may be
    changed.
    """
    where = tmp_path / "l.db"
    given = {"preset": {"good": {"policy": {"policy": "value", "usd": 0.01}, "target": {"quality": 0.8}}}}
    with Ledger.at(where) as ledger, rig({"fake": fake}, ledger=ledger, given=given) as gate:
        names = ask(gate, "auto:good", traffic(6, "today"))
        settled(where, 6)
        for name in names:
            status, _, body = gate.post("/v1/feedback", {"request_id": name, "score": 0.2})
            assert status == 200 and json.loads(body) == {"request_id": name, "score": 0.2}
        low = spend(where).held[0]
        assert (low.kind, low.n, low.actual) == ("quality", 6, pytest.approx(0.2)) and low.value > 0.01
        assert gauge(gate, "auto:good", "value") == pytest.approx(low.value)
        # the person thinks better of it
        assert gate.post("/v1/feedback", {"request_id": names[0], "score": 1})[0] == 200
        changed = spend(where).held[0]
        assert (changed.n, changed.actual) == (6, pytest.approx(2 / 6))
    with contextlib.closing(sqlite3.connect(where)) as connection, connection:
        assert connection.execute("SELECT sum(score), count(score) FROM requests").fetchone() == (pytest.approx(2.0), 6)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        ({"request_id": "r", "score": 1.5}, 400),
        ({"request_id": "r", "score": -0.1}, 400),
        ({"request_id": "r", "score": "good"}, 400),
        ({"request_id": "r", "score": True}, 400),
        ({"request_id": "r"}, 400),
        ({"request_id": "", "score": 1}, 400),
        ({"request_id": "r" * 201, "score": 1}, 400),
        ({"request_id": "r", "score": 1, "comment": "x"}, 400),
        ({"request_id": "r", "score": 1}, 404),
        ({"request_id": "r", "score": 1, "pad": "x" * 20_000}, 413),
    ],
)
def test_nonsense_as_feedback_is_refused(lone: Rig, body: Any, status: int) -> None:
    assert lone.post("/v1/feedback", body)[0] == status


@pytest.fixture(scope="module")
def lone(fake: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_PROVIDER_KEY", KEY)
        with Ledger.at(tmp_path_factory.mktemp("lone") / "l.db") as ledger, rig({"fake": fake}, ledger=ledger) as gate:
            yield gate


def test_feedback_is_for_the_requests_of_a_key_alone(fake: FakeProvider, tmp_path: Path) -> None:
    where = tmp_path / "l.db"
    with Ledger.at(where) as ledger, rig({"fake": fake}, ledger=ledger) as gate:
        mine, others = (Keys(where).make(name)[1] for name in ("mine", "others"))
        (name,) = ask(gate, "auto", traffic(1, "today"), Authorization=f"Bearer {mine}")
        body = {"request_id": name, "score": 0.5}
        assert gate.post("/v1/feedback", body)[0] == 401
        assert gate.post("/v1/feedback", body, Authorization=f"Bearer {others}")[0] == 404
        assert gate.post("/v1/feedback", body, Authorization=f"Bearer {mine}")[0] == 200
        assert gate.request("GET", "/v1/feedback", Authorization=f"Bearer {mine}")[0] == 405


def test_what_it_would_have_cost_with_one_model_for_all(fake: FakeProvider, tmp_path: Path) -> None:
    """The baseline of the configuration, as it was forecast for each request; of a request that names its model there
    is none.
    """
    where = tmp_path / "l.db"
    given = {"server": {"logs": "none", "baseline": "claude-haiku-4-5"}}
    with Ledger.at(where) as ledger, rig({"fake": fake}, ledger=ledger, given=given) as gate:
        ask(gate, "auto:cheap", traffic(8, "today"))
        ask(gate, "gpt-5-mini", traffic(1, "today"))
        settled(where, 9)
    against = spend(where).against
    assert against is not None and against.model.startswith("claude-haiku-4-5@") and against.n == 8
    assert against.quality is not None and against.quality.low is not None and against.saved.low is not None
    with contextlib.closing(sqlite3.connect(where)) as connection, connection:
        rows = connection.execute(
            "SELECT sum(baseline_cost), sum(cost) FROM requests WHERE preset IS NOT NULL"
        ).fetchone()
    assert rows == (against.instead, against.spent)


# -- the configuration ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("target = {}", "give one of"),
        ("target = { usd_per_day = 1, quality = 0.5 }", "give one of"),
        ("target = { usd_per_1000_requests = 0 }", "above 0"),
        ("target = { usd_per_1000_requests = -1 }", "above 0"),
        ("target = { usd_per_day = inf }", "above 0"),
        ("target = { usd_per_day = nan }", "above 0"),
        ("target = { quality = 1.0 }", "below 1"),
        ("target = { euro = 1 }", "euro"),
        ('target = { quality = 0.5 }\npolicy = { policy = "best", max_cost = 1 }', "value of a correct answer"),
        ('target = { quality = 0.5 }\npolicy = { policy = "tradeoff", lam = 0 }', "value of a correct answer"),
    ],
)
def test_a_target_that_cannot_be_held_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text(f"[preset.team]\n{text}\n")
    with pytest.raises(ConfigError, match=re.escape(words)) as caught:
        Config.read(file)
    assert str(file) in str(caught.value)


def test_a_baseline_that_the_router_does_not_have_is_refused(fake: FakeProvider) -> None:
    with pytest.raises(ConfigError, match="server.baseline: the router has no model or arm 'gpt-5-mimi' .did you mean"):
        Setting.of(config({"fake": fake}, given={"server": {"baseline": "gpt-5-mimi"}}), None)


def test_it_starts_from_the_calibrated_value() -> None:
    assert start_of(None, Value(0.02), 0.5) == 0.02
    assert start_of(Value(0.03), Value(0.02), 0.5) == 0.03
    assert start_of(Tradeoff(0.2), Value(0.02), 0.5) == pytest.approx(2.0)
    assert start_of(None, Cheapest(0.5), 0.5) == 0.5
    assert Target(usd_per_1000_requests=3.0).pace(0.02).target == 0.003
