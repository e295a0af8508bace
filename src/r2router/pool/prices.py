"""Prices of models, from a CSV or from the genai-prices package: US dollars per million tokens."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from r2router.errors import ConfigError, MissingExtra
from r2router.types import DEAREST, Model, Prices


def read_prices(path: str | Path) -> tuple[dict[str, Prices], dict[str, tuple[str, str]]]:
    """Prices and (provider, upstream name) by model id from a CSV.

    Columns: model, input_usd_per_million, output_usd_per_million, and optionally cached_input_usd_per_million,
    reasoning_usd_per_million, provider, upstream_model. Raises `ConfigError` naming file, line and column.
    """
    path = Path(path)
    prices: dict[str, Prices] = {}
    details: dict[str, tuple[str, str]] = {}
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
                if model in prices:
                    raise ConfigError(f"{where}: {model!r} has a price already; keep one row a model")
                prices[model] = Prices(
                    input=_price(row["input_usd_per_million"], where, "input_usd_per_million"),
                    output=_price(row["output_usd_per_million"], where, "output_usd_per_million"),
                    cached_input=_optional_price(row, "cached_input_usd_per_million", where),
                    reasoning=_optional_price(row, "reasoning_usd_per_million", where),
                )
                details[model] = (row.get("provider") or "", row.get("upstream_model") or "")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path}: cannot be read as CSV ({error})") from None
    return prices, details


def _price(text: str | None, where: str, column: str) -> float:
    try:
        price = float(text or "")
    except ValueError:
        raise ConfigError(f"{where}: {column} is {text!r}, which is not a number of US dollars") from None
    if not 0 <= price <= DEAREST:
        raise ConfigError(f"{where}: {column} is {text!r}; a price is finite and at least 0 (and at most {DEAREST:g})")
    return price


def _optional_price(row: Mapping[str, str | None], column: str, where: str) -> float | None:
    return _price(row[column], where, column) if row.get(column) else None


def genai_prices(models: Iterable[Model]) -> dict[str, Prices]:
    try:
        from genai_prices import Usage, calc_price
    except ImportError:
        raise MissingExtra("prices from genai-prices need the [prices] extra: pip install 'r2router[prices]'") from None
    million = 1_000_000
    found = {}
    for model in models:
        name, provider = model.upstream or model.id, model.provider or None
        try:
            fresh = calc_price(Usage(input_tokens=million, output_tokens=million), name, provider_id=provider)
            cached = calc_price(Usage(input_tokens=million, cache_read_tokens=million), name, provider_id=provider)
        except LookupError:
            continue
        found[model.id] = Prices(input=float(fresh.input_price), output=float(fresh.output_price), cached_input=float(cached.input_price))
    return found
