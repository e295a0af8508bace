"""The first stage: give up every right, and set the limits. Without bubblewrap it also builds the root file system.

Whatever fails here ends the process before anything of the answer is looked at.
"""

from __future__ import annotations

import posix
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes longer to import than all that is done here
    from typing import Any

_BIND, _REC, _REMOUNT, _RDONLY, _NOSUID, _NODEV = 0x1000, 0x4000, 0x20, 1, 2, 4
_DETACH, _AT_FDCWD, _AT_RECURSIVE = 2, -100, 0x8000
_MOUNT_SETATTR = 442  # the same number on every machine
_CAPBSET_DROP, _SET_NO_NEW_PRIVS, _SET_SECCOMP, _SET_SECUREBITS, _AMBIENT = 24, 38, 22, 28, 47
_CAP_VERSION = 0x20080522
_WORK = "/tmp"  # noqa: S108  the sandbox's own


def main(job: dict[str, Any]) -> None:
    """Enter the sandbox that `job` describes; what called this goes on inside it."""
    bare = job["fence"] == "util-linux"
    if bare:
        _build_root(job)
        _leave_first_process()
    if job["uid"]:
        if bare:
            _drop_bounds()
        posix.setgroups([])
        posix.setresgid(job["uid"], job["uid"], job["uid"])
        posix.setresuid(job["uid"], job["uid"], job["uid"])
    if bare:
        if not job["uid"]:
            _drop_bounds()
        _drop_capabilities()
        _install(job["filter"])
    _limit(job["limits"])
    if job["fence"] != "none":
        posix.chdir(_WORK)


def _build_root(job: dict[str, Any]) -> None:
    """A root of our own: a small tmpfs, read-only but for /tmp, with what the job binds; the old root is taken away."""
    new = "/proc"  # any folder that is there; what was in it is not needed any more
    _mount("tmpfs", new, "tmpfs", _NOSUID | _NODEV, "size=1m,nr_inodes=1k,mode=755")
    posix.mkdir(new + _WORK)
    _mount(
        "tmpfs", new + _WORK, "tmpfs", _NOSUID | _NODEV, f"size={job['files_mb']}m,nr_inodes={job['files']},mode=1777"
    )
    for path, target in job["links"]:
        _folders(posix.fspath(new + path).rpartition("/")[0])
        posix.symlink(target, new + path)
    for source, path in job["binds"]:
        where = new + path
        if posix.stat(source).st_mode & 0o170000 == 0o040000:
            _folders(where)
        else:
            _folders(where.rpartition("/")[0])
            posix.close(posix.open(where, posix.O_CREAT | posix.O_WRONLY, 0o644))
        _mount(source, where, None, _BIND | _REC, None)
        attributes = _RDONLY | _NOSUID | (0 if path.startswith("/dev/") else _NODEV)
        _freeze(where, attributes)
    posix.chdir(new)
    _call("pivot_root", b".", b".", number=job["numbers"]["pivot_root"])
    _call("umount2", b".", _DETACH)
    posix.chdir("/")
    _mount(None, "/", None, _REMOUNT | _BIND | _RDONLY | _NOSUID | _NODEV, None)


def _folders(path: str) -> None:
    parts = path.split("/")
    for i in range(2, len(parts) + 1):
        try:
            posix.mkdir("/".join(parts[:i]), 0o755)
        except FileExistsError:
            pass


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None) -> None:
    given = [None if text is None else text.encode() for text in (source, target, kind, data)]
    _call("mount", given[0], given[1], given[2], flags, given[3])


def _freeze(path: str, attributes: int) -> None:
    """Read-only, with every mount below."""
    wanted = attributes.to_bytes(8, sys.byteorder) + bytes(24)
    _call("mount_setattr", _AT_FDCWD, path.encode(), _AT_RECURSIVE, wanted, len(wanted), number=_MOUNT_SETATTR)


def _call(name: str, *values: int | bytes | None, number: int | None = None) -> int:
    """A function of the C library, or a system call by number. Raises `OSError`."""
    if not _library:
        _library.append(_open_library())
    done: int = _library[0](name if number is None else "syscall", values if number is None else (number, *values))
    if done & 0x80000000:  # a C function gives an int, which fills half of it
        import _ctypes

        error = _ctypes.get_errno()
        raise OSError(error, f"{name}: {posix.strerror(error)}")
    return done


_library: list[Any] = []


def _open_library() -> Any:
    """What calls a C function by its name. Of ctypes only its core is used: all of it takes half as long as the
    interpreter's start.
    """
    import _ctypes

    class Long(_ctypes._SimpleCData):  # type: ignore[type-arg]
        _type_ = "l"

    class Function(_ctypes.CFuncPtr):
        _flags_ = 1 | 8  # called as C is, and errno is kept
        _restype_ = Long

    handle: Any = _ctypes.dlopen(None, 2)  # type: ignore[arg-type]  # what is loaded already
    found: dict[str, Any] = {}

    def call(name: str, values: tuple[int | bytes | None, ...]) -> Any:
        if name not in found:
            made: Any = Function
            found[name] = made(_ctypes.dlsym(handle, name))
        return found[name](*[Long(value) if isinstance(value, int) else value for value in values])

    return call


def _leave_first_process() -> None:
    """Go on in a child: whoever is first in a process table can neither be stopped by its limits nor end without taking
    all with it.
    """
    child = posix.fork()
    if not child:
        return
    while True:
        done, status = posix.waitpid(-1, 0)
        if done == child:
            posix._exit(posix.WEXITSTATUS(status) if posix.WIFEXITED(status) else 128 + posix.WTERMSIG(status))


def _drop_bounds() -> None:
    """No capability can come back, whatever is started. Of the securebits: root is nothing special, and all of them
    locked.
    """
    for capability in range(64):
        try:
            _call("prctl", _CAPBSET_DROP, capability, 0, 0, 0)
        except OSError:
            break  # beyond the last that this kernel has
    _call("prctl", _SET_SECUREBITS, 0xEB, 0, 0, 0)


def _drop_capabilities() -> None:
    _call("prctl", _AMBIENT, 4, 0, 0, 0)  # clear all
    _call("capset", _CAP_VERSION.to_bytes(4, sys.byteorder) + bytes(4), bytes(24))


def _install(program: bytes) -> None:
    """The filter of system calls, for this process and all that it starts."""
    import _ctypes

    class Byte(_ctypes._SimpleCData):  # type: ignore[type-arg]
        _type_ = "c"

    class Program(_ctypes.Array):  # type: ignore[type-arg]
        _type_ = Byte
        _length_ = len(program)

    held: Any = Program()
    held.raw = program
    order = sys.byteorder
    given = (len(program) // 8).to_bytes(2, order) + bytes(6) + _ctypes.addressof(held).to_bytes(8, order)
    _call("prctl", _SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    _call("prctl", _SET_SECCOMP, 2, given, 0, 0)


def _limit(limits: dict[str, int]) -> None:
    import resource

    for name, maximum in limits.items():
        which = getattr(resource, name, None)
        if which is None:
            continue  # not on this system
        hard = resource.getrlimit(which)[1]
        allowed = maximum if hard == resource.RLIM_INFINITY else min(maximum, hard)
        try:
            resource.setrlimit(which, (allowed, allowed))
        except (ValueError, OSError):
            if name not in {"RLIMIT_AS", "RLIMIT_NPROC"}:  # macOS has names for these and takes no value
                raise
