"""A record of the journal, and reading them: whole lines only, and nothing that is not a journal of this version."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Literal

import msgspec

from r2router.errors import JournalError
from r2router.files import check_file

VERSION = 1
FORMAT = "r2router-journal"


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one call.

    key: hash of query, model, budget, control and sample.
    query: hash of the query's text and system prompt.
    kind: `cell` for an outcome of an arm; `chain` for the long answer that several arms are cut from; `lost` for money
        alone: calls that were under way when a run was killed. input_tokens ...
    reasoning_tokens: of the arm; under prefix sharing prompt + cut + forced answer, whoever paid for it.
    finish_reason: the provider's, or `forced` for an answer behind a cut.
    truncated: the budget cut it off.
    starved: the whole allowance went into thinking, and no answer came.
    cost_usd: of the arm's tokens.
    paid_usd: what this call itself cost, failed attempts that may be billed included; null where a failed report left
        it unknown.
    charged_usd: what the spend limit counts, a whole number of nano-dollars: what was reported, and the maximum cost
        where nothing was.
    doubt: why `--retry-failed` asks an answer again: it came without usage, or with no words in it.
    pieces: of a chain: the lengths of its tokens in characters.
    """

    key: str
    query: str
    query_id: str
    model: str
    budget: str
    control: str
    kind: Literal["cell", "chain", "lost"] = "cell"
    budget_tokens: int | None = None
    sample: int = 0
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    response: str | None = None
    reasoning: str | None = None
    finish_reason: str | None = None
    truncated: bool | None = None
    starved: bool = False
    cost_usd: float | None = None
    paid_usd: float | None = None
    charged_usd: float = 0.0
    latency_s: float | None = None
    ttft_s: float | None = None
    served: str | None = None
    attempts: int = 1
    note: str = ""
    doubt: Literal["", "no_usage", "empty"] = ""
    error: str | None = None
    error_kind: str | None = None
    pieces: list[int] | None = None
    at: float = 0.0


class Header(msgspec.Struct, frozen=True):
    """The first line of a journal."""

    format: str
    version: int


class RecordSummary(msgspec.Struct):
    """What is needed of a record when a journal is opened."""

    key: str
    model: str
    budget: str
    kind: str = "cell"
    charged_usd: float = 0.0
    error: str | None = None
    error_kind: str | None = None
    doubt: str = ""


record_of = msgspec.json.Decoder(Record)
summary_of = msgspec.json.Decoder(RecordSummary)


def number_of(key: str) -> int:
    """Return a key as a number of 64 bits, its first 16 hex digits; of what is none, a hash."""
    try:
        return int(key[:16], 16)
    except ValueError:
        return int(hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest(), 16)


def read_summaries(path: Path) -> Iterator[RecordSummary]:
    """Read the records of a journal like `read_records`, but keep only a summary of each."""
    check_file(path, JournalError)
    try:
        with path.open("rb") as file:
            for _, line in whole_lines(path, file):
                yield summary_of.decode(line)
    except FileNotFoundError:
        raise JournalError(f"{path}: no such journal; collect first") from None


def read_records(path: str | Path) -> Iterator[Record]:
    """Yield the records of a journal in order, also while another process writes it. Raises `JournalError`."""
    path = Path(path)
    check_file(path, JournalError)
    try:
        with path.open("rb") as file:
            for _, line in whole_lines(path, file):
                try:
                    yield record_of.decode(line)
                except (msgspec.ValidationError, RecursionError) as error:
                    raise JournalError(
                        f"{path}: a record cannot be read ({error}); restore the file from a copy, or remove that line"
                    ) from None
    except FileNotFoundError:
        raise JournalError(f"{path}: no such journal; collect first") from None


def whole_lines(path: Path, file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Return (offset, line) of every whole record. A tail that is torn is left out; what is damaged before that is an
    error.
    """
    file.seek(0)
    head = file.readline()
    _check_head(path, head)
    offset, number, torn = len(head), 1, 0
    for line in file:
        number += 1
        if not _whole(line):
            torn = torn or number
        elif torn:
            raise JournalError(
                f"{path}, line {torn}: damaged before its last line; restore it from a copy, or remove that line"
            )
        else:
            yield offset, line
        offset += len(line)


def _whole(line: bytes) -> bool:
    try:
        summary_of.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return line.endswith(b"\n")


def _check_head(path: Path, head: bytes) -> None:
    try:
        header = msgspec.json.decode(head, type=Header)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        header = None
    if header is None or header.format != FORMAT:
        raise JournalError(f"{path}: is not a journal of r2router; choose another folder")
    if header.version > VERSION:
        raise JournalError(
            f"{path}: written by a newer r2router (journal version {header.version}, this one reads {VERSION}); update"
            " r2router"
        )
