"""What is remembered between requests changes no decision."""

from __future__ import annotations

import asyncio
import json
import random

import pytest

pytest.importorskip("aiohttp", reason="the gateway needs the [serve] extra")

from fake_provider import FakeProvider
from gateway_rig import KEY, config
from r2router.gateway.dialects import NAMED
from r2router.gateway.plan import Planner
from r2router.gateway.request import Call, read_call
from r2router.gateway.setting import Setting


def call(text: str, more: int, model: str) -> Call:
    messages = [{"role": "user", "content": text}]
    if more:
        messages += [{"role": "assistant", "content": "a " * more}, {"role": "user", "content": text}]
    return read_call(NAMED["chat"], json.dumps({"model": model, "messages": messages}).encode(), "auto")


def test_a_text_that_comes_again_is_decided_as_when_it_was_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_PROVIDER_KEY", KEY)
    chance = random.Random(7)
    texts = ["Who wrote Faust?", "Prove that there are infinitely many primes.", "Fix the failing test in src/a.py"]
    models = ("auto", "auto:cheap", "auto:best")
    calls = [(chance.choice(texts), chance.choice((0, 30, 3_000, 90_000)), chance.choice(models)) for _ in range(30)]

    async def run(setting: Setting) -> None:
        old = Planner(setting)
        for each in calls:
            new = Planner(setting, old.vectors)
            seen, fresh = await old.plan(call(*each)), await new.plan(call(*each))
            assert seen.decision is not None and fresh.decision is not None
            assert [step.arm for step in seen.steps] == [step.arm for step in fresh.steps]
            assert (seen.decision.quality, seen.decision.tokens) == (fresh.decision.quality, fresh.decision.tokens)
            assert seen.decision.cost == pytest.approx(fresh.decision.cost, rel=1e-12)
        old.close()

    with FakeProvider() as fake:
        asyncio.run(run(Setting.of(config({"fake": fake}))))
