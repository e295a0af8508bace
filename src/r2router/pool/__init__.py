"""Models under budgets: the pool that owns the order of the arms, its TOML file, and prices."""

from r2router.pool.pool import Pool, budget_order

__all__ = ["Pool", "budget_order"]
