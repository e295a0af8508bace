"""`r2router spend` and `r2router explain`: what the gateway has spent, and why one request went where it did."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from r2router.cli.outputs import OutputFile
from r2router.cli.screen import note, say, style

if TYPE_CHECKING:
    from r2router.figure import Figure
    from r2router.gateway.ledger.rows import Row
    from r2router.gateway.spend import ModelComparison, Spend, SpendRow, TargetStatus
    from r2router.types import Prices

ledger_option = click.option(
    "--ledger",
    metavar="PATH|URL",
    help="The ledger.  [default: $R2ROUTER_LEDGER, or ledger.sqlite in the user's state folder]",
)
_MAX = 40  # lines on a terminal


def ledger_at(given: str | None) -> str:
    """Return the ledger that a command is about."""
    from r2router.gateway.ledger.place import default_ledger

    return given or default_ledger()


@click.command(
    epilog="""\b
Examples:
  r2router spend
  r2router spend --by key --since 2026-01-01 --out spend.csv
  r2router spend --by model --against gpt-5 --pool pool.toml
  r2router spend --open
  r2router spend --correct REQUEST_ID 0.0123"""
)
@ledger_option
@click.option(
    "--by",
    default="day",
    show_default=True,
    type=click.Choice(["day", "month", "key", "model", "arm", "preset", "session"]),
)
@click.option("--since", metavar="DAY", help="First day, as in 2026-01-31, in the ledger's time zone.")
@click.option("--until", metavar="DAY", help="Last day, included.")
@click.option("--key", help="Only this key; - for requests without a key.")
@click.option(
    "--against",
    metavar="MODEL",
    help="Compare with using only this model: by its forecasts, or with --pool by its prices.",
)
@click.option("--pool", type=click.Path(path_type=Path), help="A pool file with the prices of the --against model.")
@click.option("--open", "show_open", is_flag=True, help="List requests in progress, and those that a crash left open.")
@click.option(
    "--correct", nargs=2, metavar="REQUEST_ID USD", help="Replace the charged cost of a request by what it really cost."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--out", type=OutputFile(".csv", ".json"), help="Write all lines to a file (.csv or .json).")
def spend(  # noqa: PLR0913, PLR0917  one per option
    ledger: str | None,
    by: str,
    since: str | None,
    until: str | None,
    key: str | None,
    against: str | None,
    pool: Path | None,
    show_open: bool,
    correct: tuple[str, str] | None,
    as_json: bool,
    out: Path | None,
) -> None:
    """Show what the gateway spent.

    By day, key, model, preset or session; all sums are of the ledger's rows.
    """
    from r2router.files import whole_file
    from r2router.gateway import spend as reports

    where = ledger_at(ledger)
    if correct:
        _correct(where, *correct)
        return
    if show_open:
        _show_open(reports.left_open(where), as_json=as_json)
        return
    if pool is not None and against is None:
        raise click.UsageError("--pool gives the prices for --against MODEL: give --against too")
    compare = None if against is None else (against, _prices(pool, against) if pool is not None else None)
    found = reports.spend(where, by, since=since, until=until, key=key, against=compare)  # type: ignore[arg-type]
    data = _json(found.to_dict())
    if out is not None:
        with whole_file(out) as file:
            file.write((found.to_csv() if out.suffix == ".csv" else data + "\n").encode())
        note(f"wrote {out}")
    elif as_json:
        say(data)
    else:
        _show(found)


def _prices(pool: Path, model: str) -> Prices:
    from r2router.errors import ConfigError, MissingPrice
    from r2router.pool.pool import Pool
    from r2router.text import suggest

    found = Pool.read(pool)
    names = [m.id for m in found.models]
    if model not in names:
        raise ConfigError(f"{pool}: no model {model!r}{suggest(model, names)}")
    prices = found[model].usd_per_million
    if prices is None:
        raise MissingPrice(f"{pool}: the price of {model} is not known; give its usd_per_million")
    return prices


def _show(found: Spend) -> None:
    from r2router.report.terminal import grid

    head = (found.by, "requests", "in", "cached", "out", "spent", "in flight", "estimated", "left open")
    shown = list(found.lines[-_MAX:] if found.by in ("day", "month") else found.lines[:_MAX])
    rows = [_cells(line) for line in shown]
    if len(shown) < len(found.lines):
        rows.append((f"({len(found.lines) - len(shown):,} more: --out)", *[""] * 8))
    say(grid(head, [*rows, _cells(found.total)], style(), right=frozenset(range(1, 9))))
    total = found.total
    say(f"\nUS dollars. Days begin at midnight in {found.zone}, in budgets too.")
    if total.unpriced:
        note(f"note: {total.unpriced:,} requests have an unknown price; no sum includes them")
    if total.over:
        note(f"note: {total.over:,} requests cost more than their bound: the provider billed more than was asked for")
    if total.unknown:
        note(
            f"note: {total.unknown:,} requests were left open by a crash and are charged as reserved; to list them:"
            " r2router spend --open"
        )
    for held in found.held:
        say(held_words(held))
    if found.against is not None:
        say(against_words(found.against))


def _cells(line: SpendRow) -> tuple[str, ...]:
    from r2router.gateway.ledger.windows import dollars

    counts = (line.requests, line.input_tokens, line.cached_tokens, line.output_tokens)
    return (
        line.name, *(f"{n:,}" for n in counts), dollars(line.spent), dollars(line.in_flight), f"{line.estimated:,}",
        f"{line.unknown:,}",
    )  # fmt: skip


def against_words(against: ModelComparison) -> str:
    """Return the comparison with one model for all, in two sentences."""
    from r2router.gateway.ledger.windows import dollars

    share = 1 - against.spent / against.instead if against.instead else 0.0
    words = (
        f"Against always {against.model} ({against.how}), {against.n:,} requests: ${dollars(against.spent)} instead of "
        f"${dollars(against.instead)}, {abs(share):.1%} {'less' if share >= 0 else 'more'}; saved per 1,000 requests: "
        f"{_between(against.saved, 1000, '$')}."
    )
    if against.quality is None:
        return f"{words} The quality of {against.model} was not forecast for them."
    return f"{words} Forecast quality: {_between(against.quality, 1, '')} compared with it."


def held_words(held: TargetStatus) -> str:
    """Return what a preset holds, in a sentence."""
    money, unit = {"cost": ("$", " per 1,000 requests"), "day": ("$", " per day"), "quality": ("", " mean score")}[
        held.kind
    ]
    words = f"Preset {held.preset}: target {money}{held.target:.4g}{unit}"
    if held.actual is None or held.error is None:
        return f"{words}; nothing observed yet."
    observed = f"{held.n:,} {'scores' if held.kind == 'quality' else 'requests'}"
    return (
        f"{words}, actual {money}{held.actual:.4g} ({held.error:+.2%}) over {observed}; a correct answer is worth"
        f" ${held.value:.3g} now."
    )


def _between(figure: Figure, times: float, unit: str) -> str:
    def shown(value: float) -> str:
        return f"{'-' if value < 0 else '' if unit else '+'}{unit}{abs(value) * times:.4g}"

    if figure.low is None or figure.high is None:
        return shown(figure.value)
    return f"{shown(figure.value)} (95 % interval {shown(figure.low)} to {shown(figure.high)})"


def _json(value: object) -> str:
    import msgspec

    return msgspec.json.format(msgspec.json.encode(value), indent=1).decode()


def _show_open(rows: list[Row], *, as_json: bool) -> None:
    from r2router.gateway.ledger.windows import dollars
    from r2router.report.terminal import grid

    if as_json:
        say(_json(rows))
        return
    if not rows:
        say("no request is in progress, and none was left open")
        return
    states = {"open": "under way", "unknown": "left open, charged"}
    cells = [(row.id, _moment(row.time), row.scope, row.arm, states[row.state], dollars(row.reserved)) for row in rows]
    say(grid(("request", "begun (UTC)", "key", "arm", "", "US dollars"), cells, style(), right=frozenset({5})))


def _correct(where: str, name: str, amount: str) -> None:
    from r2router.gateway.ledger.ledger import Ledger
    from r2router.gateway.ledger.windows import dollars
    from r2router.gateway.spend import find_request, nanos_of

    row, _ = find_request(where, name)
    with Ledger.at(where) as ledger:
        charge = ledger.correct_now(name, row.key_id, nanos_of(amount))
    say(f"request {name}: ${dollars(charge.cost)} in place of ${dollars(row.cost or 0)}")


def _moment(microseconds: int) -> str:
    return f"{datetime.fromtimestamp(microseconds / 1e6, UTC):%Y-%m-%d %H:%M:%S}"


# -- one request ------------------------------------------------------------------------------------------------------


@click.command(
    epilog="""\b
