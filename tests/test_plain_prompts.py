"""Decisions on plain prompts of our own are what a sensible person would expect, whichever arm it is."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import r2router as r2
from r2router.starter import starter

PROMPTS: list[dict[str, Any]] = tomllib.loads(
    (Path(__file__).parent / "plain_prompts.toml").read_text(encoding="utf-8")
)["prompt"]
LEVELS = {"any": 0.0, "fair": 1 / 3, "strong": 1 / 2}
_THINKS = re.compile(
    r"o\d|gpt-5|gpt-oss|.*-thinking|deepseek-r1|gemini-(2\.5-pro|3)|grok-(3-mini|4)|qwen3-(8b|32b|30b|235b-a22b$)|kimi-k2\.[56]|glm-"
)
_SILENT = {"none", "0", "minimal"}


def thinks(arm: r2.Arm) -> bool:
    """Whether the model thinks before it answers: it was told to, or does so unless told otherwise."""
    if arm.budget in _SILENT:
        return False
    return arm.budget != "default" or _THINKS.match(arm.model) is not None


@cache
def levels() -> dict[str, float]:
    """arm -> the share of all arms that are no better, by their mean over everything that was graded."""
    router = starter()
    rank = router.prior_quality.argsort().argsort() / max(len(router.arms) - 1, 1)
    return dict(zip(router.arms, rank.tolist(), strict=True))


def shortcomings(prompt: dict[str, Any], decision: r2.Decision) -> Iterator[str]:
    """What a sensible person would say against a decision."""
    if decision.cost > prompt["most_usd"]:
        yield f"costs ${decision.cost:.4f}, more than ${prompt['most_usd']}"
    if levels()[decision.arm] < LEVELS[prompt["level"]]:
        yield f"is no {prompt['level']} model"
    if prompt["thinking"] != "any" and thinks(decision.arm) != (prompt["thinking"] == "yes"):
        yield "thinks" if thinks(decision.arm) else "does not think"


@cache
def decided() -> tuple[tuple[dict[str, Any], r2.Decision, tuple[str, ...]], ...]:
    decisions = starter().route_many([prompt["text"] for prompt in PROMPTS])
    return tuple(
        (prompt, found, tuple(shortcomings(prompt, found))) for prompt, found in zip(PROMPTS, decisions, strict=True)
    )


def test_there_are_some_sixty_of_many_kinds() -> None:
    assert 55 <= len(PROMPTS) <= 70
    kinds = {prompt["kind"] for prompt in PROMPTS}
    assert kinds >= {"code", "mathematics", "translation", "mail", "small talk", "SQL", "medicine", "poem", "agents"}
    assert kinds >= {"German", "French", "Spanish", "Chinese", "Portuguese"}
    assert len({prompt["text"] for prompt in PROMPTS}) == len(PROMPTS)
    for prompt in PROMPTS:
        assert (
            prompt["level"] in LEVELS and prompt["thinking"] in {"any", "yes", "no"} and 0 < prompt["most_usd"] <= 0.2
        )


def test_most_decisions_are_what_a_sensible_person_expects() -> None:
    wrong = [f"{p['text'][:60]!r}: {d.arm} {', '.join(words)}" for p, d, words in decided() if words]
    assert len(PROMPTS) - len(wrong) >= 0.75 * len(PROMPTS), "\n".join(wrong)
    dear = [words for _, d, said in decided() for words in said if words.startswith("costs")]
    assert len(dear) <= 0.05 * len(PROMPTS), dear


def test_a_decision_on_what_was_hardly_graded_says_so() -> None:
    for prompt, decision, _ in decided():
        if prompt["kind"] in {"small talk", "mail", "poem", "translation"}:
            said = ("unlike the training data", "was graded", "were graded", "was not graded")
            assert any(words in decision.reason for words in said), f"{prompt['text']!r}: {decision.reason}"


@pytest.mark.parametrize("kind", ["small talk", "mail", "poem"])
def test_and_its_spread_is_wide(kind: str) -> None:
    spreads = [decision.spread for prompt, decision, _ in decided() if prompt["kind"] == kind]
    assert np.min(spreads) > 0.15
