"""Answers in many phrasings: where they stand, and what of them is a number, a letter, or a word."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router.bench.scoring import scorer_named
from r2router.bench.scoring.choice import picked_letter
from r2router.bench.scoring.numeric import reference_number
from r2router.bench.suite import Query
from r2router.final_answer import final_answer


def score(scorer: str, response: str, reference: str, **meta: object) -> float | None:
    return scorer_named(scorer).score(Query(id="q", text="?", reference=reference, meta=meta), response).quality  # type: ignore[union-attr]


MARKED = [
    "The answer should be {}", "My answer would be {}, I think", "The answer must be: **{}**",
    "The correct answer is clearly {}",
    "The answer, therefore, is {}", "Answer seems to be {}.", "Final answer \u2013 {}", "Final answer \u2014 {}",
    "Answer - {}",
    "Answer: {}", "### Final Answer\n\n{}", "**Answer**\n\n{}", "## Answer:\n{}", "**Final Answer:**\n\n{}",
    "Final answer\n{}",
    "{{\"answer\": \"{}\"}}", "<answer>{}</answer>", "The answer is not 99 but {}.", "The answer turns out to be {}",
    "The answer that I get is {}", "Answer (final): {}", "The answer is thus {}.", "The answer to the question is {}",
    "\\boxed{{{}}}",
    "\\boxed {{{}}}", "$$\\boxed{{{}}}$$", "Answer \u2192 {}", "The answer = {}", "The answer comes to {}",
]  # fmt: skip


@pytest.mark.parametrize("mark", MARKED)
@pytest.mark.parametrize("behind", ["", "\n\n99 was close.", "\n(99 is another)"])
def test_the_mark_of_an_answer_is_known_in_many_phrasings(mark: str, behind: str) -> None:
    text = f"First 99.\n\n{mark.format('17')}{behind}"
    assert score("numeric", text, "17") == 1.0 and score("numeric", text, "99") == 0.0
    letter = f"A or D?\n\n{mark.format('B').replace('99', 'A')}{behind.replace('99', 'D')}"
    assert score("choice", letter, "B") == 1.0, letter


def test_a_reason_behind_the_answer_is_passed_over() -> None:
    assert (
        score("numeric", "Answer: x=12, since 2x=24", "12")
        == 1.0
        == score("numeric", "The answer is 5 because 5 + 3 = 8", "5")
    )


def test_a_heading_of_four_hashes_is_no_answer() -> None:
    assert final_answer("#### Step 3: multiply\nso 15") is None and final_answer("x\n#### 42\n") == "42"
    assert score("numeric", "#### Step 2: add\n\n5 + 6 = 11", "11") == 1.0


@pytest.mark.parametrize(("response", "reference", "right"), [
    ("\\boxed{\\sqrt{64}}", "8", 1.0), ("\\boxed{2\\sqrt{3}}", "2", 0.0), ("The answer is 2x + 1", "2", 0.0),
    ("The answer is 3n", "3", 0.0), ("The answer is 5 or 6", "5", 0.0), ("The answer is 5 to 6", "5", 0.0),
    ("\\boxed{(3,4)}", "3", 0.0), ("\\boxed{[1,2]}", "1", 0.0), ("\\boxed{x=5}", "5", 1.0), ("$x = 5$", "5", 1.0),
    ("The answer is 2 million", "2000000", 1.0), ("The answer is 12 345", "12345", 1.0), ("The answer is 12 345", "12",
    0.0),
    ("The answer is 1.234.567", "1234567", 1.0), ("The answer is 12.345,67 euros", "12345.67", 1.0),
    ("The answer is 5km", "5", 1.0),
    ("The answer is 5 m/s", "5", 1.0), ("The answer is 5 m^2.", "5", 1.0), ("The answer is $18 per day", "18", 1.0),
    ("**Answer: $18**", "18", 1.0), ("The answer is 3+4i", "3", 0.0), ("\\boxed{3i}", "3", 0.0),
    ("\\boxed{\\pi}", "3.14159265358979", 1.0), ("2+2 = 4", "4", 1.0), ("\\boxed{2 + 3}", "5", 1.0), ("\\boxed{2 + 3}",
    "2", 0.0),
    ("The answer is 3:4", "3", 0.0), ("The answer is 10:30", "10", 0.0), ("\\boxed{3 \\pm 2}", "3", 0.0),
    ("\\boxed{x > 3}", "3", 0.0),
    ("\\boxed{1\\text{ or }2}", "1", 0.0), ("\\boxed{5!}", "120", 1.0), ("The answer is 5!", "5", 1.0),
    ("\\boxed{\\frac{3\\sqrt{2}}{2}}", "3", 0.0), ("\\boxed{\\frac{x}{2}}", "2", 0.0), ("\\boxed{\\log 5}", "5", 0.0),
    ("\\boxed{3^{2}}", "9", 1.0), ("\\boxed{\\$5.00}", "5", 1.0), ("\\boxed{50\\%}", "50", 1.0),
    ("\\boxed{3\\frac{1}{2}}", "3.5", 1.0), ("The total is 5 for H2O", "5", 1.0), ("So the value is 2x+1", "1", 0.0),
    ("\\boxed{8\\sqrt{x}}", "8", 0.0), ("\\boxed{5\\text{ km/h}}", "5", 1.0), ("\\boxed{5 \\text{ m}^3}", "5", 1.0),
    ("\\boxed{-3}", "-3", 1.0), ("\\boxed{-\\frac{1}{2}}", "-0.5", 1.0), ("The answer is \\(\\frac{1}{2}\\).", "0.5",
    1.0),
    ("The answer is $\\frac{1}{2}$ of the cake", "0.5", 1.0), ("Answer: -5", "-5", 1.0), ("Answer: \u22125", "-5", 1.0),
    ("The answer is approximately 3.14", "3.14", 1.0), ("The answer is 70k", "70000", 1.0), ("\\boxed{1,000,000}",
    "1000000", 1.0),
    ("\\boxed{12\\,345}", "12345", 1.0), ("\\boxed{x^2}", "2", 0.0), ("\\boxed{\\text{five}}", "5", 0.0),
    ("\\boxed{5}^\\circ", "5", 1.0), ("The answer is 1/3 \u2248 0.333", "1/3", 1.0), ("= 1/3 \\approx 0.333", "0.333",
    1.0),
    ("The answer is 5(x+1)", "5", 0.0), ("\\boxed{5(2)}", "10", 1.0), ("\\boxed{(5)}", "5", 1.0),
    ("\\boxed{1.5 \\times 10^{3}}", "1500", 1.0), ("The answer is 5.", "5", 1.0), ("The answer is 17, 3 fell", "17",
    1.0),
    ("The answer is 17 \u2013 because 3 fell", "17", 1.0), ("the answer is \\$1{,}234.50", "1234.5", 1.0),
    ("The answer is 2pi", "2", 0.0), ("The answer is 3x", "3", 0.0),
])  # fmt: skip
def test_an_expression_is_not_its_first_number(response: str, reference: str, right: float) -> None:
    assert score("numeric", response, reference) == right


@pytest.mark.parametrize(("reference", "value"), [
        ("(3,4)", None), ("x \\in [-2,7]", None), ("1 \\pm \\sqrt{19}", None), ("864 \\mbox{ inches}^2", 864),
        ("10,\\!080", 10080),
        ("\\sqrt{3}", None), ("2x+1", None), ("(0,\\infty)", None), ("\\{1,2\\}", None), ("x=3 or x=5", None),
        ("3 or 5", None),
        ("\\frac{\\pi}{4}", None), ("2\\pi", None), ("1, 2", None), ("5 apples", 5), ("$70,000", 70000),
        ("5 apples and 3 pears", None),
        ("-\\frac{1}{2}", -.5), ("#### 18", 18), ("90^\\circ", 90), ("50\\%", 50), ("1/2", .5), ("3 to 5", None),
        ("between 3 and 4", None), ("2^{1/2}", None), ("2^{10}", 1024), ("[2,5)", None), ("x^2", None), ("3i", None),
        ("2+3i", None),
        ("\\text{(C)}", None), ("5\\text{ cm}", 5), ("11_2", 11), ("12.5", 12.5), ("x < 3", None), ("3:4", None), ("-7",
        -7),
        ("1.5e3", 1500), ("\\$32,348", 32348), ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", None), ("4 - 2\\sqrt{2}", None),
        ("72^{\\circ}", 72), ("\\frac{3}{4}", .75), ("18.90", 18.9), ("(5)", 5), ("1{,}000", 1000), ("12 345", None),
        ("120 square meters", 120), ("-\\frac{35}{9}", -35/9), ("\\frac 59", 5/9), ("6 + 9i", None), ("\\ln 2", None),
        ("y = 2x", None),
        ("x = 5", 5), ("0", 0), ("3 - 5", -2), ("2004", 2004), ("10:30", None), ("9/11/2001", None),
])  # fmt: skip
def test_a_reference_is_a_number_or_none(reference: str, value: float | None) -> None:
    found = reference_number(reference)
    assert (None if found is None else found.value) == (None if value is None else pytest.approx(value))


@given(
    st.integers(0, 10**10),
    st.sampled_from([",", "\u202f", "\u00a0", "\u2009", "'", "\u2019", "_", "\\,", "\\ ", "{,}", " "]),
    st.sampled_from(["{}", "{}.", "{} km", "${}$", "**{}**"]),
)
def test_thousands_are_separated_in_many_ways(number: int, separator: str, form: str) -> None:
    written = f"{number:,}".replace(",", separator)
    assert score("numeric", f"The answer is {form.format(written)}", str(number)) == 1.0
    if number >= 1000:
        assert score("numeric", f"The answer is {form.format(written)}", written.split(separator)[0]) == 0.0


@pytest.mark.parametrize(("response", "number", "right"), [
    ("1 234", "1234", 1), ("12 345 km", "12345", 1), ("12 345 km", "345", 0), ("I counted 3, then 12", "12", 1),
    ("12 34", "34", 1),
])  # fmt: skip
def test_an_answer_without_a_mark_may_have_common_spaces(response: str, number: str, right: float) -> None:
    assert score("numeric", response, number) == right


@given(st.integers(-99, 99), st.integers(-99, 99), st.integers(1, 20))
def test_a_sum_and_a_product_have_a_value(a: int, b: int, c: int) -> None:
    box = "\\boxed{%s}"
    assert score("numeric", box % f"{a} + {b}".replace("+ -", "- "), str(a + b)) == 1.0
    assert score("numeric", box % f"{a} \\cdot {c}", str(a * c)) == 1.0
    assert score("numeric", box % f"\\frac{{{a}}}{{{c}}} - {c}", repr(a / c - c)) == 1.0
    assert score("numeric", box % f"{a}x", str(a)) == 0.0


@pytest.mark.parametrize(("response", "letter"), [
    ("It is either A or B.", None), ("The answer is A or B", None), ("The answer is A and C.", None), ("Answer: both",
    None),
    ("The correct option would be (C), since A fails.", "C"), ("I'd go with B. A seems off.", "B"),
    ("B is right. A is not correct.", "B"), ("A is incorrect. B is correct.", "B"),
    ("A is not the correct answer; C is.", "C"),
    ("Option A is correct, option B is correct, hence D", "D"), ("(B) because (A) is wrong", "B"),
    ("B. Because it is not A", "B"),
    ("B) 42", "B"), ("A. one\nB. two\nSo it's B", "B"), ("So the one that fits is C.", "C"),
    ("A: no. B: no. C: no. Leaves D.", "D"),
    ("The answer is **C**\n\nA is wrong.", "C"), ("Final Answer: C) 42", "C"), ("### Answer\nC", "C"), ("answer: c",
    "C"),
    ("The answer is C, not B.", "C"), ("The answer isn't B; it is C.", "C"), ("The answer is not B, it is C.", "C"),
    ("The answer is not B. It is C.", "C"), ("{\"answer\": \"C\"}", "C"), ("<answer>C</answer>", "C"),
    ("\\boxed{\\text{C}}", "C"),
    ("My choice: C", "C"), ("I think A is the best answer", "A"), ("Answer: A", "A"), ("Answer: A.", "A"),
    ("A good question. The answer must be D", "D"), ("Both A and B are wrong, so C", "C"),
    ("The best answer is D: none of these.", "D"), ("Choice (C).", "C"), ("**C. Paris**", "C"), ("C", "C"), ("(c)",
    "C"),
    ("I would answer B", "B"), ("C++ is best", None), ("I am", None), ("Answer: Option B", "B"),
    ("The answer is option (B).", "B"),
    ("The answer is the second option, B.", "B"), ("The correct answer: B", "B"), ("Correct answer \u2013 B", "B"),
    ("B is the answer.", "B"), ("The answer is B \u2013 A is close", "B"), ("Looking at A, B and C, we see that only D",
    "D"),
    ("\\boxed{B}\n\nBecause (A) is wrong", "B"), ("The answer is $\\boxed{\\text{(B)}}$", "B"),
    ("A is the wrong choice, so is B; the answer: C", "C"),
    ("The answer is \uff23.", "C"), ("\u7b54\u6848\uff1a\uff08\uff23\uff09", "C"),
])  # fmt: skip
def test_what_is_said_of_a_letter_counts(response: str, letter: str | None) -> None:
    assert picked_letter(response, "ABCD") == letter


@pytest.mark.parametrize(("response", "options", "letter"), [
    ("The answer is A cat.", ["A dog", "A cat"], "B"), ("Answer: a mammal", ["A fish", "A mammal"], "B"),
    ("A cat", ["A dog", "A cat"], "B"), ("The answer is A Well-Known Dog!", ["A cat", "A well-known dog"], "B"),
    ("The answer is B", ["B", "A"], "B"), ("The answer is Paris.", ["Rome", "Paris"], "B"), ("The answer is C++", ["C",
    "C++"], "B"),
    ("It's C#.", ["C++", "C#"], "B"), ("The answer is (A) A dog", ["A dog", "A cat"], "A"),
    ("The answer is A. A dog", ["A dog", "A cat"], "A"), ("The answer is A: A dog", ["A dog", "A cat"], "A"),
    ("The answer is A", ["A dog", "A cat"], "A"), ("The answer is A, a dog", ["A dog", "A cat"], "A"),
    ("I say A well-fed cat", ["A thin cat", "A well-fed cat"], "B"),
    ("Answer: I think therefore I am", ["No", "I think therefore I am"], "B"),
    ("The capital is Paris, not London.", ["London", "Paris"], "B"), ("It is Paris rather than London", ["London",
    "Paris"], "B"),
    ("London or Paris", ["London", "Paris"], None), ("The answer is a cat or a dog", ["A dog", "A cat"], None),
    ("The answer is A cat and A dog", ["A dog", "A cat"], None), ("The answer is a cat and nothing else", ["A dog",
    "A cat"], "B"),
])  # fmt: skip
def test_an_option_may_be_named_by_its_text(response: str, options: list[str], letter: str | None) -> None:
    assert picked_letter(response, string.ascii_uppercase[: len(options)], options) == letter


@pytest.mark.parametrize(
    ("response", "reference", "right"),
    [
        ("C++", "C", 0), ("C#", "C", 0), ("C", "C++", 0), ("C++", "c++", 1), ("The answer is C#.", "C#", 1), ("5", ".5",
        0),
        (".5", "5", 0), ("5", "5!", 0), ("50%", "50", 0), ("-5", "5", 0), ("$5", "5", 0), ("$5$", "5", 1), ("5.", "5",
        1),
        ("Yes!", "yes", 1), ("`f(x)`", "f(x)", 1), ("(Paris)", "Paris", 1), ("\u00abParis\u00bb", "Paris", 1),
        ("\u201cParis\u201d", "Paris", 1), ("- Paris", "Paris", 1), ("[1, 2]", "1, 2", 0), ("(1, 2)", "1, 2", 0),
        ("[1, 2]", "[1, 2]", 1), ("caf\u00e9", "cafe\u0301", 1), ("don\u2019t", "don't", 1), ("1939\u20131945",
        "1939-1945", 1),
        ("Paris", "**Paris**", 1), ("x\u00b2", "x2", 0), ("Paris", "Paris is big\n#### Paris", 1), ("C++ is it", "C++",
        0),
        ("@home", "home", 0), ("~5", "5", 0), ("&", "and", 0), ("", "x", 0), ("a/b", "ab", 0),
        ("A", "A*", 0), ("A*", "A", 0), ("A*", "A*", 1), ("**Answer: Paris**", "Paris", 1), ("co\u2011op", "co-op", 1),
    ],
)  # fmt: skip
def test_marks_that_are_part_of_the_answer_stay(response: str, reference: str, right: float) -> None:
    assert score("exact", response, reference) == right


@pytest.mark.parametrize("scorer", ["numeric", "choice", "exact"])
@pytest.mark.parametrize(
    "response",
    [
        "<think>The answer is B, 7",
        "[THINK]\nThe answer is 7. B",
        "<|channel|>analysis<|message|>B 7",
        "<reasoning>7 B",
        "analysisWe get 7 B",
    ],
)
def test_an_answer_that_never_came_is_worth_nothing(scorer: str, response: str) -> None:
    assert score(scorer, response, "B" if scorer == "choice" else "7") == 0.0
