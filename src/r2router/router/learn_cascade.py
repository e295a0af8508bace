"""The evidence of a router, from the table that it is trained on."""

from __future__ import annotations

import numpy as np

from r2router.cascade.evidence import Evidence
from r2router.cascade.learn import Training, learn
from r2router.cascade.replay import AnswerFeatures
from r2router.cascade.resume import Resumes
from r2router.cascade.spec import Cascade
from r2router.errors import ConfigError, DataError
from r2router.metrics.score import Outcomes
from r2router.table.table import Table
from r2router.types import FloatArray, Forecast, IntArray, Progress

NO_ANSWERS = "the table has no answers (column response): no cascade, the router decides alone"
FEW_FOLDS = (
    "a cascade needs forecasts of left-out queries, and there are too few queries or folds: no cascade, the router"
    " decides alone"
)


def learned(
    spec: Cascade,
    x: FloatArray,
    table: Table,
    forecast: Forecast,
    outcomes: Outcomes,
    fold: IntArray,
    progress: Progress | None,
) -> tuple[Evidence | None, str]:
    """Return (the evidence, what the card says of it).

    forecast: of left-out queries, with cost.

    Raises `DataError` where a source is gone.
    """
    if table.responses is None or not len(table.responses):
        return None, NO_ANSWERS
    seen = AnswerFeatures.read(
        table.queries, table.responses, table.output_tokens, forecast.tokens, spec.check, progress
    )
    if not seen.there.any():
        return None, NO_ANSWERS
    resumes = None
    if spec.continue_answers:
        resumes = Resumes.of(
            table.pool, tuple(table.controls.get(arm, "") for arm in table.arms) if table.controls else ()
        )
        if resumes is None:
            raise ConfigError(
                "Cascade(continue_answers=True): no arm of the table goes on from another one's answer: that takes two"
                " budgets of a model under the control prefix_sharing"
            )
    if seen.there.shape != forecast.quality.shape:
        raise DataError("the places of the answers do not fit the table; read it again")
    vectors = np.asarray(x, dtype=np.float32)
    data = Training(
        table.arms,
        vectors,
        quality=outcomes.quality,
        cost=outcomes.cost,
        forecast=forecast.quality,
        price=forecast.cost,
        fold=fold,
        seen=seen,
        tokens=table.output_tokens,
        expected_tokens=forecast.tokens,
        resumes=resumes,
    )
    return learn(spec, data)
