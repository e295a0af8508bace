"""Writing files so that nothing is lost: a file is there as a whole, or what was there before stays."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from r2router.errors import SaveError


@contextmanager
def whole_file(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write that takes its name only when all of it is on the disk; otherwise what was there before stays.

    Raises `SaveError` where that does not work.
    """
    path = Path(os.path.realpath(path))  # a link stays a link
    if path.exists() and not path.is_file():
        raise SaveError(f"{path}: is not a file that can be replaced")
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        file = partial.open("wb")
    except OSError as error:
        raise _unsaved(path, error) from None
    try:
        with file:
            yield file
            _through(file, path)
        os.replace(partial, path)
    except OSError as error:
        raise _unsaved(path, error) from None
    finally:
        partial.unlink(missing_ok=True)


def _through(file: BinaryIO, path: Path) -> None:
    file.flush()
    os.fsync(file.fileno())


def _unsaved(path: Path, error: OSError) -> SaveError:
    return SaveError(f"{path}: cannot be written ({error.strerror or error}); what was there before is untouched")
