"""The sandbox under attack: as root and as an ordinary user, behind bubblewrap and behind util-linux alone."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import r2router
from r2router.bench.scoring import sandbox, scorer_named
from r2router.bench.suite import Query

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the sandbox is for Linux")

FENCES = [fence.name for fence in sandbox.FENCES]
STRANGER = 54321  # the ordinary user that tests make where they run as root
SECRET = "sk-a-key-that-nobody-may-see"
HARNESS = Path(__file__).with_name("sandbox_user.py")


class User:
    """A process of some user's that runs programs behind a fence, as `compact` does."""

    def __init__(self, fence: str, user: str) -> None:
        command = [sys.executable, "-B", str(HARNESS), fence]
        env = {**os.environ, "A_KEY": SECRET, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "HOME": "/"}
        if user == "ordinary" and os.geteuid() == 0:
            command = as_stranger(command)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, start_new_session=True, cwd="/"
        )
        self.told = self._read()

    def run(self, program: str, **limits: int) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"program": program, "limits": {"seconds": 2, **limits}}) + "\n")
        self.process.stdin.flush()
        return self._read()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline() or '{"works": false, "why": "the harness ended"}')

    def close(self) -> None:
        self.process.kill()
        with contextlib.suppress(BrokenPipeError):
            self.process.__exit__(None, None, None)


def as_stranger(command: list[str]) -> list[str]:
    """The command as a user who is not root; a Python within a closed home is opened to it in a mount namespace of its
    own.
    """
    closed: dict[Path, list[Path]] = {}
    for needed in {
        Path(p).resolve() for p in (sys.base_prefix, sys.prefix, HARNESS.parent, Path(r2router.__file__).parent)
    }:
        shut = [p for p in reversed(needed.parents) if p != Path("/") and not p.stat().st_mode & 1]
        if shut:
            closed.setdefault(shut[0], []).append(needed)
    lines = ["set -e", "kept=$(mktemp -d)", 'chmod 755 "$kept"']
    for folder, inner in closed.items():
        for i, path in enumerate(inner):
            lines += [f'mkdir "$kept/{i}"', f'mount --bind {shlex.quote(str(path))} "$kept/{i}"']
        lines.append(f"mount -t tmpfs -o mode=755 none {shlex.quote(str(folder))}")
        for i, path in enumerate(inner):
            lines += [f"mkdir -p {shlex.quote(str(path))}", f'mount --bind "$kept/{i}" {shlex.quote(str(path))}']
    lines.append(
        shlex.join(["exec", "setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", *command])
    )
    return ["unshare", "--mount", "sh", "-c", "\n".join(lines)]


@pytest.fixture(
    scope="module", params=[(fence, user) for fence in FENCES for user in ("root", "ordinary")], ids="-".join
)
def user(request: pytest.FixtureRequest) -> Iterator[User]:
    fence, name = request.param
    if name == "root" and os.geteuid() != 0:
        pytest.skip("these tests do not run as root")
    made = User(fence, name)
    if not made.told["works"]:
        made.close()
        pytest.skip(f"{fence} does not work here: {made.told['why']}")
    assert (made.told["uid"] == 0) == (name == "root")
    yield made
    made.close()


def passes(ran: Any) -> None:
    assert ran["finished"], ran


def stopped(ran: Any, why: str = "") -> None:
    assert not ran["finished"] and why in ran["why"] and "ESCAPED" not in ran["why"], ran


# -- what the sandbox reads back
# ----------------------------------------------------------------------------------------

REPLACED = """
import os
for name in ("stderr", "program.py"):
    try: os.remove(name)
    except OSError: pass
{how}
raise SystemExit(3)
"""


@pytest.mark.parametrize(
    "how",
    ["os.symlink('/proc/self/environ', 'stderr')", "os.mkfifo('stderr')", "pass", "os.symlink('/dev/zero', 'stderr')"],
    ids=["a link to the environment", "a FIFO", "missing", "/dev/zero"],
)
def test_what_it_says_cannot_be_replaced(user: User, how: str) -> None:
    ran = user.run(REPLACED.format(how=how))
    stopped(ran)
    assert SECRET not in ran["why"] and ran["seconds"] < 60 and ran["rss_mb"] < 400


