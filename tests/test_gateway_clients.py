"""Real clients through the gateway: the `openai` and `anthropic` packages, and requests as Claude Code shapes them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the gateway needs the [serve] extra")

import anthropic
import openai

from fake_provider import (
    DONE,
    RESET,
    Answer,
    Asked,
    FakeProvider,
    as_json,
    chunk,
    event,
    message_events,
    response_events,
)
from gateway_rig import KEY, Rig, rig

TEXT = "Faust was written by Goethe."
ASK: Any = [{"role": "user", "content": "Who wrote Faust?"}]
TOOLS: Any = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with pytest.MonkeyPatch.context() as patch, FakeProvider() as found:
        patch.setenv("FAKE_PROVIDER_KEY", KEY)
        yield found


@pytest.fixture(scope="module")
def gate(fake: FakeProvider) -> Iterator[Rig]:
    with rig({"fake": fake}, given={"alias": {"claude-*": "auto:cheap"}}) as found:
        yield found


@pytest.fixture(autouse=True)
def _fresh(fake: FakeProvider, gate: Rig) -> None:
    fake.script = None
    fake.asked.clear()
    gate.fresh()


@pytest.fixture
def chat(gate: Rig) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{gate.url}/v1", api_key="none", max_retries=0) as client:
        yield client


@pytest.fixture
def claude(gate: Rig) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=gate.url, api_key="none", max_retries=0) as client:
        yield client


def test_openai_plain_stream_and_models(chat: Any) -> None:
    assert chat.chat.completions.create(model="auto", messages=ASK).choices[0].message.content == TEXT
    parts = list(chat.chat.completions.create(model="auto", messages=ASK, stream=True))
    assert "".join(p.choices[0].delta.content or "" for p in parts) == TEXT and all(p.usage is None for p in parts)
    parts = list(
        chat.chat.completions.create(model="auto", messages=ASK, stream=True, stream_options={"include_usage": True})
    )
    assert [p.usage.completion_tokens for p in parts if p.usage] == [7] and sum(not p.choices for p in parts) == 1
    assert "auto" in [m.id for m in chat.models.list()] and chat.models.retrieve("auto").id == "auto"
    assert chat.embeddings.create(model="gpt-5-mini", input="a", encoding_format="float").data[0].embedding == [
        0.5,
        -0.25,
    ]


def test_openai_responses(chat: Any) -> None:
    assert chat.responses.create(model="auto:cheap", input="Who wrote Faust?").output_text == TEXT
    with chat.responses.stream(model="auto:cheap", input="Who wrote Faust?") as stream:
        kinds = [e.type for e in stream]
        assert stream.get_final_response().usage.total_tokens == 18
    assert kinds[0] == "response.created" and kinds[-1] == "response.completed"


def test_openai_async(gate: Rig) -> None:
    async def ask() -> list[str]:
        async with openai.AsyncOpenAI(base_url=f"{gate.url}/v1", api_key="none", max_retries=0) as client:
            made = (client.chat.completions.create(model="auto", messages=ASK) for _ in range(8))
            return [found.choices[0].message.content for found in await asyncio.gather(*made)]

    assert asyncio.run(ask()) == [TEXT] * 8


def test_openai_tools_in_a_stream(chat: Any, fake: FakeProvider) -> None:
    def call(index: int, **function: str) -> bytes:
        delta = {"tool_calls": [{"index": index, "id": f"call_{index}", "type": "function", "function": function}]}
        head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
        return event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})

    calls = [call(0, name="look", arguments=""), call(0, arguments="{}"), call(1, name="look", arguments="{}")]
    fake.script = lambda asked: Answer([*calls, chunk(None, "tool_calls"), DONE])
    parts = chat.chat.completions.create(model="auto", messages=ASK, tools=TOOLS, stream=True)
    found = [c for p in parts for c in p.choices[0].delta.tool_calls or []]
    assert [(c.index, c.id) for c in found] == [(0, "call_0"), (0, "call_0"), (1, "call_1")]
    assert fake.asked[0].body["tools"] == TOOLS


def test_openai_sees_errors_as_they_are(chat: Any, fake: FakeProvider) -> None:
    fake.script = lambda asked: as_json(
        {"error": {"message": "bad temperature", "type": "invalid_request_error", "param": "temperature"}}, 400
    )
    with pytest.raises(openai.BadRequestError, match="bad temperature"):
        chat.chat.completions.create(model="auto", messages=ASK)
    with pytest.raises(openai.NotFoundError, match="nobody"):
        chat.chat.completions.create(model="nobody", messages=ASK)
    fake.script = lambda asked: Answer([chunk("Faust"), 0.05, RESET])
    with pytest.raises(openai.APIError):
        list(chat.chat.completions.create(model="auto", messages=ASK, stream=True))


def test_anthropic_plain_stream_and_errors(claude: Any, fake: FakeProvider) -> None:
    found = claude.messages.create(model="auto:cheap", max_tokens=100, messages=ASK)
    assert found.content[0].text == TEXT and found.model == "auto:cheap" and found.usage.output_tokens == 7
    with claude.messages.stream(model="claude-next", max_tokens=100, messages=ASK) as stream:
        assert "".join(stream.text_stream) == TEXT and stream.get_final_message().usage.input_tokens == 11
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.create(model="nobody", max_tokens=1, messages=ASK)
    fake.script = lambda asked: Answer([*message_events()[:5], 0.05, RESET])
    with (
        pytest.raises(anthropic.APIStatusError),
        claude.messages.stream(model="auto:cheap", max_tokens=9, messages=ASK) as stream,
    ):
        stream.get_final_message()


def test_anthropic_thinking_and_tools_in_a_stream(claude: Any, fake: FakeProvider) -> None:
    start = json.loads(message_events()[0].split(b"data: ")[1])
    blocks: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"type": "thinking", "thinking": "", "signature": ""}, {"type": "thinking_delta", "thinking": "Hm"}),
        ({"type": "text", "text": ""}, {"type": "text_delta", "text": "Looking"}),
        (
            {"type": "tool_use", "id": "t1", "name": "look", "input": {}},
            {"type": "input_json_delta", "partial_json": '{"a":1}'},
        ),
        (
            {"type": "tool_use", "id": "t2", "name": "look", "input": {}},
            {"type": "input_json_delta", "partial_json": "{}"},
        ),
    ]
    events = [start]
    for index, (block, delta) in enumerate(blocks):
        events += [
            {"type": "content_block_start", "index": index, "content_block": block},
            {"type": "content_block_delta", "index": index, "delta": delta},
            {"type": "content_block_stop", "index": index},
        ]
    events += [
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ]
    fake.script = lambda asked: Answer([event(e, e["type"]) for e in events])
    tools = [{"name": "look", "input_schema": {"type": "object"}}]
    with claude.messages.stream(model="auto:cheap", max_tokens=100, messages=ASK, tools=tools) as stream:
        found = stream.get_final_message()
    assert [b.type for b in found.content] == ["thinking", "text", "tool_use", "tool_use"] and found.content[
        2
    ].input == {"a": 1}
    assert found.stop_reason == "tool_use"


def test_a_session_as_claude_code_shapes_it(gate: Rig, fake: FakeProvider) -> None:
    """Written from the protocol page: `?beta=true`, `HEAD /`, a loop of tools, metadata, beta headers, a signature that
    stays.
    """

    def script(asked: Asked) -> Answer | None:
        start, *_ = message_events()
        used: list[dict[str, Any]] = [
            {
                "type": "content_block_start",
                "index": 0,
                "content_block": {"type": "tool_use", "id": "t1", "name": "Bash", "input": {}},
            },
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{}"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 5}},
            {"type": "message_stop"},
        ]
        return None if b"tool_result" in asked.raw else Answer([start, *(event(e, e["type"]) for e in used)])

    fake.script = script
    thinking = {"type": "thinking", "thinking": "Let me \u00e9", "signature": "c2lnbmVk"}
    call = {"type": "tool_use", "id": "t1", "name": "Bash", "input": {}}
    output = {"type": "tool_result", "tool_use_id": "t1", "content": "ok", "cache_control": {"type": "ephemeral"}}
    body: dict[str, Any] = {
        "model": "claude-opus-4-5", "max_tokens": 32000, "stream": True, "thinking": {"type": "adaptive"},
        "system": [
            {"type": "text", "text": "x-anthropic-billing-header: cc_version=2; cch=abc;"},
            {"type": "text", "text": "You are Claude Code.", "cache_control": {"type": "ephemeral"}},
        ],
        "tools": [{"name": "Bash", "input_schema": {"type": "object"}}], "context_management": {"edits": []},
        "metadata": {"user_id": '{"device_id":"d","session_id":"not-this"}'},
        "messages": [{"role": "user", "content": [{"type": "text",
        "text": t} for t in ("<system-reminder>x</system-reminder>", "Fix")]}],
    }  # fmt: skip
    headers = {
        "x_claude_code_session_id": "cc-1",
        "anthropic_beta": "context-management-2025-06-27",
        "x_api_key": "none",
    }
    assert gate.request("HEAD", "/")[0] == 200
    assert gate.request("GET", "/v1/models?limit=1000", x_api_key="none")[0] == 200
    assert gate.post("/v1/messages/count_tokens", body, **headers)[0] == 404
    status, first, _ = gate.post("/v1/messages?beta=true", body, **headers)
    body["messages"] += [{"role": "assistant", "content": [thinking, call]}, {"role": "user", "content": [output]}]
    again, second, said = gate.post("/v1/messages?beta=true", body, **headers)
    assert (status, again) == (200, 200) and b"message_stop" in said and b'"claude-opus-4-5"' in said
    assert (
        second["x-r2router-reason"] == "pinned:state"
        and second["x-r2router-session"] == "cc-1" == first["x-r2router-session"]
    )
    sent = fake.asked[-1]
    assert json.dumps(thinking).encode() in sent.raw and sent.headers["anthropic-beta"] == headers["anthropic_beta"]
    assert sent.body["system"] == body["system"] and sent.body["max_tokens"] <= 32000
    assert [o.session for o in gate.books.opened[-2:]] == ["cc-1", "cc-1"]


def test_responses_as_codex_sends_them(gate: Rig, fake: FakeProvider) -> None:
    from backports import zstd

    fake.script = lambda asked: Answer(response_events())
    body = {
        "model": "auto:cheap", "instructions": "You are Codex.", "store": False, "stream": True,
        "include": ["reasoning.encrypted_content"],
        "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Fix"}]}],
        "prompt_cache_key": "k",
        "tools": [{"type": "custom", "name": "apply_patch"}, {"type": "web_search"}], "reasoning": {"effort": "medium",
        "summary": "auto"},
    }  # fmt: skip
    status, headers, said = gate.post(
        "responses", zstd.compress(json.dumps(body).encode()), content_encoding="zstd", session_id="codex-1"
    )
    assert status == 200 and b"response.completed" in said and headers["x-r2router-session"] == "codex-1"
    assert fake.asked[0].body["tools"] == body["tools"]
