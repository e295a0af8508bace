"""Outcome tables of any layout as checked rows: the one door, whatever the file.

The long format has one row per (query, arm); its columns are listed in `COLUMNS`. `r2router.table.wide` turns the other
layout into it.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl

from r2router.errors import ConfigError, DataError
from r2router.table.arrays import FILE as FILE  # noqa: PLC0414 - columns of these rows
from r2router.table.arrays import ROW as ROW  # noqa: PLC0414
from r2router.table.cells import column_of, without_nothing
from r2router.table.judges import check_one_judge, rows_of_judge
from r2router.table.parquet_size import SAFE
from r2router.table.refused import refuse_fields
from r2router.table.responses import NUMBERS, TEXTS, AnswerSource
from r2router.table.sources import Source, files_of, read_source, sha256
from r2router.table.wide import QUERY_NAMES, from_wide, is_wide
from r2router.text import listing, suggest
from r2router.types import Budget

COLUMNS: dict[str, Any] = {
    **dict.fromkeys(("query_id", "task", "query", "model", "budget"), pl.String),
    **dict.fromkeys(
        ("quality", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost_usd"), pl.Float64
    ),
    **dict.fromkeys(
        ("error", "sample", "judge", "control", "simulated", "tokens_basis", "tokens_visible_only"), pl.String
    ),
}
MEASURED, UNMEASURED = ("api", "text", "run_mean", "from_cost"), ("visible_text", "none")
"""What `tokens_basis` may say of a row's output tokens: reported by the API, counted on the whole output, the run's
mean, worked out from the cost; or of the visible text alone, and not known. Counts of the second kind are not used:
hidden thinking is billed too.
"""

_REQUIRED = ("query", "model", "budget", "quality")
_AMOUNTS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost_usd")
_MAX = 1e9  # tokens or dollars of one answer that no answer can have
_BROKEN_SHARE = 0.01  # so many rows may hold an impossible amount before the file counts as broken
_LONGEST = {
    "model": 300,
    "budget": 300,
    "task": 1_000,
    "judge": 1_000,
    "control": 300,
    "sample": 1_000,
    "simulated": 10_000,
}  # characters
_OTHER_NAMES = {
    "query": (*QUERY_NAMES, "q", "instruction", "problem"),
    "model": ("llm", "model_name", "model_id", "engine"),
    "budget": ("effort", "reasoning_effort", "max_tokens", "token_limit", "length"),
    "quality": ("score", "accuracy", "correct", "is_correct", "reward", "grade"),
}


@dataclass(frozen=True, slots=True)
class Reading:
    """How foreign tables are to be understood.

    columns: our name -> the source's.
    judge: whose rows to take, where several judges scored.
    scale: the quality of a correct answer there, which becomes 1.
    rename: name of a model or budget there -> its name here.
    keep: keep the other columns of the sources too.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    judge: str | None = None
    scale: float = 1.0
    rename: Mapping[str, str] = field(default_factory=dict)
    keep: bool = False

    def wants(self, column: str) -> bool:
        """Return whether a column of a source is of use."""
        ours = column in COLUMNS or column == "budget_tokens" or column in self.columns.values()
        return self.keep or ours or column in QUERY_NAMES or is_wide(column)


@dataclass(frozen=True, slots=True)
class Rows:
    """Checked rows.

    files: (name, sha256) of each source that is a file.
    names: of every source, as `FILE` counts them.
    answers: where they stand in each source.
    """

    frame: pl.DataFrame
    files: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]
    names: tuple[str, ...]
    answers: tuple[AnswerSource | None, ...] = ()


def read_rows(source: Any, reading: Reading) -> Rows:
    """Return the rows of one or several sources, at most one per query, arm and sample. Raises `DataError` naming
    source, row and value.
    """
    rows = read_all_rows(source, reading)
    name = ", ".join(dict.fromkeys(rows.names))
    frame, notes = rows.frame, rows.notes
    if reading.judge is not None:
        frame, others = rows_of_judge(frame, reading.judge, name)
        notes += tuple(others)
    check_one_judge(frame, name)
    _check_duplicates(frame, rows.names)
    return Rows(frame, rows.files, notes, rows.names, rows.answers)


