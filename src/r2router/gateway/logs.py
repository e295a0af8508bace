"""One line per request on stderr, as text or JSON. It holds no text of a prompt or an answer, and no key."""

from __future__ import annotations

import sys
import time
from typing import Any, Literal, TextIO

import msgspec

from r2router.text import clean, money


class Log:
    """Writes log lines.

    kind: `text`, `json` or `none`.
    """

    def __init__(self, kind: Literal["text", "json", "none"], stream: TextIO | None = None) -> None:
        self._kind, self._stream = kind, stream

    def request(self, **said: Any) -> None:
        """Log a finished request."""
        if self._kind == "none":
            return
        if self._kind == "json":
            known = {k: v for k, v in said.items() if v is not None}
            self._write(msgspec.json.encode({"time": time.time(), "event": "request", **known}).decode())
            return
        cost = said.get("cost_usd")
        arm = said.get("served") or said.get("arm") or "-"
        asked = said.get("asked") or "-"
        told = f"{said['status']} {said['endpoint']} {asked} -> {arm} {said['latency_s']:.2f} s"
        more = ["" if cost is None else money(cost), said.get("state") or "", said.get("note") or "", said["id"]]
        self._write(" ".join((told, *(part for part in more if part))))

    def say(self, words: str, **more: Any) -> None:
        """Log anything else."""
        if self._kind == "json":
            self._write(msgspec.json.encode({"time": time.time(), "event": "note", "message": words, **more}).decode())
        elif self._kind == "text":
            self._write(words)

    def _write(self, line: str) -> None:
        stream = self._stream or sys.stderr
        stream.write(clean(line) + "\n")
        stream.flush()
