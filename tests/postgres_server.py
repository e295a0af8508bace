"""A real PostgreSQL for tests: a server of our own in a folder of its own, from Debian's packages; skipped where there
is none.
"""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest


class Server:
    """A server that listens on a socket of this machine alone; durable as it comes."""

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._folder = Path(tempfile.mkdtemp(prefix="r2pg-"))
        self._numbers = itertools.count()
        self._as: list[str] = []
        if os.getuid() == 0:  # PostgreSQL does not run as root
            user = next((name for name in ("postgres", "nobody") if name in {u.pw_name for u in pwd.getpwall()}), None)
            if user is None or shutil.which("setpriv") is None:
                pytest.skip("PostgreSQL does not run as root, and there is no other user or no setpriv")
            self._as = ["setpriv", f"--reuid={user}", "--clear-groups"]
            shutil.chown(self._folder, user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self._run("initdb", "-D", "data", "-U", "me", "-A", "trust", "--no-sync", "-E", "UTF8")
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c shared_buffers=16MB"
        self._run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")

    def new(self) -> str:
        """The address of a new, empty database."""
        import psycopg

        name = f"t{next(self._numbers)}"
        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}")
        return self.address(name)

    def disconnect(self, where: str) -> None:
        """End all connections to a database, as a server that restarts does."""
        import psycopg

        with psycopg.connect(self.address("postgres"), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (where.rpartition("/")[2],)
            )

    def address(self, name: str) -> str:
        return f"postgresql://me@127.0.0.1:{self.port}/{name}"

    def stop(self) -> None:
        self._run("pg_ctl", "-D", "data", "-m", "immediate", "stop")
        shutil.rmtree(self._folder, ignore_errors=True)

    def _run(self, name: str, *args: str) -> None:
        subprocess.run(
            [*self._as, str(self._binaries / name), *args], cwd=self._folder, check=True, timeout=300,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip


def start() -> Server:
    """A server, or a skip that says why there is none."""
    pytest.importorskip("psycopg", reason="a ledger on PostgreSQL needs the [postgres] extra")
    found = shutil.which("initdb") or max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=None)
    if found is None:
        pytest.skip("there is no PostgreSQL: apt-get install postgresql")
    return Server(Path(found).parent)
