"""Providers that attack the gateway: replies without an end, bombs, absurd numbers, echoes of the key.

None may stop, mislead or cost more than its own request, and none is told what another one's secret is.
"""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the gateway needs the [serve] extra")
pytest.importorskip("aiohttp", reason="calling LLMs needs the [bench] extra")

from fake_provider import DONE, Answer, FakeProvider, as_json, chunk, event
from gateway_rig import EVERY, KEY, PATHS, Pages, asking, config, rig
from r2router.gateway import tap
from r2router.gateway.app import Gateway
from r2router.gateway.config import Served
from r2router.gateway.logs import Log
from r2router.gateway.setting import Setting
from r2router.gateway.tap import ReplyBounds
from r2router.gateway.traces import OpenTelemetry
from r2router.upstream.endpoint import LONGEST_ANSWER
from test_hostile_endpoints import bomb, memory_below, without_end

STREAM, JSON = {"Content-Type": "text/event-stream"}, {"Content-Type": "application/json"}
Parts = Iterable[bytes | float]


class Provider:
    """A provider in memory. reply: status, headers, and what makes the parts of the body: bytes, and seconds to
    wait.
    """

    def __init__(self) -> None:
        self.reply: tuple[int, Mapping[str, str], Callable[[], Parts]] = (200, JSON, lambda: [b"{}"])
        self.sent = 0
        self.closed: bool | None = None

    async def post(self, url: str, body: bytes, headers: Mapping[str, str], provider: Served, wait_s: float) -> Any:
        status, given, parts = self.reply
        ours, self.sent, self.closed = self, 0, None

        class Exchange:
            def __init__(self) -> None:
                self.status, self.headers = status, given

            async def chunks(self) -> AsyncIterator[bytes]:
                for part in parts():
                    if isinstance(part, float):
                        await asyncio.sleep(part)
                        continue
                    ours.sent += len(part)
                    assert ours.sent < 400e6, "it takes all that comes"
                    yield part

            def close(self, *, whole: bool) -> None:
                ours.closed = whole

        return Exchange()

    async def close(self) -> None: ...


class Nowhere:
    url = "http://127.0.0.1:9/v1"


class World:
    """A gateway without sockets, and a client that keeps nothing but the beginning and the end of what it gets."""

    def __init__(self, speaks: tuple[str, ...] = EVERY, tracer: Any = None, **limits: float) -> None:
        self.lines: list[str] = []
        self.books, self.provider = Pages(), Provider()
        nowhere: Any = Nowhere()
        given = {"limits": {"attempts": 1, **limits}, "preset": {"mends": {"cut": "again"}}}
        setting = Setting.of(config({"fake": nowhere}, speaks=speaks, given=given))
        log: Any = Log("json", self)  # type: ignore[arg-type]
        self.gateway = Gateway(setting, books=self.books, log=log, caller=self.provider, tracer=tracer)  # type: ignore[arg-type]
        self.loop = asyncio.new_event_loop()
        self.begin = self.end = b""
        self.size = 0
        self.head: dict[bytes, bytes] = {}

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.run_until_complete(self.gateway.close())
        self.loop.close()

    def write(self, line: str) -> None:
        self.lines.append(line)

    def flush(self) -> None: ...

    def ask(self, endpoint: str = "chat", **body: Any) -> int:
        """The status, 0 where the connection is closed without one."""
        for pages in (self.lines, self.books.opened, self.books.settled):
            pages.clear()
        self.begin, self.end, self.size, self.head = b"", b"", 0, {}
        path = PATHS.get(endpoint, f"/v1/{endpoint}")
        cap = "max_output_tokens" if endpoint == "responses" else "max_tokens"
        whole = {**asking(endpoint, model="gpt-5-mini"), cap: body.pop("max_tokens", 50), **body}
        data = json.dumps(whole).encode()
        return self.loop.run_until_complete(asyncio.wait_for(self._ask(path, data), 100))

    async def _ask(self, path: str, data: bytes) -> int:
        told: list[Any] = [{"type": "http.request", "body": data, "more_body": False}]
        status = 0

        async def receive() -> Any:
            if told:
                return told.pop()
            await asyncio.sleep(3600)
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status, self.head = message["status"], dict(message["headers"])
                return
            part = message.get("body", b"")
            self.size += len(part)
            self.begin, self.end = (self.begin + part)[:100_000], (self.end + part[-2000:])[-2000:]
            await asyncio.sleep(0)

        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
        }
        await self.gateway(scope, receive, send)
        assert not any("internal error" in line for line in self.lines), self.lines
        assert self.gateway.active == 0 and len(self.books.settled) == len(self.books.opened) == 1, (status, self.end)
        return status

    @property
    def settled(self) -> Any:
        return self.books.settled[0]


