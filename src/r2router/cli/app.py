"""The command `r2router` itself: its subcommands, and what happens when one of them fails.

Exit codes: 0 done; 1 the work failed; 2 invalid arguments or input files; 130 interrupted. An error is one or two lines
on stderr; a traceback is shown only with R2ROUTER_DEBUG=1 in the environment.
"""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from typing import Any, NoReturn

import click

from r2router._version import __version__
from r2router.cli.add import add
from r2router.cli.answers import answers
from r2router.cli.arena import arena
from r2router.cli.client_keys import keys
from r2router.cli.collect import collect
from r2router.cli.compact import compact
from r2router.cli.curves import curves, path
from r2router.cli.evaluate import calibrate, evaluate
from r2router.cli.judging import agreement, judge
from r2router.cli.learn import import_, train
from r2router.cli.models import models
from r2router.cli.outputs import TYPED
from r2router.cli.pool import pool
from r2router.cli.reproduce import reproduce
from r2router.cli.route import route
from r2router.cli.savings import savings
from r2router.cli.screen import note
from r2router.cli.serve import check, serve
from r2router.cli.simulate import simulate
from r2router.cli.spend import explain, spend
from r2router.cli.split import split
from r2router.cli.suite import suite
from r2router.errors import R2Error, UsageError


class App(click.Group):
    """A group of commands, in the order they are met with, whose errors end the process with the right exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """List commands in the order in which they were added: the most used first."""
        return list(self.commands)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Make the context; keep the command line for reports that show it."""
        typed = shlex.join(["r2router", *args])  # before click empties the list
        context = super().make_context(info_name, args, parent, **extra)
        context.meta[TYPED] = typed
        return context

    def main(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Run, report, and exit."""
        if hasattr(sys.stdout, "reconfigure"):  # a character that the terminal does not have must not end the program
            sys.stdout.reconfigure(errors="replace")
        code = 1
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False}) or 0
            sys.stdout.flush()
        except BrokenPipeError:  # whoever read our output has gone; there is nobody to tell
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - takes what is flushed on exit
        except Exception as error:  # noqa: BLE001 - the one place where everything ends
            code = _report(error)
        sys.exit(code)


def _report(error: Exception) -> int:
    """Say on stderr what went wrong; the exit code."""
    match error:
        # from click 8.2 on; its message is the help
        case click.UsageError() if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            return 2
        case click.UsageError():
            hint = f"\ntry: {error.ctx.command_path} --help" if error.ctx else ""
            return _say(f"error: {error.format_message()}{hint}", 2)
        case click.Abort():
            return _say("interrupted", 130)
        case click.ClickException():
            return _say(f"error: {error.format_message()}", error.exit_code)
        case R2Error():
            return _say(f"error: {error}", 2 if isinstance(error, UsageError) else 1)
        case MemoryError():
            return _say("error: out of memory; route or train on smaller parts", 1)
        case OSError():
            return _say(f"error: {error.filename or 'input or output'}: {error.strerror or error}", 1)
    if os.environ.get("R2ROUTER_DEBUG") == "1":
        traceback.print_exception(error)
    first = next(iter(str(error).splitlines()), "")
    return _say(
        f"internal error: {type(error).__name__}: {first}\nplease report it; R2ROUTER_DEBUG=1 shows where it happened",
        1,
    )


def _say(message: str, code: int) -> int:
    note(message)
    return code


@click.group(
    "r2router",
    cls=App,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=(
        "With no --router, the starter router that comes with r2router is used. r2router COMMAND --help shows examples."
    ),
)
@click.version_option(__version__, prog_name="r2router", message="%(prog)s %(version)s")
def main() -> None:
    """Pick, for each request, which LLM to call and how long its answer may be."""


COMMANDS = (
    *(route, curves, path, models, savings, train, evaluate, calibrate, split, add, reproduce),
    *(suite, collect, compact, answers, judge, agreement, pool, import_, simulate, arena, serve, check),
    *(keys, spend, explain),
)
for command in COMMANDS:
    main.add_command(command)
