"""The command line: what it prints, where it prints it, and with which code it ends."""

from __future__ import annotations

import html
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner, Result

from r2router import Best, Cheapest, Recipe, Router, Table, Tradeoff, Value
from r2router.cli import main
from r2router.cli.screen import Progress
from r2router.decide import Policy
from r2router.types import Arm, Prices

TEXT = "topic 2 what is it?"
PRICES = "model,input_usd_per_million,output_usd_per_million\nsmall,0.1,0.4\nlarge,2,8\nthinker,1,4\n"
POOL = """\
[[model]]
id = "small"
provider = "here"
budgets = [50, 200, "unlimited"]
control = ["instruction", "max_tokens"]
usd_per_million = { input = 0.1, output = 0.4 }

[[model]]
id = "large"
budgets = ["low"]
capabilities = ["vision"]
available = false
"""


@pytest.fixture
def room(tmp_path: Path, world: Any, fake_encoder: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what a user has: a router, a table, prices, a pool."""
    world.table.write(tmp_path / "table.parquet")
    Recipe(encoder="fake", folds=0).fit(world.table, vectors=world.vectors).save(tmp_path / "router")
    (tmp_path / "prices.csv").write_text(PRICES, encoding="utf-8")
    (tmp_path / "pool.toml").write_text(POOL, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    return tmp_path


def run(*args: object, input: str | bytes | None = None, env: dict[str, str] | None = None) -> Result:  # noqa: A002 - click's word
    apart = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}  # before click 8.2
    return CliRunner(**apart).invoke(main, [str(a) for a in args], input=input, env=env)


def fails(*args: object, code: int, says: str, **options: Any) -> None:
    """The command ends with that code and says why in one or two lines on stderr, and nothing on stdout."""
    result = run(*args, **options)
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    assert says in result.stderr
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) <= 2
    assert "Traceback" not in result.stderr


# -- route, one text
# ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("option", "policy"),
    [
        ((), None),
        (("--lambda", "0.3"), Tradeoff(0.3)),
        (("--value", "0.01"), Value(0.01)),
        (("--max-cost", "0.0008"), Best(0.0008)),
        (("--min-quality", "0.6"), Cheapest(0.6)),
    ],
)
def test_json_is_the_libraries_decision(room: Path, option: tuple[str, ...], policy: Policy | None) -> None:
    result = run("route", TEXT, "--router", "router", "--json", *option)
    assert (result.exit_code, result.stderr) == (0, "")
    expected = Router.load("router").route(TEXT, policy)
    got = json.loads(result.stdout)
    assert set(got) == set(expected.__struct_fields__)
    assert got["arm"] == expected.arm
    assert got["cost"] == pytest.approx(expected.cost)
    assert (got["fallbacks"], got["reason"], got["max_tokens"]) == (
        list(expected.fallbacks),
        expected.reason,
        expected.max_tokens,
    )


def test_the_first_line_is_the_arm(room: Path) -> None:
    result = run("route", TEXT, "--router", "router", "--value", 0.01)
    d = Router.load("router").route(TEXT, Value(0.01))
    assert result.stdout.splitlines()[0] == d.arm
    assert "±" in result.stdout
    assert re.search(rf"▶ +{d.arm} ", result.stdout)
    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    assert " ".join(d.reason.split()) in " ".join(result.stdout.split())


def test_wishes_reach_the_router(room: Path) -> None:
    for option in (("--require", "vision"), ("--exclude", "small", "--exclude", "thinker")):
        got = json.loads(run("route", TEXT, "--router", "router", "--json", *option).stdout)
        assert got["model"] == "large"
        assert all(Arm(f).model == "large" for f in got["fallbacks"])


def test_standard_input_is_one_text(room: Path) -> None:
    long = f"{TEXT}\nand a second line\n"
    got = json.loads(run("route", "-", "--router", "router", "--json", input=long).stdout)
    assert got["arm"] == Router.load("router").route(long).arm


def test_a_text_may_begin_with_a_dash(room: Path) -> None:
    assert run("route", "--router", "router", "--", "-5 + 3?").exit_code == 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["route"], "give either a TEXT"),
        (["route", TEXT, "--input", "a.txt"], "give either a TEXT"),
        (["route", TEXT, "--output", "a.csv"], "need --input"),
        (["route", "--input", "a.txt", "--output", "b.csv", "--json"], "--json cannot be combined with --output"),
        (["route", TEXT, "--lambda", "0.1", "--value", "1"], "--lambda and --value cannot be combined"),
        (["route", TEXT, "--max-cost", "1", "--min-quality", "1"], "--max-cost and --min-quality cannot be combined"),
        (["route", "", "--router", "router"], "the query is empty"),
        (["route", " \n", "--router", "router"], "the query is empty"),
        (["route", TEXT, "more"], "unexpected extra argument"),
        (["route", TEXT, "--nonsense"], "--nonsense"),
        (["nonsense"], "nonsense"),
        (["route", TEXT, "--router", "router", "--exclude", "smal"], "did you mean 'small'"),
        (["route", "--input", "missing.txt", "--router", "router"], "missing.txt: no such file"),
        (["route", "--input", "router", "--router", "router"], "cannot tell its format"),
        (["train", "table.parquet", "--out", "new"], "give --prices"),
        (["train", "table.parquet", "--prices", "prices.csv"], "--out"),
        (["train", "missing.parquet", "--prices", "prices.csv", "--out", "new"], "missing.parquet: no such file"),
        (["train", "table.parquet", "--prices", "missing.csv", "--out", "new"], "missing.csv: no such file"),
        (
            ["train", "table.parquet", "--prices", "prices.csv", "--out", "new", "--encoder", "nonsense"],
            "no encoder 'nonsense'",
        ),
        (
            ["train", "table.parquet", "--prices", "prices.csv", "--out", "new", "--drop-unknown"],
            "--drop-unknown needs --pool",
        ),
        (["train", "table.parquet", "--pool", "pool.toml", "--out", "new"], "is not in the pool"),
        (["calibrate", "router", "--table", "table.parquet"], "give either --spend or --quality"),
        (["calibrate", "router", "--table", "table.parquet", "--quality", "0.999"], "cannot be reached"),
        (["calibrate", "router", "--table", "table.parquet", "--spend", "0"], "too little"),
        (["evaluate", "router"], "--table"),
        (["pool", "check", "missing.toml"], "missing.toml: no such file"),
    ],
)
def test_wrong_words_end_with_2(room: Path, args: list[str], says: str) -> None:
    result = run(*args)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert says in result.stderr
    errors = result.stderr[result.stderr.index("error: ") :]
    assert len(errors.splitlines()) <= 2
    assert not (room / "new").exists()


@pytest.mark.parametrize("option", ["--lambda", "--value", "--max-cost", "--min-quality"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "1e999", "many", ""])
def test_a_number_that_is_none_names_option_and_value(option: str, value: str) -> None:
    fails("route", TEXT, option, value, code=2, says=option)
    assert value in run("route", TEXT, option, value).stderr


@pytest.mark.parametrize(
    ("learner", "says"),
    [
        ("ridge:alpha=x", "ridge takes: alpha"),
        ("ridge:beta=1", "unknown field `beta` (ridge takes: alpha)"),
        ("ridge:alpha", "write NAME:KEY=VALUE"),
        ("ridge:", "write NAME:KEY=VALUE"),
        ("rigde", "did you mean 'ridge'"),
        ("ridge:alpha=-1", "alpha must be a finite number above 0"),
        ("ridge:alpha=nan", "alpha must be a finite number above 0"),
    ],
)
def test_a_learner_that_is_none(room: Path, learner: str, says: str) -> None:
    fails("train", "table.parquet", "--prices", "prices.csv", "--out", "new", "--learner", learner, code=2, says=says)


@pytest.mark.parametrize("column", ["quality", "=x", "quality="])
def test_a_column_that_is_none(column: str) -> None:
    fails("train", "t.csv", "--prices", "p.csv", "--out", "new", "--column", column, code=2, says="OURS=THEIRS")


def test_work_that_fails_ends_with_1(room: Path) -> None:
    fails("route", TEXT, "--router", "router", "--max-cost", "0.0000000001", code=1, says="the cheapest is small@50")
    fails("route", TEXT, "--router", "router", "--require", "levitation", code=1, says="lacks a required capability")


def test_a_router_that_is_none_or_broken_is_a_wrong_file(room: Path) -> None:
    fails("route", TEXT, "--router", "nowhere", code=2, says="no such router")
    weights = room / "router" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    fails("route", TEXT, "--router", "router", code=2, says="truncated or altered")


def test_bytes_that_are_no_text(room: Path) -> None:
    fails(
        "route", "-", "--router", "router", input=b"caf\xe9", code=2, says="standard input is not valid UTF-8 (byte 3)"
    )
    fails("route", "caf\udce9", "--router", "router", code=2, says="TEXT is not valid UTF-8")


# -- route, a file
# --------------------------------------------------------------------------------------------------------


def test_a_file_to_stdout_and_to_a_file(room: Path) -> None:
    (room / "q.txt").write_text(f"{TEXT}\ntopic 1 b\n", encoding="utf-8")
    result = run("route", "--input", "q.txt", "--router", "router", "--value", "0.01", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [json.loads(line)["row"] for line in result.stdout.splitlines()] == [0, 1]
    result = run("route", "--input", "q.txt", "--router", "router", "--output", "out.csv")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("2 rows in out.csv, mean quality 0.")
    assert pl.read_csv("out.csv").height == 2


def test_failed_rows_are_counted_and_end_with_1(room: Path) -> None:
    (room / "q.txt").write_text(f"{TEXT}\n\n{TEXT}\n", encoding="utf-8")
    result = run("route", "--input", "q.txt", "--router", "router")
    assert result.exit_code == 1
    assert len(result.stdout.splitlines()) == 3
    assert result.stderr == 'error: 1 of 3 rows could not be routed; their "error" says why\n'
    result = run("route", "--input", "q.txt", "--router", "router", "--max-cost", "0", "--output", "out.jsonl")
    assert result.exit_code == 1
    assert result.stderr.startswith("3 rows in out.jsonl\nerror: 3 of 3 rows")


# -- curves and path
# ------------------------------------------------------------------------------------------------------


def test_curves_in_the_terminal(room: Path) -> None:
    result = run("curves", TEXT, "--router", "router", "--value", "0.01")
    assert (result.exit_code, result.stderr) == (0, "")
    d = Router.load("router").route(TEXT, Value(0.01))
    assert f"◆ {d.arm}: quality {d.quality:.2f}" in result.stdout
    for model in ("small", "large", "thinker"):
        assert model in result.stdout
    assert "\x1b" not in result.stdout
    assert all(len(line) <= 80 for line in result.stdout.splitlines())


def test_curves_of_what_cannot_be_chosen(room: Path) -> None:
    result = run("curves", TEXT, "--router", "router", "--exclude", "large")
    legend = result.stdout.split("(log scale)")[1].split("model ")[0]
    assert "large" not in legend
    assert "- cannot be chosen" in result.stdout


def test_curves_as_html_png_and_json(room: Path) -> None:
    pytest.importorskip("matplotlib")
    result = run("curves", TEXT, "--router", "router", "--html", "c.html", "--png", "c.png")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "wrote c.html\nwrote c.png\n"
    assert (room / "c.png").read_bytes().startswith(b"\x89PNG")
    assert TEXT in (room / "c.html").read_text(encoding="utf-8")
    curves = json.loads(run("curves", TEXT, "--router", "router", "--json").stdout)
    assert [c["model"] for c in curves] == ["small", "large", "thinker"]
    fails("curves", TEXT, "--router", "router", "--html", "nowhere/c.html", code=1, says="cannot be written")


def test_the_path_is_the_librarys(room: Path) -> None:
    steps = Router.load("router").path(TEXT)
    got = json.loads(run("path", TEXT, "--router", "router", "--json").stdout)
    assert [s["arm"] for s in got] == [s.arm for s in steps]
    shown = run("path", TEXT, "--router", "router").stdout.splitlines()
    assert [line.split()[0] for line in shown] == ["arm", *[s.arm for s in steps]]
    fails("path", " ", "--router", "router", code=2, says="empty")


# -- train, evaluate, calibrate
# ---------------------------------------------------------------------------------------------


def test_train_saves_a_router_and_says_what_next(room: Path, world: Any) -> None:
    args = (
        "train",
        "table.parquet",
        "--prices",
        "prices.csv",
        "--encoder",
        "fake",
        "--learner",
        "ridge:alpha=3",
        "--seed",
        5,
        "--folds",
        3,
    )
    result = run(*args, "--out", "my router")
    assert result.exit_code == 0, result.output
    router = Router.load("my router")
    assert router.facts.learner == {"learner": "ridge", "alpha": 3.0}
    assert (router.facts.seed, router.facts.folds, router.facts.queries) == (5, 3, len(world.table))
    assert "3 models, 8 arms, 240 queries" in result.stdout
    assert "Measured by 3-fold cross-validation" in result.stdout
    assert result.stdout.endswith("next: r2router route --router 'my router' \"your question\"\n")
    assert "training on 240 queries and 8 arms" in result.stderr


def test_train_holds_out_a_part_and_evaluates_on_it(room: Path, world: Any) -> None:
    args = (
        "train",
        "table.parquet",
        "--prices",
        "prices.csv",
        "--encoder",
        "fake",
        "--folds",
        0,
        "--seed",
        3,
        "--test",
        0.25,
        "--out",
    )
    result = run(*args, "new")
    assert result.exit_code == 0, result.output
    assert (
        "180 queries" in result.stdout
        and "On the held-out queries:" in result.stdout
        and "60 queries, 8 arms." in result.stdout
    )
    assert "was trained on" not in result.output
    np.save("x.npy", world.vectors)
    train = Table.read("table.parquet", prices="prices.csv").split(0.25, 3)[0]
    assert Router.load("new").facts.queries == len(train) == 180
    given = run(*args, "given", "--vectors", "x.npy")
    assert given.exit_code == 0, given.output
    held_out = [r.stdout.partition("On the held-out queries")[2] for r in (result, given)]
    assert held_out[0] == held_out[1], "the embeddings that were given follow their queries"
    assert (
        Table.read("new.held-out.parquet").query_ids
        == Table.read("table.parquet", prices="prices.csv").split(0.25, 3)[1].query_ids
    )
    later = ("--vectors", "given.held-out.vectors.npy", "--seed", 3)
    again = run("evaluate", "given", "--table", "given.held-out.parquet", *later)
    assert again.exit_code == 0 and again.stdout.strip() in held_out[1].strip(" :\n"), again.output
    fails(*args[:1], "new.held-out.parquet", *args[2:], "new", code=2, says="new.held-out.parquet: is an input")
    np.save("short.npy", world.vectors[:-1])
    for wrong, says in (
        (("--test", 0), "test is 0.0; the share of queries"),
        (("--vectors", "short.npy"), "one row for each of the 240"),
    ):
        failed = run(*args, "worse", *wrong)
        assert (failed.exit_code, failed.stdout) == (2, "") and says in failed.stderr


def test_split_writes_a_part_to_train_on_and_one_to_judge_by(room: Path) -> None:
    result = run("split", "table.parquet", "--test", 0.25, "--seed", 3)
    assert result.exit_code == 0, result.output
    assert (
        result.stdout == "table.train.parquet: 180 queries, to train on\ntable.test.parquet: 60 queries, to test on\n"
    )
    expected = Table.read("table.parquet").split(0.25, 3)
    assert [Table.read(f"table.{part}.parquet").query_ids for part in ("train", "test")] == [
        part.query_ids for part in expected
    ]
    fails(
        "split",
        "table.test.parquet",
        "--out",
        "table.parquet",
        code=2,
        says="table.test.parquet: is read by this command",
    )
    fails("split", "table.parquet", "--out", "parts.xlsx", code=2, says="is not a format that is written here")
    fails("split", "table.parquet", "--test", 1, code=2, says="between 0 and 1")
    bundled = run("split", "r2bench-mini", "--out", "mini.csv")
    assert bundled.exit_code == 0 and "--pool r2bench-mini" in bundled.stderr, bundled.output


def test_foreign_tables_are_told_in_the_words_of_the_command_line(room: Path) -> None:
    lines = ["prompt,llm,budget,score,output_tokens", *(f"what is {i}?,small@7b,1k,{i},5" for i in range(50, 101))]
    Path("t.csv").write_text("\n".join(lines), encoding="utf-8")
    Path("p.csv").write_text("model,input_usd_per_million,output_usd_per_million\nsmall-7b,1,2\n", encoding="utf-8")
    args = ["train", "t.csv", "--prices", "p.csv", "--encoder", "fake", "--folds", 0, "--out", "foreign"]
    for mend in (
        "--column query=prompt",
        "--column model=llm",
        "--column quality=score",
        "--rename small@7b=small-7b",
        "--scale 100",
    ):
        failed = run(*args)
        assert failed.exit_code == 2 and mend in failed.stderr, failed.output
        args += mend.split()
    done = run(*args)
    assert done.exit_code == 0, done.output
    assert Router.load("foreign").arms == ("small-7b@1000",)


def test_files_of_queries_and_embeddings_that_cannot_be_are_named(room: Path) -> None:
    for name in ("u.csv", "u.jsonl", "u.txt"):
        Path(name).write_text("query\nwhat is it?\n", encoding="utf-16")
        fails("route", "--router", "router", "--input", name, code=2, says="UTF-16")
    head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000000, 384), }"
    Path("huge.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head)
    result = run(
        "train", "table.parquet", "--prices", "prices.csv", "--encoder", "fake", "--out", "new", "--vectors", "huge.npy"
    )
    assert result.exit_code == 2 and "not a complete .npy file" in result.stderr


def test_names_of_others_do_not_act_on_the_terminal(room: Path) -> None:
    rows = pl.read_parquet("table.parquet").with_columns(task=pl.lit("evil\x1b[2J\x9b31m\u202etask"))
    rows.write_parquet("evil\x1b[2J.parquet")
    result = run("evaluate", "router", "--table", "evil\x1b[2J.parquet", "--resamples", 5, "--report", "page.html")
    page = Path("page.html").read_text(encoding="utf-8")
    assert result.exit_code == 0 and "evil" in page
    failed = run("evaluate", "router", "--table", "nowhere\x1b[2J\x07\u202e.parquet")
    assert failed.exit_code == 2 and "nowhere\\u001b[2J" in failed.stderr
    for text in (result.output, failed.output):
        assert not set("\x1b\x9b\x07\u202e") & set(text)
    assert not set("\x1b\x9b\x07") & set(page)


@pytest.mark.parametrize(
    "args",
    [
        ("evaluate", "router", "--table", "pipe.parquet"),
        ("train", "pipe.csv", "--prices", "prices.csv", "--out", "new"),
        ("train", "table.parquet", "--prices", "pipe.csv", "--out", "new"),
        ("train", "table.parquet", "--prices", "prices.csv", "--out", "new", "--vectors", "pipe.npy"),
        ("pool", "check", "pipe.toml"),
        ("split", "pipe.jsonl"),
        ("suite", "pipe.jsonl"),
        ("suite", "pipe.csv"),
        ("suite", "chat:pipe.jsonl"),
        ("collect", "--suite", "pipe.jsonl", "--pool", "pool.toml", "--out", "run", "--dry-run"),
        ("compact", "piped"),
        ("route", "--input", "pipe.parquet"),
        ("route", "--input", "pipe.npy"),
        ("route", "--router", "piped", "hello"),
        ("arena", "read", "pipe.json"),
        ("import", "ucf", "piped", "--out", "new"),
    ],
    ids=lambda args: " ".join(args[:3]),
)
def test_no_command_waits_for_a_pipe(room: Path, args: tuple[str, ...]) -> None:
    for name in ("pipe.parquet", "pipe.csv", "pipe.npy", "pipe.toml", "pipe.jsonl", "pipe.json"):
        os.mkfifo(name)
    Path("piped").mkdir()
    for name in ("router.json", "weights.safetensors", "queries.jsonl", "journal.jsonl", "config.json", "scaler.pkl"):
        os.mkfifo(Path("piped") / name)
    signal.alarm(30)  # a hang ends here, and not with the run
    try:
        result = run(*args)
    finally:
        signal.alarm(0)
    assert result.exit_code == 2 and result.stderr.startswith(("error: ", "reading")), result.output
    assert "is a pipe" in result.stderr


def test_train_on_a_foreign_table_with_a_pool(room: Path) -> None:
    rows = (
        pl.read_parquet("table.parquet")
        .rename({"query": "prompt", "quality": "score"})
        .filter(pl.col("model") != "thinker")
    )
    rows.write_csv("foreign.csv")
    pool = POOL.replace('budgets = ["low"]', "budgets = [50, 200]\nusd_per_million = { input = 2, output = 8 }")
    (room / "pool.toml").write_text(pool, encoding="utf-8")
    args = ("train", "foreign.csv", "--pool", "pool.toml", "--encoder", "fake", "--folds", "0", "--out", "new")
    columns = ("--column", "query=prompt", "--column", "quality=score")
    result = run(*args)
    assert result.exit_code == 2
    assert "no column 'query'" in result.stderr
    result = run(*args, *columns)
    assert result.exit_code == 2
    assert "budget '800' of model 'large'" in result.stderr
    result = run(*args, *columns, "--drop-unknown")
    assert result.exit_code == 0, result.output
    assert "note: 240 rows of arms that are not in the pool were left out" in result.stderr
    assert len(Router.load("new").arms) == 5


def test_train_does_not_begin_where_it_could_not_save(room: Path) -> None:
    (room / "mine").mkdir()
    (room / "mine" / "thesis.txt").touch()
    fails(
        "train",
        "table.parquet",
        "--prices",
        "prices.csv",
        "--out",
        "mine",
        code=1,
        says="mine: exists and is not a router",
    )
    fails(
        "train",
        "table.parquet",
        "--prices",
        "prices.csv",
        "--out",
        "prices.csv",
        code=1,
        says="prices.csv: exists and is not a folder",
    )
    assert [p.name for p in (room / "mine").iterdir()] == ["thesis.txt"]


def test_evaluate_prints_the_librarys_report(room: Path) -> None:
    result = run("evaluate", "router", "--table", "table.parquet", "--resamples", 20)
    assert result.exit_code == 0, result.output
    assert "best mixture of fixed arms" in result.stdout
    got = json.loads(run("evaluate", "router", "--table", "table.parquet", "--resamples", 20, "--json").stdout)
    assert (got["queries"], got["resamples"], got["seed"]) == (240, 20, 0)
    assert got["figures"]["oracle"]["peak"]["value"] >= got["figures"]["router"]["peak"]["value"]


def test_evaluate_writes_reports(room: Path) -> None:
    files = ("--report", "my report.html", "--report", "figures.json", "--report", "curve.svg")
    result = run("evaluate", "router", "--table", "table.parquet", "--resamples", 20, *files)
    assert result.exit_code == 0, result.output
    assert [line for line in result.stderr.splitlines() if "report" in line] == [
        "report written to my report.html",
        "report written to figures.json",
        "report written to curve.svg",
    ]
    typed = (
        f"r2router evaluate router --table table.parquet --resamples 20 --report 'my report.html' {' '.join(files[2:])}"
    )
    got = json.loads((room / "figures.json").read_text())
    assert (got["name"], got["command"]) == ("evaluate", typed)
    assert [source[0] for source in got["sources"]] == ["table.parquet"]
    page = (room / "my report.html").read_text()
    assert typed in html.unescape(page)
    assert got["sources"][0][1] in page
    assert got["answers"][0] in html.unescape(page)
    assert (room / "curve.svg").read_text().startswith("<svg ")
    assert result.stdout == run("evaluate", "router", "--table", "table.parquet", "--resamples", 20).stdout


def test_a_report_that_could_not_be_written_is_refused_before_the_work(room: Path) -> None:
    fails(
        "evaluate",
        "missing",
        "--table",
        "missing",
        "--report",
        "a.pdf",
        code=2,
        says="a.pdf: '.pdf' is not a format that is written here",
    )
    fails(
        "evaluate",
        "missing",
        "--table",
        "missing",
        "--report",
        "no/a.html",
        code=1,
        says="no/a.html: there is no folder no",
    )
    fails(
        "evaluate",
        "missing",
        "--table",
        "missing",
        "--report",
        "router",
        code=2,
        says="router: a file without an ending",
    )


def test_evaluate_fits_the_baselines_too(room: Path) -> None:
    args = ("evaluate", "router", "--table", "table.parquet", "--resamples", 2, "--json", "--baselines")
    got = json.loads(run(*args).stdout)
    assert {"MIRT", "MIRT on the same arms", "CARROT-Linear", "random"} <= set(got["figures"])
    assert set(got["differences"]) == set(got["figures"]) - {"router"}
    assert any("cross-validation on these very queries" in note for note in got["notes"])
    other = json.loads(run(*args, "--train", "table.parquet").stdout)
    assert any("fitted on the training table" in note for note in other["notes"])
    assert other["figures"]["MIRT"] != got["figures"]["MIRT"]
    fails(
        "evaluate",
        "router",
        "--table",
        "table.parquet",
        "--train",
        "table.parquet",
        code=2,
        says="give --baselines too",
    )


def test_evaluate_counts_what_stays_under_noise(room: Path) -> None:
    got = json.loads(
        run("evaluate", "router", "--table", "table.parquet", "--resamples", 5, "--json", "--noise").stdout
    )
    assert set(got["noise"]) == {"typos", "case", "filler", "paraphrase"}
    assert all(0 <= kind["unchanged"]["value"] <= 1 for kind in got["noise"].values())
    assert {"ece", "rmse", "token_factor", "token_bias"} == set(got["forecasts"]) and got["regret_usd"]["value"] >= 0
    assert set(got["compliance"]) == {"small@50", "small@200", "large@50", "large@200", "large@800"}


def test_reproduce_runs_an_experiment_and_writes_its_report(room: Path) -> None:
    args = ("reproduce", "oracle", "table.parquet", "--prices", "prices.csv", "--encoder", "fake", "--resamples", 5)
    result = run(*args, "--report", "oracle.html")
    assert "An oracle that may choose budgets" in result.stdout and "oracle.html" in result.stderr
    assert "r2router reproduce oracle table.parquet" in html.unescape(
        (room / "oracle.html").read_text(encoding="utf-8")
    )
    got = json.loads(run(*args, "--json", "--task", "task 0").stdout)
    assert got["settings"]["queries"] == 120 and got["name"] == "oracle"


def test_reproduce_takes_vectors_and_a_cache(room: Path, world: Any) -> None:
    np.save(room / "x.npy", world.vectors)
    args = (
        "reproduce",
        "queries",
        "table.parquet",
        "--prices",
        "prices.csv",
        "--seeds",
        1,
        "--folds",
        3,
        "--resamples",
        3,
        "--json",
    )
    given = json.loads(run(*args, "--vectors", "x.npy").stdout)
    cached = json.loads(run(*args, "--encoder", "fake", "--cache", "vectors.cache").stdout)
    assert (room / "vectors.cache").exists() and given["answers"] == cached["answers"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("mian", "table.parquet", "--prices", "prices.csv"), "did you mean 'main'"),
        (("main", "table.parquet"), "give --prices"),
        (("main", "none.parquet", "--prices", "prices.csv"), "none.parquet"),
        (("oracle", "table.parquet", "--prices", "prices.csv", "--task", "sums"), "no query has the task 'sums'"),
        (("oracle", "table.parquet", "--prices", "prices.csv", "--folds", "1"), "--folds"),
        (("judge", "table.parquet", "--prices", "prices.csv", "--encoder", "fake"), "--other-judge"),
        (("main", "table.parquet", "--prices", "prices.csv", "--learner", "rigde"), "did you mean 'ridge'"),
        (("main", "table.parquet", "--prices", "prices.csv", "--other-judge", "B"), "is for the experiment 'judge'"),
        (
            ("oracle", "table.parquet", "--prices", "prices.csv", "--also-encoder", "fake"),
            "is for the experiment 'encoder'",
        ),
        (("judge", "table.parquet", "--prices", "prices.csv", "--judge", "A", "--other-judge", "A"), "name two judges"),
    ],
)
def test_reproduce_refuses_what_cannot_be(room: Path, args: tuple[str, ...], says: str) -> None:
    fails("reproduce", *args, code=2, says=says)


def test_evaluate_under_other_prices(room: Path) -> None:
    (room / "dear.csv").write_text(PRICES.replace("0.4", "40"), encoding="utf-8")
    cheap, dear = (
        json.loads(run("evaluate", "router", "--table", "table.parquet", "--resamples", 2, "--json", *extra).stdout)[
            "cost_range_usd"
        ]
        for extra in ((), ("--prices", "dear.csv"))
    )
    assert dear[1] > cheap[1]
    assert Router.load("router").pool["small"].usd_per_million == Prices(0.1, 0.4)


def test_it_is_said_where_a_router_meets_its_own_training_data(room: Path) -> None:
    run("train", "table.parquet", "--prices", "prices.csv", "--encoder", "fake", "--folds", 0, "--out", "own")
    for args in (("evaluate", "own", "--resamples", "2"), ("calibrate", "own", "--spend", "0.1")):
        assert "was trained on table.parquet" in run(*args, "--table", "table.parquet").stderr
    run("evaluate", "own", "--resamples", "2", "--table", "table.parquet", "--report", "own.json")
    assert json.loads((room / "own.json").read_text())["answers"][0].startswith(
        "The router was trained on table.parquet"
    )
    other = run("evaluate", "router", "--table", "table.parquet", "--resamples", "2").stderr
    assert "was trained on 100 % of these queries" in other, "the same texts, whatever the file"


def test_calibrate_meets_its_target(room: Path, world: Any) -> None:
    before = (room / "router" / "router.json").read_bytes()
    result = run("calibrate", "router", "--table", "table.parquet", "--spend", "0.5", "--out", "frugal")
    assert result.exit_code == 0, result.output
    spent = float(re.search(r"at \$([\d.]+) per 1,000", result.stdout)[1])  # type: ignore[index]
    assert 0.25 < spent <= 0.5
    assert (room / "router" / "router.json").read_bytes() == before
    frugal = Router.load("frugal")
    arms = frugal.decide(world.vectors, input_tokens=np.array([len(q.split()) for q in world.table.queries])).arm
    assert 1000 * float(world.table.cost()[np.arange(len(arms)), arms].mean()) == pytest.approx(spent, rel=0.2)

    result = run("calibrate", "router", "--table", "table.parquet", "--quality", "0.6")
    assert result.exit_code == 0, result.output
    reached = float(re.search(r"quality ([\d.]+)", result.stdout)[1])  # type: ignore[index]
    assert 0.59 <= reached < 0.75
    assert isinstance(Router.load("router").policy, Value)
    assert (room / "router" / "router.json").read_bytes() != before


# -- import
# -----------------------------------------------------------------------------------------------------------------


def test_import_saves_what_the_library_reads(room: Path, world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def read(folder: Path, **options: Any) -> Router:
        asked.append((folder, options))
        return Recipe(encoder="given:elsewhere", folds=0).fit(world.table, vectors=world.vectors)

    monkeypatch.setattr("r2router.importers.ucf.import_release", read)
    result = run("import", "ucf", "release", "--out", "new", "--faithful")
    assert result.exit_code == 0, result.output
    assert asked == [(Path("release"), {"faithful": True, "encoder": None})]
    assert Router.load("new").encoder == "given:elsewhere"
    assert "next: r2router route --router new --input embeddings.npy" in result.stdout


def test_import_of_nothing(room: Path) -> None:
    fails("import", "ucf", "release", "--out", "new", code=2, says="release")


# -- pool check
# -------------------------------------------------------------------------------------------------------------


def test_a_pool_is_shown_with_what_is_unwise_in_it(room: Path) -> None:
    result = run("pool", "check", "pool.toml")
    assert result.exit_code == 0
    assert re.search(r"small +here +50, 200, unlimited +instruction, max_tokens +0.1 +0.4\n", result.stdout)
    assert re.search(r"large +low +unknown +unknown +vision +not available", result.stdout)
    assert "2 models, 4 arms" in result.stdout
    assert "note: large: no price" in result.stderr
    assert "note: large: nothing enforces the budgets low" in result.stderr


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("output = 0.4", "output = -0.4", "pool.toml, line 6"),
        ('id = "large"', 'id = "small"', "pool.toml, line 9"),
        ("capabilities", "capabilites", "pool.toml, line 11: unknown key 'capabilites' (did you mean 'capabilities'?)"),
        ("budgets = [50", "budgets = [50,,", "pool.toml: not valid TOML"),
    ],
)
def test_a_mistake_in_a_pool_names_its_line(room: Path, old: str, new: str, says: str) -> None:
    (room / "pool.toml").write_text(POOL.replace(old, new), encoding="utf-8")
    fails("pool", "check", "pool.toml", code=2, says=says)


# -- help
# -------------------------------------------------------------------------------------------------------------------


def test_every_command_has_help_with_an_example() -> None:
    listed = run("--help").stdout
    for name, command in main.commands.items():  # type: ignore[attr-defined]
        assert re.search(rf"^  {name} ", listed, re.MULTILINE)
        for sub in getattr(command, "commands", {"": None}):
            result = run(name, *([sub] if sub else []), "-h")
            assert result.exit_code == 0
            assert "r2router" in result.stdout.split("Example")[1]
    assert "..." not in re.sub(r"\[ARGS\]\.\.\.", "", listed), "a first sentence is too long for the list"


def test_version_and_no_command() -> None:
    assert re.fullmatch(r"r2router \d+\.\d+\.\d+\S*\n", run("--version").stdout)
    for args in ((), ("pool",), ("import",)) if hasattr(click.exceptions, "NoArgsIsHelpError") else ():
        result = run(*args)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith("Usage: ")


# -- what nobody expects
# ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ValueError("some\nlines"), 1, "internal error: ValueError: some\nplease report it; R2ROUTER_DEBUG=1"),
        (MemoryError(), 1, "error: out of memory"),
        (OSError(28, "No space left on device", "out.csv"), 1, "error: out.csv: No space left on device"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_the_unexpected_is_short(monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, says: str) -> None:
    def explode(*_: object) -> None:
        raise error

    monkeypatch.setattr("r2router.router.Router.load", explode)
    result = run("route", TEXT, "--router", "router")
    assert result.exit_code == code
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    traced = run("route", TEXT, "--router", "router", env={"R2ROUTER_DEBUG": "1"})
    assert ("Traceback" in traced.stderr) == isinstance(error, ValueError)


def test_progress_is_rare_where_nobody_looks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    shown = Progress()
    for step in range(31):
        now[0] = float(step)
        shown("working", step, 30)
    shown.stop()
    assert capsys.readouterr() == ("", "working: 33% after 10 s\nworking: 67% after 20 s\nworking: 100% after 30 s\n")


# -- as a process of its own
# --------------------------------------------------------------------------------------------------


@pytest.fixture
def vectors(tmp_path: Path, world: Any) -> Path:
    """A folder with a router on embeddings that need no encoder, and some of them."""
    Recipe(encoder="given:elsewhere", folds=0).fit(world.table, vectors=world.vectors).save(tmp_path / "router")
    np.save(tmp_path / "x.npy", np.repeat(world.vectors, 200, axis=0))
    return tmp_path


def command(*args: object) -> list[str]:
    return [sys.executable, "-m", "r2router.cli", *map(str, args)]


def test_streams_and_codes_of_the_process(vectors: Path) -> None:
    done = subprocess.run(
        command("route", "--input", "x.npy", "--router", "router"),
        cwd=vectors,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == b""
    assert done.stdout.count(b"\n") == 48_000
    done = subprocess.run(
        command("route", "hello", "--router", "router"), cwd=vectors, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.startswith(b"error: the vectors 'given:elsewhere'")


def test_a_reader_that_leaves_is_not_an_error_worth_words(vectors: Path) -> None:
    with subprocess.Popen(
        command("route", "--input", "x.npy", "--router", "router"),
        cwd=vectors,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_behind_stdout(vectors: Path) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            command("route", "--input", "x.npy", "--router", "router"),
            cwd=vectors,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=60,
        )
    assert done.returncode == 1
    assert b"No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr


def test_an_interrupt_leaves_one_line_and_no_file(vectors: Path) -> None:
    fifo = vectors / "slow.jsonl"
    os.mkfifo(fifo)
    args = command("route", "--input", fifo, "--router", "router", "--output", "out.csv")
    with subprocess.Popen(args, cwd=vectors, stderr=subprocess.PIPE, text=True) as process:
        with fifo.open("w", encoding="utf-8") as writer:  # opens once the command has begun to read
            writer.write("\n")
            writer.flush()
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
        assert process.stderr is not None
        assert process.stderr.read().strip() == "interrupted"
    assert sorted(p.name for p in vectors.iterdir()) == ["router", "slow.jsonl", "x.npy"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_terminal_can_show_it(vectors: Path, encoding: str) -> None:
    code = """
from r2router.cli import main
from r2router.encode import ENCODERS
import numpy as np
class Fake:
    encode = staticmethod(lambda texts: np.eye(8, dtype=np.float32)[[0] * len(texts)])
ENCODERS["given"] = lambda _: Fake()
main(["curves", "千问 ◆ \\x1b[2J", "--router", "router"])
"""
    env = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "70"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=vectors, env=env, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, b"")
    shown = done.stdout.decode(encoding)
    assert ("│" in shown) == (encoding == "utf-8")
    assert re.search(r"a small +b large", shown)
    assert max(len(line) for line in shown.splitlines()) <= 70
    assert "\x1b" not in shown


def test_a_terminal_gets_colours_unless_it_says_no(vectors: Path) -> None:
    pty = pytest.importorskip("pty")
    code = "from r2router.cli.screen import style; print(style().colour)"
    for extra, expected in (({}, b"True"), ({"NO_COLOR": "1"}, b"False"), ({"TERM": "dumb"}, b"False")):
        ours, theirs = pty.openpty()
        env = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm-256color"} | extra
        subprocess.run([sys.executable, "-c", code], env=env, stdout=theirs, check=True, timeout=60)
        assert os.read(ours, 100).strip() == expected
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize(
    ("args", "heavy"),
    [
        (
            ["route", "--input", "x.npy", "--router", "router", "--output", "o.jsonl"],
            "lightgbm matplotlib onnxruntime polars rich torch",
        ),
        (["--help"], "matplotlib msgspec numpy onnxruntime polars rich tokenizers"),
    ],
)
def test_a_command_imports_only_what_it_needs(vectors: Path, args: list[str], heavy: str) -> None:
    code = (
        "import atexit, sys; atexit.register(lambda: print(*sys.modules)); from r2router.cli import main;"
        f" main({args!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=vectors, capture_output=True, check=True, text=True, timeout=60
    )
    assert not set(heavy.split()) & set(done.stdout.split())


# -- routing files
# ----------------------------------------------------------------------------------------------------------


def test_a_batch_says_what_no_row_reaches(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    hard = "Prove that there are infinitely many primes of the form 4k+3."
    rows = [{"prompt": hard, "mine": 1}, {"prompt": "hello, how are you?", "mine": 2}]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    for words in ([], ["--output", str(tmp_path / "o.csv")]):
        result = run("route", "--input", str(path), "--min-quality", "0.99", *words)
        assert result.exit_code == 1
        assert "error: no arm is forecast to reach quality 0.99 on 2 of 2 rows (100 %)" in result.stderr
        assert "of 2 rows (50 %) are unlike the training data" in result.stderr
    result = run("route", "--input", str(path), "--min-quality", "0.0")
    assert result.exit_code == 0
    assert "reach quality" not in result.stderr
    assert [json.loads(line)["mine"] for line in result.stdout.splitlines()] == [1, 2]


def test_a_floor_that_some_rows_reach_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("Who wrote Faust?\nWhat is 17 * 23?\nName three rivers in Peru.\n", encoding="utf-8")
    found = [
        json.loads(line)["quality"] for line in run("route", "--input", str(path), "--lambda", "0").stdout.splitlines()
    ]
    assert max(found) > min(found)
    floor = str(max(found) - 1e-9)
    result = run("route", "--input", str(path), "--min-quality", floor)
    assert result.exit_code == 0
    assert "warning: no arm is forecast to reach quality" in result.stderr


def test_options_of_files_go_with_a_file() -> None:
    result = run("route", "hello", "--workers", "2", "--output", "x.csv")
    assert result.exit_code == 2
    assert (
        "--workers" in result.stderr and "--output" in result.stderr and "these options need --input" in result.stderr
    )
