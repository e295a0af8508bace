"""Which cells a collection asks, how each is known, and what they will cost."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar

import msgspec
import numpy as np

from r2router.bench.journal import Journal
from r2router.bench.suite import Query
from r2router.errors import ConfigError, DataError, MissingPrice
from r2router.metrics.intervals import Z
from r2router.pool.pool import Pool
from r2router.pool.prices import dearest_usd
from r2router.text import listing
from r2router.types import UNLIMITED, Arm, Budget, Model, Prices, Provider
from r2router.upstream.controls import Controls
from r2router.upstream.endpoint import check_provider
from r2router.upstream.known import providers_of

UNCAPPED = (100.0, 800.0)
"""Output tokens of an answer that only the safety cap cuts: low, expected. A guess until the journal has seen some."""
TEMPLATE_TOKENS = 30
"""A chat template and an instruction, about."""
TEMPLATE_BYTES = 200
"""The same at its longest."""
INPUT_SPREAD = 0.3
"""How far tokenizers differ from the embedded one: a share of the count."""
MEASURED_FROM = 5
"""Calls of an arm in the journal before their dollars tell more than a guess from tokens."""


class Work(msgspec.Struct, frozen=True):
    """A query for a model: one budget, or several that share a chain."""

    query: Query
    query_key: str
    model: Model
    budgets: tuple[Budget, ...]
    sample: int
    shared: bool


@dataclass(frozen=True)
class Plan:
    """Queries x models x budgets x samples, and the way they are asked.

    providers: by name, each model's among them. only: (query id, model, budget) triples to ask instead of all of them.
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
                f"no price for {listing(unpriced)}: give usd_per_million in the pool, 0 for a model of your own (an unknown price is "
                "never zero)"
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
        """All work at a provider, query by query, so that a part of it is already a table of whole rows."""
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
        """What identifies the call for a budget: the same words give the same key in any suite, order or file."""
        return content_key(work.query_key, work.model.id, budget.id, self._signatures[work.model.id, budget.id], work.sample)

    def chain_key(self, work: Work) -> str:
        """What identifies the chain that the work's budgets are cut from."""
        return content_key(work.query_key, work.model.id, chain_budget(work.budgets).id, "greedy", work.sample)

    # -- money ------------------------------------------------------------------------------------------------------

    @cached_property
    def _lengths(self) -> dict[str, int]:
        """Input tokens of each query, about."""
        from r2router.encode.tokens import count_tokens

        counts = count_tokens([f"{q.system or ''}\n{q.text}" for q in self.queries]) + TEMPLATE_TOKENS
        return {query_key(q): int(n) for q, n in zip(self.queries, counts, strict=True)}

    def input_tokens(self, query: str) -> int:
        """Input tokens of a query (by its key), about: the embedded tokenizer's count and a template."""
        return self._lengths[query]

    def cap(self, model: Model, budget: Budget) -> int:
        """The most output tokens of an answer."""
        return self.controls.cap(model, budget)

    def ceiling_usd(self, work: Work, cap: int, more_input: int = 0) -> float:
        """The most one call can cost, in US dollars: an input token for each byte of the request, also where the prompt is written to a
        cache, and all of its cap.
        """
        inputs = max(input_bytes(work.query), (1 + INPUT_SPREAD) * self.input_tokens(work.query_key)) + more_input
        prices = work.model.usd_per_million or Prices(0, 0)
        return dearest_usd(prices, inputs, cap, writes=prices.cache_write is not None)

    def most_usd(self, model: Model, input_tokens: float, output_tokens: float) -> float:
        """US dollars of a call with so many tokens at its maximum cost: nothing cached, thinking at its own price."""
        return dearest_usd(model.usd_per_million or Prices(0, 0), input_tokens, output_tokens)


