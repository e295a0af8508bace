"""What could be had at most: an oracle that sees curves against one that sees points (the paper's Figure 3)."""

from __future__ import annotations

import math

import numpy as np

from r2router.errors import DataError
from r2router.evaluation.experiment import Study
from r2router.evaluation.tables_and_plots import MEANINGS, as_much, deferral_plot, grid, signed
from r2router.metrics.score import FixedArms, Method, Routed, compare, one_budget_each
from r2router.report.findings import Findings, Section

QUESTION = "How much is there to gain from budgets, whatever the router?"

_CURVES = "oracle on (model, budget)"
_POINTS = "oracle on models at their best budget"
_BRIEF = "oracle on models at their cheapest budget"


def run(study: Study) -> Findings:
    """Oracles on all arms, on one budget per LLM, and the mixture of fixed arms."""
    outcomes = study.data.outcomes
    best, brief = one_budget_each(outcomes), one_budget_each(outcomes, "cheapest")
    everywhere = outcomes.seen[:, best].any(axis=1) & outcomes.seen[:, brief].any(axis=1)
    left = int((~everywhere).sum())
    # an oracle on models must have one of each query
    outcomes = outcomes.take(np.flatnonzero(everywhere)) if left else outcomes
    if not len(best):
        raise DataError("no arm was observed on 95 % of the queries: one budget per LLM cannot be chosen")
    found: dict[str, Method] = {
        _CURVES: Routed.oracle(outcomes),
        _POINTS: Routed.oracle(outcomes, best),
        _BRIEF: Routed.oracle(outcomes, brief),
        "fixed known": FixedArms(outcomes, outcomes.fixed_arms()),
    }
    result = compare(found, outcomes, study.plan.resamples, 0, base=_CURVES)
    gap = result.differences[_POINTS]
    answers = (
        ["No model has two budgets: an oracle on curves is an oracle on points."]
        if len(best) == len(outcomes.arms)
        else []
    )
    if not math.isnan(gap["area"].value):
        answers.append(
            f"An oracle that may choose budgets is {signed(gap['area'])} above one that may only choose models (area"
            " over log cost)."
        )
    if not math.isnan(gap["cheaper"].value):
        answers.append(f"At 95 % of the best LLM's quality the one on models costs {as_much(gap['cheaper'])} as much.")
    if not answers:
        answers = [
            (
                "What budgets gain cannot be said: fewer than two arms of different cost were observed on nearly all"
                " queries, or all are free."
            )
        ]
    parts = (
        deferral_plot(result, list(found), outcomes, "What an oracle gets"),
        grid("Figures", result.figures, ("area", "audc", "qnc", "qnc_100", "peak", "cost_at_keep"), about=MEANINGS),
    )
    notes = [
        "an oracle picks the luckiest arm of each query: where outcomes are single noisy answers, nobody can reach it"
    ]
    if left:
        notes.append(
            f"{left:,} queries are left out, on which no model was observed at its best or its cheapest budget"
        )
    return study.findings(
        "oracle", "Curves against points", QUESTION, answers, (Section("Oracles", parts),), notes=notes
    )
