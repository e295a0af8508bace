"""Anthropic's messages: what is replied, read and written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from r2router.gateway.dialects.messages import MOST_COUNTS, OURS
from r2router.gateway.translate.common_request import (
    TranslationLoss,
    compact,
    object_of,
)
from r2router.gateway.translate.reply import (
    AnswerEnd,
    ArgumentsDelta,
    Ending,
    Event,
    ReplyReader,
    ReplyStart,
    ReplyWriter,
    StreamEnd,
    TextDelta,
    ToolCallStart,
    spent,
    sse,
)
from r2router.upstream.usage import Usage

_ENDINGS: dict[str, Ending] = {
    "max_tokens": "length", "model_context_window_exceeded": "length", "tool_use": "tools", "refusal": "refusal",
}  # fmt: skip


class MessagesReader(ReplyReader):
    """Reads events and whole messages."""

    def __init__(self) -> None:
        self._usage: dict[str, Any] = {}

    def event(self, name: bytes, body: dict[str, Any]) -> Iterator[Event]:
        match body.get("type"):
            case "message_start" if isinstance(message := body.get("message"), dict):
                yield ReplyStart(str(message.get("id") or ""), str(message.get("model") or ""))
                self._merge(message.get("usage"))
            case "content_block_start":
                yield from self._block(body.get("content_block"), _number(body.get("index")))
            case "content_block_delta" if isinstance(delta := body.get("delta"), dict):
                if isinstance(text := delta.get("text"), str) and text:
                    yield TextDelta("text", text)
                elif isinstance(text := delta.get("thinking"), str) and text:
                    yield TextDelta("thinking", text)
                elif isinstance(text := delta.get("partial_json"), str) and text:
                    yield ArgumentsDelta(_number(body.get("index")), text)
            case "message_delta":
                self._merge(body.get("usage"))
                delta = body.get("delta")
                if isinstance(delta, dict):
                    yield from self._end(delta)
                yield from spent(self._usage)
            case "message_stop":
                yield StreamEnd()

    def whole(self, body: dict[str, Any]) -> Iterator[Event]:
        yield ReplyStart(str(body.get("id") or ""), str(body.get("model") or ""))
        content = body.get("content")
        for index, block in enumerate(content if isinstance(content, list) else ()):
            yield from self._block(block, index)
        yield from self._end(body)
        yield from spent(body.get("usage"))
        yield StreamEnd()

    @staticmethod
    def _block(block: Any, index: int) -> Iterator[Event]:
        match block.get("type") if isinstance(block, dict) else None:
            case "text" if isinstance(text := block.get("text"), str) and text:
                yield TextDelta("text", text)
            case "thinking" if isinstance(text := block.get("thinking"), str) and text:
                yield TextDelta("thinking", text)
            case "tool_use":
                yield ToolCallStart(index, str(block.get("id") or f"call_{index}"), str(block.get("name") or ""))
                if block.get("input"):
                    yield ArgumentsDelta(index, compact(block["input"]))

    @staticmethod
    def _end(said: dict[str, Any]) -> Iterator[Event]:
        if isinstance(reason := said.get("stop_reason"), str):
            sequence = said.get("stop_sequence")
            yield AnswerEnd(_ENDINGS.get(reason, "stop"), sequence if isinstance(sequence, str) else None)

    def _merge(self, usage: Any) -> None:
        """Cumulative: the last value of each count."""
        if isinstance(usage, dict) and len(self._usage) + len(usage) <= MOST_COUNTS:
            self._usage |= {k: v for k, v in usage.items() if v is not None}


def _number(index: Any) -> int:
    return index if type(index) is int else 0


_LOOKS = 20
_REASONS: dict[Ending, str] = {"stop": "end_turn", "length": "max_tokens", "tools": "tool_use", "refusal": "refusal"}


class MessagesWriter(ReplyWriter):
    """Writes events and whole messages. A block is closed before the next one opens; only a tool call may be empty."""

    def __init__(self, *, shown: str | None, input_tokens: int, usage: bool) -> None:
        super().__init__(shown=shown, input_tokens=input_tokens, usage=usage)
        self._begun = False
        self._open: tuple[str, int] | None = None  # kind of the block, and of a call its key
        self._index = -1
        self._arguments: list[str] = []  # of the call that is open
        self._looked = 0  # how often at whether these are whole
        # calls that began while an earlier call was not complete yet
        self._later: dict[int, tuple[ToolCallStart, list[str]]] = {}

    def stream(self, event: Event) -> Iterator[bytes]:
        self.note(event)
        if not self._begun and not isinstance(event, ReplyStart):
            yield from self._start()
        match event:
            case ReplyStart():
                yield from self._start()
            case TextDelta(kind, text):
                yield from self._catch_up()
                kind = "text" if kind == "refusal" else kind
                if self._open != (kind, 0):
                    empty = (
                        {"type": "text", "text": ""}
                        if kind == "text"
                        else {"type": "thinking", "thinking": "", "signature": ""}
                    )
                    yield from self._next((kind, 0), empty)
                yield self._delta(
                    {"type": "text_delta", "text": text}
                    if kind == "text"
                    else {"type": "thinking_delta", "thinking": text}
                )
            case ToolCallStart(key) if self._open and self._open[0] == "tool" and not self._is_whole():
                self._later[key] = event, []
            case ToolCallStart():
                yield from self._call(event)
            case ArgumentsDelta(key, text) if key in self._later:
                self._later[key][1].append(text)
            case ArgumentsDelta(key, text) if self._open == ("tool", key):
                self._arguments.append(text)
                yield self._delta({"type": "input_json_delta", "partial_json": text})
            case StreamEnd():
                yield from self._catch_up()
                yield from self._close()
                delta = {"stop_reason": self._reason, "stop_sequence": self.ended.sequence if self.ended else None}
                yield sse({"type": "message_delta", "delta": delta, "usage": self._usage()}, "message_delta")
                yield sse({"type": "message_stop"}, "message_stop")

    @property
    def _reason(self) -> str:
        if self.ended is None:
            return "end_turn"
        return "stop_sequence" if self.ended.sequence else _REASONS[self.ended.ending]

    def _start(self) -> Iterator[bytes]:
        if not self._begun:
            self._begun = True
            head = self._message([], None) | {"usage": {"input_tokens": self.input_tokens, "output_tokens": 1}}
            yield sse({"type": "message_start", "message": head}, "message_start")

    def _call(self, call: ToolCallStart) -> Iterator[bytes]:
        self._arguments, self._looked = [], 0
        yield from self._next(("tool", call.key), {"type": "tool_use", "id": call.id, "name": call.name, "input": {}})

    def _is_whole(self) -> bool:
        """Whether the call that is open has all its arguments; one that often had not is taken to have more to come."""
        self._looked += 1
        return self._looked <= _LOOKS and _is_whole("".join(self._arguments))

    def _catch_up(self) -> Iterator[bytes]:
        for call, pieces in self._later.values():
            yield from self._call(call)
            for piece in pieces:
                yield self._delta({"type": "input_json_delta", "partial_json": piece})
        self._later = {}

    def _next(self, what: tuple[str, int], block: dict[str, Any]) -> Iterator[bytes]:
        yield from self._close()
        self._open, self._index = what, self._index + 1
        yield sse({"type": "content_block_start", "index": self._index, "content_block": block}, "content_block_start")

    def _close(self) -> Iterator[bytes]:
        if self._open is None:
            return
        if self._open[0] == "thinking":  # its clients give thinking back with its signature: this one says whose it is
            yield self._delta({"type": "signature_delta", "signature": OURS})
        self._open = None
        yield sse({"type": "content_block_stop", "index": self._index}, "content_block_stop")

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return sse({"type": "content_block_delta", "index": self._index, "delta": delta}, "content_block_delta")

    def _message(self, content: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
        return {
            "id": self.id or "msg_r2router", "type": "message", "role": "assistant", "model": self.model,
            "content": content,
            "stop_reason": reason, "stop_sequence": self.ended.sequence if self.ended else None,
        }  # fmt: skip

    def _usage(self) -> dict[str, Any]:
        if self.usage is None:
            return {"input_tokens": self.input_tokens, "output_tokens": 0}
        return _usage(self.usage)

    def reply(self, events: Iterable[Event]) -> dict[str, Any]:
        blocks: list[dict[str, Any]] = []
        words: list[list[str]] = []  # of each block
        arguments: dict[int, list[str]] = {}
        calls: dict[int, dict[str, Any]] = {}
        for event in events:
            self.note(event)
            match event:
                case TextDelta(kind, text):
                    name = "thinking" if kind == "thinking" else "text"
                    if not blocks or blocks[-1]["type"] != name:
                        blocks.append({"type": name, name: ""} | ({"signature": OURS} if name == "thinking" else {}))
                        words.append([])
                    words[-1].append(text)
                case ToolCallStart(key, own, name):
                    calls[key], arguments[key] = {"type": "tool_use", "id": own, "name": name, "input": {}}, []
                    blocks.append(calls[key])
                    words.append([])
                case ArgumentsDelta(key, text) if key in calls:
                    arguments[key].append(text)
        for block, parts in zip(blocks, words, strict=True):
            if block["type"] != "tool_use":
                block[block["type"]] = "".join(parts)
        for key, call in calls.items():
            said = "".join(arguments[key])
            try:
                call["input"] = object_of(said)
            except TranslationLoss:
                call["input"] = {"arguments": said}  # no JSON: the client's tool says so
        return self._message(blocks, self._reason) | {"usage": self._usage()}


def _is_whole(arguments: str) -> bool:
    try:
        object_of(arguments)
    except TranslationLoss:
        return False
    return True


def _usage(usage: Usage) -> dict[str, Any]:
    read, written = usage.cached or 0, usage.cache_write or 0
    return {
        "input_tokens": max(usage.input - read - written, 0),
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "output_tokens": usage.output,
    }
