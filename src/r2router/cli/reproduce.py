"""`r2router reproduce`: the experiments of the paper, on any outcome table."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from r2router.cli.learn import learner_of
from r2router.cli.report import check_reports, reports, typed, write_reports
from r2router.cli.screen import progress, say, style
from r2router.cli.tables import Data, data, embeddings, vectors

if TYPE_CHECKING:
    from r2router.table.table import Table

_PATH = click.Path(path_type=Path)


class _Reproduce(click.Command):
    """Lists the experiments in its help, from where they are defined."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The experiments, then the examples."""
        from r2router.evaluation.experiments import EXPERIMENTS

        with formatter.section("Experiments"):
            formatter.write_dl(list(EXPERIMENTS.items()))
        super().format_epilog(ctx, formatter)


@click.command(
    cls=_Reproduce,
    epilog="""\b
Examples:
  r2router reproduce main outcomes.parquet --prices prices.csv --report main.html
  r2router reproduce queries outcomes.parquet --prices prices.csv --seeds 3""",
)
@click.argument("experiment")
@click.argument("tables", nargs=-1, required=True, metavar="TABLE...")
@data
@click.option("--other-judge", metavar="NAME", help="For `judge`: compare the methods by the scores of this judge.")
@click.option("--task", "tasks", multiple=True, metavar="TASK", help="Only the queries of this task. Repeatable.")
@click.option(
    "--encoder", default="minilm", show_default=True, metavar="ENCODER", help="What turns texts into vectors."
)
@click.option(
    "--also-encoder",
    "encoders",
    multiple=True,
    metavar="ENCODER",
    help="For `encoder`: another encoder to compare with. Repeatable.",
)
@vectors
@click.option("--cache", type=_PATH, metavar="FILE", help="Remember embeddings here, for the next experiment.")
@click.option("--learner", metavar="NAME[:KEY=VALUE,...]", help="Our learner; default: the default learner.")
@click.option("--seeds", type=click.IntRange(min=1), default=5, show_default=True, help="Repetitions with other folds.")
@click.option(
    "--folds", type=click.IntRange(min=2), default=5, show_default=True, help="Folds; each is held out once per seed."
)
@click.option(
    "--resamples",
    type=click.IntRange(min=1),
    default=300,
    show_default=True,
    help="Bootstrap draws behind the intervals.",
)
@reports
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def reproduce(
    experiment: str, tables: tuple[str, ...], data: Data, files: tuple[Path, ...], as_json: bool, **asked: Any
) -> None:
    """Run an experiment of the paper on outcome tables.

    All methods see the same embeddings, folds, prices and outcomes; each query is forecast by learners that were fitted
    without it. A rerun gives the same numbers.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before numpy is loaded
        # its arrays are small: threads that wait for each other take several times as long
        os.environ.setdefault(name, "1")
    from r2router.evaluation.contenders import HoldOutPlan
    from r2router.evaluation.experiments import check_name
    from r2router.evaluation.experiments import reproduce as run

    check_name(experiment)
    check_reports(files)
    for option, value, only in (
        ("--other-judge", asked["other_judge"], "judge"),
        ("--also-encoder", asked["encoders"], "encoder"),
    ):
        if value and experiment != only:
            raise click.UsageError(f"{option} is for the experiment {only!r}; {experiment!r} does not use it")
    if asked["other_judge"] is not None and asked["other_judge"] == data.texts.judge:
        raise click.UsageError(f"--judge and --other-judge are both {data.texts.judge!r}: name two judges")
    data.check_priced(tables)
    learner = None if asked["learner"] is None else learner_of(asked["learner"])
    table = _of_tasks(data.read(tables), asked["tasks"])
    other = None
    if asked["other_judge"] is not None:
        other = _of_tasks(
            replace(data, texts=replace(data.texts, judge=asked["other_judge"])).read(tables), asked["tasks"]
        )
    given = {name: asked[name] for name in ("encoder", "encoders", "cache")}
    with progress() as shown:
        findings = run(
            experiment,
            table,
            plan=HoldOutPlan(tuple(range(asked["seeds"])), asked["folds"], asked["resamples"]),
            vectors=None if asked["vectors"] is None else embeddings(asked["vectors"]),
            learner=learner,
            other=other,
            command=typed(),
            progress=shown,
            **given,
        )
    write_reports(findings, files)
    if as_json:
        import msgspec

        say(msgspec.json.format(msgspec.json.encode(findings.to_dict(), enc_hook=str)).decode())
    else:
        from r2router.report import report_text

        say(report_text(findings, style()))


def _of_tasks(table: Table, tasks: tuple[str, ...]) -> Table:
    """Return the queries of those tasks; all where none is named."""
    import numpy as np

    from r2router.errors import DataError

    unknown = set(tasks) - set(table.tasks)
    if unknown:
        raise DataError(f"no query has the task {min(unknown)!r}; there are: {', '.join(sorted(set(table.tasks)))}")
    return table.take(np.flatnonzero(np.isin(table.tasks, tasks))) if tasks else table
