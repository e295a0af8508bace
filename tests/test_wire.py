"""What endpoints really send: every shape of stream, content, usage and ending that is known, and however it is cut
into packets.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("aiohttp", reason="calling LLMs needs the [bench] extra")

from r2router.pool.prices import cost_usd
from r2router.types import Prices
from r2router.upstream.answer import BROKEN_OFF, ReplyBuilder
from r2router.upstream.content import joined_pieces
from r2router.upstream.events import Lines
from r2router.upstream.reader import read_reply
from r2router.upstream.reply import AttemptFailed, Reply
from r2router.upstream.usage import Usage, usage_of

USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
COUNTED = Usage(10, 5)


class _Response:
    """A successful response whose body arrives in given packets."""

    def __init__(self, packets: Sequence[bytes], **headers: str) -> None:
        self.content, self.headers, self._packets = self, headers, packets
        self.taken = 0

    async def iter_any(self) -> Any:
        for packet in self._packets:
            self.taken += 1
            yield packet


def read(*packets: bytes, **asked: Any) -> Reply | AttemptFailed:
    """The reply, or how it failed."""
    try:
        return asyncio.run(read_reply(_Response(packets), 0.0, **asked))  # type: ignore[arg-type]
    except AttemptFailed as failed:
        return failed


def sse(*chunks: Any, done: bool = True) -> bytes:
    events = [chunk if isinstance(chunk, str) else json.dumps(chunk) for chunk in chunks]
    return "".join(f"data: {event}\n\n" for event in [*events, *(["[DONE]"] if done else [])]).encode()


def says(content: Any, finish: Any = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish, **more}]}


def good(body: bytes, text: str = "7", reasoning: str | None = None, usage: Usage | None = COUNTED) -> Reply:
    reply = read(body)
    assert isinstance(reply, Reply), reply
    assert reply.text == text and "".join(reply.pieces) == text
    assert reasoning is None or reply.reasoning == reasoning
    assert reply.usage == usage, reply.usage_error
    return reply


END: dict[str, Any] = {"choices": [], "usage": USAGE}

# -- how a stream is cut and labelled
# -----------------------------------------------------------------------------------

STREAM = (
    ": hello\n"
    'event: message\ndata: {"choices": [{"index": 0, "delta": {"content": "Grüß"}}]}\n\n'
    'data:{"choices": [{"index": 0,\ndata: "delta": {"content": " \u2028dich\u0085"}}]}\n\n'  # one event in two lines
    'id: 7\ndata: {"choices": [{"index": 0, "delta": {"content": " 🙂"}, "finish_reason": "stop"}]}\n'  # no empty line behind it
    'data: {"choices": null, "usage": {"prompt_tokens": 10, "completion_tokens": 5}}\n\n'
    "data: [DONE]\n\n"
)


@given(st.lists(st.integers(0, 600), max_size=14), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans())
def test_a_stream_reads_the_same_in_any_packets_and_with_any_ends_of_lines(
    cuts: list[int], newline: str, bom: bool
) -> None:
    data = (b"\xef\xbb\xbf" if bom else b"") + STREAM.replace("\n", newline).encode()
    edges = sorted({0, len(data), *(c for c in cuts if c < len(data))})
    reply = read(*(data[a:b] for a, b in itertools.pairwise(edges)))
    assert isinstance(reply, Reply), reply
    assert (
        reply.pieces == ["Grüß", " \u2028dich\u0085", " 🙂"]
        and reply.usage == Usage(10, 5)
        and reply.finish_reason == "stop"
    )


@given(st.binary(max_size=60).map(lambda b: b.replace(b"x", b"\r").replace(b"y", b"\n")), st.lists(st.integers(0, 60)))
def test_lines_are_those_of_the_whole(data: bytes, cuts: list[int]) -> None:
    edges = sorted({0, len(data), *(c for c in cuts if c < len(data))})
    lines = Lines(1000)
    found = [line for a, b in itertools.pairwise(edges) for line in lines.feed(data[a:b])]
    assert [*found, lines.end()] == data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")


@given(
    st.lists(st.binary(max_size=30), max_size=5),
    st.sampled_from([b"", b"data: ", b"{", sse(says("a"), done=False), b"\xef\xbb\xbf"]),
)
def test_whatever_comes_is_a_reply_or_a_failure(packets: list[bytes], begin: bytes) -> None:
    found = read(begin, *packets)
    assert isinstance(found, Reply) or found.kind in ("malformed", "cut", "server", "rate_limit")


def test_bytes_one_by_one() -> None:
    reply = read(*(bytes([b]) for b in STREAM.encode()))
    assert isinstance(reply, Reply) and reply.text == "Grüß \u2028dich\u0085 🙂"


def test_a_character_in_two_escaped_halves_is_whole() -> None:
    """Servers that count in UTF-16 cut it in two; neither half is Unicode by itself."""
    halves = [
        '{"choices": [{"index": 0, "delta": {"content": "a\\ud83d"}}]}',
        '{"choices": [{"index": 0, "delta": {"content": "\\ude42b"}}]}',
    ]
    reply = good(sse(*halves, says("", "stop"), END), "a🙂b")
    assert reply.pieces == ["a", "🙂b"]


@given(st.lists(st.text(st.characters(codec="utf-16", exclude_categories=())), max_size=6))
def test_mended_text_can_be_written_down(pieces: list[str]) -> None:
    found = joined_pieces(pieces)
    assert len(found) == len(pieces)
    whole = "".join(pieces).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert "".join(found) == whole
    whole.encode()


@pytest.mark.parametrize(
    "body",
    [
        sse(says("7"), says(None, "stop"), END, done=False),  # no [DONE]
        sse(says("7"), END),  # no finish reason, as Gemini at times
        sse(says("7"), says("", "null"), END),  # DashScope's
        sse(says("7", "", role="x"), END),
        sse({"choices": None}, {"choices": []}, says("7"), says(None, "stop"), END),
        sse({"choices": [None, {"index": 0, "delta": None}]}, says("7"), END),
        sse("", "ping", says("7", "stop"), END),  # what is no JSON says nothing
        b": OPENROUTER PROCESSING\n\n" * 3 + sse(says("7", "stop"), END),
        sse(says("7", "stop", usage=USAGE)),  # Moonshot
        sse(says("7", "stop"), {"choices": [], "x_groq": {"usage": USAGE}}),  # Groq
        sse(
            {**says("7", "stop"), "usage": USAGE},
            {"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}},
        ),
        # running counts
        sse({**says("7"), "usage": {**USAGE, "completion_tokens": 1}}, {**says("", "stop"), "usage": USAGE}),
        sse({"choices": [], "prompt_filter_results": [{}]}, says("7", "stop", content_filter_results={}), END),  # Azure
        json.dumps({"choices": [{"message": {"content": "7"}, "finish_reason": "stop"}], "usage": USAGE}).encode(),
        b"\n\n \n"
        + json.dumps(
            {"choices": [{"message": {"content": "7"}, "finish_reason": "stop"}], "usage": USAGE}, indent=1
        ).encode(),
        b"\xef\xbb\xbf" + json.dumps({"choices": {"message": {"content": "7"}}, "usage": USAGE}).encode(),
        b"\n".join(json.dumps(c).encode() for c in (says("7"), says("", "stop"), END)),  # a JSON in every line
        # Together
        sse({"choices": [{"index": 0, "text": "7", "delta": {"content": "7"}, "finish_reason": "eos"}]}, END),
        sse({"choices": [{"text": "7", "finish_reason": "stop"}]}, END),
        sse(says("7", "stop"), {"choices": [], "timings": {"prompt_n": 4, "cache_n": 6, "predicted_n": 5}}),
    ],
    ids=range(20),
)
def test_streams_and_replies_as_endpoints_send_them(body: bytes) -> None:
    reply = read(body)
    assert isinstance(reply, Reply), reply
    assert (reply.text, reply.usage and (reply.usage.input, reply.usage.output)) == ("7", (10, 5)), reply.usage_error


def test_what_follows_the_end_is_not_waited_for() -> None:
    endless = _Response([sse(says("7", "stop"), END), *[b"data: {}\n\n" * 100] * 10_000])
    reply = asyncio.run(read_reply(endless, 0.0))  # type: ignore[arg-type]
    assert reply.text == "7" and endless.taken < 200


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"", "cut", "broke off"),
        (b"<html>502</html>", "malformed", "<html>"),
        (b"data: [DONE]\n\n", "malformed", "without a choice"),
        (sse(END), "malformed", "without a choice"),
        (sse(says("7"), done=False), "cut", "broke off"),
        (sse(says("7"), END, done=False), "cut", "broke off"),
        (sse('{"choices": [{"ind'), "malformed", "not a reply"),
        (b'{"choices": [{"ind', "malformed", "not a reply"),
        (b"[1, 2]", "malformed", "not a reply"),
        (b"{}", "malformed", "without a choice"),
        (sse(says("7"), "null", '{"error": {"message": "died", "code": 500}}'), "cut", "died (500)"),
        (sse('{"error": {"message": "died", "code": "503"}}'), "server", "died"),
        (b'{"error": {"message": "slow down", "code": 429}}', "rate_limit", "slow down"),
        (b'[{"error": {"message": "slow down", "code": 429}}]', "rate_limit", "slow down"),
        (b'{"object": "error", "message": "too long, maximum context length", "code": 400}', "context", "too long"),
        (b"error: out of memory\n\n", "cut", "out of memory"),
        (b'event: error\ndata: {"code": "Throttling", "message": "busy"}\n\n', "cut", "busy"),
        (sse(says("7"), says(None, "error", error={"code": 502, "message": "gone"})), "cut", "gone"),
    ],
)
def test_what_is_no_answer_says_why(body: bytes, kind: str, words: str) -> None:
    failed = read(body)
    assert isinstance(failed, AttemptFailed), failed
    assert failed.kind == kind and words in failed.message


@pytest.mark.parametrize("reason", [*sorted(BROKEN_OFF), "ABORT", "ERROR", "model_error"])
@pytest.mark.parametrize("stream", [True, False])
def test_an_answer_that_the_engine_broke_off_is_no_outcome(reason: str, stream: bool) -> None:
    whole = {"choices": [{"message": {"content": "The ans"}, "finish_reason": reason}], "usage": USAGE}
    failed = read(sse(says("The ans"), says(None, reason), END) if stream else json.dumps(whole).encode())
    assert isinstance(failed, AttemptFailed) and failed.kind == "cut" and reason in failed.message
    assert failed.usage == Usage(10, 5), "it is billed"


@pytest.mark.parametrize(
    "reason", ["stop", "length", "content_filter", "tool_calls", "eos", "SAFETY", "end_turn", "model_length"]
)
def test_other_endings_are_outcomes(reason: str) -> None:
    assert good(sse(says("7"), says(None, reason), END)).finish_reason == reason


# -- what was said
# ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "text", "reasoning"),
    [
        ({"content": "7", "reasoning_content": "2+5"}, "7", "2+5"),
        ({"content": "7", "reasoning": "2+5", "reasoning_content": "2+5"}, "7", "2+5"),  # twice the same
        (
            {"content": "7", "reasoning": "2+5", "reasoning_details": [{"type": "reasoning.text", "text": "2+5"}]},
            "7",
            "2+5",
        ),
        ({"content": "7", "reasoning_details": [{"type": "reasoning.summary", "summary": "2+5"}]}, "7", "2+5"),
        (
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "2+5"}]},
                    {"type": "text", "text": "7"},
                ]
            },
            "7",
            "2+5",
        ),
        ({"content": [{"type": "thinking", "thinking": "2+5"}, {"type": "text", "text": "7"}]}, "7", "2+5"),  # Cohere
        (
            {
                "content": [
                    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "2+5"}]},
                    {"type": "text", "text": "7"},
                ]
            },
            "7",
            "2+5",
        ),
        ({"content": [{"text": "2+5", "thought": True}, {"text": "7"}]}, "7", "2+5"),
        ({"content": ["7"]}, "7", ""),
        ({"content": {"type": "text", "text": "7"}}, "7", ""),
        ({"content": [{"type": "text", "text": {"value": "7"}}, {"type": "reference", "reference_ids": [1]}]}, "7", ""),
        (
            {
                "content": [
                    {"type": "tool_use", "content": "no"},
                    {"type": "image_url", "text": "no"},
                    {"type": "text", "text": "7"},
                ]
            },
            "7",
            "",
        ),
        ({"content": None, "refusal": "7"}, "7", ""),
        ({"content": [{"type": "refusal", "refusal": "7"}]}, "7", ""),
        ({"content": 7, "refusal": "7"}, "7", ""),
        ({"content": None, "tool_calls": [{}]}, "", ""),
        ({"content": [[[[[[[[["deep"]]]]]]]]]}, "", ""),
    ],
)
@pytest.mark.parametrize("way", ["message", "delta"])
def test_content_in_every_form(message: Any, text: str, reasoning: str, way: str) -> None:
    body = {"choices": [{"index": 0, way: message, "finish_reason": "stop"}], "usage": USAGE}
    good(json.dumps(body).encode() if way == "message" else sse(body), text, reasoning)


def test_a_stream_is_made_of_its_deltas_whatever_stands_beside_them() -> None:
    texts = ["The", " answer", " is 7"]
    so_far = list(itertools.accumulate(texts))
    beside = [says(d, message={"content": s}) for d, s in zip(texts, so_far, strict=True)]
    good(sse(*beside, END), so_far[-1])
    good(sse(*beside, says("", "stop", message={"content": so_far[-1]}), END), so_far[-1])
    good(
        sse(*(says(d) for d in texts), {"choices": [{"delta": None, "message": {"content": so_far[-1]}}]}, END),
        so_far[-1],
    )
    only_messages = [{"choices": [{"message": {"content": s}}]} for s in so_far]
    good(sse(*only_messages, END), so_far[-1])
    good(sse(*({"choices": [{"message": {"content": d}}]} for d in texts), END), so_far[-1])
    good(sse(says(None), says("", "stop", message={"content": "7"}), END), "7")


@pytest.mark.parametrize("first", [0, 1, 5])
def test_of_several_choices_one_counts(first: int) -> None:
    def choice(index: int, words: str) -> dict[str, Any]:
        return {"index": index, "delta": {"content": words}, "finish_reason": None}

    other = first + 1
    good(sse({"choices": [choice(other, "no"), choice(first, "7")]}, {"choices": [choice(other, "no")]}, END))
    good(sse({"choices": [choice(other, "no")]}, {"choices": [choice(first, "7")]}, END))
    good(
        json.dumps(
            {"choices": [{"message": {"content": "7"}}, {"message": {"content": "no"}}], "usage": USAGE}
        ).encode()
    )
    good(sse({"choices": [choice(first, "7"), choice(first, "8")]}, END), "78")


def test_fields_of_a_strange_kind_do_not_spoil_an_answer() -> None:
    strange = {
        "choices": [
            {
                "index": "0",
                "message": {"content": "7"},
                "finish_reason": {"type": "stop"},
                "logprobs": {"content": [{"token": 5}]},
            }
        ],
        "usage": USAGE,
        "model": ["m"],
        "error": None,
    }
    assert good(json.dumps(strange).encode()).finish_reason == "stop"
    assert good(b'{"choices": [{"message": {"content": "7"}, "logprobs": {"content": [{"logprob": -Infinity}]}}], "usage": %b}'
                % json.dumps(USAGE).encode()).model is None  # fmt: skip


# -- usage
# --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        # cached input, under every name, as a part of the prompt
        ({"prompt_tokens": 1000, "completion_tokens": 50, "cached_tokens": 900}, (1000, 50, 900)),
        ({"prompt_tokens": 1000, "completion_tokens": 50, "prompt_cache_hit_tokens": 900}, (1000, 50, 900)),
        ({"prompt_tokens": 1000, "completion_tokens": 50, "num_cached_tokens": 900}, (1000, 50, 900)),
        ({"prompt_tokens": 1000, "completion_tokens": 50, "prompt_tokens_details": {"cached_tokens": 900}}, (1000, 50,
        900)),
        ({"prompt_tokens": 1000, "completion_tokens": 50, "prompt_tokens_details": [{"modality": "TEXT"}]}, (1000, 50,
        None)),
        (
            {"prompt_tokens": 2459, "completion_tokens": 23,
             "prompt_tokens_details": {"cached_tokens": 0}, "cache_read_input_tokens": 2455},
            (2459, 23, 2455),
        ),
        ({"input_tokens": 1000, "output_tokens": 50, "input_tokens_details": {"cached_tokens": 900}}, (1000, 50, 900)),
        # beside the prompt: by what does not fit, by the total, by Anthropic's names
        ({"prompt_tokens": 4, "completion_tokens": 50, "cache_read_input_tokens": 2455}, (2459, 50, 2455)),
        ({"prompt_tokens": 0, "completion_tokens": 50, "total_tokens": 950, "cached_tokens": 900}, (900, 50, 900)),
        ({"prompt_tokens": 2000, "completion_tokens": 50, "total_tokens": 2950, "cached_tokens": 900}, (2900, 50, 900)),
        (
            {"input_tokens": 2000, "output_tokens": 50, "cache_read_input_tokens": 900,
            "cache_creation_input_tokens": 0},
            (2900, 50, 900, None, 0),
        ),
        (
            {"input_tokens": 4, "output_tokens": 9, "cache_creation": {"ephemeral_5m_input_tokens": 30,
            "ephemeral_1h_input_tokens": 70}},
            (104, 9, None, None, 100, 70),
        ),
        # writes to the cache
        (
            {
                "prompt_tokens": 98805,
                "completion_tokens": 5120,
                "prompt_tokens_details": {"cached_tokens": 66360, "cache_creation_tokens": 32435},
            },
            (98805, 5120, 66360, None, 32435),
        ),
        ({"prompt_tokens": 500, "completion_tokens": 5, "prompt_tokens_details": {"cache_write_tokens": 400}}, (500, 5,
        None, None, 400)),
        (
            {"prompt_tokens": 500, "completion_tokens": 5, "cache_creation_input_tokens": 400, "total_tokens": 905},
            (900, 5, None, None, 400),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 5, "cache_read_input_tokens": 20,
            "cache_creation_input_tokens": 30},
            (60, 5, 20, None, 30),
        ),
        # thinking
        ({"prompt_tokens": 9, "completion_tokens": 5, "reasoning_tokens": 3}, (9, 5, None, 3)),  # SGLang
        ({"prompt_tokens": 33, "completion_tokens": 7163, "total_tokens": 7196, "reasoning_tokens": 193_830}, (33,
        200_993, None, 193_830)),
        ({"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623}, (20, 603, None, 405)),  # Gemini
        ({"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 90, "cached_tokens": 12}, (20, 70, 12, 60)),
        ({"prompt_tokens": 10.0, "completion_tokens": 5.0}, (10, 5)),
        ({"prompt_tokens": "10", "completion_tokens": "5"}, (10, 5)),
    ],
)  # fmt: skip
def test_usage_under_the_names_that_endpoints_use(reported: Any, expected: tuple[Any, ...]) -> None:
    usage, wrong = usage_of(reported, None, spoke=True)
    assert usage == Usage(*expected), wrong


count = st.integers(0, 3000)


@given(count, count, count, count, count, st.sampled_from(["part", "beside"]))
def test_tokens_beside_a_prompt_are_billed_as_those_within_it(
    fresh: int, read_: int, written: int, made: int, thought: int, way: str
) -> None:
    """One call, reported in both ways, costs the same."""
    given_ = fresh + read_ + written
    out = {"completion_tokens": made + thought, "completion_tokens_details": {"reasoning_tokens": thought}}
    prompt = given_ if way == "part" else fresh
    reported = {
        "prompt_tokens": prompt,
        **out,
        "total_tokens": given_ + made + thought,
        "cache_read_input_tokens": read_,
    }
    usage, wrong = usage_of(reported | {"cache_creation_input_tokens": written}, None, spoke=False)
    assert (usage is None) == (given_ == 0), wrong
    if usage is not None:
        assert usage == Usage(given_, made + thought, read_, thought, written)
        by_hand = fresh * 3 + read_ * 0.3 + written * 3.75 + (made + thought) * 15
        assert cost_usd(Prices(3.0, 15.0, 0.3), usage) == pytest.approx(by_hand / 1e6)


@pytest.mark.parametrize(
    "n", [10**18, 10**9, 10**400, 1e30, float("inf"), float("nan"), -1, 1.5, True, "12a", "9" * 30, "-1", [1], {}, None]
)
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
def test_a_count_that_cannot_be_is_none(n: Any, name: str) -> None:
    usage, wrong = usage_of(USAGE | {name: n, "total_tokens": None}, 64, spoke=True, sent_bytes=200)
    assert usage is None and "impossible usage" in wrong and len(wrong) < 200


@pytest.mark.parametrize("details", [{"cached_tokens": 10**18}, {"cached_tokens": -5}, {"cached_tokens": "x"}])
def test_a_part_that_cannot_be_is_none(details: Any) -> None:
    assert usage_of(USAGE | {"prompt_tokens_details": details}, 64, spoke=True, sent_bytes=200)[0] is None


def test_input_is_bounded_by_the_request_and_output_by_what_was_said() -> None:
    assert usage_of({"prompt_tokens": 5000, "completion_tokens": 5}, 64, spoke=True, sent_bytes=300)[0] is None
    assert usage_of({"prompt_tokens": 300, "completion_tokens": 5}, 64, spoke=True, sent_bytes=300)[0] == Usage(300, 5)
    words = "one two three four five " * 100
    for told, is_true in ((1, False), (60, False), (300, True), (2000, True)):
        reply = read(
            sse(says(words, "stop"), {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": told}}),
            cap=64,
            sent=300,
        )
        assert isinstance(reply, Reply) and (reply.usage is not None) == is_true, told
        assert is_true or "impossible usage" in reply.usage_error


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
                        ["usage", "choices", "delta", "message", "content", "text", "type", "index", "finish_reason",
                        "x_groq", "error",
                         "reasoning", "logprobs", "prompt_tokens", "completion_tokens", "cached_tokens",
                         "prompt_tokens_details"]), inner),
                    max_leaves=12))  # fmt: skip
def test_no_json_is_more_than_a_failure(body: Any) -> None:
    found = read(json.dumps(body).encode()), read(sse(body, body, says("7", "stop"), END))
    for one in found:
        assert isinstance(one, (Reply, AttemptFailed))
        if isinstance(one, Reply) and one.usage is not None:
            assert one.usage.input > 0 and one.usage.output >= (one.usage.reasoning or 0) >= 0
            assert one.usage.input >= (one.usage.cached or 0) + (one.usage.cache_write or 0)


odd = (
    st.none()
    | st.just("")
    | st.text(max_size=3)
    | st.integers(0, 2)
    | st.just({})
    | st.just([])
    | st.just({"type": "stop"})
    | st.just(USAGE)
)
said = st.dictionaries(
    st.sampled_from(
        [
            "content",
            "reasoning_content",
            "reasoning",
            "reasoning_text",
            "thinking",
            "reasoning_details",
            "refusal",
            "usage",
            "role",
        ]
    ),
    odd,
)
a_choice = st.dictionaries(
    st.sampled_from(
        ["index", "finish_reason", "finishReason", "finish_details", "message", "text", "logprobs", "error", "usage"]
    ),
    odd,
    max_size=3,
)
a_chunk = st.dictionaries(st.sampled_from(["model", "object", "error", "usage", "x_groq", "timings"]), odd, max_size=2)


@given(st.lists(st.tuples(a_chunk, a_choice, said), max_size=3))
def test_the_quick_way_reads_what_the_careful_way_reads(chunks: list[tuple[Any, Any, Any]]) -> None:
    quick, careful = ReplyBuilder(1000), ReplyBuilder(1000)
    for chunk, choice, delta in chunks:
        body = {**chunk, "choices": [{**choice, "delta": delta}]}
        if quick.add_plain(json.dumps(body).encode()):
            assert not careful.add(body)
        else:
            assert quick.add(body) == careful.add(body)
    for name in ("finish_reason", "begun", "broken_off", "model", "usage", "seen"):
        assert getattr(quick, name) == getattr(careful, name)
    assert (quick.pieces(), quick.reasoning()) == (careful.pieces(), careful.reasoning())


def test_the_usual_chunks_go_the_quick_way() -> None:
    answer = ReplyBuilder(1000)
    assert all(answer.add_plain(json.dumps(says(words)).encode()) for words in ("7", None, ""))
    assert not answer.add_plain(json.dumps(says("7", "stop")).encode())
