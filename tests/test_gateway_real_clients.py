"""More real clients through the gateway: the npm packages of OpenAI and Anthropic, simonw's `llm`, LangChain, Continue,
aider, Codex, curl.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="the gateway needs the [serve] extra")

from fake_provider import DONE, Answer, FakeProvider, event, response, response_events
from gateway_rig import KEY, Rig, rig

TEXT = "Faust was written by Goethe."
QUESTION = "Who wrote Faust?"
ROOT = Path(__file__).parent.parent


_SILENT = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1,localhost"}
"""Keeps a client from asking anything but the gateway."""


def _npm(command: str, package: str) -> str:
    """The command of an npm package; skips the test where it is not here."""
    own = os.environ.get("R2ROUTER_NPM")
    folders = [Path(own)] if own else [ROOT / "build" / "npm", ROOT / "build" / "codex"]
    places = [folder / "node_modules" / ".bin" / command for folder in folders]
    found = shutil.which(command) or next((str(place) for place in places if place.is_file()), None)
    if found is None:
        pytest.skip(f"{command} is not here: npm install {package}, and name its folder in R2ROUTER_NPM")
    return found


@pytest.fixture(scope="module")
def gate() -> Iterator[Rig]:
    with pytest.MonkeyPatch.context() as patch, FakeProvider() as fake:
        patch.setenv("FAKE_PROVIDER_KEY", KEY)
        with rig({"fake": fake}) as found:
            yield found


@pytest.fixture(autouse=True)
def _fresh(gate: Rig) -> None:
    gate.fresh()


@pytest.mark.slow
def test_the_npm_packages(gate: Rig, tmp_path: Path) -> None:
    node = shutil.which("node")
    packages = Path(os.environ.get("R2ROUTER_NPM", ROOT / "build" / "npm")) / "node_modules"
    if node is None or not packages.is_dir():
        pytest.skip(
            "node is not here" if node is None else "npm ci --prefix build/npm brings the packages, see .ci/run"
        )
    (tmp_path / "node_modules").symlink_to(packages)  # a module finds packages beside itself alone
    script = shutil.copy(Path(__file__).with_name("clients.mjs"), tmp_path)
    run = subprocess.run([node, script, gate.url], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found["plain"] == found["stream"] == found["responses"] == found["message"] == TEXT
    assert found["usage"] == [18] and found["tools"] == "stop" and found["error"] == "NotFoundError"
    assert "auto" in found["models"] and found["streamed"] == {"text": TEXT, "stop": "end_turn", "output": 7}
    settled = gate.settled(7)
    assert len(settled) == 7 and all(s.usage and s.usage.output == 7 and not s.estimated for s in settled)


@pytest.mark.slow
def test_llm(gate: Rig, tmp_path: Path) -> None:
    pytest.importorskip("llm", reason="llm is not installed")
    model = {"model_id": "gate", "model_name": "auto", "api_base": f"{gate.url}/v1"}
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps([model]))  # JSON is YAML
    command = [sys.executable, "-W", "ignore", "-m", "llm", "-m", "gate", "--key", "none", QUESTION]
    run = subprocess.run(
        command,
        env=os.environ | {"LLM_USER_PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0 and run.stdout.strip() == TEXT, run.stderr
    usage = gate.settled()[0].usage
    assert usage is not None and (usage.input, usage.output) == (11, 7)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # its imports have warnings of their own
@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_langchain(gate: Rig, endpoint: str) -> None:
    package = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    how: dict[str, Any] = {"use_responses_api": endpoint == "responses", "max_retries": 0, "max_tokens": 200}
    chat = package.ChatOpenAI(model="auto:cheap", base_url=f"{gate.url}/v1", api_key="none", **how)
    assert chat.invoke(QUESTION).text == TEXT
    assert "".join(part.text for part in chat.stream(QUESTION)) == TEXT
    settled = gate.settled(2)
    assert [s.usage and s.usage.output for s in settled] == [7, 7] and all(s.state == "done" for s in settled)


@pytest.mark.slow
def test_continue(gate: Rig, tmp_path: Path) -> None:
    """Continue's command line (npm @continuedev/cli) without an account."""
    found = _npm("cn", "@continuedev/cli")
    model = {"name": "gate", "provider": "openai", "model": "auto", "apiBase": f"{gate.url}/v1", "apiKey": "none"}
    config = {"name": "own", "version": "0.0.1", "schema": "v1", "models": [model | {"roles": ["chat"]}]}
    (tmp_path / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CONTINUE_GLOBAL_DIR": str(tmp_path / "c")}
    command = [found, "-p", "--config", str(tmp_path / "config.yaml"), QUESTION]
    run = subprocess.run(
        command, env=environment | _SILENT, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=180, check=False,
    )  # fmt: skip
    assert run.returncode == 0 and TEXT in run.stdout, run.stderr + run.stdout
    settled = gate.settled()
    assert settled and all(s.usage and s.usage.output == 7 and not s.estimated for s in settled)


@pytest.mark.slow
def test_aider(gate: Rig, tmp_path: Path) -> None:
    """aider (PyPI aider-chat), from an environment of its own."""
    found = os.environ.get("R2ROUTER_AIDER") or shutil.which("aider")
    if found is None:
        pytest.skip("aider is not here: install aider-chat, and name its command in R2ROUTER_AIDER")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OPENAI_API_KEY": "none"}
    environment |= {"OPENAI_API_BASE": f"{gate.url}/v1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    how = ["--no-git", "--yes-always", "--analytics-disable", "--no-check-update", "--no-show-release-notes"]
    how += ["--no-show-model-warnings", "--no-browser", "--no-pretty", "--map-tokens", "0", "--no-gitignore"]
    run = subprocess.run(
        [found, "--model", "openai/auto", *how, "--message", QUESTION], env=environment | _SILENT, cwd=tmp_path,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert run.returncode == 0 and TEXT in run.stdout, run.stderr + run.stdout
    settled = gate.settled()
    assert settled and all(s.usage and s.usage.output == 7 and not s.estimated for s in settled)


def test_curl(gate: Rig) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("curl is not here")
    body = json.dumps({"model": "auto", "messages": [{"role": "user", "content": QUESTION}], "stream": True})
    command = [
        curl,
        "-sS",
        "--fail-with-body",
        "-N",
        f"{gate.url}/v1/chat/completions",
        "-H",
        "Content-Type: application/json",
        "-d",
        body,
    ]
    run = subprocess.run(command, capture_output=True, timeout=60, check=True)
    assert run.stdout.endswith(DONE) and b"Goethe" in run.stdout
    plain = json.dumps({"model": "auto", "messages": [{"role": "user", "content": QUESTION}]})
    run = subprocess.run([*command[:-1], plain], capture_output=True, timeout=60, check=True)
    assert json.loads(run.stdout)["choices"][0]["message"]["content"] == TEXT
    run = subprocess.run([*command[:-1], "{"], capture_output=True, timeout=60, check=False)
    assert run.returncode == 22 and b"invalid_json" in run.stdout


@pytest.mark.slow
def test_codex_writes_a_file_in_a_loop_of_tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Codex CLI (npm i @openai/codex) with a configuration folder of its own, against a script of ours."""
    found = _npm("codex", "@openai/codex")
    command = {"cmd": "printf 'from the gateway' > hello.txt"}
    item = {
        "type": "function_call",
        "id": "f",
        "call_id": "c1",
        "name": "exec_command",
        "arguments": json.dumps(command),
        "status": "completed",
    }
    first = [
        response_events()[0],
        event(
            {"type": "response.output_item.done", "sequence_number": 1, "output_index": 0, "item": item},
            "response.output_item.done",
        ),
        event(
            {"type": "response.completed", "sequence_number": 2, "response": response(output=[item])},
            "response.completed",
        ),
    ]
    monkeypatch.setenv("FAKE_PROVIDER_KEY", KEY)
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    with (
        FakeProvider(lambda asked: None if b"function_call_output" in asked.raw else Answer(first)) as fake,
        rig({"fake": fake}) as own,
    ):
        lines = (
            'model = "auto:cheap"\nmodel_provider = "gate"\n[model_providers.gate]\nname = "gate"\nbase_url ='
            f' "{own.url}/v1"\n'
        )
        (home / "config.toml").write_text(lines + 'wire_api = "responses"\n')
        environment = {"PATH": os.environ["PATH"], "HOME": str(home), "CODEX_HOME": str(home)}
        how = ["--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", "-C", str(work)]
        run = subprocess.run(
            [found, "exec", *how, "Write hello.txt"], env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True,
            timeout=180, check=False,
        )  # fmt: skip
        assert run.returncode == 0 and TEXT in run.stdout, run.stderr
        assert (work / "hello.txt").read_text() == "from the gateway"
        settled = own.settled(2)
        assert len(fake.asked) == len(settled) == 2 and all(
            s.usage and s.usage.output == 7 and not s.estimated for s in settled
        )
        sessions = {opened.session for opened in own.books.opened}
        assert len(sessions) == 1 and None not in sessions
