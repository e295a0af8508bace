"""Reports of what was spent, by day, key, model, preset or session: sums of the ledger's rows."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec
import numpy as np

from r2router.errors import LedgerError, UsageError
from r2router.figure import Figure
from r2router.gateway.ledger.database import Database, Failed, connect, migrations, version
from r2router.gateway.ledger.rows import ROW, Row
from r2router.gateway.ledger.windows import dollars
from r2router.gateway.ledger.work import NO_KEY
from r2router.gateway.pacing import Pace
from r2router.metrics import intervals
from r2router.pool.prices import cost_nanos
from r2router.types import Prices
from r2router.upstream.usage import Usage

By = Literal["day", "month", "key", "model", "arm", "preset", "session"]
_COLUMNS: dict[str, str] = {
    "day": "day",
    "month": "month",
    "key": f"coalesce(key_id, '{NO_KEY}')",
    "arm": "coalesce(served, arm)",
    "model": "coalesce(served, arm)",
    "preset": "coalesce(preset, '-')",
    "session": "coalesce(session, '-')",
}
_RESAMPLES = 500
_MAX_ROWS = 50_000  # of which intervals are made


class SpendRow(msgspec.Struct):
    """Sums of some requests. Money in nano-dollars.

    spent: of requests that have ended.
    in_flight: reserved for requests that have not.
    estimated: number of requests whose tokens are our own count.
    unknown: number of requests that a crash left open.
    unpriced: number of requests at an unknown price; they are in no sum of money.
    over: number of requests that were billed above their reservation.
    """

    name: str
    requests: int = 0
    open: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    spent: int = 0
    in_flight: int = 0
    estimated: int = 0
    unknown: int = 0
    unpriced: int = 0
    over: int = 0

    def add(self, other: SpendRow) -> None:
        """Add another line to this one."""
        for name in SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))


SUMS = SpendRow.__struct_fields__[1:]
_SELECT = """count(*), sum(CASE WHEN state = 'open' THEN 1 ELSE 0 END), sum(coalesce(input_tokens, 0)), sum(coalesce(cached_tokens, 0)),
    sum(coalesce(output_tokens, 0)), sum(coalesce(reasoning_tokens, 0)),
    sum(CASE WHEN state = 'open' THEN 0 ELSE coalesce(cost, 0) END), sum(CASE WHEN state = 'open' THEN reserved ELSE 0 END),
    sum(estimated), sum(CASE WHEN state = 'unknown' THEN 1 ELSE 0 END), sum(1 - priced),
    sum(CASE WHEN priced = 1 AND cost > reserved THEN 1 ELSE 0 END)"""


class ModelComparison(msgspec.Struct, frozen=True):
    """The same requests with one model for all.

    saved: US dollars per request, with its 95 % interval; negative where it cost more.
    spent, instead: nano-dollars of the n requests that can be compared.
    how: what the comparison is based on.
    quality: forecast quality of the arm that answered minus that of the model, where both were forecast.
    """

    model: str
    n: int
    spent: int
    instead: int
    saved: Figure
    quality: Figure | None
    how: str


class TargetStatus(msgspec.Struct, frozen=True):
    """A preset's target, and how well it has been kept.

    kind: `cost`, US dollars per 1,000 requests; `day`, US dollars per day; `quality`, a mean score.
    target, actual: in that unit.
    error: of the actual, as a share of the target.
    value: of a correct answer now, US dollars.
    n: number of requests.

    None where there is no figure yet.
    """

    preset: str
    kind: str
    target: float
    actual: float | None
    error: float | None
    value: float
    n: int

    @classmethod
    def of(cls, preset: str, pace: Pace) -> TargetStatus:
        """Make it from the state of a target."""
        times = 1000.0 if pace.kind == "cost" else 1.0
        known = math.isfinite(pace.mean)
        actual, error = (pace.mean * times, pace.error) if known else (None, None)
        return cls(preset, pace.kind, pace.target * times, actual, error, pace.value, pace.n)


class Spend(msgspec.Struct, frozen=True):
    """A report of what was spent.

    zone: the time zone in which days begin.
    lines: the largest first; days in their order.
    held: of presets with a target.
    """

    by: str
    zone: str
    since: str | None
    until: str | None
    lines: tuple[SpendRow, ...]
    total: SpendRow
    against: ModelComparison | None = None
    held: tuple[TargetStatus, ...] = ()

    def to_csv(self) -> str:
        """Return one row per line and no total, so that columns can be summed."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow((self.by, *(f"{name}_usd" if name in _MONEY else name for name in SUMS)))
        for line in self.lines:
            rows.writerow(
                (line.name, *(dollars(getattr(line, name)) if name in _MONEY else getattr(line, name) for name in SUMS))
            )
        return text.getvalue()

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON types; money in whole nano-dollars and in dollars."""

        def of(line: SpendRow) -> dict[str, Any]:
            return msgspec.to_builtins(line) | {f"{name}_usd": dollars(getattr(line, name)) for name in _MONEY}

        found = {
            "by": self.by,
            "time_zone": self.zone,
            "since": self.since,
            "until": self.until,
            "unit": "nano-dollars",
        }
        against = None
        if self.against is not None:
            against = {name: getattr(self.against, name) for name in ("model", "n", "spent", "instead", "how")}
            against |= {"saved_usd_per_request": _figure(self.against.saved), "quality": _figure(self.against.quality)}
        return {
            **found,
            "lines": [of(line) for line in self.lines],
            "total": of(self.total),
            "against": against,
            "held": msgspec.to_builtins(self.held),
        }


_MONEY = ("spent", "in_flight")


def _figure(figure: Figure | None) -> dict[str, Any] | None:
    return None if figure is None else {name: getattr(figure, name) for name in ("value", "low", "high", "n")}


def read_only(where: str | Path) -> Database:
    """Open a ledger for reading. Raises `LedgerError`."""
    database = connect(where, write=False)
    try:
        newest = migrations()[-1][0]
        found = version(database, newest)
    except Failed as failed:
        database.close()
        raise LedgerError(f"{where}: cannot be read as a ledger ({failed})") from None
    except LedgerError:
        database.close()
        raise
    if found < newest:
        database.close()
        raise LedgerError(
            f"{where}: the ledger is from an older r2router: `r2router keys list --ledger {where}` updates it"
        )
    return database


def _zone(database: Database) -> str:
    """Return the ledger's time zone; UTC before the first gateway opens it."""
    rows = database.rows("SELECT value FROM settings WHERE name = 'zone'")
    return str(rows[0][0]) if rows else "UTC"


