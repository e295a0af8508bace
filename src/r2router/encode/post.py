"""One JSON request with retries, on the standard library, by the rules for every endpoint (`upstream.endpoint`)."""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import math
import socket
import threading
import time
import urllib.error
import urllib.request
from typing import Any

from r2router.errors import EncoderError
from r2router.upstream.endpoint import Inflate, Mask, TooMuch, headers
from r2router.upstream.limits import retry_after
from r2router.upstream.wire import one_line, said

LONGEST_WAIT_S = 20.0
_MAX_ERROR_BYTES = 65_536


def post_json(
    url: str, body: Any, key: str, *, timeout_s: float, attempts: int, backoff_s: float, max_bytes: int
) -> bytes:
    """Return the reply of a successful request, of at most `max_bytes`.

    key: sent as a bearer token unless empty.
    timeout_s: of one attempt.

    429, 5xx, timeouts and dropped connections are tried again, everything else fails at once. Raises `EncoderError`.
    """
    request = urllib.request.Request(url, json.dumps(body).encode())  # noqa: S310  the caller allows http and https only
    for name, value in headers(key).items():
        request.add_unredirected_header(name, value)
    mask = Mask(key)
    for attempt in range(1, max(1, attempts) + 1):
        wait = min(backoff_s * 2 ** (attempt - 1), LONGEST_WAIT_S)
        try:
            with _Deadline(timeout_s) as watch, watch.opener().open(request, timeout=timeout_s) as response:
                reply = _read(response, max_bytes)
                watch.check()
                return reply
        except urllib.error.HTTPError as error:
            with error:
                problem = _explain_status(error, url, keyed=bool(key))
                retry = error.code == 429 or error.code >= 500
                asked = retry_after(dict(error.headers.items()) if error.headers else {})
                wait = wait if asked is None else min(asked, LONGEST_WAIT_S)
        except TooMuch as error:
            raise EncoderError(f"{url} {error}") from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            late = isinstance(reason, TimeoutError) or watch.over
            problem = (
                f"{url} cannot be reached:"
                f" {f'no answer in {timeout_s:g} s' if late else one_line(str(reason) or repr(reason), 200)}"
            )
            retry = late or isinstance(reason, (ConnectionResetError, BrokenPipeError, http.client.HTTPException))
        if not retry:
            raise EncoderError(mask.error(problem))
        if attempt < attempts:
            time.sleep(wait)
    raise EncoderError(mask.error(f"{problem} (tried {attempts} times)"))


def _read(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    inflate = Inflate(max_bytes, response.headers.get("Content-Encoding", ""))
    reply = bytearray()
    while data := response.read1(65_536):
        for part in inflate.feed(data):
            reply += part
    if response.length:  # else it was chunked, or is all there
        raise http.client.IncompleteRead(b"", response.length)
    return bytes(reply)


class _Deadline:
    """Ends an attempt when its time is over, however often the endpoint sends a byte: `over` says that it did.

    A timeout of urllib is one of each read alone.
    """

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(
            min(seconds, threading.TIMEOUT_MAX) if math.isfinite(seconds) else threading.TIMEOUT_MAX, self._end
        )
        self._timer.daemon = True

    def __enter__(self) -> _Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def check(self) -> None:
        """Raise TimeoutError where the time was over, as what was read by then looks whole."""
        if self.over:
            raise TimeoutError

    def _end(self) -> None:
        self.over = True
        for connected in self._sockets:
            with contextlib.suppress(OSError):
                connected.shutdown(socket.SHUT_RDWR)

    def opener(self) -> urllib.request.OpenerDirector:
        """Return an opener that follows no redirect: urllib would send the key on to wherever the endpoint points."""
        return urllib.request.build_opener(_NoRedirect, _http(self._sockets), _https(self._sockets))


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None


def _http(sockets: list[socket.socket]) -> urllib.request.HTTPHandler:
    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            sockets.append(self.sock)

    class Handler(urllib.request.HTTPHandler):
        def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(functools.partial(Connection), req)

    return Handler()


def _https(sockets: list[socket.socket]) -> urllib.request.HTTPSHandler:
    class SecureConnection(http.client.HTTPSConnection):
        def connect(self) -> None:
            super().connect()
            sockets.append(self.sock)

    class SecureHandler(urllib.request.HTTPSHandler):
        def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
            return self.do_open(functools.partial(SecureConnection), req)

    return SecureHandler()


def _explain_status(error: urllib.error.HTTPError, url: str, *, keyed: bool) -> str:
    """Return one line for an HTTP error. What the endpoint says about a key is not repeated: some quote it."""
    if error.code in (401, 403):
        if keyed:
            return f"{url} refused the key in OPENAI_API_KEY ({error.code}); check that it is for this endpoint"
        return (
            f"{url} asks for a key ({error.code}): set OPENAI_API_KEY; it is only sent to the host of OPENAI_BASE_URL,"
            " so set that too where the endpoint is not OpenAI's own"
        )
    if 300 <= error.code < 400:
        return f"{url} points elsewhere ({error.code}); give the final URL"
    begun = bytearray()
    with contextlib.suppress(OSError, http.client.HTTPException, ValueError, TooMuch):  # its beginning says enough
        inflate = Inflate(_MAX_ERROR_BYTES, error.headers.get("Content-Encoding", ""))
        for part in inflate.feed(error.read(_MAX_ERROR_BYTES)):
            begun += part
    words = one_line(said(bytes(begun)), 200)
    return f"{url} answered {error.code}{f': {words}' if words else ''}"
