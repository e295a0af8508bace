"""What is asked and how answers are judged: the protocols that suites and scorers keep to, and suites in JSON lines."""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import msgspec

from r2router.errors import DataError
from r2router.files import check_text, readable

_BOM = b"\xef\xbb\xbf"  # some editors write it before the first line of a file


class Query(msgspec.Struct, frozen=True, kw_only=True):
    """One question of a suite.

    id: unique in its suite.
    task: a label for sampling and reporting.
    text: what the LLM is asked and what a router will see.
    reference: the correct answer, where there is one.
    system: a system prompt that comes with it.
    scorer: the name of the scorer that judges its answers; empty for the collection's own.
    meta: whatever the scorer needs.
    """

    id: str
    text: str
    task: str = ""
    reference: str | None = None
    system: str | None = None
    scorer: str = ""
    meta: dict[str, Any] = {}


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer is worth.

    quality: in [0, 1]; None where it could not be judged, and `error` then says why: a failed judge is never a 0.
    reason: the judge's words.
    judge: who judged (`exact`, `numeric`, a model's id).
    """

    quality: float | None
    judge: str
    reason: str = ""
    error: str | None = None


class Suite(Protocol):
    """A source of queries; every call of `queries` gives the same ones in the same order."""

    @property
    def name(self) -> str: ...

    def queries(self) -> Iterable[Query]: ...


class Scorer(Protocol):
    """Judges one answer. A local scorer returns its score; one that asks an LLM is an `async def`.

    It does not raise for an answer it cannot judge: it gives a `Score` without a quality.
    """

    @property
    def name(self) -> str: ...

    def score(self, query: Query, response: str) -> Score | Awaitable[Score]: ...


class JsonLines:
    """A suite in a file: one JSON object per line, with the fields of `Query`; `id` may be absent (the line's
    number).
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.name = self.path.stem

    def queries(self) -> Iterable[Query]:
        """Yield the queries in file order. Raises `DataError` naming file, line and field."""
        seen: dict[str, int] = {}
        for number, fields in json_objects(self.path):
            where = f"{self.path}, line {number}"
            query = _query(fields, str(number), where)
            if query.id in seen:
                raise DataError(
                    f"{where}: id {query.id!r} is taken by line {seen[query.id]}; give each query an id of its own"
                )
            seen[query.id] = number
            yield query
        if not seen:
            raise DataError(f"{self.path}: no queries; a suite has one JSON object per line, with at least a text")


def json_objects(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the JSON objects of a file in JSON lines, each with the number of its line; empty lines are skipped.

    Raises `DataError` naming file and line.
    """
    decoder = msgspec.json.Decoder(dict[str, Any])
    check_text(path)
    with readable(path), Path(path).open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                found = decoder.decode(line.removeprefix(_BOM))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise DataError(f"{path}, line {number}: {error}") from None
            yield number, found


def _query(fields: dict[str, Any], number: str, where: str) -> Query:
    try:
        query = msgspec.convert({"id": number, **fields}, Query)
    except (msgspec.ValidationError, RecursionError) as error:
        raise DataError(f"{where}: {error}") from None
    if not query.text.strip() or not query.id:
        raise DataError(f"{where}: text and id must not be empty")
    return query
