"""The examples run as they stand."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import polars as pl
import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # pydantic looks its annotations up there
    spec.loader.exec_module(module)
    return module


def test_every_example_is_listed_and_run() -> None:
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    own = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.iterdir():
        if path.name not in {"README.md", "prompts.csv", "__pycache__"}:
            assert path.name in listed
            assert path.stem in own


def test_the_cascade_beats_always_the_best_arm_for_less(capsys: pytest.CaptureFixture[str]) -> None:
    import asyncio
    import re

    asyncio.run(load("cascade_with_a_check").main())
    (always, price), (right, paid) = re.findall(r"(\d+)% right, \$([0-9.]+)", capsys.readouterr().out)
    assert int(right) > int(always) and float(paid) < float(price)


def test_the_service_answers_with_a_decision() -> None:
    pytest.importorskip("fastapi", reason="the example needs fastapi")
    pytest.importorskip("httpx", reason="the example needs httpx to be tested")
    from fastapi.testclient import TestClient

    client = TestClient(load("fastapi_service").app)
    got = client.post("/route", json={"prompt": "Who wrote Faust?", "value": 0.01})
    assert got.status_code == 200
    assert "@" in got.json()["arm"]
    assert client.post("/route", json={"prompt": "Who wrote Faust?", "value": 0.01, "max_cost": 1}).status_code == 422
    assert client.post("/route", json={"prompt": "Who wrote Faust?", "max_cost": 1e-12}).status_code == 409
    assert client.post("/route", json={"prompt": "Who wrote Faust?", "max_cost": -1}).status_code == 422


def test_the_client_falls_back_when_a_call_fails() -> None:
    pytest.importorskip("aiohttp", reason="the fake endpoint needs the [bench] extra")
    from r2router.testing import FakeEndpoint

    with FakeEndpoint(faults=("500",), share=0.3) as fake:
        env = os.environ | {"OPENAI_BASE_URL": fake.url, "OPENAI_API_KEY": "sk-not-a-key"}
        command = [sys.executable, str(EXAMPLES / "async_client.py"), *(f"Who wrote book {i}?" for i in range(8))]
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.count("word-0") == 8
    assert "trying the next arm" in done.stderr


def test_the_batch_has_one_decision_per_prompt(tmp_path: Path) -> None:
    target = tmp_path / "decisions.csv"
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "batch.py"), str(EXAMPLES / "prompts.csv"), str(target)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "4 prompts" in done.stdout
    assert pl.read_csv(target)["arm"].str.contains("@").all()


def test_curves_of_local_models(tmp_path: Path) -> None:
    """The script as it stands, with a named fake where Ollama would listen."""
    pytest.importorskip("aiohttp", reason="collecting needs the [bench] extra")
    pytest.importorskip("reasoning_gym", reason="the questions need the [bench] extra")
    from r2router.testing import FakeEndpoint

    shutil.copytree(EXAMPLES / "local_models", tmp_path / "local_models")
    folder = tmp_path / "local_models"
    pool = folder / "pool.toml"
    with FakeEndpoint() as fake:
        pool.write_text(
            pool.read_text(encoding="utf-8").replace("http://127.0.0.1:11434/v1", fake.url), encoding="utf-8"
        )
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        done = subprocess.run(
            ["sh", "curves.sh"],
            cwd=folder,
            env=os.environ | {"PATH": path, "SIZE": "15"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert (folder / "router" / "card.md").exists()
    assert "<svg" in (folder / "curves.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_notebook_runs() -> None:
    pytest.importorskip("ipykernel", reason="the notebook needs ipykernel")
    nbformat = pytest.importorskip("nbformat", reason="the notebook needs nbformat")
    nbclient = pytest.importorskip("nbclient", reason="the notebook needs nbclient")
    notebook = nbformat.reads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"), as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    shown = json.dumps(notebook.cells)
    assert "@" in shown
    assert "Traceback" not in shown


def test_the_kubernetes_manifest_has_a_configuration_that_the_gateway_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")
    from r2router.gateway.serve import check_open, read_setting

    parts = list(yaml.safe_load_all((EXAMPLES / "kubernetes" / "gateway.yaml").read_text(encoding="utf-8")))
    kinds = [(part["kind"], part["metadata"]["name"]) for part in parts]
    assert ("Deployment", "r2router") in kinds and kinds.count(("StatefulSet", "ledger")) == 1
    by_kind = {part["kind"]: part for part in parts}
    assert by_kind["Deployment"]["spec"]["replicas"] == 3
    file = tmp_path / "gateway.toml"
    file.write_text(by_kind["ConfigMap"]["data"]["gateway.toml"], encoding="utf-8")
    monkeypatch.setenv("R2ROUTER_KEY", "a-key-of-some-length")
    check_open(read_setting(file).config)


KNOWN = {
    ("v1", "Service"): {"selector", "ports", "clusterIP"},
    ("v1", "ConfigMap"): {"data"},
    ("apps/v1", "Deployment"): {"replicas", "selector", "template"},
    ("apps/v1", "StatefulSet"): {"replicas", "selector", "template", "serviceName", "volumeClaimTemplates"},
    ("policy/v1", "PodDisruptionBudget"): {"minAvailable", "selector"},
}
CONTAINER = {
    "name", "image", "args", "env", "envFrom", "ports", "readinessProbe", "livenessProbe", "resources",
    "securityContext", "volumeMounts",
}  # fmt: skip


def test_the_manifest_runs_the_image_of_the_container_file(tmp_path: Path) -> None:
    """What a cluster would run: the entry point with the manifest's `args`, as a user whose number it can check."""
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")
    from click.testing import CliRunner

    from r2router.cli.app import main

    parts = list(yaml.safe_load_all((EXAMPLES / "kubernetes" / "gateway.yaml").read_text(encoding="utf-8")))
    (pod,) = (part["spec"]["template"]["spec"] for part in parts if part["kind"] == "Deployment")
    (container,) = pod["containers"]
    lines = dict(
        line.split(" ", 1)
        for line in (EXAMPLES.parent / "Containerfile").read_text(encoding="utf-8").splitlines()
        if " " in line
    )
    command, *words = [*json.loads(lines["ENTRYPOINT"]), *container["args"]]
    mounted = {mount["mountPath"] for mount in container["volumeMounts"]}
    at = words.index("--config") + 1
    assert command == "r2router" and str(Path(words[at]).parent) in mounted
    words[at] = str(tmp_path / "none.toml")
    result = CliRunner().invoke(main, words)
    assert "none.toml" in result.output and "Usage" not in result.output, "the command line is not understood"
    assert lines["USER"].isdecimal(), "runAsNonRoot needs a number"


