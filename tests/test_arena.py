"""RouterArena: predictions in its format, its figures read back, and nothing ever learned from it. The files here are
made up.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import r2router as r2
from r2router.arena import arena_score, export, read_prompts, read_results
from r2router.cli import main
from r2router.errors import DataError, QueryError, UsageError

ASKED = [
    "topic 1 what is it, and why is it so?",
    "topic 2 what is it?",
    "topic 3 who was there?",
    "topic 4 where {x} was it?",
]


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    return write(
        tmp_path / "prompts.json",
        [{"prompt_formatted": text, "global index": f"Made_{i}"} for i, text in enumerate(ASKED)],
    )


@pytest.fixture
def router(world: Any, fake_encoder: Any) -> r2.Router:
    return r2.Recipe(encoder="fake", folds=0).fit(world.table, vectors=world.vectors)


def scored(path: Path, **odd: Any) -> Path:
    """Eight scored predictions, and one that is there for the optimality figures alone."""
    answer = {"generated_answer": "x", "success": True, "token_usage": {"input_tokens": 9, "output_tokens": 3}}
    entries = [
        {
            "global index": f"Made_{i}",
            "prompt": f"p{i}",
            "prediction": "ab"[i % 2],
            "generated_result": answer,
            "for_optimality": False,
        }
        | {"accuracy": float(i < 6), "cost": 1e-4 * (i + 1)}
        for i in range(8)
    ]
    entries[3] |= odd
    return write(
        path, [*entries, entries[0] | {"prediction": "c", "accuracy": 1.0, "cost": 99.0, "for_optimality": True}]
    )


def repository(
    path: Path, names: list[str], mapping: dict[str, str] | None = None, costs: list[str] | None = None
) -> Path:
    """A folder with what RouterArena's check reads of its repository; made up, in its form."""
    (path / "model_cost").mkdir(parents=True)
    code = (
        f"import os\n\nuniversal_names = {names!r}\n\nmapping: dict[str, str] = {mapping or {}!r}\n\nraise"
        " SystemExit('never run')\n"
    )
    (path / "universal_model_names.py").write_text(code, encoding="utf-8")
    write(
        path / "model_cost" / "cost.json",
        {name: {"input_token_price_per_million": 1} for name in (names if costs is None else costs)},
    )
    return path


def refused(predictions: Path, config: Path, prompts: Path, names: set[str]) -> list[str]:
    """What RouterArena's check_config_prediction_files.py would find wrong, by its rules of 2026."""
    asked = {e["global index"]: e["prompt_formatted"] for e in json.loads(prompts.read_text())}
    entries, models = json.loads(predictions.read_text()), json.loads(config.read_text())["pipeline_params"]["models"]
    wrong = [m for m in models if m not in names]
    wrong += [
        e["global index"]
        for e in entries
        if asked.get(e["global index"]) != e["prompt"] or e["prediction"] not in models
    ]
    return wrong + ([] if len(entries) == len(asked) else ["size"])


def test_what_is_checked_against_a_copy_passes_its_check(router: r2.Router, prompts: Path, tmp_path: Path) -> None:
    router.save(tmp_path / "router")
    copy = repository(tmp_path / "RouterArena", ["maker/small", "large", "thinker-2"], {"maker/thinker": "thinker-2"})
    words = [
        "arena",
        "export",
        "--prompts",
        str(prompts),
        "--out",
        str(tmp_path / "mine.json"),
        "--config",
        str(tmp_path / "c" / "mine.json"),
    ]
    (tmp_path / "c").mkdir()
    words += ["--arena", str(copy), "--router", str(tmp_path / "router")]
    result = CliRunner().invoke(main, [*words, "--name", "small=maker/small", "--name", "thinker=maker/thinker"])
    assert result.exit_code == 0, result.output
    known = {"maker/small", "large", "thinker-2", "maker/thinker"}
    assert refused(tmp_path / "mine.json", tmp_path / "c" / "mine.json", prompts, known) == []


