"""The rules for every endpoint that is called, for chat as for embeddings: its URL, its key, and how much it may send.

Endpoints are not trusted. A key goes to the one host that it is for, and into no message, answer or file; what an
endpoint sends is bounded before it is kept, also when it is compressed.
"""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from urllib.parse import quote, urlsplit

from r2router._version import __version__
from r2router.errors import ConfigError
from r2router.types import Provider

MB = 1_000_000
LONGEST_ANSWER = 262_144
"""Output tokens of one call that are taken for possible where nothing caps it: twice what the longest models write
today.
"""


def headers(key: str) -> dict[str, str]:
    """What goes with every request. Compressed replies are not asked for: they hide their size."""
    sent = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": f"r2router/{__version__}"}
    return sent | ({"Authorization": f"Bearer {key}"} if key else {})


# -- URLs -------------------------------------------------------------------------------------------------------------


def check_url(url: str, what: str) -> str:
    """The URL without a slash at its end. what: its name in messages. Raises `ConfigError`, never showing what may be a
    secret.
    """
    try:
        parts = urlsplit(url)
        sound = (
            parts.scheme in ("http", "https")
            and bool(parts.hostname)
            and parts.port != 0
            and url.isprintable()
            and " " not in url
        )
    except ValueError:  # a port or an address that is none
        sound = False
    if not sound:
        raise ConfigError(f"{what} must begin with http:// or https://, as in http://127.0.0.1:8080/v1")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigError(f"{what} must not hold a secret; put it into an environment variable")
    path = parts.path.rstrip("/")
    for ending in ("/chat/completions", "/embeddings"):
        if path.endswith(ending):
            raise ConfigError(f"{what} must end before {ending}: {url.rpartition(ending)[0]}")
    return url.rstrip("/")


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what a key is for."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").rstrip("."), parts.port or (443 if parts.scheme == "https" else 80)


# -- keys -------------------------------------------------------------------------------------------------------------

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY_PREFIX = re.compile(
    r"(sk|pk|rk|gsk|hf|xai|pplx|nvapi|tgp|fw|csk|r8|glpat|ghp|AIza|AKIA|eyJ|Bearer)[-_ ]?", re.ASCII
)
_NO_SECRET = frozenset(
    {"", "empty", "none", "null", "dummy", "placeholder", "not-needed", "no-key", "ollama", "lm-studio", "api-key"}
)
"""Keys that people send where none is needed: words that an answer may well hold."""


def looks_like_a_key(name: str) -> bool:
    """Whether what should name an environment variable is a key itself, or nothing that can be a name.

    Keys are long and mix digits with letters; names of variables are words, mostly in capitals and with underscores.
    """
    if not _VARIABLE.fullmatch(name):
        return True
    words, digits = name.split("_"), sum(c.isdigit() for c in name)
    if len(name) >= 20 and _KEY_PREFIX.match(name) and (digits >= 2 or any(map(str.islower, name))):
        return True
    longest = max(map(len, words))
    return (longest >= 16 and digits >= 1) or (len(name) >= 20 and digits >= 4 and any(map(str.islower, name)))


def check_provider(name: str, provider: Provider) -> None:
    """Raise `ConfigError` for a provider that cannot be called, or that holds a key instead of the name of its
    variable.
    """
    check_url(provider.base_url, f"provider {name!r}: base_url")
    if provider.key and looks_like_a_key(provider.key):
        if provider.key.startswith("$"):
            raise ConfigError(f"provider {name!r}: key is the name of an environment variable, without the $")
        raise ConfigError(
            f'provider {name!r}: key must be the name of an environment variable, as in key = "MY_API_KEY", and it is'
            " none; if it is the key itself, put that into a variable, and replace it where others may have read this"
            " file"
        )


def key_of(variable: str) -> tuple[str, str]:
    """Return (the key that an environment variable holds, "") or ("", what is wrong with it, which holds no part of
    it).
    """
    key = os.environ.get(variable, "").strip()
    if not key:
        return "", f"set the environment variable {variable}"
    if not (key.isascii() and key.isprintable()):
        return "", f"{variable} holds characters that a key cannot have; set it again"
    return key, ""


