"""What routing needs to know about a request: the task, the capabilities that it needs, and the prompt's length.

The bytes that go upstream are not made from this. Routing uses only what people wrote: never the output of tools, nor
the blocks that clients add and change from call to call.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Any

import msgspec

_TAGS = (
    "system-reminder", "environment_context", "user_instructions", "INSTRUCTIONS", "permissions", "command-name",
    "command-message",
    "command-args", "local-command-stdout", "ide_opened_file", "ide_selection", "environment_details",
    "skills_instructions",
)  # fmt: skip
_BILLING = "x-anthropic-billing-header"
_KEPT = 32_768  # characters of a turn that are looked at
_PART = 1_200  # characters of each of two turns: the encoder reads some hundred tokens, and must see both
_URL_IMAGE_TOKENS = 1_600
_MAX_IMAGE_TOKENS = 4_800
_BASE64_PER_AUDIO_TOKEN = 1_000  # compressed speech: about 10 tokens and 10,000 characters per second
_MIN_BASE64_PER_AUDIO_TOKEN = 25  # of the slowest speech codecs
_IMAGE_HEAD = 87_384  # base64 characters: the first 64 KiB


class Conversation:
    """What a wire format found in one of its requests.

    first, last: the first and the last text that a person wrote.
    system: the system prompt.
    needs: capabilities that the model must have.
    loop: whether the last item is the output of a tool, so that an answer is under way.
    state: kinds of provider-specific state that the conversation carries (`signature`, `encrypted`, `previous`, ...).
    errors: how many tool outputs in a row, at the end, report one and the same error.
    images: estimated tokens of images and files.
    binary: bytes of the body that these take.
    turns: the number of items.
    """

    def __init__(self) -> None:
        self.first = self.last = self.system = ""
        self.needs: set[str] = set()
        self.state: set[str] = set()
        self.loop = False
        self.errors = 0
        self.images = self.max_images = self.binary = self.turns = 0
        self.elsewhere = self.own_rates = False
        self._error = b""

    @property
    def task(self) -> str:
        """The text to route by; empty where a person wrote none."""
        if self.first == self.last or not self.first:
            return self.last
        return f"{self.first[:_PART]}\n\n{self.last[:_PART]}"

    def human(self, texts: list[str]) -> None:
        """Add a turn of a person."""
        self.turns += 1
        self.loop = False
        words = "\n".join(kept for text in texts if (kept := _own_words(text)))
        if words:
            self.first = self.first or words
            self.last = words

    def instruct(self, text: str) -> None:
        """Add a part of the system prompt."""
        if not text.startswith(_BILLING):  # it changes from call to call
            self.system += text[: max(0, _KEPT - len(self.system))]

    def answered(self) -> None:
        """Add a turn of the model."""
        self.turns += 1
        self.loop = False

    def tool_output(self, content: Any, failed: bool | None = None) -> None:
        """Add the output of a tool.

        failed: whether it is an error, where the format says so.
        """
        self.turns += 1
        self.loop = True
        text = "\n".join(texts_of(content))
        wrong = _looks_failed(text) if failed is None else failed
        digest = hashlib.sha256(text[:_KEPT].encode("utf-8", "surrogatepass")).digest() if wrong else b""
        self.errors = 0 if not wrong else self.errors + 1 if digest == self._error else 1
        self._error = digest

    def image(self, source: Any) -> None:
        """Add an image: a `data:` URL, base64, or a web address."""
        self.needs.add("vision")
        text = source if isinstance(source, str) else ""
        if text.startswith("http") or not text:
            self.images += _URL_IMAGE_TOKENS
            self.max_images += _MAX_IMAGE_TOKENS
            return
        self.binary += len(text)
        tokens = image_tokens(text.partition(",")[2] if text.startswith("data:") else text)
        self.images += tokens
        self.max_images += tokens

    def file(self, data: Any) -> None:
        """Add a document; its size limits its tokens."""
        self.needs.add("files")
        size = len(data) if isinstance(data, str) and not data.startswith("http") else 0
        self.elsewhere = self.elsewhere or not size
        self.binary += size
        self.images += max(1_500, size // 16)
        self.max_images += max(1_500, size)  # what is packed in it may be read as more text than it seems

    def audio(self, data: Any) -> None:
        """Speech, as base64."""
        self.needs.add("audio")
        size = len(data) if isinstance(data, str) else 0
        self.binary += size
        self.images += size // _BASE64_PER_AUDIO_TOKEN
        self.max_images += size // _MIN_BASE64_PER_AUDIO_TOKEN


def image_tokens(base64_text: str) -> int:
    """Estimate the maximum number of tokens billed for an image, by its width and height; where these cannot be read,
    those of a large image.
    """
    try:
        head = base64.b64decode(base64_text[:_IMAGE_HEAD][: len(base64_text[:_IMAGE_HEAD]) // 4 * 4], validate=False)
    except (binascii.Error, ValueError):
        return _MAX_IMAGE_TOKENS
    found = _size(head)
    if found is None:
        return _MAX_IMAGE_TOKENS
    return min(max(found[0] * found[1] // 750 + 1, 85), _MAX_IMAGE_TOKENS)


def _size(head: bytes) -> tuple[int, int] | None:
    if head[:8] == b"\x89PNG\r\n\x1a\n" and len(head) >= 24:
        return int.from_bytes(head[16:20]), int.from_bytes(head[20:24])
    if head[:6] in (b"GIF87a", b"GIF89a") and len(head) >= 10:
        return int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP" and len(head) >= 30:
        return _webp(head)
    return _jpeg(head) if head[:2] == b"\xff\xd8" else None


def _webp(head: bytes) -> tuple[int, int] | None:
    match head[12:16]:
        case b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
        case b"VP8 ":
            return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    return None


def _jpeg(head: bytes) -> tuple[int, int] | None:
    at = 2
    while at + 9 <= len(head) and head[at] == 0xFF:
        marker, size = head[at + 1], int.from_bytes(head[at + 2 : at + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return int.from_bytes(head[at + 7 : at + 9]), int.from_bytes(head[at + 5 : at + 7])
        if size < 2:
            return None
        at += 2 + size
    return None


def _own_words(text: str) -> str:
    """Remove the blocks that clients add to a text."""
    text = text[:_KEPT]
    for tag in _TAGS if "<" in text else ():
        begin, end = f"<{tag}", f"</{tag}>"
        at = text.find(begin)
        while at >= 0:
            close = text.find(end, at)
            if close < 0:
                break
            text = text[:at] + text[close + len(end) :]
            at = text.find(begin, at)
    return text.strip()


_FAILED = ("error:", "error ", "traceback (most recent call last)", "exception", "fatal:", '{"error"', "failed")


def _looks_failed(text: str) -> bool:
    return text[:200].lstrip().lower().startswith(_FAILED)


def texts_of(content: Any, kinds: tuple[str, ...] = ("text", "input_text", "output_text")) -> list[str]:
    """Return the texts of content that is a string or a list of parts."""
    if isinstance(content, str):
        return [content]
    parts = content if isinstance(content, list) else ()
    return [
        p["text"] for p in parts if isinstance(p, dict) and p.get("type") in kinds and isinstance(p.get("text"), str)
    ]


def dicts(value: Any) -> list[dict[str, Any]]:
    """Return the objects in a list."""
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


class Ceilings(msgspec.Struct, frozen=True, kw_only=True):
    """The limits that a caller sets; None where it sets none.

    max_tokens: of output, including thinking where the format counts it so.
    effort: its name.
    thinking: tokens; 0 switches thinking off.
    """

    max_tokens: int | None = None
    largest: int | None = None
    effort: str | None = None
    thinking: int | None = None
    answers: int = 1
    beside: int = 0
