"""Loading the bundled tables and their pools."""

from __future__ import annotations

from r2router.errors import DataError
from r2router.pool.pool import Pool
from r2router.table.bundled import TABLES
from r2router.table.table import Table


def mini(name: str = "r2bench-mini") -> Table:
    """Return one of `TABLES`, with its pool and prices. Raises `DataError` for another name."""
    if name not in TABLES:
        raise DataError(f"there is no bundled table {name!r}; there are: {', '.join(TABLES)}")
    return Table.read(TABLES[name], mini_pool(name))


def mini_pool(name: str = "r2bench-mini") -> Pool:
    """Return the pool that a bundled table was collected with. Its prices are nominal: see the card."""
    return Pool.read(TABLES[name].with_suffix(".toml"))
