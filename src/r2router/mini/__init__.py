"""R2-Bench-mini: what three small LLMs really answered under up to seven budgets; collected with this tool, with every
answer (`card.md`).

It ships with the package, so that every command that takes a table can be tried at once, under the names of `TABLES`.
"""

from r2router.mini.bundled import mini, mini_pool
from r2router.table.bundled import TABLES

__all__ = ["TABLES", "mini", "mini_pool"]
