"""Connections to providers. One attempt, no retry, no redirect, no cookie; a reply is passed on as it comes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Protocol

from r2router._version import __version__
from r2router.errors import MissingExtra
from r2router.gateway.config import Served

if TYPE_CHECKING:
    import aiohttp

CONNECT_S = 10.0


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

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], provider: Served, wait_s: float
    ) -> Exchange:
        http = self._http
        timeout = http.ClientTimeout(
            total=None, sock_connect=min(CONNECT_S, wait_s), sock_read=min(self._silence_s, provider.timeout_s)
        )
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
            connector = http.TCPConnector(limit=0, ttl_dns_cache=300, keepalive_timeout=15)
            self._session = http.ClientSession(
                connector=connector,
                cookie_jar=http.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                skip_auto_headers=("User-Agent",),
            )
        return self._session


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


def reply_headers(upstream: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Select the provider's headers that clients use: never cookies, redirects, or those of the connection."""
    found = []
    for name, value in upstream.items():
        low = name.lower()
        if low in _RETURNED or low.startswith(_RETURNED_PREFIXES):
            found.append((low.encode("latin-1"), value.encode("latin-1", "replace")))
    return found