@pytest.fixture(scope="module", autouse=True)
def _key() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAKE_PROVIDER_KEY", KEY)
        yield


@pytest.fixture(
    scope="module",
    params=[EVERY, ("messages",), ("responses",), ("chat",)],
    ids=["native", "messages", "responses", "chat"],
)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    with World(request.param) as found:
        found.ask(model="auto")
        yield found


@pytest.fixture(scope="module")
def native() -> Iterator[World]:
    with World() as found:
        found.ask(model="auto")  # which loads what is kept
        yield found


# -- too much ---------------------------------------------------------------------------------------------------------

DELTA = b'event: content_block_delta\ndata: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hm"}}\n\n'
ENDLESS = {
    "json": without_end(b'{"choices": [{"message": {"content": "', b"x"),
    "blank": without_end(b"", b" "),
    "line": without_end(b"data: ", b"x"),
    "stream": without_end(b"", chunk("word ")),
    "after the end": without_end(chunk("7", "stop"), chunk(None, "stop")),
    "comments": without_end(b"", b": nothing\n\n"),
    "empty": without_end(b"", b"data: {%b}\n\n" % (b" " * 90)),
    "event": without_end(b"data: {\n", b"data: 1,\n"),
    "deltas": without_end(b"", DELTA),
    "counts": lambda: (
        event({"type": "message_delta", "usage": {f"{i}-{j}": 1 for j in range(500)}, "delta": {}})
        for i in itertools.count()
    ),
    "calls": lambda: (
        event({"choices": [{"delta": {"tool_calls": [{"index": i, "id": f"c{i}", "function": {"name": "f"}}]}}]})
        for i in itertools.count()
    ),
}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("how", ENDLESS)
def test_a_reply_without_an_end_is_left(native: World, how: str, stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ReplyBounds, "of_tokens", lambda tokens: ReplyBounds(3_000_000, 1_000_000))
    native.provider.reply = 200, STREAM, ENDLESS[how]
    with memory_below(60):
        native.ask(stream=stream, model="auto:mends" if not stream else "gpt-5-mini")
    assert native.provider.sent < 4e6 and native.provider.closed is False
    assert native.settled.state in ("cut", "failed") and "more than the request allows" in native.settled.note
    assert native.settled.cost < 4e9  # nano-dollars: whoever sends text without an end is not paid for all of it


@pytest.mark.parametrize("endpoint", PATHS)
def test_a_translated_reply_without_an_end_is_left(
    world: World, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ReplyBounds, "of_tokens", lambda tokens: ReplyBounds(1_000_000, 500_000))
    for how in ("json", "stream", "deltas", "calls", "counts"):
        for stream in (True, False):
            world.provider.reply = 200, STREAM, ENDLESS[how]
            with memory_below(60):
                world.ask(endpoint, stream=stream)
            assert world.provider.sent < 2e6 and world.settled.state in ("cut", "failed", "done")


