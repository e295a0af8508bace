"""The default learner: the one that the table deserves, by its shape and by what its decisions are worth.

A table on which some arm was seen nearly everywhere is dense, and gets `Blend`. On one that is sparse in blocks
(several tasks, each with arms of its own) `Blend` and `Domains` are fitted on two thirds of the queries, and the one
whose decisions are worth more on the rest, over the mixture of fixed arms of each task, is fitted on all. A very large
sparse table gets `Domains`: there it was measured to be better (`docs/experiments.md`), and `Blend`, which fills the
gaps, would take longer than is worth it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from r2router.metrics.by_task import gaps, task_means
from r2router.metrics.methods import Means, Outcomes
from r2router.predict import Learner, Predictor
from r2router.predict.blend import Blend
from r2router.predict.crossval import fold_of
from r2router.predict.domains import Domains
from r2router.types import FloatArray, IntArray

if TYPE_CHECKING:
    from r2router.table.table import Table

_FOLDS = 3
_MAX_CELLS = (
    1_000_000  # queries x arms; beyond, `Blend` takes many minutes, and on a small sample the two cannot be compared
)


class Automatic(msgspec.Struct, frozen=True, tag="automatic", tag_field="learner", forbid_unknown_fields=True):
    """`Blend` on a dense table, and on a sparse one the better of `Blend` and `Domains`.

    seed: of the two, and of the queries on which they are compared.
    """

    seed: int = 0

    def fit(self, x: FloatArray, table: Table) -> Predictor:
        return self.chosen(x, table).fit(x, table)

    def chosen(self, x: FloatArray, table: Table) -> Learner:
        """Return the learner for this table."""
        dense: Learner = Blend(seed=self.seed)
        sparse: Learner = Domains(seed=self.seed)
        outcomes = Outcomes.of(table.arms, table.quality, table.quality)
        if len(outcomes.fixed_arms()) or len(set(table.tasks)) < 2:
            return dense
        if any(m.usd_per_million is None for m in table.pool.models) or table.quality.size > _MAX_CELLS:
            return sparse
        fold = fold_of(table.queries, _FOLDS, self.seed)
        rest, own = np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)
        if not len(own) or not len(rest):
            return sparse
        worth = [self._worth(learner, x, table, rest, own) for learner in (sparse, dense)]
        return dense if worth[1] > worth[0] else sparse

    def _worth(self, learner: Learner, x: FloatArray, table: Table, rest: IntArray, own: IntArray) -> float:
        """Return what the learner's decisions on `own` are worth over the mixture of each task, where it learns from
        `rest`.
        """
        known, asked = table.take(rest), table.take(own)
        forecast = learner.fit(x[rest], known).predict(x[own])
        inputs = np.nan_to_num(asked.input_tokens)
        cost = asked.pool.cost(inputs, forecast.tokens)
        means = Means(
            *(task_means(forecast.quality, asked.tasks, v, known.tasks) for v in (known.quality, known.cost()))
        )
        outcomes = Outcomes.of(asked.arms, asked.quality, asked.cost())
        value = gaps(asked.tasks, forecast.quality, cost, outcomes, means, 0, self.seed).mean.value
        return -np.inf if np.isnan(value) else float(value)
