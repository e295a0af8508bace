"""Outcome tables in files: every layout comes in through `read_rows` and is checked there, row by row.

The long format has one row per (query, arm); its columns are listed in `COLUMNS`. The wide layout of the released R2-Bench has
one CSV per LLM (the file's name is the model) with columns `10_score`, `10_count`, ... `unlimited_score`, `unlimited_count`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from r2router.errors import ConfigError, DataError
from r2router.pool.pool import Pool, budget_order
from r2router.table.judges import check_one_judge, rows_of_judge
from r2router.table.refused import refuse_address, refuse_fields, refuse_json
from r2router.text import listing, suggest
from r2router.types import Budget, FloatArray, Model

COLUMNS: dict[str, Any] = {
    "query_id": pl.String,
    "task": pl.String,
    "query": pl.String,
    "model": pl.String,
    "budget": pl.String,
    "quality": pl.Float64,
    "input_tokens": pl.Float64,
    "cached_tokens": pl.Float64,
    "output_tokens": pl.Float64,
    "reasoning_tokens": pl.Float64,
    "cost_usd": pl.Float64,
    "error": pl.String,
    "sample": pl.String,
    "judge": pl.String,
    "control": pl.String,
    "simulated": pl.String,
}
_REQUIRED = ("query", "model", "budget", "quality")
_AMOUNTS = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost_usd")
_MOST = 1e9  # tokens or dollars of one answer that no answer can have
_BROKEN_SHARE = 0.01  # so many rows may hold an impossible amount before the file counts as broken
_WIDE = re.compile(r"(\d+|unlimited)_(score|count)")
_QUERY_NAMES = ("query", "question", "prompt", "input", "text")


def read_rows(source: Any, columns: Mapping[str, str], judge: str | None = None) -> tuple[pl.DataFrame, list[tuple[str, str]], list[str]]:
    """(rows, (path, sha256) of each file, notes) of one or several sources, in the long format and checked.

    columns: our name -> the source's name. judge: whose rows to take. Raises `DataError` naming source, row, column and value.
    """
    rows, hashes, notes = read_all_rows(source, columns)
    name = _names(source if isinstance(source, (list, tuple)) else [source])
    if judge is not None:
        rows, others = rows_of_judge(rows, judge, name)
        notes += others
    check_one_judge(rows, name)
    _check_duplicates(rows, name)
    return rows, hashes, notes


def read_all_rows(source: Any, columns: Mapping[str, str]) -> tuple[pl.DataFrame, list[tuple[str, str]], list[str]]:
    """As `read_rows`, of all judges; a cell may then stand there more than once."""
    unknown = set(columns) - set(COLUMNS)
    if unknown:
        raise DataError(f"column mapping: {min(unknown)!r} is not a column of ours{suggest(min(unknown), COLUMNS)}")
    sources = source if isinstance(source, (list, tuple)) else [source]
    if not sources:
        raise DataError("no table is given: name at least one file or data frame")
    frames, hashes, notes, there = [], [], [], set[str]()
    for one in (file for entry in sources for file in _files(entry)):
        name = "the data frame" if isinstance(one, pl.DataFrame) else str(one)
        frame = one if isinstance(one, pl.DataFrame) else _scan(str(one))
        refuse_fields(frame.columns, name)
        there |= set(frame.columns)
        height = len(frame)
        if any(_WIDE.fullmatch(c) for c in frame.columns):
            if "://" in name and (Path(name).suffix.lower() not in _READERS or any(c in name for c in "*?[")):
                raise DataError(
                    f"{name}: a wide table is of the LLM that its file is named after: give the files one by one, or their folder"
                )
            frame = _from_wide(frame, Path(name).stem, name, columns)
        frame, found = _check(_named(frame, columns, name), name, height)
        frames.append(frame)
        notes += found
        if not isinstance(one, pl.DataFrame):
            hashes.append((name, "" if "://" in name else sha256(Path(name))))
    if not frames or sum(map(len, frames)) == 0:
        raise DataError(f"{_names(sources)}: no rows; an outcome table has one row per query, model and budget")
    if absent := [(ours, theirs) for ours, theirs in columns.items() if theirs not in there]:
        raise DataError(f"{_names(sources)}: no column {absent[0][1]!r}, which is mapped to {absent[0][0]!r}{suggest(absent[0][1], there)}")
    return pl.concat(frames), hashes, notes


def arms_of(rows: pl.DataFrame) -> list[Model]:
    """The models of the rows in order of appearance, each with its budgets sorted as a person would."""
    seen: dict[str, dict[str, Budget]] = {}
    for model, budget in rows.select("model", "budget").unique(maintain_order=True).iter_rows():
        seen.setdefault(model, {})[budget] = Budget.of(budget)
    return [Model(id=m, upstream=m, budgets=tuple(sorted(b.values(), key=budget_order))) for m, b in seen.items()]


def fit_to_pool(rows: pl.DataFrame, pool: Pool, *, drop_unknown: bool) -> tuple[pl.DataFrame, list[str]]:
    """The rows whose arm is in the pool, and a note on the others. Raises `DataError` for those unless they may be dropped."""
    arms = pl.concat_str("model", "budget", separator="@")
    strange = rows.filter(~arms.is_in(list(pool.arms)))
    if strange.is_empty():
        return rows, []
    model, budget = strange.row(0, named=True)["model"], strange.row(0, named=True)["budget"]
    known = {m.id for m in pool.models}
    what = f"budget {budget!r} of model {model!r}" if model in known else f"model {model!r}"
    if not drop_unknown:
        meant = "" if model in known else suggest(model, known)
        raise DataError(
            f"{what} ({len(strange)} rows in all) is not in the pool{meant}: add it there, or leave such rows out "
            "(drop_unknown=True, --drop-unknown)"
        )
    rest = rows.filter(arms.is_in(list(pool.arms)))
    if rest.is_empty():
        raise DataError(f"no rows are left: none of the {len(rows)} is of an arm in the pool ({', '.join(pool.arms[:6])})")
    return rest, [f"{len(strange)} rows of arms that are not in the pool were left out"]


def pivot(rows: pl.DataFrame, pool: Pool, names: Sequence[str]) -> dict[str, tuple[str, ...] | FloatArray]:
    """The words of each query and one (n, arms) array a name. Several samples of a cell give their mean; a failed call gives nothing."""
    queries = rows.unique("query_id", keep="first", maintain_order=True)
    row = {q: i for i, q in enumerate(queries["query_id"])}
    cells = rows.with_columns(pl.when(pl.col("error").is_null()).then(pl.col(n)).alias(n) for n in names)
    if rows["sample"].null_count() < len(rows):
        cells = cells.group_by("query_id", "model", "budget", maintain_order=True).agg(pl.col(n).mean() for n in names)
    at_row = cells["query_id"].replace_strict(row, return_dtype=pl.Int64).to_numpy()
    arms = (cells["model"] + "@" + cells["budget"]).replace_strict({str(a): i for a, i in pool.index.items()}, return_dtype=pl.Int64)
    arrays: dict[str, tuple[str, ...] | FloatArray] = {}
    for name in names:
        array = np.full((len(queries), len(pool)), np.nan)
        array[at_row, arms.to_numpy()] = cells[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
        arrays[name] = array
    words = {"query_ids": "query_id", "queries": "query", "tasks": "task"}
    return {ours: tuple(queries[theirs]) for ours, theirs in words.items()} | arrays


def controls_of(rows: pl.DataFrame) -> tuple[dict[str, str], list[str]]:
    """(arm -> how its budget was enforced, notes on arms with several ways, of which the most frequent counts)."""
    known = rows.filter(pl.col("control").is_not_null() & pl.col("error").is_null())
    arm = pl.concat_str("model", "budget", separator="@").alias("arm")
    counts = known.group_by(arm, "control", maintain_order=True).len().sort("len", descending=True, maintain_order=True)
    mixed = counts.filter(pl.col("arm").is_duplicated())["arm"].unique(maintain_order=True).to_list()
    notes = [f"the budgets of {listing(mixed)} were enforced in several ways; the most frequent one counts"] if mixed else []
    first = counts.unique("arm", keep="first", maintain_order=True)
    return dict(zip(first["arm"].to_list(), first["control"].to_list(), strict=True)), notes


def simulations_of(rows: pl.DataFrame) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(how the simulated rows were made, the note that says so); both empty where all rows are real."""
    made = rows["simulated"].drop_nulls()
    if not len(made):
        return (), ()
    ways = tuple(made.unique(maintain_order=True))
    share = "all rows" if len(made) == len(rows) else f"{len(made):,} of {len(rows):,} rows"
    return ways, (simulation_note(share, ways),)


