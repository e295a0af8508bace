"""What looking at answers is worth: a cascade beside routing alone, and beside other ways to ask several arms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from r2router.cascade.replay import AnswerFeatures, CascadeRuns
from r2router.cascade.value import Terms
from r2router.errors import DataError
from r2router.evaluation.cascade_rivals import chosen_rivals, played_rivals
from r2router.evaluation.cascade_sections import section_of, sentence
from r2router.evaluation.cascades import CASCADE, ROUTING, Played, figures_of, played
from r2router.evaluation.contenders import attempt, beside, comparable, needed
from r2router.evaluation.experiment import Study
from r2router.evaluation.methods import OURS, ours
from r2router.evaluation.router_forecasts import forecast_table
from r2router.evaluation.tables_and_plots import MEANINGS, deferral_plot, grid, signed
from r2router.figure import Figure
from r2router.metrics.score import Method, compare
from r2router.report.findings import Findings, Section
from r2router.router.recipe import Recipe
from r2router.types import IntArray

QUESTION = "Is it worth looking at an answer before a better one is paid?"

_SEEDS = 2  # every fold of a seed trains a cascade, with a cross-validation of its own
_NO_ANSWERS = "The table has no answers (column response): there is nothing to look at, and a cascade is the router."


def run(study: Study) -> Findings:
    """A cascade is trained without each fold, and plays it. Where the table has no answers, the router alone."""
    folds = study.plan.folds_of(study.data)
    if study.data.table.responses is None or not len(study.data.table.responses):
        return _alone(study, folds)
    made, notes = list[_Seed](), list[str]()
    for number, fold in enumerate(folds[:_SEEDS]):
        made.append(_seed(study, fold, number, notes))
    kept = np.flatnonzero(np.logical_and.reduce([one.kept for one in made]))
    if not len(kept):
        raise DataError(
            f"no cascade can be judged on this table: {notes[0] if notes else 'no query has graded answers'}"
        )
    data = study.data if len(kept) == len(study.data) else study.data.take(kept)
    games = [one.game.take(np.searchsorted(np.flatnonzero(one.kept), kept)) for one in made]
    runs = [{name: [_taken(r, one, kept) for r in several] for name, several in one.runs.items()} for one in made]
    found: dict[str, Sequence[Method]] = {
        name: [game.settings(mine[name]) for game, mine in zip(games, runs, strict=True)]
        for name in runs[0]
        if all(name in r for r in runs)
    }
    chosen, said = zip(*(chosen_rivals(game) for game in games), strict=True)
    found |= {name: [one[name] for one in chosen] for name in chosen[0] if all(name in one for one in chosen)}
    found |= beside(data, [fold[kept] for fold in folds[:_SEEDS]])
    figures = figures_of(games[0], runs[0][CASCADE], found, data.table.tasks, study.plan.resamples, 0)
    active, trained = (sum(getattr(one, name) for one in made) for name in ("active", "trained"))
    looks = f"In {active} of {trained} trainings looking paid on left-out queries" + (
        "." if active == trained else "; in the others the cascade is the router."
    )
    return study.findings(
        "cascade",
        "Looking at answers",
        QUESTION,
        [
            sentence(replace(figures, looks=figures.looks or active > 0)),
            *_against(figures.comparison.differences),
            looks,
        ],
        [section_of(figures, "Cascades and other ways to ask several arms")],
        notes=[
            *dict.fromkeys(notes),
            *said[0],
            f"{len(made)} of the seeds are used; lines of settings and tasks are of the first",
        ],
    )


_ARTICLES = {"cascade routing": "", "threshold cascade": "a "}


def _against(differences: Mapping[str, Mapping[str, Figure]]) -> list[str]:
    """Compare ours with each other way that has a curve, in one sentence."""
    others = {"fixed", "fixed known", "oracle", "looking oracle", ROUTING}
    areas = {name: row["area"] for name, row in differences.items() if name not in others}
    words = [
        f"{signed(area)} against {_ARTICLES.get(name, 'the ')}{name}"
        for name, area in areas.items()
        if not math.isnan(area.value)
    ]
    return [f"The cascade's area over log cost: {'; '.join(words)}."] if words else []


def _alone(study: Study, folds: Sequence[IntArray]) -> Findings:
    tried = needed(attempt([ours(study.learner)], study.data, folds, study.progress)[0])
    found = comparable([tried], study.data, folds)
    result = compare(found, study.data.outcomes, study.plan.resamples, 0, base=OURS)
    parts = (
        deferral_plot(result, list(found), study.data.outcomes, "Routing alone"),
        grid("Figures", result.figures, ("area", "gap_closed", "peak", "cost_at_keep"), about=MEANINGS),
    )
    return study.findings("cascade", "Looking at answers", QUESTION, [_NO_ANSWERS], [Section("The router", parts)])


@dataclass(frozen=True, eq=False)
class _Seed:
    """One seed: the whole table as it was played in parts.

    game, runs: of the queries that are `kept`, (n,).
    trained, active: cascades.
    """

    game: _Game
    runs: dict[str, list[CascadeRuns]]
    kept: np.ndarray
    trained: int
    active: int


class _Game(Played):
    """Several parts as one: it plays nothing itself any more."""

    def take(self, rows: IntArray) -> _Game:
        """Take some queries."""
        arrays = {name: getattr(self, name)[rows] for name in ("quality", "cost", "tokens", "ratio", "used", "usable")}
        return replace(self, **arrays, seen=self.seen.take(rows), outcomes=self.outcomes.take(rows))


def _seed(study: Study, fold: IntArray, number: int, notes: list[str]) -> _Seed:
    data, parts = study.data, list[tuple[IntArray, Played, dict[str, list[CascadeRuns]]]]()
    trained = active = 0
    for held in range(int(fold.max()) + 1):
        rest, own = np.flatnonzero(fold != held), np.flatnonzero(fold == held)
        recipe = Recipe(learner=study.learner, cascade=True, resamples=0, seed=number, digest=False)
        router = recipe.fit(data.table.take(rest), data.x[rest])
        evaluated = forecast_table(router, data.table.take(own), data.x[own])
        game, why = played(router, evaluated, np.asarray(data.x[own], dtype=np.float32)[evaluated.rows])
        trained += 1
        if game is None:
            notes.append(why)
            continue
        active += game.evidence.plan.active
        dollars = game.dollars.tolist()
        runs = {
            CASCADE: [game.play(Terms(usd)) for usd in dollars],
            ROUTING: [game.play(Terms(usd), maximum=1) for usd in dollars],
            **played_rivals(game),
        }
        parts.append((own[evaluated.rows], game, runs))
        if study.progress is not None:
            study.progress(f"training cascades, seed {number}", held + 1, int(fold.max()) + 1)
    if not parts:
        raise DataError(
            f"no cascade can be judged on this table: {notes[0] if notes else 'no query has graded answers'}"
        )
    order = np.argsort(np.concatenate([rows for rows, _, _ in parts]), kind="stable")
    kept = np.zeros(len(data), dtype=np.bool_)
    kept[np.concatenate([rows for rows, _, _ in parts])] = True
    names = [name for name in parts[0][2] if all(name in runs for _, _, runs in parts)]
    joined = {
        name: [_joined([runs[name][at] for _, _, runs in parts], order) for at in range(len(parts[0][1].dollars))]
        for name in names
    }
    return _Seed(_whole([game for _, game, _ in parts], order), joined, kept, trained, int(active))


def _whole(games: Sequence[Played], order: IntArray) -> _Game:
    first = max(games, key=lambda game: game.evidence.plan.active)
    arrays = {
        name: np.concatenate([getattr(game, name) for game in games])[order]
        for name in ("quality", "cost", "tokens", "ratio", "used", "usable")
    }
    seen = AnswerFeatures(
        *(np.concatenate([getattr(game.seen, f.name) for game in games])[order] for f in fields(AnswerFeatures))
    )
    quality, cost = (
        np.concatenate([getattr(game.outcomes, name) for game in games])[order] for name in ("quality", "cost")
    )
    outcomes = replace(first.outcomes, quality=quality, cost=cost)
    dollars = np.exp(np.mean([np.log(game.dollars) for game in games], axis=0))
    return _Game(first.evidence, seen=seen, outcomes=outcomes, dollars=dollars, resumes=first.resumes, **arrays)


def _joined(runs: Sequence[CascadeRuns], order: IntArray) -> CascadeRuns:
    maximum = max(run.arms.shape[1] for run in runs)
    arms = [np.pad(run.arms, ((0, 0), (0, maximum - run.arms.shape[1])), constant_values=-1) for run in runs]
    accepted, chance = (np.concatenate([getattr(run, name) for run in runs])[order] for name in ("accepted", "chance"))
    return CascadeRuns(np.concatenate(arms)[order], accepted, chance)


def _taken(run: CascadeRuns, seed: _Seed, kept: IntArray) -> CascadeRuns:
    rows = np.searchsorted(np.flatnonzero(seed.kept), kept)
    return CascadeRuns(run.arms[rows], run.accepted[rows], run.chance[rows])
