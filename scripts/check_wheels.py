"""Is there a wheel of each locked core dependency for a Python that this machine may not have?

usage: check_wheels.py 3.14      asks the package index; prints one line per platform; fails where a wheel is missing
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "locks" / "core.lock"
PLATFORMS = {
    "Linux x86_64": ["manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"],
    "Linux arm64": [
        "manylinux_2_28_aarch64",
        "manylinux_2_27_aarch64",
        "manylinux_2_17_aarch64",
        "manylinux2014_aarch64",
    ],
    "macOS arm64": ["macosx_14_0_arm64", "macosx_13_0_arm64", "macosx_12_0_arm64", "macosx_11_0_arm64"],
    "Windows x86_64": ["win_amd64"],
}


def missing(python: str, tags: list[str]) -> str:
    """What pip says of the first package without a wheel; empty where there is one of each."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--dest",
            folder,
        ]
        command += ["--python-version", python, "--implementation", "cp", "--require-hashes", "-r", str(LOCK)]
        for tag in tags:
            command += ["--platform", tag]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return "" if done.returncode == 0 else (errors or done.stderr.splitlines() or ["pip failed"])[-1]


def main() -> None:
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    failed = False
    for name, tags in PLATFORMS.items():
        why = missing(sys.argv[1], tags)
        failed |= bool(why)
        print(f"Python {sys.argv[1]}, {name}: {why or 'a wheel of every core dependency'}")
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
