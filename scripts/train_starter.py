#!/usr/bin/env python3
"""Train the bundled starter router.

usage: train_starter.py OUTCOMES.parquet     (the tts-knowledge table: FRAMES and SimpleQA, github.com/XuZhao0/tts-knowledge, MIT)

Writes src/r2router/starter/router. The data itself is not part of the project.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import msgspec

import r2router as r2
from r2router.starter.domains import with_evidence

LIMITS = (
    (
        "It knows short factual questions (FRAMES: several facts put together; SimpleQA: one obscure fact) and little else: no code, no "
        "mathematics, no long writing, no conversations. Elsewhere its qualities are guesses and the query is often flagged as unfamiliar."
    ),
    (
        "Quality is the share of answers that an LLM grader called right, from one answer per question and arm; all arms answered from "
        "memory, without search, so that even the best is right on two questions in five."
    ),
    "Answers and lengths are of 2025 models as their providers served them then; prices are list prices of 2026-11 and move.",
    "Input tokens were not recorded; they are estimated by the embedded tokenizer.",
    "r1-distill-llama-8b@think was seen on FRAMES only, gpt-oss-20b@medium and grok-3-mini@high on SimpleQA only.",
)


def main(outcomes: str) -> None:
    starter = Path(__file__).parent.parent / "src" / "r2router" / "starter"
    pool = r2.Pool.read(starter / "pool.toml")
    table = r2.Table.read(outcomes, pool, drop_unknown=True)
    router = r2.Recipe().fit(table)
    facts = msgspec.structs.replace(router.facts, title="The starter router", limits=LIMITS)
    with_evidence(replace(router, facts=facts), table).save(starter / "router")
    print((starter / "router" / "card.md").read_text())


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        raise SystemExit(__doc__)
    main(sys.argv[1])
