"""Records of what calls gave: tokens and dollars of the arm, and what was really paid, are two things and kept
apart.
"""

from __future__ import annotations

import math
import time
from typing import Any

import msgspec

from r2router.bench.call_key import chain_budget
from r2router.bench.first_calls import is_above
from r2router.bench.plan import CollectionPlan, Work
from r2router.bench.record import Record
from r2router.bench.spend_limit import NANOS, nanos
from r2router.bench.thinking import split_thinking
from r2router.pool.prices import cost_usd
from r2router.types import Budget, Prices
from r2router.upstream.controls import CLOSINGS
from r2router.upstream.reply import Failure, Reply
from r2router.upstream.usage import Usage

OVER_ALLOWANCE = "the endpoint did not keep to the allowance of"
"""How the note of an answer begins whose thinking went beyond what was asked for."""
ABOVE_CAP = "the endpoint did not keep max_tokens"
"""How the note of an answer begins that is longer than its cap."""
CUT = ("length", "max_tokens", "MAX_TOKENS", "model_length", "max_output_tokens", "token_limit")
"""Finish reasons of an answer that was cut off at its allowance."""


def is_cut(reply: Reply) -> bool:
    """Return whether an answer was cut off by its cap."""
    return reply.finish_reason in CUT


def answer_record(plan: CollectionPlan, work: Work, budget: Budget, key: str, reply: Reply, maximum: int) -> Record:
    """Return an answer that came in one call. maximum: nano-dollars of one attempt at its maximum cost."""
    usage, cap = reply.usage, plan.calls_per_answer * plan.cap(work.model, budget)
    cut = is_cut(reply)
    said = split_thinking(reply.text)
    thought = said.thought or bool(reply.reasoning) or bool(usage and usage.reasoning)
    notes = [text for text in (reply.note, reply.usage_error) if text]
    # some endpoints call an answer whole that was cut
    starved = thought and not said.answer.strip() and (cut or said.cut)
    if starved:
        notes.append("the whole allowance went into thinking")
    if "thinking_tokens" in budget.control and usage and (usage.reasoning or 0) > 1.1 * (budget.tokens or 0) + 32:
        notes.append(f"{OVER_ALLOWANCE} {budget.tokens:,}: {usage.reasoning:,} tokens of thinking")
    if is_above(reply, cap) and usage:
        notes.append(f"{ABOVE_CAP} {cap:,}: {usage.output:,} output tokens")
    empty = not (cut or starved or said.answer.strip())
    return _record(
        plan,
        work,
        budget,
        key,
        usage=usage,
        response=reply.text,
        reasoning=reply.reasoning or None,
        finish_reason=reply.finish_reason,
        truncated=cut,
        starved=starved,
        cost_usd=cost_usd(_prices(work), usage) if usage else None,
        note="; ".join(notes),
        doubt="no_usage" if usage is None else "empty" if empty else "",
        **_paid(work, reply, maximum),
    )


def failure_record(
    plan: CollectionPlan, work: Work, budget: Budget, key: str, failure: Failure, maximum: int
) -> Record:
    """Return a call that gave nothing: an error, and never a quality."""
    lost = _lost(work, failure, maximum)
    return _record(
        plan, work, budget, key, error=failure.message, error_kind=failure.kind, attempts=failure.attempts,
        charged_usd=lost / NANOS,
        paid_usd=None if lost else 0.0,
    )  # fmt: skip


def chain_record(plan: CollectionPlan, work: Work, key: str, result: Reply | Failure, maximum: int) -> Record:
    """Return the long answer that several budgets are cut from; an error where its tokens cannot be told apart."""
    chain = chain_budget(work.budgets)
    if isinstance(result, Failure):
        return msgspec.structs.replace(
            failure_record(plan, work, chain, key, result, maximum), kind="chain", control="greedy"
        )
    problem = _unusable(result)
    record = _record(
        plan,
        work,
        chain,
        key,
        usage=result.usage,
        response=result.text,
        finish_reason=result.finish_reason,
        truncated=result.finish_reason in CUT,
        pieces=[len(p) for p in result.pieces],
        error=problem,
        error_kind="malformed" if problem else None,
        **_paid(work, result, maximum),
    )
    return msgspec.structs.replace(record, kind="chain", control="greedy")


