"""One JSON request with retries, on the standard library. Keys never reach a message, and never follow a redirect."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from typing import Any

from r2router._version import __version__
from r2router.errors import EncoderError

LONGEST_WAIT_S = 20.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """urllib would send the key on to wherever the endpoint points."""

    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def post_json(url: str, body: Any, key: str, *, timeout_s: float, attempts: int, backoff_s: float) -> bytes:
    """The reply of a successful request. key: sent as a bearer token unless empty.

    429, 5xx, timeouts and dropped connections are tried again, everything else fails at once. Raises `EncoderError`.
    """
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})  # noqa: S310  the caller allows http and https only
    request.add_header("User-Agent", f"r2router/{__version__}")
    if key:
        if not (key.isascii() and key.isprintable()):
            raise EncoderError("OPENAI_API_KEY holds characters that a key cannot have; set it again")
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    opener = urllib.request.build_opener(_NoRedirect)
    for attempt in range(1, max(1, attempts) + 1):
        wait = min(backoff_s * 2 ** (attempt - 1), LONGEST_WAIT_S)
        try:
            with opener.open(request, timeout=timeout_s) as response:
                reply: bytes = response.read()
                return reply
        except urllib.error.HTTPError as error:
            with error:
                problem = _explain_status(error, url, key)
                retry = error.code == 429 or error.code >= 500
                wait = _retry_after(error, wait)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            timed_out = isinstance(reason, TimeoutError)
            problem = f"{url} cannot be reached: {f'no answer in {timeout_s:g} s' if timed_out else _one_line(str(reason) or repr(reason))}"
            retry = timed_out or isinstance(reason, (ConnectionResetError, BrokenPipeError, http.client.HTTPException))
        if not retry:
            raise EncoderError(problem)
        if attempt < attempts:
            time.sleep(wait)
    raise EncoderError(f"{problem} (tried {attempts} times)")


def _explain_status(error: urllib.error.HTTPError, url: str, key: str) -> str:
    """One line for an HTTP error. What the endpoint says about a key is not repeated: some quote it."""
    if error.code in (401, 403):
        if key:
            return f"{url} refused the key in OPENAI_API_KEY ({error.code}); check that it is for this endpoint"
        return (
            f"{url} asks for a key ({error.code}): set OPENAI_API_KEY; it is only sent to the host of OPENAI_BASE_URL, so set that too "
            "where the endpoint is not OpenAI's own"
        )
    if 300 <= error.code < 400:
        return f"{url} points elsewhere ({error.code}); give the final URL"
    try:
        said = error.read(65_536).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        said = ""
    try:
        detail = json.loads(said)
        detail = detail.get("error", detail)
        said = str(detail.get("message", detail) if isinstance(detail, dict) else detail)
    except (ValueError, AttributeError, RecursionError):
        pass
    said = _one_line(said.replace(key, "***") if key else said)
    return f"{url} answered {error.code}{f': {said}' if said else ''}"


def _one_line(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= 200 else line[:197] + "..."


def _retry_after(error: urllib.error.HTTPError, wait: float) -> float:
    """Seconds to wait: what Retry-After says where it is a number, else `wait`."""
    try:
        return min(max(float(error.headers.get("Retry-After", wait)), 0.0), LONGEST_WAIT_S)
    except ValueError:
        return wait
