"""`/v1/responses`: OpenAI's responses."""

from __future__ import annotations

from typing import Any

import msgspec

from r2router.errors import ConfigError, Refused
from r2router.gateway.conversation import Ceilings, Conversation, dicts, texts_of
from r2router.gateway.dialects.dialect import Dialect, ReplyWatch, append_words, count
from r2router.gateway.splice import Members, with_words
from r2router.types import Enforcement, Provider

_ENDS = ("response.completed", "response.incomplete", "response.failed", "response.cancelled")
_TOOL_OUTPUTS = (
    "function_call_output",
    "custom_tool_call_output",
    "local_shell_call_output",
    "shell_call_output",
    "computer_call_output",
)


class ResponsesWatch(ReplyWatch):
    """Reads events and whole responses.

    sequence: the number of the last event.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sequence = -1
        self.response: dict[str, Any] = {}

    def take(self, name: bytes, body: dict[str, Any]) -> None:
        """Take in an event."""
        kind = body.get("type")
        kind = kind if isinstance(kind, str) else name.decode("utf-8", "replace")
        if type(number := body.get("sequence_number")) is int:
            self.sequence = number
        response = body.get("response")
        if isinstance(response, dict):
            if kind == "response.created":
                self.response = {k: response[k] for k in ("id", "created_at", "model") if k in response}
            self._head(response)
        if kind in _ENDS:
            self.whole = True
            if kind == "response.failed":
                self.error = (response.get("error") if isinstance(response, dict) else None) or body
        elif kind == "error" or (not kind and "error" in body):
            self.error = body.get("error") or body
        elif isinstance(delta := body.get("delta"), str):
            self.characters += len(delta)
            self.begun = self.begun or bool(delta)
            self.calls = self.calls or "call" in kind
            if kind in ("response.output_text.delta", "response.refused.delta"):
                self.heard(delta)

    def reply(self, body: dict[str, Any]) -> None:
        """Take in a whole reply."""
        if body.get("error"):
            self.error = body["error"]
        self._head(body)
        for item in dicts(body.get("output")):
            said = texts_of(item.get("content"))
            texts = [*said, str(item.get("arguments") or item.get("input") or "")]
            self.calls = self.calls or str(item.get("type")).endswith("_call")
            if item.get("type") == "message":
                self.heard("".join(said))
            self.characters += sum(map(len, texts))
            self.begun = self.begun or any(texts)
        self.whole = True

    def _head(self, response: dict[str, Any]) -> None:
        if isinstance(usage := response.get("usage"), dict):
            self.usage = usage
        if isinstance(model := response.get("model"), str):
            self.model = model[:200]
        details = response.get("incomplete_details")
        status = details.get("reason") if isinstance(details, dict) else response.get("status")
        if isinstance(status, str) and status not in ("in_progress", "queued"):
            self.finish = status[:64]


class Responses(Dialect):
    """OpenAI's responses."""

    name = "responses"
    path = "/responses"
    cap = "max_output_tokens"

    def read(self, body: Members) -> Conversation:
        found = Conversation()
        if isinstance(said := body.get("instructions"), str):
            found.instruct(said)
        given = body.get("input")
        if isinstance(given, str):
            found.human([given])
        for item in dicts(given):
            _read_item(found, item)
        for key in ("previous_response_id", "conversation"):
            if body.get(key):
                found.state.add("previous")
                found.elsewhere = True
        found.elsewhere = found.elsewhere or bool(body.get("prompt"))
        tools = dicts(body.get("tools"))
        if tools:
            found.needs.add("tools")
        if any(t.get("type") != "function" for t in tools):
            found.needs.add("custom_tools")
        shape = body.get("text")
        shape = shape.get("format") if isinstance(shape, dict) else None
        if isinstance(shape, dict) and shape.get("type") in ("json_schema", "json_object"):
            found.needs.add("json")
        if body.get("top_logprobs"):
            found.needs.add("logprobs")
        if body.get("background") is True:
            found.needs.add("background")
        return found

    def ceilings(self, body: Members) -> Ceilings:
        reasoning = body.get("reasoning")
        effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
        cap = count(body.get("max_output_tokens"))
        return Ceilings(
            max_tokens=cap,
            largest=cap,
            effort=effort if isinstance(effort, str) else None,
            thinking=0 if effort == "none" else None,
        )

    def enforce(self, body: Members, sent: Enforcement, provider: Provider) -> None:
        """Raises `ConfigError` for thinking tokens at a provider that has no field for them
        here.
        """
        if sent.max_tokens is not None:
            body.put("max_output_tokens", sent.max_tokens)
        if sent.effort is not None:
            self._reason(body, "effort", sent.effort)
        if sent.thinking_tokens is not None:
            if provider.dialect != "openrouter":
                raise ConfigError("responses have no field for thinking tokens at this provider")
            self._reason(body, *(("max_tokens", sent.thinking_tokens) if sent.thinking_tokens else ("effort", "none")))
        if sent.instruction is None:
            return
        given = body.raw("input")
        if sent.place == "user" and given is not None and given[:1] == b'"':
            body.set("input", with_words(given, f"\n\n{sent.instruction}"))
        elif sent.place == "user":
            append_words(body, "input", sent.instruction, role="user", kind="input_text")
        else:
            own = body.raw("instructions")
            words = (
                with_words(own, f"\n\n{sent.instruction}")
                if own and own[:1] == b'"'
                else msgspec.json.encode(sent.instruction)
            )
            body.set("instructions", words)

    @staticmethod
    def _reason(body: Members, key: str, value: Any) -> None:
        inner = body.object("reasoning") or Members(b"{}")
        for name in ("effort", "max_tokens"):
            inner.remove(name)
        inner.put(key, value)
        body.set("reasoning", inner.render())

    def watch(self) -> ReplyWatch:
        return ResponsesWatch()

    def broken(self, refused: Refused, request_id: str, watch: ReplyWatch) -> bytes:
        """Return a `response.failed` event with the next number."""
        number = watch.sequence + 1 if isinstance(watch, ResponsesWatch) else 0
        known = watch.response if isinstance(watch, ResponsesWatch) else {}
        failed = {"id": request_id, **known, "object": "response", "status": "failed", "output": []}
        failed["error"] = {"code": "server_error", "message": refused.message}
        body = msgspec.json.encode({"type": "response.failed", "sequence_number": number, "response": failed})
        return b"event: response.failed\ndata: " + body + b"\n\n"

    def renamed(self, data: bytes, model: str) -> bytes:
        body = Members(data)
        inner = body.object("response")
        if inner is not None and "model" in inner:
            inner.put("model", model)
            body.set("response", inner.render())
        elif inner is None and "model" in body:
            body.put("model", model)
        return body.render()


def _read_item(found: Conversation, item: dict[str, Any]) -> None:
    kind, role, content = item.get("type", "message"), item.get("role"), item.get("content")
    if kind == "reasoning":
        found.answered()
        if item.get("encrypted_content"):
            found.state.add("encrypted")
        return
    if kind == "item_reference":
        found.state.add("previous")
        found.elsewhere = True
    elif kind in _TOOL_OUTPUTS:
        found.tool_output(item.get("output"))
    elif kind != "message" or role == "assistant":
        found.answered()
    elif role in ("system", "developer"):
        for text in texts_of(content):
            found.instruct(text)
    else:
        found.human(texts_of(content))
        for part in dicts(content):
            if part.get("type") == "input_image":
                found.image(part.get("image_url"))
            elif part.get("type") == "input_file":
                found.file(part.get("file_data"))
            elif part.get("type") == "input_audio":
                inner = part.get("input_audio")
                found.audio(inner.get("data") if isinstance(inner, dict) else None)
