"""The parts of the learner for sparse tables: which domain a text is of, groups of like queries in each, and means that are shrunk.

A domain is a task of the table, as its rows name it. Outcomes of different domains are never averaged: a cell is there because
somebody ran that model on that suite, so an arm's mean belongs to its domain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from r2router.encode.rows import unit_rows
from r2router.predict.kmeans import spherical_centres
from r2router.types import BoolArray, FloatArray, IntArray

_MIN_QUERIES, _MAX_DOMAINS = 5, 200  # smaller domains, and those beyond, are one
_QUERIES_PER_GROUP, _MAX_GROUPS = 14, 150
_DIRECTIONS = 192  # in which groups are told apart: as good as all, and a decision is quick
_SHARPNESS = 0.05  # of the softmax over cosines within a domain
_RIDGE = 0.3  # of the classifier's covariance, as a share of its mean variance
_TRUST = (0.05, 0.1, 0.15, 0.25, 0.35, 0.5, 1.0)  # candidates: how far the linear half of the classifier is believed
_NEAR = (0.0, 0.2, 0.4, 0.7, 1.0)  # the same for the half that looks at near groups
_HELD = 5  # every fifth query tells which
DOMAIN_CELLS = 5.0
"""An arm's mean in a domain is shrunk as if so many more cells had been seen, at what is common to domains."""
_ENOUGH = 40.0  # cells of an arm in a domain; more do not count for what is common to domains
_ROUNDS = 50


