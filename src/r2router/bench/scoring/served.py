"""Our own scorers that parse or evaluate what an LLM wrote, kept running in a sandbox:
`ServedFunction("module:function").call(data)`.

The function takes and gives bytes. It is imported once, inside; each call has a process of its own there, so that an
answer that takes it over changes no other's score, has no key to find, and nobody to tell.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import select
import struct
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

from r2router.bench.scoring.fence import Fence, RunResources
from r2router.bench.scoring.sandbox import SandboxLimits, chosen, job_of, packed, start
from r2router.bench.scoring.watch import end
from r2router.errors import DataError

_TO_START = 120.0  # seconds: what is imported may be large, and the machine busy
_MAX = 1 << 20


_SLACK = 100.0  # seconds on the clock beyond the CPU time of a call: a busy machine is no fault of the answer


class ProcessLost(Exception):
    """A call gave nothing: it took too long, too much, or ended. The message says which."""


class NotServed(DataError):
    """The function could not be started in the sandbox, or the machine gave it no time: it says nothing of an
    answer.
    """


class ServedFunction:
    """A function of ours in a sandbox, started at the first call and again where it was lost.

    function: `module:name`; it takes bytes and gives bytes.
    preload: packages that are imported before the first call, once for all.
    prepare: the name of a function beside it that is called with the same bytes first, in the process that all calls
        come from, to keep what later calls need too; it must hold against whatever the bytes are.
    limits: of one call; `memory_mb` holds imports too.
    """

    def __init__(
        self, function: str, *, preload: tuple[str, ...] = (), prepare: str = "", limits: SandboxLimits | None = None
    ) -> None:
        self.function, self.preload, self.prepare = function, preload, prepare
        self.limits = limits or SandboxLimits(seconds=10, memory_mb=2048)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def call(self, data: bytes) -> bytes:
        """Return the function's result. Raises `ProcessLost` where there is none, `NotServed`, and `DataError` where no
        sandbox works.
        """
        fence = chosen()
        assert fence is not None  # noqa: S101  chosen raises
        with self._lock:
            try:
                process = self._running(fence)
            except (ProcessLost, OSError) as error:
                self._end()
                raise NotServed(f"{self.function} could not be started in the sandbox: {error}") from None
            try:
                result = _exchange(process, struct.pack("=I", len(data)) + data, 2.0 * self.limits.seconds + _SLACK)
            except (ProcessLost, OSError) as error:
                self._end()
                raise ProcessLost(str(error) or type(error).__name__) from None
        if not result:
            raise ProcessLost(
                f"it gave nothing within its limits ({self.limits.seconds} s CPU, {self.limits.memory_mb} MB)"
            )
        if result[:1] != b"+":
            raise ProcessLost(result[1:300].decode("utf-8", "replace"))
        return result[1:]

    def close(self) -> None:
        """End the sandbox; the next call starts it again."""
        with self._lock:
            self._end()

    def _running(self, fence: Fence) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return self._process
        self._end()
        with RunResources(fence) as held:
            package = str(Path(__file__).resolve().parents[2])
            job = job_of(self.limits, fence, held, ("enter", "serve"), (package,))
            del job["limits"]["RLIMIT_CPU"]  # each call has its own
            job |= {
                "function": self.function,
                "preload": list(self.preload),
                "prepare": self.prepare,
                "seconds": self.limits.seconds,
            }
            job["path"] = [*job["path"], str(Path(package).parent)]
            pipe = subprocess.PIPE
            process = start(fence, held, self.limits, (pipe, pipe, subprocess.DEVNULL), (package,))
            self._process, self._owner = process, os.getpid()
            atexit.register(self.close)
            if _exchange(process, packed(job), _TO_START) != b"ready":
                raise ProcessLost("it did not say that it is ready")
        return process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        end(process)
        atexit.unregister(self.close)


def _exchange(process: subprocess.Popen[bytes], data: bytes, seconds: float) -> bytes:
    """Write all of `data`, and read one message back. Raises `ProcessLost` after so many seconds, or where the other
    side has ended.
    """
    assert process.stdin is not None and process.stdout is not None  # noqa: S101  they are pipes
    out, back = process.stdin.fileno(), process.stdout.fileno()
    os.set_blocking(out, False)
    deadline = time.monotonic() + seconds
    left = memoryview(data)
    got = b""
    while True:
        ready: Any = select.select([back], [out] if left else [], [], max(0.0, deadline - time.monotonic()))
        if not (ready[0] or ready[1]):
            raise ProcessLost(f"not done after {seconds:g} s")
        if ready[1]:
            left = left[os.write(out, left[: 1 << 16]) :]
        if ready[0]:
            part = os.read(back, 1 << 16)
            if not part:
                raise ProcessLost("it ended")
            got += part
            size = struct.unpack("=I", got[:4])[0] if len(got) >= 4 else None
            if size is not None and size > _MAX:
                raise ProcessLost("its result is too large")
            if size is not None and len(got) >= 4 + size:
                return got[4 : 4 + size]
