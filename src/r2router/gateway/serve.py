"""Runs a gateway: the server around the application, its reloads and its end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from r2router.errors import ConfigError, LedgerError, MissingExtra, R2Error
from r2router.gateway.app import Gateway
from r2router.gateway.books import Books
from r2router.gateway.config import Config
from r2router.gateway.incoming import is_loopback
from r2router.gateway.keys import Keys
from r2router.gateway.ledger import Ledger
from r2router.gateway.ledger.place import default_ledger
from r2router.gateway.setting import Setting
from r2router.upstream.endpoint import key_of

_HEAD_S = 20.0
"""How long the head of a request may take to arrive."""
_MAX_HEAD = 64 * 1024
_KEEP_ALIVE_S = 75
_LOOK_EVERY_S = 2.0
_COLLECT_AFTER = 5_000
"""Objects after which garbage is looked for; a request makes some hundred, nearly all without cycles."""


def read_setting(file: Path | None, **server: Any) -> Setting:
    """Load a configuration file, or the default where there is none.

    server: fields of `[server]` that replace the file's.

    Raises `ConfigError`, `ArtifactError` and `MissingPrice`.
    """
    config = Config() if file is None else Config.read(file)
    given = {name: value for name, value in server.items() if value is not None}
    config = msgspec.structs.replace(config, server=msgspec.structs.replace(config.server, **given))
    check_open(config, file)
    return Setting.of(config, None if file is None else file.parent)


def open_ledger(setting: Setting, file: Path | None) -> Ledger | None:
    """Open the ledger of a setting; None where it has none. Raises `LedgerError`."""
    where = ledger_of(setting.config, file)
    if isinstance(where, Path):
        try:
            where.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(f"{where}: cannot be made ({error.strerror or error}); set server.ledger") from None
    return None if where is None else Ledger.at(where)


def ledger_of(config: Config, file: Path | None) -> Path | str | None:
    """Return the path or address of a configuration's ledger; None where it has none."""
    where = config.server.ledger or default_ledger()
    if where == "none":
        return None
    if where.startswith(("postgresql://", "postgres://")):
        return where
    path = Path(where)
    return path if path.is_absolute() or file is None else file.parent / path


def check_open(config: Config, file: Path | None = None) -> None:
    """Raise `ConfigError` where other machines could use the gateway without a key in the environment or the ledger."""
    key = config.server.key
    if key:
        _, wrong = key_of(key)
        if wrong:
            raise ConfigError(f"server.key: {wrong}")
    elif not is_loopback(config.server.host) and not _has_keys(ledger_of(config, file)):
        raise ConfigError(
            f"server.host {config.server.host!r} can be reached from other machines, and no key is set: make one with"
            ' `r2router keys make`, or put one into an environment variable and name it, as in key = "R2ROUTER_KEY",'
            " or listen on 127.0.0.1"
        )


def _has_keys(where: Path | str | None) -> bool:
    if where is None or (isinstance(where, Path) and not where.exists()):
        return False
    return Keys(where).any()


