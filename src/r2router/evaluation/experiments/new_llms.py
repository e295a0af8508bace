"""LLMs that arrive later (the paper's Uni-R2Router): quality against the number of graded queries of the new one."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

import msgspec
import numpy as np

from r2router.baselines import UniRouter
from r2router.errors import DataError
from r2router.evaluation.contenders import Contender, EmbeddedTable, Tried, Unsaved, attempt, beside, needed
from r2router.evaluation.experiment import Study, failures
from r2router.evaluation.tables_and_plots import MEANINGS, grid, line, signed, turned
from r2router.metrics.score import Method, compare
from r2router.predict import Learner, Predictor
from r2router.report.findings import Findings, Grid, GridRow, Plot, Section
from r2router.router.add_model import MIN_QUERIES
from r2router.router.recipe import Recipe
from r2router.table.table import ARRAYS, Table
from r2router.types import Arm, FloatArray, Forecast, IntArray

QUESTION = "How many graded queries of a new LLM are needed, if nothing is trained again?"

SIZES = (25, 50, 100, 200, 400)
_WITHOUT, _ALL = "without the new LLM", "trained again on all queries"
_MAX_MODELS = 12


class Late(msgspec.Struct, frozen=True):
    """A learner that sees `graded` queries of one model and all of the others, as if that model had arrived late."""

    learner: Learner
    model: str
    graded: int

    def fit(self, x: FloatArray, table: Table) -> Predictor:
        hidden = np.setdiff1d(np.arange(len(table)), _graded(table, self.graded))
        columns = _columns(table, self.model)
        arrays = {}
        for name in ARRAYS:
            values = getattr(table, name).copy()
            values[np.ix_(hidden, columns)] = np.nan
            arrays[name] = values
        return self.learner.fit(x, replace(table, **arrays))


class AddedModel(msgspec.Struct, frozen=True):
    """Our way: a router of the other models, which then takes the new one in (`Router.add_model`); with no graded
    queries, without it.
    """

    learner: Learner
    model: str
    graded: int

    def fit(self, x: FloatArray, table: Table) -> Predictor:
        others = [arm for arm in table.arms if arm.model != self.model]
        known = table.with_arms(others)
        if not self.graded:
            return Placed(table.arms, self.learner.fit(x, known))
        router = Recipe(learner=self.learner, folds=0).fit(known, vectors=x)
        rows = _graded(table, self.graded)
        return Placed(table.arms, router.add_model(self.model, table.take(rows), x[rows]).predictor)


class Placed(Unsaved):
    """A predictor's forecasts in the order of other arms; NaN for those that it does not know."""

    kind: ClassVar[str] = "placed"

    def __init__(self, arms: tuple[Arm, ...], inner: Predictor) -> None:
        self.arms, self._inner = arms, inner
        self._columns = np.array([arms.index(arm) for arm in inner.arms], dtype=np.intp)

    def predict(self, x: FloatArray) -> Forecast:
        made = self._inner.predict(x)
        wide = [np.full((len(x), len(self.arms)), np.nan) for _ in range(3)]
        for full, part in zip(wide, (made.quality, made.tokens, made.spread), strict=True):
            full[:, self._columns] = part
        return Forecast.of(self.arms, *wide)


def _graded(table: Table, graded: int) -> IntArray:
    """Rows of the queries on which the new model is graded: a sample that does not depend on their order; larger ones
    hold smaller ones.
    """
    by_id = np.argsort(np.array(table.query_ids), kind="stable")
    return np.sort(by_id[np.random.default_rng(0).permutation(len(by_id))[:graded]])


def _columns(table: Table, model: str) -> IntArray:
    return np.array([i for i, arm in enumerate(table.arms) if arm.model == model], dtype=np.intp)


