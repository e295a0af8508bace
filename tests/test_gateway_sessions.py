"""Conversations: which one a request is of, and when it stays where it was answered last."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the gateway needs the [serve] extra")

from fake_provider import FakeProvider
from gateway_rig import KEY, Rig, rig
from r2router.gateway.dialects import DIALECTS
from r2router.gateway.incoming import Incoming
from r2router.gateway.ledger import Ledger, Opened, Settled
from r2router.gateway.request import read_call
from r2router.gateway.sessions import Session, Sessions, session_of
from r2router.upstream.usage import Usage

CHAT, RESPONSES, MESSAGES = DIALECTS[:3]
BEST = {"policy": "tradeoff", "lam": 0.0}
CHEAP = {"policy": "tradeoff", "lam": 1.0}


def call(dialect: Any, body: dict[str, Any]) -> Any:
    return read_call(dialect, json.dumps({"model": "auto", **body}).encode(), "auto")


def incoming(**headers: str) -> Incoming:
    given = [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]

    async def receive() -> Any: ...

    return Incoming({"method": "POST", "path": "/", "headers": given}, receive)


HELLO = {"messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize(
    ("headers", "body", "name"),
    [
        ({"x_claude_code_session_id": "abc"}, {"metadata": {"session_id": "no"}}, "abc"),
        ({"x_r2router_session": "mine", "x_claude_code_session_id": "abc"}, {}, "mine"),
        ({"session_id": "codex-1"}, {"prompt_cache_key": "no"}, "codex-1"),
        ({"x_session_affinity": "oc"}, {}, "oc"),
        ({"x_openwebui_chat_id": "ow"}, {}, "ow"),
        ({}, {"prompt_cache_key": "pck"}, "pck"),
        ({}, {"conversation": {"id": "conv_1"}}, "conv_1"),
        ({}, {"metadata": {"user_id": '{"device_id":"d","session_id":"s-1"}'}}, "s-1"),
        ({}, {"metadata": {"user_id": "user_ab_account__session_1f-2e"}}, "1f-2e"),
        ({"x_session_id": "a"}, {"r2router": {"session": "given"}}, "given"),
    ],
)
def test_the_name_that_clients_give(headers: dict[str, str], body: dict[str, Any], name: str) -> None:
    assert session_of(incoming(**headers), call(CHAT, {**HELLO, **body}), None) == name


def test_without_a_name_it_is_what_stays_the_same() -> None:
    longer = {
        "messages": [*HELLO["messages"], {"role": "assistant", "content": "hi"}, {"role": "user", "content": "more"}]
    }
    first, second = (session_of(incoming(), call(CHAT, body), None) for body in (HELLO, longer))
    assert first == second and first.startswith("s_")
    others = {
        session_of(incoming(), call(CHAT, HELLO), "key"),
        session_of(incoming(), call(CHAT, {"messages": [{"role": "user", "content": "other"}]}), None),
        session_of(incoming(), call(MESSAGES, {**HELLO, "system": "s"}), None),
    }
    assert first not in others and len(others) == 3
    odd = session_of(incoming(x_session_id="a b\x00"), call(CHAT, HELLO), None)
    assert odd.startswith("s_") and session_of(incoming(), call(CHAT, {"messages": []}), None) == ""


def test_headers_that_change_are_no_part_of_it() -> None:
    def claude(n: int) -> dict[str, Any]:
        system = [
            {"type": "text", "text": f"x-anthropic-billing-header: cch={n};"},
            {"type": "text", "text": "You are Claude Code."},
        ]
        reminder = f"<system-reminder>It is {n} o'clock</system-reminder>"
        return {
            "system": system,
            "messages": [{"role": "user", "content": [{"type": "text", "text": t} for t in (reminder, "Fix it")]}],
        }

    one, two = call(MESSAGES, claude(1)), call(MESSAGES, claude(2))
    assert one.conversation.task == two.conversation.task == "Fix it"
    assert session_of(incoming(), one, None) == session_of(incoming(), two, None)


def test_the_task_is_what_people_wrote() -> None:
    codex = [
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "<environment_context>x</environment_context>"}],
        },
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Write a parser"}]},
        {"type": "function_call", "call_id": "1", "name": "shell", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "secret tool output"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Now test it"}]},
    ]
    said = call(RESPONSES, {"input": codex}).conversation
    assert said.task == "Write a parser\n\nNow test it" and not said.loop
    said = call(RESPONSES, {"input": codex[:4]}).conversation
    assert said.task == "Write a parser" and said.loop


SIGNED = {"extra_content": {"google": {"thought_signature": "x"}}}


@pytest.mark.parametrize(
    ("dialect", "body", "kind"),
    [
        (MESSAGES, {"messages": [{"role": "assistant", "content": [{"type": "thinking", "signature": "s"}]}]},
        "signature"),
        (RESPONSES, {"input": [{"type": "reasoning", "encrypted_content": "x"}]}, "encrypted"),
        (RESPONSES, {"input": "x", "previous_response_id": "r"}, "previous"),
        (CHAT, {"messages": [{"role": "assistant", "reasoning_content": "x"}]}, "reasoning_content"),
        (CHAT, {"messages": [{"role": "assistant", "tool_calls": [SIGNED]}]}, "thought_signature"),
    ],
)  # fmt: skip
def test_state_of_a_provider_is_seen(dialect: Any, body: dict[str, Any], kind: str) -> None:
    assert kind in call(dialect, body).conversation.state


# -- through the gateway ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fakes() -> Iterator[tuple[FakeProvider, FakeProvider]]:
    with pytest.MonkeyPatch.context() as patch, FakeProvider() as one, FakeProvider() as other:
        patch.setenv("FAKE_PROVIDER_KEY", KEY)
        yield one, other


@pytest.fixture(scope="module")
def gate(fakes: tuple[FakeProvider, FakeProvider]) -> Iterator[Rig]:
    with rig({"one": fakes[0], "other": fakes[1]}) as found:
        yield found


def turns(*more: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "Fix the bug"}, *more]


ANSWERED = {"role": "assistant", "content": "Which one?"}
USED = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}


def tool(output: str) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": "1", "content": output}


def ask(gate: Rig, name: str, messages: list[dict[str, Any]], policy: dict[str, Any], **more: Any) -> dict[str, str]:
    status, headers, body = gate.post(
        "chat", {"model": "auto", "messages": messages, "r2router": {"session": name, "policy": policy}, **more}
    )
    assert status == 200, body
    return headers


def model(headers: dict[str, str]) -> str:
    return headers["x-r2router-arm"].split("@")[0]


def test_no_switch_within_a_tools_use(gate: Rig) -> None:
    first = ask(gate, "loop", turns(), BEST)
    second = ask(gate, "loop", turns(USED, tool("fine")), CHEAP)
    assert second["x-r2router-arm"] == first["x-r2router-arm"] and second["x-r2router-reason"] == "kept:loop"
    assert second["x-r2router-session"] == "loop" and gate.settled(2)[-1].served == first["x-r2router-arm"]
    other = ask(gate, "loop", turns(USED, tool("fine"), ANSWERED, {"role": "user", "content": "And now?"}), CHEAP)
    assert model(other) != model(first) and other["x-r2router-reason"].startswith("switched")


def test_an_error_that_comes_again_goes_to_the_best(gate: Rig) -> None:
    cheap = ask(gate, "errors", turns(), CHEAP)
    again = [USED, tool("Error: no such file"), USED, tool("Error: no such file")]
    kept = ask(gate, "errors", turns(*again[:2]), CHEAP)
    assert kept["x-r2router-arm"] == cheap["x-r2router-arm"]
    best = ask(gate, "errors", turns(*again), CHEAP)
    assert best["x-r2router-reason"] == "escalated:error" and model(best) != model(cheap)


def test_state_stays_with_its_provider(gate: Rig, fakes: tuple[FakeProvider, FakeProvider]) -> None:
    ask(gate, "state", turns(), BEST)
    provider = gate.gateway.setting.router.pool[gate.settled()[-1].served.split("@")[0]].provider  # type: ignore[union-attr]
    thought = {**ANSWERED, "reasoning_content": "Let me see é"}
    for fake in fakes:
        fake.asked.clear()
    headers = ask(gate, "state", turns(thought, {"role": "user", "content": "The first"}), CHEAP)
    assert headers["x-r2router-reason"] == "pinned:state"
    assert gate.gateway.setting.router.pool[model(headers)].provider == provider
    sent = (fakes[0].asked + fakes[1].asked)[0]
    assert json.dumps(thought).encode() in sent.raw
    gone = [m.id for m in gate.gateway.setting.router.pool.models if m.provider == provider]
    options = {"session": "state", "exclude": gone}
    status, _, body = gate.post("chat", {"model": "auto", "messages": turns(thought), "r2router": options})
    assert status == 409 and json.loads(body)["error"]["code"] == "pinned_provider_gone"


def test_a_warm_prefix_is_a_price_among_others(gate: Rig) -> None:
    first = ask(gate, "warm", turns(), BEST)
    long = {"role": "user", "content": "word " * 30_000}
    ask(gate, "warm", turns(ANSWERED, long), BEST)
    kept = ask(gate, "warm", turns(ANSWERED, long, ANSWERED, {"role": "user", "content": "Thanks"}), CHEAP)
    free = ask(gate, "cold", turns(ANSWERED, long, ANSWERED, {"role": "user", "content": "Thanks"}), CHEAP)
    assert model(free) != model(first)
    cold = 30_000 * gate.gateway.setting.router.pool[model(free)].usd_per_million.input / 1e6  # type: ignore[union-attr]
    assert (model(kept) == model(first)) == (cold > 0.05) or model(kept) == model(free)


def test_small_calls_beside_a_conversation_leave_it_alone() -> None:
    import asyncio

    sessions = Sessions()
    sessions.keep(None, "s", Session(arm="a@1", at=1000.0, tokens=10, turns=5))
    sessions.keep(None, "s", Session(arm="b@1", at=1001.0, tokens=10, turns=1))
    found = asyncio.run(sessions.find(None, "s"))
    assert found is not None and found.arm == "a@1" and asyncio.run(sessions.find("k", "s")) is None


def test_another_replica_knows_it_from_the_ledger(tmp_path: Path) -> None:
    import asyncio

    async def both() -> Session | None:
        with Ledger.at(tmp_path / "ledger.sqlite") as ledger:
            opened = Opened(id="r1", asked="auto", arm="m@low", endpoint="chat", reserved=5, session="s")
            ticket = await ledger.open(opened)
            await ledger.settle(ticket, Settled(state="done", cost=3, usage=Usage(70, 7), served="n@high"))
            return await Sessions(ledger.where).find(None, "s")

    found = asyncio.run(both())
    assert found is not None and found.arm == "n@high" and found.tokens == 70
