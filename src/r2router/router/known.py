"""What a router knows of its models: prices, graded queries and quality per domain, and what requests cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from r2router.arm import plain
from r2router.decide import Value
from r2router.errors import ConfigError
from r2router.figure import Figure
from r2router.predict.domain_stats import DomainStats, Known
from r2router.text import listing, suggest
from r2router.types import Arm, IntArray

if TYPE_CHECKING:
    from r2router.router.router import Router

ALL = "all domains"
SORTS = ("quality", "cost", "value", "queries", "name")
_SURE = 1.96  # standard deviations to either end of a 95 % interval


class KnownArm(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of an arm on one domain, or on all that were graded.

    quality: as if it had answered every query of the domain, with its 95 % interval; n counts the queries that it
        really answered.
    tokens: mean output tokens.
    cost: US dollars of 1,000 typical requests of the domain.
    value: US dollars that 1,000 answers are worth beyond their cost, where a correct answer is worth `worth`.
    like: the measured model that stands in for it. Not known: NaN.
    """

    arm: str
    model: str
    budget: str
    provider: str
    domain: str
    quality: Figure
    tokens: float
    cost: float
    value: float
    worth: float
    available: bool = True
    like: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the fields in types that JSON has; a number that is not known is None."""
        quality = {name: _or_none(getattr(self.quality, name)) for name in ("value", "low", "high")} | {
            "n": self.quality.n
        }
        return {**plain(self), "quality": quality}


def domains_of(router: Router) -> tuple[str, ...]:
    """Return the domains that it can tell apart. Raises `ConfigError` where it keeps no evidence."""
    return _evidence(router).domains


def find_domain(router: Router, name: str) -> int:
    """Return the number of the domain that a name, or the beginning of one, means. Raises `ConfigError`."""
    domains = _evidence(router).domains
    plain_name = name.strip().casefold()
    found = [i for i, domain in enumerate(domains) if domain.casefold() == plain_name]
    found = found or [
        i for i, domain in enumerate(domains) if plain_name and any(w.startswith(plain_name) for w in _words(domain))
    ]
    if len(found) != 1:
        raise ConfigError(f"no domain {name!r}{suggest(name, domains)}; there are: {', '.join(domains)}")
    return found[0]


def known_arms(
    router: Router, domain: int | None = None, sort: str = "quality", worth: float | None = None
) -> list[KnownArm]:
    """Return what is known of every arm on a domain, or on all that have graded queries; arms of which nothing is known
    stand last.

    sort: one of `SORTS`: the best quality, the lowest cost, the highest value, the most queries first, or names.
    worth: US dollars of a correct answer; by default what the router's own policy has.

    Raises `ConfigError` where the router keeps no evidence.
    """
    if sort not in SORTS:
        raise ConfigError(f"cannot sort by {sort!r}; there are: {', '.join(SORTS)}")
    evidence = _evidence(router)
    found, length = evidence.known(domain), evidence.typical_input(domain)
    return _sorted(
        _rows(router, found, length, ALL if domain is None else evidence.domains[domain], _worth(router, worth)), sort
    )


def compared(
    router: Router, one: Sequence[str], other: Sequence[str], worth: float | None = None
) -> list[tuple[str, KnownArm, KnownArm]]:
    """Return (domain, what is known of one arm, of the other) on the tasks that both were seen on, for every two arms
    of two lists that were.

    Nothing stands here of domains in which no task saw both: figures of different tasks must not be compared.
    """
    evidence, price = _evidence(router), _worth(router, worth)
    pairs = []
    for number, name in enumerate(evidence.domains):
        for a in one:
            for b in other:
                columns = [router.arms.index(Arm(a)), router.arms.index(Arm(b))]
                tasks = _shared(evidence, number, columns)
                if len(tasks):
                    rows = _rows(router, evidence.known(number, tasks), evidence.typical_input(number), name, price)
                    pairs.append((name, rows[columns[0]], rows[columns[1]]))
    return pairs


def seen_per_domain(router: Router, model: str) -> dict[str, int]:
    """Graded queries of each domain on the arm of a model that was seen on most of them, the most first; without those
    that have none.
    """
    evidence = _evidence(router)
    own = np.flatnonzero(router.pool.model_of_arm == [m.id for m in router.pool.models].index(model))
    maximum = evidence.seen[:, own].max(axis=1)
    return {evidence.domains[d]: int(maximum[d]) for d in np.argsort(-maximum, kind="stable") if maximum[d]}


def _shared(evidence: DomainStats, domain: int, columns: list[int]) -> IntArray:
    both = (evidence.count[:, columns] > 0).all(axis=1)
    return np.flatnonzero(both & (evidence.domain_of_task == domain))


def _rows(router: Router, found: Known, length: float, domain: str, worth: float) -> list[KnownArm]:
    counts = np.array([length if math.isfinite(length) else router.input_tokens.typical])
    cost = router.pool.cost(router.input_tokens.estimate(counts), found.tokens[None])[0]
    like = dict(router.facts.like)
    rows = []
    for at, arm in enumerate(router.arms):
        model = router.pool[arm.model]
        quality = _figure(found, at)
        value = 1000 * (worth * quality.value - float(cost[at]))
        rows.append(
            KnownArm(
                arm=str(arm),
                model=arm.model,
                budget=arm.budget,
                provider=model.provider,
                domain=domain,
                quality=quality,
                tokens=float(found.tokens[at]),
                cost=1000 * float(cost[at]),
                value=value,
                worth=worth,
                available=model.available,
                like=like.get(arm.model, ""),
            )
        )
    return rows


def _figure(found: Known, at: int) -> Figure:
    value, half = float(found.quality[at]), _SURE * float(found.deviation[at])
    if math.isnan(value):
        return Figure("quality")
    return Figure("quality", value, max(value - half, 0.0), min(value + half, 1.0), int(found.queries[at]))


def _sorted(rows: list[KnownArm], sort: str) -> list[KnownArm]:
    keys: dict[str, Callable[[KnownArm], float]] = {
        "quality": lambda r: -r.quality.value,
        "cost": lambda r: r.cost,
        "value": lambda r: -r.value,
        "queries": lambda r: -r.quality.n,
        "name": lambda r: 0.0,
    }
    key = keys[sort]
    return sorted(rows, key=lambda r: (math.isnan(key(r)), 0.0 if math.isnan(key(r)) else key(r), r.model))


def _worth(router: Router, worth: float | None) -> float:
    return worth if worth is not None else router.policy.usd if isinstance(router.policy, Value) else 0.01


def _evidence(router: Router) -> DomainStats:
    if router.domain_stats is None:
        known = listing(sorted({m.id for m in router.pool.models}), 3)
        raise ConfigError(f"this router ({known}) keeps no figures per domain: its card has what was measured")
    return router.domain_stats


def _words(domain: str) -> list[str]:
    return [domain.casefold(), *domain.casefold().replace(",", " ").split()]


def _or_none(number: float) -> float | None:
    return float(number) if math.isfinite(number) else None
