"""What providers bill, to the nano-dollar, streamed and not, against sums done by hand; and the bound above all of
it.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router.errors import ConfigError, MissingPrice, UsageError
from r2router.gateway.ledger.bound import TokenBounds, output_bound, reserve
from r2router.pool.prices import cost_nanos, cost_usd, max_cost_nanos, max_cost_usd
from r2router.types import Budget, Model, Prices, Rates, Tier
from r2router.upstream.usage import Usage, convention_of, merged, usage_of

GPT = Prices(1.25, 10.0, cached_input=0.125)  # US dollars per million: 1,250, 10,000 and 125 nano-dollars per token
CLAUDE = Prices(3.0, 15.0, cached_input=0.3, tiers=(Tier(6.0, 22.5, cached_input=0.6, above=200_000),))
GEMINI = Prices(0.3, 2.5, cached_input=0.03)
DEEPSEEK = Prices(0.28, 0.42, cached_input=0.028)

# (convention, prices, reports as they come in one call, nano-dollars by hand)
BILLS: dict[str, tuple[str, Prices, list[dict[str, Any]], int]] = {
    # 600 x 1,250 + 400 x 125 + 300 x 10,000: reasoning is within the 300
    "openai chat": (
        "openai", GPT,
        [{"prompt_tokens": 1000, "completion_tokens": 300, "total_tokens": 1300,
        "prompt_tokens_details": {"cached_tokens": 400},
          "completion_tokens_details": {"reasoning_tokens": 250}}],
        750_000 + 50_000 + 3_000_000,
    ),
    "openai responses": (
        "openai", GPT,
        [{"input_tokens": 1000, "output_tokens": 300, "total_tokens": 1300,
        "input_tokens_details": {"cached_tokens": 400},
          "output_tokens_details": {"reasoning_tokens": 250}}],
        3_800_000,
    ),
    "openai chat streamed, with a usage in every chunk": (
        "openai", GPT,
        [{"prompt_tokens": 1000, "completion_tokens": n, "total_tokens": 1000 + n,
        "prompt_tokens_details": {"cached_tokens": 400}}
         for n in (1, 150, 300)],
        3_800_000,
    ),
    # 1,000 x 3,000 + 5,000 x 300 + (2,000 x 1.25 + 500 x 2) x 3,000 + 100 x 15,000
    "anthropic, 5 minutes and an hour": (
        "anthropic", CLAUDE,
        [{"input_tokens": 1000, "cache_read_input_tokens": 5000, "cache_creation_input_tokens": 2500,
        "output_tokens": 100,
          "cache_creation": {"ephemeral_5m_input_tokens": 2000, "ephemeral_1h_input_tokens": 500}}],
        3_000_000 + 1_500_000 + 10_500_000 + 1_500_000,
    ),
    "anthropic streamed: message_start, then message_delta twice": (
        "anthropic", CLAUDE,
        [{"input_tokens": 1000, "cache_read_input_tokens": 5000, "cache_creation_input_tokens": 2500,
        "output_tokens": 1,
          "cache_creation": {"ephemeral_5m_input_tokens": 2000, "ephemeral_1h_input_tokens": 500}},
         {"output_tokens": 40}, {"input_tokens": 1000, "cache_read_input_tokens": 5000, "output_tokens": 100}],
        16_500_000,
    ),
    # 250,000 input tokens of all kinds are above 200,000: 1,000 x 6,000 + 249,000 x 600 + 10 x 22,500
    "anthropic, a long prompt that is mostly cached": (
        "anthropic", CLAUDE,
        [{"input_tokens": 1000, "cache_read_input_tokens": 249_000, "cache_creation_input_tokens": 0,
        "output_tokens": 10}],
        6_000_000 + 149_400_000 + 225_000,
    ),
    # 700 x 300 + 300 x 30 + (50 + 200) x 2,500
    "gemini, native": (
        "gemini", GEMINI,
        [{"usageMetadata": {"promptTokenCount": 1000, "cachedContentTokenCount": 300, "candidatesTokenCount": 50,
        "thoughtsTokenCount": 200,
                            "totalTokenCount": 1250}}],
        210_000 + 9_000 + 625_000,
    ),
    "gemini, native and streamed": (
        "gemini", GEMINI,
        [{"usageMetadata": {"promptTokenCount": 1000, "cachedContentTokenCount": 300, "thoughtsTokenCount": 120,
        "totalTokenCount": 1120}},
         {"usageMetadata": {"promptTokenCount": 1000, "cachedContentTokenCount": 300, "candidatesTokenCount": 50,
         "thoughtsTokenCount": 200,
                            "totalTokenCount": 1250}}],
        844_000,
    ),
    "gemini, OpenAI-compatible: thoughts in the total alone": (
        "gemini", GEMINI,
        [{"prompt_tokens": 1000, "completion_tokens": 50, "total_tokens": 1250,
        "prompt_tokens_details": {"cached_tokens": 300}}],
        844_000,
    ),
    # 900 x 28 + 100 x 280 + 70 x 420
    "deepseek": (
        "deepseek", DEEPSEEK,
        [{"prompt_tokens": 1000, "completion_tokens": 70, "total_tokens": 1070, "prompt_cache_hit_tokens": 900,
          "prompt_cache_miss_tokens": 100, "completion_tokens_details": {"reasoning_tokens": 30}}],
        25_200 + 28_000 + 29_400,
    ),
    "deepseek streamed, with nulls before": (
        "deepseek", DEEPSEEK,
        [{"prompt_tokens": None, "completion_tokens": None},
         {"prompt_tokens": 1000, "completion_tokens": 70, "total_tokens": 1070, "prompt_cache_hit_tokens": 900,
          "prompt_cache_miss_tokens": 100}],
        82_600,
    ),
    # 1,000 x 1,250 + (40 + 60) x 10,000
    "xai: reasoning beside the completion": (
        "xai", GPT,
        [{"prompt_tokens": 1000, "completion_tokens": 40, "total_tokens": 1100,
        "completion_tokens_details": {"reasoning_tokens": 60}}],
        1_250_000 + 1_000_000,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BILLS)
def test_a_bill_is_right_to_the_nano_dollar(name: str) -> None:
    convention, prices, reports, nanos = BILLS[name]
    report = None
    for one in reports:
        report = merged(report, one)
    usage, wrong = usage_of(report, spoke=True, convention=convention_of(convention))
    assert usage is not None, wrong
    assert cost_nanos(prices, usage) == nanos


def test_the_same_words_mean_other_money_to_another_provider() -> None:
    report = {"input_tokens": 1000, "cache_read_input_tokens": 400, "output_tokens": 10}
    bills = [usage_of(report, spoke=True, convention=convention_of(name))[0] for name in ("openai", "anthropic")]
    assert [b.input for b in bills if b] == [1000, 1400]


@pytest.mark.parametrize(
    ("convention", "report", "words"),
    [
        (
            "openai",
            {"prompt_tokens": 10, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 11}},
            "11 cached",
        ),
        (
            "openai",
            {"prompt_tokens": 10, "completion_tokens": 1, "completion_tokens_details": {"reasoning_tokens": 2}},
            "2 reasoning of 1",
        ),
        ("anthropic", {"input_tokens": -1, "output_tokens": 1}, "below 0"),
        ("anthropic", {"input_tokens": 0, "output_tokens": 1}, "0 input tokens"),
        ("gemini", {"usageMetadata": {"promptTokenCount": "seven"}}, "no whole number"),
        ("deepseek", {"completion_tokens": 1}, "no counts"),
    ],
)
def test_a_report_that_its_convention_cannot_mean_is_refused(convention: str, report: Any, words: str) -> None:
    usage, wrong = usage_of(report, spoke=True, convention=convention_of(convention))
    assert usage is None and words in wrong


def test_an_unknown_convention_is_refused() -> None:
    with pytest.raises(ConfigError, match="'opanai' is not known.*openai"):
        convention_of("opanai")


def test_prices_are_taken_as_they_are_written() -> None:
    assert cost_nanos(Prices(0.1, 0.7), Usage(3, 1)) == 300 + 700  # no float is 0.1
    assert cost_nanos(Prices(0.0375, 0.15), Usage(1, 0)) == 38  # 37.5 is rounded up, once per call
    assert cost_nanos(Prices(0.0375, 0.15), Usage(2, 0)) == 75
    assert Prices(0.3, 1).exact[4] == Fraction(3, 8)


price = st.decimals(0, 200, places=4).map(float)
some_prices = st.builds(Prices, price, price, st.none() | price, st.none() | price, st.none() | price)
tokens = st.integers(0, 10**6)


@st.composite
def usages(draw: Any) -> Usage:
    cached, written = draw(tokens), draw(tokens)
    reasoning = draw(tokens)
    return Usage(
        cached + written + draw(tokens), reasoning + draw(tokens), cached, reasoning, written, draw(st.integers(0,
        written))
    )  # fmt: skip


@given(some_prices, st.none() | st.tuples(st.integers(1, 10**6), some_prices), usages())
def test_exact_money_is_the_same_rule_as_floats(base: Prices, tier: Any, usage: Usage) -> None:
    prices = tiered(base, tier)
    assert cost_nanos(prices, usage) == pytest.approx(cost_usd(prices, usage) * 1e9, rel=1e-9, abs=1.001)
    most = max_cost_nanos(prices, usage.input, usage.output, writes=True)
    assert most == pytest.approx(
        max_cost_usd(prices, usage.input, usage.output, writes=True) * 1e9, rel=1e-9, abs=1.001
    )


@given(
    some_prices,
    st.none() | st.tuples(st.integers(1, 10**6), some_prices),
    st.lists(usages(), min_size=1, max_size=3),
    st.data(),
)
def test_no_bill_within_the_bound_is_above_what_was_set_aside(
    base: Prices, tier: Any, bills: list[Usage], data: Any
) -> None:
    prices = tiered(base, tier)
    n = data.draw(st.integers(1, 3))
    facts = TokenBounds(
        input_tokens=max(b.input for b in bills), output_tokens=max(-(-b.output // n) for b in bills), n=n,
        cache_writes="1h" if any(b.cache_write_1h for b in bills) else "5m",
    )  # fmt: skip
    assert sum(cost_nanos(prices, b) for b in bills) <= reserve(facts, prices, attempts=len(bills))


def tiered(base: Prices, tier: Any) -> Prices:
    if tier is None:
        return base
    above, rates = tier
    own = {name: getattr(rates, name) for name in Rates.__struct_fields__}
    return msgspec.structs.replace(base, tiers=(Tier(above=above, **own),))


def test_what_is_set_aside_by_hand() -> None:
    facts = TokenBounds(input_tokens=250_000, output_tokens=1000, n=2, cache_writes="1h")
    # long-context tier, written for an hour, x 3
    assert reserve(facts, CLAUDE, attempts=3) == 3 * (250_000 * 12_000 + 2000 * 22_500)
    assert reserve(TokenBounds(input_tokens=100, output_tokens=10), GPT) == 100 * 1250 + 10 * 10_000
    assert reserve(TokenBounds(input_tokens=100, output_tokens=0), Prices(1, 1, cache_write=1.25)) == 125_000
    assert reserve(TokenBounds(input_tokens=0, output_tokens=10), Prices(1, 1, reasoning=4)) == 40_000
    with pytest.raises(MissingPrice):
        reserve(facts, None)
    with pytest.raises(UsageError, match="n is 0"):
        TokenBounds(input_tokens=1, output_tokens=1, n=0)


def test_the_longest_answer() -> None:
    model = Model(id="m", budgets=(Budget.of("low"),), max_output_tokens=8000, context=100_000)
    assert output_bound(model, 500, None, 300) == 300
    assert output_bound(model, None) == 8000
    assert output_bound(Model(id="m", budgets=model.budgets, context=100_000)) == 100_000
    assert output_bound(Model(id="m", budgets=model.budgets)) > 100_000