def spend(
    where: str | Path,
    by: By = "day",
    *,
    since: str | None = None,
    until: str | None = None,
    key: str | None = None,
    against: tuple[str, Prices | None] | None = None,
) -> Spend:
    """Sum the ledger's rows.

    since, until: days in the ledger's zone, both included.
    key: only of this key (`-`: requests without a key).
    against: a model to compare with, and its prices to bill the requests' own tokens at; with prices None, the
        forecasts for that model are used.
    """
    if by not in get_args(By):
        raise UsageError(f"cannot sum by {by!r}; give one of {', '.join(get_args(By))}")
    for name, day in (("since", since), ("until", until)):
        if day is not None and not re.fullmatch(r"\d{4}-\d\d-\d\d", day):
            raise UsageError(f"{name} is {day!r}; give a day, as in 2026-01-31")
    conditions, values = ["1 = 1"], []
    for condition, value in (("day >= ?", since), ("day <= ?", until), (f"coalesce(key_id, '{NO_KEY}') = ?", key)):
        if value is not None:
            conditions.append(condition)
            values.append(value)
    clause = " AND ".join(conditions)
    database = read_only(where)
    try:
        zone = _zone(database)
        rows = database.rows(f"SELECT {_COLUMNS[by]}, {_SELECT} FROM requests WHERE {clause} GROUP BY 1", values)  # noqa: S608 - our own words
        if against is None:
            against = _usual(database, clause, values)
        compared = None if against is None else _against(database, clause, values, *against)
        held = _held(database)
    except Failed as failed:
        raise LedgerError(f"{where}: cannot be read as a ledger ({failed})") from None
    finally:
        database.close()
    found: dict[str, SpendRow] = {}
    total = SpendRow("total")
    for name, *sums in rows:
        shown = str(name).partition("@")[0] if by == "model" else str(name)
        line = SpendRow(shown, *(int(value or 0) for value in sums))
        found.setdefault(shown, SpendRow(shown)).add(line)
        total.add(line)
    ordered = sorted(found.values(), key=lambda line: line.name if by in ("day", "month") else (-line.spent, line.name))
    return Spend(by, zone, since, until, tuple(ordered), total, compared, held)


