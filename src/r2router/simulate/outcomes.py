"""Outcome tables of any size whose truth is known, from a fitted router's own curves and the noise of a real table.

For tests of scale and for tests of learners and metrics against what they should find; never for claims, so that every
such table says in its rows, its notes and on the card of a router trained on it that it is simulated.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from r2router._version import __version__
from r2router.encode import count_tokens, embed, load_encoder
from r2router.errors import DataError, UsageError
from r2router.router.router import Router
from r2router.simulate.arms import MAX_BUDGETS, world
from r2router.simulate.noise import Noise
from r2router.simulate.points import among, remembered
from r2router.table.arrays import simulation_note
from r2router.table.table import Table
from r2router.types import FloatArray, IntArray, Progress

TASK = "simulated"
_BLOCK = 2_048  # queries made at once
_COUNT_SD = 0.5  # of the log of a query's length, where no real table shows it
_ORDERED_BY = 1_000  # queries by which the arms of a model are put in order


@dataclass(frozen=True, slots=True, eq=False)
class Simulated:
    """A simulated table and what is true in it.

    table: the outcomes.
    vectors: (n, d) float32, the embeddings of its queries.
    quality, tokens: (n, arms) the expected quality and the expected output tokens of every cell.
    noise: how the outcomes scatter around them.
    """

    table: Table
    vectors: FloatArray
    quality: FloatArray
    tokens: FloatArray
    noise: Noise

    @property
    def exact(self) -> Table:
        """The same table without noise: every outcome is the expected one."""
        made = tuple(f"{text}; expected values, no noise" for text in self.table.simulations)
        notes = (simulation_note("all rows", made),)
        return replace(self.table, quality=self.quality, output_tokens=self.tokens, simulations=made, notes=notes)


def simulate(
    router: Router,
    queries: int,
    *,
    seed: int = 0,
    table: Table | None = None,
    vectors: FloatArray | None = None,
    models: int | None = None,
    budgets: int | None = None,
    progress: Progress | None = None,
) -> Simulated:
    """Outcomes of `queries` queries that nobody asked, as a router forecasts them and with noise around its forecasts.

    table: a real one, whose tasks, lengths of queries and noise are taken (`Noise.measured`); without it, `Noise()`.
    vectors: (m, d) embeddings to draw around: of the table's queries, where there is one. Without any, the table's
        queries are embedded; without a table, new ones are drawn around what the router remembers of its training.
    models: the router's first ones, or perturbed copies beyond them.
    budgets: of every model; by default the router's own arms.
    progress: called as work goes on.

    Equal arguments give equal tables. Raises `UsageError` for numbers out of range, or where the router has no curves
    or remembers no embeddings; `DataError` where the table or the vectors do not fit the router.
    """
    _check_numbers(queries, seed, models, budgets)
    base = _real_vectors(router, table, vectors)
    x, parent = _points(router, base, queries, np.random.default_rng([seed, 0]))
    truth = world(router, x[:_ORDERED_BY], models, budgets, np.random.default_rng([seed, 1]))
    noise = Noise() if table is None or base is None else _noise(router, base, table)
    rng = np.random.default_rng([seed, 2])
    counts = _counts(router, table, parent, queries, rng)
    common = rng.standard_normal((2, queries))
    shape = (queries, len(truth.pool))
    expected, expected_tokens, quality, tokens = (np.empty(shape) for _ in range(4))
    for at in range(0, queries, _BLOCK):
        rows = slice(at, at + _BLOCK)
        expected[rows], expected_tokens[rows] = truth.expected(x[rows])
        quality[rows] = noise.quality(expected[rows], common[0, rows], rng)
        tokens[rows] = noise.tokens(expected_tokens[rows], common[1, rows], rng)
        if progress is not None:
            progress("simulating", min(at + _BLOCK, queries), queries)
    made = _how(router, table, seed)
    nothing = np.full(shape, np.nan)
    outcomes = Table(
        pool=truth.pool,
        query_ids=tuple(f"simulated-{i:06}" for i in range(queries)),
        queries=tuple(f"simulated query {i:06}, which nobody asked" for i in range(queries)),
        tasks=(TASK,) * queries if table is None or parent is None else tuple(table.tasks[i] or TASK for i in parent),
        quality=quality,
        input_tokens=np.rint(counts[:, None] * truth.factor + truth.overhead),
        cached_tokens=nothing,
        output_tokens=tokens,
        reasoning_tokens=nothing,
        cost_usd=nothing,
        notes=(simulation_note("all rows", (made,)),),
        simulations=(made,),
    )
    return Simulated(outcomes, x, expected, expected_tokens, noise)


def _check_numbers(queries: int, seed: int, models: int | None, budgets: int | None) -> None:
    if queries < 1:
        raise UsageError(f"queries is {queries}; simulate at least 1")
    if seed < 0:
        raise UsageError(f"seed is {seed}; it is a whole number of at least 0")
    if models is not None and models < 1:
        raise UsageError(f"models is {models}; simulate at least 1, or leave it out for the router's own")
    if budgets is not None and not 1 <= budgets <= MAX_BUDGETS:
        raise UsageError(
            f"budgets is {budgets}; it lies between 1 and {MAX_BUDGETS}, or leave it out for the router's own"
        )


def _real_vectors(router: Router, table: Table | None, vectors: FloatArray | None) -> FloatArray | None:
    """Return (m, d) embeddings to draw around, of the table's queries where there is one; None where nothing real is
    given.
    """
    if vectors is None:
        if table is None:
            return None
        if not len(table):
            raise DataError("the table has no queries: there is nothing to simulate from")
        return embed(load_encoder(router.encoder), table.queries)
    x = np.asarray(vectors)
    if x.ndim != 2 or x.shape[1] != router.dim or not len(x) or x.dtype.kind != "f" or not np.isfinite(x).all():
        raise DataError(
            f"the embeddings have shape {x.shape} and type {x.dtype}; this router needs finite floats, (m,"
            f" {router.dim})"
        )
    if table is not None and len(x) != len(table):
        raise DataError(
            f"there are {len(x)} embeddings for the {len(table)} queries of the table: give one for each, in its order"
        )
    return x


def _points(
    router: Router, base: FloatArray | None, n: int, rng: np.random.Generator
) -> tuple[FloatArray, IntArray | None]:
    if base is not None:
        return among(base, n, rng)
    if router.in_distribution is None:
        raise UsageError(
            "this router does not remember what its queries look like: give embeddings of real ones to draw around "
            "(vectors=, --vectors FILE.npy) or a table of them (table=, --like FILE)"
        )
    return remembered(router.in_distribution, n, rng), None


def _noise(router: Router, base: FloatArray, table: Table) -> Noise:
    """Return the noise of the arms that the table and the router share."""
    both = [(i, router.pool.index[arm]) for i, arm in enumerate(table.arms) if arm in router.pool.index]
    if not both:
        raise DataError(
            f"the table has none of the router's arms (it has {', '.join(table.arms[:5])}, ...): take a table of its"
            " models"
        )
    theirs, ours = np.array(both).T
    forecast = router.predictor.predict(np.asarray(base, dtype=np.float32))
    quality = table.quality[:, theirs]
    if not np.isfinite(quality).any():
        raise DataError("the table has no quality of any of the router's arms: there is no noise to measure")
    return Noise.measured(quality, table.output_tokens[:, theirs], forecast.quality[:, ours], forecast.tokens[:, ours])


def _counts(
    router: Router, table: Table | None, parent: IntArray | None, n: int, rng: np.random.Generator
) -> FloatArray:
    """Return (n,) tokens that the queries would have, were they real."""
    if table is not None and parent is not None:
        return count_tokens(table.queries)[parent].astype(np.float64)
    return np.maximum(
        np.rint(router.input_tokens.typical * np.exp(_COUNT_SD * rng.standard_normal(n) - _COUNT_SD**2 / 2)), 1.0
    )


def _how(router: Router, table: Table | None, seed: int) -> str:
    trained = ", ".join(name for name, _ in router.facts.sources)
    source = f"{router.facts.title!r}" + (f" (trained on {trained})" if trained else "")
    like = (
        "default noise"
        if table is None
        else f"noise as in {', '.join(name for name, _ in table.sources) or 'a table in memory'}"
    )
    return f"r2router {__version__} simulate, from the curves of {source}, {like}, seed {seed}"
