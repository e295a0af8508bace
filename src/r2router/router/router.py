"""The router: a predictor with prices, a policy of its own, and a sense of what it does not know."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from r2router.decide import NO_ARM, AnyPolicy, Best, Policy, Tradeoff, anchor_pairs, decide, ranked
from r2router.encode import Encoder, count_tokens, load_encoder
from r2router.errors import ArtifactError, NoFeasibleArm, PolicyError, QueryError
from r2router.metrics.frontier import sweep
from r2router.pool.pool import Pool
from r2router.predict import Predictor
from r2router.predict.familiarity import Familiarity
from r2router.predict.input_tokens import InputTokens
from r2router.router.card import Facts
from r2router.router.reason import reason
from r2router.text import money
from r2router.types import Arm, BoolArray, Choices, Curve, Decision, FloatArray, Forecast, Model, NumberArray, PathStep

if TYPE_CHECKING:
    from r2router.table.table import Table

_MOST_FALLBACKS = 5
_BLOCK = 512  # queries decided at once: their (query, arm) arrays stay in the processor's cache


@dataclass(frozen=True, eq=False)
class Router:
    """Chooses an arm for each request. Made by `Recipe.fit` or `Router.load`.

    pool: the models, their budgets and prices. encoder: the spec of the encoder its predictor was trained on. dim: length of an
    embedding. policy: the policy used where none is given. scale: US dollars, what `Tradeoff` divides cost by where it has no
    scale of its own. prior_quality, prior_tokens: (arms,) the means that stand in for forecasts on unfamiliar queries. ties: what a
    `Tradeoff` does with equals (`"first"` only in a faithful import of the paper's release).
    """

    pool: Pool
    encoder: str
    dim: int
    predictor: Predictor
    policy: AnyPolicy
    scale: float
    input_tokens: InputTokens
    prior_quality: FloatArray
    prior_tokens: FloatArray
    familiarity: Familiarity | None
    facts: Facts
    ties: Literal["cheaper", "first"] = "cheaper"

    @property
    def arms(self) -> tuple[Arm, ...]:
        return self.pool.arms

    # -- forecasts -----------------------------------------------------------------------------------------------

    def forecast(self, texts: str | Sequence[str]) -> Forecast:
        """Forecasts for n queries, with their cost. Raises `QueryError` for an empty one and `EncoderError`."""
        checked = [texts] if isinstance(texts, str) else list(texts)
        for number, text in enumerate(checked):
            _check_query(text, number if len(checked) > 1 else None)
        return self.forecast_vectors(self._encoder.encode(checked), count_tokens(checked))

    def forecast_vectors(self, vectors: FloatArray, input_tokens: NumberArray | float | None = None) -> Forecast:
        """Forecasts for (n, dim) embeddings; see `decide` for input_tokens. Unfamiliar queries get the arms' means."""
        x = self._check_vectors(vectors)
        return self._forecast(x, self._counts(input_tokens, len(x)))

    def _forecast(self, x: FloatArray, counts: NumberArray) -> Forecast:
        forecast = self.predictor.predict(x)
        quality, tokens, familiar = forecast.quality, forecast.tokens, forecast.familiar
        if self.familiarity is not None:
            familiar = self.familiarity.knows(x)
            if not familiar.all():
                quality = np.where(familiar[:, None], quality, self.prior_quality)
                tokens = np.where(familiar[:, None], tokens, self.prior_tokens)
        return Forecast(self.arms, quality, tokens, forecast.spread, familiar, self._cost(counts, tokens))

    def _cost(self, counts: NumberArray, tokens: FloatArray) -> FloatArray:
        """(n, arms) US dollars. For counts: `pool.cost(input_tokens.estimate(counts), tokens)`, in fewer steps."""
        if counts.ndim == 2:
            return self.pool.cost(counts, tokens)
        a_token, a_request, an_output_token = self._usd
        return counts[:, None] * a_token + a_request + tokens * an_output_token

    @cached_property
    def _usd(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(arms,) US dollars a counted input token, of an arm's fixed input, and an output token."""
        price, an_output_token = self.pool.usd_per_token[:2]
        factor, overhead = self.input_tokens.arrays
        return factor * price, overhead * price, an_output_token

    def curves(self, text: str) -> list[Curve]:
        """One curve a model for one query: forecast quality, tokens and cost over its budgets."""
        return curves_of(self.pool, self.forecast(text))

    def path(self, text: str, *, require: Iterable[str] = (), exclude: Iterable[str] = ()) -> list[PathStep]:
        """Every arm that is best for some trade-off, from the cheapest to the best, exactly (no grid of lambdas)."""
        forecast = self.forecast(text)
        usable = self.usable(require, exclude, count_tokens([text]))
        cost = forecast.cost if usable is None else np.where(usable, forecast.cost, np.inf)
        if not (np.isfinite(cost) & ~np.isnan(forecast.quality)).any():
            raise self._infeasible(forecast, "no arm of the pool is available for this request", usable)
        steps = sweep(forecast.quality, cost)
        arms = [int(steps.start[0]), *steps.after.tolist()]
        values = [0.0, *steps.value.tolist()]
        return [
            PathStep(self.arms[a], self.scale / (self.scale + v), v, float(forecast.quality[0, a]), float(cost[0, a]))
            for a, v in zip(arms, values, strict=True)
        ]

    # -- decisions -----------------------------------------------------------------------------------------------

    def route(self, text: str, policy: Policy | None = None, *, require: Iterable[str] = (), exclude: Iterable[str] = ()) -> Decision:
        """The arm for one request.

        policy: by default the router's own. require: capabilities that the model must have. exclude: models or arms not to use.
        Raises `QueryError` for an empty text, `PolicyError`, `NoFeasibleArm` where a cap or the exclusions leave no arm.
        """
        _check_query(text, None)
        counts = count_tokens([text])
        forecast = self.forecast_vectors(self._encoder.encode([text]), counts)
        return self.explain(forecast, policy, self.usable(require, exclude, counts))

    def explain(self, forecast: Forecast, policy: Policy | None = None, usable: BoolArray | None = None) -> Decision:
        """The decision, with its reason and fallbacks, for a forecast of one query."""
        policy = self.resolve(policy)
        choice = decide(policy, forecast, usable, self.pool.budget_tokens, self._anchors)
        at = int(choice.arm[0])
        if at == NO_ARM:
            limit = f"costs at most {money(policy.max_cost)}" if isinstance(policy, Best) else "is available for this request"
            raise self._infeasible(forecast, f"no arm {limit}", usable)
        order = ranked(policy, forecast, usable, self.pool.model_of_arm)
        wanted = float(choice.budget_tokens[0])
        between = not math.isnan(wanted) and wanted != self.pool.budget_tokens[at]
        arm = Arm.of(self.arms[at].model, str(int(wanted))) if between else self.arms[at]
        return Decision(
            arm=arm,
            model=arm.model,
            budget=arm.budget,
            quality=float(choice.quality[0]),
            tokens=float(choice.tokens[0]),
            cost=float(choice.cost[0]),
            spread=float(forecast.spread[0, at]),
            max_tokens=self._max_tokens(policy, forecast, at, wanted),
            fallbacks=tuple(self.arms[i] for i in order if self.arms[i].model != arm.model)[:_MOST_FALLBACKS],
            reason=reason(policy, forecast, at, arm, choice, order, self.arms),
            met=bool(choice.met[0]),
            familiar=bool(forecast.familiar[0]),
        )

    def decide(
        self,
        vectors: FloatArray,
        policy: Policy | None = None,
        input_tokens: NumberArray | float | None = None,
        *,
        require: Iterable[str] = (),
        exclude: Iterable[str] = (),
    ) -> Choices:
        """Decisions for (n, dim) embeddings, as arrays; `arm` indexes `router.arms` and is -1 where a cap leaves no arm.

        input_tokens: counts of the embedded tokenizer, (n,) or one for all, or (n, arms) tokens as each model counts them; by
            default the mean of the training queries.
        """
        policy, usable, x = self.resolve(policy), self.usable(require, exclude), self._check_vectors(vectors)
        counts = self._counts(input_tokens, len(x))
        parts = []
        for at in range(0, max(len(x), 1), _BLOCK):
            block = counts[at : at + _BLOCK]
            forecast, mask = self._forecast(x[at : at + _BLOCK], block), self._within_context(usable, block)
            parts.append(decide(policy, forecast, mask, self.pool.budget_tokens, self._anchors))
        return parts[0] if len(parts) == 1 else Choices.join(parts)

    def usable(self, require: Iterable[str] = (), exclude: Iterable[str] = (), counts: NumberArray | None = None) -> BoolArray | None:
        """(arms,) or (n, arms) true where an arm may be chosen; None where every one may.

        require, exclude: as in `route`. counts: as `input_tokens` in `decide`, but arrays only; a model whose context the prompt alone
        would fill is then left out.
        """
        mask = self.pool.usable(require, exclude) if require or exclude else self._always_usable
        return mask if counts is None else self._within_context(mask, counts)

    def resolve(self, policy: Policy | None) -> Policy:
        """The policy to use: the router's own for None, and its own scale for a `Tradeoff` without one. Raises `PolicyError`."""
        policy = self.policy if policy is None else policy
        if isinstance(policy, type) or not hasattr(policy, "choose"):
            raise PolicyError(f"{policy!r} is not a policy: use Tradeoff(lam), Value(usd), Cheapest(min_quality) or Best(max_cost)")
        if isinstance(policy, Tradeoff) and (policy.scale is None or self.ties == "first"):
            return Tradeoff(policy.lam, policy.scale or self.scale, self.ties)
        return policy

    def with_policy(self, policy: AnyPolicy) -> Router:
        """The same router with another policy of its own; what the one before was set to keep is no longer said of it."""
        return replace(self, policy=policy, facts=msgspec.structs.replace(self.facts, promise=""))

    def with_pool(self, pool: Pool) -> Router:
        """The same router with other prices, capabilities or availability; the arms must be the same. Raises `ArtifactError`."""
        if pool.arms != self.arms:
            raise ArtifactError("the pool's arms are not the router's, in the same order: train a router on this pool")
        return replace(self, pool=pool)

    def add_model(self, model: Model | str, outcomes: Table, vectors: FloatArray | None = None) -> Router:
        """A router that has one LLM more, learned from graded queries without retraining and without the training data.

        model: with its budgets and prices, or the id of a model in the outcomes' pool. outcomes: what its arms gave on some queries, 100 to
        500 or so; cells may be missing. Outcomes of arms that the router has, on the same queries, make it more exact; those of others are
        left alone. vectors: (n, dim) embeddings of the outcomes' queries, where they exist. The new arms stand behind the old ones; the
        policy, the cost scale and all forecasts of known arms stay. Raises `ConfigError` where the router has the model, `DataError`
        where its outcomes are missing or too few (`arrival.LEAST_QUERIES`), `MissingPrice`, `EncoderError`.
        """
        from r2router.router.add_model import add_model

        return add_model(self, model, outcomes, vectors)

    # -- saving --------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write router.json, weights.safetensors and card.md. Raises `SaveError`; an older router there then survives."""
        from r2router.router.folder import save

        save(self, folder)

    @classmethod
    def load(cls, folder: str | Path) -> Router:
        """A saved router. Raises `ArtifactError` where it is damaged, altered, newer than this version, or not a router."""
        from r2router.router.folder import load

        return load(folder)

    # -- inside --------------------------------------------------------------------------------------------------

    @cached_property
    def _encoder(self) -> Encoder:
        return load_encoder(self.encoder)

    @cached_property
    def _anchors(self) -> Any:
        return anchor_pairs(self.pool.model_of_arm, self.pool.budget_tokens)

    @cached_property
    def _always_usable(self) -> BoolArray | None:
        mask = self.pool.usable()
        return None if mask.all() else mask

    @cached_property
    def _contexts(self) -> FloatArray:
        limits = [math.inf if m.context is None else float(m.context) for m in self.pool.models]
        return np.array(limits)[self.pool.model_of_arm]

    @cached_property
    def _least_context(self) -> float:
        return float(self._contexts.min())

    def _within_context(self, usable: BoolArray | None, counts: NumberArray) -> BoolArray | None:
        """The mask without the arms whose model's context the prompt alone would fill; mostly the mask itself."""
        if self._least_context == math.inf or not len(counts):
            return usable
        longest = counts if counts.ndim == 2 else self.input_tokens.estimate(counts.max()[None])
        if longest.max() < self._least_context:
            return usable
        fits = (counts if counts.ndim == 2 else self.input_tokens.estimate(counts)) < self._contexts
        return fits if usable is None else usable & fits

    def _counts(self, given: NumberArray | float | None, n: int) -> FloatArray:
        """(n,) counts of the embedded tokenizer, or (n, arms) tokens as each model counts them."""
        if given is None or isinstance(given, (int, float)):
            count = self.input_tokens.typical if given is None else float(given)
            if not 0 <= count < math.inf:
                raise QueryError(f"input_tokens is {given}; it must be finite and at least 0")
            return np.full(n, count)
        try:
            counts = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError):
            raise QueryError("input_tokens must be numbers") from None
        if not np.isfinite(counts).all() or (counts < 0).any():
            raise QueryError("input_tokens must be finite and at least 0")
        if counts.shape == (n, len(self.arms)):
            return counts
        if counts.shape not in ((), (n,)):
            raise QueryError(f"input_tokens has shape {counts.shape}; expected one number, ({n},) or ({n}, {len(self.arms)})")
        return np.full(n, float(counts)) if counts.ndim == 0 else counts

    def _check_vectors(self, vectors: FloatArray) -> FloatArray:
        x = vectors
        if not (isinstance(x, np.ndarray) and x.dtype == np.float32):
            try:
                with np.errstate(over="ignore"):
                    x = np.asarray(vectors, dtype=np.float32)
            except (TypeError, ValueError):
                raise QueryError(f"embeddings must be numbers, {self.dim} for each query") from None
        if x.ndim == 1:
            x = x[None]
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise QueryError(f"embeddings have shape {np.shape(vectors)}; this router ({self.encoder}) needs (n, {self.dim})")
        # one cheap pass: a NaN or infinity anywhere makes the product one; so may very large values, hence the second look
        if not math.isfinite(np.vdot(x, x)) and not np.isfinite(x).all():
            raise QueryError("embeddings hold NaN or infinite values; check the encoder that made them")
        return x

    def _max_tokens(self, policy: Policy, forecast: Forecast, arm: int, wanted: float) -> int | None:
        """The output length to enforce: the budget where `max_tokens` enforces it, and what a cap can pay for."""
        limits = []
        if not math.isnan(wanted) and "max_tokens" in self.pool.budgets[arm].control:
            limits.append(wanted)
        price = float(self.pool.usd_per_token[1, arm])
        if isinstance(policy, Best) and price > 0:
            before_output = float(forecast.cost[0, arm]) - float(forecast.tokens[0, arm]) * price
            limits.append(max((policy.max_cost - before_output) / price, 1.0))
        least = min(limits, default=math.inf)
        return int(least) if least < math.inf else None

    def _infeasible(self, forecast: Forecast, what: str, usable: BoolArray | None) -> NoFeasibleArm:
        cost = forecast.cost[0] if usable is None else np.where(np.atleast_2d(usable)[0], forecast.cost[0], np.nan)
        cost = np.where(np.isnan(forecast.quality[0]), np.nan, cost)
        if np.isnan(cost).all():
            why = "is unavailable, excluded, lacks a required capability, has too small a context or was never observed"
            return NoFeasibleArm(f"{what}: every model {why}")
        cheapest = int(np.nanargmin(cost))
        least = money(float(cost[cheapest]), up=True)
        return NoFeasibleArm(f"{what}; the cheapest is {self.arms[cheapest]} at {least}: raise the cap to at least that")


def curves_of(pool: Pool, forecast: Forecast) -> list[Curve]:
    """The curves of the first query of a forecast."""
    curves = []
    for number, model in enumerate(pool.models):
        at = np.flatnonzero(pool.model_of_arm == number)
        values = (tuple(a[0, at].tolist()) for a in (forecast.quality, forecast.tokens, forecast.cost, forecast.spread))
        curves.append(Curve(model.id, tuple(b.id for b in model.budgets), *values))
    return curves


def _check_query(text: object, number: int | None) -> None:
    which = "the query" if number is None else f"query {number}"
    if not isinstance(text, str):
        raise QueryError(f"{which} is {type(text).__name__}, not text")
    if not text.strip():
        raise QueryError(f"{which} is empty: there is nothing to route")
