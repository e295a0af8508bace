"""Routing files: every row in gives a row out, in order; nothing half is left behind; memory stays bounded."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from r2router import Best, Cheapest, Recipe, Router, Value
from r2router.errors import ConfigError, DataError, EncoderError, NoFeasibleArm, SaveError, UsageError
from r2router.files import whole_file
from r2router.stream import batch, batches, columns, route_file, texts
from r2router.stream.write import COLUMNS

DIM = 8
TEXTS = [f"topic {i % 6} question {i}" for i in range(7)]


@pytest.fixture
def router(world: Any, fake_encoder: Any) -> Router:
    return Recipe(encoder="fake", folds=0).fit(world.table, vectors=world.vectors)


def lines(raw: bytes | str | Path) -> list[dict[str, Any]]:
    text = raw.read_bytes() if isinstance(raw, Path) else raw
    return [json.loads(line) for line in text.splitlines()]


def routed(router: Router, source: Path, **options: Any) -> list[dict[str, Any]]:
    out = io.BytesIO()
    route_file(router, source, out, **options)
    return lines(out.getvalue())


def write_jsonl(path: Path, texts: list[str]) -> Path:
    path.write_text(
        "".join(json.dumps({"id": f"q{i}", "query": t}) + "\n" for i, t in enumerate(texts)), encoding="utf-8"
    )
    return path


# -- what comes out ---------------------------------------------------------------------------------------------------


def write_csv(path: Path, texts: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "prompt"), *((f"q{i}", t) for i, t in enumerate(texts))])
    return path


def write_txt(path: Path, texts: list[str]) -> Path:
    path.write_bytes("\r\n".join(texts).encode("utf-8-sig"))
    return path


def write_parquet(path: Path, texts: list[str]) -> Path:
    pl.DataFrame({"query_id": [f"q{i}" for i in range(len(texts))], "text": texts}).write_parquet(path)
    return path


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("a.jsonl", write_jsonl),
        ("a.ndjson", write_jsonl),
        ("a.csv", write_csv),
        ("a.txt", write_txt),
        ("a.parquet", write_parquet),
    ],
)
def test_every_format_decides_as_the_router_does(
    tmp_path: Path, router: Router, name: str, write: Callable[[Path, list[str]], Path]
) -> None:
    rows = routed(router, write(tmp_path / name, TEXTS), policy=Value(0.002))
    assert [r["row"] for r in rows] == list(range(len(TEXTS)))
    if name != "a.txt":
        assert [r["id"] for r in rows] == [f"q{i}" for i in range(len(TEXTS))]
    for row, text in zip(rows, TEXTS, strict=True):
        d = router.route(text, Value(0.002))
        assert (row["arm"], row["model"], row["budget"]) == (d.arm, d.model, d.budget)
        assert row["quality"] == pytest.approx(d.quality, abs=1e-6)
        assert row["cost"] == pytest.approx(d.cost, rel=1e-5)
        assert (row["met"], row["familiar"]) == (d.met, d.familiar)
        assert (row.get("max_tokens"), tuple(row["fallbacks"])) == (d.max_tokens, d.fallbacks)
        assert row["spread"] == pytest.approx(d.spread, abs=1e-6)


@pytest.mark.parametrize("policy", [None, Best(0.0003), Cheapest(0.6)], ids=str)
def test_the_policy_is_the_routers_where_none_is_given(tmp_path: Path, router: Router, policy: Any) -> None:
    rows = routed(router, write_txt(tmp_path / "a.txt", TEXTS), policy=policy)
    assert [r["arm"] for r in rows] == [router.route(t, policy).arm for t in TEXTS]


@pytest.mark.parametrize("kind", ["npy", "npy in columns", "float16", "array", "list"])
def test_embeddings_are_routed_without_the_encoder(tmp_path: Path, world: Any, kind: str) -> None:
    router = Recipe(encoder="given:elsewhere", folds=0).fit(world.table, vectors=world.vectors)
    x = world.vectors.astype(np.float16) if kind == "float16" else world.vectors
    if kind in ("array", "list"):
        path = tmp_path / "x.parquet"
        column = pl.Series(x.tolist(), dtype=pl.Array(pl.Float32, DIM) if kind == "array" else pl.List(pl.Float64))
        pl.DataFrame({"query": ["text"] * len(x), "embedding": column}).write_parquet(path)
    else:
        path = tmp_path / "x.npy"
        np.save(path, np.asfortranarray(x) if kind == "npy in columns" else x)
    rows = routed(router, path, policy=Value(0.001))
    expected = router.decide(x.astype(np.float32), Value(0.001))
    assert [r["arm"] for r in rows] == [router.arms[a] for a in expected.arm]
    np.testing.assert_allclose([r["quality"] for r in rows], expected.quality)


def test_batches_of_any_size_give_the_same(
    tmp_path: Path, world: Any, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", world.vectors)
    text, whole = write_txt(tmp_path / "a.txt", TEXTS), routed(router, tmp_path / "x.npy")
    texts = routed(router, text)
    monkeypatch.setattr(columns, "_VECTOR_BYTES", 4 * DIM * 7)
    monkeypatch.setattr(batch, "TEXTS", 2)
    monkeypatch.setattr(columns, "TEXTS", 2)
    assert len(list(batches(tmp_path / "x.npy", DIM))) == -(-len(world.vectors) // 7)
    for now, before in ((routed(router, tmp_path / "x.npy"), whole), (routed(router, text), texts)):
        assert [(r["row"], r["arm"]) for r in now] == [(r["row"], r["arm"]) for r in before]
        # sums in another order differ a little
        assert [r["cost"] for r in now] == pytest.approx([r["cost"] for r in before], rel=1e-5)


def test_counts_of_input_tokens_are_used(tmp_path: Path, world: Any, router: Router) -> None:
    path = tmp_path / "x.parquet"
    tokens = [10.0, None, 1000.0]
    pl.DataFrame({"vector": world.vectors[:3].tolist(), "input_tokens": tokens}).write_parquet(path)
    rows = routed(router, path, policy=Value(0.001))
    assert rows[1]["error"].startswith("input_tokens")
    expected = router.decide(world.vectors[[0, 2]], Value(0.001), np.array([10.0, 1000.0]))
    assert [rows[0]["cost"], rows[2]["cost"]] == pytest.approx(expected.cost.tolist())


def test_a_budget_between_two_anchors_is_named(tmp_path: Path, world: Any, router: Router) -> None:
    np.save(tmp_path / "x.npy", world.vectors)
    caps = np.linspace(0.0001, 0.005, 50)
    found = [
        r
        for cap in caps
        for r in routed(router, tmp_path / "x.npy", policy=Best(cap))
        if r.get("arm") not in router.arms
    ]
    between = [r for r in found if "arm" in r]
    assert between
    assert all(50 < int(r["budget"]) < 800 and r["arm"] == f"{r['model']}@{r['budget']}" for r in between)


@pytest.mark.parametrize("policy", [None, Best(0.0003), Cheapest(0.99), Value(0.01)], ids=str)
def test_a_batch_has_what_a_single_decision_has(tmp_path: Path, router: Router, policy: Any) -> None:
    rows = routed(router, write_txt(tmp_path / "a.txt", TEXTS), policy=policy)
    for row, text in zip(rows, TEXTS, strict=True):
        d = router.route(text, policy).to_dict()
        exact = ("arm", "model", "budget", "max_tokens", "met", "familiar")
        assert {k: row.get(k) for k in exact} == {k: d[k] for k in exact}
        assert row["fallbacks"] == list(d["fallbacks"])
        sent = {k: v for k, v in d["enforcement"].items() if v is not None}
        assert row["enforcement"] == (
            sent if "instruction" in sent else {k: v for k, v in sent.items() if k != "place"}
        )


# -- the source's own columns
# ---------------------------------------------------------------------------------------------


OWN = {
    "my_id": ["A1", "B,2", None],
    "prompt": TEXTS[:3],
    "model": ["theirs", "x", "y"],
    "n": [1, None, 3],
    "share": [0.5, 1.0, None],
}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize("source", ["jsonl", "csv", "parquet"])
def test_own_columns_are_kept(tmp_path: Path, router: Router, source: str, kind: str) -> None:
    frame, path = pl.DataFrame(OWN), tmp_path / f"a.{source}"
    {"jsonl": frame.write_ndjson, "csv": frame.write_csv, "parquet": frame.write_parquet}[source](path)
    route_file(router, path, tmp_path / f"out.{kind}")
    read = {"jsonl": pl.read_ndjson, "csv": pl.read_csv, "parquet": pl.read_parquet}[kind]
    found = read(tmp_path / f"out.{kind}")
    assert found["my_id"].fill_null("").to_list() == ["A1", "B,2", ""]
    assert found["prompt"].to_list() == TEXTS[:3]
    assert found["input_model"].to_list() == OWN["model"]
    assert found["model"].to_list() == [router.route(t).model for t in TEXTS[:3]]
    if source != "csv":  # whose values are texts
        assert found["n"].to_list() == [1, None, 3]
        assert found["share"].to_list() == [0.5, 1.0, None]


def test_own_fields_of_json_may_differ_from_row_to_row(
    tmp_path: Path, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "TEXTS", 2)
    monkeypatch.setattr("r2router.stream.parquet._PART", 2)
    own: list[dict[str, Any]] = [
        {"a": 1},
        {"a": 2.5, "tags": ["x", {"y": 1}]},
        {"a": "three"},
        {"late": True},
        {"a": 2**70},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text(
        "".join(json.dumps({"query": t, **o}) + "\n" for t, o in zip(TEXTS, own, strict=False)), encoding="utf-8"
    )
    rows = routed(router, path)
    assert [{k: r[k] for k in o} for r, o in zip(rows, own, strict=True)] == own
    route_file(router, path, tmp_path / "out.parquet")
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert found["a"].to_list() == ["1.0", "2.5", "three", None, str(2**70)]
    assert found["tags"].to_list() == [None, '["x",{"y":1}]', None, None, None]
    assert found["late"].to_list() == [None, None, None, True, None]
    assert route_file(router, path, tmp_path / "out.csv").left_out == ("late",)


def test_embeddings_are_not_written_again(tmp_path: Path, world: Any, router: Router) -> None:
    frame = pl.DataFrame({"vector": world.vectors[:3].tolist(), "other": [[1.0], [2.0], []], "day": ["2026-01-02"] * 3})
    frame.with_columns(pl.col("day").str.to_date()).write_parquet(tmp_path / "x.parquet")
    route_file(router, tmp_path / "x.parquet", tmp_path / "out.parquet")
    found = pl.read_parquet(tmp_path / "out.parquet")
    assert "vector" not in found.columns
    assert found["other"].to_list() == [[1.0], [2.0], []]
    assert found.schema["day"] == pl.Date
    assert routed(router, tmp_path / "x.parquet")[0]["day"] == "2026-01-02"


def test_an_id_is_kept_as_it_is(tmp_path: Path, router: Router) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"id": 7, "query_id": "q7", "query": "topic 1 a"}\n{"query_id": "q8", "query": "topic 1 b"}\n',
        encoding="utf-8",
    )
    rows = routed(router, path)
    assert [(r["id"], r["query_id"]) for r in rows] == [(7, "q7"), ("q8", "q8")]


# -- on how many processors
# -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("embedder", ["minilm", "fake"])
def test_any_number_of_threads_gives_the_same_bits(
    tmp_path: Path, world: Any, fake_encoder: Any, embedder: str
) -> None:
    vectors = world.vectors if embedder == "fake" else None
    router = Recipe(encoder=embedder, folds=0).fit(
        world.table.take(range(60)), vectors=None if vectors is None else vectors[:60]
    )
    asked = [" " if i % 50 == 0 else f"{TEXTS[i % 7]} {'word ' * (i % 9)}" for i in range(700)]
    path, outputs = write_txt(tmp_path / "a.txt", asked), set()
    for workers in (1, 2, 5):
        out = io.BytesIO()
        route_file(router, path, out, workers=workers)
        outputs.add(out.getvalue())
    assert len(outputs) == 1
    assert [json.loads(line)["row"] for line in outputs.pop().splitlines()] == list(range(700))


def test_few_batches_are_read_ahead(tmp_path: Path, router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "TEXTS", 2)
    path, written = write_txt(tmp_path / "a.txt", [f"topic {i % 6} x" for i in range(400)]), [0]
    ahead: list[int] = []
    real = texts._decoded

    def decoded(raw: bytes | None) -> Any:
        ahead.append(len(ahead) - written[0])
        return real(raw)

    monkeypatch.setattr(texts, "_decoded", decoded)
    route_file(router, path, io.BytesIO(), progress=lambda rows, _: written.__setitem__(0, rows), workers=2)
    assert len(ahead) == 400 and max(ahead) < 60


def test_long_texts_make_small_batches(tmp_path: Path, router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "TEXT_CHARACTERS", 100)
    for write, name in ((write_txt, "a.txt"), (write_jsonl, "a.jsonl"), (write_csv, "a.csv")):
        sizes = [len(b) for b in batches(write(tmp_path / name, [*TEXTS, "topic 1 " + "x" * 200, *TEXTS]), DIM)]
        assert sum(sizes) == 15 and max(sizes) <= 7


def test_what_an_encoder_says_in_a_thread_is_said(
    tmp_path: Path, router: Router, fake_encoder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(texts: Any) -> Any:
        raise EncoderError("the endpoint is down")

    monkeypatch.setattr(fake_encoder, "encode", broken)
    with pytest.raises(EncoderError, match="the endpoint is down"):
        route_file(router, write_txt(tmp_path / "a.txt", TEXTS), tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


@pytest.mark.slow
def test_on_a_ray_cluster_the_output_is_the_same(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the [ray] extra is not installed")
    asked = [" " if i % 50 == 0 else f"What is {i} times {i + 3}? {'Explain. ' * (i % 9)}" for i in range(700)]
    write_jsonl(tmp_path / "a.jsonl", asked)
    pl.DataFrame({"prompt": asked, "mine": range(700)}).write_parquet(tmp_path / "a.parquet")
    for source in ("a.jsonl", (tmp_path / "a.parquet").as_uri()):
        outputs = []
        for engine in ("threads", "ray"):
            done = subprocess.run(
                [sys.executable, "-W", "ignore", "-m", "r2router.cli", "route", "--input", source, "--engine", engine],
                capture_output=True, timeout=300, check=False, cwd=tmp_path,
                env={**os.environ, "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"},
            )  # fmt: skip
            assert done.returncode == 1, done.stderr  # the blank rows
            outputs.append(done.stdout)
        assert len(outputs[0].splitlines()) == 700 and outputs[0] == outputs[1]


# -- at an address
# ----------------------------------------------------------------------------------------------------------


def test_files_at_an_address(tmp_path: Path, router: Router) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    pl.DataFrame({"prompt": TEXTS[:4]}).write_parquet(there / "a.parquet")
    pl.DataFrame({"prompt": TEXTS[4:]}).write_parquet(there / "b.parquet")
    route_file(router, f"{there.as_uri()}/*.parquet", f"{here.as_uri()}/out.parquet")
    found = pl.read_parquet(here / "out.parquet")
    assert found["prompt"].to_list() == TEXTS
    assert found["arm"].to_list() == [router.route(t).arm for t in TEXTS]
    assert [p.name for p in here.iterdir()] == ["out.parquet"]
    for write, name in ((write_jsonl, "a.jsonl"), (write_csv, "a.csv")):
        uri = write(there / name, [*TEXTS, " "]).as_uri()
        assert [r.get("arm") for r in routed(router, uri)] == [*found["arm"], None]


@pytest.mark.parametrize(
    ("source", "target", "words"),
    [
        ("file:///nowhere/a.parquet", None, "cannot be read"),
        ("file:///nowhere/a.txt", None, r"at an address there can be \.parquet"),
        ("here.txt", "file:///nowhere/out.csv", r"only \.parquet can be written"),
    ],
)
def test_addresses_that_are_of_no_use(
    tmp_path: Path, router: Router, source: str, target: str | None, words: str
) -> None:
    path = write_txt(tmp_path / "here.txt", TEXTS)
    with pytest.raises(DataError, match=words):
        route_file(router, path if source == "here.txt" else source, target or io.BytesIO())


# -- bad rows
# -----------------------------------------------------------------------------------------------------------


def test_a_bad_line_is_a_row_with_an_error(tmp_path: Path, router: Router) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"query": "topic 1 a"}\n\n{"query": "x"\n"topic 2 a bare string"\n{"query": 5, "id":'
        b' 3}\n{"query": " \\t "}\n[1]\n{"other": "x"}\n{"query": "\\ud800"}\n{"query": "\xff"}\n'
        + b"[" * 100_000
        + b'\n{"prompt": "topic 3 last"}'
    )
    rows = routed(router, path)
    assert [r["row"] for r in rows if "arm" in r] == [0, 3, 11]
    assert all(r["error"] for r in rows if "arm" not in r)
    assert rows[4] == {"row": 4, "id": 3, "query": 5, "error": "field 'query' is not text"}
    out = io.BytesIO()
    summary = route_file(router, path, out)
    assert (summary.rows, summary.failed) == (12, 9)
    good = [r for r in rows if "arm" in r]
    assert summary.cost == pytest.approx(sum(r["cost"] for r in good))
    assert summary.quality == pytest.approx(np.mean([r["quality"] for r in good]))


def test_a_line_that_is_too_long_is_not_kept(tmp_path: Path, router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_LONGEST", 50)
    path = tmp_path / "a.txt"
    path.write_text("topic 1 a\n" + "x" * 49 + "\n" + "x" * 50 + "\n" + "x" * 5000 + "\ntopic 2 b", encoding="utf-8")
    rows = routed(router, path)
    assert ["arm" in r for r in rows] == [True, True, False, False, True]


def test_bad_rows_of_a_csv(tmp_path: Path, router: Router) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b'id,query\n1,"topic 1, with\na line break"\n2\n3,\n4,caf\xe9\n5,topic 2\n6,who, and when?')
    rows = routed(router, path)
    assert ["arm" in r for r in rows] == [True, False, False, False, True, False]
    assert [r["id"] for r in rows] == ["1", "2", "3", "4", "5", "6"]
    assert rows[3]["query"] == "caf\ufffd"
    assert "line 8 has 3 fields, the header 2" in rows[5]["error"]


def test_bad_embeddings_do_not_spoil_the_others(tmp_path: Path, world: Any, router: Router) -> None:
    x = world.vectors[:4].astype(np.float64)
    x[1, 3], x[2, 0] = np.nan, 1e300
    np.save(tmp_path / "x.npy", x)
    rows = routed(router, tmp_path / "x.npy")
    assert ["error" in r for r in rows] == [False, True, True, False]
    ragged = [x[0].tolist(), None, [1.0], [None] * DIM, x[3].tolist()]
    pl.DataFrame({"vector": pl.Series(ragged, dtype=pl.List(pl.Float32))}).write_parquet(tmp_path / "x.parquet")
    rows = routed(router, tmp_path / "x.parquet")
    assert ["error" in r for r in rows] == [False, True, True, True, False]


def test_a_cap_that_no_arm_meets_is_the_rows_error(tmp_path: Path, router: Router) -> None:
    rows = routed(router, write_txt(tmp_path / "a.txt", [*TEXTS, " "]), policy=Best(1e-12))
    assert all("no arm costs at most" in r["error"] for r in rows[:-1])
    assert rows[-1]["error"] == "empty"
    assert len(rows) == len(TEXTS) + 1


def test_nothing_in_nothing_out(tmp_path: Path, router: Router) -> None:
    (tmp_path / "a.jsonl").touch()
    for name in ("b.jsonl", "b.csv", "b.parquet"):
        assert route_file(router, tmp_path / "a.jsonl", tmp_path / name).rows == 0
    assert pl.read_parquet(tmp_path / "b.parquet").columns == list(COLUMNS)
    np.save(tmp_path / "x.npy", np.zeros((0, DIM), dtype=np.float32))
    assert routed(router, tmp_path / "x.npy") == []


# -- files that are of no use
# -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.xlsx", b"", "cannot tell its format"),
        ("a.npy", b"not numpy", "not a whole .npy"),
        ("a.npy", b"", "not a whole .npy"),
        ("a.parquet", b"PAR1 no", "cannot be read as parquet"),
        ("a.csv", b"", "file is empty"),
        ("a.csv", b"question,x\n1,2\n", "no column query, prompt, text"),
        ("a.csv", b'query\n"' + b"x" * 40_000_000, "a line is longer than 32 MiB"),
    ],
)
def test_a_file_that_is_of_no_use(tmp_path: Path, router: Router, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        routed(router, tmp_path / name)


@pytest.mark.parametrize(
    "array",
    [np.zeros((3, DIM + 1), "f4"), np.zeros(DIM, "f4"), np.zeros((3, DIM), int)],
    ids=["width", "flat", "whole numbers"],
)
def test_embeddings_of_another_shape(tmp_path: Path, router: Router, array: Any) -> None:
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(DataError, match="embeddings"):
        routed(router, tmp_path / "x.npy")


def test_a_npy_of_objects_is_never_unpickled(tmp_path: Path, router: Router) -> None:
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"not a whole \.npy"):
        routed(router, tmp_path / "x.npy")


def test_a_cut_off_npy_is_refused_before_anything_is_written(tmp_path: Path, world: Any, router: Router) -> None:
    np.save(tmp_path / "x.npy", world.vectors)
    os.truncate(tmp_path / "x.npy", 1000)
    with pytest.raises(DataError, match="not a whole"):
        route_file(router, tmp_path / "x.npy", tmp_path / "out.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["x.npy"]


def test_all_embeddings_of_another_encoder(tmp_path: Path, router: Router) -> None:
    pl.DataFrame({"vector": [[1.0, 2.0], [1.0, 2.0]]}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=f"have 2 numbers each; this router needs {DIM}"):
        routed(router, tmp_path / "x.parquet")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"exclude": ["nobody"]}, ConfigError),
        ({"require": ["levitation"]}, NoFeasibleArm),
        ({"column": "nothing"}, DataError),
    ],
)
def test_wrong_wishes_stop_at_once(
    tmp_path: Path, router: Router, options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        route_file(router, write_csv(tmp_path / "a.csv", TEXTS), tmp_path / "out.csv", **options)
    assert not (tmp_path / "out.csv").exists()


def test_a_column_by_name(tmp_path: Path, router: Router) -> None:
    pl.DataFrame({"text": ["wrong"] * 7, "question": TEXTS}).write_parquet(tmp_path / "a.parquet")
    rows = routed(router, tmp_path / "a.parquet", column="question")
    assert [r["arm"] for r in rows] == [router.route(t).arm for t in TEXTS]
    with pytest.raises(UsageError, match="has no columns"):
        routed(router, write_txt(tmp_path / "a.txt", TEXTS), column="question")


# -- what may be used
# -----------------------------------------------------------------------------------------------------


def test_excluded_models_and_full_contexts_are_not_chosen(tmp_path: Path, router: Router) -> None:
    path = write_txt(tmp_path / "a.txt", TEXTS)
    assert {r["model"] for r in routed(router, path, exclude=["small", "large"])} == {"thinker"}
    assert {r["model"] for r in routed(router, path, require=["vision"])} == {"large"}
    (tmp_path / "long.txt").write_text(f"topic 1 short\ntopic 1 {'long ' * 9_000}\n", encoding="utf-8")
    short, long = routed(router, tmp_path / "long.txt", exclude=["large", "thinker"])
    assert short["model"] == "small"
    assert long["error"] == "no arm is available"


# -- the output
# -----------------------------------------------------------------------------------------------------------


def as_csv(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(value)
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def test_the_three_outputs_say_the_same(tmp_path: Path, router: Router) -> None:
    source = write_jsonl(tmp_path / "a.jsonl", [*TEXTS, " "])
    for kind in ("jsonl", "csv", "parquet"):
        route_file(router, source, tmp_path / f"out.{kind}")
    from_json = lines(tmp_path / "out.jsonl")
    with (tmp_path / "out.csv").open(encoding="utf-8") as file:
        from_csv = list(csv.DictReader(file))
    from_parquet = pl.read_parquet(tmp_path / "out.parquet").to_dicts()
    assert list(from_csv[0]) == list(from_parquet[0])
    for j, c, p in zip(from_json, from_csv, from_parquet, strict=True):
        assert c == {k: as_csv(v) for k, v in p.items()}
        p["enforcement"] = p["enforcement"] and json.loads(p["enforcement"])
        assert j == {k: v for k, v in p.items() if v is not None}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "out.csv", "out.jsonl", "out.parquet"]


def test_long_parquet_is_joined_from_parts(
    tmp_path: Path, world: Any, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("r2router.stream.parquet._PART", 50)
    monkeypatch.setattr(columns, "_VECTOR_BYTES", 4 * DIM * 20)
    np.save(tmp_path / "x.npy", world.vectors)
    route_file(router, tmp_path / "x.npy", tmp_path / "out.parquet")
    assert pl.read_parquet(tmp_path / "out.parquet")["row"].to_list() == list(range(len(world.vectors)))


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_what_was_there_survives_a_failure(tmp_path: Path, router: Router, kind: str) -> None:
    out = tmp_path / f"out.{kind}"
    out.write_bytes(b"precious")

    def stop(rows: int, share: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        route_file(router, write_txt(tmp_path / "a.txt", TEXTS), out, progress=stop)
    assert out.read_bytes() == b"precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", out.name]


def test_outputs_that_cannot_be(tmp_path: Path, router: Router) -> None:
    source = write_txt(tmp_path / "a.txt", TEXTS)
    with pytest.raises(DataError, match="cannot tell the output's format"):
        route_file(router, source, tmp_path / "out.xml")
    with pytest.raises(SaveError, match="No such file"):
        route_file(router, source, tmp_path / "nowhere" / "out.csv")
    (tmp_path / "out.csv").mkdir()
    with pytest.raises(SaveError, match="not a file that can be replaced"):
        route_file(router, source, tmp_path / "out.csv")
    jsonl = write_jsonl(tmp_path / "b.jsonl", TEXTS)
    with pytest.raises(UsageError, match="is the input too"):
        route_file(router, jsonl, tmp_path / "." / "b.jsonl")


def test_a_link_to_the_output_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real.csv").write_text("old", encoding="utf-8")
    (tmp_path / "link.csv").symlink_to("real.csv")
    with whole_file(tmp_path / "link.csv") as file:
        file.write(b"new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "real.csv").read_text(encoding="utf-8") == "new"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, *a, **k: real(Path("/dev/full"), "wb") if self.suffix == ".partial" else real(self, *a, **k),
    )
    with pytest.raises(SaveError, match="No space left"), whole_file(tmp_path / "out.csv") as file:
        file.write(b"x" * 100)
    assert not (tmp_path / "out.csv").exists()


def test_what_polars_cannot_write_is_an_error_of_the_file(
    tmp_path: Path, router: Router, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise pl.exceptions.ComputeError("underlying IO error: No space left on device")

    monkeypatch.setattr(pl.DataFrame, "write_parquet", full)
    with pytest.raises(SaveError, match=r"out\.parquet: cannot be written .*No space left"):
        route_file(router, write_txt(tmp_path / "a.txt", TEXTS), tmp_path / "out.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_progress_reaches_the_end(tmp_path: Path, router: Router, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "TEXTS", 2)
    monkeypatch.setattr(columns, "TEXTS", 2)
    for write, name in (
        (write_txt, "a.txt"),
        (write_jsonl, "a.jsonl"),
        (write_csv, "a.csv"),
        (write_parquet, "a.parquet"),
    ):
        calls: list[tuple[int, float]] = []
        route_file(
            router, write(tmp_path / name, TEXTS), io.BytesIO(), progress=lambda *a, calls=calls: calls.append(a)
        )
        assert [rows for rows, _ in calls] == [2, 4, 6, 7]
        assert 0 < calls[0][1] < 1
        assert calls[-1][1] == pytest.approx(1.0, abs=0.05)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize(("write", "name"), [(write_txt, "a.txt"), (write_jsonl, "a.jsonl"), (write_csv, "a.csv")])
def test_a_pipe_is_read_like_a_file(write: Any, name: str, tmp_path: Path, router: Router) -> None:
    expected = routed(router, write(tmp_path / name, TEXTS))
    pipe = tmp_path / f"pipe-{name}"
    os.mkfifo(pipe)
    feeder = threading.Thread(target=lambda: pipe.write_bytes((tmp_path / name).read_bytes()))
    feeder.start()
    shares: list[float] = []
    out = io.BytesIO()
    route_file(router, pipe, out, progress=lambda _, share: shares.append(share))
    feeder.join()
    assert lines(out.getvalue()) == expected
    assert set(shares) == {0.0}, "nobody knows how much of a pipe is to come"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the kernel's own account of peak memory")
def test_a_long_file_takes_little_memory(tmp_path: Path, world: Any) -> None:
    rng = np.random.default_rng(0)
    d, n = 1024, 150_000
    router = Recipe(encoder="given:wide", folds=0).fit(world.table, vectors=rng.normal(size=(len(world.table), d)))
    router.save(tmp_path / "router")
    big = np.lib.format.open_memmap(tmp_path / "x.npy", mode="w+", dtype=np.float32, shape=(n, d))
    big[:] = rng.standard_normal(d, dtype=np.float32)
    del big
    code = (
        "import re, sys; from pathlib import Path; from r2router import Router; from r2router.stream import"
        " route_file\nroute_file(Router.load(sys.argv[1]), sys.argv[2],"
        " sys.argv[3])\nprint(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1])"
    )
    args = [tmp_path / "router", tmp_path / "x.npy", tmp_path / "out.jsonl"]
    peak = subprocess.run([sys.executable, "-c", code, *args], check=True, capture_output=True, text=True).stdout
    assert int(peak) < 300_000, "kB; the file alone has 600 MB"
    written = (tmp_path / "out.jsonl").read_bytes().splitlines()
    assert len(written) == n
    assert json.loads(written[-1])["row"] == n - 1
