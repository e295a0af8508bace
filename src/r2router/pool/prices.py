"""Prices of models: from a CSV or the genai-prices package, and the one formula for what a request costs.

Prices are US dollars per million tokens.
"""

from __future__ import annotations

import csv
import datetime
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec

from r2router.errors import ConfigError, MissingExtra, expect
from r2router.files import check_text
from r2router.types import CACHE_WRITE_1H, MAX_PRICE, FloatArray, Model, Prices, Rates, Tier, as_written
from r2router.upstream.usage import Usage

NANOS_PER_TOKEN = 1000
"""Nano-dollars per token that are one US dollar per million tokens."""

# -- what a request costs ---------------------------------------------------------------------------------------------


def charge(each: Sequence[Any] | FloatArray, tokens: Sequence[Any]) -> Any:
    """What a request costs, in numbers or arrays: the one formula. In US dollars where the prices are per token.

    each: prices as `Rates.each` has them.
    tokens: input, output, cached input, reasoning, cache writes. Cached and written tokens are part of the input,
        reasoning tokens part of the output; each is billed at its own price, and once.
    """
    p_input, p_output, p_cached, p_reasoning, p_write = each
    n_input, n_output, n_cached, n_reasoning, n_write = tokens
    apart = n_cached * (p_cached - p_input) + n_reasoning * (p_reasoning - p_output) + n_write * (p_write - p_input)
    return n_input * p_input + n_output * p_output + apart


def cost_usd(prices: Prices, usage: Usage) -> float:
    """US dollars of one call. The whole request is billed at the rates of its tier (`Prices.at`)."""
    each = prices.at(usage.input).each
    return float(_billed(each, (CACHE_WRITE_1H - 1) * each[4], usage)) / 1e6


def cost_nanos(prices: Prices, usage: Usage) -> int:
    """Nano-dollars (1e-9 US dollars) of one call, from the prices as they are written, exactly; what is left of one is
    rounded up.
    """
    each, hourly, unit = _whole(prices.at(usage.input))
    return _rounded_up(_billed(each, hourly, usage), unit)


@lru_cache(maxsize=4096)
def _whole(rates: Rates) -> tuple[tuple[int, ...], int, int]:
    """Return (`Rates.exact` as whole numbers, what a token written for an hour costs above one written for minutes,
    what they are parts of). A gateway needs those of few models, many times a second, and whole numbers are added
    quickly.
    """
    found = (*rates.exact, (_WRITE_1H - 1) * rates.exact[4])
    unit = math.lcm(*(price.denominator for price in found))
    *each, hourly = (int(price * unit) for price in found)
    return tuple(each), hourly, unit


