"""A request as a row of the ledger."""

from __future__ import annotations

import msgspec

from r2router.gateway.ledger.windows import TOTAL
from r2router.gateway.ledger.work import NO_KEY


class Row(msgspec.Struct):
    """A request in the table `requests`; times in microseconds, money in nano-dollars."""

    id: str
    time: int
    day: str
    month: str
    minute: str
    writer: str
    state: str
    key_id: str | None
    session: str | None
    preset: str | None
    asked: str
    arm: str
    endpoint: str
    reserved: int
    reserved_tokens: int
    priced: int
    price_version: str
    forecast_quality: float | None
    forecast: int | None
    baseline: str | None = None
    baseline_cost: int | None = None
    baseline_quality: float | None = None
    settled: int | None = None
    served: str | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    cost: int | None = None
    estimated: int = 0
    latency_us: int | None = None
    ttft_us: int | None = None
    attempts: int | None = None
    note: str | None = None
    score: float | None = None

    @property
    def scope(self) -> str:
        """The scope whose windows it counts in."""
        return self.key_id or NO_KEY

    @property
    def periods(self) -> tuple[str, str, str, str]:
        """The windows that it counts in: those of the moment it was opened, whenever it is settled."""
        return self.day, self.month, self.minute, TOTAL

    @property
    def tokens(self) -> int:
        """The tokens that it counts once it is settled."""
        if self.state == "unknown":
            return self.reserved_tokens
        return (self.input_tokens or 0) + (self.output_tokens or 0)


LONGEST_NAME = 1000  # characters
ROW = Row.__struct_fields__
SETTLED = ("state", *ROW[ROW.index("settled") : ROW.index("score")])
INSERT = f"INSERT INTO requests ({', '.join(ROW)}) VALUES ({', '.join('?' * len(ROW))})"  # noqa: S608 - our own names
UPDATE = f"UPDATE requests SET {', '.join(f'{name} = ?' for name in SETTLED)} WHERE id = ?"  # noqa: S608
ROWS = f"SELECT {', '.join(ROW)} FROM requests WHERE id IN "  # noqa: S608


def text(words: str | None) -> str | None:
    """Make a client's or provider's text safe for every database: limited in length, without NUL and lone
    surrogates.
    """
    return None if words is None else words[:LONGEST_NAME].encode("utf-8", "replace").decode().replace("\0", "?")


def us(seconds: float) -> int:
    """Convert seconds to whole microseconds. Raises for values that are not finite."""
    return round(seconds * 1e6)
