"""What is written to the ledger: a request that opens, how it ended, and the limits of a key.

Money is whole nano-dollars (1e-9 US dollars); `reserve` and `cost_nanos` compute them.
"""

from __future__ import annotations

import asyncio
import time
from typing import Literal

import msgspec

from r2router.errors import ConfigError
from r2router.gateway.pacing import Pace
from r2router.upstream.usage import Usage

State = Literal["done", "cut", "cancelled", "failed"]
"""How a request ended: whole; cut off by a limit of ours or of its provider; left by its client; without an answer."""


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a key may use; None sets no limit, and zero refuses everything.

    day_nanos, month_nanos, total_nanos: nano-dollars, spent and in flight together.
    minute_requests, minute_tokens: per minute of the clock; a request counts its maximum tokens until it ends.
    concurrent: concurrent requests.
    """

    day_nanos: int | None = None
    month_nanos: int | None = None
    total_nanos: int | None = None
    minute_requests: int | None = None
    minute_tokens: int | None = None
    concurrent: int | None = None

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if value is not None and not 0 <= value <= MAX_AMOUNT:
                raise ConfigError(
                    f"limit {name} is {value:,}; it is a whole number from 0 to {MAX_AMOUNT:,}, or absent for no limit"
                )

    @property
    def budgeted(self) -> bool:
        """Whether there is a limit on money."""
        return not (self.day_nanos is None and self.month_nanos is None and self.total_nanos is None)

    @property
    def bounds_answers(self) -> bool:
        """Whether what an answer may come to is set aside: money, or tokens."""
        return self.budgeted or self.minute_tokens is not None

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        return any(getattr(self, name) is not None for name in self.__struct_fields__)


MAX_AMOUNT = 10**17
"""Nano-dollars that a limit or one request may come to (100 million dollars): sums of many stay within 64 bits."""


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is about to be sent upstream.

    id: the unique id of the request.
    asked: the model that the client asked for.
    arm: the arm that is asked first.
    reserved: the maximum cost of all attempts that may be billed, nano-dollars (`reserve`); None where a price is not
        known, which keys with a budget are refused for.
    tokens: the maximum number of input and output tokens.
    price_version: which prices were used.
    forecast_quality, forecast: the router's forecast for the arm: quality and nano-dollars.
    baseline, baseline_cost, baseline_quality: the same for the arm that reports compare with, such as the best single
        one.
    pace: the initial state of the preset's target.
    time: seconds since 1970, by default now.
    """

    id: str
    asked: str
    arm: str
    endpoint: str
    reserved: int | None
    tokens: int = 0
    key: str | None = None
    session: str | None = None
    preset: str | None = None
    price_version: str = ""
    forecast_quality: float | None = None
    forecast: int | None = None
    baseline: str | None = None
    baseline_cost: int | None = None
    baseline_quality: float | None = None
    pace: Pace | None = None
    time: float = msgspec.field(default_factory=time.time)


class Ticket(msgspec.Struct, frozen=True):
    """The permission to call upstream; it must be settled.

    recorded: false where the ledger was down and the request was allowed anyway.
    written: done when the row is on the disk; None where it is already. The client must not get the complete answer
        before.
    """

    id: str
    opened: Opened
    recorded: bool = True
    written: asyncio.Future[Ticket] | None = None


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """How a request ended.

    cost: nano-dollars of all attempts together; None where a price is not known, which a key with a budget excludes.
    usage: tokens of all attempts.
    estimated: whether the tokens are our own count, as the provider reported none.
    latency_s, ttft_s: seconds to the end and to the first byte.
    served: the arm that answered, where it is not the one asked first.
    attempts: the number of calls upstream.
    """

    state: State
    cost: int | None
    usage: Usage | None = None
    estimated: bool = False
    latency_s: float | None = None
    ttft_s: float | None = None
    served: str | None = None
    attempts: int = 1
    note: str = ""


class ScoreResult(msgspec.Struct, frozen=True):
    """The effect of a score.

    preset: the request's preset.
    pace: the state of the preset's target after it.
    """

    preset: str | None
    pace: Pace | None = None


class Charge(msgspec.Struct, frozen=True):
    """The effect of settling.

    cost: nano-dollars that count now.
    over: nano-dollars above the reservation; should be 0.
    repeated: the request had been settled before, and nothing changed.
    later: the database is down; the cost is written when it is back, and until then the reservation counts.
    pace: the state of the preset's target after this request.
    """

    cost: int
    over: int = 0
    repeated: bool = False
    later: bool = False
    pace: Pace | None = None
