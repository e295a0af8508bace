"""The three wire formats through the gateway: what reaches the provider, and what comes back."""

from __future__ import annotations

import gzip
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the gateway needs the [serve] extra")

from fake_provider import (
    DONE,
    Answer,
    FakeProvider,
    as_json,
    chunk,
    event,
    message_events,
    response_events,
    usage_chunk,
)
from gateway_rig import KEY, PATHS, Rig, asking, rig
from r2router.gateway.ledger import Ledger, Limits

ENDPOINTS = tuple(PATHS)


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with pytest.MonkeyPatch.context() as patch, FakeProvider() as found:
        patch.setenv("FAKE_PROVIDER_KEY", KEY)
        yield found


@pytest.fixture(scope="module")
def gate(fake: FakeProvider) -> Iterator[Rig]:
    with rig({"fake": fake}, given={"alias": {"claude-*": "auto:best"}}) as found:
        yield found


@pytest.fixture(autouse=True)
def _fresh(fake: FakeProvider, gate: Rig) -> None:
    fake.script = None
    fake.asked.clear()
    gate.fresh()


# -- what reaches the provider ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    "model", ["auto", "auto:cheap", "auto:best", "claude-opus-9", "gpt-5-mini", "gpt-5-mini@low", "up-gpt-5-mini"]
)
def test_every_name_of_a_model_leads_to_one(gate: Rig, fake: FakeProvider, endpoint: str, model: str) -> None:
    if endpoint == "responses" and model == "auto":
        model = "auto:cheap"
    status, headers, body = gate.post(endpoint, asking(endpoint, model=model))
    assert status == 200, body
    assert "Goethe" in body.decode()
    sent = fake.asked[0]
    assert sent.path == PATHS[endpoint] and sent.body["model"].startswith("up-") and "r2router" not in sent.body
    assert sent.headers["authorization"] == f"Bearer {KEY}"
    assert headers["x-r2router-arm"].split("@")[0] == sent.body["model"].removeprefix("up-")
    assert {
        "x-r2router-reason",
        "x-r2router-request-id",
        "x-r2router-budget-source",
        "x-r2router-cost",
    } <= headers.keys()
    assert ("x-r2router-forecast-quality" in headers) == (not model.startswith(("gpt", "up-")))
    assert len(gate.settled()) == 1 and gate.books.settled[0].state == "done"


RAW = (
    b'{ "zeta" : 12345678901234567890123 ,\r\n "messages":[{"content":null,"role":"assistant","x":1e400},'
    b'{"role":"user","content":"Wer schrieb \\u0046aust?"}],\t"model" : "gpt-5-mini", "r2router" : {"session":"s1"},'
    b'"temperature":0,"top_p":0.0,"logprobs":false, "unknown":{"b":1,"a":[ ]} }'
)


def test_the_body_is_edited_in_its_bytes(gate: Rig, fake: FakeProvider) -> None:
    status, _, body = gate.post("chat", RAW)
    assert status == 200, body
    wanted = RAW.replace(b'"gpt-5-mini"', b'"up-gpt-5-mini"').replace(b', "r2router" : {"session":"s1"}', b"")
    assert fake.asked[0].raw == wanted


def test_only_known_headers_go_on(gate: Rig, fake: FakeProvider) -> None:
    given = {
        "authorization": "Bearer client",
        "cookie": "a=b",
        "anthropic_beta": "x-1,y-2",
        "anthropic_version": "2024-01-01",
    }
    gate.post("messages", asking("messages"), x_api_base="http://evil", x_forwarded_host="evil", **given)
    sent = fake.asked[0].headers
    assert sent["anthropic-beta"] == "x-1,y-2" and sent["anthropic-version"] == "2024-01-01"
    assert sent["authorization"] == f"Bearer {KEY}" and sent["accept-encoding"] == "identity"
    assert not {"cookie", "x-api-base", "x-forwarded-host"} & sent.keys() and sent["host"].startswith("127.0.0.1")


@pytest.mark.parametrize("coding", ["gzip", "zstd", "deflate"])
def test_packed_requests_are_unpacked(gate: Rig, fake: FakeProvider, coding: str) -> None:
    import zlib

    from backports import zstd

    pack = {"gzip": gzip.compress, "zstd": zstd.compress, "deflate": zlib.compress}[coding]
    data = json.dumps(asking("responses", model="gpt-5-mini")).encode()
    status, _, body = gate.post("responses", pack(data), content_encoding=coding)
    assert status == 200, body
    assert fake.asked[0].body["input"] == "Who wrote Faust?"


