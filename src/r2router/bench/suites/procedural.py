"""Tasks that the reasoning-gym package (Apache-2.0) generates: nothing is downloaded, and each has an exact
verifier.
"""

from __future__ import annotations

import dataclasses
import json
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec

from r2router.bench.suite import Query, Suite
from r2router.bench.suites.registry import check_options, whole_number
from r2router.errors import DataError, MissingExtra
from r2router.files import check_text
from r2router.text import suggest

SYSTEM = "Solve the task step by step and show all your work. State the answer only at the end."
SEED = 20261124
_CALLS = re.compile(r"[()\[\]{}'\"`\\@:;=\n]|__")  # without these, no expression calls anything


class Task(msgspec.Struct, frozen=True):
    """How one generator is set.

    config: its own fields.
    scorer: the generator's verifier, or one of ours where that reads answers within sentences better.
    """

    config: dict[str, Any] = {}
    scorer: str = "reasoning-gym"


# R2-Bench-mini: each from very easy on, so that neither the smallest nor the largest model is left out
_MINI = {
    "chain_sum": Task({"min_terms": 2, "max_terms": 5, "min_digits": 1, "max_digits": 2}, "numeric"),
    "basic_arithmetic": Task({"min_terms": 2, "max_terms": 4, "min_digits": 1, "max_digits": 2}, "numeric"),
    "products": Task({"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2}, "numeric"),
    "simple_equations": Task(
        {"min_terms": 2, "max_terms": 3, "min_value": 1, "max_value": 20, "operators_weights": [0.4, 0.4, 0.2]},
        "numeric",
    ),
    "gsm_symbolic": Task({}, "numeric"),
    "leg_counting": Task({"min_animals": 1, "max_animals": 3, "max_instances": 5}, "numeric"),
    "letter_counting": Task({"min_words": 2, "max_words": 5}, "numeric"),
    "gcd": Task({"min_numbers": 2, "max_numbers": 2, "min_value": 2, "max_value": 40}, "numeric"),
    "lcm": Task({"min_numbers": 2, "max_numbers": 2, "min_value": 2, "max_value": 15}, "numeric"),
    "number_sequence": Task(
        {"min_terms": 4, "max_terms": 6, "min_value": -10, "max_value": 20, "max_complexity": 1}, "numeric"
    ),
    "simple_geometry": Task({"min_sides": 3, "max_sides": 4}, "numeric"),
    "aiw": Task({}, "numeric"),
    "family_relationships": Task({"min_family_size": 4, "max_family_size": 6}, "exact"),
    "needle_haystack": Task({"min_num_statements": 4, "max_num_statements": 10}, "exact"),
    "spell_backward": Task({"min_word_len": 3, "max_word_len": 5}, "exact"),
    "syllogism": Task({}, "exact"),
}
PRESETS: dict[str, dict[str, Task]] = {
    "mini": _MINI,
    "easy-maths": {name: _MINI[name] for name in ("chain_sum", "products", "gcd", "lcm", "simple_equations")},
    "logic": dict.fromkeys(
        ("knights_knaves", "syllogism", "propositional_logic", "zebra_puzzles", "self_reference"), Task()
    ),
    "algorithms": dict.fromkeys(
        ("word_sorting", "letter_counting", "base_conversion", "caesar_cipher", "spell_backward"), Task()
    ),
}


class Maker(msgspec.Struct, frozen=True):
    """What is needed to make an entry again; it is the `meta` of a query."""

    generator: str
    dataset: str
    config: dict[str, Any]
    seed: int
    index: int

    @classmethod
    def of(cls, query: Query) -> Maker:
        """Read it from a query's meta. Raises `ValueError` where that is not one."""
        return msgspec.convert(query.meta, cls)

    @property
    def config_json(self) -> str:
        """The configuration as text, the same for the same."""
        return json.dumps(self.config, sort_keys=True)


class Procedural:
    """Generated questions, the same number for each task, in turns, so that any first part is a smaller suite of the
    same kind.

    tasks: generator -> its settings.
    size: questions per task; fewer where a generator has no more distinct ones.
    seed: random seed of all tasks.

    Raises `MissingExtra` without the package, `DataError` for an unknown generator or setting.
    """

    def __init__(
        self, tasks: Mapping[str, Task], *, size: int = 20, seed: int = SEED, name: str = "reasoning-gym"
    ) -> None:
        self.name = name
        self.tasks = dict(tasks)
        self.size = size
        self.seed = seed
        self._generator = f"reasoning-gym {_version()}"
        known = _datasets()
        for task in tasks:
            if task not in known:
                raise DataError(
                    f"reasoning-gym has no task {task!r}{suggest(task, known)}; it has {len(known)}, and presets:"
                    f" {', '.join(PRESETS)}"
                )

    def queries(self) -> Iterable[Query]:
        """Yield the queries, made anew each time and always the same."""
        made_of = {task: self._distinct(task) for task in self.tasks}
        for turn in range(self.size):
            for task, entries in made_of.items():
                if turn < len(entries):
                    index, entry = entries[turn]
                    yield self._query(task, index, entry)

    def _query(self, task: str, index: int, entry: Mapping[str, Any]) -> Query:
        settings = self.tasks[task]
        maker = Maker(generator=self._generator, dataset=task, config=settings.config, seed=self.seed, index=index)
        return Query(
            id=f"{task}-{index:03}",
            task=task,
            text=entry["question"].strip(),
            reference=None if entry["answer"] is None else str(entry["answer"]),
            system=SYSTEM,
            scorer=settings.scorer,
            meta=msgspec.to_builtins(maker),
        )

    def _distinct(self, task: str) -> list[tuple[int, Mapping[str, Any]]]:
        """Return (index, entry) of the first questions that are not the same, out of twice as many."""
        dataset = made(task, json.dumps(self.tasks[task].config, sort_keys=True), self.seed)
        first: dict[str, tuple[int, Mapping[str, Any]]] = {}
        for index in range(2 * self.size):
            entry = dataset[index]
            first.setdefault(entry["question"].strip(), (index, entry))
        return list(first.values())[: self.size]


def procedural_suite(name: str, what: str, options: Mapping[str, str]) -> Suite:
    """`reasoning-gym:PRESET` or `reasoning-gym:TASK,TASK,...` or `reasoning-gym:FILE.json` (task -> configuration).

    Options: size (questions per task), seed, difficulty (a level of the tasks' own curricula, from 0 on).
    """
    check_options(name, options, ("size", "seed", "difficulty"))
    size = whole_number(name, options, "size", 20, 1)
    seed = whole_number(name, options, "seed", SEED)
    if what.endswith(".json"):
        tasks = _from_file(Path(what))
    elif what in PRESETS:
        tasks = PRESETS[what]
    else:
        names = [task for task in (part.strip() for part in what.split(",")) if task]
        if not names:
            raise DataError(f"which tasks of reasoning-gym? reasoning-gym:TASK,TASK or a preset: {', '.join(PRESETS)}")
        tasks = dict.fromkeys(names, Task())
    if "difficulty" in options:
        level = whole_number(name, options, "difficulty", 0)
        tasks = {task: Task(_at_level(task, level), settings.scorer) for task, settings in tasks.items()}
    return Procedural(tasks, size=size, seed=seed, name=f"{name}:{what}")


@lru_cache(maxsize=256)
def made(dataset: str, config_json: str, seed: int) -> Any:
    """Return a generator with its settings. Raises `DataError` for a setting that it does not have."""
    gym = _gym()
    try:
        return gym.create_dataset(dataset, seed=seed, **json.loads(config_json))
    except (AssertionError, TypeError, ValueError) as error:
        raise DataError(
            f"reasoning-gym task {dataset!r}: {str(error) or 'its configuration is out of range'}"
        ) from None


def entry_of(maker: Maker) -> Mapping[str, Any]:
    """Return the entry that a query was made from."""
    entry: Mapping[str, Any] = made(maker.dataset, maker.config_json, maker.seed)[maker.index]
    return entry


def _at_level(task: str, level: int) -> dict[str, Any]:
    _gym()
    from reasoning_gym.factory import create_curriculum, has_curriculum

    if task not in _datasets() or not has_curriculum(task):
        raise DataError(
            f"reasoning-gym task {task!r} has no levels of difficulty; leave difficulty out, or set it in a JSON file"
        )
    curriculum = create_curriculum(task)
    highest = max(len(attribute.levels) for attribute in curriculum.attributes.values()) - 1
    if level > highest:
        raise DataError(f"reasoning-gym task {task!r}: difficulty {level} is above its highest, {highest}")
    curriculum.set_global_level(level)  # an attribute of fewer levels stays at its highest
    config = dataclasses.asdict(curriculum.generate_configuration())
    made_json: dict[str, Any] = json.loads(json.dumps({k: v for k, v in config.items() if k not in ("seed", "size")}))
    return made_json


def _from_file(path: Path) -> dict[str, Task]:
    check_text(path)
    try:
        configs = msgspec.json.decode(path.read_bytes(), type=dict[str, dict[str, Any]])
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError) as error:
        raise DataError(f"{path}: {error}; it holds one object, task -> configuration") from None
    for task, config in configs.items():
        if (text := code_in(config)) is not None:
            raise DataError(
                f"{path}: {task}: {text!r:.60} may not stand there: some generators evaluate their settings as code"
            )
    return {task: Task(config) for task, config in configs.items()}


def code_in(config: Mapping[str, Any]) -> str | None:
    """Return the first text in a generator's settings that could call something if it were evaluated; None where there
    is none.
    """
    return next((text for text in _texts(config) if _CALLS.search(text)), None)


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in a value as JSON has it, keys too."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for pair in value.items() for part in pair for text in _texts(part))
    elif isinstance(value, list):
        yield from (text for part in value for text in _texts(part))


def _gym() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of packages that it imports
            import reasoning_gym
    except ImportError:
        raise MissingExtra(
            "suites and verifiers of reasoning-gym need the package: pip install 'r2router[bench]'"
        ) from None
    return reasoning_gym


def _datasets() -> Mapping[str, Any]:
    _gym()
    from reasoning_gym.factory import DATASETS

    found: Mapping[str, Any] = DATASETS
    return found


def _version() -> str:
    _gym()
    return version("reasoning-gym")