def simulation_note(share: str, ways: Sequence[str]) -> str:
    """The note of a table with simulated rows."""
    return f"{share} are simulated, nothing may be claimed from them: {'; '.join(ways)}"


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -- one source -----------------------------------------------------------------------------------------------------


def _files(entry: Any) -> list[Any]:
    if isinstance(entry, (pl.DataFrame, pl.LazyFrame)):
        return [entry.collect() if isinstance(entry, pl.LazyFrame) else entry]
    if not isinstance(entry, (str, os.PathLike)):
        raise DataError(f"a table is read from paths or data frames, not from {type(entry).__name__}")
    text = os.fspath(entry)
    if "://" in text:
        return [text]
    path = Path(text)
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix.lower() in _READERS)
        if not found:
            raise DataError(f"{path}: the folder holds no table ({', '.join(_READERS)})")
        return found
    if not path.exists():
        raise DataError(f"{path}: no such file")
    return [path]


def _read_csv(path: str) -> pl.DataFrame:
    return pl.scan_csv(path, infer_schema=False).collect()  # as text: a query "1.10" stays what it is, and numbers are read once


def _read_json_lines(path: str) -> pl.DataFrame:
    return pl.scan_ndjson(path, infer_schema_length=None).collect()


def _read_parquet(path: str) -> pl.DataFrame:
    return pl.scan_parquet(path).collect()


