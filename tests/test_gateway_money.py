"""Money through the gateway: what providers bill, streamed and not, against sums by hand; and refusals in the shape of
each endpoint.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="the gateway needs the [serve] extra")

from fake_provider import DONE, Answer, Asked, FakeProvider, as_json, chunk, event
from gateway_rig import KEY, PATHS, Rig, asking, rig
from r2router.gateway.keys import Keys
from r2router.gateway.ledger import Ledger, Limits

LONG = "Who wrote Faust? " * 500  # longer than what is said to have been read of it
# US dollars per million: 3,000, 300 and 15,000 nano-dollars per token
PRICES = {"input": 3.0, "cached_input": 0.3, "output": 15.0}
# convention -> (endpoint, the provider's report, nano-dollars by hand)
REPORTS: dict[str, tuple[str, dict[str, Any], int]] = {
    # 600 x 3,000 + 400 x 300 + 200 x 15,000: reasoning is within the 200
    "openai": (
        "chat",
        {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200,
        "prompt_tokens_details": {"cached_tokens": 400},
         "completion_tokens_details": {"reasoning_tokens": 50}},
        1_800_000 + 120_000 + 3_000_000,
    ),
    # 600 x 3,000 + 400 x 300 + (200 x 1.25 + 100 x 2) x 3,000 + 200 x 15,000: cache reads and writes are beside the 600
    "anthropic": (
        "messages",
        {"input_tokens": 600, "cache_read_input_tokens": 400, "cache_creation_input_tokens": 300, "output_tokens": 200,
         "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100}},
        1_800_000 + 120_000 + 1_350_000 + 3_000_000,
    ),
    # 600 x 3,000 + 400 x 300 + (200 + 50) x 15,000: thoughts stand in the total alone
    "gemini": (
        "chat",
        {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1250,
        "prompt_tokens_details": {"cached_tokens": 400}},
        1_800_000 + 120_000 + 3_750_000,
    ),
    # as openai, with hits and misses beside each other
    "deepseek": (
        "chat",
        {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200, "prompt_cache_hit_tokens": 400,
         "prompt_cache_miss_tokens": 600},
        4_920_000,
    ),
    # 600 x 3,000 + 400 x 300 + (200 + 50) x 15,000: reasoning is beside the completion
    "xai": (
        "chat",
        {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1250,
        "prompt_tokens_details": {"cached_tokens": 400},
         "completion_tokens_details": {"reasoning_tokens": 50}},
        5_670_000,
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_PROVIDER_KEY", KEY)


def reporting(usage: dict[str, Any]) -> Any:
    """A provider with that report of every answer."""

    def chat(asked: Asked) -> Answer:
        if asked.body.get("stream"):
            last = event(
                {
                    "id": "c",
                    "object": "chat.completion.chunk",
                    "created": 1,
                    "model": "m",
                    "choices": [],
                    "usage": usage,
                }
            )
            return Answer([chunk("Goethe"), chunk(None, "stop"), last, DONE])
        choice = {"index": 0, "message": {"role": "assistant", "content": "Goethe"}, "finish_reason": "stop"}
        return as_json(
            {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
        )

    def messages(asked: Asked) -> Answer:
        head = {"id": "m", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None}
        if not asked.body.get("stream"):
            return as_json(
                {**head, "content": [{"type": "text", "text": "Goethe"}], "stop_reason": "end_turn", "usage": usage}
            )
        events = [
            {
                "type": "message_start",
                "message": {**head, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}},
            },
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Goethe"}},
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn"},
                "usage": {"output_tokens": usage.get("output_tokens")},
            },
            {"type": "message_stop"},
        ]
        return Answer([event(e, str(e["type"])) for e in events])

    return lambda asked: messages(asked) if asked.path.endswith("messages") else chat(asked)


@pytest.mark.parametrize("convention", REPORTS)
def test_a_provider_is_paid_what_it_bills(convention: str, tmp_path: Path) -> None:
    endpoint, usage, nanos = REPORTS[convention]
    where = tmp_path / "l.db"
    given = {"model": [{"id": "mine", "provider": "fake", "usd_per_million": PRICES}]}
    how: Any = {"given": given, "usage": convention}
    with (
        FakeProvider(reporting(usage)) as fake,
        Ledger.at(where) as ledger,
        rig({"fake": fake}, ledger=ledger, **how) as gate,
    ):
        status, headers, _ = gate.post(endpoint, asking(endpoint, LONG, "mine"))
        assert (status, headers["x-r2router-cost"]) == (200, f"{nanos / 1e9:.9f}")
        assert gate.post(endpoint, asking(endpoint, LONG, "mine", stream=True))[0] == 200
        rows = settled(where, 2)
    assert rows == [("done", nanos, 0), ("done", nanos, 0)]


def settled(where: Path, n: int) -> list[Any]:
    """(state, nano-dollars, estimated) of each request, once so many are over."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with contextlib.closing(sqlite3.connect(where)) as connection, connection:
            rows = connection.execute(
                "SELECT state, cost, estimated FROM requests WHERE state <> 'open' ORDER BY time"
            ).fetchall()
        if len(rows) >= n:
            return rows
        time.sleep(0.02)
    raise AssertionError("not settled")


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Rig]:
    with FakeProvider() as fake, Ledger.at(tmp_path / "l.db") as ledger, rig({"fake": fake}, ledger=ledger) as found:
        yield found


