"""The learner for tables that are sparse in blocks: what each arm does in each domain, and in groups of like queries
within it.

A forecast is built from the coarse to the fine, each step shrunk towards the one before: an effect of the arm plus one
of the domain; the arm's mean in the domain, where it was seen there; how hard a group of like queries is for all arms
(through the sensitivity of item response models, so that who is always right stays so); what is peculiar to an arm in
the group. Lengths likewise, from measured counts alone. A small network with factors of the query has half a say in
quality (`FactorNet`). Which domain a text is of is told by its embedding, and an arm's forecast is the mean over the
likely domains, weighted by how much was seen of the arm in each. Nothing is filled in (`docs/experiments.md`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec
import numpy as np

from r2router.encode.rows import unit_rows
from r2router.errors import ArtifactError, ConfigError
from r2router.predict.domain_doubt import blended, doubt_of, where_seen
from r2router.predict.domain_means import length_means, quality_means
from r2router.predict.domain_parts import Groups, domains_of
from r2router.predict.factor_net import FactorNet, log_odds
from r2router.predict.linear import check_shapes
from r2router.predict.tokens import log_bounds, log_smearing
from r2router.types import Arm, FloatArray, Forecast, IntArray

if TYPE_CHECKING:
    from r2router.table.table import Table

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
        """The table's tasks are the domains. Models that are not in the pool still show how hard a query is."""
        order = np.argsort(np.array(table.query_ids), kind="stable")  # so that the order of the rows does not matter
        arms, tasks = len(table.arms), [table.tasks[i] for i in order]
        quality = table.quality if table.teaching is None else np.concatenate([table.quality, table.teaching], axis=1)
        quality, tokens = quality[order], np.maximum(table.output_tokens, 1.0)[order]
        domain, count = domains_of(tasks)
        unit = unit_rows(np.asarray(x, dtype=np.float32)[order])
        groups = Groups.of(unit, domain, count, self.seed)
        doubt = doubt_of(unit, domain, groups, quality, self.seed)
        answers = quality_means(unit, domain, groups, quality)
        lengths = length_means(unit, domain, groups, tokens)
        net = FactorNet.of_several(unit, quality, domain, answers.level[:-1], self.seed)
        low, high = log_bounds(tokens)
        arrays = {
            "basis": groups.basis.astype(np.float16),
            "centres": groups.centres.astype(np.float16),
            "group": groups.domain.astype(np.int16),
            "weight": groups.weight,
            "bias": groups.bias,
            "trust": groups.trust,
            "cells": groups.cells.astype(np.float16),
            "cell": groups.cell.astype(np.int16),
            "quality": answers.value[:, :arms].astype(np.float16),
            "variance": doubt.scaled(answers, groups)[:, :arms].astype(np.float16),
            "log_tokens": np.log(lengths.value).astype(np.float16),
            "seen": np.concatenate([answers.weight[:, :arms], lengths.weight], axis=1).astype(np.float16),
            "level": np.vstack([net.level, log_odds(answers.level[-1])])[:, :arms].astype(np.float16),
            "hidden": net.hidden.astype(np.float16),
            "shift": net.shift,
            "head": (np.float32(doubt.of_net) * net.head[:, :arms]).astype(np.float16),
            "offset": np.concatenate([_nan_where_never(quality[:, :arms]), _nan_where_never(tokens)]),
            "low": low,
            "high": high,
        }
        predictor = DomainsPredictor(table.arms, arrays)
        arrays["offset"][arms:] += log_smearing(np.log(predictor.predict(unit).tokens), tokens)
        return DomainsPredictor(table.arms, arrays)


def _nan_where_never(values: FloatArray) -> FloatArray:
    return np.where(np.isfinite(values).any(axis=0), 0.0, np.nan)


