"""Saved routers: equal when read back, refused when damaged, whole after a full disk or a kill, and never executed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from safetensors.numpy import save as to_bytes

from r2router.errors import ArtifactError, SaveError
from r2router.router import artifact

MANIFEST, WEIGHTS, CARD = "router.json", "weights.safetensors", "card.md"


class Thing(msgspec.Struct, forbid_unknown_fields=True):
    """What is saved here in a router's place."""

    name: str
    number: float = 0.0
    words: frozenset[str] = frozenset()


OLD, NEW = Thing("old", 0.1), Thing("new", 1e-300)
ARRAYS: dict[str, np.ndarray] = {
    "half.f4": np.array([[0.1, -0.0], [np.nan, np.inf]], dtype=np.float32),
    "f8": np.random.default_rng(0).normal(size=(3, 5)),
    "transposed": np.arange(6.0).reshape(2, 3).T,
    "i8": np.array([-(2**62), 2**62]),
    "u1": np.arange(7, dtype=np.uint8),
    "bool": np.array([True, False]),
    "one": np.array(1.5),
    "none": np.empty((0, 4), dtype=np.float32),
}


def save(folder: Path, thing: Thing = NEW, arrays: dict[str, np.ndarray] | None = None) -> None:
    artifact.save(folder, thing, ARRAYS if arrays is None else arrays, f"# {thing.name}\n", version="1.2.3")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved router, `OLD`."""
    save(tmp_path / "router", OLD)
    return tmp_path / "router"


def content(folder: Path) -> str:
    """Which of the two it is; raises where it is neither, whole."""
    thing, arrays = artifact.load(folder, Thing)
    assert set(arrays) == set(ARRAYS)
    return thing.name


def change(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    edit(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


# -- there and back ---------------------------------------------------------------------------------------------------


def test_what_is_read_back_is_equal_to_the_bit(tmp_path: Path) -> None:
    save(tmp_path / "router")
    thing, arrays = artifact.load(tmp_path / "router", Thing)
    assert thing == NEW
    assert set(arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape), name
        assert arrays[name].tobytes() == np.ascontiguousarray(array).tobytes(), name


def test_a_router_is_three_files_that_say_what_they_are(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == sorted([MANIFEST, WEIGHTS, CARD])
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["schema"] == artifact.SCHEMA and manifest["r2router"] == "1.2.3"
    assert manifest["weights_sha256"] == hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    assert manifest["arrays"]["f8"] == ["float64", [3, 5]]
    assert (folder / CARD).read_text() == "# old\n"
    assert list(folder.parent.iterdir()) == [folder], "nothing else is left beside it"


def test_the_same_router_saves_to_the_same_bytes(tmp_path: Path) -> None:
    words = [f"word {i}" for i in range(40)]
    for name, order in (("a", words), ("b", words[::-1])):  # equal sets come in different orders
        save(tmp_path / name, Thing("x", words=frozenset(order)))
    for name in (MANIFEST, WEIGHTS, CARD):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_files_can_be_read_by_others_as_umask_says(folder: Path) -> None:
    if os.name != "posix":
        pytest.skip("no umask here")
    umask = os.umask(0)
    os.umask(umask)
    assert (folder / MANIFEST).stat().st_mode & 0o777 == 0o666 & ~umask
    assert folder.stat().st_mode & 0o755 == 0o755


def test_saving_over_a_router_replaces_it(folder: Path) -> None:
    save(folder, NEW)
    assert content(folder) == "new"
    assert list(folder.parent.iterdir()) == [folder]


def test_what_a_person_put_beside_the_routers_files_stays(folder: Path) -> None:
    (folder / "report.html").write_text("figures")
    (folder / "notes").mkdir()
    (folder / "notes" / "1.txt").write_text("words")
    for _ in range(2):
        save(folder, NEW)
    assert content(folder) == "new"
    assert (folder / "report.html").read_text() == "figures" and (folder / "notes" / "1.txt").read_text() == "words"


def test_folders_on_the_way_are_made(tmp_path: Path) -> None:
    save(tmp_path / "a" / "b" / "router")
    assert content(tmp_path / "a" / "b" / "router") == "new"


def test_an_empty_folder_becomes_the_router(tmp_path: Path) -> None:
    (tmp_path / "router").mkdir()
    save(tmp_path / "router")
    assert content(tmp_path / "router") == "new"


@pytest.mark.parametrize("where", [".", "router", "router/", "./router/.", "router/../router"])
def test_folders_by_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    (tmp_path / "router").mkdir()
    monkeypatch.chdir(tmp_path / "router" if where == "." else tmp_path)
    for thing in (OLD, NEW):
        artifact.save(where, thing, ARRAYS, "", version="1")
        assert content(tmp_path / "router") == thing.name
        monkeypatch.chdir(tmp_path / "router" if where == "." else tmp_path)
    assert content(Path(where)) == "new"


def test_a_link_to_a_router_stays_a_link(tmp_path: Path) -> None:
    save(tmp_path / "v1", OLD)
    link = tmp_path / "current"
    try:
        link.symlink_to("v1", target_is_directory=True)
    except OSError:
        pytest.skip("links cannot be made here")
    for _ in range(3):
        save(link, NEW)
    assert link.is_symlink() and content(link) == content(tmp_path / "v1") == "new"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["current", "v1"]


@pytest.mark.parametrize("after", [MANIFEST, WEIGHTS])
def test_a_save_between_two_reads_of_a_load_is_no_damage(
    folder: Path, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    """As when a router is calibrated while a server loads it: one of the two is read, never a mixture."""
    real, saved = Path.read_bytes, 0

    def read(self: Path) -> bytes:
        nonlocal saved
        found = real(self)
        if self.name == after and saved < 3:
            saved += 1
            save(folder, NEW, ARRAYS | {"f8": np.full((3, 5), float(saved))})
        return found

    monkeypatch.setattr(Path, "read_bytes", read)
    thing, arrays = artifact.load(folder, Thing)
    if after == MANIFEST:
        assert saved == 3 and thing.name == "new" and (arrays["f8"] == 3.0).all()
    else:
        assert saved == 1 and thing.name == "old" and (arrays["f8"] == ARRAYS["f8"]).all()


def test_a_file_that_cannot_be_read_is_named(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / WEIGHTS).mkdir()
    with pytest.raises(ArtifactError, match=rf"{WEIGHTS}: cannot be read"):
        content(folder)


# -- what must not be overwritten -------------------------------------------------------------------------------------


def test_a_folder_that_is_not_a_router_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(SaveError, match="not a router"):
        save(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"
    assert [p.name for p in tmp_path.iterdir()] == ["thesis"]


def test_a_file_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "router").write_text("years of work")
    with pytest.raises(SaveError, match="not a router"):
        save(tmp_path / "router")
    assert (tmp_path / "router").read_text() == "years of work"


def test_a_folder_below_a_file_is_a_save_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="router"):
        save(tmp_path / "file" / "router")


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=rf"router: {name} is missing"):
        content(folder)


def test_the_card_is_for_people_only(folder: Path) -> None:
    (folder / CARD).unlink()
    assert content(folder) == "old"


def test_what_is_no_router_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere", tmp_path / "file"):
        if path.name == "file":
            path.write_text("x")
        with pytest.raises(ArtifactError, match=rf"{path.name}: no such router"):
            content(path)
    with pytest.raises(ArtifactError, match=rf"{MANIFEST} is missing"):
        content(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", [MANIFEST, WEIGHTS])
def test_a_truncated_file_is_refused(folder: Path, name: str, share: float) -> None:
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ArtifactError, match=name):
        content(folder)


def test_a_single_changed_bit_of_the_weights_is_noticed(folder: Path) -> None:
    whole = bytearray((folder / WEIGHTS).read_bytes())
    for at in (0, 8, len(whole) // 2, len(whole) - 1):
        altered = bytearray(whole)
        altered[at] ^= 1
        (folder / WEIGHTS).write_bytes(altered)
        with pytest.raises(ArtifactError, match=r"sha256.*truncated or altered"):
            content(folder)


@pytest.mark.parametrize(
    "edit",
    [
        lambda m: m.update(schema="1"),
        lambda m: m.update(schema=None),
        lambda m: m.update(schema=0),
        lambda m: m.update(schema=-1),
        lambda m: m.pop("schema"),
        lambda m: m.pop("weights_sha256"),
        lambda m: m.update(weights_sha256="0" * 64),
        lambda m: m.update(surprise=1),
        lambda m: m.pop("router"),
        lambda m: m.update(router=None),
        lambda m: m["router"].update(surprise=1),
        lambda m: m["router"].update(number="many"),
        lambda m: m["router"].pop("name"),
        lambda m: m["arrays"].pop("f8"),
        lambda m: m["arrays"].update(more=["float64", [1]]),
        lambda m: m["arrays"].update(f8=["float32", [3, 5]]),
        lambda m: m["arrays"].update(f8=["float64", [5, 3]]),
        lambda m: m["arrays"].update(f8="float64"),
    ],
)
def test_a_manifest_that_was_altered_is_refused(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    change(folder, edit)
    with pytest.raises(ArtifactError) as caught:
        content(folder)
    assert str(folder) in str(caught.value) and len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "text", [b"", b"null", b"[]", b"{}", b"\xff\xfe", b"not json", b'{"schema": 1', b"\x80\x04N.", b"[" * 100_000]
)
def test_a_manifest_that_is_something_else_is_refused(folder: Path, text: bytes) -> None:
    (folder / MANIFEST).write_bytes(text)
    with pytest.raises(ArtifactError, match=MANIFEST):
        content(folder)


def test_a_newer_schema_says_what_to_do_even_if_all_else_is_new(folder: Path) -> None:
    (folder / MANIFEST).write_text('{"schema": 99, "r2router": "42.0", "tensors": {"new": "world"}}')
    with pytest.raises(ArtifactError, match=r"schema 99 is newer .*42\.0.*upgrade"):
        content(folder)


class Bomb:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("hash_fits", [False, True])
def test_a_pickle_in_the_place_of_the_weights_is_never_executed(
    folder: Path, tmp_path: Path, protocol: int, hash_fits: bool
) -> None:
    mark = tmp_path / "executed"
    bomb = pickle.dumps(Bomb(mark), protocol)
    pickle.loads(bomb)
    assert mark.exists(), "the bomb works"
    mark.unlink()
    for name in (WEIGHTS, MANIFEST) if not hash_fits else (WEIGHTS,):
        (folder / name).write_bytes(bomb)
        if hash_fits:
            change(folder, lambda m: m.update(weights_sha256=hashlib.sha256(bomb).hexdigest()))
        with pytest.raises(ArtifactError):
            content(folder)
        assert not mark.exists()


def test_an_array_of_objects_cannot_be_smuggled_in(folder: Path, tmp_path: Path) -> None:
    """numpy's own format would unpickle these; safetensors has no such thing."""
    mark = tmp_path / "executed"
    np.save(folder / "weights.npy", np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    raw = (folder / "weights.npy").read_bytes()
    (folder / WEIGHTS).write_bytes(raw)
    change(folder, lambda m: m.update(weights_sha256=hashlib.sha256(raw).hexdigest()))
    with pytest.raises(ArtifactError, match="not a safetensors file"):
        content(folder)
    assert not mark.exists()


def safetensors_header(**entry: Any) -> bytes:
    header = json.dumps({"f8": entry}).encode()
    return len(header).to_bytes(8, "little") + header


@pytest.mark.parametrize(
    "raw",
    [
        safetensors_header(dtype="F8_E4M3", shape=[2], data_offsets=[0, 2]) + b"\0\0",
        safetensors_header(dtype="BF16", shape=[1], data_offsets=[0, 2]) + b"\0\0",
        safetensors_header(dtype="F64", shape=[2**40], data_offsets=[0, 2**43]),
        safetensors_header(dtype="F64", shape=[-1], data_offsets=[0, 8]) + b"\0" * 8,
        safetensors_header(dtype="F64", shape=[1], data_offsets=[8, 0]) + b"\0" * 8,
        (2**63).to_bytes(8, "little") + b"{}",
        b"",
    ],
    ids=["odd type", "no numpy type", "endless", "negative", "backwards", "huge header", "empty"],
)
def test_weights_whose_hash_fits_are_still_not_trusted(folder: Path, raw: bytes) -> None:
    (folder / WEIGHTS).write_bytes(raw)
    change(folder, lambda m: m.update(weights_sha256=hashlib.sha256(raw).hexdigest()))
    with pytest.raises(ArtifactError, match=WEIGHTS):
        content(folder)


def test_other_weights_whose_hash_fits_do_not_have_the_right_shapes(folder: Path) -> None:
    raw = to_bytes({"f8": np.zeros((3, 5))})
    (folder / WEIGHTS).write_bytes(raw)
    change(folder, lambda m: m.update(weights_sha256=hashlib.sha256(raw).hexdigest()))
    with pytest.raises(ArtifactError, match="names, types or shapes"):
        content(folder)


# -- a full disk ------------------------------------------------------------------------------------------------------

STEPS = {"mkdir": "mkdir", "open": "open", "fsync": "fsync", "rename": "rename", "chmod": "chmod"}


def leftovers(folder: Path) -> list[str]:
    return [p.name for p in folder.parent.iterdir() if p != folder]


@pytest.mark.parametrize("nth", range(4))
@pytest.mark.parametrize("step", STEPS)
def test_a_full_disk_at_any_step_leaves_the_old_router(
    folder: Path, monkeypatch: pytest.MonkeyPatch, step: str, nth: int
) -> None:
    calls, failed = 0, False
    real = getattr(os, step)

    def full(*args: Any, **more: Any) -> Any:
        nonlocal calls, failed
        calls += 1
        if calls == nth + 1:
            failed = True
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **more)

    monkeypatch.setattr(os, step, full)
    try:
        save(folder, NEW)
    except SaveError as error:
        assert "No space left" in str(error) and "untouched" in str(error)  # noqa: PT017
        outcome = "old"
    else:
        outcome = "new"
    monkeypatch.undo()
    assert outcome == "new" or failed
    assert content(folder) == outcome
    # where only the old router's removal failed, it lies about until the next save
    assert set(leftovers(folder)) <= ({".router.previous"} if outcome == "new" else set())
    save(folder, OLD)
    assert leftovers(folder) == []


