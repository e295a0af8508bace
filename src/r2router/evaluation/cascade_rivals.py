"""Other ways to ask several arms, on the same arms, forecasts and answers as our cascade.

A threshold cascade (FrugalGPT: Chen et al., arXiv 2305.05176), cascade routing (Dekoninck et al., ICLR 2025, arXiv
2410.10347), the majority of three answers (self-consistency: Wang et al., ICLR 2023, and of three arms), and an oracle
that sees how good each answer is once it is there. What they choose (lists of arms, thresholds, which three) they
choose on the other half of the queries, by outcomes of the table that our cascade never sees; cascade routing has
nothing to choose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, product

import numpy as np

from r2router.cascade.evidence import Beliefs, log_odds, probability
from r2router.cascade.replay import CascadeRuns
from r2router.cascade.signals import WORDS, agreement
from r2router.cascade.value import Terms
from r2router.evaluation.cascades import FixedSettings, Played, truth_of
from r2router.metrics.crossfit import halves_of
from r2router.metrics.frontier import upper_envelope
from r2router.metrics.methods import Method
from r2router.types import BoolArray, FloatArray, IntArray

THRESHOLD = "threshold cascade"
DEKONINCK = "cascade routing"
ONE_MODEL = "majority of one LLM"
MAJORITY = "majority of three arms"
LOOKING = "looking oracle"
_RUNGS, _LISTED = 3, 8  # of a list of the threshold cascade; arms that lists are made of
_LEVELS = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 0.95)
_VOTERS = 3
_MIN = 20  # queries that settings can be chosen on
_PER_VALUE = 3
_CANDIDATES = 8
_GRID = np.linspace(0.0, 1.0, 41)

Tried = tuple[FloatArray, FloatArray]
"""(n,) what one way of asking cost and gave on each query."""


def played_rivals(game: Played) -> dict[str, list[CascadeRuns]]:
    """Return what cascade routing does, and an oracle that looks, for each value of a correct answer."""
    evidence, ratio = truth_of(game)
    return {
        DEKONINCK: [cascade_routing(game, usd) for usd in game.dollars.tolist()],
        LOOKING: [game.play(Terms(usd, truth=True), evidence=evidence, ratio=ratio) for usd in game.dollars.tolist()],
    }


def chosen_rivals(game: Played) -> tuple[dict[str, Method], tuple[str, ...]]:
    """Return (the methods that choose on the other half of the queries, notes)."""
    found: dict[str, Method] = {}
    halves = halves_of(game.outcomes, np.arange(len(game.usable)))[:2]
    if not halves or min(half.sum() for half in halves) < _MIN or not len(_everywhere(game)):
        return found, (
            (
                f"ways to ask that choose their arms need {2 * _MIN} queries and an arm with answers on nearly all:"
                " left out"
            ),
        )
    notes = [
        (
            "the table has one answer per query and arm: instead of self-consistency stands the majority of three budgets"
            " of one LLM"
        )
    ]
    found[THRESHOLD] = crossfitted(game, halves, _ladders)
    groups = [arms for arms in _models(game).values() if len(arms) >= _VOTERS]
    if groups:
        found[ONE_MODEL] = crossfitted(game, halves, lambda game, _: _votes(game, groups))
    else:
        notes.append("no LLM has three budgets with answers: the majority of one LLM is left out")
    if len(_everywhere(game)) >= _VOTERS:
        found[MAJORITY] = crossfitted(game, halves, lambda game, half: _votes(game, [_good_arms(game, half)]))
    return found, tuple(notes)


def crossfitted(
    game: Played, halves: Sequence[BoolArray], ways: Callable[[Played, BoolArray], Iterator[Tried]]
) -> FixedSettings:
    """Choose, for each value of a correct answer and each half of the queries, the way that was worth most on the other
    half.
    """
    shape = (len(game.dollars), len(game.usable))
    cost, quality = np.zeros(shape), np.zeros(shape)
    for own, other in (halves, halves[::-1]):
        best = np.full(len(game.dollars), -np.inf)
        for paid, got in ways(game, other):
            worth = game.dollars * got[other].mean() - paid[other].mean()
            better = np.flatnonzero(worth > best)
            best[better] = worth[better]
            cost[np.ix_(better, own)], quality[np.ix_(better, own)] = paid[own], got[own]
    return FixedSettings(cost, quality)


def _everywhere(game: Played) -> IntArray:
    """Return the arms that have answers on nearly all queries."""
    return np.flatnonzero(np.isfinite(game.spend) & (game.usable.mean(axis=0) >= 0.95))


def _models(game: Played) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for arm in _everywhere(game).tolist():
        found.setdefault(game.outcomes.arms[arm].model, []).append(arm)
    return found


def _means(game: Played, half: BoolArray) -> tuple[IntArray, FloatArray, FloatArray]:
    """Return (arms, mean cost, mean quality) on one half."""
    arms = _everywhere(game)
    seen = game.usable[half][:, arms]
    count = np.maximum(seen.sum(axis=0), 1)
    paid = np.where(seen, np.nan_to_num(game.outcomes.cost[half][:, arms]), 0.0).sum(axis=0) / count
    return arms, paid, np.where(seen, game.right[half][:, arms], 0.0).sum(axis=0) / count


# -- thresholds
# ---------------------------------------------------------------------------------------------------------------------------


def _ladders(game: Played, half: BoolArray) -> Iterator[Tried]:
    """Lists of up to three arms by rising cost, and thresholds: the first answer that is likely enough right is
    accepted, else the last.

    The arms are those nearest to the upper envelope on the half that chooses.
    """
    arms, paid, gained = _means(game, half)
    kept = upper_envelope(paid, gained)
    short = np.interp(paid, paid[kept], gained[kept]) - gained
    chosen = sorted(np.argsort(short, kind="stable")[:_LISTED].tolist(), key=lambda at: float(paid[at]))
    listed = [int(arms[at]) for at in chosen]
    chance = probability(log_odds(np.nan_to_num(game.quality)) + game.ratio)
    cost = np.nan_to_num(game.outcomes.cost)
    for count in range(1, min(_RUNGS, len(listed)) + 1):
        for rungs in combinations(listed, count):
            for levels in product(_LEVELS, repeat=count - 1):
                yield _ladder(game, chance, cost, rungs, levels)


def _ladder(game: Played, chance: FloatArray, cost: FloatArray, rungs: Sequence[int], levels: Sequence[float]) -> Tried:
    n = len(chance)
    spent = np.zeros(n)
    got = np.zeros(n)
    open_ = np.ones(n, dtype=np.bool_)
    for arm, level in zip(rungs, (*levels, 0.0), strict=True):
        now = open_ & game.usable[:, arm]
        spent += np.where(now, cost[:, arm], 0.0)
        got = np.where(now, game.right[:, arm], got)  # the last one asked stands where none is sure enough
        open_ &= ~(now & (chance[:, arm] >= level))
    return spent, got


# -- majorities
# ---------------------------------------------------------------------------------------------------------------------------


def _good_arms(game: Played, half: BoolArray) -> list[int]:
    """Return the arms that are among the three best for some value of a correct answer, on the half that chooses."""
    arms, paid, gained = _means(game, half)
    found = {int(at) for usd in game.dollars for at in np.argsort(-(usd * gained - paid), kind="stable")[:_PER_VALUE]}
    return [int(arms[at]) for at in sorted(found, key=lambda at: float(paid[at]))]


def _votes(game: Played, groups: Sequence[Sequence[int]]) -> Iterator[Tried]:
    """Yield every three arms of a group: all are asked, and the answer that the others agree with most is accepted, of
    equals the last.
    """
    cost, each = np.nan_to_num(game.outcomes.cost), np.arange(len(game.usable))
    for group in groups:
        alike = {pair: _alike(game, *pair) for pair in combinations(group, 2)}
        for three in combinations(group, _VOTERS):
            votes = np.zeros((len(each), _VOTERS))
            for (i, one), (j, other) in combinations(enumerate(three), 2):
                votes[:, i] += alike[one, other]
                votes[:, j] += alike[one, other]
            there = game.usable[:, three]
            votes = np.where(there, np.round(votes, 9), -1.0)
            at = _VOTERS - 1 - votes[:, ::-1].argmax(axis=1)
            yield np.where(there, cost[:, three], 0.0).sum(axis=1), game.right[each, np.array(three)[at]]


def _alike(game: Played, one: int, other: int) -> FloatArray:
    """Return (n,) how much two arms' answers agree: by the values that they give, and by their words where one gives
    none.
    """
    a, b = game.seen.value[:, one], game.seen.value[:, other]
    both = (a != 0) & (b != 0)
    found = np.where(both, (a == b).astype(np.float64), agreement(game.seen.words[:, one], game.seen.words[:, other]))
    return np.where(game.usable[:, one] & game.usable[:, other], found, 0.0)


# -- cascade routing
# ----------------------------------------------------------------------------------------------------------------------


def cascade_routing(game: Played, usd: float) -> CascadeRuns:
    """Dekoninck et al.: of all sets of arms that hold those asked already, find the one with the best expected maximum
    less its price; ask the cheapest of its arms, and stop where it is the set that was asked.

    Forecasts of arms that were not asked are normal around their chance, as widely as their answers have turned out to
    move it; what was asked is known by its evidence. Sets add up to two arms of the eight best (their pruning). It has
    the same beliefs as our cascade.
    """
    n, steps = len(game.usable), game.evidence.plan.max_steps
    beliefs = Beliefs.of(game.evidence, game.quality, steps, WORDS)
    spread = _spreads(game)
    asked = np.full((n, steps), -1, dtype=np.intp)
    active = np.arange(n)
    for step in range(steps):
        own = game.cost[active]
        if game.resumes is not None:
            own = own - game.resumes.saved(beliefs.asked[active], game.tokens[active])
        price = np.where(game.usable[active] & ~beliefs.asked[active] & np.isfinite(game.quality[active]), own, np.inf)
        arm = _next(beliefs.now[active], price, spread, beliefs.best(active), usd, must=step == 0)
        go = arm >= 0
        active, arm = active[go], arm[go]
        if not len(active):
            break
        asked[active, step] = arm
        beliefs.see(
            active, arm, game.ratio[active, arm], game.seen.words[active, arm], game.seen.value[active, arm], step
        )
    chance = np.nan_to_num(beliefs.chance, nan=-1.0)
    place = chance.argmax(axis=1)
    return CascadeRuns(asked, asked[np.arange(n), place], chance[np.arange(n), place])


def _spreads(game: Played) -> FloatArray:
    """Return (arms,) standard deviation of the chance after a look, by the sizes of evidence that were learned."""
    known = game.usable & np.isfinite(game.quality)
    prior = np.where(known, game.quality, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    prior = np.clip(prior, 0.01, 0.99)[:, None]
    right, wrong = game.evidence.right, game.evidence.wrong
    size = prior * right + (1 - prior) * wrong
    after = prior * right / size
    found: FloatArray = np.sqrt((size * np.square(after - prior)).sum(axis=1))
    return np.maximum(found, 1e-3)


def _next(
    now: FloatArray, price: FloatArray, spread: FloatArray, best: FloatArray, usd: float, *, must: bool
) -> IntArray:
    """Return (n,) the arm to ask, -1 where the set that was asked is the best one."""
    each = np.arange(len(now))[:, None]
    single = np.where(np.isfinite(price), usd * now - price, -np.inf)
    top = np.argsort(-single, axis=1, kind="stable")[:, :_CANDIDATES]  # (n, k)
    mean, cost = now[each, top], price[each, top]
    below = _normal((_GRID - mean[..., None]) / spread[top][..., None])  # (n, k, grid) chance to be below
    above = best[:, None] <= _GRID
    width = float(_GRID[1])
    alone = best[:, None] + ((1 - below) * above[:, None]).sum(axis=2) * width
    worth, chosen = usd * alone - cost, top.copy()
    for i, j in combinations(range(top.shape[1]), 2):
        both = best + ((1 - below[:, i] * below[:, j]) * above).sum(axis=1) * width
        value = usd * both - cost[:, i] - cost[:, j]
        cheaper = np.where(cost[:, i] <= cost[:, j], i, j)
        better = np.isfinite(value) & (value > worth[np.arange(len(now)), cheaper])
        worth[np.flatnonzero(better), cheaper[better]] = value[better]
    worth = np.where(np.isfinite(cost), worth, -np.inf)
    at = worth.argmax(axis=1)
    row = np.arange(len(now))
    go = np.isfinite(worth[row, at]) & (must | (worth[row, at] > usd * best + 1e-15))
    return np.where(go, chosen[row, at], -1)


def _normal(z: FloatArray) -> FloatArray:
    """Return the normal distribution function, right to three digits."""
    z = np.clip(z, -8.0, 8.0)
    found: FloatArray = 0.5 * (1.0 + np.tanh(0.7978845608 * (z + 0.044715 * z**3)))
    return found
