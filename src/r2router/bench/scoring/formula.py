"""Comparing two formulas with math-verify: what the scorer `math` runs in its sandbox, and nobody imports outside of
it.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import msgspec

from r2router.bench.suite import Score
from r2router.final_answer import first_line

T = TypeVar("T")
NAME = "math"
_SECONDS = 5.0
"""CPU time for reading the reference, and for each reading and comparing of an answer. Time on the clock would count
other programs too.
"""


def verify(data: bytes) -> bytes:
    """Compare (reference, answer)."""
    try:
        import math_verify
    except ImportError:
        why = "math-verify is not installed; pip install 'r2router[bench]'"
        return msgspec.json.encode(Score(quality=None, judge=NAME, error=why))
    reference, answer = msgspec.json.decode(data, type=tuple[str, str])
    wanted: list[object] = _limited(lambda: _read(_boxed(reference)), list[object]())
    if not wanted:
        why = f"the reference {reference[:80]!r} is no formula; score it with `exact`, or an LLM judge"
        return msgspec.json.encode(Score(quality=None, judge=NAME, error=why))
    shown = (
        [answer] if "\\boxed" in answer else [_boxed(first_line(answer).strip("$*_` ").rstrip(".").rstrip("$")), answer]
    )

    def equal(text: str) -> bool:
        return bool(math_verify.verify(wanted, _read(text), timeout_seconds=None))

    same = any(_limited(partial(equal, text), False) for text in shown)
    return msgspec.json.encode(Score(quality=float(same), judge=NAME))


def _boxed(text: str) -> str:
    return f"\\boxed{{{text}}}"


def _read(text: str) -> list[object]:
    import math_verify

    return math_verify.parse(text, parsing_timeout=None)


def _limited(work: Callable[[], T], otherwise: T) -> T:
    """Return what the work gives within its CPU time, else what is given instead. math-verify's own limits are on the
    clock.
    """
    signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, _SECONDS)
    try:
        return work()
    except _TookTooLong:
        return otherwise
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


class _TookTooLong(BaseException):
    """The formula took too long. Not an `Exception`, as sympy and math-verify catch those and go on."""


def _stop(*_: object) -> None:
    raise _TookTooLong


with contextlib.suppress(ImportError):  # its grammar is built once, before the processes of the answers begin
    _read(r"$\frac{x}{2}$")
