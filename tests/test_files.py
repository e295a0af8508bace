"""Files that hostile or careless people put in the way: links under temporary names, pipes, devices, other
encodings.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router import files
from r2router.bench.record import read_records
from r2router.bench.suite import JsonLines
from r2router.bench.suites.chat import ChatLog
from r2router.bench.suites.file import RowFile
from r2router.errors import ConfigError, DataError, JournalError, SaveError
from r2router.files import check_file, check_text, leftovers, open_file, whole_file
from r2router.text import clean


def suite_rows(path: Path) -> Any:
    return RowFile(path).queries()


def suite_lines(path: Path) -> Any:
    return JsonLines(path).queries()


def chat_lines(path: Path) -> Any:
    return ChatLog(path).queries()


def journal_records(path: Path) -> Any:
    yield from read_records(path)
    raise JournalError(f"{path}: a torn tail is left out")  # where the last line is the deep one


def test_no_temporary_name_can_be_guessed(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        with whole_file(tmp_path / "out.csv") as file:
            names.append(Path(file.name).name)
    assert len(set(names)) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["out.csv"]


def test_a_link_under_the_temporary_name_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine", encoding="utf-8")
    monkeypatch.setattr("secrets.token_hex", lambda n: "0" * 2 * n)  # an attacker who guesses right
    (tmp_path / f".out.csv.{'0' * 16}.partial").symlink_to(victim)
    with pytest.raises(SaveError, match="File exists"), whole_file(tmp_path / "out.csv") as file:
        file.write(b"theirs")
    assert victim.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    "name", ["t.parquet.partial", f".t.parquet.{os.getpid()}.partial"], ids=["fixed", "by process"]
)
def test_a_table_is_not_written_through_a_link(name: str, tmp_path: Path, world: Any) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine", encoding="utf-8")
    (tmp_path / name).symlink_to(victim)
    world.table.write(tmp_path / "t.parquet")
    assert victim.read_text(encoding="utf-8") == "mine"
    assert (tmp_path / "t.parquet").stat().st_size > 100


def test_a_long_name_can_be_written_and_permissions_stay(tmp_path: Path) -> None:
    target = tmp_path / ("é" * 127)
    target.touch(mode=0o600)
    with whole_file(target) as file:
        file.write(b"x")
    assert target.read_bytes() == b"x"
    assert target.stat().st_mode & 0o777 == 0o600


def test_what_a_killed_writer_left_can_be_found(tmp_path: Path) -> None:
    left = tmp_path / ".out.csv.0123456789abcdef.partial"
    for other in (
        left,
        tmp_path / ".out.csv.x.partial",
        tmp_path / "out.csv",
        tmp_path / ".other.csv.0123456789abcdef.partial",
    ):
        other.touch()
    assert leftovers(tmp_path / "out.csv") == [left]
    assert leftovers(tmp_path / "no" / "folder") == []


# -- what is read -----------------------------------------------------------------------------------------------------


def test_only_files_are_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
    for name, what in (
        ("pipe", "pipe"),
        ("socket", "socket"),
        (".", "folder"),
        ("/dev/zero", "device"),
        ("/dev/null", "device"),
    ):
        with pytest.raises(ConfigError, match=what):
            check_file(tmp_path / name, ConfigError)
        with pytest.raises(DataError, match=what):
            check_text(tmp_path / name)
    check_file(tmp_path / "pipe", pipes=True)
    check_text(tmp_path / "nothing")
    (tmp_path / "file").write_text("a,b\n", encoding="utf-8")
    check_text(tmp_path / "file")


def test_a_pipe_that_nobody_writes_to_is_not_waited_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.txt")
    monkeypatch.setattr(files, "PATIENCE_S", 0.05)
    with pytest.raises(DataError, match="nothing came from it"):
        open_file(tmp_path / "pipe.txt")
    with pytest.raises(DataError, match="device"):
        open_file("/dev/zero")


@pytest.mark.parametrize("read", [suite_rows, suite_lines, chat_lines, journal_records])
def test_deep_json_in_a_line_is_an_error_in_words(read: Any, tmp_path: Path) -> None:
    for deep in ("[" * 10**5 + "]" * 10**5, '{"a":' * 10**5 + "1" + "}" * 10**5):
        path = tmp_path / "x.jsonl"
        line = '{"text": "a", "messages": [], "key": "00", "model": "m", "budget": "b", "x": ' + deep + "}\n"
        path.write_text(
            '{"format": "r2router-journal", "version": 1}\n' * (read is journal_records) + line * 2, encoding="utf-8"
        )
        with pytest.raises((DataError, JournalError), match=r"x\.jsonl"):
            list(read(path))
        path.write_text(deep, encoding="utf-8")
        with pytest.raises((DataError, JournalError), match=r"x\.jsonl"):
            list(read(path))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@given(text=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=4))
def test_wide_encodings_are_named(encoding: str, text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("wide") / "x.csv"
    path.write_bytes(text.encode(encoding))
    with pytest.raises(DataError, match=encoding[:6].upper() + ".*UTF-8"):
        check_text(path)


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_utf_8_is_not_taken_for_another(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("narrow") / "x.csv"
    path.write_bytes(b"q" + text.encode())
    check_text(path)


# -- words that are shown ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "evil", ["\x1b[2J", "\x1b]0;title\x07", "a\rb", "\x9b31m", "a\u202eb", "\u2028", "\u200b", "\x7f", "\x00", "\ud800"]
)
def test_what_a_terminal_acts_on_is_spelled_out(evil: str) -> None:
    shown = clean(f"model {evil}")
    assert shown.isprintable() and "\\u" in shown


@given(st.text(st.characters()))
def test_cleaned_json_is_the_same_data(text: str) -> None:
    shown = clean(json.dumps(text, ensure_ascii=False), keep="\n")
    assert json.loads(shown) == text
    assert all(c.isprintable() or c.isspace() for c in shown)
    assert not set(shown) & set("\x1b\x9b\r\x07\u202e\u2028\u200b")
