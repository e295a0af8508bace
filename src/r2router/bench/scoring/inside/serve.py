"""The stage that scores many answers with a function of ours: what it imports is imported once, and each answer has a
process of its own.

A request and its result are bytes behind their length. The process of an answer cannot reach those of others, nor the
way back to us; when it is done, or its time is over, whatever it started ends before the next begins.
"""

from __future__ import annotations

import importlib
import os
import select
import signal
import struct
import sys
import time
from typing import Any

_MAX = 1 << 20  # bytes of a result


def main(job: dict[str, Any]) -> None:
    """Import the job's function, say so, and answer requests until there are no more."""
    if job["fence"] == "none":
        raise SystemError("runs only in a sandbox")
    requests = sys.stdin.buffer
    said = os.dup(1)
    silent = os.open("/dev/null", os.O_RDWR)
    os.dup2(silent, 1)
    sys.path[:0] = job["path"]
    module, _, name = job["function"].partition(":")
    for package in job["preload"]:
        try:
            importlib.import_module(package)
        except ImportError:
            pass  # the function says so
    function = getattr(importlib.import_module(module), name)
    prepare = getattr(importlib.import_module(module), job["prepare"]) if job["prepare"] else None
    _send(said, b"ready")
    while len(head := requests.read(4)) == 4:
        data = requests.read(struct.unpack("=I", head)[0])
        if prepare is not None:
            prepare(data)
        _send(said, _apart(function, data, job["seconds"], (said, silent)))


def _apart(function: Any, data: bytes, seconds: int, ours: tuple[int, int]) -> bytes:
    """`+` and the function's result, or `-` and why it failed, from a process of its own; empty where it gave none."""
    get, put = os.pipe()
    child = os.fork()
    if not child:
        _work(function, data, seconds, put, (get, *ours))
    os.close(put)
    result, deadline = b"", time.monotonic() + 2 * seconds
    while (left := deadline - time.monotonic()) > 0 and select.select([get], [], [], left)[0]:
        part = os.read(get, 1 << 16)
        result += part
        if not part or len(result) > _MAX:
            break
    else:
        result = b""
    os.close(get)
    try:
        os.kill(-1, signal.SIGKILL)  # all of this sandbox but its first process and this one
    except ProcessLookupError:
        pass
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            break
    return result if len(result) <= _MAX else b""


def _work(function: Any, data: bytes, seconds: int, put: int, ours: tuple[int, ...]) -> None:
    import resource

    try:
        os.dup2(ours[-1], 0)
        for number in ours:
            os.close(number)
        for which, maximum in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_NPROC, 0), (resource.RLIMIT_FSIZE, 0)):
            resource.setrlimit(which, (maximum, maximum))
        try:
            result = b"+" + function(data)
        except Exception as error:  # noqa: BLE001  it is told, not raised: nothing would catch it
            result = f"-{type(error).__name__}: {str(error)[:200]}".encode("utf-8", "replace")
        while result:
            result = result[os.write(put, result) :]
    finally:
        os._exit(0)


def _send(to: int, data: bytes) -> None:
    data = struct.pack("=I", len(data)) + data
    while data:
        data = data[os.write(to, data) :]
