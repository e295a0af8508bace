"""`/v1/messages`: Anthropic's messages."""

from __future__ import annotations

from typing import Any

import msgspec

from r2router.errors import Refused
from r2router.gateway.conversation import Ceilings, Conversation, dicts, texts_of
from r2router.gateway.dialects.dialect import Dialect, ReplyWatch, append_words, count
from r2router.gateway.error_bodies import anthropic_error
from r2router.gateway.splice import Items, Members
from r2router.types import Enforcement, Provider
from r2router.upstream.controls import Controls, thinking_fields

MOST_COUNTS = 100
"""Members of a usage report that are kept: no server has half as many, and every event may bring others."""
OURS = "r2router"
"""The signature of thinking that a translation has made a block of: nobody signed it."""


class MessagesWatch(ReplyWatch):
    """Reads events and whole messages."""

    def take(self, name: bytes, body: dict[str, Any]) -> None:
        """Take in an event."""
        match body.get("type"):
            case "message_start":
                message = body.get("message")
                if isinstance(message, dict):
                    self._head(message)
            case "content_block_start":
                self._block(body.get("content_block"))
            case "content_block_delta":
                delta = body.get("delta")
                if isinstance(delta, dict):
                    said = next(
                        (t for k in ("text", "thinking", "partial_json") if isinstance(t := delta.get(k), str)), ""
                    )
                    self.characters += len(said)
                    self.begun = self.begun or bool(said)
                    if isinstance(text := delta.get("text"), str):
                        self.heard(text)
            case "message_delta":
                self._merge(body.get("usage"))
                delta = body.get("delta")
                if isinstance(delta, dict) and isinstance(reason := delta.get("stop_reason"), str):
                    self.finish = reason[:64]
            case "message_stop":
                self.whole = True
            case "error":
                self.error = body.get("error") or body
            case _ if name == b"error" or "error" in body:
                self.error = body.get("error") or body

    def reply(self, body: dict[str, Any]) -> None:
        """Take in a whole reply."""
        if body.get("type") == "error" or "error" in body:
            self.error = body.get("error") or body
            return
        self._head(body)
        for block in dicts(body.get("content")):
            self._block(block)
        if isinstance(reason := body.get("stop_reason"), str):
            self.finish = reason[:64]
        self.whole = True

    def _head(self, message: dict[str, Any]) -> None:
        self._merge(message.get("usage"))
        if isinstance(model := message.get("model"), str):
            self.model = model[:200]

    def _block(self, block: Any) -> None:
        if isinstance(block, dict):
            said = [t for k in ("text", "thinking") if isinstance(t := block.get(k), str)]
            self.characters += sum(map(len, said)) + (len(str(block["input"])) if block.get("input") else 0)
            self.calls = self.calls or block.get("type") in ("tool_use", "server_tool_use")
            self.begun = self.begun or any(said) or self.calls
            if isinstance(text := block.get("text"), str):
                self.heard(text)

    def _merge(self, usage: Any) -> None:
        """Merge token counts. They are cumulative and may come in any event, so the largest of each counts."""
        if not isinstance(usage, dict):
            return
        known = self.usage if isinstance(self.usage, dict) else {}
        if len(known) + len(usage) > MOST_COUNTS:
            return
        merged = {**known, **{k: v for k, v in usage.items() if v is not None}}
        for key, old in known.items():
            new = usage.get(key)
            if type(old) is int and type(new) is int:
                merged[key] = max(old, new)
        self.usage = merged


