"""Server-sent events: from bytes in any packets to the data of each event.

As https://html.spec.whatwg.org/multipage/server-sent-events.html has it, and lenient where endpoints are: lines may end
in LF, CRLF or CR, the empty line between events may be missing, an event's data may stand in several lines, a line may
hold bare JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_NEWLINE = re.compile(rb"\r\n|\n|\r")
BOM = b"\xef\xbb\xbf"


class Lines:
    """Cuts bytes into lines; only CR, LF and both together end one (U+2028 does not). longest: bytes of a line."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._tail = bytearray()
        self._after_cr = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the lines that are whole now. Raises ValueError for one that is too long."""
        if self._after_cr and data:
            data = data[1:] if data[:1] == b"\n" else data
            self._after_cr = False
        if not data:
            return
        self._after_cr = data[-1:] == b"\r"
        head, *rest = _NEWLINE.split(data) if b"\r" in data else data.split(b"\n")
        self._tail += head
        if len(self._tail) > self._longest:
            raise ValueError("sent a line that does not end")
        if rest:
            yield bytes(self._tail)
            *whole, last = rest
            self._tail = bytearray(last)
            yield from whole

    def end(self) -> bytes:
        """Return what stands behind the last end of a line."""
        return bytes(self._tail)


def field(line: bytes) -> tuple[bytes, bytes]:
    """Return (name, value) of a line: `data`, `event`, `error`, or an empty name for what says nothing. A line of bare
    JSON is data.
    """
    line = line.removeprefix(BOM).strip()
    if line[:1] in (b"{", b"["):
        return b"data", line
    name, colon, value = line.partition(b":")
    return (name, value.strip()) if colon and name in (b"data", b"event", b"error") else (b"", b"")


def is_json(start: bytes) -> bool:
    """Return whether a body that begins so is JSON and no stream of events, whatever its Content-Type says."""
    return start.removeprefix(BOM).lstrip()[:1] in (b"{", b"[")


def is_blank(start: bytes) -> bool:
    """Return whether the first bytes of a body do not tell yet what it is."""
    return BOM.startswith(start) or not start.removeprefix(BOM).strip()
