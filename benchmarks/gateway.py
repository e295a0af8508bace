"""What the gateway adds to a call: direct, through a bare relay, and through the gateway, by turns, at a fixed rate and
at full load.

Everything runs on this machine: a provider that answers at once or after 50 ms, a relay of uvicorn and aiohttp that
looks at nothing, and `r2router serve` with its ledger on. Load is open: a request goes out when it is due, whether or
not the one before came back. Where the machine has other work, the processor time per request says more than the clock;
both are kept.

The gateway is there twice: with its ledger on the disk, as it is installed, and with it in memory. No client has its
whole answer before the request is on the disk, so the first has the disk's own time in it (`sync_ms`), and the second
says what the gateway takes.

Others beside it: `--litellm BIN/litellm` (litellm[proxy]==1.104.0), `--switchyard BIN/python` (nemo-switchyard==0.3.0)
and `--portkey build/start-server.js` (@portkey-ai/gateway, with node), each in an environment of its own, asked as its
documentation says, without a database, a provider's key or a network. `--memory REQUESTS` follows what the gateway
holds over so many requests, instead of all else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import measure
from gateway_servers import (
    RIVALS,
    STREAM_END,
    STREAMED,
    WORDS,
    gates,
    gateway_before,
    headers_of,
    provider,
    relay,
    servers,
    sync_ms,
)


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
    names = ("direct", "relay", *gates())
    first: dict[str, list[float]] = {name: [] for name in names}
    gaps: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            for ttft, between, size in await asyncio.gather(
                *(one_stream(session, urls[name], body) for _ in range(10))
            ):
                assert size == len(STREAMED) - (
                    0 if name not in gates() else len(STREAM_END) - len(b"data: [DONE]\n\n")
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
            headers = {name: headers_of(name, urls) for name in urls}
            plain, known, agent = asking("fake", "Say something. " * 60), asking("auto", WORDS), agent_body()
            for _ in range(2):  # warm up
                for name, url in urls.items():
                    bodies = [plain, known] * 5 if name in gates() else [plain] * 10
                    await open_load(session, url, bodies, 50, headers[name])
            found: dict[str, list[float]] = {}
            cpu: dict[str, list[float]] = {}

            async def one(name: str, server: str, bodies: list[bytes], rate: float) -> None:
                before = cpu_s(pids[server])
                taken = await open_load(session, urls[server], bodies, rate, headers[server])
                found.setdefault(name, []).extend(taken)
                cpu.setdefault(name, []).append(1000 * (cpu_s(pids[server]) - before) / len(bodies))

            for turn in range(rounds):
                for name in urls:
                    await one(name, name, [plain] * each, 100.0)
                for gate in gates():
                    where = gate.removeprefix("gateway")
                    new = [asking("auto", f"{WORDS} {gate} {turn} {n}") for n in range(each // 4)]
                    await one(f"routed new text{where}", gate, new, 50)
                    await one(f"routed known text{where}", gate, [known] * (each // 4), 50)
                    await one(f"agent body{where}", gate, [agent] * (each // 10), 10)
            figures: dict[str, Any] = {"latency": {name: spread(ms) for name, ms in found.items()}}
            figures["cpu_ms_per_request"] = {name: statistics.median(ms) for name, ms in cpu.items()}
            rates: dict[str, list[float]] = {name: [] for name in urls}
            busy: dict[str, list[float]] = {name: [] for name in urls}
            for _ in range(1 if args.small else 2):
                for name, url in urls.items():
                    before = cpu_s(pids[name])
                    rates[name].append(await full_load(session, url, plain, seconds, headers=headers[name]))
                    busy[name].append(1000 * (cpu_s(pids[name]) - before) / max(1.0, rates[name][-1] * seconds))
            figures["requests_per_s"] = {name: statistics.median(each) for name, each in rates.items()}
            figures["requests_per_s_by_turn"] = rates
            figures["cpu_ms_per_request_at_full_load"] = {name: statistics.median(each) for name, each in busy.items()}
            if not args.delay:
                figures["streams"] = await streams(session, urls, 1 if args.small else 5)
            figures["rss_mib"] = {name: rss_mib(pid) for name, pid in pids.items()}
            figures["agent_body_bytes"] = len(agent)
            figures["did_not_start"] = [name for name in RIVALS if getattr(args, name) and name not in urls]
            figures["sync_ms"] = sync_ms(Path(tempfile.gettempdir()))
    direct = figures["latency"]["direct"]
    figures["added"] = {
        name: {key: value[key] - direct[key] for key in ("p50_ms", "p99_ms")}
        for name, value in figures["latency"].items()
        if name != "direct"
    }
    of = figures["requests_per_s"]
    figures["throughput_of"] = {
        gate: {name: of[gate] / rate for name, rate in of.items() if name not in gates() and rate} for gate in gates()
    }
    return figures


async def memory(args: argparse.Namespace) -> measure.Figures:
    """What the gateway holds after so many requests: mostly passed through, some routed by a new text, some streamed."""
    import aiohttp

    step = max(200, args.memory // 40)
    series: list[tuple[int, float]] = []
    args.litellm = args.portkey = args.switchyard = ""
    with servers(args) as (urls, pids):
        gate = gates()[-1]
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            done = 0

            async def some(worker: int, until: int) -> None:
                nonlocal done
                while done < until:
                    done += 1
                    body = asking("fake", f"Say something. {done}")
                    if done % 50 == 0:
                        body = asking("auto", f"{WORDS} {done}")
                    elif done % 50 == 1:
                        body = asking(
                            "fake", f"Say something. {worker} {done}", user=f"u{done}", stream=done % 500 == 1
                        )
                    async with session.post(
                        urls[gate], data=body, headers={"Content-Type": "application/json"}
                    ) as response:
                        await response.read()
                        assert response.status == 200, response.status

            for until in range(step, args.memory + 1, step):
                await asyncio.gather(*(some(worker, until) for worker in range(32)))
                series.append((done, rss_mib(pids[gate])))
                print(f"    {done:,} requests: {series[-1][1]:.0f} MiB", file=sys.stderr, flush=True)
    half = [size for number, size in series if number > args.memory / 2]
    return {
        "rss_mib_after": series,
        "largest_mib": max(size for _, size in series),
        "second_half_grew_mib": half[-1] - half[0] if half else float("nan"),
    }


ENDPOINTS = {
    "/v1/chat/completions": b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n',
    "/v1/responses": b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"a"}\n\n',
    "/v1/messages": b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
    b'"delta":{"type":"text_delta","text":"a"}}\n\n',
}
WINDOWS = ("before the first byte", "in the stream", "not streamed")


async def leaving(args: argparse.Namespace) -> measure.Figures:
    """Milliseconds from when a client leaves until its provider sees that the call has ended."""
    times = 3 if args.small else 10
    begun: asyncio.Queue[None] = asyncio.Queue()
    ended: asyncio.Queue[float] = asyncio.Queue()

    async def upstream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        body = await reader.readexactly(size)
        if b'"silent"' not in body:
            event = ENDPOINTS[head.split(b" ")[1].decode()]
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        begun.put_nowait(None)
        await reader.read(1)
        ended.put_nowait(time.perf_counter())
        writer.close()

    server = await asyncio.start_server(upstream, "127.0.0.1", 0)
    found: dict[str, list[float]] = {}
    with gateway_before(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1") as port:
        for path in ENDPOINTS:
            for window in WINDOWS:
                said = [{"role": "user", "content": "Say something."}]
                body = {"model": "fake", "max_tokens": 100, "stream": window != WINDOWS[2]}
                body |= {"input" if path == "/v1/responses" else "messages": said}
                body |= {} if window == WINDOWS[1] else {"user": "silent"}
                data = json.dumps(body).encode()
                head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n".encode()
                for _ in range(times):
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.write(head + data)
                    await asyncio.wait_for(begun.get(), 30)
                    if window == WINDOWS[1]:
                        await reader.readuntil(b"\n\n")
                    left = time.perf_counter()
                    writer.close()
                    seen = await asyncio.wait_for(ended.get(), 30)
                    found.setdefault(f"{path}, {window}", []).append(1000 * (seen - left))
    server.close()
    return {name: {"p50_ms": statistics.median(ms), "most_ms": max(ms), "n": len(ms)} for name, ms in found.items()}


CASES = {
    "provider": provider,
    "relay": relay,
    "load": lambda args: asyncio.run(load(args)),
    "memory": lambda args: asyncio.run(memory(args)),
    "leaving": lambda args: asyncio.run(leaving(args)),
}


def drive(run: measure.Run) -> measure.Figures:
    """At 0 and at 50 ms; or its memory."""
    if run.args.memory:
        return {"memory": run.case("memory", "--memory", run.args.memory, threads=1, timeout=3600)}
    others = [part for name in RIVALS if getattr(run.args, name) for part in (f"--{name}", getattr(run.args, name))]
    rounds = ("--rounds", run.args.rounds)
    figures = {
        f"{delay * 1000:g} ms": run.case("load", "--delay", delay, *rounds, *more, threads=1, timeout=1800)
        for delay, more in ((0.0, others), (0.05, []))
    }
    figures["a client leaves"] = run.case("leaving", timeout=300)
    most = max((each["most_ms"] for each in figures["a client leaves"].values() if isinstance(each, dict)), default=0.0)
    print(f"a client leaves: its provider sees it after {most:.0f} ms at most")
    for name, of in figures.items():
        if name == "a client leaves":
            continue
        show = [what for what in of.get("added", {}) if what != "direct"]
        rows = [
            (
                what,
                *(measure.show(of, f"added.{what}.{key}", "{:+.2f}") for key in ("p50_ms", "p99_ms")),
                measure.show(of, f"cpu_ms_per_request.{what}", "{:.2f}"),
            )
            for what in show
        ]
        measure.table((f"added to a provider of {name}", "p50 ms", "p99 ms", "CPU ms per request"), rows)
        sides = list(of.get("requests_per_s", {}))
        rates = [measure.show(of, f"requests_per_s.{what}", "{:,.0f}") for what in sides]
        measure.table(("requests per second", *sides), [("", *rates)])
        sides = ["direct", "relay", *gates()]
        for key in ("first_byte", "gap") if "streams" in of else ():
            cells = [measure.show(of, f"streams.{side}.{key}.p50_ms", "{:.2f}") for side in sides]
            measure.table((f"streams: {key}, p50 ms", *sides), [("", *cells)])
    return figures


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the cases."""
    parser.add_argument("--rounds", type=int, default=6, help="turns of each side")
    parser.add_argument("--memory", type=int, default=0, metavar="REQUESTS", help="follow the memory over so many")
    parser.add_argument(
        "--litellm", default="", metavar="FILE", help="the litellm command of an environment of its own"
    )
    parser.add_argument("--switchyard", default="", metavar="FILE", help="the Python that has nemo-switchyard")
    parser.add_argument("--portkey", default="", metavar="FILE", help="build/start-server.js of @portkey-ai/gateway")
    parser.add_argument("--delay", type=float, default=0.0, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--upstream", default="", help=argparse.SUPPRESS)


if __name__ == "__main__":
    measure.run(__file__, __doc__, CASES, drive, configure)
