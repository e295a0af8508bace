"""Local scorers: the answer is found wherever it stands, code is run inside a fence, and what cannot be judged has no
score.
"""

from __future__ import annotations

import json
import math
import string
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router.bench.scoring import SCORERS, scorer_named
from r2router.bench.scoring.choice import picked_letter
from r2router.bench.scoring.inside.program import units_of
from r2router.bench.scoring.numeric import answered_numbers
from r2router.bench.scoring.sandbox import SandboxLimits, isolation, run
from r2router.bench.suite import Query
from r2router.errors import DataError
from r2router.final_answer import final_answer

HUMANEVAL = Path(__file__).parents[1] / "../shared/questions/humaneval.jsonl"
needs_fence = pytest.mark.skipif(isolation() is None, reason="no sandbox works here")
QUICK = SandboxLimits(seconds=2)


def score(scorer: str, response: str, reference: str | None, text: str = "?", **meta: object) -> float | None:
    return scorer_named(scorer).score(Query(id="q", text=text, reference=reference, meta=meta), response).quality  # type: ignore[union-attr]


def test_every_scorer_is_known_by_its_name_and_others_are_refused() -> None:
    pytest.importorskip("reasoning_gym", reason="the [bench] extra is not installed")
    assert [scorer_named(name).name for name in SCORERS.names()] == SCORERS.names()
    with pytest.raises(DataError, match="no scorer 'numerc' .did you mean 'numeric'"):
        scorer_named("numerc")


@pytest.mark.parametrize("scorer", ["exact", "numeric", "choice", "math", "code"])
def test_without_a_reference_or_tests_there_is_no_score(scorer: str) -> None:
    made = scorer_named(scorer).score(Query(id="q", text="?"), "5")
    assert made.quality is None and made.error  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("response", "found"),
    [
        ("So the answer is 5.", "5."),
        ("The answer is 4. No: the final answer is\n7", "7"),
        ("**Answer:** Paris", "Paris"),
        ("The answer to the second question is: 8", "8"),
        ("thus \\boxed{\\frac{1}{2}} holds", "\\frac{1}{2}"),
        ("\\boxed{45", "45"),
        ("the answer is 3, so \\boxed{4}", "4"),
        ("steps\n#### 42", "42"),
        ("I would answer this later", None),
        ("the answer is", None),
    ],
)
def test_the_final_answer_is_found(response: str, found: str | None) -> None:
    assert final_answer(response) == found


# -- exact ----------------------------------------------------------------------------------------------------------


WORDS = st.text(string.ascii_letters + string.digits + " ", min_size=1).filter(str.strip)
WRAPPED = ["{}", " {}.", '"{}"', "**{}**", "The answer is {}.", "\\boxed{{\\text{{{}}}}}", "Answer:\n{}\nBecause."]


@given(WORDS, st.sampled_from(WRAPPED))
def test_exact_finds_the_reference_however_it_is_wrapped(reference: str, wrapping: str) -> None:
    assert score("exact", wrapping.format(reference.swapcase()), reference) == 1.0
    assert score("exact", wrapping.format(f"{reference} x"), reference) == 0.0


def test_exact_takes_the_first_sentence() -> None:
    assert score("exact", "Paris. It is the capital of France.", "Paris") == 1.0
    assert score("exact", "Not Paris", "Paris") == 0.0 and score("exact", "", "Paris") == 0.0
    assert score("exact", "<think>\nRome?\n</think>\nParis", "Paris") == 1.0


def test_exact_takes_no_mark_for_another() -> None:
    assert (
        score("exact", "()", "[]") == score("exact", "", "[]") == 0.0
        and score("exact", "The answer is []", "[]") == 1.0
    )


# -- numeric --------------------------------------------------------------------------------------------------------

WRITTEN = st.sampled_from(
    [
        "{}",
        "${}",
        "**{}**",
        "The answer is {}.",
        "First 3, then 9: {}",
        "\\boxed{{{}}}",
        "2 + 2 = {}",
        "#### {}",
        "Answer: 1 + 1 = {} apples",
    ]
)


@given(st.integers(-(10**9), 10**9), WRITTEN, st.booleans())
def test_whole_numbers_are_found_with_and_without_separators(number: int, written: str, separated: bool) -> None:
    response = written.format(f"{number:,}" if separated else number)
    assert score("numeric", response, str(number)) == 1.0
    assert score("numeric", response, str(number + 1)) == (
        1.0 if math.isclose(number, number + 1, rel_tol=1e-6) else 0.0
    )


