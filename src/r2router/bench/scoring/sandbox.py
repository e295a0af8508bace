"""Running what nobody has read: in namespaces of its own, with nothing of this machine but a Python that it can only
read.

Two fences do the same, the first that works is taken: bubblewrap, or util-linux alone (`unshare`). Inside there is no
network, no process but its own, no file but /usr, Python and a small /tmp in memory; no right to get more (no
capability, no new privilege, a filter of system calls); and an empty environment. CPU, wall clock, memory of all its
processes together, their number, files and output have limits; when the time is over, or the first process ends, all of
them end. As root, it runs as a user that owns nothing.

What never holds: answer and tests are one process, so a program that sets out to pass its own tests without solving
anything can. See docs/threat-model.md.
"""

from __future__ import annotations

import marshal
import os
import secrets
import signal
import subprocess
import tempfile
from functools import cache
from importlib.resources import files
from typing import IO, Any

import msgspec

from r2router.bench.scoring.fence import FENCES, Fence, RunResources, package_folders, python
from r2router.bench.scoring.watch import wait
from r2router.errors import DataError


class SandboxLimits(msgspec.Struct, frozen=True):
    """What a program may use.

    seconds: CPU time of a process; the wall clock is twice that.
    memory_mb: of all processes together, and of one address space.
    file_mb: of one file, and of output.
    work_mb, files: of /tmp.
    processes: at once, threads counted.
    """

    seconds: int = 5
    memory_mb: int = 512
    file_mb: int = 8
    work_mb: int = 32
    files: int = 10_000
    processes: int = 16


class SandboxRun(msgspec.Struct, frozen=True):
    """How a run in the sandbox ended.

    finished: it came to its end.
    found: there was code to run.
    why: in one line, where it did not come to its end.
    """

    finished: bool
    why: str = ""
    found: bool = True


_BOOT = """\
import marshal, sys
job = marshal.load(sys.stdin.buffer)
for stage in job['stages']:
    names = {'__name__': 'inside'}
    exec(marshal.loads(stage), names)
    names['main'](job)
"""
"""What the bare interpreter is told on its command line: the stages are our own compiled modules, and come on stdin
with the job.
"""


_PROBE = """\
import posix
try:
    posix.fork() or posix._exit(0)
except OSError:
    pass
else:
    raise SystemError("processes are not limited")
"""  # where one process is all that is allowed


@cache
def stage(name: str) -> bytes:
    """Return the compiled code of a module of `inside`."""
    path = files("r2router.bench.scoring").joinpath("inside", f"{name}.py")
    return marshal.dumps(compile(path.read_text(encoding="utf-8"), f"inside/{name}.py", "exec", dont_inherit=True))


@cache
def in_force() -> Fence | None:
    """Return the fence that code runs behind on this machine; None where none works."""
    return next((fence for fence in FENCES if why_not(fence) is None), None)


def isolation() -> str | None:
    """Return the name of the fence in force, `bubblewrap` or `util-linux`; None where untrusted code is refused."""
    fence = in_force()
    return None if fence is None else fence.name


@cache
def why_not(fence: Fence) -> str | None:
    """Return why a fence cannot be used here, found by trying it; None where it can."""
    if (missing := fence.missing()) is not None:
        return missing
    ran = _run({"program": _PROBE}, SandboxLimits(seconds=10, processes=1), fence)
    return None if ran.finished else f"{fence.name}: {ran.why}"


def refusal() -> str:
    """Return why no fence works here, and how to fix it."""
    reasons = "; ".join(why for fence in FENCES if (why := why_not(fence)))
    return (
        f"nothing is run: no sandbox works here ({reasons}); install bubblewrap, allow user namespaces, or use another"
        " machine"
    )


def chosen(*, isolated: bool = True) -> Fence | None:
    """Return the fence in force. Raises `DataError` where there is none; with `isolated` false that is None: limits,
    and nothing else.
    """
    if os.name != "posix":
        raise DataError("code cannot be run with limits on this system; use Linux")
    fence = in_force()
    if fence is None and isolated:
        raise DataError(refusal())
    return fence


def run(program: str, limits: SandboxLimits | None = None, *, isolated: bool = True) -> SandboxRun:
    """Run a Python program to its end. Raises `DataError` where it must be isolated and cannot be."""
    return _run({"program": program}, limits or SandboxLimits(), chosen(isolated=isolated))


