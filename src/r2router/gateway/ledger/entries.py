"""What is written to the ledger: a request that opens, what came of it, and the limits of a key.

Money is whole nano-dollars (1e-9 US dollars); `reserve` and `cost_nanos` count them.
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
    """What a key may use; None: no limit. Zero refuses everything.

    day_nanos, month_nanos, total_nanos: nano-dollars, spent and in flight together.
    minute_requests, minute_tokens: of one minute of the clock; tokens are counted at their bound until the request is
        over.
    concurrent: requests at once.
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
        """Whether money is limited."""
        return not (self.day_nanos is None and self.month_nanos is None and self.total_nanos is None)

    @property
    def limited(self) -> bool:
        """Whether anything is."""
        return any(getattr(self, name) is not None for name in self.__struct_fields__)


MAX_AMOUNT = 10**17
"""Nano-dollars that a limit or one request may come to (100 million dollars): sums of many stay within 64 bits."""


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is about to be sent upstream.

    id: of the request, unique.
    asked: the model that the client asked for.
    arm: the one that is asked first.
    reserved: nano-dollars of its worst case, over every attempt that may be billed (`reserve`); None where a price is
        not known, which a key with a budget is refused for.
    tokens: input and output tokens of that worst case.
    price_version: which prices were used.
    forecast_quality, forecast: what the router expects of the arm; nano-dollars.
    baseline, baseline_cost, baseline_quality: the same of the arm that is compared with, as the best single one.
    pace: what the preset holds, as it begins.
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
    """The right to call upstream, which is to be settled.

    recorded: false where the ledger was down and the request was let through.
    written: done when its row is on the disk; None: it is. Its client must not have the whole answer before that.
    """

    id: str
    opened: Opened
    recorded: bool = True
    written: asyncio.Future[Ticket] | None = None


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a request.

    cost: nano-dollars of all attempts together; None where a price is not known: then it must not have been a budgeted
        key.
    usage: tokens of all of them.
    estimated: by our own count, as the provider reported none.
    latency_s, ttft_s: seconds to the end and to the first byte.
    served: the arm that answered, where another did than the one asked first.
    attempts: calls upstream.
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
    """What a score did.

    preset: of the request.
    pace: what that holds, after it.
    """

    preset: str | None
    pace: Pace | None = None


class Charge(msgspec.Struct, frozen=True):
    """What settling did.

    cost: nano-dollars that count now.
    over: nano-dollars above the reservation, which should be 0.
    repeated: the request had been settled before, and nothing changed.
    later: the database is down; it is written when it is back, and until then the reservation counts.
    pace: what its preset holds, after this request.
    """

    cost: int
    over: int = 0
    repeated: bool = False
    later: bool = False
    pace: Pace | None = None
