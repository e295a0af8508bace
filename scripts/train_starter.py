#!/usr/bin/env python3
"""Train the bundled starter router, in one command.

usage: train_starter.py RECORD_FOLDER TTS_KNOWLEDGE.parquet [VECTORS.npy]

RECORD_FOLDER holds outcome tables with the columns of docs/data.md; each *.parquet of it counts, so that a new source
is one file more. VECTORS.npy keeps the embeddings between runs. Writes src/r2router/starter/router. The data itself is
not part of the project. Needs the [prices] extra: the pool has the list prices of the day.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import polars as pl

import r2router as r2
from r2router.encode import embed, load_encoder
from r2router.pool.pool import Pool
from r2router.predict.domains import Domains
from r2router.starter.domains import with_domain_stats
from r2router.table.rows import Reading, read_rows
from starter_models import starter_pool

MIN_GRADED, MIN_MEASURED = 150, 100
"""Of an arm in the pool: queries that were graded, and answers whose whole length was counted, hidden thinking
included.
"""

SOURCES = (
    "Epoch AI benchmarking hub, CC-BY-4.0 (GPQA diamond, OTIS mock AIME, SimpleQA Verified, chess puzzles)",
    "19PINE-AI/ikp, CC-BY-4.0 (facts)",
    "open-thought/reasoning-gym-eval, Apache-2.0",
    "TIGER-AI-Lab/MMLU-Pro, Apache-2.0",
    "gersteinlab/medagents-benchmark, Apache-2.0",
    "WildEval/ZeroEval, Apache-2.0",
    "KOR-Bench/KOR-Bench, Apache-2.0",
    "actiontech/sql-llm-benchmark, MIT",
    "fairydreaming/farel-bench, MIT",
    "markstent/BenchPress, MIT",
    "cpldcpu/MisguidedAttention, CC0-1.0",
    "XuZhao0/tts-knowledge, MIT (FRAMES, SimpleQA)",
)
LIMITS = (
    (
        "It knows what was published: mathematics, science, medicine, law and other exam subjects, logic, puzzles,"
        " short facts, output of code, SQL. It has next to nothing on writing, chat, translation, agents and languages"
        " other than English."
    ),
    (
        "Models were tried on different tasks. Where a model was not tried on a kind of query, its forecast is what"
        " models of that level do there, and its spread is wide."
    ),
    (
        "Answers and lengths are as providers served the models then. `default` is what a provider does when nothing is"
        " asked."
    ),
    "Input tokens were not recorded; they are estimated by the embedded tokenizer.",
    "Budgets of many models were measured on GPQA, AIME, SimpleQA and chess only.",
)


def main(record: str, knowledge: str, vectors: str | None) -> None:
    """Train on all, keep the models that can be bought in the pool, let the others teach."""
    rows = read_rows([*sorted(Path(record).glob("*.parquet")), knowledge], Reading())
    pool, prices = starter_pool(seen_enough(rows.frame))
    table = r2.Table.from_rows(rows.frame, pool, unpriced="teach", sources=rows.files, notes=())
    print(f"{table}: {len(pool.models)} models")
    x = embeddings(table.queries, vectors)
    router = r2.Recipe(learner=Domains()).fit(table, x)
    facts = msgspec.structs.replace(
        router.facts,
        title="The starter router",
        notes=(
            f"prices, tiers and contexts: {prices}",
            unknown_contexts(pool),
            *(f"trained on outcomes of {source}" for source in SOURCES),
        ),
        limits=LIMITS,
    )
    folder = Path(__file__).parent.parent / "src" / "r2router" / "starter" / "router"
    with_domain_stats(replace(router, facts=facts), table, x).save(folder)
    print((folder / "card.md").read_text())


def unknown_contexts(pool: Pool) -> str:
    """How many models have no known size of context, and which."""
    unknown = [model.id for model in pool.models if model.context is None]
    if not unknown:
        return "the size of context of every model is known"
    many = f"{len(unknown)} of {len(pool.models)} models"
    return f"size of context not known of {many}, which are asked prompts of any length: {', '.join(unknown)}"


def seen_enough(rows: pl.DataFrame) -> list[str]:
    """The arms with enough graded queries and measured lengths, in order of their names."""
    arm = pl.concat_str("model", "budget", separator="@").alias("arm")
    found = rows.group_by(arm).agg(
        pl.col("quality").count().alias("graded"), pl.col("output_tokens").count().alias("measured")
    )
    enough = (pl.col("graded") >= MIN_GRADED) & (pl.col("measured") >= MIN_MEASURED)
    return sorted(found.filter(enough)["arm"].to_list())


def embeddings(texts: Sequence[str], kept: str | None) -> np.ndarray:
    """The embeddings of the texts, from the file where they are kept, or made now and kept there."""
    if kept is not None and Path(kept).exists():
        found: np.ndarray = np.load(kept)
        if len(found) == len(texts):
            return found
    made = embed(load_encoder("minilm"), texts)
    if kept is not None:
        np.save(kept, made)
    return made


if __name__ == "__main__":
    if not 3 <= len(sys.argv) <= 4 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    main(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) == 4 else None)
