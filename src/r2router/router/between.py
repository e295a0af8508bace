"""Choices that lie between two budgets of a model, where a cap binds (the paper's Eq. 9)."""

from __future__ import annotations

import numpy as np

from r2router.decide import NO_ARM
from r2router.types import Arm, Choices, FloatArray, IntArray


def named_arms(arms: tuple[Arm, ...], budget_tokens: FloatArray, choices: Choices) -> list[Arm]:
    """Do the work of `Router.chosen_arms`."""
    found = [arms[a] for a in choices.arm.tolist()]
    asked = budget_tokens[choices.arm]
    for i in np.flatnonzero(~np.isnan(choices.budget_tokens) & (choices.budget_tokens != asked)):
        found[i] = Arm.of(found[i].model, str(int(choices.budget_tokens[i])))
    return found


def neighbours_of(budget_tokens: FloatArray, anchors: IntArray, choices: Choices) -> tuple[IntArray, FloatArray]:
    """Do the work of `Router.neighbours`."""
    high = np.arange(len(budget_tokens))
    high[anchors[:, 0]] = anchors[:, 1]
    between = (
        (choices.arm != NO_ARM)
        & ~np.isnan(choices.budget_tokens)
        & (choices.budget_tokens != budget_tokens[choices.arm])
    )
    other = np.where(between, high[choices.arm], choices.arm)
    step = np.where(between, budget_tokens[other] - budget_tokens[choices.arm], 1.0)
    return other, np.where(between, (choices.budget_tokens - budget_tokens[choices.arm]) / step, 0.0)
