"""Token counts: the same for every encoder, of the whole text."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router.encode import count_tokens
from r2router.encode.tokens import piece_ids, well_formed


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
