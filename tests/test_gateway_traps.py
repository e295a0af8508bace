"""What bit other gateways on the wire: 47 traps, each with the tests that hold it; those without another place stand
here.
"""

from __future__ import annotations

import ast
import asyncio
import base64
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the gateway needs the [serve] extra")

from fake_provider import DONE, Answer, Asked, FakeProvider, as_json, chunk, event
from gateway_rig import KEY, PATHS, Rig, asking, pool_models, rig
from r2router.errors import ConfigError
from r2router.gateway.app import Gateway
from r2router.gateway.budgets import clamped
from r2router.gateway.config import Config
from r2router.gateway.failover import Breaker
from r2router.gateway.logs import Log
from r2router.gateway.serve import _reloads
from r2router.gateway.setting import Setting

HERE = Path(__file__).parent
TRAPS: dict[int, str] = {
    1: "wire:the_usage_chunk_is_for_those_who_asked",
    2: "wire:bytes_are_those_of_the_provider",
    3: "failure:stream_options_that_are_refused_are_left_out_once",
    4: "wire:bytes_are_those_of_the_provider",
    5: "wire:bytes_are_those_of_the_provider",
    6: "wire:a_packed_stream_is_read_all_the_same",
    7: "wire:packed_requests_are_unpacked",
    8: "wire:a_websocket_is_told_to_use_http",
    9: "failure:a_stream_that_breaks_off_is_never_passed_off_as_whole",
    10: "failure:nobody_can_be_reached",
    11: "failure:it_goes_to_the_next_model",
    12: "failure:a_stream_that_breaks_off_is_never_passed_off_as_whole",
    13: "translate:trap_13_calls_of_tools_are_told_apart",
    14: "translate:thinking_and_two_tools_in_a_stream_over_chat",
    15: "traps:trap_15_thinking_goes_both_ways_as_it_is",
    16: "sessions:state_stays_with_its_provider",
    17: "failure:the_table_of_errors",
    18: "budgets:chat_in_the_words_of_the_provider",
    19: "budgets:thinking_leaves_room_for_the_answer",
    20: "translate:trap_20_a_role_that_an_older_server_does_not_know",
    21: "wire:falsy_values_and_logprobs_and_choices_survive",
    22: "wire:falsy_values_and_logprobs_and_choices_survive",
    23: "translate:the_packages_of_openai_and_anthropic_over_any_endpoint",
    24: "wire:falsy_values_and_logprobs_and_choices_survive",
    25: "wire:the_body_is_edited_in_its_bytes",
    26: "traps:trap_26_content_that_is_empty_is_the_providers_to_judge",
    27: "translate:golden",
    28: "traps:trap_28_an_image_is_bounded_by_its_size_in_pixels",
    29: "traps:trap_29_an_empty_answer_is_an_answer",
    30: "failure:retry_after_in_all_its_forms",
    31: "failure:a_client_that_leaves_ends_the_call",
    32: "traps:trap_32_cached_tokens_count_once",
    33: "wire:usage_of_messages_is_never_added_up",
    34: "traps:trap_34_reasoning_beside_the_completion_is_paid",
    35: "wire:usage_of_responses_stands_in_whatever_ends_them",
    36: "traps:trap_36_the_meter_of_the_context_is_never_empty",
    37: "translate:thinking_and_two_tools_in_a_stream_over_chat",
    38: "translate:thinking_and_two_tools_in_a_stream_over_chat",
    39: "failure:signs_of_life_in_the_dialect",
    40: "clients:a_session_as_claude_code_shapes_it",
    41: "sessions:headers_that_change_are_no_part_of_it",
    42: "wire:only_known_headers_go_on",
    43: "translate:what_would_be_lost_is_said",
    44: "wire:models_in_three_shapes",
    45: "budgets:the_lower_effort_counts_as_one_that_the_model_has",
    46: "traps:trap_46_levels_of_effort_are_the_arms",
    47: "translate:traps_20_and_47_other_names_where_the_arm_says_so",
}


def test_every_trap_has_a_test() -> None:
    assert list(TRAPS) == list(range(1, 48))
    for name in {told.partition(":")[0] for told in TRAPS.values()}:
        tree = ast.parse((HERE / f"test_gateway_{name}.py").read_text(encoding="utf-8"))
        there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        wanted = {f"test_{told.partition(':')[2]}" for told in TRAPS.values() if told.partition(":")[0] == name}
        assert wanted <= there, wanted - there


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeProvider]:
    with pytest.MonkeyPatch.context() as patch, FakeProvider() as found:
        patch.setenv("FAKE_PROVIDER_KEY", KEY)
        yield found


@pytest.fixture(scope="module")
def gate(fake: FakeProvider) -> Iterator[Rig]:
    with rig({"fake": fake}) as found:
        yield found


@pytest.fixture(autouse=True)
def _fresh(fake: FakeProvider, gate: Rig) -> None:
    fake.script = None
    fake.asked.clear()
    gate.fresh()
    gate.gateway.breaker = Breaker()


