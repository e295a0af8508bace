"""LLMs that arrive later: a router takes one in from some graded queries, without its training data and without
retraining.
"""

from __future__ import annotations

import datetime
from collections import Counter
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from r2router.encode import count_tokens, embed, load_encoder
from r2router.errors import ConfigError, DataError
from r2router.figure import Figure
from r2router.metrics.intervals import interval, weights
from r2router.pool.pool import Pool
from r2router.predict.curve_features import CurveHeads, KnownArms, learn_heads
from r2router.predict.input_tokens import InputTokens
from r2router.predict.variance import UNKNOWN_VARIANCE
from r2router.router.card import Added
from r2router.router.extended import extend, known_quality
from r2router.router.router import Router
from r2router.router.trained import TrainedTexts
from r2router.table.table import ARRAYS, Table
from r2router.text import listing, suggest
from r2router.types import FloatArray, IntArray, Model

MIN_QUERIES = 10
_FEW_QUERIES = 50
_MAX_OUT_OF_DISTRIBUTION = 0.2
_DRAWS = 200


def add_model(router: Router, model: Model | str, outcomes: Table, vectors: FloatArray | None = None) -> Router:
    """Do the work of `Router.add_model`."""
    spec = _spec(router, model, outcomes)
    rows, own = _graded(spec, outcomes)
    x = _vectors(router, outcomes, vectors, rows)
    observed = outcomes.take(rows)
    quality = known_quality(router.predictor, x)
    counts = count_tokens(own.queries)
    inputs = _input_tokens(router, counts, own)
    known = _known(router, quality, observed, own.pool.cost(inputs.estimate(counts), own.output_tokens))
    heads = learn_heads(x, own, known)
    ours = router.input_tokens
    return replace(
        router,
        pool=Pool((*router.pool.models, spec)),
        predictor=extend(router.predictor, own.arms, heads),
        input_tokens=InputTokens((*ours.factor, *inputs.factor), (*ours.overhead, *inputs.overhead), ours.typical),
        prior_quality=np.concatenate([router.prior_quality, heads.mean]),
        prior_tokens=np.concatenate([router.prior_tokens, heads.tokens]),
        trained=None if router.trained is None else router.trained.joined(TrainedTexts.of(own.queries)),
        controls=(
            *(router.controls or [""] * len(router.arms)),
            *(outcomes.controls.get(arm, "") for arm in own.arms),
        ),
        facts=msgspec.structs.replace(
            router.facts, added=(*router.facts.added, _added(router, spec, own, heads, outcomes, x))
        ),
    )


def new_models(router: Router, outcomes: Table) -> list[str]:
    """Return the models of a table that the router does not have."""
    known = {m.id for m in router.pool.models}
    return [m.id for m in outcomes.pool.models if m.id not in known]


def _spec(router: Router, model: Model | str, outcomes: Table) -> Model:
    """Return the model as it will stand in the pool. Raises `ConfigError`, `DataError` and `MissingPrice`."""
    name = model.id if isinstance(model, Model) else model
    there = [m.id for m in outcomes.pool.models]
    if any(m.id == name for m in router.pool.models):
        raise ConfigError(
            f"model {name!r} is already in the router: train a new router to change what it knows of this model"
        )
    if name not in there:
        raise DataError(f"the outcomes have no row of model {name!r}{suggest(name, there)}; they hold {listing(there)}")
    spec = model if isinstance(model, Model) else outcomes.pool[name]
    _ = Pool([spec]).usd_per_token
    return spec


def _graded(spec: Model, outcomes: Table) -> tuple[IntArray, Table]:
    """Return (rows, the model's own columns of them) of the queries that it was graded on. Raises `DataError`."""
    pool = Pool([spec])
    column = outcomes.pool.index
    source = np.array([column.get(arm, -1) for arm in pool.arms])
    if (source < 0).all():
        there = ", ".join(a.budget for a in outcomes.arms if a.model == spec.id)
        raise DataError(f"the outcomes of model {spec.id!r} have the budgets {there}, and none of the budgets to add")
    arrays = {name: getattr(outcomes, name)[:, source] for name in ARRAYS}
    for values in arrays.values():
        values[:, source < 0] = np.nan
    rows = np.flatnonzero(np.isfinite(arrays["quality"]).any(axis=1))
    distinct = len({outcomes.queries[i] for i in rows})
    if distinct < MIN_QUERIES:
        raise DataError(
            f"model {spec.id!r} is graded on {distinct} queries, at least {MIN_QUERIES} are needed to add it; 100 or"
            " more are advised"
        )
    if any(not outcomes.queries[i].strip() for i in rows):
        raise DataError("a query of the outcomes is blank; leave such rows out")
    if not (np.isfinite(arrays["quality"]).any(axis=0) & np.isfinite(arrays["output_tokens"]).any(axis=0)).any():
        raise DataError(f"no arm of model {spec.id!r} has both quality and output tokens: it cannot be priced")
    own = replace(outcomes, pool=pool, **arrays, responses=None)
    return rows, own.take(rows)


def _vectors(router: Router, outcomes: Table, vectors: FloatArray | None, rows: IntArray) -> FloatArray:
    """Return (n, dim) embeddings of some rows of the outcomes."""
    if vectors is None:
        return embed(load_encoder(router.encoder), [outcomes.queries[i] for i in rows])
    x = np.asarray(vectors, dtype=np.float32)
    if x.shape != (len(outcomes), router.dim) or not np.isfinite(x).all():
        raise DataError(
            f"vectors have shape {x.shape}; expected finite values of shape ({len(outcomes)}, {router.dim}), one row"
            " per query"
        )
    return x[rows]


