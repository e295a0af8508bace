"""Comparing two formulas with math-verify: what the scorer `math` runs in its sandbox, and nobody imports outside of it."""

from __future__ import annotations

import contextlib

import msgspec

from r2router.bench.suite import Score
from r2router.final_answer import first_line

NAME = "math"
_SECONDS = 5


def verify(data: bytes) -> bytes:
    """Compare (reference, answer)."""
    try:
        import math_verify
    except ImportError:
        why = "math-verify is not installed; pip install 'r2router[bench]'"
        return msgspec.json.encode(Score(quality=None, judge=NAME, error=why))
    reference, answer = msgspec.json.decode(data, type=tuple[str, str])
    wanted = _read(_boxed(reference))
    if not wanted:
        why = f"the reference {reference[:80]!r} is no formula; score it with `exact`, or an LLM judge"
        return msgspec.json.encode(Score(quality=None, judge=NAME, error=why))
    shown = [answer] if "\\boxed" in answer else [_boxed(first_line(answer).strip("$*_` ").rstrip(".").rstrip("$")), answer]
    same = any(math_verify.verify(wanted, _read(text), timeout_seconds=_SECONDS) for text in shown)
    return msgspec.json.encode(Score(quality=float(same), judge=NAME))


def _boxed(text: str) -> str:
    return f"\\boxed{{{text}}}"


def _read(text: str) -> list[object]:
    import math_verify

    return math_verify.parse(text, parsing_timeout=_SECONDS)


with contextlib.suppress(ImportError):  # its grammar is built once, before the processes of the answers begin
    _read(r"$\frac{x}{2}$")
