"""`r2router models`: what is known of each model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from r2router.cli.mine import Mine, mine
from r2router.cli.screen import note, say, style
from r2router.cli.values import Number
from r2router.cli.wishes import load, router_option

if TYPE_CHECKING:
    from r2router.router.known import KnownArm
    from r2router.router.router import Router
    from r2router.types import Arm


@click.command(
    epilog="""\b
Examples:
  r2router models
  r2router models gpt-5-mini
  r2router models --domain code --sort value
  r2router models --compare gpt-5-mini,claude-haiku-4-5
  r2router models --providers openai,anthropic --json"""
)
@click.argument("name", required=False)
@router_option
@mine
@click.option(
    "--domain", metavar="NAME", help="Figures of this domain only, one line per arm (code, facts, medicine, ...)."
)
@click.option(
    "--sort",
    type=click.Choice(["quality", "cost", "value", "queries", "name"]),
    help="Sort by this; default: quality with --domain, else name.",
)
@click.option(
    "--value",
    "worth",
    type=Number(),
    metavar="USD",
    help="The worth of a correct answer in US dollars; default: the router's own.",
)
@click.option("--compare", metavar="A,B", help="Compare two models or arms on the tasks that both were graded on.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per arm and domain.")
def models(
    name: str | None,
    folder: Path | None,
    mine: Mine,
    domain: str | None,
    sort: str | None,
    worth: float | None,
    compare: str | None,
    as_json: bool,
) -> None:
    """Show what is known of each model, or of the one of that NAME.

    Without --domain there is one line per model: its budgets, its prices, and its number of graded queries per domain.
    Quality is estimated as if every arm had answered all queries of the domain, with a 95 % interval. Cost is for 1,000
    typical requests of the domain. Value is the worth of 1,000 answers minus their cost.
    """
    router = mine.of(load(folder), starter=False)
    if compare is not None:
        if name or domain or sort:
            raise click.UsageError("--compare cannot be combined with NAME, --domain or --sort")
        _compare(router, compare, worth, as_json)
    elif name is not None:
        _one(router.only([name]), domain, worth, as_json)
    elif domain is not None or as_json:
        _arms(router, domain, sort or "quality", worth, as_json)
    else:
        _all(router, sort or "name", worth)


def _all(router: Router, sort: str, worth: float | None) -> None:
    from r2router.pool.prices import price_words
    from r2router.report.terminal import grid
    from r2router.router.known import known_arms, seen_per_domain

    best: dict[str, KnownArm] = {}
    for row in known_arms(router, None, sort, worth):
        best.setdefault(row.model, row)
    cells = []
    for row in best.values():
        model = router.pool[row.model]
        prices = model.usd_per_million
        usd = ("?", "?") if prices is None else (price_words(prices, "input"), price_words(prices, "output"))
        seen = ", ".join(f"{domain} {n:,}" for domain, n in seen_per_domain(router, row.model).items())
        shown = row.model if model.available else f"{row.model} (not available)"
        cells.append((shown, model.provider, " ".join(b.id for b in model.budgets), *usd, _like(row) or seen or "none"))
    say(
        grid(
            ("model", "provider", "budgets", "$ in", "$ out", "graded queries by domain"),
            cells,
            style(),
            right=frozenset({3, 4}),
        )
    )
    say(f"\n{len(router.pool.models):,} models, {len(router.arms):,} arms. Prices: US dollars per million tokens.")
    note("show one model: r2router models NAME; all arms on a domain: r2router models --domain code --sort value")


def _one(router: Router, domain: str | None, worth: float | None, as_json: bool) -> None:
    from r2router.router.known import domains_of, find_domain, known_arms

    numbers = range(len(domains_of(router))) if domain is None else [find_domain(router, domain)]
    rows = [
        row
        for number in numbers
        for row in known_arms(router, number, "name", worth)
        if row.quality.n or len(numbers) == 1
    ]
    if as_json:
        _json(rows)
        return
    _table(rows, first="domain")


def _arms(router: Router, domain: str | None, sort: str, worth: float | None, as_json: bool) -> None:
    from r2router.router.known import domains_of, find_domain, known_arms

    if as_json and domain is None:
        every = [None, *range(len(domains_of(router)))]
        _json(
            [
                row
                for number in every
                for row in known_arms(router, number, sort, worth)
                if number is None or row.quality.n
            ]
        )
        return
    number = find_domain(router, domain or "")
    rows = known_arms(router, number, sort, worth)
    if as_json:
        _json(rows)
        return
    known = [row for row in rows if row.quality.n]
    if not known:
        say(f"No arm was graded on {domains_of(router)[number]}.")
        return
    _table(known)
    if left := len(rows) - len(known):
        say(f"\n{left} arms were not graded on {domains_of(router)[number]}.")


def _table(rows: list[KnownArm], first: str = "") -> None:
    from r2router.report.terminal import grid
    from r2router.text import money

    cells = [
        (
            *((row.domain,) if first else ()),
            row.arm + (f" (as {row.like})" if row.like else ""),
            _quality(row),
            f"{row.quality.n:,}",
            "unknown" if math.isnan(row.tokens) else f"{row.tokens:,.0f}",
            "unknown" if math.isnan(row.cost) else money(row.cost),
            "unknown" if math.isnan(row.value) else _signed(row.value),
        )
        for row in rows
    ]
    head = (*((first,) if first else ()), "arm", "quality", "graded", "tokens", "cost per 1,000", "value per 1,000")
    start = 3 if first else 2
    say(grid(head, cells, style(), right=frozenset(range(start, start + 4))))
    if rows:
        say(f"\nA correct answer is worth {money(rows[0].worth)}.")


def _compare(router: Router, text: str, worth: float | None, as_json: bool) -> None:
    from r2router.pool.names import find_arms
    from r2router.report.terminal import grid
    from r2router.router.known import compared
    from r2router.text import money

    names = [name.strip() for name in text.split(",") if name.strip()]
    if len(names) != 2:
        raise click.UsageError(f"--compare {text!r}: name two models or arms, as in gpt-5-mini,claude-haiku-4-5")
    one, other = (find_arms(router.pool, name) for name in names)
    pairs = compared(router, one, other, worth)
    if as_json:
        from r2router.cli.route import as_json_text

        say(as_json_text([{"domain": domain, "one": a.to_dict(), "other": b.to_dict()} for domain, a, b in pairs]))
        return
    if not pairs:
        say(f"{_names(one)} and {_names(other)} have no task on which both were graded, so they cannot be compared.")
        return
    cells = [(domain, *_side(a), *_side(b), _verdict(a, b)) for domain, a, b in pairs]
    head = ("domain", "one", "quality", "cost", "other", "quality", "cost", "better")
    say(grid(head, cells, style(), right=frozenset({3, 6})))
    say(
        "\nOn tasks that both were graded on; cost is of 1,000 typical requests. A correct answer is worth"
        f" {money(pairs[0][1].worth)}."
    )


def _side(row: KnownArm) -> tuple[str, str, str]:
    from r2router.text import money

    return row.arm, _quality(row), "unknown" if math.isnan(row.cost) else money(row.cost)


def _verdict(a: KnownArm, b: KnownArm) -> str:
    """Return which is better, where the intervals do not overlap."""
    if a.quality.low > b.quality.high:
        return a.arm
    return b.arm if b.quality.low > a.quality.high else "not clear"


def _quality(row: KnownArm) -> str:
    q = row.quality
    return "unknown" if math.isnan(q.value) else f"{q.value:.2f} [{q.low:.2f}, {q.high:.2f}]"


def _signed(usd: float) -> str:
    from r2router.text import money

    return f"-{money(-usd)}" if usd < 0 else money(usd)


def _like(row: KnownArm) -> str:
    return f"not measured: as {row.like}" if row.like else ""


def _names(arms: tuple[Arm, ...]) -> str:
    return " and ".join(sorted({arm.model for arm in arms}))


def _json(rows: list[KnownArm]) -> None:
    from r2router.cli.route import as_json_text

    say(as_json_text([row.to_dict() for row in rows]))
