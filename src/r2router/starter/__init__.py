"""The bundled starter router: works at once, with no key, no download and no training."""

from __future__ import annotations

from pathlib import Path

from r2router.router.router import Router


def starter() -> Router:
    """The router used where none is given: 12 LLMs with thinking budgets and efforts. It knows factual questions and little else;
    see its `card.md`. Raises `ArtifactError` where the installation is damaged.
    """
    return Router.load(Path(__file__).parent / "router")
