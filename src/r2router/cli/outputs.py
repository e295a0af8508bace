"""The option of a file that a command writes: one rule for all of them."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import click

TYPED = "r2router.typed"
"""Where a context keeps what was typed."""


class OutputFile(click.Path):
    """A file that a command writes, by its ending one of the formats that it can write; never one that the command
    reads.

    See `r2router.files.check_output`. own: names within the folder of a collection that the command itself keeps there.
    """

    name = "file"

    def __init__(self, *endings: str, own: str = "") -> None:
        super().__init__(path_type=Path)
        self.endings, self.own = endings, own

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, or an error in words."""
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        check_written(path, *self.endings, own=self.own)
        return path


class OutputAddress(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """An output file like `OutputFile`, as typed; or an address (s3://...), of which only the ending can be checked."""

    name = "file"

    def __init__(self, *endings: str) -> None:
        self.endings = endings

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the path or address, or an error in words."""
        check_written(Path(value), *self.endings)
        return str(value)


def check_written(path: Path, *endings: str, own: str = "", typed: bool = True) -> None:
    """Refuse a file that the command must not write; every other word of the command that names a file counts as read.

    typed: whether the path itself is one of the words.
    """
    from r2router.files import check_output

    if own and path.name == own and (path.parent / "journal.jsonl").exists():
        return
    check_output(path, endings, _other_words(path if typed else None))


def _other_words(path: Path | None) -> list[str]:
    """Return what else was typed, as far as it may name a file: `q.jsonl`, `--suite=q.jsonl`, `chat:q.jsonl?size=3`."""
    ctx = click.get_current_context(silent=True)
    words = shlex.split(str(ctx.meta.get(TYPED, ""))) if ctx is not None else []
    found: list[str] = []
    mine = 0
    for word in words:
        plain = word.partition("?")[0]
        for part in {word, plain, word.partition("=")[2], plain.partition(":")[2]}:
            if part and path is not None and Path(part) == path and not mine:
                mine += 1
            elif part:
                found.append(part)
    return found
