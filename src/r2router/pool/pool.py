"""The pool: which models can be called, under which budgets, at which prices.

A pool owns *the* order of the arms. Every (query, arm) array in r2router has its columns in that order.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from r2router.errors import ConfigError, MissingPrice, expect
from r2router.pool.prices import charge, genai_prices, read_prices, wrong_prices
from r2router.pool.toml import read_models
from r2router.text import MAX_BUDGET_TOKENS, html_table, listing, suggest
from r2router.types import UNLIMITED, Arm, BoolArray, Budget, FloatArray, IntArray, Model, NumberArray, Prices

PriceSource = str | Path | Mapping[str, Prices] | Sequence[str | Path | Mapping[str, Prices]]
"""Prices: a CSV (see `read_prices`), `"genai-prices"` (list prices of that package), a mapping from model id, or
several of them.
"""

_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_NO_MODEL = "the pool has no model: give at least one [[model]]"
_NO_ID = (
    "{!r} cannot be an id: it must not be empty, hold '@', white space or control characters, or be longer than 300"
    " characters"
)


class Pool:
    """Models and their budgets; `pool.arms` is the column order of every array.

    Raises `ConfigError` where two models or two budgets of one model share an id, an id holds `@` or white space, or a
    price is not a finite number of at least zero.
    """

    def __init__(self, models: Iterable[Model]) -> None:
        self.models = tuple(models)
        if not self.models:
            raise ConfigError(_NO_MODEL)
        if wrong := _wrong(self.models):
            raise ConfigError(wrong[2])
        self.arms: tuple[Arm, ...] = tuple(Arm.of(m.id, b.id) for m in self.models for b in m.budgets)

    # -- reading ------------------------------------------------------------------------------------------------

    @classmethod
    def read(cls, path: str | Path) -> Pool:
        """Read a pool from a TOML file. Raises `ConfigError` naming file, line and key.

        ::

            [[model]]
            id = "gpt-5-mini"
            provider = "openai"
            budgets = ["low", "medium", "high"]
            control = ["reasoning_effort"]
            usd_per_million = { input = 0.25, cached_input = 0.025, output = 2.0 }
        """
        expect("path", path, (str, Path), "the path of a pool file, such as pool.toml")
        models, locate = read_models(path)
        if not models:
            raise ConfigError(f"{path}: {_NO_MODEL}")
        if wrong := _wrong(models) or _silent(models):
            number, key, what = wrong
            raise ConfigError(f"{path}{locate(number, key)}: {what}")
        return cls(models)

    @classmethod
    def infer(cls, source: Any, prices: PriceSource | None = None) -> Pool:
        """Make the pool of an outcome table: every model and budget in it, with prices.

        source: a path, several paths, a data frame, or a `Table`.
        prices: a CSV (see `read_prices`), a mapping from model id to `Prices`, or `"genai-prices"` for the list prices
            of the genai-prices package (`[prices]` extra). A model that is not among them raises `MissingPrice`;
            without `prices` the models have none.
        """
        from r2router.table.table import Table  # a table is made of a pool; only this door looks back

        table = source if isinstance(source, Table) else Table.read(source)
        return table.pool if prices is None else table.pool.with_prices(prices)

    def with_prices(self, prices: PriceSource, *, partly: bool = False) -> Pool:
        """Return the same pool with other prices. Raises `MissingPrice` naming the models that are not among them.

        prices: a CSV, `"genai-prices"`, a mapping from model id, or several of these, which must not disagree
            (`ConfigError`).
        partly: leave out the models that are not among them; `MissingPrice` only where none is left.
        """
        found, details, where = _found_prices(prices, self.models)
        missing = [m.id for m in self.models if m.id not in found]
        if missing and not (partly and len(missing) < len(self.models)):
            raise MissingPrice(
                f"{where}: no price for {listing(missing)}; add a row for each (an unknown price is never zero)"
            )
        return Pool(
            msgspec.structs.replace(
                m,
                usd_per_million=found[m.id],
                provider=m.provider or details.get(m.id, ("", ""))[0],
                upstream=details.get(m.id, ("", ""))[1] or m.upstream or m.id,
            )
            for m in self.models
            if m.id in found
        )

    def with_arms(self, arms: Iterable[str]) -> Pool:
        """Return the pool of some of its arms, in the same order; models left without a budget are left out."""
        wanted = frozenset(arms)
        kept = (
            msgspec.structs.replace(m, budgets=tuple(b for b in m.budgets if Arm.of(m.id, b.id) in wanted))
            for m in self.models
        )
        return Pool(m for m in kept if m.budgets)

    # -- looking things up ---------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.arms)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pool) and self.models == other.models

    def __hash__(self) -> int:
        return hash(self.models)

    def __repr__(self) -> str:
        return f"Pool({len(self.models)} models, {len(self.arms)} arms)"

    def _repr_html_(self) -> str:
        rows = []
        for m in self.models:
            prices = m.usd_per_million
            usd = ("?", "?") if prices is None else (f"{prices.input:g}", f"{prices.output:g}")
            rows.append((m.id, ", ".join(b.id for b in m.budgets), *usd, "yes" if m.available else "no"))
        return html_table(repr(self), ("model", "budgets", "USD per million in", "out", "available"), rows)

    def __getitem__(self, model_id: str) -> Model:
        return self.models[self._model_index[model_id]]

    @cached_property
    def _model_index(self) -> dict[str, int]:
        return {m.id: i for i, m in enumerate(self.models)}

    @cached_property
    def index(self) -> dict[Arm, int]:
        """Column of each arm."""
        return {arm: i for i, arm in enumerate(self.arms)}

    @cached_property
    def budgets(self) -> tuple[Budget, ...]:
        """The budget of each arm."""
        return tuple(b for m in self.models for b in m.budgets)

    @cached_property
    def model_of_arm(self) -> IntArray:
        """(arms,) index into `models`."""
        return np.repeat(np.arange(len(self.models)), [len(m.budgets) for m in self.models])

    @cached_property
    def budget_tokens(self) -> FloatArray:
        """(arms,) the budget asked for in tokens; NaN where it is not a number."""
        return np.array([math.nan if b.tokens is None else float(b.tokens) for b in self.budgets])

    def usable(self, require: Iterable[str] = (), exclude: Iterable[str] = ()) -> BoolArray:
        """Return (arms,) true where the arm's model is available, has every capability in `require` and is not in
        `exclude`.

        exclude: model ids or arms.

        Raises `ConfigError` for one that the pool does not have.
        """
        wanted, banned = (frozenset([names] if isinstance(names, str) else names) for names in (require, exclude))
        unknown = banned - set(self._model_index) - set(self.arms)
        if unknown:
            hint = suggest(min(unknown), [*self._model_index, *self.arms])
            raise ConfigError(f"cannot exclude {listing(sorted(unknown))}: not in the pool{hint}")
        fits = [m.available and m.id not in banned and wanted <= m.capabilities for m in self.models]
        mask = np.array(fits)[self.model_of_arm]
        return mask & np.array([arm not in banned for arm in self.arms])

    # -- prices --------------------------------------------------------------------------------------------------

    @cached_property
    def usd_per_token(self) -> FloatArray:
        """(5, arms) US dollars per token of input, output, cached input, reasoning and cache writes, for prompts below
        every tier.

        Raises `MissingPrice`.
        """
        return self._of_arms([prices.each for prices in self._prices])

    @cached_property
    def tiers(self) -> tuple[tuple[FloatArray, FloatArray], ...]:
        """The tiers of long prompts, by rising threshold: ((arms,) input tokens that they begin above, (5, arms) US
        dollars per token).

        Where an arm has fewer tiers than others, its threshold is infinite.
        """
        maximum = max(len(prices.tiers) for prices in self._prices)
        found = []
        for level in range(maximum):
            own = [prices.tiers[level] if level < len(prices.tiers) else None for prices in self._prices]
            above = np.array([math.inf if tier is None else float(tier.above) for tier in own])
            found.append(
                (
                    above[self.model_of_arm],
                    self._of_arms([(math.nan,) * 5 if tier is None else tier.each for tier in own]),
                )
            )
        return tuple(found)

    @cached_property
    def lowest_tier(self) -> float:
        """Input tokens above which some arm's tier begins; infinite where none has one."""
        return min((float(above.min()) for above, _ in self.tiers), default=math.inf)

    @cached_property
    def max_output_price(self) -> FloatArray:
        """(arms,) US dollars per output token, in the most expensive tier."""
        return np.array(
            [self.usd_per_token[1], *(np.where(np.isinf(above), 0.0, each[1]) for above, each in self.tiers)]
        ).max(axis=0)

    @cached_property
    def _prices(self) -> list[Prices]:
        missing = [m.id for m in self.models if m.usd_per_million is None]
        if missing:
            raise MissingPrice(
                f"no price for {listing(missing)}: give usd_per_million in the pool, or prices from a CSV (an unknown"
                " price is never zero)"
            )
        return [m.usd_per_million for m in self.models if m.usd_per_million is not None]

    def _of_arms(self, each: Sequence[tuple[float, ...]]) -> FloatArray:
        """Return (5, arms) US dollars per token, from US dollars per million tokens of each model."""
        return np.array(each, dtype=np.float64).T[:, self.model_of_arm] / 1e6

    def cost(
        self,
        input_tokens: NumberArray,
        output_tokens: NumberArray,
        cached_tokens: FloatArray | None = None,
        reasoning_tokens: FloatArray | None = None,
    ) -> FloatArray:
        """US dollars of requests, (n, arms), from tokens that broadcast to that shape.

        Cached tokens are part of the input tokens and reasoning tokens part of the output tokens, as in every
        provider's usage report; where they are NaN none are assumed. A request with more input tokens than a tier's
        threshold is billed at the tier's rates as a whole. Raises `MissingPrice`.
        """
        zero = np.zeros(())
        parts = [zero if tokens is None else np.nan_to_num(tokens) for tokens in (cached_tokens, reasoning_tokens)]
        tokens = [np.asarray(input_tokens), np.asarray(output_tokens), *parts, zero]
        cost = np.asarray(charge(self.usd_per_token, tokens))
        for above, each in self.tiers:
            cost = np.where(tokens[0] > above, charge(each, tokens), cost)
        return cost


