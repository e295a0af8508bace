"""What a router knows per domain: how many queries of it were graded, on which arms, and with what result.

A forecast says what to expect of a query; the evidence says how much stands behind it. Queries belong to tasks (as the
table names them) and tasks to domains. Arms that were seen on different tasks are made comparable by an additive model
(task + arm); an arm that a task never saw gets what that model says, with the error that the model was measured to
have. A query is of the domain whose centre is nearest to its embedding; some domains have no graded query at all, and
then their centres stand for prompts of their kind.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import msgspec
import numpy as np

from r2router.errors import ArtifactError
from r2router.predict.kmeans import spherical_centres
from r2router.predict.means import additive, fair_means
from r2router.types import BoolArray, FloatArray, IntArray

THIN = 100
"""A domain with fewer graded queries is one of which little is known."""

_QUERIES_PER_CENTRE, _MAX_CENTRES = 40, 24  # of a task
_LIKE = 0.4  # cosine from which a query is like a prompt that stands for a kind
_LEAST_ARMS = 8  # that a domain of which little was graded must have seen, to show how far arms differ there
_LEAST_VARIANCE = 1e-4  # of arms' means
_TINY = 1e-9
_MIN_CELLS = 20  # of a (task, arm) pair that may show how wrong the additive model is
_ARRAYS = (
    "domain_of_task",
    "queries",
    "input_tokens",
    "count",
    "quality",
    "deviation",
    "tokens",
    "centres",
    "domain_of_centre",
)


class Spreads(msgspec.Struct, frozen=True):
    """Standard deviations of quality.

    cell: of one outcome around its arm's mean.
    task: of an arm's mean on a task around what the additive model says.
    domain: the same of an arm's mean on a domain, where no task of the domain saw the arm.
    arms: of the arms' means over the domains.
    thin: how far arms differ on domains of which little was graded, over how far they differ elsewhere.
    level: the quality of an average arm on such domains; None where none of them was graded at all.
    """

    cell: float = 0.4
    task: float = 0.15
    domain: float = 0.2
    arms: float = 0.0
    thin: float = 1.0
    level: float | None = None


class Known(NamedTuple):
    """What is known of the arms on one domain. Arrays are (arms,), NaN where no task saw the arm.

    quality: mean, made comparable.
    deviation: its standard deviation.
    tokens: output tokens.
    queries: number of graded queries.
    """

    quality: FloatArray
    deviation: FloatArray
    tokens: FloatArray
    queries: IntArray


@dataclass(frozen=True, eq=False)
class DomainStats:
    """What was measured per domain and per task.

    domains, tasks: their names.
    domain_of_task: (T,) int.
    queries: (T,) graded queries of each task.
    input_tokens: (T,) their mean length as the embedded tokenizer counts.
    count, quality, deviation, tokens: (T, A) of each task and arm: graded queries, mean quality made comparable within
        the task, standard deviation of single outcomes, mean output tokens; NaN where not observed.
    centres: (k, d) float32 of norm 1.
    domain_of_centre: (k,) int.
    kinds: how many, the last ones, are prompts that stand for a kind.
    """

    domains: tuple[str, ...]
    tasks: tuple[str, ...]
    domain_of_task: IntArray
    queries: IntArray
    input_tokens: FloatArray
    count: IntArray
    quality: FloatArray
    deviation: FloatArray
    tokens: FloatArray
    centres: FloatArray
    domain_of_centre: IntArray
    spreads: Spreads = field(default_factory=Spreads)
    kinds: int = 0

    @classmethod
    def fit(
        cls,
        x: FloatArray,
        tasks: Sequence[str],
        quality: FloatArray,
        tokens: FloatArray,
        counts: FloatArray,
        domain_of: Mapping[str, str],
        others: Mapping[str, FloatArray] | None = None,
        seed: int = 0,
    ) -> DomainStats:
        """Return what a table shows.

        x: (n, d) embeddings.
        tasks: (n,) names.
        quality, tokens: (n, A), NaN where not observed.
        counts: (n,) input tokens as the embedded tokenizer counts them.
        domain_of: task -> domain, for all tasks.
        others: domain -> (m, d) embeddings of prompts of its kind, for domains with few or no graded queries.
        """
        others = dict(others or {})
        names = tuple(dict.fromkeys(tasks))
        domains = tuple(dict.fromkeys([*(domain_of[name] for name in names), *others]))
        of_task = np.array([names.index(name) for name in tasks], dtype=np.intp)
        of_domain = np.array([domains.index(domain_of[name]) for name in names], dtype=np.intp)
        rng = np.random.default_rng(seed)
        rows = [np.flatnonzero(of_task == t) for t in range(len(names))]
        centres, owners = [], []
        for t, own in enumerate(rows):
            centres.append(
                spherical_centres(x[own], int(np.clip(len(own) // _QUERIES_PER_CENTRE, 1, _MAX_CENTRES)), rng)
            )
            owners += [int(of_domain[t])] * len(centres[-1])
        for name, prompts in others.items():
            centres.append(np.asarray(prompts, dtype=np.float32))
            owners += [domains.index(name)] * len(prompts)
        with np.errstate(invalid="ignore"):
            deviation = np.stack([deviations(quality[own]) for own in rows])
        found = cls(
            domains=domains,
            tasks=names,
            domain_of_task=of_domain,
            queries=np.array([int(np.isfinite(quality[own]).any(axis=1).sum()) for own in rows]),
            input_tokens=np.array([float(counts[own].mean()) for own in rows]),
            count=np.stack([np.isfinite(quality[own]).sum(axis=0) for own in rows]),
            quality=np.clip(np.stack([fair_means(quality[own]) for own in rows]), 0.0, 1.0),
            deviation=deviation,
            tokens=np.stack(
                [np.exp(fair_means(np.log(np.maximum(tokens[own], 1.0)))) * _convexity(tokens[own]) for own in rows]
            ),
            centres=np.concatenate(centres),
            domain_of_centre=np.array(owners, dtype=np.intp),
            kinds=sum(len(prompts) for prompts in others.values()),
        )
        return replace(found, spreads=found._measured())

    # -- of queries ----------------------------------------------------------------------------------------------

    def domain(self, x: FloatArray) -> IntArray:
        """Return (n,) the domain of each of (n, d) embeddings."""
        return self.domain_and_kind(x)[0]

    def domain_and_kind(self, x: FloatArray) -> tuple[IntArray, BoolArray]:
        """Return ((n,) the domain of each of (n, d) embeddings, (n,) whether it is like a prompt that stands for a kind
        of which much was graded).

        The latter are asked in other words than what was graded, but for the same things.
        """
        cosine = x @ self.centres.T
        nearest = cosine.argmax(axis=1)
        domain = np.asarray(self.domain_of_centre[nearest])
        like = (nearest >= len(self.centres) - self.kinds) & (np.maximum.reduce(cosine, axis=1) >= _LIKE)
        return domain, np.asarray(like & (self.graded[domain] >= THIN))

    @cached_property
    def min_spread(self) -> FloatArray:
        """(domains, A) the lowest standard deviation of a forecast of expected quality that this much evidence
        allows.
        """
        n = self.seen.astype(np.float64)
        known = np.bincount(self.domain_of_task, self.queries, len(self.domains))
        # nothing is known: uniform on [0, 1]
        prior = np.where(known[:, None] > 0, self.spreads.domain, np.sqrt(1 / 12))
        return 1.0 / np.sqrt(1.0 / prior**2 + n / self.spreads.cell**2)

    @cached_property
    def seen(self) -> IntArray:
        """(domains, A) graded queries of each domain on each arm."""
        return np.stack([self.count[self.domain_of_task == d].sum(axis=0) for d in range(len(self.domains))])

    @cached_property
    def graded(self) -> IntArray:
        """(domains,) graded queries of each."""
        return np.bincount(self.domain_of_task, self.queries, len(self.domains)).astype(np.intp)

    # -- of domains ----------------------------------------------------------------------------------------------

    def known(self, domain: int | None = None, tasks: IntArray | None = None) -> Known:
        """Return what is known of every arm on one domain, or on all; as if every arm had answered all queries of all
        its tasks.

        A task counts by its queries.

        tasks: only these (by number); tasks on which no arm was seen do not count.
        """
        rows = np.arange(len(self.tasks)) if domain is None else np.flatnonzero(self.domain_of_task == domain)
        rows = rows if tasks is None else np.intersect1d(rows, tasks)
        count, arms = self.count[rows], self.count.shape[1]
        if not len(rows) or not count.any():
            nothing = np.full(arms, np.nan)
            return Known(nothing, nothing, nothing, np.zeros(arms, dtype=np.intp))
        weight = self.queries[rows] / max(self.queries[rows].sum(), 1)
        prior = _model(self.quality[rows])
        cell = np.where(
            np.isfinite(self.deviation[rows]) & (count >= _MIN_CELLS), self.deviation[rows], self.spreads.cell
        )
        precision = count / np.maximum(cell, 0.02) ** 2
        alone = 1.0 / self.spreads.task**2 if len(rows) > 1 else 0.0  # with one task there is nothing else to go by
        with np.errstate(divide="ignore"):
            variance = 1.0 / (alone + precision)
        with np.errstate(invalid="ignore"):
            mean = np.where(
                count > 0, variance * (prior * alone + np.nan_to_num(self.quality[rows]) * precision), prior
            )
        sampled = weight[:, None] * np.sqrt(np.where(count > 0, variance, 0.0))
        # one arm's errors go together
        guessed = (weight[:, None] * np.where(count > 0, 0.0, self.spreads.task)).sum(axis=0)
        queries = count.sum(axis=0)
        never = queries == 0
        tokens = np.exp(np.einsum("t,ta->a", weight, np.nan_to_num(_model(np.log(self.tokens[rows])))))
        blank = never | ~np.isfinite(self.tokens[rows]).any(axis=0)
        return Known(
            np.where(never, np.nan, np.clip((weight[:, None] * np.nan_to_num(mean)).sum(axis=0), 0.0, 1.0)),
            np.where(never, np.nan, np.sqrt((sampled**2).sum(axis=0) + guessed**2)),
            np.where(blank, np.nan, tokens),
            queries,
        )

    def typical_input(self, domain: int | None = None) -> float:
        """Mean input tokens of a domain's queries, or of all, as the embedded tokenizer counts; NaN where there are
        none.
        """
        own = np.ones(len(self.tasks), dtype=np.bool_) if domain is None else self.domain_of_task == domain
        return (
            float(np.average(self.input_tokens[own], weights=self.queries[own]))
            if self.queries[own].sum()
            else float("nan")
        )

    def where_thin(self, prior: FloatArray) -> FloatArray:
        """Return (A,) what to expect of arms on a domain of which little was graded, from (A,) their means over everything.

        Examinations tell how strong an arm is, not that strength matters: on such domains arms were seen to differ
        less. And what was seen of an arm in many domains tells more of another one than what was seen in one.
        """
        if self.spreads.level is None or not np.isfinite(prior).any():
            return prior
        domains = (self.seen / (self.seen + _MIN_CELLS)).sum(axis=0)
        error = self.spreads.domain**2 / np.maximum(domains, _TINY)
        belief = self.spreads.thin * self.spreads.arms**2 / (self.spreads.arms**2 + error)
        return np.clip(self.spreads.level + belief * (prior - np.nanmean(prior)), 0.0, 1.0)

    def take(self, columns: IntArray) -> DomainStats:
        """Return the same of some arms, by number; one may stand twice."""
        return replace(
            self, **{name: getattr(self, name)[:, columns] for name in ("count", "quality", "deviation", "tokens")}
        )

    def _measured(self) -> Spreads:
        """Return how much single outcomes, and an arm's means, differ from what the additive model says."""
        enough = self.count >= _MIN_CELLS
        cell = (
            float(np.sqrt(np.average(np.square(self.deviation[enough]), weights=self.count[enough])))
            if enough.any()
            else 0.4
        )
        task = [
            _left_out(
                np.where(enough, self.quality, np.nan)[self.domain_of_task == d],
                self.count[self.domain_of_task == d],
                cell,
            )
            for d in range(len(self.domains))
        ]
        means = np.stack([self.known(d).quality for d in range(len(self.domains))])
        domain = _left_out(np.where(self.seen >= _MIN_CELLS, means, np.nan), self.seen, cell)
        found = np.concatenate(task)
        spread = float(np.sqrt(np.mean(domain**2))) if len(domain) >= 10 else Spreads().domain
        return Spreads(
            max(cell, 0.05),
            float(np.sqrt(np.mean(found**2))) if len(found) >= 10 else Spreads().task,
            spread,
            *self._differences(means, spread),
        )

    def _differences(self, means: FloatArray, spread: float) -> tuple[float, float, float | None]:
        """Return `arms`, `thin` and `level` of `Spreads`.

        means: (domains, A).
        Each domain of which little was graded counts alike.
        """
        nothing = Spreads()
        much = np.flatnonzero((self.graded >= THIN) & np.isfinite(means).any(axis=1))
        if not len(much):
            return nothing.arms, nothing.thin, nothing.level
        seen = np.where(self.seen >= _MIN_CELLS, means, np.nan)[much]
        arm = np.where(np.isfinite(seen).any(axis=0), additive(seen)[0], np.nan)
        error = spread**2 / np.maximum(np.isfinite(seen).sum(axis=0), 1)
        arms = float(np.sqrt(max(np.nanvar(arm) - error[np.isfinite(arm)].mean(), _LEAST_VARIANCE)))
        slopes, levels = [], []
        for number in np.flatnonzero((self.graded > 0) & (self.graded < THIN)):
            both = np.isfinite(arm) & (self.seen[number] > 0)
            off = arm[both] - np.nanmean(arm)
            if both.sum() >= _LEAST_ARMS and np.ptp(off) > 0:
                slopes.append(float((off - off.mean()) @ means[number, both] / ((off - off.mean()) @ off)))
                levels.append(float(means[number, both].mean() - slopes[-1] * off.mean()))
        if not slopes:
            return arms, nothing.thin, nothing.level
        return arms, float(np.clip(np.mean(slopes), 0.0, 1.0)), float(np.clip(np.mean(levels), 0.0, 1.0))

    # -- saving --------------------------------------------------------------------------------------------------

    def arrays(self) -> dict[str, Any]:
        """Everything but names and spreads, as named arrays; means and counts alone, no text."""
        small = {
            name: getattr(self, name).astype(np.float32) for name in ("quality", "deviation", "tokens", "input_tokens")
        }
        whole = {
            name: getattr(self, name).astype(np.int32)
            for name in ("domain_of_task", "queries", "count", "domain_of_centre")
        }
        return {**small, **whole, "centres": self.centres.astype(np.float16)}

    @classmethod
    def from_arrays(cls, names: DomainStatsNames, arrays: Mapping[str, Any], arms: int, dim: int) -> DomainStats:
        """Return the evidence of `arrays()`. Raises `ArtifactError` where names or shapes are wrong."""
        t = len(names.tasks)
        shapes = dict.fromkeys(("domain_of_task", "queries", "input_tokens"), (t,)) | dict.fromkeys(
            ("count", "quality", "deviation", "tokens"), (t, arms)
        )
        for name, shape in shapes.items():
            if name not in arrays or arrays[name].shape != shape:
                raise ArtifactError(f"evidence.{name} is missing or not of shape {shape}: the artifact is damaged")
        centres, owner = arrays.get("centres"), arrays.get("domain_of_centre")
        if (
            centres is None
            or owner is None
            or centres.ndim != 2
            or centres.shape[1] != dim
            or owner.shape != (len(centres),)
            or not len(owner)
        ):
            raise ArtifactError("evidence.centres do not fit the domains: the artifact is damaged")
        for name in ("domain_of_task", "domain_of_centre"):
            if len(arrays[name]) and not 0 <= arrays[name].min() <= arrays[name].max() < len(names.domains):
                raise ArtifactError(f"evidence.{name} names a domain that does not exist: the artifact is damaged")
        if not 0 <= names.kinds <= len(centres):
            raise ArtifactError("evidence.kinds are not among the centres: the artifact is damaged")
        if (arrays["count"] < 0).any() or (arrays["queries"] < 0).any():
            raise ArtifactError("evidence counts a negative number of queries: the artifact is damaged")
        found = {name: arrays[name] for name in _ARRAYS}
        found |= {name: found[name].astype(np.float64) for name in ("quality", "deviation", "tokens", "input_tokens")}
        found |= {
            name: found[name].astype(np.intp) for name in ("domain_of_task", "queries", "count", "domain_of_centre")
        }
        found["centres"] = found["centres"].astype(np.float32)
        return cls(names.domains, names.tasks, spreads=names.spreads, kinds=names.kinds, **found)

    @property
    def names(self) -> DomainStatsNames:
        """What goes beside the arrays."""
        return DomainStatsNames(self.domains, self.tasks, self.spreads, self.kinds)


