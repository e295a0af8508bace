"""The plan of a request: the arms that may be asked, and the bytes that each of them is sent."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import msgspec

from r2router.gateway.budgets import Source
from r2router.gateway.config import NO_EDITS, Edits, Mend, Served
from r2router.gateway.conversation import Ceilings, Conversation
from r2router.gateway.dialects import NAMED
from r2router.gateway.dialects.dialect import Dialect, Speaks, minimum
from r2router.gateway.pacing import Pace
from r2router.gateway.request import Call
from r2router.gateway.sessions import Session
from r2router.gateway.splice import Items, Members
from r2router.gateway.stay import Stay
from r2router.gateway.translate import translated
from r2router.router.steps import Question
from r2router.types import Decision, Enforcement, Model
from r2router.upstream.controls import SAFETY_CAP, continuing

_THINKING_CAP = 32_000
"""As `SAFETY_CAP`, for an effort: thinking counts in it. All models that take one can write as much."""


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One arm that may be asked.

    sent: how its budget is enforced.
    source: whose length settings apply.
    speaks: the endpoint of its provider that is asked.
    refuses: request fields that its model does not accept.
    edits: how requests must be changed for its server.
    said: the beginning of an answer that should be continued.
    """

    arm: str
    model: Model
    provider: Served
    sent: Enforcement
    source: Source
    speaks: Speaks
    refuses: frozenset[str] = frozenset()
    edits: Edits = NO_EDITS
    said: str = ""

    @property
    def dialect(self) -> Dialect:
        return NAMED[self.speaks]


@dataclass(frozen=True, eq=False, slots=True)
class CascadeSetup:
    """The cascade of a request: answers are checked before one is relayed.

    question: decides the next step.
    make: plans the call of a decision.
    steps: all calls that may be made.
    """

    question: Question
    make: Callable[[Decision], PlannedStep]
    steps: tuple[PlannedStep, ...]


class Baseline(NamedTuple):
    """The forecast for the arm that reports compare with.

    cost: US dollars.
    """

    arm: str
    cost: float
    quality: float


@dataclass(frozen=True, slots=True)
class Plan:
    """How a request is answered: which arms are asked, and in which order.

    steps: in the order in which they are asked.
    reason: why the first one.
    decision: the router's, where it chose.
    input_tokens: an estimate.
    excluded: model or arm -> why it was left out.
    stay: why the conversation stays with a model.
    looks: the cascade; None where the first answer is relayed as it comes.
    cut: how to repair an answer that our budget cut, as the preset says.
    pace: the initial state of its preset's target.
    baseline: the forecast for the arm that reports compare with.
    """

    steps: tuple[PlannedStep, ...]
    reason: str
    preset: str | None
    input_tokens: int
    conversation: Conversation
    decision: Decision | None = None
    excluded: dict[str, str] = field(default_factory=dict)
    stay: Stay | None = None
    looks: CascadeSetup | None = None
    cut: Mend = "return"
    pace: Pace | None = None
    baseline: Baseline | None = None


def bounded(plan: Plan, ceilings: Ceilings) -> Plan:
    """Return the plan with a cap on each answer that has none: what it may cost is then known before it is asked for."""
    if ceilings.largest is not None:
        return plan

    def step(given: PlannedStep) -> PlannedStep:
        sent = given.sent
        if sent.max_tokens is not None:
            return given
        room = SAFETY_CAP if sent.effort in (None, "none") else _THINKING_CAP
        cap = minimum((sent.thinking_tokens or 0) + room, given.model.max_output_tokens)
        source: Source = "router" if given.source == "none" else given.source
        return replace(given, sent=msgspec.structs.replace(sent, max_tokens=cap), source=source)

    looks = plan.looks
    if looks is not None:
        make = looks.make
        looks = replace(looks, make=lambda decision: step(make(decision)), steps=tuple(map(step, looks.steps)))
    return replace(plan, steps=tuple(map(step, plan.steps)), looks=looks)


