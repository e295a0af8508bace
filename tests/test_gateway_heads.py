"""Heads and packings that some clients send, byte by byte."""

from __future__ import annotations

import gzip
import json
import socket
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("uvicorn", reason="the gateway needs the [serve] extra")

from fake_provider import FakeProvider
from gateway_rig import KEY, PATHS, Rig, asking, rig


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with pytest.MonkeyPatch.context() as patch, FakeProvider() as found:
        patch.setenv("FAKE_PROVIDER_KEY", KEY)
        yield found


@pytest.fixture(scope="module")
def gate(fake: FakeProvider) -> Iterator[Rig]:
    with rig({"fake": fake}) as found:
        yield found


def raw(gate: Rig, *parts: bytes) -> bytes:
    """What comes back for bytes as they are, each part in a packet of its own."""
    with socket.create_connection(("127.0.0.1", gate.port), timeout=20) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            client.sendall(part)
            time.sleep(0.02)
        found = b""
        while piece := client.recv(65_536):
            found += piece
        return found


@pytest.mark.parametrize("name", [b"Upgrade", b"upgrade", b"UPGRADE"])
def test_an_offer_of_http_2_does_not_cost_the_body(gate: Rig, fake: FakeProvider, name: bytes) -> None:
    """As Java's client sends its first request."""
    fake.asked.clear()
    body = json.dumps(asking("chat", note="\r\nUpgrade: h2c\r\n\r\n")).encode()
    head = b"POST /v1/chat/completions HTTP/1.1\r\nConnection: Upgrade, HTTP2-Settings, close\r\nHost: localhost\r\n"
    more = b"Content-Length: %d\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n" % len(body)
    for parts in (
        [head + more + name + b": h2c\r\n\r\n" + body],
        [head, name + b": h2c\r\n" + more + b"\r\n", body],
        [head + name + b": h2c\r\n" + more + b"\r\n" + body[:9], body[9:]],
    ):
        assert raw(gate, *parts).startswith(b"HTTP/1.1 200"), parts
    assert len(fake.asked) == 3 and all(asked.body["note"] == "\r\nUpgrade: h2c\r\n\r\n" for asked in fake.asked)


def test_a_body_in_several_gzip_members_is_one(gate: Rig, fake: FakeProvider) -> None:
    body = json.dumps(asking("chat")).encode()
    twice = gzip.compress(body[:25]) + gzip.compress(body[25:])
    head = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    assert gate.request("POST", PATHS["chat"], twice, **head)[0] == 200
    status, _, said = gate.request("POST", PATHS["chat"], gzip.compress(body)[:-12], **head)
    assert status == 400 and json.loads(said)["error"]["code"] == "invalid_body"


@pytest.mark.parametrize("host", ["evil.example@127.0.0.1", "evil.example\\@localhost", "localhost@evil.example"])
def test_a_name_behind_another_is_not_this_machine(gate: Rig, host: str) -> None:
    line = f"GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    assert raw(gate, line.encode()).startswith(b"HTTP/1.1 403")
