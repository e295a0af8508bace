"""How outcome tables are named and read: --pool, --prices, --column, --judge, --vectors and the like."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from r2router.cli.values import F, Number, pairs, with_options

if TYPE_CHECKING:
    from r2router.pool.pool import Pool
    from r2router.table.rows import Reading, Rows
    from r2router.table.table import Table
    from r2router.types import FloatArray


def embeddings(file: Path) -> FloatArray:
    """Return the embeddings of a .npy file. Raises `DataError`."""
    import numpy as np

    from r2router.errors import DataError
    from r2router.files import check_file

    check_file(file)
    try:
        return np.load(file, allow_pickle=False)
    except FileNotFoundError:
        raise DataError(f"{file}: no such file") from None
    except (OSError, ValueError, EOFError, MemoryError):  # memory: its header may claim any size
        raise DataError(f"{file}: not a complete .npy file of numbers; write it with numpy.save") from None


@dataclass(frozen=True, slots=True)
class Texts:
    """How foreign tables are to be understood; see `r2router.table.rows.Reading`."""

    columns: dict[str, str]
    judge: str | None
    scale: float
    rename: dict[str, str]

    def as_reading(self, *, keep: bool = False) -> Reading:
        """Return the same for the library. keep: keep the other columns of the sources too."""
        from r2router.table.rows import Reading

        return Reading(self.columns, self.judge, self.scale, self.rename, keep)


@dataclass(frozen=True, slots=True)
class Data:
    """How outcome tables are to be read.

    pool: a TOML file or a bundled table's name.
    prices: CSVs or "genai-prices".
    no_price: what becomes of models without a price.
    """

    pool: str | None
    prices: tuple[str, ...]
    drop_unknown: bool
    texts: Texts
    no_price: str | None = None

    def check_priced(self, sources: Sequence[str]) -> None:
        """A usage error where nothing says what the sources' models cost. A bundled table that stands alone brings its
        own prices.

        Raises `DataError` for a source that is not there.
        """
        paths_of(sources)  # that a file is not there goes first
        if self.pool is None and not self.prices and _own_pool(sources) is None:
            raise click.UsageError(NO_PRICES)

    def read(self, sources: Sequence[str]) -> Table:
        """Return the table of these sources."""
        return self.table(sources, self.rows(sources))

    def rows(self, sources: Sequence[str], *, keep: bool = False) -> Rows:
        """Return the checked rows of these sources. keep: with their other columns too."""
        from r2router.table.rows import read_rows

        return read_rows(paths_of(sources), self.texts.as_reading(keep=keep))

    def table(self, sources: Sequence[str], rows: Rows) -> Table:
        """Return the table of the rows of these sources, under the pool or the prices that were given, or those that
        come with it.
        """
        from r2router.table.table import Table

        pool = _own_pool(sources) if self.pool is None else self.priced(self.pool)
        given: dict[str, Any] = {
            "sources": rows.files,
            "notes": rows.notes,
            "unpriced": self.no_price,
            "answers": rows.answers,
        }
        if pool is None or (self.pool is None and self.prices):
            return Table.from_rows(rows.frame, prices=self.prices or None, **given)
        return Table.from_rows(rows.frame, pool, drop_unknown=self.drop_unknown, **given)

    def unpriced(self, sources: Sequence[str]) -> Table:
        """Return the table of any arms: whoever takes it knows prices of its own."""
        from r2router.table.table import Table

        rows = self.rows(sources)
        return Table.from_rows(rows.frame, sources=rows.files, notes=rows.notes, answers=rows.answers)

    def priced(self, file: str) -> Pool:
        """Return the pool of a file or of a bundled table, under other prices where some are given."""
        from r2router.mini import mini_pool
        from r2router.pool.pool import Pool

        pool = Pool.read(file) if _bundled(file) is None else mini_pool(file)
        return pool.with_prices(self.prices) if self.prices else pool


NO_PRICES = "give --prices (a CSV, or genai-prices) or --pool: an unknown price is never zero"


def paths_of(sources: Sequence[str]) -> list[str]:
    """Return the sources, with the names of bundled tables replaced by their files; a file of such a name goes first.
    Raises `DataError`.
    """
    return [_path_of(source) for source in sources]


def _path_of(source: str) -> str:
    from r2router.errors import DataError
    from r2router.table.bundled import TABLES
    from r2router.text import suggest

    if (bundled := _bundled(source)) is not None:
        return str(bundled)
    if "://" not in source and not Path(source).exists():
        raise DataError(f"{source}: no such file{suggest(source, TABLES)}")
    return source


def _own_pool(sources: Sequence[str]) -> Pool | None:
    """Return the pool of a bundled table that stands alone."""
    from r2router.mini import mini_pool

    return mini_pool(sources[0]) if len(sources) == 1 and _bundled(sources[0]) is not None else None


def _bundled(source: str) -> Path | None:
    from r2router.table.bundled import TABLES

    return None if Path(source).exists() else TABLES.get(source)


_PRICES = (
    click.option(
        "--prices",
        multiple=True,
        metavar="CSV|genai-prices",
        help="Prices in US dollars per million tokens: a CSV file, or the word genai-prices. Repeatable.",
    ),
    click.option(
        "--pool", metavar="TOML", help="The models, their budgets and prices: a file, or the name of a bundled table."
    ),
)
_TEXTS = (
    click.option(
        "--column",
        "columns",
        multiple=True,
        metavar="OURS=THEIRS",
        help="Our column name = the name in the file (quality=score). Repeatable.",
    ),
    click.option(
        "--scale",
        type=Number(),
        default=1.0,
        metavar="N",
        help="The quality of a correct answer in the file: 100 for percentages.",
    ),
    click.option(
        "--rename", multiple=True, metavar="OLD=NEW", help="Rename a model or budget of the table. Repeatable."
    ),
    click.option("--judge", metavar="NAME", help="Use the scores of this judge, where a table has several judges."),
)
_DROP = (
    click.option(
        "--drop-unknown", is_flag=True, help="Leave out rows of models that --pool does not list, instead of stopping."
    ),
    click.option(
        "--unpriced",
        type=click.Choice(["teach", "drop"]),
        help="Models without a price: teach (use them to learn how hard queries are, but never route to them) or drop.",
    ),
)


def reading(command: F) -> F:
    """Give a command --column, --scale, --rename and --judge; it gets them as one `reading`."""

    @functools.wraps(command)
    def inner(*args: Any, **kwargs: Any) -> Any:
        texts = _texts(kwargs)
        return command(*args, reading=texts, **kwargs)

    return with_options(inner, _TEXTS)  # type: ignore[return-value]


def data(command: F) -> F:
    """Give a command what `reading` gives, --prices, --pool, --drop-unknown and --unpriced; it gets them as one
    `data`.
    """

    @functools.wraps(command)
    def inner(*args: Any, **kwargs: Any) -> Any:
        texts = _texts(kwargs)
        pool, prices, drop, no_price = (kwargs.pop(name) for name in ("pool", "prices", "drop_unknown", "unpriced"))
        if drop and pool is None:
            raise click.UsageError("--drop-unknown needs --pool: without a pool every model of the table is known")
        return command(*args, data=Data(pool, prices, drop, texts, no_price), **kwargs)

    return with_options(inner, (*_PRICES, *_TEXTS, *_DROP))  # type: ignore[return-value]


def _texts(given: dict[str, Any]) -> Texts:
    """Return what `_TEXTS` gave, taken out of a command's arguments."""
    columns, judge, scale, rename = (given.pop(name) for name in ("columns", "judge", "scale", "rename"))
    if scale == 0:
        raise click.UsageError("--scale 0: give the quality of a correct answer, for example 100")
    return Texts(
        pairs("--column", columns, "quality=score"),
        judge,
        scale,
        pairs("--rename", rename, "meta@70b=meta-70b", "OLD=NEW"),
    )


vectors = click.option(
    "--vectors",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Existing embeddings of the table's queries (.npy, one row per query, in the same order).",
)
