"""Chat completions: what is replied, read and written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from r2router.gateway.translate.common_request import (
    compact,
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
from r2router.upstream.content import words_of
from r2router.upstream.usage import Usage, reports_in

_ENDINGS: dict[str, Ending] = {
    "length": "length",
    "tool_calls": "tools",
    "function_call": "tools",
    "content_filter": "refusal",
}


class ChatReader(ReplyReader):
    """Reads chunks and whole chat completions. Tool calls are told apart by index, then by id, then by position."""

    def __init__(self) -> None:
        self._begun = self._ended = self._refused = False
        self._calls: dict[Any, int] = {}
        self._key = 0  # of the next call

    def event(self, name: bytes, body: dict[str, Any]) -> Iterator[Event]:
        return self._read(body, "delta")

    def whole(self, body: dict[str, Any]) -> Iterator[Event]:
        yield from self._read(body, "message")
        yield StreamEnd()

    def _read(self, body: dict[str, Any], part: str) -> Iterator[Event]:
        choices = body.get("choices")
        if not self._begun and isinstance(choices, list):
            self._begun = True
            yield ReplyStart(str(body.get("id") or ""), str(body.get("model") or ""))
        for choice in choices if isinstance(choices, list) else ():
            if not isinstance(choice, dict) or choice.get("index", 0) != 0:
                continue
            said = choice.get(part)
            if isinstance(said, dict):
                yield from self._said(said)
            if isinstance(reason := choice.get("finish_reason"), str) and not self._ended:
                self._ended = True
                ending: Ending = "refusal" if self._refused else _ENDINGS.get(reason, "stop")
                yield AnswerEnd("tools" if ending == "stop" and self._calls else ending)
        for reported in reports_in(body):
            yield from spent(reported)

    def _said(self, said: dict[str, Any]) -> Iterator[Event]:
        refusal = said.get("refusal")
        text, thought = words_of({k: v for k, v in said.items() if k != "refusal"})
        if thought:
            yield TextDelta("thinking", thought)
        if text:
            yield TextDelta("text", text)
        if isinstance(refusal, str) and refusal:
            self._refused = True
            yield TextDelta("refusal", refusal)
        calls = said.get("tool_calls")
        for place, call in enumerate(calls if isinstance(calls, list) else ()):
            if isinstance(call, dict):
                yield from self._call(call, place)

    def _call(self, call: dict[str, Any], place: int) -> Iterator[Event]:
        function = call.get("function")
        function = function if isinstance(function, dict) else {}
        index, own = (value if type(value) in (int, str) else None for value in (call.get("index"), call.get("id")))
        name, arguments = function.get("name"), function.get("arguments")
        known = (
            (index, own) if own and (index, own) in self._calls else index if index in self._calls and not own else None
        )
        if known is None and not name and self._calls:  # a piece of the last one, from a server that names none
            known = next(reversed(self._calls))
        if known is None:
            key, self._key = self._key, self._key + 1
            self._calls[index, own] = key
            self._calls[index if index is not None else ("place", place)] = key
            yield ToolCallStart(
                key, own if isinstance(own, str) and own else f"call_{key}", name if isinstance(name, str) else ""
            )
        else:
            key = self._calls[known]
        if isinstance(arguments, dict):
            arguments = compact(arguments)
        if isinstance(arguments, str) and arguments:
            yield ArgumentsDelta(key, arguments)


_REASONS: dict[Ending, str] = {"stop": "stop", "length": "length", "tools": "tool_calls", "refusal": "content_filter"}


class ChatWriter(ReplyWriter):
    """Writes chunks and whole chat completions."""

    def __init__(self, *, shown: str | None, input_tokens: int, usage: bool) -> None:
        super().__init__(shown=shown, input_tokens=input_tokens, usage=usage)
        self._opened = False
        self._calls: dict[int, int] = {}  # key of a call -> its number here
        self._bare: dict[int, bool] = {}  # whether a call has no arguments so far

    def stream(self, event: Event) -> Iterator[bytes]:
        """The first chunk names the role. The usage comes last, and only for clients that asked for it."""
        self.note(event)
        match event:
            case TextDelta(kind, text) if kind in _FIELDS:
                yield self._chunk({_FIELDS[kind]: text})
            case ToolCallStart(key, own, name):
                self._calls[key], self._bare[key] = len(self._calls), True
                yield self._call(key, "", id=own, type="function", name=name)
            case ArgumentsDelta(key, text) if key in self._calls:
                self._bare[key] = False
                yield self._call(key, text)
            case StreamEnd():
                for key, bare in self._bare.items():
                    if bare:
                        yield self._call(key, "{}")
                yield self._chunk({}, _REASONS[self.ended.ending if self.ended else "stop"])
                if self.reports and self.usage is not None:
                    yield sse({**self._head(), "choices": [], "usage": usage_report(self.usage)})
                yield b"data: [DONE]\n\n"

    def _call(self, key: int, arguments: str, name: str | None = None, **more: str) -> bytes:
        function = {"arguments": arguments} if name is None else {"name": name, "arguments": arguments}
        return self._chunk({"tool_calls": [{"index": self._calls[key], **more, "function": function}]})

    def _head(self, kind: str = "chat.completion.chunk") -> dict[str, Any]:
        return {"id": self.id or "chatcmpl-r2router", "object": kind, "created": 0, "model": self.model}

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> bytes:
        if not self._opened:
            self._opened = True
            delta = {"role": "assistant", "content": "", **delta}
        return sse({**self._head(), "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})

    def reply(self, events: Iterable[Event]) -> dict[str, Any]:
        said: dict[str, list[str]] = {}
        calls: dict[int, tuple[ToolCallStart, list[str]]] = {}
        for event in events:
            self.note(event)
            match event:
                case TextDelta(kind, text) if kind in _FIELDS:
                    said.setdefault(_FIELDS[kind], []).append(text)
                case ToolCallStart(key):
                    calls[key] = event, []
                case ArgumentsDelta(key, text) if key in calls:
                    calls[key][1].append(text)
        message: dict[str, Any] = {
            "role": "assistant",
            "content": None,
            **{name: "".join(parts) for name, parts in said.items()},
        }
        if calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": "".join(parts) or "{}"},
                }
                for call, parts in calls.values()
            ]
        elif message["content"] is None and "refusal" not in message:
            message["content"] = ""
        reason = _REASONS[self.ended.ending if self.ended else "stop"]
        found = {
            **self._head("chat.completion"),
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": reason}],
        }
        return found | ({"usage": usage_report(self.usage)} if self.usage is not None else {})


_FIELDS = {"text": "content", "refusal": "refusal"}
"""This format has no field for thinking; where one is made up, its clients give it back, and only its provider could
read it.
"""


def usage_report(usage: Usage) -> dict[str, Any]:
    """Usage as a chat completion reports it."""
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached or 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning or 0},
    }
