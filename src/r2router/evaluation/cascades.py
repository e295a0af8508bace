"""Cascades on a table whose answers are known, all calls paid: beside routing alone and a threshold cascade."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from r2router.cascade.evidence import Beliefs, Evidence
from r2router.cascade.replay import AnswerFeatures, Run, ratios, replay
from r2router.cascade.signals import WORDS
from r2router.cascade.value import Terms
from r2router.evaluation.router_forecasts import EvaluatedTable
from r2router.metrics.methods import SETTINGS, Method
from r2router.router.router import Router
from r2router.types import FloatArray

CASCADE, THRESHOLD = "cascade", "threshold cascade"


@dataclass(frozen=True, eq=False)
class FixedSettings:
    """Operating points that were fixed beforehand. cost, quality: (settings, n) of each query."""

    cost: FloatArray
    quality: FloatArray
    knows: bool = False

    def points(self, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See `Method.points`."""
        total = float(weight.sum())
        return self.cost @ weight / total, self.quality @ weight / total


def cascades(router: Router, evaluated: EvaluatedTable, x: FloatArray) -> tuple[dict[str, Method], tuple[str, ...]]:
    """(methods by name, notes) of a router's cascade on the queries of a table.

    x: (n, d) their embeddings. The settings are twelve values of a correct answer, spread by the forecast costs. Without evidence, or a
    table without answers, there is no method, and the note says so.
    """
    evidence, table = router.looks, evaluated.table
    if evidence is None:
        return {}, ("the router has no cascade: train it with one (--cascade) on a table with answers",)
    if table.responses is None or not len(table.responses):
        return {}, ("the table has no answers (column response): its cascade cannot be evaluated here, and would be the router",)
    forecast, outcomes = evaluated.forecast, evaluated.outcomes
    seen = AnswerFeatures.read(table.queries, table.responses, table.output_tokens, forecast.tokens)
    usable = outcomes.seen & seen.there & np.isfinite(outcomes.cost)
    rows = usable.any(axis=1)
    if not rows.all():
        return {}, (f"{int((~rows).sum())} queries have no graded answer that can be priced: the cascade is not evaluated on this table",)
    ratio = ratios(evidence, x, forecast.quality, seen)
    expected = np.where(usable, forecast.cost, np.nan)
    spend = spend_of(expected)
    spend = spend[np.isfinite(spend)]
    if not len(spend):
        return {}, ("no arm has answers on 90 % of the queries: the cascade is not evaluated on this table",)
    dollars = np.geomspace(3 * max(float(spend.min()), 1e-12), 30 * float(spend.max()), SETTINGS)
    runs = [replay(evidence, forecast.quality, forecast.cost, seen, ratio, Terms(usd), usable=usable) for usd in dollars.tolist()]
    quality, cost = np.nan_to_num(outcomes.quality), np.nan_to_num(outcomes.cost)
    found: dict[str, Method] = {CASCADE: _settings(runs, quality, cost)}
    ladder = [
        _threshold(evidence, forecast.quality, usable, spend_of(expected), seen, ratio, at) for at in np.linspace(0.05, 0.95, SETTINGS)
    ]
    found[THRESHOLD] = _settings(ladder, quality, cost)
    return found, (_words(runs, quality), *([] if evidence.plan.active else [_IDLE]))


_IDLE = "looking at answers did not pay in training: this cascade does not look, and is the router"


def spend_of(expected: FloatArray) -> FloatArray:
    """(arms,) mean forecast cost; infinite where an arm has none."""
    known = np.isfinite(expected)
    count = known.sum(axis=0)
    return np.where(count > 0.9 * len(expected), np.where(known, expected, 0.0).sum(axis=0) / np.maximum(count, 1), np.inf)


def _settings(runs: list[Run], quality: FloatArray, cost: FloatArray) -> FixedSettings:
    each = np.arange(len(quality))
    return FixedSettings(np.stack([run.paid(cost) for run in runs]), np.stack([quality[each, run.accepted] for run in runs]))


def _threshold(
    evidence: Evidence, quality: FloatArray, usable: np.ndarray, spend: FloatArray, seen: AnswerFeatures, ratio: FloatArray, enough: float
) -> Run:
    """FrugalGPT's kind of cascade with the same evidence: three arms by rising cost, until an answer is `enough` likely right.

    The arms are those of the upper envelope of mean forecasts: the cheapest, the best, and the middle one.
    """
    known = usable & np.isfinite(quality)
    mean = np.where(known, quality, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    order = [int(a) for a in np.argsort(spend, kind="stable") if np.isfinite(spend[a])]
    rising = [a for i, a in enumerate(order) if mean[a] >= max(mean[b] for b in order[: i + 1])]
    rungs = [rising[0], rising[len(rising) // 2], rising[-1]] if len(rising) > 2 else rising
    beliefs = Beliefs.of(evidence, quality, len(rungs), WORDS)
    asked, active = np.full((len(quality), len(rungs)), -1, dtype=np.intp), np.arange(len(quality))
    for slot, arm in enumerate(dict.fromkeys(rungs)):
        active = active[beliefs.best(active) < enough]
        active = active[usable[active, arm]]
        if not len(active):
            break
        at = np.full(len(active), arm)
        asked[active, slot] = arm
        beliefs.see(active, at, ratio[active, at], seen.words[active, at], seen.value[active, at], slot)
    chance = np.nan_to_num(beliefs.chance, nan=-1.0)
    place = chance.argmax(axis=1)
    accepted = asked[np.arange(len(asked)), place]
    return Run(asked, np.where(accepted < 0, rungs[0], accepted), chance[np.arange(len(asked)), place])


def _words(runs: list[Run], quality: FloatArray) -> str:
    each = np.arange(len(quality))
    calls = [float(run.calls.mean()) for run in runs]
    wrong, needless = [], []
    for run in runs:
        got = quality[each, run.accepted]
        best = np.where(run.arms >= 0, np.take_along_axis(quality, np.maximum(run.arms, 0), axis=1), 0.0).max(axis=1)
        wrong.append(float((got < best).mean()))
        needless.append(float(((run.calls > 1) & (quality[each, run.arms[:, 0]] >= best)).mean()))
    return (
        f"cascade, over its {len(runs)} settings from cheap to good: {calls[0]:.1f} to {calls[-1]:.1f} calls per query; "
        f"accepts a worse answer than one it has seen on {np.mean(wrong):.1%} of the queries; "
        f"asks on though the first answer was as good on {np.mean(needless):.1%}"
    )
