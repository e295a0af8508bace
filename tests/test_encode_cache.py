"""The vector cache: each text encoded once, encoders apart, several processes, kills and damage."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2router.encode import CachedEncoder
from r2router.encode.cache import CHUNK
from r2router.errors import EncoderError
from r2router.types import FloatArray

# In a process of its own: the same encoder, and a cache that it fills from first to last.
FILL = """
import hashlib, sys
import numpy as np
from r2router.encode import CachedEncoder

class HashEncoder:
    id, dim = "hash", 8
    def encode(self, texts):
        return np.stack([np.random.default_rng(list(hashlib.sha256(t.encode()).digest())).normal(size=8) for t in texts]).astype(np.float32)

path, first, last = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
cache = CachedEncoder(HashEncoder(), path)
print("ready", flush=True)
for i in range(first, last):
    cache.encode([f"text {i}", f"text {i % 7}"])
"""


class HashEncoder:
    """A made-up encoder that counts what it is asked; the vector depends on the text alone."""

    dim = 8

    def __init__(self, name: str = "hash") -> None:
        self.id = name
        self.asked: list[str] = []

    def encode(self, texts: Sequence[str]) -> FloatArray:
        self.asked += texts
        rows = [
            np.random.default_rng(list(hashlib.sha256(t.encode("utf-8", "surrogatepass")).digest())).normal(size=8)
            for t in texts
        ]
        return np.array(rows, dtype=np.float32).reshape(len(rows), 8)


def fill(path: Path, first: int, last: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", FILL, str(path), str(first), str(last)], stdout=subprocess.PIPE, text=True
    )


def open_cache(path: Path, name: str = "hash") -> tuple[HashEncoder, CachedEncoder]:
    encoder = HashEncoder(name)
    return encoder, CachedEncoder(encoder, path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "vectors.sqlite"


def test_a_text_is_encoded_once(path: Path) -> None:
    encoder, cache = open_cache(path)
    first = cache.encode(["a", "b", "a"])
    assert encoder.asked == ["a", "b"]
    assert np.array_equal(first, HashEncoder().encode(["a", "b", "a"]))
    assert np.array_equal(cache.encode(["c", "b"]), HashEncoder().encode(["c", "b"]))
    assert encoder.asked == ["a", "b", "c"]
    cache.close()
    again, reopened = open_cache(path)
    assert np.array_equal(reopened.encode(["b", "c", "a"]), HashEncoder().encode(["b", "c", "a"]))
    assert again.asked == []
    assert (reopened.id, reopened.dim) == ("hash", 8)
    assert reopened.encode(["a"]).dtype == np.float32
    reopened.close()


def test_closing_is_not_the_end(path: Path) -> None:
    _, cache = open_cache(path)
    cache.encode(["a"])
    cache.close()
    cache.close()
    assert cache.encode(["a"]).shape == (1, 8)
    cache.close()


def test_nothing_to_encode(path: Path) -> None:
    _, cache = open_cache(path)
    assert cache.encode([]).shape == (0, 8)
    cache.close()


def test_encoders_share_a_file_without_mixing(path: Path) -> None:
    _, one = open_cache(path, "one")
    other, two = open_cache(path, "two")
    one.encode(["a"])
    two.encode(["a"])
    assert other.asked == ["a"]
    # NUL parts id and text, so these two do not meet either
    _, left = open_cache(path, "x")
    right_encoder, right = open_cache(path, "xy")
    left.encode(["yz"])
    right.encode(["z"])
    assert right_encoder.asked == ["z"]
    for cache in (one, two, left, right):
        cache.close()


def test_the_text_is_not_stored(path: Path) -> None:
    _, cache = open_cache(path)
    cache.encode(["a very private question"])
    cache.close()
    assert b"private" not in path.read_bytes()


def test_more_than_one_transaction(path: Path) -> None:
    texts = [f"text {i % 1200}" for i in range(3 * CHUNK)]
    encoder, cache = open_cache(path)
    assert np.array_equal(cache.encode(texts), HashEncoder().encode(texts))
    assert sorted(encoder.asked) == sorted(set(texts))
    cache.close()


@given(st.lists(st.lists(st.text(st.characters(), max_size=3), max_size=5), max_size=5))
@settings(max_examples=25)
def test_any_texts(tmp_path_factory: pytest.TempPathFactory, calls: list[list[str]]) -> None:
    encoder, cache = open_cache(tmp_path_factory.mktemp("cache") / "vectors.sqlite")
    for texts in calls:
        assert np.array_equal(cache.encode(texts), HashEncoder().encode(texts))
    assert sorted(encoder.asked) == sorted({text for texts in calls for text in texts})
    cache.close()


def test_a_failing_encoder_leaves_nothing_behind(path: Path) -> None:
    encoder, cache = open_cache(path)

    def fail(texts: Sequence[str]) -> FloatArray:
        raise EncoderError("the endpoint is down")

    encoder.encode = fail  # type: ignore[method-assign]
    with pytest.raises(EncoderError, match="the endpoint is down"):
        cache.encode(["a"])
    del encoder.encode
    assert cache.encode(["a"]).shape == (1, 8)
    assert encoder.asked == ["a"]
    cache.close()


def test_threads(path: Path) -> None:
    _, cache = open_cache(path)
    right: list[bool] = []

    def work(start: int) -> None:
        for i in range(start, start + 30):
            texts = [f"text {i}", f"text {i % 5}"]
            right.append(np.array_equal(cache.encode(texts), HashEncoder().encode(texts)))

    threads = [threading.Thread(target=work, args=(10 * n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 180
    cache.close()


def test_processes_that_start_together(path: Path) -> None:
    workers = [fill(path, 20 * n, 20 * n + 40) for n in range(4)]
    for worker in workers:
        worker.communicate(timeout=120)
    assert [worker.returncode for worker in workers] == [0] * 4
    encoder, cache = open_cache(path)
    texts = [f"text {i}" for i in range(100)]
    assert np.array_equal(cache.encode(texts), HashEncoder().encode(texts))
    assert encoder.asked == []
    cache.close()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL on this system")
def test_a_kill_loses_at_most_the_last_texts(path: Path) -> None:
    for start in (0, 100_000, 200_000):
        worker = fill(path, start, start + 100_000)
        assert worker.stdout is not None
        worker.stdout.readline()
        before, deadline = stored(path), time.monotonic() + 60
        while stored(path) < before + 30 and time.monotonic() < deadline:
            time.sleep(0.005)
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
    encoder, cache = open_cache(path)
    texts = [f"text {start + i}" for start in (0, 100_000, 200_000) for i in range(10)]
    assert np.array_equal(cache.encode(texts), HashEncoder().encode(texts))
    assert encoder.asked == []
    cache.close()
    with sqlite3.connect(path) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    database.close()


def stored(path: Path) -> int:
    database = sqlite3.connect(path, timeout=30)
    try:
        return int(database.execute("SELECT count(*) FROM vectors").fetchone()[0])
    finally:
        database.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_opens_its_own_connection(path: Path) -> None:
    code = (
        FILL.split("print", maxsplit=1)[0]
        + "import os\ncache.encode(['a'])\npid = os.fork()\n"
        + "if pid == 0:\n    cache.encode(['a', 'b']); os._exit(0)\n"
        + "_, status = os.waitpid(pid, 0)\ncache.encode(['b', 'c'])\nsys.exit(status != 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path), "0", "0"], check=False, timeout=60)
    assert done.returncode == 0
    assert stored(path) == 3


def check_unusable(path: Path, words: str) -> None:
    """Opening or using it fails with one line that names the file, and the file is left as it was."""
    before = path.read_bytes()
    with pytest.raises(EncoderError, match=words) as caught:
        open_cache(path)[1].encode(["a", "b"])
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database(path: Path) -> None:
    path.write_bytes(b"these are no vectors " * 100)
    check_unusable(path, "not a usable vector cache")


def test_a_damaged_database(path: Path) -> None:
    _, cache = open_cache(path)
    cache.encode([f"text {i}" for i in range(500)])
    cache.close()
    data = bytearray(path.read_bytes())
    data[4096:] = bytes(len(data) - 4096)
    path.write_bytes(data)
    check_unusable(path, "not a usable vector cache|damaged")


def test_a_flipped_bit_in_a_vector(path: Path) -> None:
    _, cache = open_cache(path)
    vector = cache.encode(["a"])[0].tobytes()
    cache.close()
    data = bytearray(path.read_bytes())
    data[data.index(vector) + 5] ^= 1
    path.write_bytes(data)
    check_unusable(path, "a stored vector is damaged; delete the file")


def test_a_database_of_something_else_is_not_touched(path: Path) -> None:
    database = sqlite3.connect(path)
    with database:
        database.execute("CREATE TABLE customers (name TEXT)")
    database.close()
    check_unusable(path, "database of something else")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="unable to open.*check that it can be written"):
        open_cache(tmp_path / "no" / "folder" / "vectors.sqlite")


def test_a_full_disk_is_reported(path: Path) -> None:
    _, cache = open_cache(path)
    assert cache._connection is not None
    cache._connection.execute("PRAGMA max_page_count = 2")
    with pytest.raises(EncoderError, match=r"full; check that it can be written and that the disk has room"):
        cache.encode([f"text {i}" for i in range(500)])
    cache.close()
    _, cache = open_cache(path)
    assert cache.encode(["text 1"]).shape == (1, 8)
    cache.close()


def test_an_encoder_that_changed_behind_its_id(path: Path) -> None:
    encoder, cache = open_cache(path)
    cache.encode(["a"])
    encoder.encode = lambda texts: np.ones((len(texts), 5), dtype=np.float32)  # type: ignore[method-assign]
    with pytest.raises(EncoderError, match="different lengths"):
        cache.encode(["a", "b"])
    cache.close()
