"""The parts of the learner for sparse tables: which domain a text is of, groups of like queries in each, and means that
are shrunk.

A domain is a task of the table, as its rows name it. Outcomes of different domains are never averaged: a cell is there
because somebody ran that model on that suite, so an arm's mean belongs to its domain.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from r2router.encode.rows import unit_rows
from r2router.predict.kmeans import spherical_centres
from r2router.types import BoolArray, FloatArray, IntArray

_LEAST_QUERIES, _MOST_DOMAINS = 5, 200  # smaller domains, and those beyond, are one
_QUERIES_PER_GROUP, _GROUPS_PER_DOMAIN = 14, 150
_DIRECTIONS = 192  # in which groups are told apart: as good as all, and a decision is quick
_SHARPNESS = 0.05  # of the softmax over cosines within a domain
_RIDGE = 0.3  # of the classifier's covariance, as a share of its mean variance
_TRUST = (0.05, 0.1, 0.15, 0.25, 0.35, 0.5, 1.0)  # candidates: how far the linear half of the classifier is believed
_NEAR = (0.0, 0.2, 0.4, 0.7, 1.0)  # the same for the half that looks at near groups
HELD = 5
"""Every fifth query is held out to tell how far to believe what the others say."""
_TINY = 1e-12
_LEAST_NEAR, _TINIEST = 1e-9, np.float32(1e-30)
_STRANGE, _STRANGE_SHARPNESS = np.float32(0.3), np.float32(20.0)
# the cosine to the nearest group at which a text is as likely of no known domain, and how sharply that changes
_CELLS = 8  # whose groups a text has shares of
_MOST_GROUPS = 48  # that one text has shares of, at a time: those of others are next to nothing
DOMAIN_CELLS = 5.0
"""An arm's mean in a domain is shrunk as if so many more cells had been seen, at what is common to domains."""
_ENOUGH = 40.0  # cells of an arm in a domain; more do not count for what is common to domains
_ROUNDS = 50
_SLOPE_WEIGHT = 30.0  # of how far arms differ in a domain: as if five arms of 40 cells differed there as elsewhere
_SLOPES = (0.1, 2.5)
_OF_COMMON = (0.5, 0.75)  # of what is common to domains in lengths: where the domain's were not measured, and where
_MEASURED = 20.0  # cells of a domain, at which its share lies between the two


def domains_of(tasks: Sequence[str]) -> tuple[IntArray, int]:
    """Return ((n,) the domain of each query, how many domains there are). Tasks of very few queries are one domain
    together.
    """
    counts = Counter(tasks)
    large = [task for task in sorted(counts, key=lambda task: (-counts[task], task)) if counts[task] >= _LEAST_QUERIES]
    number = {task: i for i, task in enumerate(sorted(large[: _MOST_DOMAINS - 1]))}
    return np.array([number.get(task, len(number)) for task in tasks], dtype=np.intp), len(number) + (
        len(number) < len(counts)
    )


