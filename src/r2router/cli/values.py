"""Values that options take, and how options are put on a command."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class Number(click.ParamType):  # type: ignore[type-arg]  # generic from click 8.4 on only
    """A finite number from low to high."""

    name = "number"

    def __init__(self, low: float = 0.0, high: float = math.inf) -> None:
        self.low, self.high = low, high

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number, or a usage error that names the option and the value."""
        span = (
            f"a number from {self.low:g} to {self.high:g}"
            if math.isfinite(self.high)
            else f"a finite number of at least {self.low:g}"
        )
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not {span}", param, ctx)
        if not (math.isfinite(number) and self.low <= number <= self.high):
            self.fail(f"{value} is not {span}", param, ctx)
        return number


def with_options(command: F, options: Sequence[Callable[[Any], Any]]) -> F:
    """Return the command with these options, in this order in its help."""
    for option in reversed(options):
        command = option(command)
    return command


def pairs(option: str, texts: Sequence[str], example: str, form: str = "OURS=THEIRS") -> dict[str, str]:
    """ours -> theirs, of an option that is given as OURS=THEIRS any number of times."""
    found = {}
    for text in texts:
        ours, equals, theirs = text.partition("=")
        if not (ours and equals and theirs):
            raise click.UsageError(f"{option} {text!r}: write {form}, for example {example}")
        found[ours] = theirs
    return found
