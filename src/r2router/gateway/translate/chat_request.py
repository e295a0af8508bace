"""Chat completions: what is asked, read and written."""

from __future__ import annotations

import contextlib
from typing import Any

from r2router.errors import ConfigError
from r2router.gateway.dialects.dialect import count, minimum
from r2router.gateway.splice import Members
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
    check_fields,
    dumped,
    each,
    leading_system,
    only,
    text_of,
    words,
)
from r2router.types import Model, Provider
from r2router.upstream.controls import cap_field, thinking_fields

_READ = (
    "model", "messages", "tools", "tool_choice", "parallel_tool_calls", "max_tokens", "max_completion_tokens",
    "temperature", "top_p",
    "stop", "response_format", "reasoning_effort", "verbosity", "stream",
)  # fmt: skip
_NO_MATTER = ("stream_options", "user", "metadata", "store", "safety_identifier", "prompt_cache_key", "service_tier")
"""Fields that do not change the answer."""
_AS_USUAL: dict[str, tuple[Any, ...]] = {
    "n": (1,), "logprobs": (False,), "presence_penalty": (0,), "frequency_penalty": (0,), "logit_bias": ({},),
    "modalities": (["text"],),
    "top_logprobs": (0,),
}  # fmt: skip
"""Fields that may be dropped where they have their default value."""


def read_chat(body: Members) -> CommonRequest:
    """Return what a chat completion asks for. Raises `TranslationLoss`."""
    asked = object_in(body)
    check_fields(asked, _READ, _NO_MATTER, _AS_USUAL)
    effort, stop = asked.get("reasoning_effort"), asked.get("stop")
    return CommonRequest(
        turns=[_turn(message) for message in each(asked.get("messages"), "messages")],
        tools=[_tool(tool) for tool in each(asked.get("tools"), "tools")],
        choice=_choice(asked.get("tool_choice")),
        parallel=asked.get("parallel_tool_calls"),
        max_tokens=minimum(count(asked.get("max_tokens")), count(asked.get("max_completion_tokens"))),
        temperature=body.raw("temperature"),
        top_p=body.raw("top_p"),
        stop=[stop] if isinstance(stop, str) else each(stop, "stop"),
        shape=_shape(asked.get("response_format")),
        effort=effort if isinstance(effort, str) else None,
        thinking=0 if effort == "none" else None,
        verbosity=asked.get("verbosity"),
        stream=asked.get("stream") is True,
    )


def object_in(body: Members) -> dict[str, Any]:
    from r2router.upstream.content import decoded

    try:
        found = decoded(body.render())
    except ValueError as error:
        raise TranslationLoss(str(error)) from None
    return found if isinstance(found, dict) else {}


def _turn(message: Any) -> Turn:
    said = only(
        message, ("role", "content", "name", "tool_calls", "tool_call_id", "refusal", "annotations"), "a message"
    )
    if said.get("annotations") or said.get("name"):
        raise TranslationLoss("names or annotations of a message")
    content = said.get("content")
    match said.get("role"):
        case "system" | "developer":
            return Turn("system", _parts(content))
        case "user":
            return Turn("user", _parts(content))
        case "tool":
            text = "\n".join(part.text if isinstance(part, Text) else "" for part in _parts(content))
            return Turn("user", (ToolOutput(text_of(said.get("tool_call_id"), "tool_call_id"), text),))
        case "assistant":
            calls = tuple(_call(call) for call in each(said.get("tool_calls"), "tool_calls"))
            refusal = said.get("refusal")
            return Turn(
                "assistant",
                (*_parts(content), *((Text(refusal),) if isinstance(refusal, str) and refusal else ()), *calls),
            )
        case other:
            raise TranslationLoss(f"a message of the role {str(other)[:40]!r}")


def _parts(content: Any) -> tuple[Part, ...]:
    if content is None or content == "":
        return ()
    if isinstance(content, str):
        return (Text(content),)
    found: list[Part] = []
    for part in each(content, "content"):
        match part.get("type") if isinstance(part, dict) else None:
            case "text":
                found.append(Text(text_of(only(part, ("type", "text"), "a part").get("text"), "text")))
            case "refusal":
                found.append(Text(text_of(part.get("refusal"), "refusal")))
            case "image_url":
                inner = only(part, ("type", "image_url"), "a part").get("image_url")
                inner = only(inner if isinstance(inner, dict) else {"url": inner}, ("url", "detail"), "image_url")
                found.append(Image(text_of(inner.get("url"), "the url of an image"), inner.get("detail")))
            case other:
                raise TranslationLoss(f"content of the type {str(other)[:40]!r}")
    return tuple(found)


def _call(call: Any) -> ToolCall:
    function = only(call, ("id", "type", "function", "index"), "a tool call").get("function")
    if call.get("type", "function") != "function" or not isinstance(function, dict):
        raise TranslationLoss("custom tools")
    return ToolCall(
        text_of(call.get("id"), "the id of a call"),
        text_of(function.get("name"), "name"),
        str(function.get("arguments") or "{}"),
    )