@given(
    st.integers(-999, 999), st.integers(1, 99), st.sampled_from(["{0}/{1}", "\\frac{{{0}}}{{{1}}}", "{2}", "{2:.12e}"])
)
def test_fractions_and_decimals_are_the_same_number(top: int, bottom: int, form: str) -> None:
    response = "So the answer is " + form.format(top, bottom, top / bottom)
    assert score("numeric", response, f"{top}/{bottom}") == 1.0
    assert score("numeric", response, repr(float(Fraction(top, bottom) + 1))) == 0.0


@pytest.mark.parametrize(
    ("response", "reference", "right"),
    [
        ("50%", "0.5", 1.0), ("0.5", "50%", 1.0), ("50%", "50", 1.0), ("50%", "50%", 1.0), ("50%", "5%", 0.0), ("0.5%",
        "0.5", 1.0),
        ("5", "500", 0.0), ("0.05", "5", 0.0), ("2 1/2", "2.5", 1.0), ("1.5 \u00d7 10^3", "1500", 1.0), ("2e3", "2000",
        1.0),
        ("\u22125", "-5", 1.0), ("7-5", "5", 1.0), ("(1,2)", "2", 1.0), ("10,20", "20", 1.0), ("9/11/2001", "2001",
        1.0), ("1/0", "1", 0.0),
        ("nothing", "1", 0.0), ("", "1", 0.0), ("0.333", "1/3", 0.0), ("-\\frac{3}{4}", "-0.75", 1.0), ("1e999", "1",
        0.0),
        ("\\boxed{\\frac12}", "0.5", 1.0), ("\\dfrac34", "0.75", 1.0), ("\\frac10", "1", 0.0), ("10^6", "1000000", 1.0),
        ("10^7", "10^6", 0.0), ("2**10", "1024", 1.0), ("10^{-2}", "0.01", 1.0), ("9^999", "9", 0.0), ("90^{\\circ}",
        "90", 1.0),
        ("x_1 = 2", "2", 1.0), ("11_{2}", "11", 1.0), ("50 percent", "0.5", 1.0), ("\u20133", "-3", 1.0),
        ("2\u20133", "3", 1.0), ("10{,}080", "10080", 1.0), ("3\u00bd", "3.5", 1.0),
        ("The answer is 12 apples, not 15", "12", 1.0), ("The answer is not 4, it is 5", "5", 1.0),
        ("the final answer is 7. Wait, 8", "7", 1.0),
        ("<think>The answer is 8</think>7", "7", 1.0), ("<think>8\n</think>\nTherefore, the final answer is 7", "7",
        1.0),
        ("The answer is not a number. 7", "7", 1.0), ("x" * 50_000 + " 3", "3", 1.0), ("9" * 50_000, "3", 0.0),
    ],
)  # fmt: skip
def test_numbers_as_people_write_them(response: str, reference: str, right: float) -> None:
    assert score("numeric", response, reference) == right


@given(st.text(max_size=200))
def test_no_text_breaks_the_readers(text: str) -> None:
    numbers, letter = answered_numbers(text), picked_letter(text)
    assert all(math.isfinite(n.value) for n in numbers)
    assert letter is None or letter in string.ascii_uppercase[:10]


# -- choice ---------------------------------------------------------------------------------------------------------

PICKS = [
    "{}", "{}.", "({})", "**{}**", "The answer is ({}).", "The answer is {}", "Answer: {}", "**Answer: {}**",
    "\\boxed{{{}}}",
    "$\\boxed{{\\text{{{}}}}}$",
    "Final answer: **({})**", "The correct option is {}", "A dog barks, so it must be {}.",
    "I think that the right one is ({})",
    "A. one\nB. two\nC. three\nD. four\n\nThe correct choice is {}.",
    "Not (A), since it is wrong. The answer is {} because it fits.",
    "Let me see.\n\n{}\n", "{}. This is the text of the option", "Therefore, the final answer is {}.\nA is wrong.",
]  # fmt: skip


@pytest.mark.parametrize("letter", list("ABCDJ"))
@pytest.mark.parametrize("form", PICKS)
def test_the_picked_letter_is_found(form: str, letter: str) -> None:
    assert picked_letter(form.format(letter)) == letter
    assert score("choice", form.format(letter), f"({letter})") == 1.0


@pytest.mark.parametrize(
    "response",
    ["", "A dog", "I do not know.", "I am not sure", "a cat", "Answer: A good question", "None of these", "It's 5"],
)
def test_an_article_is_no_answer(response: str) -> None:
    assert picked_letter(response) is None


def test_a_reference_beyond_the_options_cannot_be_compared_with() -> None:
    made = scorer_named("choice").score(Query(id="q", text="?", reference="z", meta={"options": ["x", "y"]}), "z")
    assert made.quality is None and "none of the 2 options" in (made.error or "")  # type: ignore[union-attr]


