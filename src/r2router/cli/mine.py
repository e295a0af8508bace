"""Options that say which models a person has: --models, --providers, --like."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from r2router.cli.screen import note

if TYPE_CHECKING:
    from r2router.router.router import Router

F = TypeVar("F", bound=Callable[..., Any])

ALL = "all"

MINE = (
    click.option(
        "--models",
        multiple=True,
        metavar="NAMES",
        help="Only these models: names, arms or patterns (claude-*), separated by commas. Repeatable.",
    ),
    click.option(
        "--providers", multiple=True, metavar="NAMES",
        help="Only models of these providers, or all. Default with the starter router: those whose keys are in the environment, else all.",
    ),
    click.option(
        "--like", multiple=True, metavar="NAME=MODEL:IN/OUT",
        help="Treat the unmeasured model NAME like MODEL, at IN/OUT US dollars per million tokens. Repeatable.",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mine:
    """The models that a person has. None: not said."""

    models: tuple[str, ...] | None = None
    providers: tuple[str, ...] | None = None
    like: dict[str, str] | None = None

    def of(self, router: Router, *, starter: bool) -> Router:
        """Return the router of these models. starter: it is the bundled one, of which by default those with keys in the
        environment count.
        """
        models, providers = self.chosen(router, starter=starter)
        return (
            router
            if models is None and providers is None and not self.like
            else router.only(models, providers, self.like)
        )

    def chosen(self, router: Router, *, starter: bool) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
        """Return (models, providers) that `Router.only` takes; None for both where all count. Where keys choose them,
        it says so.
        """
        if self.models is not None or self.providers is not None:
            return self.models, None if self.providers == (ALL,) else self.providers
        keys = keyed(router) if starter else None
        if keys is None:
            return None, None
        names, kept = " and ".join(keys), " and --like" if self.like else ""
        note(
            f"note: only models of {names}{kept} are used, by the keys in the environment; --providers all uses every"
            " model"
        )
        return None, tuple(keys)


def keyed(router: Router) -> list[str] | None:
    """Return the providers of its models whose keys are in the environment; None where that leaves out none, or all."""
    from r2router.upstream.known import EVERYWHERE, providers_with_keys

    there = {m.provider for m in router.pool.models if m.available}
    keys = providers_with_keys()
    found = [name for name in keys if name in there]
    return found if found and EVERYWHERE not in keys and set(found) != there else None


def mine(command: F) -> F:
    """Give a command --models, --providers and --like; it gets them as one `mine`."""

    @functools.wraps(command)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return command(*args, mine=mine_of(kwargs), **kwargs)

    found: Any = inner
    for option in reversed(MINE):
        found = option(found)
    return found


def mine_of(given: dict[str, Any]) -> Mine:
    """Return what the options gave, taken out of a command's arguments."""
    models, providers = (_names(name, given.pop(name)) for name in ("models", "providers"))
    if providers is not None and ALL in providers and len(providers) > 1:
        raise click.UsageError("--providers all means every provider: do not name others")
    like = {}
    for text in given.pop("like"):
        name, equals, rest = text.partition("=")
        if not (equals and name.strip() and rest.strip()):
            raise click.UsageError(
                f"--like {text!r}: write NAME=MODEL:INPUT/OUTPUT, for example my-llm=qwen3-32b:0.1/0.4"
            )
        like[name.strip()] = rest.strip()
    return Mine(models, providers, like or None)


def _names(option: str, given: tuple[str, ...]) -> tuple[str, ...] | None:
    names = tuple(name.strip() for text in given for name in text.split(",") if name.strip())
    if given and not names:
        raise click.UsageError(f"--{option} names nothing: give at least one name")
    return names or None
