"""The one async client that calls an LLM, and says exactly what failed. It needs the `[bench]` extra (aiohttp,
tenacity).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import msgspec

from r2router.errors import MissingExtra
from r2router.types import Provider
from r2router.upstream.endpoint import LONGEST_ANSWER, Mask, check_provider, headers, key_of
from r2router.upstream.limits import LONGEST_PAUSE_S, ConcurrencyLimiter, LimiterClosed
from r2router.upstream.reader import read_reply, refusal
from r2router.upstream.reply import BILLED_ATTEMPTS, AttemptFailed, Failure, Reply, Request
from r2router.upstream.usage import Usage, sum_usage
from r2router.upstream.wire import MAYBE_BILLED, TRANSIENT, one_line

if TYPE_CHECKING:
    import aiohttp
    import tenacity

ATTEMPTS = 6
CONNECT_S = 15.0
SLOWEST_TOKENS_S = 1.0
"""A call may take the provider's `timeout_s` and the time that its longest answer needs at so many tokens per second.
"""
LONGEST_CALL_S = 7200.0
"""The most of that time."""
LONGEST_BACKOFF_S = 30.0


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, AttemptFailed) and error.kind in TRANSIENT


class Upstream:
    """Calls the models of some providers from one event loop; an `async with` closes its connections.

    attempts: of one call, in all; at most `BILLED_ATTEMPTS` that may be billed.
    backoff_s: before the second attempt; it doubles, with as much again at random.
    """

    def __init__(self, providers: Mapping[str, Provider], *, attempts: int = ATTEMPTS, backoff_s: float = 0.5) -> None:
        try:
            import aiohttp
            import tenacity
        except ImportError:
            raise MissingExtra("calling LLMs needs aiohttp and tenacity: pip install 'r2router[bench]'") from None
        for name, provider in providers.items():
            check_provider(name, provider)
        self.providers = dict(providers)
        self.limiters = {name: ConcurrencyLimiter(p.concurrency) for name, p in providers.items()}
        self.attempts, self.backoff_s = max(1, attempts), backoff_s
        self._aiohttp, self._tenacity = aiohttp, tenacity
        self._session: aiohttp.ClientSession | None = None
        self._stopped = asyncio.Event()

    async def __aenter__(self) -> Upstream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def stop(self) -> None:
        """Begin no attempt any more, not even of calls under way: those end with what their last attempt gave, or as
        `interrupted`.
        """
        self._stopped.set()
        for limiter in self.limiters.values():
            limiter.close()

    async def call(self, request: Request) -> Reply | Failure:
        """Make a call, with retries. It raises for nothing that an endpoint or a network does."""
        made = maybe_billed = 0
        lost: Usage | None = None
        billable = min(request.billable, BILLED_ATTEMPTS)
        retries = self._tenacity.AsyncRetrying(
            retry=self._tenacity.retry_if_exception(_may_pass),
            stop=lambda state: (
                state.attempt_number >= self.attempts or maybe_billed >= billable or self._stopped.is_set()
            ),
            wait=self._wait,
            sleep=self._sleep,
            reraise=True,
        )
        try:
            async for attempt in retries:
                with attempt:
                    try:
                        reply = await self._attempt(request)
                    except AttemptFailed as failed:
                        made += failed.kind != "interrupted"
                        maybe_billed += failed.kind in MAYBE_BILLED
                        lost = sum_usage(lost, failed.usage)
                        raise
                    made += 1
        except AttemptFailed as failed:
            kind = "interrupted" if self._stopped.is_set() and failed.kind in TRANSIENT else failed.kind
            tried = f" (tried {made} times)" if made > 1 else ""
            return Failure(
                kind=kind, message=failed.message + tried, attempts=made, maybe_billed=maybe_billed, lost=lost
            )
        return (
            reply if made == 1 else msgspec.structs.replace(reply, attempts=made, maybe_billed=maybe_billed, lost=lost)
        )

    async def _sleep(self, seconds: float) -> None:
        """Wait before another attempt, but no longer than until `stop`."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopped.wait(), seconds)

    def _wait(self, state: tenacity.RetryCallState) -> float:
        """Seconds before the next attempt: what the endpoint asked for, else a doubling time; and as much again at
        random.
        """
        failed = state.outcome.exception() if state.outcome is not None else None
        asked = failed.wait if isinstance(failed, AttemptFailed) else None
        minimum = (
            min(self.backoff_s * 2 ** (state.attempt_number - 1), LONGEST_BACKOFF_S)
            if asked is None
            else min(asked, LONGEST_PAUSE_S)
        )
        return minimum + random.uniform(0, max(minimum, self.backoff_s))  # noqa: S311  it spreads the calls, and hides nothing

    async def probe(self, provider: str) -> Failure | None:
        """Return whether a provider can be reached and takes the key, in one try that costs nothing; None if so."""
        settings = self.providers[provider]
        url = f"{settings.base_url.rstrip('/')}/models"
        http = self._aiohttp
        try:
            key = _key(provider, settings)
            timeout = http.ClientTimeout(total=CONNECT_S)
            async with self._open().get(url, headers=headers(key), allow_redirects=False, timeout=timeout) as response:
                if response.status == 401:  # 403 may be about the list of models alone
                    raise await refusal(response)
        except AttemptFailed as failed:
            return Failure(kind=failed.kind, message=f"{settings.base_url} {failed.message}")
        except http.ClientConnectorError as error:
            return Failure(kind="connection", message=f"{settings.base_url} cannot be reached: {_why(error.os_error)}")
        except (TimeoutError, http.ClientError, OSError, ValueError):
            return None  # it is there; what ails it shows in the calls
        return None

    async def _attempt(self, request: Request) -> Reply:
        """Return one attempt, as soon as the provider's limiter lets it through. Raises `AttemptFailed`."""
        provider, limiter = self.providers[request.provider], self.limiters[request.provider]
        url = f"{provider.base_url.rstrip('/')}/chat/completions"
        key = _key(request.provider, provider)
        mask, body = Mask(key), request.body
        if provider.stream:
            body = {**body, "stream": True, "stream_options": {"include_usage": True}}
        try:
            began = await limiter.enter()
        except LimiterClosed:
            raise AttemptFailed("interrupted", "was not called again: the run was interrupted") from None
        try:
            return _masked(await self._send(url, headers(key), body, provider, limiter), mask)
        except AttemptFailed as failed:
            failed.message = f"{url} {mask.error(failed.message)}"
            if failed.kind == "rate_limit":
                limiter.refused(began, self.backoff_s if failed.wait is None else failed.wait)
            raise
        finally:
            limiter.leave()

    async def _send(
        self, url: str, sent: dict[str, str], body: dict[str, Any], provider: Provider, limiter: ConcurrencyLimiter
    ) -> Reply:
        http, data = self._aiohttp, msgspec.json.encode(body)
        cap = _cap(body)
        longest = provider.timeout_s + min((cap or LONGEST_ANSWER) / SLOWEST_TOKENS_S, LONGEST_CALL_S)
        begin = time.perf_counter()
        begun = False  # whether the endpoint has accepted the request: from then on it may bill for it
        try:
            async with self._open().post(
                url,
                data=data,
                headers=sent,
                allow_redirects=False,
                timeout=http.ClientTimeout(total=longest, sock_connect=CONNECT_S, sock_read=provider.timeout_s),
            ) as response:
                limiter.read(response.headers)
                if response.status != 200:
                    raise await refusal(response)
                begun = True
                reply = await read_reply(response, begin, cap=cap, sent=len(data))
        except http.ConnectionTimeoutError:
            raise AttemptFailed("connection", f"cannot be reached in {CONNECT_S:g} s") from None
        except TimeoutError:
            late = time.perf_counter() - begin >= longest
            raise AttemptFailed(
                "timeout", f"took more than {longest:,.0f} s" if late else f"was silent for {provider.timeout_s:g} s"
            ) from None
        except http.ClientConnectorError as error:
            raise AttemptFailed("connection", f"cannot be reached: {_why(error.os_error)}") from None
        except (http.ClientError, OSError, ValueError) as error:
            what = str(error) or type(error).__name__
            raise AttemptFailed("cut" if begun else "connection", f"broke off: {one_line(what)}") from None
        limiter.succeeded()
        return reply

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:  # made here, as it belongs to the loop that runs
            connector = self._aiohttp.TCPConnector(limit=0, ttl_dns_cache=300)
            self._session = self._aiohttp.ClientSession(
                connector=connector, cookie_jar=self._aiohttp.DummyCookieJar(), auto_decompress=False
            )
        return self._session


def _key(name: str, provider: Provider) -> str:
    """Return the key of a provider, empty where it needs none. Raises `AttemptFailed`."""
    if not provider.key:
        return ""
    key, wrong = key_of(provider.key)
    if wrong:
        raise AttemptFailed("key", f"needs a key: {wrong} (provider {name!r} of the pool)")
    return key


def _cap(body: dict[str, Any]) -> int | None:
    """Return the most output tokens that a request asks for."""
    cap = body.get("max_completion_tokens") or body.get("max_tokens")
    return cap if isinstance(cap, int) else None


def _why(error: OSError) -> str:
    """Return what the system says of a connection that was not made."""
    return "connection refused" if isinstance(error, ConnectionRefusedError) else str(error.strerror or error)


def _masked(reply: Reply, mask: Mask) -> Reply:
    """Return a reply without the key: some endpoints, and models that are told it, send it back."""
    pieces = mask.pieces(reply.pieces)
    names = ("reasoning", "usage_error", "finish_reason", "model")
    words = {name: mask(said) for name in names if (said := getattr(reply, name))}
    return msgspec.structs.replace(reply, text="".join(pieces), pieces=pieces, **words)
