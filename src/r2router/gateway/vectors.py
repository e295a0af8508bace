"""Encodes texts beside the event loop: one thread, a bounded queue, and a cache."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from r2router.encode import Encoder, count_tokens
from r2router.errors import R2Error
from r2router.types import FloatArray

_MAX_KEPT = 8_192
_MAX_WAITING = 256


class Encoded(NamedTuple):
    """An encoded text.

    vector: (1, dim).
    tokens: how many the text has, as the embedded tokenizer counts.
    key: a digest of the text.
    """

    vector: FloatArray
    tokens: int
    key: bytes


class Vectors:
    """Encodes each text once.

    cached, encoded, refused: counters of these cases.
    """

    def __init__(self, encoder: Encoder, max_kept: int = _MAX_KEPT, max_waiting: int = _MAX_WAITING) -> None:
        self._encoder, self._max_kept, self._max_waiting = encoder, max_kept, max_waiting
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._kept: OrderedDict[bytes, Encoded] = OrderedDict()
        self._waiting: dict[bytes, asyncio.Future[Encoded]] = {}
        self.cached = self.encoded = self.refused = 0

    async def of(self, text: str) -> Encoded | None:
        """Return the vector of a text; None where too many wait already or the encoder fails: the caller then makes the
        safe choice.
        """
        key = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
        if (found := self._kept.get(key)) is not None:
            self._kept.move_to_end(key)
            self.cached += 1
            return found
        future = self._waiting.get(key)
        if future is None:
            if len(self._waiting) >= self._max_waiting:
                self.refused += 1
                return None
            future = asyncio.get_running_loop().run_in_executor(self._thread, self._encode, text, key)
            self._waiting[key] = future
            future.add_done_callback(lambda done: self._keep(key, done))
        try:
            return await asyncio.shield(future)
        except R2Error:
            self.refused += 1
            return None

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _encode(self, text: str, key: bytes) -> Encoded:
        return Encoded(self._encoder.encode([text]), int(count_tokens([text])[0]), key)

    def _keep(self, key: bytes, done: asyncio.Future[Encoded]) -> None:
        self._waiting.pop(key, None)
        if done.cancelled() or done.exception() is not None:
            return
        self.encoded += 1
        self._kept[key] = done.result()
        while len(self._kept) > self._max_kept:
            self._kept.popitem(last=False)
