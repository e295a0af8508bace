"""The table: what every arm gave on every query, as arrays. NaN means "not observed", never zero."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from r2router.errors import DataError, MissingPrice, UsageError, expect
from r2router.pool.pool import Pool, PriceSource
from r2router.text import html_table
from r2router.types import Arm, FloatArray, IntArray

if TYPE_CHECKING:
    import polars as pl

    from r2router.table.responses import AnswerSource, ResponseIndex

ARRAYS = ("quality", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost_usd")
"""The (n, arms) arrays of a table, by the names they have in files too."""


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Outcomes of n queries on the arms of a pool.

    pool: the models, budgets and prices; its arms are the columns of every array.
    query_ids: (n,) ids, each once.
    queries: (n,) the texts that were asked.
    tasks: (n,) labels for reporting; a router never sees them.
    quality: (n, arms) in [0, 1].
    input_tokens: (n, arms) input tokens used.
    cached_tokens: (n, arms) input tokens that the provider read from its cache.
    output_tokens: (n, arms) output tokens used, thinking included.
    reasoning_tokens: (n, arms) output tokens that were thinking.
    cost_usd: (n, arms) US dollars that were really paid, where the source recorded them.
    sources: where the rows came from: (path, sha256) pairs.
    notes: what was unusual in them, in words.
    simulations: how simulated rows were made; empty where all outcomes are real.
    controls: arm -> how its budget was enforced when it was collected (column `control`), where that is recorded.
    held_out: whether this is the test part of a `split`: a router of the other part has not seen it, though both come
        from one file.
    responses: where the answers are in the sources; they are read when needed. None where there are none.
    teaching: (n, others) quality of arms that are not in the pool, as their price is not known: they show how hard a
        query is.
    source_of: (n,) the index in `sources` of the file in which each query comes first; None where that is not known.
    """

    pool: Pool
    query_ids: tuple[str, ...]
    queries: tuple[str, ...]
    tasks: tuple[str, ...]
    quality: FloatArray
    input_tokens: FloatArray
    cached_tokens: FloatArray
    output_tokens: FloatArray
    reasoning_tokens: FloatArray
    cost_usd: FloatArray
    sources: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    simulations: tuple[str, ...] = ()
    held_out: bool = False
    controls: Mapping[str, str] = field(default_factory=dict)
    responses: ResponseIndex | None = None
    teaching: FloatArray | None = None
    source_of: IntArray | None = None

    @classmethod
    def read(  # noqa: PLR0913 - how foreign tables are to be understood, by name
        cls,
        sources: Any,
        pool: Pool | None = None,
        *,
        prices: PriceSource | None = None,
        columns: Mapping[str, str] | None = None,
        judge: str | None = None,
        drop_unknown: bool = False,
        unpriced: Literal["teach", "drop"] | None = None,
        scale: float = 1.0,
        rename: Mapping[str, str] | None = None,
    ) -> Table:
        """Read a table from one or several files (Parquet, CSV, JSON lines, a wide R2-Bench CSV, `hf://`) or data
        frames.

        pool: fixes the arms and their order; without it the pool is inferred: the union of the arms of all sources.
        prices: for an inferred pool, as in `Pool.with_prices`.
        columns: our name -> the source's name, for other layouts: `{"query": "prompt", "quality": "score"}`.
        judge: the judge whose rows to take, where several scored the same cells; `""` for rows without a judge. See
            `judges`.
        drop_unknown: leave out rows whose arm is not in the pool, instead of raising.
        unpriced: what to do with models without a price (or outside the pool): `"teach"` learns from them how hard
            queries are but keeps them out of the pool, `"drop"` leaves them out; by default they raise.
        scale: the quality of a correct answer in the source, where that is not 1: 100 for percentages.
        rename: name of a model or budget in the source -> its name here, for names that hold `@` or white space.

        Raises `DataError` naming source, row and column; `ConfigError` and `MissingPrice` as `Pool` does.
        """
        from r2router.table.rows import Reading, read_rows

        rows = read_rows(sources, Reading(columns or {}, judge, scale, rename or {}))
        given: dict[str, Any] = {"drop_unknown": drop_unknown, "unpriced": unpriced, "answers": rows.answers}
        return cls.from_rows(rows.frame, pool, prices=prices, sources=rows.files, notes=rows.notes, **given)

    @staticmethod
    def judges(sources: Any, *, columns: Mapping[str, str] | None = None) -> dict[str, int]:
        """Count each judge's scored rows in the sources, most first; `""` stands for rows without a judge. Raises
        `DataError`.
        """
        from r2router.table.judges import count_judges
        from r2router.table.rows import Reading, read_all_rows

        return count_judges(read_all_rows(sources, Reading(columns or {})).frame)

    @classmethod
    def from_rows(
        cls,
        rows: pl.DataFrame,
        pool: Pool | None = None,
        *,
        prices: PriceSource | None = None,
        sources: Sequence[tuple[str, str]] = (),
        notes: Sequence[str] = (),
        drop_unknown: bool = False,
        unpriced: Literal["teach", "drop"] | None = None,
        answers: Sequence[AnswerSource | None] = (),
    ) -> Table:
        """Return a table from checked rows of the long format (see `r2router.table.rows.read_rows`)."""
        import polars as pl

        from r2router.table.arrays import FILE, arms_of, controls_of, fit_to_pool, pivot, responses_of, simulations_of

        if unpriced not in {None, "teach", "drop"}:
            raise UsageError(f"unpriced is {unpriced!r}; models without a price 'teach' or 'drop'")
        if pool is None:
            pool = Pool(arms_of(rows))
            if prices is not None:
                pool = _priced(pool, prices, partly=unpriced is not None)
        teach = unpriced == "teach"
        rows, others, dropped = fit_to_pool(rows, pool, drop=drop_unknown or unpriced == "drop", teach=teach)
        queries = pl.concat([rows, others]).unique("query_id", keep="first", maintain_order=True)
        columns: dict[str, Any] = pivot(rows, pool, ARRAYS, queries)
        of = (
            queries[FILE].cast(pl.Int64).to_numpy().astype(np.intp)
            if FILE in queries.columns
            else np.full(1, len(sources))
        )
        if len(of) and of.max() < len(sources):  # a data frame is no source that has a name
            columns["source_of"] = of
        if len(others):
            columns["teaching"] = pivot(others, Pool(arms_of(others)), ["quality"], queries)["quality"]
        made, made_note = simulations_of(rows)
        controls, mixed = controls_of(rows)
        notes = (*made_note, *notes, *dropped, *mixed)
        found = responses_of(rows, pool, answers, columns["query_ids"])
        return cls(
            pool=pool,
            **columns,
            sources=tuple(sources),
            notes=notes,
            simulations=made,
            controls=controls,
            responses=found,
        )

    # -- shape ---------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.query_ids)

    def __repr__(self) -> str:
        seen = np.isfinite(self.quality).mean() if self.quality.size else 0.0
        return (
            f"{'Simulated ' if self.simulated else ''}Table({len(self)} queries x {len(self.arms)} arms, {seen:.0%} of"
            " the cells observed)"
        )

    def _repr_html_(self) -> str:
        rows = []
        for number, arm in enumerate(self.arms):
            quality = self.quality[:, number]
            seen = quality[np.isfinite(quality)]
            rows.append((arm, f"{len(seen):,}", f"{seen.mean():.3f}" if len(seen) else ""))
        return html_table(repr(self), ("arm", "queries with a quality", "mean quality"), rows)

    @property
    def arms(self) -> tuple[Arm, ...]:
        return self.pool.arms

    @property
    def simulated(self) -> bool:
        """Whether any outcome is simulated; no result may be claimed from such a table."""
        return bool(self.simulations)

    def take(self, rows: IntArray | Sequence[int]) -> Table:
        """Return the table of some queries, by row number, in that order."""
        if np.asarray(rows).dtype == np.bool_:
            raise DataError("take() needs row numbers, not a mask: pass numpy.flatnonzero(mask)")
        index = np.asarray(rows, dtype=np.intp)
        columns: dict[str, Any] = {
            k: tuple(getattr(self, k)[i] for i in index) for k in ("query_ids", "queries", "tasks")
        }
        responses = None if self.responses is None else self.responses.take(index)
        teaching = None if self.teaching is None else self.teaching[index]
        source_of = None if self.source_of is None else self.source_of[index]
        arrays = {k: getattr(self, k)[index] for k in ARRAYS}
        return replace(self, **columns | arrays, responses=responses, teaching=teaching, source_of=source_of)

    def check_vectors(self, vectors: FloatArray | None) -> None:
        """Raise `DataError` unless there is a row of finite numbers per query, or where texts are simulated and vectors
        are missing.
        """
        if vectors is None:
            if self.simulated:
                raise DataError(
                    "the table is simulated: its texts mean nothing, so give the embeddings that came with it "
                    "(vectors=, --vectors NAME.vectors.npy)"
                )
        elif np.ndim(vectors) != 2 or len(vectors) != len(self):
            raise DataError(
                f"vectors have shape {np.shape(vectors)}; expected one row for each of the {len(self)} queries"
            )
        elif np.asarray(vectors).dtype.kind not in "fiu":
            raise DataError(f"vectors are of type {np.asarray(vectors).dtype}; an embedding is a row of numbers")
        elif not (finite := np.isfinite(vectors).all(axis=1)).all():
            wrong = f"{int((~finite).sum())} of {len(self)} queries"
            raise DataError(
                f"vectors, row {int(np.argmin(finite)) + 1}: holds a number that is not finite (so do {wrong})"
            )

    def with_arms(self, arms: Sequence[str]) -> Table:
        """Return the table of some arms only, in the pool's order. Raises `DataError` for an arm that it does
        not have.
        """
        unknown = set(arms) - set(self.arms)
        if unknown:
            raise DataError(f"arm {min(unknown)!r} is not in the table: choose among {', '.join(self.arms[:8])}, ...")
        wanted = frozenset(arms)
        keep = np.array([i for i, arm in enumerate(self.arms) if arm in wanted], dtype=np.intp)
        pool = self.pool.with_arms(wanted)
        responses = None if self.responses is None else self.responses.with_arms(keep)
        return replace(self, pool=pool, **{k: getattr(self, k)[:, keep] for k in ARRAYS}, responses=responses)

    def with_pool(self, pool: Pool) -> Table:
        """Return the same outcomes under another pool of the same arms, for example with other prices."""
        if pool.arms != self.pool.arms:
            raise DataError(
                "the pool's arms are not the table's, in the same order: read the table again with that pool"
            )
        return replace(self, pool=pool)

    def split(self, test: float = 0.2, seed: int = 42) -> tuple[Table, Table]:
        """Split into (train, test) by query, never by row; equal texts and near-duplicates (`groups_of`) stay together.

        A permutation by `numpy.random.default_rng(seed)`, as in the paper's released code. Raises `DataError` where a
        part would be empty.
        """
        expect("test", test, (int, float, np.integer, np.floating), "the share of queries held out, such as 0.2")
        expect("seed", seed, (int, np.integer), "a whole number of at least 0")
        from r2router.table.split import split_queries

        train, held_out = split_queries(self.queries, test, seed)
        return self.take(train), replace(self.take(held_out), held_out=True)

    # -- money ---------------------------------------------------------------------------------------------------

    def cost(self, input_tokens: FloatArray | None = None) -> FloatArray:
        """Return (n, arms) US dollars of each outcome, from the tokens used; a cost recorded as paid takes precedence.

        input_tokens: (n,) or (n, arms) estimates for cells without recorded input tokens; without it those cells cost
            their output only.

        NaN where the output tokens are unknown. Raises `MissingPrice`.
        """
        estimate = 0.0 if input_tokens is None else input_tokens
        if isinstance(estimate, np.ndarray) and estimate.ndim == 1:
            estimate = estimate[:, None]
        known = np.where(np.isnan(self.input_tokens), estimate, self.input_tokens)
        cost = self.pool.cost(known, self.output_tokens, self.cached_tokens, self.reasoning_tokens)
        return np.where(np.isnan(self.cost_usd), cost, self.cost_usd)

    def write(self, path: str | Path) -> None:
        """Write the observed cells in the long format: Parquet, CSV or JSON lines by the file name's ending.

        Raises `DataError` for another ending, and `SaveError` where it cannot be written; an older file is then kept.
        """
        from r2router.table.write import write_table

        write_table(self, path)


def _priced(pool: Pool, prices: PriceSource, *, partly: bool) -> Pool:
    """Return the pool of the models that have a price. Raises `MissingPrice`, which says what to do about the
    others.
    """
    try:
        return pool.with_prices(prices, partly=partly)
    except MissingPrice as error:
        if partly:
            raise
        ways = (
            "or say what becomes of such models: --unpriced teach or --unpriced drop (unpriced='teach',"
            " unpriced='drop')"
        )
        raise MissingPrice(f"{error}, {ways}") from None
