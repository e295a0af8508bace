#!/usr/bin/env python3
"""Write docs/record.md: what the public record shows, by domain, of models under several budgets, and what is missing.

usage: record_page.py RECORD_FOLDER

RECORD_FOLDER holds the tables that the starter router was trained on (scripts/train_starter.py) with their prices.csv.
Figures only: no text, answer or row of the record is written.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from r2router.metrics.intervals import share
from r2router.predict.domain_stats import THIN
from r2router.report.findings import Plot, Series
from r2router.report.plots import plot_svg
from r2router.router.known import KnownArm, find_domain, known_arms
from r2router.router.router import Router
from r2router.starter import starter
from r2router.starter.domains import domain_of
from r2router.text import money
from train_starter import SOURCES

DOCS = Path(__file__).parent.parent / "docs"
MEASURED = ("api", "text", "run_mean", "from_cost")
MIN_BUDGETS, MIN_CELLS, BEST, CHEAP = 3, 20, 5, 1.0
"""Of a model with a curve: budgets on one task. Of a point: graded answers. Arms named per domain, and US dollars per
1,000 requests.
"""


def main(folder: Path) -> None:
    rows = read(folder)
    router = starter()
    parts = [HEAD, *sources(rows), *domains(rows, router), *curves(rows, folder), *missing(rows, router)]
    (DOCS / "record.md").write_text("\n".join(parts).rstrip() + "\n", encoding="utf-8")
    print(f"docs/record.md: {len(rows):,} graded answers")


HEAD = """# The public record

What the starter router learned from: answers that other people's models gave, graded by those who published them. Written by
`python scripts/record_page.py` from the tables and from the starter router; the questions and answers are not part of the project.
"""


def read(folder: Path) -> pl.DataFrame:
    """All graded answers, with their source, arm and domain."""
    parts = []
    for path in sorted(folder.glob("*.parquet")):
        part = pl.read_parquet(path).with_columns(source=pl.lit(path.stem))
        parts.append(
            part.select(
                "source", "task", "query_id", "query", "model", "budget", "quality", "output_tokens", "tokens_basis"
            )
        )
    rows = pl.concat(parts, how="vertical_relaxed").filter(
        pl.col("quality").is_not_null() & pl.col("quality").is_not_nan()
    )
    tasks = {task: domain_of(task) for task in rows["task"].unique()}
    return rows.with_columns(domain=pl.col("task").replace_strict(tasks))


def grid(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A table of Markdown."""
    return [
        f"| {' | '.join(head)} |",
        f"|{' --- |' * len(head)}",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
        "",
    ]


def sources(rows: pl.DataFrame) -> list[str]:
    found = rows.group_by("source").agg(
        pl.len().alias("answers"),
        pl.col("query_id").n_unique().alias("queries"),
        pl.col("model").n_unique().alias("models"),
        pl.struct("model", "budget").n_unique().alias("arms"),
        pl.col("tokens_basis").is_in(MEASURED).mean().alias("measured"),
    )
    lines = ["## Sources", ""]
    cells = [
        (f"`{r['source']}`", f"{r['answers']:,}", f"{r['queries']:,}", r["models"], r["arms"], f"{r['measured']:.0%}")
        for r in found.sort("answers", descending=True).iter_rows(named=True)
    ]
    lines += grid(("table", "graded answers", "queries", "models", "arms", "whole output counted"), cells)
    lines += ["The starter router was trained on these and on FRAMES and SimpleQA. Published by:", ""]
    return [*lines, *(f"- {source}" for source in SOURCES), ""]


def domains(rows: pl.DataFrame, router: Router) -> list[str]:
    found = (
        rows.group_by("domain")
        .agg(
            pl.col("task").n_unique().alias("tasks"),
            pl.col("query_id").n_unique().alias("queries"),
            pl.len().alias("answers"),
            pl.struct("model", "budget").n_unique().alias("arms"),
            pl.col("quality").mean().alias("mean"),
        )
        .sort("queries", descending=True)
    )
    lines = ["## By domain", ""]
    cells = [
        (r["domain"], r["tasks"], f"{r['queries']:,}", f"{r['answers']:,}", r["arms"], f"{r['mean']:.2f}")
        for r in found.iter_rows(named=True)
    ]
    lines += grid(("domain", "tasks", "queries", "graded answers", "arms", "mean quality"), cells)
    about = (
        f"The best {BEST} arms of the starter router in each domain, and the best of those below {money(CHEAP)} per"
        " 1,000 requests. Quality is as if every arm had answered all queries of the domain, with a 95 % interval;"
        f" arms with fewer than {THIN} graded queries there are left out. `r2router models --domain NAME` shows all."
    )
    lines += [about, ""]
    shown = []
    for name in found["domain"]:
        known = [row for row in known_arms(router, find_domain(router, name)) if row.quality.n >= THIN]
        cheap = next((row for row in known if row.cost <= CHEAP), None)
        if known:
            shown.append((name, "; ".join(map(words, known[:BEST])), "none" if cheap is None else words(cheap)))
    return [*lines, *grid(("domain", "best", "best of the cheap ones"), shown)]


def words(row: KnownArm) -> str:
    q = row.quality
    cost = "cost not known" if math.isnan(row.cost) else money(row.cost)
    return f"`{row.arm}` {q.value:.2f} [{q.low:.2f}, {q.high:.2f}], {cost}"


