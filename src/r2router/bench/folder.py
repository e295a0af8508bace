"""The folder of a collection: the journal, the queries that it asked, and the table made of both.

journal.jsonl       one record per call
judgements.jsonl    one record a judgement, where LLMs have judged the answers
queries.jsonl       every query asked, so that the folder can be judged and compacted without its suite
outcomes.parquet    the table, made by `compact`
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from r2router.bench.call_key import query_key
from r2router.bench.judging.kept import RecordedJudgements
from r2router.bench.record import Record, number_of, read_records, read_summaries
from r2router.bench.scoring import check_choice, sandbox_in_force, scorer_named
from r2router.bench.spread import ScoringTask, score_answers
from r2router.bench.suite import JsonLines, Query, Score
from r2router.bench.thinking import without_thinking
from r2router.errors import DataError, SaveError
from r2router.executors import Executor, Here, batched
from r2router.files import check_output, scratch_folder, whole_file

JOURNAL, QUERIES, OUTCOMES = "journal.jsonl", "queries.jsonl", "outcomes.parquet"

SCHEMA: dict[str, Any] = {
    **dict.fromkeys(("query_id", "task", "query", "reference", "model", "budget"), pl.String),
    "budget_tokens": pl.Int64,
    "control": pl.String,
    "quality": pl.Float64,
    **dict.fromkeys(("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"), pl.Int64),
    **dict.fromkeys(("response", "finish_reason"), pl.String),
    **dict.fromkeys(("truncated", "starved"), pl.Boolean),
    **dict.fromkeys(("cost_usd", "paid_usd", "latency_s", "ttft_s"), pl.Float64),
    **dict.fromkeys(("judge", "judge_reason", "error"), pl.String),
    "sample": pl.Int64,
}
"""The columns of a compacted collection: the design's row, and how the budget was enforced and what was really paid."""

_PART = 100_000
_UNJUDGED = (Score(quality=None, judge=""),)


def remember(folder: Path, queries: Iterable[Query]) -> int:
    """Keep the queries in the folder, beside those of earlier runs; gives how many have another reference, scorer or
    task than before.

    What is scored against is no part of a call, so the answers stay and are scored by what the queries say now. Raises
    `DataError` where an id stands for other words there.
    """
    path = folder / QUERIES
    known = {q.id: q for q in JsonLines(path).queries()} if path.exists() else {}
    fresh, changed = not path.exists(), 0
    for query in queries:
        if (before := known.get(query.id)) is None:
            fresh = True
        elif query_key(before) != query_key(query):
            raise DataError(
                f"{folder}: query {query.id!r} was collected before with a different text; choose another folder or"
                " another id"
            )
        else:
            changed += before != query
        known[query.id] = query
    if fresh or changed:
        encoder = msgspec.json.Encoder()
        with whole_file(path) as file:
            file.writelines(encoder.encode(q) + b"\n" for q in known.values())
    return changed


def queries_of(folder: Path) -> list[Query]:
    """Return the queries of a collection. Raises `DataError`."""
    if not (folder / QUERIES).exists():
        raise DataError(f"{folder}: {_no_queries(folder)}")
    return list(JsonLines(folder / QUERIES).queries())


def _no_queries(folder: Path) -> str:
    if (folder / JOURNAL).exists():
        return (
            f"{QUERIES} is lost; the answers are there: run the same r2router collect again, which writes it and asks"
            " nothing twice"
        )
    return f"is no collection ({QUERIES} is missing); make one with r2router collect"


def last_records(path: Path) -> Iterator[Record]:
    """Yield the records that count, one per key: where it has several, as calls were made again, the last answer, else
    the last error.
    """
    keys, ranks = array("Q"), array("b")
    for seen in read_summaries(path):
        keys.append(number_of(seen.key))
        ranks.append(0 if seen.error is not None else 1 if seen.doubt else 2)
    if not keys:
        return
    order = np.lexsort(
        (np.arange(len(keys)), np.frombuffer(ranks, dtype=np.int8), np.frombuffer(keys, dtype=np.uint64))
    )
    sorted_keys = np.frombuffer(keys, dtype=np.uint64)[order]
    counts = np.zeros(len(keys), dtype=np.bool_)
    counts[order[np.append(sorted_keys[1:] != sorted_keys[:-1], True)]] = True
    for record, does in zip(read_records(path), counts, strict=False):  # what was added meanwhile is for the next time
        if does:
            yield record