def test_the_kubernetes_manifest_hangs_together() -> None:
    """No cluster has seen it: what a cluster would refuse by its schema, and what would start and never work."""
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")
    parts = list(yaml.safe_load_all((EXAMPLES / "kubernetes" / "gateway.yaml").read_text(encoding="utf-8")))
    pods = {}
    for part in parts:
        known = KNOWN[part["apiVersion"], part["kind"]]
        assert part["metadata"]["name"] and set(part.get("spec", part)) - {"apiVersion", "kind", "metadata"} <= known, (
            part["kind"]
        )
        if "template" in part.get("spec", {}):
            labels = part["spec"]["template"]["metadata"]["labels"]
            assert part["spec"]["selector"]["matchLabels"].items() <= labels.items()
            pods[part["metadata"]["name"]] = labels, part["spec"]["template"]["spec"], part["spec"]
    for labels, pod, above in pods.values():
        volumes = {v["name"] for v in pod.get("volumes", [])} | {
            v["metadata"]["name"] for v in above.get("volumeClaimTemplates", [])
        }
        for container in pod["containers"]:
            assert set(container) <= CONTAINER, set(container) - CONTAINER
            ports = {port["containerPort"] for port in container["ports"]}
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
            assert all(
                probe["httpGet"]["port"] in ports
                for name, probe in container.items()
                if "Probe" in name and "httpGet" in probe
            )
        (service,) = (p for p in parts if p["kind"] == "Service" and p["spec"]["selector"].items() <= labels.items())
        assert all(port.get("targetPort", port["port"]) in ports for port in service["spec"]["ports"])
    maps = {part["metadata"]["name"] for part in parts if part["kind"] == "ConfigMap"}
    assert {
        v["configMap"]["name"] for _, pod, _ in pods.values() for v in pod.get("volumes", []) if "configMap" in v
    } <= maps
    (gateway,) = pods["r2router"][1]["containers"]
    assert pods["r2router"][2]["replicas"] == 3 and gateway["envFrom"] == [{"secretRef": {"name": "r2router"}}]
    assert gateway["args"][-1].startswith(gateway["volumeMounts"][0]["mountPath"])
