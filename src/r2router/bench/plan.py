"""Which cells a collection asks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import msgspec

from r2router.bench.call_cost import INPUT_SPREAD, ceiling_usd, input_bytes, input_estimates
from r2router.bench.call_key import chain_budget, content_key, query_key
from r2router.bench.suite import Query
from r2router.errors import ConfigError, DataError, MissingPrice
from r2router.pool.pool import Pool
from r2router.text import listing
from r2router.types import UNLIMITED, Arm, Budget, Model, Provider
from r2router.upstream.controls import Controls
from r2router.upstream.endpoint import check_provider
from r2router.upstream.known import providers_of


class Work(msgspec.Struct, frozen=True):
    """A query for a model: one budget, or several that share a chain."""

    query: Query
    query_key: str
    model: Model
    budgets: tuple[Budget, ...]
    sample: int
    shared: bool


@dataclass(frozen=True)
class CollectionPlan:
    """Queries x models x budgets x samples, and the way they are asked.

    queries: what is asked.
    pool: the models and their budgets; those that are not available are passed over.
    providers: by name, each model's among them.
    controls: how budgets are enforced.
    samples: answers per (query, model, budget).
    only: (query id, model, budget) triples to ask instead of all of them.

    Raises `ConfigError` and `MissingPrice` for what could not be asked, before anything is.
    """

    queries: Sequence[Query]
    pool: Pool
    providers: Mapping[str, Provider]
    controls: Controls = field(default_factory=Controls)
    samples: int = 1
    only: frozenset[tuple[str, str, str]] | None = None
    calls_per_answer: ClassVar[int] = 1
    """Calls that the tokens of one answer may be of: each has its own cap."""

    def __post_init__(self) -> None:
        if not self.queries:
            raise DataError("the suite has no queries")
        object.__setattr__(self, "providers", providers_of(self.models, self.providers))
        unpriced = [m.id for m in self.models if m.usd_per_million is None]
        if unpriced:
            raise MissingPrice(
                f"no price for {listing(unpriced)}: give usd_per_million in the pool, 0 for a model of your own (an"
                " unknown price is never zero)"
            )
        for model in self.models:
            _check(model, self.providers[model.provider], self.controls)

    @cached_property
    def models(self) -> tuple[Model, ...]:
        """The models that are asked: those that are available."""
        return tuple(m for m in self.pool.models if m.available)

    @cached_property
    def _signatures(self) -> dict[tuple[str, str], str]:
        return {(m.id, b.id): self.controls.signature(m, b) for m in self.models for b in m.budgets}

    @cached_property
    def unenforced(self) -> tuple[Arm, ...]:
        """Arms whose budget no control enforces."""
        return tuple(Arm.of(m.id, b.id) for m in self.models for b in m.budgets if not b.control and b.id != UNLIMITED)

    def __len__(self) -> int:
        """Cells in all, done or not."""
        if self.only is not None:
            return len(self.only) * self.samples
        return len(self.queries) * sum(len(m.budgets) for m in self.models) * self.samples

    def work(self, provider: str | None = None) -> Iterator[Work]:
        """List all work for a provider query by query, so that an unfinished collection already has whole rows."""
        models = [m for m in self.models if provider is None or m.provider == provider]
        for query in self.queries:
            key = query_key(query)
            for model in models:
                budgets = model.budgets
                if self.only is not None:
                    budgets = tuple(b for b in budgets if (query.id, model.id, b.id) in self.only)
                for sample in range(self.samples if budgets else 0):
                    shared = tuple(b for b in budgets if "prefix_sharing" in b.control)
                    if shared:
                        yield Work(query, key, model, shared, sample, shared=True)
                    for budget in budgets:
                        if budget not in shared:
                            yield Work(query, key, model, (budget,), sample, shared=False)

    def key(self, work: Work, budget: Budget) -> str:
        """Return what identifies the call for a budget: the same words give the same key in any suite, order
        or file.
        """
        return content_key(
            work.query_key, work.model.id, budget.id, self._signatures[work.model.id, budget.id], work.sample
        )

    def chain_key(self, work: Work) -> str:
        """Return what identifies the chain that the work's budgets are cut from."""
        return content_key(work.query_key, work.model.id, chain_budget(work.budgets).id, "greedy", work.sample)

    @cached_property
    def _inputs(self) -> dict[str, int]:
        return input_estimates(self.queries)

    def input_tokens(self, query: str) -> int:
        """Input tokens of a query (by its key), about: see `call_cost.input_estimates`."""
        return self._inputs[query]

    def cap(self, model: Model, budget: Budget) -> int:
        """Return the most output tokens of an answer."""
        return self.controls.cap(model, budget)

    def ceiling_usd(self, work: Work, cap: int, more_input: int = 0) -> float:
        """Return the most one call can cost, in US dollars: an input token for each byte of the request, and all of its
        cap.
        """
        inputs = max(input_bytes(work.query), (1 + INPUT_SPREAD) * self.input_tokens(work.query_key))
        return ceiling_usd(work.model, inputs + more_input, cap)


def refused(pool: Pool, given: Mapping[str, Provider]) -> tuple[list[str], list[str]]:
    """Return (mistakes, what is missing): why the models of a pool could not be asked under the usual controls, each in
    a line.

    A provider that nobody knows is missing and no mistake, as a model can be routed to without one.
    """
    wrong, missing = [], []
    for model in pool.models:
        if not (model.available and model.provider):
            continue
        try:
            provider = providers_of([model], given)[model.provider]
        except ConfigError as error:
            missing.append(str(error))
            continue
        try:
            _check(model, provider, Controls())
        except ConfigError as error:
            wrong.append(str(error))
    return wrong, missing


def _check(model: Model, provider: Provider, controls: Controls) -> None:
    """Raise `ConfigError` where a budget could not be enforced, or several would be the same request."""
    check_provider(model.provider, provider)
    controls.check(model, provider)
    silent = [
        b.id for b in model.budgets if not b.control or (b.tokens is None and "reasoning_effort" not in b.control)
    ]
    if len(silent) > 1:
        raise ConfigError(
            f"model {model.id!r}: nothing is sent for the budgets {', '.join(silent)}, so they would be the same paid"
            " request: add control, for example ['instruction', 'max_tokens'], or keep one of them"
        )
