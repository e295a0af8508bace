"""Prompts as people keep them: a column of a table, chat logs with `messages`, or one text per line."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from r2router.bench.suites.chat import messages_of, text_of
from r2router.errors import DataError, QueryError
from r2router.files import check_file, check_text
from r2router.stream.read import batches
from r2router.table.parquet_size import check_unpacked
from r2router.table.sources import sha256
from r2router.text import listing

ENDINGS = (".csv", ".jsonl", ".ndjson", ".json", ".parquet", ".txt")
_NAMES = ("query", "prompt", "text", "question", "input", "instruction", "request", "content", "message", "user")
_CHATS = ("messages", "conversation", "conversations")
_SPEAKERS = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}
_LONGEST_HEADER = 1 << 20
_MAX_JSON = 256 << 20  # bytes of a .json file, which is read whole


class Prompts(msgspec.Struct, frozen=True):
    """Prompts to be judged.

    texts: what to route by.
    before: what else is sent with each (system prompt, earlier turns), or "".
    left_out: (why, how many) rows that hold no prompt.
    source: (file, sha256), where they come from one.
    notes: what was done.
    """

    texts: tuple[str, ...]
    before: tuple[str, ...]
    left_out: tuple[tuple[str, int], ...] = ()
    source: tuple[str, str] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)


def read_prompts(path: str | Path, column: str | None = None) -> Prompts:
    """Return the prompts of a file: CSV, JSON, JSON lines, Parquet, or plain text with one prompt per line.

    A row's prompt is a text or a chat: a list of `messages`, of which the last turn of the user is the prompt.

    column: where it stands; by default a column of a usual name (query, prompt, text, question, messages, ...), else
        the only one that holds texts. A table of outcomes counts each `query_id` once.

    Raises `DataError` where there is no prompt at all.
    """
    path = Path(path)
    kind = path.suffix.lower()
    if kind not in ENDINGS:
        raise DataError(f"{path}: cannot tell its format from {kind!r}: name it {', '.join(ENDINGS)}")
    if not path.exists():
        raise DataError(f"{path}: no such file")
    check_file(path)
    if path.stat().st_size == 0:
        raise DataError(f"{path}: the file is empty; give one prompt per row or line")
    if kind == ".txt" and column is not None:
        raise DataError(f"{path}: a text file has no columns, so that column {column!r} means nothing")
    rows: Iterator[Any] = {".csv": _csv, ".parquet": _parquet, ".json": _json, ".txt": _lines}.get(kind, _json_lines)(
        path, column
    )
    notes: list[str] = []
    try:
        found = prompts_of(_once(rows, notes), column, str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    return msgspec.structs.replace(found, source=(path.name, sha256(path)), notes=tuple(notes))


def prompts_of(rows: Iterable[Any], column: str | None = None, where: str = "prompts") -> Prompts:
    """Return the prompts of rows that are texts, lists of messages, or objects that hold either. Raises `DataError`
    where none is a prompt.
    """
    texts, before, left = list[str](), list[str](), Counter[str]()
    seen = list[str]()
    for row in rows:
        text, rest, problem = _prompt(row, column)
        if problem:
            left[problem] += 1
            seen = seen or (list(row) if isinstance(row, Mapping) else [])
            continue
        texts.append(text)
        before.append(rest)
    if not texts:
        there = (
            f"; there are the columns {listing(seen, 12)}: name the one that holds the prompts with --column"
            if seen
            else ""
        )
        why = "; ".join(f"{count:,} rows: {reason}" for reason, count in left.most_common(3))
        raise DataError(f"{where}: no prompt in it ({why or 'it has no rows'}){there}")
    return Prompts(tuple(texts), tuple(before), tuple(left.most_common()))


class _Unreadable(str):
    """Why a row cannot be read, in place of the row."""

    __slots__ = ()


def _prompt(row: Any, column: str | None) -> tuple[str, str, str]:
    """Return (the prompt, what is sent before it, why there is none)."""
    if isinstance(row, _Unreadable):
        return "", "", str(row)
    if isinstance(row, Mapping):
        if column is None and (messages := messages_of(row)) is not None:
            return _chat(messages)
        name = column if column is not None else _column_of(row)
        if name is None or name not in row:
            return "", "", f"no column {column!r}" if column else "no column that holds a prompt"
        row = row[name]
    if isinstance(row, str) and row.lstrip()[:1] == "[" and '"content"' in row:  # a chat within a CSV
        try:
            row = msgspec.json.decode(row)
        except (msgspec.DecodeError, RecursionError):
            return _text(row)
    if isinstance(row, Sequence) and not isinstance(row, str):
        return _chat(row)
    return _text(row)


def _text(value: Any) -> tuple[str, str, str]:
    if not isinstance(value, str):
        return "", "", "empty" if value is None else "not text"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "", "", "not valid UTF-8"
    return (value, "", "") if value.strip() else ("", "", "empty")


def _chat(messages: Sequence[Any]) -> tuple[str, str, str]:
    """The last turn of the user is the prompt; what stands before it is sent with it."""
    turns = [
        (_speaker(m), text_of({"content": m.get("content", m.get("value"))}))
        for m in messages
        if isinstance(m, Mapping)
    ]
    last = max((i for i, (speaker, _) in enumerate(turns) if speaker == "user"), default=None)
    if last is None:
        return "", "", "a chat without a turn of the user"
    text, _, problem = _text(turns[last][1])
    return (
        text,
        "\n".join(words for _, words in turns[:last] if words),
        "the last turn of the user is not text alone" if problem else "",
    )


def _speaker(message: Mapping[str, Any]) -> str:
    name = str(message.get("role") or message.get("from") or "")
    return _SPEAKERS.get(name, name)


def _column_of(row: Mapping[str, Any]) -> str | None:
    """Return the column that holds the prompt: by its name, or as the only one that holds texts or a chat."""
    plain = {str(name).strip().casefold(): name for name in row}
    for wanted in (*_CHATS, *_NAMES):
        if wanted in plain and row[plain[wanted]] is not None:
            return str(plain[wanted])
    part_of = [
        name
        for name in plain
        if any(word in name for word in ("prompt", "question", "query", "messages")) and "id" not in name
    ]
    texts = [name for name in plain if isinstance(row[plain[name]], (str, list)) and not name.endswith("id")]
    only = next((found for found in (part_of, texts) if len(found) == 1), None)
    return None if only is None else str(plain[only[0]])


def _once(rows: Iterator[Any], notes: list[str]) -> Iterator[Any]:
    """Yield the rows; of a table of outcomes (a model per row) the first of each query."""
    seen, repeated = set[Any](), 0
    for row in rows:
        if isinstance(row, Mapping) and "query_id" in row and "model" in row:
            key = str(row["query_id"])
            if key in seen:
                repeated += 1
                continue
            seen.add(key)
        yield row
    if repeated:
        notes.append(
            f"{repeated:,} further rows of the same query_id are outcomes of other models: each query counts once"
        )


# -- formats ---------------------------------------------------------------------------------------------------------


def _lines(path: Path, column: str | None) -> Iterator[Any]:
    check_text(path)
    for batch in batches(path, 0):
        for i, text in enumerate(batch.queries):
            if (problem := batch.problems.get(i)) != "empty":  # blank lines are no prompts that went missing
                yield text if problem is None else _Unreadable(problem)


def _json_lines(path: Path, column: str | None) -> Iterator[Any]:
    check_text(path)
    for batch in batches(path, 0):
        for i, text in enumerate(batch.queries):
            row = {name: values[i] for name, values in batch.own.items() if values[i] is not None}
            problem = batch.problems.get(i)
            if row or problem is None:
                yield row or text
            elif problem != "empty":
                yield _Unreadable(problem)


def _json(path: Path, column: str | None) -> Iterator[Any]:
    check_text(path)
    if path.stat().st_size > _MAX_JSON:
        raise DataError(f"{path}: larger than {_MAX_JSON >> 20} MiB; write it as JSON lines (.jsonl)")
    try:
        value = msgspec.json.decode(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: malformed JSON: {error}") from None
    if isinstance(value, Mapping) and messages_of(value) is None:
        lists = [v for v in value.values() if isinstance(v, list)]
        value = lists[0] if len(lists) == 1 else value
    if not isinstance(value, list) or (value and all(isinstance(v, Mapping) and "role" in v for v in value)):
        value = [value]
    yield from value


def _csv(path: Path, column: str | None) -> Iterator[Any]:
    check_text(path)
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        try:
            head = next(csv.reader(iter(lambda: file.readline(_LONGEST_HEADER), "")), [])
        except csv.Error as error:
            raise DataError(f"{path}: its first line is no header of a CSV ({error})") from None
    named = column if column is not None else next(iter(head), None)  # the rows come with all their columns
    if column is not None and column not in head:
        raise DataError(f"{path}: no column {column!r}; there are: {', '.join(head[:12])}")
    for batch in batches(path, 0, named):
        for i in range(len(batch)):
            problem = batch.problems.get(i)
            row = {name: values[i] for name, values in batch.own.items() if values[i] is not None}
            yield row if problem in (None, "empty") else _Unreadable(problem)


def _parquet(path: Path, column: str | None) -> Iterator[Any]:
    import polars as pl

    check_unpacked(path)
    try:
        scan = pl.scan_parquet(path, glob=False, hive_partitioning=False)
        schema = scan.collect_schema()
        if column is not None and column not in schema:
            raise DataError(f"{path}: no column {column!r}; there are: {', '.join(list(schema)[:12])}")
        words = [
            name for name, kind in schema.items() if kind in (pl.String, pl.Categorical) or kind == pl.List(pl.Struct)
        ]
        wanted = {column, "query_id", "model"} if column is not None else {*words, "query_id", "model"}
        frame = scan.select([name for name in schema if name in wanted]).collect()
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path}: cannot be read as Parquet ({str(error).splitlines()[0]})") from None
    yield from frame.iter_rows(named=True)


def given_prompts(prompts: str | Path | Prompts | Iterable[Any], column: str | None = None) -> Prompts:
    """Return the prompts of a file, or of a list of texts or chats. Raises `DataError`, `QueryError`."""
    if isinstance(prompts, Prompts):
        return prompts
    if isinstance(prompts, (str, Path)):
        return read_prompts(prompts, column)
    if not isinstance(prompts, Iterable):
        raise QueryError(f"prompts is {type(prompts).__name__}; give the path of a file, or a list of texts or chats")
    return prompts_of(prompts, column)
