"""The provider for a first look: it calls nobody, costs nothing, and says so in every answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec

from r2router.gateway.config import Served

TEXT = (
    "[r2router replay] No provider key is set, so no model was asked. The routing decision is real: see the x-r2router"
    " headers."
)
_TOKENS = 28


class Replay:
    """A `Caller` that gives every request the same answer."""

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], provider: Served, wait_s: float
    ) -> _ReplayExchange:
        asked: dict[str, Any] = msgspec.json.decode(body)
        path = url.removeprefix(provider.base_url)
        given = max(1, len(body) // 4)
        if asked.get("stream") is True and path in _STREAMS:
            return _ReplayExchange(_STREAMS[path](asked, given), "text/event-stream; charset=utf-8")
        return _ReplayExchange([msgspec.json.encode(_WHOLE[path](asked, given))], "application/json")

    async def close(self) -> None:
        """Do nothing: nothing is open."""


class _ReplayExchange:
    status = 200

    def __init__(self, parts: list[bytes], kind: str) -> None:
        self._parts = parts
        self.headers: Mapping[str, str] = {"Content-Type": kind}

    async def chunks(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part

    def close(self, *, whole: bool) -> None:
        """Do nothing: nothing is open."""


def _event(data: Any, name: str = "") -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + msgspec.json.encode(data) + b"\n\n"


def _chat_usage(given: int) -> dict[str, int]:
    return {"prompt_tokens": given, "completion_tokens": _TOKENS, "total_tokens": given + _TOKENS}


def _chat(asked: dict[str, Any], given: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": TEXT}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    head = {"id": "replay", "object": "chat.completion", "created": 0, "model": asked["model"]}
    return {**head, "choices": [choice], "usage": _chat_usage(given)}


def _chat_stream(asked: dict[str, Any], given: int) -> list[bytes]:
    head = {"id": "replay", "object": "chat.completion.chunk", "created": 0, "model": asked["model"]}
    deltas = [{"role": "assistant", "content": ""}, *({"content": f"{word} "} for word in TEXT.split())]
    parts = [_event({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}) for delta in deltas]
    parts.append(_event({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
    options = asked.get("stream_options")
    if isinstance(options, dict) and options.get("include_usage"):
        parts.append(_event({**head, "choices": [], "usage": _chat_usage(given)}))
    return [*parts, b"data: [DONE]\n\n"]


def _message(asked: dict[str, Any], given: int) -> dict[str, Any]:
    return {
        "id": "msg_replay", "type": "message", "role": "assistant", "model": asked["model"],
        "content": [{"type": "text", "text": TEXT}],
        "stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": given, "output_tokens": _TOKENS},
    }  # fmt: skip


def _message_stream(asked: dict[str, Any], given: int) -> list[bytes]:
    start = {
        **_message(asked, given),
        "content": [],
        "stop_reason": None,
        "usage": {"input_tokens": given, "output_tokens": 1},
    }
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": f"{word} "}}
            for word in TEXT.split()
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": _TOKENS},
        },
        {"type": "message_stop"},
    ]
    return [_event(event, event["type"]) for event in events]


def _response(asked: dict[str, Any], given: int) -> dict[str, Any]:
    return _response_head(asked) | {
        "status": "completed", "output": [_item()],
        "usage": {
            "input_tokens": given, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": _TOKENS,
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": given + _TOKENS,
        },
    }  # fmt: skip


def _response_head(asked: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "resp_replay", "object": "response", "created_at": 0, "status": "in_progress", "error": None,
        "incomplete_details": None,
        "instructions": None, "metadata": {}, "model": asked["model"], "output": [], "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto", "tools": [], "top_p": None,
    }  # fmt: skip


def _item() -> dict[str, Any]:
    part = {"type": "output_text", "text": TEXT, "annotations": []}
    return {"id": "msg_replay", "type": "message", "role": "assistant", "status": "completed", "content": [part]}


def _response_stream(asked: dict[str, Any], given: int) -> list[bytes]:
    head = _response_head(asked)
    place = {"item_id": "msg_replay", "output_index": 0, "content_index": 0}
    empty = {"type": "output_text", "text": "", "annotations": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": head},
        {"type": "response.in_progress", "response": head},
        {
            "type": "response.output_item.added",
            "output_index": 0,
            "item": {**_item(), "status": "in_progress", "content": []},
        },
        {"type": "response.content_part.added", **place, "part": empty},
        *(
            {"type": "response.output_text.delta", **place, "delta": f"{word} ", "logprobs": []}
            for word in TEXT.split()
        ),
        {"type": "response.output_text.done", **place, "text": TEXT, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": {**empty, "text": TEXT}},
        {"type": "response.output_item.done", "output_index": 0, "item": _item()},
        {"type": "response.completed", "response": _response(asked, given)},
    ]
    return [_event({**event, "sequence_number": number}, event["type"]) for number, event in enumerate(events)]


def _completion(asked: dict[str, Any], given: int) -> dict[str, Any]:
    choice = {"index": 0, "text": TEXT, "logprobs": None, "finish_reason": "stop"}
    head = {"id": "replay", "object": "text_completion", "created": 0, "model": asked["model"]}
    return {**head, "choices": [choice], "usage": _chat_usage(given)}


def _embedding(asked: dict[str, Any], given: int) -> dict[str, Any]:
    data = [{"object": "embedding", "index": 0, "embedding": [1.0]}]
    return {
        "object": "list",
        "model": asked["model"],
        "data": data,
        "usage": {"prompt_tokens": given, "total_tokens": given},
    }


_STREAMS = {"/chat/completions": _chat_stream, "/messages": _message_stream, "/responses": _response_stream}
_WHOLE = {
    "/chat/completions": _chat, "/messages": _message, "/responses": _response, "/completions": _completion,
    "/embeddings": _embedding,
}  # fmt: skip
