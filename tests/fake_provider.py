"""A named fake: a provider that speaks chat completions, responses and messages, byte by byte as a test wants it.

It answers well by itself; `script` lets a test say exactly what goes over the wire, when, and where it breaks off. It
is a bare TCP server, so that nothing between it and the gateway mends or re-cuts what it sends.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

Part = bytes | float
RESET = b"\x00RESET"


@dataclass
class Asked:
    """A request that came. closed_after: seconds until the other side closed, where it did before the reply was
    whole.
    """

    path: str
    headers: dict[str, str]
    raw: bytes
    at: float = field(default_factory=time.monotonic)
    closed_after: float | None = None

    @property
    def body(self) -> Any:
        return json.loads(self.raw)


@dataclass
class Answer:
    """parts: bytes to send, seconds to wait, or `RESET`. length: whether a Content-Length is sent; else the reply is
    chunked.
    """

    parts: Sequence[Part]
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/event-stream"})
    length: bool = False


def as_json(body: Any, status: int = 200, **headers: str) -> Answer:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Answer(
        [data],
        status,
        {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}},
        length=True,
    )


def event(body: Any, name: str = "") -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + json.dumps(body).encode() + b"\n\n"


def chunk(content: str | None = None, finish: str | None = None, model: str = "served-1", **more: Any) -> bytes:
    delta = {} if content is None else {"role": "assistant", "content": content}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return event(
        {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice], **more}
    )


def usage_chunk(given: int = 11, made: int = 7) -> bytes:
    usage = {"prompt_tokens": given, "completion_tokens": made, "total_tokens": given + made}
    return event(
        {
            "id": "c1",
            "object": "chat.completion.chunk",
            "created": 1,
            "model": "served-1",
            "choices": [],
            "usage": usage,
        }
    )


DONE = b"data: [DONE]\n\n"
WORDS = ("Faust", " was", " written", " by", " Goethe.")


def chat(asked: Asked) -> Answer:
    body = asked.body
    if body.get("stream"):
        parts: list[Part] = [*(chunk(word) for word in WORDS), chunk(None, "stop")]
        if (body.get("stream_options") or {}).get("include_usage"):
            parts.append(usage_chunk())
        return Answer([*parts, DONE])
    message = {"role": "assistant", "content": "".join(WORDS)}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
    return as_json(
        {
            "id": "c1",
            "object": "chat.completion",
            "created": 1,
            "model": "served-1",
            "choices": [choice],
            "usage": usage,
        }
    )


def message_events(model: str = "served-1") -> list[bytes]:
    start = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": model, "content": [], "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 11, "output_tokens": 1},
    }  # fmt: skip
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in WORDS),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 7},
        },
        {"type": "message_stop"},
    ]
    return [event(e, e["type"]) for e in events]


def messages(asked: Asked) -> Answer:
    if asked.body.get("stream"):
        return Answer(message_events())
    return as_json(
        {
            "id": "msg_1", "type": "message", "role": "assistant", "model": "served-1", "stop_reason": "end_turn",
            "stop_sequence": None,
            "content": [{"type": "text", "text": "".join(WORDS)}], "usage": {"input_tokens": 11, "output_tokens": 7},
        }
    )  # fmt: skip


def response(status: str = "completed", **more: Any) -> dict[str, Any]:
    part = {"type": "output_text", "text": "".join(WORDS), "annotations": []}
    item = {"id": "m1", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    usage = {
        "input_tokens": 11, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 7,
        "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 18,
    }  # fmt: skip
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "status": status, "error": None,
        "incomplete_details": None,
        "instructions": None, "metadata": {}, "model": "served-1", "output": [item], "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto", "tools": [], "top_p": 1.0, "usage": usage, **more,
    }  # fmt: skip


def response_events() -> list[bytes]:
    begun = response("in_progress", output=[], usage=None)
    place = {"item_id": "m1", "output_index": 0, "content_index": 0}
    empty = {"id": "m1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    text = {"type": "output_text", "text": "".join(WORDS), "annotations": []}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": begun},
        {"type": "response.in_progress", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": empty},
        {"type": "response.content_part.added", **place, "part": {**text, "text": ""}},
        *({"type": "response.output_text.delta", **place, "delta": word, "logprobs": []} for word in WORDS),
        {"type": "response.output_text.done", **place, "text": "".join(WORDS), "logprobs": []},
        {"type": "response.content_part.done", **place, "part": text},
        {"type": "response.output_item.done", "output_index": 0, "item": response()["output"][0]},
        {"type": "response.completed", "response": response()},
    ]
    return [event({**e, "sequence_number": n}, e["type"]) for n, e in enumerate(events)]


def responses(asked: Asked) -> Answer:
    return Answer(response_events()) if asked.body.get("stream") else as_json(response())


def embeddings(asked: Asked) -> Answer:
    data = [{"object": "embedding", "index": 0, "embedding": [0.5, -0.25]}]
    return as_json(
        {"object": "list", "model": "served-1", "data": data, "usage": {"prompt_tokens": 5, "total_tokens": 5}}
    )


ANSWERS: dict[str, Callable[[Asked], Answer]] = {
    "/v1/chat/completions": chat,
    "/v1/messages": messages,
    "/v1/responses": responses,
    "/v1/completions": chat,
    "/v1/embeddings": embeddings,
}


class FakeProvider:
    """script: what to answer instead of what is right; None there falls back to that. asked: all requests, in order.

    connections: how many have been made.
    """

    def __init__(self, script: Callable[[Asked], Answer | None] | None = None) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._open: set[asyncio.StreamWriter] = set()
        self.connections = 0

    def hang_up(self) -> None:
        """Close all connections, as a server does with those that are not used for a while."""

        async def close() -> None:
            for writer in list(self._open):
                writer.close()
                await writer.wait_closed()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(20)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def __enter__(self) -> FakeProvider:
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0, limit=64 << 20))
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        raw = await reader.readexactly(int(headers.get("content-length", 0)))
        asked = Asked(path, headers, raw)
        self.asked.append(asked)
        if method == "GET":
            answer: Answer | None = as_json({"object": "list", "data": []})
        else:
            answer = self.script(asked) if self.script else None
            answer = answer or ANSWERS[path](asked)
        watch = asyncio.ensure_future(reader.read(1))
        try:
            whole = await self._answer(writer, answer, watch)
        except ConnectionError:
            whole = False
        if not whole:
            asked.closed_after = time.monotonic() - asked.at
        if watch.done() or not whole:
            return False
        watch.cancel()
        await asyncio.sleep(0)
        return True

    async def _answer(self, writer: asyncio.StreamWriter, answer: Answer, watch: asyncio.Future[bytes]) -> bool:
        """Whether all of it could be sent."""
        begun = False
        for part in answer.parts:
            if isinstance(part, float):
                done, _ = await asyncio.wait({watch}, timeout=part)
                if done:
                    return False
                continue
            if part == RESET:
                writer.transport.abort()
                return True
            if not begun:
                writer.write(self._head(answer))
                begun = True
            writer.write(part if answer.length else b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
            await asyncio.sleep(0)
            if watch.done():
                return False
        if not begun:
            writer.write(self._head(answer))
        if not answer.length:
            writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True

    @staticmethod
    def _head(answer: Answer) -> bytes:
        size = sum(len(p) for p in answer.parts if isinstance(p, bytes))
        how = f"Content-Length: {size}" if answer.length else "Transfer-Encoding: chunked"
        lines = [f"HTTP/1.1 {answer.status} X", *(f"{k}: {v}" for k, v in answer.headers.items()), how]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
