"""What the README shows is run: its Python as one program, its commands one after the other, on a small table."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from r2router.cli import main

if TYPE_CHECKING:
    from r2router.testing import FakeEndpoint

README = Path(__file__).parent.parent / "README.md"
TOPICS = ("mountain", "river", "poem", "engine", "treaty", "comet", "violin", "harbour")


EVALUATION, STARTER = (README.parent / "docs" / name for name in ("evaluation.md", "starter.md"))
TESTING = README.parent / "docs" / "testing.md"


def blocks(language: str, file: Path = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", file.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def outcomes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the README's code names."""
    rng = np.random.default_rng(0)
    rows = []
    for number in range(60):
        text = f"Question {number}: what is known of the {TOPICS[number % 8]} and the {TOPICS[number % 5]}?"
        for model, skill, price in (("small", 0.4, 1), ("large", 0.6, 10)):
            for budget, length in ((50, 40), (400, 260)):
                quality = float(np.clip(skill + length / 1000 + 0.1 * rng.standard_normal(), 0, 1))
                rows.append(
                    (f"q{number}", text, model, str(budget), quality, 20.0, float(length + rng.integers(10) + price))
                )
    names = ("query_id", "query", "model", "budget", "quality", "input_tokens", "output_tokens")
    frame = pl.DataFrame(rows, schema=names, orient="row")
    frame.write_parquet(tmp_path / "outcomes.parquet")
    frame.write_parquet(tmp_path / "test.parquet")
    frame.filter(pl.col("model") == "small").with_columns(model=pl.lit("new")).write_parquet(
        tmp_path / "new-llm.parquet"
    )
    prompts = [{"global index": f"Sums_{i}", "prompt_formatted": f"What is {i} + {i}?"} for i in range(3)]
    (tmp_path / "prompts.json").write_text(json.dumps(prompts))
    (tmp_path / "prompts.csv").write_text(
        "prompt\nWho wrote Faust?\nProve that sqrt(2) is irrational.\nCount the orders per day in SQL\n"
    )
    (tmp_path / "prices.csv").write_text(
        "model,input_usd_per_million,output_usd_per_million\nsmall,0.1,0.4\nlarge,1,4\nnew,0.2,0.8\n"
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_its_python_runs(outcomes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = "\n".join(blocks("python"))
    exec(compile(code, str(README), "exec"), {})
    printed = capsys.readouterr().out
    assert "@" in printed
    assert "Best fixed arm" in printed
    assert (outcomes / "router" / "card.md").exists()


def test_what_the_page_on_the_starter_shows_runs(outcomes: Path) -> None:
    exec(compile("\n".join(blocks("python", STARTER)), str(STARTER), "exec"), {})
    commands = [line for block in blocks("sh", STARTER) for line in block.splitlines()]
    for line in commands:
        result = CliRunner().invoke(main, shlex.split(line)[1:])
        assert result.exit_code == 0, f"{line}\n{result.output}"
    assert len(commands) >= 8 and (outcomes / "savings.html").exists()


def test_the_python_of_the_page_on_evaluation_runs(outcomes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = "\n".join(blocks("python", EVALUATION))
    exec(compile(code, str(EVALUATION), "exec"), {})
    assert "An oracle that may choose budgets" in capsys.readouterr().out
    assert (outcomes / "oracle.html").exists()


def test_the_python_of_the_page_on_testing_runs(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("aiohttp", reason="the fake endpoint needs it")
    exec(compile("\n".join(blocks("python", TESTING)), str(TESTING), "exec"), {})
    assert "requests," in capsys.readouterr().out


@pytest.fixture
def endpoint(outcomes: Path) -> Iterator[FakeEndpoint]:
    """A suite and a pool of the names in the README, and the endpoint that the pool names."""
    pytest.importorskip("aiohttp", reason="collecting needs the [bench] extra")
    from r2router.testing import FakeEndpoint

    suite = [
        {"id": f"q{i}", "text": f"How many words has question {i}?", "reference": "7", "scorer": "numeric"}
        for i in range(40)
    ]
    (outcomes / "questions.jsonl").write_text("".join(json.dumps(query) + "\n" for query in suite))
    with FakeEndpoint() as fake:
        (outcomes / "pool.toml").write_text(
            f'[provider.here]\nbase_url = "{fake.url}"\n\n[[model]]\nid = "m"\nprovider = "here"\nbudgets = [8, 20]\n'
            'control = ["instruction", "max_tokens"]\nusd_per_million = { input = 1.0, output = 10.0 }\n'
        )
        yield fake


def test_its_commands_run(outcomes: Path, endpoint: FakeEndpoint) -> None:
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("r2router ")]
    assert len(commands) >= 5
    for line in commands:
        words = shlex.split(line, comments=True)[1:]
        if words[0] == "reproduce":
            words += ["--seeds", "1", "--folds", "2", "--resamples", "2"]  # the same, sooner
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, f"{line}\n{result.output}"
    assert endpoint.requests == 80


def test_what_it_shows_is_what_is_printed() -> None:
    (shown,) = [block for block in blocks("text") if block.startswith("$ r2router route")]
    command, _, expected = shown.partition("\n")
    result = CliRunner().invoke(main, shlex.split(command)[2:], env={"COLUMNS": "80"})
    assert result.exit_code == 0
    assert result.output.startswith(expected.rstrip())
