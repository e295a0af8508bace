"""What models cost: US dollars per million tokens of each kind, and other rates for long prompts."""

from __future__ import annotations

from typing import Any

import msgspec

CACHE_WRITE = 1.25  # times the input price: what Anthropic and Alibaba bill for a prompt that is written to their cache
CACHE_WRITE_1H = 1.6  # times the price of a cache write: Anthropic's for one that is kept for an hour (twice the input price)
DEAREST = 1e12  # US dollars per million tokens: above that a price is a slip, and sums of it would end at infinity


class Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """US dollars per million tokens of each kind.

    cached_input: input read from the provider's prompt cache; where it is not given, the input price (never less).
    reasoning: thinking tokens; where it is not given, the output price, as nearly every provider bills today.
    cache_write: input written to the prompt cache, to be kept for minutes; where it is not given, `CACHE_WRITE` times the input price.
    """

    input: float
    output: float
    cached_input: float | None = None
    reasoning: float | None = None
    cache_write: float | None = None

    @property
    def each(self) -> tuple[float, float, float, float, float]:
        """Input, output, cached input, reasoning and cache write, with what stands in where one is not given."""
        return (
            self.input,
            self.output,
            self.input if self.cached_input is None else self.cached_input,
            self.output if self.reasoning is None else self.reasoning,
            CACHE_WRITE * self.input if self.cache_write is None else self.cache_write,
        )


class Tier(Rates, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The rates of a request with more than `above` input tokens: they hold for the whole request, all its tokens."""

    above: int


class Prices(Rates, frozen=True, forbid_unknown_fields=True):
    """What a model costs: rates, and other ones for long prompts.

    tiers: by rising `above`. The last one whose `above` is less than a request's input tokens sets the rates of the whole request, as
    Anthropic, Google and OpenAI bill (and as the genai-prices data is meant).
    """

    tiers: tuple[Tier, ...] = ()

    def at(self, input_tokens: float) -> Rates:
        """The rates of a request with so many input tokens."""
        return next((tier for tier in reversed(self.tiers) if input_tokens > tier.above), self)

    def scaled(self, factor: float) -> Prices:
        """The same prices times a factor."""

        def times(rates: Any) -> Any:
            moved = {name: price * factor for name in Rates.__struct_fields__ if (price := getattr(rates, name)) is not None}
            return msgspec.structs.replace(rates, **moved)

        scaled: Prices = times(self)
        return msgspec.structs.replace(scaled, tiers=tuple(times(tier) for tier in self.tiers))