def test_a_flood_of_output_is_cut(user: User) -> None:
    stopped(user.run("import sys\nwhile True: sys.stderr.write('x' * 10**6)"))
    passes(user.run("import sys\nfor _ in range(100): print('x' * 10**6)"))


def test_the_environment_is_empty(user: User) -> None:
    passes(
        user.run(
            "import os\nassert 'A_KEY' not in os.environ and set(os.environ) <= {'PATH', 'HOME', 'PWD', 'LC_CTYPE'},"
            " os.environ"
        )
    )
    program = (
        "import glob\nfor name in glob.glob('/proc/*/environ'):\n    assert b'A_KEY' not in open(name, 'rb').read()"
    )
    passes(user.run(program))


# -- files
# --------------------------------------------------------------------------------------------------------------


def test_nothing_outside_can_be_read_or_written(user: User, tmp_path: Path) -> None:
    for parent in (tmp_path, *tmp_path.parents):
        with contextlib.suppress(PermissionError):
            parent.chmod(parent.stat().st_mode | 0o055)
    mine = tmp_path / "mine"
    mine.write_text("as it was")
    mine.chmod(0o666)
    tmp_path.chmod(0o777)
    ours = Path(r2router.__file__)
    outside = [
        mine,
        tmp_path / "new",
        ours,
        "/etc/passwd",
        "/etc/shadow",
        "/usr/new",
        "/new",
        sys.executable,
        Path(sys.base_prefix, "new"),
    ]
    program = f"""
import os, sys
outside = {[str(path) for path in outside]!r}
written = []
for path in outside:
    for how in ("a", "r+", "w"):
        try:
            open(path, how).close()
            written.append(path)
        except OSError: pass
for path in {[str(mine), "/etc/passwd", "/root/.ssh", "/home", "/var", "/run", "/sys", "/proc/self"]!r}:
    assert not os.path.exists(path), path
# what lies within /tmp is the sandbox's own and seen by nobody else
assert all(path.startswith("/tmp/") for path in written), written
"""
    passes(user.run(program))
    assert mine.read_text() == "as it was" and not (tmp_path / "new").exists() and not Path("/usr/new").exists()


def test_shared_memory_is_its_own_and_small(user: User) -> None:
    name = f"r2router-{os.getpid()}"
    passes(user.run(f"open('/dev/shm/{name}', 'w').write('x')"))
    assert not Path("/dev/shm", name).exists()
    stopped(user.run("for i in range(100): open(f'/dev/shm/{i}', 'wb').write(bytes(7 << 20))"), "No space")
    stopped(user.run("for i in range(100): open(f'/tmp/{i}', 'wb').write(bytes(7 << 20))"), "No space")
    stopped(user.run("open('/tmp/big', 'wb').write(bytes(9 << 20))"), "too large")


def test_a_deep_tree_and_links_are_left_behind(user: User) -> None:
    passes(user.run("import os\nfor _ in range(3000):\n    os.mkdir('d'); os.chdir('d')"))
    links = "import os\nfor i in range(50): os.symlink('/', f'l{i}'); os.symlink(f'm{i}', f'm{i}')\n"
    passes(user.run(f"{links}os.mkdir('x'); os.mkdir('x/y'); os.chmod('x', 0)"))


def test_the_number_of_files_is_limited(user: User) -> None:
    stopped(
        user.run("import time\nfor i in range(60_000): open(str(i), 'w').close()\ntime.sleep(3)", seconds=5, files=2000)
    )


# -- the network, and everybody else
# ------------------------------------------------------------------------------------


def test_no_socket_leads_out(user: User, tmp_path: Path) -> None:
    place = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as named, socket.socket(socket.AF_UNIX) as hidden, socket.socket() as tcp:
        named.bind(str(place))
        place.chmod(0o777)
        hidden.bind(f"\0r2router-{os.getpid()}")
        tcp.bind(("127.0.0.1", 0))
        for server in (named, hidden, tcp):
            server.listen()
        ip = [("127.0.0.1", tcp.getsockname()[1]), ("192.0.2.1", 80)]
        addresses = [
            (1, str(place)),
            (1, f"\0r2router-{os.getpid()}"),
            *((2, address) for address in ip),
            (10, ("::1", 80)),
        ]
        program = f"""
import socket
for family, address in {addresses!r}:
    try:
        with socket.socket(family) as s:
            s.settimeout(1); s.connect(address)
    except OSError: continue
    raise SystemError(f"connected to {{address}}")
for family in (16, 17, 38, 40):  # netlink, raw packets, the kernel's ciphers, the host of a virtual machine
    try: socket.socket(family, socket.SOCK_RAW)
    except OSError: continue
    raise SystemError(f"a socket of family {{family}}")
"""
        passes(user.run(program))
        for server in (named, hidden, tcp):
            server.settimeout(0.1)
            with pytest.raises(TimeoutError):
                server.accept()


