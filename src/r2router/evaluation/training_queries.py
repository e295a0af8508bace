"""Which queries of a table a router was trained on: on those it looks better than it is."""

from __future__ import annotations

import numpy as np

from r2router.evaluation.sentences import leak
from r2router.router.router import Router
from r2router.table.table import Table


def trained_on(router: Router, table: Table) -> tuple[str, ...]:
    """Return the table's files that the router was trained on: on them it looks better than it is. The test part of a
    split is not among them.
    """
    if table.held_out or trained_share(router, table) == 0:
        return ()
    own = {digest for _, digest in router.facts.sources if digest}
    return tuple(name for name, digest in table.sources if digest in own)


def trained_share(router: Router, table: Table) -> float | None:
    """Return the share of the table's queries whose text the router was trained on; None where that is not known.

    A router without a digest (older, or of made-up texts) knows its files only, see `trained_on`.
    """
    share = np.nan if router.trained is None or table.simulated else router.trained.share(table.queries)
    return None if np.isnan(share) else float(share)


def leak_words(router: Router, table: Table) -> str:
    """Return what to say where a router meets its own training queries; empty where it does not."""
    return leak(trained_on(router, table), trained_share(router, table))
