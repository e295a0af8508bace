"""Edits JSON in its bytes: what nobody asked to change reaches the provider exactly as it came.

Numbers above 64 bits, the order of keys, spacing, escapes and unknown fields all survive. An object with a repeated key
is refused: two readers could take two different values for it.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from r2router.upstream.content import decoded

_SPACE = b" \t\r\n"
_MEMBER = re.compile(rb'[ \t\r\n]*[{,][ \t\r\n]*("[^"\\]*+(?:\\.[^"\\]*+)*")[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_ITEM = re.compile(rb"[ \t\r\n]*[\[,][ \t\r\n]*")
_object = msgspec.json.Decoder(dict[str, msgspec.Raw])
_array = msgspec.json.Decoder(list[msgspec.Raw])


class NotJson(ValueError):
    """Bytes that are not the required JSON object or array; the message says why."""


class Members:
    """The members of a JSON object, which can be read one by one and replaced in place. Raises `NotJson`."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        # key: where its member begins, its value begins, and its value ends
        self._spans: dict[str, tuple[int, int, int]] = {}
        self._edits: dict[str, bytes | None] = {}
        at = 0
        for key, raw in _split(_object, data, "object").items():
            found, value = _MEMBER.match(data, at), bytes(raw)
            start = found.end() if found else 0
            if found is None or data[start : start + len(value)] != value or not _is_key(found[1], key):
                raise NotJson(f"a key occurs twice near {key[:40]!r}")
            self._spans[key] = (at, start, start + len(value))
            at = start + len(value)
        self._end = at
        if data[at:].strip(_SPACE) != (b"}" if self._spans else b"{}"):
            raise NotJson("a key occurs twice")

    def __contains__(self, key: str) -> bool:
        return (self._edits[key] is not None) if key in self._edits else key in self._spans

    def raw(self, key: str) -> bytes | None:
        """Return the bytes of a value; None where the key is absent."""
        if key in self._edits:
            return self._edits[key]
        span = self._spans.get(key)
        return None if span is None else self.data[span[1] : span[2]]

    def get(self, key: str) -> Any:
        """Return a value as a Python object; None where the key is absent. Raises `NotJson`."""
        if key not in self._spans and key not in self._edits:  # most of what is looked for
            return None
        raw = self.raw(key)
        if raw is None:
            return None
        try:
            return decoded(raw)
        except ValueError as error:
            raise NotJson(f"{key}: {error}") from None

    def object(self, key: str) -> Members | None:
        """Return a value that is an object, to be edited and put back with `set`; None for any other value."""
        raw = self.raw(key)
        return Members(raw) if raw is not None and raw[:1] == b"{" else None

    def set(self, key: str, value: bytes) -> None:
        """Replace a value, or append the member."""
        self._edits[key] = value

    def put(self, key: str, value: Any) -> None:
        """Set a value given as a Python object."""
        self._edits[key] = encoded(value)

    def remove(self, key: str) -> None:
        """Remove a member, if it is there."""
        if key in self._spans:
            self._edits[key] = None
        else:
            self._edits.pop(key, None)

    @property
    def edited(self) -> bool:
        return bool(self._edits)

    def copy(self) -> Members:
        """Return the same members; edits of the copy do not change these."""
        twin = object.__new__(Members)
        twin.data = self.data
        twin._spans = self._spans
        twin._end = self._end
        twin._edits = dict(self._edits)
        return twin

    def render(self) -> bytes:
        """Return the object with all edits; without edits, the very bytes that came."""
        if not self._edits:
            return self.data
        parts: list[bytes] = []
        for key, (begin, start, end) in self._spans.items():
            value = self._edits.get(key, b"") if key in self._edits else self.data[start:end]
            if value is None:
                continue
            head = self.data[begin:start]
            parts += [
                head
                if parts or b"{" in head[: len(head) - len(head.lstrip(_SPACE)) + 1]
                else head.replace(b",", b"{", 1),
                value,
            ]
        for key, value in self._edits.items():
            if key not in self._spans and value is not None:
                parts += [b"," if parts else b"{", msgspec.json.encode(key), b":", value]
        if not parts:
            return b"{}"
        return b"".join((*parts, self.data[self._end :] if self._spans else b"}"))


class Items:
    """The items of a JSON array, which can be read and replaced in place. Raises `NotJson`."""

    def __init__(self, data: bytes) -> None:
        self._data, self._spans, at = data, [], 0
        self._edits: dict[int, bytes] = {}
        self._before: list[bytes] = []
        for raw in _split(_array, data, "array"):
            found, value = _ITEM.match(data, at), bytes(raw)
            start = found.end() if found else 0
            self._spans.append((start, start + len(value)))
            at = start + len(value)

    def __len__(self) -> int:
        return len(self._spans)

    def __getitem__(self, at: int) -> bytes:
        start, end = self._spans[at]
        return self._edits.get(at % len(self._spans), self._data[start:end])

    def set(self, at: int, value: bytes) -> None:
        """Replace an item.

        at: its index; negative ones count from the end.
        """
        self._edits[at % len(self._spans)] = value

    def insert_first(self, value: bytes) -> None:
        """Insert an item before all others."""
        self._before.insert(0, value)

    def append(self, value: bytes) -> None:
        """Append an item."""
        if self._spans:
            last = len(self._spans) - 1
            self._edits[last] = self[last] + b"," + value
        else:
            self._before.append(value)

    def render(self) -> bytes:
        """Return the array with all edits."""
        if not self._spans:
            return b"[" + b",".join(self._before) + b"]"
        parts, at = [], 0
        for number, (start, end) in enumerate(self._spans):
            parts += [self._data[at:start], self._edits.get(number, self._data[start:end])]
            at = end
        if self._before:
            begin = parts[0].index(b"[") + 1
            parts[0] = parts[0][:begin] + b",".join(self._before) + b"," + parts[0][begin:]
        return b"".join((*parts, self._data[at:]))


def with_words(raw: bytes, words: str) -> bytes:
    """Append text to a JSON string; the old text keeps its spelling."""
    return raw[:-1] + encoded(words)[1:]


def encoded(value: Any) -> bytes:
    """Write JSON, also of values that only some encoders accept (see `decoded`): a lone surrogate becomes a question
    mark, and integers may have any size.
    """
    try:
        return msgspec.json.encode(value)
    except (UnicodeEncodeError, OverflowError, ValueError):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def _split(decoder: Any, data: bytes, kind: str) -> Any:
    try:
        return decoder.decode(data)
    except RecursionError:
        raise NotJson("nested too deeply") from None
    except msgspec.ValidationError:
        raise NotJson(f"not a JSON {kind}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotJson(f"not valid JSON: {error}") from None


def _is_key(quoted: bytes, key: str) -> bool:
    """Return whether a key's bytes are those of the key that was read."""
    if b"\\" not in quoted:
        return quoted[1:-1] == key.encode()
    try:
        return bool(msgspec.json.decode(quoted) == key)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
