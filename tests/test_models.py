"""`r2router models`: what is known of each model, and what is said where nothing is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import r2router as r2
from r2router.cli import main
from r2router.errors import ConfigError
from r2router.predict.domain_stats import DomainStats
from r2router.router.known import compared, find_domain, known_arms, seen_per_domain

DOMAINS = {"task 0": "facts", "task 1": "law, business and humanities"}


@pytest.fixture(scope="module")
def router(world: Any) -> r2.Router:
    table = world.table
    quality = table.quality.copy()
    quality[np.array(table.tasks) == "task 1", -1] = np.nan  # thinker@high was graded on facts alone
    plain = r2.Recipe(encoder="given:fake", folds=0).fit(table, vectors=world.vectors)
    counts = np.full(len(table), 9.0)
    return replace(
        plain, domain_stats=DomainStats.fit(world.vectors, table.tasks, quality, table.output_tokens, counts, DOMAINS)
    )


@pytest.fixture(scope="module")
def folder(router: r2.Router, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("models") / "router"
    router.save(path)
    return str(path)


def run(*words: str) -> Any:
    return CliRunner().invoke(main, ["models", *words], env={"COLUMNS": "150"})


def test_figures_are_the_tables_own(router: r2.Router, world: Any) -> None:
    rows = known_arms(router, find_domain(router, "facts"), worth=0.02)
    own = np.array(world.table.tasks) == "task 0"
    for row in rows:
        at = router.arms.index(r2.Arm(row.arm))
        mean, tokens = world.table.quality[own, at].mean(), world.table.output_tokens[own, at].mean()
        assert row.quality.value == pytest.approx(mean) and row.quality.n == own.sum()
        assert row.quality.low < mean < row.quality.high or mean in (0, 1)
        assert row.tokens == pytest.approx(tokens, rel=0.02)
        inputs = router.input_tokens.estimate(np.array([9.0]))
        assert row.cost == pytest.approx(1000 * router.pool.cost(inputs, np.array([[row.tokens] * len(rows)]))[0, at])
        assert row.value == pytest.approx(1000 * 0.02 * row.quality.value - row.cost)
    assert [row.quality.value for row in rows] == sorted((row.quality.value for row in rows), reverse=True)


@pytest.mark.parametrize(
    ("sort", "key"), [("cost", lambda r: r.cost), ("value", lambda r: -r.value), ("queries", lambda r: -r.quality.n)]
)
def test_what_is_known_is_sorted_and_what_is_not_stands_last(router: r2.Router, sort: str, key: Any) -> None:
    rows = known_arms(router, 1, sort)
    known = [key(row) for row in rows if row.quality.n]
    assert known == sorted(known)
    assert rows[-1].quality.n == 0 and rows[-1].arm == "thinker@high" and np.isnan(rows[-1].quality.value)


def test_only_what_both_saw_is_compared(router: r2.Router) -> None:
    pairs = compared(router, ["small@50"], ["thinker@high"])
    assert [domain for domain, *_ in pairs] == ["facts"]
    assert {(a.arm, b.arm) for _, a, b in pairs} == {("small@50", "thinker@high")}
    assert set(seen_per_domain(router, "thinker")) == set(DOMAINS.values())


def test_names_of_domains(router: r2.Router) -> None:
    assert find_domain(router, "law") == find_domain(router, "Business") == 1
    for name in ("", "alchemy"):
        with pytest.raises(ConfigError, match="there are: facts, law"):
            find_domain(router, name)
    with pytest.raises(ConfigError, match="cannot sort by 'luck'"):
        known_arms(router, 0, "luck")
    with pytest.raises(ConfigError, match="keeps no figures per domain"):
        known_arms(replace(router, domain_stats=None))


def test_the_command_shows_all_one_and_two(folder: str) -> None:
    every = run("--router", folder)
    assert every.exit_code == 0 and "3 models, 8 arms" in every.stdout and "facts 120" in every.stdout
    one = run("thinker", "--router", folder)
    assert one.exit_code == 0 and "thinker@low" in one.stdout and "small@50" not in one.stdout
    best = run("--router", folder, "--domain", "law", "--sort", "value")
    assert best.exit_code == 0 and "1 arms were not graded" in best.stdout
    both = run("--router", folder, "--compare", "small@50,thinker@high")
    assert both.exit_code == 0 and "facts" in both.stdout and "law" not in both.stdout


def test_the_command_writes_json(folder: str) -> None:
    rows = json.loads(run("--router", folder, "--json").stdout)
    assert {row["domain"] for row in rows} == {"all domains", *DOMAINS.values()}
    assert all({"arm", "quality", "tokens", "cost", "value"} <= row.keys() for row in rows)
    pairs = json.loads(run("--router", folder, "--compare", "small,large", "--json").stdout)
    assert len(pairs) == 2 * 9 and {"domain", "one", "other"} == pairs[0].keys()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nobody",), "no model 'nobody'"),
        (("--domain", "alchemy"), "no domain 'alchemy'"),
        (("--compare", "small"), "name two models"),
        (("--compare", "small,nobody"), "no model 'nobody'"),
        (("small", "--compare", "small,large"), "cannot be combined"),
    ],
)
def test_nonsense_is_an_error_in_words(folder: str, words: tuple[str, ...], said: str) -> None:
    found = run(*words, "--router", folder)
    assert found.exit_code == 2 and said in found.stderr


def test_a_router_without_figures_says_so(world: Any, tmp_path: Path) -> None:
    r2.Recipe(encoder="given:fake", folds=0).fit(world.table, vectors=world.vectors).save(tmp_path / "r")
    found = run("--router", str(tmp_path / "r"))
    assert found.exit_code == 2 and "keeps no figures per domain" in found.stderr


def test_five_thousand_arms_are_shown_and_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    n, models = 60, 2_500
    pool = r2.Pool(
        [
            r2.Model(
                id=f"model-{i}",
                budgets=(r2.Budget.of("low"), r2.Budget.of("high")),
                usd_per_million=r2.Prices(0.1 + i / 1000, 1.0),
            )
            for i in range(models)
        ]
    )
    x = rng.standard_normal((n, 8)).astype(np.float32)
    seen = rng.random((n, len(pool))) < 0.5
    quality = np.where(seen, rng.integers(0, 2, seen.shape).astype(float), np.nan)
    nothing = np.full(seen.shape, np.nan)
    table = r2.Table(
        pool=pool,
        query_ids=tuple(map(str, range(n))),
        queries=tuple(f"question {i}" for i in range(n)),
        tasks=tuple(f"task {i % 2}" for i in range(n)),
        quality=quality,
        input_tokens=np.full(seen.shape, 20.0),
        cached_tokens=nothing,
        output_tokens=np.where(seen, 100.0, np.nan),
        reasoning_tokens=nothing,
        cost_usd=nothing,
    )
    plain = r2.Recipe(encoder="given:fake", learner=r2.KNN(), folds=0).fit(table, vectors=x)
    stats = DomainStats.fit(x, table.tasks, quality, table.output_tokens, np.full(n, 9.0), DOMAINS)
    replace(plain, domain_stats=stats).save(tmp_path / "router")
    every = run("--router", str(tmp_path / "router"))
    assert every.exit_code == 0 and "2,500 models, 5,000 arms" in every.stdout and "model-2499" in every.stdout
    one = run("model-77", "--router", str(tmp_path / "router"))
    assert one.exit_code == 0 and "model-77@low" in one.stdout and "model-770" not in one.stdout
    assert "nearest" in run("modal-77", "--router", str(tmp_path / "router")).stderr