def test_models_that_its_check_refuses_are_named(router: r2.Router, prompts: Path, tmp_path: Path) -> None:
    chosen = next(iter(export(router, prompts).models))
    copy = repository(tmp_path / "a", [f"{chosen}-1", "x"])
    with pytest.raises(UsageError, match=rf"'{chosen}'.*not among the models of .*did you mean '{chosen}-1'.*--name"):
        export(router, prompts, arena=copy)
    with pytest.raises(UsageError, match="without a price"):
        export(router, prompts, arena=repository(tmp_path / "b", ["small", "large", "thinker"], costs=["other"]))
    with pytest.raises(DataError, match="copy of RouterArena's repository"):
        export(router, prompts, arena=tmp_path / "nowhere")
    (tmp_path / "b" / "universal_model_names.py").write_text("universal_names = [open('x')]", encoding="utf-8")
    with pytest.raises(DataError, match="more than names"):
        export(router, prompts, arena=tmp_path / "b")


def test_both_files_are_named_after_the_router(prompts: Path, tmp_path: Path) -> None:
    words = [
        "arena",
        "export",
        "--prompts",
        str(prompts),
        "--out",
        str(tmp_path / "mine.json"),
        "--config",
        str(tmp_path / "yours.json"),
    ]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0
    assert "finds both files by the router's name" in result.output


@pytest.mark.parametrize("field", ["accuracy", "cost"])
def test_right_and_wrong_may_be_true_and_false(tmp_path: Path, field: str) -> None:
    numbers, path = read_results(scored(tmp_path / "a.json")), scored(tmp_path / "b.json")
    entries = [e | {field: bool(e[field])} for e in json.loads(path.read_text())]
    write(path, entries)
    if field == "accuracy":
        assert read_results(path).accuracy == numbers.accuracy
    else:
        with pytest.raises(DataError, match="'cost' is True"):
            read_results(path)


# -- predictions
# ----------------------------------------------------------------------------------------------------------


def test_predictions_have_the_fields_of_routerarena(router: r2.Router, prompts: Path, tmp_path: Path) -> None:
    found = export(router, prompts, names={"small": "maker/small", "large": "maker/large", "thinker": "maker/thinker"})
    found.write(tmp_path / "mine.json")
    found.write_config(tmp_path / "config.json", "mine")
    entries = json.loads((tmp_path / "mine.json").read_text())
    # what its check_config_prediction_files.py and its llm_inference need
    assert [(e["global index"], e["prompt"]) for e in entries] == [(f"Made_{i}", text) for i, text in enumerate(ASKED)]
    assert all(
        (e["generated_result"], e["cost"], e["accuracy"], e["for_optimality"]) == (None, None, None, False)
        for e in entries
    )
    params = json.loads((tmp_path / "config.json").read_text())["pipeline_params"]
    assert params == {"router_name": "mine", "models": sorted({e["prediction"] for e in entries})}
    # the decisions are the router's own, and the budget is not lost
    for entry in entries:
        d = router.route(entry["prompt"])
        assert entry["prediction"] == f"maker/{d.model}"
        assert (entry["r2router_arm"], entry["r2router_budget"], entry["r2router_max_tokens"]) == (
            d.arm,
            d.budget,
            d.max_tokens,
        )
    assert sum(found.models.values()) == len(ASKED)


def test_a_policy_and_exclusions_are_followed(router: r2.Router, prompts: Path) -> None:
    cheap = export(router, prompts, policy=r2.Tradeoff(1.0))
    assert {p.r2router_arm for p in cheap.predictions} == {router.route(ASKED[0], r2.Tradeoff(1.0)).arm}
    assert "small" not in export(router, prompts, policy=r2.Tradeoff(1.0), exclude=["small"]).models


def test_notes_say_what_a_submitter_must_know(router: r2.Router, prompts: Path) -> None:
    notes = " ".join(export(router, prompts).notes)
    assert "without a budget" in notes and "universal_model_names.py" in notes
    assert "does not say what it was trained on" in notes


