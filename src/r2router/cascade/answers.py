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
    logprobs: natural logarithms of the probabilities of the answer's tokens.
    check: the verdict of the user's own check: true, false, a share in [0, 1], or None without a check.
    usd: US dollars that were paid, where this is known better than from tokens and list prices.
    continues: index into `seen` of the earlier answer of the same model that this one continues (`Step.continues`). Its
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
        """The mean log-probability per token; NaN where it is not known."""
        known = [] if self.logprobs is None else [value for value in self.logprobs if math.isfinite(value)]
        return sum(known) / len(known) if known else math.nan


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What to do next: ask an arm, or accept an answer. Exactly one of `call` and `accept` is not None.

    call: the arm to ask, as `Router.route` describes it; its quality is the expected one, given the answers so far.
    accept: index into `seen` of the best answer.
    value: expected US dollars of the whole policy from here on, less the cost still to be paid (`Value`, `Tradeoff`);
        for the other policies, the expected quality of the accepted answer.
    quality: the probability that the best answer so far is right; NaN where there is none.
    paid: US dollars for the answers so far.
    met: false where a minimum quality is not reached, or where more was paid than a cap allows.
    continues: index into `seen` of the answer that the call should continue, so that only what is added is paid; None
        where the arm answers from the beginning. Set only where the router was trained with
        `Cascade(continue_answers=True)`.
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
        """Return the fields as JSON types; a number that is not known is None."""
        return plain(self)


class CascadePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a cascade is expected to do with a question, before anything is asked.

    first: the arm that is asked first.
    looks: whether its answer is looked at. If not, the first arm is the router's choice and its answer is accepted.
    accept_from: the first answer is accepted where it is right with at least this probability; 0 accepts any answer, 1
        accepts none.
    second: (arm, probability that it is asked second), the most likely first.
    calls: the expected number of calls.
    calls_share: the probability of exactly one call, of two, and so on.
    cost, quality: expected US dollars for all calls, and the probability that the accepted answer is right.
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
        """Return the fields as JSON types; a number that is not known is None."""
        return plain(self)
