"""Scorers: what an answer is worth, judged here and now. LLM judges are in `r2router.bench.judging`.

A registry maps a scorer's name to `module:attribute`; packages from outside add theirs under the entry-point group `r2router.scorers`.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module

from r2router.bench.suite import Scorer
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
