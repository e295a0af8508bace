"""`r2router serve`: the gateway. `r2router check`: is its configuration right, and can its providers be reached?"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from r2router.cli.screen import note, say, style

if TYPE_CHECKING:
    from r2router.gateway.setting import Setting

_FILE = click.Path(path_type=Path)


@click.command(
    epilog="""\b
Examples:
  r2router serve
  r2router serve --config gateway.toml --port 8000
  curl -s http://127.0.0.1:4040/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{"model": "auto", "messages": [{"role": "user", "content": "Who wrote Faust?"}]}'"""
)
@click.option(
    "--config", "file", type=_FILE, metavar="FILE", help="The configuration (TOML); default: the built-in settings."
)
@click.option("--host", metavar="ADDRESS", help="Address to listen on; default: 127.0.0.1.")
@click.option("--port", type=click.IntRange(0, 65_535), metavar="N", help="Port; default: 4040. 0 takes any free port.")
@click.option("--router", metavar="DIR", help="The saved router; default: the bundled starter router.")
def serve(file: Path | None, host: str | None, port: int | None, router: str | None) -> None:
    """Run the gateway: a server for clients of OpenAI and Anthropic.

    Set a client's base URL to http://127.0.0.1:4040/v1 and ask for the model auto. The providers whose keys are in the
    environment are called. Without any key, every answer is a recorded one that costs nothing and says so. SIGHUP
    reloads the configuration. SIGTERM stops the gateway after the answers in progress.
    """
    from r2router.gateway.serve import open_ledger, read_setting
    from r2router.gateway.serve import serve as run

    given = {"host": host, "port": port, "router": None if router is None else str(Path(router).absolute())}
    again = partial(read_setting, file, **given)
    setting = again()

    def ready(address: str) -> None:
        for line in _summary(setting):
            note(line)
        note(f"listening on {address} (OpenAI clients: {address}/v1)")

    ledger = open_ledger(setting, file)
    try:
        run(setting, file, books=ledger, again=again, ready=ready)
    finally:
        if ledger is not None:
            ledger.close()


def _summary(setting: Setting) -> list[str]:
    models = [m for m in setting.router.pool.models if m.available]
    if setting.replay:
        return [
            "no provider key is set: every answer is a REPLAY, no model is asked and nothing is spent",
            "set OPENAI_API_KEY, ANTHROPIC_API_KEY, OPENROUTER_API_KEY or GEMINI_API_KEY, or write a configuration",
        ]
    providers = sorted({m.provider for m in (*models, *setting.others.values())})
    lines = [f"{len(models)} models can be routed to, at {', '.join(providers)}"]
    if setting.missing:
        lines.append(f"{len(setting.missing)} models cannot be called; r2router check says why")
    return [*lines, *_keys(setting)]


def _keys(setting: Setting) -> list[str]:
    """Which variable's key goes to which host, of the providers that may be called: a file may be anybody's."""
    from r2router.cli.keys import host_of

    called = [setting.providers[name] for name, key in setting.keys.items() if key]
    return sorted({f"key: {provider.key} goes to {host_of(provider)}" for provider in called})


@click.command(
    epilog="""\b
Examples:
  r2router check
  r2router check --config gateway.toml --offline"""
)
@click.option("--config", "file", type=_FILE, metavar="FILE", help="The configuration (TOML).")
@click.option("--offline", is_flag=True, help="Do not connect to any provider.")
@click.pass_context
def check(ctx: click.Context, file: Path | None, offline: bool) -> None:
    """Check a gateway's configuration and its providers.

    Nothing is spent: the file, the router, prices and keys are looked at, and each provider is asked for its list of
    models. The exit code is 1 where a provider cannot be reached or refuses its key, or no model can be called.
    """
    from r2router.gateway.check import problems, reach
    from r2router.gateway.serve import read_setting
    from r2router.report.terminal import grid

    setting = read_setting(file)
    models = [*setting.router.pool.models, *setting.others.values()]
    rows = [_row(setting, m.id, m.provider) for m in models]
    say(grid(("model", "provider", "speaks", "in", "out", ""), rows, style(), right=frozenset({3, 4})))
    for problem in problems(setting):
        note(f"note: {problem}")
    if setting.replay:
        note("note: no provider key is set, so every answer would be a recorded one")
        return
    for line in _keys(setting):
        note(line)
    failed = [] if offline else reach(setting)
    for failure in failed:
        note(f"error: {failure}")
    if failed or len(setting.missing) == len(models):
        ctx.exit(1)
    called = sum(m.available for m in setting.router.pool.models) + sum(
        m not in setting.missing for m in setting.others
    )
    say(f"\n{called} of {len(models)} models can be called")


def _row(setting: Setting, name: str, provider: str) -> tuple[str, ...]:
    from r2router.pool.prices import price_words

    model = setting.names[name]
    prices = model.usd_per_million
    money = ("unknown", "unknown") if prices is None else (price_words(prices, "input"), price_words(prices, "output"))
    known = setting.providers.get(provider)
    return name, provider, ", ".join(known.speaks) if known else "", *money, setting.missing.get(name, "")
