"""What each kind of evidence of a cascade is worth: learned again without it, and played on queries that taught
nothing.

70 % of the queries of a table teach (two splits), 30 % are scored. `auc`: how well the chance that an answer is right,
from question and answer, tells right answers from wrong ones, on average over the arms; `from the question` is the
forecast alone. `worth`: mean over twelve values of a correct answer of (quality x value - all that was paid) / value,
less the same of routing alone; its interval is by bootstrap over the scored queries. The tables lie in `../shared/data`
and are no part of the project.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import measure
from cascade import _table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.floating[Any]]

TABLES, SEEDS = ("tts_knowledge", "simpleqa_verified"), (0, 1)
KINDS: dict[str, tuple[str, ...]] = {
    "length and tokens": ("log characters", "log words", "log tokens", "tokens over forecast", "tokens above forecast"),
    "words of doubt and refusal": ("doubts", "doubt", "refusal"),
    "form: new words, digits, lines, emphasis, marks": (
        "new words",
        "digits",
        "log digits",
        "lines",
        "emphasis",
        "marked answer",
    ),
    "whether it was cut": ("cut",),
}
OTHERS = (
    "agreement with other answers",
    "the question's embedding",
    "heads of single arms",
    "what it says of other arms",
)


def scored(args: argparse.Namespace) -> measure.Figures:
    """One split of one table: everything, and everything but one kind."""
    import msgspec
    import numpy as np

    import r2router as r2
    from r2router.cascade.learn import Training, learn
    from r2router.cascade.replay import AnswerFeatures, ratios
    from r2router.cascade.signals import NAMES
    from r2router.cascade.value import Terms
    from r2router.encode import count_tokens, embed, load_encoder
    from r2router.evaluation.cascades import Played, played
    from r2router.evaluation.router_forecasts import forecast_table
    from r2router.metrics.score import Outcomes
    from r2router.predict.crossval import fold_of, out_of_fold

    table = _table(args.table)
    if args.small:
        table = table.take(np.arange(120))
    train, test = table.split(test=0.3, seed=args.seed)
    x, y = (embed(load_encoder("minilm"), part.queries) for part in (train, test))
    recipe = r2.Recipe(cascade=True, resamples=0)
    learner = recipe.learner.chosen(x, train)  # type: ignore[attr-defined]
    router = msgspec.structs.replace(recipe, learner=learner).fit(train, x)
    forecast, fold = out_of_fold(learner, x, train, 5, 0), fold_of(train.queries, 5, 0)
    estimates = router.input_tokens.estimate(count_tokens(train.queries))
    outcomes = Outcomes.of(train.arms, train.quality, train.cost(estimates))
    assert train.responses is not None
    seen = AnswerFeatures.read(train.queries, train.responses, train.output_tokens, forecast.tokens)
    price = train.pool.cost(estimates, forecast.tokens)
    given = (outcomes.quality, outcomes.cost, forecast.quality, price, fold)
    data = Training(train.arms, np.asarray(x, dtype=np.float32), *given, seen, train.output_tokens, forecast.tokens)
    judged = forecast_table(router, test, y)
    whole, why = played(router, judged, y[judged.rows])
    assert whole is not None, why

    def without(numbers: AnswerFeatures, kind: str) -> AnswerFeatures:
        """The answers as if they did not show that."""
        if kind in KINDS:
            hidden = numbers.numbers.copy()
            hidden[:, :, [NAMES.index(name) for name in KINDS[kind]]] = 0.0
            return replace(numbers, numbers=hidden)
        return (
            replace(numbers, words=np.zeros_like(numbers.words), value=np.zeros_like(numbers.value))
            if kind == OTHERS[0]
            else numbers
        )

    def figures(kind: str) -> tuple[measure.Figures, Floats]:
        vectors = np.zeros_like(data.x) if kind == OTHERS[1] else data.x
        evidence, said = learn(r2.Cascade(), replace(data, x=vectors, seen=without(data.seen, kind)))
        assert evidence is not None, said
        if kind == OTHERS[2]:
            evidence = replace(evidence, bias=np.full_like(evidence.bias, np.nan))
        if kind == OTHERS[3]:
            evidence = replace(evidence, beta=np.eye(len(evidence.arms)))
        own = without(whole.seen, kind)
        z = np.asarray(y[judged.rows], dtype=np.float32) * (kind != OTHERS[1])
        game = replace(whole, evidence=evidence, seen=own, ratio=ratios(evidence, z, whole.quality, own))
        worth = _worth(game, [game.play(Terms(usd)) for usd in game.dollars.tolist()])
        worth = worth - _worth(game, [game.play(Terms(usd), most=1) for usd in game.dollars.tolist()])
        return {"auc": _auc(game), "worth": float(worth.mean()), "looks": evidence.plan.active}, worth

    def _worth(game: Played, runs: list[Any]) -> Floats:
        found = game.settings(runs)
        return (found.quality - found.cost / game.dollars[:, None]).mean(axis=0)

    found: measure.Figures = {}
    rng, n = np.random.default_rng(0), len(whole.usable)
    draws = rng.multinomial(n, np.full(n, 1 / n), size=400) / n
    found["everything"], full = figures("")
    found["everything"] |= _interval(draws @ full)
    for kind in (*KINDS, *OTHERS):
        found[kind], part = figures(kind)
        found[kind]["lost"] = {"value": float((full - part).mean())} | _interval(draws @ (full - part))
    found["from the question"] = {"auc": _auc(replace(whole, ratio=np.zeros_like(whole.ratio)))}
    return {"queries": n, "arms": int((whole.usable.mean(axis=0) > 0.9).sum()), **found}


def _interval(draws: Floats) -> measure.Figures:
    import numpy as np

    low, high = np.quantile(draws, (0.025, 0.975))
    return {"low": float(low), "high": float(high)}


def _auc(game: Any) -> float:
    """Mean over the arms: how often a correct answer has a higher chance than a wrong one."""
    import numpy as np

    from r2router.cascade.evidence import log_odds

    chance, found = log_odds(np.nan_to_num(game.quality)) + game.ratio, []
    for arm in range(chance.shape[1]):
        at = game.usable[:, arm]
        right, own = game.right[at, arm] > 0.5, chance[at, arm]
        if min(right.sum(), (~right).sum()) >= 10:
            above = own[right][:, None] - own[~right]
            found.append(float((above > 0).mean() + 0.5 * (above == 0).mean()))
    return float(np.mean(found)) if found else float("nan")


def drive(run: measure.Run) -> measure.Figures:
    """Both tables and splits."""
    if not (measure.SHARED / "data").is_dir():
        print("cascade_evidence: the outcome tables (../shared/data) are not here; nothing was measured")
        return {"skipped": "the outcome tables are not here"}
    figures: measure.Figures = {}
    for table in TABLES:
        for seed in SEEDS[: 1 if run.args.small else None]:
            found = figures[f"{table}, split {seed}"] = run.case("scored", "--table", table, "--seed", seed, threads=1)
            print(f"{table}, split {seed}:")
            for kind, row in found.items():
                print(f"  {kind}: {row}")
    return figures


def configure(parser: argparse.ArgumentParser) -> None:
    """What a case is of."""
    parser.add_argument("--table", choices=TABLES, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)


if __name__ == "__main__":
    measure.run(__file__, __doc__, {"scored": scored}, drive, configure)
