"""`r2router keys`: who may use the gateway, and how much."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from r2router.cli.screen import note, say, style
from r2router.cli.spend import ledger_at, ledger_option

if TYPE_CHECKING:
    from r2router.gateway.keys import Key, KeyUsage
    from r2router.gateway.ledger import Limits

_MONEY = (("per-day", "day_nanos", "day"), ("per-month", "month_nanos", "month"), ("in-all", "total_nanos", "in all"))
_COUNTS = (
    ("requests-per-minute", "minute_requests", "Requests per minute."),
    (
        "tokens-per-minute",
        "minute_tokens",
        "Tokens per minute, input and output; a request counts at its bound until it is over.",
    ),
    ("concurrent", "concurrent", "Concurrent requests."),
)


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the options of a key's limits."""
    for option, field, words in reversed(_COUNTS):
        command = click.option(f"--{option}", field, type=click.IntRange(0), help=words)(command)
    for option, field, words in reversed(_MONEY):
        what = f"US dollars {words if words == 'in all' else f'per {words}'}, spent and in flight."
        command = click.option(f"--{option}", field, metavar="USD", help=what)(command)
    return command


def _limits(given: dict[str, Any]) -> Limits:
    from r2router.gateway.ledger import Limits
    from r2router.gateway.spend import nanos_of

    return Limits(**{name: nanos_of(value) if isinstance(value, str) else value for name, value in given.items()})


@click.group()
def keys() -> None:
    """Keys of the gateway's clients, with their limits. While there is none, the gateway serves this machine alone."""


@keys.command(
    epilog="""\b
Examples:
  r2router keys make "team search" --per-day 20 --per-month 300
  r2router keys make ci --in-all 5 --requests-per-minute 60 --preset 'auto:cheap'"""
)
@click.argument("name")
@ledger_option
@limit_options
@click.option(
    "--preset",
    "presets",
    multiple=True,
    metavar="GLOB",
    help="A preset that the key may use; default: all. Repeatable.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="GLOB",
    help="A model that the key may ask for by name; default: all. Repeatable.",
)
@click.option("--shadow", is_flag=True, help="Only count; never refuse a request.")
def make(
    name: str, ledger: str | None, presets: tuple[str, ...], models: tuple[str, ...], shadow: bool, **limits: Any
) -> None:
    """Make a key called NAME and print its secret, which is shown this once."""
    key, secret = _keys(ledger).make(
        name, _limits(limits), presets=presets or ("*",), models=models or ("*",), shadow=shadow
    )
    note(f"key {key.id} ({key.name}): {limit_words(key)}. Its secret is not shown again:")
    say(secret)


@keys.command(
    "list",
    epilog="""\b
Example:
  r2router keys list --json""",
)
@ledger_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(ledger: str | None, as_json: bool) -> None:
    """List the keys, their limits, and what each has spent."""
    from r2router.gateway.ledger.windows import dollars
    from r2router.report.terminal import grid

    found = _keys(ledger).list()
    if as_json:
        import msgspec

        rows = [msgspec.to_builtins(key) | {"used": msgspec.to_builtins(use)} for key, use in found]
        say(msgspec.json.format(msgspec.json.encode(rows), indent=1).decode())
        return
    if not found:
        say("no keys: the gateway serves only this machine; r2router keys make NAME makes a key")
        return
    head = ("key", "name", "limits", "requests", "spent", "in flight", "")
    cells = [_cells(key, use, dollars) for key, use in found]
    say(grid(head, cells, style(), right=frozenset({3, 4, 5})))


def _cells(key: Key, use: KeyUsage, dollars: Callable[[int], str]) -> tuple[str, ...]:
    state = "ended" if key.ended is not None else "only counts" if key.shadow else ""
    return key.id, key.name, limit_words(key), f"{use.requests:,}", dollars(use.spent), dollars(use.reserved), state


def limit_words(key: Key) -> str:
    """Return what a key may use, in a few words."""
    from r2router.gateway.ledger.windows import dollars

    found = []
    for _, field, words in _MONEY:
        if (value := getattr(key.limits, field)) is not None:
            found.append(f"${dollars(value)} {words if words == 'in all' else f'per {words}'}")
    for field, words in (
        ("minute_requests", "requests per minute"),
        ("minute_tokens", "tokens per minute"),
        ("concurrent", "at once"),
    ):
        if (value := getattr(key.limits, field)) is not None:
            found.append(f"{value:,} {words}")
    found += [
        f"{kind} {', '.join(globs)}"
        for kind, globs in (("presets", key.presets), ("models", key.models))
        if globs != ("*",)
    ]
    return ", ".join(found) or "no limits"


@keys.command(
    epilog="""\b
Example:
  r2router keys change k_3f9a --per-day 50 --requests-per-minute 600"""
)
@click.argument("key")
@ledger_option
@limit_options
@click.option("--shadow/--enforce", default=None, help="Only count, or enforce the limits again.")
def change(key: str, ledger: str | None, shadow: bool | None, **limits: Any) -> None:
    """Give a KEY other limits. Those that are not given here are gone; what it has used stays."""
    say(f"key {key}: {limit_words(_keys(ledger).change(key, _limits(limits), shadow=shadow))}")


@keys.command(
    epilog="""\b
Example:
  r2router keys rotate k_3f9a --keep 24"""
)
@click.argument("key")
@ledger_option
@click.option(
    "--keep", "keep_h", type=click.FloatRange(0, 8760), default=0.0, help="Hours for which the old secret still works."
)
def rotate(key: str, ledger: str | None, keep_h: float) -> None:
    """Give a KEY a new secret. Its limits and what it has used stay."""
    secret = _keys(ledger).rotate(key, keep_s=keep_h * 3600)
    note(f"key {key} has a new secret. It is not shown again:")
    say(secret)


@keys.command(
    epilog="""\b
Example:
  r2router keys end k_3f9a"""
)
@click.argument("key")
@ledger_option
def end(key: str, ledger: str | None) -> None:
    """End a KEY. Nothing more is sent with it; what is under way is finished and counted."""
    found = _keys(ledger).end(key)
    say(f"key {found.id} ({found.name}) has ended")


def _keys(ledger: str | None) -> Any:
    from pathlib import Path

    from r2router.gateway.keys import Keys

    where = ledger_at(ledger)
    if ledger is None and "://" not in where:
        Path(where).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Keys(where)
