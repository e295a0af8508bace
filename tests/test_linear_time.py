"""What an LLM writes is read in time that grows with its length, whatever it writes: a text four times as long takes
about four times.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from r2router.bench.judging.verdict import read_verdict
from r2router.bench.scoring import scorer_named
from r2router.bench.scoring.verifier import is_plain
from r2router.bench.suite import Query
from r2router.bench.thinking import split_thinking
from r2router.cascade.signals import numbers_of, value_of
from r2router.gateway.failover import wait_of
from r2router.upstream.endpoint import Mask
from r2router.upstream.wire import said

FRAGMENTS = [
    "\n", " ", "\t", "*", "_", "#", "####", "answer", "answer is ", "Answer:", "is not ", "but ", "A", "B", "(A)",
    "A. ", "a", "I",
    "1", "9", ",", ".", "'", "1,2", "1/", "^", "=", "-", "+", "\\frac{", "\\boxed{", "{", "}", "(", ")", "[", "$",
    "\\sqrt", "\\text{",
    "\\pi", "%", "or ", "so ", "correct ", "apples ", "problem, ", "<think>", "</think>", "<", "</", "[THINK]",
    "<|channel|>", "final", "<|message|>",
    "<|end|>", "assistantfinal", "```", "<answer>", "</answer>", "\"", "{\"score\": ", "\"reason\"", "0.5", "//", "/*",
    "#", "\\",
    "\u202f", "~~~",
]  # fmt: skip
QUERY = Query(id="q", text="?", reference="7", meta={"options": ["A cat", "a 1", "B."]})
LETTER = Query(id="q", text="?", reference="B", meta={"options": ["A cat", "a 1", "B."]})
READERS: dict[str, Callable[[str], object]] = {
    "numeric": lambda text: scorer_named("numeric").score(QUERY, text),
    "exact": lambda text: scorer_named("exact").score(QUERY, text),
    "choice": lambda text: scorer_named("choice").score(LETTER, text),
    "thinking": split_thinking,
    "verdict": read_verdict,
    "plain expressions": lambda text: [is_plain(text[at : at + 9_000]) for at in range(0, len(text), 9_000)],
    "keys": lambda text: Mask("sk-proj-" + "a1" * 20).pieces([text]),
    "errors": lambda text: (said(text.encode()), wait_of({}, text.encode())),
    "evidence": lambda text: (numbers_of(frozenset(), text, 1.0, 1.0, ""), value_of(text)),
}
HEADS = st.sampled_from(["", "analysis", "{", "<think>", "The answer is ", "{'a': ", "\\boxed{"])
TAILS = st.sampled_from(["", " 7", " 7x", "} 7x", " is 7x + 1}", "\nB", " or A"])
SHORT, TIMES = 8_000, 8


def seconds(reader: Callable[[str], object], text: str) -> float:
    taken = []
    for _ in range(3):
        begin = time.thread_time()
        reader(text)
        taken.append(time.thread_time() - begin)
    return min(taken)


@pytest.mark.parametrize("name", list(READERS))
@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=4),
    HEADS,
    TAILS,
)
@example(["\n"], "", "")
@example(["\n"], "The answer is ", "")
@example(["<think>"], "", "")
@example(["answer: "], "", "")
@example(["\\boxed{"], "", "")
def test_time_grows_with_the_length(name: str, parts: list[str], head: str, tail: str) -> None:
    unit, reader = "".join(parts), READERS[name]
    short, long = (head + unit * (length // len(unit)) + tail for length in (SHORT, TIMES * SHORT))
    # quadratic is 64 times; a fixed part and a slow machine are allowed for
    assert seconds(reader, long) < 3 * TIMES * seconds(reader, short) + 0.02, (head, unit, tail)
