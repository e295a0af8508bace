"""The outcome tables that come with r2router, by the names that they go by everywhere; `r2router.mini` says what they
are.
"""

from __future__ import annotations

from pathlib import Path

_HERE = Path(__file__).parent.parent / "mini"

TABLES: dict[str, Path] = {
    "r2bench-mini": _HERE / "prefix_sharing.parquet",
    "r2bench-mini-instruction": _HERE / "instruction.parquet",
}
"""The tables by name: budgets enforced by cutting one long answer (all queries), and by words and a hard cap (a part of
the queries).
"""


def shown_name(path: str) -> str:
    """Return what a source is called where people read it: a bundled table by its name, any other by its path."""
    return next((name for name, file in TABLES.items() if path == str(file)), path)