_READERS = {
    ".parquet": _read_parquet,
    ".csv": _read_csv,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
}


def _scan(path: str) -> pl.DataFrame:
    suffix = Path(path).suffix.lower()
    reader = _READERS.get(suffix) or (_read_parquet if "://" in path else None)
    refuse_address(path)
    if reader is None:
        if suffix == ".json":
            refuse_json(path)
        raise DataError(f"{path}: cannot tell its format from {suffix!r}: name it {', '.join(_READERS)}")
    try:
        return reader(path)
    except pl.exceptions.NoDataError:
        raise DataError(f"{path}: the file is empty") from None
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:  # a damaged Parquet file makes polars panic
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise DataError(f"{path}: cannot be read as {suffix.lstrip('.') or 'Parquet'} ({why})") from None


def _from_wide(frame: pl.DataFrame, model: str, name: str, columns: Mapping[str, str]) -> pl.DataFrame:
    """The long form of one LLM's wide file."""
    query = columns.get("query") or next((c for c in _QUERY_NAMES if c in frame.columns), None)
    if query is None or query not in frame.columns:
        raise DataError(f"{name}: no column with the query's text; name it, for example columns={{'query': 'prompt'}}")
    budgets = sorted(
        {m[1] for c in frame.columns if (m := _WIDE.fullmatch(c))}, key=lambda b: (b == "unlimited", int(b) if b.isdigit() else 0)
    )
    words = {"query": query, "query_id": columns.get("query_id", "query_id"), "task": columns.get("task", "task")}
    fixed = [_column(frame, theirs, pl.String, theirs, name).alias(ours) for ours, theirs in words.items()]
    if words["query_id"] not in frame.columns:
        fixed[1] = pl.Series("query_id", range(len(frame))).cast(pl.String)
    parts = []
    for budget in budgets:
        columns_of = {"quality": f"{budget}_score", "output_tokens": f"{budget}_count"}
        values = [_column(frame, theirs, pl.Float64, theirs, name).alias(ours) for ours, theirs in columns_of.items()]
        parts.append(pl.DataFrame([*fixed, *values]).with_columns(model=pl.lit(model), budget=pl.lit(budget)))
    return pl.concat(parts)


def _named(frame: pl.DataFrame, columns: Mapping[str, str], name: str) -> pl.DataFrame:
    """The frame's columns under our names and types; optional ones that it lacks are null."""
    source = {ours: columns.get(ours, ours) for ours in COLUMNS}
    if source["budget"] not in frame.columns and "budget_tokens" in frame.columns:
        source["budget"] = "budget_tokens"
    missing = [ours for ours in _REQUIRED if source[ours] not in frame.columns and ours not in frame.columns]
    if missing:
        there = ", ".join(frame.columns[:12])
        raise DataError(f"{name}: no column {missing[0]!r} (there are: {there}); map it, for example columns={{'{missing[0]}': '...'}}")
    chosen = []
    for ours, kind in COLUMNS.items():
        theirs = source[ours] if source[ours] in frame.columns else ours
        chosen.append(_column(frame, theirs, kind, ours, name).alias(ours))
    return pl.DataFrame(chosen).with_columns(
        pl.col("task").fill_null(""),
        pl.coalesce("query_id", "query").alias("query_id"),
        pl.col("error", "judge").replace("", None),
        pl.col("simulated").replace(dict.fromkeys(("", "0", "false", "False"))),
    )


def _column(frame: pl.DataFrame, column: str, kind: Any, known_as: str, name: str) -> pl.Series:
    """A column as text or numbers; nulls where the frame does not have it. Raises `DataError`."""
    if column not in frame.columns:
        return pl.repeat(None, len(frame), dtype=kind, eager=True)
    try:
        return _numbers(frame[column], known_as, name) if kind == pl.Float64 else _text(frame[column])
    except pl.exceptions.PolarsError:
        raise DataError(f"{name}: column {column!r} cannot be read as {'numbers' if kind == pl.Float64 else 'text'}") from None


def _text(column: pl.Series) -> pl.Series:
    """As text; 150.0 is 150, as whole numbers become fractions wherever a column has a gap."""
    if column.dtype.is_float():
        column = column.fill_nan(None)
        if (column.drop_nulls() == column.drop_nulls().round()).all() and not column.is_infinite().any():
            column = column.cast(pl.Int64)
    return column.cast(pl.String)


