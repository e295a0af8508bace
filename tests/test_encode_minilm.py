"""The embedded encoder: true to the fp32 model, one vector a text, any string."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2router.encode import MiniLM, bundle, embedded
from r2router.errors import ArtifactError

GOLDEN = Path(__file__).parent / "golden"
TEXTS: list[str] = json.loads((GOLDEN / "encode_texts.json").read_text(encoding="utf-8"))
ODD = [
    "",
    "   ",
    "\n\t",
    "\x00",
    "a\x00b\x07\x1b[31m",
    "\ud800",
    "x\udfffy",
    "\ud83d\ude00",
    "\U0001f600" * 30,
    "\ufffd",
    "e\u0301" * 50,
]


def test_vectors_are_those_of_the_float_model() -> None:
    reference = np.load(GOLDEN / "encode_minilm.npy")
    vectors = MiniLM().encode(TEXTS)
    assert vectors.shape == reference.shape == (len(TEXTS), 384)
    assert vectors.dtype == np.float32
    cosine = (vectors * reference).sum(axis=1)
    assert cosine.min() > 0.994
    assert cosine.mean() > 0.998


def test_a_text_has_one_vector_whatever_it_comes_with() -> None:
    alone = np.concatenate([MiniLM(threads=1).encode([text]) for text in TEXTS])
    order = list(range(len(TEXTS)))
    random.Random(3).shuffle(order)
    for threads in (1, 2, 5, 50):
        together = MiniLM(threads).encode([TEXTS[i] for i in order])
        assert np.array_equal(together, alone[order])


def test_what_comes_after_256_tokens_is_not_seen() -> None:
    word = "seven "
    full, longer = MiniLM().encode([word * 254, word * 254 + "Venus " * 5000])
    shorter = MiniLM().encode([word * 253])[0]
    assert np.array_equal(full, longer)
    assert not np.array_equal(full, shorter)


@pytest.mark.parametrize("text", ODD, ids=ascii)
def test_odd_texts(text: str) -> None:
    (vector,) = MiniLM().encode([text])
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("text", ["x" * 100_000, "word " * 20_000, "字" * 100_000, "!" * 100_000], ids=lambda t: t[:2])
def test_texts_of_100_000_characters(text: str) -> None:
    (vector,) = MiniLM().encode([text])
    assert np.linalg.norm(vector) == pytest.approx(1.0, abs=1e-5)


@given(st.lists(st.text(st.characters(), max_size=60), max_size=4))
@settings(max_examples=40)
def test_any_strings(texts: list[str]) -> None:
    vectors = MiniLM().encode(texts)
    assert vectors.shape == (len(texts), 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1.0, atol=1e-5)


def test_surrogate_halves_are_the_character_they_make() -> None:
    joined, halves = MiniLM().encode(["smile \U0001f600 字", "smile \ud83d\ude00 字"])
    assert np.array_equal(joined, halves)


def test_two_ways_to_say_a_thing_are_nearer_than_two_things() -> None:
    a, b, c = MiniLM().encode(
        ["How old is the universe?", "What is the age of the cosmos?", "Sort a list of integers in C."]
    )
    assert a @ b > 0.6
    assert a @ c < 0.2


def test_many_threads_share_one_session() -> None:
    expected = MiniLM(threads=1).encode(TEXTS)
    found: list[bool] = []

    def work() -> None:
        found.append(np.array_equal(MiniLM(threads=1).encode(TEXTS), expected))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 6


def test_a_failing_worker_stops_the_others_and_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def fail(session: object, text: str) -> None:
        seen.append(text)
        raise RuntimeError("the runtime broke")

    monkeypatch.setattr(embedded, "_encode_one", fail)
    with pytest.raises(RuntimeError, match="the runtime broke"):
        MiniLM(threads=2).encode(["one", "two", "three", "four", "five", "six"])
    assert len(seen) <= 2


def test_threads_are_at_least_one() -> None:
    assert MiniLM(threads=0).threads == 1
    assert MiniLM().threads >= 1
    assert MiniLM(threads=-3).encode(["a"]).shape == (1, 384)


def test_nothing_to_encode() -> None:
    assert MiniLM().encode([]).shape == (0, 384)


def test_the_id_names_the_weights() -> None:
    assert MiniLM.id == f"minilm-int8-{bundle.SHA256['model.onnx'][:8]}"
    assert MiniLM().dim == 384


def _opened(name: str) -> None:
    with bundle.bundled_file(name):
        pytest.fail("it was given out")


@pytest.mark.parametrize("read", [bundle.read_bundled, _opened])
def test_altered_and_missing_files_are_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, read: Callable[[str], object]
) -> None:
    monkeypatch.setattr(bundle.resources, "files", lambda package: tmp_path)
    with pytest.raises(ArtifactError, match="cannot be read") as missing:
        read("model.onnx")
    assert "reinstall r2router" in str(missing.value)
    (tmp_path / "minilm").mkdir()
    (tmp_path / "minilm" / "model.onnx").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ArtifactError, match="altered or incomplete") as altered:
        read("model.onnx")
    assert "model.onnx" in str(altered.value)
    assert "\n" not in str(altered.value)


def test_importing_is_light() -> None:
    code = (
        "import sys, r2router.encode as e; e.load_encoder('minilm'); e.load_encoder('given:x')\nprint([m for m in"
        " ('onnxruntime', 'tokenizers', 'sqlite3', 'urllib.request', 'wordllama', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_works_in_a_forked_and_in_a_fresh_process() -> None:
    code = (
        "import multiprocessing as mp, sys, warnings, numpy as np\n"
        "from r2router.encode import MiniLM, count_tokens\n"
        "def f(text): return MiniLM().encode([text])[0], int(count_tokens([text])[0])\n"
        "here = f('How many moons has Mars?')\n"
        "with mp.get_context('fork').Pool(1) as pool: there = pool.apply(f, ('How many moons has Mars?',))\n"
        "assert np.array_equal(here[0], there[0]) and here[1] == there[1] == 6, (here[1], there[1])\n"
    )
    if sys.platform != "linux":
        pytest.skip("fork is only sane on Linux")
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # Python warns of a fork where numpy's threads run
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False, timeout=120, env=env
    )
    assert (done.returncode, done.stderr) == (0, "")