Examples:
  r2router explain 4f1c0e9a
  r2router explain 4f1c0e9a --json"""
)
@click.argument("request_id")
@ledger_option
@click.option("--json", "as_json", is_flag=True, help="Print the row as JSON.")
def explain(request_id: str, ledger: str | None, as_json: bool) -> None:
    """Show what happened to one request of the gateway.

    REQUEST_ID stands in the answer's header x-r2router-request-id.
    """
    from r2router.gateway.spend import find_request

    row, zone = find_request(ledger_at(ledger), request_id)
    if as_json:
        say(_json(row))
        return
    for name, words in _facts(row, zone):
        if words:
            say(f"{name:<18}{words}")


def _facts(row: Row, zone: str) -> list[tuple[str, str]]:
    from r2router.gateway.ledger.windows import dollars

    states = {
        "open": "under way", "done": "done", "cut": "cut off", "cancelled": "left by its client", "failed": "failed",
        "unknown": "left open by a crash; charged at its reservation",
    }  # fmt: skip
    forecast = [f"quality {row.forecast_quality:.3f}"] if row.forecast_quality is not None else []
    forecast += [f"cost ${dollars(row.forecast)}"] if row.forecast is not None else []
    baseline = [row.baseline or ""]
    baseline += [f"quality {row.baseline_quality:.3f}"] if row.baseline_quality is not None else []
    baseline += [f"cost ${dollars(row.baseline_cost)}"] if row.baseline_cost is not None else []
    counts = [
        (row.input_tokens, "input"), (row.cached_tokens, "of them cached"), (row.cache_write_tokens,
        "written to the cache"),
        (row.output_tokens, "output"), (row.reasoning_tokens, "of them reasoning"),
    ]  # fmt: skip
    cost = "not known" if row.cost is None else f"${dollars(row.cost)}{' (our own count)' if row.estimated else ''}"
    times = [] if row.latency_us is None else [f"{row.latency_us / 1e6:.3f} s"]
    times += [] if row.ttft_us is None else [f"first byte after {row.ttft_us / 1e6:.3f} s"]
    return [
        ("request", row.id),
        ("time", f"{_moment(row.time)} UTC, counted in the day {row.day} ({zone})"),
        ("state", states[row.state]),
        ("endpoint", row.endpoint),
        ("asked for", f"{row.asked}{f' (preset {row.preset})' if row.preset and row.preset != row.asked else ''}"),
        ("arm", row.arm if row.served in (None, row.arm) else f"{row.served} (first {row.arm})"),
        ("forecast", ", ".join(forecast)),
        ("compared with", ", ".join(baseline) if row.baseline else ""),
        ("attempts", "" if row.attempts is None else str(row.attempts)),
        ("tokens", ", ".join(f"{n:,} {kind}" for n, kind in counts if n)),
        ("cost", "" if row.state == "open" else cost),
        ("reserved", f"${dollars(row.reserved)}" if row.priced else "nothing: the price is not known"),
        ("prices", row.price_version),
        ("latency", ", ".join(times)),
        ("key", row.key_id or ""),
        ("session", row.session or ""),
        ("score", "" if row.score is None else f"{row.score:g} (as its client says)"),
        ("note", row.note or ""),
    ]