def refused(pool: Pool, given: Mapping[str, Provider]) -> tuple[list[str], list[str]]:
    """(mistakes, what is missing): why the models of a pool could not be asked under the usual controls, each in a line.

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
    silent = [b.id for b in model.budgets if not b.control or (b.tokens is None and "reasoning_effort" not in b.control)]
    if len(silent) > 1:
        raise ConfigError(
            f"model {model.id!r}: nothing is sent for the budgets {', '.join(silent)}, so they would be the same paid request: add "
            "control, for example ['instruction', 'max_tokens'], or keep one of them"
        )


def input_bytes(query: Query) -> int:
    """Bytes of what a model is asked, a chat template and an instruction included: no tokenizer makes more tokens of it."""
    return len(query.text.encode("utf-8", "surrogatepass")) + len((query.system or "").encode("utf-8", "surrogatepass")) + TEMPLATE_BYTES


def query_key(query: Query) -> str:
    """Hash of what a query says to a model."""
    return _hash(query.text, query.system or "")


def content_key(query: str, model: str, budget: str, control: str, sample: int) -> str:
    """Hash that identifies a call by its content."""
    return _hash(query, model, budget, control, str(sample))


def chain_budget(budgets: Iterable[Budget]) -> Budget:
    """The budget of the one long answer that all of the budgets are cut from."""
    most = max(b.tokens or 0 for b in budgets)
    return Budget(f"chain:{most}", most, ("max_tokens",))


def _hash(*parts: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()


# -- what it will cost ----------------------------------------------------------------------------------------------


class Estimate(msgspec.Struct, frozen=True):
    """What one arm of a plan still costs: calls to make, and US dollars low, expected and high."""

    model: str
    budget: str
    calls: int
    low_usd: float
    usd: float
    high_usd: float
    measured: int = 0


def estimate(plan: Plan, journal: Journal) -> list[Estimate]:
    """What is left of a plan, arm by arm; chains that several arms share stand by themselves.

    Where the journal has at least `MEASURED_FROM` calls of an arm, their mean, with a 95 % interval for the sum of the calls to come.
    Before that from tokens: output from a tenth of the cap over half of it to all of it, or from `UNCAPPED` to the safety cap; input
    by the embedded tokenizer's count, give or take `INPUT_SPREAD`.
    """
    left: dict[tuple[str, str], list[int]] = {}  # input tokens of each call
    arms: dict[tuple[str, str], tuple[Model, Budget]] = {}
    for work in plan.work():
        missing = [b for b in work.budgets if not journal.has(plan.key(work, b))]
        if work.shared and missing and not journal.has(plan.chain_key(work)):
            missing.append(chain_budget(work.budgets))
        for budget in missing:
            arm = work.model.id, budget.id
            arms[arm] = work.model, budget
            left.setdefault(arm, []).append(plan.input_tokens(work.query_key))
    order = {m.id: i for i, m in enumerate(plan.models)}
    return [_of_arm(plan, journal, *arms[arm], left[arm]) for arm in sorted(left, key=lambda arm: order[arm[0]])]


def _of_arm(plan: Plan, journal: Journal, model: Model, budget: Budget, inputs: list[int]) -> Estimate:
    calls = len(inputs)
    n, total, squares = journal.charged.get((model.id, budget.id), (0.0, 0.0, 0.0))
    if n >= MEASURED_FROM:
        mean = total / n
        half = Z * math.sqrt(max(squares / n - mean**2, 0.0) * calls * (1 + calls / n))
        return Estimate(model.id, budget.id, calls, max(0.0, calls * mean - half), calls * mean, calls * mean + half, int(n))
    factors, more = (1 - INPUT_SPREAD, 1.0, 1 + INPUT_SPREAD), 0
    if "prefix_sharing" in budget.control:  # prompt and cut again, and a short answer; nothing at all where the chain has ended before
        factors, more = (0.0, *factors[1:]), budget.tokens or 0
    sums = np.zeros(3)
    for tokens, count in Counter(inputs).items():  # call by call: a long prompt may have other prices
        cases = zip(factors, _outputs(plan.controls, model, budget), strict=True)
        sums += [count * plan.most_usd(model, factor * (tokens + more), output) for factor, output in cases]
    low, middle, high = sums.tolist()
    return Estimate(model.id, budget.id, calls, low, middle, high)


def _outputs(controls: Controls, model: Model, budget: Budget) -> tuple[float, float, float]:
    """Output tokens of a call, before any is known: low, expected, high."""
    if "prefix_sharing" in budget.control:
        return 0.0, controls.answer_tokens, controls.answer_tokens
    cap = controls.cap(model, budget)
    if controls.is_safety_cap(budget):
        return min(UNCAPPED[0], cap), min(UNCAPPED[1], cap), cap
    return 0.1 * cap, 0.5 * cap, cap
