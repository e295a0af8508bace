"""What the benchmarks share: cases in processes of their own, timing, memory, the record of the machine, and data of
the paper's shape.

Every script has *cases*. A case runs in a fresh process, so that its peak memory and its number of threads are its own
and BLAS reads the latter before it is loaded; the script itself stays small, starts its cases one after the other,
prints a table and writes the figures to `results/NAME.json` (with `--small`, where figures mean nothing, to
`build/benchmarks/NAME.json`).
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from r2router.pool.pool import Pool
    from r2router.table.table import Table

Figures = dict[str, Any]
Case = Callable[[argparse.Namespace], Figures]
Configure = Callable[[argparse.ArgumentParser], object]

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
SMALL_RESULTS = ROOT / "build" / "benchmarks"
SHARED = ROOT.parent / "shared"

_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
_LIBRARIES = (
    "aiohttp", "click", "lightgbm", "msgspec", "numpy", "onnxruntime", "polars", "ray", "rich", "safetensors",
    "scikit-learn", "tenacity",
    "tokenizers", "torch",
)  # fmt: skip
_MIB = 1 << 20

# -- scripts and their cases
# --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One run of a script: starts its cases."""

    script: Path
    args: argparse.Namespace

    def case(self, name: str, *extra: object, threads: int | None = None, timeout: float | None = None) -> Figures:
        """The figures of a case in a fresh process, with its `peak_rss_mib`, `wall_s` and `cpu_s`.

        threads: of BLAS and OpenMP; None leaves them their default, all cores. A case that fails, or takes longer than
        `timeout` seconds, gives `{"failed": why}`: the other cases still count.
        """
        command = [
            sys.executable,
            str(self.script),
            "--case",
            name,
            *map(str, extra),
            *(["--small"] if self.args.small else []),
        ]
        environment = dict(os.environ)
        if threads is not None:
            environment |= dict.fromkeys(_THREADS, str(threads))
        print(f"  {name} ...", file=sys.stderr, flush=True)
        try:
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, timeout=timeout, check=False)
        except subprocess.TimeoutExpired:
            return {"failed": f"stopped after {timeout:.0f} s"}
        if done.returncode:
            return {"failed": f"exit code {done.returncode}"}
        figures: Figures = json.loads(done.stdout.decode().splitlines()[-1])
        return figures


