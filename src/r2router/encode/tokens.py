"""The embedded tokenizer: ids for the embedded model, and the token counts that input costs are forecast from."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from r2router.encode.bundle import read_bundled
from r2router.types import IntArray

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BYTES_PER_TOKEN = 8
"""No tokenizer packs real text tighter than this on average; see `count_tokens`."""

MAX_CHARACTERS = 131_072
"""Longer texts are counted by samples, and encoders see only so much of them from the start: time and memory stay
bounded.
"""

_SAMPLES, _HEAD = 32, 4_096
_LONGEST_WORD = 100  # letters; a longer one is a single piece

_loading = threading.Lock()


def count_tokens(texts: Sequence[str]) -> IntArray:
    """Return (n,) int64: about how many tokens each text is to an LLM, whatever the encoder. Nothing is truncated.

    It is the number of word pieces of the embedded tokenizer (no special tokens), and at least one per 8 bytes of
    UTF-8: word pieces drop emoji, control characters and words above 100 letters, which an LLM is nevertheless billed
    for. LLMs differ from it and from each other by tens of per cent; a chat template's own tokens are not in it.

    Exact for texts of up to `MAX_CHARACTERS`. A longer text is estimated: 32 parts spread evenly over it, as long as
    that together, are counted, and stand for the whole by their share of its characters.
    """
    return np.array([_count(text) for text in texts], dtype=np.int64)


def _count(text: str) -> int:
    if len(text) <= MAX_CHARACTERS:
        return _counted(text)
    size = MAX_CHARACTERS // _SAMPLES
    starts = [round(i * (len(text) - size) / (_SAMPLES - 1)) for i in range(_SAMPLES)]
    return round(sum(_counted(text[at : at + size]) for at in starts) * len(text) / MAX_CHARACTERS)


def _counted(text: str) -> int:
    return max(len(piece_ids(text)), -(-_size(text) // BYTES_PER_TOKEN))


def bounded(text: str) -> str:
    """Return the part of a text that an encoder is given: its first `MAX_CHARACTERS`."""
    return text if len(text) <= MAX_CHARACTERS else text[:MAX_CHARACTERS]


def first_pieces(text: str, maximum: int) -> tuple[int, ...]:
    """Return the first word pieces of a text, of no more of it than that takes (and never of more than `bounded`
    leaves).
    """
    if len(text) > MAX_CHARACTERS:
        for size in (_HEAD, 8 * _HEAD):
            ids = piece_ids(text[:size])
            if len(ids) >= maximum + _LONGEST_WORD:  # so that a word that is cut in two is not among the first
                return ids[:maximum]
    return piece_ids(bounded(text))[:maximum]


def well_formed(text: str) -> str:
    """Return the text as valid Unicode: surrogate pairs joined, lone surrogates replaced by U+FFFD (they cannot be
    encoded).
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


@lru_cache(maxsize=16)  # a route counts and encodes the same text, and a long one costs more to tokenize than to encode
def piece_ids(text: str) -> tuple[int, ...]:
    """Return the word pieces of the whole text, without [CLS] and [SEP]."""
    # One text at a time: the library's batch calls start threads of their own, and then warn at every fork.
    with _loading:  # two threads must not both load it
        tokenizer = _load()
    return tuple(tokenizer.encode(well_formed(text), add_special_tokens=False).ids)


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogatepass"))


@cache
def _load() -> Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_buffer(read_bundled("tokenizer.json"))
    # The official file asks for truncation and padding at 128 tokens; neither is the model's own limit.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
