"""Scorers: what an answer is worth, found here and now. LLM judges are in `r2router.bench.judging`."""

from r2router.bench.scoring.registry import (
    NEED_REFERENCE,
    SANDBOXED,
    SCORERS,
    TRUSTING,
    check_choice,
    sandbox_in_force,
    scorer_named,
)

__all__ = ["NEED_REFERENCE", "SANDBOXED", "SCORERS", "TRUSTING", "check_choice", "sandbox_in_force", "scorer_named"]