def run_answer(
    question: str, response: str, entry: str, test: str, limits: SandboxLimits, *, isolated: bool = True
) -> SandboxRun:
    """Find the program in a response, and run it with its test. Raises `DataError` where it must be isolated and cannot
    be.
    """
    job = {"question": question, "response": response, "entry": entry, "test": test}
    return _run({name: _sound(text) for name, text in job.items()}, limits, chosen(isolated=isolated))


def _sound(text: str) -> str:
    """Return text that every codec takes: halves of surrogate pairs, which JSON may hold, are replaced."""
    return text.encode("utf-8", "replace").decode("utf-8")


def job_of(
    limits: SandboxLimits, fence: Fence | None, held: RunResources, stages: tuple[str, ...], more: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return what every job holds.

    more: folders that are seen inside, beside Python and its packages.
    """
    mega = 1 << 20
    maximum = {
        "RLIMIT_CPU": limits.seconds, "RLIMIT_AS": limits.memory_mb * mega, "RLIMIT_FSIZE": limits.file_mb * mega,
        "RLIMIT_NOFILE": 64,
        "RLIMIT_CORE": 0, "RLIMIT_MSGQUEUE": 0, "RLIMIT_MEMLOCK": 0,
        # the processes of the fence itself count where they are the same user's
        "RLIMIT_NPROC": limits.processes + (fence.own_processes if fence and not held.uid else 0),
    }  # fmt: skip
    job = {
        "stages": [stage(name) for name in stages], "limits": maximum, "fence": "none" if fence is None else fence.name,
        "uid": held.uid,
        "path": package_folders(),
    }  # fmt: skip
    if fence is not None:
        job |= fence.job(limits.work_mb, limits.files, more)
    return job


def packed(job: dict[str, Any]) -> bytes:
    """Return a job as the bare interpreter reads it. It is only ever written here; what comes back is text."""
    return marshal.dumps(job)


def _run(what: dict[str, Any], limits: SandboxLimits, fence: Fence | None) -> SandboxRun:
    mark = secrets.token_bytes(16)
    with (
        RunResources(fence) as held,
        tempfile.TemporaryFile() as job,
        tempfile.TemporaryFile() as said,
        tempfile.TemporaryFile() as errors,
    ):
        job.write(packed({**job_of(limits, fence, held, ("enter", "program")), **what, "mark": mark}))
        job.seek(0)
        process = start(fence, held, limits, (job, said, errors))
        ended, why = wait(process, 2.0 * limits.seconds, limits)
        answer = os.pread(said.fileno(), 64, 0)
        if process.returncode == 0 and answer == b"no code":
            return SandboxRun(finished=False, why="no Python code in the response", found=False)
        if ended and process.returncode == 0 and answer == mark:
            return SandboxRun(finished=True)
        return SandboxRun(finished=False, why=why or _why(process.returncode, errors, limits))


def start(
    fence: Fence | None,
    held: RunResources,
    limits: SandboxLimits,
    streams: tuple[Any, Any, Any],
    more: tuple[str, ...] = (),
) -> subprocess.Popen[bytes]:
    """Start the bare interpreter behind the fence, with these as stdin, stdout and stderr, and nothing of our
    environment.
    """
    own = [python(), "-I", "-S", "-B", "-c", _BOOT]
    command, passed = ([*own], ()) if fence is None else fence.command(own, held, limits.work_mb, more)
    return subprocess.Popen(  # noqa: S603  our own words
        command, cwd=held.folder(), env={"PATH": os.defpath}, stdin=streams[0], stdout=streams[1], stderr=streams[2],
        start_new_session=True, pass_fds=passed, umask=0o022,
    )  # fmt: skip


def _why(code: int, errors: IO[bytes], limits: SandboxLimits) -> str:
    size = os.fstat(errors.fileno()).st_size
    lines = os.pread(errors.fileno(), 2000, max(0, size - 2000)).decode("utf-8", "replace").strip().splitlines()
    if code in {-signal.SIGXCPU, 128 + signal.SIGXCPU, -signal.SIGKILL, 128 + signal.SIGKILL}:
        return f"killed at its limit of {limits.seconds} s CPU or of memory"
    return lines[-1][:200] if lines else "it ended before its tests did"
