"""What the gateway adds to a call: direct, through a bare relay, and through the gateway, by turns, at a fixed rate and at full load.

Everything runs on this machine: a provider that answers at once or after 50 ms, a relay of uvicorn and aiohttp that looks at nothing, and
`r2router serve` with its ledger on. Load is open: a request goes out when it is due, whether or not the one before came back.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measure

REPLY = json.dumps(
    {
        "id": "c1", "object": "chat.completion", "created": 1, "model": "m", "usage": {"prompt_tokens": 9, "completion_tokens": 3},
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * 500}, "finish_reason": "stop"}],
    }
).encode()  # fmt: skip
WORDS = "Explain in simple words how a heat pump warms a house in winter, why it needs less power than a heater, and what limits it"


async def answer(send: Any, body: bytes) -> None:
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def body_of(receive: Any) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def serve_app(app: Any, port: int) -> None:
    import uvicorn

    uvicorn.run(app, port=port, loop="uvloop", http="httptools", ws="none", lifespan="off", log_level="critical", access_log=False)


def provider(args: argparse.Namespace) -> measure.Figures:
    """A provider that answers after `--delay` seconds."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await body_of(receive)
        if args.delay:
            await asyncio.sleep(args.delay)
        await answer(send, REPLY)

    serve_app(app, args.port)
    return {}


def relay(args: argparse.Namespace) -> measure.Figures:
    """The least that a relay can do."""
    import aiohttp

    session: list[aiohttp.ClientSession] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = await body_of(receive)
        if not session:
            session.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), auto_decompress=False))
        async with session[0].post(args.upstream, data=body, headers={"Content-Type": "application/json"}) as response:
            await answer(send, await response.read())

    serve_app(app, args.port)
    return {}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def servers(delay: float) -> Iterator[tuple[dict[str, str], dict[str, int]]]:
    """(URL by name, process id by name) of the three."""
    ports = {name: free_port() for name in ("direct", "relay", "gateway")}
    urls = {name: f"http://127.0.0.1:{port}/v1/chat/completions" for name, port in ports.items()}
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "gateway.toml"
        config.write_text(
            f'[server]\nport = {ports["gateway"]}\nlogs = "none"\nledger = "{folder}/ledger.sqlite"\n'
            f'[provider.fake]\nbase_url = "http://127.0.0.1:{ports["direct"]}/v1"\n'
            '[[model]]\nid = "fake"\nprovider = "fake"\nusd_per_million = { input = 1, output = 2 }\n'
            '[[model]]\nid = "gpt-5-mini"\nprovider = "fake"\n'
        )
        me = [sys.executable, __file__, "--port"]
        commands = {
            "direct": [*me, str(ports["direct"]), "--case", "provider", "--delay", str(delay)],
            "relay": [*me, str(ports["relay"]), "--case", "relay", "--upstream", urls["direct"]],
            "gateway": [sys.executable, "-m", "r2router", "serve", "--config", str(config)],
        }
        environment = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
        started = {name: subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) for name, command in commands.items()}
        try:
            for name, port in ports.items():
                for _ in range(1200):
                    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                        break
                    assert started[name].poll() is None, f"{name} ended"
                    time.sleep(0.1)
            yield urls, {name: process.pid for name, process in started.items()}
        finally:
            for process in started.values():
                process.terminate()
            for process in started.values():
                process.wait(30)


async def open_load(session: Any, url: str, bodies: list[bytes], rate: float) -> list[float]:
    """Milliseconds of each request from when it was due, at `rate` requests a second."""
    loop = asyncio.get_running_loop()
    begin = loop.time() + 0.05

    async def one(number: int, body: bytes) -> float:
        due = begin + number / rate
        await asyncio.sleep(max(0.0, due - loop.time()))
        async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
            await response.read()
            assert response.status == 200, response.status
        return 1000 * (loop.time() - due)

    return list(await asyncio.gather(*(one(n, body) for n, body in enumerate(bodies))))


async def full_load(session: Any, url: str, body: bytes, seconds: float, at_once: int = 32) -> float:
    """Requests a second that come back with so many at once."""
    end, done = time.monotonic() + seconds, 0

    async def one() -> None:
        nonlocal done
        while time.monotonic() < end:
            async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
                await response.read()
            done += 1

    await asyncio.gather(*(one() for _ in range(at_once)))
    return done / seconds


def asking(model: str, text: str) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 100}).encode()


def spread(milliseconds: list[float]) -> dict[str, float]:
    ranked = sorted(milliseconds)
    return {"p50_ms": statistics.median(ranked), "p99_ms": ranked[min(len(ranked) - 1, round(0.99 * len(ranked)))], "n": len(ranked)}


def rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


async def load(args: argparse.Namespace) -> measure.Figures:
    import aiohttp

    rounds, each, seconds = (2, 20, 0.5) if args.small else (10, 200, 5.0)
    found: dict[str, list[float]] = {name: [] for name in ("direct", "relay", "gateway", "routed new text", "routed known text")}
    with servers(args.delay) as (urls, pids):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            plain, known = asking("fake", "Say something. " * 60), asking("auto", WORDS)
            for _ in range(2):  # warm up
                for name, url in urls.items():
                    await open_load(session, url, [plain] * 10 if name != "gateway" else [plain, known] * 5, 50)
            for turn in range(rounds):
                for name, url in urls.items():
                    found[name] += await open_load(session, url, [plain] * each, 100)
                new = [asking("auto", f"{WORDS} {turn} {n}") for n in range(each // 4)]
                found["routed new text"] += await open_load(session, urls["gateway"], new, 50)
                found["routed known text"] += await open_load(session, urls["gateway"], [known] * (each // 4), 50)
            figures: dict[str, Any] = {"latency": {name: spread(ms) for name, ms in found.items()}}
            throughput: dict[str, list[float]] = {name: [] for name in urls}
            for _ in range(1 if args.small else 3):
                for name, url in urls.items():
                    throughput[name].append(await full_load(session, url, plain, seconds))
            figures["requests_per_s"] = {name: statistics.median(rates) for name, rates in throughput.items()}
        figures["gateway_rss_mib"] = rss_mib(pids["gateway"])
    direct = figures["latency"]["direct"]
    figures["added"] = {
        name: {key: value[key] - direct[key] for key in ("p50_ms", "p99_ms")}
        for name, value in figures["latency"].items()
        if name != "direct"
    }
    figures["throughput_of_bare_relay"] = figures["requests_per_s"]["gateway"] / figures["requests_per_s"]["relay"]
    return figures


CASES = {"provider": provider, "relay": relay, "load": lambda args: asyncio.run(load(args))}


def drive(run: measure.Run) -> measure.Figures:
    """At 0 and at 50 ms."""
    figures = {f"{delay * 1000:g} ms": run.case("load", "--delay", delay, threads=1, timeout=900) for delay in (0.0, 0.05)}
    for name, of in figures.items():
        rows = [
            (what, *(measure.show(of, f"added.{what}.{key}", "{:+.2f}") for key in ("p50_ms", "p99_ms")))
            for what in ("relay", "gateway", "routed new text", "routed known text")
        ]
        measure.table((f"added to a provider of {name}", "p50 ms", "p99 ms"), rows)
        rates = [measure.show(of, f"requests_per_s.{what}", "{:,.0f}") for what in ("direct", "relay", "gateway")]
        measure.table(("requests a second", "direct", "relay", "gateway"), [("", *rates)])
    return figures


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the cases."""
    parser.add_argument("--delay", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--upstream", default="", help=argparse.SUPPRESS)


if __name__ == "__main__":
    measure.run(__file__, __doc__, CASES, drive, configure)