class DomainStatsNames(msgspec.Struct, frozen=True):
    """The part of an `DomainStats` that is no array."""

    domains: tuple[str, ...]
    tasks: tuple[str, ...]
    spreads: Spreads = Spreads()
    kinds: int = 0


def deviations(y: FloatArray) -> FloatArray:
    """Return (A,) standard deviations over the rows; NaN below two."""
    count = np.isfinite(y).sum(axis=0)
    mean = np.nansum(y, axis=0) / np.maximum(count, 1)
    squares = np.nansum(np.square(y - mean), axis=0)
    return np.where(count > 1, np.sqrt(squares / np.maximum(count - 1, 1)), np.nan)


def _convexity(tokens: FloatArray) -> FloatArray:
    """Return (A,) arithmetic over geometric mean of each arm's lengths, so that a mean of logarithms becomes one of
    tokens.
    """
    logs = np.log(np.maximum(tokens, 1.0))
    count = np.isfinite(tokens).sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = (
            np.nansum(tokens, axis=0) / np.maximum(count, 1) / np.exp(np.nansum(logs, axis=0) / np.maximum(count, 1))
        )
    return np.where(count > 0, ratio, 1.0)


def _model(y: FloatArray) -> FloatArray:
    """Return (T, A) task + arm of the additive model; NaN for an arm that no task saw."""
    if not np.isfinite(y).any():
        return np.full(y.shape, np.nan)
    arm, task = additive(y)
    return np.asarray(arm + task[:, None])


def _left_out(y: FloatArray, count: IntArray, cell: float) -> FloatArray:
    """Errors of the additive model on cells that it did not see, each brought to what an exactly known cell would show.

    Every row's cells are left out in turn, in fifths of the arms.
    """
    errors: list[float] = []
    for row in range(len(y)):
        seen = np.flatnonzero(np.isfinite(y[row]) & (np.isfinite(y).sum(axis=0) > 1))
        for fifth in range(5):
            hidden = seen[fifth::5]
            if not len(hidden) or np.isfinite(y[row]).sum() <= len(hidden):
                continue
            rest = y.copy()
            rest[row, hidden] = np.nan
            gap = y[row, hidden] - _model(rest)[row, hidden]
            noise = cell**2 / count[row, hidden]
            errors += np.sqrt(np.maximum(gap**2 - noise, 0.0)).tolist()
    return np.array(errors)
