"""Suites: whatever file, log, generator or benchmark is named, its questions come out the same each time, and mistakes
name their place.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from r2router.bench.scoring import scorer_named
from r2router.bench.suite import JsonLines, Query, Suite
from r2router.bench.suites import SUITES, load_queries, load_suite
from r2router.bench.suites.chat import HIDDEN, ChatLog
from r2router.bench.suites.contamination import contamination
from r2router.bench.suites.file import RowFile
from r2router.bench.suites.published import BENCHMARKS
from r2router.bench.suites.sample import distinct, normalised, sample
from r2router.cli import main
from r2router.errors import DataError


def lines(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def made(*texts: str, task: str = "") -> list[Query]:
    return [Query(id=str(i), text=t, task=task) for i, t in enumerate(texts)]


# -- files ----------------------------------------------------------------------------------------------------------


def test_the_same_rows_come_from_every_kind_of_file(tmp_path: Path) -> None:
    rows = [
        {"id": f"q{i}", "question": f"What is {i}?\nSay it.", "answer": f"{i}", "task": "sums", "level": f"{i}"}
        for i in range(3)
    ]
    frame = pl.DataFrame(rows)
    lines(tmp_path / "s.jsonl", *rows)
    frame.write_csv(tmp_path / "s.csv")
    frame.write_parquet(tmp_path / "s.parquet")
    suites = [list(load_suite(str(tmp_path / f"s.{kind}")).queries()) for kind in ("jsonl", "csv", "parquet")]
    assert suites[0] == suites[1] == suites[2]
    assert suites[0][1] == Query(id="q1", text="What is 1?\nSay it.", task="sums", reference="1", meta={"level": "1"})


def test_columns_are_mapped_as_elsewhere_and_options_get_letters(tmp_path: Path) -> None:
    path = lines(
        tmp_path / "s.jsonl",
        {"ask": "Which?", "gold": "cat", "choices": ["dog", "cat"]},
        {"ask": "Which?", "gold": 0, "choices": ["dog", "cat"]},
    )
    first, second = load_queries([str(path)], columns={"text": "ask", "reference": "gold", "options": "choices"})
    assert (
        first.text == "Which?\n\nA. dog\nB. cat"
        and (first.reference, first.scorer) == ("B", "choice")
        and second.reference == "A"
    )
    assert scorer_named("choice").score(first, "the cat").quality == 1.0  # type: ignore[union-attr]
    assert [q.reference for q in load_suite(f"file:{path}?text=ask&reference=gold").queries()] == ["B", "A"]
    by_letter = lines(tmp_path / "l.jsonl", {"text": "Which?", "reference": "B", "options": {"A": "dog", "B": "cat"}})
    assert load_queries([str(by_letter)])[0].text == first.text
    for columns, what in (({"text": "asked"}, "no column 'asked'"), ({"txt": "ask"}, "'txt' is not a field")):
        with pytest.raises(DataError, match=what):
            load_queries([str(path)], columns=columns)


def test_what_is_written_by_hand_reads_as_json_lines_do(tmp_path: Path) -> None:
    queries = [
        Query(id="a", text="x", system="s", scorer="code", meta={"test": "t"}),
        Query(id="b", text="y", reference="1"),
    ]
    (tmp_path / "s.jsonl").write_bytes(b"".join(msgspec.json.encode(q) + b"\n" for q in queries))
    assert list(RowFile(tmp_path / "s.jsonl").queries()) == list(JsonLines(tmp_path / "s.jsonl").queries()) == queries


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"text": "a", "id": "x"}\n{"text": "b", "id": "x"}', "line 2: id 'x' is taken by line 1"),
        ('{"text": 7}', "line 1: .*`str`"),
        ('{"id": "x"}', "line 1: no text"),
        ('{"text": " "}', "line 1: text and id must not be empty"),
        ("{", "line 1"),
        ("[1]", "line 1"),
        ("\n", "no queries"),
        ('{"text": "\\ud800"}', "line 1"),
        ('{"text": "a", "options": ["x"]}', "options must be a list of 2"),
        ('{"text": "a", "meta": 3}', "meta must be an object"),
    ],
)
def test_a_file_that_is_wrong_names_the_line(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "s.jsonl").write_text(text + "\n")
    with pytest.raises(DataError, match=what):
        load_queries([str(tmp_path / "s.jsonl")])


@pytest.mark.parametrize(
    ("spec", "what"),
    [
        ("nowhere.jsonl", "nowhere.jsonl: no such file"), ("nowhere.parquet", "no such file"), ("mmlupro",
        "did you mean 'mmlu-pro'"),
        ("mmlu-pro?splt=test", "no option 'splt'"), ("mmlu-pro?split=tst", "no split 'tst'"), ("mmlu-pro?size=-1",
        "whole number"),
        ("mmlu-pro:x", "takes only options"), ("chat:nowhere.jsonl", "no such file"), ("musr?root=/nowhere",
        "/nowhere/.*cannot be read"),
    ],
)  # fmt: skip
def test_a_suite_that_is_not_there_says_what_there_is(spec: str, what: str) -> None:
    with pytest.raises(DataError, match=what):
        load_queries([spec])


def test_two_suites_must_not_use_one_id(tmp_path: Path) -> None:
    a, b = lines(tmp_path / "a.jsonl", {"text": "x", "id": "1"}), lines(tmp_path / "b.jsonl", {"text": "y", "id": "1"})
    with pytest.raises(DataError, match="id '1' is taken by .*a.jsonl"):
        load_queries([str(a), str(b)])


# -- chat logs ------------------------------------------------------------------------------------------------------


def test_a_log_gives_the_last_question_with_its_system_prompt_once(tmp_path: Path) -> None:
    ask = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Why?"},
    ]
    parts = [{"role": "user", "content": [{"type": "text", "text": "How?"}]}]
    picture = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
    path = lines(
        tmp_path / "log.jsonl", {"messages": ask, "user": "ann", "api_key": "sk-abcdefghijklmnopqrstuv"},
        {"request": {"messages": parts}},
        {"body": {"messages": [*ask[:1], {"role": "user", "content": "  WHY? "}]}}, {"messages": picture},
        {"messages": []},
    )  # fmt: skip
    log = ChatLog(path)
    queries = list(log.queries())
    assert [(q.text, q.system) for q in queries] == [("Why?", "Be kind."), ("How?", None)]
    assert (log.left_out, log.repeated, log.hidden) == (2, 1, 0)
    assert list(load_suite(f"chat:{path}").queries()) == queries
    said: list[str] = []
    assert load_queries([f"chat:{path}"], say=said.append) == queries
    assert [line.partition(", ")[0] for line in said] == [f"note: chat:{path}: {n} requests left out" for n in (2, 1)]
    lines(path, {"prompt": "x"})
    with pytest.raises(DataError, match="line 1: no messages"):
        list(ChatLog(path).queries())


@pytest.mark.parametrize(
    "secret",
    ["sk-proj-abcdefghijklmnop1234", "sk-ant-api03-abcdefghijklmnop1234", "ghp_abcdefghijklmnopqrst1234",
    "hf_abcdefghijklmnopqrst",
     "AKIAIOSFODNN7EXAMPLE", "eyJhbGciOiJIUzI1.eyJzdWIiOiIx.abc-_1",
     "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nx\n-----END RSA PRIVATE KEY-----"],
)  # fmt: skip
def test_no_secret_is_copied(tmp_path: Path, secret: str) -> None:
    for form in ("My key is {}, why does it fail?", "password={}", "Authorization: Bearer {}"):
        path = lines(
            tmp_path / "log.jsonl",
            {"messages": [{"role": "system", "content": secret}, {"role": "user", "content": form.format(secret)}]},
        )
        log = ChatLog(path)
        (query,) = log.queries()
        assert secret not in str(query) and HIDDEN in query.text and query.system == HIDDEN and log.hidden == 2
    path = lines(path, {"messages": [{"role": "user", "content": "see https://ann:hunter2x@example.com and sk-learn"}]})
    assert next(iter(ChatLog(path).queries())).text == f"see https://{HIDDEN}@example.com and sk-learn"


# -- procedural -----------------------------------------------------------------------------------------------------


def test_generated_questions_are_the_same_each_time_and_their_verifier_knows_them() -> None:
    pytest.importorskip("reasoning_gym", reason="the [bench] extra is not installed")
    queries = load_queries(["reasoning-gym:chain_sum,spell_backward?size=4&seed=3"])
    assert queries == load_queries(["reasoning-gym:chain_sum,spell_backward?size=4&seed=3"])
    assert queries != load_queries(["reasoning-gym:chain_sum,spell_backward?size=4&seed=4"])
    assert [q.task for q in queries] == ["chain_sum", "spell_backward"] * 4
    verifier = scorer_named("reasoning-gym")
    for query in queries:
        read = msgspec.json.decode(msgspec.json.encode(query), type=Query)
        for response in (
            f"{query.reference}",
            f"Thinking ... so the answer is {query.reference}.",
            f"Work.\n\\boxed{{{query.reference}}}",
        ):
            assert verifier.score(read, response).quality == 1.0, response  # type: ignore[union-attr]
        assert verifier.score(read, "no idea").quality < 1  # type: ignore[union-attr, operator]
        other = msgspec.structs.replace(read, text="What?")
        assert verifier.score(other, "5").quality is None  # type: ignore[union-attr]
    assert verifier.score(Query(id="q", text="?"), "5").quality is None  # type: ignore[union-attr]


def test_difficulty_files_and_presets_of_generators(tmp_path: Path) -> None:
    pytest.importorskip("reasoning_gym", reason="the [bench] extra is not installed")
    easy, hard = (load_queries([f"reasoning-gym:chain_sum?size=5&difficulty={d}"]) for d in (0, 2))
    assert np.mean([len(q.text) for q in easy]) < np.mean([len(q.text) for q in hard])
    (tmp_path / "t.json").write_text('{"gcd": {"max_value": 30}}')
    query, *_ = load_queries([f"reasoning-gym:{tmp_path}/t.json?size=2"])
    assert query.meta["config"] == {"max_value": 30} and query.scorer == "reasoning-gym"
    assert Counter(q.scorer for q in load_queries(["reasoning-gym:mini?size=1"])) == {"numeric": 12, "exact": 4}
    for spec, what in (
        ("chain_sums", "no task 'chain_sums'.*'chain_sum'"), ("", "which tasks"), ("chain_sum?difficulty=99",
        "above its highest"),
        ("chain_sum?size=0", "whole number from 1"), (f"{tmp_path}/no.json", "no such file"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=what):
            load_queries([f"reasoning-gym:{spec}"])
    (tmp_path / "t.json").write_text('{"gcd": {"most": 30}}')
    with pytest.raises(DataError, match="'gcd': .*most"):
        load_queries([f"reasoning-gym:{tmp_path}/t.json"])


# -- published ------------------------------------------------------------------------------------------------------


def hub(root: Path) -> str:
    """A folder laid out as the published repositories are, with a few rows of our own in each file."""

    def parquet(path: str, rows: list[dict[str, Any]]) -> None:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        pl.DataFrame(rows).write_parquet(root / path)

    options = [f"option {c}" for c in "abcdefghij"]
    mmlu = {"options": options, "answer": "C", "answer_index": 2, "cot_content": "", "category": "law", "src": "ours"}
    for split, count in (("test", 6), ("validation", 2)):
        parquet(
            f"TIGER-Lab/MMLU-Pro/data/{split}-00000-of-00001.parquet",
            [{"question_id": i, "question": f"Which {split} {i}?", **mmlu} for i in range(count)],
        )
    talk = [
        {"from": "system", "value": "Be brief."},
        {"from": "human", "value": "Why?"},
        {"from": "gpt", "value": "So."},
    ]
    parquet(
        "teknium/OpenHermes-2.5@~parquet/default/train/0000.parquet",
        [{"conversations": t, "source": "ours", "category": None, "topic": None} for t in (talk, talk[:1])],
    )
    for task in BENCHMARKS["math"].files:
        rows = [
            {"problem": "Half of 1?", "level": "Level 1", "type": "x", "solution": f"It is $\\boxed{{{a}}}$."}
            for a in ("\\frac{1}{2}", "x^2", "1,000")
        ]
        parquet(f"EleutherAI/hendrycks_math/{task}/test-00000-of-00001.parquet", rows)
    (root / "Idavidrein/gpqa").mkdir(parents=True)
    wrong = {f"Incorrect Answer {i}": f"wrong {i}\n" for i in (1, 2, 3)}
    gpqa = [
        {"Record ID": f"rec{i}", "Question": f"Which, {i}?\nSay.", "Correct Answer": "right", **wrong, "Subdomain": "x"}
        for i in range(12)
    ]
    pl.DataFrame(gpqa).write_csv(root / "Idavidrein/gpqa/gpqa_main.csv")
    (root / "TAUR-Lab/MuSR").mkdir(parents=True)
    for name in ("murder_mystery", "object_placements", "team_allocation"):
        row = {
            "narrative": 'Long, "quoted"\n\nstory.',
            "question": "Who?",
            "choices": "['Ann', \"O'Neil\"]",
            "answer_index": 1,
            "answer_choice": "O'Neil",
        }
        pl.DataFrame([row]).write_csv(root / f"TAUR-Lab/MuSR/{name}.csv")
    for task in BENCHMARKS["ragbench"].files:
        parquet(
            f"rungalileo/ragbench/{task}/test-00000-of-00001.parquet",
            [{"id": "1", "question": "Who?", "documents": ["one", "two"], "response": "Ann.", "dataset_name": task}],
        )
    return str(root)


def test_every_benchmark_is_read_from_its_layout(tmp_path: Path) -> None:
    root = hub(tmp_path)
    found = {name: load_queries([f"{name}?root={root}"]) for name in BENCHMARKS}
    assert {name: len(queries) for name, queries in found.items()} == {
        "mmlu-pro": 6,
        "openhermes": 1,
        "math": 21,
        "gpqa": 12,
        "musr": 3,
        "ragbench": 12,
    }
    assert len({q.id for queries in found.values() for q in queries}) == 55
    mmlu, gpqa, musr, hermes = found["mmlu-pro"][1], found["gpqa"], found["musr"][0], found["openhermes"][0]
    assert (
        mmlu.text.startswith("Which test 1?\n\nA. option a\n") and mmlu.reference == "C" and mmlu.task == "mmlu-pro/law"
    )
    for query in gpqa:
        letter = next(line[0] for line in query.text.splitlines() if line.endswith(". right"))
        assert query.reference == letter and query.scorer == "choice"
    assert len({q.reference for q in gpqa}) > 1  # the right answer is not always the first
    assert musr.text == 'Long, "quoted"\n\nstory.\n\nWho?\n\nA. Ann\nB. O\'Neil' and musr.reference == "B"
    assert [(q.reference, q.scorer) for q in found["math"][:3]] == [
        ("\\frac{1}{2}", "numeric"),
        ("x^2", "math"),
        ("1,000", "numeric"),
    ]
    assert scorer_named("numeric").score(found["math"][0], "\\boxed{0.5}").quality == 1.0  # type: ignore[union-attr]
    assert (hermes.text, hermes.system, hermes.reference, hermes.scorer) == ("Why?", "Be brief.", "So.", "")
    assert found["ragbench"][0].text.startswith("[1] one\n\n[2] two\n\n") and found["ragbench"][0].reference == "Ann."
    assert len(load_queries([f"mmlu-pro?root={root}&split=validation"])) == 2


def test_part_of_a_benchmark_is_taken_at_random_and_another_layout_is_refused(tmp_path: Path) -> None:
    root = hub(tmp_path)
    some = load_queries([f"mmlu-pro?root={root}&size=3&seed=1"])
    assert len(some) == 3 and some == load_queries([f"mmlu-pro?root={root}&size=3&seed=1"])
    path = tmp_path / "TIGER-Lab/MMLU-Pro/data/test-00000-of-00001.parquet"
    frame = pl.read_parquet(path)
    for broken, what in (
        (frame.rename({"options": "choices"}), "no column 'options'"),
        (frame.with_columns(answer_index=pl.lit("C")), "row 0: not as"),
    ):
        broken.write_parquet(path)
        with pytest.raises(DataError, match=what):
            load_queries([f"mmlu-pro?root={root}"])
    (tmp_path / "Idavidrein/gpqa/gpqa_main.csv").unlink()
    with pytest.raises(DataError, match="it is gated: accept its terms on the hub and set HF_TOKEN"):
        load_queries([f"gpqa?root={root}"])


def test_every_registered_suite_opens() -> None:
    pytest.importorskip("reasoning_gym", reason="the [bench] extra is not installed")
    for name in SUITES.names():
        what = {"file": "file:x.jsonl", "chat": "chat:x.jsonl", "reasoning-gym": "reasoning-gym:mini"}.get(name, name)
        opened: Suite = load_suite(what)
        assert opened.name


# -- parts ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=60), st.integers(0, 99), st.data())
def test_a_sample_keeps_tasks_in_proportion(tasks: list[str], seed: int, data: st.DataObject) -> None:
    queries = [Query(id=str(i), text=str(i), task=t) for i, t in enumerate(tasks)]
    size = data.draw(st.integers(1, len(tasks)))
    taken = sample(queries, size, seed=seed)
    assert len({q.id for q in taken}) == len(taken) == size and taken == sample(queries, size, seed=seed)
    assert [int(q.id) for q in taken] == sorted(int(q.id) for q in taken)
    whole, part = Counter(tasks), Counter(q.task for q in taken)
    if size >= len(whole):
        assert part.keys() == whole.keys()
    for task, count in whole.items():
        assert part[task] <= count and abs(part[task] - count * size / len(tasks)) < 1 + len(whole)


def test_a_sample_must_be_there() -> None:
    for size in (0, 3):
        with pytest.raises(DataError, match="sample"):
            sample(made("a", "b"), size, seed=0)


def test_repeats_are_found_whatever_their_case_spaces_and_quotes() -> None:
    kept, repeats = distinct(made("Don't  ask", "don\u2019t ask\n", "Ask", "\uff21sk"))
    assert [q.id for q in kept] == ["0", "2"] and repeats == [("1", "0"), ("3", "2")]
    assert normalised("A\u00a0\u201cB\u201d \u2013 C") == 'a "b" - c'


def _by_hand(test: str, train: str, n: int) -> float:
    """The share of one text's n-grams that the other has."""
    a, b = ({tuple(t.split()[i : i + n]) for i in range(max(1, len(t.split()) - n + 1))} for t in (test, train))
    return len(a & b) / len(a)


