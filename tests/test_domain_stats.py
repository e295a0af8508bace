"""What a router knows per domain: means made comparable, what is thin, and what that does to a forecast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import r2router as r2
from r2router.errors import ArtifactError, DataError
from r2router.predict.domain_stats import DomainStats
from r2router.starter.domains import KINDS, domain_of
from r2router.types import FloatArray

TASKS = ("sums", "proofs", "poems")
DOMAINS = {"sums": "mathematics", "proofs": "mathematics", "poems": "writing"}
PLACES = np.eye(8, dtype=np.float32)


def made(seed: int = 0, n: int = 600, arms: int = 6, hide: bool = True) -> tuple[DomainStats, FloatArray]:
    """DomainStats of an additive world, and the true mean of each (task, arm)."""
    rng = np.random.default_rng(seed)
    of_task = np.array([0] * n + [1] * n + [2] * 12)
    level = np.array([0.2, -0.1, 0.1])
    truth = np.clip(np.linspace(0.3, 0.7, arms) + level[:, None], 0, 1)
    ease = rng.normal(0, 0.1, len(of_task))
    quality = (rng.random((len(of_task), arms)) < np.clip(truth[of_task] + ease[:, None], 0, 1)).astype(float)
    if hide:
        quality[of_task == 1, 0] = np.nan  # the first arm never saw proofs
        quality[(of_task == 0) & (ease < 0), 1] = np.nan  # the second saw the easy sums only
        quality[:, -1] = np.nan
    tokens = np.where(np.isnan(quality), np.nan, 100.0 * np.arange(1, arms + 1) * np.array([1, 4, 2])[of_task][:, None])
    x = PLACES[of_task] + 0.1 * rng.normal(size=(len(of_task), 8)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    others = {"chat": PLACES[5:7]}
    counts = np.array([10.0, 30.0, 20.0])[of_task]
    names = [TASKS[t] for t in of_task]
    return DomainStats.fit(x.astype(np.float32), names, quality, tokens, counts, DOMAINS, others), truth


def test_quality_is_as_if_every_arm_had_answered_everything() -> None:
    evidence, truth = made()
    known = evidence.known(evidence.domains.index("mathematics"))
    expected = truth[:2].mean(axis=0)
    assert np.abs(known.quality[:-1] - expected[:-1]).max() < 0.06
    assert known.quality[0] < 0.42  # its own mean is .5, of sums alone, which are easier
    assert np.isnan(known.quality[-1]) and np.isnan(known.tokens[-1]) and known.queries[-1] == 0
    assert known.queries[0] == 600 and 850 < known.queries[1] < 950


@pytest.mark.parametrize("seed", range(3))
def test_intervals_hold_the_truth(seed: int) -> None:
    hits = []
    for s in range(8):
        evidence, truth = made(seed=100 * seed + s, n=150)
        for domain, rows in (("mathematics", [0, 1]), ("writing", [2])):
            known = evidence.known(evidence.domains.index(domain))
            gap = np.abs(known.quality - truth[rows].mean(axis=0))[:-1]
            hits += (gap <= 1.96 * known.deviation[:-1] + 0.02).tolist()
    assert np.mean(hits) > 0.88


def test_lengths_are_comparable_too() -> None:
    evidence, _ = made()
    known = evidence.known(0)
    np.testing.assert_allclose(known.tokens[1:5], [100 * k * np.sqrt(1 * 4) for k in range(2, 6)], rtol=0.05)
    assert evidence.typical_input(0) == pytest.approx(20.0)
    assert evidence.typical_input() == pytest.approx((600 * 10 + 600 * 30 + 12 * 20) / 1212)
    assert np.isnan(evidence.typical_input(evidence.domains.index("chat")))


def test_less_evidence_is_a_wider_spread() -> None:
    evidence, _ = made()
    mathematics, writing, chat = (evidence.domains.index(name) for name in ("mathematics", "writing", "chat"))
    least = evidence.min_spread
    assert (least[mathematics, :-1] < least[writing, :-1]).all()
    np.testing.assert_allclose(least[chat], np.sqrt(1 / 12))
    assert least[mathematics, -1] == pytest.approx(evidence.spreads.domain)
    assert evidence.graded.tolist() == [1200, 12, 0]


def test_a_query_is_of_the_nearest_domain() -> None:
    evidence, _ = made()
    assert [evidence.domains[d] for d in evidence.domain(PLACES[[0, 1, 2, 5]])] == [
        "mathematics",
        "mathematics",
        "writing",
        "chat",
    ]


def much_and_little(compressed: float, seed: int = 0) -> DomainStats:
    """Twelve arms on two domains of which much was graded; on a third, of which little was, they differ so much less."""
    rng = np.random.default_rng(seed)
    of_task = np.array([0] * 400 + [1] * 400 + [2] * 40)
    strength = np.linspace(-0.3, 0.3, 12)
    mean = np.where((of_task == 2)[:, None], 0.6 + compressed * strength, 0.5 + strength)
    quality = mean + rng.normal(0, 0.05, mean.shape)
    quality[of_task == 1, :4] = np.nan  # the first four arms were seen on one domain
    tokens = np.full(quality.shape, 100.0)
    names = [("sums", "facts", "poems")[t] for t in of_task]
    domains = {name: name for name in names}
    return DomainStats.fit(PLACES[of_task], names, quality, tokens, np.full(len(names), 10.0), domains)


@pytest.mark.parametrize("compressed", [0.0, 0.3, 0.8])
def test_how_far_arms_differ_where_little_was_graded_is_measured(compressed: float) -> None:
    stats = much_and_little(compressed)
    assert stats.spreads.thin == pytest.approx(compressed, abs=0.05)
    assert stats.spreads.arms == pytest.approx(np.linspace(-0.3, 0.3, 12).std(), abs=0.06)
    assert stats.spreads.level == pytest.approx(0.6, abs=0.02)
    expected = stats.where_thin(0.5 + np.linspace(-0.3, 0.3, 12))
    assert expected.mean() == pytest.approx(stats.spreads.level, abs=0.03)
    assert np.abs(expected - 0.6).max() <= compressed * 0.3 + 0.02 and (np.diff(expected) > -1e-6).all()
    middle = stats.where_thin(np.full(12, 0.5))[0]
    assert middle - expected[0] <= expected[-1] - middle + 1e-6  # two domains tell more of a third one than one does


def test_without_a_domain_of_little_evidence_arms_are_believed_to_differ_as_elsewhere() -> None:
    rng = np.random.default_rng(0)
    quality = np.linspace(0.2, 0.8, 9) + rng.normal(0, 0.05, (300, 9))
    names = ["sums"] * 150 + ["facts"] * 150
    x = PLACES[[0] * 150 + [1] * 150]
    stats = DomainStats.fit(
        x, names, quality, np.full(quality.shape, 10.0), np.full(300, 10.0), {"sums": "sums", "facts": "facts"}
    )
    assert stats.spreads.level is None
    np.testing.assert_array_equal(stats.where_thin(quality[0]), quality[0])


def test_columns_can_be_taken_twice() -> None:
    evidence, _ = made()
    part = evidence.take(np.array([2, 2, 0]))
    np.testing.assert_array_equal(part.count, evidence.count[:, [2, 2, 0]])
    np.testing.assert_array_equal(part.min_spread, evidence.min_spread[:, [2, 2, 0]])


@pytest.fixture
def router(world: Any, fake_encoder: Any) -> r2.Router:
    table = world.table
    plain = r2.Recipe(encoder="fake", folds=0).fit(table, vectors=world.vectors)
    counts = np.ones(len(table))
    domain = {"task 0": "known", "task 1": "thin"}
    evidence = DomainStats.fit(world.vectors, table.tasks, table.quality, table.output_tokens, counts, domain)
    queries = np.where(evidence.domain_of_task == evidence.domains.index("thin"), 40, evidence.queries + 100)
    count = evidence.count.copy()
    count[list(evidence.tasks).index("task 0"), [arm.model == "thinker" for arm in plain.arms]] = 0
    return replace(plain, domain_stats=replace(evidence, queries=queries, count=count), in_distribution=None)


def test_the_reason_says_how_little_is_known(router: r2.Router) -> None:
    assert "Little is known of such queries: 40 of thin were graded" in router.route("topic 1 question").reason
    assert "known of" not in router.only(["small"]).route("topic 0 question").reason
    assert "thinker was not graded on known" in router.only(["thinker"]).route("topic 0 question").reason


def test_the_spread_is_no_less_than_the_evidence_allows(router: r2.Router) -> None:
    found = router.forecast(["topic 0 question", "topic 1 question"])
    assert router.domain_stats is not None
    assert (found.spread >= router.domain_stats.min_spread[found.domain] - 1e-12).all()
    assert len(found[:1].domain) == 1


def test_it_is_saved_and_loaded(router: r2.Router, tmp_path: Path) -> None:
    router.save(tmp_path / "r")
    again = r2.Router.load(tmp_path / "r").domain_stats
    assert again is not None and router.domain_stats is not None and again.names == router.domain_stats.names
    np.testing.assert_array_equal(again.count, router.domain_stats.count)
    np.testing.assert_allclose(again.known(0).quality, router.domain_stats.known(0).quality, atol=1e-6)
    arrays = router.domain_stats.arrays()
    for name, wrong in (
        ("count", arrays["count"][:, :2]),
        ("domain_of_centre", arrays["domain_of_centre"] + 9),
        ("queries", -arrays["queries"]),
    ):
        with pytest.raises(ArtifactError, match="evidence"):
            DomainStats.from_arrays(router.domain_stats.names, arrays | {name: wrong}, len(router.arms), router.dim)


def test_every_task_of_the_record_has_a_domain(shared: Path) -> None:
    import polars as pl

    files = sorted((shared / "data" / "record").glob("*.parquet"))
    if not files:
        pytest.skip("the public record (../shared/data/record) is not here")
    tasks = {task for file in files for task in pl.read_parquet(file, columns=["task"])["task"].unique()}
    assert {domain_of(task) for task in tasks} >= {
        "facts",
        "mathematics",
        "code",
        "SQL",
        "science",
        "medicine",
        "writing",
    }
    assert domain_of("epoch_logs:simpleqa_verified") == domain_of("FRAMES") == "facts"
    with pytest.raises(DataError, match="'alchemy' is of no domain"):
        domain_of("alchemy")


def test_prompts_of_kinds_are_our_own_and_few() -> None:
    assert all(4 <= len(set(prompts)) == len(prompts) <= 40 for prompts in KINDS.values())
