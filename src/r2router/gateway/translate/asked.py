"""What a request asks for, whatever format it is written in; and what no other format can say."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Literal

import msgspec


class Lost(Exception):
    """What would be lost; the words say what."""


class Text(msgspec.Struct, frozen=True):
    """Words."""

    text: str


class Image(msgspec.Struct, frozen=True):
    """An image. url: `data:image/png;base64,...`, or where it lies. detail: as OpenAI has it."""

    url: str
    detail: str | None = None


class Thought(msgspec.Struct, frozen=True):
    """Thinking that a translation has relayed before."""

    text: str


class ToolCall(msgspec.Struct, frozen=True):
    """A call of a tool. arguments: a JSON object, as it was written."""

    id: str
    name: str
    arguments: str


class Output(msgspec.Struct, frozen=True):
    """What a tool put out."""

    id: str
    text: str
    failed: bool = False


Part = Text | Image | Thought | ToolCall | Output


class Turn(msgspec.Struct, frozen=True):
    """One message."""

    role: Literal["system", "user", "assistant"]
    parts: tuple[Part, ...]


class Tool(msgspec.Struct, frozen=True):
    """A function that the model may call. schema: of its arguments."""

    name: str
    description: str | None
    schema: Any
    strict: bool | None = None


class Shape(msgspec.Struct, frozen=True):
    """The JSON that an answer must be. schema: None for any object."""

    schema: Any = None
    name: str | None = None
    strict: bool | None = None


class Asked(msgspec.Struct, kw_only=True):
    """A request. choice: `auto`, `none`, `required`, or the name of a tool behind `=`; empty where nothing is said.

    temperature, top_p: as they are written. stop: sequences that end the answer. thinking: tokens; 0 switches it off.
    """

    turns: list[Turn]
    tools: list[Tool] = []
    choice: str = ""
    parallel: bool | None = None
    max_tokens: int | None = None
    temperature: bytes | None = None
    top_p: bytes | None = None
    stop: list[str] = []
    shape: Shape | None = None
    effort: str | None = None
    thinking: int | None = None
    verbosity: str | None = None
    stream: bool = False


def only(where: Any, known: Iterable[str], what: str) -> dict[str, Any]:
    """An object that has no other members than those. Raises `Lost`."""
    if not isinstance(where, dict):
        raise Lost(f"{what} is not an object")
    for key, value in where.items():
        if key not in known and value is not None:
            raise Lost(f"{what} has {key[:60]!r}")
    return where


def each(value: Any, what: str) -> list[Any]:
    """The items of a list; none for nothing. Raises `Lost`."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise Lost(f"{what} is not a list")
    return value


def text_of(value: Any, what: str) -> str:
    """A string. Raises `Lost`."""
    if not isinstance(value, str):
        raise Lost(f"{what} is not a text")
    return value


def number_of(raw: bytes | None) -> float:
    """A number as it is written in JSON; NaN for anything else."""
    try:
        return float(raw or b"nan")
    except ValueError:
        return float("nan")


def words(turn: Turn) -> str:
    """All texts of a message, one below the other."""
    return "\n\n".join(part.text for part in turn.parts if isinstance(part, Text))


def compact(value: Any) -> str:
    """JSON without spaces, with integers of any size."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def object_of(arguments: str) -> Any:
    """The arguments of a call as an object; none at all are an empty one. Raises `Lost`."""
    try:
        found = json.loads(arguments) if arguments.strip() else {}
    except (ValueError, RecursionError):
        raise Lost("arguments of a tool call that are not JSON") from None
    if not isinstance(found, dict):
        raise Lost("arguments of a tool call that are no object")
    return found


def dumped(body: dict[str, Any], raw: dict[str, bytes | None]) -> bytes:
    """A body with further members that are JSON already."""
    text = compact({k: v for k, v in body.items() if v is not None}).encode("utf-8", "replace")
    more = b"".join(b"," + json.dumps(k).encode() + b":" + v for k, v in raw.items() if v is not None)
    return text[:-1] + more + b"}"


def leading_system(turns: list[Turn]) -> tuple[str, list[Turn]]:
    """(the system messages at the start as one text, the rest)."""
    count = next((n for n, turn in enumerate(turns) if turn.role != "system"), len(turns))
    return "\n\n".join(filter(None, map(words, turns[:count]))), turns[count:]
