"""What the calls under way may cost at most, where a kill leaves it for the next run to count."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from r2router.errors import JournalError, SaveError

_DIGITS = 20
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)


def _write_at_begin(fd: int, data: bytes) -> None:
    if hasattr(os, "pwrite"):  # not on Windows
        os.pwrite(fd, data, 0)
        return
    os.lseek(fd, 0, os.SEEK_SET)
    os.write(fd, data)


class InFlightFile:
    """A file `NAME.in-flight` beside a journal: one number, the nano-dollars under way. The caller holds the journal's
    lock.

    left: what an earlier run left.

    The file exists only while the number is above 0. It is written without waiting for the disk: a killed process loses
    nothing of it, a power cut may lose the last seconds. Raises `JournalError` where the file was not written by
    r2router.
    """

    def __init__(self, journal: Path) -> None:
        self.path = journal.with_name(f"{journal.name}.in-flight")
        self._fd: int | None = None
        self._now = self.left = self._read()

    def put(self, nano: int) -> None:
        """Write down how much money is under way now, in nano-dollars. Raises `SaveError`."""
        if nano == self._now:
            return
        try:
            if self._fd is None:
                self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | _NOFOLLOW, 0o644)
            _write_at_begin(self._fd, f"{nano:0{_DIGITS}d}\n".encode())
        except OSError as error:
            raise SaveError(
                f"{self.path}: cannot be written ({error.strerror or error}); no call is made that could not be counted"
            ) from None
        self._now = nano

    def close(self) -> None:
        """Take the file away, unless calls were left under way."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        if not self._now:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)

    def _read(self) -> int:
        try:
            fd = os.open(self.path, os.O_RDONLY | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0))
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise JournalError(f"{self.path}: cannot be read ({error.strerror or error})") from None
        try:
            text = os.read(fd, 100).strip()
        except OSError as error:
            raise JournalError(f"{self.path}: cannot be read ({error.strerror or error})") from None
        finally:
            os.close(fd)
        if text and not (text.isdigit() and len(text) <= _DIGITS):
            raise JournalError(
                f"{self.path}: does not hold a number of nano-dollars; delete it if no run was killed here"
            )
        return int(text or b"0")