def _found_prices(
    prices: PriceSource, models: Sequence[Model]
) -> tuple[dict[str, Prices], dict[str, tuple[str, str]], str]:
    """Find prices and (provider, upstream name) by model id, and the name of their source. Raises `ConfigError` where
    two sources disagree.
    """
    several = [prices] if isinstance(prices, (str, Path, Mapping)) else list(prices)
    found, details, origin = dict[str, Prices](), dict[str, tuple[str, str]](), dict[str, str]()
    for one in several:
        name = "the mapping" if isinstance(one, Mapping) else str(one)
        if isinstance(one, Mapping):
            listed, more = dict(one), dict[str, tuple[str, str]]()
        elif name == "genai-prices":
            listed, more = genai_prices(models), {}
        else:
            listed, more = read_prices(one)
        for model, price in listed.items():
            if found.setdefault(model, price) != price:
                both = " and ".join(
                    f"{p.input:g} in, {p.output:g} out ({where})"
                    for p, where in ((found[model], origin[model]), (price, name))
                )
                raise ConfigError(
                    f"two prices for {model!r}, in US dollars per million tokens: {both}; keep one of them"
                )
            origin.setdefault(model, name)
        details = more | details
    return (
        found,
        details,
        ", ".join(dict.fromkeys("the mapping" if isinstance(one, Mapping) else str(one) for one in several)),
    )


