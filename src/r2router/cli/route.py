"""`r2router route`: which arm answers one text, or every row of a file."""

from __future__ import annotations

import math
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import click

from r2router.cli.outputs import OutputAddress
from r2router.cli.screen import note, progress, say, style
from r2router.cli.wishes import Wish, wishes

if TYPE_CHECKING:
    from r2router.cascade import CascadePlan
    from r2router.report import CurveRow, Style
    from r2router.router.router import Router
    from r2router.types import BoolArray, Decision, Enforcement, Forecast


@click.command(
    epilog="""\b
Examples:
  r2router route "Prove that sqrt(2) is irrational"
  r2router route --max-cost 0.002 --json "Who wrote Faust?"
  cat question.txt | r2router route - --min-quality 0.8
  r2router route --input questions.jsonl --output arms.csv --router router/
  r2router route --input embeddings.npy --output arms.parquet --value 0.01
  r2router route --input "s3://bucket/prompts/*.parquet" --output s3://bucket/arms.parquet --engine ray"""
)
@click.argument("text", required=False)
@click.option(
    "--input",
    "source",
    metavar="FILE",
    help="Route every row of FILE (.jsonl .csv .txt .parquet .npy) or of an address (s3://...).",
)
@click.option(
    "--output", "target", type=OutputAddress(".jsonl", ".ndjson", ".csv", ".parquet"), metavar="FILE",
    help="Write results to FILE (.jsonl, .csv or .parquet); default: stdout.",
)  # fmt: skip
@click.option(
    "--column",
    metavar="NAME",
    help="The column of --input to route; default: query, prompt, text, vector or embedding.",
)
@click.option(
    "--engine",
    type=click.Choice(["threads", "ray"]),
    default="threads",
    show_default=True,
    help="Where texts are embedded: on threads here, or on a Ray cluster.",
)
@click.option(
    "--workers", type=click.IntRange(min=1), metavar="N", help="Threads that embed; default: one per processor."
)
@wishes
@click.option(
    "--cascade",
    is_flag=True,
    help="Show the plan of the cascade: which arm first, when another, and what that costs in all.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object for TEXT. Rows of --input are always JSON lines."
)
@click.pass_context
def route(
    ctx: click.Context, /, text: str | None, wish: Wish, cascade: bool, as_json: bool, source: str | None, **rows: Any
) -> None:
    """Choose model and output budget for TEXT, or for a file.

    TEXT - reads standard input; before a text that begins with a dash write --. With --input every row of the file
    gives one row of output, in order, with the file's own columns; a row that cannot be routed gets an "error" instead
    of an arm. The exit code is 1 where a row could not be routed, or where no row is forecast to reach --min-quality.
    Files of embeddings (.npy, or a list column in Parquet) are routed without the encoder. --cascade shows what a
    cascade would do: nothing is asked.

    --engine ray embeds on a Ray cluster (RAY_ADDRESS, or one on this machine); the output is the same.
    """
    if (text is None) == (source is None):
        raise click.UsageError("give either a TEXT (or - for standard input) or --input FILE")
    if source is None:
        odd = [
            f"--{name.replace('target', 'output')}"
            for name, value in rows.items()
            if value is not None and _given(ctx, name)
        ]
        if odd:
            raise click.UsageError(f"these options need --input: {', '.join(odd)}")
        (_plan_text if cascade else _route_text)(read_text(text or ""), wish, as_json)
    elif cascade:
        raise click.UsageError(
            "--cascade shows the plan for one TEXT; in Python Router.first_steps gives the first arms of many"
        )
    elif as_json and rows["target"] is not None:
        raise click.UsageError("--json cannot be combined with --output: the file's extension chooses the format")
    elif _route_rows(source, wish, **rows):
        ctx.exit(1)


