"""The encoder protocol, and encoders by name.

A spec is `NAME` or `NAME:ARGUMENT`. `ENCODERS` is a plain dict from NAME to a function of the argument; other packages
add theirs through the entry point group `r2router.encoders` (a built-in name cannot be replaced).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from r2router.errors import ConfigError, EncoderError, expect
from r2router.plugins import Registry
from r2router.types import FloatArray


class Encoder(Protocol):
    """Turns texts into vectors, always the same vector for the same text.

    id: names the vectors; two encoders with one id give the same vectors (a vector cache relies on it).
    dim: length of a vector; 0 where it cannot be known (`given:`).
    """

    @property
    def id(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return (n, dim) float32 for n texts, finite rows of norm 1. Raises `EncoderError`."""
        ...


def load_encoder(spec: str) -> Encoder:
    """Return the encoder that a spec names; weights are loaded at the first use.

    minilm                                the embedded default: all-MiniLM-L6-v2, no network openai:MODEL,
    openai:MODEL@URL        an OpenAI-compatible /v1/embeddings endpoint (OPENAI_BASE_URL, OPENAI_API_KEY); a URL of its
    own is only used where OPENAI_BASE_URL or R2ROUTER_EMBEDDINGS_URL names it too st:NAME_OR_FOLDER
    a sentence-transformers model (extra `st`) wordllama                             static word vectors, the fastest
    and least exact (package `wordllama`) given:NAME                            vectors made elsewhere; they have to be
    supplied with the queries

    Raises `ConfigError` for a spec that names nothing, `MissingExtra` where an optional package is needed.
    """
    expect("encoder", spec, str, 'the spec of an encoder, such as "minilm"')
    name, _, argument = spec.strip().partition(":")
    factory: Callable[[str], Encoder] | None = _REGISTRY.find(name)
    if factory is None:
        known = ", ".join(_REGISTRY.names())
        raise ConfigError(f"no encoder {spec!r}; there are: {known} (a model goes behind a colon, as in openai:MODEL)")
    return factory(argument)


class GivenVectors:
    """Stands for vectors that r2router cannot make; a router trained on them needs vectors with every query."""

    dim = 0

    def __init__(self, name: str) -> None:
        self.id = f"given:{name}"

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Always raises `EncoderError`."""
        raise EncoderError(
            f"the vectors {self.id!r} are made outside of r2router: pass them with the queries"
            " (`router.decide(vectors)`, `fit(table, vectors=x)`), or train with an encoder"
        )


def _minilm(argument: str) -> Encoder:
    from r2router.encode.embedded import MiniLM

    if argument:
        raise ConfigError(f"encoder 'minilm' takes no argument, got {argument!r}")
    return MiniLM()


def _openai(argument: str) -> Encoder:
    from r2router.encode.openai import OpenAIEmbeddings

    return OpenAIEmbeddings.of(argument)


def _st(argument: str) -> Encoder:
    from r2router.encode.extras import SentenceTransformers

    if not argument:
        raise ConfigError("encoder 'st' needs a model, as in st:Qwen/Qwen3-Embedding-0.6B")
    return SentenceTransformers(argument)


def _wordllama(argument: str) -> Encoder:
    from r2router.encode.extras import WordLlama

    if argument:
        raise ConfigError(f"encoder 'wordllama' takes no argument, got {argument!r}")
    return WordLlama()


def _given(argument: str) -> Encoder:
    if not argument:
        raise ConfigError("encoder 'given' needs a name for the vectors, as in given:qwen3-0.6b")
    return GivenVectors(argument)


ENCODERS: dict[str, Callable[[str], Encoder]] = {
    "minilm": _minilm,
    "openai": _openai,
    "st": _st,
    "wordllama": _wordllama,
    "given": _given,
}
_REGISTRY = Registry("r2router.encoders", ENCODERS)
