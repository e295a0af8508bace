"""`r2router arena`: decisions for RouterArena, and its results."""

from __future__ import annotations

from pathlib import Path

import click

from r2router.cli.outputs import OutputFile
from r2router.cli.screen import note, progress, say, style
from r2router.cli.values import pairs
from r2router.cli.wishes import Wish, wishes

_PATH = click.Path(path_type=Path)


@click.group()
def arena() -> None:
    """Take part in RouterArena, a leaderboard of routers.

    It is for evaluation only: nothing can be trained, calibrated or evaluated on its files here.
    """


@arena.command(
    epilog="""\b
Example:
  r2router arena export --arena RouterArena/ --prompts RouterArena/dataset/router_data.json --router router/ \\
      --out RouterArena/router_inference/predictions/mine.json --config RouterArena/router_inference/config/mine.json \\
      --name qwen3-235b=qwen/qwen3-235b-a22b-2507 --trained-on outcomes.parquet"""
)
@click.option("--prompts", type=_PATH, required=True, metavar="FILE", help="RouterArena's dataset/router_data.json.")
@click.option("--out", type=OutputFile(".json"), required=True, metavar="FILE", help="The prediction file.")
@click.option(
    "--config",
    type=OutputFile(".json"),
    metavar="FILE",
    help="The config file to submit with it, named after the router.",
)
@click.option(
    "--arena",
    "checkout",
    type=_PATH,
    metavar="DIR",
    help="A copy of its repository: names and prices are checked against it.",
)
@click.option(
    "--name", "names", multiple=True, metavar="OURS=THEIRS", help="Our model name = RouterArena's name. Repeatable."
)
@click.option(
    "--trained-on",
    multiple=True,
    metavar="TABLE",
    help="A table that the router was trained on; it is searched for RouterArena's prompts. Repeatable.",
)
@wishes
def export(
    prompts: Path,
    out: Path,
    config: Path | None,
    checkout: Path | None,
    names: tuple[str, ...],
    trained_on: tuple[str, ...],
    wish: Wish,
) -> None:
    """Write the router's choice for every prompt of RouterArena.

    RouterArena knows models and no budgets, so each prediction has the budget in fields of its own (r2router_budget and
    others), which RouterArena ignores: whoever asks the models must set it.
    """
    from r2router.arena import export as decide

    router = wish.router()
    with progress() as shown:
        found = decide(
            router,
            prompts,
            policy=wish.policy,
            names=pairs("--name", names, "gpt-4o=openai/gpt-4o"),
            trained_on=trained_on,
            require=wish.require,
            exclude=wish.exclude,
            arena=checkout,
            progress=shown,
        )
    found.write(out)
    if config is not None:
        found.write_config(config, config.stem)
        if config.stem != out.stem.removesuffix("-robustness"):
            note(
                f"note: RouterArena finds both files by the router's name, but {config.name} and {out.name} differ:"
                " give them the same name"
            )
    for text in found.notes:
        note(f"note: {text}")
    say(f"{out}: {len(found.predictions):,} predictions")
    say("\n".join(f"{count:>7,}  {style().plain(name)}" for name, count in found.models.items()))


@arena.command(
    epilog="""\b
Examples:
  r2router arena read predictions/mine.json --robustness predictions/mine-robustness.json
  r2router arena read metrics.json --json"""
)
@click.argument("results", type=_PATH)
@click.option("--robustness", type=_PATH, metavar="FILE", help="The predictions on the reworded prompts.")
@click.option("--json", "as_json", is_flag=True, help="Print every figure as JSON.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Random seed of the bootstrap.")
def read(results: Path, robustness: Path | None, as_json: bool, seed: int) -> None:
    """Show the figures of RESULTS: a scored prediction file, or a metrics.json."""
    from r2router.arena import read_results
    from r2router.cli.route import as_json_text

    found = read_results(results, robustness, seed=seed)
    say(as_json_text(found.to_dict()) if as_json else "\n".join(map(style().plain, str(found).splitlines())))
