"""A router of the models that a person has, in Python and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import r2router as r2
from r2router.cli import main
from r2router.errors import ArtifactError, ConfigError, MissingPrice, UsageError
from r2router.starter import starter


@pytest.fixture(scope="module")
def router(world: Any) -> r2.Router:
    return r2.Recipe(encoder="given:fake", folds=0).fit(world.table, vectors=world.vectors)


def test_the_arms_are_those_of_the_models_and_decide_as_before(router: r2.Router, world: Any) -> None:
    mine = router.only(["thinker", "small"])
    assert mine.arms == tuple(arm for arm in router.arms if arm.model in ("small", "thinker"))
    x = world.vectors[:40]
    whole, part = router.forecast_vectors(x), mine.forecast_vectors(x)
    columns = [router.arms.index(arm) for arm in mine.arms]
    for name in ("quality", "tokens", "cost", "spread"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[:, columns])
    for policy in (r2.Value(0.01), r2.Tradeoff(0.3), r2.Cheapest(0.6), r2.Best(0.001)):
        usable = np.isin([arm.model for arm in router.arms], ["small", "thinker"])
        expected = router.choose(whole, policy, usable)
        found = mine.choose(part, policy)
        assert mine.chosen_arms(found) == router.chosen_arms(expected)


def test_arms_patterns_and_providers(router: r2.Router) -> None:
    assert router.only("small@50, thinker-high").arms == ("small@50", "thinker@high")
    assert {arm.model for arm in router.only(["*r*"]).arms} == {"large", "thinker"}
    assert {arm.model for arm in router.only(providers="there").arms} == {"large", "thinker"}
    assert router.only(models=["larg*", "small"], providers=["there"]).arms == router.only("large").arms
    assert router.only(["small", "large", "thinker"]) is router


def test_it_is_saved_and_loaded(router: r2.Router, world: Any, tmp_path: Path) -> None:
    mine = router.only(like={"mine": "large:0.1/0.4"}).only(["mine", "small"])
    mine.save(tmp_path / "mine")
    again = r2.Router.load(tmp_path / "mine")
    assert again.arms == mine.arms
    x = world.vectors[:7]
    np.testing.assert_array_equal(again.forecast_vectors(x).spread, mine.forecast_vectors(x).spread)
    np.testing.assert_array_equal(again.forecast_vectors(x).cost, mine.forecast_vectors(x).cost)
    assert "as `large`" in (tmp_path / "mine" / "card.md").read_text()
    text = (tmp_path / "mine" / "router.json").read_text()
    assert '"promise":""' in text.replace(" ", "")


def test_a_stand_in_has_the_others_forecasts_its_own_price_and_a_wider_spread(router: r2.Router, world: Any) -> None:
    mine = router.only(like={"mine": ("large", r2.Prices(input=0.0, output=0.0))})
    forecast = mine.forecast_vectors(world.vectors[:5])
    own, other = ([i for i, arm in enumerate(mine.arms) if arm.model == m] for m in ("mine", "large"))
    np.testing.assert_array_equal(forecast.quality[:, own], forecast.quality[:, other])
    assert (forecast.cost[:, own] == 0).all() and (forecast.spread[:, own] > forecast.spread[:, other]).all()
    decision = mine.only("mine").explain(mine.only("mine").forecast_vectors(world.vectors[:1]), r2.Value(1))
    assert "Nobody measured mine: large stands in for it." in decision.reason
    assert (
        "Nobody measured"
        not in mine.explain(forecast[:1], r2.Value(1), np.array([a.model == "large" for a in mine.arms])).reason
    )


@pytest.mark.parametrize(
    ("given", "error", "words"),
    [
        ({"models": ["smal"]}, ConfigError, "nearest is 'small'"),
        ({"models": []}, ConfigError, "names nothing"),
        ({"models": " , "}, ConfigError, "names nothing"),
        ({"models": ["gpt*"]}, ConfigError, "no model fits"),
        ({"models": ["small"], "providers": ["there"]}, ConfigError, "none of the models is at 'there'"),
        ({"providers": ["acme"]}, ConfigError, "there are: here, there"),
        ({"models": [3]}, UsageError, "give names"),
        ({"like": {"mine": "large"}}, MissingPrice, "mine=large:0.1/0.4"),
        ({"like": {"mine": "large:a/b"}}, ConfigError, "are not prices"),
        ({"like": {"mine": "large:-1/2"}}, ConfigError, "finite and at least 0"),
        ({"like": {"mine": "nobody:1/2"}}, ConfigError, "no model 'nobody'"),
        ({"like": {"small": "large:1/2"}}, ConfigError, "was measured"),
        ({"like": {"a@b": "large:1/2"}}, ConfigError, "cannot be an id"),
    ],
)
def test_what_cannot_be_is_an_error_in_words(router: r2.Router, given: Any, error: Any, words: str) -> None:
    with pytest.raises(error, match=words):
        router.only(**given)


def test_models_that_cannot_be_called_are_not_enough(router: r2.Router) -> None:
    import msgspec

    off = [msgspec.structs.replace(m, available=m.id == "small") for m in router.pool.models]
    partly = router.with_pool(r2.Pool(off))
    assert {arm.model for arm in partly.only(["small", "large"]).arms} == {"small", "large"}
    with pytest.raises(ConfigError, match="'large' is not available"):
        partly.only(["large"])


def test_a_damaged_selection_is_refused(router: r2.Router, tmp_path: Path) -> None:
    predictor = router.only(["small"]).predictor
    arrays = predictor.arrays()
    for wrong in (
        {"columns": np.array([0, 1, 99])},
        {"columns": np.array([0])},
        {"kind": np.frombuffer(b"selected", dtype=np.uint8)},
    ):
        with pytest.raises(ArtifactError):
            type(predictor).from_arrays(predictor.arms, arrays | wrong)


def test_the_starter_takes_the_same() -> None:
    mine = starter(models=["openai/gpt-5-mini-2025-08-07", "o3-mini"], like={"mine": "gpt-5-mini:0.1/0.4"})
    assert {arm.model for arm in mine.arms} == {"gpt-5-mini", "o3-mini"}
    assert {m.provider for m in starter(providers="openai").pool.models} == {"openai"}


def run(*words: str) -> Any:
    return CliRunner().invoke(main, list(words))


def test_on_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    found = run("route", "Who wrote Faust?", "--models", "gpt-5-mini@low,gpt-5-mini-high", "--json")
    assert found.exit_code == 0 and json.loads(found.stdout)["model"] == "gpt-5-mini"
    found = run("route", "Who wrote Faust?", "--models", "mine", "--like", "mine=gpt-5-mini:0.1/0.4")
    assert found.exit_code == 0 and "Nobody measured mine" in " ".join(found.stdout.split())
    found = run("route", "Who wrote Faust?", "--models", "gpt5 mini")
    assert found.exit_code == 2 and "nearest" in found.stderr
    assert run("route", "x", "--models", ",").exit_code == 2
    assert run("route", "x", "--like", "mine").exit_code == 2
    assert run("route", "x", "--providers", "all,openai").exit_code == 2


def test_keys_in_the_environment_choose_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-not-a-key")
    found = run("route", "Who wrote Faust?", "--json")
    assert json.loads(found.stdout)["model"].startswith("claude") and "only models of anthropic" in found.stderr
    assert "sk-not" not in found.output
    every = run("route", "Who wrote Faust?", "--json", "--providers", "all")
    assert every.stderr == "" and json.loads(every.stdout)["arm"] == starter().route("Who wrote Faust?").arm
    named = run("route", "Who wrote Faust?", "--models", "gpt-5-mini", "--json")
    assert json.loads(named.stdout)["model"] == "gpt-5-mini" and named.stderr == ""
    monkeypatch.setenv("OPENROUTER_API_KEY", "sk-or-not-a-key")  # with which every model can be called
    assert run("route", "Who wrote Faust?", "--json").stderr == ""


def test_a_key_for_another_host_is_none_for_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-a-key")
    assert "only models of openai" in run("route", "Who wrote Faust?").stderr
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    assert run("route", "Who wrote Faust?").stderr == ""


@pytest.mark.parametrize("wrong", [5, 1.5, [None], [b"gpt"]], ids=repr)
def test_names_of_another_type_are_told_in_words(wrong: Any) -> None:
    for what in ("models", "providers"):
        with pytest.raises(UsageError, match=what):
            starter(**{what: wrong})
