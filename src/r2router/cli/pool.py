"""`r2router pool check`: is a pool file right, and what does it say?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from r2router.cli.keys import send_key_option
from r2router.cli.screen import note, say, style

if TYPE_CHECKING:
    from r2router.types import Model


@click.group()
def pool() -> None:
    """Check pool files: models, budgets, prices."""


@pool.command(
    epilog="""\b
Examples:
  r2router pool check pool.toml
  r2router pool check pool.toml --call"""
)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--call", is_flag=True, help="Ask each model one short question, to see whether it answers.")
@click.option("--yes", is_flag=True, help="With --call: do not ask for confirmation.")
@send_key_option
def check(file: Path, call: bool, yes: bool, send_keys: tuple[str, ...]) -> None:
    """Show a pool FILE, and what is wrong or missing in it.

    A mistake gives exit code 2 and the line in the file; so does a setting that r2router collect would refuse. Doubtful
    settings give a note.
    """
    from r2router.bench.plan import refused
    from r2router.errors import ConfigError
    from r2router.pool.pool import Pool
    from r2router.pool.toml import read_providers
    from r2router.report.terminal import grid

    found, providers = Pool.read(file), read_providers(file)
    head = ("model", "provider", "budgets", "control", "in", "out", "can", "")
    say(grid(head, [_cells(m) for m in found.models], style(), right=frozenset({4, 5})))
    say(f"\n{len(found.models)} models, {len(found)} arms. Prices: US dollars per million tokens.")
    for model in found.models:
        for problem in _doubts(model):
            note(f"note: {model.id}: {problem}")
    wrong, missing = refused(found, providers)
    for problem in missing:
        note(f"note: it cannot be called: {problem}")
    for problem in wrong[:-1]:
        note(f"error: {file}: {problem}")
    if wrong:
        raise ConfigError(f"{file}: {wrong[-1]}")
    if call:
        from r2router.cli.smoke import ask_each

        ask_each(found, providers, yes=yes, send_keys=send_keys)


def _cells(model: Model) -> tuple[str, ...]:
    from r2router.pool.prices import price_words

    prices = model.usd_per_million
    money = ("unknown", "unknown") if prices is None else (price_words(prices, "input"), price_words(prices, "output"))
    controls = sorted({c for b in model.budgets for c in b.control})
    budgets = ", ".join(b.id for b in model.budgets)
    off = "" if model.available else "not available"
    return model.id, model.provider, budgets, ", ".join(controls), *money, ", ".join(sorted(model.capabilities)), off


def _doubts(model: Model) -> list[str]:
    doubts = []
    if model.usd_per_million is None:
        doubts.append("no price, so nothing that needs a cost will work: add usd_per_million")
    free = [b.id for b in model.budgets if not b.control and b.id != "unlimited"]
    if free:
        doubts.append(
            f"nothing enforces the budgets {', '.join(free)}: add control, for example ['instruction', 'max_tokens']"
        )
    if not model.provider:
        doubts.append("no provider, so it can be routed to but not called")
    return doubts
