"""Failure in every window: what goes to another model, what goes back to the client, and what is charged."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the gateway needs the [serve] extra")

from fake_provider import RESET, Answer, Asked, FakeProvider, as_json, chunk, event, message_events, response_events
from gateway_rig import KEY, PATHS, Rig, asking, rig
from r2router.decide import Value
from r2router.gateway.failover import Breaker, action_of, wait_of

ENDPOINTS = tuple(PATHS)


@pytest.fixture(scope="module")
def fakes() -> Iterator[tuple[FakeProvider, FakeProvider]]:
    with pytest.MonkeyPatch.context() as patch, FakeProvider() as one, FakeProvider() as other:
        patch.setenv("FAKE_PROVIDER_KEY", KEY)
        yield one, other


@pytest.fixture(scope="module")
def gate(fakes: tuple[FakeProvider, FakeProvider]) -> Iterator[Rig]:
    limits = {"deadline_s": 20, "silence_s": 1.0, "stall_s": 2}
    with rig({"one": fakes[0], "other": fakes[1]}, given={"limits": limits}, first_byte_s=0.8) as found:
        yield found


class Failing:
    """The first model that is asked fails; which provider that is, the request shows."""

    def __init__(self, answer: Answer | None, always: bool = False) -> None:
        self.answer, self.always, self.first = answer, always, ""

    def __call__(self, asked: Asked) -> Answer | None:
        self.first = self.first or asked.body["model"]
        return self.answer if self.always or asked.body["model"] == self.first else None


@pytest.fixture
def failing(gate: Rig, fakes: tuple[FakeProvider, FakeProvider]) -> Iterator[Any]:
    def begin(answer: Answer | None, always: bool = False) -> None:
        script = Failing(answer, always)
        for fake in fakes:
            fake.script = script
            fake.asked.clear()

    gate.fresh()
    gate.gateway.breaker = Breaker()
    yield begin
    for fake in fakes:
        fake.script = None


def calls(fakes: tuple[FakeProvider, FakeProvider]) -> list[Asked]:
    return sorted((a for fake in fakes for a in fake.asked), key=lambda a: a.at)


NEXT = {
    "408": as_json({"error": "x"}, 408),
    "409": as_json({"error": "x"}, 409),
    "425": as_json({"error": "x"}, 425),
    "429": as_json({"error": {"message": "slow down"}}, 429, Retry_After="1"),
    "500": as_json({"error": "x"}, 500),
    "503": as_json(b"<html>", 503),
    "529": as_json({"error": {"type": "overloaded_error"}}, 529),
    "401 of our key": as_json({"error": "x"}, 401),
    "402 of our account": as_json({"error": "x"}, 402),
    "redirect": as_json(b"", 307, Location="http://127.0.0.1:1/"),
    "reset": Answer([RESET]),
    "silence": Answer([3.0]),
    "error within 200": as_json({"error": {"message": "overloaded", "code": 503}}),
}


@pytest.mark.parametrize("how", NEXT)
def test_it_goes_to_the_next_model(gate: Rig, fakes: Any, failing: Any, how: str) -> None:
    failing(NEXT[how])
    status, headers, body = gate.post("chat", asking("chat"))
    assert status == 200 and b"Goethe" in body
    made = calls(fakes)
    assert len(made) == 2 and made[0].body["model"] != made[1].body["model"]
    assert headers["x-r2router-reason"].startswith("fallback:") and headers["x-r2router-arm"].startswith(
        made[1].body["model"][3:]
    )
    settled = gate.settled()[0]
    assert settled.attempts == 2 and settled.state == "done" and settled.served == headers["x-r2router-arm"]
    # what may have been billed is charged
    assert settled.estimated == (how in ("reset", "silence", "error within 200"))


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("stream", [True, False])
def test_a_stream_that_never_began_goes_on_elsewhere(
    gate: Rig, fakes: Any, failing: Any, endpoint: str, stream: bool
) -> None:
    failing(Answer([b": OPENROUTER PROCESSING\n\n", RESET]) if stream else Answer([RESET]))
    status, _, body = gate.post(endpoint, asking(endpoint, model="auto:cheap", stream=stream))
    assert status == 200 and b"Goethe" in body and len(calls(fakes)) == 2


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_refusal_goes_back_byte_for_byte(gate: Rig, fakes: Any, failing: Any, endpoint: str, status: int) -> None:
    said = b'{ "error" : {"message":"no \\u00e9", "type":"invalid_request_error","x":1e400} }'
    failing(as_json(said, status, X_Should_Retry="false"))
    found, headers, body = gate.post(endpoint, asking(endpoint, model="auto:cheap"))
    assert found == status and body == said and headers["x-should-retry"] == "false" and len(calls(fakes)) == 1
    settled = gate.settled()[0]
    assert settled.state == "failed" and settled.cost == 0


def test_too_long_a_prompt_goes_to_a_larger_window(gate: Rig, fakes: Any, failing: Any) -> None:
    words = {
        "error": {"message": "This model's maximum context length is 10 tokens", "code": "context_length_exceeded"}
    }
    failing(as_json(words, 400))
    router = gate.gateway.setting.router
    contexts = {f"up-{m.id}": m.context for m in router.pool.models}

    def goes_on(usd: float) -> bool:  # whether a fallback takes more than the arm of this value
        decision = router.route("Who wrote Faust?", Value(usd))
        first, *rest = (
            contexts[f"up-{model}"] for model in (decision.model, *(arm.model for arm in decision.fallbacks))
        )
        return first is not None and any(c is None or c > first for c in rest)

    usd = next(usd for usd in (0.0001, 0.001, 0.01, 0.1, 1.0, 10.0) if goes_on(usd))
    status, _, _ = gate.post("chat", asking("chat", r2router={"policy": {"policy": "value", "usd": usd}}))
    first, *rest = (contexts[a.body["model"]] for a in calls(fakes))
    assert status == 200 and rest and all(c is None or c > (first or 0) for c in rest)


def test_when_all_fail_the_last_word_is_the_providers(gate: Rig, fakes: Any, failing: Any) -> None:
    failing(as_json({"error": {"message": "busy"}}, 429, retry_after_ms="1500"), always=True)
    status, headers, body = gate.post("chat", asking("chat"))
    assert status == 429 and json.loads(body) == {"error": {"message": "busy"}} and headers["retry-after-ms"] == "1500"
    assert len(calls(fakes)) == 3 and headers["retry-after"] == "2"
    assert gate.settled()[0].cost == 0


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_nobody_can_be_reached(gate: Rig, fakes: Any, failing: Any, endpoint: str) -> None:
    failing(Answer([RESET]), always=True)
    status, headers, body = gate.post(endpoint, asking(endpoint, model="auto:cheap", stream=True))
    assert status == 502 and "error" in json.loads(body) and headers["x-should-retry"] == "false"
    assert gate.settled()[0].cost > 0


def test_stream_options_that_are_refused_are_left_out_once(gate: Rig, fakes: Any, failing: Any) -> None:
    failing(None)

    def script(asked: Asked) -> Answer | None:
        return (
            as_json({"error": {"message": "Unknown field stream_options"}}, 400)
            if "stream_options" in asked.body
            else None
        )

    for fake in fakes:
        fake.script = script
    status, _, body = gate.post("chat", asking("chat", model="gpt-5-mini", stream=True))
    made = calls(fakes)
    assert status == 200 and b"Goethe" in body and [("stream_options" in a.body) for a in made] == [True, False]
    assert gate.settled()[0].estimated and gate.books.settled[0].cost > 0


# -- after the first byte ---------------------------------------------------------------------------------------------

BEGUN = {
    "chat": [chunk("Faust"), chunk(" was")],
    "responses": response_events()[:6],
    "messages": message_events()[:5],
}


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("how", ["reset", "ends early", "in an event", "silence", "error event"])
def test_a_stream_that_breaks_off_is_never_passed_off_as_whole(
    gate: Rig, fakes: Any, failing: Any, endpoint: str, how: str
) -> None:
    begun = BEGUN[endpoint]
    parts: list[Any] = {
        "reset": [*begun, 0.05, RESET],
        "ends early": begun,
        "in an event": [*begun, begun[-1][:20], 0.05, RESET],
        "silence": [*begun, 3.0],
        "error event": [
            *begun,
            event({"type": "error", "error": {"message": "overloaded", "type": "overloaded_error"}}, "error"),
        ],
    }[how]
    failing(Answer(parts), always=True)
    status, _, body = gate.post(endpoint, asking(endpoint, model="auto:cheap", stream=True))
    assert status == 200 and body.startswith(begun[0][:40]) and len(calls(fakes)) == 1
    assert b"[DONE]" not in body and b"message_stop" not in body and b"response.completed" not in body
    events = [part for part in body.split(b"\n\n") if part and not part.startswith((b":", b"event: ping"))]
    last = json.loads(events[-1].split(b"data: ")[1])
    if how != "error event":
        match endpoint:
            case "chat":
                assert last["error"]["message"]
            case "messages":
                assert events[-1].startswith(b"event: error") and last["type"] == "error"
            case "responses":
                numbers = [json.loads(e.split(b"data: ")[1])["sequence_number"] for e in events if e.endswith(b"}")]
                assert (
                    last["type"] == "response.failed"
                    and last["response"]["id"] == "resp_1"
                    and numbers[-1] == numbers[-2] + 1
                )
    settled = gate.settled()[0]
    assert settled.state == "cut" and settled.cost > 0 and settled.estimated


@pytest.fixture(scope="module")
def lively(fakes: tuple[FakeProvider, FakeProvider]) -> Iterator[Rig]:
    with rig({"one": fakes[0], "other": fakes[1]}, given={"limits": {"keepalive_s": 0.2}}) as found:
        yield found


def test_a_silent_start_can_still_go_elsewhere(lively: Rig, fakes: Any, failing: Any) -> None:
    failing(Answer([1.5, RESET]))
    status, _, body = lively.post("messages", asking("messages", stream=True))
    assert status == 200 and body.startswith(b"event: ping") and b"Goethe" in body and body.count(b"message_start") == 2
    failing(Answer([1.5, RESET]), always=True)
    _, _, body = lively.post("messages", asking("messages", stream=True))
    assert body.startswith(b"event: ping") and b"event: error" in body and b"message_stop" not in body


def test_signs_of_life_in_the_dialect(lively: Rig, fakes: Any, failing: Any) -> None:
    gate = lively
    for endpoint, ping in (
        ("chat", b": keep-alive\n\n"),
        ("messages", b"event: ping\n"),
        ("responses", b": keep-alive\n\n"),
    ):
        whole = {
            "chat": [chunk("a"), chunk(None, "stop"), b"data: [DONE]\n\n"],
            "messages": message_events(),
            "responses": response_events(),
        }
        failing(
            Answer(
                [whole[endpoint][0], 1.5, whole[endpoint][1][:10], 1.5, whole[endpoint][1][10:], *whole[endpoint][2:]]
            ),
            always=True,
        )
        _, _, body = gate.post(endpoint, asking(endpoint, model="gpt-5-mini", stream=True))
        assert ping in body
        assert body.replace(b": keep-alive\n\n", b"").replace(b'event: ping\ndata: {"type":"ping"}\n\n', b"") == (
            b"".join(whole[endpoint]).replace(b'"served-1"', b'"gpt-5-mini"')
            if endpoint == "messages"
            else b"".join(whole[endpoint])
        )


# -- a client that leaves ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("window", ["before the first byte", "in the stream", "not streamed"])
def test_a_client_that_leaves_ends_the_call(gate: Rig, fakes: Any, failing: Any, endpoint: str, window: str) -> None:
    parts: list[Any] = (
        [*BEGUN[endpoint], *([0.2, b": x\n\n"] * 40)] if window == "in the stream" else [0.7, 0.7, 0.7, b"{}"]
    )
    failing(Answer(parts), always=True)
    body = json.dumps(asking(endpoint, model="auto:cheap", stream=window != "not streamed")).encode()
    head = f"POST {PATHS[endpoint]} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    client = socket.create_connection(("127.0.0.1", gate.port))
    client.sendall(head.encode() + body)
    deadline = time.monotonic() + 10
    while not calls(fakes) and time.monotonic() < deadline:
        time.sleep(0.01)
    if window == "in the stream":
        assert b"200" in client.recv(100)
    left = time.monotonic()
    client.close()
    settled = gate.settled()
    asked = calls(fakes)
    while asked[0].closed_after is None and time.monotonic() < left + 5:
        time.sleep(0.01)
    assert len(settled) == 1 and settled[0].state == "cancelled" and settled[0].cost > 0 and settled[0].estimated
    assert len(asked) == 1 and asked[0].closed_after is not None
    assert gate.gateway.active == 0


# -- the table --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "body", "seconds"),
    [
        ({"retry-after": "7"}, b"", 7.0),
        ({"retry-after-ms": "250"}, b"", 0.25),
        ({"retry-after": "Fri, 01 Jan 2021 00:00:00 GMT"}, b"", 0.0),
        ({}, b'{"error":{"details":[{"@type":"x","retryDelay": "34s"}]}}', 34.0),
        ({}, b'{"error":{"message":"Rate limit: try again in 1m2.5s."}}', 62.5),
        ({"retry-after": "99999999"}, b"", None),
        ({"retry-after": "1000000"}, b"", 600.0),
        ({}, b"soon", None),
    ],
)
def test_retry_after_in_all_its_forms(headers: dict[str, str], body: bytes, seconds: float | None) -> None:
    assert wait_of(headers, body) == seconds


def test_the_table_of_errors() -> None:
    said = json.dumps({"error": {"message": "prompt is too long: 300000 tokens > 200000 maximum"}}).encode()
    assert action_of(400, said, asked_usage=False) == "larger" and action_of(413, b"", asked_usage=False) == "larger"
    assert {action_of(s, b"{}", asked_usage=True) for s in (400, 404, 405, 422)} == {"return"}
    assert {
        action_of(s, b"{}", asked_usage=True) for s in (401, 402, 403, 408, 409, 425, 429, 500, 502, 503, 504, 529)
    } == {"next"}


def test_the_breaker_opens_and_closes() -> None:
    breaker = Breaker()
    for _ in range(2):
        breaker.failed("p", "m")
    assert not breaker.open("p", "m")
    breaker.failed("p", "m")
    assert breaker.open("p", "m") and not breaker.open("p", "other") and "p/m" in breaker.troubles()
    breaker.succeeded("p", "m")
    assert not breaker.open("p", "m")
    breaker.failed("p", "m", wait=30)
    breaker.failed("q", "m", whole=True)
    assert breaker.open("p", "m") and breaker.open("q", "any")


def test_what_fails_is_asked_last(gate: Rig, fakes: Any, failing: Any) -> None:
    failing(as_json({"error": "x"}, 429, Retry_After="60"))
    gate.post("chat", asking("chat"))
    gate.post("chat", asking("chat"))
    made = [a.body["model"] for a in calls(fakes)]
    assert len(made) == 3 and made[2] == made[1] != made[0]
