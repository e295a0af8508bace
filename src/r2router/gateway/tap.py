"""A reply on its way to the client: passes its bytes on, and reads them beside that without losing a byte."""

from __future__ import annotations

from r2router.gateway.dialects.dialect import Dialect, ReplyWatch
from r2router.gateway.frames import Frames, parse, with_data
from r2router.gateway.splice import NotJson
from r2router.gateway.traces import NOTHING, Span
from r2router.gateway.translate.reply import ReplyTranslator
from r2router.upstream.endpoint import MB, Inflate, TooMuch
from r2router.upstream.events import is_blank, is_json

_MAX_WHOLE = 64 * MB
"""Bytes of a whole reply that are kept to be read, or edited; a longer one is relayed unread."""
_MAX_UNPACKED = 1 << 40
_MIN_SECRET = 8
_PACKED = ("gzip", "x-gzip", "deflate")


class Tap:
    """Reads one reply on its way to the client, and edits it where that is needed.

    surplus: whether events that only the gateway asked for are left out.
    shown: the model name that the client is to see; None leaves the provider's.
    coding: the reply's Content-Encoding.
    translator: makes a reply of the client's format (`outer`); None where the provider uses that format itself.
    secret: the provider's key; it is masked should a provider send it back.
    real: whether anything but comments has come.
    at_end: whether what went to the client ends at the end of an event.
    streamed: whether it is a stream of events; None while that is not known.
    blind: whether the reply is compressed in a way that cannot be read.
    span: the trace of the attempt.

    Bytes are passed on at once. Only where an event may have to be left out or edited, each event waits for its end.
    """

    def __init__(
        self,
        dialect: Dialect,
        *,
        surplus: bool = False,
        shown: str | None = None,
        coding: str = "",
        translator: ReplyTranslator | None = None,
        outer: Dialect | None = None,
        secret: bytes = b"",
    ) -> None:
        self.watch: ReplyWatch = dialect.watch()
        self.outer: ReplyWatch = self.watch if outer is None or outer is dialect else outer.watch()
        self._dialect, self._surplus, self._shown, self.translator = dialect, surplus, shown, translator
        self._mask = StreamMask(secret) if len(secret) >= _MIN_SECRET else None
        self._frames: Frames | None = None
        self._start: bytes | None = b""
        self._whole: bytearray | None = None
        coding = coding.strip().lower()
        self._inflate = Inflate(_MAX_UNPACKED, coding) if coding in _PACKED else None
        self.blind = bool(coding) and coding != "identity" and self._inflate is None
        self.edits = (surplus or shown is not None or translator is not None) and not self.blind
        self.unpacks = self.edits and self._inflate is not None
        self.real = self.blind
        self.at_end = True
        self.streamed: bool | None = None
        self.span: Span = NOTHING

    def feed(self, data: bytes) -> bytes:
        """Take the bytes that came; return what goes to the client now."""
        if self.blind:
            return data
        if self._inflate is None:
            out = self._plain(data)
        else:
            try:
                out = b"".join([self._plain(part) for part in self._inflate.feed(data)])
            except (TooMuch, ValueError):  # no longer observed
                self.blind, out = True, b""
        out = out if self.edits else data
        return out if self._mask is None else self._mask.feed(out)

    def end(self) -> bytes:
        """End the reply; return what was held back."""
        rest = b""
        if self._start:
            rest, self._start = self._take(self._start), None
        if self._frames is not None:
            last = self._frames.end()
            rest += self._event(last, whole=True) if last else b""
            if (
                self.translator is not None
                and self.watch.error is None
                and (self.watch.finish is not None or self.watch.whole)
            ):
                rest += self._seen_outside(self.translator.end())
        elif self._whole is not None:
            rest += self._end_of_whole(bytes(self._whole))
        rest = rest if self.edits else b""
        return rest if self._mask is None else self._mask.feed(rest) + self._mask.end()

    def _plain(self, data: bytes) -> bytes:
        if self._start is not None:
            data = self._start + data
            if is_blank(data) and len(data) < 65_536:
                self._start = data
                return b""
            self._start = None
        return self._take(data)

    def _take(self, data: bytes) -> bytes:
        if self.streamed is None:
            self.streamed = not is_json(data)
            if self.streamed:
                self._frames = Frames()
            else:
                self._whole, self.real = bytearray(), True
        if self._frames is not None:
            out = b"".join([self._event(event, whole=whole) for event, whole in self._frames.feed(data)])
            if not self.edits:
                self.at_end = data.endswith((b"\n\n", b"\r\n\r\n", b"\r\r"))
            return out
        if self._whole is None:
            return data
        self._whole += data
        if len(self._whole) > _MAX_WHOLE:
            kept, self._whole = bytes(self._whole), None
            return kept if self.translator is None else self._unreadable("the reply is too long to be translated")
        return b""

    def _event(self, event: bytes, *, whole: bool) -> bytes:
        self.at_end = whole
        if not whole:
            self.real = True
            return event if self.translator is None else self._unreadable("an event is too long to be translated")
        name, data = parse(event)
        if not data and not name:
            return event
        self.real = True
        self.watch.event(name, data)
        if self.translator is not None:
            return self._seen_outside(self.translator.event(name, data))
        if self._surplus and self.watch.surplus(data):
            return b""
        return self._renamed_event(event, data)

    def _seen_outside(self, events: bytes) -> bytes:
        """Read events as the client gets them, so that a broken stream can be ended in its format."""
        if self.outer is not self.watch:
            for event in events.split(b"\n\n"):
                self.outer.event(*parse(event))
        return events

    def _unreadable(self, why: str) -> bytes:
        self.watch.error = {"message": why}
        return b""

    def _renamed_event(self, event: bytes, data: bytes) -> bytes:
        if self._shown is None or b'"model"' not in data:
            return event
        try:
            return with_data(event, data, self._dialect.renamed(data, self._shown))
        except NotJson:
            return event

    def _end_of_whole(self, data: bytes) -> bytes:
        self.watch.reply_bytes(data)
        if self.translator is not None:
            try:
                return data if self.watch.error is not None else self.translator.whole(data)
            except NotJson as error:
                return self._unreadable(f"the reply cannot be translated: {error}")
        if self._shown is None or self.watch.error is not None:
            return data
        try:
            return self._dialect.renamed(data, self._shown)
        except NotJson:
            return data


class StreamMask:
    """Replaces a secret by asterisks, also where it is split into pieces; the length stays the same.

    Only bytes that may begin the secret are held back. An event of a stream ends with an empty line, which no key
    holds.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret, self._kept = secret, b""
        self._ends = frozenset(secret)

    def feed(self, data: bytes) -> bytes:
        """Take bytes; return those that may go out now."""
        data = self._kept + data if self._kept else data
        if self._secret in data:
            data = data.replace(self._secret, b"*" * len(self._secret))
        self._kept = b""
        if data and data[-1] in self._ends:
            for size in range(min(len(self._secret) - 1, len(data)), 0, -1):
                if data.endswith(self._secret[:size]):
                    self._kept = data[-size:]
                    return data[:-size]
        return data

    def end(self) -> bytes:
        """Return what was held back."""
        kept, self._kept = self._kept, b""
        return kept
