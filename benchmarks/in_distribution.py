"""Are queries of other kinds told from those that a router was trained on?

A check fitted on four fifths of the factual questions of tts-knowledge meets the other fifth, and up to 400 questions
of each question set: `auc` is the share of pairs in which the held-out query has the higher score, `flagged` the share
called unlike the training data; with nearness to the training queries alone, and against the background of prompts of
other kinds. The tables and questions lie in `../shared` and are no part of the project.
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING

import measure

if TYPE_CHECKING:
    from r2router.types import FloatArray

SHARED = measure.RESULTS.resolve().parents[2] / "shared"


def auc(own: FloatArray, other: FloatArray) -> float:
    import numpy as np

    rank = np.concatenate([own, other]).argsort().argsort()[: len(own)]
    return float((rank.sum() - len(own) * (len(own) - 1) / 2) / (len(own) * len(other)))


def judge(args: argparse.Namespace) -> measure.Figures:
    import numpy as np

    import r2router as r2
    from r2router.encode import load_encoder
    from r2router.predict.background import BACKGROUND
    from r2router.predict.in_distribution import InDistribution

    encoder, rng, most = load_encoder("minilm"), np.random.default_rng(0), 20 if args.small else 400
    texts = list(r2.Table.read(SHARED / "data" / "tts_knowledge.parquet").queries)
    x = encoder.encode([texts[i] for i in rng.permutation(len(texts))[: 100 if args.small else None]])
    held, train = x[: len(x) // 5], x[len(x) // 5 :]
    found = {
        "alone": InDistribution.fit(train, 0),
        "background": InDistribution.fit(train, 0, encoder.encode(BACKGROUND)),
    }
    sets = {"held_out": held}
    for path in sorted((SHARED / "questions").glob("*.jsonl")):
        rows = [json.loads(line)["question"] for line in path.read_text().splitlines()]
        rows = [row[0] if isinstance(row, list) else row for row in rows]
        sets[path.stem] = encoder.encode([rows[i] for i in rng.permutation(len(rows))[:most]])
    figures: measure.Figures = {}
    for name, other in sets.items():
        figures[name] = {"n": len(other)} | {
            way: {"auc": auc(f.score(held), f.score(other)), "flagged": float(1 - f.knows(other).mean())}
            for way, f in found.items()
        }
    return figures


def drive(run: measure.Run) -> measure.Figures:
    if not (SHARED / "questions").is_dir():
        print("the questions (../shared/questions) are not here: nothing is measured")
        return {}
    figures = run.case("judge")
    print(
        f"{'queries':20} {'n':>5}   {'auc':>6} {'flagged':>8}   {'auc':>6} {'flagged':>8}   (alone, then with the"
        " background)"
    )
    for name, row in figures.items():
        if isinstance(row, dict):
            cells = [f"{row[way]['auc']:6.3f} {row[way]['flagged']:8.1%}" for way in ("alone", "background")]
            print(f"{name:20} {row['n']:5}   {'   '.join(cells)}")
    return figures


if __name__ == "__main__":
    measure.run(__file__, __doc__, {"judge": judge}, drive)
