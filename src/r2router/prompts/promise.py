"""How far a promise may be off: real minus promised on held-out tasks of the public record, kept beside this file.

A promise is a mean over prompts, of quality or of cost. What it is off by has three parts: a bias (choosing the best of
many forecasts flatters them), a deviation that prompts of one domain share, and the chance of single answers, which
many prompts even out. The first two were measured by leaving out whole tasks: their prompts are to the router what a
person's are (`benchmarks/savings.py`). Prompts unlike anything known have deviations of their own: those of promises
made by the arms' averages over all other tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import msgspec
import numpy as np

from r2router.figure import Figure
from r2router.types import FloatArray

UNKNOWN = "unknown"
"""The domain of prompts that are unlike everything, or of a kind of which nothing was graded."""

_SHRINK = 4.0  # tasks that stand for all domains in the deviation of one
_FILE = Path(__file__).parent / "promise.json"


class Mix(msgspec.Struct, frozen=True):
    """Prompts of several domains.

    n: how many.
    domains, shares: which, and how large a part of the prompts each is.
    """

    n: int
    domains: tuple[str, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(cls, names: Sequence[str]) -> Mix:
        """Return the mix of (n,) names of domains."""
        domains = tuple(dict.fromkeys(names))
        return cls(len(names), domains, tuple(sum(name == d for name in names) / max(len(names), 1) for d in domains))


class PromiseDeviation(msgspec.Struct, frozen=True):
    """Real minus promised.

    bias: mean over tasks.
    deviation: domain -> standard deviation between tasks; "" is for all others.
    z: deviations to either end of an interval that holds 95 % of promises on tasks that had no part in it.
    """

    bias: float
    deviation: dict[str, float]
    z: float = 1.96

    def of(self, mix: Mix) -> float:
        """Standard deviation of a promise on prompts of a mix of domains."""
        each = np.array([self.deviation.get(domain, self.deviation[""]) for domain in mix.domains])
        return float(np.sqrt(np.square(np.array(mix.shares) * each).sum()))


class Promise(msgspec.Struct, frozen=True):
    """How far promises of one kind of way are off.

    quality: in points.
    cost: of its natural logarithm.
    gain: of the difference of quality to the fixed arm that is used now.
    ratio: of the logarithm of the ratio of both costs.
    """

    quality: PromiseDeviation
    cost: PromiseDeviation
    gain: PromiseDeviation
    ratio: PromiseDeviation


class Promises(msgspec.Struct, frozen=True):
    """How far promised figures were off on real tables, for each kind of way.

    fixed: of one fixed arm.
    routed: of a router's choices among arms.
    answer: standard deviation of the quality of single answers around the forecast.
    length: of the cost of single answers, over its mean.
    """

    fixed: Promise
    routed: Promise
    answer: float
    length: float


@cache
def measured() -> Promises:
    """Return what was measured on the public record."""
    return msgspec.json.decode(_FILE.read_bytes(), type=Promises)


def deviations(errors: FloatArray, noise: FloatArray, domains: Sequence[str], tasks: Sequence[str]) -> PromiseDeviation:
    """Return what (n,) errors of promises show.

    noise: (n,) the variance that chance alone gives each.
    tasks: of each; every task counts once.
    """
    label, names = np.array(tasks), sorted(set(tasks))
    own = [np.flatnonzero(label == name) for name in names]
    bias = float(np.mean([errors[rows].mean() for rows in own]))
    squares = np.array([(np.square(errors[rows] - bias) - noise[rows]).mean() for rows in own])
    of_task = np.array([domains[int(rows[0])] for rows in own])
    every = max(float(squares.mean()), 1e-6)
    found = {"": float(np.sqrt(every))}
    for name in sorted(set(of_task.tolist())):
        part = squares[of_task == name]
        found[name] = float(np.sqrt(max((part.sum() + _SHRINK * every) / (len(part) + _SHRINK), 0.25 * every)))
    return PromiseDeviation(bias, found)


def half_of(kind: str, promise: Promise, mix: Mix, moved: float, kept: Promises) -> float:
    """Half the width of an interval, on the scale of `Promise`.

    moved: as in `gain_figure`.
    """
    off: PromiseDeviation = getattr(promise, kind)
    single = kept.answer if kind in {"quality", "gain"} else kept.length
    if kind in {"quality", "cost"}:
        return off.z * float(np.hypot(off.of(mix), single / np.sqrt(mix.n)))
    return off.z * float(np.hypot(moved * off.of(mix), single * np.sqrt(2 * moved / mix.n)))


def quality_figure(name: str, promised: float, promise: Promise, mix: Mix, kept: Promises) -> Figure:
    """Return a mean quality with the interval in which the real one is expected; what is known of the bias is taken
    off.
    """
    value = float(np.clip(promised + promise.quality.bias, 0.0, 1.0))
    half = half_of("quality", promise, mix, 1.0, kept)
    return Figure(name, value, max(value - half, 0.0), min(value + half, 1.0), mix.n)


def cost_figure(name: str, promised: float, promise: Promise, mix: Mix, kept: Promises) -> Figure:
    """US dollars with their interval, a factor to either side."""
    value = promised * float(np.exp(promise.cost.bias))
    half = half_of("cost", promise, mix, 1.0, kept)
    return Figure(name, value, value * float(np.exp(-half)), value * float(np.exp(half)), mix.n)


def gain_figure(name: str, promised: float, moved: float, promise: Promise, mix: Mix, kept: Promises) -> Figure:
    """Quality minus that of today's arm.

    moved: share of the prompts that go to another arm than today's: the others change nothing.
    """
    value = promised + moved * promise.gain.bias
    half = half_of("gain", promise, mix, moved, kept)
    return Figure(name, value, max(value - half, -1.0), min(value + half, 1.0), mix.n)


def saving_figure(name: str, ratio: float, moved: float, promise: Promise, mix: Mix, kept: Promises) -> Figure:
    """Return the share of today's cost that is saved, where promised costs have this ratio; negative where it would
    cost more.
    """
    log = float(np.log(max(ratio, 1e-12))) + moved * promise.ratio.bias
    half = half_of("ratio", promise, mix, moved, kept)
    low, value, high = (1.0 - float(np.exp(log + shift)) for shift in (half, 0.0, -half))
    return Figure(name, value, low, high, mix.n)


def promise_of(kept: Promises, moved: float, routed: bool) -> Promise:
    """Return the promise of a router, or of one fixed arm."""
    return kept.routed if routed and moved > 0 else kept.fixed
