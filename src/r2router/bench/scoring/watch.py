"""Waiting for a sandbox to end: its clock, and the memory, processes and files of all that runs in it, looked at from
outside.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

_EVERY = 0.05  # seconds between looks
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def wait(process: subprocess.Popen[bytes], seconds: float, limits: Any) -> tuple[bool, str]:
    """Return (whether it ended by itself, else why it was ended). Nothing that it started is left."""
    deadline = time.monotonic() + seconds
    why = ""
    with _noticed(process) as ended:
        while not ended(min(_EVERY, max(0.0, deadline - time.monotonic()))):
            why = f"not done after {seconds:g} s" if time.monotonic() >= deadline else _too_much(process.pid, limits)
            if why:
                break
    end(process)
    return not why, why


def end(process: subprocess.Popen[bytes]) -> None:
    """End all that a sandbox started, its first process first: with that the kernel ends all others, wherever they
    went.
    """
    if process.poll() is None:
        first = children(process.pid)
        for pid in first:
            _kill(os.kill, pid)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(1.0 if first else 0)
    _kill(os.killpg, process.pid)  # without a fence, and whatever has not ended yet
    process.wait()


def children(pid: int) -> list[int]:
    """Return the children of a process; empty where this system does not tell."""
    found: list[int] = []
    with contextlib.suppress(OSError):  # it may end at any time
        for task in Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                found += [int(word) for word in (task / "children").read_bytes().split()]
    return found


def _too_much(pid: int, limits: Any) -> str:
    """Return what of its limits a sandbox is over; empty where none."""
    family, at = [pid], 0
    while at < len(family) and len(family) <= 10 * limits.processes:
        family += children(family[at])
        at += 1
    inside = family[2:]  # the fence's own two come first
    if len(inside) > limits.processes + 1:
        return f"more than {limits.processes} processes"
    if sum(map(_private_bytes, family)) > limits.memory_mb << 20:
        return f"more than {limits.memory_mb} MB of memory in all"
    with contextlib.suppress(OSError, IndexError):
        room = os.statvfs(f"/proc/{inside[0]}/root/tmp")
        small = room.f_blocks * room.f_frsize <= limits.work_mb << 20  # the sandbox's own, not the machine's
        if small and room.f_files - room.f_ffree > limits.files:
            return f"more than {limits.files:,} files"
    return ""


def _private_bytes(pid: int) -> int:
    """Return what a process has in memory but for files: its own pages and those of shared memory."""
    try:
        lines = Path(f"/proc/{pid}/status").read_bytes().split(b"\n")
    except OSError:
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith((b"RssAnon:", b"RssShmem:")))


@contextlib.contextmanager
def _noticed(process: subprocess.Popen[bytes]) -> Any:
    """A function that waits some seconds and says whether the process has ended: at once where the system can tell."""
    if not hasattr(os, "pidfd_open"):

        def polled(seconds: float) -> bool:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
            return process.poll() is not None

        yield polled
        return
    handle = os.pidfd_open(process.pid)
    try:
        yield lambda seconds: bool(select.select([handle], [], [], seconds)[0])
    finally:
        os.close(handle)


def _kill(how: Any, pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        how(pid, signal.SIGKILL)
