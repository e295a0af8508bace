"""What a request cost: by the provider's report, or by our own count where there is none.

What may have been billed never counts as zero.
"""

from __future__ import annotations

import math

import msgspec

from r2router.gateway.dialects.dialect import ReplyWatch
from r2router.gateway.ledger.bound import TokenBounds, output_bound
from r2router.gateway.ledger.bound import reserve as worst_case
from r2router.gateway.request import Call
from r2router.gateway.setting import REPLAY
from r2router.gateway.step import Plan, PlannedStep, output_ceiling
from r2router.pool.prices import cost_nanos
from r2router.types import Prices
from r2router.upstream.usage import Convention, Usage, sum_usage, usage_of

_CHARACTERS_PER_TOKEN = 3.5
_MARGIN = 1.3  # tokenizers differ by tens of per cent
_TEMPLATE = 256
_LONGEST_PROMPT = 2_000_000  # of a model whose context is not known
_FREE = Prices(0.0, 0.0)
_CONVENTIONS: dict[str, Convention] = {"gemini": "gemini", "deepseek": "deepseek"}  # others name what they mean


class Bill(msgspec.Struct):
    """The cost of all attempts of a request.

    cost: nano-dollars; None where a price is not known.
    estimated: whether any part comes from our own count.
    """

    cost: int | None = 0
    usage: Usage | None = None
    estimated: bool = False

    def add(self, plan: Plan, step: PlannedStep, usage: Usage, *, estimated: bool) -> None:
        """Add an attempt. A replay costs nothing."""
        usual = None if plan.conversation.own_rates else step.model.usd_per_million
        prices = _FREE if step.model.provider == REPLAY else usual
        self.cost = None if prices is None or self.cost is None else self.cost + cost_nanos(prices, usage)
        self.usage = sum_usage(self.usage, usage)
        self.estimated = self.estimated or estimated


def nanos(usd: float) -> int:
    """Convert US dollars to the nearest whole nano-dollars."""
    return round(usd * 1e9)


def usage_from(plan: Plan, step: PlannedStep, watch: ReplyWatch, sent_bytes: int) -> tuple[Usage, bool]:
    """Return (tokens of a call, whether they are our own count).

    sent_bytes: size of the request.

    An impossible report is ignored. A report of an answer that broke off counts at least what was received. Our own
    count stays below what a model can write: a provider that sends text without an end is not paid for all of it.
    """
    said = plan.conversation
    maximum = sent_bytes
    # what the provider keeps or fetches, and its tools, have tokens beside those that were sent
    if said.images or said.state or said.elsewhere or "custom_tools" in said.needs:
        maximum = max(sent_bytes, 2 * (step.model.context or _LONGEST_PROMPT))
    whole = watch.begun and watch.whole
    convention = step.provider.usage or _CONVENTIONS.get(step.provider.dialect)
    reported, _ = usage_of(watch.usage, step.sent.max_tokens, spoke=whole, sent_bytes=maximum, convention=convention)
    if reported is None and convention is not None:  # a proxy that counts in a way of its own: told from names and sums
        reported, _ = usage_of(watch.usage, step.sent.max_tokens, spoke=whole, sent_bytes=maximum)
    if reported is not None and watch.whole:
        return reported, False
    made = min(math.ceil(watch.characters / _CHARACTERS_PER_TOKEN), watch.most_tokens)
    own = Usage(max(1, plan.input_tokens), made)
    if reported is None:
        return own, True
    return msgspec.structs.replace(reported, output=max(reported.output, own.output)), True


def max_input(call: Call, step: PlannedStep) -> int:
    """The most tokens that a provider may bill as the input of one attempt.

    No tokenizer makes more tokens than there are bytes. What the body only names (earlier turns, a stored prompt, a
    file) has no bytes here: then it is what the model can read.
    """
    said = call.conversation
    words = len((step.sent.instruction or "").encode())
    tokens = len(call.body.data) - said.binary + words + math.ceil(said.max_images * _MARGIN) + _TEMPLATE
    return max(tokens, step.model.context or _LONGEST_PROMPT) if said.elsewhere else tokens


def reserve(plan: Plan, call: Call, billable: int, *, hourly: bool = False) -> tuple[int | None, int]:
    """Return (nano-dollars, tokens) of the worst case: the most expensive of the steps, as often as attempts may be
    billed.

    billable: attempts. hourly: what is written to a cache may be kept for an hour. None where a price is not known.
    """
    costs, again = list[int](), list[int]()
    tokens = 0
    for step in plan.steps if plan.looks is None else plan.looks.steps:
        given = max_input(call, step)
        cap = call.ceilings.largest if step.sent.max_tokens is None else step.sent.max_tokens
        cap = output_bound(step.model, cap) + call.ceilings.beside
        facts = TokenBounds(
            input_tokens=given, output_tokens=cap, n=call.ceilings.answers, cache_writes="1h" if hourly else "5m"
        )
        tokens = max(tokens, facts.tokens)
        if step.model.provider == REPLAY:
            return 0, tokens
        if step.model.usd_per_million is None or call.conversation.own_rates:
            return None, tokens
        costs.append(worst_case(facts, step.model.usd_per_million))
        if plan.cut != "return":  # one more call, which may begin with the answer so far
            longer = output_ceiling(step, call.ceilings.max_tokens)
            more = msgspec.structs.replace(facts, input_tokens=given + cap, output_tokens=longer)
            again.append(worst_case(more, step.model.usd_per_million))
            tokens = max(tokens, facts.tokens + more.tokens)
    costs.sort(reverse=True)
    return sum(costs[: max(1, billable)]) + max(again, default=0), tokens


def cost_headers(bill: Bill, before: Bill) -> list[tuple[bytes, bytes]]:
    """Make the headers with the cost of a request and of the calls before; none where it is not known."""
    if bill.cost is None or before.cost is None:
        return []
    source = b"estimate" if bill.estimated or before.estimated else b"usage"
    return [
        (b"x-r2router-cost", f"{(bill.cost + before.cost) / 1e9:.9f}".encode()),
        (b"x-r2router-cost-source", source),
    ]