@pytest.mark.parametrize(("coding", "status"), [("gzip", 413), ("zstd", 413), ("br", 415), ("gzip, gzip", 415)])
def test_a_bomb_is_refused(gate: Rig, fake: FakeProvider, coding: str, status: int) -> None:
    from backports import zstd

    bomb = b'{"model":"auto","x":"' + b" " * 60_000_000 + b'"}'
    packed = zstd.compress(bomb) if coding == "zstd" else gzip.compress(bomb, 1)
    assert gate.post("chat", packed, content_encoding=coding)[0] == status
    assert not fake.asked and gate.post("chat", b"\x28\xb5\x2f\xfd\x00", content_encoding="zstd")[0] == 400


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"[]", 400),
        (b'{"model":"auto"', 400),
        (b'{"model":"auto","messages":"\xff"}', 400),
        (b'{"model":7}', 400),
        (b'{"model":"auto","model":"gpt-5-mini"}', 400),
        (b'{"model":"auto","stream":"yes"}', 400),
        (b'{"model":"nobody"}', 404),
        (b'{"model":"auto:nothing"}', 404),
        (b'{"model":"gpt-5-mini@90"}', 404),
        (b'{"model":"auto","r2router":{"policy":{"policy":"best","max_cost":-1}}}', 400),
        (b'{"model":"auto","r2router":{"polcy":1}}', 400),
        (b'{"model":"auto","r2router":{"models":["nobody-*"]}}', 400),
        (b'{"model":"auto","messages":' + b"[" * 100_000, 400),
    ],
)
def test_errors_have_the_shape_of_their_endpoint(
    gate: Rig, fake: FakeProvider, endpoint: str, body: bytes, status: int
) -> None:
    found, headers, said = gate.post(endpoint, body)
    error = json.loads(said)
    assert found == status and headers["content-type"] == "application/json" and not fake.asked
    if endpoint == "messages":
        assert (
            error["type"] == "error"
            and error["error"]["type"] in ("invalid_request_error", "not_found_error")
            and error["request_id"]
        )
    else:
        assert set(error["error"]) >= {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (asking("chat", model="auto:nope"), 404),  # before any arm is known
        (asking("chat", r2router={"require": ["telepathy"]}), 400),
        ({**asking("chat", model="gpt-5-mini"), "max_tokens": 10**12}, 402),  # by the ledger: more than any limit
    ],
    ids=["no preset", "no model", "no money"],
)
def test_a_refusal_is_told_once_with_its_status(
    fake: FakeProvider, tmp_path: Path, body: dict[str, Any], status: int
) -> None:
    limits = Limits(day_nanos=1) if status == 402 else None
    with Ledger.at(tmp_path / "l.db", limits=limits) as ledger, rig({"fake": fake}, ledger=ledger) as gate:
        assert gate.post("chat", body)[0] == status
        found = gate.request("GET", "/metrics")[2].decode()
        told = [json.loads(line) for line in gate.lines if '"request"' in line]
    assert [line["status"] for line in told] == [status]
    assert re.findall(r'^r2router_errors_total\{endpoint="chat",status="(\d+)"\} (\S+)$', found, re.MULTILINE) == [
        (str(status), "1.0")
    ]


def test_the_policy_of_a_request_counts(gate: Rig) -> None:
    arms = set()
    for policy in (
        {"policy": "tradeoff", "lam": 1.0},
        {"policy": "tradeoff", "lam": 0.0},
        {"policy": "best", "max_cost": 0.0001},
    ):
        status, headers, body = gate.post("chat", asking("chat", r2router={"policy": policy}))
        assert status == 200, body
        arms.add(headers["x-r2router-arm"])
    assert len(arms) >= 2
    status, headers, _ = gate.post("chat", asking("chat", r2router={"models": ["gpt-oss-*"]}))
    assert headers["x-r2router-arm"].startswith("gpt-oss-20b@")
    status, _, body = gate.post("chat", asking("chat", r2router={"require": ["telepathy"]}))
    assert status == 400 and b"does not have telepathy" in body


