"""A small network that tells how a query differs from others of its domain, for all arms at once: item response theory
by text.

One hidden layer on the embedding gives a few factors of the query; each arm has a loading on every factor, and in each
domain a level. Their sum is the log odds of a correct answer. Trained by cross-entropy on the observed cells alone, with
Adam; the domain is known while training, and a second head that has to tell it keeps the hidden layer honest. Served as
two products.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from r2router.predict.domain_parts import softmax
from r2router.types import FloatArray, IntArray

_HIDDEN, _FACTORS = 256, 24
_NETS = 2
_EPOCHS, _RATE, _MOST_BATCH, _LEAST_BATCH, _STEPS_PER_EPOCH = 30, 2e-3, 512, 16, 40
_SCALE = np.float32(4.0)  # of the embeddings
_DROPPED = 0.2  # share of the hidden units that a batch does without
_DOMAIN_LOSS = 0.5
_CELLS = 4.0  # weight of a query's cells together, on average, beside `_DOMAIN_LOSS`
_DECAY = {"hidden": 3e-5, "factor": 3e-4, "loading": 3e-4, "tell": 3e-5}
_HOLD = 1e-4  # pull of the levels to the domain's means
_BETA, _BETA_SQUARE, _TINY = 0.9, 0.999, 1e-8  # Kingma & Ba, ICLR 2015
_MOST_LOGIT = 5.3  # of a mean of 0.005 or 0.995

Parameters = dict[str, FloatArray]


@dataclass(frozen=True, slots=True, eq=False)
class FactorNet:
    """A small network that moves the mean log odds of a domain by the query.

    level: (domains, arms) log odds.
    hidden: (d, h), shift: (h,), head: (h, arms): relu(x hidden + shift) head is added to a level.
    """

    level: FloatArray
    hidden: FloatArray
    shift: FloatArray
    head: FloatArray

    @classmethod
    def of_several(cls, x: FloatArray, y: FloatArray, domain: IntArray, mean: FloatArray, seed: int) -> FactorNet:
        """Return the mean of `_NETS` networks that differ by their seeds alone, as one."""
        nets = [cls.fit(x, y, domain, mean, seed + k) for k in range(_NETS)]
        return cls(
            np.mean([net.level for net in nets], axis=0),
            np.concatenate([net.hidden for net in nets], axis=1),
            np.concatenate([net.shift for net in nets]),
            np.concatenate([net.head for net in nets]) / np.float32(_NETS),
        )

    @classmethod
    def fit(cls, x: FloatArray, y: FloatArray, domain: IntArray, mean: FloatArray, seed: int) -> FactorNet:
        """Fit (n, arms) qualities of (n, d) embeddings of norm 1.

        mean: (domains, arms) expected quality, where training begins.
        """
        seen = np.isfinite(y)
        cells = float(seen.sum())
        start = log_odds(mean)
        rng = np.random.default_rng(seed)
        now: Parameters = {
            "hidden": rng.normal(0, 1, (x.shape[1], _HIDDEN)).astype(np.float32),
            "shift": np.zeros(_HIDDEN, dtype=np.float32),
            "factor": rng.normal(0, 0.05, (_HIDDEN, _FACTORS)).astype(np.float32),
            # the same for all arms, so that their order does not matter
            "loading": np.zeros((_FACTORS, y.shape[1]), dtype=np.float32),
            "level": start.copy(),
            "tell": np.zeros((_HIDDEN, len(mean)), dtype=np.float32),
        }
        # the first factor becomes what is hard for all, and begins as nothing
        now["loading"][0], now["factor"][:, 0] = 1.0, 0.0
        if cells:
            weight = np.float32(_CELLS * len(y) / cells) * seen.astype(np.float32)
            _train(
                now,
                (x * _SCALE).astype(np.float32),
                np.where(seen, y, 0).astype(np.float32),
                weight,
                domain,
                start,
                rng,
            )
        return cls(now["level"], now["hidden"] * _SCALE, now["shift"], now["factor"] @ now["loading"])


def log_odds(mean: FloatArray) -> FloatArray:
    """Return the log odds of mean qualities, limited to those of 0.005 and 0.995."""
    return np.clip(np.log(mean / (1 - mean + 1e-9) + 1e-9), -_MOST_LOGIT, _MOST_LOGIT).astype(np.float32)


def _train(
    now: Parameters,
    x: FloatArray,
    y: FloatArray,
    weight: FloatArray,
    domain: IntArray,
    start: FloatArray,
    rng: np.random.Generator,
) -> None:
    size = int(np.clip(len(x) // _STEPS_PER_EPOCH, _LEAST_BATCH, _MOST_BATCH))
    steps, step = _EPOCHS * -(-len(x) // size), 0
    first, second = ({name: np.zeros_like(value) for name, value in now.items()} for _ in range(2))
    for _ in range(_EPOCHS):
        order = rng.permutation(len(x))
        for at in range(0, len(x), size):
            rows = order[at : at + size]
            slopes = _slopes(now, x[rows], y[rows], weight[rows], domain[rows], rng)
            slopes["level"] += np.float32(_HOLD) * (now["level"] - start)
            rate = _RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
            step += 1
            rate *= math.sqrt(1 - _BETA_SQUARE**step) / (1 - _BETA**step)
            for name, of_loss in slopes.items():
                slope = of_loss + np.float32(_DECAY.get(name, 0.0)) * now[name]
                first[name] += np.float32(1 - _BETA) * (slope - first[name])
                second[name] += np.float32(1 - _BETA_SQUARE) * (slope * slope - second[name])
                now[name] -= np.float32(rate) * first[name] / (np.sqrt(second[name]) + np.float32(_TINY))


def _slopes(
    now: Parameters, x: FloatArray, y: FloatArray, weight: FloatArray, domain: IntArray, rng: np.random.Generator
) -> Parameters:
    """Return the gradient of the mean loss of a batch."""
    before = x @ now["hidden"] + now["shift"]
    kept = (rng.random(before.shape, dtype=np.float32) > _DROPPED).astype(np.float32) / np.float32(1 - _DROPPED)
    active = np.maximum(before, 0) * kept
    factors = active @ now["factor"]
    odds = now["level"][domain] + factors @ now["loading"]
    off = (0.5 + 0.5 * np.tanh(0.5 * odds) - y) * weight / np.float32(len(x))
    told = softmax(active @ now["tell"])
    told[np.arange(len(x)), domain] -= 1
    told *= np.float32(_DOMAIN_LOSS / len(x))
    of_factors = off @ now["loading"].T
    of_active = (of_factors @ now["factor"].T + told @ now["tell"].T) * kept * (before > 0)
    level = np.zeros_like(now["level"])
    np.add.at(level, domain, off)
    return {
        "hidden": x.T @ of_active,
        "shift": of_active.sum(axis=0),
        "factor": active.T @ of_factors,
        "loading": factors.T @ off,
        "level": level,
        "tell": active.T @ told,
    }
