"""The two ways to fence a process in under Linux, bubblewrap and util-linux alone: what it sees, and which system calls
it may make.
"""

from __future__ import annotations

import os
import platform
import random
import shutil
import struct
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Self

_SYSTEM = tuple(map(Path, ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache")))
_DEVICES = tuple(map(Path, ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")))
_WORK, _SHARED = "/tmp", "/dev/shm"  # noqa: S108  the sandbox's own
_ALLOWED_FAMILIES = (1, 2, 10)  # sockets: within the sandbox, and IP, which goes nowhere

# system calls that are refused: memory outside of the limits, other processes' insides, mounts and namespaces, the
# kernel's rarer doors. Numbers on x86-64 and on 64-bit ARM; those from 424 on are the same everywhere.
_REFUSED = {
    "memfd_create": (319, 279), "shmget": (29, 194), "shmat": (30, 196), "msgget": (68, 186), "semget": (64, 190),
    "mq_open": (240, 180),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "kcmp": (312, 272),
    "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "unshare": (272, 97),
    "setns": (308, 268),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "userfaultfd": (323, 282), "bpf": (321, 280),
    "perf_event_open": (298, 241), "add_key": (248, 217), "request_key": (249, 218), "keyctl": (250, 219),
    "fanotify_init": (300, 262),
    "syslog": (103, 116), "quotactl": (179, 60), "io_setup": (206, 0),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "open_tree": (428,
    428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "pidfd_getfd": (438, 438), "process_madvise": (440, 440), "mount_setattr": (442, 442), "memfd_secret": (447, 447),
}  # fmt: skip
_CLONE = (56, 220)
_CLONE3 = 435
_SOCKET = (41, 198)
_PRLIMIT = (302, 261)
_NEW_NAMESPACE = 0x7E020080  # the flags of clone that make one
_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97


class RunResources:
    """What a run holds from its start to its end: the user that it runs as, and files that the fence reads."""

    def __init__(self, fence: Fence | None) -> None:
        self.uid = _stranger() if fence is not None and os.geteuid() == 0 else 0
        self._files: list[Any] = []
        self._folder: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files:
            file.close()

    def file(self, content: bytes) -> int:
        """Return the descriptor of an unnamed file with this content."""
        file = tempfile.TemporaryFile()  # noqa: SIM115  closed at the end of the run
        self._files.append(file)
        file.write(content)
        file.seek(0)
        return file.fileno()

    def folder(self) -> str:
        """Return the folder in which the fence is started; it holds nothing that could be found or read."""
        return "/"


class Fence:
    """One way to fence a process in.

    name: of the package that does it.
    tools: its commands.
    own_processes: those that count as the program's, as they are the same user's.
    """

    name: str
    tools: tuple[str, ...]
    own_processes: int

    def missing(self) -> str | None:
        """Return what is not there; None where all is."""
        if not sys.platform.startswith("linux"):
            return "this system is not Linux"
        if platform.machine() not in _MACHINES:
            return f"this machine is a {platform.machine()}"
        missing = [tool for tool in self.tools if shutil.which(tool) is None]
        return f"{missing[0]} is not installed" if missing else None

    def command(
        self, own: list[str], held: RunResources, work_mb: int, more: tuple[str, ...]
    ) -> tuple[list[str], tuple[int, ...]]:
        """Return (the command that runs `own` behind the fence, descriptors that it is given)."""
        raise NotImplementedError

    def job(self, work_mb: int, files: int, more: tuple[str, ...]) -> dict[str, Any]:
        """Return what the stage `enter` must know."""
        raise NotImplementedError

    def _tool(self, number: int = 0) -> str:
        return str(shutil.which(self.tools[number]))


class Bubblewrap(Fence):
    """bubblewrap makes namespaces and root, and installs the filter of system calls."""

    name, tools, own_processes = "bubblewrap", ("bwrap",), 1

    def command(
        self, own: list[str], held: RunResources, work_mb: int, more: tuple[str, ...]
    ) -> tuple[list[str], tuple[int, ...]]:
        rules = held.file(call_filter())
        words = [
            self._tool(),
            "--unshare-ipc",
            "--unshare-pid",
            "--unshare-net",
            "--unshare-uts",
            "--unshare-cgroup-try",
        ]
        if held.uid:
            words += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
        else:
            words += ["--unshare-user"]
        words += [
            "--die-with-parent",
            "--new-session",
            "--clearenv",
            "--setenv",
            "PATH",
            "/usr/bin:/bin",
            "--setenv",
            "HOME",
            _WORK,
        ]
        words += ["--perms", "1777", "--size", str(work_mb << 20), "--tmpfs", _WORK]
        for folder in above(more):
            words += [
                "--perms",
                "0755",
                "--dir",
                folder,
            ]  # by itself it makes what lies above a bind for the caller's eyes only
        for path, target in links():
            words += ["--symlink", target, path]
        for source, path in binds(more):
            words += ["--dev-bind" if path.startswith("/dev/") else "--ro-bind", source, path]
        words += ["--remount-ro", "/", "--seccomp", str(rules), "--", *own]
        return words, (rules,)

    def job(self, work_mb: int, files: int, more: tuple[str, ...]) -> dict[str, Any]:
        return {}


class UtilLinux(Fence):
    """`unshare` makes the namespaces, `setpriv` ends them with us; all else is done by the stage `enter`, with system
    calls.
    """

    name, tools, own_processes = "util-linux", ("unshare", "setpriv"), 1

    def command(
        self, own: list[str], held: RunResources, work_mb: int, more: tuple[str, ...]
    ) -> tuple[list[str], tuple[int, ...]]:
        words = [
            self._tool(1),
            "--pdeathsig",
            "KILL",
            "--",
            self._tool(),
            "--mount",
            "--net",
            "--pid",
            "--ipc",
            "--uts",
            "--cgroup",
            "--fork",
            "--kill-child",
        ]
        if not held.uid:
            words += ["--user", "--map-root-user"]
        return [*words, "--", *own], ()

    def job(self, work_mb: int, files: int, more: tuple[str, ...]) -> dict[str, Any]:
        column, _ = _MACHINES[platform.machine()]
        return {
            "binds": binds(more), "links": links(), "files_mb": work_mb, "files": files, "filter": call_filter(),
            "numbers": {"pivot_root": _REFUSED["pivot_root"][column]},
        }  # fmt: skip


FENCES: tuple[Fence, ...] = (Bubblewrap(), UtilLinux())


# -- what is seen
# -------------------------------------------------------------------------------------------------------


@cache
def python() -> str:
    """Return the interpreter itself, whatever environment it was started in."""
    return str(Path(sys.executable).resolve())


@cache
def package_folders() -> list[str]:
    """Return the folders of installed packages; inside they are at the same place."""
    return [p for p in sys.path if Path(p).name in {"site-packages", "dist-packages"} and Path(p).is_dir()]


@cache
def links() -> list[tuple[str, str]]:
    """Return (path, target) of the links in the root: /bin, /lib and so on where they are links here; and shared memory
    is a part of /tmp.
    """
    return [(str(p), str(p.readlink())) for p in _SYSTEM if p.is_symlink()] + [(_SHARED, _WORK)]


@cache
def binds(more: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Return (path here, path inside) of what is seen, and can be read only: the system's programs, Python, installed
    packages, a few devices.
    """
    wanted = [p for p in _SYSTEM if p.exists() and not p.is_symlink()]
    prefix = Path(sys.base_prefix).resolve()
    for path in (prefix, Path(python()).parents[1], *map(Path, package_folders()), *map(Path, more)):
        if not any(path.is_relative_to(there) for there in wanted):
            wanted.append(path)
    return [(str(p.resolve()), str(p)) for p in (*wanted, *_DEVICES)]


@cache
def above(more: tuple[str, ...] = ()) -> list[str]:
    """Return the folders in which something is bound or linked, outermost first."""
    paths = [*(path for path, _ in links()), *(path for _, path in binds(more))]
    return sorted({str(parent) for path in paths for parent in Path(path).parents} - {"/", _WORK})


def _stranger() -> int:
    """Return a user id that nobody has: only for one that owns nothing else is the number of processes its own. 0 where
    none is to be had.
    """
    try:
        lines = Path("/proc/self/uid_map").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    maximum = max((int(first) + int(count) for first, _, count in (line.split() for line in lines)), default=0)
    return random.SystemRandom().randrange(maximum // 4, maximum // 2) if maximum >= 1 << 16 else 0


# -- which system calls
# -------------------------------------------------------------------------------------------------


@cache
def call_filter() -> bytes:
    """Return the filter as the kernel takes it (classic BPF): what is refused gives an error, and everything else is
    allowed.
    """
    column, machine = _MACHINES[platform.machine()]
    return b"".join(struct.pack("=HBBI", *step) for step in _steps(column, machine))


def _steps(column: int, machine: int) -> Iterator[tuple[int, int, int, int]]:
    load = 0x20
    equal = 0x15
    at_least = 0x35
    any_bit = 0x45
    give = 0x06
    kill, allow, error = 0x80000000, 0x7FFF0000, 0x00050000
    yield load, 0, 0, 4  # the kind of machine
    yield equal, 1, 0, machine
    yield give, 0, 0, kill
    yield load, 0, 0, 0  # the number of the call
    if column == 0:
        yield at_least, 0, 1, 0x40000000  # x32's numbers
        yield give, 0, 0, error | _ENOSYS
    for numbers in _REFUSED.values():
        yield equal, 0, 1, numbers[column]
        yield give, 0, 0, error | _EPERM
    yield equal, 0, 1, _CLONE3  # its flags cannot be looked at; without it, the C library takes clone
    yield give, 0, 0, error | _ENOSYS
    yield equal, 0, 4, _CLONE[column]
    yield load, 0, 0, 16  # the first argument, its lower half
    yield any_bit, 0, 1, _NEW_NAMESPACE
    yield give, 0, 0, error | _EPERM
    yield give, 0, 0, allow
    yield equal, 0, 4, _PRLIMIT[column]  # of other processes
    yield load, 0, 0, 16
    yield equal, 1, 0, 0
    yield give, 0, 0, error | _EPERM
    yield give, 0, 0, allow
    yield equal, 0, 3 + len(_ALLOWED_FAMILIES), _SOCKET[column]
    yield load, 0, 0, 16
    for i, family in enumerate(_ALLOWED_FAMILIES):
        yield equal, len(_ALLOWED_FAMILIES) - i, 0, family
    yield give, 0, 0, error | _EAFNOSUPPORT
    yield give, 0, 0, allow
    yield give, 0, 0, allow
