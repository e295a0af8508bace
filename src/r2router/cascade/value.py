"""Whether another call is worth its price, as arrays.

The value of asking an arm is summed over the sizes of evidence that its answer may give (`BINS` of them, learned from
left-out answers); then the better of its answer and the best one so far is accepted. Two steps are exact in that model.
A further call counts with a share that was chosen on left-out queries (`LookPlan.ahead`), as the best of many uncertain
plans promises more than it gives.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r2router.cascade.evidence import MAX_PROBABILITY, MIN_PROBABILITY, Beliefs, Evidence
from r2router.types import BoolArray, FloatArray, IntArray

_CELLS = 4_000_000  # (query, arm, arm) that are in memory at once
_CANDIDATES = 8  # arms whose second step is looked at: the best by the first
STOP = -1
"""What `next_arm` answers where the best answer seen is to be accepted."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a policy means for a cascade.

    usd: what a correct answer is worth, US dollars.
    floor: accept an answer that is right with at least this probability; NaN for none.
    truth: whether every answer is checked and the check is always right; then the cheapest answer that passes should
        win.
    """

    usd: float
    floor: float = float("nan")
    truth: bool = False


def tempered(evidence: Evidence) -> tuple[FloatArray, FloatArray]:
    """Return (arms, bins) probabilities of evidence given right and wrong answers, weakened by the plan's caution."""
    share, middle = evidence.plan.caution, (evidence.right + evidence.wrong) / 2
    return share * evidence.right + (1 - share) * middle, share * evidence.wrong + (1 - share) * middle


def expected_best(chance: FloatArray, best: FloatArray, right: FloatArray, wrong: FloatArray) -> FloatArray:
    """Return (..., arms) the expected probability of the better of two answers: the best so far, and that of each arm.

    chance: (..., arms) probability of each arm's answer being right.
    best: (..., 1) that of the best answer so far.
    """
    joint = chance[..., None] * right
    found: FloatArray = np.maximum(joint, best[..., None] * (joint + (1 - chance)[..., None] * wrong)).sum(axis=-1)
    return found


def worth(beliefs: Beliefs, rows: IntArray, cost: FloatArray, usd: float, more: bool) -> FloatArray:
    """Return (n, arms) US dollars expected after asking each arm: the value of the accepted answer minus the cost.

    cost: (n, arms) expected US dollars, infinite where an arm must not be asked.
    more: whether a further arm may be asked after it.
    """
    right, wrong = tempered(beliefs.evidence)
    now, best = beliefs.now[rows], beliefs.best(rows)[:, None]
    gross = usd * expected_best(now, best, right, wrong)
    once = gross - cost
    share = beliefs.evidence.plan.ahead
    if not more or share == 0:
        return once
    found = once.copy()
    each = np.arange(len(rows))
    for arm in np.argsort(-once, axis=1, kind="stable")[:, :_CANDIDATES].T:
        joint = now[each, arm, None] * right[arm]
        chance_of = joint + (1 - now[each, arm, None]) * wrong[arm]
        after = np.clip(joint / chance_of, MIN_PROBABILITY, MAX_PROBABILITY)
        reached = (chance_of * _second(beliefs.evidence, now, arm, after, best, cost, usd, (right, wrong))).sum(axis=1)
        may = np.isfinite(cost[each, arm])
        gain = np.where(may, reached - gross[each, arm], 0.0)
        found[each, arm] += share * np.maximum(gain, 0.0)
    return found


def _second(
    evidence: Evidence,
    now: FloatArray,
    arm: IntArray,
    after: FloatArray,
    best: FloatArray,
    cost: FloatArray,
    usd: float,
    chances: tuple[FloatArray, FloatArray],
) -> FloatArray:
    """Return (n, bins) US dollars expected after an answer of `arm` that left it with probability `after`.

    The better of two choices counts: accept, or ask the best other arm.
    """
    each = np.arange(len(now))
    before = now[each, arm, None]
    surprise = (after - before) / np.sqrt(before * (1 - before))
    spread = np.sqrt(now * (1 - now))
    others = np.clip(
        now[:, None] + evidence.beta[arm][:, None] * surprise[..., None] * spread[:, None],
        MIN_PROBABILITY,
        MAX_PROBABILITY,
    )
    reached = np.maximum(after, best)
    prices = cost.copy()
    prices[each, arm] = np.inf
    further = usd * expected_best(others, reached[..., None], *chances) - prices[:, None]
    found: FloatArray = np.maximum(usd * reached, further.max(axis=-1))
    return found


def next_arm(
    beliefs: Beliefs, rows: IntArray, cost: FloatArray, terms: Terms, more: int
) -> tuple[IntArray, FloatArray]:
    """Return ((n,) the arm to ask next or `STOP`, (n, arms) the value of asking each), for some queries; see `worth`.

    more: how many arms may be asked after it.

    Where no answer was seen, an arm is asked if one may be; `STOP` then means that none may.
    """
    if terms.truth and more:
        return _until_it_passes(beliefs, rows, cost, terms, more)
    if not np.isnan(terms.floor):
        return _to_floor(beliefs, rows, cost, terms.floor)
    found = worth(beliefs, rows, cost, terms.usd, more > 0)
    arm = _first_best(found, cost)
    best = beliefs.best(rows)
    gain = found[np.arange(len(rows)), arm]
    go = np.isfinite(gain) & ((gain > terms.usd * best * (1 + 1e-12)) | ~beliefs.asked[rows].any(axis=1))
    return np.where(go, arm, STOP), found