def read_all_rows(source: Any, reading: Reading) -> Rows:
    """Read rows like `read_rows`, but of all judges; a cell may then occur more than once."""
    columns = reading.columns
    if unknown := set(columns) - {*COLUMNS, *TEXTS, *NUMBERS}:
        raise DataError(
            f"column mapping: {min(unknown)!r} is not a column of"
            f" ours{suggest(min(unknown), [*COLUMNS, *TEXTS, *NUMBERS])}"
        )
    if not 0 < reading.scale < float("inf"):
        raise DataError(
            f"scale is {reading.scale}; it is the quality of a correct answer in the source, for example 100"
        )
    sources = source if isinstance(source, (list, tuple)) else [source]
    if not sources:
        raise DataError("no table is given: name at least one file or data frame")
    frames, files, notes = list[pl.DataFrame](), list[tuple[str, str]](), list[str]()
    names = list[str]()
    there = set[str]()
    renamed = set[str]()
    answers = list[AnswerSource | None]()
    for one in (file for entry in sources for file in files_of(entry)):
        read = read_source(one, reading.wants)
        refuse_fields(read.columns, read.name)
        there |= set(read.columns)
        frame = _named(read, reading)
        frame, found = _renamed(frame, reading.rename)
        renamed |= found
        frame, found_notes = _check(frame, read)
        frames.append(frame.with_columns(pl.lit(len(names), pl.UInt32).alias(FILE)))
        names.append(read.name)
        whole_frame = one if isinstance(one, pl.DataFrame) else None
        answers.append(AnswerSource.of(read.name, read.path, read.columns, dict(columns), whole_frame))
        notes += [*read.notes, *found_notes]
        if not isinstance(one, pl.DataFrame):
            files.append((read.name, sha256(Path(read.path)) if read.path else ""))
    if not frames or sum(map(len, frames)) == 0:
        raise DataError(f"{', '.join(names)}: no rows; an outcome table has one row per query, model and budget")
    said = ", ".join(names)
    if absent := [(ours, theirs) for ours, theirs in columns.items() if theirs not in there]:
        raise DataError(
            f"{said}: no column {absent[0][1]!r}, which is mapped to {absent[0][0]!r}{suggest(absent[0][1], there)}"
        )
    whole = pl.concat(frames, how="diagonal_relaxed" if reading.keep else "vertical")
    if absent_names := set(reading.rename) - renamed:
        known = [*whole["model"].unique(maintain_order=True), *whole["budget"].unique(maintain_order=True)]
        raise DataError(
            f"{said}: no model or budget is called {listing(sorted(absent_names))}{suggest(min(absent_names), known)}"
        )
    return Rows(whole, tuple(files), tuple(notes), tuple(names), tuple(answers))


# -- one source -----------------------------------------------------------------------------------------------------


def _named(read: Source, reading: Reading) -> pl.DataFrame:
    """Return the source's columns under our names and types; optional ones that it lacks are null. `ROW` is the row
    there.
    """
    frame, columns, scale = read.frame, reading.columns, reading.scale
    if any(map(is_wide, frame.columns)):
        frame, columns, scale = from_wide(read, columns, scale), {}, 1.0
    source = {ours: columns.get(ours, ours) for ours in COLUMNS}
    if source["budget"] not in frame.columns and "budget_tokens" in frame.columns:
        source["budget"] = "budget_tokens"
    source = {ours: theirs if theirs in frame.columns else ours for ours, theirs in source.items()}
    if missing := [ours for ours in _REQUIRED if source[ours] not in frame.columns]:
        raise DataError(f"{read.name}: {_missing(missing[0], read.columns)}")
    chosen = [
        column_of(frame, theirs, COLUMNS[ours], ours, read.name, scale if ours == "quality" else 1.0).alias(ours)
        for ours, theirs in source.items()
    ]
    row = pl.int_range(len(frame), eager=True) % max(len(read.frame), 1) + 1
    rest = [frame[c] for c in frame.columns if c not in COLUMNS and c not in source.values()] if reading.keep else []
    return pl.DataFrame([*chosen, row.cast(pl.UInt32).alias(ROW), *rest])


def _missing(ours: str, columns: Sequence[str]) -> str:
    """Say that a column is missing, and how to name it."""
    if len(columns) == 1 and (mark := next((m for m in (";", "\t", "|") if m in columns[0]), None)):
        return f"no column {ours!r}: the columns seem to stand apart by {mark!r}; save it with commas"
    guess = next((c for c in columns if c.lower() in _OTHER_NAMES[ours]), "NAME")
    there = ", ".join(columns[:12])
    return f"no column {ours!r} (there are: {there}); map it: --column {ours}={guess} (columns={{{ours!r}: {guess!r}}})"


