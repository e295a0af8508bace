"""Which encoder the router should read the query with (the paper's Table 2 has MiniLM beside Qwen3-Embedding)."""

from __future__ import annotations

from collections.abc import Sequence

from r2router.errors import R2Error
from r2router.evaluation.contenders import Contender, EmbeddedTable, attempt, beside, needed
from r2router.evaluation.experiment import Study, failures
from r2router.evaluation.methods import BASELINES
from r2router.evaluation.tables_and_plots import MEANINGS, deferral_plot, grid, signed
from r2router.metrics.score import Method, compare
from r2router.report.findings import Findings, Section

QUESTION = "Does the encoder matter, and does ours stay ahead whatever it is?"

_RIVAL = "CARROT-Linear"


def run(study: Study) -> Findings:
    """Ours and CARROT-Linear (one budget per LLM) on each encoder: the study's own, wordllama, and those that were
    asked for.
    """
    data, plan = study.data, study.plan
    found: dict[str, Sequence[Method]] = {}
    notes: list[str] = []
    own = data.encoder.id
    specs = [own, *(study.encoders or ("wordllama",))]
    for spec in specs:
        try:
            seen = data if spec == own else EmbeddedTable.of(data.table, study.load(spec), progress=study.progress)
        except R2Error as error:
            notes.append(f"{spec}: not available: {error}")
            continue
        contenders = [
            Contender(f"ours on {spec}", study.learner),
            Contender(f"{_RIVAL} on {spec}", BASELINES[_RIVAL], "one budget"),
        ]
        tried = attempt(contenders, seen, plan.folds_of(seen), study.progress)
        if spec == own:
            needed(tried[0])
        notes += failures(tried)
        found |= {t.contender.name: t.routed for t in tried if not t.failed}
    base = f"ours on {specs[0]}"
    result = compare(
        found | beside(data, plan.folds_of(data)), data.outcomes, plan.resamples, 0, base=base, progress=study.progress
    )
    rows = result.figures
    answers = [f"{base} minus {m}: area {signed(result.differences[m]['area'])}." for m in found if m != base]
    parts = (
        deferral_plot(result, list(rows and result.figures)),
        grid("Figures", rows, ("area", "gap_closed", "audc", "qnc", "peak"), [base], MEANINGS),
    )
    return study.findings(
        "encoder", "Which encoder", QUESTION, answers, (Section("Quality and cost", parts),), notes=notes
    )