# -- what comes back --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_stream_comes_as_it_was_sent(gate: Rig, fake: FakeProvider, endpoint: str) -> None:
    model = "gpt-5-mini"
    status, headers, body = gate.post(endpoint, asking(endpoint, model=model, stream=True))
    assert status == 200 and headers["content-type"].startswith("text/event-stream")
    direct = {"chat": b"", "responses": b"".join(response_events()), "messages": b"".join(message_events(model))}[
        endpoint
    ]
    if endpoint == "chat":
        assert b"usage" not in body and body.endswith(DONE)
    else:
        assert body == direct
    usage = gate.settled()[0].usage
    assert usage is not None and (usage.input, usage.output) == (11, 7) and not gate.books.settled[0].estimated


@pytest.mark.parametrize("asked", [None, {}, {"include_usage": False}, {"include_usage": True, "x": 1}])
def test_the_usage_chunk_is_for_those_who_asked(gate: Rig, fake: FakeProvider, asked: Any) -> None:
    more = {} if asked is None else {"stream_options": asked}
    _, _, body = gate.post("chat", asking("chat", stream=True, **more))
    assert body.count(b'"choices": []') == (1 if asked and asked.get("include_usage") else 0)
    assert fake.asked[0].body["stream_options"]["include_usage"] is True
    if asked and "x" in asked:
        assert fake.asked[0].body["stream_options"] == asked


def big_line() -> list[bytes]:
    return [chunk("a" * 1_000_000), chunk(None, "stop"), usage_chunk(), DONE]


def one_by_one(parts: list[bytes]) -> list[bytes]:
    return [bytes([b]) for part in parts for b in part]


USUAL = [chunk("Grüße \u2028 \U0001f600"), chunk(None, "stop"), usage_chunk(), DONE]
RAW_UNICODE = 'data: {"choices":[{"index":0,"delta":{"content":"\u2028é"}}]}\n\n'.encode()
EVERYWHERE = [chunk("a", usage={"prompt_tokens": 11, "completion_tokens": n}) for n in range(1, 7)]
TORTURE = {
    "crlf": [part.replace(b"\n", b"\r\n") for part in USUAL],
    "cr": [part.replace(b"\n", b"\r") for part in USUAL],
    "split": one_by_one(USUAL),
    "split crlf": one_by_one([part.replace(b"\n", b"\r\n") for part in USUAL]),
    "raw unicode": [RAW_UNICODE, *USUAL[1:]],
    "no space": [part.replace(b"data: ", b"data:") for part in USUAL],
    "one packet": [b"".join(USUAL)],
    "comments": [b": OPENROUTER PROCESSING\n\n", *USUAL[:1], b": OPENROUTER PROCESSING\n\n", *USUAL[1:]],
    "big line": big_line(),
    "usage everywhere": [*EVERYWHERE, chunk(None, "stop"), usage_chunk(), DONE],
    "no blank line at the end": [*USUAL[:3], b"data: [DONE]"],
    "null choices": [
        *USUAL[:2],
        event({"choices": None, "usage": {"prompt_tokens": 11, "completion_tokens": 7}}),
        DONE,
    ],
    "bom": [b"\xef\xbb\xbf" + USUAL[0], *USUAL[1:]],
}


