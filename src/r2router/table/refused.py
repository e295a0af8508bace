"""Data that must not be learned from, known by its fields.

RouterArena (arXiv 2510.00202) is for evaluation only: its README says that submissions that train, fit or tune any
component of a router on its data are rejected. So no outcome table is made of its prompts, its predictions or its
results.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec

from r2router.errors import DataError

POLICY = (
    "RouterArena is an evaluation-only dataset: a router that is trained, fitted or tuned on its prompts or results is"
    " refused by its leaderboard, so no table is read from them (to see results: r2router arena read)"
)
_INDEX = "global index"
_BESIDE = {
    "prediction",
    "prompt formatted",
    "prompt",
    "generated result",
    "llm selected",
    "evaluation result",
    "question",
}


def refuse_fields(fields: Iterable[str], name: str) -> None:
    """Raise `DataError` where a file has the fields of RouterArena's prompts, predictions or cached results."""
    known = {field.lower().replace("_", " ") for field in fields}
    if _INDEX in known and known & _BESIDE:
        raise DataError(f"{name}: {POLICY}")


def refuse_address(address: str) -> None:
    """Raise `DataError` for a data set on the network that is made of RouterArena's prompts."""
    if "://" in address and "routerarena" in address.lower():
        raise DataError(f"{address}: {POLICY}")


def refuse_json(path: str) -> None:
    """The same for a JSON file, which tables are not read from anyway: it says why. Other files raise nothing."""
    try:
        content = msgspec.json.decode(Path(path).read_bytes())
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    if isinstance(content, dict):
        if "arena_score" in content:
            raise DataError(f"{path}: {POLICY}")
        content = [content]
    if isinstance(content, list) and content and isinstance(content[0], dict):
        refuse_fields(content[0], path)
