"""A router of the models that a person has: some arms of another router, and stand-ins for models that nobody
measured.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec
import numpy as np

from r2router.errors import ArtifactError, ConfigError, MissingPrice, expect
from r2router.pool.names import find_arms, find_model, find_provider
from r2router.pool.pool import Pool
from r2router.predict import Predictor
from r2router.predict.input_tokens import InputTokens
from r2router.router.learners import predictor_class
from r2router.text import listing
from r2router.types import Arm, FloatArray, Forecast, IntArray, Prices

if TYPE_CHECKING:
    from r2router.router.router import Router

_BASE = "base."
_PRICED = re.compile(r"(?P<model>.+):(?P<input>[^:/]+)/(?P<output>[^:/]+)")
LIKE = "NAME=MODEL:INPUT/OUTPUT"
"""How a stand-in is written: my-llm=qwen3-32b:0.1/0.4, prices in US dollars per million tokens."""


class SelectedPredictor:
    """Some arms of another predictor; one may stand twice.

    columns: (k,) which arms of the base.
    doubt: (k,) standard deviation that is added to the spread of each (in quadrature).
    """

    kind: ClassVar[str] = "selected"

    def __init__(self, arms: tuple[Arm, ...], base: Predictor, columns: IntArray, doubt: FloatArray) -> None:
        if (
            columns.shape != (len(arms),)
            or doubt.shape != (len(arms),)
            or not ((columns >= 0) & (columns < len(base.arms))).all()
        ):
            raise ArtifactError("weights: the selected arms are not among those of the base: the artifact is damaged")
        self.arms = arms
        self.base = base
        self.columns = columns
        self.doubt = doubt

    @classmethod
    def of(cls, arms: tuple[Arm, ...], predictor: Predictor, columns: IntArray, doubt: FloatArray) -> SelectedPredictor:
        """Select arms of a predictor that may be a selection itself."""
        if isinstance(predictor, SelectedPredictor):
            return cls(arms, predictor.base, predictor.columns[columns], np.hypot(predictor.doubt[columns], doubt))
        return cls(arms, predictor, columns, doubt)

    def predict(self, x: FloatArray) -> Forecast:
        found = self.base.predict(x)
        quality, tokens, spread = (a[:, self.columns] for a in (found.quality, found.tokens, found.spread))
        return Forecast.of(self.arms, quality, tokens, np.hypot(spread, self.doubt) if self.doubt.any() else spread)

    def arrays(self) -> dict[str, Any]:
        names = {"kind": self.base.kind, "arms": "\n".join(self.base.arms)}
        own: dict[str, Any] = {name: np.frombuffer(text.encode(), dtype=np.uint8) for name, text in names.items()}
        own |= {"columns": self.columns.astype(np.int64), "doubt": self.doubt}
        return own | {_BASE + name: value for name, value in self.base.arrays().items()}

    @classmethod
    def from_arrays(cls, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> Self:
        texts = {
            name: bytes(np.asarray(arrays.get(name, ()), dtype=np.uint8)).decode("utf-8", "replace")
            for name in ("kind", "arms")
        }
        if texts["kind"] in ("", cls.kind) or not texts["arms"] or not {"columns", "doubt"} <= arrays.keys():
            raise ArtifactError(
                "weights: the selected arms lack their kind, arms, columns or doubt: the artifact is damaged"
            )
        inner = {name.removeprefix(_BASE): value for name, value in arrays.items() if name.startswith(_BASE)}
        base = predictor_class(texts["kind"]).from_arrays(tuple(map(Arm, texts["arms"].split("\n"))), inner)
        return cls(arms, base, np.asarray(arrays["columns"]).astype(np.intp), np.asarray(arrays["doubt"]))


def only(
    router: Router,
    models: str | Iterable[str] | None = None,
    providers: str | Iterable[str] | None = None,
    like: Mapping[str, str | tuple[str, Prices]] | None = None,
) -> Router:
    """Do the work of `Router.only`."""
    if like:
        router = _with_stand_ins(router, like)
    own = {name for name, _ in router.facts.like}
    wanted = set(router.arms)
    if models is not None:
        names = _names("models", models)
        wanted &= {arm for name in names for arm in find_arms(router.pool, name)}
    if providers is not None:
        found = {find_provider(router.pool, name) for name in _names("providers", providers)}
        wanted &= {arm for arm in router.arms if router.pool[arm.model].provider in found or arm.model in own}
        if not wanted:
            raise ConfigError(f"none of the models is at {listing(sorted(found))}: leave out models or providers")
    if not any(router.pool[arm.model].available for arm in wanted):
        there = sorted({arm.model for arm in wanted})
        raise ConfigError(
            f"no model is left that can be called: {listing(there)} {'is' if len(there) == 1 else 'are'} not available"
        )
    if len(wanted) == len(router.arms):
        return router
    columns = np.array([i for i, arm in enumerate(router.arms) if arm in wanted], dtype=np.intp)
    pool = router.pool.with_arms(wanted)
    like_left = tuple(pair for pair in router.facts.like if pair[0] in {m.id for m in pool.models})
    said = f"It has {len(pool.models)} of the {len(router.pool.models)} models that it was trained on."
    facts = msgspec.structs.replace(
        router.facts, promise="", figures=(), folds=0, like=like_left, limits=(*router.facts.limits, said)
    )
    return _taken(replace(router, facts=facts), pool, columns, np.zeros(len(columns)))


def _names(what: str, given: str | Iterable[str]) -> list[str]:
    expect(what, given, Iterable, "names, as in ['gpt-5-mini']")
    names = given.split(",") if isinstance(given, str) else list(given)
    for name in names:
        expect(what, name, str, "names, as in ['gpt-5-mini']")
    names = [name.strip() for name in names if name.strip()]
    if not names:
        raise ConfigError(f"{what} names nothing: give at least one name")
    return names


def _with_stand_ins(router: Router, like: Mapping[str, str | tuple[str, Prices]]) -> Router:
    """Return the router with models behind its own that take over another one's forecasts."""
    added = []
    columns = list(range(len(router.arms)))
    pairs = dict(router.facts.like)
    for name, given in like.items():
        stand_in, prices = stand_in_of(name, given)
        if any(m.id == name for m in router.pool.models):
            raise ConfigError(
                f"{name!r} is in the pool and was measured: it needs no stand-in (to give it other prices, use"
                " with_pool)"
            )
        other = find_model(router.pool, stand_in)
        added.append(
            msgspec.structs.replace(other, id=name, provider="", upstream=name, usd_per_million=prices, available=True)
        )
        columns += [i for i, arm in enumerate(router.arms) if arm.model == other.id]
        pairs[name] = pairs.get(other.id, other.id)
    pool = Pool([*router.pool.models, *added])
    # as wrong as taking one arm of the pool for another
    doubt = np.zeros(len(columns))
    doubt[len(router.arms) :] = float(np.nanstd(router.prior_quality))
    facts = msgspec.structs.replace(router.facts, like=tuple(pairs.items()))
    return _taken(replace(router, facts=facts), pool, np.array(columns, dtype=np.intp), doubt)