def _rounded_up(amount: int, unit: int) -> int:
    """Nano-dollars of tokens times US dollars per million tokens, in parts of `unit`."""
    return -(-amount * NANOS_PER_TOKEN // unit)


_WRITE_1H = as_written(CACHE_WRITE_1H)


def _billed(each: Sequence[Any], hourly: Any, usage: Usage) -> Any:
    """Tokens times US dollars per million tokens. hourly: what a token written for an hour costs above `each`."""
    tokens = (usage.input, usage.output, usage.cached or 0, usage.reasoning or 0, usage.cache_write or 0)
    return charge(each, tokens) + hourly * (usage.cache_write_1h or 0)


def max_cost_nanos(
    prices: Prices, input_tokens: int, output_tokens: int, *, writes: bool = False, hourly: bool = False
) -> int:
    """Return `max_cost_usd` in nano-dollars, exact and rounded up.

    hourly: whether a cache write may be kept for an hour.
    """
    found = 0
    for rates in _reached(prices, input_tokens):
        each, above, unit = _whole(rates)
        write = each[4] + above if hourly else each[4] if writes else 0
        found = max(found, _rounded_up(_max(each, input_tokens, output_tokens, write), unit))
    return found


def max_cost_usd(prices: Prices, input_tokens: float, output_tokens: float, *, writes: bool = False) -> float:
    """The most a call with so many tokens can cost, in US dollars: nothing cached, thinking at its own price, any tier
    it may reach.

    writes: also where the endpoint writes the prompt to its cache by itself, and bills that.
    """
    return (
        max(
            _max(rates.each, input_tokens, output_tokens, rates.each[4] if writes else 0.0)
            for rates in _reached(prices, input_tokens)
        )
        / 1e6
    )


def _reached(prices: Prices, input_tokens: float) -> list[Rates]:
    """The rates that a request of at most so many input tokens may be billed at."""
    return [prices, *(tier for tier in prices.tiers if input_tokens > tier.above)]


def _max(each: Sequence[Any], input_tokens: float, output_tokens: float, write: Any) -> Any:
    """Tokens times the most US dollars per million tokens. write: of a cache write; 0 where none can be."""
    p_input, p_output, p_cached, p_reasoning, _ = each
    return input_tokens * max(p_input, p_cached, write) + output_tokens * max(p_output, p_reasoning)


def wrong_prices(prices: Prices) -> tuple[str, str] | None:
    """The first thing wrong with prices: (its key, what is wrong), or None."""
    for number, rates in enumerate((prices, *prices.tiers)):
        for name in Rates.__struct_fields__:
            price = getattr(rates, name)
            if price is not None and not 0 <= price <= MAX_PRICE:
                key = f"tiers.{name}" if number else name
                return key, f"{key} is {price}; a price is finite and at least 0 (and at most {MAX_PRICE:g})"
    above = [0, *(tier.above for tier in prices.tiers)]
    if any(high <= low for low, high in pairwise(above)):
        listed = ", ".join(str(tier.above) for tier in prices.tiers)
        return "tiers", f"tiers begin above {listed} input tokens; list each once, by rising numbers above 0"
    return None


def price_words(prices: Prices, kind: str) -> str:
    """A price for a person: `3`, or `3 (6 above 200,000)` where long prompts cost something else."""
    base = getattr(prices, kind)
    more = [f"{getattr(tier, kind):g} above {tier.above:,}" for tier in prices.tiers]
    return f"{base:g} ({', '.join(more)})" if more else f"{base:g}"


# -- a CSV ------------------------------------------------------------------------------------------------------------

_ABOVE = "above_input_tokens"


def read_prices(path: str | Path) -> tuple[dict[str, Prices], dict[str, tuple[str, str]]]:
    """Prices and (provider, upstream name) by model id from a CSV.

    Columns: model, input_usd_per_million, output_usd_per_million, and optionally cached_input_usd_per_million,
    reasoning_usd_per_million, cache_write_usd_per_million, above_input_tokens, provider, upstream_model. One row per
    model, and one more per tier: its rates hold for requests with more than `above_input_tokens` input tokens. Raises
    `ConfigError` naming file, line and column.
    """
    expect("prices", path, (str, Path), "the path of a CSV of prices")
    path = Path(path)
    check_text(path, ConfigError)
    prices: dict[str, Prices] = {}
    details: dict[str, tuple[str, str]] = {}
    tiers: dict[str, list[tuple[str, Tier]]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = {"model", "input_usd_per_million", "output_usd_per_million"} - set(reader.fieldnames or ())
            if missing:
                raise ConfigError(f"{path}: no column {', '.join(sorted(missing))} in the header")
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                model = (row["model"] or "").strip()
                if not model:
                    raise ConfigError(f"{where}: model is empty; name the model whose prices these are")
                rates: dict[str, Any] = {
                    kind: _price(row, f"{kind}_usd_per_million", where) for kind in ("input", "output")
                }
                rates |= {kind: _optional_price(row, f"{kind}_usd_per_million", where) for kind in _OPTIONAL}
                if (row.get(_ABOVE) or "").strip():
                    tiers.setdefault(model, []).append((where, Tier(above=_above(row, where), **rates)))
                    continue
                if model in prices:
                    raise ConfigError(
                        f"{where}: {model!r} already has a price; keep one row per model (a tier has {_ABOVE})"
                    )
                prices[model] = Prices(**rates)
                details[model] = (row.get("provider") or "", row.get("upstream_model") or "")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read as CSV ({error})") from None
    for model, found in tiers.items():
        if model not in prices:
            raise ConfigError(
                f"{found[0][0]}: {model!r} has a tier, and no row without {_ABOVE}; add its price for short prompts"
            )
        prices[model] = msgspec.structs.replace(
            prices[model], tiers=tuple(sorted((tier for _, tier in found), key=lambda t: t.above))
        )
        if wrong := wrong_prices(prices[model]):
            raise ConfigError(f"{found[-1][0]}: {model!r}: {wrong[1]}")
    return prices, details


def write_prices(models: Iterable[Model]) -> str:
    """The prices of models as the CSV that `read_prices` reads."""
    kinds = Rates.__struct_fields__
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("model", *(f"{kind}_usd_per_million" for kind in kinds), _ABOVE, "provider", "upstream_model"))
    for model in models:
        prices = model.usd_per_million
        for rates in (None,) if prices is None else (prices, *prices.tiers):
            found = [None if rates is None else getattr(rates, kind) for kind in kinds]
            above = rates.above if isinstance(rates, Tier) else ""
            rows.writerow(
                (model.id, *("" if price is None else price for price in found), above, model.provider, model.upstream)
            )
    return text.getvalue()


_OPTIONAL = ("cached_input", "reasoning", "cache_write")


def _above(row: Mapping[str, str | None], where: str) -> int:
    text = (row[_ABOVE] or "").strip()
    if not (text.isascii() and text.isdigit() and int(text[:18]) > 0 and len(text) <= 18):
        raise ConfigError(f"{where}: {_ABOVE} is {text!r}; it is a whole number of tokens above 0, as in 200000")
    return int(text)


def _price(row: Mapping[str, str | None], column: str, where: str) -> float:
    text = row[column]
    try:
        price = float(text or "")
    except ValueError:
        raise ConfigError(f"{where}: {column} is {text!r}, which is not a number of US dollars") from None
    if not 0 <= price <= MAX_PRICE:
        raise ConfigError(
            f"{where}: {column} is {text!r}; a price is finite and at least 0 (and at most {MAX_PRICE:g})"
        )
    return price


def _optional_price(row: Mapping[str, str | None], column: str, where: str) -> float | None:
    return _price(row, column, where) if row.get(column) else None


# -- list prices ------------------------------------------------------------------------------------------------------


def genai_prices(models: Iterable[Model]) -> dict[str, Prices]:
    """The list prices of the models that the genai-prices package knows, with their tiers.

    Where prices change with the hour, those of the most expensive hour of today (UTC) count, so that an estimate is not too low.
    """
    try:
        from genai_prices import Usage as Asked
        from genai_prices import calc_price
    except ImportError:
        raise MissingExtra("prices from genai-prices need the [prices] extra: pip install 'r2router[prices]'") from None
    found = {}
    for model in models:
        name, provider = model.upstream or model.id, model.provider or None
        try:
            listed = _most_expensive(
                partial(calc_price, Asked(input_tokens=1, output_tokens=1), name, provider_id=provider)
            )
        except LookupError:
            continue
        # else it is billed by the minute, the page, ...
        if listed.input_mtok is not None and listed.output_mtok is not None:
            found[model.id] = _listed_prices(listed)
    return found


def _most_expensive(price: Callable[..., Any]) -> Any:
    """Return the `ModelPrice` of the hour of today at which a call costs most."""
    now = datetime.datetime.now(datetime.UTC)
    call = price(genai_request_timestamp=now)
    listed = call.model.prices if isinstance(call.model.prices, list) else []
    if any(hasattr(getattr(one, "constraint", None), "start_time") for one in listed):
        calls = [price(genai_request_timestamp=now.replace(hour=hour, minute=30)) for hour in range(24)]
        call = max(calls, key=lambda call: call.total_price)
    return call.model_price


_LISTED = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cached_input": "cache_read_mtok",
    "reasoning": "output_reasoning_mtok",
    "cache_write": "cache_write_mtok",
}


def _listed_prices(listed: Any) -> Prices:
    """Prices of a `ModelPrice` of genai-prices: each of its prices is a number, or a base and tiers of its own."""
    prices = {kind: getattr(listed, name, None) for kind, name in _LISTED.items()}

    def at(price: Any, tokens: float) -> float | None:
        if price is None or not hasattr(price, "tiers"):
            return None if price is None else float(price)
        return float(
            next((t.price for t in sorted(price.tiers, key=lambda t: -t.start) if tokens > t.start), price.base)
        )

    starts = sorted({tier.start for price in prices.values() for tier in getattr(price, "tiers", ()) if tier.start > 0})

    def rates(tokens: float) -> dict[str, Any]:
        return {kind: at(price, tokens) for kind, price in prices.items()}

    return Prices(**rates(1), tiers=tuple(Tier(above=start, **rates(start + 1)) for start in starts))