def test_trap_15_thinking_goes_both_ways_as_it_is(gate: Rig, fake: FakeProvider) -> None:
    said = b'{"role":"assistant","content":"a", "reasoning_content" : "H\\u006d", "reasoning":"x","odd":{"z":1.0}}'
    body = (
        b'{"model":"gpt-5-mini","messages":[{"role":"user","content":"a"},'
        + said
        + b',{"role":"user","content":"b"}],"stream":true}'
    )
    parts = [
        event({"choices": [{"index": 0, "delta": {"reasoning_content": "Hm", "odd": 1}}]}),
        chunk("a"),
        chunk(None, "stop"),
        DONE,
    ]
    fake.script = lambda asked: Answer(parts)
    status, _, out = gate.post("chat", body)
    assert status == 200 and said in fake.asked[0].raw and out == b"".join(parts)


@pytest.mark.parametrize("content", [None, "", []])
def test_trap_26_content_that_is_empty_is_the_providers_to_judge(gate: Rig, fake: FakeProvider, content: Any) -> None:
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": content},
        {"role": "user", "content": content},
    ]
    for endpoint in PATHS:
        body = {**asking(endpoint, model="auto:cheap"), "input" if endpoint == "responses" else "messages": turns}
        status, _, said = gate.post(endpoint, body)
        assert status == 200, said
        assert fake.asked[-1].body["input" if endpoint == "responses" else "messages"] == turns


def test_trap_28_an_image_is_bounded_by_its_size_in_pixels(gate: Rig) -> None:
    header = (
        b"\x89PNG\r\n\x1a\n"
        + (13).to_bytes(4)
        + b"IHDR"
        + (1024).to_bytes(4)
        + (768).to_bytes(4)
        + b"\x08\x02\x00\x00\x00"
    )
    data = base64.b64encode(header + os.urandom(1_400_000)).decode()
    text = {"type": "text", "text": "What is this?"}
    shapes: dict[str, Any] = {
        "chat": {
            "messages": [
                {
                    "role": "user",
                    "content": [text, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}],
                }
            ]
        },
        "messages": {
            "system": "x",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        text,
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}},
                    ],
                }
            ],
        },
        "responses": {
            "input": [
                {
                    "role": "user",
                    "content": [
                        {"type": "input_text", "text": "What?"},
                        {"type": "input_image", "image_url": f"data:image/png;base64,{data}"},
                    ],
                }
            ]
        },
    }
    for endpoint, shape in shapes.items():
        status, _, said = gate.post("/v1/route", {"model": "auto", "max_tokens": 9, **shape})
        found = json.loads(said)
        assert status == 200 and 1024 * 768 // 750 <= found["input_tokens"] < 1500, (endpoint, found["input_tokens"])
        assert not any("context" in why for why in found["excluded"].values())


@pytest.mark.parametrize("message", [{"content": ""}, {"content": None, "reasoning_content": "Hm"}])
def test_trap_29_an_empty_answer_is_an_answer(gate: Rig, fake: FakeProvider, message: dict[str, Any]) -> None:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "length"}
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    fake.script = lambda asked: as_json({"choices": [choice], "usage": usage})
    status, _, said = gate.post("chat", asking("chat", max_tokens=1))
    settled = gate.settled()[0]
    assert status == 200 and json.loads(said)["choices"] == [choice] and len(fake.asked) == 1
    assert settled.state == "cut" and settled.usage is not None and settled.usage.output == 1 and not settled.estimated
    # no bytes at all are no answer
    fake.script = lambda asked: Answer([], headers={"Content-Type": "application/json"})
    assert gate.post("chat", asking("chat", model="gpt-5-mini"))[0] == 502


CACHED = {
    "chat": {
        "prompt_tokens": 100,
        "completion_tokens": 7,
        "total_tokens": 107,
        "prompt_tokens_details": {"cached_tokens": 80},
    },
    "messages": {
        "input_tokens": 20,
        "cache_read_input_tokens": 80,
        "cache_creation_input_tokens": 0,
        "output_tokens": 7,
    },
    "responses": {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 80},
        "output_tokens": 7,
        "total_tokens": 107,
    },
}


