"""Incoming requests: their headers, their sender, and their bodies, limited in size and time."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from functools import lru_cache
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from r2router.errors import Refused
from r2router.gateway.config import Bounds
from r2router.upstream.endpoint import MB, Inflate, TooMuch

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_MAX_NAMES = 1024  # characters of `Host` and `Origin`: those of this machine are short
_IN_LOOP = 256 * 1024  # packed bytes above which unpacking is done in a thread


class Gone(Exception):
    """The client has left."""


_IDS: list[str] = []
"""Random ids that nobody has yet: a system call per request would be a chance for other threads to hold up the loop."""
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_IDS.clear)


def _random_id() -> str:
    while True:
        try:
            return _IDS.pop()
        except IndexError:
            drawn = os.urandom(16 * 256).hex()
            _IDS.extend([drawn[at : at + 32] for at in range(0, len(drawn), 32)])


class Incoming:
    """One request.

    id: made here, never taken from the client, as the ledger's rows are found by it.
    """

    __slots__ = ("_headers", "id", "method", "path", "query", "receive", "scope")

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.scope, self.receive = scope, receive
        self.id = f"req_{_random_id()}"
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query: bytes = scope.get("query_string", b"")
        self._headers: dict[bytes, bytes] = dict(scope["headers"])

    def header(self, name: bytes) -> str:
        """Return a header's value; empty where it is absent."""
        value = self._headers.get(name)
        return value.decode("latin-1") if value else ""

    @property
    def headers(self) -> dict[bytes, bytes]:
        return self._headers

    async def body(self, bounds: Bounds) -> bytes:
        """Read the whole body, decompressed. Raises `Refused` where it is too large, too slow or in an unknown
        encoding, and `Gone`.
        """
        maximum = int(bounds.body_mb * MB)
        declared = self.header(b"content-length")
        if declared.isdigit() and int(declared[:18]) > maximum:
            raise _too_large(maximum)
        message = await self._part(bounds, 0.0)
        data: bytes = message.get("body", b"")
        if message.get("more_body"):
            deadline = asyncio.get_running_loop().time() + bounds.body_s
            parts, size = [data], len(data)
            while message.get("more_body"):
                message = await self._part(bounds, deadline)
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > maximum:
                    raise _too_large(maximum)
            data = b"".join(parts)
        coding = self.header(b"content-encoding").strip().lower()
        if coding in ("", "identity"):
            return data
        if len(data) > _IN_LOOP:
            return await asyncio.to_thread(unpacked, data, coding, maximum)
        return unpacked(data, coding, maximum)

    async def _part(self, bounds: Bounds, deadline: float) -> MutableMapping[str, Any]:
        try:
            async with asyncio.timeout_at(deadline or asyncio.get_running_loop().time() + bounds.body_s):
                message = await self.receive()
        except TimeoutError:
            raise Refused(
                f"the body did not arrive within {bounds.body_s:g} s", status=408, code="request_timeout"
            ) from None
        if message["type"] == "http.disconnect":
            raise Gone
        return message


def _too_large(maximum: int) -> Refused:
    return Refused(
        f"the body is larger than {maximum / MB:g} MB (limits.body_mb)", status=413, code="request_too_large"
    )


def unpacked(data: bytes, coding: str, maximum: int) -> bytes:
    """Decompress a body, up to a maximum size in bytes. Raises `Refused`."""
    try:
        if coding == "zstd":
            return _unzstd(data, maximum)
        inflate = Inflate(maximum, coding)
        found = b"".join(inflate.feed(data))
    except TooMuch:
        raise _too_large(maximum) from None
    except ValueError as error:
        if "damaged" in str(error):
            raise Refused(f"the body is no {coding[:20]}: it is {error}", status=400, code="invalid_body") from None
        raise Refused(
            "Content-Encoding must be zstd, gzip, deflate or identity", status=415, code="unsupported_encoding"
        ) from None
    if data and not inflate.ended:
        raise Refused(f"the body is no {coding[:20]}: it ends too early", status=400, code="invalid_body")
    return found


def _unzstd(data: bytes, maximum: int) -> bytes:
    if sys.version_info >= (3, 14):
        zstd = import_module(_STDLIB_ZSTD)
    else:
        from backports import zstd
    parts, left = [], maximum
    try:
        while data:  # frames may follow each other
            unpack = zstd.ZstdDecompressor()
            part = unpack.decompress(data, left + 1)
            while True:
                parts.append(part)
                left -= len(part)
                if left < 0:
                    raise _too_large(maximum)
                if unpack.eof or (unpack.needs_input and not part):
                    break
                part = unpack.decompress(b"", left + 1)
            if not unpack.eof:
                raise Refused("the body is not zstd: it ends too early", status=400, code="invalid_body")
            data = unpack.unused_data
    except zstd.ZstdError:
        raise Refused(
            "the body is not zstd: it is damaged in its compressed form", status=400, code="invalid_body"
        ) from None
    return b"".join(parts)


_STDLIB_ZSTD = "compression.zstd"


# -- who may ask ------------------------------------------------------------------------------------------------------


def secret_of(incoming: Incoming) -> str:
    """Return the key that a client sent, in either of the two header fields."""
    bearer = incoming.header(b"authorization")
    if bearer[:7].lower() == "bearer ":
        return bearer[7:].strip()
    return incoming.header(b"x-api-key").strip()


def same_secret(given: str, wanted: str) -> bool:
    """Return whether two keys are equal, in a time that does not show where they differ."""
    return hmac.compare_digest(hashlib.sha256(given.encode()).digest(), hashlib.sha256(wanted.encode()).digest())


def is_loopback(host: str) -> bool:
    """Return whether a host name or an address is this machine's own."""
    name = host.strip("[]").rstrip(".").lower()
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")


@lru_cache(maxsize=1024)  # of one client they are the same each time
def _is_local(host: str, origin: str) -> bool:
    """Return whether both headers name this machine; one that is empty says nothing."""
    if "@" in host + origin:  # no browser writes a user there, and readers differ about what stands behind one
        return False
    try:
        named = urlsplit(f"//{host}").hostname or "localhost"
        source = urlsplit(origin).hostname or "" if origin else "localhost"
    except ValueError:
        return False
    return is_loopback(named) and is_loopback(source)


def check_local(incoming: Incoming) -> None:
    """Without keys, allow only programs of this machine, and no web page under any host name. Raises `Refused`."""
    host, origin = incoming.header(b"host"), incoming.header(b"origin")
    if len(host) + len(origin) > _MAX_NAMES or not _is_local(host, origin):
        raise Refused(
            "without a key only programs on this machine may send requests, to 127.0.0.1 or localhost; set server.key",
            status=403,
            code="not_local",
        )