def natural_record(plan: CollectionPlan, work: Work, budget: Budget, key: str, chain: Record) -> Record:
    """Return the chain itself, where it ended within the budget: nothing more was called or paid."""
    usage = Usage(chain.input_tokens or 0, chain.output_tokens or 0)
    return _record(
        plan, work, budget, key, usage=usage, response=chain.response, finish_reason=chain.finish_reason,
        truncated=False,
        cost_usd=cost_usd(_prices(work), usage), paid_usd=0.0, latency_s=chain.latency_s, ttft_s=chain.ttft_s,
        served=chain.served,
        note="shared: the chain's own end",
    )  # fmt: skip


def forced_record(
    plan: CollectionPlan, work: Work, budget: Budget, key: str, chain: Record, cut: str, reply: Reply, maximum: int
) -> Record:
    """Return a cut of the chain and the short answer behind it.

    The arm's tokens are what it would have used alone: input = prompt and closing words, output = cut + forced answer.
    Its latency is the chain's share plus the forced call's. What was paid is the forced call alone; the chain is paid
    for in its own record.
    """
    closing = CLOSINGS[plan.controls.closing]
    answer = reply.text.removeprefix(cut + closing)  # some servers give back what they continue
    # the closing words end the thinking, too: what follows is the answer
    end = "\n</think>" if split_thinking(cut).cut else ""
    k = min(budget.tokens or 0, len(chain.pieces or []))
    usage = Usage(max(reply.usage.input - k, 0), k + reply.usage.output) if reply.usage else None
    share = k / max(chain.output_tokens or 1, 1)
    return _record(
        plan,
        work,
        budget,
        key,
        usage=usage,
        response=cut + end + closing + answer,
        finish_reason="forced",
        truncated=True,
        cost_usd=cost_usd(_prices(work), usage) if usage else None,
        note=reply.usage_error,
        **_paid(work, reply, maximum)
        | {
            "latency_s": reply.latency_s + share * (chain.latency_s or 0.0),
            "ttft_s": chain.ttft_s,
        },
    )


def _record(
    plan: CollectionPlan, work: Work, budget: Budget, key: str, *, usage: Usage | None = None, **fields: Any
) -> Record:
    if usage is not None:
        fields |= {
            "input_tokens": usage.input,
            "cached_tokens": usage.cached,
            "output_tokens": usage.output,
            "reasoning_tokens": usage.reasoning,
        }
    return Record(
        key=key,
        query=work.query_key,
        query_id=work.query.id,
        model=work.model.id,
        budget=budget.id,
        control=plan.controls.signature(work.model, budget),
        budget_tokens=budget.tokens,
        sample=work.sample,
        at=round(time.time(), 3),
        **fields,
    )


def _paid(work: Work, reply: Reply, maximum: int) -> dict[str, Any]:
    """Return what a successful call cost, and what the spend limit counts: what was reported, and unknown amounts at
    their maximum cost.
    """
    known = cost_usd(_prices(work), reply.usage) if reply.usage else None
    lost = _lost(work, reply, maximum)
    return {
        "paid_usd": None if known is None or lost else known,
        "charged_usd": ((maximum if known is None else nanos(known)) + lost) / NANOS,
        "latency_s": round(reply.latency_s, 4),
        "ttft_s": None if reply.ttft_s is None else round(reply.ttft_s, 4),
        "served": reply.model if reply.model != work.model.upstream else None,
        "attempts": reply.attempts,
    }


def _lost(work: Work, result: Reply | Failure, maximum: int) -> int:
    """Nano-dollars of failed attempts that may be billed: each at its maximum cost, or what they reported where that is
    more.
    """
    return max(result.maybe_billed * maximum, nanos(cost_usd(_prices(work), result.lost)) if result.lost else 0)


def _unusable(reply: Reply) -> str | None:
    if reply.reasoning:
        return (
            "prefix_sharing cannot cut an answer whose thinking comes apart from it; switch thinking off, or use"
            " another control"
        )
    if reply.usage is None:
        return f"prefix_sharing needs the chain's token count: {reply.usage_error}"
    if abs(len(reply.pieces) - reply.usage.output) > 2 + 0.02 * reply.usage.output:
        return (
            f"the endpoint gave {len(reply.pieces)} pieces for {reply.usage.output} tokens, so that no budget can be"
            " cut exactly; prefix_sharing needs one piece per token, or log-probabilities"
        )
    return None


def _prices(work: Work) -> Prices:
    return work.model.usd_per_million or Prices(math.nan, math.nan)  # a plan has refused models without prices