def refused(gate: Rig, endpoint: str, secret: str, status: int) -> tuple[dict[str, str], dict[str, Any]]:
    """(headers, error) of a refusal, in the shape of its endpoint."""
    got, headers, body = gate.post(
        endpoint, asking(endpoint, model="gpt-5-mini", **cap(endpoint)), Authorization=f"Bearer {secret}"
    )
    data = json.loads(body)
    assert got == status, data
    if endpoint == "messages":
        assert data["type"] == "error" and data["request_id"] == headers["x-r2router-request-id"]
        assert data["error"]["type"] == {402: "billing_error", 429: "rate_limit_error"}[status]
    else:
        assert (
            data["error"]["type"] == {402: "insufficient_quota", 429: "rate_limit_error"}[status]
            and "param" in data["error"]
        )
    assert data["error"]["message"] and data["error"]["code"]
    error: dict[str, Any] = data["error"]
    return headers, error


def cap(endpoint: str) -> dict[str, int]:
    return {{"chat": "max_completion_tokens", "responses": "max_output_tokens"}.get(endpoint, "max_tokens"): 50}


@pytest.mark.parametrize("endpoint", ["chat", "responses", "messages"])
def test_a_budget_is_refused_in_the_shape_of_the_endpoint(gate: Rig, endpoint: str, tmp_path: Path) -> None:
    keys = Keys(gate.books.where)
    for limit in (0, 1):  # below the most expensive call: the number is named, and trying again makes no sense
        _, secret = keys.make("poor", Limits(day_nanos=limit))
        headers, error = refused(gate, endpoint, secret, 402)
        assert (
            error["code"] == "request_exceeds_budget"
            and float(error["request_usd"]) > 0
            and "retry-after" not in headers
        )
        assert error["request_usd"] in error["message"]
    once = round(float(error["request_usd"]) * 1e9)
    _, secret = keys.make("once", Limits(day_nanos=once))
    body = asking(endpoint, model="gpt-5-mini", **cap(endpoint))
    assert gate.post(endpoint, body, Authorization=f"Bearer {secret}")[0] == 200
    settled(tmp_path / "l.db", 1)
    headers, error = refused(gate, endpoint, secret, 402)
    left = datetime.fromisoformat(error["resets_at"]) - datetime.now(UTC)
    assert 0 < int(headers["retry-after"]) <= 86_400 and abs(int(headers["retry-after"]) - left.total_seconds()) < 60
    assert (error["window"], error["time_zone"], error["in_flight_usd"]) == ("day", "UTC", "0.00") and float(
        error["spent_usd"]
    ) > 0


