"""A simulated table of R2-Bench's size: 30,968 queries x 15 models x 16 budgets, made, written and read back.

The truth is the paper's released heads on mixtures of 200 recorded embeddings, where they are in `../shared/reference`,
and a ridge router of the same shape on random embeddings where they are not. Simulated data are for such tests of
scale; no figure of quality comes from them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import measure

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from r2router.router.router import Router

QUERIES, MODELS, BUDGETS = 30_968, 15, 16
REFERENCE = measure.SHARED / "reference"


def _router() -> tuple[Router, NDArray[np.float32], str]:
    """A router, embeddings to draw around, and which it is."""
    import numpy as np

    if (REFERENCE / "checkpoints").is_dir():
        from r2router.importers.ucf import import_release

        rows = json.loads(gzip.decompress((REFERENCE / "reference_decisions.json.gz").read_bytes()))["rows"]
        return (
            import_release(REFERENCE),
            np.array([row["embedding"] for row in rows], dtype=np.float32),
            "the paper's released heads",
        )
    from r2router.predict.linear import Ridge
    from r2router.router.recipe import Recipe

    x = measure.embeddings(4_000)
    return (
        Recipe(learner=Ridge(), folds=0).fit(measure.paper_table(x, measure.paper_pool()), vectors=x),
        x,
        "ridge on random embeddings",
    )


def make(args: argparse.Namespace) -> measure.Figures:
    """Simulate and write."""
    from r2router.simulate import simulate

    router, x, which = _router()
    begin = time.perf_counter()
    found = simulate(router, 500 if args.small else QUERIES, vectors=x, models=MODELS, budgets=BUDGETS)
    made = time.perf_counter()
    peak = measure.peak_rss_mib()
    found.table.write(args.work / "table.parquet")
    written = time.perf_counter()
    size = (args.work / "table.parquet").stat().st_size / (1 << 20)
    cells = found.table.quality.size
    return {
        "router": which,
        "cells": cells,
        "simulate_s": made - begin,
        "simulate_peak_rss_mib": peak,
        "write_s": written - made,
        "file_mib": size,
    }


def read(args: argparse.Namespace) -> measure.Figures:
    """Read it back."""
    from r2router.table.table import Table

    begin = time.perf_counter()
    table = Table.read(args.work / "table.parquet")
    return {
        "read_s": time.perf_counter() - begin,
        "queries": len(table),
        "arms": len(table.arms),
        "simulated": table.simulated,
    }


def drive(run: measure.Run) -> measure.Figures:
    """Both cases, and their table."""
    with tempfile.TemporaryDirectory() as folder:
        figures: measure.Figures = {"make": run.case("make", "--work", folder, threads=1)}
        if "failed" not in figures["make"]:
            figures["read"] = run.case("read", "--work", folder)
    columns = {
        "cells": ("make.cells", "{:,}"), "simulate": ("make.simulate_s", "{:.1f} s"), "write": ("make.write_s",
        "{:.1f} s"),
        "peak memory": ("make.peak_rss_mib", "{:,.0f} MiB"), "file": ("make.file_mib", "{:.1f} MiB"),
        "read": ("read.read_s", "{:.1f} s"),
        "peak memory, reading": ("read.peak_rss_mib", "{:,.0f} MiB"),
    }  # fmt: skip
    measure.table(list(columns), [[measure.show(figures, key, form) for key, form in columns.values()]])
    return figures


def configure(parser: argparse.ArgumentParser) -> None:
    """Where the table goes."""
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)


if __name__ == "__main__":
    measure.run(__file__, __doc__, {"make": make, "read": read}, drive, configure)
