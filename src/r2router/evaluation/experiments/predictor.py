"""Which learner forecasts the curves best (the paper's Table 3 has MLP heads and LightGBM)."""

from __future__ import annotations

import math

from r2router.evaluation.accuracy import accuracy
from r2router.evaluation.contenders import Contender, Form, attempt, comparable, needed
from r2router.evaluation.experiment import Study, failures, fitting_times
from r2router.evaluation.methods import OURS
from r2router.evaluation.tables_and_plots import MEANINGS, deferral_plot, grid, signed
from r2router.metrics.score import compare
from r2router.predict import Learner
from r2router.report.findings import Findings, Section

QUESTION = "Which learner should forecast the curves?"


def learners() -> dict[str, Learner]:
    """Return what is compared with the default."""
    from r2router.predict.gbdt import GBDT
    from r2router.predict.knn import KNN
    from r2router.predict.linear import Ridge
    from r2router.predict.mlp import MLP

    return {
        "ridge (alpha = 30)": Ridge(alpha=30.0),
        "k nearest neighbours": KNN(),
        "LightGBM": GBDT(),
        "MLP heads (the paper's)": MLP(),
    }


def run(study: Study) -> Findings:
    """The default, ridge, neighbours, LightGBM and the paper's MLP heads, each on all arms and on one budget per
    LLM.
    """
    data, plan = study.data, study.plan
    forms: tuple[Form, ...] = ("arms", "one budget")
    names = {OURS: study.learner, **learners()}
    contenders = [
        Contender(name if form == "arms" else f"{name}, one budget per LLM", learner, form)
        for form in forms
        for name, learner in names.items()
    ]
    folds = plan.folds_of(data)
    tried = attempt(contenders, data, folds, study.progress)
    needed(tried[0])
    found = comparable(tried, data, folds)
    result = compare(found, data.outcomes, plan.resamples, 0, base=OURS, progress=study.progress)
    rows = {t.contender.name: t.failed or result.figures[t.contender.name] for t in tried}
    draws = min(plan.resamples, 100)
    exact = {
        t.contender.name: accuracy(t.forecasts, data.outcomes, data.table.output_tokens, draws, 0)
        for t in tried
        if not t.failed and t.contender.form == "arms"
    }

    shown = [n for n in names if n in found]
    answers = [f"Ours minus {n}: area {signed(result.differences[n]['area'])}." for n in shown if n != OURS]
    for n in shown:
        one = _label(n, "one budget")
        if one in found and not math.isnan(result.figures[one]["area"].value):
            both = compare({n: found[n], one: found[one]}, data.outcomes, plan.resamples, 0, base=n)
            answers.append(f"Budgets as a choice give {n} {signed(both.differences[one]['area'])} of area.")
    sections = (
        Section(
            "Quality and cost",
            (
                deferral_plot(result, [*shown, "fixed", "fixed known", "oracle"]),
                grid("Figures", rows, ("area", "gap_closed", "audc", "qnc", "peak"), [OURS], MEANINGS),
            ),
        ),
        Section(
            "Forecasts",
            (
                grid("Forecasts on all arms", exact, ("ece", "rmse", "token_factor", "token_bias"), [OURS]),
                fitting_times(tried),
            ),
        ),
    )
    return study.findings("predictor", "Which learner", QUESTION, answers, sections, notes=failures(tried))


def _label(name: str, form: Form) -> str:
    return name if form == "arms" else f"{name}, one budget per LLM"
