"""The recipe's own numbers, and that a default router does on real outcomes what the project is for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import r2router as r2
from r2router.metrics.score import Outcomes, Routed, compare, methods
from r2router.predict.crossval import out_of_fold
from r2router.predict.input_tokens import InputTokens


@pytest.mark.parametrize(
    "words", [{"folds": -1}, {"resamples": -1}, {"keep": 0.0}, {"keep": 1.5}, {"keep": float("nan")}]
)
def test_a_recipe_that_makes_no_sense_is_refused(words: dict[str, float]) -> None:
    with pytest.raises(r2.ConfigError, match="folds and resamples are at least 0"):
        r2.Recipe(**words)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tts_knowledge", "jhu_concise_cot"])
def test_the_default_beats_the_mixture_and_holds_plain_ridge(shared: Path, name: str) -> None:
    """Out-of-fold area over log cost. The margins to the mixture are a third of what benchmarks/quality.py measures."""
    from r2router.encode import count_tokens, load_encoder

    table = r2.Table.read(shared / "data" / f"{name}.parquet", prices=shared / "data" / "prices.csv")
    x, counts = load_encoder("minilm").encode(table.queries), count_tokens(table.queries)
    inputs = InputTokens.fit(counts, table).estimate(counts)
    outcomes = Outcomes.of(table.arms, table.quality, table.cost(inputs))
    area = {}
    for kind, learner in (("default", r2.Recipe().learner), ("ridge", r2.Ridge(alpha=30.0))):
        forecast = out_of_fold(learner, x, table, folds=5, seed=0)
        cost = table.pool.cost(inputs, forecast.tokens)
        found = methods(outcomes, forecast.quality, cost)
        assert isinstance(found["router"], Routed)
        result = compare(found, outcomes, resamples=0, seed=0)
        area[kind] = result.figures["router"]["area"].value
    fixed = result.figures["fixed known"]["area"].value
    margin = {"tts_knowledge": 0.006, "jhu_concise_cot": 0.013}[name]
    assert area["default"] > fixed + margin
    assert area["default"] > area["ridge"] - 0.002
    assert np.isfinite(list(area.values())).all()