def budget_order(budget: Budget) -> tuple[int, float]:
    """Sort key of budgets: numbers by size, then efforts, then other names, `unlimited` last."""
    if budget.tokens is not None:
        return 0, budget.tokens
    if budget.id in _EFFORTS:
        return 1, _EFFORTS.index(budget.id)
    return (3, 0.0) if budget.id == "unlimited" else (2, 0.0)


def is_id(name: str) -> bool:
    """Return whether a model or budget may have this name: no `@`, no white space."""
    return 0 < len(name) <= 300 and name.isprintable() and not re.search(r"[\s@]", name)


def _wrong(models: Sequence[Model]) -> tuple[int, str, str] | None:
    """Find the first error of a pool of these models: (number of the model, its key, the message); None if there is
    none.
    """
    seen: set[str] = set()
    for number, model in enumerate(models):
        if not is_id(model.id):
            return number, "id", _NO_ID.format(model.id)
        if model.id in seen:
            return (
                number,
                "id",
                f"model {model.id!r} is in the pool twice: give each model one entry with all its budgets",
            )
        seen.add(model.id)
        if what := _wrong_budgets(model):
            return number, "budgets", what
        if model.context is not None and model.context < 1:
            return (
                number,
                "context",
                f"model {model.id!r}: context is {model.context}; it is a number of tokens above 0",
            )
        if model.usd_per_million is not None and (found := wrong_prices(model.usd_per_million)):
            key, what = found
            return number, f"usd_per_million.{key}", f"model {model.id!r}: usd_per_million.{what}"
    return None


def _wrong_budgets(model: Model) -> str:
    if not model.budgets:
        return f"model {model.id!r} has no budget: list at least one, for example budgets = ['unlimited']"
    seen: set[str] = set()
    for budget in model.budgets:
        if not is_id(budget.id):
            return _NO_ID.format(budget.id)
        if budget.id in seen:
            return f"arm {Arm.of(model.id, budget.id)!r} is in the pool twice: list each budget of a model once"
        seen.add(budget.id)
        try:
            meant = Budget.of(budget.id)
        except ConfigError as error:
            return f"model {model.id!r}: {error}"
        if meant.id != budget.id:
            return f"model {model.id!r}: budget {budget.id!r} is the number {meant.id}: write it so"
        if budget.tokens is not None and not 0 <= budget.tokens <= MAX_BUDGET_TOKENS:
            return (
                f"model {model.id!r}: budget {budget.id!r} is {budget.tokens} tokens; it is a number from 0 to"
                f" {MAX_BUDGET_TOKENS:,}"
            )
        if meant.tokens not in {None, budget.tokens}:
            return (
                f"model {model.id!r}: budget {budget.id!r} says {budget.tokens} tokens; a budget that is a number is so"
                " many tokens"
            )
    return ""


def _silent(models: Sequence[Model]) -> tuple[int, str, str] | None:
    """Find the first budget whose controls would send nothing: a name where they need a number. Returns as `_wrong`
    does.
    """
    for number, model in enumerate(models):
        for budget in model.budgets:
            if (
                budget.control
                and budget.tokens is None
                and budget.id != UNLIMITED
                and "reasoning_effort" not in budget.control
            ):
                knobs = " and ".join(budget.control)
                what = (
                    f"model {model.id!r}: budget {budget.id!r} is no number, so {knobs} would send nothing: write a"
                    " number of tokens, 'unlimited', or take control = ['reasoning_effort'] for efforts"
                )
                return number, "budgets", what
    return None