class Compacted(msgspec.Struct, frozen=True):
    """What a compacted table holds: rows, those with a quality, and those with an error instead of an answer.

    left_out: answers that have no row, as the folder's queries do not have theirs.
    """

    rows: int = 0
    judged: int = 0
    errors: int = 0
    left_out: int = 0


def compact(
    folder: str | Path, out: str | Path | None = None, *, scorer: str = "", scorers: Sequence[str] = (),
    trust_code: bool = False,
    spread: Executor | None = None, say: Callable[[str], None] = lambda _: None,
) -> Compacted:  # fmt: skip
    """Write the collection as one Parquet table, and say what it holds.

    Each cell has a row for everyone who judged it: its query's own scorer (or `scorer`), further `scorers`, and every
    LLM judge whose judgements are in the folder; a cell that nobody judged has one row without a quality.

    trust_code: the queries may name `code-trusted`.
    spread: where the scorers run; by default in this process.
    say: called with a line about the sandbox, where one is needed.

    Raises `DataError`, `JournalError`, `SaveError`.
    """
    folder = Path(folder)
    for name in (scorer, *scorers):
        if name:
            scorer_named(name)
    by_words: dict[str, list[Query]] = {}
    queries = queries_of(folder)
    check_choice(queries, trust_code=trust_code)
    if (told := sandbox_in_force({*scorers, *(q.scorer or scorer for q in queries)})) is not None:
        say(told)
    for query in queries:
        by_words.setdefault(query_key(query), []).append(query)
    kept, left_out = RecordedJudgements(folder), 0

    def cells() -> Iterator[tuple[tuple[Record, Query], ScoringTask]]:
        nonlocal left_out
        for record in last_records(folder / JOURNAL):
            if record.kind != "cell":
                continue
            found = by_words.get(record.query, ())
            left_out += not found
            for query in found:
                yield (record, query), answer_of(record, query, query.scorer or scorer, *scorers)

    rows = (
        _row(record, query, score)
        for (record, query), local in score_answers(cells(), spread or Here())
        for score in (*local, *_kept(kept, record, query)) or _UNJUDGED
    )
    if out is not None and not _is_own(folder, out):
        check_output(out, (".parquet",))
    target = Path(os.path.realpath(out if out is not None else folder / OUTCOMES))
    counts = [0, 0, 0]
    try:
        with scratch_folder(target) as parts:
            for number, part in enumerate(batched(rows, _PART)):
                frame = pl.DataFrame(part, schema=SCHEMA)
                frame.write_parquet(parts / f"{number:06}.parquet")
                for i, column in enumerate(("model", "quality", "error")):
                    counts[i] += len(frame) - frame[column].null_count()
            if not counts[0]:
                raise DataError(f"{folder}: nothing has been collected yet")
            whole = parts / "whole"
            pl.scan_parquet(sorted(parts.glob("*.parquet")), glob=False).sink_parquet(whole)
            os.replace(whole, target)
    except (OSError, pl.exceptions.PolarsError) as error:  # polars has a full disk as an error of its own
        why = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise SaveError(f"{target}: cannot be written ({why}); what was there before is untouched") from None
    return Compacted(counts[0], counts[1], counts[2], left_out)


def _is_own(folder: Path, out: str | Path) -> bool:
    """Return whether a path is the folder's own table."""
    return os.path.realpath(out) == os.path.realpath(folder / OUTCOMES)


def answer_of(record: Record, query: Query, *scorers: str) -> ScoringTask:
    """Return a record for local scorers to score, by name, where not empty; for none of them where there is no
    answer.
    """
    names = () if _unanswered(record) else tuple(name for name in dict.fromkeys(scorers) if name)
    return ScoringTask(query, record.response or "", names)


def _unanswered(record: Record) -> bool:
    return record.error is not None or record.response is None


def _kept(kept: RecordedJudgements, record: Record, query: Query) -> Iterable[Score]:
    """Return what LLM judges said of it."""
    return () if _unanswered(record) else kept.scores(query, record.response or "")


def _row(record: Record, query: Query, score: Score) -> dict[str, Any]:
    fields = msgspec.structs.asdict(record)
    words = {"query_id": query.id, "task": query.task, "query": query.text, "reference": query.reference}
    words["response"] = record.response if record.response is None else without_thinking(record.response)
    judged = {
        "quality": score.quality,
        "judge": score.judge or None,
        "judge_reason": score.reason or score.error or None,
    }
    return {name: {**fields, **words, **judged}[name] for name in SCHEMA}
