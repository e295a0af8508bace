"""What the project promises about itself: what a wheel holds, what an import costs, what the documents say."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.metadata
import os
import pkgutil
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import r2router

ROOT = Path(__file__).resolve().parents[1]
SRC = ROOT / "src" / "r2router"
SOURCES = sorted(SRC.rglob("*.py"))
DOCUMENTS = sorted(
    path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "benchmarks").rglob("*.md"))
)
WHEEL = os.environ.get("R2ROUTER_WHEEL")
COMMANDS = Path(sys.executable).parent
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]

# the contract: what is added here stays
PUBLIC_NAMES = """
Answer Arm ArtifactError Best Blend Budget Cascade Cheapest Choices ConfigError Curve DataError
Decision EncoderError Forecast GBDT KNN MLP MissingExtra MissingPrice Model NoAnswer NoFeasibleArm
PathStep Policy PolicyError Pool Prices PrincipalRidge QueryError R2Error Recipe Ridge Router
SaveError Step Table Tradeoff UsageError Value __version__ evaluate savings
"""


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return run.stdout.strip()


# -- the public surface ---------------------------------------------------------------------------------------------


def test_the_public_names_are_these() -> None:
    assert sorted(r2router.__all__) == sorted(PUBLIC_NAMES.split())
    assert dir(r2router) == r2router.__all__


@pytest.mark.parametrize("name", PUBLIC_NAMES.split())
def test_a_public_name_is_there_and_says_what_it_is(name: str) -> None:
    assert getattr(r2router, name).__doc__, f"r2router.{name} has no docstring"


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse((SRC / "__init__.pyi").read_text())
    imported = {alias.asname for node in tree.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported == set(PUBLIC_NAMES.split()) - {"__version__"}


def test_names_of_registries_are_there_and_point_down() -> None:
    """Registries name what they hold in strings, which the import contract cannot see."""
    rows = next(contract["layers"] for contract in CONTRACTS if contract["id"] == "layers")
    depth = {name.strip(): at for at, row in enumerate(rows) for name in re.split(r"[|:]", row)}
    found = 0
    for path in SOURCES:
        room = path.relative_to(SRC).parts[0].removesuffix(".py")
        for target in re.findall(r'"r2router\.([\w.]+:\w+)"', path.read_text(encoding="utf-8")):
            module, _, name = target.partition(":")
            assert hasattr(importlib.import_module(f"r2router.{module}"), name), (
                f"{name_of(path)} names {target}, which is not there"
            )
            assert depth[module.partition(".")[0]] >= depth[room], f"{name_of(path)} names {target} of a room above it"
            found += 1
    assert found > 20


def test_no_public_class_name_stands_for_two_things() -> None:
    homes: dict[str, list[str]] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(name_of(path))
    assert len(homes) > 300
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Rooter"):
        _ = r2router.Rooter


@pytest.mark.parametrize(
    ("first", "absent"),
    [
        ("r2router", "click lightgbm matplotlib msgspec numpy onnxruntime polars rich safetensors tokenizers torch"),
        ("r2router.Router", "click lightgbm matplotlib onnxruntime polars rich torch"),
        (
            "r2router.Pool, r2router.Table, r2router.Recipe, r2router.MLP, r2router.GBDT",
            "click lightgbm matplotlib onnxruntime rich torch",
        ),
    ],
)
def test_an_import_is_light(first: str, absent: str) -> None:
    loaded = python(f"import sys, r2router; {first}; print(*sys.modules)").split()
    assert not set(absent.split()) & set(loaded)


def test_the_version_is_one() -> None:
    assert r2router.__version__ == importlib.metadata.version("r2router")
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## {r2router.__version__}" in changelog, "the changelog does not name this version"


# -- the sources ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_file_is_short_and_has_a_name(path: Path) -> None:
    assert path.stem not in {"utils", "util", "helpers", "common", "base", "misc"}, "name it after what it holds"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 460, "two files would be clearer"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_that_is_loaded_is_run(path: Path) -> None:
    if path.parent.name == "inside":
        return  # it runs in the sandbox, and nothing of ours imports it: see the next test
    # our own sources, for the sandbox's interpreter to read
    allowed = {"compile", "marshal"} if path.name == "sandbox.py" else set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [f"{name_of(path)}:{line}: {what}" for line, what in executions(tree) if what not in allowed]
    assert not found, "a file that is read must never be able to run code"


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_no_group_in_a_pattern_is_possessive(path: Path) -> None:
    """Python 3.11.0 to 3.11.4 misread `(...)*+` (https://github.com/python/cpython/issues/106052)."""
    found = re.findall(r"\)(?:[*+?]|\{[0-9,{}]+\})\+[^+ ]", path.read_text(encoding="utf-8"))
    assert not found, "make the parts of the group possessive, and not the group"


def test_what_runs_in_the_sandbox_is_imported_by_nothing_outside() -> None:
    for path in SOURCES:
        imported = [
            n
            for n in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(n, (ast.Import, ast.ImportFrom))
        ]
        assert not any("scoring.inside" in ast.unparse(n) for n in imported), path


def executions(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Where a module could run what it reads: (line, what)."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from ((node.lineno, alias.name) for alias in names if unpickler(alias.name))
            case ast.ImportFrom(module=str(module)) if unpickler(module):
                yield node.lineno, module
            case ast.Call(func=ast.Name(id=("eval" | "exec" | "compile" | "__import__") as name)):
                yield node.lineno, name
            case ast.Call(keywords=keywords) if any(
                k.arg == "allow_pickle" and not is_false(k.value) for k in keywords
            ):
                yield node.lineno, "allow_pickle"
            case ast.Call(func=ast.Attribute(attr="load", value=ast.Name(id="torch"))):
                yield node.lineno, "torch.load"


def unpickler(module: str) -> bool:
    return module.partition(".")[0] in {
        "pickle",
        "_pickle",
        "cPickle",
        "cloudpickle",
        "dill",
        "joblib",
        "marshal",
        "shelve",
    }


def is_false(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def test_executions_are_found() -> None:
    bad = [
        "import pickle",
        "from joblib.numpy_pickle import load",
        "eval('1')",
        "np.load(f, allow_pickle=x)",
        "torch.load(f)",
    ]
    assert all(any(executions(ast.parse(code))) for code in bad)
    assert not any(executions(ast.parse("import pickletools\nnp.load(f, allow_pickle=False)\nre.compile('x')")))


@pytest.mark.parametrize("script", [".ci/run", "Makefile"])
def test_whatever_is_installed_is_known_by_its_hash(script: str) -> None:
    commands = (ROOT / script).read_text(encoding="utf-8").replace("\\\n", " ").splitlines()
    installs = [
        line
        for line in commands
        if re.search(r"\bpip\b.*\b(install|download)\b", line) and not line.lstrip().startswith("#")
    ]
    assert installs
    for line in installs:
        # what was built from this tree
        ours = "--no-deps" in line and re.search(r"--editable \.|build/wheel/\*\.whl", line)
        assert ours or "--require-hashes" in line, line


# -- dependencies ---------------------------------------------------------------------------------------------------

MODULE_OF = {
    "lazy-loader": "lazy_loader",
    "sentence-transformers": "sentence_transformers",
    "genai-prices": "genai_prices",
    "backports-zstd": "backports",
    "math-verify": "math_verify",
    "opentelemetry-exporter-otlp-proto-http": "opentelemetry",
    "opentelemetry-sdk": "opentelemetry",
    "prometheus-client": "prometheus_client",
    "reasoning-gym": "reasoning_gym",
}


def declared() -> dict[str, str]:
    """Module -> the extra it comes with, "" for what is always there; as the installed metadata says."""
    found = {}
    for line in importlib.metadata.requires("r2router") or ():
        requirement = Requirement(line)
        extra = re.search(r"extra == ['\"](\w+)['\"]", str(requirement.marker))
        found[MODULE_OF.get(requirement.name, requirement.name)] = extra[1] if extra else ""
    return found


def imports(tree: ast.AST, top: bool = True) -> Iterator[tuple[str, bool]]:
    """(module, whether it is imported with the file), without what only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        match node:
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                continue
            case ast.Import(names=names):
                yield from ((alias.name.split(".")[0], top) for alias in names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module.split(".")[0], top
            case ast.Call(func=ast.Name(id="import_module"), args=[ast.Constant(value=str(module)), *_]):
                yield module.split(".")[0], False
        yield from imports(node, top and not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_what_is_imported_is_declared(path: Path) -> None:
    extras = declared()
    for module, with_file in imports(ast.parse(path.read_text(encoding="utf-8"))):
        if module == "r2router" or module in sys.stdlib_module_names:
            continue
        assert module in extras, f"{name_of(path)} imports {module}, which pyproject.toml does not name"
        assert not (with_file and extras[module]), (
            f"{name_of(path)} imports {module} of the [{extras[module]}] extra at once"
        )


def test_every_dependency_is_used() -> None:
    used = {module for path in SOURCES for module, _ in imports(ast.parse(path.read_text(encoding="utf-8")))}
    assert set(declared()) <= used


def pins(name: str) -> dict[str, list[str]]:
    """Package -> its locked versions (one for each range of Pythons)."""
    found: dict[str, list[str]] = {}
    for match in re.finditer(r"^([\w.-]+)==([\w.+!-]+)", (ROOT / "locks" / name).read_text(), re.MULTILINE):
        found.setdefault(canonicalize_name(match[1]), []).append(match[2])
    return found


def test_the_locks_hold_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    asked = {
        "core.lock": [*project["project"]["dependencies"], *groups["build"]],
        "dev.lock": [
            *project["project"]["dependencies"],
            *(line for group in groups.values() for line in group if isinstance(line, str)),
        ],
    }
    for lock, lines in asked.items():
        for requirement in map(Requirement, lines):
            versions = pins(lock).get(canonicalize_name(requirement.name), [])
            assert versions, f"{lock} lacks {requirement}: run `make lock`"
            assert all(requirement.specifier.contains(v) for v in versions), (
                f"{lock} is older than {requirement}: run `make lock`"
            )
    assert pins("core.lock").items() <= pins("dev.lock").items(), "the locks differ: run `make lock`"


def test_the_locks_name_hashes_and_no_index() -> None:
    for lock in (ROOT / "locks").glob("*.lock"):
        text = lock.read_text()
        assert "://" not in text, f"{lock.name} names an index; any mirror should do"
        for block in re.split(r"\n(?=[\w.-]+==)", text)[1:]:
            assert "--hash=sha256:" in block, f"{lock.name}: no hash for {block.splitlines()[0]}"


# -- the wheel ------------------------------------------------------------------------------------------------------

needs_wheel = pytest.mark.skipif(not WHEEL, reason="`make test` builds the wheel and names it in R2ROUTER_WHEEL")


@needs_wheel
def test_it_is_the_wheel_that_is_tested() -> None:
    assert not Path(r2router.__file__).is_relative_to(SRC)


@needs_wheel
def test_the_wheel_holds_the_package_and_nothing_else() -> None:
    files = [path.relative_to(SRC.parent) for path in SRC.rglob("*") if path.is_file()]
    package = {path.as_posix() for path in files if "__pycache__" not in path.parts}
    with zipfile.ZipFile(ROOT / str(WHEEL)) as wheel:
        names = set(wheel.namelist())
        size = sum(info.compress_size for info in wheel.infolist())
    extra = {name for name in names if ".dist-info/" in name}
    assert names - extra == package
    parts = {name.split(".dist-info/")[1] for name in extra}
    assert parts == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "licenses/NOTICE"}
    assert {
        "r2router/py.typed",
        "r2router/encode/minilm/LICENSE",
        "r2router/encode/minilm/model.onnx",
        "r2router/encode/minilm/tokenizer.json",
        "r2router/starter/router/card.md",
        "r2router/starter/router/router.json",
        "r2router/starter/router/weights.safetensors",
    } <= names
    assert size < 40e6, "the wheel has grown beyond 40 MB"


def test_the_command_is_installed() -> None:
    run = subprocess.run([COMMANDS / "r2router", "--version"], capture_output=True, text=True, check=True, timeout=60)
    assert r2router.__version__ in run.stdout


# -- what the documents say is so -----------------------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:|#", target):
            assert (path.parent / target.split("#")[0]).exists(), (
                f"{name_of(path)} links to {target}, which is not there"
            )


def test_examples_in_docstrings_are_true() -> None:
    for module in pkgutil.walk_packages(r2router.__path__, "r2router."):
        if module.name.endswith(".__main__"):
            continue
        result = doctest.testmod(importlib.import_module(module.name), optionflags=doctest.ELLIPSIS)
        assert not result.failed, module.name


def test_the_page_of_the_command_line_is_what_it_says() -> None:
    if importlib.metadata.version("click") not in pins("core.lock")["click"]:
        pytest.skip("another click than the locked one words its help in another way")
    for script in ("cli_reference.py", "architecture.py"):
        subprocess.run([sys.executable, ROOT / "scripts" / script, "--check"], check=True, timeout=60)
