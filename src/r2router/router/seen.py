"""The inputs of a cascade, checked: a policy as `Terms`, and the answers so far."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from r2router.cascade.answers import Answer
from r2router.cascade.checks import read_verdict
from r2router.cascade.value import Terms
from r2router.decide import Best, Cheapest, Policy, Tradeoff, Value
from r2router.errors import QueryError
from r2router.text import suggest
from r2router.types import FloatArray

if TYPE_CHECKING:
    from r2router.router.router import Router

_MUCH = 1e6  # times the largest cost: what a correct answer is worth where only quality counts
_MAX_SEEN = 64
_MAX_AMOUNT = 1e12  # of tokens or US dollars: more is a mistake


def terms_of(policy: Policy, cost: FloatArray) -> Terms | None:
    """Read a policy as `Terms`; None for a policy of another kind."""
    largest = float(cost[np.isfinite(cost)].max(initial=0.0)) or 1.0
    match policy:
        case Value(usd):
            return Terms(usd)
        case Tradeoff(lam, scale) if scale is not None:
            return Terms(scale * (1 - lam) / lam if lam > 0 else _MUCH * largest)
        case Best(_):
            return Terms(_MUCH * largest)
        case Cheapest(floor):
            return Terms(_MUCH * largest, floor)
        case _:
            return None


def check_seen(router: Router, seen: Sequence[Answer]) -> list[int]:
    """Return the index of each answer's arm. Raises `QueryError` for anything but an `Answer`, and for an
    unknown arm.
    """
    if not isinstance(seen, (list, tuple)):
        raise QueryError(f"seen is {type(seen).__name__}; give a list of Answer")
    if len(seen) > _MAX_SEEN:
        raise QueryError(f"seen has {len(seen)} answers; a cascade has at most {_MAX_SEEN}")
    index: dict[str, int] = {str(arm): number for number, arm in enumerate(router.arms)}
    found = []
    for number, answer in enumerate(seen):
        if not isinstance(answer, Answer) or not isinstance(answer.text, str):
            raise QueryError(f"seen[{number}] is not an Answer with a text: give Answer(arm=..., text=...)")
        arm = index.get(str(answer.arm))
        if arm is None:
            hint = suggest(str(answer.arm), list(router.arms))
            raise QueryError(f"seen[{number}]: the router does not have the arm {answer.arm!r:.80}{hint}")
        _check_fields(answer, f"seen[{number}]")
        back = answer.continues
        if back is not None and (isinstance(back, bool) or not isinstance(back, int) or not 0 <= back < number):
            raise QueryError(f"seen[{number}]: continues is {back!r:.40}; it is the place of an earlier answer")
        found.append(arm)
    return found


def _check_fields(answer: Answer, place: str) -> None:
    """Raise `QueryError` where a field of an answer is of another kind: structs do not look at what they are given."""
    logs, why = answer.logprobs, answer.finish_reason
    if logs is not None and not (isinstance(logs, (list, tuple, np.ndarray)) and all(map(_is_number, logs))):
        raise QueryError(f"{place}: logprobs are numbers, one per token")
    if why is not None and not isinstance(why, str):
        raise QueryError(f"{place}: finish_reason is {why!r:.40}; it is text, such as 'stop', or None")
    for name in ("output_tokens", "input_tokens", "usd"):
        amount = getattr(answer, name)
        if amount is not None and not (_is_number(amount) and 0 <= float(amount) < _MAX_AMOUNT):
            raise QueryError(f"{place}: {name} is {amount!r:.40}; it is a finite number of at least 0")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and not isinstance(value, bool)


def verdict_of(answer: Answer) -> FloatArray:
    """Return (1,) the verdict that came with an answer; NaN where there is none."""
    return np.array([read_verdict(answer.check)[0]])