@pytest.mark.parametrize("endpoint", ["chat", "responses", "messages"])
def test_a_rate_is_refused_in_the_shape_of_the_endpoint(gate: Rig, endpoint: str) -> None:
    _, secret = Keys(gate.books.where).make("slow", Limits(minute_requests=0))
    _, error = refused(gate, endpoint, secret, 429)
    assert (error["limit"], error["used"]) == (0, 0)
    _, secret = Keys(gate.books.where).make("one", Limits(minute_requests=1))
    body = asking(endpoint, model="gpt-5-mini")
    statuses = [gate.post(endpoint, body, Authorization=f"Bearer {secret}") for _ in range(3)]
    late = next(got for got in statuses if got[0] == 429)  # a minute may have ended between the first two
    assert 1 <= int(late[1]["retry-after"]) <= 60


def test_a_key_that_ends_in_the_middle_of_a_stream(tmp_path: Path) -> None:
    """The stream goes on and is charged; the next request is refused."""
    where, begun, go_on = tmp_path / "l.db", threading.Event(), threading.Event()

    def slow(asked: Asked) -> Answer:
        begun.set()
        go_on.wait(10)
        return Answer([chunk("Goethe"), chunk(None, "stop"), DONE])

    with FakeProvider(slow) as fake, Ledger.at(where) as ledger, rig({"fake": fake}, ledger=ledger) as gate:
        keys = Keys(where)
        made, secret = keys.make("k", Limits(day_nanos=10**12))
        found: list[Any] = []
        body = asking("chat", model="gpt-5-mini", stream=True)
        client = threading.Thread(
            target=lambda: found.append(gate.post("chat", body, Authorization=f"Bearer {secret}"))
        )
        client.start()
        assert begun.wait(10)
        keys.end(made.id)
        go_on.set()
        client.join(20)
        assert found[0][0] == 200 and b"Goethe" in found[0][2] and b"[DONE]" in found[0][2]
        ((state, cost, estimated),) = settled(where, 1)
        assert (state, estimated) == ("done", 1) and cost > 0
        assert gate.post("chat", body, Authorization=f"Bearer {secret}")[0] == 401


def test_what_a_provider_bills_above_the_bound_is_counted_and_alarmed(tmp_path: Path) -> None:
    """It has written more than it was asked for: that is charged, whatever the limit, and a metric says so."""
    where = tmp_path / "l.db"
    usage = {"prompt_tokens": 10, "completion_tokens": 5000, "total_tokens": 5010}
    given = {"model": [{"id": "mine", "provider": "fake", "usd_per_million": PRICES}]}
    with (
        FakeProvider(reporting(usage)) as fake,
        Ledger.at(where) as ledger,
        rig({"fake": fake}, ledger=ledger, given=given) as gate,
    ):
        _, secret = Keys(where).make("k", Limits(total_nanos=50_000_000))
        body, headers = asking("chat", LONG, "mine", max_completion_tokens=50), {"Authorization": f"Bearer {secret}"}
        assert gate.post("chat", body, **headers)[0] == 200
        nanos = 10 * 3_000 + 5000 * 15_000
        assert settled(where, 1) == [("done", nanos, 0)]
        assert gate.post("chat", body, **headers)[0] == 402
        ((reserved,),) = sqlite3.connect(where).execute("SELECT reserved FROM requests").fetchall()
        shown = gate.request("GET", "/metrics", **headers)[2].decode()
        over = next(line for line in shown.splitlines() if line.startswith("r2router_over_bound_usd_total{"))
        assert float(over.split()[-1]) == pytest.approx((nanos - reserved) / 1e9)


# -- what is set aside ------------------------------------------------------------------------------------------------