def _to_floor(beliefs: Beliefs, rows: IntArray, cost: FloatArray, floor: float) -> tuple[IntArray, FloatArray]:
    """Reach an answer that is right with probability `floor` at the least cost: ask the arm with the largest chance of
    that per US dollar.

    This order is optimal where answers say nothing about each other. Before the first answer, arms whose forecast
    reaches the floor come first, the cheapest of them: this is the router's own choice.
    """
    right, wrong = tempered(beliefs.evidence)
    now = beliefs.now[rows]
    joint = now[..., None] * right
    chance_of = joint + (1 - now)[..., None] * wrong
    reaches = np.where(now >= floor, 1.0, (chance_of * (joint / chance_of >= floor)).sum(axis=-1))
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(np.isfinite(cost), reaches / np.maximum(cost, 1e-15), -np.inf)
    nothing = np.asarray((rate <= 0).all(axis=1))  # no arm gets there: the likeliest one
    rate = np.where(nothing[:, None], np.where(np.isfinite(cost), now, -np.inf), rate)
    sure = np.where((now >= floor) & np.isfinite(cost), -cost, -np.inf)
    fresh = np.asarray(~beliefs.asked[rows].any(axis=1))
    rate = np.where(np.asarray(fresh & np.isfinite(sure).any(axis=1))[:, None], sure, rate)
    arm = _first_best(rate, cost)
    best = beliefs.best(rows)
    usable = np.isfinite(rate[np.arange(len(rows)), arm])
    hopeless = nothing & (now[np.arange(len(rows)), arm] <= best)
    go = usable & (fresh | ((best < floor) & ~hopeless))
    return np.where(go, arm, STOP), now


def _until_it_passes(
    beliefs: Beliefs, rows: IntArray, cost: FloatArray, terms: Terms, more: int
) -> tuple[IntArray, FloatArray]:
    """Ask arms in rising order of cost per chance to pass, until one passes: the arms that are worth most together, up
    to the maximum.

    This order has the largest expected value where answers say nothing about each other (Weitzman, Econometrica 1979).
    The arms are chosen one by one, each time the one that adds most.
    """
    now = beliefs.now[rows]
    best = beliefs.best(rows)
    each = np.arange(len(rows))
    gain = np.where(np.isfinite(cost), terms.usd * now - cost, -np.inf)
    with np.errstate(divide="ignore"):
        rate = np.where(np.isfinite(cost), now / np.maximum(cost, 1e-15), -np.inf)
    chosen = np.zeros(now.shape, dtype=np.bool_)
    worth = np.zeros(len(rows))
    block = max(_CELLS // now.shape[1] ** 2, 1)
    for _ in range(min(more + 1, now.shape[1])):
        parts = (slice(at, at + block) for at in range(0, len(rows), block))
        added = np.concatenate([_together(now[p], cost[p], rate[p], chosen[p], terms.usd) for p in parts])
        added = np.where(chosen | ~np.isfinite(cost), -np.inf, added)
        arm = _first_best(added, cost)
        better = np.isfinite(added[each, arm]) & (added[each, arm] > worth * (1 + 1e-12))
        if not better.any():
            break
        chosen[better, arm[better]] = True
        worth = np.where(better, added[each, arm], worth)
    fresh = np.asarray(~beliefs.asked[rows].any(axis=1))
    none = np.asarray(~chosen.any(axis=1))
    arm = _first_best(np.where((fresh & none)[:, None], gain, np.where(chosen, rate, -np.inf)), cost)
    enough = MAX_PROBABILITY if np.isnan(terms.floor) else terms.floor
    go = np.isfinite(gain[each, arm]) & (fresh | (~none & (best < enough)))
    return np.where(go, arm, STOP), gain


def _together(now: FloatArray, cost: FloatArray, rate: FloatArray, chosen: BoolArray, usd: float) -> FloatArray:
    """Return (n, arms) US dollars expected of asking the chosen arms and one other, in falling order of rate, until one
    passes.
    """
    price = np.where(np.isfinite(cost), cost, 0.0)
    before = rate[:, None, :] > rate[:, :, None]  # (n, arm, other): the other one is asked first
    fails = np.where(chosen, 1.0 - now, 1.0)
    with np.errstate(divide="ignore"):
        log_fails = np.log(np.maximum(fails, 1e-12))
    reached = np.exp((before * log_fails[:, None, :]).sum(axis=2))  # (n, arms) nothing before it passes
    # the chosen ones in their own order, each asked less often where the new one stands before it
    later = (rate[:, :, None] > rate[:, None, :]) & chosen[:, None, :]
    own = usd * now - price
    value_of_chosen = np.where(chosen, reached * own, 0.0)
    lost = (later * value_of_chosen[:, None, :]).sum(axis=2) * now
    found: FloatArray = value_of_chosen.sum(axis=1, keepdims=True) + reached * own - lost
    return found


def _first_best(score: FloatArray, cost: FloatArray) -> IntArray:
    """Return (n,) the best score; among equals the cheapest, then the first."""
    top = score.max(axis=1, keepdims=True)
    found: IntArray = np.where(score == top, cost, np.inf).argmin(axis=1)
    return found


def may_ask(beliefs: Beliefs, rows: IntArray, cost: FloatArray, usable: BoolArray | None) -> FloatArray:
    """Return (n, arms) the cost; infinite where an arm was asked already, must not be used, or has no known cost."""
    allowed = ~beliefs.asked[rows] & np.isfinite(cost)
    if usable is not None:
        allowed &= usable
    return np.where(allowed, cost, np.inf)
