"""The recipe: turns an outcome table into a router with its own policy and its own figures."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from r2router.cascade.spec import Cascade
from r2router.decide import Value
from r2router.encode import count_tokens, embed, load_encoder
from r2router.errors import ConfigError, DataError, EncoderError, UsageError, expect
from r2router.figure import Figure
from r2router.metrics.calibrate import MIN_VALUE, for_share
from r2router.metrics.score import KEEP, Comparison, Means, Outcomes, Routed, compare, methods
from r2router.predict import Learner
from r2router.predict.automatic import Automatic
from r2router.predict.background import BACKGROUND
from r2router.predict.crossval import fold_means, fold_of, out_of_fold
from r2router.predict.domain_parts import balanced_means
from r2router.predict.in_distribution import InDistribution
from r2router.predict.input_tokens import InputTokens
from r2router.predict.means import fair_means
from r2router.predict.tokens import log_bounds
from r2router.router.card import Facts
from r2router.router.learn_cascade import FEW_FOLDS, learned
from r2router.router.references import is_sparse, task_references
from r2router.router.router import Router
from r2router.router.trained import TrainedTexts
from r2router.table.table import Table
from r2router.table.twins import groups_of
from r2router.types import FloatArray, Forecast, Progress

_MANY = 10_000  # queries of a sparse table from which on three folds tell as much as five, in less time
_FOLDS_OF_MANY = 3
PROMISES = {
    "sure": (
        "it is set to keep {:.0%} of the best fixed arm's quality with 95 % confidence, by the lower limit of"
        " cross-validated quality"
    ),
    "average": (
        "it is set to keep {:.0%} of the best fixed arm's quality on average, by cross-validation: in about every"
        " second sample of queries it falls a little short; being surer would cost more than that arm"
    ),
    "by task, sure": (
        "it is set to keep {:.0%} of the quality of each task's best arm among those seen there, with 95 % confidence,"
        " by cross-validation"
    ),
    "by task": (
        "it is set to keep {:.0%} of the quality of each task's best arm among those seen there, on average, by"
        " cross-validation"
    ),
    "best": "it is set to the value at which the best fixed arm is the choice by the arms' means",
}
"""What a router's own policy was set to keep, in words for the card."""


