"""Near-duplicates: found by what they share, whatever the order, and kept together by every split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import r2router as r2
from r2router.predict.crossval import fold_means, fold_of
from r2router.table.twins import groups_of

PASSAGE = " ".join(f"word{i}" for i in range(60))
TEMPLATE = (
    "Answer the following question with one of the letters and do not explain your choice to anybody who reads this:"
)


def test_texts_about_one_passage_are_one_group() -> None:
    texts = [
        f"{PASSAGE} Who is right?",
        "What is the capital of Peru?",
        f"{PASSAGE.upper()}, what follows from it!",
        "Something else entirely.",
    ]
    assert groups_of(texts).tolist() == [0, 1, 0, 2]


def test_equal_texts_are_one_group_however_short() -> None:
    assert groups_of(["a", "b", "a", ""]).tolist() == [0, 1, 0, 2]
    assert groups_of([]).tolist() == []


def test_a_template_that_everybody_has_joins_nobody() -> None:
    rng = np.random.default_rng(0)
    texts = [f"{TEMPLATE} {' '.join(f'w{n}' for n in rng.integers(0, 10_000, 12))}" for _ in range(200)]
    assert groups_of(texts).max() == 199


def test_a_shared_quarter_is_no_twin() -> None:
    one, other = (" ".join([*PASSAGE.split()[:20], *(f"{own}{i}" for i in range(60))]) for own in "ab")
    assert groups_of([one, other]).tolist() == [0, 1]


def test_pairs_chain() -> None:
    words = [f"w{i}" for i in range(90)]
    chain = [" ".join(words[at : at + 50]) for at in (0, 20, 40)]
    assert groups_of(chain).tolist() == [0, 0, 0]


@given(st.integers(0, 10_000))
def test_groups_do_not_depend_on_the_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    texts = [" ".join(f"w{n}" for n in range(at, at + 30)) for at in rng.integers(0, 120, 12).tolist()]
    order = rng.permutation(12)
    one, other = groups_of(texts), groups_of([texts[i] for i in order])
    same = one[:, None] == one[None]
    assert ((other[:, None] == other[None]) == same[np.ix_(order, order)]).all()


@given(st.integers(0, 1000), st.integers(2, 6))
def test_a_fold_and_a_split_hold_twins_together(seed: int, folds: int) -> None:
    texts = [f"{PASSAGE} question {i}" if i % 3 == 0 else f"a short text number {i}" for i in range(30)]
    fold = fold_of(texts, folds, seed)
    assert len(set(fold[::3].tolist())) == 1 and len(set(fold.tolist())) == folds


def test_a_fold_s_means_are_those_of_the_others() -> None:
    values, fold = np.array([[1.0], [2.0], [3.0], [10.0]]), np.array([0, 0, 1, -1])
    assert fold_means(values, fold)[:, 0].tolist()[:3] == [6.5, 6.5, pytest.approx(13 / 3)]
    assert np.isnan(fold_means(values, fold)[3, 0])
    assert np.isnan(fold_means(values, np.zeros(4, dtype=np.intp))).all(), "nothing is left to learn from"


def test_one_exam_passage_stays_in_one_part(shared: Path) -> None:
    table = r2.Table.read(shared / "data" / "jhu_concise_cot.parquet", prices=shared / "data" / "prices.csv")
    group = groups_of(table.queries)
    size = np.bincount(group)
    assert (size * (size - 1) // 2).sum() >= 110 and size.max() <= 12
    train, test = table.split(test=0.4, seed=0)
    number = dict(zip(table.query_ids, group.tolist(), strict=True))
    assert not {number[q] for q in train.query_ids} & {number[q] for q in test.query_ids}
    fold = fold_of(table.queries, 5, 0)
    assert all(len(set(fold[group == g].tolist())) == 1 for g in np.flatnonzero(size > 1).tolist())
