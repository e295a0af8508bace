"""The released checkpoints are read as data: to the bit, and nothing else that a pickle can do."""

from __future__ import annotations

import copyreg
import gzip
import json
import os
import pickle
import pickletools
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r2router.errors import ArtifactError
from r2router.importers.ucf import UcfRelease, read_release
from r2router.types import Prices

if TYPE_CHECKING:
    from collections.abc import Iterator

REFERENCE = Path(__file__).resolve().parents[1].parent / "shared" / "reference"
needs_release = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the paper's released checkpoints are not here")

# -- a release in miniature, written opcode by opcode as joblib writes one ------------------------------------------

START = b"\x80\x04"
DIM = 4
BUDGETS: list[int | str] = [10, 50, "unlimited"]
FILES = ("limited_score_predictors", "unlimited_score_predictor", "unlimited_token_predictor")


def text(value: str) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(value.encode())]) + value.encode()


def name(module: str, attribute: str) -> bytes:
    return text(module) + text(attribute) + pickle.STACK_GLOBAL


def mapping(items: dict[str, bytes]) -> bytes:
    pairs = b"".join(text(key) + value for key, value in items.items())
    return pickle.EMPTY_DICT + pickle.MARK + pairs + pickle.SETITEMS


def number(value: int) -> bytes:
    return pickle.BININT + struct.pack("<i", value)


NONE, TRUE, FALSE, NOTHING = pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.EMPTY_TUPLE
NDARRAY = name("numpy", "ndarray")
DTYPE = name("numpy", "dtype")
SCALAR = name("numpy._core.multiarray", "scalar")
RIDGE = name("sklearn.linear_model._ridge", "Ridge")
WRAPPER = name("joblib.numpy_pickle", "NumpyArrayWrapper")


def dtype(code: str, order: str = "<") -> bytes:
    made = DTYPE + text(code) + FALSE + TRUE + pickle.TUPLE3 + pickle.REDUCE
    state = number(3) + text(order) + NONE * 3 + number(-1) * 2 + number(0)
    return made + pickle.MARK + state + pickle.TUPLE + pickle.BUILD


def array(values: Any, code: str = "f4", **other: bytes) -> bytes:
    data = np.asarray(values, f"<{code}").tobytes()
    state = {
        "subclass": NDARRAY,
        "shape": number(len(values)) + pickle.TUPLE1,
        "order": text("C"),
        "dtype": dtype(code),
        "allow_mmap": TRUE,
        "numpy_array_alignment_bytes": number(16),
    } | other
    return WRAPPER + NOTHING + pickle.NEWOBJ + mapping(state) + pickle.BUILD + b"\x03\xff\xff\xff" + data


def scalar(value: float, code: str = "f4") -> bytes:
    raw = struct.pack("<f" if code == "f4" else "<d", value)
    return SCALAR + dtype(code) + pickle.SHORT_BINBYTES + bytes([len(raw)]) + raw + pickle.TUPLE2 + pickle.REDUCE


def ridge(coef: bytes, intercept: bytes) -> bytes:
    alpha = pickle.BINFLOAT + struct.pack(">d", 10.0)
    state = {"alpha": alpha, "coef_": coef, "n_iter_": NONE, "intercept_": intercept}
    return RIDGE + NOTHING + pickle.NEWOBJ + mapping(state) + pickle.BUILD


def head(seed: int) -> bytes:
    return ridge(array(np.arange(DIM) + seed), scalar(seed + 0.5))


def config(**other: Any) -> dict[str, Any]:
    models = {
        model: {
            "openrouter_id": f"lab/{model}",
            "input_price_per_million": 0.1 * (i + 1),
            "output_price_per_million": 0.2,
            "checkpoint_dir": f"{model}_ridge",
            "available": i == 0,
        }
        for i, model in enumerate(("big", "small"))
    }
    base = {"embedding_model": "lab/embed", "embedding_dim": DIM, "default_lambda": 0.99, "token_limits": BUDGETS}
    return base | {"models": models} | other


