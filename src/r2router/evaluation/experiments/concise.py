"""The constraint given to reactive baselines: what if they, too, tell every LLM to be brief?"""

from __future__ import annotations

from r2router.evaluation.experiment import Study
from r2router.evaluation.experiments.main import against
from r2router.report.findings import Findings

QUESTION = "Is the gain only that answers are shorter? Here every baseline has each LLM at its cheapest budget."


def run(study: Study) -> Findings:
    """Ours beside baselines that have each LLM at the cheapest budget in training."""
    return against(study, "concise", "Baselines that are told to be brief", QUESTION, "concise")
