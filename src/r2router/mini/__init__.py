"""R2-Bench-mini: what three small LLMs really answered under up to seven budgets; collected with this tool, with every answer (`card.md`).

It ships with the package, so that every command that takes a table can be tried at once, under the names of `TABLES`.
"""

from __future__ import annotations

from r2router.errors import DataError
from r2router.pool.pool import Pool
from r2router.table.bundled import TABLES
from r2router.table.table import Table

__all__ = ["TABLES", "mini", "mini_pool"]


def mini(name: str = "r2bench-mini") -> Table:
    """One of `TABLES`, with its pool and prices. Raises `DataError` for another name."""
    if name not in TABLES:
        raise DataError(f"there is no bundled table {name!r}; there are: {', '.join(TABLES)}")
    return Table.read(TABLES[name], mini_pool(name))


def mini_pool(name: str = "r2bench-mini") -> Pool:
    """The pool that a bundled table was collected with. Its prices are nominal: see the card."""
    return Pool.read(TABLES[name].with_suffix(".toml"))