def serve(
    setting: Setting,
    file: Path | None,
    *,
    books: Books | None = None,
    again: Callable[[], Setting],
    ready: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or SIGINT.

    again: loads the setting again, at SIGHUP and when its files change.
    ready: called with the address.

    Raises `ConfigError` where the address cannot be used.
    """
    try:
        import uvicorn
        import uvloop
    except ImportError:
        raise MissingExtra("r2router serve needs the [serve] extra: pip install 'r2router[serve]'") from None
    server = setting.config.server
    listening = _listen(server.host, server.port)
    host, port = listening.getsockname()[:2]

    async def run() -> None:
        gateway = Gateway(setting, books=books, keys=Keys(books.where) if isinstance(books, Ledger) else None)
        config = uvicorn.Config(
            gateway,
            loop="none",
            http=protocol(),
            ws="none",
            lifespan="on",
            log_level="critical",
            access_log=False,
            server_header=False,
            date_header=True,
            proxy_headers=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(setting.config.limits.drain_s)),
        )
        running = _ending(uvicorn.Server, gateway)(config)
        watcher = asyncio.create_task(_reloads(gateway, file, again))
        ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
        try:
            await running.serve(sockets=[listening])
        finally:
            watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watcher

    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(run())


def _ending(server: type[Any], gateway: Gateway) -> type[Any]:
    """Make a server that ends by itself at SIGTERM and SIGINT.

    uvicorn raises the signal again after its end; the process would then be gone before the ledger is closed.
    """

    class Ending(server):  # type: ignore[misc,valid-type,unused-ignore]
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, self.leave, number)
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            gc.collect()
            gc.freeze()  # the router and the libraries stay until the end: no collection has to look at them again
            gc.set_threshold(_COLLECT_AFTER, 20, 20)

        def leave(self, number: int) -> None:
            gateway.draining = True
            self.handle_exit(number, None)

    return Ending


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(2048)
    except OSError as error:
        found.close()
        raise ConfigError(f"cannot listen on {host}:{port} ({error.strerror or error}); give another --port") from None
    found.setblocking(False)
    return found


_UPGRADE = re.compile(rb"(\A|\r\n)upgrade:(?![ \t]*websocket)[^\r\n]*\r\n", re.IGNORECASE)


def without_upgrade(data: bytes) -> bytes:
    """Take the offer of another protocol out of a request's head.

    Java's client offers HTTP/2 with each first request. A server may ignore that; but the parser takes what comes
    behind such a head for the other protocol, so that the request would have no body. A WebSocket is refused elsewhere.
    """
    head, end, body = data.partition(b"\r\n\r\n")
    return _UPGRADE.sub(rb"\1", head + end) + body if b"pgrade" in head.lower() else data


def protocol() -> Any:
    """Make uvicorn's protocol with limits on the size and time of a request's head; uvicorn has none."""
    try:
        import httptools  # noqa: F401  what uvicorn parses with
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        raise MissingExtra("r2router serve needs the [serve] extra: pip install 'r2router[serve]'") from None

    class Bounded(HttpToolsProtocol):  # type: ignore[misc,unused-ignore]
        head_bytes = 0
        head_timer: asyncio.TimerHandle | None = None
        in_head = True

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait_for_head()

        def connection_lost(self, exc: Exception | None) -> None:
            self._head_came()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self.head_timer is not None:
                self.head_bytes += len(data)
            super().data_received(without_upgrade(data) if self.in_head else data)
            if self.head_timer is not None and self.head_bytes > _MAX_HEAD:
                self._close_late()

        def on_message_begin(self) -> None:
            self._wait_for_head()
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._head_came()
            self.in_head = False
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self.in_head = True
            super().on_message_complete()

        def _wait_for_head(self) -> None:
            self._head_came()
            self.head_bytes = 0
            self.head_timer = self.loop.call_later(_HEAD_S, self._close_late)

        def _head_came(self) -> None:
            if self.head_timer is not None:
                self.head_timer.cancel()
                self.head_timer = None

        def _close_late(self) -> None:
            self._head_came()
            if self.transport is not None and not self.transport.is_closing():
                self.transport.close()

    return Bounded


# -- reloads ----------------------------------------------------------------------------------------------------------


async def _reloads(gateway: Gateway, file: Path | None, again: Callable[[], Setting]) -> None:
    """Reload at SIGHUP, and when the configuration or the router's files have changed."""
    asked = asyncio.Event()
    with contextlib.suppress(NotImplementedError, AttributeError):  # Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    seen = _stamps(gateway.setting, file)
    while True:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LOOK_EVERY_S):
                await asked.wait()
        now = _stamps(gateway.setting, file)
        if not asked.is_set() and now == seen:
            continue
        asked.clear()
        seen = now
        await reload(gateway, again)


async def reload(gateway: Gateway, again: Callable[[], Setting]) -> bool:
    """Load the files again. Where they are wrong, report it and keep the old setting. Returns whether it was
    replaced.
    """
    try:
        setting = await asyncio.to_thread(again)
    except R2Error as error:
        gateway.log.say(f"not reloaded, the old configuration is kept: {error}")
        return False
    gateway.reload(setting)
    gateway.log.say("reloaded")
    return True


def _stamps(setting: Setting, file: Path | None) -> tuple[object, ...]:
    folder = setting.config.server.router
    router = (
        None if not folder else Path(folder) if Path(folder).is_absolute() or file is None else file.parent / folder
    )
    found: list[object] = []
    for path in (file, router and router / "router.json"):
        try:
            stat = path.stat() if path is not None else None
            found.append(stat and (stat.st_mtime_ns, stat.st_size, stat.st_ino))
        except OSError:
            found.append(None)
    return tuple(found)
