"""Encoders by name: built in, from other packages, and what is said about the rest."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from r2router.encode import ENCODERS, MiniLM, OpenAIEmbeddings, load_encoder
from r2router.encode.rows import checked_unit_rows
from r2router.errors import ConfigError, EncoderError, MissingExtra
from r2router.testing import check_encoder
from r2router.types import FloatArray

OUTSIDE = """
import numpy as np

class Letters:
    id, dim = "letters", 2
    def __init__(self, argument): self.argument = argument
    def encode(self, texts): return np.tile(np.array([[0.6, 0.8]], dtype=np.float32), (len(texts), 1))
"""


def install(folder: Path, entry_points: str) -> None:
    """A package as an installer leaves it: a module and its metadata."""
    (folder / "r2letters.py").write_text(OUTSIDE, encoding="utf-8")
    info = folder / "r2letters-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: r2letters\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[r2router.encoders]\n{entry_points}\n", encoding="utf-8")


def test_built_in() -> None:
    assert list(ENCODERS) == ["minilm", "openai", "st", "wordllama", "given"]
    assert isinstance(load_encoder("minilm"), MiniLM)
    assert isinstance(load_encoder(" minilm "), MiniLM)
    endpoint = load_encoder("openai:org/model:8b@http://127.0.0.1:8080/v1/")
    assert isinstance(endpoint, OpenAIEmbeddings)
    assert (endpoint.model, endpoint.base_url) == ("org/model:8b", "http://127.0.0.1:8080/v1")


@pytest.mark.parametrize("spec", ["", "nothing", "MiniLM", "bert:base", "openai/model"])
def test_unknown_names_list_what_exists(spec: str) -> None:
    with pytest.raises(ConfigError, match="minilm, openai, st, wordllama, given") as caught:
        load_encoder(spec)
    assert repr(spec) in str(caught.value)


@pytest.mark.parametrize(
    "spec", ["minilm:large", "openai", "openai:", "openai:@http://127.0.0.1/v1", "st", "st:", "given", "wordllama:2"]
)
def test_arguments_that_are_missing_or_too_many(spec: str) -> None:
    with pytest.raises(ConfigError, match=f"encoder '{spec.partition(':')[0]}'"):
        load_encoder(spec)


def test_given_vectors_cannot_be_made() -> None:
    encoder = load_encoder("given:qwen3-0.6b")
    assert (encoder.id, encoder.dim) == ("given:qwen3-0.6b", 0)
    with pytest.raises(EncoderError, match=r"given:qwen3-0.6b.*router\.decide"):
        encoder.encode(["anything"])


def test_other_packages_add_theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "letters = r2letters:Letters\nminilm = r2letters:Letters\ngone = r2letters:Gone")
    monkeypatch.syspath_prepend(str(tmp_path))
    encoder = load_encoder("letters:a:b")
    assert (encoder.id, getattr(encoder, "argument", None)) == ("letters", "a:b")
    assert encoder.encode(["x", "y"]).shape == (2, 2)
    assert isinstance(load_encoder("minilm"), MiniLM)
    with pytest.raises(ConfigError, match="given, gone, letters"):
        load_encoder("unknown")
    with pytest.raises(ConfigError, match="'gone': r2letters:Gone cannot be loaded"):
        load_encoder("gone")


@pytest.mark.parametrize(
    ("spec", "package", "extra"),
    [("st:a/b", "sentence_transformers", "[st]"), ("wordllama", "wordllama", "[wordllama]")],
)
def test_missing_extras_are_named(spec: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    with pytest.raises(MissingExtra, match="pip install") as caught:
        load_encoder(spec)
    assert extra in str(caught.value)
    assert (root.handlers, root.level) == before


def test_wordllama() -> None:
    pytest.importorskip("wordllama")
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    encoder = load_encoder("wordllama")
    texts = [
        "How old is the universe?",
        "What is the age of the universe?",
        "Sort a list in C.",
        "",
        "\ud800",
        "\x00",
        "x" * 100_000,
    ]
    x = encoder.encode(texts)
    assert x.shape == (len(texts), encoder.dim)
    assert x.dtype == np.float32
    assert np.allclose(np.linalg.norm(x, axis=1), 1, atol=1e-5)
    assert x[0] @ x[1] > x[0] @ x[2]
    assert np.array_equal(encoder.encode(texts[2:3])[0], x[2])
    assert encoder.encode([]).shape == (0, encoder.dim)
    assert (root.handlers, root.level) == before


class FakeSentenceTransformer:
    """What `SentenceTransformers` needs of the real class; the real one was tried by hand, see the decision page."""

    def __init__(self, name: str) -> None:
        if name == "no/such":
            raise OSError("no/such is not a model\nlong explanation")

    def encode(self, sentences: list[str], *, convert_to_numpy: bool, show_progress_bar: bool) -> np.ndarray:
        assert convert_to_numpy and not show_progress_bar
        for sentence in sentences:
            sentence.encode()
        return np.array([[3.0, 4.0, len(sentence)] for sentence in sentences], dtype=np.float32)


def test_sentence_transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("sentence_transformers")
    monkeypatch.setattr(module, "SentenceTransformer", FakeSentenceTransformer, raising=False)
    monkeypatch.setitem(sys.modules, "sentence_transformers", module)
    encoder = load_encoder("st:Qwen/Qwen3-Embedding-0.6B")
    assert (encoder.id, encoder.dim) == ("st:Qwen/Qwen3-Embedding-0.6B", 3)
    x = encoder.encode(["", "\ud800", "abc"])
    assert x.shape == (3, 3)
    assert np.allclose(np.linalg.norm(x, axis=1), 1)
    assert encoder.encode([]).shape == (0, 3)
    with pytest.raises(EncoderError, match=r"cannot load 'no/such': no/such is not a model$"):
        load_encoder("st:no/such")


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([[1.0, 2.0]], r"shape \(1, 2\) for 2 texts"),
        ([[1.0], [2.0, 3.0]], "not 2 vectors"),
        ([["a"], ["b"]], "not 2 vectors"),
        ([[], []], r"shape \(2, 0\)"),
        ([[1.0, np.nan], [1.0, 1.0]], "NaN or infinite"),
        ([[1.0, 1.0], [0.0, 0.0]], "zeros for text 1"),
        (None, "shape"),
    ],
)
def test_rows_that_are_no_vectors(values: object, words: str) -> None:
    with pytest.raises(EncoderError, match=f"^here gave.*{words}"):
        checked_unit_rows(values, 2, "here")  # type: ignore[arg-type]


def test_rows_of_extreme_length_are_brought_to_one() -> None:
    x = checked_unit_rows([[3e300, 4e300], [3e-300, -4e-300]], 2, "here")
    assert np.allclose(x, [[0.6, 0.8], [0.6, -0.8]])


def test_the_embedded_encoder_keeps_the_contract_of_encoders() -> None:
    check_encoder(load_encoder("minilm"))


def test_the_contract_of_encoders_finds_a_broken_one() -> None:
    class Longer:
        id, dim = "longer", 2

        def encode(self, texts: Sequence[str]) -> FloatArray:
            return np.full((len(texts), 2), 3.0, dtype=np.float32)

    with pytest.raises(AssertionError, match="norm 1"):
        check_encoder(Longer())
