"""Scorers: what an answer is worth, judged here and now. LLM judges are in `r2router.bench.judging`.

A registry maps a scorer's name to `module:attribute`; packages from outside add theirs under the entry-point group `r2router.scorers`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from importlib import import_module

from r2router.bench.suite import Query, Scorer
from r2router.errors import DataError
from r2router.text import suggest

SCORERS: dict[str, str] = {
    "exact": "r2router.bench.scoring.exact:Exact",
    "numeric": "r2router.bench.scoring.numeric:Numeric",
    "choice": "r2router.bench.scoring.choice:Choice",
    "math": "r2router.bench.scoring.math:Math",
    "code": "r2router.bench.scoring.code:Code",
    "code-trusted": "r2router.bench.scoring.code:TrustedCode",
    "reasoning-gym": "r2router.bench.scoring.verifier:Verifier",
}

NEED_REFERENCE = frozenset({"exact", "numeric", "choice", "math"})
"""Scorers that compare with the query's reference, and give no score without one."""

SANDBOXED = frozenset({"code", "math", "reasoning-gym"})
"""Scorers that run or evaluate what an LLM wrote: in a sandbox, or not at all."""

TRUSTING = frozenset({"code-trusted"})
"""Scorers that run it without one where none works. Only the user chooses them, by an argument or a flag; no file does."""


def check_choice(queries: Iterable[Query], *, trust_code: bool = False) -> None:
    """Raises `DataError` for a query that names a scorer of `TRUSTING`, which a file may not choose, unless the user trusts its code."""
    for query in queries:
        if query.scorer in TRUSTING and not trust_code:
            raise DataError(
                f"query {query.id!r} names the scorer {query.scorer!r}, which runs answers even where no sandbox works: a file cannot "
                "choose that. Name 'code' there; or, if you trust the code, give --trust-code (in Python trust_code=True)"
            )


def sandbox_in_force(names: Iterable[str]) -> str | None:
    """In words, which sandbox scorers of these names run answers in, or why they do not; None where none of them needs one."""
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
    """The scorer of that name. Raises `DataError` listing what there is."""
    if name in SCORERS:
        module, _, attribute = SCORERS[name].partition(":")
        made: Scorer = getattr(import_module(module), attribute)()
        return made
    from importlib.metadata import entry_points

    for entry in entry_points(group="r2router.scorers"):
        if entry.name == name:
            outside: Scorer = entry.load()()
            return outside
    raise DataError(f"no scorer {name!r}{suggest(name, SCORERS)}; there are: {', '.join(SCORERS)}")
