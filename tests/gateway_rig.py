"""A gateway on loopback before fake providers, in this process: what tests of the gateway stand on."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import uvicorn

from fake_provider import FakeProvider
from r2router.gateway.app import Gateway
from r2router.gateway.config import Config, Overlay, Served, Server
from r2router.gateway.keys import Keys
from r2router.gateway.ledger import Ledger, Opened, Settled, Ticket
from r2router.gateway.logs import Log
from r2router.gateway.serve import protocol
from r2router.gateway.setting import Setting
from r2router.starter import starter

KEY = "sk-fake-provider-key-0123456789"
PATHS = {"chat": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}
EVERY = ("chat", "responses", "messages", "completions", "embeddings")


class Pages:
    """Books in memory."""

    def __init__(self) -> None:
        self.opened: list[Opened] = []
        self.settled: list[Settled] = []

    async def open(self, opened: Opened) -> Ticket:
        self.opened.append(opened)
        return Ticket(opened.id, opened)

    async def settle(self, ticket: Ticket, settled: Settled) -> None:
        self.settled.append(settled)


@cache
def pool_models() -> tuple[Any, ...]:
    return starter().pool.models


def config(
    providers: Mapping[str, FakeProvider],
    *,
    given: Mapping[str, Any] | None = None,
    speaks: Sequence[str] = EVERY,
    **more: Any,
) -> Config:
    """A configuration in which the starter router's models are served by the fakes by turns, with every capability.

    given: `limits`, `preset`, `alias`, ... as in a file.
    """
    names = list(providers)
    models = [
        Overlay(
            id=m.id,
            provider=names[n % len(names)],
            upstream=f"up-{m.id}",
            capabilities=frozenset({"tools", "vision", "json", "logprobs", "files", "audio", "n", "custom_tools"}),
        )
        for n, m in enumerate(pool_models())
    ]
    served = {
        name: Served(base_url=fake.url, key="FAKE_PROVIDER_KEY", dialect="openrouter", speaks=tuple(speaks), **more)
        for name, fake in providers.items()
    }
    whole: dict[str, Any] = {"server": {"logs": "none"}, **(given or {})}
    found = msgspec.convert(whole, Config)
    return msgspec.structs.replace(found, model=(*models, *found.model), provider={**served, **found.provider})


class Rig:
    """gateway, books, port; `post` and `stream` talk to it over a socket. ledger: in place of books in memory."""

    def __init__(self, setting: Setting, ledger: Ledger | None = None) -> None:
        self.books: Any = Pages() if ledger is None else ledger
        keys = None if ledger is None else Keys(ledger.where, fresh_s=0.0)
        self.lines: list[str] = []
        self.gateway = Gateway(setting, books=self.books, keys=keys, log=Log("json", self))  # type: ignore[arg-type]
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        listening = socket.socket()
        listening.bind(("127.0.0.1", 0))
        listening.listen(1024)
        self.port: int = listening.getsockname()[1]
        settings: Any = {
            "loop": "none",
            "http": protocol(),
            "ws": "none",
            "lifespan": "on",
            "log_level": "critical",
            "access_log": False,
        }
        self.server = uvicorn.Server(uvicorn.Config(self.gateway, **settings))
        self._socket = listening

    def write(self, line: str) -> None:
        self.lines.append(line)

    def flush(self) -> None: ...

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_until_complete(self.server.serve(sockets=[self._socket]))
        self.loop.close()

    def __enter__(self) -> Rig:
        self._thread.start()
        deadline = time.monotonic() + 60
        while not self.server.started:
            assert time.monotonic() < deadline and self._thread.is_alive()
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self._thread.join(20)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def request(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """(status, headers, body). Headers in lower case; underscores in names stand for dashes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            sent = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
            connection.request(method, path, body, sent)
            response = connection.getresponse()
            data = b""
            with contextlib.suppress(http.client.IncompleteRead):
                data = response.read()
            return response.status, {k.lower(): v for k, v in response.getheaders()}, data
        finally:
            connection.close()

    def post(self, path: str, body: Any, **headers: str) -> tuple[int, dict[str, str], bytes]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", PATHS.get(path, path), data, **headers)

    def fresh(self) -> None:
        """Forget what was asked before, once it is over: a request is settled after its client has the answer."""
        deadline = time.monotonic() + 10
        while len(self.books.settled) < len(self.books.opened) and time.monotonic() < deadline:
            time.sleep(0.005)
        self.books.opened.clear()
        self.books.settled.clear()

    def settled(self, count: int = 1) -> list[Settled]:
        """What was settled, once that is so many."""
        deadline = time.monotonic() + 10
        while len(self.books.settled) < count and time.monotonic() < deadline:
            time.sleep(0.01)
        found: list[Settled] = self.books.settled
        return found


@contextlib.contextmanager
def rig(
    providers: Mapping[str, FakeProvider], folder: Path | None = None, ledger: Ledger | None = None, **how: Any
) -> Iterator[Rig]:
    with Rig(Setting.of(config(providers, **how), folder), ledger) as found:
        yield found


def asking(endpoint: str, text: str = "Who wrote Faust?", model: str = "auto", **more: Any) -> dict[str, Any]:
    """A request of an endpoint."""
    if endpoint == "responses":
        return {"model": model, "input": text, **more}
    body = {"model": model, "messages": [{"role": "user", "content": text}], **more}
    return {"max_tokens": 1000, **body} if endpoint == "messages" else body


def free_server(**fields: Any) -> Server:
    return Server(logs="none", **fields)
