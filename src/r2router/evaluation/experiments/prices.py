"""What happens when prices move: by how much decisions change, and what a router loses that does not know the new
prices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import msgspec
import numpy as np

from r2router.evaluation.contenders import EmbeddedTable, Tried, attempt, beside, needed
from r2router.evaluation.experiment import Study
from r2router.evaluation.methods import OURS, ours
from r2router.evaluation.operating_points import operating_point
from r2router.evaluation.tables_and_plots import signed
from r2router.evaluation.verdicts import VERDICTS
from r2router.metrics.intervals import mean
from r2router.metrics.score import Method, compare
from r2router.pool.pool import Pool
from r2router.report.findings import Findings, Grid, GridRow, Section
from r2router.types import FloatArray

QUESTION = "Prices move by half: must the router be trained again?"

_STEP = 0.5
_DRAWS = 5


def run(study: Study) -> Findings:
    """Each model's prices lowered and raised by half, then all at random; forecasts stay, only prices move."""
    data, plan = study.data, study.plan
    folds = plan.folds_of(data)
    tried = needed(attempt([ours(study.learner)], data, folds, study.progress)[0])
    usual = operating_point(tried, data, 0.95, plan.resamples, 0) or operating_point(
        tried, data, 0.9, plan.resamples, 0
    )
    values = usual.values if usual is not None else tuple(float(np.median(r.sweep.value)) for r in tried.routed)
    rows, lost, above = [], [], 0
    moves = _moves(data.table.pool)
    for done, (label, factor) in enumerate(moves):
        unpaid = np.full_like(data.table.cost_usd, np.nan)  # what was paid, was paid at the old prices
        now = data.with_table(replace(data.table, pool=_moved(data.table.pool, factor), cost_usd=unpaid))
        informed = _informed(tried, now)
        same = [a.sweep.at(v) == b.sweep.at(v) for a, b, v in zip(tried.routed, informed.routed, values, strict=True)]
        stale = tried.paid(now.outcomes)
        found: dict[str, Sequence[Method]] = {OURS: informed.routed, "stale": stale.routed, **beside(now, folds)}
        result = compare(found, now.outcomes, min(plan.resamples, 200), 0, base=OURS)
        kept = mean("unchanged", np.mean(same, axis=0), plan.resamples, 0)
        gaps = [
            result.differences[m]["area"] if m in result.differences else None
            for m in ("fixed", "fixed known", "stale")
        ]
        rows.append(GridRow(label, (kept, *gaps)))
        above += result.verdict == "above"
        lost.append(result.differences["stale"]["area"])
        if study.progress is not None:
            study.progress("moving prices", done + 1, len(moves))
    columns = (
        "decisions unchanged",
        "ours minus mixture (area)",
        "ours minus knowing mixture",
        "knowing the prices minus not (area)",
    )
    about = (
        "Decisions at the value of an answer that keeps 95 % of the best LLM's quality at the old prices. Nothing is"
        " fitted again."
    )
    grid = Grid(
        "When prices move", columns, tuple(rows), ("share", "+.3f", "+.3f", "+.4f"), ("", "more", "more", "more"), about
    )
    minimum, maximum = min(lost, key=lambda f: f.value), max(lost, key=lambda f: f.value)
    kept_shares = [row.cells[0].value for row in rows]  # type: ignore[union-attr]
    answers = [
        _still_above(above, len(rows)),
        f"{min(kept_shares):.0%} to {max(kept_shares):.0%} of decisions stay as they were.",
    ]
    if not math.isnan(minimum.value):
        answers.append(
            f"Not knowing the new prices costs between {signed(minimum, '+.4f')} and {signed(maximum, '+.4f')} of area."
        )
    notes = ["costs are those of the tokens used at the moved prices; what a source recorded as paid is not used here"]
    return study.findings("prices", "When prices move", QUESTION, answers, (Section("Moves", (grid,)),), notes=notes)


def _still_above(ahead: int, moves: int) -> str:
    """Return whether routing still pays at the moved prices."""
    side = VERDICTS["above"].side
    if ahead == moves:
        return (
            f"No: prices enter at the decision. Ours stays {side} the mixture of fixed arms in {ahead} of {moves}"
            " moves."
        )
    clear = f"in {ahead} of {moves} moves" if ahead else f"in none of {moves} moves"
    return (
        f"Prices enter at the decision, so nothing is trained again. Ours is {side} the mixture of fixed arms {clear}."
    )


def _moves(pool: Pool) -> list[tuple[str, FloatArray]]:
    """Return (label, (models,) factors of the prices)."""
    moves: list[tuple[str, FloatArray]] = []
    for number, model in enumerate(pool.models):
        for sign in (1 - _STEP, 1 + _STEP):
            factor = np.ones(len(pool.models))
            factor[number] = sign
            moves.append((f"{model.id} {sign - 1:+.0%}", factor))
    rng = np.random.default_rng(0)
    moves.extend(
        (f"all at random, draw {i + 1}", rng.uniform(1 - _STEP, 1 + _STEP, len(pool.models))) for i in range(_DRAWS)
    )
    return moves


def _moved(pool: Pool, factor: FloatArray) -> Pool:
    models = []
    for model, f in zip(pool.models, factor.tolist(), strict=True):
        prices = model.usd_per_million
        assert prices is not None  # noqa: S101 - a table without prices is refused before
        models.append(msgspec.structs.replace(model, usd_per_million=prices.scaled(f)))
    return Pool(models)


def _informed(tried: Tried, now: EmbeddedTable) -> Tried:
    """Return the same forecasts of quality and tokens under the new prices."""
    forecasts = tuple(
        msgspec.structs.replace(f, cost=now.table.pool.cost(now.input_tokens, f.tokens)) for f in tried.forecasts
    )
    return Tried.of(tried.contender, forecasts, now.outcomes)
