"""Which length settings apply: the arm's, limited by the caller's."""

from __future__ import annotations

from typing import Literal

import msgspec

from r2router.gateway.conversation import Ceilings
from r2router.gateway.dialects.dialect import minimum
from r2router.pool.pool import budget_order
from r2router.types import Budget, Dialect, Enforcement
from r2router.upstream.controls import thinking_within

Source = Literal["none", "router", "caller", "both"]
"""Whose settings a request carries: nobody's, the arm's, the caller's, or some of each."""

ANTHROPIC_MIN = 1_024  # tokens of thinking that it takes at least


def under(
    sent: Enforcement, caller: Ceilings, levels: tuple[str, ...], room: int, dialect: Dialect
) -> tuple[Enforcement, Source]:
    """Return the arm's budget limited by the caller's values, and whose settings those are.

    levels: the efforts that the arm's model takes.
    room: tokens for the answer beside thinking.
    """
    cap = minimum(sent.max_tokens, caller.max_tokens)
    effort, thinking = _effort(sent.effort, caller, levels), sent.thinking_tokens
    if thinking is not None:
        thinking = minimum(thinking, caller.thinking, 0 if caller.effort == "none" else None) or 0
        if thinking and cap is not None and cap < thinking + room and cap != sent.max_tokens:
            thinking = thinking_within(thinking, cap, room)
        if dialect == "anthropic" and 0 < thinking < ANTHROPIC_MIN:
            thinking = 0
    found = msgspec.structs.replace(sent, max_tokens=cap, effort=effort, thinking_tokens=thinking)
    return found, _source(sent, found, caller)


def callers(sent: Enforcement, caller: Ceilings, room: int, dialect: Dialect) -> tuple[Enforcement, Source]:
    """Return the caller's values unchanged; the arm's fill in what the caller did not set.

    room, dialect: as in `under`.

    An arm's thinking stays below the caller's cap: providers refuse more, and an answer must have room.
    """
    thinks = caller.effort is not None or caller.thinking is not None
    thinking = sent.thinking_tokens
    if thinking and caller.max_tokens is not None and caller.max_tokens < thinking + room:
        thinking = thinking_within(thinking, caller.max_tokens, room)
        thinking = 0 if dialect == "anthropic" and thinking < ANTHROPIC_MIN else thinking
    found = msgspec.structs.replace(
        sent,
        max_tokens=None if caller.max_tokens is not None else sent.max_tokens,
        effort=None if thinks else sent.effort,
        thinking_tokens=None if thinks else thinking,
    )
    return found, _source(sent, found, caller)


def _effort(ours: str | None, caller: Ceilings, levels: tuple[str, ...]) -> str | None:
    """Return the lower of two efforts, as one that the model takes: the highest at or below it, else its lowest."""
    if ours is None:
        return None
    asked = "none" if caller.thinking == 0 else caller.effort
    if asked is None or budget_order(Budget(asked))[0] != 1:  # a name that is no effort: nothing to compare
        return ours
    lower = min(ours, asked, key=lambda name: budget_order(Budget(name)))
    return clamped(lower, (ours, *levels))


def clamped(effort: str, levels: tuple[str, ...]) -> str:
    """Return an effort as one of a model's levels: the highest level that is not above it, or the lowest level where all are above.

    Unchanged where the model's levels are not known, or where the effort has no order.
    """
    limit = budget_order(Budget(effort))
    if not levels or limit[0] != 1:
        return effort
    ranked = sorted(set(levels), key=lambda name: budget_order(Budget(name)))
    return next((name for name in reversed(ranked) if budget_order(Budget(name)) <= limit), ranked[0])


def _source(sent: Enforcement, found: Enforcement, caller: Ceilings) -> Source:
    said = any(value is not None for value in (caller.max_tokens, caller.effort, caller.thinking))
    names = ("max_tokens", "effort", "thinking_tokens")
    ours = [name for name in names if getattr(sent, name) is not None and getattr(found, name) == getattr(sent, name)]
    theirs = said and any(getattr(found, name) != getattr(sent, name) for name in names)
    if not said and not any(getattr(sent, name) is not None for name in (*names, "instruction")):
        return "none"
    if theirs or (said and not ours):
        return "both" if ours or found.instruction else "caller"
    return "router"
