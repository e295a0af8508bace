"""What each kind of evidence of a cascade is worth: learned again without it, and played on queries that taught
nothing.

70 % of the queries of a table teach (two splits), 30 % are scored. `auc`: how well the chance that an answer is right,
from question and answer, tells right answers from wrong ones, on average over the arms; `from the question` is the
forecast alone. `worth`: mean over twelve values of a correct answer of (quality x value - all that was paid) / value,
less the same of routing alone; its interval is by bootstrap over the scored queries. `heads` compares one head for all
arms with heads of single arms on more splits, at the mean of three cautions: a plan that one split chooses is as much
chance as evidence is. The tables lie in `../shared/data`
and are no part of the project.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from unittest import mock

import measure
from cascade import table_of

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
HEADS = {"tts_knowledge": 8, "simpleqa_verified": 5, "r2bench-mini": 4}
CAUTIONS = (0.4, 0.6, 0.8)


@dataclass(frozen=True)
class _Split:
    """One split of a table. data: what teaches. whole: the answers that are played. y: embeddings of their questions."""

    data: Any
    whole: Any
    y: Floats

    @classmethod
    def of(cls, args: argparse.Namespace) -> _Split:
        import msgspec
        import numpy as np

        import r2router as r2
        from r2router.cascade.learn import Training
        from r2router.cascade.replay import AnswerFeatures
        from r2router.encode import count_tokens, embed, load_encoder
        from r2router.evaluation.cascades import played
        from r2router.evaluation.router_forecasts import forecast_table
        from r2router.metrics.score import Outcomes
        from r2router.predict.crossval import fold_of, out_of_fold

        table = table_of(args.table)
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
        return cls(data, whole, np.asarray(y[judged.rows], dtype=np.float32))

    def game(self, kind: str) -> Any:
        """The scored queries with evidence that was learned without one kind."""
        import numpy as np

        import r2router as r2
        from r2router.cascade import learn
        from r2router.cascade.replay import ratios

        shown = 0.0 if kind == OTHERS[1] else 1.0
        data = replace(self.data, x=self.data.x * np.float32(shown), seen=_without(self.data.seen, kind))
        with ExitStack() as patched:
            if kind == OTHERS[2]:  # no arm has answers enough for a head of its own
                patched.enter_context(mock.patch.object(learn, "_MIN_EACH", np.inf))
            if kind == OTHERS[3]:
                patched.enter_context(mock.patch.object(learn, "_links", lambda evidence, *_: evidence))
            evidence, said = learn.learn(r2.Cascade(), data)
        assert evidence is not None, said
        own = _without(self.whole.seen, kind)
        ratio = ratios(evidence, self.y * np.float32(shown), self.whole.quality, own)
        return replace(self.whole, evidence=evidence, seen=own, ratio=ratio)


def _without(seen: Any, kind: str) -> Any:
    """The answers as if they did not show that."""
    import numpy as np

    from r2router.cascade.signals import NAMES

    if kind in KINDS:
        hidden = seen.numbers.copy()
        hidden[:, :, [NAMES.index(name) for name in KINDS[kind]]] = 0.0
        return replace(seen, numbers=hidden)
    if kind == OTHERS[0]:
        return replace(seen, words=np.zeros_like(seen.words), value=np.zeros_like(seen.value))
    return seen


def _worth(game: Any) -> Floats:
    """(n,) what looking is worth, less routing alone."""
    from r2router.cascade.value import Terms

    def reached(most: int | None) -> Floats:
        found = game.settings([game.play(Terms(usd), maximum=most) for usd in game.dollars.tolist()])
        worth: Floats = (found.quality - found.cost / game.dollars[:, None]).mean(axis=0)
        return worth

    return reached(None) - reached(1)


def scored(args: argparse.Namespace) -> measure.Figures:
    """One split of one table: everything, and everything but one kind."""
    import numpy as np

    split = _Split.of(args)

    def figures(kind: str) -> tuple[measure.Figures, Floats]:
        game = split.game(kind)
        worth = _worth(game)
        return {"auc": _auc(game), "worth": float(worth.mean()), "looks": game.evidence.plan.active}, worth

    found: measure.Figures = {}
    rng, n = np.random.default_rng(0), len(split.whole.usable)
    draws = rng.multinomial(n, np.full(n, 1 / n), size=400) / n
    found["everything"], full = figures("")
    found["everything"] |= _interval(draws @ full)
    for kind in (*KINDS, *OTHERS):
        found[kind], part = figures(kind)
        found[kind]["lost"] = {"value": float((full - part).mean())} | _interval(draws @ (full - part))
    found["from the question"] = {"auc": _auc(replace(split.whole, ratio=np.zeros_like(split.whole.ratio)))}
    return {"queries": n, "arms": int((split.whole.usable.mean(axis=0) > 0.9).sum()), **found}


def heads(args: argparse.Namespace) -> measure.Figures:
    """One split of one table: one head for all arms less heads of single arms, with the same plans, which look."""
    import msgspec
    import numpy as np

    from r2router.cascade import learn
    from r2router.cascade.evidence import log_odds, probability

    plan_later = mock.patch.object(learn, "_plan", lambda evidence, *_: (evidence, ""))  # it is chosen below
    with plan_later:
        split = _Split.of(args)
    found, worth = {}, {}
    for name, kind in (("single arms too", ""), ("one for all", OTHERS[2])):
        with plan_later:
            game = split.game(kind)
        plans = [msgspec.structs.replace(game.evidence.plan, active=True, caution=c, ahead=0.0) for c in CAUTIONS]
        worth[name] = np.mean(
            [_worth(replace(game, evidence=replace(game.evidence, plan=plan))) for plan in plans], axis=0
        )
        p = probability(log_odds(np.nan_to_num(game.quality)) + game.ratio)[game.usable]
        right = game.right[game.usable]
        loss = -(right * np.log(p) + (1 - right) * np.log(1 - p))
        found[name] = {"auc": _auc(game), "log_loss": float(loss.mean()), "worth": float(worth[name].mean())}
    more = worth["one for all"] - worth["single arms too"]
    error = float(more.std() / np.sqrt(len(more)))
    return {"queries": len(more), **found, "one for all less single": {"value": float(more.mean()), "error": error}}


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
    figures["heads"] = {table: _heads(run, table, splits) for table, splits in HEADS.items()}
    return figures


def _heads(run: measure.Run, table: str, splits: int) -> measure.Figures:
    seeds = range(1 if run.args.small else splits)
    found = [run.case("heads", "--table", table, "--seed", seed, threads=1) for seed in seeds]
    more = [one["one for all less single"]["value"] for one in found if "failed" not in one]
    mean = sum(more) / max(len(more), 1)
    error = (sum((v - mean) ** 2 for v in more) / max(len(more) - 1, 1) / max(len(more), 1)) ** 0.5
    print(f"{table}: one head for all arms less heads of single arms {mean:+.4f} (standard error {error:.4f})")
    return {"one for all less single": {"value": mean, "error": error, "splits": len(more)}, "splits": found}


def configure(parser: argparse.ArgumentParser) -> None:
    """What a case is of."""
    parser.add_argument("--table", choices=HEADS, help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)


if __name__ == "__main__":
    measure.run(__file__, __doc__, {"scored": scored, "heads": heads}, drive, configure)
