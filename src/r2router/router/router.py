"""The router: a predictor with prices and a policy of its own; it knows when a query is unlike its training data."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np

from r2router.cascade.evidence import Evidence
from r2router.decide import NO_ARM, Policy, Tradeoff, anchor_pairs, decide, is_ours, ranked
from r2router.encode import Encoder, count_tokens, load_encoder
from r2router.errors import ArtifactError, NoFeasibleArm, PolicyError, QueryError, expect
from r2router.pool.pool import Pool
from r2router.predict import Predictor
from r2router.predict.domain_stats import DomainStats
from r2router.predict.in_distribution import InDistribution
from r2router.predict.input_tokens import InputTokens
from r2router.router.arm_controls import ArmControls, RequestLimits
from r2router.router.between import named_arms, neighbours_of
from r2router.router.card import Facts
from r2router.router.cascading import Cascading
from r2router.router.checks import (
    check_forecast,
    check_query,
    checked_counts,
    checked_mask,
    checked_texts,
    checked_vectors,
)
from r2router.router.curves import curves_of, path_of
from r2router.router.doubt import doubted
from r2router.router.reason import doubts, infeasible, reason
from r2router.router.trained import TrainedTexts
from r2router.types import (
    Arm,
    BoolArray,
    Choices,
    Curve,
    Decision,
    FloatArray,
    Forecast,
    IntArray,
    Model,
    NumberArray,
    PathStep,
    Prices,
)

if TYPE_CHECKING:
    from r2router.table.table import Table

_MAX_FALLBACKS = 5
_BLOCK = 512  # queries decided at once: their (query, arm) arrays stay in the processor's cache
Names = str | Iterable[str] | None


@dataclass(frozen=True, eq=False)
class Router(Cascading):
    """Chooses an arm for each request. Made by `Recipe.fit` or `Router.load`.

    pool: the models, their budgets and prices.
    encoder: the spec of the encoder that the predictor was trained on.
    dim: the length of an embedding.
    predictor: forecasts quality and tokens of every arm from an embedding.
    policy: the policy used where none is given.
    scale: US dollars by which `Tradeoff` divides the cost where it has no scale of its own.
    input_tokens: estimates each model's input tokens from our own count.
    prior_quality, prior_tokens: (arms,) means that replace the forecasts of queries out of distribution.
    in_distribution: the check for such queries; None where there is none.
    facts: where the router comes from, as its card shows it.
    controls: how each arm's budget was enforced when its outcomes were collected (`Controls.signature`); empty where
        not recorded.
    trained: hashes of the training texts; None where they were not kept.
    ties: how `Tradeoff` breaks ties; `"first"` only in a faithful import of the paper's release.
    evidence: what the cascade learned from answers; None without a cascade.
    domain_stats: what was graded per domain; None where it was not kept.
    """

    pool: Pool
    encoder: str
    dim: int
    predictor: Predictor
    policy: Policy
    scale: float
    input_tokens: InputTokens
    prior_quality: FloatArray
    prior_tokens: FloatArray
    in_distribution: InDistribution | None
    facts: Facts
    controls: tuple[str, ...] = ()
    trained: TrainedTexts | None = None
    ties: Literal["cheaper", "first"] = "cheaper"
    evidence: Evidence | None = None
    domain_stats: DomainStats | None = None

    def __repr__(self) -> str:
        return (
            f"Router({len(self.pool.models)} models, {len(self.arms)} arms, encoder={self.encoder!r},"
            f" policy={self.policy!r})"
        )

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(repr(self))}</p>{self.pool._repr_html_()}"

    @property
    def arms(self) -> tuple[Arm, ...]:
        return self.pool.arms

    # -- forecasts -----------------------------------------------------------------------------------------------

    def forecast(self, texts: str | Sequence[str]) -> Forecast:
        """Forecasts for n queries, with their cost. Raises `QueryError` for an empty one, and `EncoderError`."""
        checked = checked_texts(texts)
        return self.forecast_vectors(self._encoder.encode(checked), count_tokens(checked))

    def forecast_vectors(self, vectors: FloatArray, input_tokens: NumberArray | float | None = None) -> Forecast:
        """Forecasts for (n, dim) embeddings; for input_tokens see `decide`.

        Queries out of distribution get the arms' means over the training queries, and the spread of an unknown quality
        (0.29).
        """
        x = checked_vectors(vectors, self.dim, self.encoder)
        return self._forecast(x, self._counts(input_tokens, len(x)))

    def _forecast(self, x: FloatArray, counts: NumberArray, *, spreads: bool = True) -> Forecast:
        found = doubted(self, self.predictor.predict(x), x, spreads=spreads)
        return msgspec.structs.replace(found, cost=self._cost(counts, found.tokens))

    def _cost(self, counts: NumberArray, tokens: FloatArray) -> FloatArray:
        """Compute (n, arms) US dollars. For counts this equals `pool.cost(input_tokens.estimate(counts), tokens)`,
        faster.
        """
        if counts.ndim == 2 or self.input_tokens.maximum(counts) > self.pool.lowest_tier:
            return self.pool.cost(counts if counts.ndim == 2 else self.input_tokens.estimate(counts), tokens)
        a_token, a_request, an_output_token = self._usd
        return counts[:, None] * a_token + a_request + tokens * an_output_token

    @cached_property
    def _usd(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """(arms,) US dollars per counted input token, of an arm's fixed input, and an output token."""
        price, an_output_token = self.pool.usd_per_token[:2]
        factor, overhead = self.input_tokens.arrays
        return factor * price, overhead * price, an_output_token

    def curves(self, text: str) -> list[Curve]:
        """Return one curve per model for one query: its forecast quality, tokens and cost over the budgets."""
        check_query(text, None)
        return curves_of(self.pool, self.forecast(text))

    def path(self, text: str, *, require: Iterable[str] = (), exclude: Iterable[str] = ()) -> list[PathStep]:
        """Return every arm that is the best for some trade-off, from the cheapest to the best, exactly."""
        check_query(text, None)
        return path_of(self.arms, self.scale, self.forecast(text), self.usable(require, exclude, count_tokens([text])))

    # -- decisions -----------------------------------------------------------------------------------------------

    def route(
        self, text: str, policy: Policy | None = None, *, require: Iterable[str] = (), exclude: Iterable[str] = ()
    ) -> Decision:
        """Choose the arm for one request.

        policy: by default the router's own.
        require: capabilities that the model must have.
        exclude: models or arms that must not be used.

        Raises `QueryError` for an empty text, `PolicyError`, and `NoFeasibleArm` where a cap or the exclusions leave no
        arm.
        """
        check_query(text, None)
        counts = count_tokens([text])
        forecast = self.forecast_vectors(self._encoder.encode([text]), counts)
        return self.explain(forecast, policy, self.usable(require, exclude, counts))

    def route_many(
        self,
        texts: Sequence[str],
        policy: Policy | None = None,
        *,
        require: Iterable[str] = (),
        exclude: Iterable[str] = (),
    ) -> list[Decision]:
        """Make one decision per text, in order; the arguments are those of `route`.

        For files, and for rows that may fail, use `r2router.stream.route_file`. Raises as `route` does; the message of
        `NoFeasibleArm` begins with the number of the text, from 0.
        """
        if isinstance(texts, str):
            raise QueryError("texts is one text; give a list of them, or use route(text)")
        texts, require, exclude = list(texts), tuple(require), tuple(exclude)
        if not texts:
            return []
        forecast, counts = self.forecast(texts), count_tokens(texts)
        usable = self.usable(require, exclude, counts)
        found = []
        for i in range(len(texts)):
            mask = usable[i : i + 1] if usable is not None and usable.ndim == 2 else usable
            try:
                found.append(self.explain(forecast[i : i + 1], policy, mask))
            except NoFeasibleArm as error:
                raise NoFeasibleArm(f"text {i}: {error}") from None
        return found

    def choose(self, forecast: Forecast, policy: Policy | None = None, usable: BoolArray | None = None) -> Choices:
        """Choose the arms for n forecasts of this router, as arrays. Every decision is made here.

        policy: by default the router's own.
        usable: (arms,) or (n, arms), false where an arm must not be chosen (see `usable`). Models that are not
            available are never chosen.

        `arm` is -1 (`NO_ARM`) where a cap or the mask leaves no arm. Raises `PolicyError`, and `QueryError` where the
        forecast or the mask is not of this router's arms.
        """
        return self._choose(forecast, self.resolve(policy), self._mask(usable, forecast))

    def _choose(self, forecast: Forecast, policy: Policy, mask: BoolArray | None) -> Choices:
        return decide(policy, forecast, mask, self.pool.budget_tokens, self._anchors)

    def _mask(self, usable: BoolArray | None, forecast: Forecast) -> BoolArray | None:
        """`usable` without the models that are not available."""
        check_forecast(forecast, self.arms)
        if usable is None:
            return self._always_usable
        mask = checked_mask(usable, forecast.cost.shape)
        return mask if self._always_usable is None else mask & self._always_usable

    def chosen_arms(self, choices: Choices) -> list[Arm]:
        """Name the chosen arms. Where a cap falls between two budgets of a model, the name has the budget between them.

        Leave out the rows without an arm first.
        """
        return named_arms(self.arms, self.pool.budget_tokens, choices)

    def neighbours(self, choices: Choices) -> tuple[IntArray, FloatArray]:
        """For choices between two budgets: (n,) the arm of the larger one and (n,) the share of the way to it; else the
        chosen arm itself and 0.
        """
        return neighbours_of(self.pool.budget_tokens, self._anchors, choices)

    def explain(self, forecast: Forecast, policy: Policy | None = None, usable: BoolArray | None = None) -> Decision:
        """Make the decision for a forecast of one query, with its reason and fallbacks.

        Raises `NoFeasibleArm` where no arm may be chosen, and what `choose` raises.
        """
        if len(forecast) != 1:
            raise QueryError(
                f"a decision is explained for one query, and the forecast is of {len(forecast)}; use choose(forecast,"
                " ...)"
            )
        policy = self.resolve(policy)
        usable = self._mask(usable, forecast)
        choice = self._choose(forecast, policy, usable)
        at = int(choice.arm[0])
        if at == NO_ARM:
            raise infeasible(self.arms, forecast, policy, usable)
        order = ranked(policy, forecast, usable, self.pool.model_of_arm, _MAX_FALLBACKS + 1)
        arm, maximum = self.chosen_arms(choice)[0], self._arm_controls.max_tokens(forecast, choice, policy)[0]
        return Decision(
            arm=arm,
            model=arm.model,
            budget=arm.budget,
            quality=float(choice.quality[0]),
            tokens=float(choice.tokens[0]),
            cost=float(choice.cost[0]),
            spread=float(forecast.spread[0, at]),
            max_tokens=maximum,
            fallbacks=self._fallbacks(choice, order)[0],
            reason=reason(policy, forecast, at, arm, choice, order[0].tolist(), self.arms) + doubts(self, forecast, at),
            met=bool(choice.met[0]),
            familiar=bool(forecast.familiar[0]),
            enforcement=self._arm_controls.enforcement(choice, [maximum])[0],
        )

    def limits(
        self, forecast: Forecast, choices: Choices, policy: Policy | None = None, usable: BoolArray | None = None
    ) -> RequestLimits:
        """Return the request limits of n choices that `choose` made of the same forecast, policy and mask."""
        policy = self.resolve(policy)
        order = ranked(policy, forecast, self._mask(usable, forecast), self.pool.model_of_arm, _MAX_FALLBACKS + 1)
        return self._arm_controls.limits(forecast, choices, policy, self._fallbacks(choices, order))

    def _fallbacks(self, choices: Choices, order: IntArray) -> list[tuple[Arm, ...]]:
        """Name the fallbacks of n choices; order: (n, k) as `ranked` gives it."""
        model, arms = self.pool.model_of_arm.tolist(), self.arms
        return [
            tuple([arms[i] for i in row if i != NO_ARM and model[i] != model[at]][:_MAX_FALLBACKS])
            for at, row in zip(choices.arm.tolist(), order.tolist(), strict=True)
        ]

    def decide(
        self,
        vectors: FloatArray,
        policy: Policy | None = None,
        input_tokens: NumberArray | float | None = None,
        *,
        require: Iterable[str] = (),
        exclude: Iterable[str] = (),
    ) -> Choices:
        """Make decisions for (n, dim) embeddings, as arrays.

        input_tokens: counts of the embedded tokenizer, (n,) or one for all, or (n, arms) tokens as each model counts
            them; by default the mean of the training queries.

        `arm` is an index into `router.arms`, and -1 where a cap leaves no arm.
        """
        policy, usable, x = (
            self.resolve(policy),
            self.usable(require, exclude),
            checked_vectors(vectors, self.dim, self.encoder),
        )
        counts = self._counts(input_tokens, len(x))
        spreads, parts = not is_ours(policy), list[Choices]()  # a policy of another kind may look at spreads
        for at in range(0, max(len(x), 1), _BLOCK):
            block = counts[at : at + _BLOCK]
            forecast = self._forecast(x[at : at + _BLOCK], block, spreads=spreads)
            parts.append(self._choose(forecast, policy, self._within_context(usable, block)))
        return parts[0] if len(parts) == 1 else Choices.join(parts)

    def usable(
        self, require: Iterable[str] = (), exclude: Iterable[str] = (), counts: NumberArray | None = None
    ) -> BoolArray | None:
        """Return (arms,) or (n, arms), true where an arm may be chosen; None where all may.

        require, exclude: as in `route`.
        counts: as `input_tokens` in `decide`, but only arrays; a model is left out where the prompt alone would fill
            its context.
        """
        mask = self.pool.usable(require, exclude) if require or exclude else self._always_usable
        return mask if counts is None else self._within_context(mask, counts)

    def resolve(self, policy: Policy | None) -> Policy:
        """Return the policy to use: the router's own for None; a `Tradeoff` gets its scale. Raises `PolicyError`."""
        policy = self.policy if policy is None else policy
        if isinstance(policy, (type, Router)) or not callable(getattr(policy, "choose", None)):
            raise PolicyError(
                f"{policy!r} is not a policy: use Tradeoff(lam), Value(usd), Cheapest(min_quality) or Best(max_cost)"
            )
        if isinstance(policy, Tradeoff) and (policy.scale is None or self.ties == "first"):
            return Tradeoff(policy.lam, policy.scale or self.scale, self.ties)
        return policy

    def with_policy(self, policy: Policy) -> Router:
        """Return the same router with another policy of its own. What the card promised for the old policy is dropped.

        Raises `PolicyError` where it is not a policy.
        """
        self.resolve(policy)
        return replace(self, policy=policy, facts=msgspec.structs.replace(self.facts, promise=""))

    def with_pool(self, pool: Pool) -> Router:
        """Return the same router with other prices or availability. Raises `ArtifactError` where the arms differ."""
        expect("pool", pool, Pool, "a Pool, as Pool.read(file) makes one")
        if pool.arms != self.arms:
            raise ArtifactError("the pool's arms are not the router's, in the same order: train a router on this pool")
        return replace(self, pool=pool)

    def only(
        self, models: Names = None, providers: Names = None, like: Mapping[str, str | tuple[str, Prices]] | None = None
    ) -> Router:
        """Return a router of the models that you have: their arms alone, in the same order.

        models: names, patterns (`claude-*`) or arms (see `pool.names`).
        providers: keep only the models of these providers.
        like: stands a measured model in for one that nobody measured, with its own prices in US dollars per million
            tokens (input / output): `{"my-llm": "qwen3-32b:0.1/0.4"}`.

        Raises `ConfigError` with the nearest known names, or where no model is left that can be called.
        """
        from r2router.router.only import only

        return only(self, models, providers, like)

    def add_model(self, model: Model | str, outcomes: Table, vectors: FloatArray | None = None) -> Router:
        """Return a router with one more LLM, learned from graded queries, without retraining or the training data.

        model: with its budgets and prices, or the id of a model in the outcomes' pool.
        outcomes: what its arms gave on some queries, 100 to 500 or so; cells may be missing. Outcomes of arms that the
            router has, on the same queries, make the forecasts more exact; other arms are ignored.
        vectors: (n, dim) embeddings of the outcomes' queries, where they exist.

        The new arms come after the old ones. The policy, the cost scale and the forecasts of the old arms stay as they
        are. Raises `ConfigError` where the router has the model already, `DataError` where its outcomes are missing or
        too few (`add_model.MIN_QUERIES`), `MissingPrice`, `EncoderError`.
        """
        from r2router.router.add_model import add_model
        from r2router.table.table import Table

        expect("model", model, (Model, str), "a Model, or the id of one in the outcomes' pool")
        expect("outcomes", outcomes, Table, "a Table, as Table.read(file, pool) makes one")

        return add_model(self, model, outcomes, vectors)

    # -- saving --------------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write router.json, weights.safetensors and card.md. Raises `SaveError`, and then keeps an older router."""
        from r2router.router.folder import save

        expect("folder", folder, (str, Path), "the path of a folder")
        save(self, folder)

    @classmethod
    def load(cls, folder: str | Path) -> Router:
        """Load a saved router. Raises `ArtifactError` where it is damaged, altered, newer than this version, or none.

        Right hashes show that the files are complete, not who made them.
        """
        from r2router.router.folder import load

        expect("folder", folder, (str, Path), "the path of a folder")
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
    def _arm_controls(self) -> ArmControls:
        return ArmControls.of(self.pool, self.controls)

    @cached_property
    def _contexts(self) -> FloatArray:
        limits = [math.inf if m.context is None else float(m.context) for m in self.pool.models]
        return np.array(limits)[self.pool.model_of_arm]

    @cached_property
    def _min_context(self) -> float:
        return float(self._contexts.min())

    def _within_context(self, usable: BoolArray | None, counts: NumberArray) -> BoolArray | None:
        """Remove the arms whose model's context the prompt alone would fill."""
        if self._min_context == math.inf or not len(counts):
            return usable
        longest = counts.max() if counts.ndim == 2 else self.input_tokens.maximum(counts)
        if longest < self._min_context:
            return usable
        fits = (counts if counts.ndim == 2 else self.input_tokens.estimate(counts)) < self._contexts
        return fits if usable is None else usable & fits

    def _counts(self, given: NumberArray | float | None, n: int) -> FloatArray:
        return checked_counts(self.input_tokens.typical if given is None else given, n, len(self.arms))
