"""`r2router judge` and `r2router agreement`: what answers are worth, and how far to trust whoever says so."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import click

from r2router.cli.keys import agree_to_keys, send_key_option
from r2router.cli.outputs import OutputFile
from r2router.cli.running import agree, dollars, run_plan, say_errors, show_estimate, whatever_stopped
from r2router.cli.screen import note, say, style
from r2router.cli.values import Number

if TYPE_CHECKING:
    from r2router.bench.judging.agreement import Agreement
    from r2router.bench.judging.ask import JudgePlan
    from r2router.bench.judging.bias import LengthBias
    from r2router.bench.status import Status
    from r2router.figure import Figure

_FOLDER = click.Path(path_type=Path)


@click.command(
    epilog="""\b
Examples:
  r2router judge runs/first --judge gpt-5-mini --pool judges.toml --dry-run
  r2router judge runs/first --judge gpt-5-mini --judge qwen3-80b --judge exact --pool judges.toml --max-spend 2
  r2router agreement runs/first"""
)
@click.argument("folder", type=_FOLDER, metavar="DIR")
@click.option(
    "--judge",
    "judges",
    multiple=True,
    required=True,
    metavar="MODEL|SCORER",
    help="A model of --pool, or a scorer. Repeatable.",
)
@click.option(
    "--pool",
    "pool_file",
    type=_FOLDER,
    metavar="TOML",
    help="The pool file with the judges' models, providers and prices.",
)
@click.option(
    "--prompt",
    default="grid-1",
    show_default=True,
    metavar="NAME",
    help="The judge's prompt: grid-1 or response-first-1.",
)
@click.option(
    "--tokens",
    type=click.IntRange(min=1),
    default=400,
    show_default=True,
    help="Maximum tokens of a verdict, thinking included.",
)
@click.option(
    "--max-spend",
    type=Number(),
    metavar="USD",
    help="Stop before judging DIR has cost more than this, earlier runs included.",
)
@click.option("--dry-run", is_flag=True, help="Estimate the cost; make no call.")
@click.option("--yes", is_flag=True, help="Do not ask for confirmation before spending.")
@send_key_option
@click.option(
    "--concurrency", type=click.IntRange(min=1), metavar="N", help="Concurrent calls per provider; default: the pool's."
)
@click.option("--retry-failed", is_flag=True, help="Repeat the judge calls that failed.")
@click.option(
    "--trust-code", is_flag=True, help="Let queries name code-trusted, which runs answers even where no sandbox works."
)
@click.option(
    "--out",
    type=OutputFile(".parquet", own="outcomes.parquet"),
    metavar="FILE",
    help="The Parquet file; by default DIR/outcomes.parquet.",
)
def judge(  # noqa: PLR0913, PLR0917  one parameter an option
    folder: Path, judges: tuple[str, ...], pool_file: Path | None, prompt: str, tokens: int, max_spend: float | None,
    dry_run: bool,
    yes: bool, send_keys: tuple[str, ...], concurrency: int | None, retry_failed: bool, trust_code: bool,
    out: Path | None,
) -> None:  # fmt: skip
    """Judge the answers in DIR, by LLM or by scorer.

    The collected calls are not repeated. Judgements and their cost are kept in DIR/judgements.jsonl. The table has one
    row per (answer, judge). A judge that fails gives no score.
    """
    from r2router.bench.folder import compact, queries_of
    from r2router.bench.scoring import NEED_REFERENCE, SCORERS
    from r2router.errors import DataError

    known = SCORERS.names()
    scorers = [j for j in judges if j in known]
    models = [j for j in dict.fromkeys(judges) if j not in known]
    if any(s in NEED_REFERENCE for s in scorers) and all(q.reference is None for q in queries_of(folder)):
        raise DataError(
            f"{folder}: no query has a reference to score against; judge with an LLM (--judge MODEL --pool TOML)"
        )
    status = None
    if models:
        if pool_file is None:
            raise click.UsageError(f"--judge {models[0]}: an LLM judge needs --pool; scorers are: {', '.join(known)}")
        plan = _plan(folder, models, pool_file, prompt, tokens, concurrency)
        status = _ask(plan, folder, max_spend, dry_run=dry_run, yes=yes, send_keys=send_keys, retry_failed=retry_failed)
    if dry_run:
        return
    made = compact(folder, out, scorers=scorers, trust_code=trust_code, say=lambda told: note(f"note: {told}"))
    say(f"{out or folder / 'outcomes.parquet'}: {made.rows:,} rows, {made.judged:,} judged, {made.errors:,} errors")
    if status is not None:
        _finish(status)


@click.command(
    epilog="""\b