def stand_in_of(name: str, given: str | tuple[str, Prices]) -> tuple[str, Prices]:
    """Return (the model that stands in, prices of the one it stands in for). Raises `ConfigError`, `MissingPrice`."""
    if not isinstance(given, str):
        model, prices = given
        expect("like", prices, Prices, "Prices(input=..., output=...)")
        return model, prices
    match = _PRICED.fullmatch(given)
    if match is None:
        raise MissingPrice(
            f"{name}={given}: no price for {name!r}: write it behind the model, as in {name}={given}:0.1/0.4 (US"
            " dollars per million tokens of input / output; an unknown price is never zero)"
        )
    try:
        usd = [float(match[part]) for part in ("input", "output")]
    except ValueError:
        raise ConfigError(
            f"{name}={given}: {match['input']}/{match['output']} are not prices: write numbers, as in"
            f" {name}=MODEL:0.1/0.4"
        ) from None
    return match["model"], Prices(input=usd[0], output=usd[1])


def _taken(router: Router, pool: Pool, columns: IntArray, doubt: FloatArray) -> Router:
    """Return the router of other columns of its arms, under a pool that has as many."""
    at = columns.tolist()
    factor, overhead = (tuple(getattr(router.input_tokens, name)[i] for i in at) for name in ("factor", "overhead"))
    return replace(
        router,
        pool=pool,
        predictor=SelectedPredictor.of(pool.arms, router.predictor, columns, doubt),
        input_tokens=InputTokens(factor, overhead, router.input_tokens.typical),
        prior_quality=router.prior_quality[columns],
        prior_tokens=router.prior_tokens[columns],
        controls=tuple(router.controls[i] for i in at) if router.controls else (),
        domain_stats=None if router.domain_stats is None else router.domain_stats.take(columns),
    )