def _renamed(rows: pl.DataFrame, names: Mapping[str, str]) -> tuple[pl.DataFrame, set[str]]:
    """Return the rows with other names of models, or of budgets where no model is called so; and the names that were
    found.
    """
    models = set(rows["model"].unique()) & set(names)
    budgets = set(rows["budget"].unique()) & set(names) - models
    if models:
        rows = rows.with_columns(pl.col("model").replace({old: names[old] for old in models}))
    if budgets:
        rows = rows.with_columns(pl.col("budget").replace({old: names[old] for old in budgets}))
    return rows, models | budgets


def _check(rows: pl.DataFrame, read: Source) -> tuple[pl.DataFrame, list[str]]:
    """Checked rows and notes. An impossible amount in a few rows is a failed measurement, and counts as not
    observed.
    """
    name = read.name
    _check_sizes(rows, read)
    rows = rows.with_columns(pl.col("model", "budget").str.strip_chars())  # "m, 100" as people write CSV
    rows = rows.with_columns(
        without_nothing(pl.col("model")),
        without_nothing(pl.col("budget"), but=frozenset({"none"})),
        *(without_nothing(pl.col(c)) for c in ("error", "judge", "sample", "control")),
        pl.col("task").fill_null(""),
        pl.coalesce("query_id", "query").alias("query_id"),
        without_nothing(pl.col("simulated").replace(dict.fromkeys(("0", "false", "False")))),
    )
    for column in ("query_id", "query", "model", "budget"):
        _refuse(rows.filter(pl.col(column).is_null() | (pl.col(column) == "")), name, column, "must not be empty")
    for column in ("model", "budget"):
        bad = rows.filter(pl.col(column).str.contains(r"[@\s\p{C}]"))
        other = "".join(c if c.isalnum() or c in "._-:/+" else "-" for c in bad[column][0]) if len(bad) else ""
        rule = (
            f"must not hold '@', white space or control characters: --rename {shlex.quote(f'{bad[column][0]}={other}')}"
            if other
            else ""
        )
        _refuse(bad, name, column, f"{rule} calls it otherwise (rename={{...}})")
    out = rows.filter(~pl.col("quality").is_between(0, 1))
    _refuse(out, name, "quality", "must lie in [0, 1]; for percentages give --scale 100 (scale=100)")
    rows = rows.with_columns(budget=_budgets(rows, name))
    notes = []
    for column in _AMOUNTS:
        broken = rows.filter((pl.col(column) < 0) | (pl.col(column) > _MAX))
        if broken.is_empty():
            continue
        if len(broken) > _BROKEN_SHARE * len(rows):
            _refuse(
                broken,
                name,
                column,
                f"must be finite and at least 0, at most {_MAX:g} ({len(broken)} of {len(rows)} rows are not)",
            )
        first = broken.row(0, named=True)
        where = f"row {first[ROW]}, {first['model']}@{first['budget']}: {first[column]:g}"
        notes.append(f"{name}: {len(broken)} impossible {column} count as not observed (first: {where})")
        rows = rows.with_columns(pl.when(pl.col(column).is_between(0, _MAX)).then(pl.col(column)).alias(column))
    rows, found = _measured(rows, name)
    return rows, notes + found


def _measured(rows: pl.DataFrame, name: str) -> tuple[pl.DataFrame, list[str]]:
    """Return the rows without token counts that leave hidden thinking out, and a note on how many those were."""
    if rows["tokens_basis"].null_count() == rows["tokens_visible_only"].null_count() == len(rows):
        return rows, []
    basis, only = (pl.col(c).str.strip_chars().str.to_lowercase() for c in ("tokens_basis", "tokens_visible_only"))
    known = (*MEASURED, *UNMEASURED, "")
    _refuse(rows.filter(~basis.is_in(known)), name, "tokens_basis", f"must be one of {', '.join(known[:-1])}")
    truths, falsehoods = ("true", "1", "1.0", "yes"), ("false", "0", "0.0", "no", "")
    _refuse(rows.filter(~only.is_in((*truths, *falsehoods))), name, "tokens_visible_only", "must be true or false")
    out = (basis.is_in(UNMEASURED) | only.is_in(truths)).fill_null(value=False)
    tokens = ("output_tokens", "reasoning_tokens")
    gone = rows.filter(out & pl.any_horizontal(pl.col(c).is_not_null() for c in tokens))
    if gone.is_empty():
        return rows, []
    rows = rows.with_columns(pl.when(~out).then(pl.col(c)).alias(c) for c in tokens)
    return rows, [
        f"{name}: {len(gone):,} token counts are of the visible text alone; they are not used for lengths and costs"
    ]


