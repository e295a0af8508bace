"""Numbers as they are written: what the rounding of sums leaves of zero is zero, and has no sign."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router.evaluation.tables_and_plots import signed
from r2router.figure import Figure
from r2router.report.cells import number
from r2router.text import money, settled, written

FORMS = ("", "money", "share", "+.4f", ".3f", ",.0f", ".2f")
noise = st.floats(-4e-13, 4e-13)
"""Sums of shares, or of dollars of many requests, that would be zero in exact numbers."""


@given(noise, st.sampled_from(FORMS))
def test_noise_is_written_as_zero(value: float, form: str) -> None:
    assert number(value, form) == number(0.0, form)
    assert money(value) == "$0"


@given(noise, noise, noise)
def test_a_figure_of_noise_is_one_of_zero(value: float, low: float, high: float) -> None:
    found, zero = Figure("f", value, low, high), Figure("f", 0.0, 0.0, 0.0)
    assert signed(found) == signed(zero) and str(found) == str(zero)


@given(st.floats(-1e3, 1e3), st.sampled_from(("+.4f", ".3f", "+.2f", ".1%", ".3g")))
def test_nothing_reads_minus_zero_and_everything_else_is_as_it_was(value: float, form: str) -> None:
    text = written(value, form)
    assert not text.startswith("-") or any(c in "123456789" for c in text)
    if abs(value) >= 1e-3:
        assert text == format(value, form)


@given(st.floats(5e-13, 1e6))
def test_no_price_is_lost(usd: float) -> None:
    assert settled(usd) == usd and money(usd) != "$0" and money(-usd) != "$0"


@pytest.mark.parametrize("usd", [1e-16, 1e-13])
def test_what_must_not_be_less_than_it_is_stays(usd: float) -> None:
    assert money(usd, up=True) == "$0.000000000001"


def test_words_for_what_is_no_number_stay() -> None:
    assert (written(-math.inf, "+.2f"), written(math.nan, ".2f"), money(math.inf)) == ("-inf", "nan", "$inf")
