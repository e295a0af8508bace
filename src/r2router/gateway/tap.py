"""A reply on its way to the client: passes its bytes on, and reads them beside that without losing a byte."""

from __future__ import annotations

from typing import NamedTuple

from r2router.gateway.dialects.dialect import Dialect, ReplyWatch
from r2router.gateway.frames import Frames, parse, with_data
from r2router.gateway.splice import NotJson
from r2router.gateway.traces import NOTHING, Span
from r2router.gateway.translate.reply import ReplyTranslator
from r2router.gateway.upstreams import BrokenOff
from r2router.upstream.endpoint import (
    LONGEST_ANSWER,
    MB,
    Inflate,
    TooMuch,
    mask_of,
    max_embedding_bytes,
    max_kept_bytes,
    max_stream_bytes,
)
from r2router.upstream.events import is_blank, is_json
from r2router.upstream.wire import one_line

_PICTURES = 64 * MB  # images and sound come as text, beside the tokens that are counted for them
_MAX_BURST = 16 * MB  # unpacked, of what comes at once
_MIN_SECRET = 8
_PACKED = ("gzip", "x-gzip", "deflate")


class ReplyBounds(NamedTuple):
    """How many bytes of a reply are taken, unpacked, and how many of one that is no stream are kept to be read or
    edited; a longer one is relayed unread.
    """

    taken: int
    kept: int

    @classmethod
    def of_tokens(cls, tokens: int) -> ReplyBounds:
        """Of answers of so many tokens in all."""
        return cls(max_stream_bytes(tokens) + _PICTURES, max_kept_bytes(tokens) + 6 * MB)

    @classmethod
    def of_vectors(cls, texts: int) -> ReplyBounds:
        """Of so many embeddings, which are not read."""
        return cls(max_embedding_bytes(texts, 0), 64 * MB)


class Tap:
    """Reads one reply on its way to the client, and edits it where that is needed.

    surplus: whether events that only the gateway asked for are left out.
    shown: the model name that the client is to see; None leaves the provider's.
    coding: the reply's Content-Encoding.
    translator: makes a reply of the client's format (`outer`); None where the provider uses that format itself.
    secret: the provider's key; it is masked should a provider send it back.
    bounds: how much is taken of the reply.
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
        bounds: ReplyBounds | None = None,
    ) -> None:
        self.watch: ReplyWatch = dialect.watch()
        self.outer: ReplyWatch = self.watch if outer is None or outer is dialect else outer.watch()
        self._dialect, self._surplus, self._shown, self.translator = dialect, surplus, shown, translator
        self._mask = StreamMask(secret) if len(secret) >= _MIN_SECRET else None
        self._hides = mask_of(secret.decode())
        self._frames: Frames | None = None
        self._start: bytes | None = b""
        self._whole: bytearray | None = None
        coding = coding.strip().lower()
        self._left, self._kept = bounds or ReplyBounds.of_tokens(LONGEST_ANSWER)
        self._inflate = Inflate(self._left, coding) if coding in _PACKED else None
        self.blind = bool(coding) and coding != "identity" and self._inflate is None
        self.edits = (surplus or shown is not None or translator is not None) and not self.blind
        self.unpacks = self.edits and self._inflate is not None
        self.real = self.blind
        self.at_end = True
        self.streamed: bool | None = None
        self.span: Span = NOTHING

    def feed(self, data: bytes) -> bytes:
        """Take the bytes that came; return what goes to the client now.

        Raises `BrokenOff` where it is far more than was asked for.
        """
        self._left -= len(data)
        if self._left < 0:
            raise BrokenOff(_TOO_MUCH)
        if self.blind:
            return data
        out = self._plain(data) if self._inflate is None else self._unpacked(data, self._inflate)
        out = out if self.edits else data
        return out if self._mask is None else self._mask.feed(out)

    def _unpacked(self, data: bytes, inflate: Inflate) -> bytes:
        """As `_plain`, of what came packed: a few kilobytes may hold any number of megabytes."""
        out, size = [], 0
        try:
            for part in inflate.feed(data):
                size += len(part)
                if size > _MAX_BURST:
                    raise BrokenOff(_TOO_MUCH)
                made = self._plain(part)
                if self.edits:
                    out.append(made)
        except TooMuch:
            raise BrokenOff(_TOO_MUCH) from None
        except ValueError:  # no longer observed
            self.blind, out = True, []
        return b"".join(out)

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

    def shown(self, words: str | None) -> str | None:
        """Words of the provider as they may be told to others than the client: without its key, in one line."""
        return None if words is None else one_line(self._hides(words))

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
        if len(self._whole) > self._kept:
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


_TOO_MUCH = "sent far more than the request allows"


class StreamMask:
    """Replaces a secret by asterisks, also where it is split into pieces; the length stays the same.

    Only bytes that may begin the secret are held back. An event of a stream ends with an empty line, which no key
    holds.
    """

    def __init__(self, secret: bytes) -> None:
        self._forms = tuple(dict.fromkeys((secret, secret.replace(b"/", b"\\/"))))  # some write JSON so
        self._ends, self._longest, self._kept = frozenset(b"".join(self._forms)), len(self._forms[-1]), b""

    def feed(self, data: bytes) -> bytes:
        """Take bytes; return those that may go out now."""
        data = self._kept + data if self._kept else data
        for form in self._forms:
            if form in data:
                data = data.replace(form, b"*" * len(form))
        self._kept = b""
        if data and data[-1] in self._ends:
            for size in range(min(self._longest - 1, len(data)), 0, -1):
                if any(data.endswith(form[:size]) for form in self._forms if size < len(form)):
                    self._kept = data[-size:]
                    return data[:-size]
        return data

    def end(self) -> bytes:
        """Return what was held back."""
        kept, self._kept = self._kept, b""
        return kept
