"""The six benchmarks of the paper (arXiv 2602.02823, the training part of SPROUT), from where they are published.

Each is read through polars from `hf://datasets`, or from a folder of the same layout (`mmlu-pro?root=DIR`). A gated
repository needs the environment variable HF_TOKEN, which polars reads by itself.
"""

from __future__ import annotations

import ast
import hashlib
import string
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import numpy as np

from r2router.bench.scoring.numeric import reference_number
from r2router.bench.suite import Query, Suite
from r2router.bench.suites.file import lettered
from r2router.bench.suites.registry import check_options, whole_number
from r2router.errors import DataError
from r2router.final_answer import final_answer

HUB = "hf://datasets"
_RAGBENCH = (
    "covidqa", "cuad", "delucionqa", "emanual", "expertqa", "finqa",
    "hagrid", "hotpotqa", "msmarco", "pubmedqa", "tatqa", "techqa",
)  # fmt: skip
_MATH = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)
_MUSR = {
    "murder_mysteries": "murder_mystery",
    "object_placements": "object_placements",
    "team_allocation": "team_allocation",
}

Row = Mapping[str, Any]
Fields = dict[str, Any]


class Benchmark(msgspec.Struct, frozen=True):
    """Where a benchmark is, and how a row of it becomes a query.

    files: task -> path below the root; `{split}` is the split.
    columns: the columns to read.
    make: turns a row, the task and the row's number into a query's fields; None for a row that is not a question.
    """

    files: dict[str, str]
    splits: tuple[str, ...]
    columns: tuple[str, ...]
    make: Callable[[Row, str, int], Fields | None]
    gated: bool = False


class Published:
    """A published benchmark as a suite.

    size: so many rows of each file at random under `seed`; 0 for all. Ids name the row.
    """

    def __init__(self, name: str, *, split: str = "", size: int = 0, seed: int = 42, root: str = HUB) -> None:
        self.name = name
        self.size = size
        self.seed = seed
        self.root = root.rstrip("/")
        self.benchmark = BENCHMARKS[name]
        self.split = split or self.benchmark.splits[0]
        if self.split not in self.benchmark.splits:
            raise DataError(f"suite {name!r} has no split {split!r}; there are: {', '.join(self.benchmark.splits)}")

    def queries(self) -> Iterable[Query]:
        """Yield the queries. Raises `DataError` where a file cannot be read or is laid out otherwise."""
        for task, file in self.benchmark.files.items():
            path = f"{self.root}/{file.format(split=self.split)}"
            for number, row in self._rows(path):
                try:
                    fields = self.benchmark.make(row, task, number)
                except (KeyError, IndexError, TypeError, ValueError, AttributeError, SyntaxError) as error:
                    raise DataError(
                        f"{path}, row {number}: not as {self.name} was laid out ({type(error).__name__}: {error})"
                    ) from None
                if fields is not None:
                    yield Query(**fields)

    def _rows(self, path: str) -> Iterable[tuple[int, Row]]:
        import polars as pl

        try:
            scan = pl.scan_csv(path, infer_schema=False) if path.endswith(".csv") else pl.scan_parquet(path)
            missing = set(self.benchmark.columns) - set(scan.collect_schema().names())
            if missing:
                raise DataError(f"{path}: no column {min(missing)!r}; {self.name} has another layout now")
            rows = scan.select(self.benchmark.columns).with_row_index("row number")
            if self.size:
                count = int(scan.select(pl.len()).collect().item())
                chosen = np.random.default_rng(self.seed).permutation(count)[: self.size]
                rows = rows.filter(pl.col("row number").is_in(sorted(chosen.tolist())))
            for row in rows.collect().iter_rows(named=True):
                yield int(row["row number"]), row
        except (pl.exceptions.PolarsError, OSError) as error:
            gate = "; it is gated: accept its terms on the hub and set HF_TOKEN" if self.benchmark.gated else ""
            raise DataError(
                f"{path}: cannot be read ({(str(error).splitlines() or ['no reason given'])[0][:200]}){gate}"
            ) from None


def published_suite(name: str, what: str, options: Mapping[str, str]) -> Suite:
    """`mmlu-pro`, `openhermes`, `math`, `gpqa`, `musr`, `ragbench`. Options: split, size (rows per file), seed,
    root.
    """
    check_options(name, options, ("split", "size", "seed", "root"))
    if what:
        raise DataError(f"suite {name!r} takes only options, as in {name}?split=...; {what!r} is none")
    size, seed = whole_number(name, options, "size", 0), whole_number(name, options, "seed", 42)
    return Published(name, split=options.get("split", ""), size=size, seed=seed, root=options.get("root", HUB))


# -- rows -----------------------------------------------------------------------------------------------------------