@given(
    st.lists(st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=12), min_size=1, max_size=8),
    st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=12),
)
def test_near_repeats_are_those_that_a_count_by_hand_finds(train: list[list[str]], test: list[str]) -> None:
    texts, asked = [" ".join(t) for t in train], " ".join(test)
    found = contamination(made(*texts), made(asked), ngram=3, threshold=0.5)
    best = max(_by_hand(asked, t, 3) for t in texts)
    if asked in texts:
        assert found.exact == 1 and found.near == 0
    elif best >= 0.5:
        assert found.near == 1 and found.overlaps[0].share == pytest.approx(best)
    else:
        assert not found.overlaps


def test_common_wording_is_no_contamination() -> None:
    train = made(*(f"Solve this task step by step and then state the sum of {i} and {i + 1}" for i in range(100)))
    assert not contamination(train, made("Solve this task step by step and then state the sum of 500 and 7")).overlaps
    assert contamination(train, made("SOLVE this task step by step and then state the sum of 5 and 6")).exact == 1


def test_the_command_shows_samples_checks_and_writes(tmp_path: Path) -> None:
    rows = [{"text": f"What is {i} and then some more words?", "task": f"t{i % 2}"} for i in range(9)]
    path = lines(tmp_path / "s.jsonl", *rows, {"text": "what IS 1 and then some more words?", "id": "x"})
    words = [
        "suite",
        str(path),
        "--distinct",
        "--sample",
        "4",
        "--scorer",
        "numeric",
        "--out",
        str(tmp_path / "o.jsonl"),
        "--against",
        str(path),
    ]
    said = CliRunner().invoke(main, words)
    assert said.exit_code == 0, said.output
    assert (
        "4 queries" in said.output
        and "4 of 4 test queries are among the 10" in said.output
        and "x repeats 2" in said.output
    )
    written = load_queries([str(tmp_path / "o.jsonl")])
    assert len(written) == 4 and {q.scorer for q in written} == {"numeric"}
    wrong = CliRunner().invoke(main, ["suite", "nowhere.csv"])
    assert wrong.exit_code == 2 and "nowhere.csv: no such file" in wrong.output
