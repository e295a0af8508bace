"""The servers of `gateway.py`: a provider, a relay that looks at nothing, the gateway, and others beside it.

The others are not installed here: each has an environment of its own, without any key and without a network.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
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


RIVALS = ("litellm", "portkey", "switchyard")
MEMORY = Path("/dev/shm")  # a file system in memory
_KEY = "sk-benchmark-0123456789"  # without a master key LiteLLM does not start
_STARTS_S = {"litellm": 600.0}
_SWITCHYARD = (
    "import sys, threading\n"
    "from switchyard_rust.server import Server\n"
    "with Server(sys.argv[1], int(sys.argv[2])):\n"
    "    threading.Event().wait()\n"
)


def gates() -> tuple[str, ...]:
    """The gateways: one whose ledger is on the disk, and one whose ledger is in memory, where there is such a place.

    An answer waits until its row is written, so the first has the disk's time in it, and the second says what is ours.
    """
    return ("gateway", "gateway in memory") if MEMORY.is_dir() else ("gateway",)


def sync_ms(folder: Path) -> float:
    """Milliseconds in which 4 KiB get onto the disk of a folder, the median of 50."""
    taken = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(50):
            begin = time.perf_counter()
            os.write(file.fileno(), bytes(4096))
            os.fdatasync(file.fileno())
            taken.append(1000 * (time.perf_counter() - begin))
    return sorted(taken)[25]


def _litellm(folder: Path, command: str, port: int, provider: str) -> list[str]:
    config = folder / "litellm.yaml"
    parameters = {"model": "openai/fake", "api_base": provider, "api_key": "none"}
    whole = {
        "model_list": [{"model_name": "fake", "litellm_params": parameters}],
        "general_settings": {"master_key": _KEY},
    }
    config.write_text(json.dumps(whole))  # JSON is YAML
    return [command, "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]


def _switchyard(folder: Path, command: str, port: int, provider: str) -> list[str]:
    config = folder / "routes.toml"
    config.write_text(
        'schema_version = 1\n[llm_clients.fake]\nformat = "openai_chat"\n'
        f'base_url = "{provider}"\napi_key_env = "FAKE_KEY"\n[targets.fake]\nid = "fake"\nllm_client = "fake"\n'
        '[routes.fake]\nid = "fake"\ntype = "passthrough"\ntarget = "fake"\n'
    )
    return [command, "-c", _SWITCHYARD, str(config), str(port)]


def _gateway(folder: Path, ledger: Path, port: int, provider: str) -> list[str]:
    config = folder / f"gateway-{port}.toml"
    config.write_text(
        f'[server]\nport = {port}\nlogs = "none"\nledger = "{ledger}/ledger-{port}.sqlite"\n'
        f'[provider.fake]\nbase_url = "{provider}"\nspeaks = ["chat", "responses", "messages"]\n'
        '[[model]]\nid = "fake"\nprovider = "fake"\nusd_per_million = { input = 1, output = 2 }\n'
        '[[model]]\nid = "gpt-5-mini"\nprovider = "fake"\n'
    )
    return [sys.executable, "-m", "r2router", "serve", "--config", str(config)]


@contextlib.contextmanager
def gateway_before(provider: str) -> Iterator[int]:
    """The port of a gateway by itself before a provider."""
    port = free_port()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        command = _gateway(folder, folder, port, provider)
        started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            assert came_up(started, port)
            yield port
        finally:
            started.terminate()
            started.wait(30)


@contextlib.contextmanager
def servers(args: argparse.Namespace) -> Iterator[tuple[dict[str, str], dict[str, int]]]:
    """(URL by name, process id by name) of all that are asked for and came up."""
    rivals = [name for name in RIVALS if getattr(args, name)]
    ports = {name: free_port() for name in ("direct", "relay", *gates(), *rivals)}
    urls = {name: f"http://127.0.0.1:{port}/v1/chat/completions" for name, port in ports.items()}
    provider = f"http://127.0.0.1:{ports['direct']}/v1"
    memory = Path(tempfile.mkdtemp(dir=MEMORY)) if len(gates()) > 1 else None
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        me = [sys.executable, str(Path(__file__).with_name("gateway.py")), "--port"]
        commands = {
            "direct": [*me, str(ports["direct"]), "--case", "provider", "--delay", str(args.delay)],
            "relay": [*me, str(ports["relay"]), "--case", "relay", "--upstream", urls["direct"]],
            "gateway": _gateway(folder, folder, ports["gateway"], provider),
        }
        if memory is not None:
            commands["gateway in memory"] = _gateway(folder, memory, ports["gateway in memory"], provider)
        if args.litellm:
            commands["litellm"] = _litellm(folder, args.litellm, ports["litellm"], provider)
        if args.switchyard:
            commands["switchyard"] = _switchyard(folder, args.switchyard, ports["switchyard"], provider)
        if args.portkey:
            commands["portkey"] = ["node", args.portkey, f"--port={ports['portkey']}", "--headless"]
        environment = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
        environment |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False", "NODE_ENV": "production"}
        environment |= {"FAKE_KEY": "none", "RUST_LOG": "off", "LITELLM_LOG": "ERROR", "HOME": str(folder)}
        quiet: Any = {"env": environment, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        started = {name: subprocess.Popen(command, **quiet) for name, command in commands.items()}
        try:
            for name, port in ports.items():
                if not came_up(started[name], port, _STARTS_S.get(name, 180.0)):
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
            if memory is not None:
                shutil.rmtree(memory, ignore_errors=True)


def headers_of(name: str, urls: dict[str, str]) -> dict[str, str]:
    """What a server wants with each request."""
    if name == "litellm":
        return {"Authorization": f"Bearer {_KEY}"}
    if name == "portkey":
        host = urls["direct"].removesuffix("/chat/completions")
        return {"x-portkey-provider": "openai", "Authorization": "Bearer none", "x-portkey-custom-host": host}
    return {}
