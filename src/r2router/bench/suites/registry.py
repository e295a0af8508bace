"""Suites by name: files of prompts, chat logs, tasks that are generated, and the benchmarks of the paper.

A suite is named as `NAME`, `NAME:WHAT` or `NAME:WHAT?option=value&option=value`; whatever is no name is a file.
Packages from outside add theirs under the entry-point group `r2router.suites`: a function that takes WHAT and the
options, all of them text, and gives a `Suite`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import parse_qsl

from r2router.bench.suite import Query, Suite
from r2router.errors import DataError
from r2router.plugins import Registry
from r2router.text import suggest

_BUILT_IN = {
    "file": "r2router.bench.suites.file:file_suite",
    "chat": "r2router.bench.suites.chat:chat_suite",
    "reasoning-gym": "r2router.bench.suites.procedural:procedural_suite",
    **dict.fromkeys(
        ("mmlu-pro", "openhermes", "math", "gpqa", "musr", "ragbench"),
        "r2router.bench.suites.published:published_suite",
    ),
}
SUITES = Registry("r2router.suites", _BUILT_IN)

Opener = Callable[[str, str, Mapping[str, str]], Suite]
"""(name, what, options) -> suite."""


def load_suite(spec: str, *, columns: Mapping[str, str] | None = None) -> Suite:
    """Return the suite that a text names.

    columns: our name -> the file's, for files.

    Raises `DataError`.
    """
    if columns or Path(spec).is_file():
        from r2router.bench.suites.file import RowFile

        return RowFile(spec, columns)
    head, _, query = spec.partition("?")
    name, _, what = head.partition(":")
    opener: Opener | None = SUITES.find(name)
    if opener is None:
        from r2router.bench.suites.file import EXTENSIONS, RowFile

        if "://" in spec or Path(spec).suffix.lower() in EXTENSIONS:
            return RowFile(spec)
        known = SUITES.names()
        raise DataError(
            f"no suite {spec!r}{suggest(name, known)}: name a file ({', '.join(EXTENSIONS)}) or one of"
            f" {', '.join(known)}"
        )
    return opener(name, what, dict(parse_qsl(query, keep_blank_values=True)))


def load_queries(
    specs: Sequence[str], *, columns: Mapping[str, str] | None = None, say: Callable[[str], None] = lambda _: None
) -> list[Query]:
    """Return the queries of several suites, one after the other. Raises `DataError` where two of them use one id.

    say: called with what a suite has to say of its queries: the lines of its `notes`, where it has any.
    """
    found: dict[str, str] = {}
    queries: list[Query] = []
    for spec in specs:
        suite = load_suite(spec, columns=columns)
        for query in suite.queries():
            if found.setdefault(query.id, spec) != spec:
                raise DataError(
                    f"{spec}: id {query.id!r} is taken by {found[query.id]}; give the queries ids of their own"
                )
            queries.append(query)
        for line in getattr(suite, "notes", ()):
            say(f"note: {spec}: {line}")
    return queries


def check_options(name: str, options: Mapping[str, str], known: Iterable[str]) -> None:
    """Raise `DataError` for an option that a suite does not have."""
    known = list(known)
    for option in options:
        if option not in known:
            raise DataError(
                f"suite {name!r} has no option {option!r}{suggest(option, known)}; there are:"
                f" {', '.join(known) or 'none'}"
            )


def whole_number(name: str, options: Mapping[str, str], option: str, default: int, minimum: int = 0) -> int:
    """Return an option that is a whole number. Raises `DataError`."""
    text = options.get(option, str(default))
    if not (text.isascii() and text.isdigit()) or int(text) < minimum:
        raise DataError(f"suite {name!r}: {option}={text!r} must be a whole number from {minimum} on")
    return int(text)
