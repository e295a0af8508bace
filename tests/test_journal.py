"""The journal: whatever is killed, full, torn or shared, what counted is there and nothing else is."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("aiohttp", reason="the bench room needs the [bench] extra")

from r2router.bench.call_key import content_key, query_key
from r2router.bench.journal import Journal
from r2router.bench.record import Record, read_records
from r2router.bench.suite import Query
from r2router.errors import JournalError, SaveError

HEAD = b'{"format":"r2router-journal","version":1}\n'


def record(number: int, **fields: Any) -> Record:
    key = content_key("q", "m", str(number), "none", 0)
    plain = {
        "query": "q",
        "query_id": f"q{number}",
        "model": "m",
        "budget": "100",
        "control": "none",
        "response": "é" * 20,
        "charged_usd": 0.5,
    }
    return Record(key=key, **{**plain, **fields})


def write(path: Path, *records: Record) -> None:
    async def run() -> None:
        with Journal(path) as journal:
            await asyncio.gather(*(journal.append(r) for r in records))

    asyncio.run(run())


def test_what_is_appended_is_there_the_next_time(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "journal.jsonl"
    write(path, *(record(i) for i in range(1, 4)))
    write(path, record(4, error="gone", error_kind="server"))
    with Journal(path) as journal:
        assert [journal.has(record(i).key) for i in range(1, 6)] == [True, True, True, True, False]
        assert (journal.records, journal.errors, journal.spent, journal.notes) == (4, 1, 2.0, [])
        assert journal.charged["m", "100"] == [3, 1.5, 0.75]
    assert [r.query_id for r in read_records(path)] == ["q1", "q2", "q3", "q4"]
    with Journal(path, retry={"server"}) as journal:
        assert not journal.has(record(4).key) and journal.spent == 2.0


def test_an_error_that_was_asked_again_and_answered_is_none(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    busy: dict[str, Any] = {"error": "busy", "error_kind": "server"}
    write(path, record(0, **busy), record(1, **busy), record(2, **busy, kind="chain"))
    write(path, record(0))
    with Journal(path) as journal:
        assert (journal.records, journal.errors) == (4, 1)


def test_a_record_is_on_the_disk_before_it_counts_and_many_share_a_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, flushed = tmp_path / "journal.jsonl", []
    real = os.fsync

    def fsync(fd: int) -> None:
        time.sleep(0.01)  # so that others come meanwhile
        real(fd)
        flushed.append(path.stat().st_size)

    monkeypatch.setattr(os, "fsync", fsync)

    async def run() -> None:
        with Journal(path) as journal:

            async def one(number: int) -> None:
                await journal.append(record(number))
                assert journal.has(record(number).key)
                assert f'"q{number}"'.encode() in path.read_bytes()[: flushed[-1]]

            await asyncio.gather(*(one(i) for i in range(200)))

    asyncio.run(run())
    assert len(flushed) < 12  # 200 records


def test_many_keys_are_kept_in_little_memory_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("r2router.bench.journal._FOLD", 16)

    async def run() -> None:
        with Journal(tmp_path / "journal.jsonl") as journal:
            for number in range(100):
                await journal.append(record(number))
                assert [journal.has(record(i).key) for i in (0, number, number + 1)] == [True, True, False]
            assert len(journal._new) < 16

    asyncio.run(run())


def test_a_torn_end_is_taken_away_at_whatever_byte_it_was_torn(tmp_path: Path) -> None:
    whole = tmp_path / "whole.jsonl"
    write(whole, record(1), record(2))
    data = whole.read_bytes()
    first = data.index(b"\n", len(HEAD)) + 1
    for size in range(len(data)):
        path = tmp_path / "torn.jsonl"
        path.write_bytes(data[:size])
        with Journal(path) as journal:
            assert journal.has(record(1).key) == (size >= first), size
            assert not journal.has(record(2).key)
            assert bool(journal.notes) == (size not in (0, first) and size > len(HEAD)), size
        write(path, record(3))
        assert [r.query_id for r in read_records(path)] == (["q1", "q3"] if size >= first else ["q3"])


def test_blocks_of_zeros_at_the_end_are_a_torn_end(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, record(1))
    with path.open("ab") as file:
        file.write(b"\0" * 4096)
    assert len(list(read_records(path))) == 1
    with Journal(path) as journal:
        assert journal.has(record(1).key) and "4096 bytes" in journal.notes[0]


def test_damage_before_the_end_is_named_and_nothing_is_thrown_away(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, record(1), record(2), record(3))
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = b'{"key": 7}\n'
    path.write_bytes(b"".join(lines))
    with pytest.raises(JournalError, match=r"journal\.jsonl, line 3: damaged"):
        Journal(path)
    assert path.read_bytes() == b"".join(lines)


@pytest.mark.parametrize(
    "data", [b"not a journal\n", b"{}\n", b'{"format":"other","version":1}\n', b"x" * 100, b"\xff\xfe\n"]
)
def test_what_is_no_journal_is_left_alone(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(data)
    with pytest.raises(JournalError, match="not a journal"):
        Journal(path)
    assert path.read_bytes() == data


def test_a_journal_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(HEAD.replace(b"1}", b"9}") + b'{"future": true}\n')
    for attempt in (lambda: Journal(path), lambda: list(read_records(path))):
        with pytest.raises(JournalError, match="newer r2router"):
            attempt()


def test_a_record_that_is_none_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, record(1))
    path.write_bytes(path.read_bytes().replace(b'"query":"q"', b'"query":7'))
    with pytest.raises(JournalError, match="a record cannot be read"):
        list(read_records(path))


def test_fields_of_a_later_minor_version_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, record(1))
    line = path.read_bytes().splitlines()[1]
    path.write_bytes(HEAD + json.dumps({**json.loads(line), "flavour": "new"}).encode() + b"\n")
    assert next(read_records(path)) == record(1)


# -- other processes ------------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from r2router.bench.journal import Journal
journal = Journal(sys.argv[1])
print("open", flush=True)
time.sleep(60)
"""


