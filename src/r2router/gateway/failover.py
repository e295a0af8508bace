"""What a failed attempt means for the next one, and which models are known to fail now."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from r2router.upstream.limits import retry_after, seconds
from r2router.upstream.wire import kind_of, said

Action = Literal["next", "larger", "return", "plain"]
"""next: the next fallback. larger: one with a larger context window. return: the client gets the error. plain: the same
model again, without `stream_options`.
"""

_STREAM_OPTIONS = re.compile(r"stream_options|include_usage", re.IGNORECASE)
_FAILURES = 3  # in a row
_SHORTEST_S, _LONGEST_S = 5.0, 120.0
_MAX_ASKED_S = 600.0


def action_of(status: int, body: bytes, *, asked_usage: bool) -> Action:
    """Decide what to do after an error of a provider.

    Refusals, unknown models and malformed requests are shown to the client; problems of our key or account are not.
    """
    words = said(body)
    if status in (400, 422) and asked_usage and _STREAM_OPTIONS.search(words):
        return "plain"
    if 300 <= status < 400:
        return "next"
    match kind_of(status, words):
        case "context":
            return "larger"
        case "rate_limit" | "server" | "key" | "credit":
            return "next"
        case _:
            return "return"


def within_200(error: Any) -> int:
    """Return the status that an error reported under status 200 stands for."""
    code = error.get("code") if isinstance(error, dict) else None
    if isinstance(code, str) and re.fullmatch("[45][0-9][0-9]", code):
        code = int(code)
    if type(code) is int and 400 <= code < 600:
        return code
    kind = str(error.get("type") or code or "") if isinstance(error, dict) else ""
    named = {
        "rate_limit": 429, "overloaded": 529, "insufficient_quota": 429, "invalid_request": 400, "not_found": 404,
        "authentication": 401,
        "permission": 403, "context_length": 400,
    }  # fmt: skip
    return next((status for word, status in named.items() if word in kind), 502)


def wait_of(headers: Mapping[str, str], body: bytes) -> float | None:
    """Read the seconds that an error asks to wait: from its headers, or from its body (Google's `retryDelay`, OpenAI's
    `try again in`).
    """
    asked = retry_after(headers)
    if asked is None and (found := _DELAY.search(body[:65_536])):
        asked = seconds(found[1].decode())
    return None if asked is None else min(asked, _MAX_ASKED_S)


_DELAY = re.compile(rb'(?:"retryDelay"\s*:\s*"|try again in )((?:[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|s|m|h)){1,4})')


class _Trouble(msgspec.Struct):
    failures: int = 0
    until: float = 0.0
    pause: float = _SHORTEST_S


class Breaker:
    """A circuit breaker: remembers failing providers and models.

    A failing model is asked last until its pause is over. One success clears it.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Trouble] = {}

    def failed(self, provider: str, model: str, *, wait: float | None = None, whole: bool = False) -> None:
        """Record a failure.

        wait: seconds that the provider asks to wait.
        whole: whether the whole provider fails (its key, its network), not only the model.
        """
        found = self._known.setdefault((provider, "" if whole else model), _Trouble())
        found.failures += 1
        now = time.monotonic()
        if wait is not None:
            found.until = max(found.until, now + wait)
        elif found.failures >= _FAILURES or whole:
            found.until = now + found.pause
            found.pause = min(2 * found.pause, _LONGEST_S)

    def succeeded(self, provider: str, model: str) -> None:
        """Record a success."""
        if self._known:
            self._known.pop((provider, model), None)
            self._known.pop((provider, ""), None)

    def open(self, provider: str, model: str) -> bool:
        """Return whether it is known to fail now."""
        if not self._known:
            return False
        now = time.monotonic()
        return any(found.until > now for key in ((provider, model), (provider, "")) if (found := self._known.get(key)))

    def troubles(self) -> dict[str, float]:
        """Return what fails now, with the seconds until it is tried normally again."""
        now = time.monotonic()
        return {f"{p}/{m}" if m else p: found.until - now for (p, m), found in self._known.items() if found.until > now}
