"""What one call costs at most, before it is made."""

from __future__ import annotations

from collections.abc import Sequence

from r2router.bench.call_key import query_key
from r2router.bench.suite import Query
from r2router.pool.prices import max_cost_usd
from r2router.types import Model, Prices

TEMPLATE_TOKENS = 30
"""A chat template and an instruction, about."""
TEMPLATE_BYTES = 200
"""The same at its longest."""
INPUT_SPREAD = 0.3
"""How far tokenizers differ from the embedded one: a share of the count."""


def input_estimates(queries: Sequence[Query]) -> dict[str, int]:
    """Input tokens of each query, by its key, about: the embedded tokenizer's count and a template."""
    from r2router.encode.tokens import count_tokens

    counts = count_tokens([f"{q.system or ''}\n{q.text}" for q in queries]) + TEMPLATE_TOKENS
    return {query_key(q): int(n) for q, n in zip(queries, counts, strict=True)}


def input_bytes(query: Query) -> int:
    """Bytes of what a model is asked, a chat template and an instruction included: no tokenizer makes more tokens of
    it.
    """
    return (
        len(query.text.encode("utf-8", "surrogatepass"))
        + len((query.system or "").encode("utf-8", "surrogatepass"))
        + TEMPLATE_BYTES
    )


def ceiling_usd(model: Model, input_tokens: float, output_tokens: float) -> float:
    """Return the most one call can cost, in US dollars: as `max_usd`, also where the endpoint writes the prompt to a
    cache.
    """
    prices = _prices(model)
    return max_cost_usd(prices, input_tokens, output_tokens, writes=prices.cache_write is not None)


def max_usd(model: Model, input_tokens: float, output_tokens: float) -> float:
    """US dollars of a call with so many tokens at its maximum cost: nothing cached, thinking at its own price."""
    return max_cost_usd(_prices(model), input_tokens, output_tokens)


def _prices(model: Model) -> Prices:
    return model.usd_per_million or Prices(0, 0)
