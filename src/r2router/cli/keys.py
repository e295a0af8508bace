"""Which key goes to which host: said before the first call, and asked where the pool file alone says so."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from r2router.cli.screen import note

if TYPE_CHECKING:
    from r2router.types import Provider

send_key_option = click.option(
    "--send-key",
    "send_keys",
    multiple=True,
    metavar="VARIABLE=HOST",
    help="Allow sending the key in VARIABLE to HOST, which is not a known provider's host. Repeatable.",
)


def agree_to_keys(providers: Mapping[str, Provider], consents: tuple[str, ...]) -> None:
    """Say which variable's key goes to which host; ask once for each pair that is no known provider's, as a pool file
    may be anybody's.

    Consent to spend (--yes) is none to that: a script names the pair, VARIABLE=HOST. A key that stays on this machine
    needs none. Raises `click.UsageError` where nobody can answer, `CollectError` where the answer is no.
    """
    from r2router.errors import CollectError

    given = set(consents)
    for provider in dict.fromkeys(providers.values()):
        if not provider.key:
            continue
        host = host_of(provider)
        note(f"key: {provider.key} goes to {host}")
        if (
            _is_known(provider)
            or _is_here(host)
            or f"{provider.key}={host}" in given
            or not os.environ.get(provider.key)
        ):
            continue
        if not _agreed(provider.key, host):
            raise CollectError(f"no key was sent to {host}: you answered no")


def host_of(provider: Provider) -> str:
    """Return the host of a provider, with its port where it has one."""
    return urlsplit(provider.base_url).netloc.rpartition("@")[2]


def _is_known(provider: Provider) -> bool:
    from r2router.upstream.known import KNOWN

    return any((known.key, host_of(known)) == (provider.key, host_of(provider)) for known in KNOWN.values())


def _is_here(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _agreed(key: str, host: str) -> bool:
    question = f"{host} is no known provider's host of {key}. Send the key in {key} there?"
    try:
        return click.confirm(question, err=True)
    except click.Abort:
        if sys.stdin.isatty():
            raise
        note("")
        raise click.UsageError(
            f"the pool sends the key in {key} to {host}, not the host of a known provider: give --send-key {key}={host}"
            " if you want that"
        ) from None