DENSE = "~" * 3_000  # a token each, for some tokenizers
MINE = {"id": "mine", "provider": "fake", "usd_per_million": PRICES, "context": 50_000, "max_output_tokens": 4_000}
PNG = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
# what was asked -> (endpoint, fields, input tokens, output tokens): the most that a provider may bill for it
WORST: dict[str, tuple[str, dict[str, Any], int, int]] = {
    "dense": ("chat", {"max_tokens": 50}, 3_000, 50),
    "two caps": ("chat", {"max_tokens": 50, "max_completion_tokens": 400}, 3_000, 400),
    "no cap": ("chat", {}, 3_000, 4_000),
    "a cap as 400.0": ("chat", {"max_tokens": 400.0}, 3_000, 400),
    'a cap as "400"': ("chat", {"max_tokens": "400"}, 3_000, 400),
    "a cap of another kind": ("chat", {"max_tokens": True}, 3_000, 4_000),
    "n": ("chat", {"max_tokens": 50, "n": 7}, 3_000, 350),
    "n as 7.0": ("chat", {"max_tokens": 50, "n": 7.0}, 3_000, 350),
    'n as "7"': ("chat", {"max_tokens": 50, "n": "7"}, 3_000, 350),
    "a prediction that is not used": (
        "chat",
        {"max_tokens": 50, "prediction": {"type": "content", "content": "x y " * 500}},
        3_000,
        1_050,
    ),
    "an image elsewhere": (
        "chat",
        {
            "max_tokens": 5,
            "messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a"}}]}
            ],
        },
        4_800,
        5,
    ),
    "a file elsewhere": (
        "chat",
        {
            "max_tokens": 5,
            "messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}],
        },
        49_000,
        5,
    ),
    "turns elsewhere": ("responses", {"max_output_tokens": 5, "previous_response_id": "r"}, 49_000, 5),
    "a conversation elsewhere": ("responses", {"max_output_tokens": 5, "conversation": {"id": "c"}}, 49_000, 5),
    "a prompt elsewhere": ("responses", {"max_output_tokens": 5, "prompt": {"id": "p"}}, 49_000, 5),
    "responses": ("responses", {"max_output_tokens": 50}, 3_000, 50),
    "messages": ("messages", {"max_tokens": 50}, 3_000, 50),
    "completions": ("/v1/completions", {"prompt": DENSE}, 3_000, 16),
    "several prompts": ("/v1/completions", {"prompt": [DENSE, DENSE, "x"], "max_tokens": 20, "n": 2}, 6_001, 120),
    "prompts as tokens": ("/v1/completions", {"prompt": [[1, 2], [3, 4]], "max_tokens": 20, "best_of": 3}, 4, 120),
    "one prompt as tokens": ("/v1/completions", {"prompt": [1, 2, 3, 4], "max_tokens": 20}, 4, 20),
    "embeddings": ("/v1/embeddings", {"input": DENSE}, 3_000, 0),
}


