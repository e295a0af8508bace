"""The answers of a collection, or of a table with responses: which prompt failed, with which response, and why.

A run folder is read from its journal, so that failed calls and answers of a run that goes on are seen too; qualities
come from its compacted table, as far as there is one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from r2router.bench.call_key import query_key
from r2router.bench.folder import JOURNAL, OUTCOMES, SCHEMA, last_records, queries_of
from r2router.errors import DataError
from r2router.table.bundled import shown_name
from r2router.table.rows import COLUMNS, FILE, ROW, Reading, read_all_rows
from r2router.text import listing, suggest

_PART = 20_000  # journal records that are held at once
_FAILED = pl.col("error").is_not_null() | (pl.col("response").fill_null("").str.strip_chars() == "")


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which answers are wanted; all that is given must hold.

    arms: arms or models.
    tasks: their labels.
    failed: calls that ended in an error or gave no text.
    below_quality: scored, and lower.
    text: found in the query, whatever the case.
    """

    arms: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    failed: bool = False
    below_quality: float | None = None
    text: str = ""

    def holds(self) -> pl.Expr:
        """True for the rows that are wanted."""
        wanted = [pl.lit(value=True)]
        if self.arms:
            wanted.append(
                pl.col("model").is_in(self.arms) | pl.concat_str("model", "budget", separator="@").is_in(self.arms)
            )
        if self.tasks:
            wanted.append(pl.col("task").fill_null("").is_in(self.tasks))
        if self.failed:
            wanted.append(_FAILED)
        if self.below_quality is not None:
            wanted.append((pl.col("quality") < self.below_quality).fill_null(value=False))
        if self.text:
            wanted.append(pl.col("query").str.to_lowercase().str.contains(self.text.lower(), literal=True))
        return pl.all_horizontal(wanted)


class Answers(msgspec.Struct, frozen=True):
    """What was found.

    rows: in the order of the source, with the columns of a compacted table.
    found: how many there are of them in all.
    asked: how many answers the source has.
    notes: what is missing from it, and how to fix it.
    """

    rows: pl.DataFrame
    found: int
    asked: int
    notes: tuple[str, ...] = ()


def find_answers(
    source: str | Path, wanted: Filter | None = None, *, first: int = 0, maximum: int | None = None
) -> Answers:
    """Return the answers of a run folder or a table that pass the filter, from the `first` on, at most `maximum` of
    them.

    Raises `DataError`, also for an arm or task that the source does not have; `JournalError` where the journal is
    damaged.
    """
    source, wanted = Path(source), wanted or Filter()
    if wanted.below_quality is not None and not 0 <= wanted.below_quality <= 1:
        raise DataError(f"below_quality is {wanted.below_quality}; a quality lies in [0, 1]")
    run = source.is_dir() and (source / JOURNAL).exists()
    frames, notes = _of_run(source) if run else (iter([_of_table(source)]), ())
    kept: list[pl.DataFrame] = []
    asked = found = 0
    arms, models, tasks = set[str](), set[str](), set[str]()
    for frame in frames:
        asked += len(frame)
        models |= set(frame["model"].unique())
        arms |= set(frame.select(pl.concat_str("model", "budget", separator="@").unique()).to_series())
        tasks |= set(frame["task"].fill_null("").unique())
        part = frame.filter(wanted.holds())
        begin = max(first - found, 0)
        room = None if maximum is None else max(maximum - sum(map(len, kept)), 0)
        kept.append(part.slice(begin, room))
        found += len(part)
    for name, asked_for, known in (("arm", wanted.arms, arms | models), ("task", wanted.tasks, tasks)):
        if unknown := sorted(set(asked_for) - known):
            raise DataError(
                f"{shown_name(str(source))}: no answer is of {name} {listing(unknown)}{suggest(unknown[0], known)}"
            )
    if not asked:
        raise DataError(f"{source}: nothing has been collected yet")
    return Answers(pl.concat(kept, how="diagonal_relaxed"), found, asked, tuple(notes))


def _of_table(source: Path) -> pl.DataFrame:
    """Read all rows of a table. Raises `DataError` where it has no responses."""
    rows = read_all_rows(source, Reading(keep=True)).frame.drop(FILE, ROW)
    if "response" not in rows.columns:
        raise DataError(
            f"{shown_name(str(source))}: has no column 'response': only a table that holds the answers can show them"
        )
    lacking = [
        pl.lit(None, dtype=pl.String).alias(c)
        for c in ("reference", "judge_reason", "finish_reason")
        if c not in rows.columns
    ]
    return rows.with_columns(*lacking, pl.col("response").cast(pl.String)).drop(c for c in COLUMNS if c == "simulated")


def _of_run(folder: Path) -> tuple[Iterator[pl.DataFrame], tuple[str, ...]]:
    """Return the answers of a journal in parts, with the qualities of the compacted table; and a note where that one
    lacks some.
    """
    by_words: dict[str, list[Any]] = {}
    for query in queries_of(folder):
        by_words.setdefault(query_key(query), []).append(query)
    key = ("query_id", "model", "budget", "sample")
    scores = None
    note: tuple[str, ...] = (f"no quality is known yet: r2router compact {folder}",)
    if (folder / OUTCOMES).exists():
        kept = read_all_rows(folder / OUTCOMES, Reading(keep=True)).frame
        scores = kept.select(*key, "quality", "judge", "judge_reason").with_columns(
            pl.col("sample").cast(pl.Int64, strict=False)
        )
        older = (folder / OUTCOMES).stat().st_mtime < (folder / JOURNAL).stat().st_mtime
        note = (
            (f"{OUTCOMES} is older than the journal: newer answers have no quality until r2router compact {folder}",)
            if older
            else ()
        )

    def parts() -> Iterator[pl.DataFrame]:
        held: list[dict[str, Any]] = []
        for record in last_records(folder / JOURNAL):
            if record.kind != "cell":
                continue
            fields = msgspec.structs.asdict(record)
            for query in by_words.get(record.query, ()):
                words = {"query_id": query.id, "task": query.task, "query": query.text, "reference": query.reference}
                held.append({name: {**fields, **words}.get(name) for name in SCHEMA})
            if len(held) >= _PART:
                yield scored(held)
                held = []
        if held:
            yield scored(held)

    def scored(held: list[dict[str, Any]]) -> pl.DataFrame:
        frame = pl.DataFrame(held, schema=SCHEMA)
        if scores is None:
            return frame
        return frame.drop("quality", "judge", "judge_reason").join(
            scores, on=key, how="left", nulls_equal=True, maintain_order="left"
        )

    return parts(), note


def why(row: dict[str, Any]) -> str:
    """Say in a few words what happened to an answer: the error, the judge's reason, or how it ended."""
    if row.get("error"):
        return f"the call failed: {row['error']}"
    parts = []
    if not (row.get("response") or "").strip():
        parts.append("no answer came" + (": the whole allowance went into thinking" if row.get("starved") else ""))
    elif row.get("truncated"):
        parts.append("cut off by its budget")
    if (quality := row.get("quality")) is not None and not math.isnan(quality):
        judge = f" by {row['judge']}" if row.get("judge") else ""
        reason = f": {row['judge_reason']}" if row.get("judge_reason") else ""
        parts.append(f"quality {quality:g}{judge}{reason}")
    elif row.get("judge_reason"):
        parts.append(f"not scored: {row['judge_reason']}")
    return "; ".join(parts) or "not scored"
