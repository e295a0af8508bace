"""A million embeddings routed from a file by the command line, in bounded memory.

1,000,000 x 1,024 float32 (4 GB) are written to a temporary folder a chunk at a time; `r2router route --input x.npy
--output out.parquet --router DIR` then runs in a process of its own, whose time and peak memory are measured, and its
output is counted.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

import measure

ROWS, CHUNK = 1_000_000, 10_000


def prepare(args: argparse.Namespace) -> measure.Figures:
    """A router of the paper's shape, and the file of embeddings: random rows, a new order and sign of columns for each
    chunk.
    """
    import numpy as np

    from r2router.predict.linear import Ridge
    from r2router.router.recipe import Recipe

    n = 400 if args.small else 4000
    x = measure.embeddings(n)
    Recipe(learner=Ridge(), folds=0).fit(measure.paper_table(x, measure.paper_pool()), vectors=x).save(
        args.work / "router"
    )
    rng, base = np.random.default_rng(1), measure.embeddings(min(args.rows, CHUNK), seed=1)
    with (args.work / "x.npy").open("wb") as file:
        header = {
            "descr": np.lib.format.dtype_to_descr(base.dtype),
            "fortran_order": False,
            "shape": (args.rows, measure.DIM),
        }
        np.lib.format.write_array_header_1_0(file, header)
        for start in range(0, args.rows, CHUNK):
            signs = rng.choice(np.array([-1.0, 1.0], np.float32), measure.DIM)
            file.write((base[: args.rows - start] * signs).tobytes())
    return {"trained_on": n}


def check(args: argparse.Namespace) -> measure.Figures:
    """What the output holds."""
    import polars as pl

    scan = pl.scan_parquet(args.work / "out.parquet")
    counts = scan.select(
        pl.len().alias("rows"), pl.col("error").count().alias("errors"), pl.col("arm").n_unique().alias("arms")
    ).collect()
    return {**counts.row(0, named=True), "output_mib": (args.work / "out.parquet").stat().st_size / (1 << 20)}


def drive(run: measure.Run) -> measure.Figures:
    """All steps, and their table."""
    rows = 20_000 if run.args.small else ROWS
    size = rows * measure.DIM * 4
    with tempfile.TemporaryDirectory(dir=run.args.tmp) as folder:
        free = shutil.disk_usage(folder).free
        needed = 1.25 * size + (1 << 30)
        if free < needed:
            print(
                f"route_file: needs {needed / (1 << 30):.1f} GiB of free disk, there are {free / (1 << 30):.1f}; choose"
                " with --tmp DIR"
            )
            return {"skipped": "not enough free disk"}
        work = ("--work", folder, "--rows", rows)
        figures: measure.Figures = {"prepare": run.case("prepare", *work)}
        if "failed" in figures["prepare"]:
            return figures
        source, target, router = (str(Path(folder) / name) for name in ("x.npy", "out.parquet", "router"))
        command = [*measure.command_line(), "route", "--input", source, "--output", target, "--router", router]
        spent = measure.process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if spent.code:
            figures["command"] = {"failed": f"exit code {spent.code}"}
        else:
            figures["command"] = {
                "rows": rows,
                "input_gib": size / (1 << 30),
                "s": spent.wall_s,
                "decisions_a_second": rows / spent.wall_s,
            }
            figures["command"] |= {"cpu_s": spent.cpu_s, "peak_rss_mib": spent.peak_rss_mib}
            figures["output"] = run.case("check", *work)
    forms = {
        "rows": "{:,}",
        "s": "{:.1f} s",
        "cpu_s": "{:.1f} s",
        "decisions_a_second": "{:,.0f}",
        "peak_rss_mib": "{:,.0f} MiB",
    }
    head = ("rows", "time", "processor time", "decisions/s", "peak memory")
    measure.table(head, [[measure.show(figures, f"command.{key}", form) for key, form in forms.items()]])
    print(
        f"\noutput: {measure.show(figures, 'output.rows', '{:,}')} rows,"
        f" {measure.show(figures, 'output.errors', '{:,}')} errors"
    )
    return figures


def configure(parser: argparse.ArgumentParser) -> None:
    """Where the file goes."""
    parser.add_argument(
        "--tmp", type=Path, metavar="DIR", help="where the 4 GB go; by default the system's folder for temporary files"
    )
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=int, default=ROWS, help=argparse.SUPPRESS)


if __name__ == "__main__":
    measure.run(__file__, __doc__, {"prepare": prepare, "check": check}, drive, configure)
