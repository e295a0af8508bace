"""What the gateway adds to a call: direct, through a bare relay, and through the gateway, by turns, at a fixed rate and
at full load.

Everything runs on this machine: a provider that answers at once or after 50 ms, a relay of uvicorn and aiohttp that
looks at nothing, and `r2router serve` with its ledger on. Load is open: a request goes out when it is due, whether or
not the one before came back. Where the machine has other work, the processor time per request says more than the clock;
both are kept.

Others beside it: `--litellm BIN/litellm` (litellm[proxy]==1.104.0 in an environment of its own) and `--portkey
build/start-server.js` (@portkey-ai/gateway, with node), asked as their documentation says, without a database or any
key.
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
        "id": "c1", "object": "chat.completion", "created": 1, "model": "m", "usage": {"prompt_tokens": 9,
        "completion_tokens": 3},
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * 500}, "finish_reason": "stop"}],
    }
).encode()  # fmt: skip
WORDS = (
    "Explain in simple words how a heat pump warms a house in winter, why it needs less power than a heater, and what"
    " limits it"
)


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

    uvicorn.run(
        app,
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        log_level="critical",
        access_log=False,
        timeout_keep_alive=75,
    )


CHUNKS, GAP_S = 40, 0.02
CHUNK = b"data: " + json.dumps({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [
    {"index": 0, "delta": {"content": "a few words of an answer "},
    "finish_reason": None}]}).encode() + b"\n\n"  # fmt: skip
LAST = b'data: {"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
STREAM_END = (
    b'data: {"id":"c1","choices":[],"usage":{"prompt_tokens":9,"completion_tokens":99,"total_tokens":108}}\n\ndata:'
    b" [DONE]\n\n"
)
STREAMED = CHUNK * CHUNKS + LAST + STREAM_END


def provider(args: argparse.Namespace) -> measure.Figures:
    """A provider that answers after `--delay` seconds, or streams a chunk every 20 ms."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = await body_of(receive)
        if args.delay:
            await asyncio.sleep(args.delay)
        if b'"stream": true' not in body:
            await answer(send, REPLY)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
        for _ in range(CHUNKS):
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
            await asyncio.sleep(GAP_S)
        await send({"type": "http.response.body", "body": LAST + STREAM_END, "more_body": False})

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
            if response.content_type != "text/event-stream":
                await answer(send, await response.read())
                return
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
            )
            async for chunk in response.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    serve_app(app, args.port)
    return {}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def came_up(process: subprocess.Popen[bytes], port: int, within_s: float = 180.0) -> bool:
    """Whether a server listens in time."""
    end = time.monotonic() + within_s
    while process.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        time.sleep(0.1)
    return False


@contextlib.contextmanager
def servers(args: argparse.Namespace) -> Iterator[tuple[dict[str, str], dict[str, int]]]:
    """(URL by name, process id by name) of the three, and of the others that are given."""
    delay = args.delay
    rivals = [name for name in ("litellm", "portkey") if getattr(args, name)]
    ports = {name: free_port() for name in ("direct", "relay", "gateway", *rivals)}
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
        if args.litellm:
            lite = Path(folder) / "litellm.yaml"
            open_door = {"general_settings": {"dangerously_permit_weak_or_unset_master_key": True}}
            parameters = {
                "model": "openai/fake",
                "api_base": f"http://127.0.0.1:{ports['direct']}/v1",
                "api_key": "none",
            }
            lite.write_text(
                json.dumps({**open_door, "model_list": [{"model_name": "fake", "litellm_params": parameters}]})
            )  # JSON is YAML
            commands["litellm"] = [
                args.litellm,
                "--config",
                str(lite),
                "--host",
                "127.0.0.1",
                "--port",
                str(ports["litellm"]),
                "--num_workers",
                "1",
            ]
        if args.portkey:
            commands["portkey"] = ["node", args.portkey, f"--port={ports['portkey']}", "--headless"]
        environment = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
        environment |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "NODE_ENV": "production"}
        quiet: Any = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started = {name: subprocess.Popen(command, **quiet) for name, command in commands.items()}
        try:
            for name, port in ports.items():
                if not came_up(started[name], port):
                    assert name in rivals, f"{name} ended"
                    del urls[name]
            yield urls, {name: started[name].pid for name in urls}
        finally:
            for process in started.values():
                process.terminate()
            for process in started.values():
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()


PORTKEY = {"x-portkey-provider": "openai", "Authorization": "Bearer none"}


