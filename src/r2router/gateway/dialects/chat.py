"""`/v1/chat/completions`: OpenAI's chat completions, which nearly every provider speaks."""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

from r2router.errors import Refused
from r2router.gateway.conversation import Ceilings, Conversation, dicts, texts_of
from r2router.gateway.dialects.dialect import Dialect, ReplyWatch, Speaks, append_words, count, maximum, minimum
from r2router.gateway.error_bodies import openai_error
from r2router.gateway.splice import Items, Members
from r2router.types import Enforcement, Provider
from r2router.upstream.content import words_of
from r2router.upstream.controls import cap_field, thinking_fields
from r2router.upstream.usage import larger, reports_in


class ChatWatch(ReplyWatch):
    """Reads chunks and whole chat completions."""

    def event(self, name: bytes, data: bytes) -> None:
        """Take in an event of a stream."""
        if data == b"[DONE]":
            self.whole = True
        else:
            super().event(name, data)

    def take(self, name: bytes, body: dict[str, Any]) -> None:
        """Read a chunk."""
        self._read(body, "delta")
        if name.startswith(b"error") and self.error is None:
            self.error = body

    def reply(self, body: dict[str, Any]) -> None:
        """Take in a whole reply."""
        self._read(body, "message")
        self.whole = True

    def _read(self, body: dict[str, Any], part: str) -> None:
        if error := body.get("error"):
            self.error = error
            return
        for reported in reports_in(body):
            self.usage = larger(self.usage, reported)
        if self.model is None and isinstance(model := body.get("model"), str):
            self.model = model[:200]
        for choice in dicts(body.get("choices")):
            if error := choice.get("error"):
                self.error = error
            said = choice.get(part)
            if isinstance(said, dict):
                words, thought = words_of(said)
                calls = sum(len(str(c.get("function"))) for c in dicts(said.get("tool_calls")))
                self.calls = self.calls or bool(calls)
                self.heard(words)
                self.characters += len(words) + len(thought) + calls
                self.begun = self.begun or bool(words or thought or calls)
            elif isinstance(text := choice.get("text"), str):
                self.characters += len(text)
                self.begun = self.begun or bool(text)
            if isinstance(reason := choice.get("finish_reason"), str):
                self.finish = reason[:64]

    def surplus(self, data: bytes) -> bool:
        """Return whether the chunk reports token counts and has no `choices`."""
        if b'"usage"' not in data:
            return False
        try:
            body = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        choices = body.get("choices") if isinstance(body, dict) else 0
        return isinstance(body, dict) and isinstance(body.get("usage"), dict) and choices in ([], None)