class Recipe(msgspec.Struct, frozen=True):
    """How to make a router.

    encoder: the spec of the encoder (see `load_encoder`).
    learner: makes the forecasts; by default `Automatic` chooses one for the table (`docs/experiments.md`).
    folds: folds of the cross-validation for the policy and the card's figures. With 0 there is none, and the policy is
        the best fixed arm's.
    keep: the share of the best fixed arm's quality that the router's own policy keeps.
    seed: random seed of the folds, the bootstrap and the in-distribution check.
    resamples: bootstrap draws for the card's intervals.
    digest: keep hashes of the training texts, so that `evaluate` recognises training queries. Anybody who has the
        router can check a guessed text against them.
    cascade: also learn from the table's answers, so that `Router.step` looks at answers; a `Cascade` sets how.
    """

    encoder: str = "minilm"
    learner: Learner = Automatic()
    folds: int = 5
    keep: float = KEEP
    seed: int = 0
    resamples: int = 200
    digest: bool = True
    cascade: bool | Cascade = False

    def __post_init__(self) -> None:
        expect("encoder", self.encoder, str, 'the spec of an encoder, such as "minilm"')
        if isinstance(self.learner, type) or not callable(getattr(self.learner, "fit", None)):
            raise UsageError(f"learner is {self.learner!r}; give a learner, such as r2router.Ridge() or r2router.KNN()")
        for name in ("folds", "seed", "resamples"):
            expect(name, getattr(self, name), int, "a whole number")
        if not isinstance(self.cascade, (bool, Cascade)):
            raise UsageError(f"cascade is {self.cascade!r}; give True, False or r2router.Cascade(...)")
        expect("keep", self.keep, (int, float), "a number above 0 and up to 1")
        if self.seed < 0:
            raise ConfigError(f"Recipe(seed={self.seed}): a seed is at least 0")
        if self.folds < 0 or self.resamples < 0 or not 0 < self.keep <= 1:
            raise ConfigError(
                f"Recipe(folds={self.folds}, keep={self.keep}, resamples={self.resamples}): folds and resamples are at"
                " least 0, keep lies above 0 and up to 1"
            )

    def fit(self, table: Table, vectors: FloatArray | None = None, progress: Progress | None = None) -> Router:
        """Train on a table.

        vectors: (n, d) embeddings of its queries, where they exist already; they are used as they are.
        progress: called as the work goes on.

        Raises `DataError`, `MissingPrice`, `EncoderError`.
        """
        expect("table", table, Table, "a Table, as Table.read(file, pool) makes one")
        check_table(table)
        x, encoder = self._vectors(table, vectors, progress)
        if isinstance(self.learner, Automatic):  # once, and not again in every fold
            return msgspec.structs.replace(self, learner=self.learner.chosen(x, table))._fit(
                table, x, encoder, vectors is None, progress
            )
        return self._fit(table, x, encoder, vectors is None, progress)

    def _fit(self, table: Table, x: FloatArray, encoder: str, embedding: bool, progress: Progress | None) -> Router:
        counts = count_tokens(table.queries)
        inputs = InputTokens.fit(counts, table)
        estimates = inputs.estimate(counts)
        outcomes = Outcomes.of(table.arms, table.quality, table.cost(estimates))
        # a sum of effects of arm and query: it may leave what is possible, and must not (a negative length would earn
        # money)
        quality = np.clip(fair_means(table.quality), 0.0, 1.0)
        tokens = np.maximum(fair_means(table.output_tokens), np.exp(log_bounds(table.output_tokens)[0]))
        cost = np.maximum(fair_means(outcomes.cost), 0.0)
        if is_sparse(outcomes):  # a sum of effects means little across suites
            quality, tokens = balanced_means(table.quality, table.output_tokens, table.tasks)
            cost = table.pool.cost(estimates.mean(axis=0, keepdims=True), tokens[None])[0]
        best = int(np.lexsort((cost, -np.where(np.isnan(quality) | np.isnan(cost), -1.0, quality)))[0])
        policy = Value(_steady_value(quality, cost, best))
        promise = PROMISES["best"]
        figures = tuple[Figure, ...]()
        evidence, said = None, FEW_FOLDS if self.cascade else ""
        folds = min(self.folds, int(groups_of(table.queries).max(initial=0)) + 1)
        if is_sparse(outcomes) and len(table) > _MANY:
            folds = min(folds, _FOLDS_OF_MANY)
        if folds >= 2:
            forecast = out_of_fold(self.learner, x, table, folds, self.seed, progress)
            fold = fold_of(table.queries, folds, self.seed)
            means = Means(fold_means(outcomes.quality, fold), fold_means(outcomes.cost, fold))
            expected = table.pool.cost(estimates, forecast.tokens)
            forecast = msgspec.structs.replace(forecast, cost=expected)
            policy, promise, figures = self._judge(forecast, outcomes, means, best, policy, table.tasks)
            if self.cascade:
                spec = self.cascade if isinstance(self.cascade, Cascade) else Cascade(seed=self.seed)
                evidence, said = learned(spec, x, table, forecast, outcomes, fold, progress)
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
            in_distribution=InDistribution.fit(x, self.seed, self._background(encoder, embedding)),
            facts=self._facts(table, folds, figures, promise, said),
            controls=tuple(table.controls.get(arm, "") for arm in table.arms) if table.controls else (),
            trained=TrainedTexts.of(table.queries) if self.digest and not table.simulated else None,
            evidence=evidence,
        )

    def _vectors(self, table: Table, vectors: FloatArray | None, progress: Progress | None) -> tuple[FloatArray, str]:
        table.check_vectors(vectors)
        if vectors is None:
            return embed(load_encoder(self.encoder), table.queries, progress), self.encoder
        x = np.asarray(vectors, dtype=np.float32)
        if x.ndim != 2 or len(x) != len(table) or not np.isfinite(x).all():
            raise DataError(
                f"vectors have shape {x.shape}; expected finite values, one row for each of the {len(table)} queries"
            )
        fits = self.encoder != "minilm" or x.shape[1] == load_encoder("minilm").dim
        return x, self.encoder if fits else "given:vectors"

    def _background(self, encoder: str, embedding: bool) -> FloatArray | None:
        """Embed prompts of other kinds.

        None where that is not possible: vectors made elsewhere, an endpoint that training does not call, an encoder
        that is not installed.
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
        self, forecast: Forecast, outcomes: Outcomes, means: Means, best: int, fallback: Value, tasks: Sequence[str]
    ) -> tuple[Value, str, tuple[Figure, ...]]:
        """Return the policy, what it promises, and the figures, from out-of-fold forecasts with their cost.

        best: the fixed arm whose quality counts; on a sparse table the best arm of each task.
        """
        if is_sparse(outcomes):
            return *self._judge_by_task(forecast, outcomes, fallback, tasks), ()
        scored = np.flatnonzero((outcomes.seen & ~np.isnan(forecast.quality) & ~np.isnan(forecast.cost)).any(axis=1))
        if not len(scored):
            return fallback, PROMISES["best"], ()
        seen = outcomes.take(scored)
        quality = forecast.quality[scored]
        cost = forecast.cost[scored]
        means = Means(means.quality[scored], means.cost[scored])
        routed = Routed.of(quality, cost, seen)
        reference = np.where(seen.seen[:, best], seen.quality[:, best], np.nanmean(outcomes.quality[:, best]))
        gain = np.nan_to_num(seen.quality) - self.keep * reference[:, None]
        try:
            policy, sure = for_share(
                routed.sweep, gain, np.nan_to_num(seen.cost), float(np.nanmean(outcomes.cost[:, best]))
            )
            promise = PROMISES["sure" if sure else "average"].format(self.keep)
        except UsageError:
            policy, promise = fallback, PROMISES["best"]
        return (
            policy,
            promise,
            _card_figures(compare(methods(seen, quality, cost, means), seen, self.resamples, self.seed)),
        )

    def _judge_by_task(
        self, forecast: Forecast, outcomes: Outcomes, fallback: Value, tasks: Sequence[str]
    ) -> tuple[Value, str]:
        """Return the policy and what it promises, on a table where no arm was seen everywhere."""
        rows, reference, maximum = task_references(tasks, outcomes, self.seed)
        known = np.isfinite(forecast.quality[rows]) & np.isfinite(forecast.cost[rows]) & outcomes.seen[rows]
        kept = known.any(axis=1)
        if not kept.any() or np.isnan(maximum):
            return fallback, PROMISES["best"]
        rows, reference = rows[kept], reference[kept]
        seen = outcomes.take(rows)
        routed = Routed.of(forecast.quality[rows], forecast.cost[rows], seen)
        gain = np.nan_to_num(seen.quality) - self.keep * reference[:, None]
        try:
            policy, sure = for_share(routed.sweep, gain, np.nan_to_num(seen.cost), maximum)
        except UsageError:
            return fallback, PROMISES["best"]
        return policy, PROMISES["by task, sure" if sure else "by task"].format(self.keep)

    def _facts(self, table: Table, folds: int, figures: tuple[Figure, ...], promise: str, cascade: str) -> Facts:
        return Facts(
            trained=datetime.datetime.now(datetime.UTC).date().isoformat(),
            queries=len(table),
            observed=float(np.isfinite(table.quality).mean()),
            tasks=tuple(Counter(table.tasks).most_common()),
            sources=tuple((Path(name).name, digest) for name, digest in table.sources),
            notes=(
                *(without_folders(note, table) for note in table.notes),
                *([f"cascade: {cascade}"] if cascade else []),
            ),
            learner=_spec(self.learner),
            seed=self.seed,
            folds=folds if figures else 0,
            figures=figures,
            promise=promise,
        )


_CARD_LABELS = {
    "router": "this router",
    "fixed": "best mixture of fixed arms, chosen on other folds",
    "fixed known": "best mixture of fixed arms, these outcomes known",
    "one budget": "same forecasts, one budget per LLM",
    "oracle": "oracle",
}


def _card_figures(found: Comparison) -> tuple[Figure, ...]:
    rows = []
    for method, label in _CARD_LABELS.items():
        if method in found.figures:
            figures = found.figures[method]
            cost = _finite(figures["cost_at_keep"].scaled(1000))
            rows.append(_finite(msgspec.structs.replace(figures["area"], name=f"mean quality over log cost: {label}")))
            rows.append(
                msgspec.structs.replace(cost, name=f"USD per 1,000 requests at 95 % of the best arm's quality: {label}")
            )
    for method in ("fixed", "fixed known"):
        if method in found.differences:
            name = f"mean quality over log cost: router minus {_CARD_LABELS[method].removesuffix(' of fixed arms')}"
            rows.append(msgspec.structs.replace(found.differences[method]["area"], name=name))
    return tuple(rows)


def _finite(figure: Figure) -> Figure:
    """Replace infinite values by NaN: a card cannot show a cost that is never reached."""
    ends = {name: getattr(figure, name) for name in ("value", "low", "high")}
    return msgspec.structs.replace(figure, **{name: end if np.isfinite(end) else np.nan for name, end in ends.items()})


def without_folders(note: str, table: Table) -> str:
    """Remove the folders of files from a note: where they lay is private."""
    for name, _ in table.sources:
        note = note.replace(name, Path(name).name)
    return note


def _spec(learner: Learner) -> dict[str, Any]:
    spec = msgspec.to_builtins(learner)
    return spec if isinstance(spec, dict) else {"learner": type(learner).__name__}


def _steady_value(quality: FloatArray, cost: FloatArray, best: int) -> float:
    """Return a value of an answer at which the arms' means choose the best fixed arm."""
    gain, price = quality[best] - quality, cost[best] - cost
    with np.errstate(invalid="ignore", divide="ignore"):
        rates = np.where(gain > 0, price / gain, 0.0)
    return float(max(np.nanmax(rates, initial=0.0) * 1.01, MIN_VALUE))


def check_table(table: Table) -> None:
    """Raise `DataError` or `MissingPrice` where a table holds nothing to learn from; the message says what it lacks."""
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
