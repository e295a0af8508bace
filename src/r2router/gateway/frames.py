"""Server-sent events as they are relayed: split at their ends and nowhere else, in bounded memory, byte for byte.

`upstream.events` parses an event; nothing here loses or changes a byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from r2router.upstream.events import BOM, field

_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
MAX_EVENT = 4 << 20
"""Bytes of an event that is looked at. A longer one is relayed unseen."""


class Frames:
    """Splits a stream into events, each with the empty line that ends it.

    maximum: bytes of an unfinished event to keep. A longer event is passed on in parts, marked as incomplete.
    """

    def __init__(self, maximum: int = MAX_EVENT) -> None:
        self._max = maximum
        self._kept = bytearray()
        self._seen = 0  # of what is kept, where no event ends
        self._overlong = False

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bool]]:
        """Return (bytes, whether they are a complete event) for everything that is complete now."""
        if not self._kept and not self._overlong and (data.endswith((b"\n\n", b"\r\n\r\n"))):
            begin = 0  # nearly always: whole events
            for end in _END.finditer(data):
                yield data[begin : end.end()], True
                begin = end.end()
            return
        self._kept += data
        while found := _END.search(self._kept, max(0, self._seen - 3)):
            event = bytes(self._kept[: found.end()])
            del self._kept[: found.end()]
            self._seen = 0
            yield event, not self._overlong
            self._overlong = False
        self._seen = len(self._kept)
        if self._seen > self._max:
            part = bytes(self._kept[:-3])  # an end that has begun stays
            del self._kept[:-3]
            self._seen, self._overlong = 0, True
            yield part, False

    def end(self) -> bytes:
        """Return what follows the last complete event."""
        rest = bytes(self._kept)
        self._kept.clear()
        return rest


def parse(event: bytes) -> tuple[bytes, bytes]:
    """Return (name, data) of an event; both are empty for a comment.

    Lines end in LF, CR or both; several data lines are joined.
    """
    name, data = b"", []
    for line in event.removeprefix(BOM).splitlines():
        kind, value = field(line)
        if kind == b"data":
            data.append(value)
        elif kind == b"event":
            name = value
        elif kind == b"error":
            name, data = b"error", [value]
    return name, b"\n".join(data)


def with_data(event: bytes, old: bytes, new: bytes) -> bytes:
    """Replace an event's data where it stands on one line; else return the event unchanged."""
    return event.replace(old, new, 1) if event.count(old) == 1 else event
