"""Running a program nobody has read: in a process of its own, with limits, and without a network where the system allows that.

What holds: CPU seconds, memory, file size, open files, an empty environment (no keys), an empty folder, and a wall clock after which
the whole process group is killed. Under Linux with user namespaces (`unshare`) also: no network, a process table of its own (nothing
outlives it, nothing else can be signalled); the limit on processes is one for everybody but root. What never holds: the program can
read whatever files this user can, its own text with its tests and the mark of its end among them, so that one that sets out to pass
without solving anything can; and root is root. It is a fence against accidents, not against an attacker; for that, use a container or a
virtual machine.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import msgspec

from r2router.errors import DataError


class Limits(msgspec.Struct, frozen=True):
    """seconds: of CPU, and of the wall clock twice as many. memory_mb, file_mb: of address space and of one file. processes: at once."""

    seconds: int = 5
    memory_mb: int = 512
    file_mb: int = 8
    processes: int = 16


class Ran(msgspec.Struct, frozen=True):
    """finished: it came to its end. why: in one line, where it did not."""

    finished: bool
    why: str = ""


_LIMITS = """\
import resource as _r
for _what, _most in (({cpu!r}, {seconds}), ({memory!r}, {memory_bytes}), ({file!r}, {file_bytes}), ({files!r}, 64), ({core!r}, 0)):
    _r.setrlimit(getattr(_r, _what), (_most, _most))
try:
    _r.setrlimit(_r.RLIMIT_NPROC, ({processes}, {processes}))
except (AttributeError, ValueError, OSError):
    pass
del _r, _what, _most
"""
_NAMESPACES = ("--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child")


@cache
def isolation() -> tuple[str, ...] | None:
    """The command that cuts a program off from network and other processes; None where the system has none or forbids it."""
    unshare = shutil.which("unshare")
    if unshare is None or not sys.platform.startswith("linux"):
        return None
    command = (unshare, *_NAMESPACES)
    try:
        done = subprocess.run([*command, "true"], capture_output=True, timeout=10, check=False)  # noqa: S603  our own words
    except (OSError, subprocess.SubprocessError):
        return None
    return command if done.returncode == 0 else None


def run(program: str, limits: Limits | None = None, *, isolated: bool = True) -> Ran:
    """Run a Python program to its end. Raises `DataError` where it must be isolated and cannot be, or limits are unknown here."""
    limits = limits or Limits()
    prefix = isolation()
    if os.name != "posix":
        raise DataError("code cannot be run with limits on this system; use Linux or macOS")
    if prefix is None and isolated:
        raise DataError("code is not run: this system cannot cut off the network (unshare is missing or forbidden); code-trusted runs it")
    token = secrets.token_hex(16)
    with tempfile.TemporaryDirectory(prefix="r2router-code-") as folder:
        path = Path(folder) / "program.py"
        # what it prints is not read; that it came to its end is told by a file of a name that none makes by accident
        path.write_text(f"{_head(limits)}{program}\nopen({token!r}, 'w').close()\n", encoding="utf-8", errors="replace")
        command = [*(prefix or ()), sys.executable, "-I", "-B", str(path)]
        return _watch(command, folder, Path(folder) / token, limits)


def _watch(command: list[str], folder: str, end: Path, limits: Limits) -> Ran:
    with (Path(folder) / "stderr").open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603  our own interpreter, on a file of ours
            command, cwd=folder, env={"PATH": os.defpath, "HOME": folder}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=errors, start_new_session=True,
        )  # fmt: skip
    try:
        code = process.wait(timeout=2 * limits.seconds)
    except subprocess.TimeoutExpired:
        return Ran(finished=False, why=f"not done after {2 * limits.seconds} s")
    finally:
        _kill(process)
    if code == 0 and end.exists():
        return Ran(finished=True)
    with (Path(folder) / "stderr").open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - 2000))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    said = [line for line in lines if not line.startswith("unshare:")]  # it says so where it passes on the signal that ended its child
    if len(said) < len(lines) or code in (-signal.SIGXCPU, 128 + signal.SIGXCPU, -signal.SIGKILL, 128 + signal.SIGKILL):
        return Ran(finished=False, why=f"killed at its limit of {limits.seconds} s CPU or of memory")
    return Ran(finished=False, why=(said[-1][:200] if said else "it ended before its tests did"))


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _head(limits: Limits) -> str:
    mega = 1 << 20
    return _LIMITS.format(
        cpu="RLIMIT_CPU", memory="RLIMIT_AS", file="RLIMIT_FSIZE", files="RLIMIT_NOFILE", core="RLIMIT_CORE", seconds=limits.seconds,
        memory_bytes=limits.memory_mb * mega, file_bytes=limits.file_mb * mega, processes=limits.processes,
    )  # fmt: skip