@pytest.mark.parametrize("how", TORTURE)
@pytest.mark.parametrize("wants", [True, False])
def test_bytes_are_those_of_the_provider(gate: Rig, fake: FakeProvider, how: str, wants: bool) -> None:
    parts = TORTURE[how]
    fake.script = lambda asked: Answer(parts)
    options = {"stream_options": {"include_usage": True}} if wants else {}
    _, _, body = gate.post("chat", asking("chat", model="gpt-5-mini", stream=True, **options))
    direct = b"".join(parts)
    if wants:
        assert body == direct
    else:
        kept = [line for line in direct.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n") if line]
        gone = [line for line in kept if b'"choices": []' in line or b'"choices": null' in line]
        assert len(gone) == 1
        assert [x for x in body.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n") if x] == [
            x for x in kept if x not in gone
        ]
    usage = gate.settled()[0].usage
    assert usage is not None and (usage.input, usage.output) == (11, 7) and gate.books.settled[0].state == "done"


@pytest.mark.parametrize("wants", [True, False])
def test_a_packed_stream_is_read_all_the_same(gate: Rig, fake: FakeProvider, wants: bool) -> None:
    packed = gzip.compress(b"".join(USUAL))
    headers = {"Content-Type": "text/event-stream", "Content-Encoding": "gzip"}
    fake.script = lambda asked: Answer([packed[:10], packed[10:]], headers=headers)
    options = {"stream_options": {"include_usage": True}} if wants else {}
    _, headers, body = gate.post("chat", asking("chat", stream=True, **options))
    if wants:
        assert headers["content-encoding"] == "gzip" and body == packed
    else:
        assert "content-encoding" not in headers and body == b"".join([*USUAL[:2], DONE])
    assert gate.settled()[0].usage is not None and not gate.books.settled[0].estimated


def test_hop_by_hop_headers_and_cookies_stay(gate: Rig, fake: FakeProvider) -> None:
    more = {"Set_Cookie": "a=b", "X_Ratelimit_Remaining_Requests": "7", "Location": "http://evil", "X_Secret": "1"}
    fake.script = lambda asked: as_json({"choices": []}, **more)
    _, headers, _ = gate.post("chat", asking("chat"))
    assert (
        headers["x-ratelimit-remaining-requests"] == "7" and not {"set-cookie", "location", "x-secret"} & headers.keys()
    )


def test_falsy_values_and_logprobs_and_choices_survive(gate: Rig, fake: FakeProvider) -> None:
    choices = [
        {"index": i, "message": {"content": c}, "logprobs": {"content": []}, "finish_reason": "stop"}
        for i, c in enumerate("ab")
    ]
    reply = {"choices": choices, "usage": {"prompt_tokens": 3, "completion_tokens": 2}, "big": 2**70}
    data = json.dumps(reply, indent=3).encode()
    fake.script = lambda asked: as_json(data)
    _, _, body = gate.post(
        "chat", asking("chat", n=2, temperature=0, top_p=0, logprobs=True, top_logprobs=0, model="gpt-5-mini")
    )
    assert body == data
    sent = fake.asked[0].body
    assert (sent["n"], sent["temperature"], sent["top_p"], sent["top_logprobs"]) == (2, 0, 0, 0)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_the_name_of_the_model_in_the_reply(gate: Rig, fake: FakeProvider, endpoint: str) -> None:
    _, _, body = gate.post(endpoint, asking(endpoint, model="claude-opus-9"))
    assert json.loads(body)["model"] == ("claude-opus-9" if endpoint == "messages" else "served-1")


@pytest.mark.parametrize(
    ("events", "usage"),
    [
        ([("message_start", {"message": {"usage": {"input_tokens": 25, "output_tokens": 1}}}),
          ("message_delta", {"usage": {"output_tokens": 15}})], (25, 15)),
        ([("message_start", {"message": {"usage": {"input_tokens": 0, "output_tokens": 0}}}),
          ("message_delta", {"usage": {"input_tokens": 25, "output_tokens": 15}})], (25, 15)),
        ([("message_start", {"message": {"usage": {"input_tokens": 5, "cache_read_input_tokens": 20,
        "output_tokens": 1}}}),
          ("message_delta", {"usage": {"output_tokens": 4}}), ("message_delta", {"usage": {"output_tokens": 15}})], (25,
          15)),
    ],
)  # fmt: skip
def test_usage_of_messages_is_never_added_up(
    gate: Rig, fake: FakeProvider, events: Any, usage: tuple[int, int]
) -> None:
    parts = [event({"type": name, **body}, name) for name, body in events]
    fake.script = lambda asked: Answer([*parts, event({"type": "message_stop"}, "message_stop")])
    gate.post("messages", asking("messages", stream=True))
    found = gate.settled()[0].usage
    assert found is not None and (found.input, found.output) == usage


@pytest.mark.parametrize("end", ["completed", "incomplete"])
def test_usage_of_responses_stands_in_whatever_ends_them(gate: Rig, fake: FakeProvider, end: str) -> None:
    from fake_provider import response

    last = event({"type": f"response.{end}", "sequence_number": 9, "response": response(end)}, f"response.{end}")
    fake.script = lambda asked: Answer([*response_events()[:-1], last])
    gate.post("responses", asking("responses", stream=True))
    found = gate.settled()[0].usage
    assert found is not None and (found.input, found.output, found.reasoning) == (11, 7, 2)


# -- the other paths --------------------------------------------------------------------------------------------------


def test_models_in_three_shapes(gate: Rig) -> None:
    status, _, body = gate.request("GET", "/v1/models?limit=1000")
    found = json.loads(body)
    ids = [entry["id"] for entry in found["data"]]
    assert (
        status == 200
        and ids[0] == "auto"
        and "gpt-5-mini" in ids
        and found["object"] == "list"
        and found["has_more"] is False
    )
    assert all(
        {"id", "object", "created", "owned_by", "type", "display_name", "created_at"} <= entry.keys()
        for entry in found["data"]
    )
    assert [m["slug"] for m in found["models"]] == ids and b"base_instructions" not in body
    assert json.loads(gate.request("GET", "/v1/models/gpt-5-mini")[2])["id"] == "gpt-5-mini"
    assert (
        gate.request("GET", "/v1/models/claude-opus-9")[0] == 200 and gate.request("GET", "/v1/models/nobody")[0] == 404
    )
    assert len(json.loads(gate.request("GET", "/v1/models?limit=2")[2])["data"]) == 2


@pytest.mark.parametrize(("method", "path", "status"), [
    ("HEAD", "/", 200), ("GET", "/", 200), ("GET", "/health", 200), ("GET", "/ready", 200), ("GET", "/metrics", 200),
    ("GET", "/nothing", 404), ("POST", "/v1/messages/count_tokens", 404), ("GET", "/v1/chat/completions", 405), ("POST",
    "/v1/chat", 404),
    ("DELETE", "/v1/models", 404), ("OPTIONS", "/v1/messages", 405), ("GET", "/v1/../health", 404),
])  # fmt: skip
def test_the_other_paths(gate: Rig, method: str, path: str, status: int) -> None:
    assert gate.request(method, path)[0] == status


def test_a_websocket_is_told_to_use_http(gate: Rig) -> None:
    headers = {"connection": "Upgrade", "upgrade": "websocket", "sec_websocket_key": "x", "sec_websocket_version": "13"}
    status, _, body = gate.request("GET", "/v1/responses", **headers)
    assert status == 426 and json.loads(body)["error"]["code"] == "upgrade_required"


def test_only_a_decision(gate: Rig, fake: FakeProvider) -> None:
    for body in (
        {"text": "Who wrote Faust?"},
        asking("chat"),
        asking("messages", system="x"),
        asking("responses", model="auto:cheap"),
    ):
        status, _, said = gate.post("/v1/route", body)
        found = json.loads(said)
        assert status == 200 and "@" in found["arm"] and found["reason"].startswith("routed") and "excluded" in found
    assert not fake.asked


def test_embeddings_and_completions_pass_through_and_are_metered(gate: Rig, fake: FakeProvider) -> None:
    status, _, body = gate.post("/v1/embeddings", {"model": "gpt-5-mini", "input": ["a", "b"]})
    assert status == 200 and json.loads(body)["data"][0]["embedding"] == [0.5, -0.25]
    status, _, _ = gate.post("/v1/completions", {"model": "gpt-5-mini", "prompt": "a"})
    assert status == 200 and gate.post("/v1/embeddings", {"model": "auto", "input": "a"})[0] == 400
    first, second = gate.settled(2)[:2]
    assert first.usage is not None and (first.usage.input, first.usage.output) == (5, 0) and not first.estimated
    assert second.usage is not None and second.usage.output == 7


def test_web_pages_cannot_ask(gate: Rig, fake: FakeProvider) -> None:
    for headers in ({"origin": "https://evil.example"}, {"host": "evil.example"}, {"origin": "null"}):
        assert gate.post("chat", asking("chat"), **headers)[0] == 403
    assert gate.post("chat", asking("chat"), origin="http://localhost:3000")[0] == 200 and len(fake.asked) == 1


def test_a_head_that_does_not_end_is_cut_off(gate: Rig) -> None:
    with socket.create_connection(("127.0.0.1", gate.port), timeout=20) as client:
        client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n")
        try:
            for _ in range(400):
                client.sendall(b"x-" + b"a" * 1000 + b": b\r\n")
            assert client.recv(1) == b""
        except ConnectionError:
            pass


def test_metrics_and_logs_hold_no_key_and_no_text(gate: Rig, fake: FakeProvider) -> None:
    fake.script = lambda asked: as_json({"error": {"message": f"bad key {KEY}"}}, 401)
    status, _, body = gate.post("chat", asking("chat", "a very secret question", model="gpt-5-mini"))
    assert status == 502 and KEY.encode() not in body
    metrics = gate.request("GET", "/metrics")[2].decode()
    assert "r2router_overhead_seconds_bucket" in metrics
    assert KEY not in metrics + "".join(gate.lines) and "secret question" not in metrics + "".join(gate.lines)
