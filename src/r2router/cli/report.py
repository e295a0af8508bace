"""The option --report, which commands that find something out share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from r2router.cli.outputs import TYPED, OutputFile
from r2router.cli.screen import note, style

if TYPE_CHECKING:
    from r2router.evaluation.report import Report
    from r2router.evaluation.sparse import SparseReport
    from r2router.report.findings import Findings

reports = click.option(
    "--report",
    "files",
    multiple=True,
    type=OutputFile(".html", ".json", ".svg", ".png"),
    metavar="FILE",
    help="Write a report: .html for people, .json for programs, .svg or .png for the plots. Repeatable.",
)


def check_reports(files: Sequence[Path]) -> None:
    """Refuse files that could not be written, before the work."""
    from r2router.report.file import check_report

    for file in files:
        check_report(file)


def write_reports(findings: Findings | Sequence[Findings], files: Sequence[Path]) -> None:
    """Write the findings to each file, and say where they are."""
    from r2router.report.file import write_report

    for file in files:
        for written in write_report(findings, file):
            note(f"report written to {written}")


def in_words(report: Report | SparseReport) -> str:
    """Return an evaluation as text that this terminal takes."""
    from r2router.report import report_text

    return report_text(report.summary(), style())


def typed() -> str:
    """Return the command as it was typed; no secret can be in it, as secrets come from the environment only."""
    return str(click.get_current_context().meta.get(TYPED, ""))
