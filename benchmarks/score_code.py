"""Scoring program answers: 1,000 of them, HumanEval's own solutions with every third one wrong, one after the other.

`today` is what was there before the sandbox: `unshare` with a network and a process table of its own, and the program
as a file for the environment's own Python. It is measured in turns with both fences, so that whatever else the machine
does falls on all alike.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import measure
from r2router.bench.scoring import sandbox
from r2router.bench.scoring.code import Code

QUESTIONS = measure.ROOT / "../shared/questions/humaneval.jsonl"
PART = 20  # answers of one kind before the next kind's turn


def answers(count: int) -> list[dict[str, str]]:
    """(question, response, entry point, test) of so many answers."""
    rows = [json.loads(line) for line in QUESTIONS.read_text(encoding="utf-8").splitlines()]
    made = []
    for number in range(count):
        row = rows[number % len(rows)]
        response = "    return None\n" if number % 3 == 2 else row["answer"]
        made.append(
            {"question": row["question"], "response": response, "entry": row["entry_point"], "test": row["test"]}
        )
    return made


def before(answer: dict[str, str]) -> bool:
    """As it was done before: a file in a folder, and namespaces of network and processes."""
    with tempfile.TemporaryDirectory() as folder:
        path, end = Path(folder, "program.py"), Path(folder, "end")
        limits = (
            "import resource as r\nfor w, m in ((r.RLIMIT_CPU, 5), (r.RLIMIT_AS, 512 << 20)): r.setrlimit(w, (m, m))\n"
        )
        program = (
            f"{answer['question']}\n{answer['response']}\n{answer['test']}\ncheck({answer['entry']})\nopen('end',"
            " 'w').close()\n"
        )
        path.write_text(limits + program, encoding="utf-8")
        fence = ["unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child"]
        with Path(folder, "errors").open("wb") as errors:
            process = subprocess.Popen(
                [*fence, sys.executable, "-I", "-B", str(path)], cwd=folder, env={"PATH": os.defpath, "HOME": folder},
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True,
            )  # fmt: skip
        process.wait(timeout=20)
        return process.returncode == 0 and end.exists()


def behind(fence: sandbox.Fence) -> Callable[[dict[str, str]], bool]:
    """As it is done now, behind one of the fences."""

    def score(answer: dict[str, str]) -> bool:
        return sandbox._run(dict(answer), Code.limits, fence).finished

    return score


def score(args: argparse.Namespace) -> measure.Figures:
    """Seconds by the clock and of CPU for each way; and whether all ways agree on every answer."""
    ways = {"before": before} | {f.name: behind(f) for f in sandbox.FENCES if sandbox.why_not(f) is None}
    asked = answers(100 if args.small else 1000)
    clock, cpu = dict.fromkeys(ways, 0.0), dict.fromkeys(ways, 0.0)
    passed: dict[str, list[bool]] = {name: [] for name in ways}
    for start in range(0, len(asked), PART):
        for name, way in ways.items():
            began, used = time.perf_counter(), _cpu()
            passed[name] += [way(answer) for answer in asked[start : start + PART]]
            clock[name] += time.perf_counter() - began
            cpu[name] += _cpu() - used
    figures: measure.Figures = {"answers": len(asked), "in_force": sandbox.isolation()}
    for name in ways:
        figures[name] = {
            "s": clock[name], "own_cpu_s": cpu[name], "passed": sum(passed[name]),
            "over_before": clock[name] / clock["before"],
            "agrees": passed[name] == passed["before"],
        }  # fmt: skip
    return figures


def drive(run: measure.Run) -> measure.Figures:
    """All ways in turns, and their table."""
    if not QUESTIONS.exists():
        return {"skipped": "../shared/questions is not here"}
    figures = run.case("score")
    forms = {"s": "{:.1f} s", "over_before": "{:.2f}", "passed": "{:,}", "agrees": "{}"}
    names = [name for name in ("before", *(fence.name for fence in sandbox.FENCES)) if name in figures]
    rows = [[name, *(measure.show(figures, f"{name}.{key}", form) for key, form in forms.items())] for name in names]
    measure.table(("way", "time", "over before", "passed", "agrees with before"), rows)
    return figures


def _cpu() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


if __name__ == "__main__":
    measure.run(__file__, __doc__, {"score": score}, drive)
