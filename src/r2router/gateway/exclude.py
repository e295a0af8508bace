"""Which arms cannot take a request, and why."""

from __future__ import annotations

from typing import Any

import numpy as np

from r2router.gateway.config import Served
from r2router.gateway.dialects.dialect import Speaks
from r2router.gateway.request import Call
from r2router.gateway.setting import REPLAY, Setting
from r2router.gateway.translate import TRANSLATED, loss
from r2router.router.arm_controls import ArmControls
from r2router.types import BoolArray, Model

_NATIVE: dict[str, str] = {"chat": "openai", "responses": "openai", "messages": "anthropic"}
"""Whose wire format an endpoint is: its own tools, which the others do not have, work there alone."""

_MAX_KEPT = 256


class Exclusions:
    """Knows what each arm of the router cannot do."""

    def __init__(self, setting: Setting, controls: ArmControls) -> None:
        self._setting, self._pool = setting, setting.router.pool
        self._knobs = [set(c.knobs) for c in controls.collected]
        contexts = [float("inf") if m.context is None else float(m.context) for m in self._pool.models]
        self._contexts = np.array(contexts)[self._pool.model_of_arm]
        self._translated: dict[Speaks, tuple[Speaks, ...]] = {}  # the other endpoints that models are asked at
        self._kept: dict[tuple[Any, ...], tuple[BoolArray, dict[str, str]]] = {}

    def usable(
        self, call: Call, needs: frozenset[str], mask: BoolArray, tokens: int
    ) -> tuple[BoolArray, dict[str, str]]:
        """Return ((arms,) true where an arm can take the request, model or arm -> why it cannot).

        mask: (arms,) those that the preset allows.
        tokens: of the prompt.
        """
        speaks = call.dialect.name
        if speaks not in self._translated:
            used = {m.provider for m in self._pool.models if m.available}
            ends = {self.endpoint_of(speaks, self._setting.providers[name]) for name in used}
            self._translated[speaks] = tuple(sorted(end for end in ends if end not in (None, speaks)))
        losses = tuple((end, loss(call, end)) for end in self._translated[speaks])
        key = speaks, needs, losses
        if key not in self._kept:
            if len(self._kept) >= _MAX_KEPT:  # needs may be anything that a client names
                self._kept.clear()
            self._kept[key] = self._able(speaks, needs, dict(losses))
        able, why = self._kept[key]
        fits = self._contexts > tokens
        if not fits.all():
            models = {self._pool.models[m].id for m in self._pool.model_of_arm[~fits]}
            why = {**why, **dict.fromkeys(models, f"its context is shorter than about {tokens:,} tokens")}
        return able & mask & fits, why

    def endpoint(self, call: Call, provider: Served) -> tuple[Speaks | None, str]:
        """Return (the provider's endpoint for a request, or why there is none)."""
        speaks = call.dialect.name
        end = self.endpoint_of(speaks, provider)
        if end is None:
            return None, f"has no {call.dialect.path}; it speaks {', '.join(provider.speaks)}"
        if end != speaks and (why := loss(call, end)):
            return None, f"has no {call.dialect.path}, and in {end} something would be lost: {why}"
        return end, ""

    @staticmethod
    def endpoint_of(speaks: Speaks, provider: Served) -> Speaks | None:
        """Find the provider's endpoint for requests to one of ours: the same one, else one to translate to."""
        if speaks in provider.speaks:
            return speaks
        return next((end for end in TRANSLATED if end in provider.speaks), None) if speaks in TRANSLATED else None

    def _able(
        self, speaks: Speaks, needs: frozenset[str], losses: dict[Speaks, str]
    ) -> tuple[BoolArray, dict[str, str]]:
        why: dict[str, str] = {}
        for model in self._pool.models:
            if reason := self._lacks(model, speaks, needs, losses):
                why[model.id] = reason
        able = np.array([arm.model not in why for arm in self._pool.arms])
        for at, arm in enumerate(self._pool.arms):
            if able[at] and (reason := self._cannot_be_sent(at, speaks, needs)):
                able[at] = False
                why[arm] = reason
        return able, why

    def _lacks(self, model: Model, speaks: Speaks, needs: frozenset[str], losses: dict[Speaks, str]) -> str:
        if not model.available:
            return self._setting.missing.get(model.id, "is not available")
        provider = self._setting.providers[model.provider]
        end = self.endpoint_of(speaks, provider)
        if end is None:
            return f"provider {model.provider!r} does not speak {speaks}"
        if end != speaks and losses.get(end):
            return (
                f"provider {model.provider!r} does not speak {speaks}, and in {end} something would be lost:"
                f" {losses[end]}"
            )
        if model.provider == REPLAY:
            return ""
        for need in sorted(needs):
            if need in model.capabilities:
                continue
            if need == "custom_tools" and provider.dialect == _NATIVE.get(speaks):
                continue
            if need == "n" and provider.dialect != "anthropic":
                continue
            return f"does not have {need}"
        return ""

    def _cannot_be_sent(self, at: int, speaks: Speaks, needs: frozenset[str]) -> str:
        model = self._pool.models[self._pool.model_of_arm[at]]
        if "prefix_sharing" in self._knobs[at]:
            return "prefix sharing needs two calls per answer, which a relay does not make"
        provider = self._setting.providers[model.provider]
        end = self.endpoint_of(speaks, provider)
        if "thinking_tokens" in self._knobs[at] and end == "responses" and provider.dialect != "openrouter":
            return "responses have no field for thinking tokens at this provider"
        thinks = "thinking_tokens" in self._knobs[at] and (self._pool.budgets[at].tokens or 0) > 0
        if end == "messages" != speaks and thinks and "tools" in needs:
            return "thinking beside tools needs its signatures back, which a translation does not keep"
        return ""
