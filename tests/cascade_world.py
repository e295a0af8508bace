"""Made-up outcomes with answers, for the tests of cascades."""

from __future__ import annotations

import numpy as np
import polars as pl

import r2router as r2

PRICES = {"small": r2.Prices(0.1, 0.4), "middle": r2.Prices(0.5, 2.0), "large": r2.Prices(3.0, 15.0)}
TOPICS = ("rivers", "kings", "stars", "trains", "bread")


def outcomes(n: int = 240, *, telling: bool = True, seed: int = 0) -> pl.DataFrame:
    """Made-up outcomes in which an arm that does not know says so, or writes of something else."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        hard, topic = rng.random(), TOPICS[i % len(TOPICS)]
        words = " ".join(rng.choice(["old", "long", "north", "third", "blue", "famous", "lost"], 4))
        query = f"Which of the {words} {topic} number {i} is it?"
        for model, skill, tokens in (("small", 0.45, 40), ("middle", 0.65, 60), ("large", 0.85, 80)):
            right = rng.random() < np.clip(skill + 0.6 * (0.5 - hard), 0.02, 0.98)
            name = f"name{i}" if right else f"other{rng.integers(50)}"
            doubt = telling and not right and rng.random() < 0.8
            text = f"I am not sure, it might be {name}." if doubt else f"It is {name}."
            used = float(tokens * (1 + 0.2 * rng.random()) * (3 if doubt else 1))
            rows.append((f"q{i}", query, model, "default", float(right), used, text, "stop"))
    names = ["query_id", "query", "model", "budget", "quality", "output_tokens", "response", "finish_reason"]
    return pl.DataFrame(rows, schema=names, orient="row")


QUESTION = "Which of the old long blue lost kings number 7 is it?"
