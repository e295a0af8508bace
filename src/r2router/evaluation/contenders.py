"""Contenders on equal terms: the same embeddings, folds, prices and outcomes for every method that is compared.

Every query is forecast by learners that were fitted without it. A contender sees either all (model, budget) arms or one
budget an LLM, which is chosen on the training part; what it chooses is then scored with the tokens really used.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, Self

import msgspec
import numpy as np

from r2router.encode import Encoder, count_tokens, embed, load_encoder
from r2router.errors import ArtifactError, ConfigError, DataError, UsageError
from r2router.metrics.score import FixedArms, Means, Method, Outcomes, Routed, one_budget_each
from r2router.predict import Learner, Predictor, crossval
from r2router.predict.crossval import fold_means, fold_of
from r2router.predict.input_tokens import InputTokens
from r2router.router.recipe import check_table
from r2router.table.table import Table
from r2router.table.twins import groups_of
from r2router.types import Arm, FloatArray, Forecast, IntArray, Progress

Form = Literal["arms", "one budget", "concise", "cheap enough"]
"""What a contender may choose among: every arm; each LLM at its best budget; each LLM at its cheapest, as if told to be
brief; each LLM at its cheapest that keeps 95 % of its best quality.
"""
_CHOICE: dict[Form, Literal["best", "cheapest", "cheap enough"]] = {
    "one budget": "best",
    "concise": "cheapest",
    "cheap enough": "cheap enough",
}


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedTable:
    """What an experiment works on: a table, (n, d) embeddings of its queries, (n, arms) input tokens, and what really
    happened.
    """

    table: Table
    x: FloatArray
    input_tokens: FloatArray
    outcomes: Outcomes
    encoder: Encoder

    @classmethod
    def of(
        cls,
        table: Table,
        encoder: Encoder | None = None,
        vectors: FloatArray | None = None,
        progress: Progress | None = None,
    ) -> EmbeddedTable:
        """Embed a table's queries (unless `vectors` are given) and price its outcomes; queries without any outcome are
        left out.

        encoder: by default the embedded one.

        Raises `DataError`, `MissingPrice`, `EncoderError`.
        """
        check_table(table)
        counts = count_tokens(table.queries)
        estimates = InputTokens.fit(counts, table).estimate(counts)
        outcomes = Outcomes.of(table.arms, table.quality, table.cost(estimates))
        table.check_vectors(vectors)
        encoder = load_encoder("minilm" if vectors is None else "given:vectors") if encoder is None else encoder
        x = embed(encoder, table.queries, progress) if vectors is None else np.asarray(vectors, dtype=np.float32)
        data = cls(table, x, estimates, outcomes, encoder)
        scored = np.flatnonzero(outcomes.seen.any(axis=1))
        return data if len(scored) == len(table) else data.take(scored)

    def __len__(self) -> int:
        return len(self.table)

    def take(self, rows: IntArray) -> EmbeddedTable:
        """Take some queries, by row number."""
        return EmbeddedTable(
            self.table.take(rows), self.x[rows], self.input_tokens[rows], self.outcomes.take(rows), self.encoder
        )

    def with_arms(self, arms: Sequence[str]) -> EmbeddedTable:
        """Take some arms; queries on which none of them was observed are left out."""
        table = self.table.with_arms(arms)
        keep = np.array([i for i, arm in enumerate(self.table.arms) if arm in table.pool.index], dtype=np.intp)
        found = self.outcomes
        outcomes = Outcomes(table.arms, found.quality[:, keep], found.cost[:, keep])
        data = EmbeddedTable(table, self.x, self.input_tokens[:, keep], outcomes, self.encoder)
        seen = np.flatnonzero(outcomes.seen.any(axis=1))
        return data if len(seen) == len(data) else data.take(seen)

    def with_table(self, table: Table) -> EmbeddedTable:
        """Return the same queries and arms with other outcomes or prices."""
        return replace(
            self, table=table, outcomes=Outcomes.of(table.arms, table.quality, table.cost(self.input_tokens))
        )


@dataclass(frozen=True, slots=True)
class HoldOutPlan:
    """How queries are held out.

    seeds: of the repetitions.
    folds: each query is held out once per seed.
    resamples: bootstrap draws.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    folds: int = 5
    resamples: int = 300

    def __post_init__(self) -> None:
        if not self.seeds or self.folds < 2 or self.resamples < 1:
            raise UsageError("an experiment needs at least one seed, two folds and one bootstrap draw")

    def folds_of(self, data: EmbeddedTable) -> list[IntArray]:
        """Assign the (n,) fold of every query, for each seed. Raises `DataError` where there are fewer distinct queries
        than folds.
        """
        distinct = int(groups_of(data.table.queries).max(initial=-1)) + 1
        if distinct < self.folds:
            raise DataError(f"{distinct} distinct queries cannot be held out in {self.folds} parts: use fewer folds")
        return [fold_of(data.table.queries, self.folds, seed) for seed in self.seeds]


