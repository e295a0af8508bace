"""Calling LLMs: what every kind of failure comes to, what is read from replies, and that no key gets out."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("aiohttp", reason="calling LLMs needs the [bench] extra")

from r2router.errors import ConfigError
from r2router.testing import endpoint as fake_endpoint
from r2router.testing.endpoint import FAULTS, FakeEndpoint
from r2router.types import Model, Provider
from r2router.upstream.client import BILLED_ATTEMPTS, Failure, Reply, Request, Upstream
from r2router.upstream.endpoint import LONGEST_ANSWER, Mask
from r2router.upstream.known import KNOWN, providers_of
from r2router.upstream.limits import ConcurrencyLimiter, retry_after, seconds
from r2router.upstream.reader import read_reply
from r2router.upstream.reply import AttemptFailed
from r2router.upstream.usage import usage_of
from r2router.upstream.wire import kind_of, said

SECRET = "sk-very-secret-0123456789"


def body(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], "max_tokens": 12, **more}


def call(fake: Any, *bodies: dict[str, Any], attempts: int = 6, **settings: Any) -> list[Reply | Failure]:
    """What some calls give, all at once."""

    async def run() -> list[Reply | Failure]:
        provider = Provider(base_url=fake.url, **{"timeout_s": 0.3, **settings})
        async with Upstream({"here": provider}, attempts=attempts, backoff_s=0.01) as upstream:
            return await asyncio.gather(*(upstream.call(Request(provider="here", body=b)) for b in bodies))

    return asyncio.run(run())


# -- what works -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
def test_a_reply_says_what_was_answered_and_used(stream: bool) -> None:
    with FakeEndpoint() as fake:
        (reply,) = call(fake, body(), stream=stream)
    text, count = fake_endpoint.answer(body())
    assert isinstance(reply, Reply)
    assert (reply.text, reply.attempts, reply.maybe_billed, reply.model) == (text, 1, 0, "m")
    assert reply.usage is not None and reply.usage.output == count and reply.usage.cached == reply.usage.input // 2
    assert reply.finish_reason == ("length" if count == 12 else "stop")
    assert (reply.ttft_s is not None) == stream and reply.latency_s > 0
    assert len(reply.pieces) == (count if stream else 1)


@pytest.mark.parametrize("stream", [True, False])
def test_it_reads_the_wire_format_as_the_official_client_does(stream: bool) -> None:
    openai = pytest.importorskip("openai", reason="the official client is not installed")
    with FakeEndpoint(thinking=3) as fake:
        (ours,) = call(fake, body(), stream=stream)
        with openai.OpenAI(base_url=fake.url, api_key="none", max_retries=0) as client:
            if stream:
                chunks = list(
                    client.chat.completions.create(**body(), stream=True, stream_options={"include_usage": True})
                )
                text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
                finish = [c.choices[0].finish_reason for c in chunks if c.choices][-1]
                usage = chunks[-1].usage
            else:
                whole = client.chat.completions.create(**body())
                text, finish, usage = whole.choices[0].message.content, whole.choices[0].finish_reason, whole.usage
    assert isinstance(ours, Reply) and ours.usage is not None
    assert (ours.text, ours.finish_reason) == (text, finish)
    assert (ours.usage.input, ours.usage.output, ours.usage.cached, ours.usage.reasoning) == (
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.prompt_tokens_details.cached_tokens,
        usage.completion_tokens_details.reasoning_tokens,
    )


class _Response:
    """A stream that arrives in given parts."""

    def __init__(self, parts: list[bytes]) -> None:
        self.content, self._parts, self.headers = self, parts, {"Content-Type": "text/event-stream"}

    async def iter_any(self) -> Any:
        for part in self._parts:
            yield part


@given(st.lists(st.integers(0, 400), max_size=12), st.sampled_from([b"\n", b"\r\n"]))
def test_a_stream_reads_the_same_however_it_is_cut_into_packets(cuts: list[int], newline: bytes) -> None:
    chunks = [
        {"choices": [{"index": 0, "delta": {"content": c}, "finish_reason": None}]} for c in ("Grüß", " dich", " 🙂")
    ]
    chunks += [
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 4, "completion_tokens": 3}},
    ]
    events = [b"data: " + json.dumps(c, ensure_ascii=False).encode() for c in chunks]
    data = (b": a comment" + newline + (2 * newline).join([*events, b"data: [DONE]"])) + newline
    edges = sorted({0, len(data), *(c for c in cuts if c < len(data))})
    parts = [data[a:b] for a, b in itertools.pairwise(edges)]
    reply = asyncio.run(read_reply(_Response(parts), 0.0))  # type: ignore[arg-type]
    assert reply.text == "Grüß dich 🙂" and reply.pieces == ["Grüß", " dich", " 🙂"]
    assert reply.usage is not None and reply.usage.output == 3


def test_tokens_come_from_log_probabilities_where_there_are_some() -> None:
    smile = "🙂".encode()
    tokens = [
        {"token": "a", "bytes": [97]},
        {"token": "?", "bytes": list(smile[:2])},
        {"token": "?", "bytes": list(smile[2:])},
    ]
    whole = {
        "choices": [
            {"index": 0, "message": {"content": "a🙂"}, "finish_reason": "stop", "logprobs": {"content": tokens}}
        ]
    }
    response = _Response([json.dumps(whole).encode()])
    reply = asyncio.run(read_reply(response, 0.0))  # type: ignore[arg-type]
    assert reply.pieces == ["a", "", "🙂"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 429, "message": "slow down"}, "rate_limit"),
        ({"code": 401, "message": "bad key sk-1"}, "key"),
        ({"code": 400, "message": "maximum context length is 10"}, "context"),
        ({"code": "server_error", "message": "died"}, "cut"),
        ("died", "cut"),
    ],
)
def test_an_error_behind_a_good_status_is_the_error_it_says(error: Any, kind: str) -> None:
    response = _Response([b"data: " + json.dumps({"error": error}).encode() + b"\n\n"])
    with pytest.raises(AttemptFailed) as failed:
        asyncio.run(read_reply(response, 0.0))  # type: ignore[arg-type]
    assert failed.value.kind == kind and "sk-1" not in failed.value.message


# -- what fails -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_passing_fault_is_tried_again_and_charged_as_what_it_is(fault: str, stream: bool) -> None:
    with FakeEndpoint(faults=(fault,)) as fake:
        (reply,) = call(fake, body(), stream=stream)
    assert isinstance(reply, Reply) and reply.text == fake_endpoint.answer(body())[0]
    assert fake.billed.total() == 1
    if fault == "usage":  # the answer is good, its count is not
        assert (reply.attempts, reply.usage) == (1, None) and "impossible" in reply.usage_error
    else:
        assert reply.attempts == 2
        # whatever was accepted may be billed; a reset before the first byte and an error status are not
        assert reply.maybe_billed == (fault in ("timeout", "malformed", "empty", "cut"))


@pytest.mark.parametrize("fault", [f for f in FAULTS if f != "usage"])
def test_a_lasting_fault_ends_as_a_failure_with_its_kind(fault: str) -> None:
    with FakeEndpoint(faults=(fault,), times=99) as fake:
        (failure,) = call(fake, body(), attempts=2)
    kinds = {
        "429": "rate_limit",
        "429-after": "rate_limit",
        "500": "server",
        "reset": "connection",
        "empty": "malformed",
    }
    assert isinstance(failure, Failure)
    assert (failure.kind, failure.attempts, fake.requests) == (kinds.get(fault, fault), 2, 2)
    assert "\n" not in failure.message and fake.url in failure.message and "(tried 2 times)" in failure.message
    assert fake.billed.total() == 0


def test_attempts_that_may_be_billed_are_few() -> None:
    with FakeEndpoint(faults=("cut",), times=99) as fake:
        (failure,) = call(fake, body())
    assert isinstance(failure, Failure) and failure.maybe_billed == fake.requests == BILLED_ATTEMPTS


def test_a_wrong_key_is_one_clear_line_without_retries_or_the_key(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FAKE_KEY", SECRET)
    with FakeEndpoint(key="another") as fake:
        (failure,) = call(fake, body(), key="FAKE_KEY")
    assert isinstance(failure, Failure) and (failure.kind, fake.requests) == ("key", 1)
    assert "refused the key (401)" in failure.message
    assert SECRET not in failure.message + caplog.text


def test_a_key_that_the_endpoint_quotes_is_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_KEY", SECRET)
    with FakeEndpoint(models=("other",), key=SECRET) as fake:
        (failure,) = call(fake, body(model=f"m-{SECRET}"), key="FAKE_KEY")
    assert isinstance(failure, Failure) and failure.kind == "model"
    assert SECRET not in failure.message and "m-***" in failure.message


def test_a_key_that_is_not_set_or_cannot_be_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FAKE_KEY", raising=False)
    with FakeEndpoint() as fake:
        (missing,) = call(fake, body(), key="FAKE_KEY")
        monkeypatch.setenv("FAKE_KEY", "two\nlines")
        (broken,) = call(fake, body(), key="FAKE_KEY")
    assert isinstance(missing, Failure) and "FAKE_KEY" in missing.message and missing.kind == "key"
    assert isinstance(broken, Failure) and "two" not in broken.message and broken.kind == "key"
    assert fake.requests == 0


def test_a_quota_that_is_used_up_for_hours_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def used_up(*_: Any) -> Any:
        return fake_endpoint.error(429, "daily limit", "rate_limit_exceeded", {"Retry-After": "7200"})

    monkeypatch.setattr(FakeEndpoint, "_reply", used_up)
    with FakeEndpoint() as fake:
        (failure,) = call(fake, body())
    assert (
        isinstance(failure, Failure)
        and (failure.kind, failure.attempts) == ("credit", 1)
        and "120 minutes" in failure.message
    )


def test_what_can_never_work_is_not_tried_again() -> None:
    with FakeEndpoint(models=("other",)) as fake:
        (unknown,) = call(fake, body())
    with FakeEndpoint(context=10) as full:
        (long,) = call(full, body("x" * 400))
    assert isinstance(unknown, Failure) and (unknown.kind, fake.requests) == ("model", 1)
    assert isinstance(long, Failure) and (long.kind, full.requests) == ("context", 1)


def test_an_endpoint_that_is_down_is_a_connection_failure() -> None:
    with FakeEndpoint() as fake:
        pass
    (failure,) = call(fake, body(), attempts=1)
    assert isinstance(failure, Failure) and failure.kind == "connection" and "cannot be reached" in failure.message

    async def probe() -> Failure | None:
        async with Upstream({"here": Provider(base_url=fake.url)}) as upstream:
            return await upstream.probe("here")

    probed = asyncio.run(probe())
    assert probed is not None and probed.kind == "connection"


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (401, "", "key"),
        (403, "", "key"),
        (403, "Your input was flagged (moderation)", "refused"),
        (403, "Project does not have access to model gpt-9 (model_not_found)", "model"),
        (400, "gpt-9 is not a valid model ID", "model"),
        (400, "Model Not Exist", "model"),
        (402, "", "credit"),
        (429, "You exceeded your current quota (insufficient_quota)", "credit"),
        (429, "Rate limit reached for requests", "rate_limit"),
        (404, "no such model", "model"),
        (400, "This model's maximum context length is 8192 tokens", "context"),
        (400, "request (3030 tokens) exceeds the available context size (2048 tokens)", "context"),
        (400, "prompt is too long: 250000 tokens > 200000 maximum", "context"),
        (400, "The input token count (1100000) exceeds the maximum number of tokens allowed (1048576).", "context"),
        (400, "Range of input length should be [1, 30720]", "context"),
        (422, "`inputs` tokens + `max_new_tokens` must be <= 8193", "context"),
        (413, "", "context"),
        (400, "unknown parameter: thinking", "refused"),
        (422, "", "refused"),
        (503, "Loading model", "server"),
        (529, "overloaded", "server"),
        (408, "", "server"),
    ],
)
def test_statuses_mean_what_providers_mean_by_them(status: int, words: str, kind: str) -> None:
    assert kind_of(status, words) == kind


@given(st.binary(max_size=400))
def test_whatever_an_error_says_is_one_short_line(reply: bytes) -> None:
    line = said(reply)
    assert len(line) <= 300 and "\n" not in line and line.isprintable()


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.dictionaries(
            st.sampled_from(
                [
                    "prompt_tokens",
                    "completion_tokens",
                    "prompt_tokens_details",
                    "cached_tokens",
                    "completion_tokens_details",
                    "reasoning_tokens",
                ]
            ),
            inner,
        ),
        max_leaves=8,
    )
)
def test_usage_is_sound_or_absent(reported: Any) -> None:
    usage, wrong = usage_of(reported, 100, spoke=True)
    assert (usage is None) == bool(wrong)
    if usage is not None:
        assert usage.input > 0 and 0 < usage.output <= LONGEST_ANSWER and 0 <= (usage.cached or 0) <= usage.input
        assert 0 <= (usage.reasoning or 0) <= usage.output


def test_thinking_that_is_counted_beside_the_answer_is_put_within() -> None:
    reported = {"prompt_tokens": 5, "completion_tokens": 10, "completion_tokens_details": {"reasoning_tokens": 30}}
    usage, _ = usage_of(reported, None, spoke=True)
    assert usage is not None and (usage.output, usage.reasoning) == (40, 30)


@pytest.mark.parametrize(
    ("made", "total", "reasoning", "expected"),
    [
        (198, 623, None, (603, 405)),  # Gemini: thinking in the total alone
        (198, 623, 405, (603, 405)),  # xAI: reported, and beside the answer though smaller or larger than it
        (500, 820, 300, (800, 300)),
        (500, 520, 300, (500, 300)),  # within, as OpenAI has it
        (500, 500, 300, (500, 300)),  # a total that makes no sense says nothing
        (500, True, None, (500, None)),
    ],
)
def test_thinking_that_only_the_total_tells_of_is_counted(
    made: int, total: Any, reasoning: int | None, expected: tuple[Any, Any]
) -> None:
    reported = {"prompt_tokens": 20, "completion_tokens": made, "total_tokens": total}
    if reasoning is not None:
        reported["completion_tokens_details"] = {"reasoning_tokens": reasoning}
    usage, wrong = usage_of(reported, None, spoke=True)
    assert usage is not None and not wrong and (usage.output, usage.reasoning) == expected


@pytest.mark.parametrize("shown", [20, 19, 8])
def test_no_part_of_a_key_is_left_where_an_error_is_cut_off(shown: int) -> None:
    key = "sk-very-secret-01234"
    words = Mask(key).error(f"wrong key {key[:shown]}" + ("..." if shown < 20 else " given"))
    assert "sk-v" not in words and "***" in words


# -- how fast -------------------------------------------------------------------------------------------------------


def test_429s_narrow_the_window_until_nothing_is_refused() -> None:
    with FakeEndpoint(limit=4, latency_s=0.01) as fake:
        results = call(fake, *(body(f"query {i}") for i in range(120)), concurrency=32, attempts=12)
    assert all(isinstance(r, Reply) for r in results)
    assert max(fake.billed.values()) == 1 and fake.billed.total() == 120
    assert fake.requests < 2 * 120  # at a fixed concurrency of 32, seven of eight would be refused each time


def test_the_gate_never_lets_more_through_than_its_window() -> None:
    async def run() -> int:
        gate, active, most = ConcurrencyLimiter(5), 0, 0

        async def one(i: int) -> None:
            nonlocal active, most
            await gate.enter()
            try:
                active += 1
                most = max(most, active)
                await asyncio.sleep(0)
            finally:
                active -= 1
                gate.leave()

        tasks = [asyncio.create_task(one(i)) for i in range(60)]
        await asyncio.sleep(0)
        for task in tasks[::7]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert gate.active == 0
        return most

    assert asyncio.run(run()) <= 5


def test_headers_that_say_nothing_is_left_pause_the_provider() -> None:
    gate = ConcurrencyLimiter(4)
    gate.read({"x-ratelimit-remaining-requests": "100", "x-ratelimit-reset-requests": "1m"})
    assert gate._opens_at == 0.0
    before = time.monotonic()
    gate.read({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"})
    assert 100 < gate._opens_at - before <= 121  # no pause is longer than two minutes: limits of a day are tried again


@pytest.mark.parametrize(
    ("text", "value"),
    [("1s", 1.0), ("6m0s", 360.0), ("20ms", 0.02), ("1h2m3.5s", 3723.5), ("7", 7.0), ("soon", None), ("", None)],
)
def test_durations_are_read_as_rate_limit_headers_write_them(text: str, value: float | None) -> None:
    assert seconds(text) == (pytest.approx(value) if value is not None else None)


def test_retry_after_is_seconds_milliseconds_or_a_date() -> None:
    assert retry_after({"retry-after": "2"}) == 2
    assert retry_after({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({"retry-after": "later"}) is None
    assert retry_after({}) is None


# -- providers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8080",
        "ftp://x",
        "http://",
        "http://user:pw@x/v1",
        "https://x/v1?key=1",
        "http://x/v1/chat/completions/",
    ],
)
def test_a_url_that_is_none_or_holds_a_secret_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="base_url must") as error:
        Upstream({"here": Provider(base_url=url)})
    assert "pw" not in str(error.value) and "key=1" not in str(error.value)


def test_known_providers_need_no_entry_and_unknown_ones_say_what_to_add() -> None:
    def model(provider: str) -> Model:
        return Model(id="m", budgets=(), provider=provider)

    assert providers_of([model("groq")], {}) == {"groq": KNOWN["groq"]}
    mine = Provider(base_url="http://127.0.0.1:1/v1")
    assert providers_of([model("openai")], {"openai": mine}) == {"openai": mine}
    with pytest.raises(ConfigError, match=r"did you mean 'openai'.*\[provider\.openia\]"):
        providers_of([model("openia")], {})
    with pytest.raises(ConfigError, match="no provider"):
        providers_of([model("")], {})


def test_failures_and_replies_cross_processes_as_bytes() -> None:
    failure = Failure(kind="cut", message="broke off", maybe_billed=1)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(failure), type=Failure) == failure