def test_two_processes_cannot_have_it_and_a_dead_one_does_not_hold_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    write(path, record(1))
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE)
    try:
        assert other.stdout is not None and other.stdout.readline() == b"open\n"
        with pytest.raises(JournalError, match="another process"):
            Journal(path)
        assert len(list(read_records(path))) == 1  # reading is free
    finally:
        other.send_signal(signal.SIGKILL)
        other.communicate()
    with Journal(path) as journal:
        assert journal.has(record(1).key)


FILL = """
import asyncio, resource, signal, sys
sys.path[:0] = [sys.argv[2]]
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
from r2router.bench.journal import Journal
from r2router.bench.record import Record
from r2router.errors import SaveError

async def main():
    kept = 0
    with Journal(sys.argv[1]) as journal:
        try:
            for number in range(1000):
                await journal.append(Record(key=f"{number:032x}", query="q", query_id=str(number), model="m", budget="1", control=""))
                kept += 1
        except SaveError as error:
            print(kept, error)
        try:
            await journal.append(Record(key="f" * 32, query="q", query_id="late", model="m", budget="1", control=""))
        except SaveError:
            print("still")

asyncio.run(main())
"""


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit on file sizes here")
def test_a_full_disk_is_an_error_and_loses_nothing_that_counted(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    run = subprocess.run(
        [sys.executable, "-c", FILL, str(path), os.pathsep], capture_output=True, text=True, check=True, timeout=60
    )
    said, still = run.stdout.splitlines()
    kept = int(said.split()[0])
    assert kept > 10 and "cannot be written (File too large)" in said and "make room" in said and still == "still"
    assert [r.query_id for r in read_records(path)] == [str(i) for i in range(kept)]  # no torn line is left either
    with Journal(path) as journal:
        assert journal.records == kept and journal.notes == []


def test_a_folder_that_cannot_be_written_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(SaveError, match="cannot be opened for writing"):
        Journal(tmp_path / "file" / "journal.jsonl")


def test_what_waits_when_a_run_is_interrupted_is_still_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "journal.jsonl"
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (time.sleep(0.05), real(fd)))

    async def run() -> None:
        with Journal(path) as journal:
            tasks = [asyncio.create_task(journal.append(record(1)))]
            await asyncio.sleep(0.02)  # the first is being written, the others wait
            tasks += [asyncio.create_task(journal.append(record(i))) for i in (2, 3)]
            await asyncio.sleep(0)
            for task in [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    assert [r.query_id for r in read_records(path)] == ["q1", "q2", "q3"]


# -- keys -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(*[st.text(max_size=4)] * 4, st.integers(0, 3)), min_size=2, max_size=8, unique=True))
def test_different_calls_have_different_keys(calls: list[tuple[str, str, str, str, int]]) -> None:
    assert len({content_key(*c) for c in calls}) == len(calls)


def test_a_key_is_made_of_the_words_alone_and_stays_the_same() -> None:
    query = Query(id="a", text="What is 2 + 2?", task="sums", reference="4")
    assert query_key(query) == query_key(Query(id="b", text="What is 2 + 2?"))
    assert query_key(query) != query_key(Query(id="a", text="What is 2 + 2?", system="Be brief."))
    # a journal of today must be known tomorrow: this value is a promise
    assert content_key(query_key(query), "m", "100", "none", 0) == "817fd4a824360f4d9f1c26a71b923912"
