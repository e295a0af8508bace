"""The scorer `reasoning-gym`: each task's own verifier. It needs the reasoning-gym package of the `[bench]` extra.

Some verifiers evaluate the answer as Python or hand it to sympy, which does the same, and generators evaluate their
settings. So making the entry and verifying the answer happen in a sandbox, for every task; and to those that evaluate,
only plain expressions are shown.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from functools import lru_cache
from types import CodeType
from typing import Any

import msgspec

from r2router.bench.scoring.served import ProcessLost, ServedFunction
from r2router.bench.suite import Query, Score
from r2router.bench.suites.procedural import Maker, code_in, entry_of, made
from r2router.bench.thinking import without_thinking
from r2router.errors import R2Error
from r2router.final_answer import final_answer, first_line

NAME = "reasoning-gym"
_EVALUATE = frozenset({"eval", "exec", "parse_expr", "sympify", "parse_latex", "sympy", "sp", "S"})
_FUNCTIONS = (
    "sin|cos|tan|cot|sec|csc|asin|acos|atan|sinh|cosh|tanh|asinh|acosh|atanh|exp|log|ln|sqrt|cbrt|abs|Abs|factorial"
    "|Rational|Integral"
)
_STRING = re.compile(r"'[^'\\\n]*'|\"[^\"\\\n]*\"")
_CALL = re.compile(r"((?<!\w)\w++|[\])}'\"])\s*+\(")
_NUMBER = re.compile(r"\d*")  # before a name: 2sin(x)
_CODE = re.compile(
    r"__|[^\W\d]\s*\.\s*[^\W\d]|[\])']\s*\.\s*[^\W\d]|\b(?:lambda|for|if|import|yield|await|async)\b|:=|[;\\`@#$?{}\"]"
)
_PREFIXED = re.compile(r"\w'")  # f'...' holds code
_asked = msgspec.json.Decoder(tuple[Query, str])
_PLAIN = re.compile(rf"(?:{_FUNCTIONS})")


class Verifier:
    """The verifier's own score of the final answer, in [0, 1].

    It is shown the final answer, its first line, the whole response and its last line, and the best of these counts:
    verifiers expect a bare answer, and give next to nothing for one with words around it. The entry is made again from
    what the query's meta holds.
    """

    name = NAME

    def __init__(self) -> None:
        self._inside = ServedFunction(
            "r2router.bench.scoring.verifier:verify", preload=("reasoning_gym",), prepare="prepare"
        )

    def score(self, query: Query, response: str) -> Score:
        """Score in [0, 1]; without a quality where no sandbox works, the entry cannot be made again, or the verifier
        fails.
        """
        try:
            Maker.of(query)
        except ValueError as error:
            return Score(quality=None, judge=NAME, error=f"the query was not made by reasoning-gym: {error}")
        try:
            return msgspec.json.decode(self._inside.call(msgspec.json.encode((query, response))), type=Score)
        except (ProcessLost, msgspec.DecodeError) as error:
            return Score(quality=None, judge=NAME, error=f"the verifier failed: {error}")
        except R2Error as error:
            return Score(quality=None, judge=NAME, error=str(error))


def prepare(data: bytes) -> None:
    """Make a query's entry and keep it for all answers to it, where its settings can run nothing."""
    with contextlib.suppress(Exception):  # whatever is wrong is said by `verify`
        query, _ = _asked.decode(data)
        maker = Maker.of(query)
        if code_in(maker.config) is None:
            _entry(maker.dataset, maker.config_json, maker.seed, maker.index)


@lru_cache(maxsize=1000)
def _entry(dataset: str, config_json: str, seed: int, index: int) -> Mapping[str, Any]:
    return entry_of(Maker(generator="", dataset=dataset, config=json.loads(config_json), seed=seed, index=index))


def verify(data: bytes) -> bytes:
    """Score a (query, response); this is what runs in the sandbox."""
    query, response = _asked.decode(data)
    try:
        score = _verified(query, response)
    except R2Error as error:
        score = Score(quality=None, judge=NAME, error=str(error))
    return msgspec.json.encode(score)


def _verified(query: Query, response: str) -> Score:
    maker = Maker.of(query)
    entry = _entry(maker.dataset, maker.config_json, maker.seed, maker.index)
    if entry["question"].strip() != query.text.strip():
        return Score(
            quality=None,
            judge=NAME,
            error=f"another version of reasoning-gym makes another question ({maker.generator})",
        )
    dataset = made(maker.dataset, maker.config_json, maker.seed)
    shown = candidates(response)
    if evaluates(type(dataset)):
        shown = [c for c in shown if is_plain(c)]
    best = 0.0
    for candidate in shown:
        try:
            best = max(best, float(dataset.score_answer(candidate, entry)))
        except Exception as error:  # noqa: BLE001  verifiers of many authors meet whatever an LLM wrote
            return Score(quality=None, judge=NAME, error=f"the verifier failed: {type(error).__name__}")
    return Score(quality=min(best, 1.0), judge=NAME)


def evaluates(dataset: type[Any]) -> bool:
    """Whether a task's verifier, or any function that it may call, names something that evaluates text."""
    left, seen = [dataset.score_answer], set()
    while left:
        function = left.pop()
        if not hasattr(function, "__code__") or function in seen:
            continue
        seen.add(function)
        names = _named(function.__code__)
        if names & _EVALUATE:
            return True
        left += [
            value
            for name in names
            for value in (getattr(dataset, name, None), function.__globals__.get(name))
            if value is not None
        ]
    return False


def _named(code: CodeType) -> set[str]:
    found = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            found |= _named(constant)
    return found


def is_plain(text: str) -> bool:
    """Whether a text, evaluated, can only compute: numbers, names, operators, lists, quoted words, and well-known
    functions.
    """
    if len(text) > 10_000:
        return False
    bare = _STRING.sub("''", text)
    if _CODE.search(bare) or _PREFIXED.search(bare):
        return False
    called = (_NUMBER.sub("", m[1], count=1) for m in _CALL.finditer(bare))
    return all(not name or _PLAIN.fullmatch(name) for name in called)


def candidates(response: str) -> list[str]:
    """What may be meant as the answer, without repetitions."""
    response = without_thinking(response)
    answer = final_answer(response)
    lines = [line.strip() for line in response.splitlines() if line.strip()]
    found = [response.strip(), *lines[-1:]]
    if answer is not None:
        line = first_line(answer)
        found += [answer, line, line.strip("*_`$ ").rstrip("."), line.rpartition("=")[2].strip("*_`$ ").rstrip(".")]
    return [c for c in dict.fromkeys(found) if c]