class Messages(Dialect):
    """Anthropic's messages. Replies show the model that was asked for, as clients look up its context size by that
    name.
    """

    name = "messages"
    path = "/messages"
    cap = "max_tokens"
    ping = b'event: ping\ndata: {"type":"ping"}\n\n'  # Claude Code's timer is not reset by comments
    shows_asked = True

    def error(self, refused: Refused, request_id: str) -> bytes:
        return msgspec.json.encode(anthropic_error(refused, request_id))

    def read(self, body: Members) -> Conversation:
        found = Conversation()
        for text in texts_of(body.get("system")):
            found.instruct(text)
        for message in dicts(body.get("messages")):
            content = message.get("content")
            blocks = dicts(content)
            match message.get("role"):
                case "system":
                    for text in texts_of(content):
                        found.instruct(text)
                case "assistant":
                    found.answered()
                    for block in blocks:
                        if block.get("type") in ("thinking", "redacted_thinking") and (
                            block.get("signature") or block.get("data")
                        ):
                            found.state.add("reasoning_content" if block.get("signature") == OURS else "signature")
                case _:
                    results = [b for b in blocks if b.get("type") == "tool_result"]
                    texts = texts_of(content)
                    if texts or not results:
                        found.human(texts)
                    # behind what else stands in the turn: it is the tools' output that is answered
                    for result in results:
                        failed = result.get("is_error")
                        found.tool_output(result.get("content"), failed if isinstance(failed, bool) else None)
                        _read_parts(found, dicts(result.get("content")))
                    _read_parts(found, blocks)
        tools = dicts(body.get("tools"))
        if tools:
            found.needs.add("tools")
        if any(t.get("type", "custom") not in ("custom", "function") for t in tools) or body.get("mcp_servers"):
            found.needs.add("custom_tools")
        shape = body.get("output_config")
        if body.get("output_format") or (isinstance(shape, dict) and shape.get("format")):
            found.needs.add("json")
        return found

    def ceilings(self, body: Members) -> Ceilings:
        thinking, config = body.get("thinking"), body.get("output_config")
        thinking = thinking if isinstance(thinking, dict) else {}
        effort = config.get("effort") if isinstance(config, dict) else None
        cap = count(body.get("max_tokens"))
        return Ceilings(
            max_tokens=cap,
            largest=cap,
            effort=effort if isinstance(effort, str) else None,
            thinking=0 if thinking.get("type") == "disabled" else count(thinking.get("budget_tokens")),
        )

    def enforce(self, body: Members, sent: Enforcement, provider: Provider) -> None:
        if sent.max_tokens is not None:
            body.put("max_tokens", sent.max_tokens)
        if sent.effort is not None:
            config = body.object("output_config") or Members(b"{}")
            config.put("effort", sent.effort)
            body.set("output_config", config.render())
        if sent.thinking_tokens is not None:
            for key, value in thinking_fields("anthropic", sent.thinking_tokens).items():
                body.put(key, value)
            if sent.max_tokens is None and (count(body.get("max_tokens")) or 0) <= sent.thinking_tokens:
                # else it is refused, or thinking eats the answer
                body.put("max_tokens", sent.thinking_tokens + Controls().answer_room)
        if sent.instruction is None:
            return
        if sent.place == "user":
            append_words(body, "messages", sent.instruction, role="user", kind="text")
            return
        system = body.raw("system")
        if system is not None and system[:1] == b"[":  # behind the blocks that are cached
            blocks = Items(system)
            blocks.append(msgspec.json.encode({"type": "text", "text": sent.instruction}))
            body.set("system", blocks.render())
        else:
            own = body.get("system")
            body.put("system", f"{own}\n\n{sent.instruction}" if isinstance(own, str) and own else sent.instruction)

    def watch(self) -> ReplyWatch:
        return MessagesWatch()

    def broken(self, refused: Refused, request_id: str, watch: ReplyWatch) -> bytes:
        """An `error` event, without `message_stop`."""
        return b"event: error\ndata: " + msgspec.json.encode(anthropic_error(refused, request_id)) + b"\n\n"

    def renamed(self, data: bytes, model: str) -> bytes:
        """In a stream, only the first event carries the model's name."""
        body = Members(data)
        inner = body.object("message")
        if inner is not None and "model" in inner:
            inner.put("model", model)
            body.set("message", inner.render())
        elif "model" in body:
            body.put("model", model)
        return body.render()


def _read_parts(found: Conversation, blocks: list[dict[str, Any]]) -> None:
    for block in blocks:
        source = block.get("source")
        if block.get("type") == "image":
            found.image(source.get("data") or source.get("url") if isinstance(source, dict) else None)
        elif block.get("type") == "document":
            found.file(source.get("data") if isinstance(source, dict) else None)
