"""The README is run: its Python, its commands, and what it says that a command prints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

import r2router

README = Path(__file__).resolve().parents[1] / "README.md"
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")


def blocks(text: str) -> Iterator[tuple[str, str]]:
    """(language, code) of the fenced blocks, except behind a comment `<!-- not run: why -->`."""
    for match in re.finditer(r"(<!-- not run: [^>]+-->\n+)?^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if not match[1]:
            yield match[2], match[3]


def commands(code: str) -> Iterator[tuple[str, str]]:
    r"""(command, what it is said to print) of a block, for our own commands; `\` at the end of a line continues it."""
    for match in re.finditer(r"^(\$ )?(r2router (?:.*\\\n)*.*)\n((?:(?!\$ |r2router ).*\n)*)", code, re.MULTILINE):
        yield match[2], match[3] if match[1] else ""


def run(command: str) -> str:
    result = subprocess.run(command, shell=True, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
    return result.stdout


def same(said: str, printed: str) -> bool:
    """Whether `printed` begins with `said`: the same words, and numbers within a tenth (processors round in their own ways)."""
    wanted, got = said.split(), printed.split()
    if [NUMBER.sub("#", word) for word in wanted] != [NUMBER.sub("#", word) for word in got[: len(wanted)]]:
        return False
    pairs = zip(NUMBER.findall(" ".join(wanted)), NUMBER.findall(" ".join(got)), strict=False)
    return all(float(b.replace(",", "")) == pytest.approx(float(a.replace(",", "")), rel=0.1, abs=0.02) for a, b in pairs)


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the README's reader has in hand, and the command `r2router`."""
    models = {"small-llm": (0.1, 0.4), "large-llm": (2.0, 8.0)}
    budgets = {"100": 90, "400": 300, "unlimited": 700}
    subjects = ["rivers", "painters", "kings", "metals", "planets", "poems", "islands", "engines"]
    rows = [
        {
            "query_id": f"q{i}",
            "task": "trivia" if i % 2 else "history",
            "query": f"Which of the {subjects[i % 8]} is number {i} on the list?",
            "model": model,
            "budget": budget,
            "quality": float((i * 7 + 3 * len(model) + tokens) % 5 > (1 if model == "large-llm" else 3) - tokens // 600),
            "input_tokens": 14,
            "output_tokens": tokens + i % 9,
        }
        for i in range(80)
        for model in models
        for budget, tokens in budgets.items()
    ]
    pl.DataFrame(rows[:384]).write_parquet(tmp_path / "outcomes.parquet")
    pl.DataFrame(rows[384:]).write_parquet(tmp_path / "test.parquet")
    prices = [f"{model},{i},{o}\n" for model, (i, o) in models.items()]
    (tmp_path / "prices.csv").write_text("model,input_usd_per_million,output_usd_per_million\n" + "".join(prices))
    shutil.copytree(Path(r2router.__file__).parent / "starter" / "router", tmp_path / "router")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


@pytest.mark.usefixtures("desk")
def test_the_readme_does_what_it_says() -> None:
    names: dict[str, object] = {}
    ran = []
    for language, code in blocks(README.read_text(encoding="utf-8")):
        if language == "python":
            exec(compile(code, "README.md", "exec"), names)
            ran.append(language)
        for command, said in commands(code) if language != "python" else ():
            printed = run(command)
            assert same(said, printed), f"{command}\nprints\n{printed}\nand not\n{said}"
            ran.append("r2router")
    assert {"python", "r2router"} <= set(ran), "the README shows no library, or no command line"


def test_what_a_command_prints_is_compared() -> None:
    ((command, said),) = commands("$ r2router route x\nm@5\n\nquality 0.50, $0.00128\n")
    assert command == "r2router route x"
    assert same(said, "m@5\nquality   0.51, $0.00129\nand more\n")
    assert not same(said, "m@5\nquality 0.60, $0.00128\n")
    assert not same(said, "m@5\nspread 0.50, $0.00128\n")
    assert list(commands("r2router route \\\n  x\nr2router y\n")) == [("r2router route \\\n  x", ""), ("r2router y", "")]
