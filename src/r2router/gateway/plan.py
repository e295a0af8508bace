"""From a request to the arms that will be asked, in order."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgspec
import numpy as np

from r2router.decide import Tradeoff, Value
from r2router.encode import load_encoder
from r2router.errors import ConfigError, NoFeasibleArm, R2Error
from r2router.gateway.budgets import Source, callers, under
from r2router.gateway.config import Preset, Served
from r2router.gateway.conversation import Conversation
from r2router.gateway.exclude import Exclusions
from r2router.gateway.pacing import Pace
from r2router.gateway.refusal import Refusal
from r2router.gateway.request import Call
from r2router.gateway.sessions import Session
from r2router.gateway.setting import Setting
from r2router.gateway.stay import Stay, Staying
from r2router.gateway.targets import Targets
from r2router.gateway.vectors import Vectors
from r2router.router.arm_controls import ArmControls
from r2router.text import suggest
from r2router.types import Arm, BoolArray, Budget, Decision, Enforcement, FloatArray, Forecast, Model
from r2router.upstream.controls import Controls

_BYTES_PER_TOKEN = 4
_UNKNOWN_SPREAD = 0.29


@dataclass(frozen=True, slots=True)
class Step:
    """One arm that may be asked. sent: what enforces its budget."""

    arm: str
    model: Model
    provider: Served
    sent: Enforcement
    source: Source


@dataclass(frozen=True, slots=True)
class Plan:
    """steps: in the order in which they are asked. reason: why the first. decision: where a router chose. input_tokens: an estimate.

    pace: what its preset holds, as it begins. baseline: what is forecast of the arm that reports compare with.
    """

    steps: tuple[Step, ...]
    reason: str
    preset: str | None
    input_tokens: int
    conversation: Conversation
    decision: Decision | None = None
    excluded: dict[str, str] = field(default_factory=dict)
    refuses: tuple[frozenset[str], ...] = ()
    stay: Stay | None = None
    pace: Pace | None = None
    baseline: Baseline | None = None


class Baseline(NamedTuple):
    """What an arm is forecast to be worth for a request. cost: US dollars."""

    arm: str
    cost: float
    quality: float


class Planner:
    """Plans requests under one setting. vectors: made anew with each router. targets: how far presets are with what they hold."""

    def __init__(self, setting: Setting, vectors: Vectors | None = None, targets: Targets | None = None) -> None:
        self.setting = setting
        self._targets = targets or Targets(None)
        self.router = setting.router
        self.vectors = vectors or Vectors(load_encoder(self.router.encoder))
        self._controls = ArmControls.of(self.router.pool, self.router.controls)
        self.exclusions = Exclusions(setting, self._controls)
        self._staying = Staying(setting)
        self._prior = self.router.prior_quality[None, :], self.router.prior_tokens[None, :]

    async def plan(self, call: Call, session: Session | None = None) -> Plan:
        """session: where the conversation stands. Raises `Refusal` where nothing can be asked."""
        asked = self.setting.config.resolve(call.asked)
        if asked == "auto" or asked.startswith("auto:"):
            return await self._routed(call, asked.partition(":")[2], session)
        try:
            found = self.setting.concrete(asked)
        except ConfigError as error:
            raise Refusal(404, "model_not_found", str(error), param="model") from None
        if found is None:
            known = ["auto", *(f"auto:{name}" for name in self.setting.config.presets()), *self.setting.names]
            message = f"there is no model {asked[:100]!r}{suggest(asked[:100], known)}; GET /v1/models lists them"
            raise Refusal(404, "model_not_found", message, param="model")
        return self._concrete(call, *found)

    def _concrete(self, call: Call, model: Model, budget: Budget | None) -> Plan:
        why = self.setting.missing.get(model.id, "")
        provider = self.setting.providers.get(model.provider)
        if why or provider is None:
            raise Refusal(503, "model_unavailable", f"model {model.id!r} cannot be called: {why}", param="model", retry=False)
        if call.dialect.name not in provider.speaks:
            ends = ", ".join(provider.speaks)
            message = f"model {model.id!r}: provider {model.provider!r} has no {call.dialect.path}; it speaks {ends}"
            raise Refusal(400, "endpoint_not_supported", message, param="model")
        sent, arm = Enforcement(), model.id
        source: Source = "none"
        if budget is not None and call.dialect.routed:
            arm = Arm.of(model.id, budget.id)
            at = self.router.pool.index.get(Arm(arm))
            own = self._controls.collected[at].enforcement(model, budget) if at is not None else Controls().enforcement(model, budget)
            sent, source = callers(own, call.ceilings)
        step = Step(arm, model, provider, sent, source)
        return Plan((step,), "passthrough", None, self._input_tokens(call, 0), call.conversation)

    async def _routed(self, call: Call, name: str, session: Session | None) -> Plan:
        preset, mask = self._preset(call, name)
        if not call.dialect.routed:
            raise Refusal(400, "not_routed", f"{call.dialect.path} takes a concrete model, not {call.asked!r}", param="model")
        task = call.conversation.task
        encoded = await self.vectors.of(task) if task else None
        tokens = self._input_tokens(call, encoded.tokens if encoded else 0)
        counts = np.array([float(tokens)])
        forecast = self._prior_forecast(counts) if encoded is None else self.router.forecast_vectors(encoded.vector, counts)
        needs = frozenset(call.conversation.needs | set(call.wanted.require))
        usable, excluded = self.exclusions.usable(call.dialect.name, needs, mask, tokens)
        stay = self._staying.decide(call.conversation, session, usable, tokens, preset.switch_usd)
        baseline = self._baseline(forecast)
        pace = self.setting.paces.get(f"auto:{name}") if call.wanted.policy is None else None
        if pace is not None:
            preset = msgspec.structs.replace(preset, policy=Value((await self._targets.current(f"auto:{name}", pace)).value))
        forecast = msgspec.structs.replace(forecast, cost=np.maximum(forecast.cost + stay.extra, 0.0))
        decision = self._decide(forecast, preset, stay, excluded)
        effort = call.wanted.effort or preset.effort
        others = [arm for arm in decision.fallbacks if arm != decision.arm]
        steps = [self._step(call, decision.arm, decision.enforcement, effort), *(self._step(call, arm, None, effort) for arm in others)]
        refuses = tuple(self._refuses(step) for step in steps)
        reason = stay.reason or _reason(decision, session)
        called = f"auto:{name}" if name else "auto"
        return Plan(tuple(steps), reason, called, tokens, call.conversation, decision, excluded, refuses, stay, pace, baseline)

    def _baseline(self, forecast: Forecast) -> Baseline | None:
        at = self.setting.baseline
        if at is None:
            return None
        cost, quality = float(forecast.cost[0, at]), float(forecast.quality[0, at])
        return Baseline(self.router.arms[at], cost, quality) if math.isfinite(cost) and math.isfinite(quality) else None

    def _decide(self, forecast: Forecast, preset: Preset, stay: Stay, excluded: dict[str, str]) -> Decision:
        """Raises `Refusal`."""
        policy = Tradeoff(0.0) if stay.escalate else preset.policy
        try:
            free = self.router.explain(forecast, policy, stay.mask)
            if not stay.arm or free.arm == stay.arm:
                return free
            only = np.zeros(len(self.router.arms), dtype=bool)
            only[self.router.pool.index[Arm(stay.arm)]] = True
            kept = self.router.explain(forecast, Tradeoff(0.0), only)  # no cap of the policy's may leave nothing now
        except NoFeasibleArm as error:
            raise self._nothing(error, excluded) from None
        except R2Error as error:
            raise Refusal(400, "invalid_policy", str(error)) from None
        fallbacks = tuple(a for a in (free.arm, *free.fallbacks) if Arm(a).model != kept.model and a in self.router.pool.index)
        return msgspec.structs.replace(kept, fallbacks=fallbacks)

    def _preset(self, call: Call, name: str) -> tuple[Preset, BoolArray]:
        known = self.setting.config.presets()
        wanted = call.wanted
        preset = known.get(name) if name else Preset()
        if preset is None:
            raise Refusal(404, "model_not_found", f"there is no preset {name[:100]!r}{suggest(name[:100], known)}", param="model")
        mask = self.setting.masks[name] if name else np.ones(len(self.router.arms), dtype=bool)
        if wanted.policy is not None:
            preset = msgspec.structs.replace(preset, policy=wanted.policy)
        if wanted.models or wanted.exclude:
            try:
                mask = mask & self.setting.mask_of("r2router", Preset(models=wanted.models, exclude=wanted.exclude))
            except ConfigError as error:
                raise Refusal(400, "invalid_r2router", str(error), param="r2router") from None
        return preset, mask

    def _step(self, call: Call, arm: str, sent: Enforcement | None, effort: str) -> Step:
        """sent: where the policy has changed it; else as the arm was collected."""
        name = Arm(arm)
        model = self.router.pool[name.model]
        at = self.router.pool.index.get(name)
        collected = self._controls.collected[at if at is not None else self._any_arm(name.model)]
        if sent is None:
            budget = next(b for b in model.budgets if b.id == name.budget)
            sent = collected.enforcement(model, budget)
        levels = tuple(b.id for b in model.budgets if "reasoning_effort" in b.control)
        provider = self.setting.providers[model.provider]
        if effort == "caller":
            return Step(arm, model, provider, *callers(sent, call.ceilings))
        return Step(arm, model, provider, *under(sent, call.ceilings, levels, collected.controls.answer_room, provider.dialect))

    def _any_arm(self, model: str) -> int:
        return next(i for i, arm in enumerate(self.router.arms) if arm.model == model)

    def _refuses(self, step: Step) -> frozenset[str]:
        """Request fields that a thinking model would refuse."""
        given = self.setting.refuses(step.model.id)
        if given is not None:
            return given
        if step.provider.dialect == "anthropic" and step.sent.thinking_tokens:
            return _REFUSED_THINKING
        if step.provider.dialect == "openai" and any("reasoning_effort" in b.control for b in step.model.budgets):
            return _REFUSED_REASONING
        return frozenset()

    def _input_tokens(self, call: Call, task_tokens: int) -> int:
        """The prompt's tokens, about: exact where it is one text alone, else by its bytes, images and files by their headers."""
        said = call.conversation
        alone = said.turns <= 1 and not said.system and not said.needs
        if alone and task_tokens:
            return task_tokens
        by_size = max(0, len(call.body.data) - said.binary) // _BYTES_PER_TOKEN
        return max(task_tokens, by_size) + said.images

    def _prior_forecast(self, counts: FloatArray) -> Forecast:
        """What is forecast of a request without a text, or whose text could not be encoded: the arms' averages, as of unfamiliar ones."""
        quality, tokens = self._prior
        cost = self.router.pool.cost(self.router.input_tokens.estimate(counts), tokens)
        return Forecast(self.router.arms, quality, tokens, np.full_like(quality, _UNKNOWN_SPREAD), np.zeros(1, dtype=bool), cost)

    def _nothing(self, error: NoFeasibleArm, excluded: dict[str, str]) -> Refusal:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(excluded.items())[:8])
        return Refusal(400, "no_feasible_arm", f"no model can take this request ({error})" + (f". Left out: {why}" if why else ""))

    def close(self) -> None:
        """End the encoding thread."""
        self.vectors.close()


