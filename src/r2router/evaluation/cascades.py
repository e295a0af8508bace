"""Cascades on a table whose answers are known, all calls paid: beside routing alone, and beside other ways to ask
several arms.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from r2router.cascade.evidence import MIN_PROBABILITY, Evidence, log_odds
from r2router.cascade.replay import AnswerFeatures, CascadeRuns, ratios, replay
from r2router.cascade.resume import Resumes
from r2router.cascade.value import Terms
from r2router.evaluation.router_forecasts import EvaluatedTable
from r2router.evaluation.tables_and_plots import MIN_QUERIES
from r2router.figure import Figure
from r2router.metrics.intervals import mean
from r2router.metrics.methods import SETTINGS, Method, Outcomes
from r2router.metrics.score import Comparison, compare
from r2router.router.router import Router
from r2router.types import BoolArray, FloatArray, IntArray

CASCADE, ROUTING = "cascade", "routing alone"


@dataclass(frozen=True, eq=False)
class FixedSettings:
    """Operating points that were fixed beforehand. cost, quality: (settings, n) of each query."""

    cost: FloatArray
    quality: FloatArray
    knows: bool = False

    def points(self, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
        total = float(weight.sum())
        return self.cost @ weight / total, self.quality @ weight / total


@dataclass(frozen=True, eq=False)
class Played:
    """A table's answers, and what a router forecasts of them: everything that a cascade on it is played with.

    quality, cost, tokens: (n, arms) forecasts.
    ratio: (n, arms) evidence of the answers.
    outcomes, used: what they were worth, their tokens.
    usable: (n, arms) answers that are there, graded and priced.
    dollars: the values of a correct answer that are played.
    """

    evidence: Evidence
    quality: FloatArray
    cost: FloatArray
    tokens: FloatArray
    seen: AnswerFeatures
    ratio: FloatArray
    outcomes: Outcomes
    used: FloatArray
    usable: BoolArray
    dollars: FloatArray
    resumes: Resumes | None = None

    @property
    def right(self) -> FloatArray:
        """(n, arms) quality of the answers, 0 where there is none; no method asks for one there."""
        return np.nan_to_num(self.outcomes.quality)

    @property
    def spend(self) -> FloatArray:
        """(arms,) mean forecast cost; infinite for an arm that has no answers on 90 % of the queries."""
        return spend_of(np.where(self.usable, self.cost, np.nan))

    def play(
        self,
        terms: Terms,
        *,
        evidence: Evidence | None = None,
        ratio: FloatArray | None = None,
        maximum: int | None = None,
    ) -> CascadeRuns:
        """Return the cascades of all queries under one policy."""
        return replay(
            evidence or self.evidence,
            self.quality,
            self.cost,
            self.seen,
            self.ratio if ratio is None else ratio,
            terms,
            max_steps=maximum,
            usable=self.usable,
            resumes=self.resumes,
            tokens=self.tokens,
        )

    def settings(self, runs: list[CascadeRuns]) -> FixedSettings:
        """Return what runs cost and gave; arms that go on from an answer cost what they add."""
        each, cost = np.arange(len(self.usable)), np.nan_to_num(self.outcomes.cost)
        paid = [run.paid(cost, self.resumes, self.used) for run in runs]
        return FixedSettings(np.stack(paid), np.stack([self.right[each, run.accepted] for run in runs]))


@dataclass(frozen=True, eq=False)
class SettingLine:
    """One setting of a cascade.

    usd: what a correct answer is worth.
    cost, quality: means.
    calls: arms asked per query.
    first_s, all_s: mean seconds of the first call and of all calls together, late_s: what 95 % of the queries stay
        below; NaN where the table has no times.
    wrong: share of queries whose accepted answer was not the best of what could have been asked, though it might have
        asked on.
    needless: share on which it asked on after an answer that was as good as the accepted one.
    worse: share on which it accepted a worse answer than one it had seen.
    """

    usd: float
    cost: float
    quality: float
    calls: float
    first_s: float
    all_s: float
    late_s: float
    wrong: float
    needless: float
    worse: float


@dataclass(frozen=True, eq=False)
class TaskOfCascade:
    """One task: the cascade's area less routing alone's (NaN where the task is too small), and means over the
    settings.
    """

    task: str
    queries: int
    gain: Figure
    calls: float
    wrong: float
    needless: float


@dataclass(frozen=True, eq=False)
class CascadeFigures:
    """What was found of a cascade.

    comparison: its base is the cascade.
    calls: per query, over all settings, with its interval.
    looks: false where the cascade is the router.
    settings: from cheap to good.
    tasks: empty where there is one only.
    """

    comparison: Comparison
    looks: bool
    settings: tuple[SettingLine, ...]
    tasks: tuple[TaskOfCascade, ...]
    calls: Figure


def played(router: Router, evaluated: EvaluatedTable, x: FloatArray) -> tuple[Played | None, str]:
    """Return (what a cascade is played with, or why it cannot be). x: (n, d) embeddings of the queries."""
    evidence, table = router.looks, evaluated.table
    if evidence is None:
        return None, "the router has no cascade: train it with one (--cascade) on a table with answers"
    if table.responses is None or not len(table.responses):
        return (
            None,
            "the table has no answers (column response): its cascade cannot be evaluated here, and would be the router",
        )
    forecast, outcomes = evaluated.forecast, evaluated.outcomes
    seen = AnswerFeatures.read(table.queries, table.responses, table.output_tokens, forecast.tokens)
    usable = outcomes.seen & seen.there & np.isfinite(outcomes.cost)
    rows = usable.any(axis=1)
    if not rows.all():
        return (
            None,
            (
                f"{int((~rows).sum())} queries have no graded answer that can be priced: the cascade is not evaluated"
                " on this table"
            ),
        )
    spend = spend_of(np.where(usable, forecast.cost, np.nan))
    spend = spend[np.isfinite(spend)]
    if not len(spend):
        return None, "no arm has answers on 90 % of the queries: the cascade is not evaluated on this table"
    dollars = np.geomspace(3 * max(float(spend.min()), 1e-12), 30 * float(spend.max()), SETTINGS)
    ratio = ratios(evidence, x, forecast.quality, seen)
    used = table.output_tokens
    given = (forecast.quality, forecast.cost, forecast.tokens)
    return Played(evidence, *given, seen, ratio, outcomes, used, usable, dollars, router.resumes), ""


def spend_of(expected: FloatArray) -> FloatArray:
    """Return (arms,) mean forecast cost; infinite where an arm has none."""
    known = np.isfinite(expected)
    count = known.sum(axis=0)
    return np.where(
        count > 0.9 * len(expected), np.where(known, expected, 0.0).sum(axis=0) / np.maximum(count, 1), np.inf
    )


def cascades(
    router: Router,
    evaluated: EvaluatedTable,
    x: FloatArray,
    beside: Mapping[str, Method | Sequence[Method]],
    resamples: int,
    seed: int,
) -> tuple[dict[str, Method], CascadeFigures | None, tuple[str, ...]]:
    """Return (methods by name, figures, notes) of a router's cascade on the queries of a table.

    x: (n, d) their embeddings.
    beside: the same router without a look (`router`), and what it is shown beside. The settings are twelve values of a
        correct answer, spread by the forecast costs. Without evidence, or a table without answers, there is no method,
        and the note says so.
    """
    from r2router.evaluation.cascade_rivals import chosen_rivals, played_rivals

    game, why = played(router, evaluated, x)
    if game is None:
        return {}, None, (why,)
    runs = [game.play(Terms(usd)) for usd in game.dollars.tolist()]
    chosen, notes = chosen_rivals(game)
    others: dict[str, Method] = {**chosen, **{name: game.settings(made) for name, made in played_rivals(game).items()}}
    mine = game.settings(runs)
    bounds = {name: beside[name] for name in ("fixed", "fixed known", "oracle") if name in beside}
    found = {CASCADE: mine, ROUTING: beside["router"], **others, **bounds}
    figures = figures_of(game, runs, found, evaluated.tasks, min(resamples, _DRAWS), seed)
    return (
        {CASCADE: mine, **others},
        figures,
        (_words(figures.settings), *notes, *([] if game.evidence.plan.active else [_IDLE])),
    )


def figures_of(
    game: Played,
    runs: list[CascadeRuns],
    found: Mapping[str, Method | Sequence[Method]],
    tasks: Sequence[str],
    resamples: int,
    seed: int,
) -> CascadeFigures:
    """Return what was found.

    found: the cascade, routing alone, and others.
    runs: of the cascade.
    """
    comparison = compare(found, game.outcomes, resamples, seed, base=CASCADE)
    lines = tuple(_line(game, run, usd) for run, usd in zip(runs, game.dollars.tolist(), strict=True))
    calls = mean("calls", np.mean([run.calls for run in runs], axis=0), resamples, seed)
    return CascadeFigures(comparison, game.evidence.plan.active, lines, _by_task(tasks, found, game, runs, seed), calls)


_DRAWS = 200
_IDLE = "looking at answers did not pay in training: this cascade does not look, and is the router"


@dataclass(frozen=True, eq=False)
class _Marks:
    """(n,) what went wrong on each query, as `SettingLine` has it."""

    wrong: BoolArray
    needless: BoolArray
    worse: BoolArray


def _marks(game: Played, run: CascadeRuns) -> _Marks:
    each = np.arange(len(run.accepted))
    got = game.right[each, run.accepted]
    asked = np.where(run.arms >= 0, np.take_along_axis(game.right, np.maximum(run.arms, 0), axis=1), -1.0)
    calls, maximum = run.calls, game.evidence.plan.max_steps if game.evidence.plan.active else 1
    left = game.usable.copy()
    for arm in run.arms.T:
        left[each[arm >= 0], arm[arm >= 0]] = False
    better = np.where(left, game.right, -1.0).max(axis=1)
    before = np.where(np.arange(asked.shape[1]) < calls[:, None] - 1, asked, -1.0).max(axis=1)
    return _Marks(
        wrong=(better > got + _SAME) & (calls < maximum),
        needless=(calls > 1) & (before >= got - _SAME),
        worse=got < asked.max(axis=1) - _SAME,
    )


_SAME = 1e-9


def _line(game: Played, run: CascadeRuns, usd: float) -> SettingLine:
    each = np.arange(len(run.accepted))
    marks = _marks(game, run)
    latency = game.seen.latency
    whole = run.paid(latency)
    timed = np.isfinite(whole)
    known = bool(timed.mean() > _TIMED)
    return SettingLine(
        usd=usd,
        cost=float(run.paid(np.nan_to_num(game.outcomes.cost), game.resumes, game.used).mean()),
        quality=float(game.right[each, run.accepted].mean()),
        calls=float(run.calls.mean()),
        first_s=float(latency[each, run.arms[:, 0]][timed].mean()) if known else np.nan,
        all_s=float(whole[timed].mean()) if known else np.nan,
        late_s=float(np.quantile(whole[timed], 0.95)) if known else np.nan,
        wrong=float(marks.wrong.mean()),
        needless=float(marks.needless.mean()),
        worse=float(marks.worse.mean()),
    )


_TIMED = 0.9  # share of the queries whose calls must all have a time


def _by_task(
    tasks: Sequence[str],
    found: Mapping[str, Method | Sequence[Method]],
    game: Played,
    runs: list[CascadeRuns],
    seed: int,
) -> tuple[TaskOfCascade, ...]:
    if len(set(tasks)) < 2:
        return ()
    names = np.array(tasks)
    marks = [_marks(game, run) for run in runs]
    lines = []
    calls, wrong, needless = (
        np.mean(values, axis=0)
        for values in ([r.calls for r in runs], [m.wrong for m in marks], [m.needless for m in marks])
    )
    for name in sorted(set(tasks)):
        rows: IntArray = np.flatnonzero(names == name)
        gain = Figure("area", np.nan)
        if len(rows) >= MIN_QUERIES and len(game.outcomes.fixed_arms(rows)):
            pair = {name: found[name] for name in (CASCADE, ROUTING)}
            gain = compare(pair, game.outcomes, _DRAWS, seed, base=CASCADE, rows=rows).differences[ROUTING]["area"]
        lines.append(TaskOfCascade(name, len(rows), gain, *(float(v[rows].mean()) for v in (calls, wrong, needless))))
    return tuple(lines)


def _words(lines: tuple[SettingLine, ...]) -> str:
    calls = [line.calls for line in lines]
    worse, needless, wrong = (
        np.mean([getattr(line, name) for line in lines]) for name in ("worse", "needless", "wrong")
    )
    return (
        f"cascade, over its {len(lines)} settings from cheap to good: {calls[0]:.1f} to {calls[-1]:.1f} calls per"
        f" query; stops though an arm that was not asked had a better answer on {wrong:.1%} of the queries; asks on"
        f" though an answer that it had was as good on {needless:.1%}; accepts a worse answer than one it has seen on"
        f" {worse:.1%}"
    )


def truth_of(game: Played) -> tuple[Evidence, FloatArray]:
    """Return (evidence, ratios) of somebody who sees how good every answer is that was asked for, and infers from it
    what others may be.
    """
    plan = msgspec.structs.replace(game.evidence.plan, active=True)
    sure = np.where(
        game.right >= 1 - MIN_PROBABILITY, _SURE, np.where(game.right <= MIN_PROBABILITY, -_SURE, log_odds(game.right))
    )
    return replace(game.evidence, plan=plan), sure - log_odds(np.nan_to_num(game.quality))


_SURE = 30.0  # log odds
