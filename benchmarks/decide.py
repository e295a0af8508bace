"""One decision with the embedding given, through the public `Router.decide`: 11 models x 16 budgets, 1,024 dimensions.

Beside it, in the same process and by turns, the same decision as the paper's released code takes it: head by head, 187
fitted scikit-learn Ridge regressors asked for the one row, then a loop over the arms. Then batches of 100,000, on one
and on two threads.

The routers: `released` has the paper's released heads (the real ones where `../shared/reference` lies beside the
project, else random ones of the same shapes), `ridge` 176 quality and 176 token heads of `Ridge`, `default` what the
default learner makes of the same.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import measure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from r2router.predict.released import ReleasedPredictor
    from r2router.router.router import Router

INPUT_TOKENS = 100.0
LAMBDAS = (0.0, 0.5, 0.9, 0.999, 0.99999)
NAMES = ("released", "ridge", "default")


def prepare(args: argparse.Namespace) -> measure.Figures:
    """Make the routers and save them, so that what measures them loads them as a user would."""
    import msgspec

    from r2router.predict.linear import Ridge
    from r2router.router.recipe import Recipe

    release = measure.SHARED / "reference"
    real = (release / "config.json").exists()
    if not real:
        print("decide: ../shared/reference is not here; random heads of the same shapes stand in", file=sys.stderr)
    (_released(release) if real else _like_released()).save(args.work / "released")
    n = 400 if args.small else 5000
    x = measure.embeddings(n)
    table = measure.paper_table(x, measure.paper_pool())
    default = Recipe().learner
    learners: dict[str, Any] = {"ridge": Ridge()} | ({} if isinstance(default, Ridge) else {"default": default})
    for name, learner in learners.items():
        Recipe(learner=learner, folds=0).fit(table, vectors=x).save(args.work / name)
    return {
        "released_heads": "real" if real else "random",
        "trained_on": n,
        "default_learner": msgspec.to_builtins(default),
    }


def _released(folder: Path) -> Router:
    from r2router.importers.ucf import import_release

    return import_release(folder, faithful=True)


def _like_released() -> Router:
    """A router with random heads in the released layout."""
    import numpy as np

    from r2router.decide import Tradeoff
    from r2router.predict.input_tokens import InputTokens
    from r2router.predict.released import ReleasedPredictor
    from r2router.router.card import Facts
    from r2router.router.router import Router

    pool, rng = measure.paper_pool(), np.random.default_rng(0)
    arms, models = len(pool), len(pool.models)
    weight = rng.normal(0, 0.3, (measure.DIM, arms + models)).astype(np.float32)
    weight[:, arms:] *= 500
    bias = np.concatenate([rng.uniform(0.3, 0.8, arms), rng.uniform(300, 2000, models)])
    unlimited = np.flatnonzero(np.isnan(pool.budget_tokens))
    predictor = ReleasedPredictor(pool.arms, weight, bias, pool.budget_tokens, unlimited, np.zeros(models))
    mean = predictor.predict(np.zeros((1, measure.DIM), np.float32))
    ones, zeros = (1.0,) * arms, (0.0,) * arms
    return Router(
        pool=pool,
        encoder="given:random",
        dim=measure.DIM,
        predictor=predictor,
        policy=Tradeoff(LAMBDAS[-1], scale=1.0),
        scale=1.0,
        input_tokens=InputTokens(ones, zeros, INPUT_TOKENS),
        prior_quality=mean.quality[0],
        prior_tokens=mean.tokens[0],
        in_distribution=None,
        facts=Facts(),
        ties="first",
    )


# -- the decision head by head
# ------------------------------------------------------------------------------------------------


class HeadByHead:
    """The released router as scikit-learn serves it: a fitted `Ridge` for each head, each asked on its own."""

    def __init__(self, router: Router) -> None:
        predictor: ReleasedPredictor = router.predictor  # type: ignore[assignment]
        arms, models = len(router.arms), len(router.pool.models)
        budgets = arms // models
        heads = [_fitted(predictor.weight[:, i], float(predictor.bias[i])) for i in range(arms + models)]
        self.quality = [heads[m * budgets : (m + 1) * budgets] for m in range(models)]
        self.tokens = heads[arms:]
        self.asked = predictor.budget_tokens.reshape(models, budgets).tolist()
        self.price = [
            (p.input / 1e6, p.output / 1e6) for m in router.pool.models if (p := m.usd_per_million) is not None
        ]
        self.count = len(heads)

    def choose(self, x: NDArray[np.float32], lam: float) -> int:
        """The arm for one row (1, d)."""
        best, best_score, arm = -1, -float("inf"), 0
        for m, heads in enumerate(self.quality):
            p_in, p_out = self.price[m]
            unlimited = max(float(self.tokens[m].predict(x)[0]), 0.0)
            for head, asked in zip(heads, self.asked[m], strict=True):
                quality = min(max(float(head.predict(x)[0]), 0.0), 1.0)
                tokens = unlimited if math.isnan(asked) else asked
                score = (1.0 - lam) * quality - lam * (INPUT_TOKENS * p_in + tokens * p_out)
                if score > best_score:
                    best, best_score = arm, score
                arm += 1
        return best


def _fitted(coef: NDArray[np.float32], intercept: float) -> Any:
    """A Ridge regressor with these weights: fitted to the coordinate axes, so that it is a fitted one in every respect,
    then set.
    """
    import numpy as np
    from sklearn.linear_model import Ridge

    axes = np.eye(2, len(coef), dtype=np.float32)
    head = Ridge(alpha=10.0).fit(axes, axes[:, 0])
    head.coef_, head.intercept_ = coef.astype(np.float64), intercept
    return head


# -- cases
# --------------------------------------------------------------------------------------------------------------------


def one(args: argparse.Namespace) -> measure.Figures:
    """Single decisions, in blocks by turns with those head by head, so that a busy moment meets both."""
    from r2router.router.router import Router

    routers = {name: Router.load(args.work / name) for name in NAMES if (args.work / name).exists()}
    heads = HeadByHead(routers["released"])
    x = measure.embeddings(512, seed=1)
    blocks, many, few = (3, 50, 3) if args.small else (20, 200, 10)
    for router in routers.values():
        measure.times(lambda i, r=router: r.decide(x[i % 512][None]), 0, warm_up=100)  # type: ignore[misc]
    measure.times(lambda i: heads.choose(x[i % 512][None], 0.9), 0, warm_up=3)
    spent: dict[str, list[float]] = {name: [] for name in (*routers, "head_by_head", "cold")}
    for _ in range(blocks):
        for name, router in routers.items():
            spent[name] += measure.times(lambda i, r=router: r.decide(x[i % 512][None]), many)  # type: ignore[misc]
        spent["head_by_head"] += measure.times(lambda i: heads.choose(x[i % 512][None], 0.9), few)
        spent["cold"] += _cold(routers["released"], x, few)
    figures: measure.Figures = {name: measure.percentiles(s) for name, s in spent.items()}
    slow = figures["head_by_head"]
    # by the medians or by the least times, whichever says less: long calls are interrupted more often
    for name in routers:
        figures[name]["times_faster"] = min(slow[key] / figures[name][key] for key in ("p50_ms", "min_ms"))
    figures["head_by_head"]["heads"] = heads.count
    return figures | _agreement(routers["released"], heads, x[: 8 if args.small else 40])


def _cold(router: Router, x: NDArray[np.float32], repeats: int) -> list[float]:
    """Single decisions after 64 MiB of other data went through the processor's caches: what a rarely asked service
    sees.
    """
    import numpy as np

    other, seconds = np.zeros(64 << 17), []
    for i in range(repeats):
        other += 1.0
        seconds += measure.times(lambda _, i=i: router.decide(x[i][None]), 1)  # type: ignore[misc]
    return seconds


def _agreement(router: Router, heads: HeadByHead, x: NDArray[np.float32]) -> measure.Figures:
    """How many decisions of the two ways are the same arm."""
    from r2router.decide import Tradeoff

    same = total = 0
    for lam in LAMBDAS:
        arms = router.decide(x, Tradeoff(lam, scale=1.0), INPUT_TOKENS).arm.tolist()
        same += sum(arm == heads.choose(row[None], lam) for arm, row in zip(arms, x, strict=True))
        total += len(x)
    return {"same_arm": {"decisions": total, "same": same}}


def batch(args: argparse.Namespace) -> measure.Figures:
    """Decisions a second of one call with many embeddings."""
    from r2router.router.router import Router

    n = 5_000 if args.small else 100_000
    x = measure.embeddings(n, seed=2)
    figures: measure.Figures = {"rows": n}
    for name in NAMES:
        if (args.work / name).exists():
            router = Router.load(args.work / name)
            taken = measure.percentiles(measure.times(lambda _, r=router: r.decide(x), 5, warm_up=1), 1.0, "s")  # type: ignore[misc]
            figures[name] = taken | {"decisions_a_second": n / taken["p50_s"]}
    return figures


def drive(run: measure.Run) -> measure.Figures:
    """All cases, and their table."""
    with tempfile.TemporaryDirectory() as folder:
        work = ("--work", folder)
        figures = {"prepare": run.case("prepare", *work)}
        figures["one"] = run.case("one", *work, threads=1)
        for threads in (1, 2):
            figures[f"batch_{threads}"] = run.case("batch", *work, threads=threads)
    rows = []
    for name in (*NAMES, "head_by_head", "cold"):
        if name in figures["one"]:
            cells = [measure.show(figures, f"one.{name}.{key}", "{:.4f}") for key in ("p50_ms", "p90_ms")]
            cells.append(measure.show(figures, f"one.{name}.times_faster", "{:,.0f} x"))
            cells += [measure.show(figures, f"batch_{t}.{name}.decisions_a_second", "{:,.0f}") for t in (1, 2)]
            rows.append((name, *cells))
    measure.table(("router", "p50 ms", "p90 ms", "than head by head", "decisions/s, 1 thread", "2 threads"), rows)
    same, decisions = (measure.show(figures, f"one.same_arm.{key}", "{}") for key in ("same", "decisions"))
    print(f"\nsame arm head by head: {same} of {decisions}")
    return figures


if __name__ == "__main__":
    cases = {"prepare": prepare, "one": one, "batch": batch}
    measure.run(__file__, __doc__, cases, drive, lambda p: p.add_argument("--work", type=Path, help=argparse.SUPPRESS))
