"""Estimates what a router would save on a user's own prompts. Nothing is called."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from r2router.encode import count_tokens, embed, load_encoder
from r2router.errors import ConfigError, DataError, expect
from r2router.figure import Figure
from r2router.pool.names import find_arms
from r2router.predict.domain_stats import THIN
from r2router.prompts.promise import (
    UNKNOWN,
    Mix,
    Promises,
    cost_figure,
    gain_figure,
    measured,
    promise_of,
    quality_figure,
    saving_figure,
)
from r2router.prompts.read import Prompts, given_prompts
from r2router.prompts.ways import Way, best_within, cheapest, fixed, small_pools
from r2router.report.findings import jsonable
from r2router.router.router import Router
from r2router.starter import starter
from r2router.types import Arm, BoolArray, FloatArray, Forecast, IntArray, NumberArray, Prices, Progress

if TYPE_CHECKING:
    from r2router.report.findings import Findings

SAMPLE = 5_000
"""Prompts that are judged; of more, so many are drawn."""

NOW, ALL, MINE = "now", "all models", "your models"
_ASKED = ("default", "none", "medium", "0")
"""What a request gets where nothing is asked, by the names that providers have for it: the first that a model has."""
_MIN_SHARE = 0.005  # of the prompts that an arm of a way, or a domain, must have to be named


class WayFigures(msgspec.Struct, frozen=True):
    """The figures of one way to answer the prompts, all forecast, with 95 % intervals.

    arms: (arm, share of the prompts), the most used first.
    cost: US dollars per 1,000 requests.
    quality: the mean, from 0 to 1.
    saving: share of today's cost; negative where it costs more.
    gain: quality minus today's.
    met: whether it reaches its aim: today's quality or, at today's cost, that cost.
    """

    name: str
    arms: tuple[tuple[str, float], ...]
    cost: Figure
    quality: Figure
    saving: Figure
    gain: Figure
    met: bool = True


class DomainFigures(msgspec.Struct, frozen=True):
    """Prompts of one domain.

    share: of all prompts.
    graded: how many graded queries the domain has.
    routed: the figures of the router in the headline.
    """

    domain: str
    share: float
    graded: int
    now: WayFigures
    routed: WayFigures


class Savings(msgspec.Struct, frozen=True):
    """What prompts would cost and how good the answers would be, with today's model and with a router.

    prompts: how many were examined.
    read: how many there are.
    now: today's arm.
    ways: today's, the router over all models and over one's own, and the best small pools, each at today's quality.
    at_cost: the routers at today's cost instead.
    domains: parts of the prompts.
    unknown: share of prompts unlike anything graded.
    little: share of prompts of kinds with few graded queries.
    left_out: rows without a prompt.
    """

    prompts: int
    read: int
    now: str
    ways: tuple[WayFigures, ...]
    at_cost: tuple[WayFigures, ...]
    domains: tuple[DomainFigures, ...]
    unknown: float
    little: float
    left_out: tuple[tuple[str, int], ...] = ()
    notes: tuple[str, ...] = ()
    source: tuple[str, str] | None = None
    seed: int = 0

    @property
    def routed(self) -> WayFigures:
        """The router over one's own models where those are fewer than all, else over all."""
        return next((way for way in reversed(self.ways) if way.name in (ALL, MINE)), self.ways[0])

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON types; a number that is not known is null."""
        return jsonable(self)

    def findings(self, command: str = "") -> Findings:
        """Return the same for drawing: a web page, plots.

        command: the command line.
        """
        from r2router.prompts.page import findings_of

        return findings_of(self, command)

    def __str__(self) -> str:
        from r2router.report import Style
        from r2router.report.findings_text import report_text

        return report_text(self.findings(), Style(100))


def savings(  # noqa: PLR0913 - whose models, and which prompts, by name
    prompts: str | Path | Prompts | Iterable[Any],
    now: str,
    router: Router | None = None,
    *,
    models: str | Iterable[str] | None = None,
    providers: str | Iterable[str] | None = None,
    like: Mapping[str, str | tuple[str, Prices]] | None = None,
    column: str | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
    vectors: FloatArray | None = None,
    progress: Progress | None = None,
) -> Savings:
    """Estimate what these prompts would cost and how good the answers would be, with today's model and with a router.

    prompts: a file (see `read_prompts`), or a list of texts or chats.
    now: the model that is used today, by any of its names, or one of its arms (`gpt-5-mini@high`).
    router: by default the starter router.
    models, providers, like: the models that you have, see `Router.only`; small pools are then made of these.
    sample: the maximum number of prompts; from more, so many are drawn at random.
    vectors: (n, dim) embeddings of the prompts, where they exist.

    Nothing is called. Raises `DataError`, `ConfigError` for an unknown model, `MissingPrice`, `EncoderError`.
    """
    expect("now", now, str, "the name of the model that is used now, as in 'gpt-4o'")
    expect("sample", sample, int, "a whole number")
    if sample < 1:
        raise ConfigError(f"sample is {sample}; judge at least one prompt")
    found = given_prompts(prompts, column)
    whole = (starter() if router is None else router).only(like=like)
    arm, notes = arm_of_now(whole, now)
    mine = whole.only(models, providers) if models is not None or providers is not None else None
    rows = _drawn(len(found), sample, seed)
    texts = [found.texts[i] for i in rows]
    if vectors is not None and np.shape(vectors)[:1] != (len(found),):
        raise DataError(
            f"vectors have shape {np.shape(vectors)}; there must be one row for each of the {len(found):,} prompts"
        )
    x = embed(load_encoder(whole.encoder), texts, progress) if vectors is None else np.asarray(vectors)[rows]
    counts = np.asarray(count_tokens(texts), dtype=np.float64) + _before(found, rows)
    if len(rows) < len(found):
        notes.append(f"{len(rows):,} of the {len(found):,} prompts were drawn (seed {seed})")
    given = PromptForecasts.of(whole, x, counts, arm, mine)
    if given.too_long:
        notes.append(f"{given.too_long:,} prompts are longer than the context of {arm.model}")
    return given.savings(found, notes, seed)


def arm_of_now(router: Router, now: str) -> tuple[Arm, list[str]]:
    """Return (the arm that a name means, notes). Among several budgets it is the one of a request without settings.
    Raises `ConfigError`.
    """
    arms = find_arms(router.pool, now)
    models = sorted({arm.model for arm in arms})
    if len(models) > 1:
        raise ConfigError(
            f"now is {now!r}, which fits {len(models)} models: name the one that is used now, as in {models[0]}"
        )
    if len(arms) == 1:
        return arms[0], []
    usual = next((arm for word in _ASKED for arm in arms if arm.budget == word), None)
    if usual is None:
        raise ConfigError(f"now is {now!r}, which was measured under several budgets: name one of {', '.join(arms)}")
    others = ", ".join(arm for arm in arms if arm != usual)
    return usual, [f"{now} is taken as {usual}; to compare with another budget name one of {others}"]


def _drawn(n: int, maximum: int, seed: int) -> IntArray:
    return np.arange(n) if n <= maximum else np.sort(np.random.default_rng(seed).choice(n, maximum, replace=False))


def _before(found: Prompts, rows: IntArray) -> NumberArray:
    """Count the tokens of what is sent before each prompt."""
    words = [found.before[i] for i in rows]
    counts = np.zeros(len(words))
    if some := [i for i, text in enumerate(words) if text]:
        counts[some] = count_tokens([words[i] for i in some])
    return counts


@dataclass(frozen=True, eq=False)
class PromptForecasts:
    """Forecasts of n prompts, and the arms that may be chosen.

    now: column of today's arm.
    columns: name -> (k,) arms that a router may choose.
    domains: (n,) the domain of each prompt, `UNKNOWN` where nothing is known.
    graded: domain -> queries that were graded.
    too_long: prompts that fill the context of today's model.
    """

    forecast: Forecast
    now: int
    columns: dict[str, IntArray]
    domains: list[str]
    graded: dict[str, int]
    too_long: int = 0
    kept: Promises | None = None

    @classmethod
    def of(
        cls, router: Router, x: FloatArray, counts: NumberArray, now: Arm, mine: Router | None = None
    ) -> PromptForecasts:
        """Forecast (n, dim) embeddings of prompts with these token counts."""
        forecast = router.forecast_vectors(x, counts)
        fits = router.usable(counts=np.asarray(counts, dtype=np.float64))
        at = router.arms.index(now)
        free = router.usable()  # without the prompts' lengths: models that cannot be called
        may = np.ones(len(router.arms), dtype=np.bool_) if free is None else free
        long: BoolArray = np.zeros(forecast.cost.shape, dtype=np.bool_)
        if fits is not None:
            long = ~np.broadcast_to(fits, forecast.cost.shape) & may
        too_long = int(long[:, at].sum())
        long[:, at] = False
        known = np.isfinite(forecast.quality).all(axis=0) & np.isfinite(forecast.cost).all(axis=0)
        columns: dict[str, IntArray] = {ALL: np.flatnonzero(may & known)}
        if mine is not None:
            columns[MINE] = np.array([i for i in columns[ALL] if router.arms[i] in mine.pool.index], dtype=np.intp)
        for own in columns.values():  # what is too long for all of them is priced as if it were not
            long[np.ix_(long[:, own].all(axis=1), own)] = False
        barred = msgspec.structs.replace(forecast, cost=np.where(long, np.inf, forecast.cost))
        return cls(barred, at, columns, *domains_of(router, forecast), too_long)

    @property
    def arms(self) -> tuple[Arm, ...]:
        return self.forecast.arms

    @property
    def promises(self) -> Promises:
        return measured() if self.kept is None else self.kept

    def target(self, rows: IntArray | slice = slice(None)) -> float:
        """Return the forecast quality at which a router's choices are as good as today's arm. It is higher than today's
        forecast, as choosing the best forecast overstates quality.
        """
        flattery = self.promises.fixed.quality.bias - self.promises.routed.quality.bias
        return float(self.forecast.quality[rows, self.now].mean()) + flattery

    def ways(self, pools: bool = True) -> list[Way]:
        """Today's arm, and what reaches its quality at the least cost: a router over each set of arms, and the best
        small pools.
        """
        q, c = self.forecast.quality, self.forecast.cost
        target = self.target()
        found = [
            fixed(NOW, self.now, len(q)),
            *(cheapest(name, q, c, own, target) for name, own in self.columns.items() if len(own)),
        ]
        of = list(self.columns.values())[-1]
        small = small_pools(q, c, of, target) if pools and len(of) else []
        return [*found, *(cheapest(pool_name(len(pool)), q, c, pool, target) for pool in small)]

    def at_cost(self) -> list[Way]:
        """Return the best quality at today's cost, with a router over each set of arms."""
        q, c = self.forecast.quality, self.forecast.cost
        spent = float(c[:, self.now].mean())
        return [best_within(name, q, c, own, spent) for name, own in self.columns.items() if len(own)]

    def figures(self, way: Way, rows: IntArray | slice = slice(None)) -> WayFigures:
        """Return the figures of a way on some of the prompts."""
        arm = way.arm[rows]
        index = np.arange(len(self.domains))[rows]
        q, c = self.forecast.quality[index, arm], self.forecast.cost[index, arm]
        q_now, c_now = self.forecast.quality[index, self.now], self.forecast.cost[index, self.now]
        other = arm != self.now
        moved = float(max(other.mean(), c_now[other].sum() / max(c_now.sum(), 1e-300)))
        kept, mix = self.promises, Mix.of([self.domains[i] for i in index])
        promise = promise_of(kept, moved, routed=way.name != NOW)
        spent, before = float(c.mean()), float(c_now.mean())
        ratio = spent / before if before > 0 else (1.0 if spent == 0 else math.inf)
        counts = Counter(arm.tolist()).most_common()
        return WayFigures(
            name=way.name,
            arms=tuple((str(self.arms[a]), count / len(arm)) for a, count in counts if count >= _MIN_SHARE * len(arm)),
            cost=cost_figure("US dollars per 1,000 requests", 1000 * spent, promise, mix, kept),
            quality=quality_figure("quality", float(q.mean()), promise, mix, kept),
            saving=saving_figure("saving", ratio, moved, promise, mix, kept)
            if math.isfinite(ratio)
            else Figure("saving", -math.inf, n=mix.n),
            gain=gain_figure("gain", float(q.mean() - q_now.mean()), moved, promise, mix, kept),
            met=way.met,
        )

    def savings(self, found: Prompts, notes: Sequence[str], seed: int) -> Savings:
        """Compute everything."""
        ways = self.ways()
        shown = next(way for way in reversed(ways) if way.name in (ALL, MINE, NOW))
        parts = []
        names = np.array(self.domains)
        for domain, count in Counter(self.domains).most_common():
            rows = np.flatnonzero(names == domain)
            now, routed = self.figures(ways[0], rows), self.figures(shown, rows)
            parts.append(DomainFigures(domain, count / len(names), self.graded.get(domain, 0), now, routed))
        return Savings(
            prompts=len(names),
            read=len(found),
            now=str(self.arms[self.now]),
            ways=tuple(map(self.figures, ways)),
            at_cost=tuple(map(self.figures, self.at_cost())),
            domains=tuple(parts),
            unknown=float(np.mean(names == UNKNOWN)),
            little=float(np.mean([0 < self.graded.get(d, THIN) < THIN for d in self.domains])),
            left_out=found.left_out,
            notes=(*found.notes, *notes),
            source=found.source,
            seed=seed,
        )


def domains_of(router: Router, forecast: Forecast) -> tuple[list[str], dict[str, int]]:
    """Return ((n,) the domain of each prompt, domain -> graded queries). A prompt unlike everything, or of a kind never
    graded, is `UNKNOWN`.
    """
    known = router.domain_stats
    if known is None or not len(forecast.domain):
        return [UNKNOWN if not familiar else "" for familiar in forecast.familiar], {}
    graded = {name: int(n) for name, n in zip(known.domains, known.graded, strict=True)}
    names = [known.domains[d] if familiar and known.graded[d] else UNKNOWN
             for d, familiar in zip(forecast.domain, forecast.familiar, strict=True)]  # fmt: skip
    return names, graded


def pool_name(arms: int) -> str:
    """Return the name of the best small pool."""
    return f"best pool of {arms}"