Examples:
  r2router agreement runs/first
  r2router agreement runs/first --human scores.csv --json"""
)
@click.argument("source", type=_FOLDER, metavar="DIR|FILE")
@click.option(
    "--human",
    type=_FOLDER,
    metavar="FILE",
    help="Scores by people: query_id, model, budget, quality (.csv .jsonl .parquet).",
)
@click.option(
    "--resamples",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    help="Bootstrap draws behind the intervals.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed of the bootstrap.")
@click.option("--json", "as_json", is_flag=True, help="Print every figure as JSON.")
def agreement(source: Path, human: Path | None, resamples: int, seed: int, as_json: bool) -> None:
    """Show how well the judges of a collection agree.

    It also shows whether they prefer long answers. Intervals are 95 %, from a bootstrap over queries.
    """
    from r2router.bench.folder import OUTCOMES
    from r2router.bench.judging.agreement import agreements, judges_of, read_ratings
    from r2router.bench.judging.bias import length_biases
    from r2router.errors import DataError

    table = source / OUTCOMES if source.is_dir() else source
    ratings = read_ratings(table, human)
    if len(judges_of(ratings)) < 2:
        raise DataError(
            f"{table}: {judges_of(ratings)[0]!r} is its only judge; add another with r2router judge, or --human"
        )
    pairs = agreements(ratings, resamples=resamples, seed=seed)
    biases = length_biases(ratings, resamples=resamples, seed=seed)
    if as_json:
        import msgspec

        say(msgspec.json.format(msgspec.json.encode({"agreement": pairs, "length": biases})).decode())
        return
    _show(pairs, biases)


def _plan(
    folder: Path, models: list[str], pool_file: Path, prompt: str, tokens: int, concurrency: int | None
) -> JudgePlan:
    import msgspec

    from r2router.bench.judging.ask import judge_plan, judges_of_their_own
    from r2router.bench.judging.prompt import prompt_named
    from r2router.pool.pool import Pool
    from r2router.pool.toml import read_providers

    pool, providers = Pool.read(pool_file), read_providers(pool_file)
    if concurrency is not None:
        from r2router.upstream.known import providers_of

        wanted = [m for m in pool.models if m.id in models]
        providers = {
            n: msgspec.structs.replace(p, concurrency=concurrency) for n, p in providers_of(wanted, providers).items()
        }
    plan = judge_plan(folder, models, pool, providers, prompt_named(prompt), tokens)
    for model in judges_of_their_own(models, pool, folder):
        note(f"note: {model.id} judges its own answers, and LLMs tend to prefer those: add a judge of another family")
    return plan


def _ask(
    plan: JudgePlan,
    folder: Path,
    max_spend: float | None,
    *,
    dry_run: bool,
    yes: bool,
    send_keys: tuple[str, ...],
    retry_failed: bool,
) -> Status | None:
    """Ask the judges what they have not said yet; None where there is nothing to ask, or it is not to be."""
    from r2router.bench.estimate import estimate
    from r2router.bench.journal import Journal
    from r2router.bench.judging.ask import JudgeEngine
    from r2router.bench.judging.kept import JUDGEMENTS
    from r2router.upstream.client import Upstream
    from r2router.upstream.wire import ASKED_AGAIN

    with Journal(folder / JUDGEMENTS, retry=ASKED_AGAIN if retry_failed else (), write=not dry_run) as journal:
        for text in journal.notes:
            note(f"note: {text}")
        left = estimate(plan, journal)
        show_estimate(left, journal, len(plan), "judgements")
        if dry_run or not left:
            return None
        expected, high = sum(e.usd for e in left), sum(e.high_usd for e in left)
        if not yes and high > 0:
            limited = "" if max_spend is None else f", never above {dollars(max_spend)} in all"
            agree(f"spend about {dollars(expected)} (up to {dollars(high)}{limited}) on judging?")
        agree_to_keys(plan.providers, send_keys)
        return asyncio.run(run_plan(plan, journal, lambda: JudgeEngine(Upstream(plan.providers)), max_spend, expected))


def _finish(status: Status) -> None:
    from r2router.errors import CollectError

    say(
        f"{status.done:,} of {status.planned:,} judgements, {status.failed:,} failed, {dollars(status.spent_usd)} spent"
        " on judging"
    )
    say_errors(status)
    if status.stopped:
        raise CollectError(
            f"{whatever_stopped(status)}. The judgements are kept: run the same command again to continue"
        )
    if status.done < status.planned:
        raise CollectError("interrupted. The judgements are kept: run the same command again to continue")


def _show(pairs: list[Agreement], biases: list[LengthBias]) -> None:
    from r2router.report.terminal import grid

    shown = style()
    head = ("judges", "answers", "queries", "Pearson", "Spearman", "kappa", "weighted kappa", "difference")
    rows = [
        (
            f"{p.a}, {p.b}",
            f"{p.n:,}",
            f"{p.queries:,}",
            _value(p.pearson),
            _value(p.spearman),
            _value(p.kappa),
            _value(p.weighted_kappa),
            _value(p.difference),
        )
        for p in pairs
    ]
    say(grid(head, rows, shown, right=frozenset({1, 2})))
    columns = ("judge", "given the scores of", "answers", "score and length", "given those scores")
    lengths = [(b.judge, b.reference, f"{b.n:,}", _value(b.plain), _value(b.given)) for b in biases]
    say(
        "\nRank correlation of scores with the length of responses:\n"
        + grid(columns, lengths, shown, right=frozenset({2}))
    )


def _value(figure: Figure) -> str:
    return "-" if figure.value != figure.value else f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})"