def domains_of(tasks: Sequence[str]) -> tuple[IntArray, int]:
    """((n,) the domain of each query, how many domains there are). Tasks of very few queries are one domain together."""
    counts = Counter(tasks)
    large = [task for task in sorted(counts, key=lambda task: (-counts[task], task)) if counts[task] >= _MIN_QUERIES]
    number = {task: i for i, task in enumerate(sorted(large[: _MAX_DOMAINS - 1]))}
    return np.array([number.get(task, len(number)) for task in tasks], dtype=np.intp), len(number) + (len(number) < len(counts))


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of like queries, each within one domain, and the domain that a text is of.

    basis: (d, r) principal directions, in which groups are told apart. centres: (groups, r) float32 of norm 1.
    domain: (groups,) of each, rising. weight, bias: (d, domains), (domains,) a linear discriminant.
    trust: (2,) how far the discriminant, and the nearness to groups, are believed in the odds of domains.
    """

    basis: FloatArray
    centres: FloatArray
    domain: IntArray
    weight: FloatArray
    bias: FloatArray
    trust: FloatArray

    @classmethod
    def of(cls, x: FloatArray, domain: IntArray, count: int, seed: int) -> Groups:
        """Groups of (n, d) float32 embeddings of norm 1."""
        centres, owner, rng = list[FloatArray](), list[int](), np.random.default_rng(seed)
        basis = principal_directions(x, _DIRECTIONS).astype(np.float32)
        u = unit_rows(x @ basis)
        for number in range(count):
            own = u[domain == number]
            k = int(np.clip(len(own) // _QUERIES_PER_GROUP, 1, _MAX_GROUPS))
            centres.append(spherical_centres(own, k, rng))
            owner += [number] * k
        weight, bias = discriminant(x, domain, count)
        groups = cls(basis, np.concatenate(centres), np.array(owner, dtype=np.intp), weight, bias, np.array([1.0, 0.0], dtype=np.float32))
        return groups if count == 1 else groups._calibrated(x, domain, count)

    def _calibrated(self, x: FloatArray, domain: IntArray, count: int) -> Groups:
        """The same with the trust under which queries that the discriminant has not seen have the likeliest domains."""
        held = np.arange(len(x)) % _HELD == 0
        if not (~held).any():
            return self
        weight, bias = discriminant(x[~held], domain[~held], count)
        linear, near = x[held] @ weight + bias, np.log(self._near(x[held])[1])
        best, minimum = (1.0, 0.0), np.inf
        for pair in ((a, b) for a in _TRUST for b in _NEAR):
            odds = softmax(pair[0] * linear + pair[1] * near)
            loss = -float(np.log(np.maximum(odds[np.arange(len(odds)), domain[held]], 1e-12)).mean())
            if loss < minimum - 1e-9:
                best, minimum = pair, loss
        return Groups(self.basis, self.centres, self.domain, self.weight, self.bias, np.array(best, dtype=np.float32))

    @cached_property
    def _first(self) -> IntArray:
        """(domains,) the first group of each domain; those of one domain stand together."""
        return np.searchsorted(self.domain, np.arange(len(self.bias)))

    def _near(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """((n, groups) nearness, (n, domains) its sums)."""
        near = self._nearness(x, self._columns)
        return near, np.add.reduceat(near, self._first, axis=1)

    def _nearness(self, x: FloatArray, columns: FloatArray) -> FloatArray:
        near = unit_rows(x @ self.basis) @ columns
        near -= np.float32(1.0)
        near *= np.float32(1.0 / _SHARPNESS)
        np.exp(near, out=near)
        near += np.float32(1e-9)
        return near

    @cached_property
    def _columns(self) -> FloatArray:
        return np.ascontiguousarray(self.centres.T)

    def membership(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """((n, domains) odds of the domains, (n, groups) shares of the groups) of (n, d) float32; rows of each sum to 1."""
        near, total = self._near(x)
        odds = softmax(self.trust[0] * (x @ self.weight + self.bias) + self.trust[1] * np.log(total))
        near *= (odds / total).take(self.domain, axis=1)
        return odds, near

    def within(self, x: FloatArray, number: int) -> FloatArray:
        """(n, groups of the domain) shares where the domain is known."""
        near = self._nearness(x, self.centres[self.domain == number].T)
        return np.asarray(near / near.sum(axis=1, keepdims=True))


def principal_directions(x: FloatArray, maximum: int) -> FloatArray:
    """(d, r) orthonormal directions in which (n, d) rows have most of their length, the longest first."""
    length, directions = np.linalg.eigh((x.T @ x).astype(np.float64))
    return np.asarray(directions[:, np.argsort(-length, kind="stable")[:maximum]])


def softmax(z: FloatArray) -> FloatArray:
    """Rows that sum to 1."""
    e = np.exp(z - np.maximum.reduce(z, axis=1)[:, None])
    return np.asarray(e / np.add.reduce(e, axis=1)[:, None])


def discriminant(x: FloatArray, domain: IntArray, count: int) -> tuple[FloatArray, FloatArray]:
    """(weight (d, domains), bias (domains,)) of a linear discriminant: one normal per domain, all of one covariance."""
    n = np.bincount(domain, minlength=count)
    sums = np.zeros((count, x.shape[1]))
    np.add.at(sums, domain, x)
    means = np.where(n[:, None] > 0, sums / np.maximum(n, 1)[:, None], x.mean(axis=0))
    rest = (x - means[domain]).astype(np.float32)
    covariance = (rest.T @ rest).astype(np.float64) / len(x)
    covariance[np.diag_indices(len(covariance))] += _RIDGE * max(float(np.trace(covariance)) / len(covariance), 1e-6)
    weight = np.linalg.solve(covariance, means.T)
    bias = np.log(np.maximum(n, 0.1) / len(x)) - 0.5 * np.einsum("td,dt->t", means, weight)
    return weight.astype(np.float32), bias.astype(np.float32)


def sums_by_domain(values: FloatArray, domain: IntArray, count: int) -> tuple[FloatArray, FloatArray]:
    """((domains, arms) sums, (domains, arms) numbers of cells) of (n, arms) values; NaN is not observed."""
    total, cells = np.zeros((count, values.shape[1])), np.zeros((count, values.shape[1]))
    for number in range(count):
        own = values[domain == number]
        total[number], cells[number] = np.nansum(own, axis=0), np.isfinite(own).sum(axis=0)
    return total, cells


def common(values: FloatArray, cells: FloatArray) -> FloatArray:
    """(domains, arms) effect of the arm plus effect of the domain, fitted to (domains, arms) values of so many cells each.

    Many cells count little more than some: a file of many rows does not decide for all.
    """
    weight = np.sqrt(np.minimum(cells, _ENOUGH))
    if not weight.any():
        return np.zeros_like(values)
    y = np.where(cells > 0, values, 0.0)
    level = float((y * weight).sum() / weight.sum())
    arm, of_domain = np.zeros(y.shape[1]), np.zeros(len(y))
    for _ in range(_ROUNDS):
        arm = ((y - level - of_domain[:, None]) * weight).sum(axis=0) / (weight.sum(axis=0) + 1.0)
        of_domain = ((y - level - arm) * weight).sum(axis=1) / (weight.sum(axis=1) + 1.0)
    return np.asarray(level + arm + of_domain[:, None])


def level_of(total: FloatArray, cells: FloatArray) -> FloatArray:
    """(domains, arms) expected mean quality by what is common to domains, from sums of qualities and numbers of cells."""
    return np.asarray(1.0 / (1.0 + np.exp(-common(np.log((total + 0.5) / (cells - total + 0.5)), cells))))


def length_of(total: FloatArray, cells: FloatArray) -> FloatArray:
    """(domains, arms) expected mean tokens: half-way, in logs, between the arm's mean elsewhere and that with the domain's effect."""
    logs = np.log(np.maximum(total, 1.0) / np.maximum(cells, 1.0))
    usual = np.log(np.maximum(total.sum(axis=0), 1.0) / np.maximum(cells.sum(axis=0), 1.0))
    return np.asarray(np.exp(0.5 * (common(logs, cells) + usual)))


def balanced_means(quality: FloatArray, tokens: FloatArray, tasks: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """((arms,) quality, (arms,) tokens) that each arm would have on average over the domains, all domains alike; NaN where never seen."""
    domain, count = domains_of(tasks)
    found = []
    for values, expected_of in ((quality, level_of), (np.maximum(tokens, 1.0), length_of)):
        total, cells = sums_by_domain(values, domain, count)
        mean = ((total + DOMAIN_CELLS * expected_of(total, cells)) / (cells + DOMAIN_CELLS)).mean(axis=0)
        found.append(np.where(cells.any(axis=0), mean, np.nan))
    return found[0], found[1]


def sensitivity(quality: FloatArray) -> FloatArray:
    """How much a forecast moves with the difficulty of a query: most in the middle, little where all or no answers are right."""
    return 4.0 * quality * (1.0 - quality) + 0.05


def strongest(share: FloatArray, maximum: int) -> IntArray:
    """(n, most) the columns of the largest shares of each row."""
    return np.argpartition(share, share.shape[1] - maximum, axis=1)[:, share.shape[1] - maximum :]


def observed(values: FloatArray) -> tuple[BoolArray, FloatArray]:
    """(where there is a value, the values with 0 elsewhere)."""
    seen = np.isfinite(values)
    return seen, np.where(seen, values, 0.0)
