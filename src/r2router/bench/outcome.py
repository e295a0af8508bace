"""Records of what calls gave: tokens and dollars of the arm, and what was really paid, are two things and kept apart."""

from __future__ import annotations

import math
import time
from typing import Any

import msgspec

from r2router.bench.plan import Plan, Work, chain_budget
from r2router.bench.record import Record
from r2router.bench.thinking import split_thinking
from r2router.pool.prices import cost_usd
from r2router.types import Budget, Prices
from r2router.upstream.controls import CLOSINGS
from r2router.upstream.reply import Failure, Reply
from r2router.upstream.wire import Usage

OVER_ALLOWANCE = "the endpoint did not keep to the allowance of"
"""How the note of an answer begins whose thinking went beyond what was asked for."""
CUT = ("length", "max_tokens", "MAX_TOKENS")
"""Finish reasons of an answer that was cut off at its allowance."""


def answer_record(plan: Plan, work: Work, budget: Budget, key: str, reply: Reply, most_usd: float) -> Record:
    """An answer that came in one call."""
    usage = reply.usage
    cut = reply.finish_reason in CUT
    said = split_thinking(reply.text)
    thought = said.thought or bool(reply.reasoning) or bool(usage and usage.reasoning)
    notes = [text for text in (reply.note, reply.usage_error) if text]
    starved = thought and not said.answer.strip() and (cut or said.cut)  # some endpoints call an answer whole that was cut
    if starved:
        notes.append("the whole allowance went into thinking")
    if "thinking_tokens" in budget.control and usage and (usage.reasoning or 0) > 1.1 * (budget.tokens or 0) + 32:
        notes.append(f"{OVER_ALLOWANCE} {budget.tokens:,}: {usage.reasoning:,} tokens of thinking")
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
        **_paid(work, reply, most_usd),
    )


def failure_record(plan: Plan, work: Work, budget: Budget, key: str, failure: Failure, most_usd: float) -> Record:
    """A call that gave nothing: an error, and never a quality."""
    charged = failure.unsure * most_usd
    return _record(
        plan, work, budget, key, error=failure.message, error_kind=failure.kind, attempts=failure.attempts, charged_usd=charged,
        paid_usd=None if failure.unsure else 0.0,
    )  # fmt: skip


def chain_record(plan: Plan, work: Work, key: str, result: Reply | Failure, most_usd: float) -> Record:
    """The long answer that several budgets are cut from; an error where its tokens cannot be told apart."""
    chain = chain_budget(work.budgets)
    if isinstance(result, Failure):
        return msgspec.structs.replace(failure_record(plan, work, chain, key, result, most_usd), kind="chain", control="greedy")
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
        **_paid(work, result, most_usd),
    )
    return msgspec.structs.replace(record, kind="chain", control="greedy")


def natural_record(plan: Plan, work: Work, budget: Budget, key: str, chain: Record) -> Record:
    """The chain itself, where it ended within the budget: nothing more was called or paid."""
    usage = Usage(chain.input_tokens or 0, chain.output_tokens or 0)
    return _record(
        plan, work, budget, key, usage=usage, response=chain.response, finish_reason=chain.finish_reason, truncated=False,
        cost_usd=cost_usd(_prices(work), usage), paid_usd=0.0, latency_s=chain.latency_s, ttft_s=chain.ttft_s, served=chain.served,
        note="shared: the chain's own end",
    )  # fmt: skip


def forced_record(plan: Plan, work: Work, budget: Budget, key: str, chain: Record, cut: str, reply: Reply, most_usd: float) -> Record:
    """A cut of the chain and the short answer behind it.

    The arm's tokens are what it would have used alone: input = prompt and closing words, output = cut + forced answer. Its latency
    is the chain's share plus the forced call's. What was paid is the forced call alone; the chain is paid for in its own record.
    """
    closing = CLOSINGS[plan.controls.closing]
    answer = reply.text.removeprefix(cut + closing)  # some servers give back what they continue
    end = "\n</think>" if split_thinking(cut).cut else ""  # the closing words end the thinking, too: what follows is the answer
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
        **_paid(work, reply, most_usd) | {"latency_s": reply.latency_s + share * (chain.latency_s or 0.0), "ttft_s": chain.ttft_s},
    )


def _record(plan: Plan, work: Work, budget: Budget, key: str, *, usage: Usage | None = None, **fields: Any) -> Record:
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
        control=plan.controls.signature(budget),
        budget_tokens=budget.tokens,
        sample=work.sample,
        at=round(time.time(), 3),
        **fields,
    )


def _paid(work: Work, reply: Reply, most_usd: float) -> dict[str, Any]:
    """What a successful call cost, and what the spending limit counts: unknown amounts at their dearest."""
    known = cost_usd(_prices(work), reply.usage) if reply.usage else None
    lost = reply.unsure * most_usd
    return {
        "paid_usd": None if known is None or reply.unsure else known,
        "charged_usd": (most_usd if known is None else known) + lost,
        "latency_s": round(reply.latency_s, 4),
        "ttft_s": None if reply.ttft_s is None else round(reply.ttft_s, 4),
        "served": reply.model if reply.model != work.model.upstream else None,
        "attempts": reply.attempts,
    }


def _unusable(reply: Reply) -> str | None:
    if reply.reasoning:
        return "prefix_sharing cannot cut an answer whose thinking comes apart from it; switch thinking off, or use another control"
    if reply.usage is None:
        return f"prefix_sharing needs the chain's token count: {reply.usage_error}"
    if abs(len(reply.pieces) - reply.usage.output) > 2 + 0.02 * reply.usage.output:
        return (
            f"the endpoint gave {len(reply.pieces)} pieces for {reply.usage.output} tokens, so that no budget can be cut exactly; "
            "prefix_sharing needs one piece a token, or log-probabilities"
        )
    return None


def _prices(work: Work) -> Prices:
    return work.model.usd_per_million or Prices(math.nan, math.nan)  # a plan has refused models without prices