def test_what_is_taken_grows_with_what_was_asked_for(native: World) -> None:
    found: list[ReplyBounds] = []

    class Seen(tap.Tap):
        def __init__(self, *args: Any, **how: Any) -> None:
            found.append(how["bounds"])
            super().__init__(*args, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("r2router.gateway.attempt.Tap", Seen)
        native.provider.reply = 200, JSON, lambda: [b"{}"]
        for more in ({}, {"n": 8}, {"max_tokens": 400}):
            native.ask(**more)
        native.ask("embeddings", input=["a"] * 7)
        native.ask("embeddings", input=[1] * 7)
    small, many, long, texts, one = found
    assert many == long == ReplyBounds.of_tokens(400) and small == ReplyBounds.of_tokens(50)
    assert small.taken < many.taken < 100e6 and small.kept < many.kept < 10e6
    assert texts == ReplyBounds.of_vectors(7) and one == ReplyBounds.of_vectors(1)
    assert ReplyBounds.of_tokens(10**9).taken < 400e6 and ReplyBounds.of_tokens(10**9).kept < 40e6


def test_parts_that_come_in_round_numbers_are_bounded_as_well(native: World) -> None:
    """What was held until it is known what it is was once measured by what was kept of it, which stops at 1 MiB."""
    blank = b" " * 65_536
    native.provider.reply = 200, JSON, lambda: itertools.chain([b'{"a": "' + b"x" * 65_529], itertools.repeat(blank))
    with memory_below(60):
        native.ask()
    assert native.provider.sent < 120e6


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("begin", [b'{"choices": [', chunk("7")], ids=["json", "stream"])
def test_a_bomb_is_unpacked_no_further(native: World, begin: bytes, stream: bool, status: int) -> None:
    packed = bomb(begin, 700)
    native.provider.reply = status, {**STREAM, "Content-Encoding": "gzip"}, lambda: [packed]
    with memory_below(80):
        native.ask(stream=stream)
    assert native.settled.state in ("cut", "failed")


@pytest.mark.parametrize("depth", [100_000])
@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize(
    "where",
    ['{"usage": %s}', '{"error": %s}', '{"choices": [{"message": {"content": %s}}]}', "%s", '{"model": 1, "x": %s}'],
)
def test_json_of_any_depth_is_its_own_requests_trouble(world: World, depth: int, where: str, status: int) -> None:
    deep = (where % ("[" * depth + "]" * depth)).encode()
    for body in ([deep], [b"data: " + deep + b"\n\n", chunk("7", "stop"), DONE]):
        world.provider.reply = status, JSON, lambda body=body: body  # type: ignore[misc]
        world.ask()


def many(call: str, n: int) -> bytes:
    """A whole reply of one message with so many calls of tools."""
    return (
        b'{"choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "tool_calls": ['
        + b",".join(call.replace("N", str(i)).encode() for i in range(n))
        + b"]}}]}"
    )


def pieces(n: int) -> list[bytes]:
    """A stream of two calls, the second of which is named again and again while the first one's arguments go on."""
    named = [{"index": 1, "id": "b", "function": {"name": "g"}}]
    more = [{"index": 0, "function": {"arguments": "[1,"}}]
    first = [{"index": 0, "id": "a", "function": {"name": "f", "arguments": '{"x":'}}]
    parts = [event({"choices": [{"index": 0, "delta": {"tool_calls": calls}}]}) for calls in (more, named)]
    return [event({"choices": [{"index": 0, "delta": {"tool_calls": first}}]}), *(parts * n), chunk(None, "stop"), DONE]


def words(n: int) -> list[bytes]:
    """A stream in which thinking and words take turns."""
    deltas = ({"content": "word" * 4}, {"reasoning_content": "hmmm" * 4})
    parts = [event({"choices": [{"index": 0, "delta": delta}]}) for delta in deltas]
    return [*(parts * n), chunk(None, "stop"), DONE]


SLOW: dict[str, Callable[[int], list[bytes]]] = {
    "calls in a reply": lambda n: [many('{"index": N, "id": "N", "function": {"name": "f", "arguments": "{}"}}', n)],
    "one call in pieces": lambda n: [
        many('{"index": 0, "id": "a", "function": {"name": "f", "arguments": "aaaaaaaaaaaaaaaa"}}', n)
    ],
    "calls in a stream": pieces,
    "words and thinking": words,
    "words": lambda n: [*[chunk("word " * 4)] * n, chunk(None, "stop"), DONE],
    "bytes": lambda n: [bytes([b]) for b in b"".join(pieces(n // 100))],
}


@pytest.mark.parametrize("endpoint", ["messages", "responses"])
@pytest.mark.parametrize("how", SLOW)
def test_the_time_of_a_translation_grows_with_its_length(endpoint: str, how: str) -> None:
    with World(("chat",)) as world:

        def seconds(n: int) -> float:
            parts = SLOW[how](n)
            world.provider.reply = 200, STREAM if len(parts) > 1 else JSON, lambda: parts
            began = time.process_time()
            world.ask(endpoint, stream=len(parts) > 1, max_tokens=32_000)
            return time.process_time() - began

        seconds(100)
        short, long = (min(seconds(n) for _ in range(3)) for n in (1_500, 12_000))  # what else runs here only adds
    # quadratic is 64 times; a fixed part and a slow machine are allowed for
    assert long < 3 * 8 * short + 0.1


def test_a_call_has_a_total_time_also_where_it_is_no_stream() -> None:
    head = b'{"choices": [{"message": {"content": "' + b"x" * (2 << 20)  # so much that it is relayed by now
    with World(deadline_s=0.2, longest_s=0.6, keepalive_s=0.1) as world:
        for parts in (itertools.chain([head], itertools.cycle([b"x", 0.05])), itertools.cycle([b" ", 0.05])):
            world.provider.reply = 200, JSON, lambda parts=parts: parts  # type: ignore[misc]
            world.ask()
            assert world.settled.state != "done"


# -- absurd -----------------------------------------------------------------------------------------------------------

IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}]


@pytest.mark.parametrize("tokens", [10**30, 10**18, 10**9])
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens", "total_tokens"])
@pytest.mark.parametrize("more", [{}, {"messages": IMAGE}], ids=["words", "image"])
def test_a_usage_beyond_belief_is_no_usage(native: World, tokens: int, name: str, more: dict[str, Any]) -> None:
    usage = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18, name: tokens}
    choice = {"index": 0, "message": {"content": "7"}, "finish_reason": "stop"}
    native.provider.reply = 200, JSON, lambda: [json.dumps({"choices": [choice], "usage": usage}).encode()]
    assert native.ask(**more) == 200
    assert native.settled.cost < 1e6 and native.settled.estimated  # a tenth of a cent


@pytest.mark.parametrize("status", [99, 101, 199, 204, 299, 304, 600, 999])
def test_a_status_that_is_none_is_an_error_in_words(status: int) -> None:
    with FakeProvider() as fake, rig({"fake": fake}, given={"limits": {"attempts": 1}}, first_byte_s=1.0) as gate:
        fake.script = lambda asked: as_json({"error": {"message": "x"}}, status)
        found, _, body = gate.post("chat", asking("chat", model="gpt-5-mini"))
        assert found in (200, 299, 304, 502, 504) and (found < 400 or b"error" in body)
        fake.script = None
        assert gate.post("chat", asking("chat", model="gpt-5-mini"))[0] == 200


def test_headers_without_an_end() -> None:
    with FakeProvider() as fake, rig({"fake": fake}, given={"limits": {"attempts": 1}}) as gate:
        many = {f"X-{i}": "y" * 4000 for i in range(5000)}
        fake.script = lambda asked: Answer([b"{}"], headers=many)
        with memory_below(80):
            assert gate.post("chat", asking("chat", model="gpt-5-mini"))[0] in (200, 502)


# -- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_takes_no_key_elsewhere(status: int) -> None:
    limits = {"limits": {"attempts": 1}}
    with FakeProvider() as other, FakeProvider() as fake, rig({"fake": fake}, given=limits) as gate:
        fake.script = lambda asked: as_json(b"", status, Location=f"{other.url}/chat/completions")
        found, headers, _ = gate.post("chat", asking("chat", model="gpt-5-mini"))
    assert found == 502 and "location" not in headers and other.asked == [] and len(fake.asked) == 1


def said_anywhere(world: World) -> str:
    """All that anybody is told of a request: the client, the logs, the ledger, the metrics."""
    metrics = world.gateway.metrics.render("")[0].decode()
    told = [*world.lines, repr(world.books.settled), metrics, repr(world.head), world.begin.decode("utf-8", "replace")]
    return "\n".join(told)


def holds_key(text: str) -> bool:
    return any(KEY[i : i + 12] in text for i in range(len(KEY) - 11))


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500])
@pytest.mark.parametrize("stream", [True, False])
def test_an_echo_of_the_key_is_told_to_nobody(world: World, status: int, stream: bool) -> None:
    escaped = "".join(f"\\u{ord(c):04x}" if c in "0-" else c for c in KEY)
    for words in (KEY, escaped, KEY[:20], KEY[5:]):
        body = b'{"error": {"message": "Wrong key ' + words.encode() + b'", "code": 400}}'
        for packed in (body, gzip.compress(body), zlib.compress(body)):
            coding = {} if packed is body else {"Content-Encoding": "gzip" if packed[:1] == b"\x1f" else "deflate"}
            world.provider.reply = status, {**JSON, **coding}, lambda packed=packed: [packed]  # type: ignore[misc]
            found = world.ask(stream=stream)
            assert found >= 400 and not holds_key(said_anywhere(world)), said_anywhere(world)