def test_letters_beyond_the_options_do_not_count_and_an_option_may_be_named_by_its_text() -> None:
    assert picked_letter("Vitamin C helps, so (B)", "AB") == "B"
    assert picked_letter("Vitamin C", "AB") is None
    assert score("choice", "It is the cat.", "B", options=["dog", "cat"]) == 1.0
    assert score("choice", "cat or dog", "B", options=["dog", "cat"]) == 0.0
    assert score("choice", "b", "B") == 1.0 and score("choice", "(b)", "B") == 1.0
    assert score("choice", "B", "Paris") is None


# -- math -----------------------------------------------------------------------------------------------------------


@needs_fence
@pytest.mark.parametrize(
    ("response", "reference", "right"),
    [
        ("\\boxed{\\pi/4}", "\\frac{\\pi}{4}", 1.0), ("\\boxed{1+2x}", "2x+1", 1.0), ("The answer is $(3, 4)$.",
        "(3,4)", 1.0),
        ("\\boxed{(4,3)}", "(3,4)", 0.0), ("\\boxed{[1,2]}", "[1,2)", 0.0), ("\\boxed{3}", "\\sqrt{3}", 0.0),
        ("The answer is \\sqrt{3}.", "\\sqrt{3}", 1.0),
        ("The answer is 0.75", "\\frac{3}{4}", 1.0), ("", "x^2", 0.0), ("<think>\\boxed{x^2}", "x^2", 0.0),
        ("\\boxed{x^{9^{9^{9^9}}}}", "x^2", 0.0),
        ("__import__('os').system('exit')", "x^2", 0.0), ("(" * 5000, "x^2", 0.0),
    ],
)  # fmt: skip
def test_formulas_are_compared_by_their_meaning(response: str, reference: str, right: float) -> None:
    pytest.importorskip("math_verify", reason="the [bench] extra is not installed")
    assert score("math", response, reference) == right


# -- code -----------------------------------------------------------------------------------------------------------

TEST = "def check(f):\n    assert f(2) == 4\n    assert f(-1) == 1\n"
QUESTION = 'import math\n\n\ndef square(x):\n    """The square of x."""\n'


@needs_fence
@pytest.mark.parametrize(
    ("response", "right"),
    [
        ("```python\ndef square(x):\n    return x * x\n```", 1.0),
        ("First:\n```python\nprint(1)\n```\nthen\n```\ndef square(x):\n    return x**2\n```\nDone.", 1.0),
        ("    return x * x\n", 1.0),
        ("return int(math.pow(x, 2))", 1.0),
        ("def square(x):\n    return int(math.pow(x, 2))", 1.0),
        ("square = lambda x: x * x", 1.0),
        ("```python\ndef square(x):\n    return x + x\n```", 0.0),
        ("    raise SystemExit(0)", 0.0),
        ("    import os; os._exit(0)", 0.0),
        ("I cannot do this", 0.0),
        ("", 0.0),
    ],
)
def test_code_passes_its_tests_or_not(response: str, right: float) -> None:
    assert score("code", response, None, QUESTION, test=TEST, entry_point="square") == right


@needs_fence
@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import socket\nsocket.create_connection(('127.0.0.1', 22), 1)", "unreachable|refused"),
        ("while True: pass", "limit|not done"),
        ("import time; time.sleep(60)", "not done"),
        ("x = bytearray(10**10)", "MemoryError"),
        ("open('f', 'w').write('x' * 10**8)", "too large"),
        ("import os\nassert 'A_KEY' not in os.environ\nraise ValueError('seen')", "ValueError: seen"),
        ("raise SystemExit(0)", "before its tests"),
    ],
)
def test_the_fence_holds(program: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import re

    monkeypatch.setenv("A_KEY", "secret")
    ran = run(program, QUICK)
    assert not ran.finished and re.search(why, ran.why), ran


@needs_fence
@pytest.mark.skipif(not HUMANEVAL.exists(), reason="../shared/questions is not here")
def test_humaneval_solutions_pass_and_others_do_not() -> None:
    rows = [json.loads(line) for line in HUMANEVAL.read_text().splitlines()]
    assert all(units_of(r["question"], r["answer"], r["entry_point"], r["test"]) for r in rows)
    for row in rows[::20]:
        meta = {"test": row["test"], "entry_point": row["entry_point"]}
        assert score("code", row["answer"], None, row["question"], **meta) == 1.0, row["id"]
        assert score("code", "    return None", None, row["question"], **meta) == 0.0, row["id"]
