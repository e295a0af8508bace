"""Which arms cannot take a request, and why."""

from __future__ import annotations

import numpy as np

from r2router.gateway.dialects.dialect import Speaks
from r2router.gateway.setting import REPLAY, Setting
from r2router.router.arm_controls import ArmControls
from r2router.types import BoolArray, Model

_NATIVE: dict[str, str] = {"chat": "openai", "responses": "openai", "messages": "anthropic"}
"""Whose wire format an endpoint is: its own tools, which the others do not have, work there alone."""

_MAX_KEPT = 256


class Exclusions:
    """Knows for each arm of the router what it cannot do."""

    def __init__(self, setting: Setting, controls: ArmControls) -> None:
        self._setting, self._pool = setting, setting.router.pool
        self._knobs = [set(c.knobs) for c in controls.collected]
        contexts = [float("inf") if m.context is None else float(m.context) for m in self._pool.models]
        self._contexts = np.array(contexts)[self._pool.model_of_arm]
        self._kept: dict[tuple[Speaks, frozenset[str]], tuple[BoolArray, dict[str, str]]] = {}

    def usable(self, speaks: Speaks, needs: frozenset[str], mask: BoolArray, tokens: int) -> tuple[BoolArray, dict[str, str]]:
        """((arms,) true where an arm can take the request, model or arm -> why it cannot).

        mask: those that the preset allows. tokens: of the prompt.
        """
        key = speaks, needs
        if key not in self._kept:
            if len(self._kept) >= _MAX_KEPT:  # needs may be anything that a client names
                self._kept.clear()
            self._kept[key] = self._able(speaks, needs)
        able, why = self._kept[key]
        fits = self._contexts > tokens
        if not fits.all():
            models = {self._pool.models[m].id for m in self._pool.model_of_arm[~fits]}
            why = {**why, **dict.fromkeys(models, f"its context is shorter than about {tokens:,} tokens")}
        return able & mask & fits, why

    def _able(self, speaks: Speaks, needs: frozenset[str]) -> tuple[BoolArray, dict[str, str]]:
        why: dict[str, str] = {}
        for model in self._pool.models:
            if reason := self._lacks(model, speaks, needs):
                why[model.id] = reason
        able = np.array([arm.model not in why for arm in self._pool.arms])
        for at, arm in enumerate(self._pool.arms):
            if able[at] and (reason := self._cannot_be_sent(at, speaks)):
                able[at] = False
                why[arm] = reason
        return able, why

    def _lacks(self, model: Model, speaks: Speaks, needs: frozenset[str]) -> str:
        if not model.available:
            return self._setting.missing.get(model.id, "is not available")
        provider = self._setting.providers[model.provider]
        if speaks not in provider.speaks:
            return f"provider {model.provider!r} does not speak {speaks}"
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

    def _cannot_be_sent(self, at: int, speaks: Speaks) -> str:
        model = self._pool.models[self._pool.model_of_arm[at]]
        if "prefix_sharing" in self._knobs[at]:
            return "prefix sharing needs two calls per answer, which a relay does not make"
        dialect = self._setting.providers[model.provider].dialect
        if "thinking_tokens" in self._knobs[at] and speaks == "responses" and dialect != "openrouter":
            return "responses have no field for thinking tokens at this provider"
        return ""
