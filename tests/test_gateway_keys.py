"""Keys and budgets through the gateway itself: what a client with a key may ask for, and what it is told when its money
is gone.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytest.importorskip("aiohttp", reason="the gateway needs the [serve] extra")

from r2router.errors import ConfigError
from r2router.gateway.app import Gateway
from r2router.gateway.config import Config
from r2router.gateway.keys import Keys
from r2router.gateway.ledger import Ledger, Limits
from r2router.gateway.setting import Setting


async def ask(gateway: Gateway, secret: str, model: str = "auto") -> tuple[int, dict[str, str], Any]:
    body = msgspec.json.encode(
        {"model": model, "messages": [{"role": "user", "content": "What is 2 + 2?"}], "max_tokens": 16}
    )
    sent: list[dict[str, Any]] = []
    events = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> dict[str, Any]:
        if events:
            return events.pop()
        await asyncio.sleep(60)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    headers += [(b"authorization", f"Bearer {secret}".encode())] if secret else []
    scope = {
        "type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": headers, "client": ("127.0.0.1",
        1),
        "query_string": b"", "raw_path": b"/v1/chat/completions",
    }  # fmt: skip
    await gateway(scope, receive, send)  # type: ignore[arg-type]
    status = next(m["status"] for m in sent if m["type"] == "http.response.start")
    got = {k.decode(): v.decode() for m in sent if m["type"] == "http.response.start" for k, v in m["headers"]}
    return (
        status,
        got,
        msgspec.json.decode(b"".join(m.get("body", b"") for m in sent if m["type"] == "http.response.body")),
    )


def test_keys_are_asked_for_once_there_are_any_and_their_limits_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENROUTER_API_KEY", "GEMINI_API_KEY", "DEEPSEEK_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    where = tmp_path / "l.db"
    keys = Keys(where, fresh_s=0.0)

    async def run(ledger: Ledger) -> None:
        gateway = Gateway(Setting.of(Config(), None), books=ledger, keys=keys)
        assert (await ask(gateway, ""))[0] == 200  # no key yet: this machine alone
        two, secret = keys.make("two", Limits(minute_requests=2))
        _, poor = keys.make("poor", Limits(minute_tokens=10))
        _, narrow = keys.make("narrow", presets=("auto:cheap",))
        status, _, body = await ask(gateway, "")
        assert status == 401 and body["error"]["code"] == "invalid_api_key"
        assert (await ask(gateway, "r2-wrong"))[0] == 401
        assert [(await ask(gateway, secret))[0] for _ in range(2)] == [200, 200]
        status, headers, body = await ask(gateway, secret)
        assert status == 429 and int(headers["retry-after"]) >= 1 and body["error"]["limit"] == 2
        status, _, body = await ask(gateway, poor)
        assert status == 429 and body["error"]["limit"] == 10
        assert (await ask(gateway, narrow))[0] == 403
        keys.end(two.id)
        assert (await ask(gateway, secret))[0] == 401

    with Ledger.at(where) as ledger:
        asyncio.run(run(ledger))


def test_a_convention_that_is_not_known_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text('[provider.x]\nbase_url = "http://127.0.0.1:1/v1"\nusage = "opanai"\n')
    with pytest.raises(ConfigError, match="opanai"):
        Config.read(file)