def _numbers(column: pl.Series, ours: str, name: str) -> pl.Series:
    """As numbers; NaN is null, as nothing was observed either way. Raises `DataError` naming the first row that is no number."""
    numbers = column.cast(pl.Float64, strict=False)
    if numbers.null_count() > column.null_count():
        words = column.cast(pl.String).str.strip_chars().str.to_lowercase().replace({"true": "1", "false": "0", "": None})
        numbers = words.cast(pl.Float64, strict=False)
        if numbers.null_count() > words.null_count():
            row = int((numbers.is_null() & words.is_not_null()).arg_max() or 0)
            raise DataError(f"{name}, row {row + 1}: {ours} is {column[row]!r}; it must be a number")
    return numbers.fill_nan(None)


def _check(rows: pl.DataFrame, name: str, height: int) -> tuple[pl.DataFrame, list[str]]:
    """Checked rows and notes. An impossible amount in a few rows is a failed measurement, and counts as not observed.

    height: rows of the source; a wide one gives several of ours for each.
    """
    numbered = rows.with_columns(row=pl.int_range(pl.len()) % max(height, 1) + 1)
    for column in ("query_id", "query", "model", "budget"):
        _refuse(numbered.filter(pl.col(column).is_null() | (pl.col(column) == "")), name, column, "must not be empty")
    for column in ("model", "budget"):
        _refuse(numbered.filter(pl.col(column).str.contains(r"[@\s\x1c-\x1f]")), name, column, "must not hold '@' or white space")
    _refuse(numbered.filter(~pl.col("quality").is_between(0, 1)), name, "quality", "must lie in [0, 1]; divide percentages by 100")
    rows = rows.with_columns(budget=_budgets(numbered, name))
    notes = []
    for column in _AMOUNTS:
        broken = numbered.filter((pl.col(column) < 0) | (pl.col(column) > _MOST))
        if broken.is_empty():
            continue
        if len(broken) > _BROKEN_SHARE * len(rows):
            _refuse(broken, name, column, f"must be finite and at least 0, at most {_MOST:g} ({len(broken)} of {len(rows)} rows are not)")
        first = broken.row(0, named=True)
        where = f"row {first['row']}, {first['model']}@{first['budget']}: {first[column]:g}"
        notes.append(f"{name}: {len(broken)} impossible {column} count as not observed (first: {where})")
        rows = rows.with_columns(pl.when(pl.col(column).is_between(0, _MOST)).then(pl.col(column)).alias(column))
    return rows, notes


def _budgets(rows: pl.DataFrame, name: str) -> pl.Series:
    """The budgets in the spelling of `Budget.of`, so that `1k` of one file is `1000` of another."""
    meant = {}
    for spelled in rows["budget"].unique(maintain_order=True):
        try:
            meant[spelled] = Budget.of(spelled).id
        except ConfigError as error:
            first = rows.filter(pl.col("budget") == spelled)["row"][0]
            raise DataError(f"{name}, row {first}: {error}") from None
    return rows["budget"].replace({k: v for k, v in meant.items() if k != v})


def _refuse(rows: pl.DataFrame, name: str, column: str, rule: str) -> None:
    if not rows.is_empty():
        first = rows.row(0, named=True)
        arm = f" of {first['model']}@{first['budget']}" if column == "quality" or column in _AMOUNTS else ""
        raise DataError(f"{name}, row {first['row']}: {column}{arm} is {first[column]!r}; it {rule}")


def _check_duplicates(rows: pl.DataFrame, name: str) -> None:
    key = ["query_id", "model", "budget", "sample"]
    if _distinct(rows, key) < len(rows) and len(twice := rows.filter(pl.struct(key).is_duplicated())):
        q, m, b, _ = twice.select(key).row(0)
        raise DataError(
            f"{name}: query {q!r} has {m}@{b} more than once ({len(twice)} rows so); keep one, or number them in a column 'sample'"
        )
    if _distinct(rows, ["query_id", "query"]) > _distinct(rows, ["query_id"]):
        texts = rows.select("query_id", "query").unique(maintain_order=True).filter(pl.col("query_id").is_duplicated())
        raise DataError(f"{name}: query_id {texts['query_id'][0]!r} stands for different texts; give each query an id of its own")


def _distinct(rows: pl.DataFrame, key: list[str]) -> int:
    """How many different keys there are, by 64-bit hash: several times faster than to group them."""
    return rows.select(key).hash_rows().n_unique()


def _names(sources: Iterable[Any]) -> str:
    return ", ".join("the data frame" if isinstance(s, (pl.DataFrame, pl.LazyFrame)) else str(s) for s in sources)
