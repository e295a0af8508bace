"""OpenAI's responses: what is asked, read and written."""

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
    check_fields,
    dumped,
    each,
    only,
    text_of,
    words,
)
from r2router.types import Model, Provider

_READ = (
    "model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "max_output_tokens", "temperature",
    "top_p", "text",
    "reasoning", "stream",
)  # fmt: skip
_NO_MATTER = (
    "user",
    "metadata",
    "store",
    "safety_identifier",
    "prompt_cache_key",
    "service_tier",
    "stream_options",
    "include",
)
"""Fields that do not change the answer. A translated reply is not stored anywhere, and says so."""
_AS_USUAL: dict[str, tuple[Any, ...]] = {"truncation": ("disabled",), "background": (False,), "top_logprobs": (0,)}


def read_responses(body: Members) -> CommonRequest:
    """Return what a request for a response asks for. Raises `TranslationLoss`."""
    asked = object_in(body)
    check_fields(asked, _READ, _NO_MATTER, _AS_USUAL)
    reasoning = only(asked.get("reasoning") or {}, ("effort", "summary", "generate_summary"), "reasoning")
    text = only(asked.get("text") or {}, ("format", "verbosity"), "text")
    effort, given, said = reasoning.get("effort"), asked.get("input"), asked.get("instructions")
    turns = [Turn("system", (Text(said),))] if isinstance(said, str) and said else []
    turns += [Turn("user", (Text(given),))] if isinstance(given, str) else _turns(each(given, "input"))
    return CommonRequest(
        turns=turns,
        tools=[_tool(tool) for tool in each(asked.get("tools"), "tools")],
        choice=_choice(asked.get("tool_choice")),
        parallel=asked.get("parallel_tool_calls"),
        max_tokens=count(asked.get("max_output_tokens")),
        temperature=body.raw("temperature"),
        top_p=body.raw("top_p"),
        shape=_shape(text.get("format")),
        effort=effort if isinstance(effort, str) else None,
        thinking=0 if effort == "none" else None,
        verbosity=text.get("verbosity"),
        stream=asked.get("stream") is True,
    )


def _turns(items: list[Any]) -> list[Turn]:
    """Items as messages; those of one answer, which stand one by one here, together."""
    found: list[Turn] = []
    for item in items:
        turn = _turn(item)
        last = found[-1] if found else None
        joins = last is not None and last.role == turn.role and (turn.role == "assistant" or _outputs(last, turn))
        if last is not None and joins:
            found[-1] = Turn(last.role, (*last.parts, *turn.parts))
        else:
            found.append(turn)
    return found


def _outputs(*turns: Turn) -> bool:
    return all(isinstance(part, ToolOutput) for turn in turns for part in turn.parts)


def _turn(item: Any) -> Turn:
    match item.get("type", "message") if isinstance(item, dict) else None:
        case "message":
            said = only(item, ("type", "role", "content", "id", "status", "phase"), "a message")
            role = said.get("role")
            if role not in ("user", "assistant", "system", "developer"):
                raise TranslationLoss(f"a message of the role {str(role)[:40]!r}")
            return Turn("system" if role == "developer" else role, _parts(said.get("content")))
        case "function_call":
            call = only(item, ("type", "id", "call_id", "name", "arguments", "status"), "a call")
            own = text_of(call.get("call_id"), "call_id")
            return Turn(
                "assistant", (ToolCall(own, text_of(call.get("name"), "name"), str(call.get("arguments") or "{}")),)
            )
        case "function_call_output":
            told = only(item, ("type", "id", "call_id", "output", "status"), "the output of a tool")
            parts = _parts(told.get("output"))
            if not all(isinstance(part, Text) for part in parts):
                raise TranslationLoss("the output of a tool that is not text")
            text = "\n".join(part.text for part in parts if isinstance(part, Text))
            return Turn("user", (ToolOutput(text_of(told.get("call_id"), "call_id"), text),))
        case "reasoning" if str(item.get("id") or "").startswith(f"rs_{OURS}"):
            summary = each(item.get("summary"), "summary")
            return Turn(
                "assistant",
                (Thought("".join(str(part.get("text") or "") for part in summary if isinstance(part, dict))),),
            )
        case "reasoning":
            raise TranslationLoss("thinking in the history, which belongs to its provider")
        case other:
            raise TranslationLoss(f"an item of the type {str(other)[:40]!r}")


