"""Write docs/cli.md: the help of every command, as the command line itself gives it.

usage: cli_reference.py [--check]      --check writes nothing, and fails where the page is not up to date
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from r2router.cli import main as r2router

PAGE = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
HEAD = "# The command line\n\nMade by `make docs` from the help texts; edit the help text to change it.\n"


def sections(command: click.Command, name: str, parent: click.Context | None = None) -> Iterator[str]:
    """The help of a command, then of its subcommands in the order of the help."""
    context = command.make_context(name, [], parent, resilient_parsing=True)
    context.terminal_width = 100
    path = context.command_path
    yield f"\n## {path}\n\n```text\n{command.get_help(context).strip()}\n```\n"
    if isinstance(command, click.Group):
        for sub in command.list_commands(context):
            yield from sections(command.commands[sub], sub, context)


def main() -> None:
    text = HEAD + "".join(
        "\n".join(line.rstrip() for line in part.split("\n")) for part in sections(r2router, "r2router")
    )
    if "--check" not in sys.argv:
        PAGE.write_text(text, encoding="utf-8")
    elif not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
        raise SystemExit("docs/cli.md is not what the command line says: run `make docs`")


if __name__ == "__main__":
    main()