@dataclass(frozen=True, slots=True)
class Contender:
    """A learner under a name, and what it may choose among."""

    name: str
    learner: Learner
    form: Form = "arms"

    def arms(self, train: EmbeddedTable) -> tuple[Arm, ...]:
        """Return the arms it may choose, as the training part shows them. Raises `DataError` where no arm was seen on
        nearly all queries.
        """
        if self.form == "arms":
            return train.table.arms
        chosen = one_budget_each(train.outcomes, _CHOICE[self.form])
        if not len(chosen):
            raise DataError("no arm was observed on 95 % of the queries: one budget per LLM cannot be chosen")
        return tuple(train.table.arms[i] for i in chosen)


@dataclass(frozen=True, slots=True, eq=False)
class Tried:
    """A contender's forecasts: one repetition a seed.

    views: the same forecasts from other embeddings of the same queries.
    failed: why there is nothing, in words.
    seconds: of fitting and forecasting.
    """

    contender: Contender
    forecasts: tuple[Forecast, ...] = ()
    routed: tuple[Routed, ...] = ()
    views: Mapping[str, tuple[Routed, ...]] = field(default_factory=dict)
    seconds: float = 0.0
    failed: str = ""

    @classmethod
    def of(cls, contender: Contender, forecasts: Sequence[Forecast], outcomes: Outcomes) -> Tried:
        """Return what forecasts (with their costs) come to on these outcomes."""
        return cls(contender, tuple(forecasts), tuple(_route(f, outcomes) for f in forecasts))

    def paid(self, outcomes: Outcomes) -> Tried:
        """Return the same decisions, with other outcomes of the same cells."""
        return replace(self, routed=tuple(replace(r, outcomes=outcomes) for r in self.routed))