class Short:
    """A file on a disk that has room for `room` bytes more."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def __enter__(self) -> Short:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, data: bytes) -> int:
        self.file.write(data[: self.room])
        if len(data) > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(data)
        return len(data)


@pytest.mark.parametrize("room", [0, 1, 100])
@pytest.mark.parametrize("name", [WEIGHTS, CARD, MANIFEST])
def test_a_disk_that_fills_in_the_middle_of_a_file_leaves_the_old_router(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, room: int
) -> None:
    real = Path.open

    def short(self: Path, mode: str = "r", *args: Any, **more: Any) -> Any:
        file = real(self, mode, *args, **more)
        return Short(file, min(room, 3)) if self.name == name and "w" in mode else file

    monkeypatch.setattr(Path, "open", short)
    with pytest.raises(SaveError, match="No space left"):
        save(folder, NEW)
    monkeypatch.undo()
    assert content(folder) == "old"
    assert leftovers(folder) == []


def test_an_interrupt_leaves_the_old_router_and_no_rubbish(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(folder, NEW)
    monkeypatch.undo()
    assert content(folder) == "old"
    assert leftovers(folder) == []


def test_a_first_save_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "rename", full)
    with pytest.raises(SaveError):
        save(tmp_path / "router")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 256 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        pytest.skip("only root on Linux can make a small disk")
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], check=False, capture_output=True
    ).returncode:
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.parametrize("size", [1_000, 15_000, 30_000])
def test_a_disk_that_is_really_full_leaves_the_old_router(small_disk: Path, size: int) -> None:
    save(small_disk / "router", OLD)
    big = ARRAYS | {"f8": np.zeros(size)}  # 8 bytes each: the larger ones cannot fit beside the old router
    for filled in (0, 100_000, 200_000):
        (small_disk / "filler").write_bytes(b"\0" * filled)
        try:
            save(small_disk / "router", NEW, big)
        except SaveError as error:
            assert "untouched" in str(error)  # noqa: PT017
            assert artifact.load(small_disk / "router", Thing)[0].name == "old"
        else:
            assert artifact.load(small_disk / "router", Thing)[0].name == "new"
        assert sorted(p.name for p in small_disk.iterdir()) == ["filler", "router"]
        save(small_disk / "router", OLD, {"f8": np.zeros(1)})
    assert size == 1_000 or 8 * size > 56_000


@pytest.mark.skipif(os.name != "posix", reason="limits of file size are a matter of POSIX")
def test_a_limit_of_file_size_leaves_the_old_router(folder: Path) -> None:
    done = run_child(folder, "import resource, signal; resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\nsave()")
    assert "SaveError" in done.stderr and "untouched" in done.stderr
    assert content(folder) == "old"
    assert leftovers(folder) == []


# -- a kill -----------------------------------------------------------------------------------------------------------

CHILD = """
import json, os, sys
import numpy as np
import msgspec
from pathlib import Path
from r2router.router import artifact
import safetensors.numpy, shutil, tempfile