def _given(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is not click.core.ParameterSource.DEFAULT


def read_text(text: str) -> str:
    """Return the text itself, or standard input for `-`."""
    raw = sys.stdin.buffer.read() if text == "-" else text.encode(errors="surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        where = "standard input" if text == "-" else "TEXT"
        raise click.UsageError(f"{where} is not valid UTF-8 (byte {error.start})") from None


def _route_text(text: str, wish: Wish, as_json: bool) -> None:
    router = wish.router()
    decision, forecast, usable = decided(router, text, wish)
    if as_json:
        say(as_json_text(decision))
        return
    from r2router.report.chart import curve_rows
    from r2router.router.curves import curves_of

    shown = style()
    rows = [r for r in curve_rows(curves_of(router.pool, forecast), decision, usable) if r.best or r.chosen]
    steps = _steps(sorted(rows, key=lambda r: r.cost), shown)
    # written at once, so that whoever takes only the first line (`| head -1`) does not make this fail
    by = "" if decision.familiar else " by the arms' averages, as the query is unlike the training data"
    say(f"{_words(decision, shown)}\n\nBest for some trade-off{by}, from the cheapest to the best:\n{steps}")


def _plan_text(text: str, wish: Wish, as_json: bool) -> None:
    plan = wish.router().plan(text, wish.policy, require=wish.require, exclude=wish.exclude)
    if as_json:
        import msgspec

        whole = plan.to_dict()
        say(msgspec.json.encode({**whole.pop("first"), "plan": whole}).decode())
        return
    shown, rows = style(), [*_words(plan.first, style()).splitlines(), ""]
    if plan.looks:
        calls = ", ".join(f"{count}: {share:.0%}" for count, share in enumerate(plan.calls_share, 1))
        rows += [f"calls      {plan.calls:.2f} expected ({calls})", f"cost       {request_cost_of(plan)}"]
    rows += textwrap.wrap(
        plan.reason,
        max(shown.width, 40),
        initial_indent="cascade    ",
        subsequent_indent=" " * 11,
        break_on_hyphens=False,
    )
    say("\n".join(shown.plain(line) if "\x1b" not in line else line for line in rows))


def request_cost_of(plan: CascadePlan) -> str:
    """Return what all calls are expected to cost, beside the first one."""
    from r2router.text import request_cost

    return (
        f"{request_cost(plan.cost)} expected for all calls, {request_cost(plan.first.cost)} for the first; quality"
        f" {plan.quality:.2f}"
    )


def decided(router: Router, text: str, wish: Wish) -> tuple[Decision, Forecast, BoolArray | None]:
    """Return the decision on a text, the forecast behind it, and which arms it could use (None: all). The text is
    embedded once.
    """
    from r2router.encode import count_tokens

    forecast = router.forecast(text)
    usable = router.usable(wish.require, wish.exclude, count_tokens([text]))
    decision = router.explain(forecast, wish.policy, usable)
    return decision, forecast, None if usable is None else usable.reshape(-1)


def as_json_text(value: object) -> str:
    """JSON of a struct or a list of them; a number that is not known is null."""
    import msgspec

    return msgspec.json.encode(value, enc_hook=str).decode()


def _words(decision: Decision, shown: Style) -> str:
    """Return the arm on a line of its own, so that a script can take the first line; then why."""
    from r2router.text import request_cost

    lines = [shown.paint(decision.arm, bold=True), ""]
    spread = "" if math.isnan(decision.spread) else f" ± {decision.spread:.2f}"
    rest = f"{request_cost(decision.cost)}, {decision.tokens:,.0f} output tokens"
    if decision.familiar:
        lines.append(f"forecast   quality {decision.quality:.2f}{spread}, {rest}")
    else:
        lines.append(
            f"forecast   quality {shown.paint('not known', bold=True)} (by averages {decision.quality:.2f}), {rest}"
        )
    if decision.max_tokens is not None:
        lines.append(f"limit      max_tokens {decision.max_tokens}")
    if words := _request_words(decision.enforcement):
        lines.append(f"request    {words}")
    for head, text in (("reason", decision.reason), ("fallbacks", ", ".join(decision.fallbacks) or "none")):
        lines += textwrap.wrap(
            text, max(shown.width, 40), initial_indent=f"{head:<11}", subsequent_indent=" " * 11, break_on_hyphens=False
        )
    return "\n".join(shown.plain(line) if "\x1b" not in line else line for line in lines)


def _request_words(sent: Enforcement) -> str:
    """Return what a request must carry beside max_tokens."""
    words = []
    if sent.effort is not None:
        words.append(f"reasoning effort {sent.effort}")
    if sent.thinking_tokens is not None:
        words.append(f"{sent.thinking_tokens:,} thinking tokens" if sent.thinking_tokens else "no thinking")
    if sent.instruction is not None:
        words.append(f'"{sent.instruction}" behind the {"text" if sent.place == "user" else "system prompt"}')
    return ", ".join(words)


def _steps(rows: list[CurveRow], shown: Style) -> str:
    from r2router.report.terminal import grid
    from r2router.text import cost_column

    full, empty = "█·" if shown.unicode else "#."
    cells = []
    head, costs = cost_column(row.cost for row in rows)
    for row, cost in zip(rows, costs, strict=True):
        bar = round(12 * row.quality)
        model, budget, quality, tokens, _ = row.cells()
        mark = shown.arrow if row.chosen else ""
        cells.append((mark, f"{model}@{budget}", full * bar + empty * (12 - bar), quality, tokens, cost))
    return grid(("", "arm", "", "quality", "tokens", head), cells, shown, right=frozenset({4, 5}))


def _route_rows(source: str, wish: Wish, *, target: str | None, **options: Any) -> bool:
    """Return whether the work failed: a row could not be routed, or none has what was wished for."""
    from r2router.stream import route_file
    from r2router.text import money

    router = wish.router()
    with progress() as shown:
        found = route_file(
            router,
            source,
            sys.stdout.buffer if target is None else target,
            wish.policy,
            require=wish.require,
            exclude=wish.exclude,
            progress=lambda rows, share: shown("routing", share, 1.0),
            **options,
        )
    if target is not None:
        mean = f", mean quality {found.quality:.2f}, {money(found.cost)} in all (forecast)" if found.routed else ""
        note(f"{found.rows:,} rows in {target}{mean}")
    if found.left_out:
        note(
            f"warning: columns that first appear after the header was written are left out: {', '.join(found.left_out)}"
        )
    mostly = 2 * found.out_of_distribution >= found.routed > 0
    if mostly or (found.out_of_distribution and target is not None):
        mark = "warning: " if mostly else ""
        share = _share(found.out_of_distribution, found.routed)
        note(f"{mark}{share} are unlike the training data; they get the safe choice (familiar: false)")
    failed = bool(found.failed)
    if found.unmet:
        failed = failed or found.unmet == found.routed
        mark = "error" if found.unmet == found.routed else "warning"
        floor = router.resolve(wish.policy).min_quality  # type: ignore[attr-defined]  # only a Cheapest policy counts them
        where = _share(found.unmet, found.routed)
        note(f"{mark}: no arm is forecast to reach quality {floor:g} on {where}; those get the best arm")
    if found.failed:
        note(f'error: {found.failed:,} of {found.rows:,} rows could not be routed; their "error" says why')
    return failed


def _share(part: int, rows: int) -> str:
    """Return how many rows that is. A share is never rounded to none or all."""
    percent = min(max(round(100 * part / rows), 1), 99) if part < rows else 100
    return f"{part:,} of {rows:,} rows ({percent} %)"