class DomainsPredictor:
    """Means by domain and group, mixed by how likely each is.

    basis: (d, r), centres: (groups, r), cells: (c, r) float16; group, cell: (groups,) the domain and the cell of each;
    weight: (d, domains), bias: (domains,), trust: (2,): see `Groups`.
    quality, variance, log_tokens: (groups + 1, arms) float16. seen: (domains + 1, 2 arms) float16, how much an arm
    counts in a domain, for quality and for lengths. level: (domains + 1, arms), hidden: (d, h), head: (h, arms)
    float16, shift: (h,): see `FactorNet`. The last row is for a text of no known domain.
    offset: (2 arms,), NaN where never observed. low, high: (arms,) bounds of log tokens.
    """

    kind: ClassVar[str] = "domains"

    def __init__(self, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> None:
        n = len(arms)
        _check(n, arrays)
        self.arms, self._arrays = arms, arrays
        owner, cell = (np.asarray(arrays[name]).astype(np.intp) for name in ("group", "cell"))
        exact = ("group", "cell", "low", "high")
        small = {name: np.asarray(values, dtype=np.float32) for name, values in arrays.items() if name not in exact}
        basis, centres, weight, bias, trust, cells = (
            small[name] for name in ("basis", "centres", "weight", "bias", "trust", "cells")
        )
        self._groups = Groups(basis, centres, owner, weight, bias, trust, cells, cell)
        # one product each: of the embedding, of the domains, of the groups; every forecast costs the time to read them
        self._linear, self._directions = len(small["bias"]), small["basis"].shape[1]
        self._first = np.ascontiguousarray(np.concatenate([small["weight"], small["basis"], small["hidden"]], axis=1))
        self._first_bias = np.concatenate([small["bias"], np.zeros(self._directions, dtype=np.float32), small["shift"]])
        seen, quality = small["seen"], small["quality"]
        own = seen[np.append(owner, len(seen) - 1)]
        self._of_domains = np.concatenate([seen, seen[:, :n] * small["level"]], axis=1)
        self._of_groups = np.concatenate(
            [own[:, :n] * quality, small["variance"], own[:, n:] * np.exp(small["log_tokens"])], axis=1
        )
        self._head, self._offset = small["head"], small["offset"][:n]
        self._never = self._offset * np.float32(0.0)  # NaN where an arm was never seen
        self._factor = np.exp(small["offset"][n:])
        self._shortest, self._longest = (np.exp(np.asarray(arrays[name], dtype=np.float32)) for name in ("low", "high"))

    def predict(self, x: FloatArray) -> Forecast:
        x = unit_rows(np.asarray(x, dtype=np.float32))
        parts = [self._predict(x[at : at + _BLOCK]) for at in range(0, max(len(x), 1), _BLOCK)]
        quality, tokens, spread = (
            parts[0] if len(parts) == 1 else (np.concatenate(part) for part in zip(*parts, strict=True))
        )
        return Forecast.of(self.arms, quality, tokens, spread)

    def _predict(self, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        n, at = len(self.arms), self._linear
        first = x @ self._first
        first += self._first_bias
        products = first[:, :at], first[:, at : at + self._directions]
        if len(x) == 1:
            odds, few, share = self._groups.shares_of_one(*products)
            of_groups = share @ self._of_groups.take(few, axis=0)
        else:
            odds, share = self._groups.shares(*products)
            of_groups = share @ self._of_groups
        of_domains = odds @ self._of_domains
        seen = of_domains[:, :n]
        net = where_seen(np.maximum(first[:, at + self._directions :], 0) @ self._head, seen, odds[:, -1:])
        quality = blended(of_domains[:, 2 * n :] / seen, of_groups[:, :n] / seen, net)
        quality += self._offset
        spread = np.sqrt(np.maximum(of_groups[:, n : 2 * n], _TINY))
        spread += self._never
        tokens = of_groups[:, 2 * n :] / of_domains[:, n : 2 * n]
        tokens *= self._factor
        return quality, np.minimum(np.maximum(tokens, self._shortest), self._longest), spread

    def groups_of(self, x: FloatArray) -> IntArray:
        """Return (n,) the number of the group that each of (n, d) embeddings most likely belongs to."""
        share = self._groups.membership(unit_rows(np.asarray(x, dtype=np.float32)))[1]
        return np.asarray(share[:, :-1].argmax(axis=1))

    def arrays(self) -> dict[str, Any]:
        return dict(self._arrays)

    @classmethod
    def from_arrays(cls, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> Self:
        return cls(arms, dict(arrays))


def _check(arms: int, arrays: dict[str, Any]) -> None:
    """Raise `ArtifactError` where the arrays do not fit together."""
    shapes: dict[str, tuple[int | None, ...]] = dict.fromkeys(
        ("basis", "centres", "cells", "weight", "hidden"), (None, None)
    )
    shapes |= dict.fromkeys(("quality", "variance", "log_tokens", "level", "head"), (None, arms)) | {
        "seen": (None, 2 * arms)
    }
    shapes |= dict.fromkeys(("group", "cell", "bias", "shift"), (None,)) | {"trust": (2,)}
    check_shapes(arrays, shapes | {"offset": (2 * arms,), "low": (arms,), "high": (arms,)})
    groups, d, domains, hidden = (len(arrays[name]) for name in ("centres", "basis", "bias", "shift"))
    sizes = dict.fromkeys(("quality", "variance", "log_tokens"), groups + 1) | dict.fromkeys(
        ("seen", "level"), domains + 1
    )
    sizes |= {"group": groups, "cell": groups, "weight": d, "hidden": d, "head": hidden}
    r, cell = arrays["centres"].shape[1], np.asarray(arrays["cell"]).astype(np.intp)
    wrong = [name for name, size in sizes.items() if len(arrays[name]) != size]
    widths = [
        (arrays[name].shape[1], size)
        for name, size in (("weight", domains), ("hidden", hidden), ("basis", r), ("cells", r))
    ]
    steps = np.diff(np.asarray(arrays["group"]).astype(np.intp), prepend=-1, append=domains)
    # groups of one domain stand together, and every domain has one
    fits = (
        all(one == other for one, other in widths)
        and groups > 0
        and 0 <= cell.min() <= cell.max() < len(arrays["cells"])
    )
    if wrong or not fits or not ((steps >= 0) & (steps <= 1)).all():
        raise ArtifactError(
            f"weights: {', '.join(wrong) or 'weight, basis or group'} does not fit the others: the artifact is damaged"
        )
