"""The methods that are compared: our learner and the paper's baselines, each with one budget per LLM (as published) and
with the same arms as ours.
"""

from __future__ import annotations

from r2router.baselines import MIRT, NIRT, CarrotKNN, CarrotLinear, Clusters, MatrixFactorisation, Random, UniRouter
from r2router.evaluation.contenders import Contender, Form
from r2router.predict import Learner
from r2router.router.recipe import Recipe

OURS = "ours"
ONE_BUDGET = "ours, one budget per LLM"
SAME_ARMS = " on the same arms"

BASELINES: dict[str, Learner] = {
    "CARROT-KNN (k = 5)": CarrotKNN(k=5),
    "CARROT-KNN (k = 256)": CarrotKNN(k=256),
    "CARROT-KNN (k by cross-validation)": CarrotKNN(k=0),
    "CARROT-Linear": CarrotLinear(),
    "MIRT": MIRT(),
    "NIRT": NIRT(),
    "NIRT (every epoch)": NIRT(early_stopping=False),
    "UniRouter": UniRouter(),
    "RouteLLM-style MF": MatrixFactorisation(),
    "Avengers-Pro-style clusters": Clusters(),
    "Avengers-Pro-style clusters (25, nearest 3)": Clusters(clusters=25, nearest=3),
    "random": Random(),
}

PUBLISHED, ON_SAME_ARMS = "published form", "same arms"
GROUPS: dict[str, list[str]] = {PUBLISHED: list(BASELINES), ON_SAME_ARMS: [name + SAME_ARMS for name in BASELINES]}
"""The baselines' names in either form: a claim about the best of a group finds the best again in every bootstrap draw.
"""


def ours(learner: Learner | None = None) -> Contender:
    """Our learner on every arm."""
    return Contender(OURS, learner or Recipe().learner)


def published(form: Form = "one budget") -> list[Contender]:
    """Return the baselines with one budget per LLM, as they were published."""
    return [Contender(name, learner, form) for name, learner in BASELINES.items()]


def same_arms() -> list[Contender]:
    """Return the baselines on the (model, budget) arms that ours has."""
    return [Contender(name + SAME_ARMS, learner) for name, learner in BASELINES.items()]


def everybody(learner: Learner | None = None) -> list[Contender]:
    """List all methods, ours first."""
    mine = ours(learner)
    return [mine, Contender(ONE_BUDGET, mine.learner, "one budget"), *published(), *same_arms()]
