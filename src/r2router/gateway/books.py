"""What the request path asks of a ledger; and one that keeps nothing."""

from __future__ import annotations

import time
from typing import Any, Literal, Protocol

import msgspec

from r2router.upstream.usage import Usage


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is about to be sent upstream."""

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
    time: float = msgspec.field(default_factory=time.time)


class Settled(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    state: Literal["done", "cut", "cancelled", "failed"]
    cost: int | None
    usage: Usage | None = None
    estimated: bool = False
    latency_s: float | None = None
    ttft_s: float | None = None
    served: str | None = None
    attempts: int = 1
    note: str = ""


class Books(Protocol):
    """Where requests are written down."""

    async def open(self, opened: Opened) -> Any: ...

    async def settle(self, ticket: Any, settled: Settled) -> Any: ...


class NoBooks:
    """Keeps nothing."""

    async def open(self, opened: Opened) -> None: ...

    async def settle(self, ticket: None, settled: Settled) -> None: ...
