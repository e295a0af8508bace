"""Where the ledger is by default."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "R2ROUTER_LEDGER"


def default_ledger() -> str:
    """Return the path or address in `R2ROUTER_LEDGER`, else a file in the user's state folder ($XDG_STATE_HOME)."""
    if place := os.environ.get(VARIABLE):
        return place
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return str(Path(state) / "r2router" / "ledger.sqlite")
