"""OpenAI's responses: what is replied, read and written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from r2router.gateway.dialects.messages import OURS
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


class ResponsesReader(ReplyReader):
    """Reads events and whole responses."""

    def __init__(self) -> None:
        self._calls: dict[int, bool] = {}  # output index of a call -> whether pieces of its arguments came
        self._refused = False

    def event(self, name: bytes, body: dict[str, Any]) -> Iterator[Event]:
        kind, index = body.get("type"), body.get("output_index")
        index = index if type(index) is int else 0
        match kind:
            case "response.created" if isinstance(response := body.get("response"), dict):
                yield ReplyStart(str(response.get("id") or ""), str(response.get("model") or ""))
            case "response.output_text.delta" | "response.refusal.delta" if (
                isinstance(text := body.get("delta"), str) and text
            ):
                self._refused = self._refused or kind == "response.refusal.delta"
                yield TextDelta("refusal" if kind == "response.refusal.delta" else "text", text)
            case "response.reasoning_text.delta" | "response.reasoning_summary_text.delta" if (
                isinstance(text := body.get("delta"), str) and text
            ):
                yield TextDelta("thinking", text)
            case "response.output_item.added" if (
                isinstance(item := body.get("item"), dict) and item.get("type") == "function_call"
            ):
                self._calls[index] = False
                yield ToolCallStart(
                    index, str(item.get("call_id") or item.get("id") or ""), str(item.get("name") or "")
                )
            case "response.function_call_arguments.delta" if isinstance(text := body.get("delta"), str) and text:
                self._calls[index] = True
                yield ArgumentsDelta(index, text)
            case "response.function_call_arguments.done" if self._calls.get(index) is False and body.get("arguments"):
                yield ArgumentsDelta(index, str(body["arguments"]))
            case "response.completed" | "response.incomplete" if isinstance(response := body.get("response"), dict):
                yield from self._end(response)

    def whole(self, body: dict[str, Any]) -> Iterator[Event]:
        yield ReplyStart(str(body.get("id") or ""), str(body.get("model") or ""))
        output = body.get("output")
        for index, item in enumerate(output if isinstance(output, list) else ()):
            kind = item.get("type") if isinstance(item, dict) else None
            if kind == "function_call":
                self._calls[index] = True
                yield ToolCallStart(index, str(item.get("call_id") or ""), str(item.get("name") or ""))
                yield ArgumentsDelta(index, str(item.get("arguments") or "{}"))
            elif kind == "reasoning":
                parts = [*(item.get("summary") or ()), *(item.get("content") or ())]
                yield from (
                    TextDelta("thinking", p["text"])
                    for p in parts
                    if isinstance(p, dict) and isinstance(p.get("text"), str)
                )
            elif kind == "message":
                for part in item.get("content") or ():
                    if isinstance(part, dict) and isinstance(text := part.get("text"), str) and text:
                        yield TextDelta("text", text)
                    elif isinstance(part, dict) and isinstance(text := part.get("refusal"), str) and text:
                        self._refused = True
                        yield TextDelta("refusal", text)
        yield from self._end(body)

    def _end(self, response: dict[str, Any]) -> Iterator[Event]:
        details = response.get("incomplete_details")
        why = details.get("reason") if isinstance(details, dict) else None
        ending: Ending = (
            "length"
            if why == "max_output_tokens"
            else "refusal"
            if self._refused or why == "content_filter"
            else "stop"
        )
        yield AnswerEnd("tools" if ending == "stop" and self._calls else ending)
        yield from spent(response.get("usage"))
        yield StreamEnd()


class ResponsesWriter(ReplyWriter):
    """Writes events and whole responses: each item is opened, filled and closed, and every event has its number."""

    def __init__(self, *, shown: str | None, input_tokens: int, usage: bool) -> None:
        super().__init__(shown=shown, input_tokens=input_tokens, usage=usage)
        self._sequence = -1
        self._begun = False
        self._output: list[dict[str, Any]] = []
        self._open: dict[str, Any] | None = None  # the item of text or thinking that is written, the last of the output
        self._said: list[str] = []  # its words so far
        self._calls: dict[int, int] = {}  # key of a call -> its place in the output
        self._arguments: dict[int, list[str]] = {}  # place of a call -> pieces of its arguments

    def stream(self, event: Event) -> Iterator[bytes]:
        self.note(event)
        if not self._begun:
            self._begun = True
            for kind in ("response.created", "response.in_progress"):
                yield self._event(kind, response=self._response("in_progress", []))
        match event:
            case TextDelta(kind, text):
                yield from self._words(kind, text)
            case ToolCallStart(key, own, name):
                yield from self._close()
                self._calls[key] = len(self._output)
                item = {
                    "id": f"fc_{OURS}_{len(self._output)}",
                    "type": "function_call",
                    "status": "in_progress",
                    "call_id": own,
                    "name": name,
                }
                self._output.append(item | {"arguments": ""})
                yield self._event(
                    "response.output_item.added", output_index=self._calls[key], item=dict(self._output[-1])
                )
            case ArgumentsDelta(key, text) if key in self._calls:
                at = self._calls[key]
                self._arguments.setdefault(at, []).append(text)
                yield self._event(
                    "response.function_call_arguments.delta",
                    item_id=self._output[at]["id"],
                    output_index=at,
                    delta=text,
                )
            case StreamEnd():
                yield from self._finish()

    def reply(self, events: Iterable[Event]) -> dict[str, Any]:
        for event in events:
            for _ in self.stream(event):
                pass
        return self._ended()

    def _words(self, kind: str, text: str) -> Iterator[bytes]:
        shape = _SHAPES[kind]
        if (
            self._open is None
            or self._open["type"] != shape.item
            or (shape.item == "message" and self._open["content"][0]["type"] != shape.part)
        ):
            yield from self._close()
            at = len(self._output)
            part: dict[str, Any] = {"type": shape.part, shape.field: ""} | (
                {"annotations": []} if shape.part == "output_text" else {}
            )
            if shape.item == "message":
                head: dict[str, Any] = {
                    "id": f"msg_{OURS}_{at}",
                    "type": "message",
                    "role": "assistant",
                    "status": "in_progress",
                }
                self._open = head | {"content": [part]}
                yield self._event("response.output_item.added", output_index=at, item=head | {"content": []})
            else:
                self._open = {"id": f"rs_{OURS}_{at}", "type": "reasoning", "summary": [part]}
                yield self._event("response.output_item.added", output_index=at, item={**self._open, "summary": []})
            self._output.append(self._open)
            yield self._event(shape.added, **self._place(shape), part=dict(part))
            self._said = []
        self._said.append(text)
        yield self._event(
            shape.delta, **self._place(shape), delta=text, **({"logprobs": []} if shape.part == "output_text" else {})
        )

    def _place(self, shape: _ItemFormat) -> dict[str, Any]:
        return {"item_id": self._output[-1]["id"], "output_index": len(self._output) - 1, shape.index: 0}

    def _close(self) -> Iterator[bytes]:
        item, self._open = self._open, None
        if item is None:
            return
        at = len(self._output) - 1
        kind = (
            "thinking"
            if item["type"] == "reasoning"
            else "text"
            if item["content"][0]["type"] == "output_text"
            else "refusal"
        )
        shape = _SHAPES[kind]
        part = item[shape.list][0]
        part[shape.field] = "".join(self._said)
        place = {"item_id": item["id"], "output_index": at, shape.index: 0}
        more: dict[str, Any] = {"logprobs": []} if kind == "text" else {}
        yield self._event(shape.done, **place, **{shape.field: part[shape.field]}, **more)
        yield self._event(shape.part_done, **place, part=part)
        if item["type"] == "message":
            item["status"] = "completed"
        yield self._event("response.output_item.done", output_index=at, item=item)

    def _finish(self) -> Iterator[bytes]:
        yield from self._close()
        for at in self._calls.values():
            item = self._output[at]
            item["arguments"], item["status"] = "".join(self._arguments.get(at, ())) or "{}", "completed"
            yield self._event(
                "response.function_call_arguments.done",
                item_id=item["id"],
                output_index=at,
                arguments=item["arguments"],
                name=item["name"],
            )
            yield self._event("response.output_item.done", output_index=at, item=item)
        response = self._ended()
        yield self._event(f"response.{response['status']}", response=response)

    def _ended(self) -> dict[str, Any]:
        ending = self.ended.ending if self.ended else "stop"
        refused = any(part.get("type") == "refusal" for item in self._output for part in item.get("content", ()))
        why = {"length": "max_output_tokens", "refusal": None if refused else "content_filter"}.get(ending)
        return self._response("incomplete" if why else "completed", self._output, why)

    def _event(self, kind: str, **body: Any) -> bytes:
        self._sequence += 1
        return sse({"type": kind, "sequence_number": self._sequence, **body}, kind)

    def _response(self, status: str, output: list[dict[str, Any]], why: str | None = None) -> dict[str, Any]:
        return {
            "id": self.id or "resp_r2router", "object": "response", "created_at": 0, "status": status, "error": None,
            "incomplete_details": {"reason": why} if why else None, "instructions": None, "metadata": {},
            "model": self.model,
            "output": output, "parallel_tool_calls": True, "store": False, "temperature": None, "tool_choice": "auto",
            "tools": [],
            "top_p": None, "usage": None if self.usage is None else _usage(self.usage),
        }  # fmt: skip


class _ItemFormat:
    """Which item, part and events carry text of one kind.

    field: the field of the part that holds the text.
    """

    def __init__(self, item: str, part: str, name: str, field: str, added: str) -> None:
        self.item, self.part, self.field = item, part, field
        self.list, self.index = ("summary", "summary_index") if item == "reasoning" else ("content", "content_index")
        self.delta, self.done = f"response.{name}.delta", f"response.{name}.done"
        self.added, self.part_done = f"response.{added}.added", f"response.{added}.done"


_SHAPES = {
    "text": _ItemFormat("message", "output_text", "output_text", "text", "content_part"),
    "refusal": _ItemFormat("message", "refusal", "refusal", "refusal", "content_part"),
    "thinking": _ItemFormat("reasoning", "summary_text", "reasoning_summary_text", "text", "reasoning_summary_part"),
}


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached or 0},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning or 0},
        "total_tokens": usage.input + usage.output,
    }
