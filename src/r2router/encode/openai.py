"""An OpenAI-compatible /v1/embeddings endpoint as an encoder: OpenAI, vLLM, text-embeddings-inference, Ollama,
llama.cpp, ...
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np

from r2router.encode.post import post_json
from r2router.encode.rows import checked_unit_rows
from r2router.encode.tokens import well_formed
from r2router.errors import ConfigError, EncoderError
from r2router.types import FloatArray
from r2router.upstream.endpoint import Mask, check_url, key_of, max_embedding_bytes, origin

DEFAULT_URL = "https://api.openai.com/v1"
KEY = "OPENAI_API_KEY"
ALLOWED = "R2ROUTER_EMBEDDINGS_URL"
"""The environment variable that names an endpoint which may see prompts, and no key."""


class OpenAIEmbeddings:
    """Vectors of `model` from `base_url`; the key comes from OPENAI_API_KEY at every call and is kept nowhere.

    base_url: where it is None, OPENAI_BASE_URL, else OpenAI's own. The key is only sent to the scheme, host and port
        that OPENAI_BASE_URL names, else OpenAI's: a router somebody else trained may name any URL, also one of this
        machine, and must not collect keys with it.
    batch, batch_chars: most texts and characters in one request.
    max_chars: what comes later in a text is not sent; endpoints refuse texts above their model's limit.
    timeout_s: for one attempt.
    attempts, backoff_s: a busy or failing endpoint (429, 5xx, dropped connection) is asked again after backoff_s, then
        twice that, ..., or what its Retry-After says, up to 20 s.
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
        trusted = check_url(named_url(), "the URL in OPENAI_BASE_URL")
        self.base_url = check_url(base_url, "the URL of an embeddings endpoint") if base_url else trusted
        self._named = True
        self.model = model
        self.id = f"openai:{model}@{self.base_url}"
        self.batch, self.batch_chars, self.max_chars = batch, batch_chars, max_chars
        self.timeout_s, self.attempts, self.backoff_s = timeout_s, attempts, backoff_s
        self._may_have_key = origin(self.base_url) == origin(trusted)
        self._dim = 0
        self._lock = threading.Lock()

    @classmethod
    def of(cls, spec: str) -> OpenAIEmbeddings:
        """Make it from `MODEL` or `MODEL@URL`, which may come from another person's file. Raises `ConfigError`."""
        model, at, url = spec.partition("@http")
        if not model:
            raise ConfigError(
                "encoder 'openai' needs a model, as in openai:text-embedding-3-small or openai:MODEL@http://HOST/v1"
            )
        made = cls(model, f"http{url}" if at else None)
        made._named = False  # texts go there once the environment names it too
        return made

    def __repr__(self) -> str:
        return f"OpenAIEmbeddings({self.model!r}, {self.base_url!r})"

    @property
    def dim(self) -> int:
        """Length of a vector; asks the endpoint once where nothing has been encoded yet. Raises `EncoderError`."""
        if not self._dim:
            self.encode(["dimension"])
        return self._dim

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return (n, dim) float32 rows of norm 1. Raises `EncoderError`: one line with the endpoint, what it said, and
        how to fix it.
        """
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
        if not self._named:
            _check_named(self.base_url)
        url = f"{self.base_url}/embeddings"
        body = {"model": self.model, "input": texts, "encoding_format": "float"}
        key, wrong = key_of(KEY) if self._may_have_key and os.environ.get(KEY, "").strip() else ("", "")
        if wrong:
            raise EncoderError(wrong)
        maximum = max_embedding_bytes(len(texts), self._dim)
        reply = post_json(
            url,
            body,
            key,
            timeout_s=self.timeout_s,
            attempts=self.attempts,
            backoff_s=self.backoff_s,
            max_bytes=maximum,
        )
        try:
            x = checked_unit_rows(_ordered(reply, len(texts), url), len(texts), url)
        except EncoderError as error:
            raise EncoderError(Mask(key).error(str(error))) from None
        with self._lock:
            self._dim = self._dim or x.shape[1]
        if x.shape[1] != self._dim:
            raise EncoderError(f"{url} gave vectors of length {x.shape[1]}, and of length {self._dim} before")
        return x


def named_url() -> str:
    """Return the embeddings endpoint that the environment names, for which its key is: OPENAI_BASE_URL, else OpenAI's
    own.
    """
    return os.environ.get("OPENAI_BASE_URL") or DEFAULT_URL


def _check_named(url: str) -> None:
    """Raise `ConfigError` where the environment names no endpoint of this origin: nobody has agreed that it may see
    prompts.
    """
    named = [
        os.environ.get("OPENAI_BASE_URL"),
        os.environ.get(ALLOWED),
        DEFAULT_URL if os.environ.get(KEY, "").strip() else None,
    ]
    if origin(url) in [origin(check_url(one, "the URL of an embeddings endpoint")) for one in named if one]:
        return
    if url == DEFAULT_URL:
        raise ConfigError(f"embeddings of {url} need a key: set {KEY}; every text is sent there")
    raise ConfigError(
        f"every text would be sent to {url}, an endpoint that only the encoder's name asks for: where you trust it, set"
        f" {ALLOWED}={url}; or OPENAI_BASE_URL, for {KEY} to be sent there too"
    )


class _EmbeddingRow(msgspec.Struct):
    index: int
    embedding: list[float]


class _EmbeddingsReply(msgspec.Struct):
    data: list[_EmbeddingRow]


_decoder = msgspec.json.Decoder(_EmbeddingsReply)


def _ordered(reply: bytes, count: int, url: str) -> list[Any]:
    """Return the vectors of a reply in the order of the texts: rows may come in any order, each with its index."""
    try:
        rows = {row.index: row.embedding for row in _decoder.decode(reply).data}
    except (msgspec.DecodeError, ValueError, RecursionError):
        start = reply[:60].decode("utf-8", "replace")
        raise EncoderError(
            f"{url} did not answer with embeddings (data[].index, data[].embedding) but with {start!r}"
        ) from None
    if rows.keys() != set(range(count)):
        raise EncoderError(f"{url} answered {count} texts with {len(rows)} embeddings, or numbered them wrongly")
    return [rows[index] for index in range(count)]