def test_headers_that_quote_the_key_or_command_a_terminal_stay(native: World) -> None:
    more = {"x-request-id": f"for {KEY}", "x-ratelimit-reset-tokens": KEY[4:], "request-id": "a\x1b[2Jb\x9b"}
    for status in (200, 400):
        native.provider.reply = status, {**JSON, **more}, lambda: [b'{"choices": []}']
        native.ask()
        assert not holds_key(said_anywhere(native)) and native.head[b"request-id"].decode("latin-1").isprintable()
        assert b"x-request-id" not in native.head


def test_names_that_a_provider_gives_bring_no_key_into_spans() -> None:
    sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="traces need the [otel] extra")
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans, made = InMemorySpanExporter(), sdk.TracerProvider()
    made.add_span_processor(SimpleSpanProcessor(spans))
    body = chunk("7", f"stop {KEY}", model=f"model-{KEY}\x1b[2J")
    with World(tracer=OpenTelemetry(made)) as world:
        world.provider.reply = 200, STREAM, lambda: [body, DONE]
        world.ask(stream=True)
    told = [
        str(value) for span in spans.get_finished_spans() for value in (*(span.attributes or {}).values(), span.status)
    ]
    assert any("model-" in value for value in told)
    assert not any(holds_key(value) or "\x1b" in value for value in told), told


@pytest.mark.parametrize("field", ["models", "exclude", "require"])
def test_a_request_with_thousands_of_patterns_is_refused(native: World, field: str) -> None:
    for names in (["*" * i for i in range(1, 3000)], ["*" * 1000]):
        with pytest.raises(AssertionError, match="at most|<= "):  # no row is opened
            native.ask(r2router={field: names})
        assert native.books.opened == []


def test_what_is_counted_of_an_answer_is_no_more_than_was_asked_for(native: World) -> None:
    native.provider.reply = 200, STREAM, lambda: [*[chunk("word " * 20_000)] * 20, chunk(None, "stop")]
    native.ask(stream=True, max_tokens=2_000_000)
    assert LONGEST_ANSWER < native.settled.usage.output < 4_000_000
    native.ask(stream=True)
    assert native.settled.usage.output <= LONGEST_ANSWER and native.settled.estimated
