"""Routers that know nothing: how often is one of them called better than fixed arms?

Seven routers whose forecasts tell nothing about the query (constant, constant with next to no noise, with more noise,
from neighbours dealt at random, costs that differ by query at random) are compared with the mixture of fixed arms that
other queries choose and with the one that knows the outcomes, on made-up outcomes and on the real tables, with 50 to
1,000 queries. `above` is the share of draws with the verdict "above", which must be at most 5 %; `below` with "below";
`known` with an interval above the mixture that knows the outcomes.

`evaluate` does the whole of it as a user does, with noise for embeddings: fit, evaluate, read the verdict and the card.
The tables lie in `../shared/data`, the routers in `tests/test_no_flattery.py`.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import measure

sys.path.insert(0, str(measure.ROOT / "tests"))

DRAWS, RESAMPLES, BLIND = 20, 100, 10
SIZES = {
    "made-up": (50, 100, 300, 1000),
    "tts_knowledge": (50, 100, 300),
    "jhu_concise_cot": (50, 100, 300),
    "r2bench-mini": (50, 100, 150),
}


def draws(args: argparse.Namespace) -> measure.Figures:
    """One kind of outcomes, all sizes and routers."""
    import test_no_flattery as nulls

    table = _outcomes(args.table)
    figures: measure.Figures = {}
    for n in SIZES[args.table][: 1 if args.small else None]:
        for kind in nulls.KINDS:
            said = list(nulls.lows(kind, n, 2 if args.small else DRAWS, 20 if args.small else RESAMPLES, table))
            figures.setdefault(str(n), {})[kind] = {
                "draws": len(said),
                "above": sum(verdict == "above" for verdict, _, _ in said),
                "below": sum(verdict == "below" for verdict, _, _ in said),
                "known": sum(low > 1e-9 for _, _, low in said),
            }
    return figures


def evaluate(args: argparse.Namespace) -> measure.Figures:
    """Fit on noise, evaluate on noise, on one real table."""
    import numpy as np

    import quality
    import r2router as r2

    table = quality.read(args.table)
    said, carded, runs = 0, 0, 2 if args.small else BLIND
    for seed in range(runs):
        train, test = table.split(test=0.4, seed=seed)
        rng = np.random.default_rng(seed)
        x, z = (rng.normal(size=(len(part), 384)) for part in (train, test))
        x, z = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, z))
        router = r2.Recipe(encoder="given:noise", resamples=100).fit(train, x)
        said += r2.evaluate(router, test, vectors=z, resamples=100).comparison.verdict == "above"
        carded += any(f.low > 1e-9 for f in router.facts.figures if "router minus" in f.name)
    return {"runs": runs, "above": said, "card above": carded}


def _outcomes(name: str) -> Any:
    import test_no_flattery as nulls
    from r2router.mini import mini

    if name == "made-up":
        return None
    return nulls._whole(mini()) if name == "r2bench-mini" else nulls.real(measure.SHARED, name)


def drive(run: measure.Run) -> measure.Figures:
    """Every table, one after the other, and the sum of all draws."""
    there = (measure.SHARED / "data").is_dir()
    names = [name for name in SIZES if there or name in ("made-up", "r2bench-mini")]
    figures = {name: run.case("draws", "--table", name, threads=1) for name in names}
    rows = []
    for name, sizes in figures.items():
        for n, kinds in sizes.items():
            for kind, f in kinds.items() if isinstance(kinds, dict) else ():
                shares = (f"{f[key]} of {f['draws']}" for key in ("above", "below", "known"))
                rows.append((f"{name}, {n} queries: {kind}", *shares))
    measure.table(("", "above", "below", "above the knowing one"), rows)
    cells = [
        f for sizes in figures.values() for kinds in sizes.values() if isinstance(kinds, dict) for f in kinds.values()
    ]
    total = {key: sum(f[key] for f in cells) for key in ("draws", "above", "below", "known")}
    print(f"all: {total}")
    figures["all"] = total
    for name in ("tts_knowledge", "jhu_concise_cot") if there else ():
        figures[f"evaluate, {name}"] = run.case("evaluate", "--table", name, threads=1)
        print(f"evaluate on {name}: {figures[f'evaluate, {name}']}")
    return figures


if __name__ == "__main__":
    cases = {"draws": draws, "evaluate": evaluate}
    measure.run(
        __file__, __doc__, cases, drive, lambda p: p.add_argument("--table", choices=SIZES, help=argparse.SUPPRESS)
    )
