"""Prompts of `savings` and of other commands as somebody hostile would hand them over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest
from click.testing import CliRunner

from r2router import files
from r2router.cli import main
from r2router.errors import DataError
from r2router.prompts.read import ENDINGS, read_prompts
from r2router.stream import texts
from r2router.stream.read import batches
from r2router.table import parquet_size

EVIL = "\x1b[2J\x9b31m\u202e"


def savings(path: Path) -> str:
    """What the command says of a file, in words: it ends with 2 and no traceback."""
    done = CliRunner().invoke(main, ["savings", str(path), "--now", "gpt-5-mini"])
    assert done.exit_code == 2 and isinstance(done.exception, SystemExit), done.output
    assert all(c.isprintable() or c == "\n" for c in done.output), done.output
    return done.output


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("what", ["a pipe", "/dev/zero", "a folder", "gzip", "UTF-16", "empty"])
def test_what_is_no_file_of_prompts_is_named(ending: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / f"prompts{ending}"
    match what:
        case "a pipe":
            os.mkfifo(path)
        case "/dev/zero":
            path.symlink_to("/dev/zero")
        case "a folder":
            path.mkdir()
        case "gzip":
            path.write_bytes(b"\x1f\x8b\x08" + bytes(100))
        case "UTF-16":
            path.write_text("query,x\nWho?,1\n", encoding="utf-16")
        case _:
            path.touch()
    assert path.name in savings(path)


HOSTILE = {
    ".json": ["[" * 10**5 + "]" * 10**5, '{"a":' * 10**5 + "1" + "}" * 10**5, '{"messages": ' + "[" * 10**5 + "}"],
    ".jsonl": ["[" * 10**5 + "]" * 10**5, json.dumps({"messages": {"role": EVIL}}), '{"a": 1' * 10**5],
    ".csv": [
        "a" * 200_000 + "\n1\n", '"' + "a" * 200_000, "a,b\n" + '"' * 99_999, f"{EVIL},{EVIL}\n1,2\n", "query\n" + "\0" * 9,
        "," * 200_000 + "\n",
    ],
    ".txt": ["\0" * 9 + "\n" * 9, "\n" * 100_000],
    ".parquet": ["PAR1PAR1", "PAR1" + "\xff" * 100 + "PAR1"],
}  # fmt: skip


@pytest.mark.parametrize(("ending", "text"), [(kind, text) for kind, texts in HOSTILE.items() for text in texts])
def test_hostile_prompts_are_an_error_in_words_or_prompts(ending: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / f"prompts{ending}"
    path.write_text(text, encoding="utf-8")
    try:
        found = read_prompts(path)
    except DataError:
        assert path.name in savings(path)
    else:
        assert len(found) == 1, found


def test_a_bomb_of_prompts_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "prompts.parquet"
    pl.DataFrame({"query": [str(i) + "0" * 1_000_000 for i in range(100)]}).write_parquet(path)
    monkeypatch.setattr(parquet_size, "SAFE", 50 << 20)
    monkeypatch.setattr(pl.LazyFrame, "collect", lambda *_, **__: pytest.fail("it was unpacked"))
    with pytest.raises(DataError, match="GB of memory"):
        read_prompts(path)


@contextmanager
def endless(path: Path, begin: bytes) -> Iterator[None]:
    """A pipe that somebody writes to for as long as it is read."""
    os.mkfifo(path)

    def write() -> None:
        with path.open("wb", buffering=0) as file:
            try:
                file.write(begin)
                while True:
                    file.write(b"x" * 65_536)
            except BrokenPipeError:
                pass

    thread = threading.Thread(target=write, daemon=True)
    thread.start()
    yield
    thread.join(20)
    assert not thread.is_alive()


def test_a_csv_whose_line_does_not_end_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_LONGEST", 1 << 20)
    for i, begin in enumerate((b"", b"query\n", b"query\n'")):
        with endless(tmp_path / f"{i}.csv", begin), pytest.raises(DataError, match=rf"{i}\.csv"):
            list(batches(tmp_path / f"{i}.csv", 0))


def test_the_terminal_is_safe_from_what_prompts_and_models_are_called(tmp_path: Path) -> None:
    path = tmp_path / "prompts.csv"
    path.write_text(f"query\n{EVIL}Who wrote Faust?\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "r2router", "savings", str(path), "--now", f"gpt{EVIL}"],
        capture_output=True,
        check=False,
        timeout=300,
    )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 2 and "gpt" in said and not set(said) & {"\x1b", "\x9b", "\u202e"}, said


def test_a_pipe_that_nobody_writes_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PATIENCE_S", 0.05)
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(DataError, match="nothing came from it"):
        list(batches(tmp_path / "a.csv", 0))
