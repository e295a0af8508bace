"""Learns what answers show from a table with answers, on queries that neither forecasts nor evidence have seen.

The settings (caution, look-ahead, whether to look at all) are those under which cascades over the training queries
would have been worth the most, with left-out forecasts and left-out evidence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec
import numpy as np

from r2router.cascade.evidence import (
    BINS,
    MAX_PROBABILITY,
    MIN_PROBABILITY,
    Beliefs,
    Evidence,
    LookPlan,
    log_odds,
    pair_features,
    probability,
)
from r2router.cascade.replay import AnswerFeatures, CascadeRuns, replay
from r2router.cascade.resume import Resumes
from r2router.cascade.signals import NAMES, agreement
from r2router.cascade.spec import Cascade
from r2router.cascade.value import Terms
from r2router.types import Arm, FloatArray, IntArray

MIN_ANSWERS = 200
"""Answers, of all arms together, from which something can be learned."""

_MIN_OWN = 60  # answers of an arm with a head of its own, right ones and wrong ones at least `_MIN_EACH`
_MIN_EACH = 8
_STRENGTHS = np.geomspace(1.0, 3_000.0, 9)
_NUMBERS_WEIGHT = 0.1  # of standardised numbers beside an embedding of norm 1
_MAX_ROWS = 20_000  # cells that the head for all arms is fitted on
_PAIRS = 12  # random pairs of answers per query
_CAUTIONS = (0.4, 0.6, 0.8)
_AHEAD = (0.0, 0.25, 0.5)
_TUNED = 400  # queries that choose a plan
_SETTINGS = 8
_SURE = 1.0  # standard errors that looking must be better by


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """The data that a cascade is learned from: n queries.

    x: (n, d) embeddings.
    quality, cost: (n, arms) outcomes, NaN where not observed.
    forecast, price: (n, arms) left-out forecasts of quality and cost.
    fold: (n,) fold of each query; near-duplicates share one.
    seen: the answers.
    tokens, expected_tokens: (n, arms) output tokens, used and forecast.
    resumes: which arms can continue an answer of another; None where answers are not continued.
    """

    arms: tuple[Arm, ...]
    x: FloatArray
    quality: FloatArray
    cost: FloatArray
    forecast: FloatArray
    price: FloatArray
    fold: IntArray
    seen: AnswerFeatures
    tokens: FloatArray
    expected_tokens: FloatArray
    resumes: Resumes | None = None

    @property
    def known(self) -> np.ndarray:
        """(n, arms) the cells that can be learned from."""
        known: np.ndarray = self.seen.there & np.isfinite(self.quality) & np.isfinite(self.forecast)
        return known


def learn(spec: Cascade, data: Training) -> tuple[Evidence | None, str]:
    """Learn a cascade. Returns (the evidence, a sentence for the card).

    The evidence is None where the answers are too few or all equally good.
    """
    known = data.known
    outcomes = data.quality[known]
    if int(known.sum()) < MIN_ANSWERS:
        return (
            None,
            (
                f"the table has {int(known.sum()):,} graded answers, and {MIN_ANSWERS} are needed: no cascade, the"
                " router decides alone"
            ),
        )
    if outcomes.min() == outcomes.max():
        return None, "all graded answers of the table are equally good: no cascade, the router decides alone"
    rng = np.random.default_rng(spec.seed)
    usual = _usual(data.seen.numbers, known)
    seen = replace(data.seen, numbers=np.where(np.isnan(data.seen.numbers), usual, data.seen.numbers))
    data = replace(data, seen=seen)
    evidence, ratio = _heads(data, known, usual, rng)
    verdict = _verdict(data, known)
    evidence = replace(
        evidence,
        verdict=verdict,
        plan=LookPlan(max_steps=spec.max_steps, queries=len(data.x), continue_answers=data.resumes is not None),
    )
    ratio = ratio + evidence.verdicts(data.seen.check)
    evidence = _chances(evidence, data, ratio, known)
    evidence = _links(evidence, data, ratio, known)
    evidence = _pairs(evidence, data, ratio, known, rng)
    return _plan(evidence, data, ratio, known, rng)


# -- one answer -------------------------------------------------------------------------------------------------------


def _usual(numbers: FloatArray, known: np.ndarray) -> FloatArray:
    """Return (arms, signals) mean signals of each arm's answers.

    An arm without answers gets the mean of all arms; a signal that no answer has is 0.
    """
    there = known[:, :, None] & ~np.isnan(numbers)
    total, count = np.where(there, numbers, 0.0).sum(axis=0), there.sum(axis=0)
    whole = total.sum(axis=0) / np.maximum(count.sum(axis=0), 1)
    return np.where(count > 0, total / np.maximum(count, 1), whole)


def _heads(
    data: Training, known: np.ndarray, usual: FloatArray, rng: np.random.Generator
) -> tuple[Evidence, FloatArray]:
    """Fit the heads for single answers. Returns (the evidence, (n, arms) left-out log likelihood ratios)."""
    arms, d, s = len(data.arms), data.x.shape[1], len(NAMES)
    prior = np.clip(data.forecast, MIN_PROBABILITY, MAX_PROBABILITY)
    rows, arm = np.nonzero(known)
    plain = np.column_stack([np.ones(len(rows)), log_odds(prior[rows, arm]), data.seen.numbers[rows, arm]])
    part = rng.permutation(len(rows))[:_MAX_ROWS]
    start = np.zeros(2 + s)
    start[1] = 1.0
    pooled = logistic(plain[part], data.quality[rows, arm][part], start)
    of_pooled = np.zeros(known.shape)
    of_pooled[rows, arm] = plain @ pooled
    mean, scale = usual.copy(), np.ones((arms, s))
    weight, bias = np.zeros((arms, d + s), dtype=np.float32), np.full(arms, np.nan)
    calibration, ratio = np.zeros((arms, 4)), np.zeros(known.shape)
    for a in range(arms):
        at = np.flatnonzero(known[:, a])
        offset = log_odds(prior[at, a])
        y = data.quality[at, a]
        other = of_pooled[at, a]
        ratio[at, a] = other - offset
        if len(at) < _MIN_OWN or min((y > 0.5).sum(), (y <= 0.5).sum()) < _MIN_EACH:
            continue
        numbers = data.seen.numbers[at, a]
        mean[a], spread = numbers.mean(axis=0), numbers.std(axis=0)
        scale[a] = np.where(spread > 1e-6, spread, 1e6)
        features = np.concatenate([data.x[at], (numbers - mean[a]) / scale[a] * _NUMBERS_WEIGHT], axis=1)
        own, bias[a], left_out = ridge(features, y, data.fold[at])
        weight[a] = np.concatenate([own[:d], own[d:] * _NUMBERS_WEIGHT])
        four = np.column_stack([np.ones(len(at)), offset, log_odds(left_out), other])
        calibration[a] = logistic(four, y, np.array([0.0, 0.3, 0.4, 0.3]))
        ratio[at, a] = four @ calibration[a] - offset
    nothing = Evidence.empty(data.arms, d)
    found = replace(nothing, mean=mean, scale=scale, weight=weight, bias=bias, calibration=calibration, pooled=pooled)
    return found, ratio


def ridge(f: FloatArray, y: FloatArray, fold: IntArray) -> tuple[FloatArray, float, FloatArray]:
    """Fit a ridge regression. Returns (weights, intercept, (n,) forecasts of left-out folds).

    Its strength is the one with the lowest leave-one-out error.
    """
    f = np.asarray(f, dtype=np.float64)
    centre, level = f.mean(axis=0), float(y.mean())
    fc, yc, n = f - centre, y - level, len(y)
    if n > f.shape[1]:
        variance, v = np.linalg.eigh(fc.T @ fc)
        kept = variance > 1e-9 * max(float(variance.max()), 1e-9)
        variance, v = variance[kept], v[:, kept]
        u = fc @ v / np.sqrt(variance)
    else:
        variance, u = np.linalg.eigh(fc @ fc.T)
        kept = variance > 1e-9 * max(float(variance.max()), 1e-9)
        variance, u = variance[kept], u[:, kept]
        v = fc.T @ u / np.sqrt(variance)
    uy, squares = u.T @ yc, u**2
    best, strength = np.inf, _STRENGTHS[-1]
    for candidate in _STRENGTHS[::-1]:
        g = variance / (variance + candidate)
        error = (yc - u @ (g * uy)) / (1.0 - np.minimum(squares @ g + 1.0 / n, 0.999))
        if (loss := float(np.square(error).mean())) < best * (1 - 1e-9):
            best, strength = loss, candidate
    g = variance / (variance + strength)
    fitted = u @ (g * uy)
    left_out = np.empty(n)
    for number in np.unique(fold):
        own = fold == number
        hat = (u[own] * g) @ u[own].T + 1.0 / n
        left_out[own] = y[own] - np.linalg.solve(np.eye(int(own.sum())) - hat * (1 - 1e-6), (yc - fitted)[own])
    weight = v @ (g * uy / np.sqrt(variance))
    return weight, level - float(centre @ weight), left_out


def logistic(f: FloatArray, y: FloatArray, start: FloatArray, strength: float = 1.0) -> FloatArray:
    """Fit (k,) weights of a logistic regression of y in [0, 1] on (n, k) features, with a normal prior around
    `start`.
    """
    w = start.copy()
    for _ in range(30):
        p = 1.0 / (1.0 + np.exp(-np.clip(f @ w, -30, 30)))
        slope = f.T @ (p - y) + strength * (w - start)
        curvature = (f * (p * (1 - p))[:, None]).T @ f + strength * np.eye(len(w))
        step = np.linalg.solve(curvature, slope)
        w = w - step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-12))
        if float(np.abs(step).max()) < 1e-6:
            break
    return w


def _verdict(data: Training, known: np.ndarray) -> FloatArray:
    """Measure how often the user's check passes right and wrong answers, adding one of each; empty where there is no
    check.
    """
    there = known & np.isfinite(data.seen.check)
    if not there.any():
        return np.zeros(0)
    y, check = data.quality[there], data.seen.check[there]
    return np.array([(check @ y + 1) / (y.sum() + 2), (check @ (1 - y) + 1) / ((1 - y).sum() + 2)])


def _chances(evidence: Evidence, data: Training, ratio: FloatArray, known: np.ndarray) -> Evidence:
    """Add the distribution of evidence sizes of right and of wrong answers, for each arm, by calibrated
    probabilities.
    """
    right, wrong = evidence.right.copy(), evidence.wrong.copy()
    for a in range(len(data.arms)):
        at = np.flatnonzero(known[:, a])
        if len(at) < _MIN_OWN:
            continue
        order = np.argsort(ratio[at, a], kind="stable")
        size = np.empty(len(at), dtype=np.intp)
        size[order] = np.arange(len(at)) * BINS // len(at)
        chance = probability(log_odds(data.forecast[at, a]) + ratio[at, a])
        for values, of in ((right, chance), (wrong, 1 - chance)):
            count = np.bincount(size, of, BINS) + 1e-3
            values[a] = count / count.sum()
    return replace(evidence, right=right, wrong=wrong)


# -- several answers --------------------------------------------------------------------------------------------------


def _links(evidence: Evidence, data: Training, ratio: FloatArray, known: np.ndarray) -> Evidence:
    """Add how a surprise about one arm moves the odds of the others: shrunk regressions through the origin."""
    prior = np.clip(data.forecast, MIN_PROBABILITY, MAX_PROBABILITY)
    spread = np.sqrt(prior * (1 - prior))
    chance = probability(log_odds(prior) + ratio)
    surprise = np.where(known, (chance - prior) / spread, 0.0)
    outcome = np.isfinite(data.quality) & np.isfinite(data.forecast)
    off = np.where(outcome, (np.nan_to_num(data.quality) - prior) / spread, 0.0)
    surprise, off = np.nan_to_num(surprise), np.nan_to_num(off)
    squares = np.square(surprise).T @ outcome.astype(np.float64)
    beta = surprise.T @ off / (squares + 0.05 * len(prior) + 1.0)
    np.fill_diagonal(beta, 1.0)
    return replace(evidence, beta=beta)


def _pairs(
    evidence: Evidence, data: Training, ratio: FloatArray, known: np.ndarray, rng: np.random.Generator
) -> Evidence:
    """Add what the agreement of a second answer with the first one shows."""
    seen, parts, targets = data.seen, [], []
    for _ in range(_PAIRS):
        draw = np.where(known, rng.random(known.shape), np.inf)
        first, second = np.argsort(draw, axis=1)[:, :2].T
        rows = np.flatnonzero(known.sum(axis=1) >= 2)
        a, b = first[rows], second[rows]
        beliefs = Beliefs.of(evidence, data.forecast[rows], 1, seen.words.shape[2])
        each = np.arange(len(rows))
        beliefs.see(each, a, ratio[rows, a], seen.words[rows, a], seen.value[rows, a], 0)
        mine = log_odds(beliefs.now[each, b]) + ratio[rows, b]
        theirs = log_odds(beliefs.chance[:, 0])
        both = (seen.value[rows, a] != 0) & (seen.value[rows, b] != 0)
        same = both & (seen.value[rows, a] == seen.value[rows, b])
        parts.append(
            pair_features(mine, theirs, agreement(seen.words[rows, b], seen.words[rows, a]), same, both & ~same)
        )
        targets.append(data.quality[rows, b])
    if not sum(map(len, targets)):
        return evidence
    return replace(evidence, pair=logistic(np.concatenate(parts), np.concatenate(targets), evidence.pair))


# -- the plan ---------------------------------------------------------------------------------------------------------


def _plan(
    evidence: Evidence, data: Training, ratio: FloatArray, known: np.ndarray, rng: np.random.Generator
) -> tuple[Evidence, str]:
    """Add the settings that were worth most on the training queries; not active where they do no better than the router
    alone.
    """
    full = known & np.isfinite(data.cost) & np.isfinite(data.price)
    rows = np.flatnonzero(full.any(axis=1))
    rows = np.sort(rng.permutation(rows)[:_TUNED])
    prices = np.where(full[rows], data.price[rows], np.nan)
    priced = full.any(axis=0)
    if len(rows) < BINS or not priced.any():
        return replace(evidence, plan=msgspec.structs.replace(evidence.plan, active=False)), _NOTHING
    mean = np.where(full, data.price, 0.0).sum(axis=0)[priced] / full.sum(axis=0)[priced]
    dollars = np.geomspace(max(float(mean.min()), 1e-9) * 3, max(float(mean.max()), 1e-9) * 10, _SETTINGS)
    seen = data.seen.take(rows)
    going_on: Any = {"resumes": data.resumes, "tokens": data.expected_tokens[rows]}

    def values(candidate: Evidence) -> FloatArray:
        """Mean value of each query over the settings, as a share of what a correct answer is worth."""
        total = np.zeros(len(rows))
        for usd in dollars:
            run = replay(
                candidate, data.forecast[rows], prices, seen, ratio[rows], Terms(usd), usable=full[rows], **going_on
            )
            got = _of(run, data.quality[rows])
            total += got - run.paid(np.nan_to_num(data.cost[rows]), data.resumes, data.tokens[rows]) / usd
        return total / len(dollars)

    def with_plan(**changes: float | bool) -> Evidence:
        return replace(evidence, plan=msgspec.structs.replace(evidence.plan, **changes))

    alone = values(with_plan(active=False))
    tried = {caution: values(with_plan(caution=caution)) for caution in _CAUTIONS}
    caution = max(tried, key=lambda c: float(tried[c].mean()))
    ahead = {
        share: tried[caution] if share == 0 else values(with_plan(caution=caution, ahead=share)) for share in _AHEAD
    }
    share = max(ahead, key=lambda a: float(ahead[a].mean()))
    gain = ahead[share] - alone
    error = float(gain.std()) / np.sqrt(max(len(gain) - 1, 1))
    better = float(gain.mean()) > _SURE * error and float(gain.mean()) > 0
    found = with_plan(caution=caution, ahead=share, active=bool(better))
    words = (
        f"looking at answers is worth {gain.mean():+.4f} of a correct answer (standard error {error:.4f}, left-out"
        f" training queries, {len(dollars)} settings)"
    )
    return found, words if better else f"{words}: not surely better, so the cascade does not look, and is the router"


_NOTHING = "no query has answers that can be priced: no cascade, the router decides alone"


def _of(run: CascadeRuns, values: FloatArray) -> FloatArray:
    found: FloatArray = np.nan_to_num(values[np.arange(len(values)), np.maximum(run.accepted, 0)]) * (run.accepted >= 0)
    return found