def test_prompts_that_it_was_trained_on_are_found(
    router: r2.Router, world: Any, tmp_path: Path, fake_encoder: Any
) -> None:
    world.table.write(tmp_path / "outcomes.parquet")
    table = r2.Table.read(tmp_path / "outcomes.parquet", world.pool)
    trained = r2.Recipe(encoder="fake", folds=0).fit(table)
    wrapped = f"Please answer.\n\nContext: None\n\nQuestion:  {table.queries[7].upper()}\n\nBe brief."
    entries = [
        {"prompt_formatted": text, "global index": f"Made_{i}"}
        for i, text in enumerate([*ASKED, wrapped, table.queries[3]])
    ]
    prompts = write(tmp_path / "prompts.json", entries)
    without = replace(trained, trained=None)
    unchecked = export(without, prompts).notes[0]
    assert "outcomes.parquet" in unchecked and "not checked" in unchecked
    for notes in (
        export(trained, prompts).notes,
        export(without, prompts, trained_on=[tmp_path / "outcomes.parquet"]).notes,
    ):
        assert notes[0].startswith("2 prompts hold a text") and "Made_4" in notes[0] and "Made_5" in notes[0]
        assert not any("not checked" in note for note in notes)
    clean = write(tmp_path / "clean.json", entries[:4])
    assert not any(
        "trained on" in note for note in export(trained, clean, trained_on=[tmp_path / "outcomes.parquet"]).notes
    )
    world.table.take(range(5)).write(tmp_path / "other.parquet")
    with pytest.raises(DataError, match=r"other\.parquet: the router was not trained on this file"):
        export(trained, prompts, trained_on=[tmp_path / "other.parquet"])
    digest = r2.Table.read(tmp_path / "other.parquet").sources[0][1]
    told = replace(
        trained, facts=replace_sources(trained.facts, (("prompts.json", sha(prompts)), ("other.parquet", digest)))
    )
    assert "itself" in export(told, prompts).notes[0]


def replace_sources(facts: Any, sources: tuple[tuple[str, str], ...]) -> Any:
    import msgspec

    return msgspec.structs.replace(facts, sources=sources)


def sha(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "is not a list of RouterArena's entries"),
        ('{"a": 1}', "is not a list"),
        ("[1]", "is not a list"),
        ([{"global index": "a"}], "entry 0: 'prompt_formatted' is None"),
        ([{"prompt": "x"}], "entry 0: 'global index' is None"),
        ([{"global_index": "a", "prompt": "  "}], "entry 0: 'prompt_formatted' is '  '"),
        (
            [{"global index": "a", "prompt": "x"}, {"global_index": "a", "prompt": "y"}],
            "entry 1: global index 'a' occurs twice",
        ),
    ],
)
def test_files_that_are_no_prompts_are_refused(tmp_path: Path, content: Any, says: str) -> None:
    with pytest.raises(DataError, match=r"prompts\.json.*" + says):
        read_prompts(write(tmp_path / "prompts.json", content))


