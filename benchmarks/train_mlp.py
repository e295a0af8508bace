"""The paper's neural heads, 1,024 -> 256 -> 128 -> 64 -> 1, on 24,774 queries: how much of the machine's own matrix
product do they reach?

The machine's rate is `torch.mm` of two 4,096 x 4,096 float32 matrices in the same process, measured before and after.
The rate of the training steps is that of the second and third epoch (a fit of three less a fit of one) of some heads,
all of which are trained in equal groups one after the other; with `--full` also that of a whole `MLP.fit` of one epoch
and 176 heads, everything in it counted as time and only its products as work.

Work: 2 FLOP a multiply-add. `done` counts the products that training needs: forward, and backward by the weights and by
the inputs of each layer but the first, whose inputs are not trained. `paper` counts forward times three, as the 7.9
TFLOP an epoch do.
"""

from __future__ import annotations

import argparse
import statistics
from functools import partial
from typing import Any

import measure

LAYERS = ((1024, 256), (256, 128), (128, 64), (64, 1))
FORWARD = 2 * sum(a * b for a, b in LAYERS)
FLOP = {"done": 3 * FORWARD - 2 * LAYERS[0][0] * LAYERS[0][1], "paper": 3 * FORWARD}
BATCH = 256


def _product_rate(size: int, repeats: int) -> list[float]:
    """FLOP/s of torch.mm of square matrices, one figure a repeat."""
    import torch

    a, b = torch.rand(size, size), torch.rand(size, size)
    return [2 * size**3 / s for s in measure.times(lambda _: torch.mm(a, b), repeats, warm_up=1)]


def _rates(row_heads: float, spent: float, machine: float) -> measure.Figures:
    return {
        "s": spent,
        **{f"gflop_s_{name}": flop * row_heads / spent / 1e9 for name, flop in FLOP.items()},
        **{f"share_{name}": flop * row_heads / spent / machine for name, flop in FLOP.items()},
    }


def steps(args: argparse.Namespace) -> measure.Figures:
    """Pure training epochs of a few heads, between two measurements of the machine."""
    import torch

    from r2router.predict.mlp import MLP

    n, models, size, repeats = (1024, 1, 1024, 3) if args.small else (measure.TRAIN, 2, 4096, 5)
    x = measure.embeddings(n)
    table = measure.paper_table(x, measure.paper_pool(models))
    heads = len(table.arms)

    def fit(epochs: int) -> object:
        return MLP(epochs=epochs, early_stopping=False, batch_size=BATCH).fit(x, table)

    # threads and allocator are warm
    MLP(epochs=1, early_stopping=False, batch_size=BATCH).fit(x[:512], table.take(range(512)))
    before = _product_rate(size, repeats)
    one = measure.once(lambda: fit(1))
    three = measure.once(lambda: fit(3))
    after = _product_rate(size, repeats)
    machine = statistics.median([*before, *after])
    return {
        "queries": n,
        "heads": heads,
        "batch": BATCH,
        "threads": torch.get_num_threads(),
        "torch_mm": {
            "size": size,
            "gflop_s": machine / 1e9,
            "gflop_s_max": max(before + after) / 1e9,
            "n": 2 * repeats,
        },
        "epoch": _rates(n * heads, (three - one) / 2, machine),
        "fit_of_one_epoch": _rates(n * heads, one, machine),
    }


def full(args: argparse.Namespace) -> measure.Figures:
    """A whole fit of one epoch with all heads: early stopping off, as in the paper, then on, as by default."""
    import torch

    from r2router.predict.mlp import MLP

    n, models, size, repeats = (1024, 2, 1024, 3) if args.small else (measure.TRAIN, measure.MODELS, 4096, 5)
    x = measure.embeddings(n)
    table = measure.paper_table(x, measure.paper_pool(models))
    rates = _product_rate(size, repeats)
    spent: dict[bool, float] = {}
    for stopping in (False, True):
        learner: Any = MLP(epochs=1, early_stopping=stopping, batch_size=BATCH)
        spent[stopping] = measure.once(partial(learner.fit, x, table))
        rates += _product_rate(size, repeats)
    machine = statistics.median(rates)
    row_heads = n * len(table.arms)
    return {
        "queries": n,
        "heads": len(table.arms),
        "threads": torch.get_num_threads(),
        "tflop_an_epoch": {name: flop * row_heads / 1e12 for name, flop in FLOP.items()},
        "torch_mm_gflop_s": machine / 1e9,
        "all_queries": _rates(row_heads, spent[False], machine),
        "early_stopping": _rates(row_heads * (1 - MLP().validation), spent[True], machine),
    }


def drive(run: measure.Run) -> measure.Figures:
    """All cases, and their table."""
    try:
        import torch  # noqa: F401
    except ImportError:
        print('train_mlp: torch is not installed (pip install "r2router[torch]"); nothing was measured')
        return {"skipped": "torch is not installed"}
    figures = {"steps": run.case("steps")}
    if run.args.full:
        figures["full"] = run.case("full")
    rows = []
    for key in ("steps.epoch", "steps.fit_of_one_epoch", "full.all_queries", "full.early_stopping"):
        forms = {"s": "{:.1f} s", "gflop_s_done": "{:.1f}", "share_done": "{:.0%}", "share_paper": "{:.0%}"}
        rows.append((key, *(measure.show(figures, f"{key}.{name}", form) for name, form in forms.items())))
    measure.table(("", "time", "GFLOP/s done", "of torch.mm", "by the paper's count"), rows)
    print(f"\ntorch.mm: {measure.show(figures, 'steps.torch_mm.gflop_s', '{:.1f}')} GFLOP/s")
    return figures


def configure(parser: argparse.ArgumentParser) -> None:
    """How much of it."""
    parser.add_argument(
        "--full", action="store_true", help="also a whole fit of one epoch and all 176 heads, twice (minutes)"
    )


if __name__ == "__main__":
    measure.run(__file__, __doc__, {"steps": steps, "full": full}, drive, configure)
