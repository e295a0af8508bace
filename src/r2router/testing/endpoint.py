"""A named fake: an OpenAI-compatible endpoint that answers from a hash of the request, can fail in every way, and keeps
the books.

In a test: `with FakeEndpoint(faults=("500", "reset")) as fake: ... fake.url, fake.billed`. By hand, as a server:
`python -m r2router.testing.endpoint PORT LATENCY_MS`. It needs aiohttp, which the extras [bench] and [serve] bring.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import importlib.util
import json
import math
import random
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from r2router.errors import MissingExtra

if TYPE_CHECKING:
    from aiohttp import web

DIM = 16
"""Numbers of an embedding."""

FAULTS = ("429", "429-after", "500", "reset", "timeout", "malformed", "empty", "usage", "cut")
"""429 without and with Retry-After, 500, a connection reset, no answer, no JSON, no choices, impossible usage, a stream
cut in half.
"""


def digest(body: Any) -> str:
    """Return what a request asks, whatever the order of its fields and however it is streamed."""
    plain = {k: v for k, v in body.items() if k not in ("stream", "stream_options")}
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def vector(text: str) -> list[float]:
    """Return the embedding of a text: `DIM` numbers from its hash, of norm 1."""
    rng = random.Random(hashlib.sha256(text.encode()).hexdigest())  # noqa: S311  it hides nothing
    numbers = [rng.gauss() for _ in range(DIM)]
    norm = math.sqrt(sum(number * number for number in numbers))
    return [number / norm for number in numbers]


def answer(body: Any) -> tuple[str, int]:
    """Return (text, tokens) of the answer: `word-0 word-1 ...`, as many as a hash of the request says, at most
    `max_tokens`.
    """
    maximum = body.get("max_completion_tokens") or body.get("max_tokens") or 40
    count = min(maximum, 5 + int(digest(body)[:4], 16) % 36)
    return "".join(f" word-{i}" for i in range(count)), count


Reply = Callable[["web.Request", Any, str, int, str | None], Awaitable["web.StreamResponse"]]
"""(request, body, its digest, tokens of the prompt, fault) -> the answer."""


class FakeEndpoint:
    """An endpoint on this machine, with `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings` and `/v1/models`.

    latency_s: seconds before each answer.
    faults: what befalls requests, some of `FAULTS`, chosen by the hash of what they ask.
    share: the share of the requests that fail.
    times: how often such a request fails before it works.
    key: the one key that is taken; None takes any.
    models: the ones it knows; None knows all.
    context: the longest prompt, in tokens; None for no limit.
    limit: requests at once before it says 429; None for no limit.
    echo: gives a continued answer back with its beginning.
    thinking: every answer is preceded by so many tokens of thinking.
    port: to listen on; 0 takes a free one.

    Of what came: `requests` in all, `bodies` in order, `seen` and `billed` how often each came and was answered whole,
    by `digest`; `faulted` how often each fault struck; `max_at_once` the most requests at once.
    """

    def __init__(  # noqa: PLR0913  one parameter a misfortune
        self,
        *,
        latency_s: float = 0.0,
        faults: Sequence[str] = (),
        share: float = 1.0,
        times: int = 1,
        key: str | None = None,
        models: Sequence[str] | None = None,
        context: int | None = None,
        limit: int | None = None,
        echo: bool = True,
        thinking: int = 0,
        port: int = 0,
    ) -> None:
        self.latency_s = latency_s
        self.faults = tuple(faults)
        self.share = share
        self.times = times
        self.key = key
        self.models = models
        self.context = context
        self.limit = limit
        self.echo = echo
        self.thinking = thinking
        self.billed: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.faulted: Counter[str] = Counter()
        self.bodies: list[Any] = []
        self.requests = 0
        self.max_at_once = 0
        self._active = 0
        self._port = port
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    # -- starting and stopping ----------------------------------------------------------------------------------------

    def __enter__(self) -> FakeEndpoint:
        if importlib.util.find_spec("aiohttp") is None:
            raise MissingExtra("the fake endpoint needs aiohttp: pip install 'r2router[bench]'")
        self._thread.start()
        assert self._ready.wait(20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._thread.join(20)

    def stop(self) -> None:
        """Go away, as an endpoint does that dies."""
        with contextlib.suppress(RuntimeError):  # it has gone already
            self._loop.call_soon_threadsafe(self._stop.set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        from aiohttp import web

        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._chat)
        app.router.add_post("/v1/embeddings", self._embed)
        app.router.add_get("/v1/models", self._list)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port)
        await site.start()
        self._port = runner.addresses[0][1]
        self._ready.set()
        await self._stop.wait()
        await runner.cleanup()

    # -- answering ----------------------------------------------------------------------------------------------------

    async def _list(self, request: web.Request) -> web.Response:
        from aiohttp import web

        if (refusal := self._key_refusal(request)) is not None:
            return refusal
        return web.json_response({"object": "list", "data": [{"id": m} for m in self.models or ("any",)]})

    def _key_refusal(self, request: web.Request) -> web.Response | None:
        sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.key is None or sent == self.key:
            return None
        return error(401, f"Incorrect API key provided: {sent}", "invalid_api_key")  # some providers do quote it

    async def _embed(self, request: web.Request) -> web.StreamResponse:
        return await self._counted(request, self._vectors)

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._counted(request, self._answer)

    async def _counted(self, request: web.Request, reply: Reply) -> web.StreamResponse:
        self.requests += 1
        if (refusal := self._key_refusal(request)) is not None:
            return refusal
        body = await request.json()
        what = digest(body)
        self.seen[what] += 1
        self.bodies.append(body)
        self._active += 1
        self.max_at_once = max(self.max_at_once, self._active)
        try:
            if self.limit is not None and self._active > self.limit:
                return error(429, "too many requests", "rate_limit_exceeded")
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            return await self._reply(request, body, what, reply)
        finally:
            self._active -= 1

    async def _reply(self, request: web.Request, body: Any, what: str, reply: Reply) -> web.StreamResponse:
        from aiohttp import web

        if self.models is not None and body["model"] not in self.models:
            return error(404, f"The model `{body['model']}` does not exist", "model_not_found")
        prompt = sum(len(m["content"]) for m in body.get("messages", ())) // 4 + 8
        if self.context is not None and prompt > self.context:
            return error(
                400, f"This model's maximum context length is {self.context} tokens", "context_length_exceeded"
            )
        fault = self._fault(what)
        if fault is not None:
            self.faulted[fault] += 1
        match fault:
            case "429":
                return error(429, "slow down", "rate_limit_exceeded")
            case "429-after":
                return error(429, "slow down", "rate_limit_exceeded", {"Retry-After": "0.05"})
            case "500":
                return error(500, "internal error", "server_error")
            case "reset":
                assert request.transport is not None
                request.transport.abort()
                return web.Response()
            case "timeout":
                await asyncio.sleep(3600)
            case "malformed":
                return web.Response(text='{"choices": [', content_type="application/json")
            case "empty":
                return web.json_response({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": 0}})
        return await reply(request, body, what, prompt, fault)

    async def _vectors(
        self, request: web.Request, body: Any, what: str, prompt: int, fault: str | None
    ) -> web.StreamResponse:
        from aiohttp import web

        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        if fault == "cut":
            return web.Response(body=b'{"data": [{"index": 0, "embed', content_type="application/json")
        data = [{"object": "embedding", "index": i, "embedding": vector(text)} for i, text in enumerate(texts)]
        used = sum(len(text) for text in texts) // 4 + len(texts) if fault != "usage" else -7
        self.billed[what] += 1
        return web.json_response(
            {"object": "list", "model": body["model"], "data": data, "usage": {"prompt_tokens": used}}
        )

    def _fault(self, what: str) -> str | None:
        """Return what befalls this request this time: the same for the same request and attempt, whatever else is going
        on.
        """
        if not self.faults or self.seen[what] > self.times or int(what[8:16], 16) / 2**32 >= self.share:
            return None
        return self.faults[int(what[16:24], 16) % len(self.faults)]

    async def _answer(
        self, request: web.Request, body: Any, what: str, prompt: int, fault: str | None
    ) -> web.StreamResponse:
        from aiohttp import web

        text, count = answer(body)
        last = body.get("messages", [{"role": "user"}])[-1]
        begun = last["content"] if self.echo and last["role"] == "assistant" else ""
        maximum = body.get("max_completion_tokens") or body.get("max_tokens") or 10**9
        thought = min(self.thinking, maximum)
        count = min(count, maximum - thought)
        text = "".join(f" word-{i}" for i in range(count))
        finish = "length" if thought + count >= maximum else "stop"
        usage: dict[str, Any] = {
            "prompt_tokens": prompt,
            "completion_tokens": count + thought if fault != "usage" else -7,
            "prompt_tokens_details": {"cached_tokens": prompt // 2},
        }
        if thought:
            usage["completion_tokens_details"] = {"reasoning_tokens": thought}
        head = {"id": "fake", "model": body["model"]}
        if not body.get("stream"):
            if fault == "cut":  # half of a body
                return web.Response(body=b'{"choices": [{"message": {"con', content_type="application/json")
            message = {"role": "assistant", "content": begun + text}
            self.billed[what] += 1
            return web.json_response(
                {**head, "choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage}
            )
        chunks = [{"delta": {"role": "assistant", "content": begun or None}}]
        chunks += [{"delta": {"reasoning_content": " hm"}} for _ in range(thought)]
        lines = [_line({**head, "choices": [{"index": 0, "finish_reason": None, **c}]}) for c in chunks]
        lines += [_word(body["model"], i) for i in range(count)]
        if fault == "cut":
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(request)
            await response.write(b"".join(lines[: len(lines) // 2]))
            assert request.transport is not None
            request.transport.close()
            return response
        lines.append(_line({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}))
        lines.append(_line({**head, "choices": [], "usage": usage}))
        self.billed[what] += 1
        return web.Response(body=b"".join([*lines, b"data: [DONE]\n\n"]), content_type="text/event-stream")


@functools.cache
def _word(model: str, number: int) -> bytes:
    return _line(
        {
            "id": "fake",
            "model": model,
            "choices": [{"index": 0, "finish_reason": None, "delta": {"content": f" word-{number}"}}],
        }
    )


def _line(chunk: Any) -> bytes:
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def error(status: int, message: str, code: str, headers: dict[str, str] | None = None) -> web.Response:
    from aiohttp import web

    return web.json_response({"error": {"message": message, "code": code}}, status=status, headers=headers)


if __name__ == "__main__":
    with FakeEndpoint(port=int(sys.argv[1]), latency_s=float(sys.argv[2]) / 1000) as server:
        sys.stdout.write(f"{server.url}\n")
        sys.stdout.flush()
        threading.Event().wait()