def test_prompts_that_are_not_there_and_models_that_are_unknown(
    router: r2.Router, prompts: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_prompts(tmp_path / "nowhere.json")
    with pytest.raises(UsageError, match=r"model 'smal', which the router does not have.*'small'"):
        export(router, prompts, names={"smal": "x"})


def test_a_router_of_embeddings_cannot_read_prompts(world: Any, prompts: Path) -> None:
    given = r2.Recipe(learner=r2.Ridge(), folds=0).fit(world.table, vectors=world.vectors)
    with pytest.raises((r2.EncoderError, QueryError, UsageError)):
        export(given, prompts)


# -- results
# --------------------------------------------------------------------------------------------------------------


def test_results_by_hand(tmp_path: Path) -> None:
    found = read_results(scored(tmp_path / "mine.json"))
    assert (found.queries, found.scored) == (8, 8)
    assert found.accuracy.value == 0.75
    assert found.cost.value == pytest.approx(1000 * 1e-4 * 36 / 8)
    cheapness = (math.log2(200) - math.log2(0.45)) / (math.log2(200) - math.log2(0.0044))
    assert found.score.value == pytest.approx(1.1 * 0.75 * cheapness / (0.1 * 0.75 + cheapness))
    for figure in (found.accuracy, found.cost, found.score):
        assert figure.low < figure.value < figure.high and figure.n == 8
    assert found.models == {"a": 0.5, "b": 0.5}
    assert json.loads(json.dumps(found.to_dict()))["accuracy"]["value"] == 0.75


def test_entries_without_an_accuracy_count_as_cost_only(tmp_path: Path) -> None:
    found = read_results(scored(tmp_path / "mine.json", accuracy=None))
    assert (found.queries, found.scored) == (8, 7)
    assert found.accuracy.value == pytest.approx(5 / 7)
    assert found.cost.value == pytest.approx(1000 * 1e-4 * 36 / 8)
    assert "1 entries have no accuracy" in found.notes[0]


def test_its_published_example_of_a_score() -> None:
    # metrics.json in RouterArena's repository at 065cca5: the score of its accuracy and cost
    assert arena_score(0.718453907843953, 0.13639649464285758) == pytest.approx(0.7147593301906191, abs=1e-12)


@given(st.floats(0, 1), st.floats(1e-6, 1e4), st.floats(1e-6, 1e4))
def test_the_score_never_rises_with_cost(accuracy: float, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= arena_score(accuracy, high) <= arena_score(accuracy, low) + 1e-12
    assert arena_score(accuracy, 1e-9) == pytest.approx(1.1 * accuracy / (0.1 * accuracy + 1))


def test_robustness_is_the_share_that_stays(tmp_path: Path) -> None:
    mine = scored(tmp_path / "mine.json")
    reworded = [{"global index": f"Made_{i}", "prompt": "other words", "prediction": "a"} for i in range(6)]
    figure = read_results(
        mine, write(tmp_path / "reworded.json", [*reworded, {"global_index": "Else_1", "prediction": "a"}])
    ).robustness
    assert (figure.value, figure.n) == (0.5, 6)
    # Wilson, by R's prop.test
    assert figure.low == pytest.approx(0.1876, abs=1e-4) and figure.high == pytest.approx(0.8124, abs=1e-4)
    with pytest.raises(DataError, match="none of the prompts"):
        read_results(mine, write(tmp_path / "else.json", [{"global index": "Else_1", "prediction": "a"}]))


METRICS = {
    "arena_score": 0.7,
    "accuracy": 0.72,
    "avg_cost_per_1000": 0.14,
    "num_queries": 8400,
    "robustness_score": 0.9,
}


def test_means_are_read_without_inventing_intervals(tmp_path: Path) -> None:
    found = read_results(
        write(tmp_path / "metrics.json", METRICS | {"optimality": {"opt_sel": 0.3, "num_sub10_queries": 809}})
    )
    assert (found.score.value, found.cost.value, found.robustness.value) == (0.7, 0.14, 0.9)
    assert math.isnan(found.score.low) and found.optimality == {"opt_sel": 0.3}
    assert "no intervals" in str(found)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({k: v for k, v in METRICS.items() if k != "accuracy"}, "no 'accuracy'"),
        (METRICS | {"accuracy": 72}, "'accuracy' is 72; it must be a number from 0 to 1"),
        (METRICS | {"avg_cost_per_1000": "much"}, "'avg_cost_per_1000' is 'much'"),
        (METRICS | {"optimality": 3}, "'optimality' is 3"),
        ([{"global index": "a", "prediction": "m", "accuracy": None, "cost": None}], "has not scored yet"),
        ([{"global index": "a", "accuracy": 1, "cost": 1}], "entry 0: 'prediction' is None"),
        ([{"global index": "a", "prediction": "m", "accuracy": "yes", "cost": 1}], "entry 0: 'accuracy' is 'yes'"),
        (
            [{"global index": "a", "prediction": "m", "accuracy": 1, "cost": -1}],
            "entry 0: 'cost' is -1; it must be a number from 0$",
        ),
        ([], "is not a list"),
    ],
)
def test_results_that_cannot_be_are_refused(tmp_path: Path, content: Any, says: str) -> None:
    with pytest.raises(DataError, match=r"results\.json.*" + says):
        read_results(write(tmp_path / "results.json", content))


