"""The learner for tables that are sparse in blocks: what each arm does in each domain, and in groups of like queries within it.

A forecast is built from the coarse to the fine, each step shrunk towards the one before: an effect of the arm plus one of the domain;
the arm's mean in the domain, where it was seen there; how hard a group of like queries is for all arms (through the sensitivity of item
response models, so that who is always right stays so); what is peculiar to an arm in the group. Lengths likewise, from measured counts
alone. A small network with factors of the query has half a say in quality (`FactorNet`). Which domain a text is of is told by its
embedding, and an arm's forecast is the mean over the likely domains, weighted by how much was seen of the arm in each. Nothing is filled
in (`docs/experiments.md`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec
import numpy as np

from r2router.encode.rows import unit_rows
from r2router.errors import ArtifactError, ConfigError
from r2router.predict.domain_parts import (
    DOMAIN_CELLS,
    Groups,
    domains_of,
    length_of,
    level_of,
    observed,
    sensitivity,
    strongest,
    sums_by_domain,
)
from r2router.predict.factor_net import FactorNet
from r2router.predict.linear import check_shapes
from r2router.predict.tokens import log_bounds, log_smearing
from r2router.predict.variance import UNKNOWN_VARIANCE
from r2router.types import Arm, FloatArray, Forecast, IntArray

if TYPE_CHECKING:
    from r2router.table.table import Table

_GROUP_CELLS, _LENGTH_CELLS = 6.0, 10.0  # as `DOMAIN_CELLS`, for what is peculiar to an arm in a group, and for its lengths there
_GROUP_QUERIES = 2.0  # and for how hard a group is
_QUERY_NOISE = 1.5  # how little one query tells of its own difficulty, in cells of full sensitivity
_SEEN, _UNSEEN = 20.0, 0.02  # an arm's mean of n cells in a domain weighs n / (n + 20) + .02 among the likely domains
_NET = np.float32(0.5)  # share of the network in a forecast of quality; the groups have the rest
_MAX_GROUPS = 48  # that a query belongs to: the shares of others are next to nothing
_BLOCK = 1024
_TINY = 1e-12


class Domains(msgspec.Struct, frozen=True, tag="domains", tag_field="learner", forbid_unknown_fields=True):
    """Means by domain and by group of like queries, for sparse tables of many sources.

    seed: of the groups.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"Domains(seed={self.seed}): seed must be at least 0")

    def fit(self, x: FloatArray, table: Table) -> DomainsPredictor:
        """See `Learner.fit`. The table's tasks are the domains; models that only teach tell how hard queries are."""
        order = np.argsort(np.array(table.query_ids), kind="stable")  # so that the order of the rows does not matter
        arms, tasks = len(table.arms), [table.tasks[i] for i in order]
        quality = table.quality if table.teaching is None else np.concatenate([table.quality, table.teaching], axis=1)
        quality, tokens = quality[order], np.maximum(table.output_tokens, 1.0)[order]
        domain, count = domains_of(tasks)
        unit = unit_rows(np.asarray(x, dtype=np.float32)[order])
        groups = Groups.of(unit, domain, count, self.seed)
        answers, lengths = _quality(unit, domain, groups, quality), _lengths(unit, domain, groups, tokens)
        total, cells = sums_by_domain(quality, domain, count)
        mean = (total + DOMAIN_CELLS * level_of(total, cells)) / (cells + DOMAIN_CELLS)
        net = FactorNet.fit(unit, quality, domain, mean, self.seed)
        low, high = log_bounds(tokens)
        arrays = {
            "basis": groups.basis.astype(np.float16),
            "centres": groups.centres.astype(np.float16),
            "group": groups.domain.astype(np.int16),
            "weight": groups.weight,
            "bias": groups.bias,
            "trust": groups.trust,
            "quality": answers.value[:, :arms].astype(np.float16),
            "variance": answers.variance[:, :arms].astype(np.float16),
            "log_tokens": lengths.value.astype(np.float16),
            "seen": np.concatenate([answers.weight[:, :arms], lengths.weight], axis=1).astype(np.float16),
            "level": net.level[:, :arms].astype(np.float16),
            "hidden": net.hidden.astype(np.float16),
            "shift": net.shift,
            "head": net.head[:, :arms].astype(np.float16),
            "offset": np.concatenate([_nan_where_never(quality[:, :arms]), _nan_where_never(tokens)]),
            "low": low,
            "high": high,
        }
        predictor = DomainsPredictor(table.arms, arrays)
        arrays["offset"][arms:] += log_smearing(np.log(predictor.predict(unit).tokens), tokens)
        return DomainsPredictor(table.arms, arrays)