def _usual(database: Database, clause: str, values: Sequence[Any]) -> tuple[str, None] | None:
    """Return what most of the requests were compared with; None where there is nothing."""
    where = (
        f"{clause} AND baseline_cost IS NOT NULL AND state <> 'open' AND cost IS NOT NULL AND input_tokens IS NOT NULL"
    )
    rows = database.rows(
        f"SELECT baseline, count(*) FROM requests WHERE {where} GROUP BY baseline ORDER BY 2 DESC, 1 LIMIT 1",  # noqa: S608
        values,
    )
    return (str(rows[0][0]), None) if rows else None


def _held(database: Database) -> tuple[TargetStatus, ...]:
    names = Pace.__struct_fields__
    rows = database.rows(f"SELECT name, {', '.join(names)} FROM pacing ORDER BY name")  # noqa: S608
    return tuple(TargetStatus.of(name, Pace(**dict(zip(names, found, strict=True)))) for name, *found in rows)


def _against(
    database: Database, clause: str, values: Sequence[Any], model: str, prices: Prices | None
) -> ModelComparison:
    columns = (
        "cost, input_tokens, output_tokens, cached_tokens, reasoning_tokens, baseline_cost, forecast_quality,"
        " baseline_quality, baseline"
    )
    where = f"{clause} AND state <> 'open' AND cost IS NOT NULL AND input_tokens IS NOT NULL"
    rows = database.rows(f"SELECT {columns} FROM requests WHERE {where} ORDER BY time DESC LIMIT {_MAX_ROWS}", values)  # noqa: S608
    spent, instead, quality = [], [], []
    for cost, given, made, cached, reasoning, other_cost, own, other, baseline in rows:
        named = baseline is not None and model in (baseline, str(baseline).partition("@")[0])
        if prices is not None:
            instead.append(cost_nanos(prices, Usage(given, made or 0, cached, reasoning)))
        elif named and other_cost is not None:
            instead.append(other_cost)
        else:
            continue
        spent.append(cost)
        if named and own is not None and other is not None:
            quality.append(own - other)
    if not spent:
        hint = "give its prices with --pool" if prices is None else "there is no settled request"
        raise UsageError(f"nothing to compare with always {model}: no request has a forecast of it; {hint}")
    saved = (np.array(instead, dtype=np.float64) - np.array(spent, dtype=np.float64)) / 1e9
    how = "the same tokens at its prices" if prices is not None else "what was forecast for it before each request"
    return ModelComparison(
        model, len(spent), sum(spent), sum(instead), intervals.mean("saved", saved, _RESAMPLES, 0),
        intervals.mean("quality", np.array(quality), _RESAMPLES, 0) if quality else None, how,
    )  # fmt: skip


# -- one request, and those that nobody settled -----------------------------------------------------------------------


def find_request(where: str | Path, name: str) -> tuple[Row, str]:
    """Return a request, and the time zone of its day. Raises `UsageError` where it is not there."""
    database = read_only(where)
    try:
        rows = database.rows(f"SELECT {', '.join(ROW)} FROM requests WHERE id = ?", (name,))  # noqa: S608
        zone = _zone(database)
    finally:
        database.close()
    if not rows:
        raise UsageError(f"no request {name!r} in {where}: its id is in the answer's header x-r2router-request-id")
    return Row(*rows[0]), zone


def left_open(where: str | Path) -> list[Row]:
    """List running requests and those that a crash left, which are charged at their reservation, oldest first."""
    database = read_only(where)
    try:
        rows = database.rows(
            f"SELECT {', '.join(ROW)} FROM requests WHERE state IN ('open', 'unknown') ORDER BY time, id"  # noqa: S608
        )
    finally:
        database.close()
    return [Row(*row) for row in rows]


def nanos_of(amount: str) -> int:
    """Convert an amount as people write it to nano-dollars: `12.50`, `$0.003`. Raises `UsageError`."""
    text = amount.strip().removeprefix("$")
    if not re.fullmatch(r"\d{1,9}(\.\d{1,12})?", text):
        raise UsageError(f"{amount!r} is not an amount in US dollars: give 0 or more, as in 12.50")
    nanos = Decimal(text).scaleb(9)
    if nanos != int(nanos):
        raise UsageError(f"{amount!r} is finer than a nano-dollar (9 decimals)")
    return int(nanos)