class Unsaved:
    """A predictor that lives for an experiment only."""

    def arrays(self) -> dict[str, Any]:
        """Always raises `ConfigError`."""
        raise ConfigError(f"{type(self).__name__} is made for an experiment and cannot be saved")

    @classmethod
    def from_arrays(cls, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> Self:
        """Always raises `ArtifactError`."""
        raise ArtifactError(f"{cls.__name__} is made for an experiment and cannot be loaded")


def held_out(
    contender: Contender,
    data: EmbeddedTable,
    fold: IntArray,
    views: Mapping[str, FloatArray] = MappingProxyType({}),
    step: Callable[[], object] = int,
) -> dict[str, Forecast]:
    """Forecasts of the queries that are held out, each by a learner that was fitted on the other folds.

    fold: (n,) -1 for a query that is never held out, only learned from. The forecast `""` is from the queries' own
        embeddings. Forecasts of arms that the contender may not choose are NaN.
    """
    tested = held([fold])
    made = crossval.held_out(
        lambda rest: _fit(contender, data.take(rest)), {"": data.x, **views}, fold, data.table.arms, step
    )
    found = {}
    for name, forecast in made.items():
        own = forecast[tested]
        found[name] = msgspec.structs.replace(own, cost=data.table.pool.cost(data.input_tokens[tested], own.tokens))
    return found


def _fit(contender: Contender, train: EmbeddedTable) -> tuple[Predictor, IntArray]:
    """Return the contender's predictor, and which columns of the table its arms are."""
    table = train.table.with_arms(contender.arms(train))
    return contender.learner.fit(train.x, table), np.array([train.table.pool.index[arm] for arm in table.arms])


def transfer(contender: Contender, train: EmbeddedTable, test: EmbeddedTable) -> Tried:
    """Return a contender that is fitted on one table and tried on another one of the same arms."""
    begin = time.monotonic()
    try:
        predictor, columns = _fit(contender, train)
        made = predictor.predict(test.x)
        full = [np.full(test.outcomes.quality.shape, np.nan) for _ in range(3)]
        for wide, part in zip(full, (made.quality, made.tokens, made.spread), strict=True):
            wide[:, columns] = part
        cost = test.table.pool.cost(test.input_tokens, full[1])
        forecast = msgspec.structs.replace(Forecast.of(test.table.arms, *full), cost=cost)
        return replace(Tried.of(contender, [forecast], test.outcomes), seconds=time.monotonic() - begin)
    except (UsageError, ValueError) as error:
        return Tried(contender, failed=str(error))


def needed(tried: Tried) -> Tried:
    """Return the same, where an experiment has nothing to show without it. Raises `DataError` with the reason where it
    could not be had.
    """
    if tried.failed:
        raise DataError(f"{tried.contender.name} is not available on this table: {tried.failed}")
    return tried


def held(folds: Sequence[IntArray]) -> IntArray:
    """Return the queries that are held out at some time, which are those a trial is scored on."""
    return np.flatnonzero(folds[0] >= 0)


def attempt(
    contenders: Iterable[Contender],
    data: EmbeddedTable,
    folds: Sequence[IntArray],
    progress: Progress | None = None,
    views: Mapping[str, FloatArray] | None = None,
) -> list[Tried]:
    """Return every contender on the same folds, in order.

    One that cannot be had (an extra that is not installed, no budget of an LLM that was seen everywhere) comes back
    with the reason, and the others go on.

    views: other embeddings of the same queries, to be forecast too.
    """
    wanted = list(contenders)
    outcomes = data.outcomes.take(held(folds))
    total, done = sum(int(f.max()) + 1 for f in folds) * len(wanted), 0
    tried = []
    for contender in wanted:

        def step(name: str = contender.name) -> None:
            nonlocal done
            done += 1
            if progress is not None:
                progress(f"trying {len(wanted)} methods", done, total)

        begin = time.monotonic()
        try:
            made = [held_out(contender, data, fold, views or {}, step) for fold in folds]
            found = Tried.of(contender, [m[""] for m in made], outcomes)
            others = {name: tuple(_route(m[name], outcomes) for m in made) for name in views or {}}
        except (UsageError, ValueError) as error:
            tried.append(Tried(contender, failed=str(error)))
            continue
        tried.append(replace(found, views=others, seconds=time.monotonic() - begin))
    return tried


def _route(forecast: Forecast, outcomes: Outcomes) -> Routed:
    return Routed.of(forecast.quality, np.where(np.isnan(forecast.quality), np.inf, forecast.cost), outcomes)


def comparable(tried: Sequence[Tried], data: EmbeddedTable, folds: Sequence[IntArray]) -> dict[str, Sequence[Method]]:
    """Return what can be compared: name -> one method per seed, with the mixtures of fixed arms and the oracle."""
    found: dict[str, Sequence[Method]] = {t.contender.name: t.routed for t in tried if not t.failed}
    return found | beside(data, folds)


def beside(data: EmbeddedTable, folds: Sequence[IntArray]) -> dict[str, Sequence[Method]]:
    """Return what every comparison shows too, on the queries that are held out: the mixture of fixed arms that the
    other folds choose (one per seed), the one that knows the outcomes, and the oracle.
    """
    rows = held(folds)
    outcomes, mixtures = data.outcomes.take(rows), list[Method]()
    for fold in folds:
        quality, cost = (fold_means(a, fold)[rows] for a in (data.outcomes.quality, data.outcomes.cost))
        # a query whose arms nobody saw in the other folds: there is no such mixture
        with contextlib.suppress(ValueError):
            mixtures.append(Routed.mixture(Means(quality, cost), outcomes))
    chosen: dict[str, Sequence[Method]] = {"fixed": mixtures} if len(mixtures) == len(folds) else {}
    return chosen | {"fixed known": [FixedArms(outcomes, outcomes.fixed_arms())], "oracle": [Routed.oracle(outcomes)]}
