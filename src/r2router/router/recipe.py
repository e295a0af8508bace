"""The recipe: from an outcome table to a router that knows its own policy and its own figures."""

from __future__ import annotations

import datetime
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from r2router.decide import Value
from r2router.encode import count_tokens, embed, load_encoder
from r2router.errors import ConfigError, DataError, EncoderError, UsageError
from r2router.figure import Figure
from r2router.metrics.calibrate import LEAST_VALUE, for_quality
from r2router.metrics.score import KEEP, Outcomes, Routed, compare, methods
from r2router.predict import Learner
from r2router.predict.background import BACKGROUND
from r2router.predict.blend import Blend
from r2router.predict.crossval import out_of_fold
from r2router.predict.familiarity import Familiarity
from r2router.predict.input_tokens import InputTokens
from r2router.predict.means import fair_means
from r2router.predict.tokens import log_bounds
from r2router.router.card import Facts
from r2router.router.router import Router
from r2router.router.trained import TrainedTexts
from r2router.table.table import Table
from r2router.types import FloatArray, Forecast, Progress


class Recipe(msgspec.Struct, frozen=True):
    """How to make a router.

    encoder: spec of the encoder (see `load_encoder`). learner: by default the one that does best on real tables
    (`docs/experiments.md`). folds: for the cross-validation behind the policy and the figures of the card; 0 leaves it out, and the
    policy is then the best fixed arm's. keep: the share of the best fixed arm's quality that the router's own policy keeps.
    seed: of folds, bootstrap and familiarity. resamples: bootstrap draws for the card's intervals. digest: keep hashes of the training
    texts, by which `evaluate` knows its own training queries; whoever has the router can check a guessed text against them.
    """

    encoder: str = "minilm"
    learner: Learner = Blend()
    folds: int = 5
    keep: float = KEEP
    seed: int = 0
    resamples: int = 200
    digest: bool = True

    def __post_init__(self) -> None:
        if self.folds < 0 or self.resamples < 0 or not 0 < self.keep <= 1:
            raise ConfigError(
                f"Recipe(folds={self.folds}, keep={self.keep}, resamples={self.resamples}): folds and resamples are at least 0, "
                "keep lies above 0 and up to 1"
            )

    def fit(self, table: Table, vectors: FloatArray | None = None, progress: Progress | None = None) -> Router:
        """Train on a table.

        vectors: (n, d) embeddings of its queries, where they exist already; rows are used as they are.
        progress: called as work goes on. Raises `DataError`, `MissingPrice`, `EncoderError`.
        """
        check_table(table)
        counts = count_tokens(table.queries)
        x, encoder = self._vectors(table, vectors, progress)
        inputs = InputTokens.fit(counts, table)
        estimates = inputs.estimate(counts)
        outcomes = Outcomes.of(table.arms, table.quality, table.cost(estimates))
        # a sum of effects of arm and query: it may leave what is possible, and must not (a negative length would earn money)
        quality = np.clip(fair_means(table.quality), 0.0, 1.0)
        tokens = np.maximum(fair_means(table.output_tokens), np.exp(log_bounds(table.output_tokens)[0]))
        cost = np.maximum(fair_means(outcomes.cost), 0.0)
        best = int(np.lexsort((cost, -np.where(np.isnan(quality) | np.isnan(cost), -1.0, quality)))[0])
        policy, figures = Value(_steady_value(quality, cost, best)), tuple[Figure, ...]()
        folds = min(self.folds, len(set(table.queries)))
        if folds >= 2:
            forecast = out_of_fold(self.learner, x, table, folds, self.seed, progress)
            policy, figures = self._judge(forecast, estimates, outcomes, table, float(quality[best]), policy)
        predictor = self.learner.fit(x, table)
        return Router(
            pool=table.pool,
            encoder=encoder,
            dim=x.shape[1],
            predictor=predictor,
            policy=policy,
            scale=float(cost[best]) if cost[best] > 0 else 1.0,
            input_tokens=inputs,
            prior_quality=quality,
            prior_tokens=tokens,
            familiarity=Familiarity.fit(x, self.seed, self._background(encoder, vectors is None)),
            facts=self._facts(table, folds, figures),
            controls=tuple(table.controls.get(arm, "") for arm in table.arms) if table.controls else (),
            trained=TrainedTexts.of(table.queries) if self.digest and not table.simulated else None,
        )

    def _vectors(self, table: Table, vectors: FloatArray | None, progress: Progress | None) -> tuple[FloatArray, str]:
        table.check_vectors(vectors)
        if vectors is None:
            return embed(load_encoder(self.encoder), table.queries, progress), self.encoder
        x = np.asarray(vectors, dtype=np.float32)
        if x.ndim != 2 or len(x) != len(table) or not np.isfinite(x).all():
            raise DataError(f"vectors have shape {x.shape}; expected finite values, one row for each of the {len(table)} queries")
        fits = self.encoder != "minilm" or x.shape[1] == load_encoder("minilm").dim
        return x, self.encoder if fits else "given:vectors"

    def _background(self, encoder: str, embedding: bool) -> FloatArray | None:
        """Embeddings of prompts of other kinds.

        None where they cannot be had: vectors made elsewhere, an endpoint that training does not call, an encoder that is not installed.
        """
        if encoder.startswith("given:") or (encoder.startswith("openai:") and not embedding):
            return None
        try:
            return load_encoder(encoder).encode(BACKGROUND)
        except (EncoderError, UsageError):
            if embedding:
                raise
            return None

    def _judge(
        self, forecast: Forecast, estimates: FloatArray, outcomes: Outcomes, table: Table, best: float, fallback: Value
    ) -> tuple[Value, tuple[Figure, ...]]:
        """The policy and the figures that out-of-fold forecasts support."""
        expected = table.pool.cost(estimates, forecast.tokens)
        scored = np.flatnonzero((outcomes.seen & ~np.isnan(forecast.quality) & ~np.isnan(expected)).any(axis=1))
        if not len(scored):
            return fallback, ()
        seen = Outcomes(outcomes.arms, outcomes.quality[scored], outcomes.cost[scored])
        routed = Routed.of(forecast.quality[scored], expected[scored], seen)
        try:
            policy = for_quality(routed.sweep, np.nan_to_num(seen.quality), self.keep * best)
        except UsageError:
            policy = fallback
        if not len(seen.fixed_arms()):
            return policy, ()
        result = compare(methods(seen, forecast.quality[scored], expected[scored]), seen, self.resamples, self.seed)
        return policy, _card_figures(result.figures, result.differences)

    def _facts(self, table: Table, folds: int, figures: tuple[Figure, ...]) -> Facts:
        return Facts(
            trained=datetime.datetime.now(datetime.UTC).date().isoformat(),
            queries=len(table),
            observed=float(np.isfinite(table.quality).mean()),
            tasks=tuple(Counter(table.tasks).most_common()),
            sources=tuple((Path(name).name, digest) for name, digest in table.sources),
            notes=tuple(without_folders(note, table) for note in table.notes),
            learner=_spec(self.learner),
            seed=self.seed,
            folds=folds if figures else 0,
            figures=figures,
        )


