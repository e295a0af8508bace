"""Texts to vectors: the `Encoder` protocol, the embedded default, and the others behind one spec string.

    encoder = load_encoder("minilm")
    x = encoder.encode(["What is 2 + 2?"])     # (1, 384) float32, norm 1
    count_tokens(["What is 2 + 2?"])           # the same for every encoder

Importing this package is light: onnxruntime, tokenizers, sqlite3 and the HTTP client are imported when they are first
used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from r2router.encode.embed import embed
from r2router.encode.registry import ENCODERS, Encoder, load_encoder
from r2router.encode.tokens import count_tokens

if TYPE_CHECKING:
    from r2router.encode.cache import CachedEncoder
    from r2router.encode.embedded import MiniLM
    from r2router.encode.openai import OpenAIEmbeddings

__all__ = [
    "ENCODERS",
    "CachedEncoder",
    "Encoder",
    "MiniLM",
    "OpenAIEmbeddings",
    "count_tokens",
    "embed",
    "load_encoder",
]


def __getattr__(name: str) -> Any:
    """Return the classes, imported on demand."""
    if name == "CachedEncoder":
        from r2router.encode.cache import CachedEncoder

        return CachedEncoder
    if name == "MiniLM":
        from r2router.encode.embedded import MiniLM

        return MiniLM
    if name == "OpenAIEmbeddings":
        from r2router.encode.openai import OpenAIEmbeddings

        return OpenAIEmbeddings
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
