"""Endpoints that attack: replies without an end, bombs, absurd numbers, echoes of the key.

None may stop or mislead more than its own call.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import gzip
import itertools
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("aiohttp", reason="calling LLMs needs the [bench] extra")

from r2router.cli import main
from r2router.encode import OpenAIEmbeddings
from r2router.errors import ConfigError, EncoderError
from r2router.router.router import Router
from r2router.starter import starter
from r2router.types import Provider
from r2router.upstream.client import Upstream
from r2router.upstream.endpoint import Inflate, Mask, TooMuch, looks_like_a_key
from r2router.upstream.limits import ConcurrencyLimiter, retry_after, seconds
from r2router.upstream.reply import Failure, Reply, Request

KEY = "sk-proj-Very+Secret/0123456789abcdefGHIJ"
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def event(content: str, finish: str | None = None, **more: Any) -> bytes:
    return (
        b"data: %b\n\n"
        % json.dumps(
            {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish}], **more}
        ).encode()
    )


END = event("7", "stop", usage=USAGE) + b"data: [DONE]\n\n"


class Raw:
    """An endpoint that answers every request with the same bytes, or with as many as are taken from an iterator."""

    def __init__(
        self,
        body: bytes | Callable[[], Iterator[bytes]],
        *headers: str,
        status: str = "200 OK",
        pause_s: float = 0.0,
        head: str = "\r\n",
    ) -> None:
        """head: what ends the headers; without it the body goes on with them."""
        self._head = head
        self._body, self._headers, self._status, self._pause_s = body, headers, status, pause_s
        self.sent = self.requests = 0
        self.heads: list[str] = []

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                await self._say(reader, writer)
        finally:
            writer.close()
            await asyncio.sleep(0)

    async def _say(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        length = next(
            (int(h.partition(":")[2]) for h in head.split("\r\n") if h.lower().startswith("content-length")), 0
        )
        await reader.readexactly(length)
        lines = [f"HTTP/1.1 {self._status}", "Connection: close", *self._headers]
        writer.write(("\r\n".join(lines) + "\r\n" + self._head).encode("latin-1"))
        for part in (self._body,) if isinstance(self._body, bytes) else self._body():
            writer.write(part)
            await writer.drain()
            self.sent += len(part)
            await asyncio.sleep(self._pause_s)

    def __enter__(self) -> Raw:
        ready = threading.Event()

        async def serve() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
            ready.set()
            await self._stop.wait()
            server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.sleep(0.01)

        self._thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
        self._thread.start()
        assert ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)


def call(fake: Raw, cap: int = 12, **settings: Any) -> Reply | Failure:
    async def run() -> Reply | Failure:
        async with Upstream({"p": Provider(base_url=fake.url, **settings)}, attempts=1) as upstream:
            body = {"model": "m", "messages": [{"role": "user", "content": "q"}], "max_tokens": cap}
            return await upstream.call(Request(provider="p", body=body))

    return asyncio.run(run())


def memory(what: str) -> float:
    """Megabytes of this process: VmRSS now, VmHWM at its peak; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) / 1000 for line in lines if line.startswith(what)), 0.0)


