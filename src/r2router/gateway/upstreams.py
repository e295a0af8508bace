"""Connections to providers. One attempt, no retry, no redirect, no cookie; a reply is passed on as it comes."""

from __future__ import annotations

import asyncio
import select
from collections.abc import AsyncIterator, Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

from r2router._version import __version__
from r2router.errors import MissingExtra
from r2router.gateway.config import Served
from r2router.text import clean
from r2router.upstream.endpoint import mask_of

if TYPE_CHECKING:
    import aiohttp

CONNECT_S = 10.0
_IDLE_S = 4.0
"""Seconds after which an unused connection is closed: before a server closes it, of which 5 s is the usual first
setting (uvicorn, Node). A request on a connection that is closed meanwhile has no answer, and nobody knows whether it
was read, so that it cannot be sent again.
"""
_ENDED = getattr(select, "POLLRDHUP", 0) | getattr(select, "POLLHUP", 0)


class Unreached(Exception):
    """No reply came.

    timeout: whether it took too long, so that the provider may bill for it.
    """

    def __init__(self, message: str, *, timeout: bool = False, sent: bool = False) -> None:
        super().__init__(message)
        self.message, self.timeout, self.sent = message, timeout, sent


class BrokenOff(Exception):
    """A reply that had begun ended too early."""


class Exchange(Protocol):
    """A reply that is being received."""

    status: int

    @property
    def headers(self) -> Mapping[str, str]: ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces as they arrive. Raises `BrokenOff`."""
        ...

    def close(self, *, whole: bool) -> None:
        """Return the connection to the pool where the reply was read completely; else close it, so that the provider
        stops.
        """
        ...


class Caller(Protocol):
    """Sends requests to providers."""

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], provider: Served, wait_s: float
    ) -> Exchange:
        """Send a request and wait at most `wait_s` seconds for the head of its reply. Raises `Unreached`."""
        ...

    async def close(self) -> None:
        """Close all connections."""
        ...


class Network:
    """Sends requests over HTTP."""

    def __init__(self, silence_s: float) -> None:
        try:
            import aiohttp
        except ImportError:
            raise MissingExtra("the gateway needs the [serve] extra: pip install 'r2router[serve]'") from None
        self._http, self._silence_s = aiohttp, silence_s
        self._session: aiohttp.ClientSession | None = None
        self._timeout = lru_cache(maxsize=64)(
            lambda connect, read: aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=read)
        )

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], provider: Served, wait_s: float
    ) -> Exchange:
        http = self._http
        timeout = self._timeout(min(CONNECT_S, wait_s), min(self._silence_s, provider.timeout_s))
        try:
            async with asyncio.timeout(wait_s):
                response = await self._open().post(
                    url, data=body, headers=headers, allow_redirects=False, timeout=timeout
                )
        except http.ConnectionTimeoutError:
            raise Unreached("could not be reached in time") from None
        except TimeoutError:
            raise Unreached("did not answer in time", timeout=True, sent=True) from None
        except http.ClientConnectorError:
            raise Unreached("could not be reached") from None
        except (http.ClientError, OSError, ValueError):
            raise Unreached("closed the connection without an answer", sent=True) from None
        return _Response(response, http)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            http = self._http
            connector = _checked(http.TCPConnector)(limit=0, ttl_dns_cache=300, keepalive_timeout=_IDLE_S)
            self._session = http.ClientSession(
                connector=connector,
                cookie_jar=http.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                skip_auto_headers=("User-Agent",),
            )
        return self._session


def _checked(connector: type[Any]) -> type[Any]:
    """A connector that looks at a connection before a request is sent on it.

    aiohttp learns from the event loop that a server has closed a connection; under load the request may come first.
    """

    class Checked(connector):  # type: ignore[misc,valid-type,unused-ignore]
        async def connect(self, *asked: Any, **more: Any) -> Any:
            for _ in range(_MAX_ENDED):
                found = await super().connect(*asked, **more)
                if not _ended(found.transport):
                    break
                found.close()
            return found

    return Checked


_MAX_ENDED = 256


def _ended(transport: asyncio.Transport | None) -> bool:
    """Whether the other side has closed a connection, as the operating system knows it; false where it cannot say."""
    wire = None if transport is None else transport.get_extra_info("socket")
    if wire is None or not _ENDED:
        return False
    poll = select.poll()
    poll.register(wire, _ENDED)
    return bool(poll.poll(0))


class _Response:
    def __init__(self, response: aiohttp.ClientResponse, http: object) -> None:
        self._response, self._http = response, http
        self.status = response.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._response.headers

    async def chunks(self) -> AsyncIterator[bytes]:
        import aiohttp

        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except TimeoutError:
            raise BrokenOff("was silent for too long") from None
        except (aiohttp.ClientError, OSError, ValueError):
            raise BrokenOff("broke off") from None

    def close(self, *, whole: bool) -> None:
        if whole:
            self._response.release()
        else:
            self._response.close()


_FORWARDED = (b"accept", b"openai-beta", b"idempotency-key", b"http-referer", b"x-title")
_ANTHROPIC_VERSION = "2023-06-01"


def request_headers(client: Mapping[bytes, bytes], provider: Served, key: str, *, native: bool) -> dict[str, str]:
    """Make the headers for a provider: its key, and those of the client's headers that mean something to an API.

    native: whether it is asked in Anthropic's format, which has its own header for the key.
    """
    sent = {"Content-Type": "application/json", "Accept-Encoding": "identity", "User-Agent": f"r2router/{__version__}"}
    for name, value in client.items():
        if name in _FORWARDED or (native and name.startswith(b"anthropic-")):
            sent[name.decode("latin-1")] = value.decode("latin-1")
    if native:
        sent.setdefault("anthropic-version", _ANTHROPIC_VERSION)
    if key and native and provider.dialect == "anthropic":
        sent["x-api-key"] = key
    elif key:
        sent["Authorization"] = f"Bearer {key}"
    return sent


_RETURNED = (
    "content-type",
    "content-encoding",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "x-request-id",
    "request-id",
)
_RETURNED_PREFIXES = (
    "x-ratelimit-",
    "anthropic-ratelimit-",
    "anthropic-organization",
    "openai-processing",
    "openai-version",
)


def reply_headers(upstream: Mapping[str, str], keys: Iterable[str] = ()) -> list[tuple[bytes, bytes]]:
    """Select the provider's headers that clients use: never cookies, redirects, those of the connection, or those that
    quote one of these keys.
    """
    found = [(low, clean(value)) for name, value in upstream.items() if (low := _returned(name))]
    masks = [mask_of(key) for key in keys]
    return [
        (name, value.encode("latin-1", "replace"))
        for name, value in found
        if not any(mask.finds(value) for mask in masks)
    ]


@lru_cache(maxsize=512)  # a provider sends the same ones each time
def _returned(name: str) -> bytes:
    """The name under which a provider's header goes to the client; empty where it does not."""
    low = name.lower()
    return low.encode("latin-1") if low in _RETURNED or low.startswith(_RETURNED_PREFIXES) else b""
