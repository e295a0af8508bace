"""What the terminal can show, and progress on stderr."""

from __future__ import annotations

import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from r2router.text import clean

if TYPE_CHECKING:
    from r2router.report.terminal import Style

_PATIENCE = 1.0  # seconds of work before a bar appears: what is over at once needs none
_PLAIN_EVERY = (
    10.0  # seconds between lines where stderr is a file: enough to see that it lives, too few to be in the way
)


def style() -> Style:
    """Return what stdout can show: colours only on a terminal that wants them, braille only where the encoding
    has it.
    """
    from r2router.report.terminal import Style

    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    try:
        "⣿◆▶±│".encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return Style(shutil.get_terminal_size().columns, colour, unicode=False)
    return Style(shutil.get_terminal_size().columns, colour)


_OWN_COLOURS = re.compile(r"(\x1b\[[0-9;]{1,10}m)")


def say(text: str) -> None:
    """A result on stdout. Every word that is shown goes through here or `note`, so that no foreign one can act on the
    terminal.

    Colours stay, as ours are among them; JSON stays the same data.
    """
    parts = _OWN_COLOURS.split(text)
    click.echo("".join(part if at % 2 else clean(part, keep="\n") for at, part in enumerate(parts)))


def note(text: str) -> None:
    """A line on stderr for whoever watches."""
    click.echo(clean(text, keep="\n"), err=True)


class Progress:
    """Called with what is going on, how much of it is done, and how much there is: a bar on a terminal, a rare line
    elsewhere.
    """

    def __init__(self) -> None:
        self._begin = time.monotonic()
        self._said = self._begin
        self._bar: Any = None
        self._tasks: dict[str, Any] = {}

    def __call__(self, what: str, done: float, total: float) -> None:
        """Show it."""
        now = time.monotonic()
        if sys.stderr.isatty():
            if self._bar is not None or now - self._begin >= _PATIENCE:
                self._show(what, done, total)
        elif now - self._said >= _PLAIN_EVERY:
            self._said = now
            note(f"{what}: {done / max(total, 1e-9):.0%} after {now - self._begin:.0f} s")

    def _show(self, what: str, done: float, total: float) -> None:
        if self._bar is None:
            from rich.console import Console
            from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
        if what not in self._tasks:
            self._tasks[what] = self._bar.add_task(clean(what), total=total)
        self._bar.update(self._tasks[what], completed=done, total=total)

    def stop(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()


@contextmanager
def progress() -> Iterator[Progress]:
    """Progress for the length of some work."""
    shown = Progress()
    try:
        yield shown
    finally:
        shown.stop()