@contextlib.contextmanager
def memory_below(megabytes: float) -> Iterator[None]:
    """The peak of this process must not rise by more than that meanwhile."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    before = memory("VmRSS")
    yield
    assert memory("VmHWM") - before < megabytes


def bomb(begin: bytes, megabytes: int) -> bytes:
    """So many megabytes of blanks in a few hundred kilobytes; the same packed block again and again, and no end."""
    packer = zlib.compressobj(9, wbits=31)
    start = packer.compress(begin) + packer.flush(zlib.Z_FULL_FLUSH)
    return start + (packer.compress(b" " * 1_000_000) + packer.flush(zlib.Z_FULL_FLUSH)) * megabytes


# -- too much
# -----------------------------------------------------------------------------------------------------------


def without_end(begin: bytes, again: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: itertools.chain([begin], itertools.repeat(again * (65_536 // len(again) + 1)))


@pytest.mark.parametrize(
    "body",
    [
        without_end(b'{"choices": [{"message": {"content": "', b"x"),
        without_end(b"", b" "),
        without_end(b"data: ", b"x"),
        without_end(b"", event("word ")),
        without_end(event("7", "stop"), event("", "stop")),
        without_end(b"", b": nothing\n\n"),
        without_end(b"", b"data: {%b}\n\n" % (b" " * 90)),
        without_end(b"data: {\n", b"data: 1,\n"),
        without_end(b"", event("")),
        without_end(b"", b'data: {"choices": [{"index": 0, "delta": {"reasoning_content": "hm"}}]}\n\n'),
    ],
    ids=["json", "blank", "line", "stream", "after the end", "comments", "empty", "event", "nothing", "thinking"],
)
def test_a_reply_without_an_end_is_left_in_bounded_memory(body: Any) -> None:
    with Raw(body, "Content-Type: text/event-stream") as fake, memory_below(60):
        found = call(fake)
        assert fake.sent < 40e6
    assert isinstance(found, Failure) and found.kind == "malformed", found
    assert "the request allows" in found.message or "does not end" in found.message


@pytest.mark.parametrize("begin", [b'{"choices": [', event("7")])
@pytest.mark.parametrize("status", ["200 OK", "500 Oops"])
def test_a_compressed_bomb_is_unpacked_no_further_than_any_reply(begin: bytes, status: str) -> None:
    packed = bomb(begin, 700)
    with (
        Raw(packed, "Content-Type: application/json", "Content-Encoding: gzip", status=status) as fake,
        memory_below(60),
    ):
        found = call(fake)
    assert isinstance(found, Failure) and found.kind == ("malformed" if status[0] == "2" else "server")
    assert "accept-encoding: identity" in fake.heads[0].lower()


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress], ids=["gzip", "deflate"])
def test_a_reply_that_is_compressed_unasked_is_read(pack: Any) -> None:
    encoding = "gzip" if pack is gzip.compress else "deflate"
    with Raw(pack(END), "Content-Type: text/event-stream", f"Content-Encoding: {encoding}") as fake:
        found = call(fake)
    assert isinstance(found, Reply) and found.text == "7"
    with Raw(b"damaged", f"Content-Encoding: {encoding}") as fake:
        broken = call(fake)
    with Raw(END, "Content-Encoding: br") as fake:
        strange = call(fake)
    assert isinstance(broken, Failure) and "damaged" in broken.message
    assert isinstance(strange, Failure) and "'br'" in strange.message


@given(st.binary(max_size=3000), st.lists(st.integers(0, 200), max_size=5), st.integers(0, 3000))
def test_unpacking_gives_what_was_packed_or_stops(data: bytes, cuts: list[int], most: int) -> None:
    packed = gzip.compress(data)
    edges = sorted({0, len(packed), *(c for c in cuts if c < len(packed))})
    inflate = Inflate(most, "gzip")
    try:
        found = b"".join(part for a, b in itertools.pairwise(edges) for part in inflate.feed(packed[a:b]))
    except TooMuch:
        assert len(data) > most
    else:
        assert found == data and len(data) <= most


def test_an_answer_somewhat_longer_than_its_cap_is_read_and_counted() -> None:
    body = b"".join(event(f"word{i} ") for i in range(4000)) + event(
        "", "stop", usage={"prompt_tokens": 10, "completion_tokens": 8000}
    )
    with Raw(body) as fake:
        found = call(fake, cap=20)
    assert isinstance(found, Reply) and found.usage is not None and found.usage.output == 8000


def test_a_call_has_a_total_time_however_busy_the_endpoint_is() -> None:
    drip = (b": still here\n\n" for _ in itertools.count())
    with Raw(lambda: drip, pause_s=0.05) as fake:
        began = time.monotonic()
        found = call(fake, cap=1, timeout_s=0.5)
    assert isinstance(found, Failure) and found.kind == "timeout" and "took more than" in found.message
    assert time.monotonic() - began < 30


def test_headers_without_an_end() -> None:
    with Raw(b"", *(f"X-{i}: {'y' * 4000}" for i in range(5000))) as fake, memory_below(60):
        found = call(fake)
    assert isinstance(found, Failure)


# -- absurd
# -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [10_000, 1_000_000])
@pytest.mark.parametrize(
    "where", ['{"usage": %s}', '{"error": %s}', '{"choices": [{"message": {"content": %s}}]}', "%s", '{"x": %s}']
)
@pytest.mark.parametrize("status", ["200 OK", "400 Bad"])
def test_json_of_any_depth_is_a_failure_in_words(depth: int, where: str, status: str) -> None:
    deep = (where % ("[" * depth + "]" * depth)).encode()
    for body in (deep, b"data: " + deep + b"\n\n" + END):
        with Raw(body, status=status) as fake:
            found = call(fake, cap=2000)
        assert isinstance(found, Failure) and len(found.message) < 500


ABSURD = ("²", "٣", "-1", "1e999", "nan", "inf", "9" * 5000, "0x10", "", " ", "1 2", "∞")


@pytest.mark.parametrize("value", ABSURD)
def test_absurd_headers_say_nothing(value: str) -> None:
    names = [f"x-ratelimit-{what}-{of}" for what in ("remaining", "reset") for of in ("requests", "tokens")]
    gate = ConcurrencyLimiter(4)
    gate.read(dict.fromkeys(names, value))
    gate.read({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": value})
    assert gate._opens_at == 0.0
    assert retry_after({"retry-after": value}) in (None, 0.0) and retry_after({"retry-after-ms": value}) in (None, 0.0)
    sendable = value.encode("utf-8").decode("latin-1")
    with Raw(END, *(f"{name}: {sendable}" for name in names)) as fake:
        found = call(fake)
    assert isinstance(found, (Reply, Failure)) and (isinstance(found, Reply) or len(value) > 1000)


@given(st.text(max_size=40) | st.floats().map(str) | st.integers().map(str))
def test_no_header_is_more_than_a_pause(text: str) -> None:
    for headers in ({"retry-after": text}, {"retry-after-ms": text}):
        wait = retry_after(headers)
        assert wait is None or 0 <= wait < 3e6
    pause = seconds(text)
    assert pause is None or 0 <= pause < float("inf")


@pytest.mark.parametrize("said", ["1e300", "99999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_wait_of_years_does_not_stop_a_provider(said: str) -> None:
    with Raw(b'{"error": "slow down"}', f"Retry-After: {said}", status="429 Slow") as fake:
        found = call(fake)
    assert isinstance(found, Failure) and found.kind == "rate_limit"


@pytest.mark.parametrize("tokens", [10**18, 10**9, 10_000_000])
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens", "total_tokens"])
def test_a_usage_beyond_belief_is_no_usage(tokens: int, name: str) -> None:
    with Raw(event("7", "stop", usage=USAGE | {name: tokens}) + b"data: [DONE]\n\n") as fake:
        found = call(fake)
    assert isinstance(found, Reply) and found.text == "7"
    assert found.usage is None and "impossible usage" in found.usage_error


# -- keys
# ---------------------------------------------------------------------------------------------------------------


def holds_key(found: Reply | Failure, key: str = KEY) -> bool:
    return any(key[i : i + 12] in repr(found) for i in range(len(key) - 11))


@pytest.mark.parametrize(
    "body",
    [
        END.replace(b'"7"', json.dumps(f"it is {KEY}!").encode()),
        b"".join(event(c) for c in f"it is {KEY}!") + END,
        b"".join(event(c) for c in f"it is {KEY[3:]}") + END,
        b"".join(event(KEY[i : i + 7]) for i in range(0, len(KEY), 7)) + END,
        event("", None)
        + b"data: "
        + json.dumps({"choices": [{"delta": {"reasoning_content": f"the key {KEY}"}}]}).encode()
        + b"\n\n"
        + END,
        event("7", KEY) + END.replace(b'"stop"', b"null"),
        event("7", "stop", usage={KEY: 1, "prompt_tokens": KEY}) + END.replace(json.dumps(USAGE).encode(), b"null"),
        event("7", "stop", model=f"model-{KEY}") + END,
        json.dumps({"choices": [{"message": {"content": KEY}}], "usage": USAGE}).encode(),
        json.dumps({"choices": [{"message": {"content": [{"type": "text", "text": KEY}]}}], "usage": KEY}).encode(),
        json.dumps({"error": {"message": f"no {KEY}"}}).encode(),
        f"<html>{KEY}".encode(),
        f"data: {KEY}\n\n".encode(),
        event("7", None, error={"message": "x" * 270 + KEY}),
    ],
    ids=range(14),
)
def test_an_echo_of_the_key_is_masked_wherever_it_stands(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_KEY", KEY)
    with Raw(body) as fake:
        found = call(fake, key="ECHO_KEY", cap=200)
    assert KEY in fake.heads[0], "the key was sent"
    assert not holds_key(found), found


@pytest.mark.parametrize("status", ["400 Bad", "500 Oops", "429 Slow", "404 None", "301 Moved"])
def test_an_echo_in_an_error_is_masked(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_KEY", KEY)
    for shown in (KEY, KEY[: len(KEY) // 2], KEY.replace("/", "%2F").replace("+", "%2B")):
        with Raw(
            json.dumps({"error": {"message": f"what is {shown}"}}).encode(), f"Location: http://x/{KEY}", status=status
        ) as fake:
            found = call(fake, key="ECHO_KEY")
        assert isinstance(found, Failure) and not holds_key(found), found


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See", "307 Again", "308 For ever"])
def test_a_redirect_takes_no_key_elsewhere(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_KEY", KEY)
    with Raw(END) as other, Raw(b"", f"Location: {other.url}/chat/completions", status=status) as fake:
        found = call(fake, key="ECHO_KEY")
    assert isinstance(found, Failure) and "points elsewhere" in found.message and other.requests == 0


@given(
    st.lists(st.sampled_from([KEY, KEY[:20], KEY[15:], "sk-", "a", "Very", " ", "é"]), max_size=6),
    st.lists(st.integers(0, 250)),
)
def test_masked_pieces_hold_no_part_of_the_key_and_are_as_many(words: list[str], cuts: list[int]) -> None:
    text = "".join(words)
    edges = sorted({0, len(text), *(c for c in cuts if c < len(text))})
    pieces = [text[a:b] for a, b in itertools.pairwise(edges)]
    mask = Mask(KEY)
    masked = mask.pieces(pieces)
    assert len(masked) == len(pieces) and "".join(masked) == mask(text)
    assert not any(KEY[i : i + 12] in mask(text) for i in range(len(KEY) - 11))
    plain = text
    for part in (KEY, KEY[:20], KEY[15:]):
        plain = plain.replace(part, "")
    if plain == text:
        assert masked == pieces, "what is no key is left alone"


@pytest.mark.parametrize("key", ["EMPTY", "ollama", "lm-studio", "none", "not-needed", "x"])
def test_words_that_are_sent_where_no_key_is_needed_stay_in_answers(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ECHO_KEY", key)
    with Raw(END.replace(b'"7"', json.dumps(f"the {key} model").encode())) as fake:
        found = call(fake, key="ECHO_KEY")
    assert isinstance(found, Reply) and found.text == f"the {key} model"


LITERAL = ["sk-proj-LITERALSECRET123456789", "sk-ant-api03-abc", "gsk_abcDEF123ghi456JKL789mno",
"hf_AbCdEfGhIjKlMnOpQrStUvWxYz012345",
           "AIzaSyA-1234567890abcdefg", "xai-abc123", "0123456789abcdef0123456789abcdef",
           "a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6",
           "Bearer sk-abc", "tgp_v1_abcDEF0123456789", "eyJhbGciOiJIUzI1NiJ9.e30.abc", "$MY_KEY", "${MY_KEY}", "MY KEY",
           "AKIAIOSFODNN7EXAMPLE", "nvapi-abcdef", "pplx-0123abcd", "mYlOnGmIsTrAlKeY0123456789aBcDeF"]  # fmt: skip
NAMES = ["OPENAI_API_KEY", "MYKEY", "MY_KEY_2", "key", "my_api_key", "Key1", "AZURE_OPENAI_API_KEY_EUROPE_WEST_1",
"HF_TOKEN", "SK_KEY",
         "DASHSCOPE_API_KEY", "R2ROUTER_TEST_KEY", "GPT4_KEY", "K"]  # fmt: skip


@pytest.mark.parametrize("name", LITERAL)
def test_a_literal_key_is_recognised_and_not_repeated(name: str) -> None:
    assert looks_like_a_key(name)
    with pytest.raises(ConfigError, match="name of an environment variable") as error:
        Upstream({"here": Provider(base_url="http://127.0.0.1:1/v1", key=name)})
    assert name not in str(error.value)


@pytest.mark.parametrize("name", NAMES)
def test_names_of_variables_are_no_keys(name: str) -> None:
    assert not looks_like_a_key(name)


# -- embeddings
# ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (without_end(b'{"data": [', b"0,"), ()),
        (without_end(b"", b" "), ()),
        (bomb(b'{"data": [', 700), ("Content-Encoding: gzip",)),
        (b"[" * 1_000_000, ()),
        (b'{"data": ' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}", ()),
        (json.dumps({"data": [{"index": 0, "embedding": KEY}]}).encode(), ()),
        (f"no {KEY}".encode(), ()),
    ],
    ids=["json", "blank", "bomb", "deep", "deep data", "key", "key in words"],
)
def test_embeddings_are_bounded_too(body: Any, headers: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    with Raw(body, *headers) as fake, memory_below(60):
        monkeypatch.setenv("OPENAI_BASE_URL", fake.url)
        monkeypatch.setenv("OPENAI_API_KEY", KEY)
        with pytest.raises(EncoderError) as error:
            OpenAIEmbeddings("m", attempts=1, timeout_s=20).encode(["x"])
        assert fake.sent < 40e6
    assert KEY in fake.heads[0] and not any(KEY[i : i + 12] in str(error.value) for i in range(len(KEY) - 11))


@pytest.mark.parametrize("where", ["body", "headers"])
def test_an_embedding_takes_no_longer_than_its_time(where: str) -> None:
    drip = (b" " for _ in itertools.count())
    with Raw(lambda: drip, pause_s=0.05, head="\r\n" if where == "body" else "X-Slow: ") as fake:
        began = time.monotonic()
        with pytest.raises(EncoderError, match="no answer in 0.5 s"):
            OpenAIEmbeddings("m", fake.url, attempts=1, timeout_s=0.5).encode(["x"])
    assert time.monotonic() - began < 15


def test_a_compressed_embedding_is_read() -> None:
    packed = gzip.compress(json.dumps({"data": [{"index": 0, "embedding": [3.0, 4.0]}]}).encode())
    with Raw(packed, "Content-Encoding: gzip") as fake:
        assert OpenAIEmbeddings("m", fake.url).encode(["x"]).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]


def test_a_key_is_for_one_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also this machine's other ports are others' hosts: a colleague's router may name them."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    body = json.dumps({"data": [{"index": 0, "embedding": [1.0]}]}).encode()
    with Raw(body) as named, Raw(body) as other:
        monkeypatch.setenv("OPENAI_BASE_URL", named.url)
        OpenAIEmbeddings("m").encode(["x"])
        OpenAIEmbeddings("m", f"{named.url}/").encode(["x"])
        OpenAIEmbeddings("m", other.url).encode(["x"])
    assert all(KEY in head for head in named.heads) and len(named.heads) == 2
    assert not any("uthorization" in head or base64.b64encode(KEY.encode()).decode() in head for head in other.heads)


def test_a_saved_router_sends_no_text_to_an_endpoint_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_BASE_URL", "R2ROUTER_EMBEDDINGS_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    own = starter()
    with Raw(json.dumps({"data": [{"index": 0, "embedding": [1.0] * own.dim}]}).encode()) as fake:
        dataclasses.replace(own, encoder=f"openai:m@{fake.url}").save(tmp_path / "router")
        with pytest.raises(ConfigError, match=f"R2ROUTER_EMBEDDINGS_URL={fake.url}"):
            Router.load(tmp_path / "router").route("a secret")
        refused = CliRunner().invoke(main, ["route", "a secret", "--router", str(tmp_path / "router")])
        assert refused.exit_code == 2 and "R2ROUTER_EMBEDDINGS_URL" in refused.stderr and fake.heads == []
        monkeypatch.setenv("R2ROUTER_EMBEDDINGS_URL", fake.url)
        agreed = CliRunner().invoke(main, ["route", "hello", "--router", str(tmp_path / "router")])
        assert agreed.exit_code == 0 and "sends every text to" in agreed.stderr, agreed.output
    assert len(fake.heads) == 1 and KEY not in fake.heads[0]
