"""Answers that the arm's own budget cut, where the preset wants whole ones: continue them, or ask again without the
budget.
"""

from __future__ import annotations

from dataclasses import replace

import msgspec

from r2router.gateway.attempt import BegunReply
from r2router.gateway.request import Call
from r2router.gateway.splice import Items, Members, NotJson, with_words
from r2router.gateway.step import Plan, PlannedStep, output_ceiling
from r2router.gateway.translate.chat_reply import usage_report
from r2router.upstream.controls import continues
from r2router.upstream.usage import Usage

CUT = frozenset({"length", "max_tokens", "max_output_tokens", "model_context_window_exceeded"})
"""Why an answer ended that is not whole."""


def cut_by_us(call: Call, plan: Plan, step: PlannedStep, held: BegunReply) -> bool:
    """Return whether the arm's budget cut a whole reply, and the preset wants such answers repaired."""
    cap, theirs = step.sent.max_tokens, call.ceilings.max_tokens
    watch = held.tap.watch
    ours = cap is not None and (theirs is None or cap < theirs)
    return (
        plan.cut != "return"
        and ours
        and held.done
        and not held.tap.streamed
        and watch.finish in CUT
        and not watch.calls
    )


def second(call: Call, plan: Plan, step: PlannedStep, held: BegunReply) -> PlannedStep | None:
    """Plan the call that repairs an answer; None where the limit leaves no room for more."""
    maximum, wrote = output_ceiling(step, call.ceilings.max_tokens), step.sent.max_tokens or 0
    if maximum <= wrote:
        return None
    words = held.tap.watch.words
    if plan.cut == "continue" and words and step.speaks == call.dialect.name == "chat" and continues(step.provider):
        return replace(step, sent=msgspec.structs.replace(step.sent, max_tokens=maximum - wrote), said=words)
    return replace(step, sent=msgspec.structs.replace(step.sent, max_tokens=maximum, instruction=None))


def joined(first: bytes, held: BegunReply, usage: Usage) -> bytes:
    """Append a continuation to a chat completion. Raises `NotJson`.

    usage: of both calls together.
    """
    body = Members(first)
    choices = Items(body.raw("choices") or b"")
    choice = Members(choices[0])
    message = choice.object("message") or Members(b"{}")
    content = message.raw("content") or b""
    if content[:1] != b'"':
        raise NotJson("the content is no text")
    message.set("content", with_words(content, held.tap.watch.words))
    choice.set("message", message.render())
    choice.put("finish_reason", held.tap.watch.finish)
    choices.set(0, choice.render())
    body.set("choices", choices.render())
    body.put("usage", usage_report(usage))
    return body.render()
