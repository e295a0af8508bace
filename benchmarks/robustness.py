"""Do decisions hold when a query is written differently but means the same?

Out-of-fold, on the real outcome tables: routers are fitted on the queries as they are and asked about the held-out ones
as they are and with noise. `typo`: one word in twenty, at least one, has two letters swapped, a letter dropped or
doubled (words of letters only, at least four of them). `case`: all upper or all lower case. `filler`: a polite or idle
phrase in front, often another behind.

`unchanged` is the share of queries that keep their arm, on average over nine values of a correct answer (tenths of the
values at which decisions change), and at the router's own policy; `area` the change of mean quality over log cost. Mean
over five seeds of folds; 95 % intervals by bootstrap over queries. The tables lie in `../shared/data` and are no part
of the project.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import measure
import quality

if TYPE_CHECKING:
    import numpy as np

    from r2router.metrics.score import Outcomes, Routed
    from r2router.predict import Learner
    from r2router.table.table import Table

FRONT = ("Um, ", "Please, ", "Hi! ", "Quick question: ", "So, ", "Well, ")
BEHIND = (" Thanks!", " Please.", " Thank you.", "")


def typo(text: str, rng: np.random.Generator) -> str:
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    for i in rng.permutation(long)[: max(1, round(len(words) / 20))]:
        word, at = words[i], int(rng.integers(1, len(words[i]) - 1))
        swapped = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
        words[i] = (swapped, word[:at] + word[at + 1 :], word[: at + 1] + word[at:])[rng.integers(3)]
    return " ".join(words)


def case(text: str, rng: np.random.Generator) -> str:
    return text.upper() if rng.random() < 0.5 else text.lower()


def filler(text: str, rng: np.random.Generator) -> str:
    return FRONT[rng.integers(len(FRONT))] + text + BEHIND[rng.integers(len(BEHIND))]


NOISE: dict[str, Callable[[str, np.random.Generator], str]] = {"typo": typo, "case": case, "filler": filler}


def judge(args: argparse.Namespace) -> measure.Figures:
    """One table."""
    import numpy as np

    from r2router.encode import count_tokens
    from r2router.metrics.score import FixedArms, Outcomes
    from r2router.predict.input_tokens import InputTokens
    from r2router.predict.linear import Ridge
    from r2router.predict.principal import PrincipalRidge
    from r2router.router.recipe import Recipe

    table, seeds, draws = quality.read(args.table), quality.SEEDS, 200
    if args.small:
        table, seeds, draws = table.take(np.random.default_rng(0).permutation(len(table))[:150]), 2, 20
    vectors, n = _vectors(table.queries), len(table)
    counts = count_tokens(table.queries)
    inputs = InputTokens.fit(counts, table).estimate(counts)
    outcomes = Outcomes.of(table.arms, table.quality, table.cost(inputs))
    fixed = FixedArms(outcomes, outcomes.fixed_arms())
    rng = np.random.default_rng(0)
    weights = [np.ones(n), *(rng.multinomial(n, np.full(n, 1 / n)).astype(np.float64) for _ in range(draws))]
    figures: measure.Figures = {
        "queries": n,
        "cosine": {k: float((v * vectors["none"]).sum(axis=1).mean()) for k, v in vectors.items()},
    }
    for name, learner in {
        "default": Recipe().learner,
        "principal": PrincipalRidge(),
        "ridge": Ridge(alpha=30.0),
    }.items():
        routed = [_routed(learner, table, vectors, inputs, outcomes, seed) for seed in range(seeds)]
        area = {
            kind: np.array([quality.figures_of([r[kind] for r in routed], fixed, w)[0] for w in weights])
            for kind in vectors
        }
        figures[name] = {}
        for kind in NOISE:
            kept = np.mean([_kept(r["none"], r[kind], outcomes) for r in routed], axis=0)
            shares = np.array([w @ kept / w.sum() for w in weights])
            columns = {"unchanged": shares[:, 0], "unchanged_own": shares[:, 1], "area": area[kind] - area["none"]}
            figures[name][kind] = {key: _figure(values) for key, values in columns.items()}
    return figures


def _vectors(texts: Sequence[str]) -> dict[str, Any]:
    """Embeddings of the texts as they are ("none") and with each noise."""
    import numpy as np

    from r2router.encode import load_encoder

    encoder = load_encoder("minilm")
    vectors = {"none": encoder.encode(texts)}
    for kind, change in NOISE.items():
        rng = np.random.default_rng(0)
        vectors[kind] = encoder.encode([change(text, rng) for text in texts])
    return vectors


def _routed(
    learner: Learner, table: Table, vectors: dict[str, Any], inputs: Any, outcomes: Outcomes, seed: int
) -> dict[str, Routed]:
    """The curve of out-of-fold forecasts under each noise; fitted without any."""
    import numpy as np

    from r2router.metrics.score import Routed
    from r2router.predict.crossval import fold_of

    fold = fold_of(table.queries, quality.FOLDS, seed)
    cells = {kind: np.full((2, *table.quality.shape), np.nan) for kind in vectors}
    for held_out in range(quality.FOLDS):
        rest, own = np.flatnonzero(fold != held_out), np.flatnonzero(fold == held_out)
        predictor = learner.fit(vectors["none"][rest], table.take(rest))
        for kind, x in vectors.items():
            forecast = predictor.predict(x[own])
            cells[kind][:, own] = forecast.quality, forecast.tokens
    return {kind: Routed.of(q, table.pool.cost(inputs, tokens), outcomes) for kind, (q, tokens) in cells.items()}


def _kept(clean: Routed, noisy: Routed, outcomes: Outcomes) -> Any:
    """(n, 2) the share of nine values at which a query keeps its arm, and whether it does at the router's own
    policy.
    """
    import numpy as np

    from r2router.metrics.calibrate import for_quality
    from r2router.metrics.score import KEEP

    values = np.quantile(clean.sweep.value, np.linspace(0.1, 0.9, 9))
    best = float(np.nanmean(outcomes.quality[:, outcomes.fixed_arms()], axis=0).max())
    # on few queries less than what is to be kept
    reached = float(clean.points(np.ones(len(outcomes.quality)))[1].max())
    own = for_quality(clean.sweep, np.nan_to_num(outcomes.quality), min(KEEP * best, reached)).usd
    same = [clean.sweep.at(v) == noisy.sweep.at(v) for v in (*values, own)]
    return np.stack([np.mean(same[:-1], axis=0), same[-1]], axis=1)


def _figure(values: Any) -> dict[str, float | None]:
    import numpy as np

    low, high = np.quantile(values[1:], [0.025, 0.975])
    return {"value": float(values[0]), "low": float(low), "high": float(high)}


def drive(run: measure.Run) -> measure.Figures:
    """Both tables, and what they show."""
    if not (measure.SHARED / "data").is_dir():
        print("robustness: the outcome tables (../shared/data) are not here; nothing was measured")
        return {"skipped": "the outcome tables are not here"}
    figures = {name: run.case("judge", "--table", name, threads=1) for name in quality.TABLES}
    for name, found in figures.items():
        if "failed" in found:
            print(f"{name}: {found['failed']}")
            continue
        print(f"\n{name}: {found['queries']:,} queries")
        forms = {"unchanged": ".1%", "unchanged_own": ".1%", "area": "+.4f"}
        rows = [
            (learner, kind, *(quality.interval(found[learner][kind][key], form) for key, form in forms.items()))
            for learner in ("default", "principal", "ridge")
            for kind in NOISE
        ]
        measure.table(("learner", "noise", "decisions unchanged", "at its own policy", "area, change"), rows)
    return figures


def configure(parser: argparse.ArgumentParser) -> None:
    """Which table a case is."""
    parser.add_argument("--table", choices=quality.TABLES, help=argparse.SUPPRESS)


if __name__ == "__main__":
    measure.run(__file__, __doc__, {"judge": judge}, drive, configure)
