"""Which model is meant by a name, as providers, gateways and people write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router.errors import ConfigError
from r2router.pool.names import find_arms, find_model, find_provider
from r2router.pool.pool import Pool
from r2router.types import Budget, Model, Prices

IDS = [
    "claude-3-5-sonnet",
    "claude-3-5-sonnet-20240620",
    "claude-haiku-4-5",
    "claude-opus-4-1",
    "claude-sonnet-4",
    "claude-sonnet-4-5",
    "command-r",
    "command-r-08-2024",
    "deepseek-r1",
    "deepseek-r1-0528",
    "deepseek-v3",
    "deepseek-v3.2",
    "deepseek-v3.2-exp",
    "gemini-2.5-flash",
    "gemini-2.5-flash-preview-04-17",
    "gemini-2.5-pro",
    "gemini-3-pro-preview",
    "gpt-3.5-turbo",
    "gpt-3.5-turbo-1106",
    "gpt-4-0314",
    "gpt-4-0613",
    "gpt-4-turbo",
    "gpt-4o",
    "gpt-4o-2024-05-13",
    "gpt-4o-mini",
    "gpt-5",
    "gpt-5-mini",
    "gpt-5.1",
    "grok-4",
    "llama-3.1-8b-instruct",
    "llama-3.3-70b-instruct",
    "minimax-01",
    "mistral-large-2402",
    "mistral-large-2411",
    "o1",
    "o1-preview",
    "o3-mini",
    "qwen2.5-72b-instruct",
    "qwen3-235b-a22b",
    "qwen3-235b-a22b-instruct-2507",
    "qwen3-32b",
    "qwq-32b",
    "qwq-32b-preview",
]


def pool_of(*ids: str) -> Pool:
    low = (Budget.of("low"), Budget.of("high"))
    return Pool(
        Model(
            id=i,
            budgets=low,
            provider="anthropic" if "claude" in i else "google" if "gem" in i else "x-ai",
            usd_per_million=Prices(1, 2),
        )
        for i in ids
    )


POOL = pool_of(*IDS)


@pytest.mark.parametrize("form", ["{}", "openai/{}", "openrouter/vendor/{}:free", "models/{}", " {} ", "{}:online"])
def test_a_name_is_found_wherever_it_stands(form: str) -> None:
    for name in IDS:
        check_found(form, name)


def check_found(form: str, name: str) -> None:
    assert find_model(POOL, form.format(name)).id == name
    assert find_model(POOL, form.format(name.upper())).id == name
    assert find_model(POOL, form.format(name.replace(".", "-"))).id == name


@pytest.mark.parametrize("date", ["-2025-08-07", "-20250807", "@20250807", "-08-2025", "-latest"])
def test_a_date_that_no_model_has_is_left_out(date: str) -> None:
    assert [find_model(POOL, name + date).id for name in IDS] == IDS


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("openai/gpt-5-mini-2025-08-07", "gpt-5-mini"),
        ("anthropic/claude-sonnet-4.5", "claude-sonnet-4-5"),
        ("anthropic/claude-4.5-sonnet-20250929", "claude-sonnet-4-5"),
        ("us.anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5"),
        ("claude-sonnet-4-0", "claude-sonnet-4"),
        ("accounts/fireworks/models/deepseek-v3", "deepseek-v3"),
        ("gemini-3-pro", "gemini-3-pro-preview"),
        ("gemini-2.5-pro-preview-06-05", "gemini-2.5-pro"),
        ("gemini-2.5-flash-preview-09-2025", "gemini-2.5-flash"),
        ("meta-llama/Llama-3.3-70B-Instruct-Turbo", "llama-3.3-70b-instruct"),
        ("meta-llama-3.1-8b-instruct", "llama-3.1-8b-instruct"),
        ("Qwen/Qwen2.5-72B", "qwen2.5-72b-instruct"),
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("o1-preview-2024-09-12", "o1-preview"),
        ("grok-4-0709", "grok-4"),
    ],
)
def test_names_as_they_are_written(name: str, found: str) -> None:
    assert find_model(POOL, name).id == found


def test_upstream_names_count_too() -> None:
    pool = Pool([Model(id="ours", upstream="vendor/theirs-7b", budgets=(Budget.of("default"),))])
    assert find_model(pool, "theirs-7b").id == "ours"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gpt-6-mini", "nearest are 'gpt-5-mini'"),
        ("qwen3-235b", "nearest are 'qwen3-235b-a22b'"),
        ("mistral-large", "may be 'mistral-large-2402' or 'mistral-large-2411'"),
        ("gpt-4", "may be 'gpt-4-0314' or 'gpt-4-0613'"),
        ("", "no model ''"),
        ("zzzz", "there are: 'claude-3-5-sonnet'"),
    ],
)
def test_what_is_not_known_gets_the_nearest(name: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        find_model(POOL, name)
    assert words in str(caught.value)


def test_names_of_arms() -> None:
    assert find_arms(POOL, "o3-mini@high") == find_arms(POOL, "o3-mini-high") == ("o3-mini@high",)
    assert find_arms(POOL, "openai/gpt-5@low") == ("gpt-5@low",)
    assert find_arms(POOL, "gpt-5") == ("gpt-5@low", "gpt-5@high")
    assert {arm.model for arm in find_arms(POOL, "claude-*")} == {i for i in IDS if i.startswith("claude")}
    assert set(find_arms(POOL, "gpt-4o*@low")) == {"gpt-4o@low", "gpt-4o-2024-05-13@low", "gpt-4o-mini@low"}
    for name, words in (
        ("gpt-5@ultra", "no budget 'ultra'; it has 'low' or 'high'"),
        ("gpt-9*", "no model fits"),
        ("nobody@low", "no model 'nobody'"),
    ):
        with pytest.raises(ConfigError, match=words):
            find_arms(POOL, name)


def test_providers_have_other_names() -> None:
    assert find_provider(POOL, "gemini") == find_provider(POOL, "Google") == "google"
    assert find_provider(POOL, "xai") == "x-ai"
    with pytest.raises(ConfigError, match="there are: anthropic, google, x-ai"):
        find_provider(POOL, "acme")


@given(st.text(max_size=40))
def test_any_text_is_a_model_or_an_error_in_words(name: str) -> None:
    try:
        found = find_arms(POOL, name)
    except ConfigError:
        return
    assert found and set(found) <= set(POOL.arms)


@given(st.permutations(IDS))
def test_the_order_of_a_pool_does_not_decide(ids: list[str]) -> None:
    other = pool_of(*ids)
    for name in ("openai/gpt-4o-2024-08-06", "claude-3.5-sonnet", "deepseek-v3.2-20251201", "gemini-2.5-flash-latest"):
        assert find_model(other, name).id == find_model(POOL, name).id