# -- never learned from
# ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["json", "jsonl", "csv", "parquet"])
def test_no_table_is_made_of_its_files(tmp_path: Path, suffix: str) -> None:
    entries = [
        {"global_index": f"Made_{i}", "prompt": "p", "prediction": "a", "accuracy": 1.0, "cost": 1e-4} for i in range(3)
    ]
    path, frame = tmp_path / f"mine.{suffix}", pl.DataFrame(entries)
    if suffix == "json":
        write(path, entries)
    else:
        {"jsonl": frame.write_ndjson, "csv": frame.write_csv, "parquet": frame.write_parquet}[suffix](path)
    mapping = {"query_id": "global_index", "query": "prompt", "model": "prediction", "quality": "accuracy"}
    for columns in ({}, mapping):
        with pytest.raises(DataError, match=r"mine.*evaluation-only.*trained, fitted or tuned"):
            r2.Table.read(path, columns=columns)


@pytest.mark.parametrize(
    "columns",
    [
        ["Global Index", "Question", "Context", "Answer", "Options"],  # its data set
        ["global_index", "question", "llm_selected", "generated_answer", "token_usage"],  # its cached results
        ["global index", "prompt_formatted"],  # its prompts
    ],
)
def test_nor_of_its_other_files(columns: list[str]) -> None:
    with pytest.raises(DataError, match="evaluation-only"):
        r2.Table.read(pl.DataFrame({c: ["x"] for c in columns}))


def test_nor_of_its_data_sets_on_the_network() -> None:
    for address in ("hf://datasets/RouteWorks/RouterArena", "hf://datasets/JiaqiXue/R2-Bench-RouterArena/x.parquet"):
        with pytest.raises(DataError, match="evaluation-only"):
            r2.Table.read(address)


def test_metrics_are_refused_and_other_json_as_before(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="evaluation-only"):
        r2.Table.read(write(tmp_path / "metrics.json", METRICS))
    for content in ("{", '[{"query": 1}]', "[]", "3"):
        with pytest.raises(DataError, match="cannot tell its format"):
            r2.Table.read(write(tmp_path / "other.json", content))


def test_a_table_with_an_index_of_its_own_is_read() -> None:
    frame = pl.DataFrame({"query": ["?"], "model": ["a"], "budget": ["1"], "quality": [1.0], "global_index": [3]})
    assert len(r2.Table.read(frame)) == 1


# -- the command
# ----------------------------------------------------------------------------------------------------------


def test_the_commands(router: r2.Router, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    router.save("router")
    export_it = ["arena", "export", "--prompts", str(prompts), "--router", "router", "--out", "out.json"]
    done = CliRunner().invoke(
        main, [*export_it, "--config", "mine.json", "--name", "large=maker/large", "--lambda", "0"]
    )
    assert done.exit_code == 0 and "4 predictions" in done.output, done.output
    params = json.loads(Path("mine.json").read_text())["pipeline_params"]
    assert params["router_name"] == "mine"
    assert {e["prediction"] for e in json.loads(Path("out.json").read_text())} == set(params["models"])
    scored(tmp_path / "scored.json")
    shown = CliRunner().invoke(main, ["arena", "read", "scored.json", "--robustness", "out.json"])
    assert shown.exit_code == 0 and "arena score" in shown.output and "0.7500" in shown.output
    as_json = CliRunner().invoke(main, ["arena", "read", "scored.json", "--json"])
    assert json.loads(as_json.output)["queries"] == 8
    for words, says in (
        ([*export_it, "--name", "large"], "--name 'large': write OURS=THEIRS"),
        ([*export_it, "--name", "none=x"], "'none'"),
        (["arena", "read", "nowhere.json"], "nowhere.json: cannot be read"),
        (["train", "scored.json", "--prices", "x.csv", "--out", "y"], "evaluation-only"),
        (["evaluate", "router", "--table", "scored.json"], "evaluation-only"),
    ):
        refused = CliRunner().invoke(main, words)
        assert refused.exit_code == 2 and says in refused.output, refused.output
    assert np.isfinite(json.loads(as_json.output)["score"]["low"])