def _parts(content: Any) -> tuple[Part, ...]:
    if content is None or content == "":
        return ()
    if isinstance(content, str):
        return (Text(content),)
    found: list[Part] = []
    for part in each(content, "content"):
        match part.get("type") if isinstance(part, dict) else None:
            case "input_text" | "output_text" | "text":
                if part.get("annotations"):
                    raise TranslationLoss("annotations of a text")
                found.append(Text(text_of(part.get("text"), "text")))
            case "refusal":
                found.append(Text(text_of(part.get("refusal"), "refusal")))
            case "input_image":
                given = only(part, ("type", "image_url", "detail"), "a part")
                found.append(Image(text_of(given.get("image_url"), "the url of an image"), given.get("detail")))
            case other:
                raise TranslationLoss(f"content of the type {str(other)[:40]!r}")
    return tuple(found)


def _tool(tool: Any) -> Tool:
    if not isinstance(tool, dict) or tool.get("type") != "function":
        kind = tool.get("type") if isinstance(tool, dict) else None
        raise TranslationLoss("custom tools" if kind == "custom" else f"tools of the type {str(kind)[:40]!r}")
    given = only(tool, ("type", "name", "description", "parameters", "strict"), "a tool")
    schema = given.get("parameters") or {"type": "object", "properties": {}}
    return Tool(text_of(given.get("name"), "the name of a tool"), given.get("description"), schema, given.get("strict"))


def _choice(choice: Any) -> str:
    if choice is None or isinstance(choice, str):
        return choice or ""
    if not isinstance(choice, dict) or choice.get("type") != "function":
        raise TranslationLoss("tool_choice")
    return f"={choice.get('name')}"


def _shape(given: Any) -> ResponseFormat | None:
    match given.get("type") if isinstance(given, dict) else None:
        case None | "text":
            return None
        case "json_object":
            return ResponseFormat()
        case "json_schema" if isinstance(given.get("schema"), dict):
            return ResponseFormat(given["schema"], given.get("name"), given.get("strict"))
        case _:
            raise TranslationLoss("text.format")


def write_responses(asked: CommonRequest, model: Model | None, provider: Provider | None) -> bytes:
    """Return a request for a response. Raises `TranslationLoss`."""
    if asked.stop:
        raise TranslationLoss("stop sequences")
    body: dict[str, Any] = {
        "model": "",
        "input": [item for turn in asked.turns for item in _items(turn)],
        "store": False,
    }
    if asked.tools:
        body["tools"] = [_as_tool(tool) for tool in asked.tools]
        body["tool_choice"] = (
            {"type": "function", "name": asked.choice[1:]} if asked.choice[:1] == "=" else asked.choice or None
        )
        body["parallel_tool_calls"] = asked.parallel
    text: dict[str, Any] = {"verbosity": asked.verbosity} if asked.verbosity else {}
    if asked.shape is not None:
        named = {"name": asked.shape.name or "answer", "schema": asked.shape.schema, "strict": asked.shape.strict}
        inner = {k: v for k, v in named.items() if v is not None}
        text["format"] = {"type": "json_object"} if asked.shape.schema is None else {"type": "json_schema", **inner}
    effort = asked.effort or ("none" if asked.thinking == 0 else None)
    body |= {"text": text or None, "reasoning": {"effort": effort} if effort else None, "stream": asked.stream or None}
    body["max_output_tokens"] = asked.max_tokens
    return dumped(body, {"temperature": asked.temperature, "top_p": asked.top_p})


def _items(turn: Turn) -> Iterator[dict[str, Any]]:
    kind = "output_text" if turn.role == "assistant" else "input_text"
    content: list[dict[str, Any]] = []
    items: list[dict[str, Any]] = []
    for part in turn.parts:
        match part:
            case Text(text):
                content.append({"type": kind, "text": text} | ({"annotations": []} if kind == "output_text" else {}))
            case Image(url, detail):
                if turn.role != "user":
                    raise TranslationLoss("an image in an answer")
                content.append({"type": "input_image", "image_url": url, "detail": detail or "auto"})
            case ToolCall(own, name, arguments):
                items.append({"type": "function_call", "call_id": own, "name": name, "arguments": arguments})
            case ToolOutput(own, text, failed):
                said = f"Error: {text}" if failed and not text.lower().startswith("error") else text
                items.append({"type": "function_call_output", "call_id": own, "output": said})
            case Thought():
                pass  # it was shown, and never encrypted: nothing that this provider could use
    message = (
        [{"type": "message", "role": turn.role, "content": words(turn) if turn.role == "system" else content}]
        if content
        else []
    )
    yield from [*items, *message] if turn.role == "user" else [*message, *items]


def _as_tool(tool: Tool) -> dict[str, Any]:
    given = {"type": "function", "name": tool.name, "description": tool.description, "parameters": tool.schema}
    return {k: v for k, v in given.items() if v is not None} | {"strict": bool(tool.strict)}
