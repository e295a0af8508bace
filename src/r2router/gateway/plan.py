"""Plans a request: which arms will be asked, in which order."""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict

import msgspec
import numpy as np

from r2router.decide import Best, Tradeoff, Value
from r2router.encode import load_encoder
from r2router.errors import ConfigError, NoFeasibleArm, R2Error, Refused
from r2router.gateway.budgets import Source, callers, under
from r2router.gateway.config import NO_EDITS, Edits, Preset, Served
from r2router.gateway.exclude import Exclusions
from r2router.gateway.request import Call
from r2router.gateway.sessions import Session
from r2router.gateway.setting import Setting
from r2router.gateway.stay import Stay, Staying
from r2router.gateway.step import Baseline, CascadeSetup, Plan, PlannedStep
from r2router.gateway.targets import Targets
from r2router.gateway.vectors import Encoded, Vectors
from r2router.router.arm_controls import ArmControls
from r2router.router.steps import Question
from r2router.text import suggest
from r2router.types import Arm, BoolArray, Budget, Decision, Enforcement, FloatArray, Forecast, Model
from r2router.upstream.controls import Controls

_BYTES_PER_TOKEN = 4
_MAX_FORECASTS = 512
_UNKNOWN_SPREAD = 0.29


class Planner:
    """Plans requests under one setting.

    vectors: the text encoder with its cache; a new one for each router.
    targets: the states of the presets' targets.
    """

    def __init__(self, setting: Setting, vectors: Vectors | None = None, targets: Targets | None = None) -> None:
        self.setting = setting
        self._targets = targets or Targets(None)
        self.router = setting.router
        self.vectors = vectors or Vectors(load_encoder(self.router.encoder))
        self._controls = ArmControls.of(self.router.pool, self.router.controls)
        self.exclusions = Exclusions(setting, self._controls)
        self._staying = Staying(setting)
        self._forecasts: OrderedDict[bytes, Forecast] = OrderedDict()
        self._prior = self.router.prior_quality[None, :], self.router.prior_tokens[None, :]

    async def plan(self, call: Call, session: Session | None = None) -> Plan:
        """Plan how a request is answered. Raises `Refused` where no arm can be asked.

        session: what is known of the conversation.
        """
        asked = self.setting.config.resolve(call.asked)
        if asked == "auto" or asked.startswith("auto:"):
            return await self._routed(call, asked.partition(":")[2], session)
        try:
            found = self.setting.concrete(asked)
        except ConfigError as error:
            raise Refused(str(error), status=404, code="model_not_found", param="model") from None
        if found is None:
            known = ["auto", *(f"auto:{name}" for name in self.setting.config.presets()), *self.setting.names]
            message = f"there is no model {asked[:100]!r}{suggest(asked[:100], known)}; GET /v1/models lists them"
            raise Refused(message, status=404, code="model_not_found", param="model")
        return self._concrete(call, *found)

    def _concrete(self, call: Call, model: Model, budget: Budget | None) -> Plan:
        why = self.setting.missing.get(model.id, "")
        provider = self.setting.providers.get(model.provider)
        if why or provider is None:
            raise Refused(
                f"model {model.id!r} cannot be called: {why}",
                status=503,
                code="model_unavailable",
                param="model",
                retry=False,
            )
        speaks, why = self.exclusions.endpoint(call, provider)
        if speaks is None:
            raise Refused(
                f"model {model.id!r}: provider {model.provider!r} {why}",
                status=400,
                code="endpoint_not_supported",
                param="model",
            )
        sent, arm = Enforcement(), model.id
        source: Source = "none"
        if budget is not None and call.dialect.routed:
            arm = Arm.of(model.id, budget.id)
            at = self.router.pool.index.get(Arm(arm))
            own = (
                self._controls.collected[at].enforcement(model, budget)
                if at is not None
                else Controls().enforcement(model, budget)
            )
            room = Controls().answer_room if at is None else self._controls.collected[at].controls.answer_room
            sent, source = callers(own, call.ceilings, room, provider.dialect)
        step = PlannedStep(str(arm), model, provider, sent, source, speaks, edits=self._edits(model))
        return Plan((step,), "passthrough", None, self._input_tokens(call, 0), call.conversation)

    async def _routed(self, call: Call, name: str, session: Session | None) -> Plan:
        preset, mask = self._preset(call, name)
        if not call.dialect.routed:
            raise Refused(
                f"{call.dialect.path} takes a concrete model, not {call.asked!r}",
                status=400,
                code="not_routed",
                param="model",
            )
        task = call.conversation.task
        encoded = await self.vectors.of(task) if task else None
        tokens = self._input_tokens(call, encoded.tokens if encoded else 0)
        counts = np.array([float(tokens)])
        forecast = self._prior_forecast(counts) if encoded is None else self._forecast(encoded, counts)
        needs = frozenset(call.conversation.needs | set(call.wanted.require))
        usable, excluded = self.exclusions.usable(call, needs, mask, tokens)
        stay = self._staying.decide(call.conversation, session, usable, tokens, preset.switch_usd)
        baseline = self._baseline(forecast)
        pace = self.setting.paces.get(f"auto:{name}") if call.wanted.policy is None else None
        if pace is not None:
            preset = msgspec.structs.replace(preset, policy=Value(await self._targets.value(f"auto:{name}", pace)))
        forecast = msgspec.structs.replace(forecast, cost=np.maximum(forecast.cost + stay.extra, 0.0))
        decision = self._decide(forecast, preset, stay, excluded)
        effort = call.wanted.effort or preset.effort
        looks = None
        if preset.cascade and encoded is not None and _may_look(call, needs, stay):
            looks = self._looks(call, encoded.vector, forecast, preset, stay, effort)
        if looks is not None:
            first = (await asyncio.to_thread(looks.question.step, [])).call
            decision = decision if first is None else first
        others = [arm for arm in decision.fallbacks if arm != decision.arm]
        steps = [
            self._step(call, decision.arm, decision.enforcement, effort),
            *(self._step(call, arm, None, effort) for arm in others),
        ]
        reason = stay.reason or _reason(decision, session)
        mends = looks is None and not call.stream and not {"tools", "n"} & needs and not isinstance(preset.policy, Best)
        return Plan(
            tuple(steps),
            reason,
            f"auto:{name}" if name else "auto",
            tokens,
            call.conversation,
            decision,
            excluded,
            stay,
            looks,
            preset.cut if mends else "return",
            pace,
            baseline,
        )

    def _baseline(self, forecast: Forecast) -> Baseline | None:
        at = self.setting.baseline
        if at is None:
            return None
        cost, quality = float(forecast.cost[0, at]), float(forecast.quality[0, at])
        return Baseline(self.router.arms[at], cost, quality) if math.isfinite(cost) and math.isfinite(quality) else None

    def _looks(
        self, call: Call, vector: FloatArray, forecast: Forecast, preset: Preset, stay: Stay, effort: str
    ) -> CascadeSetup | None:
        """Set up the cascade; None where the router has not learned one, or where it did not pay in training."""
        question = Question.on(self.router, call.conversation.task, vector, forecast, stay.mask, preset.policy)
        if not question.looking:
            return None
        arms = [arm for arm, cost in zip(self.router.arms, question.cost, strict=True) if np.isfinite(cost)]

        def make(decision: Decision) -> PlannedStep:
            return self._step(call, decision.arm, decision.enforcement, effort)

        return CascadeSetup(question, make, tuple(self._step(call, arm, None, effort) for arm in arms))

    def _decide(self, forecast: Forecast, preset: Preset, stay: Stay, excluded: dict[str, str]) -> Decision:
        """Choose the arm. Raises `Refused`."""
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
            raise Refused(str(error), status=400, code="invalid_policy") from None
        fallbacks = tuple(
            a for a in (free.arm, *free.fallbacks) if Arm(a).model != kept.model and a in self.router.pool.index
        )
        return msgspec.structs.replace(kept, fallbacks=fallbacks)

    def _preset(self, call: Call, name: str) -> tuple[Preset, BoolArray]:
        known = self.setting.config.presets()
        wanted = call.wanted
        preset = known.get(name) if name else Preset()
        if preset is None:
            raise Refused(
                f"there is no preset {name[:100]!r}{suggest(name[:100], known)}",
                status=404,
                code="model_not_found",
                param="model",
            )
        mask = self.setting.masks[name] if name else np.ones(len(self.router.arms), dtype=bool)
        if wanted.policy is not None:
            preset = msgspec.structs.replace(preset, policy=wanted.policy)
        if wanted.models or wanted.exclude:
            try:
                mask = mask & self.setting.mask_of("r2router", Preset(models=wanted.models, exclude=wanted.exclude))
            except ConfigError as error:
                raise Refused(str(error), status=400, code="invalid_r2router", param="r2router") from None
        return preset, mask

    def _step(self, call: Call, arm: str, sent: Enforcement | None, effort: str) -> PlannedStep:
        """Plan one call.

        sent: how the budget is enforced, where the policy has changed it; else as the arm was collected.
        """
        name = Arm(arm)
        model = self.router.pool[name.model]
        at = self.router.pool.index.get(name)
        collected = self._controls.collected[at if at is not None else self._any_arm(name.model)]
        if sent is None:
            budget = next(b for b in model.budgets if b.id == name.budget)
            sent = collected.enforcement(model, budget)
        levels = tuple(b.id for b in model.budgets if "reasoning_effort" in b.control)
        provider = self.setting.providers[model.provider]
        speaks = self.exclusions.endpoint_of(call.dialect.name, provider) or call.dialect.name
        if effort == "caller":
            sent, source = callers(sent, call.ceilings, collected.controls.answer_room, provider.dialect)
        else:
            sent, source = under(sent, call.ceilings, levels, collected.controls.answer_room, provider.dialect)
        return PlannedStep(
            str(arm), model, provider, sent, source, speaks, self._refuses(model, provider, sent), self._edits(model)
        )

    def _any_arm(self, model: str) -> int:
        return next(i for i, arm in enumerate(self.router.arms) if arm.model == model)

    def _refuses(self, model: Model, provider: Served, sent: Enforcement) -> frozenset[str]:
        """Return the request fields that a thinking model would refuse."""
        overlay = self.setting.overlays.get(model.id)
        if overlay is not None and overlay.refuses is not None:
            return overlay.refuses
        if provider.dialect == "anthropic" and sent.thinking_tokens:
            return _REFUSED_THINKING
        if provider.dialect == "openai" and any("reasoning_effort" in b.control for b in model.budgets):
            return _REFUSED_REASONING
        return frozenset()

    def _edits(self, model: Model) -> Edits:
        overlay = self.setting.overlays.get(model.id)
        return NO_EDITS if overlay is None else overlay.edits

    def _input_tokens(self, call: Call, task_tokens: int) -> int:
        """Estimate the prompt's tokens: exactly for a single text, else from its bytes and the sizes of images and
        files.
        """
        said = call.conversation
        alone = said.turns <= 1 and not said.system and not said.needs
        if alone and task_tokens:
            return task_tokens
        by_size = max(0, len(call.body.data) - said.binary) // _BYTES_PER_TOKEN
        return max(task_tokens, by_size) + said.images

    def _forecast(self, encoded: Encoded, counts: FloatArray) -> Forecast:
        """Return the forecast for a text; of one that comes again, as in each turn of a tool loop, only the cost is
        new.
        """
        found = self._forecasts.get(encoded.key)
        if found is None:
            found = self._forecasts[encoded.key] = self.router.forecast_vectors(encoded.vector, counts)
            if len(self._forecasts) > _MAX_FORECASTS:
                self._forecasts.popitem(last=False)
            return found
        self._forecasts.move_to_end(encoded.key)
        cost = self.router.pool.cost(self.router.input_tokens.estimate(counts), found.tokens)
        return msgspec.structs.replace(found, cost=cost)

    def _prior_forecast(self, counts: FloatArray) -> Forecast:
        """Make the forecast of a request without a text, or whose text could not be encoded: the arms' averages."""
        quality, tokens = self._prior
        cost = self.router.pool.cost(self.router.input_tokens.estimate(counts), tokens)
        return Forecast(
            self.router.arms, quality, tokens, np.full_like(quality, _UNKNOWN_SPREAD), np.zeros(1, dtype=bool), cost
        )

    def _nothing(self, error: NoFeasibleArm, excluded: dict[str, str]) -> Refused:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(excluded.items())[:8])
        return Refused(
            f"no model can take this request ({error})" + (f". Left out: {why}" if why else ""),
            status=400,
            code="no_feasible_arm",
        )

    def close(self) -> None:
        """End the encoding thread."""
        self.vectors.close()


_REFUSED_THINKING = frozenset({"temperature", "top_k", "top_p"})
_REFUSED_REASONING = frozenset({"temperature", "top_p", "presence_penalty", "frequency_penalty", "logit_bias", "stop"})


def _may_look(call: Call, needs: frozenset[str], stay: Stay) -> bool:
    """Return whether a cascade may look at answers. Not within a tool loop, and not where the client reads the stream
    to act on it.
    """
    return not (stay.arm or stay.escalate or {"n", "background"} & needs or (call.stream and "tools" in needs))


def _reason(decision: Decision, session: Session | None) -> str:
    if session is None:
        return f"routed: {decision.reason}"
    return f"{'kept' if Arm(session.arm).model == decision.model else 'switched'}: {decision.reason}"
