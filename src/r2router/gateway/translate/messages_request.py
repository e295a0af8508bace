"""Anthropic's messages: what is asked, read and written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from r2router.gateway.dialects.dialect import count
from r2router.gateway.dialects.messages import OURS
from r2router.gateway.splice import Members
from r2router.gateway.translate.chat_request import object_in
from r2router.gateway.translate.common_request import (
    CommonRequest,
    Image,
    Part,
    ResponseFormat,
    Text,
    Thought,
    Tool,
    ToolCall,
    ToolOutput,
    TranslationLoss,
    Turn,
    compact,
    dumped,
    each,
    leading_system,
    number_of,
    object_of,
    only,
    text_of,
)
from r2router.types import Model, Provider
from r2router.upstream.controls import SAFETY_CAP

_READ = (
    "model", "messages", "system", "tools", "tool_choice", "max_tokens", "temperature", "top_p", "stop_sequences",
    "thinking",
    "output_config", "stream",
)  # fmt: skip
_NO_MATTER = ("metadata", "service_tier")


def read_messages(body: Members) -> CommonRequest:
    """Return what a request for a message asks for. Raises `TranslationLoss`."""
    if b'"cache_control"' in body.data:
        raise TranslationLoss("cache_control")
    asked = only(object_in(body), (*_READ, *_NO_MATTER), "the request")
    config = only(asked.get("output_config") or {}, ("effort", "format"), "output_config")
    thinking = asked.get("thinking")
    thinking = thinking if isinstance(thinking, dict) else {}
    system = Turn("system", _parts(asked.get("system"), "user"))
    choice = asked.get("tool_choice")
    choice = only(choice or {}, ("type", "name", "disable_parallel_tool_use"), "tool_choice")
    kind = choice.get("type")
    return CommonRequest(
        turns=[
            *([system] if system.parts else []),
            *(_turn(message) for message in each(asked.get("messages"), "messages")),
        ],
        tools=[_tool(tool) for tool in each(asked.get("tools"), "tools")],
        choice=f"={choice.get('name')}" if kind == "tool" else "required" if kind == "any" else kind or "",
        parallel=False if choice.get("disable_parallel_tool_use") is True else None,
        max_tokens=count(asked.get("max_tokens")),
        temperature=body.raw("temperature"),
        top_p=body.raw("top_p"),
        stop=each(asked.get("stop_sequences"), "stop_sequences"),
        shape=_shape(config.get("format")),
        effort=config.get("effort"),
        thinking=0 if thinking.get("type") == "disabled" else count(thinking.get("budget_tokens")),
        stream=asked.get("stream") is True,
    )


def _turn(message: Any) -> Turn:
    said = only(message, ("role", "content"), "a message")
    role = said.get("role")
    if role not in ("user", "assistant", "system"):
        raise TranslationLoss(f"a message of the role {str(role)[:40]!r}")
    return Turn(role, _parts(said.get("content"), role))


def _parts(content: Any, role: str) -> tuple[Part, ...]:
    if content is None or content == "":
        return ()
    if isinstance(content, str):
        return (Text(content),)
    return tuple(_part(block, role) for block in each(content, "content"))


def _part(block: Any, role: str) -> Part:
    match block.get("type") if isinstance(block, dict) else None:
        case "text":
            return Text(text_of(only(block, ("type", "text"), "a block").get("text"), "text"))
        case "image":
            return Image(_url(only(block, ("type", "source"), "a block").get("source")))
        case "tool_use":
            used = only(block, ("type", "id", "name", "input"), "a call")
            return ToolCall(
                text_of(used.get("id"), "the id of a call"),
                text_of(used.get("name"), "name"),
                compact(used.get("input") or {}),
            )
        case "tool_result":
            told = only(block, ("type", "tool_use_id", "content", "is_error"), "the output of a tool")
            parts = _parts(told.get("content"), role)
            if not all(isinstance(part, Text) for part in parts):
                raise TranslationLoss("the output of a tool that is not text")
            text = "\n".join(part.text for part in parts if isinstance(part, Text))
            return ToolOutput(text_of(told.get("tool_use_id"), "tool_use_id"), text, told.get("is_error") is True)
        case "thinking" if block.get("signature") == OURS:
            return Thought(text_of(block.get("thinking"), "thinking"))
        case "thinking" | "redacted_thinking":
            raise TranslationLoss("thinking in the history, which its provider has signed")
        case other:
            raise TranslationLoss(f"content of the type {str(other)[:40]!r}")


def _url(source: Any) -> str:
    match source.get("type") if isinstance(source, dict) else None:
        case "base64":
            return f"data:{source.get('media_type')};base64,{text_of(source.get('data'), 'the data of an image')}"
        case "url":
            return text_of(source.get("url"), "the url of an image")
        case _:
            raise TranslationLoss("an image that lies at its provider")


def _tool(tool: Any) -> Tool:
    if not isinstance(tool, dict) or tool.get("type", "custom") not in ("custom", None) or "input_schema" not in tool:
        raise TranslationLoss("server tools")
    given = only(tool, ("type", "name", "description", "input_schema", "strict"), "a tool")
    return Tool(
        text_of(given.get("name"), "the name of a tool"),
        given.get("description"),
        given["input_schema"],
        given.get("strict"),
    )


def _shape(given: Any) -> ResponseFormat | None:
    if given is None:
        return None
    if only(given, ("type", "schema"), "output_config.format").get("type") != "json_schema":
        raise TranslationLoss("output_config.format")
    return ResponseFormat(given.get("schema"))


def write_messages(asked: CommonRequest, model: Model | None, provider: Provider | None) -> bytes:
    """Return a request for a message. Raises `TranslationLoss`."""
    system, turns = leading_system(asked.turns)
    messages: list[dict[str, Any]] = []
    for turn in turns:
        if turn.role == "system":
            raise TranslationLoss("a system message in the middle")
        blocks = [block for part in turn.parts for block in _block(part)]
        if messages and messages[-1]["role"] == turn.role:
            messages[-1]["content"] += blocks
        elif blocks:
            messages.append({"role": turn.role, "content": blocks})
    if messages and messages[-1]["role"] == "assistant":
        raise TranslationLoss("an answer that is begun")
    for message in messages:  # outputs of tools come first: they belong to the calls before
        message["content"].sort(key=lambda block: block["type"] != "tool_result")
        if [block["type"] for block in message["content"]] == ["text"]:
            message["content"] = message["content"][0]["text"]
    if asked.verbosity not in (None, "medium"):
        raise TranslationLoss("verbosity")
    if asked.temperature not in (None, b"null") and not 0 <= number_of(asked.temperature) <= 1:
        raise TranslationLoss("a temperature above 1")
    if asked.shape is not None and asked.shape.schema is None:
        raise TranslationLoss("response_format json_object")
    maximum = asked.max_tokens or (model.max_output_tokens if model is not None else None) or SAFETY_CAP
    body: dict[str, Any] = {"model": "", "max_tokens": maximum, "system": system or None, "messages": messages}
    if asked.tools:
        body["tools"] = [_as_tool(tool) for tool in asked.tools]
        body["tool_choice"] = _as_choice(asked)
    config: dict[str, Any] = {} if asked.effort in (None, "none") else {"effort": asked.effort}
    if asked.shape is not None:
        config["format"] = {"type": "json_schema", "schema": asked.shape.schema}
    body |= {"output_config": config or None, "stop_sequences": asked.stop or None, "stream": asked.stream or None}
    return dumped(body, {"temperature": asked.temperature, "top_p": asked.top_p})


def _block(part: Part) -> Iterator[dict[str, Any]]:
    match part:
        case Text(text):
            if text:
                yield {"type": "text", "text": text}
        case Image(url, detail):
            if detail not in (None, "auto", "high"):
                raise TranslationLoss("the detail of an image")
            yield {"type": "image", "source": _source(url)}
        case ToolCall(own, name, arguments):
            yield {"type": "tool_use", "id": own, "name": name, "input": object_of(arguments)}
        case ToolOutput(own, text, failed):
            yield {"type": "tool_result", "tool_use_id": own, "content": text} | ({"is_error": True} if failed else {})
        case Thought():
            return  # it was shown, and never signed: nothing that this provider could use


def _source(url: str) -> dict[str, str]:
    if not url.startswith("data:"):
        return {"type": "url", "url": url}
    kind, _, data = url.removeprefix("data:").partition(",")
    if not kind.endswith(";base64"):
        raise TranslationLoss("an image that is not base64")
    return {"type": "base64", "media_type": kind.removesuffix(";base64"), "data": data}


def _as_tool(tool: Tool) -> dict[str, Any]:
    given = {
        "name": tool.name,
        "description": tool.description,
        "input_schema": tool.schema,
        "strict": tool.strict or None,
    }
    return {k: v for k, v in given.items() if v is not None}


def _as_choice(asked: CommonRequest) -> dict[str, Any] | None:
    kind = {"": None, "required": "any"}.get(asked.choice, asked.choice)
    found: dict[str, Any] | None = (
        {"type": "tool", "name": asked.choice[1:]} if asked.choice[:1] == "=" else {"type": kind} if kind else None
    )
    if asked.parallel is False and asked.choice != "none":
        return {**(found or {"type": "auto"}), "disable_parallel_tool_use": True}
    return found
