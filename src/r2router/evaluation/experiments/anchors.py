"""How many budgets must be learned? K heads per model, and quality interpolated between them (the paper's Eq. 9 and
Figure 6).
"""

from __future__ import annotations

import math
from typing import ClassVar

import msgspec
import numpy as np

from r2router.errors import DataError
from r2router.evaluation.contenders import Contender, Unsaved, attempt, comparable, needed
from r2router.evaluation.experiment import Study, failures
from r2router.evaluation.methods import OURS
from r2router.evaluation.tables_and_plots import MEANINGS, grid, line, signed
from r2router.metrics.score import compare
from r2router.pool.pool import Pool
from r2router.predict import Learner, Predictor
from r2router.report.findings import Findings, Plot, Section
from r2router.table.table import Table
from r2router.types import Arm, FloatArray, Forecast, IntArray

QUESTION = "How many budgets of each LLM must be learned, if those between are interpolated?"


class Interpolated(msgspec.Struct, frozen=True):
    """A learner that sees `anchors` budgets of each model, evenly spread and with both ends, and interpolates the
    others.
    """

    learner: Learner
    anchors: int

    def fit(self, x: FloatArray, table: Table) -> Predictor:
        seen = anchor_arms(table.pool, self.anchors)
        inner = self.learner.fit(x, table.with_arms([table.arms[i] for i in seen]))
        return Between(table.arms, inner, *neighbours(table.pool, seen))


class Between(Unsaved):
    """Forecasts of every arm from those of the anchors: `share` of the upper neighbour, the rest of the lower one."""

    kind: ClassVar[str] = "interpolated"

    def __init__(
        self, arms: tuple[Arm, ...], inner: Predictor, lower: IntArray, upper: IntArray, share: FloatArray
    ) -> None:
        self.arms = arms
        self._inner = inner
        self._lower = lower
        self._upper = upper
        self._share = share

    def predict(self, x: FloatArray) -> Forecast:
        known = self._inner.predict(x)
        arrays = (known.quality, known.tokens, known.spread)
        return Forecast.of(
            self.arms, *(a[:, self._lower] * (1 - self._share) + a[:, self._upper] * self._share for a in arrays)
        )


def anchor_arms(pool: Pool, anchors: int) -> IntArray:
    """Return the arms that are learned: of each model `anchors` budgets, evenly spread over its budgets in their order,
    both ends among them.
    """
    chosen = []
    for model in range(len(pool.models)):
        arms = np.flatnonzero(pool.model_of_arm == model)
        picked = np.unique(np.round(np.linspace(0, len(arms) - 1, min(anchors, len(arms)))).astype(np.intp))
        chosen.append(arms[picked])
    return np.concatenate(chosen)


def neighbours(pool: Pool, anchors: IntArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Find, for each arm, the anchors below and above it (indices of the anchors), and its position between them (0 to
    1).

    Where all budgets of a model are numbers of tokens, the position is in tokens (Eq. 9); otherwise budgets are equally
    far apart in their order.
    """
    lower = np.zeros(len(pool), np.intp)
    upper = np.zeros(len(pool), np.intp)
    share = np.zeros(len(pool))
    for model in range(len(pool.models)):
        arms = np.flatnonzero(pool.model_of_arm == model)
        tokens = pool.budget_tokens[arms]
        at = (
            tokens
            if np.isfinite(tokens).all() and (np.diff(tokens) > 0).all()
            else np.arange(len(arms), dtype=np.float64)
        )
        own = np.flatnonzero(np.isin(anchors, arms))
        place = at[np.searchsorted(arms, anchors[own])]
        above = np.clip(np.searchsorted(place, at, side="left"), 0, len(own) - 1)
        below = np.where(place[above] == at, above, np.maximum(above - 1, 0))
        width = place[above] - place[below]
        lower[arms], upper[arms] = own[below], own[above]
        share[arms] = np.divide(at - place[below], width, out=np.zeros(len(arms)), where=width > 0)
    return lower, upper, share


def run(study: Study) -> Findings:
    """Ours with 2, 3, 4, 6, 8, ... heads per model. Raises `DataError` where no model has three budgets."""
    data, plan = study.data, study.plan
    maximum = max(len(m.budgets) for m in data.table.pool.models)
    if maximum < 3:
        raise DataError("no model of this table has three budgets: there is nothing between two anchors to interpolate")
    counts = [k for k in (2, 3, 4, 6, 8, 12, 16, 24, 32) if k < maximum]
    contenders = [Contender(f"{k} heads per model", Interpolated(study.learner, k)) for k in counts]
    folds = plan.folds_of(data)
    tried = attempt([Contender(OURS, study.learner), *contenders], data, folds, study.progress)
    needed(tried[0])
    found = comparable(tried, data, folds)
    result = compare(found, data.outcomes, plan.resamples, 0, base=OURS, progress=study.progress)
    order = [c.name for c in contenders if c.name in found] + [OURS]
    x = [*(k for k, c in zip(counts, contenders, strict=True) if c.name in found), maximum]
    areas = [result.figures[name]["area"] for name in order]
    plot = Plot(
        "Area over heads per model", "budgets learned of each LLM", "area over log cost", (line("ours", x, areas),)
    )
    rows = {(f"all {maximum} budgets" if name == OURS else name): result.figures[name] for name in order}
    differences = {name: result.differences[name] for name in order if name != OURS}
    answers = [f"All budgets minus {name}: area {signed(row['area'])}." for name, row in differences.items()]
    enough = next((name for name in order if name == OURS or differences[name]["area"].low <= 0), OURS)
    if math.isnan(areas[-1].value):
        answers = [
            (
                "Areas are not available: fewer than two arms of different cost were observed on nearly all queries, or one"
                " is free."
            )
        ]
    elif enough == OURS:
        answers.insert(0, "Every budget that is left out costs something.")
    else:
        answers.insert(0, f"{enough} are as good as all, within the interval.")
    sections = (Section("Heads", (plot, grid("Figures", rows, ("area", "gap_closed", "qnc", "peak"), about=MEANINGS))),)
    return study.findings(
        "anchors", "How many budgets must be learned", QUESTION, answers, sections, notes=failures(tried)
    )
