"""Which router is asked and what is wanted of it: --router, --require, --exclude, the policies, and whose models."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from r2router.cli.mine import MINE, Mine, mine_of
from r2router.cli.values import F, Number, with_options

if TYPE_CHECKING:
    from r2router.decide import Policy
    from r2router.router.router import Router


@dataclass(frozen=True, slots=True)
class Wish:
    """Which router, and what is wanted of it. policy: None for the router's own."""

    folder: Path | None
    policy: Policy | None
    require: tuple[str, ...]
    exclude: tuple[str, ...]
    mine: Mine

    def router(self) -> Router:
        """Return the router that was named, or the bundled one; of the models that were asked for."""
        return self.mine.of(load(self.folder), starter=self.folder is None)


def load(folder: Path | None) -> Router:
    """Return a saved router, or the bundled one where no folder is given."""
    if folder is not None:
        from r2router.cli.screen import note
        from r2router.router.router import Router

        router = Router.load(folder)
        if router.encoder.startswith("openai:"):
            note(f"note: this router sends every text to an embeddings endpoint: {router.encoder}")
        return router
    from r2router.starter import starter

    return starter()


def policy_of(
    lam: float | None, value: float | None, max_cost: float | None, min_quality: float | None
) -> Policy | None:
    """Return the one policy that the options ask for; None where they ask for none."""
    given = {"--lambda": lam, "--value": value, "--max-cost": max_cost, "--min-quality": min_quality}
    names = [name for name, number in given.items() if number is not None]
    if len(names) > 1:
        raise click.UsageError(f"{' and '.join(names)} cannot be combined: a request has one policy")
    from r2router.decide import Best, Cheapest, Tradeoff, Value

    if lam is not None:
        return Tradeoff(lam)
    if value is not None:
        return Value(value)
    if max_cost is not None:
        return Best(max_cost)
    return None if min_quality is None else Cheapest(min_quality)


router_option = click.option(
    "--router",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The saved router; default: the bundled starter router.",
)
"""Gives a command `--router`, as the argument `folder`."""
_ROUTER = (
    router_option,
    click.option(
        "--require",
        multiple=True,
        metavar="CAP",
        help="Only models with this capability (vision, tools, ...). Repeatable.",
    ),
    click.option(
        "--exclude", multiple=True, metavar="MODEL", help="Exclude this model or arm (MODEL@BUDGET). Repeatable."
    ),
)
_POLICY = (
    click.option(
        "--lambda", "lam", type=Number(0, 1), metavar="L", help="Trade-off from 0 (quality only) to 1 (cost only)."
    ),
    click.option("--value", type=Number(), metavar="USD", help="The worth of a correct answer, in US dollars."),
    click.option(
        "--max-cost", type=Number(), metavar="USD", help="The best answer that costs at most this many US dollars."
    ),
    click.option(
        "--min-quality",
        type=Number(0, 1),
        metavar="Q",
        help="The cheapest answer whose forecast quality is at least Q.",
    ),
)


def wishes(command: F) -> F:
    """Give a command --router, --require, --exclude, the policies and whose models; it gets them as one `wish`."""

    @functools.wraps(command)
    def inner(*args: Any, **kwargs: Any) -> Any:
        folder, require, exclude, lam, value, max_cost, min_quality = (
            kwargs.pop(name) for name in ("folder", "require", "exclude", "lam", "value", "max_cost", "min_quality")
        )
        policy = policy_of(lam, value, max_cost, min_quality)
        return command(*args, wish=Wish(folder, policy, require, exclude, mine_of(kwargs)), **kwargs)

    return with_options(inner, (*_ROUTER, *MINE, *_POLICY))  # type: ignore[return-value]
