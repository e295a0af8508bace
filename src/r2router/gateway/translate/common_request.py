"""A request without its wire format: the parts that all formats share."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Literal

import msgspec


class TranslationLoss(Exception):
    """The other format cannot express a part of the request. The message names the part."""


class Text(msgspec.Struct, frozen=True):
    """A piece of text."""

    text: str


class Image(msgspec.Struct, frozen=True):
    """An image.

    url: a web address, or the image itself (`data:image/png;base64,...`).
    detail: OpenAI's field of that name.
    """

    url: str
    detail: str | None = None


class Thought(msgspec.Struct, frozen=True):
    """Thinking of an earlier turn that a translated reply had carried."""

    text: str


class ToolCall(msgspec.Struct, frozen=True):
    """A tool call.

    arguments: a JSON object, exactly as the model wrote it.
    """

    id: str
    name: str
    arguments: str


class ToolOutput(msgspec.Struct, frozen=True):
    """The result of a tool call.

    id: of the call.
    failed: whether the tool reported an error.
    """

    id: str
    text: str
    failed: bool = False


Part = Text | Image | Thought | ToolCall | ToolOutput


class Turn(msgspec.Struct, frozen=True):
    """One message."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[Part, ...]


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may call.

    schema: the JSON schema of its arguments.
    """

    name: str
    description: str | None
    schema: Any
    strict: bool | None = None


class ResponseFormat(msgspec.Struct, frozen=True):
    """The JSON format that the answer must have.

    schema: its JSON schema; None allows any object.
    """

    schema: Any = None
    name: str | None = None
    strict: bool | None = None


class CommonRequest(msgspec.Struct, kw_only=True):
    """What a request asks for.

    choice: which tool to call: `auto`, `none`, `required`, or `=` and a tool's name; empty where not given.
    temperature, top_p: the JSON numbers as the client wrote them.
    stop: sequences that end the answer.
    thinking: maximum thinking tokens; 0 switches thinking off.
    """

    turns: list[Turn]
    tools: list[Tool] = []
    choice: str = ""
    parallel: bool | None = None
    max_tokens: int | None = None
    temperature: bytes | None = None
    top_p: bytes | None = None
    stop: list[str] = []
    shape: ResponseFormat | None = None
    effort: str | None = None
    thinking: int | None = None
    verbosity: str | None = None
    stream: bool = False


def only(where: Any, known: Iterable[str], what: str) -> dict[str, Any]:
    """Check that a value is an object with these members only. Raises `TranslationLoss`."""
    if not isinstance(where, dict):
        raise TranslationLoss(f"{what} is not an object")
    for key, value in where.items():
        if key not in known and value is not None:
            raise TranslationLoss(f"{what} has {key[:60]!r}")
    return where


def check_fields(
    asked: Mapping[str, Any], read: Collection[str], ignored: Collection[str], usual: Mapping[str, tuple[Any, ...]]
) -> None:
    """Check that a request has no field that would be lost. Raises `TranslationLoss`.

    read: fields that are translated.
    ignored: fields that do not change the answer.
    usual: fields that may be dropped where they have one of these values.
    """
    for key, value in asked.items():
        if value is not None and key not in read and key not in ignored and value not in usual.get(key, ()):
            raise TranslationLoss(f"the field {key[:60]!r}")


def each(value: Any, what: str) -> list[Any]:
    """Return the items of a list; None is an empty list. Raises `TranslationLoss`."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise TranslationLoss(f"{what} is not a list")
    return value


def text_of(value: Any, what: str) -> str:
    """Check that a value is a string. Raises `TranslationLoss`."""
    if not isinstance(value, str):
        raise TranslationLoss(f"{what} is not a text")
    return value


def number_of(raw: bytes | None) -> float:
    """Read a JSON number; NaN for anything else."""
    try:
        return float(raw or b"nan")
    except ValueError:
        return float("nan")


def words(turn: Turn) -> str:
    """Join all texts of a message with blank lines."""
    return "\n\n".join(part.text for part in turn.parts if isinstance(part, Text))


def compact(value: Any) -> str:
    """Write JSON without spaces; integers may have any size."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def object_of(arguments: str) -> Any:
    """Read the arguments of a tool call; no text at all gives an empty object. Raises `TranslationLoss`."""
    try:
        found = json.loads(arguments) if arguments.strip() else {}
    except (ValueError, RecursionError):
        raise TranslationLoss("arguments of a tool call that are not JSON") from None
    if not isinstance(found, dict):
        raise TranslationLoss("arguments of a tool call that are no object")
    return found


def dumped(body: dict[str, Any], raw: dict[str, bytes | None]) -> bytes:
    """Write a body as JSON, with further members that are JSON already."""
    text = compact({k: v for k, v in body.items() if v is not None}).encode("utf-8", "replace")
    more = b"".join(b"," + json.dumps(k).encode() + b":" + v for k, v in raw.items() if v is not None)
    return text[:-1] + more + b"}"


def leading_system(turns: list[Turn]) -> tuple[str, list[Turn]]:
    """Split turns: (the system messages at the start as one text, the other turns)."""
    count = next((n for n, turn in enumerate(turns) if turn.role != "system"), len(turns))
    return "\n\n".join(filter(None, map(words, turns[:count]))), turns[count:]