_REFUSED_THINKING = frozenset({"temperature", "top_k", "top_p"})
_REFUSED_REASONING = frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "stop"})


def _reason(decision: Decision, session: Session | None) -> str:
    if session is None:
        return f"routed: {decision.reason}"
    return f"{'kept' if Arm(session.arm).model == decision.model else 'switched'}: {decision.reason}"


def moved(session: Session | None, plan: Plan, arm: str, at: int | None) -> Session:
    """Where a conversation stands after an answer. at: the index of the arm; None where the router does not have it."""
    before = session.switched if session is not None else 0
    left = int(plan.stay.cold[at]) if plan.stay is not None and at is not None else 0
    return Session(arm=arm, at=time.time(), tokens=plan.input_tokens, turns=plan.conversation.turns, switched=before + left)


def larger_context(plan: Plan, failed: Step) -> Plan:
    """The plan with those steps alone whose model takes a longer prompt than the failed one."""
    least = failed.model.context or 0
    return replace(plan, steps=tuple(s for s in plan.steps if s.model.context is None or s.model.context > least))


def body_for(call: Call, plan: Plan, number: int, *, usage: bool) -> tuple[bytes, bool]:
    """(the bytes to send for a step, whether its stream will hold an event that the client did not ask for)."""
    step, body = plan.steps[number], call.body.copy()
    body.put("model", step.model.upstream or step.model.id)
    for name in plan.refuses[number] if plan.refuses else ():
        body.remove(name)
    call.dialect.enforce(body, step.sent, step.provider)
    surplus = call.dialect.ask_usage(body) if call.stream and usage and step.provider.stream_options else False
    return body.render(), surplus


def as_dict(plan: Plan) -> dict[str, Any]:
    """For a person: what was decided, and why not otherwise."""
    found: dict[str, Any] = {"arm": plan.steps[0].arm, "reason": plan.reason, "input_tokens": plan.input_tokens, "preset": plan.preset}
    if plan.decision is not None:
        found |= plan.decision.to_dict()
    found["reason"] = plan.reason
    found["fallbacks"] = [step.arm for step in plan.steps[1:]]
    found["enforcement"] = msgspec.to_builtins(plan.steps[0].sent)
    found["budget_source"] = plan.steps[0].source
    return found | {"excluded": plan.excluded}