class Mask:
    """Removes a key from what an endpoint sends, also where only a large part of it is quoted, or it is split into
    pieces.
    """

    _GRAM = 6
    _MIN = 12  # characters in a row of a key that are masked

    def __init__(self, key: str) -> None:
        self._key = key
        secret = len(key) >= 8 and key.lower() not in _NO_SECRET
        self._forms = [form for form in dict.fromkeys((key, quote(key, safe=""))) if secret]

    def __call__(self, words: str) -> str:
        """The words without the key."""
        return "".join(self.pieces([words])) if self._forms else words

    def pieces(self, pieces: list[str]) -> list[str]:
        """The pieces of a text without the key: as many as before, with the mask in the first piece that held a part of
        it.
        """
        text = "".join(pieces)
        spans = self._spans(text)
        if not spans:
            return pieces
        masked, at = [], 0
        for piece in pieces:
            end = at + len(piece)
            kept, here = [], at
            for first, last in spans:
                if last <= at or first >= end:
                    continue
                kept.append(text[here : max(here, first)])
                if first >= at:
                    kept.append("***")
                here = min(last, end)
            masked.append("".join(kept) + text[here:end])
            at = end
        return masked

    def finds(self, words: str) -> bool:
        """Whether the key, or a large part of it, stands in these words."""
        return bool(self._spans(words))

    def error(self, words: str) -> str:
        """An error message without the key, nor the beginning of it where the message was cut off within it."""
        key = self._key
        if not key:
            return words
        words = self(words).replace(key, "***")
        cut = next((n for n in range(min(len(key), len(words)) - 1, 3, -1) if words.endswith(f"{key[:n]}...")), 0)
        return f"{words[: -cut - 3]}***..." if cut else words

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """Find the parts of the key, in order and apart. Any 11 characters of it hold one of the grams that are
        searched.
        """
        found: list[tuple[int, int]] = []
        for key in self._forms:
            minimum = min(self._MIN, len(key))
            for at in range(0, len(key) - self._GRAM + 1, self._GRAM):
                start = text.find(key[at : at + self._GRAM])
                while start >= 0:
                    first, last = _grown(text, start, start + self._GRAM, key, at)
                    if last - first >= minimum:
                        found.append((first, last))
                    start = text.find(key[at : at + self._GRAM], max(last, start + 1))
        merged: list[tuple[int, int]] = []
        for first, last in sorted(found):
            if merged and first <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(last, merged[-1][1])
            else:
                merged.append((first, last))
        return merged


def quotes(said: bytes, key: str) -> bool:
    """Whether what an endpoint sent holds the key, or a large part of it; also where JSON writes its characters in
    another way.
    """
    text = said.decode("utf-8", "replace")
    if "\\" in text:
        text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text).replace("\\/", "/")
    return mask_of(key).finds(text)


@lru_cache(maxsize=64)  # of few providers, many times a second
def mask_of(key: str) -> Mask:
    """The mask of a key."""
    return Mask(key)


_ESCAPED = re.compile(r"\\u00([2-7][0-9a-fA-F])")


def _grown(text: str, first: int, last: int, key: str, at: int) -> tuple[int, int]:
    """The longest part of the key around text[first:last], which is the key's from `at` on."""
    left, right = at, at + last - first
    while first > 0 and left > 0 and text[first - 1] == key[left - 1]:
        first, left = first - 1, left - 1
    while last < len(text) and right < len(key) and text[last] == key[right]:
        last, right = last + 1, right + 1
    return first, last


# -- how much may come ------------------------------------------------------------------------------------------------


class TooMuch(Exception):
    """An endpoint sent more than what was asked for can be."""


_GZIP = b"\x1f\x8b"


class Inflate:
    """Hands on what an endpoint sends in parts of at most 64 KiB, unpacked, and no more than `maximum` bytes of it in
    all.
    """

    _PART = 65_536

    def __init__(self, maximum: int, encoding: str = "") -> None:
        self.left = self.maximum = maximum
        coding = encoding.strip().lower()
        if coding not in ("", "identity", "gzip", "x-gzip", "deflate"):
            raise ValueError(f"compressed as {coding[:20]!r}, which was not asked for")
        # finds out which of the two it is
        self._unpack = None if coding in ("", "identity") else zlib.decompressobj(47)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The parts that some bytes of the wire come to. Raises `TooMuch`, and ValueError for what is not packed as it
        says.
        """
        if self._unpack is None:
            yield self._count(data)
            return
        try:
            while True:
                if self._unpack.eof:
                    data = self._unpack.unused_data + data
                    if not data.startswith(_GZIP):  # the end; what servers put behind it counts for nothing
                        return
                    self._unpack = zlib.decompressobj(47)  # another one, as gzip allows
                part = self._unpack.decompress(data, self._PART)
                data = self._unpack.unconsumed_tail
                if part:
                    yield self._count(part)
                elif not self._unpack.eof:
                    return
        except zlib.error:
            raise ValueError("damaged in its compressed form") from None

    @property
    def ended(self) -> bool:
        """Whether what was packed has come to its end; always true of what was not."""
        return self._unpack is None or self._unpack.eof

    def _count(self, part: bytes) -> bytes:
        self.left -= len(part)
        if self.left < 0:
            raise TooMuch(f"sent more than {self.maximum / MB:,.0f} MB, far more than the request allows")
        return part


def max_stream_bytes(tokens: int) -> int:
    """Bytes of a stream of so many tokens at most: an event per token, some of which repeat the whole answer. They are
    not kept.
    """
    return min(8 * MB + 16_000 * tokens, 256 * MB)


def max_kept_bytes(tokens: int) -> int:
    """Bytes of a whole reply of so many tokens, log-probabilities included; of a text, with a wide margin."""
    return min(2 * MB + 2_000 * tokens, 32 * MB)


def max_embedding_bytes(texts: int, dim: int) -> int:
    """Bytes of a reply with so many vectors; dim: 0 where their length is not known yet."""
    return MB + texts * (dim or 8192) * 32


def min_tokens(texts: Sequence[str]) -> int:
    """Tokens that texts come to at least, by any tokenizer: a token of four words, or of a hundred bytes, is longer
    than they make them.
    """
    words = sum(len(text.split()) for text in texts)
    size = sum(len(text.encode("utf-8", "replace")) - text.count(" ") for text in texts)
    return max(0, max(words // 4, size // 100) - 8)
