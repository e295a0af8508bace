"""Was a router trained on the queries it is judged by? Known from the texts, not from the files."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import r2router as r2
from r2router.errors import ArtifactError
from r2router.evaluation import leak_words, trained_share
from r2router.evaluation.sentences import answers_of
from r2router.router import artifact, trained
from r2router.router.trained import TrainedTexts
from r2router.table.write import write_table


@pytest.fixture
def router(world: Any, fake_encoder: Any) -> r2.Router:
    """Trained on the first 180 of 240 queries."""
    return r2.Recipe(encoder="fake", folds=0).fit(world.table.take(range(180)))


def test_a_split_of_the_training_data_is_known_by_its_texts(world: Any, router: r2.Router) -> None:
    """The file is another, and no split by us: only the texts are the same."""
    table = world.table
    for rows, share in ((range(180), 1.0), (range(90, 150), 1.0), (range(120, 240), 0.5), (range(180, 240), 0.0)):
        part = table.take(rows)
        assert trained_share(router, part) == share
        report = r2.evaluate(router, part, resamples=2)
        assert report.trained_share == share == report.to_dict()["trained_share"]
        said = [a for a in answers_of(report) if "was trained on" in a]
        assert bool(said) == bool(share) == ("was trained on" in str(report))
        if share:
            assert f"trained on {share:.0%}".replace("%", " %") in said[0]
    assert leak_words(router, table.take(range(180, 240))) == ""


def test_how_a_text_is_typed_does_not_matter(world: Any, router: r2.Router) -> None:
    part = world.table.take(range(10))
    typed = replace(part, queries=tuple(f"  {q.upper()}\n".replace(" ", "   ") for q in part.queries))
    assert trained_share(router, typed) == 1.0


def test_the_digest_is_saved_and_private_if_wished(world: Any, router: r2.Router, tmp_path: Path) -> None:
    router.save(tmp_path / "a")
    assert trained_share(r2.Router.load(tmp_path / "a"), world.table) == 0.75
    weights = (tmp_path / "a" / "weights.safetensors").read_bytes() + (tmp_path / "a" / "router.json").read_bytes()
    assert not any(query.encode() in weights for query in world.table.queries)
    silent = r2.Recipe(encoder="fake", folds=0, digest=False).fit(world.table)
    silent.save(tmp_path / "b")
    assert r2.Router.load(tmp_path / "b").trained is None
    assert (
        trained_share(silent, world.table) is None
        and r2.evaluate(silent, world.table, resamples=2).trained_share is None
    )


def test_a_router_without_a_digest_knows_its_files(world: Any, router: r2.Router, tmp_path: Path) -> None:
    write_table(world.table, tmp_path / "table.parquet")
    table = r2.Table.read(tmp_path / "table.parquet", world.pool)
    old = replace(r2.Recipe(encoder="fake", folds=0, digest=False).fit(table))
    assert leak_words(old, table).startswith(
        f"The router was trained on {tmp_path / 'table.parquet'}: here it looks better"
    )
    assert leak_words(old, table.split(0.2, 0)[1]) == "", "the test part of a split is not among them"
    new = r2.Recipe(encoder="fake", folds=0).fit(table)
    assert "it has seen 100 % of these queries" in leak_words(new, table)
    assert "100 %" in leak_words(new, table.split(0.2, 0)[1]), "a split after the training is no test part"


def test_a_model_that_was_added_brings_its_queries_along(world: Any, fake_encoder: Any) -> None:
    small = r2.Recipe(encoder="fake", folds=0).fit(
        replace(world.table.take(range(100)), **without(world.table.take(range(100)), "thinker"))
    )
    added = small.add_model("thinker", world.table.take(range(100, 200)))
    assert trained_share(small, world.table) == pytest.approx(100 / 240)
    assert trained_share(added, world.table) == pytest.approx(200 / 240)


def without(table: r2.Table, model: str) -> dict[str, Any]:
    from r2router.table.table import ARRAYS

    keep = np.flatnonzero([a.model != model for a in table.arms])
    return {"pool": r2.Pool([m for m in table.pool.models if m.id != model])} | {
        k: getattr(table, k)[:, keep] for k in ARRAYS
    }


def test_a_large_digest_is_a_fair_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trained, "MAX_HASHES", 1000)
    texts = [f"question {i}" for i in range(20_000)]
    digest = TrainedTexts.of(texts[:10_000])
    assert len(digest.hashes) == 1000 and digest.is_sample
    assert digest.share(texts[:10_000]) == 1.0
    assert digest.share(texts[10_000:]) == 0.0
    assert digest.share(texts[5_000:15_000]) == pytest.approx(0.5, abs=0.05)
    assert np.isnan(digest.share([]))
    both = digest.joined(TrainedTexts.of(texts[15_000:15_100]))
    whole = TrainedTexts.of(texts[:10_000] + texts[15_000:15_100])
    np.testing.assert_array_equal(both.hashes, whole.hashes)


def test_digests_that_were_tampered_with_are_refused(router: r2.Router, tmp_path: Path) -> None:
    for spoil in (lambda h: h[::-1], lambda h: h.astype(np.int64), lambda h: h[None], lambda h: np.repeat(h, 2)):
        router.save(tmp_path / "r")
        manifest, arrays = artifact.load(tmp_path / "r", dict[str, Any])
        arrays["trained.hashes"] = spoil(arrays["trained.hashes"])
        artifact.save(tmp_path / "r", manifest, arrays, "", version="0")
        with pytest.raises(ArtifactError, match="digest"):
            r2.Router.load(tmp_path / "r")
