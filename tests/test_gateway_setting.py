"""The gateway's configuration: what is refused, what is reloaded, what `r2router check` and `serve` say."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytest.importorskip("uvicorn", reason="the gateway needs the [serve] extra")

from click.testing import CliRunner

from r2router.cli import main
from r2router.cli.serve import _summary
from r2router.errors import ConfigError
from r2router.gateway.app import Gateway
from r2router.gateway.config import Config
from r2router.gateway.keys import Keys
from r2router.gateway.logs import Log
from r2router.gateway.serve import read_setting, reload
from r2router.upstream.known import KEYS, KNOWN


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.endswith("_API_KEY")]:
        monkeypatch.delenv(name)


def written(folder: Path, text: str) -> Path:
    path = folder / "gateway.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[server]\nhostt = 'x'", "hostt"),
        ("[server]\nport = 70000", "port"),
        ("[server]\nhost = '0.0.0.0'", "no key is set"),
        ("[server]\nkey = 'R2ROUTER_TEST_UNSET'", "R2ROUTER_TEST_UNSET"),
        ("[server]\nrouter = 'nowhere'", "server.router"),
        ("[preset.x]\npolicy = {policy = 'best', max_cost = -1}", "max_cost"),
        ("[preset.x]\nmodels = ['nobody-*']", "nobody-"),
        ("[preset.'a b']", "white space"),
        ("[alias]\n'claude-*' = 'auto:nothing'", "no preset"),
        ("[[model]]\nid = 'a'\n[[model]]\nid = 'a'", "twice"),
        ("[[model]]\nid = 'a'\nusd_per_million = {input = -1, output = 1}", "usd_per_million"),
        ("[provider.p]\nbase_url = 'ftp://x'", "http"),
        ("[provider.p]\nbase_url = 'http://x/v1'\nspeaks = ['telnet']", "telnet"),
        ("[limits]\nattempts = 0", "attempts"),
        ("not toml", "TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(tmp_path: Path, text: str, words: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        read_setting(path)
    assert words in str(error.value)


def test_without_a_key_everything_is_a_replay() -> None:
    setting = read_setting(None)
    assert setting.replay and not setting.missing
    assert all(model.available for model in setting.router.pool.models)


def test_the_keys_that_are_there_say_who_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
    setting = read_setting(None)
    served = {m.provider for m in setting.router.pool.models if m.available}
    assert served == {"openai"} and not setting.replay and setting.missing
    assert "sk-0123456789abcdef" not in repr(setting.config)


def test_a_bad_reload_keeps_the_old(tmp_path: Path) -> None:
    path = written(tmp_path, "[preset.mine]\n")
    lines: list[str] = []

    class Kept:
        def write(self, line: str) -> None:
            lines.append(line)

        def flush(self) -> None: ...

    async def run() -> None:
        gateway = Gateway(read_setting(path), log=Log("text", Kept()))  # type: ignore[arg-type]
        first = gateway.setting
        written(tmp_path, "[preset.mine]\nmodels = ['nobody']\n")
        assert not await reload(gateway, lambda: read_setting(path)) and gateway.setting is first
        written(tmp_path, "[preset.other]\n")
        assert await reload(gateway, lambda: read_setting(path)) and "other" in gateway.setting.config.preset
        await gateway.close()

    asyncio.run(run())
    assert "the old configuration is kept" in lines[0] and "nobody" in lines[0] and lines[1] == "reloaded\n"


def test_aliases_take_the_first_that_fits() -> None:
    config = Config(alias={"claude-haiku-*": "auto:cheap", "claude-*": "auto:best"})
    assert [config.resolve(n) for n in ("claude-haiku-4", "claude-opus", "x")] == ["auto:cheap", "auto:best", "x"]


def test_check_says_what_is_missing(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "[provider.dead]\nbase_url = 'http://127.0.0.1:9/v1'\n[[model]]\nid = 'own'\nprovider = 'dead'\n[alias]\nx ="
        " 'y'\n",
    )
    run = CliRunner().invoke(main, ["check", "--config", str(path)])
    assert (
        run.exit_code == 1
        and "cannot be reached" in run.output
        and "own: no price" in run.output
        and "there is no model 'y'" in run.output
    )
    run = CliRunner().invoke(main, ["check", "--config", str(path), "--offline"])
    assert run.exit_code == 0 and "1 of" in run.output
    assert CliRunner().invoke(main, ["check", "--config", str(tmp_path / "no.toml")]).exit_code == 2


def test_which_key_goes_where_is_said_before_it_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-very-secret-0123456789")
    text = "[provider.p]\nbase_url = 'http://127.0.0.1:9/v1'\nkey = 'SOME_KEY'\n[[model]]\nid = 'own'\nprovider = 'p'\n"
    path = written(tmp_path, text)
    run = CliRunner().invoke(main, ["check", "--config", str(path)])
    said = "key: SOME_KEY goes to 127.0.0.1:9"
    assert run.output.index(said) < run.output.index("cannot be reached") and "sk-very" not in run.output
    assert said in _summary(read_setting(path))


@pytest.mark.slow
def test_the_command_serves_and_drains(tmp_path: Path) -> None:
    path = written(tmp_path, f"[server]\nport = 0\nledger = '{tmp_path / 'ledger.sqlite'}'\n")
    command = [sys.executable, "-m", "r2router", "serve", "--config", str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = []
        while "listening on" not in (line := process.stderr.readline()):
            assert line, lines
            lines.append(line)
        address = line.split()[2]
        assert any("REPLAY" in said for said in lines)
        with urllib.request.urlopen(f"{address}/ready", timeout=20) as reply:
            assert b"replay" in reply.read()
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(60) == 0 and time.monotonic() - began < 60
    # it was closed, and did not just end
    with contextlib.closing(sqlite3.connect(tmp_path / "ledger.sqlite")) as ledger:
        assert ledger.execute("SELECT count(*) FROM writers").fetchone() == (0,)


def test_the_configurations_in_the_docs_are_right(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("R2ROUTER_KEY", "a-key-of-the-test")
    docs = Path(__file__).parent.parent / "docs"
    found = 0
    for page in ("gateway.md", "gateway-providers.md", "gateway-clients.md"):
        for block in (docs / page).read_text(encoding="utf-8").split("```")[1::2]:
            kind, _, text = block.partition("\n")
            if not text.lstrip().startswith("[") or (kind == "" and "[server]" not in text):
                continue
            text = text.replace('router = "router/"', "")
            (tmp_path / "gateway.toml").write_text(text, encoding="utf-8")
            read_setting(tmp_path / "gateway.toml")
            found += 1
    assert found >= 6


def test_a_gateway_with_keys_may_be_reached_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R2ROUTER_LEDGER", str(tmp_path / "ledger.sqlite"))
    path = written(tmp_path, "[server]\nhost = '0.0.0.0'\n")
    with pytest.raises(ConfigError, match="keys make"):
        read_setting(path)
    keys = Keys(tmp_path / "ledger.sqlite")
    key, _ = keys.make("team")
    assert read_setting(path).config.server.host == "0.0.0.0"
    keys.end(key.id)
    assert read_setting(path)  # it stays locked, and is not opened by the last key's end


def test_each_provider_whose_key_is_looked_for_has_an_address() -> None:
    assert set(KEYS) <= set(KNOWN)