def cpu_s(pid: int) -> float:
    """Processor seconds that a process has used, in all its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def open_load(
    session: Any, url: str, bodies: list[bytes], rate: float, headers: dict[str, str] | None = None
) -> list[float]:
    """Milliseconds of each request from when it was due, at `rate` requests a second."""
    loop = asyncio.get_running_loop()
    begin = loop.time() + 0.05

    async def one(number: int, body: bytes) -> float:
        due = begin + number / rate
        await asyncio.sleep(max(0.0, due - loop.time()))
        async with session.post(
            url, data=body, headers={"Content-Type": "application/json", **(headers or {})}
        ) as response:
            said = await response.read()
            assert response.status == 200, (url, response.status, said[:300])
        return 1000 * (loop.time() - due)

    return list(await asyncio.gather(*(one(n, body) for n, body in enumerate(bodies))))


async def full_load(
    session: Any, url: str, body: bytes, seconds: float, at_once: int = 32, headers: dict[str, str] | None = None
) -> float:
    """Requests a second that come back with so many at once."""
    end, done = time.monotonic() + seconds, 0

    async def one() -> None:
        nonlocal done
        while time.monotonic() < end:
            async with session.post(
                url, data=body, headers={"Content-Type": "application/json", **(headers or {})}
            ) as response:
                await response.read()
            done += 1

    await asyncio.gather(*(one() for _ in range(at_once)))
    return done / seconds


def asking(model: str, text: str, **more: Any) -> bytes:
    return json.dumps(
        {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 100, **more}
    ).encode()


def spread(milliseconds: list[float]) -> dict[str, float]:
    ranked = sorted(milliseconds) or [float("nan")]
    return {
        "p50_ms": statistics.median(ranked),
        "p99_ms": ranked[min(len(ranked) - 1, round(0.99 * len(ranked)))],
        "n": len(ranked),
    }


def rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return float("nan")


def agent_body() -> bytes:
    """A request of an agent of about 60,000 tokens: a long history of tools and their outputs."""
    tools = [
        {
            "type": "function",
            "function": {"name": f"tool_{n}", "description": "x" * 400, "parameters": {"type": "object"}},
        }
        for n in range(20)
    ]
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "You are an agent. " * 200},
        {"role": "user", "content": WORDS},
    ]
    for n in range(60):
        call = {
            "id": f"c{n}",
            "type": "function",
            "function": {"name": "tool_1", "arguments": json.dumps({"path": f"src/file_{n}.py"})},
        }
        messages += [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": f"c{n}", "content": "def f(): ... " * 260},
        ]
    return json.dumps({"model": "auto", "messages": messages, "tools": tools, "max_tokens": 100}).encode()


async def one_stream(session: Any, url: str, body: bytes) -> tuple[float, list[float], int]:
    """(ms to the first byte, ms between chunks, bytes) of a stream."""
    begin = last = time.perf_counter()
    first, gaps, size = float("nan"), [], 0
    async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
        async for chunk in response.content.iter_any():
            now = time.perf_counter()
            if size:
                gaps.append(1000 * (now - last))
            else:
                first = 1000 * (now - begin)
            size, last = size + len(chunk), now
    return first, gaps, size


async def streams(session: Any, urls: dict[str, str], rounds: int) -> measure.Figures:
    """Added time to the first byte and per gap, ten at once by turns; and many at once, whose bytes are counted."""
    body = asking("fake", "Say something.", stream=True)
    names = ("direct", "relay", "gateway")
    first: dict[str, list[float]] = {name: [] for name in names}
    gaps: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            for ttft, between, size in await asyncio.gather(
                *(one_stream(session, urls[name], body) for _ in range(10))
            ):
                assert size == len(STREAMED) - (
                    0 if name != "gateway" else len(STREAM_END) - len(b"data: [DONE]\n\n")
                ), (name, size)
                first[name].append(ttft)
                gaps[name] += between
    found: dict[str, Any] = {name: {"first_byte": spread(first[name]), "gap": spread(gaps[name])} for name in names}
    many = 1000 if rounds > 1 else 50
    sizes = [
        size for _, _, size in await asyncio.gather(*(one_stream(session, urls["gateway"], body) for _ in range(many)))
    ]
    return found | {
        "at_once": many,
        "at_once_whole": sizes.count(len(STREAMED) - len(STREAM_END) + len(b"data: [DONE]\n\n")),
    }


async def load(args: argparse.Namespace) -> measure.Figures:
    import aiohttp

    rounds, each, seconds = (1, 20, 0.5) if args.small else (args.rounds, 200, 4.0)
    with servers(args) as (urls, pids):
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            headers = {"portkey": PORTKEY | {"x-portkey-custom-host": urls["direct"].removesuffix("/chat/completions")}}
            plain, known, agent = asking("fake", "Say something. " * 60), asking("auto", WORDS), agent_body()
            loads = {name: ([plain] * each, 100.0) for name in urls}
            for _ in range(2):  # warm up
                for name, url in urls.items():
                    await open_load(
                        session, url, [plain] * 10 if name != "gateway" else [plain, known] * 5, 50, headers.get(name)
                    )
            found: dict[str, list[float]] = {
                name: [] for name in (*loads, "routed new text", "routed known text", "agent body")
            }
            cpu: dict[str, list[float]] = {name: [] for name in found}

            async def one(name: str, server: str, bodies: list[bytes], rate: float) -> None:
                before = cpu_s(pids[server])
                found[name] += await open_load(session, urls[server], bodies, rate, headers.get(server))
                cpu[name].append(1000 * (cpu_s(pids[server]) - before) / len(bodies))

            for turn in range(rounds):
                for name, (bodies, rate) in loads.items():
                    await one(name, name, bodies, rate)
                await one(
                    "routed new text", "gateway", [asking("auto", f"{WORDS} {turn} {n}") for n in range(each // 4)], 50
                )
                await one("routed known text", "gateway", [known] * (each // 4), 50)
                await one("agent body", "gateway", [agent] * (each // 10), 10)
            figures: dict[str, Any] = {"latency": {name: spread(ms) for name, ms in found.items()}}
            figures["cpu_ms_per_request"] = {name: statistics.median(ms) for name, ms in cpu.items()}
            rates: dict[str, list[float]] = {name: [] for name in urls}
            busy: dict[str, list[float]] = {name: [] for name in urls}
            for _ in range(1 if args.small else 2):
                for name, url in urls.items():
                    before = cpu_s(pids[name])
                    rates[name].append(await full_load(session, url, plain, seconds, headers=headers.get(name)))
                    busy[name].append(1000 * (cpu_s(pids[name]) - before) / max(1.0, rates[name][-1] * seconds))
            figures["requests_per_s"] = {name: statistics.median(each) for name, each in rates.items()}
            figures["requests_per_s_by_turn"] = rates
            figures["cpu_ms_per_request_at_full_load"] = {name: statistics.median(each) for name, each in busy.items()}
            if not args.delay:
                figures["streams"] = await streams(session, urls, 1 if args.small else 5)
            figures["rss_mib"] = {name: rss_mib(pid) for name, pid in pids.items()}
            figures["agent_body_bytes"] = len(agent)
            figures["did_not_start"] = [
                name for name in ("litellm", "portkey") if getattr(args, name) and name not in urls
            ]
    direct = figures["latency"]["direct"]
    figures["added"] = {
        name: {key: value[key] - direct[key] for key in ("p50_ms", "p99_ms")}
        for name, value in figures["latency"].items()
        if name != "direct"
    }
    of = figures["requests_per_s"]
    figures["throughput_of"] = {name: of["gateway"] / rate for name, rate in of.items() if name != "gateway" and rate}
    return figures


CASES = {"provider": provider, "relay": relay, "load": lambda args: asyncio.run(load(args))}


def drive(run: measure.Run) -> measure.Figures:
    """At 0 and at 50 ms."""
    others = [
        part
        for name in ("litellm", "portkey")
        if getattr(run.args, name)
        for part in (f"--{name}", getattr(run.args, name))
    ]
    figures = {
        f"{delay * 1000:g} ms": run.case(
            "load", "--delay", delay, "--rounds", run.args.rounds, *more, threads=1, timeout=1200
        )
        for delay, more in ((0.0, others), (0.05, []))
    }
    for name, of in figures.items():
        who = [rival for rival in ("litellm", "portkey") if rival in of.get("requests_per_s", {})]
        rows = [
            (
                what,
                *(measure.show(of, f"added.{what}.{key}", "{:+.2f}") for key in ("p50_ms", "p99_ms")),
                measure.show(of, f"cpu_ms_per_request.{what}", "{:.2f}"),
            )
            for what in ("relay", "gateway", "routed new text", "routed known text", "agent body", *who)
        ]
        measure.table((f"added to a provider of {name}", "p50 ms", "p99 ms", "CPU ms per request"), rows)
        sides = ("direct", "relay", "gateway", *who)
        rates = [measure.show(of, f"requests_per_s.{what}", "{:,.0f}") for what in sides]
        measure.table(("requests per second", *sides), [("", *rates)])
        for key in ("first_byte", "gap") if "streams" in of else ():
            cells = [
                measure.show(of, f"streams.{side}.{key}.p50_ms", "{:.2f}") for side in ("direct", "relay", "gateway")
            ]
            measure.table((f"streams: {key}, p50 ms", "direct", "relay", "gateway"), [("", *cells)])
    return figures


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the cases."""
    parser.add_argument("--rounds", type=int, default=6, help="turns of each side")
    parser.add_argument(
        "--litellm", default="", metavar="FILE", help="the litellm command of an environment of its own"
    )
    parser.add_argument("--portkey", default="", metavar="FILE", help="build/start-server.js of @portkey-ai/gateway")
    parser.add_argument("--delay", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--upstream", default="", help=argparse.SUPPRESS)


if __name__ == "__main__":
    measure.run(__file__, __doc__, CASES, drive, configure)
