"""What identifies a call: its content, so that the same words are the same call in any suite, order or file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from r2router.bench.suite import Query
from r2router.types import Budget


def query_key(query: Query) -> str:
    """Hash of what a query says to a model."""
    return _hash(query.text, query.system or "")


def content_key(query: str, model: str, budget: str, control: str, sample: int) -> str:
    """Hash that identifies a call by its content."""
    return _hash(query, model, budget, control, str(sample))


def chain_budget(budgets: Iterable[Budget]) -> Budget:
    """Return the budget of the one long answer that all of the budgets are cut from."""
    maximum = max(b.tokens or 0 for b in budgets)
    return Budget(f"chain:{maximum}", maximum, ("max_tokens",))


def _hash(*parts: str) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()
