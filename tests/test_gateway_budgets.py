"""Whose length settings reach the provider, and in which words."""

from __future__ import annotations

from typing import Any

import pytest

from r2router.gateway.budgets import callers, under
from r2router.gateway.conversation import Ceilings
from r2router.gateway.dialects import DIALECTS
from r2router.gateway.splice import Members
from r2router.types import Enforcement, Provider

CHAT, RESPONSES, MESSAGES = DIALECTS[:3]
LEVELS = ("low", "medium", "high")


def provider(dialect: Any = "openai", url: str = "http://127.0.0.1:1/v1") -> Provider:
    return Provider(base_url=url, dialect=dialect)


@pytest.mark.parametrize(
    ("ours", "theirs", "effort"),
    [
        ("high", "low", "low"), ("low", "high", "low"), ("medium", "minimal", "low"), ("high", "xhigh", "high"),
        ("high", "none", "low"),
        ("medium", None, "medium"), ("medium", "extreme", "medium"), ("high", "medium", "medium"),
    ],
)  # fmt: skip
def test_the_lower_effort_counts_as_one_that_the_model_has(ours: str, theirs: str | None, effort: str) -> None:
    found, source = under(Enforcement(effort=ours), Ceilings(effort=theirs), LEVELS, 4096, "openai")
    assert found.effort == effort
    assert source == ("router" if effort == ours else "caller")


@pytest.mark.parametrize(
    ("ours", "theirs", "cap", "found"),
    [
        (4096, None, None, 4096), (4096, 2048, None, 2048), (1024, 9999, None, 1024), (4096, 0, None, 0), (4096, None,
        3000, 1500),
        (4096, None, 1000, 0), (4096, None, 8000, 4000), (4096, None, 9000, 4096),
    ],
)  # fmt: skip
def test_thinking_leaves_room_for_the_answer(ours: int, theirs: int | None, cap: int | None, found: int) -> None:
    sent, _ = under(Enforcement(thinking_tokens=ours), Ceilings(thinking=theirs, max_tokens=cap), (), 4096, "anthropic")
    assert sent.thinking_tokens == found and sent.max_tokens == cap
    assert cap is None or not found or sent.thinking_tokens < cap


def test_the_smaller_cap_counts_and_says_whose_it_is() -> None:
    ours = Enforcement(max_tokens=500, instruction="Be short.")
    assert under(ours, Ceilings(max_tokens=200), (), 1, "openai")[0].max_tokens == 200
    assert under(ours, Ceilings(max_tokens=900), (), 1, "openai") == (ours, "router")
    assert under(Enforcement(), Ceilings(), (), 1, "openai")[1] == "none"
    exact, source = callers(Enforcement(max_tokens=500, effort="low"), Ceilings(effort="high"), 4096, "openai")
    assert (exact.max_tokens, exact.effort, source) == (500, None, "both")


@pytest.mark.parametrize(
    ("url", "body", "sent", "wanted"),
    [
        (
            "https://api.openai.com/v1",
            b'{"max_tokens":9,"max_completion_tokens":7}',
            Enforcement(max_tokens=5),
            b'{"max_completion_tokens":5}',
        ),
        ("http://127.0.0.1:1/v1", b'{"max_completion_tokens":7}', Enforcement(max_tokens=5), b'{"max_tokens":5}'),
        (
            "http://127.0.0.1:1/v1",
            b'{"reasoning":{"effort":"high"}}',
            Enforcement(effort="low"),
            b'{"reasoning_effort":"low"}',
        ),
        ("http://127.0.0.1:1/v1", b'{"a":0}', Enforcement(), b'{"a":0}'),
    ],
)
def test_chat_in_the_words_of_the_provider(url: str, body: bytes, sent: Enforcement, wanted: bytes) -> None:
    members = Members(body)
    CHAT.enforce(members, sent, provider(url=url))
    assert members.render() == wanted


def test_each_format_has_its_own_fields() -> None:
    body = Members(b'{"reasoning":{"summary":"auto","effort":"high"},"max_output_tokens":99}')
    RESPONSES.enforce(body, Enforcement(effort="low", max_tokens=50), provider())
    assert body.render() == b'{"reasoning":{"summary":"auto","effort":"low"},"max_output_tokens":50}'
    body = Members(b'{"output_config":{"x":1},"thinking":{"type":"adaptive"},"max_tokens":99}')
    MESSAGES.enforce(body, Enforcement(effort="low"), provider("anthropic"))
    assert body.render() == b'{"output_config":{"x":1,"effort":"low"},"thinking":{"type":"adaptive"},"max_tokens":99}'
    body = Members(b'{"thinking":{"type":"adaptive"}}')
    MESSAGES.enforce(body, Enforcement(thinking_tokens=2048), provider("anthropic"))
    assert body.get("thinking") == {"type": "enabled", "budget_tokens": 2048}
    body = Members(b'{"chat_template_kwargs":{"x":1}}')
    CHAT.enforce(body, Enforcement(thinking_tokens=0), provider("vllm"))
    assert body.get("chat_template_kwargs") == {"x": 1, "enable_thinking": False}


TEXT = b'{"type":"text","text":"a"}'
PARTS = b'{"messages":[{"role":"user","content":[%b]},{"role":"assistant","content":null}]}'


@pytest.mark.parametrize(
    ("dialect", "before", "after"),
    [
        (CHAT, b'{"messages":[{"role":"user","content":"a\\u00e9"}]}',
         b'{"messages":[{"role":"user","content":"a\\u00e9\\n\\nBe short."}]}'),
        (CHAT, PARTS % TEXT, PARTS % (TEXT + b',{"type":"text","text":"Be short."}')),
        (RESPONSES, b'{"input":"a"}', b'{"input":"a\\n\\nBe short."}'),
        (RESPONSES, b'{"input":[{"role":"user","content":"a"}]}',
        b'{"input":[{"role":"user","content":"a\\n\\nBe short."}]}'),
        (MESSAGES, b'{"messages":[{"role":"user","content":"a"}]}',
        b'{"messages":[{"role":"user","content":"a\\n\\nBe short."}]}'),
    ],
)  # fmt: skip
def test_words_go_behind_the_users_own(dialect: Any, before: bytes, after: bytes) -> None:
    body = Members(before)
    dialect.enforce(body, Enforcement(instruction="Be short."), provider())
    assert body.render() == after


@pytest.mark.parametrize(
    ("dialect", "before", "after"),
    [
        (CHAT, b'{"messages":[{"role":"user","content":"a"}]}',
         b'{"messages":[{"role":"system","content":"Be short."},{"role":"user","content":"a"}]}'),
        (CHAT, b'{"messages":[{"role":"system","content":"s"}]}',
        b'{"messages":[{"role":"system","content":"s\\n\\nBe short."}]}'),
        (RESPONSES, b'{"instructions":"s"}', b'{"instructions":"s\\n\\nBe short."}'),
        (MESSAGES, b'{"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}}]}',
         b'{"system":[{"type":"text","text":"s","cache_control":{"type":"ephemeral"}},{"type":"text","text":"Be short."}]}'),
        (MESSAGES, b'{"a":1}', b'{"a":1,"system":"Be short."}'),
    ],
)  # fmt: skip
def test_words_go_behind_the_system_prompt(dialect: Any, before: bytes, after: bytes) -> None:
    body = Members(before)
    dialect.enforce(body, Enforcement(instruction="Be short.", place="system"), provider())
    assert body.render() == after
