"""`r2router savings`: what prompts would cost with what is used now, and with a router."""

from __future__ import annotations

from pathlib import Path

import click

from r2router.cli.mine import Mine, mine
from r2router.cli.report import check_reports, reports, typed, write_reports
from r2router.cli.screen import note, progress, say, style
from r2router.cli.tables import embeddings
from r2router.cli.wishes import load

_FOLDER = click.Path(path_type=Path)


@click.command(
    epilog="""\b
Examples:
  r2router savings prompts.csv --now gpt-4o
  r2router savings log.jsonl --now claude-sonnet-4-5 --providers openai,anthropic
  r2router savings prompts.txt --now gpt-5@high --report savings.html
  r2router savings prompts.parquet --column question --now my-llm --like my-llm=qwen3-32b:0.1/0.4"""
)
@click.argument("prompts", metavar="PROMPTS", type=_FOLDER)
@click.option(
    "--now", required=True, metavar="MODEL", help="The model that is used now, or one of its arms (MODEL@BUDGET)."
)
@mine
@click.option(
    "--router", "folder", type=_FOLDER, metavar="DIR", help="The saved router; by default the bundled starter router."
)
@click.option(
    "--column",
    metavar="NAME",
    help="The column that holds the prompts; default: one of a usual name, else the only one with texts.",
)
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    default=5_000,
    show_default=True,
    metavar="N",
    help="Of more prompts, so many are drawn.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed of that.")
@click.option(
    "--vectors",
    type=_FOLDER,
    metavar="FILE",
    help="Embeddings of the prompts (.npy, in their order), where they exist already.",
)
@reports
@click.option("--json", "as_json", is_flag=True, help="Every figure as JSON.")
def savings(  # noqa: PLR0913, PLR0917 - one an option
    prompts: Path,
    now: str,
    mine: Mine,
    folder: Path | None,
    column: str | None,
    sample: int,
    seed: int,
    vectors: Path | None,
    files: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Show what PROMPTS would cost, and how good answers would be.

    PROMPTS is a CSV, JSON, JSON lines, Parquet or text file (one prompt per line); a prompt is a text, or a chat with
    messages, of which the last turn of the user counts and everything before it is paid for. Nothing is called, and no
    key is needed.

    Shown are: the model that is used now; a router over all models, and over yours (--models, --providers, or the
    providers whose keys are in the environment), at the cost that gives today's quality; the best pools of one to five
    arms; and what today's cost could buy. The 95 % intervals are as wide as such promises were wrong on held-out tasks
    of the public record.
    """
    from r2router.prompts.read import read_prompts
    from r2router.prompts.savings import savings as judged
    from r2router.report.findings_text import report_text

    check_reports(files)
    found = read_prompts(prompts, column)
    router = load(folder)
    x = None if vectors is None else embeddings(vectors)
    models, providers = mine.chosen(router, starter=folder is None)
    with progress() as shown:
        result = judged(
            found,
            now,
            router,
            models=models,
            providers=providers,
            like=mine.like,
            sample=sample,
            seed=seed,
            vectors=x,
            progress=shown,
        )
    write_reports(result.findings(typed()), files)
    if as_json:
        from r2router.cli.route import as_json_text

        say(as_json_text(result.to_dict()))
        return
    say(report_text(result.findings(typed()), style()))
    if not files:
        note("--report savings.html writes this as a page to show to others")
