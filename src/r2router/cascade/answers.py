"""What an arm replied, and what to do next."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from r2router.arm import plain
from r2router.types import Decision


class Answer(msgspec.Struct, frozen=True):
    """What an arm replied.

    arm: the arm that was asked, such as `gpt-5-mini@low`.
    text: its answer; an empty one counts as wrong.
    output_tokens: as the endpoint reported them; None takes the forecast.
    input_tokens: as the endpoint reported them; None takes the forecast.
    finish_reason: the endpoint's, such as `stop` or `length`.
    logprobs: of the answer's tokens, natural logarithms.
    check: the verdict of a check of the user's own: true, false, a share in [0, 1], or None where there is none.
    usd: US dollars that were paid, where they are known better than from tokens and list prices.
    continues: the place of the earlier answer of the same model that this one goes on from (`Step.continues`): its
        tokens are counted as input, and not as output again.
    """

    arm: str
    text: str
    output_tokens: float | None = None
    input_tokens: float | None = None
    finish_reason: str | None = None
    logprobs: tuple[float, ...] | None = None
    check: float | bool | None = None
    usd: float | None = None
    continues: int | None = None

    @property
    def logprob(self) -> float:
        """Mean log-probability per token; NaN where it is not known."""
        known = [] if self.logprobs is None else [value for value in self.logprobs if math.isfinite(value)]
        return sum(known) / len(known) if known else math.nan


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """The next thing to do: ask an arm, or accept an answer. Exactly one of `call` and `accept` is not None.

    call: the arm to ask, as `Router.route` describes it; its quality is what is expected with all answers known.
    accept: index into `seen` of the best answer.
    value: US dollars expected from here on, of the whole policy (`Value`, `Tradeoff`), less what is still to be paid;
        for the other policies, the expected quality of the answer that is accepted in the end.
    quality: how likely the best answer seen is right; NaN where none was seen.
    paid: US dollars for the answers seen.
    met: false where a floor is not reached, or more was paid than a cap allows.
    continues: index into `seen` of the answer that the call is to go on from, so that only what is added is paid; None
        where it is asked afresh. Only routers that were trained with `Cascade(continue_answers=True)` say so.
    reason: one or two sentences for a person.
    """

    call: Decision | None
    accept: int | None
    value: float
    quality: float = math.nan
    paid: float = 0.0
    met: bool = True
    reason: str = ""
    continues: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields in types that JSON has; a number that is not known is None."""
        return plain(self)


class CascadePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a cascade is expected to do with a question, before anything was asked.

    first: the arm that is asked first.
    looks: whether its answer is looked at; where not, the first arm is the router's choice, and its answer is accepted.
    accept_from: the first answer is accepted where it is at least that likely right; 0 where it is accepted whatever it
        is, 1 where no answer is sure enough.
    second: (arm, how likely it is asked second), the likeliest first.
    calls: expected number of arms asked.
    calls_share: how likely exactly one arm is asked, two, and so on.
    cost, quality: US dollars for all calls, and how likely the accepted answer is right, both expected.
    reason: one or two sentences for a person.
    """

    first: Decision
    looks: bool
    accept_from: float = 0.0
    second: tuple[tuple[str, float], ...] = ()
    calls: float = 1.0
    calls_share: tuple[float, ...] = (1.0,)
    cost: float
    quality: float
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The fields in types that JSON has; a number that is not known is None."""
        return plain(self)