def _tool(tool: Any) -> Tool:
    if not isinstance(tool, dict) or tool.get("type", "function") != "function":
        raise TranslationLoss("custom tools")
    function = only(
        only(tool, ("type", "function"), "a tool").get("function"),
        ("name", "description", "parameters", "strict"),
        "a tool",
    )
    schema = function.get("parameters") or {"type": "object", "properties": {}}
    return Tool(
        text_of(function.get("name"), "the name of a tool"), function.get("description"), schema, function.get("strict")
    )


def _choice(choice: Any) -> str:
    if choice is None or isinstance(choice, str):
        return choice or ""
    function = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    if not isinstance(function, dict):
        raise TranslationLoss("tool_choice")
    return f"={function.get('name')}"


def _shape(given: Any) -> ResponseFormat | None:
    match given.get("type") if isinstance(given, dict) else None:
        case None | "text":
            return None
        case "json_object":
            return ResponseFormat()
        case "json_schema" if isinstance(inner := given.get("json_schema"), dict) and isinstance(
            inner.get("schema"), dict
        ):
            return ResponseFormat(inner["schema"], inner.get("name"), inner.get("strict"))
        case _:
            raise TranslationLoss("response_format")


def write_chat(asked: CommonRequest, model: Model | None, provider: Provider | None) -> bytes:
    """Return a chat completion. Raises `TranslationLoss`."""
    system, turns = leading_system(asked.turns)
    # strict servers take one alone
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    for turn in turns:
        messages += _messages(turn)
    body: dict[str, Any] = {"model": "", "messages": messages}
    if asked.tools:
        body["tools"] = [_as_tool(tool) for tool in asked.tools]
        body["tool_choice"] = (
            {"type": "function", "function": {"name": asked.choice[1:]}}
            if asked.choice[:1] == "="
            else asked.choice or None
        )
        body["parallel_tool_calls"] = asked.parallel
    if asked.shape is not None:
        named = {"name": asked.shape.name or "answer", "schema": asked.shape.schema, "strict": asked.shape.strict}
        inner = {k: v for k, v in named.items() if v is not None}
        body["response_format"] = (
            {"type": "json_object"} if asked.shape.schema is None else {"type": "json_schema", "json_schema": inner}
        )
    body |= {
        "stop": asked.stop or None,
        "reasoning_effort": asked.effort,
        "verbosity": asked.verbosity,
        "stream": asked.stream or None,
    }
    if asked.max_tokens is not None:
        body["max_tokens" if provider is None else cap_field(provider)] = asked.max_tokens
    if asked.thinking is not None and asked.effort is None and provider is not None:
        # a server without a field for it: a model that does not think is no loss
        with contextlib.suppress(ConfigError):
            body |= thinking_fields(provider.dialect, asked.thinking)
    return dumped(body, {"temperature": asked.temperature, "top_p": asked.top_p})


def _messages(turn: Turn) -> list[dict[str, Any]]:
    if turn.role == "system":
        return [{"role": "system", "content": words(turn)}]
    if turn.role == "assistant":
        thought = "".join(part.text for part in turn.parts if isinstance(part, Thought))
        calls = [
            {"id": p.id, "type": "function", "function": {"name": p.name, "arguments": p.arguments}}
            for p in turn.parts
            if isinstance(p, ToolCall)
        ]
        if any(isinstance(part, Image) for part in turn.parts):
            raise TranslationLoss("an image in an answer")
        said: dict[str, Any] = {"role": "assistant", "content": words(turn) or (None if calls else "")}
        return [said | ({"tool_calls": calls} if calls else {}) | ({"reasoning_content": thought} if thought else {})]
    found: list[dict[str, Any]] = []
    rest: list[dict[str, Any]] = []
    for part in turn.parts:
        if isinstance(part, ToolOutput):
            found.append({"role": "tool", "tool_call_id": part.id, "content": _output(part)})
        elif isinstance(part, Image):
            inner = {"url": part.url} | ({"detail": part.detail} if part.detail else {})
            rest.append({"type": "image_url", "image_url": inner})
        elif isinstance(part, Text):
            rest.append({"type": "text", "text": part.text})
    alone = len(rest) == 1 and rest[0]["type"] == "text"
    if rest or not found:
        found.append({"role": "user", "content": rest[0]["text"] if alone else rest})
    return found


def _output(part: ToolOutput) -> str:
    return f"Error: {part.text}" if part.failed and not part.text.lower().startswith("error") else part.text


def _as_tool(tool: Tool) -> dict[str, Any]:
    given = {"name": tool.name, "description": tool.description, "parameters": tool.schema, "strict": tool.strict}
    return {"type": "function", "function": {k: v for k, v in given.items() if v is not None}}