def _mmlu_pro(row: Row, task: str, number: int) -> Fields:
    options = [str(o) for o in row["options"]]
    letter = string.ascii_uppercase[int(row["answer_index"])]
    fields = _choice(f"{task}-{row['question_id']}", row["question"], options, letter)
    return fields | {"task": f"{task}/{row['category']}"}


def _gpqa(row: Row, task: str, number: int) -> Fields:
    right = row["Correct Answer"].strip()
    texts = [right, *(row[f"Incorrect Answer {i}"].strip() for i in (1, 2, 3))]
    name = str(row["Record ID"] or number)
    # the file has the correct answer first; each question is shuffled by its own name, the same everywhere
    seed = int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
    order = np.random.default_rng(seed).permutation(4)
    letter = string.ascii_uppercase[int(np.flatnonzero(order == 0)[0])]
    return _choice(f"{task}-{name}", row["Question"].strip(), [texts[i] for i in order], letter) | {"task": task}


def _musr(row: Row, task: str, number: int) -> Fields:
    choices = row["choices"]
    options = [str(o) for o in (ast.literal_eval(choices) if isinstance(choices, str) else choices)]
    letter = string.ascii_uppercase[int(row["answer_index"])]
    if int(row["answer_index"]) >= len(options):
        raise IndexError("answer_index is beyond the choices")
    return _choice(f"musr-{task}-{number}", f"{row['narrative']}\n\n{row['question']}", options, letter) | {
        "task": f"musr/{task}"
    }


def _math(row: Row, task: str, number: int) -> Fields:
    answer = final_answer(row["solution"]) if "\\boxed" in row["solution"] else None
    scorer = "" if answer is None else "math" if reference_number(answer) is None else "numeric"
    meta = {"level": row["level"]}
    return {
        "id": f"math-{task}-{number}",
        "text": row["problem"],
        "task": f"math/{task}",
        "reference": answer,
        "scorer": scorer,
        "meta": meta,
    }


def _ragbench(row: Row, task: str, number: int) -> Fields:
    documents = "\n\n".join(f"[{i}] {text}" for i, text in enumerate(row["documents"], 1))
    text = f"{documents}\n\nAnswer from the documents above.\n\n{row['question']}"
    return {
        "id": f"ragbench-{task}-{number}",
        "text": text,
        "task": f"ragbench/{task}",
        "reference": row["response"] or None,
    }


def _openhermes(row: Row, task: str, number: int) -> Fields | None:
    turns = [(t["from"], t["value"] or "") for t in row["conversations"]]
    system = next((text for who, text in turns if who == "system"), None)
    asked = next((i for i, (who, text) in enumerate(turns) if who == "human" and text.strip()), None)
    if asked is None:
        return None
    answer = next((text for who, text in turns[asked + 1 :] if who == "gpt"), None)
    source = {"source": row["source"], "category": row["category"]}
    return {
        "id": f"openhermes-{number}", "text": turns[asked][1], "system": system or None, "task": "openhermes",
        "reference": answer,
        "meta": {k: v for k, v in source.items() if v},
    }  # fmt: skip


def _choice(name: str, question: str, options: list[str], letter: str) -> Fields:
    return {
        "id": name,
        "text": lettered(question, options),
        "reference": letter,
        "scorer": "choice",
        "meta": {"options": options},
    }


BENCHMARKS: dict[str, Benchmark] = {
    "mmlu-pro": Benchmark(
        {"mmlu-pro": "TIGER-Lab/MMLU-Pro/data/{split}-*.parquet"},
        ("test", "validation"),
        ("question_id", "question", "options", "answer_index", "category"),
        _mmlu_pro,
    ),
    "openhermes": (
        Benchmark(  # published as one JSON array of 1.9 GB; the hub's own Parquet copy of it can be read in part
            {"openhermes": "teknium/OpenHermes-2.5@~parquet/default/{split}/*.parquet"},
            ("train",),
            ("conversations", "source", "category"),
            _openhermes,
        )
    ),
    "math": Benchmark(
        {task: f"EleutherAI/hendrycks_math/{task}/{{split}}-*.parquet" for task in _MATH},
        ("test", "train"),
        ("problem", "level", "solution"),
        _math,
    ),
    "gpqa": Benchmark(
        {"gpqa": "Idavidrein/gpqa/gpqa_{split}.csv"},
        ("main", "diamond", "extended"),
        ("Record ID", "Question", "Correct Answer", "Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3"),
        _gpqa,
        gated=True,
    ),
    "musr": Benchmark(
        {task: f"TAUR-Lab/MuSR/{file}.csv" for task, file in _MUSR.items()},
        ("all",),
        ("narrative", "question", "choices", "answer_index"),
        _musr,
    ),
    "ragbench": Benchmark(
        {task: f"rungalileo/ragbench/{task}/{{split}}-*.parquet" for task in _RAGBENCH},
        ("test", "validation", "train"),
        ("question", "documents", "response"),
        _ragbench,
    ),
}
