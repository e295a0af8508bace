"""How far a promise may be off: real minus promised on held-out tasks of the public record, kept beside this file.

A promise is a mean over prompts, of quality or of cost. What it is off by has three parts: a bias (choosing the best of many forecasts
flatters them), a deviation that prompts of one domain share, and the chance of single answers, which many prompts even out. The first two
were measured by leaving out whole tasks: their prompts are to the router what a person's are (`benchmarks/savings.py`). Prompts unlike
anything known have deviations of their own: those of promises made by the arms' averages over all other tasks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


class Off(msgspec.Struct, frozen=True):
    """Real minus promised. bias: of all tasks. deviation: domain -> standard deviation between tasks; "" is for all others."""

    bias: float
    deviation: dict[str, float]

    def of(self, domains: Sequence[str], shares: FloatArray) -> float:
        """Standard deviation of a promise on prompts of which so large shares are of these domains."""
        each = np.array([self.deviation.get(domain, self.deviation[""]) for domain in domains])
        return float(np.sqrt(np.square(shares * each).sum()))


class Promise(msgspec.Struct, frozen=True):
    """How far promises of one kind of way are off. quality: in points. cost: of its natural logarithm.

    gain: of the difference of quality to the fixed arm that is used now. ratio: of the logarithm of the ratio of both costs.
    """

    quality: Off
    cost: Off
    gain: Off
    ratio: Off


class Promises(msgspec.Struct, frozen=True):
    """fixed: of one fixed arm. routed: of a router's choices among arms. z: deviations to either end of a 95 % interval.

    answer: standard deviation of the quality of single answers around the forecast. length: of the cost of single answers, over its mean.
    """

    fixed: Promise
    routed: Promise
    z: float
    answer: float
    length: float


@cache
def measured() -> Promises:
    """What was measured on the public record."""
    return msgspec.json.decode(_FILE.read_bytes(), type=Promises)


def deviations(errors: FloatArray, noise: FloatArray, domains: Sequence[str]) -> Off:
    """What (tasks,) errors show. noise: (tasks,) the variance that chance alone gives each. domains: of each task."""
    bias = float(np.mean(errors))
    squares = np.square(errors - bias) - noise
    every = max(float(squares.mean()), 1e-6)
    found = {"": float(np.sqrt(every))}
    for name in sorted(set(domains)):
        own = squares[np.array([d == name for d in domains])]
        found[name] = float(np.sqrt(max((own.sum() + _SHRINK * every) / (len(own) + _SHRINK), 0.25 * every)))
    return Off(bias, found)


class Mix(msgspec.Struct, frozen=True):
    """Prompts of several domains. n: how many. domains, shares: which, and how large a part of the prompts each is."""

    n: int
    domains: tuple[str, ...]
    shares: tuple[float, ...]

    @classmethod
    def of(cls, names: Sequence[str]) -> Mix:
        """The mix of (n,) names of domains."""
        domains = tuple(dict.fromkeys(names))
        return cls(len(names), domains, tuple(sum(name == d for name in names) / max(len(names), 1) for d in domains))


def quality_figure(name: str, promised: float, promise: Promise, mix: Mix, kept: Promises) -> Figure:
    """A mean quality with the interval in which the real one is expected; what is known of the bias is taken off."""
    value = float(np.clip(promised + promise.quality.bias, 0.0, 1.0))
    half = kept.z * float(np.hypot(promise.quality.of(mix.domains, np.array(mix.shares)), kept.answer / np.sqrt(mix.n)))
    return Figure(name, value, max(value - half, 0.0), min(value + half, 1.0), mix.n)


def cost_figure(name: str, promised: float, promise: Promise, mix: Mix, kept: Promises) -> Figure:
    """US dollars with their interval, a factor to either side."""
    value = promised * float(np.exp(promise.cost.bias))
    half = kept.z * float(np.hypot(promise.cost.of(mix.domains, np.array(mix.shares)), kept.length / np.sqrt(mix.n)))
    return Figure(name, value, value * float(np.exp(-half)), value * float(np.exp(half)), mix.n)


def gain_figure(name: str, promised: float, moved: float, promise: Promise, mix: Mix, kept: Promises) -> Figure:
    """Quality minus that of today's arm. moved: share of the prompts that go to another arm than today's: the others change nothing."""
    value = promised + moved * promise.gain.bias
    half = kept.z * float(
        np.hypot(moved * promise.gain.of(mix.domains, np.array(mix.shares)), kept.answer * np.sqrt(2 * moved / max(mix.n, 1)))
    )
    return Figure(name, value, max(value - half, -1.0), min(value + half, 1.0), mix.n)


def saving_figure(name: str, ratio: float, moved: float, promise: Promise, mix: Mix, kept: Promises) -> Figure:
    """The share of today's cost that is saved, where promised costs have this ratio; negative where it would cost more."""
    log = float(np.log(max(ratio, 1e-12))) + moved * promise.ratio.bias
    half = kept.z * float(
        np.hypot(moved * promise.ratio.of(mix.domains, np.array(mix.shares)), kept.length * np.sqrt(2 * moved / max(mix.n, 1)))
    )
    low, value, high = (1.0 - float(np.exp(log + shift)) for shift in (half, 0.0, -half))
    return Figure(name, value, low, high, mix.n)


def promise_of(kept: Promises, moved: float, routed: bool) -> Promise:
    """Of a router, or of one fixed arm."""
    return kept.routed if routed and moved > 0 else kept.fixed


def names_of(domains: Mapping[int, str], of_prompt: Sequence[int], unknown: Sequence[bool]) -> list[str]:
    """The domain of each prompt by name, `UNKNOWN` where nothing is known of it."""
    return [UNKNOWN if odd else domains[number] for number, odd in zip(of_prompt, unknown, strict=True)]