def moved(session: Session | None, plan: Plan, arm: str, at: int | None) -> Session:
    """Return the state of a conversation after an answer.

    at: the index of the arm; None where the router does not have it.
    """
    before = session.switched if session is not None else 0
    left = int(plan.stay.cold[at]) if plan.stay is not None and at is not None else 0
    return Session(
        arm=arm, at=time.time(), tokens=plan.input_tokens, turns=plan.conversation.turns, switched=before + left
    )


def larger_context(plan: Plan, failed: PlannedStep) -> Plan:
    """Keep only the steps whose model takes a longer prompt than the failed one."""
    minimum = failed.model.context or 0
    return replace(plan, steps=tuple(s for s in plan.steps if s.model.context is None or s.model.context > minimum))


def output_ceiling(step: PlannedStep, ceiling: int | None) -> int:
    """Return the maximum output tokens of an answer without the arm's budget.

    ceiling: the caller's.
    """
    return minimum(ceiling, step.model.max_output_tokens) or SAFETY_CAP


def body_for(call: Call, step: PlannedStep, *, usage: bool) -> tuple[bytes, bool]:
    """Return (the bytes to send for a step, whether the gateway itself asks for token counts in the stream)."""
    dialect = step.dialect
    body = call.body.copy() if dialect is call.dialect else translated(call, dialect.name, step.model, step.provider)
    body.put("model", step.model.upstream or step.model.id)
    for name in step.refuses:
        body.remove(name)
    dialect.enforce(body, step.sent, step.provider)
    edited(body, step.edits)
    if step.said:
        _continued(body, step)
    surplus = dialect.ask_usage(body) if call.stream and usage and step.provider.stream_options else False
    return body.render(), surplus


def _continued(body: Members, step: PlannedStep) -> None:
    message, fields = continuing(step.provider, step.said)
    messages = Items(body.raw("messages") or b"[]")
    messages.append(msgspec.json.encode(message))
    body.set("messages", messages.render())
    for name, value in fields.items():
        body.put(name, value)


def edited(body: Members, edits: Edits) -> None:
    """Change a request for an older or stricter server: other names of fields and roles, one system message at the
    start.
    """
    for old, new in edits.rename.items():
        value = body.raw(old)
        if value is not None:
            body.remove(old)
            if new and new not in body:
                body.set(new, value)
    if edits.roles or edits.one_system:
        for key in ("messages", "input"):
            raw = body.raw(key)
            if raw is not None and raw[:1] == b"[":
                body.set(key, _with_roles(raw, edits))


def _with_roles(raw: bytes, edits: Edits) -> bytes:
    items = Items(raw)
    system: list[str] = []
    kept: list[bytes] = []
    changed = False
    for at in range(len(items)):
        item = items[at]
        if item[:1] != b"{":
            kept.append(item)
            continue
        message = Members(item)
        role = message.get("role")
        if isinstance(role, str) and role in edits.roles:
            role = edits.roles[role]
            message.put("role", role)
            item, changed = message.render(), True
        if edits.one_system and role == "system":
            content = message.get("content")
            parts = (
                [content] if isinstance(content, str) else [p.get("text") for p in content or () if isinstance(p, dict)]
            )
            system += [part for part in parts if isinstance(part, str) and part]
            continue
        kept.append(item)
    if system:
        kept.insert(0, msgspec.json.encode({"role": "system", "content": "\n\n".join(system)}))
        changed = True
    return b"[" + b",".join(kept) + b"]" if changed else raw


def as_dict(plan: Plan) -> dict[str, Any]:
    """Show the decision to a person, with what was excluded and why."""
    first = plan.steps[0]
    found: dict[str, Any] = {
        "arm": first.arm,
        "reason": plan.reason,
        "input_tokens": plan.input_tokens,
        "preset": plan.preset,
    }
    if plan.decision is not None:
        found |= plan.decision.to_dict()
    found["reason"] = plan.reason
    found["fallbacks"] = [step.arm for step in plan.steps[1:]]
    found["enforcement"] = msgspec.to_builtins(first.sent)
    found["budget_source"] = first.source
    found["endpoint"] = first.speaks
    found["cascade"] = plan.looks is not None
    return found | {"excluded": plan.excluded}
