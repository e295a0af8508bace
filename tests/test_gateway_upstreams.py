"""Connections to providers: kept for the next request, and never used when the provider has closed them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("aiohttp", reason="the gateway needs the [serve] extra")

from fake_provider import RESET, Answer, Asked, FakeProvider
from r2router.gateway.config import Served
from r2router.gateway.upstreams import Network, Unreached

CHAT = b'{"model":"m","messages":[{"role":"user","content":"Who wrote Faust?"}]}'


@asynccontextmanager
async def network() -> AsyncIterator[Network]:
    found = Network(30.0)
    try:
        yield found
    finally:
        await found.close()


async def ask(through: Network, fake: FakeProvider) -> bytes:
    provider = Served(base_url=fake.url)
    exchange = await through.post(f"{fake.url}/chat/completions", CHAT, {}, provider, 20.0)
    said = b"".join([part async for part in exchange.chunks()])
    exchange.close(whole=True)
    return said


def test_a_connection_is_used_again() -> None:
    async def run(fake: FakeProvider) -> None:
        async with network() as through:
            for _ in range(3):
                assert b"Faust" in await ask(through, fake)

    with FakeProvider() as fake:
        asyncio.run(run(fake))
        assert fake.connections == 1


def test_a_connection_that_the_provider_has_closed_is_not_used() -> None:
    async def run(fake: FakeProvider) -> None:
        async with network() as through:
            await asyncio.gather(*(ask(through, fake) for _ in range(5)))
            before = fake.connections
            fake.hang_up()  # while this event loop stands still, so that it has not heard of it
            assert b"Faust" in await ask(through, fake)
            assert fake.connections == before + 1

    with FakeProvider() as fake:
        asyncio.run(run(fake))


@pytest.mark.parametrize("wait", [0.0, 0.05])
def test_what_may_have_been_read_is_not_sent_again(wait: float) -> None:
    def script(asked: Asked) -> Answer | None:
        if len(fake.asked) == 1:
            return None
        return Answer([wait, RESET])

    async def run() -> None:
        async with network() as through:
            await ask(through, fake)
            with pytest.raises(Unreached) as failed:
                await ask(through, fake)
            assert failed.value.sent

    with FakeProvider(script) as fake:
        asyncio.run(run())
        assert len(fake.asked) == 2 and fake.connections == 1