@dataclass(frozen=True, eq=False)
class Groups:
    """Groups of like queries, each within one domain, and the domain that a text is of.

    basis: (d, r) principal directions, in which groups are told apart.
    centres: (groups, r) float32 of norm 1.
    domain: (groups,) of each, rising.
    weight, bias: (d, domains), (domains,) a linear discriminant.
    trust: (2,) how far the discriminant, and the nearness to groups, are believed in the odds of domains.
    cells: (c, r) float32 of norm 1, centres of groups that lie together; cell: (groups,) of each. A text has shares of
        the groups of the cells nearest to it alone, so that a decision does not read all of them.
    """

    basis: FloatArray
    centres: FloatArray
    domain: IntArray
    weight: FloatArray
    bias: FloatArray
    trust: FloatArray
    cells: FloatArray
    cell: IntArray

    @classmethod
    def of(cls, x: FloatArray, domain: IntArray, count: int, seed: int) -> Groups:
        """Groups of (n, d) float32 embeddings of norm 1."""
        centres = list[FloatArray]()
        owner = list[int]()
        rng = np.random.default_rng(seed)
        basis = principal_directions(x, _DIRECTIONS).astype(np.float32)
        u = unit_rows(x @ basis)
        for number in range(count):
            own = u[domain == number]
            k = int(np.clip(len(own) // _QUERIES_PER_GROUP, 1, _GROUPS_PER_DOMAIN))
            centres.append(spherical_centres(own, k, rng))
            owner += [number] * k
        weight, bias = discriminant(x, domain, count)
        every, trust = np.concatenate(centres), np.array([1.0, 0.0], dtype=np.float32)
        cells = spherical_centres(every, int(np.clip(np.sqrt(2 * len(every)), 1, len(every))), rng)
        groups = cls(
            basis, every, np.array(owner, dtype=np.intp), weight, bias, trust, cells, (every @ cells.T).argmax(axis=1)
        )
        return groups if count == 1 else groups._calibrated(x, domain, count)

    def _calibrated(self, x: FloatArray, domain: IntArray, count: int) -> Groups:
        """Return the same with the trust under which queries that the discriminant has not seen have the likeliest
        domains.
        """
        held = np.arange(len(x)) % HELD == 0
        if not (~held).any():
            return self
        weight, bias = discriminant(x[~held], domain[~held], count)
        near = self.nearness(x[held] @ self.basis)
        linear = x[held] @ weight + bias
        near = np.log(np.add.reduceat(near, self._first, axis=1) + self._least)
        best, lowest = (1.0, 0.0), np.inf
        for pair in ((a, b) for a in _TRUST for b in _NEAR):
            odds = softmax(pair[0] * linear + pair[1] * near)
            loss = -float(np.log(np.maximum(odds[np.arange(len(odds)), domain[held]], 1e-12)).mean())
            if loss < lowest - 1e-9:
                best, lowest = pair, loss
        return replace(self, trust=np.array(best, dtype=np.float32))

    @cached_property
    def _first(self) -> IntArray:
        """(domains,) the first group of each domain; those of one domain stand together."""
        return np.searchsorted(self.domain, np.arange(len(self.bias)))

    @cached_property
    def _least(self) -> FloatArray:
        """(domains,) the nearness of every text to a domain at least."""
        return np.bincount(self.domain, minlength=len(self.bias)).astype(np.float32) * np.float32(_LEAST_NEAR)

    @cached_property
    def _members(self) -> list[tuple[IntArray, IntArray, FloatArray]]:
        """Of each cell: the numbers of its groups, their domains, and their centres, which lie together in memory."""
        rows = [np.flatnonzero(self.cell == number) for number in range(len(self.cells))]
        return [(own, self.domain[own], np.ascontiguousarray(self.centres[own])) for own in rows]

    @cached_property
    def _nowhere(self) -> IntArray:
        """(1,) the number behind the last group: of a text of no known domain."""
        return np.array([len(self.domain)])

    def nearness(self, directions: FloatArray) -> FloatArray:
        """Return (n, groups) nearness of texts by their (n, r) principal directions; 0 to the groups of far cells."""
        u = unit_rows(directions)
        counts = np.zeros((len(u), len(self.cells)), dtype=np.bool_)
        np.put_along_axis(counts, strongest(u @ self.cells.T, min(_CELLS, len(self.cells))), values=True, axis=1)
        return np.where(counts.take(self.cell, axis=1), _kernel(u @ self.centres.T), np.float32(0.0))

    def membership(self, x: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return ((n, domains + 1) odds of the domains, (n, groups + 1) shares of the groups) of (n, d) float32; rows
        of each sum to 1.

        The last of both is for a text that is of no known domain.
        """
        return self.shares(x @ self.weight + self.bias, x @ self.basis)

    def shares(self, linear: FloatArray, directions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """`membership` from the two products that it takes."""
        near, length = self.nearness(directions), np.sqrt(np.vecdot(directions, directions))
        total = np.add.reduceat(near, self._first, axis=1)
        odds = self._odds(linear, total, near.max(axis=1), length)
        near *= (odds[:, :-1] / np.maximum(total, _TINIEST)).take(self.domain, axis=1)
        return odds, np.concatenate([near, odds[:, -1:]], axis=1)

    def shares_of_one(self, linear: FloatArray, directions: FloatArray) -> tuple[FloatArray, IntArray, FloatArray]:
        """Return ((1, domains + 1) odds, (k,) numbers of groups, (1, k) shares) of one text: `shares` without those
        that are next to nothing.
        """
        u = directions[0]
        length = math.sqrt(np.vdot(u, u))
        u = u * np.float32(1.0 / max(length, _TINY))
        cells = self.cells @ u
        few = cells.argpartition(-_CELLS)[-_CELLS:].tolist() if len(cells) > _CELLS else range(len(cells))
        members = [self._members[number] for number in few]
        rows, own = (np.concatenate([member[part] for member in members]) for part in (0, 1))
        near = _kernel(np.concatenate([centres @ u for *_, centres in members]))
        total = np.bincount(own, near, len(self.bias)).astype(np.float32)
        odds = self._odds_of_one(linear[0], total, float(np.maximum.reduce(near)), length)
        share = near * (odds[0, :-1] / np.maximum(total, _TINIEST)).take(own)
        if len(rows) > _MOST_GROUPS:
            largest = share.argpartition(-_MOST_GROUPS)[-_MOST_GROUPS:]
            rows, share = rows.take(largest), share.take(largest)
        return odds, np.concatenate([rows, self._nowhere]), np.concatenate([share, odds[0, -1:]])[None]

    def _odds_of_one(self, linear: FloatArray, total: FloatArray, nearest: float, length: float) -> FloatArray:
        """Return (1, domains + 1) `_odds` of one text, in fewer steps: every decision waits for them."""
        odds = np.empty((1, len(total) + 1), dtype=np.float32)
        reached = total + self._least
        known = self.trust[0] * linear + self.trust[1] * np.log(reached)
        known = np.exp(known - np.maximum.reduce(known)) * (total / reached)
        unknown = _strangeness(nearest, length)
        odds[0, -1] = unknown
        np.multiply(known, np.float32((1.0 - unknown) / float(np.add.reduce(known))), out=odds[0, :-1])
        return odds

    def _odds(self, linear: FloatArray, total: FloatArray, nearest: FloatArray, length: FloatArray) -> FloatArray:
        """Return (n, domains + 1) odds.

        total: nearness to each domain; nearest: to the nearest group.
        length: of the principal directions.
        """
        odds = np.empty((len(linear), len(self.bias) + 1), dtype=np.float32)
        # what of a text lies in no direction of the training texts is like none of the groups either
        cosine = (
            np.float32(1.0) + np.float32(_SHARPNESS) * np.log(np.maximum(nearest, np.float32(_LEAST_NEAR)))
        ) * length
        odds[:, -1] = np.float32(0.5) + np.float32(0.5) * np.tanh(
            np.float32(0.5) * _STRANGE_SHARPNESS * (_STRANGE - cosine)
        )
        reached = total + self._least
        # not where no group is near
        known = softmax(self.trust[0] * linear + self.trust[1] * np.log(reached)) * (total / reached)
        known *= (np.float32(1.0) - odds[:, -1:]) / np.add.reduce(known, axis=1)[:, None]
        odds[:, :-1] = known
        return odds

    def within(self, x: FloatArray, number: int) -> FloatArray:
        """Return (n, groups of the domain) shares where the domain is known."""
        near = _kernel(unit_rows(x @ self.basis) @ self.centres[self.domain == number].T) + np.float32(_LEAST_NEAR)
        return np.asarray(near / near.sum(axis=1, keepdims=True))


def _strangeness(nearest: float, length: float) -> float:
    """Return how likely one text is of no known domain; see `Groups._odds`."""
    cosine = (1.0 + _SHARPNESS * math.log(max(nearest, _LEAST_NEAR))) * length
    return 0.5 + 0.5 * math.tanh(0.5 * float(_STRANGE_SHARPNESS) * (float(_STRANGE) - cosine))


def _kernel(cosine: FloatArray) -> FloatArray:
    """Nearness by cosine; 1 at the centre."""
    return np.asarray(np.exp((cosine - np.float32(1.0)) * np.float32(1.0 / _SHARPNESS)))


def principal_directions(x: FloatArray, count: int) -> FloatArray:
    """Return (d, r) orthonormal directions in which (n, d) rows have count of their length, the longest first."""
    length, directions = np.linalg.eigh((x.T @ x).astype(np.float64))
    return np.asarray(directions[:, np.argsort(-length, kind="stable")[:count]])


def softmax(z: FloatArray) -> FloatArray:
    """Rows that sum to 1."""
    e = np.exp(z - np.maximum.reduce(z, axis=1)[:, None])
    return np.asarray(e / np.add.reduce(e, axis=1)[:, None])


def discriminant(x: FloatArray, domain: IntArray, count: int) -> tuple[FloatArray, FloatArray]:
    """Return (weight (d, domains), bias (domains,)) of a linear discriminant: one normal per domain, all of one
    covariance.
    """
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
    """Return ((domains, arms) sums, (domains, arms) numbers of cells) of (n, arms) values; NaN is not observed."""
    total, cells = np.zeros((count, values.shape[1])), np.zeros((count, values.shape[1]))
    for number in range(count):
        own = values[domain == number]
        total[number], cells[number] = np.nansum(own, axis=0), np.isfinite(own).sum(axis=0)
    return total, cells


def common(values: FloatArray, cells: FloatArray) -> FloatArray:
    """Return (domains, arms) effect of the arm, times a slope of the domain, plus effect of the domain, fitted to
    (domains, arms) values of so many cells each.

    In some domains arms differ more than in others: the slope (the discrimination of item response models) is shrunk
    towards 1. Many cells count little more than some: a file of many rows does not decide for all.
    """
    weight = np.sqrt(np.minimum(cells, _ENOUGH))
    if not weight.any():
        return np.zeros_like(values)
    y = np.where(cells > 0, values, 0.0)
    level = float((y * weight).sum() / weight.sum())
    arm, of_domain, slope = np.zeros(y.shape[1]), np.zeros(len(y)), np.ones((len(y), 1))
    for _ in range(_ROUNDS):
        arm = ((y - level - of_domain[:, None]) * weight * slope).sum(axis=0) / ((weight * slope**2).sum(axis=0) + 1.0)
        of_domain = ((y - level - slope * arm) * weight).sum(axis=1) / (weight.sum(axis=1) + 1.0)
        prior = _SLOPE_WEIGHT * float(np.var(arm)) + _TINY
        along = ((y - level - of_domain[:, None]) * weight) @ arm
        slope = np.clip((along + prior) / (weight @ np.square(arm) + prior), *_SLOPES)[:, None]
    return np.asarray(level + slope * arm + of_domain[:, None])


def level_of(total: FloatArray, cells: FloatArray) -> FloatArray:
    """Return (domains, arms) expected mean quality by what is common to domains, from sums of qualities and numbers of
    cells.
    """
    return np.asarray(1.0 / (1.0 + np.exp(-common(np.log((total + 0.5) / (cells - total + 0.5)), cells))))


def length_of(total: FloatArray, cells: FloatArray) -> FloatArray:
    """Return (domains, arms) expected mean tokens: in logs, part of the way from the arm's mean elsewhere to what is
    common to domains; further where the domain's lengths were measured.
    """
    logs = np.log(np.maximum(total, 1.0) / np.maximum(cells, 1.0))
    usual = np.log(np.maximum(total.sum(axis=0), 1.0) / np.maximum(cells.sum(axis=0), 1.0))
    measured = cells.sum(axis=1, keepdims=True)
    share = _OF_COMMON[0] + (_OF_COMMON[1] - _OF_COMMON[0]) * measured / (measured + _MEASURED)
    return np.asarray(np.exp(share * common(logs, cells) + (1.0 - share) * usual))


def balanced_means(quality: FloatArray, tokens: FloatArray, tasks: Sequence[str]) -> tuple[FloatArray, FloatArray]:
    """Return ((arms,) quality, (arms,) tokens) that each arm would have on average over the domains, all domains alike;
    NaN where never seen.
    """
    domain, count = domains_of(tasks)
    found = []
    for values, expected_of in ((quality, level_of), (np.maximum(tokens, 1.0), length_of)):
        total, cells = sums_by_domain(values, domain, count)
        mean = ((total + DOMAIN_CELLS * expected_of(total, cells)) / (cells + DOMAIN_CELLS)).mean(axis=0)
        found.append(np.where(cells.any(axis=0), mean, np.nan))
    return found[0], found[1]


def sensitivity(quality: FloatArray) -> FloatArray:
    """Return how much a forecast moves with the difficulty of a query: most in the middle, little where all or no
    answers are right.
    """
    return 4.0 * quality * (1.0 - quality) + 0.05


def strongest(share: FloatArray, count: int) -> IntArray:
    """Return (n, count) the columns of the largest shares of each row."""
    return np.argpartition(share, share.shape[1] - count, axis=1)[:, share.shape[1] - count :]


def observed(values: FloatArray) -> tuple[BoolArray, FloatArray]:
    """Return (where there is a value, the values with 0 elsewhere)."""
    seen = np.isfinite(values)
    return seen, np.where(seen, values, 0.0)
