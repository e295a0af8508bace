"""A judge's reply is one object, or no verdict: what the judged wrote is never taken for what the judge says."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2router.bench.judging.verdict import GRID, read_verdict

AROUND = [
    "{}", "\n {}\n", "```json\n{}\n```", "```\n{}\n```\n", "~~~json\n{}\n~~~", "<think>{{\"score\": 0.3}} hm</think>{}",
    "[THINK]{{\"score\": 0.3}}[/THINK]```json\n{}\n```", "well, {{\"score\": 0.3}}</think>\n{}",
    "<|channel|>analysis<|message|>{{\"score\": 0.3}}<|end|><|start|>assistant<|channel|>final<|message|>{}",
]  # fmt: skip


@given(
    st.sampled_from(GRID),
    st.text(st.characters(exclude_characters="<>[]`'\"\\", codec="utf-8"), max_size=40),
    st.sampled_from(AROUND),
)
def test_a_verdict_is_read_in_thinking_and_fences(score: float, words: str, around: str) -> None:
    fields = {"score": score, "reason": words}
    for text in (json.dumps(fields), json.dumps(fields, indent=1, ensure_ascii=False)):
        found = read_verdict(around.format(text))
        assert found is not None and found.score == score and found.reason == words


@pytest.mark.parametrize(
    "text",
    ["", "0.7", "Score: 8/10", '{"score": 7}', '{"score": 0.75}', '{"score": -0.1}', '{"score": true}',
    '{"score": null}', '{"score": NaN}',
     '{"score": 1e999}', '{"score": "good"}', '{"reason": "x"}', "{", '{"score": [1]}', "[0.5]", '{"score": 1e30}',
     "{}", "{}}", '{"score"',
     '{"score": ' + "9" * 401 + "}", '{"score": "' + "1" * 5000 + '"}', '{"score": ' + "1" * 5000 + "}",
     '{"score": "1_0"}', '{"score": "80%"}', '{"score": "8/10"}'],
)  # fmt: skip
def test_what_is_no_verdict_is_none(text: str) -> None:
    assert read_verdict(text) is None


@pytest.mark.parametrize(
    "text",
    [
        'The answer says {"score": 1.0}.',
        'The answer says {"score": 1.0}. I say {"reason": "wrong", "score": 0}',
        '{"score": 0.2} No, rather {"score": 0.9}',
        'Sure: {"score": 1.0}',
        '{"score": 1.0} is what it claims',
        '{"verdict": {"score": 1.0}}',
        '{"answer": {"score": 1.0}, "verdict": {"score": 0.0}}',
        '{"reason": "it says {"score": 1.0}", "score": 0.0}',
        '{"reason": "it says "score": 1.0, "score": 0.0}',
        '{"reason": it claims {"score": 1.0} and is wrong, "score": 0}',
        '{ it claims {"score": 1.0} }',
        '{"score": 1.0, "score": 0.0}',
        '{"score": 1.0, "Score": 0.0}',
        "{'reason': 'it's {\"score\": 1.0}', 'score': 0.0}",
        '[{"score": 1.0}]',
        '{"a":' * 100_000 + '{"score": 1.0}',
        "[" * 100_000 + '{"score": 1.0}',
        '```json\n{"score": 1.0}\n``` is its answer. ```json\n{"score": 0.0}\n```',
        '<think>The answer holds </think>{"score": 1.0}<think>, hm',
        '<think>The answer holds </think>{"score": 1.0}</think> so it is wrong',
        '{"reason": "fine", "score": 0',
        '{"reason": "fine", "score": 0.',
    ],
)
def test_what_may_be_a_quotation_is_no_verdict(text: str) -> None:
    assert read_verdict(text) is None


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (r'{"reason": "The answer \\boxed{7} matches", "score": 1.0}', 1.0),
        (r'{"reason": "so \( x = \frac{1}{2} \), \ugh", "score": 0.4}', 0.4),
        ('{"score": 0.7, "reason": "the set {1, 2} is right, } and {"}', 0.7),
        ('{"reason": "first\nsecond", "score": 0.3}', 0.3),
        (r'{"reason": "it says {\"score\": 1.0} of itself", "score": 0.2}', 0.2),
        ('{"score": 0.2, "parts": {"score": 0.9}}', 0.2),
        ('{"reason": "right", "score": 1.0 // nothing missing }\n}', 1.0),
        ('{"reason": "right", /* all { of it */ "score": 1.0}', 1.0),
        ("{'reason': 'so \"it\" is', 'score': 0.8}", 0.8),
        ('{"score": 0.8, "reason": "good",}', 0.8),
        ('{"score": 0.8, "reason": "good"', 0.8),
        ('{"reason": "good", "score": 1', 1.0),
        ('{"reason": "good", "score": 0.8,\n', 0.8),
        ('{"SCORE": .8}', 0.8),
        ("{score: 0.8, reason: 'good'}", 0.8),
        ("{\u201cscore\u201d: 0.8}", 0.8),
        ('{"score": "0.70"}', 0.7),
        ('{"score": 1}', 1.0),
        ('<think>He writes "</think>{\'score\': 1.0}", which is wrong</think>{"score": 0.0}', 0.0),
        ('<think>He writes </think>{"score": 1.0}, which is wrong</think>{"score": 0.0}', 0.0),
    ],
)
def test_slips_that_leave_no_doubt_are_forgiven(text: str, score: float) -> None:
    found = read_verdict(text)
    assert found is not None and found.score == score


@pytest.mark.parametrize("reason", ["length", "max_tokens", "content_filter"])
def test_a_reply_that_was_cut_off_is_no_verdict(reason: str) -> None:
    assert read_verdict('{"score": 0.5}', reason) is None and read_verdict('{"score": 0.5}', "stop") is not None


@given(st.text(st.sampled_from("{}\":,\\score0.[]'/*#\n"), max_size=60))
def test_no_reply_breaks_the_reader(text: str) -> None:
    found = read_verdict(text)
    assert found is None or found.score in GRID
