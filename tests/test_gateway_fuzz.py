"""Requests and replies that nobody thought of: whatever comes in, the gateway has no fault of its own, and every row is
settled.

`R2ROUTER_FUZZ=10000 pytest tests/test_gateway_fuzz.py --hypothesis-profile=explore` tries others.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the gateway needs the [serve] extra")

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fake_provider import message_events, response, response_events
from gateway_rig import EVERY, KEY, Pages, config
from r2router.gateway.app import Gateway
from r2router.gateway.config import Served
from r2router.gateway.logs import Log
from r2router.gateway.setting import Setting

MANY, EACH = int(os.environ.get("R2ROUTER_FUZZ", "2400")), 20
"""Requests in all, and per seed: a seed that fails gives the same requests again."""

WORDS = ("auto", "", "user", "text", "tool", "\ud800", "\u2028", "Grüße", "data: x", "a" * 300)


def anything(rng: random.Random, depth: int = 2) -> Any:
    """Any JSON value, and what only some encoders write."""
    match rng.randrange(9 if depth else 6):
        case 0:
            return None
        case 1:
            return rng.random() < 0.5
        case 2:
            return rng.choice((0, 1, -1, 7, 2**31, 2**70, -(2**70)))
        case 3:
            return rng.choice((0.0, -0.5, 1e308, float("nan"), float("inf"), 1e-9))
        case 4 | 5:
            return rng.choice(WORDS)
        case 6:
            return [anything(rng, depth - 1) for _ in range(rng.randrange(4))]
        case _:
            return {rng.choice(NAMES): anything(rng, depth - 1) for _ in range(rng.randrange(4))}


NAMES = (
    "type",
    "role",
    "content",
    "text",
    "id",
    "name",
    "function",
    "arguments",
    "usage",
    "error",
    "x",
    "",
    "cache_control",
    "input",
    "delta",
)
PNG = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwC"
SCHEMA = {"type": "object", "properties": {}}
BODIES: dict[str, list[dict[str, Any]]] = {
    "/v1/chat/completions": [
        {"model": "auto", "messages": [{"role": "user", "content": "Hi"}], "stream": True,
        "stream_options": {"include_usage": True}},
        {
            "model": "auto:cheap",
            "messages": [
                {"role": "developer", "content": [{"type": "text", "text": "x"}]},
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
                {"type": "text",
                    "text": "y"}]},
                {"role": "assistant", "content": None, "tool_calls": [{"id": "t", "type": "function",
                "function": {"name": "f",
                    "arguments": "{}"}}]},
                {"role": "tool", "tool_call_id": "t", "content": "error: no"},
            ],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
            "max_tokens": 5, "reasoning_effort": "low", "n": 1, "temperature": 0.5, "r2router": {"models": ["gpt-*"],
            "session": "s"},
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
            "metadata": {"user_id": "{}"},
        },
    ],
    "/v1/messages": [
        {
            "model": "auto:best", "max_tokens": 9, "system": [{"type": "text", "text": "x"}],
            "thinking": {"type": "enabled",
                "budget_tokens": 2000},
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image",
                "source": {"type": "base64", "data": "aa"}}]},
                {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text",
                    "text": "x"}], "is_error": True}]},
            ],
            "tools": [{"name": "f", "input_schema": SCHEMA}], "output_config": {"effort": "low"}, "stream": True,
        },
    ],
    "/v1/responses": [
        {"model": "auto:cascade", "input": "Hi", "stream": True},
        {
            "model": "gpt-5-mini@low", "instructions": "x", "reasoning": {"effort": "low"},
            "text": {"format": {"type": "text"}},
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": "x"}, {"type": "input_image",
                "image_url": PNG}]},
                {"type": "function_call", "call_id": "t", "name": "f", "arguments": "{}"},
                {"type": "function_call_output", "call_id": "t", "output": "x"}, {"type": "reasoning",
                "id": "rs_r2router_0",
                    "summary": []},
            ],
            "tools": [{"type": "function", "name": "f", "parameters": SCHEMA}], "prompt_cache_key": "k",
        },
    ],
    "/v1/completions": [{"model": "gpt-5-mini", "prompt": ["a"], "max_tokens": 4}],
    "/v1/embeddings": [{"model": "gpt-5-mini", "input": ["a"]}],
    "/v1/route": [{"text": "Hi"}],
}  # fmt: skip
EVENTS = [
    json.loads(part.split(b"data: ")[1]) for part in (*message_events(), *response_events())
] + [
    {"choices": [{"index": 0, "delta": {"content": "x", "tool_calls": [{"index": 0, "id": "a", "function": {"name": "f",
        "arguments": "{}"}}]}}]},
    {"choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
    {"error": {"message": "x", "code": 503}}, response(),
    {"type": "message", "content": [{"type": "text", "text": "x"}], "stop_reason": "end_turn",
    "usage": {"input_tokens": 3,
        "output_tokens": 2}},
]  # fmt: skip


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """All paths in a JSON value."""
    yield at
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield from places(part, (*at, key))


def changed(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return new
    if isinstance(value, dict):
        return {k: changed(v, at[1:], new) if k == at[0] else v for k, v in value.items()}
    return [changed(v, at[1:], new) if k == at[0] else v for k, v in enumerate(value)]


def mutated(rng: random.Random, values: list[dict[str, Any]]) -> Any:
    """A value with up to three of its parts replaced by anything, or with a member more."""
    value: Any = rng.choice(values)
    for _ in range(rng.randrange(4)):
        value = changed(value, rng.choice(list(places(value))), anything(rng))
    return {**value, rng.choice(NAMES): anything(rng)} if isinstance(value, dict) and rng.random() < 0.5 else value


def asked_by(rng: random.Random) -> tuple[str, bytes]:
    """(path, body) of a client."""
    path = rng.choice(list(BODIES))
    data = json.dumps(mutated(rng, BODIES[path]), ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    if rng.random() < 0.05:
        cut = rng.randrange(len(data) + 1)
        data = data[:cut] + rng.randbytes(rng.randrange(3)) + data[cut:]
    return path, data


def replied_by(rng: random.Random) -> tuple[int, str, list[bytes]]:
    """(status, content type, pieces) of a provider."""
    status = rng.choice((200, 200, 200, 200, 200, 400, 401, 404, 429, 500, 529, 302))
    whole = [json.dumps(mutated(rng, EVENTS)).encode("utf-8", "replace") for _ in range(rng.randrange(5))]
    if rng.random() < 0.6:
        parts = [b"data: " + part + b"\n\n" for part in whole] + ([b"data: [DONE]\n\n"] if rng.random() < 0.5 else [])
        return status, "text/event-stream", parts
    return status, "application/json", whole[:1] or [rng.randbytes(rng.randrange(9))]


class Scripted:
    """A provider in memory, that says what a test drew."""

    def __init__(self) -> None:
        self.reply: tuple[int, str, list[bytes]] = (200, "application/json", [b"{}"])

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], provider: Served, wait_s: float) -> Any:
        json.loads(body)
        status, kind, parts = self.reply

        class Exchange:
            def __init__(self) -> None:
                self.status, self.headers = status, {"Content-Type": kind}

            async def chunks(self) -> AsyncIterator[bytes]:
                for part in parts:
                    yield part

            def close(self, *, whole: bool) -> None: ...

        return Exchange()

    async def close(self) -> None: ...


class Nowhere:
    url = "http://127.0.0.1:9/v1"


class World:
    """A gateway without sockets."""

    def __init__(self, speaks: tuple[str, ...]) -> None:
        self.lines: list[str] = []
        self.books, self.caller = Pages(), Scripted()
        setting = Setting.of(config({"fake": Nowhere()}, speaks=speaks, given={"limits": {"attempts": 2}}))  # type: ignore[dict-item]
        self.gateway = Gateway(setting, books=self.books, log=Log("json", self), caller=self.caller)  # type: ignore[arg-type]
        self.loop = asyncio.new_event_loop()

    def write(self, line: str) -> None:
        self.lines.append(line)

    def flush(self) -> None: ...

    async def ask(self, path: str, body: bytes) -> int:
        """The status, 0 where the connection is closed without one."""
        told, sent = [{"type": "http.request", "body": body, "more_body": False}], list[Any]()

        async def receive() -> Any:
            if told:
                return told.pop()
            await asyncio.sleep(3600)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
        await self.gateway(
            {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}, receive, send
        )
        heads = [m["status"] for m in sent if m["type"] == "http.response.start"]
        assert len(heads) == 1 and not any(KEY.encode() in m.get("body", b"") for m in sent)
        return int(heads[0])


@pytest.fixture(
    scope="module",
    params=[EVERY, ("chat",), ("messages",), ("responses",)],
    ids=["native", "chat", "messages", "responses"],
)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_PROVIDER_KEY", KEY)
        found = World(request.param)
        yield found
        found.loop.run_until_complete(found.gateway.close())
        found.loop.close()


@pytest.mark.slow
@settings(
    max_examples=MANY // (4 * EACH),
    deadline=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
@given(seed=st.integers(0, 2**64))
def test_no_request_and_no_reply_is_a_fault_of_ours(world: World, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(EACH):
        world.lines.clear()
        world.books.opened.clear()
        world.books.settled.clear()
        asked, world.caller.reply = asked_by(rng), replied_by(rng)
        status = world.loop.run_until_complete(world.ask(*asked))
        faults = [line for line in world.lines if "internal error" in line]
        assert not faults, (faults, asked, world.caller.reply)
        assert status != 500 or world.caller.reply[0] == 500, (asked, world.caller.reply)
        assert len(world.books.opened) == len(world.books.settled) and world.gateway.active == 0
        assert all(s.cost is None or s.cost >= 0 for s in world.books.settled)