def _check_sizes(rows: pl.DataFrame, read: Source) -> None:
    """Refuse names that are too long to be names, and texts that fill the memory though their file is small."""
    for column, maximum in _LONGEST.items():
        lengths = rows[column].str.len_bytes().fill_null(0)
        if (lengths > 4 * maximum).any():
            row = rows[ROW][int(lengths.arg_max() or 0)]
            raise DataError(f"{read.name}, row {row}: {column} is longer than {maximum:,} characters")
    allowed = max(SAFE, 200 * read.bytes)
    if read.bytes and (rows["query"].str.len_bytes().sum() or 0) > allowed:  # rows of one query share its text
        once = rows.unique("query" if rows["query_id"].null_count() else "query_id")
        words = int(once["query"].str.len_bytes().sum()) + int(once["query_id"].str.len_bytes().sum() or 0)
        if words > allowed:
            raise DataError(
                f"{read.name}: has {read.bytes:,} bytes and texts of {words / 1e9:,.1f} GB; that is no table of"
                " outcomes"
            )


def _budgets(rows: pl.DataFrame, name: str) -> pl.Series:
    """Return the budgets in the spelling of `Budget.of`, so that `1k` of one file is `1000` of another."""
    meant = {}
    for spelled in rows["budget"].unique(maintain_order=True):
        try:
            meant[spelled] = Budget.of(spelled).id
        except ConfigError as error:
            first = rows.filter(pl.col("budget") == spelled)[ROW][0]
            raise DataError(f"{name}, row {first}: {error}") from None
    return rows["budget"].replace({k: v for k, v in meant.items() if k != v})


def _refuse(rows: pl.DataFrame, name: str, column: str, rule: str) -> None:
    if not rows.is_empty():
        first = rows.row(0, named=True)
        arm = f" of {first['model']}@{first['budget']}" if column == "quality" or column in _AMOUNTS else ""
        raise DataError(f"{name}, row {first[ROW]}: {column}{arm} is {first[column]!r}; it {rule}")


# -- all sources ----------------------------------------------------------------------------------------------------


def _check_duplicates(rows: pl.DataFrame, names: Sequence[str]) -> None:
    """Raise `DataError` where a cell stands there twice, or an id for two texts; it names the rows."""
    if _distinct(rows, ["query_id", "query"]) > _distinct(rows, ["query_id"]):
        texts = rows.unique(["query_id", "query"], keep="first", maintain_order=True)
        texts = texts.filter(pl.col("query_id").is_duplicated())
        both = texts.filter(pl.col("query_id") == texts["query_id"][0])
        words = " and ".join(repr(text if len(text) <= 60 else text[:57] + "...") for text in both["query"][:2])
        raise DataError(
            f"query_id {both['query_id'][0]!r} stands for different texts: {words}, in {_places(both, names)}; "
            "give each query an id of its own"
        )
    key = ["query_id", "model", "budget", "sample"]
    if _distinct(rows, key) < len(rows) and len(twice := rows.filter(pl.struct(key).is_duplicated())):
        first = twice.row(0, named=True)
        same = twice.filter(pl.all_horizontal(pl.col(c).eq_missing(pl.lit(first[c])) for c in key))
        scores = same["quality"].drop_nulls().unique(maintain_order=True)
        differ = f", with quality {scores[0]:g} and {scores[1]:g}" if len(scores) > 1 else ""
        raise DataError(
            f"{', '.join(dict.fromkeys(names))}: query {first['query_id']!r} has {first['model']}@{first['budget']}"
            f" more than once: {_places(same, names)}{differ} ({len(twice)} rows so); keep one, or number them in a"
            " column 'sample'"
        )


def _places(rows: pl.DataFrame, names: Sequence[str]) -> str:
    """Return the first two of the rows, by file and row."""
    return " and ".join(f"{names[file]}, row {row}" for file, row in rows.select(FILE, ROW).head(2).iter_rows())


def _distinct(rows: pl.DataFrame, key: list[str]) -> int:
    """Return how many different keys there are, by 64-bit hash: several times faster than to group them."""
    return rows.select(key).hash_rows().n_unique()