def _nan_where_never(values: FloatArray) -> FloatArray:
    return np.where(np.isfinite(values).any(axis=0), 0.0, np.nan)


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """One outcome. value, variance: (groups, arms). weight: (domains, arms) of an arm among domains."""

    value: FloatArray
    variance: FloatArray
    weight: FloatArray


def _quality(x: FloatArray, domain: IntArray, groups: Groups, y: FloatArray) -> _Part:
    count = len(groups.bias)
    total, cells = sums_by_domain(y, domain, count)
    expected = level_of(total, cells)
    mean = (total + DOMAIN_CELLS * expected) / (cells + DOMAIN_CELLS)
    value, variance = np.empty((len(groups.domain), y.shape[1])), np.empty((len(groups.domain), y.shape[1]))
    between = _between_domains(total, cells, expected)
    for number in range(count):
        rows, own = np.flatnonzero(domain == number), groups.domain == number
        share, moves = groups.within(x[rows], number).astype(np.float64), sensitivity(mean[number])
        seen, residual = observed(y[rows] - mean[number])
        known = seen @ np.square(moves)
        level, trust = (residual @ moves) / (known + _QUERY_NOISE), known / (known + _QUERY_NOISE)
        hard = (share.T @ level) / (share.T @ trust + _GROUP_QUERIES)
        peculiar = np.where(seen, residual - (share @ hard)[:, None] * moves, 0.0)
        size = share.T @ seen
        value[own] = np.clip(mean[number] + hard[:, None] * moves + share.T @ peculiar / (size + _GROUP_CELLS), 0.0, 1.0)
        noise = (np.square(peculiar).sum(axis=0) + UNKNOWN_VARIANCE) / (seen.sum(axis=0) + 1)
        # of the arm's mean in the domain, and of what is peculiar to the group: each shrinks with the cells that were seen
        variance[own] = between / (cells[number] + DOMAIN_CELLS) * DOMAIN_CELLS + noise / (size + _GROUP_CELLS)
    return _Part(value, variance, cells / (cells + _SEEN) + _UNSEEN)


def _between_domains(total: FloatArray, cells: FloatArray, expected: FloatArray) -> float:
    """Variance of an arm's true mean in a domain around what is common to domains."""
    enough = cells >= _SEEN
    if not enough.any():
        return UNKNOWN_VARIANCE
    mean = total[enough] / cells[enough]
    sampled = mean * (1 - mean) / cells[enough]
    return float(np.clip((np.square(mean - expected[enough]) - sampled).mean(), 0.001, UNKNOWN_VARIANCE))


def _lengths(x: FloatArray, domain: IntArray, groups: Groups, tokens: FloatArray) -> _Part:
    """Log tokens. Where an arm was not measured in a domain, half-way between its mean elsewhere and that with the domain's effect."""
    count = len(groups.bias)
    total, cells = sums_by_domain(tokens, domain, count)
    mean = (total + DOMAIN_CELLS * length_of(total, cells)) / (cells + DOMAIN_CELLS)
    value = np.empty((len(groups.domain), tokens.shape[1]))
    for number in range(count):
        rows, own = np.flatnonzero(domain == number), groups.domain == number
        share = groups.within(x[rows], number).astype(np.float64)
        seen, ratio = observed(tokens[rows] / mean[number])
        value[own] = np.log(mean[number] * (share.T @ ratio + _LENGTH_CELLS) / (share.T @ seen + _LENGTH_CELLS))
    return _Part(value, np.zeros(0), cells / (cells + _SEEN) + _UNSEEN)


