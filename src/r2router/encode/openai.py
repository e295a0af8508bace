"""An OpenAI-compatible /v1/embeddings endpoint as an encoder: OpenAI, vLLM, text-embeddings-inference, Ollama, llama.cpp, ..."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from r2router.encode.post import post_json
from r2router.encode.rows import checked_unit_rows
from r2router.encode.tokens import well_formed
from r2router.errors import ConfigError, EncoderError
from r2router.types import FloatArray

DEFAULT_URL = "https://api.openai.com/v1"
LOCAL_HOSTS = {"localhost", "127.0.0.1", "::1"}


class OpenAIEmbeddings:
    """Vectors of `model` from `base_url`; the key comes from OPENAI_API_KEY at every call and is kept nowhere.

    base_url: where it is None, OPENAI_BASE_URL, else OpenAI's own. The key is only sent to that host and to this machine: a
    router somebody else trained may name any URL, and must not collect keys with it.
    batch, batch_chars: most texts and characters in one request. max_chars: what comes later in a text is not sent; endpoints
    refuse texts above their model's limit. timeout_s: for one attempt. attempts, backoff_s: a busy or failing endpoint (429, 5xx,
    dropped connection) is asked again after backoff_s, then twice that, ..., or what its Retry-After says, up to 20 s.
    """

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        batch: int = 256,
        batch_chars: int = 200_000,
        max_chars: int = 6_000,
        timeout_s: float = 30.0,
        attempts: int = 4,
        backoff_s: float = 0.5,
    ) -> None:
        trusted = os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL
        self.base_url = _checked_url(base_url or trusted)
        self.model = model
        self.id = f"openai:{model}@{self.base_url}"
        self.batch, self.batch_chars, self.max_chars = batch, batch_chars, max_chars
        self.timeout_s, self.attempts, self.backoff_s = timeout_s, attempts, backoff_s
        host = urlsplit(self.base_url)
        self._may_have_key = host[:2] == urlsplit(trusted)[:2] or host.hostname in LOCAL_HOSTS
        self._dim = 0
        self._lock = threading.Lock()

    @classmethod
    def of(cls, spec: str) -> OpenAIEmbeddings:
        """From `MODEL` or `MODEL@URL`. Raises `ConfigError`."""
        model, at, url = spec.partition("@http")
        if not model:
            raise ConfigError("encoder 'openai' needs a model, as in openai:text-embedding-3-small or openai:MODEL@http://HOST/v1")
        return cls(model, f"http{url}" if at else None)

    def __repr__(self) -> str:
        return f"OpenAIEmbeddings({self.model!r}, {self.base_url!r})"

    @property
    def dim(self) -> int:
        """Length of a vector; asks the endpoint once where nothing has been encoded yet. Raises `EncoderError`."""
        if not self._dim:
            self.encode(["dimension"])
        return self._dim

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """(n, dim) float32 rows of norm 1. Raises `EncoderError`: one line with the endpoint, what it said, and the mend."""
        parts = [self._ask(chunk) for chunk in self._chunks(texts)]
        return np.concatenate(parts) if parts else np.empty((0, self._dim), dtype=np.float32)

    def _chunks(self, texts: Sequence[str]) -> Iterator[list[str]]:
        chunk: list[str] = []
        size = 0
        for text in texts:
            # Endpoints refuse an empty text; a space stands for it.
            sent = well_formed(text[: self.max_chars]) or " "
            if chunk and (len(chunk) == self.batch or size + len(sent) > self.batch_chars):
                yield chunk
                chunk, size = [], 0
            chunk.append(sent)
            size += len(sent)
        if chunk:
            yield chunk

    def _ask(self, texts: list[str]) -> FloatArray:
        url = f"{self.base_url}/embeddings"
        body = {"model": self.model, "input": texts, "encoding_format": "float"}
        key = os.environ.get("OPENAI_API_KEY", "").strip() if self._may_have_key else ""
        reply = post_json(url, body, key, timeout_s=self.timeout_s, attempts=self.attempts, backoff_s=self.backoff_s)
        x = checked_unit_rows(_ordered(reply, len(texts), url), len(texts), url)
        with self._lock:
            self._dim = self._dim or x.shape[1]
        if x.shape[1] != self._dim:
            raise EncoderError(f"{url} gave vectors of length {x.shape[1]}, and of length {self._dim} before")
        return x


def _checked_url(url: str) -> str:
    """The base URL without a slash at its end. Raises `ConfigError`, never showing what may be a secret."""
    try:
        parts = urlsplit(url)
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an address that is none
        sound = False
    if not sound:
        raise ConfigError("the URL of an embeddings endpoint must begin with http:// or https://, as in http://127.0.0.1:8080/v1")
    if parts.username is not None or parts.query:
        raise ConfigError(f"the URL of the embeddings endpoint at {parts.hostname} must not hold a secret; put it in OPENAI_API_KEY")
    return url.rstrip("/")


def _ordered(reply: bytes, count: int, url: str) -> list[Any]:
    """The vectors of a reply in the order of the texts: rows may come in any order, each with its index."""
    try:
        rows = {row["index"]: row["embedding"] for row in json.loads(reply)["data"]}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        start = reply[:60].decode("utf-8", "replace")
        raise EncoderError(f"{url} did not answer with embeddings (data[].index, data[].embedding) but with {start!r}") from error
    if rows.keys() != set(range(count)):
        raise EncoderError(f"{url} answered {count} texts with {len(rows)} embeddings, or numbered them wrongly")
    return [rows[index] for index in range(count)]