def run(study: Study) -> Findings:
    """Each LLM in turn arrives late. Raises `DataError` where a table has one LLM only."""
    data, plan = study.data, study.plan
    models = [
        m.id
        for m in data.table.pool.models
        if data.outcomes.seen[:, _columns(data.table, m.id)].any(axis=1).mean() > 0.9
    ]
    if len(data.table.pool.models) < 2 or not models:
        raise DataError("a new LLM needs other LLMs, and outcomes on nearly all queries: no LLM of this table has them")
    models = models[:_MAX_MODELS]
    folds = plan.folds_of(data)[:1]
    train = min(int((folds[0] != number).sum()) for number in range(plan.folds))
    sizes = [size for size in SIZES if MIN_QUERIES <= size < train]
    if not sizes:
        raise DataError(
            f"a new LLM is tried with {SIZES[0]} graded queries and more; here only {train:,} can be learned from"
        )
    found: dict[str, Sequence[Method]] = {}
    notes: list[str] = []
    plain = attempt([Contender(_ALL, study.learner)], data, folds, study.progress)
    found[_ALL] = needed(plain[0]).routed
    found[_WITHOUT] = _each(study, data, folds, models, _WITHOUT, 0, notes)
    if not found[_WITHOUT]:
        raise DataError(f"without the new LLM nothing can be compared: {'; '.join(notes)}")
    for size, kind in itertools.product(sizes, ("ours", "Uni-R2Router", "UniRouter")):
        found[f"{kind}, {size} queries"] = _each(study, data, folds, models, kind, size, notes)
    result = compare(
        {k: v for k, v in found.items() if v} | beside(data, folds),
        data.outcomes,
        plan.resamples,
        0,
        base=_WITHOUT,
        cases=True,
        progress=study.progress,
    )
    curves = []
    for kind in ("ours", "Uni-R2Router", "UniRouter"):
        have = [s for s in sizes if f"{kind}, {s} queries" in result.figures]
        curves.append(line(kind, have, [result.figures[f"{kind}, {s} queries"]["area"] for s in have]))
    curves += [line(name, [sizes[0], sizes[-1]], [result.figures[name]["area"]] * 2) for name in (_WITHOUT, _ALL)]
    plot = Plot(
        "Area against graded queries of the new LLM", "graded queries", "area over log cost", tuple(curves), log_x=True
    )
    answers = []
    for size in sizes:
        gain = result.differences.get(f"ours, {size} queries")
        if gain is not None and math.isfinite(gain["area"].value):
            answers.append(
                f"{size} graded queries: area {signed(turned(gain['area']))} over a router without the new LLM."
            )
    if not answers:
        answers.append("What graded queries bring cannot be said on this table: see the notes.")
    figures = grid(
        "Figures, averaged over the LLMs that arrive",
        result.figures,
        ("area", "gap_closed", "qnc", "peak"),
        [_WITHOUT, _ALL],
        MEANINGS,
    )
    beside_us = _against(found, data, sizes, plan.resamples)
    notes.append(f"of the seeds only the first, {plan.seeds[0]}: the LLMs that arrive are the repetitions")
    notes.append(f"arriving late, each in turn: {', '.join(models)}")
    notes.append(
        "UniRouter has each LLM at its best budget by all training queries, the new one's too: more than it would know"
    )
    return study.findings(
        "new-llms",
        "LLMs that arrive later",
        QUESTION,
        answers,
        (Section("New LLMs", (plot, figures, beside_us)),),
        notes=notes,
    )


def _against(found: Mapping[str, Sequence[Method]], data: EmbeddedTable, sizes: Sequence[int], resamples: int) -> Grid:
    """Ours minus each of the others, on as many graded queries."""
    others, rows = ("Uni-R2Router", "UniRouter"), []
    for size in sizes:
        names = {kind: f"{kind}, {size} queries" for kind in ("ours", *others)}
        have = {name: found[name] for name in names.values() if found[name]}
        if names["ours"] not in have:
            continue
        gaps = compare(have, data.outcomes, resamples, 0, base=names["ours"], cases=True).differences
        rows.append(
            GridRow(f"{size} queries", tuple(gaps[names[k]]["area"] if names[k] in gaps else None for k in others))
        )
    return Grid("Area, ours minus the other, paired", others, tuple(rows), ("+.3f",) * 2)


def _each(
    study: Study,
    data: EmbeddedTable,
    folds: Sequence[IntArray],
    models: Sequence[str],
    kind: str,
    size: int,
    notes: list[str],
) -> tuple[Method, ...]:
    """Return one repetition for each model that arrives late; nothing where one of them could not be had, as means must
    be of the same LLMs.
    """
    contenders = []
    for model in models:
        match kind:
            case "Uni-R2Router":
                contenders.append(Contender(kind, Late(UniRouter(), model, size)))
            case "UniRouter":
                contenders.append(Contender(kind, Late(UniRouter(), model, size), "one budget"))
            case _:
                contenders.append(Contender(kind, AddedModel(study.learner, model, size)))
    tried: list[Tried] = attempt(contenders, data, folds, study.progress)
    notes += sorted(set(failures(tried)))
    return () if any(t.failed for t in tried) else tuple(r for t in tried for r in t.routed)