def test_trap_32_cached_tokens_count_once(gate: Rig, fake: FakeProvider) -> None:
    def script(asked: Asked) -> Answer:
        endpoint = next(name for name, path in PATHS.items() if path == asked.path)
        text = {"type": "output_text" if endpoint == "responses" else "text", "text": "Hi"}
        whole: dict[str, Any] = {
            "chat": {"choices": [{"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}]},
            "messages": {"type": "message", "content": [text], "stop_reason": "end_turn"},
            "responses": {
                "object": "response",
                "status": "completed",
                "output": [{"type": "message", "content": [text]}],
            },
        }[endpoint]
        return as_json({**whole, "usage": CACHED[endpoint]})

    fake.script = script
    for endpoint in PATHS:
        gate.post(endpoint, asking(endpoint, "x " * 200, model="gpt-5-mini"))
    settled = gate.settled(3)
    assert all(
        s.usage and (s.usage.input, s.usage.cached, s.usage.output) == (100, 80, 7) and not s.estimated for s in settled
    )
    price = gate.gateway.setting.router.pool["gpt-5-mini"].usd_per_million
    assert price is not None and price.cached_input is not None
    assert {s.cost for s in settled} == {round(1000 * (20 * price.input + 80 * price.cached_input + 7 * price.output))}


def test_trap_34_reasoning_beside_the_completion_is_paid(gate: Rig, fake: FakeProvider) -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 115}
    choice = {"index": 0, "message": {"content": "Hi"}, "finish_reason": "stop"}
    fake.script = lambda asked: as_json({"choices": [choice], "usage": usage})
    gate.post("chat", asking("chat", model="gpt-5-mini"))
    found = gate.settled()[0].usage
    assert found is not None and (found.input, found.output, found.reasoning) == (10, 105, 100)


def test_trap_36_the_meter_of_the_context_is_never_empty(fake: FakeProvider) -> None:
    with rig({"fake": fake}, speaks=("chat",)) as gate:
        _, _, said = gate.post(
            "messages", asking("messages", "Who wrote Faust, and when?", model="auto:cheap", stream=True)
        )
    start = json.loads(said.split(b"data: ")[1].split(b"\n")[0])
    assert start["message"]["usage"]["input_tokens"] > 0


def test_trap_46_levels_of_effort_are_the_arms(gate: Rig, fake: FakeProvider) -> None:
    levels = {b.id for m in pool_models() if m.id == "gpt-5-mini" for b in m.budgets if "reasoning_effort" in b.control}
    for asked in ("max", "xhigh", "high", "low", "minimal", "none"):
        status, _, said = gate.post("chat", asking("chat", reasoning_effort=asked, r2router={"models": ["gpt-5-mini"]}))
        assert status == 200, said
        assert fake.asked[-1].body["reasoning"]["effort"] in levels
    gate.post("chat", asking("chat", model="gpt-5-mini", reasoning_effort="max"))
    assert fake.asked[-1].body["reasoning_effort"] == "max"  # a model by its name: the caller's word
    assert clamped("max", ("low", "high")) == "high" and clamped("minimal", ("low", "high")) == "low"
    assert clamped("max", ()) == "max" and clamped("turbo", ("low",)) == "turbo"


# -- a client that leaves while another model is asked ----------------------------------------------------------------


@pytest.mark.parametrize("endpoint", PATHS)
@pytest.mark.parametrize("stream", [True, False])
def test_trap_31_a_client_that_leaves_while_it_is_asked_again(
    gate: Rig, fake: FakeProvider, endpoint: str, stream: bool
) -> None:
    first: list[str] = []

    def script(asked: Asked) -> Answer:
        first.append(asked.body["model"])
        # which ends early only where the caller closes
        return as_json({"error": "busy"}, 503) if len(first) == 1 else Answer([60.0])

    fake.script = script
    body = json.dumps(asking(endpoint, model="auto:cheap", stream=stream)).encode()
    deadline = time.monotonic() + 20
    with socket.create_connection(("127.0.0.1", gate.port)) as client:
        client.sendall(
            f"POST {PATHS[endpoint]} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        )
        while len(fake.asked) < 2 and time.monotonic() < deadline:
            time.sleep(0.005)
    settled = gate.settled()
    while fake.asked[1].closed_after is None and time.monotonic() < deadline:
        time.sleep(0.005)
    # it was told at once, and no third model was asked
    assert fake.asked[1].closed_after is not None and len(fake.asked) == 2
    assert len(settled) == 1 and settled[0].state == "cancelled" and settled[0].attempts == 2 and settled[0].cost > 0  # type: ignore[operator]
    assert gate.gateway.active == 0


# -- hot reload -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_sighup_reloads_and_a_bad_configuration_is_refused() -> None:
    lines: list[str] = []

    class Kept:
        def write(self, line: str) -> None:
            lines.append(line)

        def flush(self) -> None: ...

    config = Config()
    answers: list[Any] = [ConfigError("gateway.toml: preset 'x': 'nobody' fits no model"), Setting.of(config)]

    def again() -> Setting:
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[no-any-return]

    async def run() -> None:
        gateway = Gateway(Setting.of(config), log=Log("text", Kept()))  # type: ignore[arg-type]
        first, second = gateway.setting, answers[1]
        watcher = asyncio.create_task(_reloads(gateway, None, again))
        await asyncio.sleep(0)
        for count, wanted in ((1, first), (2, second)):
            os.kill(os.getpid(), signal.SIGHUP)
            async with asyncio.timeout(30):
                while len(lines) < count:
                    await asyncio.sleep(0.01)
            assert gateway.setting is wanted
        watcher.cancel()
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)
        await gateway.close()

    asyncio.run(run())
    assert "the old configuration is kept" in lines[0] and "nobody" in lines[0] and lines[1] == "reloaded\n"
