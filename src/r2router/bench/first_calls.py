"""The first calls of a model: one alone, then four more, and only then as many as its provider takes.

What is wrong with an endpoint shows in them, before much is paid: it ignores the cap, reports no usage, or says
nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from r2router.upstream.reply import Reply

FIRST = 5
"""Calls of a model that end before more of them begin at once."""
_ABOVE = 3
"""Answers above their cap before a model is stopped."""
_SLACK = 16
"""Tokens above a cap that are a way of counting, beside a tenth of the cap."""


class FirstCalls:
    """What is known of one model from this run's calls.

    over_max: the largest charge of a call as a multiple of the maximum cost that was computed for it, at least 1.
    """

    def __init__(self) -> None:
        self.over_max = 1.0
        self._begun = self._ended = 0
        self._answers = self._silent = self._empty = 0
        self._above = self._above_in_row = 0
        self._finish: str | None = None
        self._turn = asyncio.Event()

    async def enter(self) -> None:
        """Wait until a call may begin; `leave` follows it."""
        while self._ended < FIRST and self._begun >= (FIRST if self._ended else 1):
            await self._turn.wait()
        self._begun += 1

    def leave(self, *, tells: bool) -> None:
        """A call is over. tells: whether it says something of the model; a prompt beyond the context does not, nor a
        call not made.
        """
        self._ended += tells
        self._begun -= not tells
        self._turn.set()
        self._turn = asyncio.Event()

    def charged(self, nano: int, maximum: int) -> None:
        """What an answer came to, and what it was to come to at most: the next ones may come to as much."""
        if maximum and nano > maximum:
            self.over_max = max(self.over_max, nano / maximum)

    def judge(self, reply: Reply, cap: int, *, cut: bool) -> str | None:
        """Return why no more should be asked of the model after this answer; None where nothing is wrong with it.

        cap: the `max_tokens` that was sent.
        cut: whether the answer was cut off.
        """
        self._answers += 1
        self._silent += reply.usage is None
        empty = not (reply.text.strip() or cut)
        self._empty += empty
        self._finish = reply.finish_reason if empty else self._finish
        if is_above(reply, cap):
            self._above, self._above_in_row = self._above + 1, self._above_in_row + 1
        else:
            self._above_in_row = 0
        made = reply.usage.output if reply.usage else 0
        if self._above_in_row >= _ABOVE or (self._above >= _ABOVE and 2 * self._above >= self._answers):
            return (
                f"{self._above:,} answers were longer than their cap (the last: {made:,} output tokens, max_tokens"
                f" {cap:,}). The endpoint does not respect max_tokens, so no spend limit can hold: fix the endpoint, or"
                " take the model out of the pool"
            )
        if self._answers == FIRST and self._silent == FIRST:
            return (
                f"its first {FIRST} answers report no usage ({reply.usage_error}), so their tokens and costs are"
                " unknown and nothing can be trained on them. Some endpoints report it only with stream = false of"
                " their [provider]: try that, and give --retry-failed to ask these again"
            )
        if self._answers == FIRST and self._empty == FIRST:
            return (
                f"its first {FIRST} answers are empty (finish reason {self._finish!r}): a content filter, a tool call"
                " or a wrong chat template; ask it by hand, fix that, and repeat these calls with --retry-failed"
            )
        return None


def is_above(reply: Reply, cap: int) -> bool:
    """Return whether an answer has clearly more tokens than were allowed."""
    return reply.usage is not None and reply.usage.output > 1.1 * cap + _SLACK
