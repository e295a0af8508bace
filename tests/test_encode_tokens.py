"""Token counts: the same for every encoder, of the whole text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router.encode import count_tokens, tokens
from r2router.encode.tokens import MAX_CHARACTERS, first_pieces, piece_ids, well_formed


def test_known_counts() -> None:
    counts = count_tokens(["What is the capital of France?", "hello", "I", ""])
    assert counts.tolist() == [7, 1, 1, 0]
    assert counts.dtype == np.int64


def test_no_texts() -> None:
    assert count_tokens([]).shape == (0,)


@pytest.mark.parametrize("n", [10, 300, 5000])
def test_long_texts_are_counted_in_full(n: int) -> None:
    assert count_tokens(["seven " * n]).tolist() == [n]


@pytest.mark.parametrize("text", ["x" * 100_000, "\x00" * 8_000, "\u0301" * 4_000, "\U0001f600" * 2_000])
def test_what_the_word_pieces_drop_still_counts(text: str) -> None:
    assert count_tokens([text])[0] == len(text.encode()) / 8


@given(st.text(st.characters(), max_size=200), st.text(st.characters(), max_size=50))
def test_any_text_can_be_counted_and_more_text_is_not_less(text: str, more: str) -> None:
    alone, together = count_tokens([text, f"{text} {more}"])
    assert 0 <= alone <= together


@given(st.text(st.characters(), max_size=50))
def test_well_formed(text: str) -> None:
    mended = well_formed(text)
    mended.encode()
    if not any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        assert mended == text
    assert well_formed(mended) == mended


def test_surrogates() -> None:
    assert well_formed("a\ud800b") == "a\ufffdb"
    assert well_formed("\ud83d\ude00") == "\U0001f600"
    assert piece_ids("hello \ud800 world") == piece_ids("hello world")


# -- long texts
# ---------------------------------------------------------------------------------------------------------


def long_text(seed: int, characters: int) -> str:
    """Prose, code, numbers, Chinese and emoji, in stretches of random length."""
    rng = np.random.default_rng(seed)
    kinds = [
        "The quick brown fox jumps over the lazy dog, and nobody knows why. ",
        "for (int i = 0; i < n; ++i) { total += weights[i] * x[i]; }\n",
        "3.14159 2.71828 1.41421 1.73205 ",
        "路由器为每个请求选择模型。",
        "\U0001f600\U0001f680 ",
        "x" * 300 + " ",
    ]
    parts: list[str] = []
    while sum(map(len, parts)) < characters:
        kind = kinds[rng.integers(len(kinds))]
        parts.append(kind * int(rng.integers(1, 2 + 20_000 // len(kind))))
    return "".join(parts)[:characters]


def test_texts_up_to_the_bound_are_counted_exactly() -> None:
    text = long_text(0, MAX_CHARACTERS)
    whole = max(len(piece_ids(text)), -(-len(text.encode()) // 8))
    assert count_tokens([text]).tolist() == [whole]


@pytest.mark.parametrize("seed", range(4))
def test_longer_texts_are_estimated_closely(seed: int) -> None:
    text = long_text(seed, 700_000)
    parts = [text[at : at + 10_000] for at in range(0, len(text), 10_000)]
    whole = sum(max(len(piece_ids(part)), -(-len(part.encode()) // 8)) for part in parts)
    assert count_tokens([text])[0] == pytest.approx(whole, rel=0.15)


def test_long_even_texts_are_estimated_to_a_percent() -> None:
    assert count_tokens(["seven " * 200_000])[0] == pytest.approx(200_000, rel=0.01)


def test_the_time_of_counting_does_not_grow_with_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    monkeypatch.setattr(tokens, "piece_ids", lambda text: seen.append(len(text)) or (1,))
    for size in (MAX_CHARACTERS + 1, 10 * MAX_CHARACTERS):
        seen.clear()
        count_tokens(["a" * size])
        assert sum(seen) <= MAX_CHARACTERS


@pytest.mark.parametrize("size", [1_000, 131_072, 131_073, 400_000])
def test_the_first_pieces_are_those_of_the_whole(size: int) -> None:
    text = long_text(1, size)
    assert first_pieces(text, 254) == piece_ids(text)[:254]


def test_the_first_pieces_of_a_text_that_has_few() -> None:
    assert first_pieces("\x00" * 300_000 + "word", 254) == ()
    assert first_pieces("x" * 300_000, 254) == piece_ids("x" * 300_000)
