"""`auto:cascade` and answers that our budget cut: several calls for one request, one answer, all of them paid."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

pytest.importorskip("uvicorn", reason="the gateway needs the [serve] extra")

import r2router as r2
from conftest import FakeEncoder, World
from fake_provider import DONE, RESET, Answer, Asked, FakeProvider, as_json, chunk, event, usage_chunk
from gateway_rig import EVERY, KEY, PATHS, Rig, asking
from r2router.encode import ENCODERS
from r2router.gateway.config import Config
from r2router.gateway.failover import Breaker
from r2router.gateway.setting import Setting
from test_cascade import PRICES, QUESTION, outcomes

DOUBT, SURE = "I am not sure, it might be name7.", "It is name7."
TOOLS: Any = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]


def reply(asked: Asked, text: str, made: int = 9, finish: str = "stop") -> Answer:
    """What a provider says, in any of the three formats."""
    stop = {"stop": "end_turn", "length": "max_tokens"}[finish]
    usage = {"input_tokens": 11, "output_tokens": made}
    if asked.path == "/v1/messages":
        block = {"type": "text", "text": text}
        head = {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "model": "served",
            "stop_reason": stop,
            "stop_sequence": None,
        }
        if not asked.body.get("stream"):
            return as_json({**head, "content": [block], "usage": usage})
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": {**head, "content": [], "usage": usage}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": usage},
            {"type": "message_stop"},
        ]
        return Answer([event(e, e["type"]) for e in events])
    if asked.path == "/v1/responses":
        item = {
            "id": "m",
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": text, "annotations": []}],
        }
        status = {"stop": "completed", "length": "incomplete"}[finish]
        why = {"reason": "max_output_tokens"} if finish == "length" else None
        whole = {
            "id": "r",
            "object": "response",
            "status": status,
            "incomplete_details": why,
            "model": "served",
            "output": [item],
            "usage": usage,
        }
        if not asked.body.get("stream"):
            return as_json(whole)
        delta = {
            "type": "response.output_text.delta",
            "delta": text,
            "output_index": 0,
            "content_index": 0,
            "item_id": "m",
        }
        return Answer(
            [
                event(delta, delta["type"]),
                event({"type": "response.completed", "response": whole}, "response.completed"),
            ]
        )
    if asked.body.get("stream"):
        return Answer([chunk(text), chunk(None, finish), usage_chunk(11, made), DONE])
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    return as_json(
        {
            "model": "served",
            "choices": [choice],
            "usage": {"prompt_tokens": 11, "completion_tokens": made, "total_tokens": 11 + made},
        }
    )


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with pytest.MonkeyPatch.context() as patch, FakeProvider() as found:
        patch.setenv("FAKE_PROVIDER_KEY", KEY)
        yield found


@pytest.fixture(scope="module")
def gate(fake: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder = tmp_path_factory.mktemp("router")
    r2.Recipe(cascade=True, resamples=0).fit(r2.Table.read(outcomes(), prices=PRICES)).save(folder)
    able = ["tools", "json", "n"]
    models = [
        {"id": name, "provider": "fake", "upstream": f"up-{name}", "capabilities": able, "available": True}
        for name in PRICES
    ]
    whole = {
        "server": {"logs": "none", "router": str(folder)},
        "provider": {
            "fake": {"base_url": fake.url, "key": "FAKE_PROVIDER_KEY", "dialect": "vllm", "speaks": list(EVERY)}
        },
        "model": models,
    }
    with Rig(Setting.of(msgspec.convert(whole, Config))) as found:
        yield found


@pytest.fixture(autouse=True)
def _fresh(fake: FakeProvider, gate: Rig) -> None:
    fake.script = lambda asked: reply(asked, DOUBT if asked.body["model"] == "up-small" else SURE)
    fake.asked.clear()
    gate.fresh()
    gate.gateway.breaker = Breaker()


def worth(usd: float = 0.001) -> dict[str, Any]:
    return {"policy": {"policy": "value", "usd": usd}}


@pytest.mark.parametrize("endpoint", PATHS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_cheap_answer_is_looked_at_first_and_the_accepted_one_relayed(
    gate: Rig, fake: FakeProvider, endpoint: str, stream: bool
) -> None:
    status, headers, body = gate.post(
        endpoint, asking(endpoint, QUESTION, "auto:cascade", stream=stream, r2router=worth())
    )
    assert status == 200, body
    names = [a.body["model"] for a in fake.asked]
    assert names[0] == "up-small" and len(names) >= 2  # the doubt of the cheap one is looked at
    assert SURE.encode() in body and DOUBT.encode() not in body
    assert headers["x-r2router-reason"].startswith("cascade: Answer ") and headers["x-r2router-arm"].startswith(
        names[-1][3:]
    )
    settled = gate.settled()[0]
    prices = [PRICES[name[3:]] for name in names]
    assert settled.cost == round(sum(1000 * (11 * p.input + 9 * p.output) for p in prices)) and settled.attempts == len(
        names
    )
    assert (
        settled.usage is not None
        and settled.usage.output == 9 * len(names)
        and settled.state == "done"
        and not settled.estimated
    )
    assert settled.cost <= (gate.books.opened[0].reserved or 0)
    if stream:
        ends = {"chat": DONE, "messages": b"event: message_stop", "responses": b"event: response.completed"}[endpoint]
        assert body.count(ends) == 1 and (endpoint != "chat" or b"usage" not in body)
    else:
        assert float(headers["x-r2router-cost"]) == pytest.approx(settled.cost / 1e9)


def test_a_good_answer_is_accepted_at_once(gate: Rig, fake: FakeProvider) -> None:
    fake.script = lambda asked: reply(asked, SURE)
    status, headers, _ = gate.post("chat", asking("chat", QUESTION, "auto:cascade", r2router=worth()))
    assert status == 200 and len(fake.asked) == 1 and headers["x-r2router-reason"].startswith("cascade: Answer 0 of 1")


def test_streams_with_tools_are_relayed_as_they_come(gate: Rig, fake: FakeProvider) -> None:
    status, headers, body = gate.post(
        "chat", asking("chat", QUESTION, "auto:cascade", stream=True, tools=TOOLS, r2router=worth())
    )
    assert status == 200 and len(fake.asked) == 1 and headers["x-r2router-reason"].startswith("routed")
    assert DONE in body


def test_calls_of_tools_are_the_clients_to_judge(gate: Rig, fake: FakeProvider) -> None:
    call = {"id": "t", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    fake.script = lambda asked: as_json({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]})
    _, headers, body = gate.post("chat", asking("chat", QUESTION, "auto:cascade", tools=TOOLS, r2router=worth()))
    assert (
        len(fake.asked) == 1
        and json.loads(body)["choices"][0]["message"] == message
        and "unseen" in headers["x-r2router-reason"]
    )


@pytest.mark.parametrize("how", ["refused", "cut", "error within 200"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_call_that_fails_is_one_arm_less(gate: Rig, fake: FakeProvider, how: str, stream: bool) -> None:
    def script(asked: Asked) -> Answer:
        if asked.body["model"] != "up-small":
            return reply(asked, SURE)
        if how == "refused":
            return as_json({"error": "busy"}, 503)
        return Answer(
            [chunk("It is"), 0.02, RESET]
            if how == "cut"
            else [chunk("It is"), event({"error": {"message": "overloaded"}})]
        )

    fake.script = script
    status, headers, body = gate.post("chat", asking("chat", QUESTION, "auto:cascade", stream=stream, r2router=worth()))
    assert status == 200 and SURE.encode() in body and not headers["x-r2router-arm"].startswith("small")
    assert "up-small" in [a.body["model"] for a in fake.asked]
    assert gate.settled()[0].estimated == (how != "refused")


def test_where_nothing_answers_it_says_so(gate: Rig, fake: FakeProvider) -> None:
    fake.script = lambda asked: as_json({"error": {"message": "busy"}}, 503)
    status, _, body = gate.post("chat", asking("chat", QUESTION, "auto:cascade", r2router=worth()))
    assert status == 503 and b"busy" in body and 1 < len(fake.asked) <= 3
    fake.script = lambda asked: as_json({"error": {"message": "bad temperature"}}, 400)
    status, _, body = gate.post("chat", asking("chat", QUESTION, "auto:cascade", r2router=worth()))
    assert status == 400 and b"bad temperature" in body


def test_a_client_that_leaves_while_answers_are_looked_at_ends_the_call(gate: Rig, fake: FakeProvider) -> None:
    fake.script = lambda asked: (
        reply(asked, DOUBT) if asked.body["model"] == "up-small" else Answer([chunk("It"), 30.0])
    )
    body = json.dumps(asking("chat", QUESTION, "auto:cascade", stream=True, r2router=worth())).encode()
    with socket.create_connection(("127.0.0.1", gate.port)) as client:
        client.sendall(
            f"POST {PATHS['chat']} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
        deadline = time.monotonic() + 20
        while len(fake.asked) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    settled = gate.settled()
    while fake.asked[1].closed_after is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert fake.asked[1].closed_after is not None and settled[0].state == "cancelled"
    assert settled[0].usage is not None and settled[0].usage.output >= 9 and settled[0].estimated


def test_the_decision_alone_says_that_it_would_look(gate: Rig, fake: FakeProvider) -> None:
    found = json.loads(gate.post("/v1/route", asking("chat", QUESTION, "auto:cascade", r2router=worth()))[2])
    assert found["cascade"] is True and found["arm"].startswith("small") and not fake.asked
    assert json.loads(gate.post("/v1/route", asking("chat", QUESTION, "auto", r2router=worth()))[2])["cascade"] is False


# -- answers that our budget cut --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def capped(fake: FakeProvider, world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """A router whose arm answers in 50 tokens at most, and presets that want cut answers whole."""
    folder = tmp_path_factory.mktemp("capped")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ENCODERS, "fake", lambda _: FakeEncoder())
        r2.Recipe(encoder="fake").fit(world.table, vectors=world.vectors).save(folder)
        whole = {
            "server": {"logs": "none", "router": str(folder)},
            "provider": {
                "fake": {"base_url": fake.url, "key": "FAKE_PROVIDER_KEY", "dialect": "vllm", "speaks": list(EVERY)}
            },
            "model": [{"id": "small", "provider": "fake", "upstream": "up-small", "capabilities": ["tools"]}],
            "preset": {how: {"models": ["small@50"], "cut": how} for how in ("return", "continue", "again")},
        }
        with Rig(Setting.of(msgspec.convert(whole, Config))) as found:
            yield found


TASK = "topic 1 question 3: what is 7 of it?"


def cut_first(asked: Asked) -> Answer:
    first = asked.body.get("max_tokens", asked.body.get("max_output_tokens")) == 50
    return reply(asked, "Once upon", 50, "length") if first else reply(asked, " a time.", 30)


@pytest.mark.parametrize("how", ["return", "continue", "again"])
@pytest.mark.parametrize("endpoint", PATHS)
def test_an_answer_that_our_budget_cut(capped: Rig, fake: FakeProvider, endpoint: str, how: str) -> None:
    fake.script = cut_first
    capped.fresh()
    given = {"max_output_tokens" if endpoint == "responses" else "max_tokens": 400}
    status, headers, body = capped.post(endpoint, {**asking(endpoint, TASK, f"auto:{how}"), **given})
    assert status == 200, body
    settled = capped.settled()[0]
    price = capped.gateway.setting.router.pool["small"].usd_per_million
    assert price is not None
    if how == "return":
        assert len(fake.asked) == 1 and b"Once upon" in body and settled.state == "cut"
        return
    assert len(fake.asked) == 2 and settled.attempts == 2 and settled.state == "done"
    assert (
        settled.usage is not None
        and (settled.usage.input, settled.usage.output) == (22, 80)
        and settled.served == "small@50"
    )
    assert settled.cost == round(1000 * (22 * price.input + 80 * price.output)) and settled.cost <= (
        capped.books.opened[0].reserved or 0
    )
    if how == "continue" and endpoint == "chat":
        last = fake.asked[1].body
        assert (
            last["messages"][-1] == {"role": "assistant", "content": "Once upon"}
            and last["continue_final_message"] is True
        )
        assert last["max_tokens"] == 350 and "continued" in headers["x-r2router-reason"]
        found = json.loads(body)
        assert (
            found["choices"][0]["message"]["content"] == "Once upon a time."
            and found["usage"]["completion_tokens"] == 80
        )
        assert found["choices"][0]["finish_reason"] == "stop"
    else:
        assert b" a time." in body and b"Once upon" not in body and "asked again" in headers["x-r2router-reason"]
        assert b"Use at most" in fake.asked[0].raw and b"Use at most" not in fake.asked[1].raw


@pytest.mark.parametrize("how", ["streamed", "tools", "the caller's own cap", "a cap in dollars"])
def test_what_is_never_mended(capped: Rig, fake: FakeProvider, how: str) -> None:
    fake.script = cut_first
    more: dict[str, Any] = {
        "streamed": {"stream": True},
        "tools": {"tools": TOOLS},
        "the caller's own cap": {"max_tokens": 50},
        "a cap in dollars": {"r2router": {"policy": {"policy": "best", "max_cost": 0.01}}},
    }[how]
    assert capped.post("chat", {**asking("chat", TASK, "auto:again"), **more})[0] == 200 and len(fake.asked) == 1


def test_where_the_second_call_fails_the_first_answer_is_returned(capped: Rig, fake: FakeProvider) -> None:
    fake.script = lambda asked: cut_first(asked) if asked.body["max_tokens"] == 50 else as_json({"error": "busy"}, 503)
    status, _, body = capped.post("chat", asking("chat", TASK, "auto:again"))
    assert status == 200 and b"Once upon" in body and len(fake.asked) == 2