_CARD_LABELS = {
    "router": "this router",
    "fixed": "best mixture of fixed arms",
    "one budget": "same forecasts, one budget an LLM",
    "oracle": "oracle",
}


def _card_figures(figures: dict[str, dict[str, Figure]], differences: dict[str, dict[str, Figure]]) -> tuple[Figure, ...]:
    rows = []
    for method, label in _CARD_LABELS.items():
        for name, words in (("area", "mean quality over log cost"), ("cost_at_keep", "USD a request at 95 % of the best arm's quality")):
            if method in figures:
                rows.append(_finite(msgspec.structs.replace(figures[method][name], name=f"{words}: {label}")))
    rows.append(msgspec.structs.replace(differences["fixed"]["area"], name="mean quality over log cost: router minus best mixture"))
    return tuple(rows)


def _finite(figure: Figure) -> Figure:
    """A cost that is never reached is no number on a card."""
    ends = {name: getattr(figure, name) for name in ("value", "low", "high")}
    return msgspec.structs.replace(figure, **{name: end if np.isfinite(end) else np.nan for name, end in ends.items()})


def without_folders(note: str, table: Table) -> str:
    """A note of a table without the folders of its files: where they lay is nobody else's business."""
    for name, _ in table.sources:
        note = note.replace(name, Path(name).name)
    return note


def _spec(learner: Learner) -> dict[str, Any]:
    spec = msgspec.to_builtins(learner)
    return spec if isinstance(spec, dict) else {"learner": type(learner).__name__}


def _steady_value(quality: FloatArray, cost: FloatArray, best: int) -> float:
    """A value at which the best fixed arm is the choice by the arms' means."""
    gain, price = quality[best] - quality, cost[best] - cost
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = np.where(gain > 0, price / gain, 0.0)
    return float(max(np.nanmax(rates, initial=0.0) * 1.01, LEAST_VALUE))


def check_table(table: Table) -> None:
    """Raise `DataError` or `MissingPrice` where a table has nothing to learn from, saying what it lacks."""
    if not len(table):
        raise DataError("the table has no rows: there is nothing to learn from")
    if not np.isfinite(table.quality).any():
        raise DataError("the table has no quality at all: every cell is unobserved, failed or unscored")
    if not np.isfinite(table.output_tokens).any():
        raise DataError("the table has no output tokens: without them no cost can be forecast")
    if not (np.isfinite(table.quality) & np.isfinite(table.output_tokens)).any():
        raise DataError("no arm has both quality and output tokens: nothing can be priced")
    for text in table.queries:
        if not text.strip():
            raise DataError("a query of the table is blank; leave such rows out")
    _ = table.pool.usd_per_token  # raises MissingPrice before any work is done