def _input_tokens(router: Router, counts: IntArray, own: Table) -> InputTokens:
    """Estimate input tokens for the new arms, too: from their records, or else as the known arms have them on
    average.
    """
    if np.isfinite(own.input_tokens).any():
        return InputTokens.fit(counts, own)
    factor, overhead = (float(values.mean()) for values in router.input_tokens.arrays)
    return InputTokens((factor,) * len(own.arms), (overhead,) * len(own.arms), router.input_tokens.typical)


def _known(router: Router, quality: FloatArray, observed: Table, new_cost: FloatArray) -> KnownArms:
    """Return what the router knows of its own arms on the graded queries, and what it expects of arms of that cost.

    Expected is a line of quality over log cost through the known arms' means, each LLM one vote; how far LLMs lie from
    it is how far the new one may, with one more LLM of which nothing is known.
    """
    arms = quality.shape[1]
    column = observed.pool.index
    source = np.array([column.get(arm, -1) for arm in router.arms[:arms]])
    seen = np.where(source >= 0, observed.quality[:, source], np.nan)
    mean, model = router.prior_quality[:arms], router.pool.model_of_arm[:arms]
    typical = np.full(1, router.input_tokens.typical)
    cost = router.pool.cost(router.input_tokens.estimate(typical), router.prior_tokens)[0, :arms]
    usable = np.isfinite(mean) & (cost > 0)
    position = np.log(np.where(usable, cost, 1.0))
    votes = np.where(usable, 1.0 / np.maximum(np.bincount(model[usable], minlength=model.max() + 1), 1)[model], 0.0)
    centre, level = (np.average(v, weights=votes) if votes.any() else 0.0 for v in (position, np.nan_to_num(mean)))
    off = np.where(usable, position - centre, 0.0)
    # the penalty of 2 is that of two LLMs more, whose quality does not depend on cost
    slope = float(votes @ (off * (np.nan_to_num(mean) - level))) / (float(votes @ off**2) + 2.0)
    spent = np.array([np.nanmean(c) if np.isfinite(c).any() else np.nan for c in new_cost.T])
    with np.errstate(divide="ignore", invalid="ignore"):
        new = np.clip(np.nan_to_num(np.log(spent) - centre), off.min(), off.max())
    squares = float(votes @ (np.nan_to_num(mean) - level - slope * off) ** 2)
    variance = (squares + UNKNOWN_VARIANCE) / max(len(set(model[usable].tolist())), 1)
    return KnownArms(quality, seen, mean, np.asarray(level + slope * new), variance)


def _added(router: Router, spec: Model, own: Table, heads: CurveHeads, outcomes: Table, x: FloatArray) -> Added:
    """Return what the card says of the new model."""
    return Added(
        model=spec.id,
        added=datetime.datetime.now(datetime.UTC).date().isoformat(),
        queries=len(own),
        tasks=tuple(Counter(own.tasks).most_common()),
        sources=tuple((Path(name).name, digest) for name, digest in outcomes.sources),
        notes=tuple(_notes(router, spec, own, outcomes, x)),
        figures=tuple(_figures(own, heads)),
    )


def _notes(router: Router, spec: Model, own: Table, outcomes: Table, x: FloatArray) -> list[str]:
    notes = []
    if len(own) < _FEW_QUERIES:
        notes.append(
            f"{len(own)} graded queries are few: on real tables a model was seldom worth adding on fewer than"
            f" {_FEW_QUERIES}"
        )
    if router.in_distribution is not None:
        strange = 1.0 - float(router.in_distribution.knows(x).mean())
        if strange > _MAX_OUT_OF_DISTRIBUTION:
            notes.append(
                f"{strange:.0%} of the graded queries are unlike those the router was trained on, where it cannot"
                " forecast"
            )
    never = np.isnan(own.quality).all(axis=0) | np.isnan(own.output_tokens).all(axis=0)
    if names := listing(own.arms[i] for i in np.flatnonzero(never)):
        notes.append(f"{names} without quality or output tokens in the outcomes will never be chosen")
    if strange_arms := [a for a in outcomes.arms if a not in router.pool.index and a not in own.pool.index]:
        notes.append(f"outcomes of other arms were not used: {listing(strange_arms)}")
    return notes


def _figures(own: Table, heads: CurveHeads) -> list[Figure]:
    """Return the arms' means as graded, and how much of the outcomes' variance forecasts explain that did not
    see them.
    """
    n, seen = len(own), np.isfinite(own.quality)
    drawn = weights(n, _DRAWS, 0)
    count = np.maximum(drawn @ seen, 1e-9)
    means = (drawn @ np.nan_to_num(own.quality)) / count
    figures = [
        _figure(f"mean quality as graded: {a}", m, s)
        for a, m, s in zip(own.arms, means.T, seen.sum(axis=0), strict=True)
        if s
    ]
    missed = np.where(seen, own.quality - heads.left_out, 0.0) ** 2
    # what the mean of the others is off by, as the forecasts have not seen the query either
    off = np.where(seen, own.quality - means[0], 0.0) * n / (n - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        explained = 1.0 - (drawn @ missed).sum(axis=1) / (drawn @ off**2).sum(axis=1)
    return [*figures, _figure("share of the variance of quality that left-out forecasts explain", explained, n)]


def _figure(name: str, draws: FloatArray, n: int) -> Figure:
    """Return the first of some draws, with the interval of the others."""
    return interval(name, draws[0], draws[1:], int(n)) if np.isfinite(draws).all() else Figure(name, n=int(n))
