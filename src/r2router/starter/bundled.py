"""Loading the bundled starter router."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from r2router.router.router import Router
from r2router.types import Prices


def starter(
    models: str | Iterable[str] | None = None,
    providers: str | Iterable[str] | None = None,
    like: Mapping[str, str | tuple[str, Prices]] | None = None,
) -> Router:
    """Return the router used where none is given; its `card.md` says what it knows. By default of all its models.

    models, providers, like: only the models that a person has, and stand-ins for those that nobody measured; see
        `Router.only`.

    Raises `ConfigError` for a name that is not known, `ArtifactError` where the installation is damaged.
    """
    router = Router.load(Path(__file__).parent / "router")
    return router if models is None and providers is None and not like else router.only(models, providers, like)
