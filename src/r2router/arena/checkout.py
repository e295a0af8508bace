"""What a copy of RouterArena's repository knows: names of models and their prices. Its files are read, and no code of
it is run.
"""

from __future__ import annotations

import ast
from collections.abc import Collection
from pathlib import Path
from typing import Any

from r2router.arena.files import read_json
from r2router.errors import DataError, UsageError
from r2router.text import listing, suggest

_NAMES = "universal_model_names.py"
_COSTS = ("model_cost/cost.json", "model_cost/model_cost.json")


def check_models(models: Collection[str], folder: str | Path) -> None:
    """Raise `UsageError` where RouterArena's own check would refuse a model: its name is not listed, or it has no
    price.

    models: by the names of a prediction file.
    folder: the repository's.

    Raises `DataError` where it is not one.
    """
    names, other = _names(Path(folder) / _NAMES)
    if strange := sorted(m for m in models if m not in names and m not in other):
        hint = suggest(strange[0], [*names, *other])
        raise UsageError(
            f"{listing(strange)}: not among the models of {Path(folder) / _NAMES}{hint}; "
            "map names with --name OURS=THEIRS, or leave models out with --exclude"
        )
    costs = _costs(Path(folder))
    priced = {m: other.get(m, m).removesuffix("_batch") for m in models}
    if free := sorted(m for m, name in priced.items() if not any(name in known or known in name for known in costs)):
        raise UsageError(
            f"{listing(free)}: without a price in {Path(folder) / _COSTS[0]}; add it there, or leave models out with"
            " --exclude"
        )


def _names(path: Path) -> tuple[frozenset[str], dict[str, str]]:
    """Return (the names, other names -> names), read as literals."""
    try:
        tree = ast.parse(path.read_bytes())
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror or error}); --arena is a copy of RouterArena's repository"
        ) from None
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise DataError(f"{path}: is not Python ({error})") from None
    found: dict[str, Any] = {}
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        value = getattr(node, "value", None)
        for target in targets:
            if (
                isinstance(target, ast.Name)
                and target.id in ("universal_names", "mapping")
                and isinstance(value, (ast.List, ast.Dict))
            ):
                try:
                    found[target.id] = ast.literal_eval(value)
                except (ValueError, TypeError, RecursionError) as error:
                    raise DataError(f"{path}: {target.id} is more than names ({error})") from None
    names, other = found.get("universal_names"), found.get("mapping", {})
    if not (
        isinstance(names, list)
        and isinstance(other, dict)
        and all(isinstance(n, str) for n in (*names, *other, *other.values()))
    ):
        raise DataError(f"{path}: has no list universal_names; is {path.parent} a copy of RouterArena's repository?")
    return frozenset(names), other


def _costs(folder: Path) -> list[str]:
    path = next((folder / name for name in _COSTS if (folder / name).exists()), folder / _COSTS[0])
    costs = read_json(path)
    if not isinstance(costs, dict):
        raise DataError(f"{path}: is not an object of models and prices")
    return list(costs)
