"""The scorers by name. LLM judges are in `r2router.bench.judging`.

Packages from outside add theirs under the entry-point group `r2router.scorers`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

from r2router.bench.suite import Query, Scorer
from r2router.errors import DataError
from r2router.plugins import Registry
from r2router.text import suggest

_BUILT_IN = {
    "exact": "r2router.bench.scoring.exact:Exact",
    "numeric": "r2router.bench.scoring.numeric:Numeric",
    "choice": "r2router.bench.scoring.choice:Choice",
    "math": "r2router.bench.scoring.math:Math",
    "code": "r2router.bench.scoring.code:Code",
    "code-trusted": "r2router.bench.scoring.code:TrustedCode",
    "reasoning-gym": "r2router.bench.scoring.verifier:Verifier",
}
SCORERS = Registry("r2router.scorers", _BUILT_IN)

NEED_REFERENCE = frozenset({"exact", "numeric", "choice", "math"})
"""Scorers that compare with the query's reference, and give no score without one."""

SANDBOXED = frozenset({"code", "math", "reasoning-gym"})
"""Scorers that run or evaluate what an LLM wrote: in a sandbox, or not at all."""

TRUSTING = frozenset({"code-trusted"})
"""Scorers that run it without one where none works. Only the user chooses them, by an argument or a flag; no file does.
"""


def check_choice(queries: Iterable[Query], *, trust_code: bool = False) -> None:
    """Raises `DataError` for a query that names a scorer of `TRUSTING`, which a file may not choose, unless the user
    trusts its code.
    """
    for query in queries:
        if query.scorer in TRUSTING and not trust_code:
            raise DataError(
                f"query {query.id!r} names the scorer {query.scorer!r}, which runs answers even where no sandbox works:"
                " a file cannot choose that. Name 'code' there; or, if you trust the code, give --trust-code (in"
                " Python trust_code=True)"
            )


def sandbox_in_force(names: Iterable[str]) -> str | None:
    """Say which sandbox these scorers run answers in, or why they do not; None where none of them needs one."""
    used = sorted((SANDBOXED | TRUSTING) & set(names))
    if not used:
        return None
    from r2router.bench.scoring.sandbox import isolation, refusal

    fence = isolation()
    if fence is not None:
        return f"{', '.join(used)}: answers run in the sandbox of {fence}"
    if set(used) <= TRUSTING:
        return f"{', '.join(used)}: answers run without a sandbox, as none works here"
    return f"{', '.join(used)}: {refusal()}"


@cache
def scorer_named(name: str) -> Scorer:
    """Return the scorer of that name. Raises `DataError` listing what there is."""
    found: type[Scorer] | None = SCORERS.find(name)
    if found is None:
        known = SCORERS.names()
        raise DataError(f"no scorer {name!r}{suggest(name, known)}; there are: {', '.join(known)}")
    return found()
