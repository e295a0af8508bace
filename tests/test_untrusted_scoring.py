"""Nothing that an LLM wrote, a question file holds or a run folder names runs code in this process."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from r2router.bench.folder import QUERIES, compact
from r2router.bench.record import FORMAT, VERSION
from r2router.bench.scoring import sandbox, scorer_named
from r2router.bench.scoring.served import ProcessLost, ServedFunction
from r2router.bench.scoring.verifier import evaluates, is_plain
from r2router.bench.suite import Query
from r2router.bench.suites import load_queries
from r2router.cli.app import main
from r2router.errors import DataError

needs_sandbox = pytest.mark.skipif(sandbox.isolation() is None, reason="no sandbox works here")
NINE = (
    "binary_matrix", "countdown", "intermediate_integration", "n_queens", "polynomial_multiplication", "puzzle24",
    "simple_integration",
    "spiral_matrix", "string_insertion",
)  # fmt: skip


def folder_of(tmp_path: Path, query: dict[str, Any], answer: str) -> Path:
    """A run folder as a colleague might send it."""
    from r2router.bench.call_key import query_key

    made = Query(**query)
    record = {
        "key": "0" * 16, "query": query_key(made), "query_id": made.id, "model": "m", "budget": "1",
        "control": "max_tokens",
        "response": answer,
    }  # fmt: skip
    (tmp_path / QUERIES).write_text(json.dumps(query) + "\n")
    (tmp_path / "journal.jsonl").write_text(
        json.dumps({"format": FORMAT, "version": VERSION}) + "\n" + json.dumps(record) + "\n"
    )
    return tmp_path


# -- reasoning-gym's verifiers
# ------------------------------------------------------------------------------------------

gym = pytest.importorskip("reasoning_gym", reason="the [bench] extra is not installed")


def payloads(mark: Path) -> list[str]:
    touch = f"open({str(mark)!r}, 'w')"
    return [
        f"__import__('os').system('touch {mark}')", f"[{touch}]", f"eval({touch!r})", f"(lambda: {touch})()",
        f"[{touch} for _ in [1]]",
        f"().__class__.__base__.__subclasses__() or {touch}", f"Symbol('x', **dict(a={touch}))", f"f'{{{touch}}}'",
    ]  # fmt: skip


@needs_sandbox
@pytest.mark.parametrize("task", NINE)
def test_an_answer_runs_no_code_whatever_the_task(task: str, tmp_path: Path) -> None:
    mark = Path("/tmp") / f"r2router-mark-{os.getpid()}"
    query = load_queries((f"reasoning-gym:{task}?size=1",))[0]
    for payload in payloads(mark):
        made: Any = scorer_named("reasoning-gym").score(query, f"The answer is\n{payload}")
        assert made.quality is None or made.quality < 0.2, (payload, made)
        assert not mark.exists(), payload


@needs_sandbox
@pytest.mark.parametrize("task", ["countdown", "binary_matrix", "spiral_matrix", "word_sorting", "simple_integration"])
def test_right_answers_are_right_still(task: str) -> None:
    for query in load_queries((f"reasoning-gym:{task}?size=3",)):
        right: Any = scorer_named("reasoning-gym").score(query, f"The answer is {query.reference}")
        assert right.quality == 1.0, (query, right)


@needs_sandbox
def test_the_settings_of_a_question_run_no_code_here(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    config = {"operators": [f"+open({str(mark)!r}, 'w').write('x')+", "-"], "min_terms": 2, "max_terms": 3}
    meta = {"generator": "reasoning-gym 1", "dataset": "basic_arithmetic", "config": config, "seed": 1, "index": 0}
    made: Any = scorer_named("reasoning-gym").score(Query(id="q", text="?", meta=meta), "5")
    assert made.quality is None and not mark.exists()
    (tmp_path / "tasks.json").write_text(json.dumps({"basic_arithmetic": config}))
    with pytest.raises(DataError, match="may not stand there"):
        load_queries((f"reasoning-gym:{tmp_path}/tasks.json",))
    assert not mark.exists()


def test_the_tasks_that_evaluate_are_known_by_their_code() -> None:
    from reasoning_gym.factory import DATASETS

    found = {name for name, (kind, _) in DATASETS.items() if evaluates(kind)}
    assert set(NINE) <= found and "word_sorting" not in found and "codeio" not in found


@pytest.mark.parametrize(
    "text", ["5*(3+2)", "[[1, 2], [3, 4]]", "['a', 'b']", "x**2 + sin(x) + C", "_ Q\nQ _", "2*sqrt(x)/3", "-1.5e3"]
)
def test_plain_expressions_are_shown(text: str) -> None:
    assert is_plain(text)


CODE = [
    "f{}(1)",
    "x.{}",
    "(1).{}",
    "().{}",
    "'a'.{}",
    "[0][0].{}",
    "lambda: {}",
    "[{} for x in y]",
    "f'{{{}}}'",
    "{}()",
    "__{}__",
    "a . {}",
]


@given(
    st.sampled_from(CODE),
    st.from_regex(r"[a-z]{2,8}", fullmatch=True).filter(lambda n: n not in {"sin", "cos", "tan", "log", "exp", "abs"}),
)
def test_what_could_call_or_look_up_is_not_shown(form: str, name: str) -> None:
    assert not is_plain(form.format(name)) and not is_plain(f"1 + {form.format(name)}")


@pytest.mark.parametrize(
    "text", ["2f(1)", "a1b(1)", "1a1a1(2)", "[1] (2)", "'a' (1)", "\u0661x(1)", "sinh2(1)", "f\n(1)", "2(3)x(4)"]
)
def test_a_call_is_seen_wherever_its_name_begins(text: str) -> None:
    assert not is_plain(text) and is_plain("2sin(1) + 3(4) - 2 cos (1)")


@needs_sandbox
@pytest.mark.skipif(sandbox.isolation() is None, reason="no sandbox works here")
def test_one_answer_cannot_change_the_next_ones_score() -> None:
    served = ServedFunction("json:loads")  # any function will do to see what becomes of calls
    with pytest.raises(ProcessLost):
        served.call(b"{}")  # it gives no bytes
    served.close()
    echo = ServedFunction("base64:b64encode")
    assert echo.call(b"x") == b"eA==" and echo.call(b"y" * 100_000)
    echo.close()


# -- what a file may choose
# ---------------------------------------------------------------------------------------------

ASKED = {"id": "q", "text": "def f(x):\n", "meta": {"test": "def check(f): assert f(1) == 1", "entry_point": "f"}}


def test_a_file_cannot_choose_to_run_code_without_a_sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox, "in_force", lambda: None)
    mark = tmp_path / "ran"
    answer = f"```python\nopen({str(mark)!r}, 'w')\ndef f(x): return x\n```"
    folder = folder_of(tmp_path, {**ASKED, "scorer": "code-trusted"}, answer)
    with pytest.raises(DataError, match="'q' names the scorer 'code-trusted'.*--trust-code"):
        compact(folder)
    done = CliRunner().invoke(main, ["compact", str(folder)])
    assert done.exit_code == 2 and "a file cannot" in " ".join(done.output.split()) and not mark.exists()
    folder_of(tmp_path, {**ASKED, "scorer": "code"}, answer)
    assert compact(folder).judged == 0 and not mark.exists()
    folder_of(tmp_path, {**ASKED, "scorer": "code-trusted"}, answer)
    assert compact(folder, trust_code=True).judged == 1 and mark.exists()


@needs_sandbox
def test_the_sandbox_in_force_is_said(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, {**ASKED, "scorer": "code"}, "    return x")
    said: list[str] = []
    assert compact(folder, say=said.append).judged == 1
    assert said == [f"code: answers run in the sandbox of {sandbox.isolation()}"]
