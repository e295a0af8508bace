"""The maximum cost of a request: what is set aside before it is sent."""

from __future__ import annotations

from typing import Literal

import msgspec

from r2router.errors import MissingPrice, UsageError
from r2router.pool.prices import max_cost_nanos
from r2router.types import Model, Prices
from r2router.upstream.endpoint import LONGEST_ANSWER


class TokenBounds(msgspec.Struct, frozen=True, kw_only=True):
    """What limits the bill of one attempt.

    input_tokens: the maximum, including images, files and the provider's template.
    output_tokens: the maximum per answer, thinking included (`output_bound`).
    n: the number of answers asked for.
    cache_writes: whether the provider may bill the prompt as written to its cache, and for how long it keeps it.
    """

    input_tokens: int
    output_tokens: int
    n: int = 1
    cache_writes: Literal["none", "5m", "1h"] = "none"

    def __post_init__(self) -> None:
        for name, minimum in (("input_tokens", 0), ("output_tokens", 0), ("n", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < minimum:
                raise UsageError(f"{name} is {value!r}; it is a whole number, at least {minimum}")

    @property
    def tokens(self) -> int:
        """The maximum of input and output tokens of one attempt."""
        return self.input_tokens + self.n * self.output_tokens


def reserve(bounds: TokenBounds, prices: Prices | None, attempts: int = 1) -> int:
    """Nano-dollars that so many attempts may be billed at most: the input at its most expensive rate, of any tier it
    may reach, and every answer at its full length. Of a request that may go to several models: the sum over them.
    Raises `MissingPrice`.
    """
    if prices is None:
        raise MissingPrice("the price is not known: give usd_per_million in the pool (an unknown price is never zero)")
    # where it has a price, the provider may write by itself
    writes = bounds.cache_writes != "none" or prices.cache_write is not None
    hourly = bounds.cache_writes == "1h"
    return attempts * max_cost_nanos(
        prices, bounds.input_tokens, bounds.n * bounds.output_tokens, writes=writes, hourly=hourly
    )


def output_bound(model: Model, *caps: int | None) -> int:
    """Return the maximum length of an answer in tokens, thinking included: the smallest cap that is sent (None: not
    sent).

    Where none is sent: the model's maximum, its context, or the maximum of any model.
    """
    sent = [cap for cap in caps if cap is not None]
    if sent:
        return min(sent)
    return model.max_output_tokens or model.context or LONGEST_ANSWER