class Thing(msgspec.Struct):
    name: str
    number: float = 0.0

folder = Path({folder!r})

def save():
    artifact.save(folder, Thing("new"), dict(f8=np.arange(40.0), f4=np.zeros((2, 3), np.float32)), "# new", version="1")

{body}
"""


def run_child(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    code = CHILD.format(folder=str(folder), body=body)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)


KILL_EVERYWHERE = """
def old():
    artifact.save(folder, Thing("old"), dict(f8=np.arange(40.0), f4=np.zeros((2, 3), np.float32)), "# old", version="1")

os.fsync = lambda _: None  # a kill does not lose what was written, only a power cut does; and it is slow
seen = []
for stop in range(100_000):
    for rest in folder.parent.iterdir():
        shutil.rmtree(rest)
    old()
    child = os.fork()
    if child == 0:
        count = 0
        watched = (artifact.__file__, shutil.__file__)

        def trace(frame, event, arg):
            global count
            if frame.f_code.co_filename not in watched:
                return None
            if event == "line":
                if count == stop:
                    os._exit(137)
                count += 1
            return trace

        sys.settrace(trace)
        save()
        sys.settrace(None)
        os._exit(0)
    killed = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    thing, arrays = artifact.load(folder, Thing)
    assert arrays["f8"].tolist() == list(range(40)) and arrays["f4"].shape == (2, 3)
    seen.append(thing.name)
    save()  # the next save copes with whatever the kill left
    assert artifact.load(folder, Thing)[0].name == "new"
    if not killed:
        break