def run(
    script: str,
    doc: str | None,
    cases: Mapping[str, Case],
    drive: Callable[[Run], Figures],
    configure: Configure | None = None,
) -> None:
    """The main function of a script: drives all cases and writes their figures, or runs the one case it is asked for.

    drive: starts cases, prints their table and gives all figures. configure: adds the script's own options.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--small", action="store_true", help="tiny sizes, to see that the script works; its figures mean nothing"
    )
    parser.add_argument("--case", choices=sorted(cases), help=argparse.SUPPRESS)
    if configure is not None:
        configure(parser)
    args = parser.parse_args()
    if args.case is not None:
        begin = time.perf_counter()
        figures = cases[args.case](args)
        used = resource.getrusage(resource.RUSAGE_SELF)
        figures |= {
            "peak_rss_mib": peak_rss_mib(),
            "wall_s": time.perf_counter() - begin,
            "cpu_s": used.ru_utime + used.ru_stime,
        }
        print(json.dumps(figures))
        return
    began, reference = load(), reference_s()
    name = Path(script).stem
    print(f"{name}: {(doc or '').splitlines()[0]}", file=sys.stderr)
    figures = drive(Run(Path(script).resolve(), args))
    _write(name, figures, began, [reference, reference_s()], small=args.small)


def _write(name: str, figures: Figures, began: list[float] | None, reference: list[float], *, small: bool) -> None:
    folder = SMALL_RESULTS if small else RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "benchmark": name,
        "command": " ".join(["python", f"benchmarks/{name}.py", *sys.argv[1:]]),
        "small": small,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "revision": _revision(),
        "environment": environment(),
        "load_before_and_after": [began, load()],
        "reference_s_before_and_after": _plain(reference),
        "figures": _plain(figures),
    }
    target = folder / f"{name}.json"
    target.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(f"\nfigures in {target.relative_to(ROOT)}", file=sys.stderr)


def _plain(value: Any) -> Any:
    """JSON has no NaN: a figure that is not known is null. Six significant digits say more than was measured."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under a head, aligned; the first column to the left, the others to the right."""
    cells = [list(head), *map(list, rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    print()
    for row in cells:
        print("  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))))


def show(figures: Figures, key: str, form: str) -> str:
    """A figure in a format, `-` where it is missing, or why its case failed."""
    value: Any = figures
    for part in key.split("."):
        if isinstance(value, Mapping) and "failed" in value:
            return str(value["failed"])
        value = value.get(part) if isinstance(value, Mapping) else None
    return "-" if value is None else form.format(value)


# -- measuring
# ----------------------------------------------------------------------------------------------------------------


def times(call: Callable[[int], object], repeats: int, warm_up: int = 0) -> list[float]:
    """Seconds of each of `repeats` calls, after `warm_up` calls that do not count. A call gets its number."""
    for i in range(warm_up):
        call(i)
    seconds = []
    for i in range(warm_up, warm_up + repeats):
        begin = time.perf_counter_ns()
        call(i)
        seconds.append((time.perf_counter_ns() - begin) / 1e9)
    return seconds


def percentiles(seconds: Sequence[float], scale: float = 1e3, unit: str = "ms") -> Figures:
    """Median, 90th percentile, least and number of measured seconds, in milliseconds unless told otherwise."""
    ordered = sorted(s * scale for s in seconds)
    at_90 = ordered[min(math.ceil(0.9 * len(ordered)), len(ordered)) - 1]
    return {
        f"p50_{unit}": statistics.median(ordered),
        f"p90_{unit}": at_90,
        f"min_{unit}": ordered[0],
        "n": len(ordered),
    }


def reference_s() -> float:
    """Seconds of a fixed loop of plain Python: one machine is not always as fast, whatever its load says."""

    def loop(_: int) -> None:
        total = 0
        for i in range(1_000_000):
            total += i

    return min(times(loop, 3))


def once(call: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    return times(lambda _: call(), 1)[0]


def peak_rss_mib() -> float:
    """The most memory this process has had so far, in MiB."""
    return _mib(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


@dataclass(frozen=True)
class Spent:
    """What a process took, and its exit code."""

    wall_s: float
    cpu_s: float
    peak_rss_mib: float
    code: int


def process(command: Sequence[str], **options: Any) -> Spent:
    """What a command takes in a process of its own. options: as `subprocess.Popen` takes them.

    The peak is at least that of the caller when it starts the command, so call it from a small process.
    """
    begin = time.perf_counter()
    started = subprocess.Popen(command, **options)
    _, status, used = os.wait4(started.pid, 0)
    wall = time.perf_counter() - begin
    started.returncode = os.waitstatus_to_exitcode(status)
    return Spent(wall, used.ru_utime + used.ru_stime, _mib(used.ru_maxrss), started.returncode)


def command_line() -> list[str]:
    """How to call the command `r2router` of this Python environment."""
    beside = Path(sys.executable).with_name("r2router")
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "r2router.cli"]


def one_core() -> bool:
    """Hold this process to one core, where the system can; whether it could."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    return True


def _mib(maxrss: int) -> float:
    return maxrss / (_MIB if sys.platform == "darwin" else 1024)


# -- the record of where it was measured
# --------------------------------------------------------------------------------------


def environment() -> Figures:
    """What a reader must know about the machine and the libraries; nothing that names a host, a user or a path."""
    import numpy as np

    record: Figures = {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "cores_usable": usable_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "threads_set": {name: os.environ[name] for name in _THREADS if name in os.environ},
        "libraries": {"numpy": np.__version__},
    }
    for name in _LIBRARIES:
        try:
            record["libraries"][name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return record
    keys = ("internal_api", "version", "architecture", "num_threads")
    record["blas"] = [{k: pool.get(k) for k in keys} for pool in threadpool_info() if pool.get("user_api") == "blas"]
    return record


def usable_cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load() -> list[float] | None:
    """Load averages of the machine: above its number of cores, figures are those of a busy machine."""
    return [round(v, 2) for v in os.getloadavg()] if hasattr(os, "getloadavg") else None


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _revision() -> str | None:
    """The commit that was measured, with a mark where the source differed from it; None outside git."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + (
            "+changes" if git("status", "--porcelain", "--", "src") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return None


# -- data of the paper's shape
# ------------------------------------------------------------------------------------------------

BUDGETS: tuple[int | str, ...] = (10, 20, 30, 40, 50, 80, 100, 150, 200, 300, 500, 800, 1200, 2000, 4000, "unlimited")
MODELS = 11
DIM = 1024
TRAIN, TEST = 24_774, 6_194


def paper_pool(models: int = MODELS) -> Pool:
    """Models of rising price under the paper's 16 budgets."""
    from r2router.pool.pool import Pool
    from r2router.types import Budget, Model, Prices

    budgets = tuple(Budget.of(b, ("instruction", "max_tokens")) for b in BUDGETS)
    prices = [Prices(0.02 * 1.4**m, 0.05 * 1.4**m) for m in range(models)]
    return Pool(Model(id=f"model-{m}", budgets=budgets, usd_per_million=p) for m, p in enumerate(prices))


def embeddings(n: int, dim: int = DIM, seed: int = 0) -> NDArray[np.float32]:
    """(n, dim) random embeddings of norm 1, not all directions alike, as an encoder's are not."""
    import numpy as np

    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, dim), dtype=np.float32)
    x *= np.linspace(2.0, 0.2, dim, dtype=np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    return x


def paper_table(x: NDArray[np.float32], pool: Pool, seed: int = 0, missing: str = "none") -> Table:
    """Judged outcomes (0, 0.1, ... 1) of the pool's arms on the queries of (n, d) embeddings, on which they depend a
    little.

    missing: "none"; "two patterns": half of the models were not asked the first tenth of the queries, the others not
    the last; "random": any cell may lack, one in ten does.
    """
    import numpy as np

    from r2router.table.table import Table

    rng = np.random.default_rng(seed)
    n, arms = len(x), len(pool)
    budget = np.where(np.isnan(pool.budget_tokens), 900.0, pool.budget_tokens)
    level = 0.35 + 0.03 * pool.model_of_arm + 0.06 * np.log(budget / 10)
    taste = rng.standard_normal((x.shape[1], arms), dtype=np.float32) * 0.5
    quality = np.clip(np.round(level + x @ taste + rng.normal(0, 0.25, (n, arms)), 1), 0, 1)
    tokens = np.maximum(np.round(budget * rng.lognormal(-0.2, 0.4, (n, arms))), 1.0)
    absent = np.zeros((n, arms), dtype=np.bool_)
    if missing == "two patterns":
        first = pool.model_of_arm < len(pool.models) // 2
        absent[: n // 10, first] = True
        absent[n - n // 10 :, ~first] = True
    elif missing == "random":
        absent = rng.random((n, arms)) < 0.1
    quality[absent] = np.nan
    tokens[absent] = np.nan
    nothing = np.full((n, arms), np.nan)
    return Table(
        pool=pool,
        query_ids=tuple(f"q{i:06}" for i in range(n)),
        queries=tuple(f"synthetic question number {i} of {n}" for i in range(n)),
        tasks=("synthetic",) * n,
        quality=quality,
        input_tokens=np.full((n, arms), 100.0),
        cached_tokens=nothing,
        output_tokens=tokens,
        reasoning_tokens=nothing,
        cost_usd=nothing,
    )