class DomainsPredictor:
    """Means by domain and group, mixed by how likely each is.

    basis: (d, r), centres: (groups, r) float16; group: (groups,) the domain of each; weight: (d, domains), bias: (domains,), trust: (2,):
    see `Groups`.
    quality, variance, log_tokens: (groups, arms) float16. seen: (domains, 2 arms) float16, how much an arm counts in a domain, for
    quality and for lengths. level: (domains, arms), hidden: (d, h), head: (h, arms) float16, shift: (h,): see `FactorNet`.
    offset: (2 arms,), NaN where never observed. low, high: (arms,) bounds of log tokens.
    """

    kind: ClassVar[str] = "domains"

    def __init__(self, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> None:
        n = len(arms)
        shapes: dict[str, tuple[int | None, ...]] = dict.fromkeys(("basis", "centres", "weight"), (None, None))
        shapes |= dict.fromkeys(("quality", "variance", "log_tokens"), (None, n)) | {
            "seen": (None, 2 * n),
            "level": (None, n),
            "head": (None, n),
        }
        shapes |= {"group": (None,), "bias": (None,), "hidden": (None, None), "shift": (None,)}
        check_shapes(arrays, shapes | {"trust": (2,), "offset": (2 * n,), "low": (n,), "high": (n,)})
        groups, d, domains = len(arrays["centres"]), len(arrays["basis"]), len(arrays["bias"])
        sizes = {
            "group": groups,
            "quality": groups,
            "variance": groups,
            "log_tokens": groups,
            "seen": domains,
            "weight": d,
            "level": domains,
        }
        sizes |= {"hidden": d, "head": len(arrays["shift"])}
        wrong = [name for name, size in sizes.items() if len(arrays[name]) != size]
        owner = np.asarray(arrays["group"]).astype(np.intp)
        fits = (
            arrays["weight"].shape[1] == domains
            and arrays["hidden"].shape[1] == len(arrays["shift"])
            and arrays["basis"].shape[1] == arrays["centres"].shape[1]
        )
        steps = np.diff(owner, prepend=-1, append=domains)  # groups of one domain stand together, and every domain has one
        if wrong or not fits or not groups or not ((steps >= 0) & (steps <= 1)).all():
            raise ArtifactError(f"weights: {', '.join(wrong) or 'weight, basis or group'} does not fit the others: the artifact is damaged")
        self.arms, self._arrays = arms, arrays
        basis, centres = (np.asarray(arrays[name], dtype=np.float32) for name in ("basis", "centres"))
        self._groups = Groups(basis, centres, owner, arrays["weight"], arrays["bias"], arrays["trust"])
        quality, variance, logs, seen = (
            np.asarray(arrays[name], dtype=np.float32) for name in ("quality", "variance", "log_tokens", "seen")
        )
        self._seen, own = seen, seen[owner]
        # one product gives the sums of quality, of its square, and of tokens, each weighted by what was seen
        self._values = np.concatenate([own[:, :n] * quality, own[:, :n] * (variance + quality**2), own[:, n:] * np.exp(logs)], axis=1)
        self._hidden, self._shift, self._head = (np.asarray(arrays[name], dtype=np.float32) for name in ("hidden", "shift", "head"))
        self._level = seen[:, :n] * np.asarray(arrays["level"], dtype=np.float32)
        self._offset, self._low, self._high = (np.asarray(arrays[name], dtype=np.float32) for name in ("offset", "low", "high"))

    def predict(self, x: FloatArray) -> Forecast:
        """See `Predictor.predict`."""
        x = unit_rows(np.asarray(x, dtype=np.float32))
        parts = [self._predict(x[at : at + _BLOCK]) for at in range(0, max(len(x), 1), _BLOCK)]
        quality, tokens, spread = parts[0] if len(parts) == 1 else (np.concatenate(part) for part in zip(*parts, strict=True))
        return Forecast.of(self.arms, quality, tokens, spread)

    def _predict(self, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        n = len(self.arms)
        odds, share = self._groups.membership(x)
        seen = odds @ self._seen
        if len(x) == 1 and share.shape[1] > _MAX_GROUPS:  # a part of the rows, so that one decision is quick
            few = strongest(share, _MAX_GROUPS)[0]
            sums = share[:, few] @ self._values[few]
        else:
            sums = share @ self._values
        mean = sums[:, :n] / seen[:, :n]
        spread = np.sqrt(np.maximum(sums[:, n : 2 * n] / seen[:, :n] - mean * mean, _TINY))
        log_odds = odds @ self._level / seen[:, :n] + np.maximum(x @ self._hidden + self._shift, 0) @ self._head
        net = np.float32(0.5) + np.float32(0.5) * np.tanh(np.float32(0.5) * log_odds)
        quality = np.minimum(np.maximum(mean + _NET * (net - mean) + self._offset[:n], 0.0), 1.0)
        logs = np.log(np.maximum(sums[:, 2 * n :] / seen[:, n:], _TINY)) + self._offset[n:]
        tokens = np.exp(np.minimum(np.maximum(logs, self._low), self._high))
        return quality, tokens, np.where(np.isnan(quality), np.nan, spread)

    def arrays(self) -> dict[str, Any]:
        """See `Predictor.arrays`."""
        return dict(self._arrays)

    @classmethod
    def from_arrays(cls, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> Self:
        """See `Predictor.from_arrays`."""
        return cls(arms, dict(arrays))
