"""Two gateways on one ledger, through HTTP and under load, one of them killed: books that hold at every sampled
moment.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

pytest.importorskip("aiohttp", reason="the gateway needs the [serve] extra")

from fake_provider import Answer, Asked, FakeProvider, chat
from gateway_rig import KEY
from r2router.gateway.keys import Keys
from r2router.gateway.ledger import Ledger, Limits
from r2router.gateway.ledger.database import connect
from test_ledger import ask, check_books, eventually

CLIENTS = 16
MAX = 1_000_000  # nano-dollars; a request reserves some hundred thousand, and costs 9,750


@pytest.fixture(params=["sqlite", "postgresql"])
def where(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "ledger.db") if request.param == "sqlite" else request.getfixturevalue("postgres").new()


def slow_chat(asked: Asked) -> Answer:
    answer = chat(asked)
    return Answer([0.02, *answer.parts], answer.status, answer.headers, answer.length)


@contextmanager
def gateway(where: str, fake: FakeProvider, folder: Path, name: str) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """(port, process) of one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    file = folder / f"{name}.toml"
    file.write_text(
        f'[server]\nport = {port}\nlogs = "none"\nledger = "{where}"\n[provider.fake]\nbase_url = "{fake.url}"\nkey ='
        ' "FAKE_PROVIDER_KEY"\n[[model]]\nid = "mine"\nprovider = "fake"\nusd_per_million = { input = 0.25, output ='
        " 1 }\n"
    )
    command = [sys.executable, "-m", "r2router", "serve", "--config", str(file)]
    process = subprocess.Popen(command, env=os.environ | {"FAKE_PROVIDER_KEY": KEY}, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None and time.monotonic() < deadline, "the gateway did not start"
            time.sleep(0.1)
        yield port, process
    finally:
        process.kill()
        process.wait(20)


class Clients:
    """So many that ask by turns until they are told to stop. acknowledged: ids of what was answered. refused:
    statuses.
    """

    def __init__(self, secret: str) -> None:
        self.secret, self.acknowledged, self.refused = secret, list[str](), list[int]()
        self.lock, self.stop = threading.Lock(), threading.Event()
        self.threads: list[threading.Thread] = []

    def start(self, ports: list[int]) -> None:
        self.threads = [threading.Thread(target=self._ask, args=(ports, number)) for number in range(CLIENTS)]
        for thread in self.threads:
            thread.start()

    def end(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def _ask(self, ports: list[int], turn: int) -> None:
        body = json.dumps(
            {"model": "mine", "max_tokens": 50, "messages": [{"role": "user", "content": "Who wrote Faust?"}]}
        )
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self.secret}"}
        while not self.stop.is_set():
            turn += 1
            connection = HTTPConnection("127.0.0.1", ports[turn % len(ports)], timeout=20)
            try:
                connection.request("POST", "/v1/chat/completions", body, headers)
                response = connection.getresponse()
                data = response.read()
            except (OSError, HTTPException):  # it is the one that was killed
                time.sleep(0.02)
                continue
            finally:
                connection.close()
            with self.lock:
                if response.status == 200:
                    assert b"Goethe" in data
                    self.acknowledged.append(response.headers["x-r2router-request-id"])
                else:
                    self.refused.append(response.status)
            if response.status != 200:
                time.sleep(0.02)


@pytest.mark.slow
def test_two_gateways_on_one_ledger_one_of_them_killed(where: str, tmp_path: Path) -> None:
    key, secret = Keys(where).make("k", Limits(total_nanos=MAX))
    clients = Clients(secret)
    samples = 0
    with (
        FakeProvider(slow_chat) as fake,
        gateway(where, fake, tmp_path, "a") as one,
        gateway(where, fake, tmp_path, "b") as two,
    ):
        clients.start([one[0], two[0]])
        late, end = time.monotonic() + 60.0, None
        while time.monotonic() < (end or late):
            check_books(lambda *q: ask(where, *q))
            samples += 1
            if end is None and len(clients.acknowledged) > 30:
                one[1].send_signal(signal.SIGKILL)
                end = time.monotonic() + 3.0
            time.sleep(0.05)
        clients.end()
        calls = len(fake.asked)
        two[1].send_signal(signal.SIGTERM)
        two[1].wait(60)
    assert end is not None, f"only {len(clients.acknowledged)} answers in a minute, and {clients.refused[:5]}"
    assert samples > 5 and set(clients.refused) <= {402}
    database = connect(where)  # as if its lease had passed
    database.begin()
    database.rows("UPDATE writers SET leased_until = 0")
    database.commit()
    database.close()
    with Ledger.at(where, lease_s=0.5):
        eventually(lambda: not ask(where, "SELECT id FROM requests WHERE state = 'open'"), 20)
    check_books(lambda *q: ask(where, *q))
    rows = [row[0] for row in ask(where, "SELECT id FROM requests")]
    answered = clients.acknowledged
    assert set(answered) <= set(rows), "a request was answered and is in no row"
    assert len(answered) == len(set(answered)) and calls <= len(rows)
    ((spent,),) = ask(where, "SELECT spent FROM windows WHERE id = ?", f"{key.id}/total")
    assert spent <= MAX and ask(
        where, "SELECT count(*) FROM requests WHERE state = 'unknown' AND cost <> reserved"
    ) == [(0,)]
