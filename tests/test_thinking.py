"""What is thinking is told from what is the answer, in every notation that endpoints leave in a text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from r2router.bench.thinking import split_thinking, without_thinking

PAIRS = [
    ("<think>", "</think>"), ("<thinking>", "</thinking>"), ("<THINK>", "</THINK>"), ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"), ("<reason>", "</reason>"), ("<analysis>", "</analysis>"), ("<scratchpad>",
    "</scratchpad>"),
    ("<seed:think>", "</seed:think>"), ("<ant:thinking>", "</ant:thinking>"), ("<inner_monologue>",
    "</inner_monologue>"),
    ("[THINK]", "[/THINK]"), ("<|think|>", "<|/think|>"), ("<|think|>", "</|think|>"), ("\u25c1think\u25b7",
    "\u25c1/think\u25b7"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"), ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"), ("<unused94>thought\n", "<unused95>"), ("<|channel>thought\n",
    "<channel|>"),
    ("<think budget=\"9\">", "</think>"), ("<thinking>a<reflection>b</reflection>c", "</thinking>"), ("<think><think>",
    "</think>"),
    ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    ("<|start|>assistant<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>"),
    ("<|channel|>commentary<|message|>", "<|channel|>final<|message|>"), ("analysisWe see: ", "assistantfinal"),
    ("Here is my thought process:", "Here is my response:"), ("```thinking\n", "\n```\n"),
]  # fmt: skip
WORDS = st.text("ab7 .\n,", max_size=40)


@pytest.mark.parametrize(("begin", "end"), PAIRS)
@settings(max_examples=20)
@given(thought=WORDS, answer=WORDS)
def test_closed_thinking_is_no_answer_and_open_thinking_leaves_none(
    begin: str, end: str, thought: str, answer: str
) -> None:
    closed = split_thinking(f"{begin}{thought}{end}{answer}")
    assert (closed.answer, closed.thought) == (answer, True)
    assert without_thinking(f"{begin}{thought}") == "" and split_thinking(f"\n{begin}{thought}").cut


@given(
    st.text(st.characters(exclude_characters="<[\u25c1")).filter(
        lambda t: not t.lstrip().startswith(("analysis", "```", "Here"))
    )
)
def test_a_text_without_marks_is_its_answer(text: str) -> None:
    assert split_thinking(text).answer == text and not split_thinking(text).thought


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("maybe 8</think>7", "7"),
        ("<think>the tag </think> is a tag, so 8</think>7", "7"),
        ("<think>a</think>It is 7.<think>really?</think> Yes.", "It is 7. Yes."),
        ("<think>8</think>\n<answer>7</answer>\n", "7"),
        ("<|START_THINKING|>8<|END_THINKING|><|START_RESPONSE|>7<|END_RESPONSE|>", "7"),
        ("<|begin_of_thought|>8<|end_of_thought|><|begin_of_solution|>7<|end_of_solution|>", "7"),
        ("<|channel|>final<|message|>7<|return|>", "7"),
        ("<|channel|>analysis<|message|>8<|end|>", ""),
        ("<|channel|>analysis", ""),
        ("<think>8</thinking>7", "7"),
        ("<think></think>7", "7"),
        ("<think>a</think>b<think>c", "b"),
        ("<thinking>a<reflection>b</reflection> so 8", ""),
        ("It is 7 <think>or 8", "It is 7 "),
    ],
)
def test_where_the_answer_stands(text: str, answer: str) -> None:
    assert without_thinking(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "Remove it with `</think>` and `<think>`.",
        'import re\nre.sub(r"<think>.*?</think>", "", text)',
        "text.split('</think>')[1]",
        "print('<think>' + text + \"</think>\")",
        "gpt-oss writes `<|channel|>analysis` before it answers",
        "analysis of the text shows 7",
        "[Analysis] it is 7",
        "if a<think and b>c: pass",
        "<summary>7</summary>",
    ],
)
def test_a_mention_is_no_mark(text: str) -> None:
    assert split_thinking(text).answer == text and not split_thinking(text).thought