@pytest.mark.parametrize("case", WORST)
def test_what_is_set_aside_is_never_less_than_what_may_be_billed(case: str) -> None:
    endpoint, fields, given, wrote = WORST[case]
    names = ("input_tokens", "output_tokens") if endpoint in ("responses", "messages") else (
        "prompt_tokens",
        "completion_tokens",
    )  # fmt: skip

    def provider(asked: Asked) -> Answer:
        usage = dict(zip(names, (given, wrote), strict=True))
        if endpoint == "responses":
            return as_json({"id": "r", "object": "response", "status": "completed", "output": [], "usage": usage})
        if endpoint == "messages":
            return as_json({"id": "m", "type": "message", "role": "assistant", "content": [], "usage": usage})
        text = {"message": {"role": "assistant", "content": "Goethe"}, "text": "Goethe"}
        return as_json({"id": "c", "choices": [{"index": 0, "finish_reason": "stop", **text}], "usage": usage})

    body = asking(endpoint, DENSE, "mine", **fields) if endpoint in PATHS else {"model": "mine", **fields}
    how: Any = {"given": {"model": [MINE], "limits": {"attempts": 1}}}
    with FakeProvider(provider) as fake, rig({"fake": fake}, **how) as gate:
        status, _, reply = gate.post(endpoint, body)
        assert status == 200, reply
        settled = gate.settled()[0]
    billed = given * 3_000 + wrote * 15_000  # by hand
    opened = gate.books.opened[0]
    assert settled.cost == billed <= opened.reserved
    assert given + wrote <= opened.tokens


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
@pytest.mark.parametrize("model", ["auto", "auto:best", "mine"])
def test_under_a_limit_an_answer_without_a_cap_gets_one(endpoint: str, model: str, tmp_path: Path) -> None:
    """Else it could cost what the model can write at most, and a limit of some dollars would refuse it."""
    mine = {**MINE, "max_output_tokens": None, "context": 1_000_000}
    where, how = tmp_path / "l.db", {"given": {"model": [mine]}}
    with FakeProvider() as fake, Ledger.at(where) as ledger, rig({"fake": fake}, ledger=ledger, **how) as gate:  # type: ignore[arg-type]
        _, secret = Keys(where).make("k", Limits(day_nanos=20 * 10**9))
        _, free = Keys(where).make("free", Limits())
        name = "max_output_tokens" if endpoint == "responses" else "max_tokens"
        for more in ({}, {name: 300_000} if model == "mine" else {name: 10}):
            status, _, reply = gate.post(
                endpoint, asking(endpoint, model=model, **more), Authorization=f"Bearer {secret}"
            )
            assert status == 200, reply
            (sent,) = (value for key, value in fake.asked[-1].body.items() if key.startswith("max_"))
            assert sent == more.get(name, sent) and sent in (10, 16_384, 32_000, 300_000)
        assert gate.post(endpoint, asking(endpoint, model=model), Authorization=f"Bearer {free}")[0] == 200
        if model == "mine":  # without a limit it goes through as it came
            assert not any(key.startswith("max_") for key in fake.asked[-1].body)


def test_what_a_search_of_the_provider_reads_is_counted() -> None:
    """It is not in the request's body: no reason to doubt the report."""
    usage = {"input_tokens": 49_000, "output_tokens": 5}
    reply = {"id": "r", "object": "response", "status": "completed", "output": [], "usage": usage}
    body = asking("responses", model="mine", max_output_tokens=5, tools=[{"type": "web_search"}])
    how: Any = {"given": {"model": [MINE]}}
    with FakeProvider(lambda _: as_json(reply)) as fake, rig({"fake": fake}, **how) as gate:
        assert gate.post("responses", body)[0] == 200
        assert gate.settled()[0].cost == 49_000 * 3_000 + 5 * 15_000


@pytest.mark.parametrize("fields", [{"service_tier": "priority"}, {"service_tier": "fast"}, {"speed": "fast"}])
def test_a_service_tier_with_prices_of_its_own_has_no_known_price(gate: Rig, fields: dict[str, str]) -> None:
    """It costs up to six times the usual price: a key with a budget is refused, and nothing is counted too low."""
    _, secret = Keys(gate.books.where).make("k", Limits(day_nanos=10**12))
    body = asking("chat", model="gpt-5-mini", max_tokens=5)
    status, _, reply = gate.post("chat", {**body, **fields}, Authorization=f"Bearer {secret}")
    assert (status, json.loads(reply)["error"]["code"]) == (402, "price_unknown")
    usual = gate.post("chat", {**body, "service_tier": "flex"}, Authorization=f"Bearer {secret}")
    assert usual[0] == 200
    _, free = Keys(gate.books.where).make("free", Limits())
    status, headers, _ = gate.post("chat", {**body, **fields}, Authorization=f"Bearer {free}")
    assert status == 200 and "x-r2router-cost" not in headers


@pytest.mark.parametrize("fields", [{"n": 10**18}, {"max_tokens": 10**19}, {"n": 10**9, "max_tokens": 10**9}])
def test_a_request_beyond_all_numbers_is_refused(gate: Rig, fields: dict[str, int]) -> None:
    status, _, reply = gate.post("chat", asking("chat", model="gpt-5-mini", **fields))
    assert (status, json.loads(reply)["error"]["code"]) == (400, "too_large")