print(json.dumps(seen))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_kill_at_every_line_of_a_save_leaves_the_old_router_or_the_new_one(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    done = run_child(home / "router", KILL_EVERYWHERE)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert len(seen) > 40, "the save was not stopped at many places"
    assert seen[0] == "old" and seen[-1] == "new"
    assert seen == sorted(seen, reverse=True), "once the new router stands, it stays"


def test_a_router_whose_save_was_killed_between_its_renames_is_found(folder: Path) -> None:
    """By its own name, and by a link to it."""
    aside = folder.with_name(".router.previous")
    link = folder.with_name("link")
    link.symlink_to(folder)
    folder.rename(aside)
    assert content(folder) == content(link) == "old"
    save(folder, NEW)
    assert content(folder) == "new" and not aside.exists()


def test_a_price_changed_by_hand_is_noticed(tmp_path: Path) -> None:
    save(tmp_path / "router")
    raw = (tmp_path / "router" / MANIFEST).read_text()
    envelope = json.loads(raw)
    (key, value) = next((k, v) for k, v in envelope["router"].items() if isinstance(v, (int, float, str)))
    change(tmp_path / "router", lambda m: m["router"].update({key: value * 2}))
    with pytest.raises(ArtifactError, match="altered by hand"):
        artifact.load(tmp_path / "router", Thing)
    (tmp_path / "router" / MANIFEST).write_text(json.dumps(envelope, indent=4))  # white space is no change
    artifact.load(tmp_path / "router", Thing)