def write(folder: Path, **other: Any) -> Path:
    """A release in `folder`; model m's heads are seeded 10 m + 0, 1 (budgets), 2 (unlimited), 3 (tokens)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config(**other)))
    for m, model in enumerate(("big", "small")):
        where = folder / "checkpoints" / f"{model}_ridge"
        where.mkdir(parents=True)
        limited = mapping({f"{b}_score": head(10 * m + i) for i, b in enumerate(BUDGETS[:-1])})
        for file, body in zip(FILES, (limited, head(10 * m + 2), head(10 * m + 3)), strict=True):
            (where / f"{file}.joblib").write_bytes(START + body + pickle.STOP)
    return folder


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write(tmp_path / "release")


def checkpoint(release: Path, file: str = FILES[1]) -> Path:
    return release / "checkpoints" / "big_ridge" / f"{file}.joblib"


def refused(release: Path, match: str | None = None) -> str:
    with pytest.raises(ArtifactError, match=match) as caught:
        read_release(release)
    message = str(caught.value)
    assert len(message.splitlines()) <= 2
    assert len(message) < 600
    return message


# -- what it holds --------------------------------------------------------------------------------------------------


def check_miniature(found: UcfRelease) -> None:
    assert [m.id for m in found.models] == ["big", "small"]
    assert [m.upstream for m in found.models] == ["lab/big", "lab/small"]
    assert [m.available for m in found.models] == [True, False]
    assert found.models[1].usd_per_million == Prices(input=0.2, output=0.2)
    assert [b.id for b in found.models[0].budgets] == ["10", "50", "unlimited"]
    assert found.budgets == (10, 50, "unlimited")
    assert (found.default_lambda, found.embedding_model) == (0.99, "lab/embed")
    seeds = np.array([[0, 1, 2], [10, 11, 12]])
    np.testing.assert_array_equal(found.quality_coef, seeds[:, :, None] + np.arange(DIM))
    np.testing.assert_array_equal(found.quality_intercept, seeds + 0.5)
    np.testing.assert_array_equal(found.token_coef, np.array([[3], [13]]) + np.arange(DIM))
    np.testing.assert_array_equal(found.token_intercept, [3.5, 13.5])
    assert found.quality_coef.dtype == found.quality_intercept.dtype == np.float32


def test_a_release_in_miniature(release: Path) -> None:
    check_miniature(read_release(release))
    check_miniature(read_release(str(release)))


def test_the_checkpoints_folder_with_its_config_above_or_inside(release: Path) -> None:
    check_miniature(read_release(release / "checkpoints"))
    (release / "config.json").rename(release / "checkpoints" / "config.json")
    check_miniature(read_release(release / "checkpoints"))


def test_the_budgets_keep_the_order_of_the_config(tmp_path: Path) -> None:
    found = read_release(write(tmp_path / "release", token_limits=["unlimited", 50, 10]))
    assert found.budgets == ("unlimited", 50, 10)
    np.testing.assert_array_equal(found.quality_intercept, [[2.5, 1.5, 0.5], [12.5, 11.5, 10.5]])


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(ridge(array(range(DIM), "f8"), scalar(0.5, "f8")), id="float64"),
        pytest.param(ridge(array(range(DIM)), pickle.BINFLOAT + struct.pack(">d", 0.5)), id="python float"),
        pytest.param(
            ridge(array(range(DIM), numpy_array_alignment_bytes=NONE).replace(b"\x03\xff\xff\xff", b""), scalar(0.5)),
            id="unaligned",
        ),
        pytest.param(pickle.FRAME + struct.pack("<Q", 3) + head(0), id="framed"),
        pytest.param(
            mapping({"coef_": array(range(DIM)) + pickle.MEMOIZE})[:-1]
            + text("kept")
            + pickle.BINGET
            + b"\x00"
            + text("intercept_")
            + scalar(0.5)
            + pickle.SETITEMS,
            id="memoised",
        ),
    ],
)
def test_other_ways_to_say_the_same(release: Path, body: bytes) -> None:
    checkpoint(release).write_bytes(START + body + pickle.STOP)
    found = read_release(release)
    np.testing.assert_array_equal(found.quality_coef[0, -1], np.arange(DIM))
    assert found.quality_intercept[0, -1] == 0.5


def test_what_joblib_and_scikit_learn_write_today(release: Path) -> None:
    joblib = pytest.importorskip("joblib")
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    for kind in (np.float32, np.float64):
        x, y = rng.normal(size=(20, DIM)).astype(kind), rng.random((3, 20)).astype(kind)
        fitted = [linear_model.Ridge(alpha=10.0, random_state=42).fit(x, each) for each in y]
        joblib.dump({"10_score": fitted[0], "50_score": fitted[1]}, checkpoint(release, FILES[0]))
        joblib.dump(fitted[2], checkpoint(release))
        found = read_release(release)
        for row, model in enumerate(fitted):
            assert found.quality_coef[0, row].tolist() == model.coef_.tolist()
            assert found.quality_intercept[0, row] == model.intercept_


@needs_release
def test_the_paper_s_release_equals_the_arrays_to_the_bit() -> None:
    found = read_release(REFERENCE)
    with np.load(REFERENCE / "reference_heads.npz") as arrays:
        models = len(arrays["models"])
        coef = arrays["coef"].reshape(models, 17, -1)
        intercept = arrays["intercept"].reshape(models, 17)
        for ours, theirs in (
            (found.quality_coef, coef[:, :16]),
            (found.quality_intercept, intercept[:, :16]),
            (found.token_coef, coef[:, 16]),
            (found.token_intercept, intercept[:, 16]),
        ):
            assert ours.dtype == theirs.dtype
            assert ours.tobytes() == theirs.tobytes()
        assert [m.id for m in found.models] == arrays["models"].tolist()
        assert [m.upstream for m in found.models] == arrays["openrouter_id"].tolist()
        assert [m.available for m in found.models] == arrays["available"].tolist()
        prices = [m.usd_per_million for m in found.models]
        assert [p.input for p in prices if p] == arrays["input_price_per_million"].tolist()
        assert [p.output for p in prices if p] == arrays["output_price_per_million"].tolist()
        assert found.budgets == (*arrays["budgets"].tolist(), "unlimited")
    assert (found.default_lambda, found.embedding_model) == (0.99999, "Qwen/Qwen3-0.6B")


@needs_release
def test_the_paper_s_release_makes_the_recorded_decisions() -> None:
    """Quality cut to [0, 1], unlimited tokens to at least 0, cost in raw dollars; the first arm wins a tie."""
    found = read_release(REFERENCE / "checkpoints")
    recorded = json.loads(gzip.decompress((REFERENCE / "reference_decisions.json.gz").read_bytes()))
    x = np.array([row["embedding"] for row in recorded["rows"]])
    quality = np.einsum("nd,mbd->nmb", x, found.quality_coef, optimize=True) + found.quality_intercept
    quality = quality.clip(0, 1).reshape(len(x), -1)
    unlimited = np.maximum(0, x @ found.token_coef.T + found.token_intercept)[:, :, None]
    limits = np.broadcast_to([b for b in found.budgets if isinstance(b, int)], (*unlimited.shape[:2], 15))
    tokens = np.concatenate([limits, unlimited], axis=2).reshape(len(x), -1)
    prices = np.array([(m.usd_per_million.input, m.usd_per_million.output) for m in found.models if m.usd_per_million])
    per_input, per_output = np.repeat(prices.T / 1e6, 16, axis=1)
    np.testing.assert_allclose(quality, [row["predicted_quality_r4"] for row in recorded["rows"]], rtol=0, atol=5.1e-5)

    def chosen(rows: Any, lam: float, input_tokens: int) -> Any:
        cost = per_input * input_tokens + per_output * tokens[rows]
        return ((1 - lam) * quality[rows] - lam * cost).argmax(axis=-1)

    for i, lam in enumerate(recorded["lambdas"]):
        expected = [row["decisions"][i]["exact_option"] for row in recorded["rows"]]
        assert chosen(slice(None), lam, recorded["input_tokens"]).tolist() == expected
    for extra in recorded["extra_input_tokens"]:
        assert chosen(extra["row"], extra["lam"], extra["input_tokens"]) == extra["exact_option"]


# -- what is refused ------------------------------------------------------------------------------------------------


@pytest.fixture
def extension() -> Iterator[bytes]:
    copyreg.add_extension("os", "mkdir", 240)
    yield pickle.EXT1 + b"\xf0"
    copyreg.remove_extension("os", "mkdir", 240)


def live(canary: str, extension: bytes) -> dict[str, bytes]:
    """Pickles that make the folder `canary` when an ordinary unpickler loads them."""
    mkdir, one, run = name("os", "mkdir"), text(canary) + pickle.TUPLE1, pickle.REDUCE
    code = text(f"__import__('os').mkdir({canary!r})") + pickle.TUPLE1

    class Acts:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (canary,)

    class Hides:
        def __reduce__(self) -> tuple[Any, ...]:
            return dict, (), None, None, iter([("10_score", Acts())])

    return {
        "GLOBAL": pickle.GLOBAL + b"os\nsystem\n" + text(f"mkdir {canary}") + pickle.TUPLE1 + run,
        "STACK_GLOBAL": name("os", "system") + text(f"mkdir {canary}") + pickle.TUPLE1 + run,
        "INST": pickle.MARK + text(canary) + pickle.INST + b"os\nmkdir\n",
        "OBJ": pickle.MARK + pickle.GLOBAL + b"os\nmkdir\n" + text(canary) + pickle.OBJ,
        "OBJ of a name": pickle.MARK + mkdir + text(canary) + pickle.OBJ,
        "eval": name("builtins", "eval") + code + run,
        "exec": name("builtins", "exec") + code + run,
        "dotted": name("os", "path.os.mkdir") + one + run,
        "dotted GLOBAL": pickle.GLOBAL + b"os\npath.os.mkdir\n" + one + run,
        "getattr": name("builtins", "getattr") + name("os", "path.os") + text("mkdir") + pickle.TUPLE2 + run
        + one + run,
        "memo": text("mkdir") + pickle.MEMOIZE + text("os") + pickle.MEMOIZE + pickle.TUPLE2
        + pickle.BINGET + b"\x01" + pickle.BINGET + b"\x00" + pickle.STACK_GLOBAL + one + run + pickle.TUPLE2,
        "put": mkdir + pickle.BINPUT + b"\x07" + pickle.POP + pickle.BINGET + b"\x07" + one + run,
        "extension": extension + one + run,
        "discarded": mkdir + one + run + pickle.POP + NONE,
        "duplicate": mkdir + pickle.DUP + pickle.POP + one + run,
        "in a list": pickle.EMPTY_LIST + mkdir + one + run + pickle.APPEND,
        "in a dict": mapping({"10_score": NONE, "50_score": mkdir + one + run}),
        "in a Ridge's state": name("types", "SimpleNamespace") + NOTHING + pickle.NEWOBJ
        + mapping({"alpha": mkdir + one + run, "coef_": NONE}) + pickle.BUILD,
        "reduced": pickle.dumps(Acts(), 4)[2:-1],
        "reduced, in a dict of protocol 5": pickle.dumps(Hides(), 5)[2:-1],
        "reduced, protocol 3": pickle.dumps(Acts(), 3)[2:-1],
    }  # fmt: skip


@pytest.mark.parametrize("kind", live("", b""))
def test_a_pickle_that_acts_is_refused_and_does_nothing(
    release: Path, tmp_path: Path, extension: bytes, kind: str
) -> None:
    canary = tmp_path / "canary"
    raw = START + live(str(canary), extension)[kind] + pickle.STOP
    for file in FILES:
        path = checkpoint(release, file)
        kept = path.read_bytes()
        path.write_bytes(raw)
        assert str(path) in refused(release, "refused: (opcode|GLOBAL|STACK_GLOBAL|INST)")
        assert not canary.exists()
        path.write_bytes(kept)
    pickle.loads(raw)  # the proof that it was worth refusing
    assert canary.is_dir()


def test_the_refusal_names_the_file_and_the_global(release: Path) -> None:
    for body, expected in (
        (name("os", "system"), "STACK_GLOBAL of 'os system'"),
        (pickle.GLOBAL + b"builtins\neval\n", "GLOBAL of 'builtins eval'"),
        (pickle.MARK + pickle.INST + b"posix\nsystem\n", "INST of 'posix system'"),
        (ridge(name("os", "system"), scalar(0.0)), "STACK_GLOBAL of 'os system'"),
        (name("evil\n" * 9, "x" * 250), "STACK_GLOBAL of 'evil"),
    ):
        checkpoint(release).write_bytes(START + body + pickle.STOP)
        assert str(checkpoint(release)) in refused(release, expected)


OBJECT = DTYPE + text("O8") + FALSE + TRUE + pickle.TUPLE3 + pickle.REDUCE


def doubling(times: int) -> bytes:
    """A tuple whose text would have 2 ** times parts, in a few bytes each."""
    steps = (pickle.MEMOIZE + pickle.BINGET + bytes([i]) + pickle.TUPLE2 for i in range(times))
    return NOTHING + b"".join(steps)


GLOBAL = "refused: STACK_GLOBAL of "
NO_ARRAY = "refused: an array that is"
NO_RIDGE = "is no Ridge regressor of 4 "
DAMAGED = r"no file of the release \(IndexError\)"
INERT: dict[str, tuple[bytes, str]] = {
    "a stranger of a known module": (name("numpy", "load"), GLOBAL + "'numpy load'"),
    "a known name elsewhere": (name("evil", "Ridge"), GLOBAL + "'evil Ridge'"),
    "an attribute of a known class": (name("sklearn.linear_model._ridge", "Ridge.fit"), GLOBAL + ".*Ridge.fit'"),
    "a dotted way out of a known module": (name("numpy", "lib._utils_impl.os.mkdir"), GLOBAL + "'numpy lib._utils"),
    "a spaced name": (name("numpy dtype", ""), GLOBAL + "'numpy dtype '"),
    "numpy's reconstruct": (name("numpy._core.multiarray", "_reconstruct"), GLOBAL + "'numpy._core.multiarray _rec"),
    "copyreg": (name("copyreg", "_reconstructor"), GLOBAL + "'copyreg _reconstructor'"),
    "a name that is no text": (NOTHING + text("x") + pickle.STACK_GLOBAL, GLOBAL + "'tuple x'"),
    "a name that is a bomb": (doubling(60) + text("x") + pickle.STACK_GLOBAL, GLOBAL + "'tuple x'"),
    "a key that is a bomb": (pickle.EMPTY_DICT + pickle.MARK + doubling(60) + NONE + pickle.SETITEMS, "SETITEMS of 't"),
    "a key that is deep": (
        pickle.EMPTY_DICT + pickle.MARK + NOTHING + pickle.TUPLE1 * 9_000 + NONE + pickle.SETITEMS,
        "SETITEMS of 'tuple NoneType'",
    ),
    "many items of no dict": (
        NOTHING + pickle.MARK + (text("a" * 200) + NONE) * 2_000 + pickle.SETITEMS,
        "SETITEMS of 'a{80} NoneType'",
    ),
    "items of no dict": (NOTHING + pickle.MARK + text("a") + NONE + pickle.SETITEMS, "SETITEMS of 'a NoneType'"),
    "half an item": (pickle.EMPTY_DICT + pickle.MARK + text("a") + pickle.SETITEMS, r"zip\(\)"),
    "object dtype": (OBJECT, "REDUCE of 'DTYPE tuple'"),
    "datetime dtype": (dtype("M8"), "REDUCE of 'DTYPE tuple'"),
    "structured dtype": (
        DTYPE + text("i4,O") + FALSE + TRUE + pickle.TUPLE3 + pickle.REDUCE,
        "REDUCE of 'DTYPE tuple'",
    ),
    "dtype of nothing": (DTYPE + NOTHING + pickle.REDUCE, "REDUCE of 'DTYPE tuple'"),
    "dtype of a dict": (DTYPE + pickle.EMPTY_DICT + FALSE + TRUE + pickle.TUPLE3 + pickle.REDUCE, "REDUCE of 'DTYPE t"),
    "big-endian dtype": (dtype("f4", ">"), "BUILD of 'float32 tuple'"),
    "dtype with fields": (dtype("f4") + number(3) + pickle.TUPLE1 + pickle.BUILD, "BUILD of 'float32 tuple'"),
    "scalar of objects": (
        SCALAR + OBJECT + pickle.SHORT_BINBYTES + b"\x02N." + pickle.TUPLE2 + pickle.REDUCE,
        "REDUCE of 'DTYPE tuple'",
    ),
    "short scalar": (
        SCALAR + dtype("f8") + pickle.SHORT_BINBYTES + b"\x01a" + pickle.TUPLE2 + pickle.REDUCE,
        "REDUCE of 'SCALAR tuple'",
    ),
    "call of Ridge": (RIDGE + NOTHING + pickle.REDUCE, "REDUCE of 'RIDGE tuple'"),
    "call of ndarray": (NDARRAY + number(1 << 30) + pickle.TUPLE1 + pickle.REDUCE, "REDUCE of 'NDARRAY tuple'"),
    "call of text": (text("os.system") + NOTHING + pickle.REDUCE, "REDUCE of 'os.system tuple'"),
    "new with arguments": (RIDGE + NONE + pickle.TUPLE1 + pickle.NEWOBJ, "NEWOBJ of 'RIDGE tuple'"),
    "new ndarray": (NDARRAY + NOTHING + pickle.NEWOBJ, "NEWOBJ of 'NDARRAY tuple'"),
    "new with keywords": (RIDGE + NOTHING + pickle.EMPTY_DICT + pickle.NEWOBJ_EX, "opcode NEWOBJ_EX"),
    "slot state": (
        RIDGE + NONE + mapping({"__class__": NONE}) + pickle.TUPLE2 + pickle.BUILD,
        "BUILD of 'RIDGE tuple'",
    ),
    "state of a dict": (pickle.EMPTY_DICT + mapping({"__class__": NONE}) + pickle.BUILD, "BUILD of 'dict dict'"),
    "state of ndarray": (NDARRAY + mapping({"__array_finalize__": NONE}) + pickle.BUILD, "BUILD of 'NDARRAY dict'"),
    "state of a scalar": (scalar(1.0) + mapping({"dtype": NONE}) + pickle.BUILD, "BUILD of 'float32 dict'"),
    "array of objects": (array([1.0], dtype=OBJECT) + START + name("os", "getcwd"), "REDUCE of 'DTYPE tuple'"),
    "array of two axes": (array([1.0], shape=number(1) + number(1) + pickle.TUPLE2), NO_ARRAY),
    "array of a subclass": (array([1.0], subclass=RIDGE), NO_ARRAY),
    "array in another order": (array([1.0], order=text("F")), NO_ARRAY),
    "array in an array's order": (array([1.0], order=array([1.0, 2.0])), "ambiguous"),
    "endless array": (array([1.0], shape=number((1 << 31) - 1) + pickle.TUPLE1), NO_ARRAY),
    "array past the end": (array([1.0], shape=number(100) + pickle.TUPLE1), NO_ARRAY),
    "negative array": (array([1.0], shape=number(-4) + pickle.TUPLE1), NO_ARRAY),
    "empty array": (array([]), NO_ARRAY),
    "memory that is not there": (pickle.BINGET + b"\x09", DAMAGED),
    "memory far away": (NONE + pickle.LONG_BINPUT + b"\xff\xff\xff\x7f", "opcode LONG_BINPUT"),
    "persistent id": (pickle.PERSID + b"1\n", "opcode PERSID"),
    "persistent object": (NONE + pickle.BINPERSID, "opcode BINPERSID"),
    "buffer": (pickle.NEXT_BUFFER, "opcode NEXT_BUFFER"),
    "a long number": (pickle.LONG + b"9" * 5_000 + b"L\n", "opcode LONG"),
    "bytes that are not there": (pickle.BINBYTES8 + b"\xff" * 8, "opcode BINBYTES8"),
    "escapes": (pickle.STRING + rb"'\z'" + b"\n", "opcode STRING"),
    "frozen set": (pickle.MARK + NONE + pickle.FROZENSET, "opcode FROZENSET"),
    "nothing to take": (pickle.TUPLE3, DAMAGED),
    "nothing to remember": (pickle.MEMOIZE, DAMAGED),
    "no mark": (pickle.TUPLE, DAMAGED),
    "two values": (NONE + NONE, "refused: STOP of"),
    "something behind the end": (head(0) + pickle.STOP, "refused: STOP of"),
    "no opcode": (b"\xff", r"no file of the release \(KeyError\)"),
    "endless": (NONE * 10_000, "more than 10000 opcodes"),
    "a plain dict": (mapping({"a": NONE}), NO_RIDGE),
    "a number": (number(1), NO_RIDGE),
    "one coefficient short": (ridge(array([1.0] * (DIM - 1)), scalar(1.0)), NO_RIDGE),
    "whole numbers": (ridge(array([1] * DIM, "i4"), scalar(1.0)), NO_RIDGE),
    "a coefficient that is NaN": (ridge(array([float("nan")] * DIM), scalar(1.0)), NO_RIDGE),
    "an endless intercept": (ridge(array([1.0] * DIM), scalar(float("inf"))), NO_RIDGE),
    "an intercept of None": (ridge(array([1.0] * DIM), NONE), NO_RIDGE),
    "a row of intercepts": (ridge(array([1.0] * DIM), array([1.0])), NO_RIDGE),
    "coefficients of a dict": (ridge(pickle.EMPTY_DICT, scalar(1.0)), NO_RIDGE),
}


@pytest.mark.parametrize("kind", INERT)
def test_what_no_released_file_holds_is_refused(release: Path, kind: str) -> None:
    body, expected = INERT[kind]
    checkpoint(release).write_bytes(START + body + pickle.STOP)
    assert str(checkpoint(release)) in refused(release, expected)


@pytest.mark.parametrize("protocol", range(6))
def test_ordinary_pickles_are_refused(release: Path, protocol: int) -> None:
    for value in (None, [1.0, 2.0], {"10_score": {1, 2}}, np.ones(DIM, np.float32), np.dtype("O"), Path):
        checkpoint(release).write_bytes(pickle.dumps(value, protocol))
        refused(release)


@pytest.mark.parametrize(
    "magic", [b"x\x9c", b"\x1f\x8b", b"BZ", b"\xfd7zXZ", b"\x04\x22M\x18", b"(dp0\n.", b"", b"version https"]
)
def test_a_compressed_or_other_file_is_refused_as_such(release: Path, magic: bytes) -> None:
    checkpoint(release).write_bytes(magic)
    assert str(checkpoint(release)) in refused(release, "is compressed, or not a joblib file")


def test_a_file_cut_short_anywhere_is_refused(release: Path) -> None:
    for file, step in ((FILES[1], 1), (FILES[0], 13)):
        path = checkpoint(release, file)
        raw = path.read_bytes()
        for length in range(0, len(raw), step):
            path.write_bytes(raw[:length])
            refused(release)
        path.write_bytes(raw)
    check_miniature(read_release(release))


def read_or_refuse(folder: Path) -> None:
    """Nonsense may by luck still be a release; what must not be is any other error."""
    try:
        found = read_release(folder)
    except ArtifactError:
        return
    assert found.quality_coef.shape == (2, 3, DIM)
    assert np.isfinite(found.quality_coef).all()


@pytest.fixture(scope="module")
def playground(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("ucf") / "release")


OPCODES = st.lists(st.sampled_from([op.code.encode("latin-1") for op in pickletools.opcodes]), max_size=40).map(
    b"".join
)
PIECES = st.sampled_from(
    [RIDGE, WRAPPER, DTYPE, SCALAR, dtype("f4"), array([1.0]), head(0), NONE, text("coef_"), number(3)]
)


@given(raw=st.binary(max_size=200) | OPCODES | st.lists(PIECES | OPCODES, max_size=12).map(b"".join))
def test_random_bytes_are_refused_cleanly(playground: Path, raw: bytes) -> None:
    checkpoint(playground).write_bytes(START + raw)
    read_or_refuse(playground)


@given(at=st.integers(0), byte=st.integers(0, 255), drop=st.integers(0, 3))
def test_a_damaged_checkpoint_is_refused_cleanly(playground: Path, at: int, byte: int, drop: int) -> None:
    raw = START + head(0) + pickle.STOP
    at %= len(raw)
    checkpoint(playground).write_bytes(raw[:at] + bytes([byte]) + raw[at + drop :])
    read_or_refuse(playground)


# -- the files around it --------------------------------------------------------------------------------------------


def test_missing_files_are_named_with_the_mend(release: Path, tmp_path: Path) -> None:
    assert "config.json" in refused(tmp_path / "nowhere", "No such file.*; give the folder")
    for file in FILES:
        path = checkpoint(release, file)
        raw = path.read_bytes()
        path.unlink()
        assert str(path) in refused(release, "No such file.*; give the folder")
        path.mkdir()
        assert str(path) in refused(release)
        path.rmdir()
        path.write_bytes(raw)


def test_a_file_that_is_too_large_is_not_read_on(release: Path) -> None:
    for path in (checkpoint(release), release / "config.json"):
        kept = path.read_bytes()
        with path.open("r+b") as file:
            file.truncate(1 << 40)  # sparse
        assert str(path) in refused(release, "larger than 8 MiB")
        path.write_bytes(kept)


def test_the_limited_file_must_hold_the_budgets_of_the_config(release: Path) -> None:
    path = checkpoint(release, FILES[0])
    for body in (
        mapping({"10_score": head(0), "80_score": head(1)}),
        mapping({"10_score": head(0), "x": NONE}),
        head(0),
    ):
        path.write_bytes(START + body + pickle.STOP)
        assert str(path) in refused(release, "one regressor for each number in token_limits")
    path.write_bytes(START + mapping({"10_score": head(0), "50_score": NONE}) + pickle.STOP)
    refused(release, "limited_score_predictors.joblib: 50_score: is no Ridge")


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"models": {}}, "models"),
        ({"models": None}, "models"),
        ({"models": {"big": {"openrouter_id": "lab/big", "checkpoint_dir": "big_ridge"}}}, "input_price_per_million"),
        ({"models": {"big": {**config()["models"]["big"], "output_price_per_million": -1}}}, ">= 0"),
        ({"models": {"big": {**config()["models"]["big"], "checkpoint_dir": "../big_ridge"}}}, "plain name"),
        ({"models": {"big": {**config()["models"]["big"], "checkpoint_dir": ".."}}}, "plain name"),
        ({"models": {"big": {**config()["models"]["big"], "checkpoint_dir": "a\0b"}}}, "plain name"),
        ({"models": {"big": {**config()["models"]["big"], "checkpoint_dir": "x" * 300}}}, "plain name"),
        ({"models": {"big": {**config()["models"]["big"], "checkpoint_dir": "gone"}}}, "No such file"),
        ({"token_limits": [10, 50]}, "token_limits"),
        ({"token_limits": [10, 10, "unlimited"]}, "token_limits"),
        ({"token_limits": [10, -50, "unlimited"]}, "token_limits"),
        ({"token_limits": [10, "low", "unlimited"]}, "token_limits"),
        ({"token_limits": [10, 50, 80, "unlimited"]}, "one regressor for each"),
        ({"embedding_dim": 8}, "of 8 "),
        ({"embedding_dim": 0}, "embedding_dim"),
        ({"default_lambda": 1.5}, "default_lambda"),
        ({"embedding_model": None}, "embedding_model"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path: Path, wrong: dict[str, Any], expected: str) -> None:
    refused(write(tmp_path / "release", **wrong), expected)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"default_lambda": 1e999}',
        b'{"default_lambda": NaN}',
        b'{"a": "\\ud800"}',
    ],
)
def test_a_config_that_is_no_config_is_refused(release: Path, raw: bytes) -> None:
    (release / "config.json").write_bytes(raw)
    assert str(release / "config.json") in refused(release)


@given(raw=st.binary(max_size=100))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_random_config_is_refused(release: Path, raw: bytes) -> None:
    (release / "config.json").write_bytes(raw)
    refused(release)