def curves(rows: pl.DataFrame, folder: Path) -> list[str]:
    """Models that were measured under several budgets on one and the same task."""
    listed = pl.read_csv(folder / "prices.csv")
    price = dict(zip(listed["model"], listed["output_usd_per_million"], strict=True))
    told = rows.filter(pl.col("tokens_basis").is_in(MEASURED) & (pl.col("output_tokens") > 0))
    points = (
        told.group_by("task", "model", "budget")
        .agg(pl.len().alias("n"), pl.col("quality").mean(), pl.col("output_tokens").mean().alias("tokens"))
        .filter(pl.col("n") >= MIN_CELLS)
        .sort("task", "model", "tokens")
    )
    several = points.filter(pl.len().over("task", "model") >= MIN_BUDGETS)
    about = (
        f"{several['model'].n_unique()} models were measured under at least {MIN_BUDGETS} budgets on one task, hidden"
        " thinking counted. Quality with its 95 % interval (of a share), mean output tokens, and US dollars of output"
        " per 1,000 answers at list prices. A curve that ends flat, or falls, is money for nothing."
    )
    lines = ["## Models under several budgets", "", about, ""]
    for (task,), own in several.group_by(["task"], maintain_order=True):
        cells = []
        for model, budget, n, quality, tokens in own.select("model", "budget", "n", "quality", "tokens").iter_rows():
            found = share("", min(max(quality, 0.0), 1.0), n)
            usd = price.get(model)
            cost = "not known" if usd is None else money(tokens * usd / 1000)
            cells.append(
                (f"`{model}@{budget}`", n, f"{quality:.2f} [{found.low:.2f}, {found.high:.2f}]", f"{tokens:,.0f}", cost)
            )
        lines += [f"### {task}", "", *grid(("arm", "graded", "quality", "output tokens", "output per 1,000"), cells)]
    picture = drawn(several, price)
    if picture:
        (DOCS / "record-budgets.svg").write_text(picture, encoding="utf-8")
        lines[3:3] = [
            "",
            (
                "![Quality over cost of models under several budgets, on the task that most of them were measured"
                " on](record-budgets.svg)"
            ),
        ]
    return lines


def drawn(several: pl.DataFrame, price: dict[str, float]) -> str:
    """The curves of the task with most of them."""
    priced = several.filter(pl.col("model").is_in(list(price)))
    if priced.is_empty():
        return ""
    task = (
        priced.group_by("task").agg(pl.col("model").n_unique().alias("m")).sort("m", "task", descending=True)["task"][0]
    )
    series = []
    for (model,), own in priced.filter(pl.col("task") == task).group_by(["model"], maintain_order=True):
        x = tuple(float(t) * price[str(model)] / 1000 for t in own["tokens"])
        series.append(Series(str(model), x, tuple(map(float, own["quality"])), labels=tuple(own["budget"])))
    return plot_svg(
        Plot(
            task,
            "US dollars of output per 1,000 answers (log scale)",
            "quality",
            tuple(series),
            log_x=True,
            x_unit="money",
        )
    )


def missing(rows: pl.DataFrame, router: Router) -> list[str]:
    """Where little or nothing is known."""
    stats = router.domain_stats
    if stats is None:
        raise SystemExit("the starter router keeps no figures per domain")
    models = router.pool.models
    lines = ["## What is missing", ""]
    thin = [(name, int(n)) for name, n in zip(stats.domains, stats.graded, strict=True) if n < THIN]
    lines += [
        (
            f"Kinds of prompts with fewer than {THIN} graded queries. A decision on such a prompt says so, and its"
            " spread is wide:"
        ),
        "",
    ]
    lines += grid(("kind", "graded queries"), sorted(thin, key=lambda pair: -pair[1]))
    lines += [
        (
            "Models of the starter router that nobody graded in a domain; their quality there is a guess from other"
            " domains:"
        ),
        "",
    ]
    seen = np.stack([stats.seen[:, router.pool.model_of_arm == i].sum(axis=1) for i in range(len(models))])
    cells = [(name, f"{int((seen[:, d] == 0).sum())} of {len(models)}",
    f"{int((seen[:, d] < THIN).sum())} of {len(models)}")
             for d, name in enumerate(stats.domains) if stats.graded[d]]  # fmt: skip
    lines += grid(("domain", "models never graded", f"graded on fewer than {THIN} queries"), cells)
    unknown = [f"`{m.id}`" for m in models if m.context is None]
    how = "without a known size of context, to which prompts of any length are sent"
    lines += [f"- {len(unknown)} of {len(models)} models {how}: {', '.join(unknown)}."]
    priceless = sorted({m.id for m in models if m.usd_per_million is None})
    lines += [f"- {len(priceless)} models of the starter router without a price."]
    others = rows["model"].n_unique() - len({m.id for m in models} & set(rows["model"].unique()))
    lines += [
        (
            f"- {others} further models of the record teach how hard queries are and cannot be chosen: gone, unpriced or"
            " seen too seldom."
        )
    ]
    hidden = rows.filter(pl.col("tokens_basis") == "visible_text")
    lines += [
        (
            f"- {len(hidden):,} answers ({len(hidden) / len(rows):.0%}) have counts of the visible text alone; their"
            " lengths teach nothing."
        ),
        "- Input tokens were recorded nowhere; they are estimated with the embedded tokenizer.",
        (
            "- Nobody published graded answers to chats, letters, translations or the work of agents in a form that"
            " could be used here."
        ),
    ]
    return lines


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