def test_others_cannot_be_signalled_or_looked_into(user: User) -> None:
    me = os.getpid()
    program = f"""
import os, signal, ctypes
for pid in ({me}, {user.process.pid}, os.getppid(), 1):
    for how in (lambda: os.kill(pid, 0), lambda: open(f"/proc/{{pid}}/mem", "rb")):
        try: how()
        except OSError: continue
        assert pid in (1, os.getppid()), pid
c = ctypes.CDLL(None, use_errno=True)
assert c.ptrace(16, 1, 0, 0) == -1
try: os.kill(-1, signal.SIGKILL)
except OSError: pass
"""
    passes(user.run(program))
    assert user.process.poll() is None


def test_no_right_comes_back(user: User) -> None:
    program = """
import ctypes, os, subprocess
c = ctypes.CDLL(None, use_errno=True)
for flag in (0x10000000, 0x00020000, 0x40000000, 0x20000000, 0x08000000, 0x04000000, 0x02000000, 0x00000080):
    assert c.unshare(flag) == -1, flag
assert c.mount(b"none", b"/tmp", b"tmpfs", 0, b"size=4g") == -1 and c.umount2(b"/tmp", 2) == -1 and c.chroot(b"/tmp") == -1
assert c.syscall(56, 0x10000000 | 17, 0, 0, 0, 0) == -1 or os.uname().machine != "x86_64"  # clone into a user namespace
assert c.prctl(39, 0, 0, 0, 0) == 1  # no new privileges
for uid in (0, 1, 1000):
    if uid != os.getuid():
        try: os.setuid(uid)
        except OSError: continue
        raise SystemError(f"is {uid} now")
class Data(ctypes.Structure): _fields_ = [("d", ctypes.c_uint32 * 6)]
d = Data(); assert c.capget((ctypes.c_uint32 * 2)(0x20080522, 0), ctypes.byref(d)) == 0
assert not any((d.d[0], d.d[1], d.d[3], d.d[4])), list(d.d)  # effective and permitted
done = subprocess.run(["/usr/bin/unshare", "--user", "--map-root-user", "true"], capture_output=True)
assert done.returncode, done
"""
    passes(user.run(program))


# -- memory and processes
# -----------------------------------------------------------------------------------------------

HOARDS = {
    "the heap": "x = bytearray(10**9)",
    "memfd": (
        "import os\nkept = []\nfor i in range(60):\n    f = os.memfd_create('m'); os.write(f, bytes(7 << 20));"
        " kept.append(f)"
    ),
    "System V": "import ctypes\nc = ctypes.CDLL(None)\nassert c.shmget(0, 400 << 20, 0o1600) >= 0",
    "shared mappings": (
        """
import mmap, os, time
for _ in range(8):
    if not os.fork():
        m = mmap.mmap(-1, 200 << 20)
        for i in range(0, len(m), 4096): m[i] = 1
        time.sleep(30)
time.sleep(9)
"""
    ),
    "many processes": (
        """
import os, time
for _ in range(8):
    if not os.fork():
        x = b"x" * (200 << 20)
        time.sleep(30)
time.sleep(9)
"""
    ),
    "a mounted file system": (
        """
import ctypes
c = ctypes.CDLL(None)
assert c.unshare(0x10020000) == 0 and c.mount(b"none", b"/tmp", b"tmpfs", 0, b"size=4g") == 0
"""
    ),
}


@pytest.mark.parametrize("hoard", HOARDS)
def test_memory_is_limited_wherever_it_is_taken(user: User, hoard: str) -> None:
    stopped(user.run(HOARDS[hoard], seconds=6))


