"""Translation between the wire formats: golden files of requests and replies, what is never translated, and real
clients over it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the gateway needs the [serve] extra")

import anthropic
import openai
from hypothesis import given
from hypothesis import strategies as st

from fake_provider import (
    DONE,
    RESET,
    Answer,
    FakeProvider,
    as_json,
    chunk,
    event,
    message_events,
    response_events,
    usage_chunk,
)
from gateway_rig import KEY, Rig, asking, rig
from r2router.gateway.config import Edits
from r2router.gateway.dialects import NAMED
from r2router.gateway.frames import Frames, parse
from r2router.gateway.request import Call, read_call
from r2router.gateway.splice import Members
from r2router.gateway.step import edited
from r2router.gateway.tap import StreamMask
from r2router.gateway.translate import loss, reply_translator, translated
from r2router.gateway.translate.chat_reply import ChatReader
from r2router.gateway.translate.reply import ArgumentsDelta, ToolCallStart
from r2router.types import Budget, Model, Provider

GOLDEN = Path(__file__).parent / "golden" / "translate"
UPDATE = bool(os.environ.get("R2ROUTER_GOLDEN"))  # writes what comes out, for a person to read
MODEL = Model(id="m", budgets=(Budget.of("default"),), max_output_tokens=8192)
PROVIDER = Provider(base_url="http://127.0.0.1:1/v1", dialect="vllm")


def call_of(endpoint: str, body: Any) -> Call:
    return read_call(NAMED[endpoint], body if isinstance(body, bytes) else json.dumps(body).encode(), "auto")  # type: ignore[index]


def events_of(data: bytes) -> list[Any]:
    frames = Frames()
    found = [parse(part) for part, _ in frames.feed(data)]
    assert not frames.end()
    return [[name.decode(), json.loads(said) if said[:1] == b"{" else said.decode()] for name, said in found]


def came_out(case: dict[str, Any]) -> dict[str, Any]:
    """What of a case is translated: the request, the whole reply, and the stream."""
    call, end = call_of(case["asked"], case["request"]), case["speaks"]
    assert loss(call, end) == ""
    found: dict[str, Any] = {"sent": json.loads(translated(call, end, MODEL, PROVIDER).render())}
    if "reply" in case:
        found["returned"] = json.loads(
            reply_translator(call, end, shown=None, input_tokens=7).whole(json.dumps(case["reply"]).encode())
        )
    if "stream" in case:
        turn = reply_translator(call, end, shown=None, input_tokens=7)
        out = b"".join(
            turn.event(name.encode(), (said if isinstance(said, str) else json.dumps(said)).encode())
            for name, said in case["stream"]
        )
        found["events"] = events_of(out)
    return found


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.json")), ids=lambda path: path.stem)
def test_golden(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    found = came_out(case)
    if UPDATE:
        case |= found
        path.write_text(json.dumps(case, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, value in found.items():
        assert value == case[name], name


PLAIN = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(
    ("asked", "speaks", "body", "words"),
    [  # traps 14, 23, 27, 37, 38, 40, 42, 43: what would be lost is said, and never sent
        ("messages", "chat", {"system": [{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}]},
        "cache_control"),
        ("messages", "chat", {"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "server tools"),
        ("messages", "chat", {"messages": [*PLAIN, {"role": "assistant", "content": [{"type": "thinking",
        "thinking": "x",
         "signature": "s"}]}]},
         "thinking in the history"),
        ("messages", "chat", {"mcp_servers": [{"url": "x"}]}, "mcp_servers"),
        ("messages", "chat", {"top_k": 5}, "top_k"),
        ("messages", "chat", {"unheard_of": 1}, "unheard_of"),
        ("messages", "chat", {"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]},
        "document"),
        ("chat", "messages", {"messages": [*PLAIN, {"role": "assistant", "content": "a", "reasoning_content": "x"},
        *PLAIN]},
         "reasoning_content"),
        ("chat", "messages", {"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "custom tools"),
        ("chat", "messages", {"logprobs": True}, "logprobs"),
        ("chat", "messages", {"n": 2}, "'n'"),
        ("chat", "messages", {"seed": 1}, "seed"),
        ("chat", "messages", {"temperature": 1.5}, "temperature above 1"),
        ("chat", "messages", {"response_format": {"type": "json_object"}}, "json_object"),
        ("chat", "messages", {"messages": [*PLAIN, {"role": "assistant", "content": "It is"}]}, "begun"),
        ("chat", "messages", {"messages": [*PLAIN, {"role": "system", "content": "x"}, *PLAIN]}, "in the middle"),
        ("chat", "messages", {"web_search_options": {}}, "web_search_options"),
        ("chat", "responses", {"stop": ["x"]}, "stop sequences"),
        ("chat", "messages", {"messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f",
         "arguments": "["}}]}]}, "JSON"),
        ("responses", "chat", {"tools": [{"type": "custom", "name": "apply_patch"}]}, "custom tools"),
        ("responses", "chat", {"tools": [{"type": "web_search"}]}, "web_search"),
        ("responses", "chat", {"previous_response_id": "resp_1"}, "previous_response_id"),
        ("responses", "chat", {"input": [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}]},
         "thinking in the history"),
        ("responses", "chat", {"input": [{"type": "item_reference", "id": "x"}]}, "item_reference"),
        ("responses", "chat", {"truncation": "auto"}, "truncation"),
        ("responses", "messages", {"text": {"format": {"type": "json_object"}}}, "json_object"),
    ],
)  # fmt: skip
def test_what_would_be_lost_is_said(asked: str, speaks: Any, body: dict[str, Any], words: str) -> None:
    assert words in loss(call_of(asked, {**asking(asked), **body}), speaks)


@pytest.mark.parametrize("asked", ["chat", "messages", "responses"])
@pytest.mark.parametrize("speaks", ["chat", "messages", "responses"])
def test_what_changes_nothing_is_no_loss(asked: str, speaks: Any) -> None:
    more: dict[str, Any] = {
        "chat": {
            "user": "u",
            "n": 1,
            "logprobs": False,
            "presence_penalty": 0,
            "stream_options": {"include_usage": True},
            "store": False,
        },
        "messages": {
            "metadata": {"user_id": "u"},
            "service_tier": "auto",
            "thinking": {"type": "adaptive"},
            "temperature": 0,
        },
        "responses": {
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "prompt_cache_key": "k",
            "reasoning": {"summary": "auto"},
        },
    }[asked]
    assert loss(call_of(asked, {**asking(asked), **more}), speaks) == ""


def test_trap_24_falsy_values_and_numbers_are_sent_as_they_were_written() -> None:
    call = call_of(
        "messages",
        b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"a"}],"temperature":0,"top_p":0.10}',
    )
    sent = translated(call, "chat", MODEL, PROVIDER).render()
    assert b'"temperature":0,' in sent and b'"top_p":0.10' in sent


def test_trap_25_numbers_in_the_arguments_of_a_tool_stay_whole() -> None:
    used = {"type": "tool_use", "id": "t", "name": "f", "input": {"n": 2**80}}
    body = {"model": "m", "max_tokens": 5, "messages": [*PLAIN, {"role": "assistant", "content": [used]}, *PLAIN]}
    assert str(2**80).encode() in translated(call_of("messages", body), "chat", MODEL, PROVIDER).render()


def pieces(*calls: dict[str, Any]) -> list[Any]:
    reader = ChatReader()
    return [
        e
        for c in calls
        for e in reader.event(b"", {"choices": [{"delta": {"tool_calls": [c]}}]})
        if isinstance(e, (ToolCallStart, ArgumentsDelta))
    ]


@pytest.mark.parametrize(
    "calls",
    [
        [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}, {"index": 0,
        "function": {"arguments": "{}"}},
         {"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}],
        [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}, {"index": 0, "id": "b",
        "function": {"name": "g",
         "arguments": "{}"}}],
        [{"id": "a", "function": {"name": "f", "arguments": "{"}}, {"function": {"arguments": "}"}}, {"id": "b",
         "function": {"name": "g", "arguments": "{}"}}],
        [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}, {"index": 0, "id": "a",
        "function": {"arguments": "}"}},
         {"index": 1, "id": "b", "function": {"name": "g", "arguments": {}}}],
    ],
    ids=["as documented", "one index for all", "no index", "the id again"],
)  # fmt: skip
def test_trap_13_calls_of_tools_are_told_apart(calls: list[dict[str, Any]]) -> None:
    found = pieces(*calls)
    assert [(e.key, e.id, e.name) for e in found if isinstance(e, ToolCallStart)] == [(0, "a", "f"), (1, "b", "g")]
    assert "".join(e.text for e in found if isinstance(e, ArgumentsDelta) and e.key == 0) == "{}"


def test_calls_that_come_at_once_are_written_one_after_the_other() -> None:
    turn = reply_translator(call_of("messages", asking("messages", stream=True)), "chat", shown=None, input_tokens=1)
    calls = [
        {"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":'}}, {"index": 1, "id": "b",
        "function": {"name": "g",
         "arguments": "{"}},
        {"index": 0, "function": {"arguments": "1}"}}, {"index": 1, "function": {"arguments": "}"}},
    ]  # fmt: skip
    out = b"".join(turn.event(b"", json.dumps({"choices": [{"delta": {"tool_calls": [c]}}]}).encode()) for c in calls)
    out += turn.event(b"", b"[DONE]")
    said: dict[int, str] = {}
    for _, body in events_of(out):
        if body["type"] == "content_block_delta":
            said[body["index"]] = said.get(body["index"], "") + body["delta"]["partial_json"]
    assert said == {0: '{"x":1}', 1: "{}"}


# -- older servers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edits", "body", "wanted"),
    [
        (Edits(rename={"max_completion_tokens": "max_tokens"}), b'{"a": 1, "max_completion_tokens": 5}', {"a": 1,
        "max_tokens": 5}),
        (Edits(rename={"max_completion_tokens": "max_tokens"}), b'{"max_completion_tokens":5,"max_tokens":4}',
        {"max_tokens": 4}),
        (Edits(rename={"service_tier": ""}), b'{"service_tier":"auto"}', {}),
        (Edits(roles={"developer": "system"}), b'{"messages":[{"role":"developer","content":"x"},{"role":"user","content":"y"}]}',
         {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]}),
        (Edits(roles={"developer": "system"}, one_system=True),

                  b'{"messages":[{"role":"system","content":"x"},{"role":"user","content":"y"},{"role":"developer","content":[{"type":"text","text":"z"}]}]}',
         {"messages": [{"role": "system", "content": "x\n\nz"}, {"role": "user", "content": "y"}]}),
    ],
)  # fmt: skip
def test_traps_20_and_47_other_names_where_the_arm_says_so(edits: Edits, body: bytes, wanted: dict[str, Any]) -> None:
    members = Members(body)
    edited(members, edits)
    assert json.loads(members.render()) == wanted


def test_without_edits_not_a_byte_changes() -> None:
    body = b'{"messages" : [ {"role":"developer", "content":"x"} ], "max_completion_tokens":5}'
    members = Members(body)
    edited(members, Edits())
    assert members.render() == body


# -- over the wire ----------------------------------------------------------------------------------------------------

USAGE = usage_chunk()


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with pytest.MonkeyPatch.context() as patch, FakeProvider() as found:
        patch.setenv("FAKE_PROVIDER_KEY", KEY)
        yield found


@pytest.fixture(scope="module", params=["chat", "messages", "responses"])
def gate(request: pytest.FixtureRequest, fake: FakeProvider) -> Iterator[tuple[str, Rig]]:
    """(the only endpoint of the provider, a gateway before it)."""
    with rig({"fake": fake}, speaks=(request.param,)) as found:
        yield request.param, found


@pytest.fixture(autouse=True)
def _fresh(request: pytest.FixtureRequest) -> None:
    if "gate" in request.fixturenames:
        fake, (_, gateway) = request.getfixturevalue("fake"), request.getfixturevalue("gate")
        fake.script = None
        fake.asked.clear()
        gateway.fresh()


TEXT = "Faust was written by Goethe."


@pytest.mark.parametrize("model", ["auto:cheap", "gpt-5-mini"])
def test_the_packages_of_openai_and_anthropic_over_any_endpoint(
    gate: tuple[str, Rig], fake: FakeProvider, model: str
) -> None:
    end, gateway = gate
    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0) as chat:
        assert chat.chat.completions.create(model=model, messages=PLAIN).choices[0].message.content == TEXT
        options: Any = {"stream": True, "stream_options": {"include_usage": True}}
        parts = list(chat.chat.completions.create(model=model, messages=PLAIN, **options))
        assert "".join(p.choices[0].delta.content or "" for p in parts if p.choices) == TEXT
        assert parts[0].choices[0].delta.role == "assistant"  # trap 23
        assert sum(not p.choices for p in parts) == 1 and parts[-1].usage.total_tokens == 18
        assert not any(not p.choices for p in chat.chat.completions.create(model=model, messages=PLAIN, stream=True))
        assert chat.responses.create(model=model, input="Hi").output_text == TEXT
        with chat.responses.stream(model=model, input="Hi") as stream:
            kinds = [e.type for e in stream]
            assert (
                stream.get_final_response().output_text == TEXT and stream.get_final_response().usage.output_tokens == 7
            )
        assert (
            kinds[0] == "response.created"
            and kinds[-1] == "response.completed"
            and kinds.count("response.completed") == 1
        )
    with anthropic.Anthropic(base_url=gateway.url, api_key="none", max_retries=0) as claude:
        found = claude.messages.create(model=model, max_tokens=100, messages=PLAIN)
        assert found.content[0].text == TEXT and found.stop_reason == "end_turn" and found.usage.output_tokens == 7
        with claude.messages.stream(model=model, max_tokens=100, messages=PLAIN) as events:
            assert "".join(events.text_stream) == TEXT
            assert events.get_final_message().usage.input_tokens == 11 and events.get_final_message().model == model
    assert {asked.path for asked in fake.asked} == {f"/v1{NAMED[end].path}"}  # type: ignore[index]
    settled = gateway.settled(7)
    assert all(s.state == "done" and not s.estimated and s.usage and s.usage.output == 7 for s in settled)


@pytest.fixture(scope="module")
def over_chat(fake: FakeProvider) -> Iterator[Rig]:
    with rig({"fake": fake}, speaks=("chat",)) as found:
        yield found


def test_thinking_and_two_tools_in_a_stream_over_chat(over_chat: Rig, fake: FakeProvider) -> None:
    """Traps 14, 36, 37, 38."""
    gateway = over_chat
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}

    def delta(**said: Any) -> bytes:
        return event({**head, "choices": [{"index": 0, "delta": said, "finish_reason": None}]})

    def used(index: int, **function: str) -> dict[str, Any]:
        return {"index": index, "id": f"call_{index}", "type": "function", "function": function}

    parts = [
        delta(role="assistant", content=""), delta(reasoning_content="Hm"), delta(content="Looking"),
        delta(tool_calls=[used(0, name="look", arguments='{"a"')]), delta(tool_calls=[{"index": 0,
        "function": {"arguments": ":1}"}}]),
        delta(tool_calls=[used(1, name="look", arguments="")]), chunk(None, "tool_calls"), USAGE, DONE,
    ]  # fmt: skip
    fake.script = lambda asked: Answer(parts)
    tools: Any = [{"name": "look", "input_schema": {"type": "object"}}]
    with anthropic.Anthropic(base_url=gateway.url, api_key="none", max_retries=0) as claude:
        with claude.messages.stream(model="auto:cheap", max_tokens=100, messages=PLAIN, tools=tools) as stream:
            found = stream.get_final_message()
        assert [b.type for b in found.content] == ["thinking", "text", "tool_use", "tool_use"]
        assert [b.input for b in found.content if b.type == "tool_use"] == [{"a": 1}, {}]
        assert found.stop_reason == "tool_use" and found.usage.input_tokens == 11
        history: Any = [
            *PLAIN,
            {"role": "assistant", "content": [b.model_dump(exclude_none=True) for b in found.content]},
        ]
        outputs: Any = [{"type": "tool_result", "tool_use_id": f"call_{n}", "content": "ok"} for n in (0, 1)]
        again = claude.messages.with_raw_response.create(
            model="auto:cheap", max_tokens=100, messages=[*history, {"role": "user", "content": outputs}], tools=tools
        )
        # the thinking is its provider's, and goes back to it (trap 15)
        assert again.headers["x-r2router-reason"] == "pinned:state"
    sent = fake.asked[-1].body["messages"]
    assert sent[1]["reasoning_content"] == "Hm" and [c["function"]["arguments"] for c in sent[1]["tool_calls"]] == [
        '{"a":1}',
        "{}",
    ]
    assert [m["role"] for m in sent[2:]] == ["tool", "tool"]
    body = asking("messages", model="auto:cheap", stream=True, tools=tools)
    names = [name for name, _ in events_of(gateway.post("messages", body)[2])]
    assert (
        names.count("message_stop") == 1
        and names[0] == "message_start"
        and names[-2:] == ["message_delta", "message_stop"]
    )


def test_a_broken_stream_ends_in_the_words_of_the_client(gate: tuple[str, Rig], fake: FakeProvider) -> None:
    end, gateway = gate
    begun = {
        "chat": [chunk("Faust"), chunk(" was")],
        "responses": response_events()[:6],
        "messages": message_events()[:5],
    }[end]
    for how in (
        [*begun, 0.05, RESET],
        begun,
        [*begun, event({"type": "error", "error": {"message": "overloaded", "type": "x"}}, "error")],
    ):
        fake.script = lambda asked, how=how: Answer(how)  # type: ignore[misc]
        for asked in ("chat", "messages", "responses"):
            if asked == end:
                continue
            _, _, body = gateway.post(asked, asking(asked, model="gpt-5-mini", stream=True))
            name, last = events_of(body)[-1]
            assert b"[DONE]" not in body and b"message_stop" not in body and b"response.completed" not in body, (
                asked,
                how,
            )
            assert {"chat": "error" in last, "messages": name == "error", "responses": name == "response.failed"}[asked]
            if asked == "responses":
                numbers = [said["sequence_number"] for _, said in events_of(body)]
                assert numbers == list(range(len(numbers)))


def test_errors_have_the_shape_of_the_endpoint_that_was_asked(gate: tuple[str, Rig], fake: FakeProvider) -> None:
    end, gateway = gate
    fake.script = lambda asked: as_json({"error": {"message": "no such voice", "type": "invalid_request_error"}}, 400)
    for asked in ("chat", "messages", "responses"):
        status, _, body = gateway.post(asked, asking(asked, model="gpt-5-mini"))
        error = json.loads(body)
        assert status == 400 and "no such voice" in error["error"]["message"]
        assert asked == end or ("request_id" in error) == (asked == "messages")


def test_an_arm_is_left_out_where_something_would_be_lost(gate: tuple[str, Rig], fake: FakeProvider) -> None:
    end, gateway = gate
    body = {
        "chat": asking("messages", tools=[{"name": "x", "input_schema": {}, "cache_control": {"type": "ephemeral"}}]),
        "messages": asking("chat", seed=7),
        "responses": asking("chat", stop=["x"]),
    }[end]
    asked = "messages" if end == "chat" else "chat"
    status, _, said = gateway.post(asked, body)
    assert status == 400 and b"would be lost" in said and not fake.asked
    status, _, said = gateway.post(asked, {**body, "model": "gpt-5-mini"})
    assert status == 400 and b"would be lost" in said and not fake.asked


def test_trap_20_a_role_that_an_older_server_does_not_know(fake: FakeProvider) -> None:
    edits = {"rename": {"max_completion_tokens": "max_tokens"}, "roles": {"developer": "system"}}
    own = {"id": "old", "provider": "fake", "usd_per_million": {"input": 1, "output": 1}, "edits": edits}
    fake.asked.clear()
    with rig({"fake": fake}, given={"model": [own]}) as gateway:
        messages = [{"role": "developer", "content": "Be brief"}, *PLAIN]
        assert gateway.post("chat", {"model": "old", "messages": messages, "max_completion_tokens": 9})[0] == 200
    sent = fake.asked[0].body
    assert (
        [m["role"] for m in sent["messages"]] == ["system", "user"]
        and sent["max_tokens"] == 9
        and "max_completion_tokens" not in sent
    )


# -- secrets ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(max_size=12), max_size=6), st.lists(st.integers(0, 40), max_size=8))
def test_a_secret_is_masked_however_it_is_cut(parts: list[bytes], cuts: list[int]) -> None:
    secret = b"sk-abcabcabd"
    whole = secret.join(parts)
    mask, out, at = StreamMask(secret), b"", 0
    for cut in [*sorted(c for c in cuts if c < len(whole)), len(whole)]:
        out += mask.feed(whole[at:cut])
        at = max(at, cut)
    out += mask.end()
    assert out == whole.replace(secret, b"*" * len(secret))


def test_a_key_that_a_provider_sends_back_is_masked(over_chat: Rig, fake: FakeProvider) -> None:
    gateway = over_chat
    sent = chunk(f"your key is {KEY}!")
    at = sent.index(KEY.encode()) + 5
    fake.script = lambda asked: Answer([sent[:at], 0.02, sent[at:], chunk(None, "stop"), DONE])
    _, _, body = gateway.post("chat", asking("chat", model="gpt-5-mini", stream=True))
    assert KEY.encode() not in body and b"your key is " + b"*" * len(KEY) + b"!" in body
    fake.script = lambda asked: as_json(
        {"choices": [{"index": 0, "message": {"content": KEY}, "finish_reason": "stop"}]}
    )
    assert KEY.encode() not in gateway.post("chat", asking("chat", model="gpt-5-mini"))[2]
