"""How often scorers agree with the grades of a record of real answers: python scripts/compare_scorers.py DIR [N].

DIR holds zeroeval.parquet and reasoning_gym.parquet (docs/decisions/0021), with query_id, task, reference, response,
quality. Answers of which the end is there are drawn at random (seed 1), N of each kind (300); formulas at most 60 of a
task.
"""

from __future__ import annotations

import json
import random
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import polars as pl

from r2router.bench.scoring import scorer_named
from r2router.bench.scoring.math import answered
from r2router.bench.scoring.numeric import reference_number
from r2router.bench.scoring.served import ProcessLost, ServedFunction
from r2router.bench.suite import Query, Score

Row = tuple[str, str, str, bool]  # kind, reference, answer, right
_ANSWER = re.compile(r'"answer":\s*"((?:[^"\\]|\\.)*)"')
_SHORT = 295  # the record holds the beginnings of longer responses


def main() -> None:
    folder, most = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 300
    inside = ServedFunction("r2router.bench.scoring.formula:verify")

    def math_verify(reference: str, answer: str) -> bool:
        try:
            found = msgspec.json.decode(inside.call(msgspec.json.encode((reference, answered(answer)))), type=Score)
        except ProcessLost:
            return False
        return found.quality == 1.0

    def named(name: str) -> Callable[[str, str], bool]:
        return lambda reference, answer: (
            scorer_named(name).score(Query(id="q", text="?", reference=reference), answer).quality == 1.0
        )

    scorers = {"exact": named("exact"), "numeric": named("numeric"), "math-verify": math_verify}
    for kind, rows in sorted(drawn(folder, most).items()):
        agree = {
            name: sum(says(ref, answer) == right for _, ref, answer, right in rows) for name, says in scorers.items()
        }
        print(f"{kind}: {len(rows)} answers, {sum(r[3] for r in rows)} right; agree: {agree}")


def drawn(folder: Path, most: int) -> dict[str, list[Row]]:
    """Rows by kind of reference."""
    found: dict[str, list[Row]] = {}
    tasks: Counter[str] = Counter()
    rows = [*zeroeval(folder / "zeroeval.parquet"), *formulas(folder / "reasoning_gym.parquet")]
    random.Random(1).shuffle(rows)  # noqa: S311  no secret
    for task, reference, answer, right in rows:
        number = reference_number(reference) is not None
        kind = (
            task
            if task == "gsm8k"
            else f"math_l5, {'number' if number else 'formula'}"
            if task == "math_l5"
            else "formulas"
        )
        tasks[task] += 1
        if len(kept := found.setdefault(kind, [])) < (360 if kind == "formulas" else most) and (
            kind != "formulas" or tasks[task] <= 60
        ):
            kept.append((task, reference, answer, right))
    return found


def zeroeval(path: Path) -> list[Row]:
    frame = pl.read_parquet(path).filter(
        pl.col("response").is_not_null()
        & pl.col("quality").is_in([0.0, 1.0])
        & pl.col("task").is_in(["gsm8k", "math_l5"])
    )
    found = []
    for row in frame.iter_rows(named=True):
        if (m := _ANSWER.search(row["response"])) is not None:
            found.append((row["task"], row["reference"], f"The answer is: {_unescaped(m[1])}", row["quality"] == 1.0))
        elif re.search(r"\\boxed\{[^\n]*\}", row["response"]) and len(row["response"]) < _SHORT:
            found.append((row["task"], row["reference"], row["response"], row["quality"] == 1.0))
    return found


def _unescaped(text: str) -> str:
    try:
        return str(json.loads(f'"{text}"', strict=False))
    except ValueError:
        return text


def formulas(path: Path) -> list[Row]:
    frame = pl.read_parquet(path).filter(
        pl.col("response").str.contains("</answer>")
        & pl.col("quality").is_in([0.0, 1.0])
        & pl.col("task").is_in(["rg_algebra", "rg_geometry"])
    )
    names = [re.sub(r"rg_(?:easy|hard)_|_ab$", "", i.split(":")[0]) for i in frame["query_id"]]
    rows = zip(names, frame["reference"], frame["response"], frame["quality"], strict=True)
    return [(name, ref, answer, quality == 1.0) for name, ref, answer, quality in rows if reference_number(ref) is None]


if __name__ == "__main__":
    main()