@pytest.mark.parametrize(
    "program",
    [
        "import subprocess\nkept = [subprocess.Popen(['sleep', '30']) for _ in range(150)]",
        "import os\nwhile True: os.fork()",
        "import threading, time\nfor _ in range(150): threading.Thread(target=time.sleep, args=(30,)).start()",
        "import os, time\nfor _ in range(150):\n    if not os.fork():\n        os.setsid(); time.sleep(30)",
    ],
    ids=["150 programs", "a fork bomb", "150 threads", "150 sessions"],
)
def test_processes_are_limited(user: User, program: str) -> None:
    stopped(user.run(program))


def test_some_processes_and_threads_are_fine(user: User) -> None:
    program = (
        "import subprocess, threading as t\nt = [t.Thread(target=int) for _ in range(8)]\n[x.start() for x in t];"
        " [x.join() for x in t]\n"
    )
    passes(user.run(program + "assert subprocess.run(['echo', 'x'], capture_output=True).stdout == b'x\\n'"))


LEAVES = """
import ctypes, os, signal, time
if not os.fork():
    os.setsid()
    if os.fork(): os._exit(0)
    ctypes.CDLL(None).prctl(1, 0)
    for number in range(1, 32):
        try: signal.signal(number, signal.SIG_IGN)
        except (OSError, ValueError): pass
    os.execv("/usr/bin/sleep", ["sleep", {name!r}])
time.sleep(0.5)
ctypes.CDLL(None).prctl(1, 0)
"""


@pytest.mark.parametrize(
    "then",
    ["", "time.sleep(60)", "os._exit(0)", "os.setsid(); time.sleep(60)"],
    ids=["ends", "hangs", "exits", "leaves"],
)
def test_nothing_outlives_it(user: User, then: str) -> None:
    name = f"61.{os.getpid()}{time.monotonic_ns()}"
    ran = user.run(LEAVES.format(name=name) + then)
    if "60" in then:
        stopped(ran, "not done after")
        assert ran["seconds"] < 50  # of the 60 that it would take
    wait_for(lambda: not running(name))  # what it left sleeps for twice as long


@pytest.mark.parametrize("fence", FENCES)
def test_nothing_outlives_whoever_started_it(fence: str) -> None:
    user = User(fence, "root")
    if not user.told["works"]:
        pytest.skip(f"{fence} does not work here: {user.told['why']}")
    name = f"62.{os.getpid()}{time.monotonic_ns()}"
    assert user.process.stdin is not None
    program = LEAVES.format(name=name) + "time.sleep(60)"
    user.process.stdin.write(json.dumps({"program": program, "limits": {"seconds": 30}}) + "\n")
    user.process.stdin.flush()
    wait_for(lambda: bool(running(name)))
    user.close()
    wait_for(lambda: not running(name))


def running(name: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().split(b"\0")[1:2] == [name.encode()]:
                found.append(path.parent.name)
    return found


def wait_for(what: Any) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


# -- which fence, and none
# ----------------------------------------------------------------------------------------------


def test_where_nothing_works_nothing_is_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    monkeypatch.setenv("PATH", str(tmp_path))
    for cached in (sandbox.in_force, sandbox.why_not):
        cached.cache_clear()
    try:
        assert sandbox.isolation() is None
        meta = {"test": "def check(f): pass", "entry_point": "f"}
        query = Query(id="q", text="def f():\n", meta=meta)
        answer = f"def f(): pass\nopen({str(mark)!r}, 'w')"
        refused: Any = scorer_named("code").score(query, f"```python\n{answer}\n```")
        assert (
            refused.quality is None
            and "no sandbox works here (bwrap is not installed; unshare is not installed)" in refused.error
        )
        assert not mark.exists()
        trusted: Any = scorer_named("code-trusted").score(query, f"```python\n{answer}\n```")
        assert trusted.quality == 1.0 and mark.exists()
    finally:
        sandbox.in_force.cache_clear()
        sandbox.why_not.cache_clear()


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not installed")
def test_bubblewrap_is_taken_where_it_works() -> None:
    bubblewrap = sandbox.FENCES[0]
    if (why := sandbox.why_not(bubblewrap)) is not None:
        pytest.skip(why)
    assert sandbox.isolation() == "bubblewrap"