class Chat(Dialect):
    """OpenAI's chat completions."""

    name: ClassVar[Speaks] = "chat"
    path = "/chat/completions"
    cap = "max_tokens"

    def read(self, body: Members) -> Conversation:
        found = Conversation()
        for message in dicts(body.get("messages")):
            content = message.get("content")
            match message.get("role"):
                case "system" | "developer":
                    for text in texts_of(content):
                        found.instruct(text)
                case "user":
                    found.human(texts_of(content))
                    _read_parts(found, content)
                case "assistant":
                    found.answered()
                    _read_state(found, message)
                case "tool" | "function":
                    found.tool_output(content)
                    _read_parts(found, content)
        _read_needs(found, body)
        return found

    def ceilings(self, body: Members) -> Ceilings:
        reasoning, thinking = body.get("reasoning"), body.get("thinking")
        reasoning = reasoning if isinstance(reasoning, dict) else {}
        thinking = thinking if isinstance(thinking, dict) else {}
        effort = body.get("reasoning_effort") or reasoning.get("effort")
        off = thinking.get("type") == "disabled" or body.get("enable_thinking") is False or effort == "none"
        allowed = minimum(
            *(
                count(v)
                for v in (reasoning.get("max_tokens"), thinking.get("budget_tokens"), body.get("thinking_budget"))
            )
        )
        caps = count(body.get("max_tokens")), count(body.get("max_completion_tokens"))
        return Ceilings(
            max_tokens=minimum(*caps),
            largest=maximum(*caps),
            effort=effort if isinstance(effort, str) else None,
            thinking=0 if off else allowed,
            answers=max(1, count(body.get("n")) or 0),
            beside=len(body.raw("prediction") or b""),  # what of it is not used is billed as output
        )

    def enforce(self, body: Members, sent: Enforcement, provider: Provider) -> None:
        """Remove the caller's own fields for the same limit, as two fields could contradict each other."""
        if sent.max_tokens is not None:
            body.remove("max_tokens")
            body.remove("max_completion_tokens")
            body.put(cap_field(provider), sent.max_tokens)
        if sent.effort is not None or sent.thinking_tokens is not None:
            for key in ("reasoning_effort", "reasoning", "thinking", "enable_thinking", "thinking_budget"):
                body.remove(key)
        if sent.effort is not None and provider.dialect == "openrouter":
            body.put("reasoning", {"effort": sent.effort})
        elif sent.effort is not None:
            body.put("reasoning_effort", sent.effort)
        if sent.thinking_tokens is not None:
            for key, value in thinking_fields(provider.dialect, sent.thinking_tokens).items():
                inner = body.object(key) if isinstance(value, dict) else None
                if inner is None or key in ("reasoning", "thinking"):
                    body.put(key, value)
                else:  # a caller's `extra_body` or `chat_template_kwargs` may hold more
                    for name, part in value.items():
                        inner.put(name, part)
                    body.set(key, inner.render())
        if sent.instruction is not None:
            self._instruct(body, sent)

    def _instruct(self, body: Members, sent: Enforcement) -> None:
        words = sent.instruction or ""
        if sent.place == "user":
            append_words(body, "messages", words, role="user", kind="text")
            return
        role = next(
            (m.get("role") for m in dicts(body.get("messages")) if m.get("role") in ("system", "developer")), None
        )
        if role is not None:
            append_words(body, "messages", words, role=role, kind="text")
        elif (raw := body.raw("messages")) is not None and raw[:1] == b"[":
            messages = Items(raw)
            messages.insert_first(msgspec.json.encode({"role": "system", "content": words}))
            body.set("messages", messages.render())

    def watch(self) -> ReplyWatch:
        return ChatWatch()

    def broken(self, refused: Refused, request_id: str, watch: ReplyWatch) -> bytes:
        """Return an error event, without `[DONE]`."""
        return b"data: " + msgspec.json.encode(openai_error(refused)) + b"\n\n"

    def renamed(self, data: bytes, model: str) -> bytes:
        body = Members(data)
        if "model" not in body:
            return data
        body.put("model", model)
        return body.render()

    def ask_usage(self, body: Members) -> bool:
        options = body.object("stream_options") or Members(b"{}")
        if options.get("include_usage") is True:
            return False
        options.put("include_usage", True)
        body.set("stream_options", options.render())
        return True


def _read_parts(found: Conversation, content: Any) -> None:
    for part in dicts(content):
        match part.get("type"):
            case "image_url":
                inner = part.get("image_url")
                found.image(inner.get("url") if isinstance(inner, dict) else inner)
            case "input_audio":
                inner = part.get("input_audio")
                found.audio(inner.get("data") if isinstance(inner, dict) else None)
            case "file":
                inner = part.get("file")
                found.file(inner.get("file_data") if isinstance(inner, dict) else None)


def _read_state(found: Conversation, message: dict[str, Any]) -> None:
    for name in ("reasoning_content", "reasoning_details", "reasoning", "thinking_blocks"):
        if message.get(name):
            found.state.add(name)
    calls = dicts(message.get("tool_calls"))
    if any(b"thought_signature" in msgspec.json.encode(call) for call in calls if "extra_content" in call):
        found.state.add("thought_signature")


def _read_needs(found: Conversation, body: Members) -> None:
    for key in ("tools", "functions"):
        tools = dicts(body.get(key))
        if tools:
            found.needs.add("tools")
        if any(t.get("type", "function") != "function" for t in tools):
            found.needs.add("custom_tools")
    shape = body.get("response_format")
    if isinstance(shape, dict) and shape.get("type") in ("json_schema", "json_object"):
        found.needs.add("json")
    if body.get("logprobs") or body.get("top_logprobs"):
        found.needs.add("logprobs")
    if (count(body.get("n")) or 0) > 1:
        found.needs.add("n")
    if isinstance(body.get("audio"), dict):
        found.needs.add("audio")
    if body.get("web_search_options") is not None:
        found.needs.add("custom_tools")
