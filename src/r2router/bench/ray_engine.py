"""The same calls as Ray work: actors on the nodes of a cluster call, this process plans and writes the one journal.

Keys are read from the environment of each node, and are in no message. It needs the `[ray]` extra.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any

import msgspec

from r2router.executors.on_ray import join_ray
from r2router.types import Provider
from r2router.upstream.client import Upstream
from r2router.upstream.reply import Failure, Reply, Request

_reply = msgspec.msgpack.Decoder(Reply)
_failure = msgspec.msgpack.Decoder(Failure)


class _UpstreamActor:
    """One actor: an `Upstream` of its own, with its share of every provider's concurrency. Values cross as bytes."""

    def __init__(self, providers: bytes) -> None:
        self._upstream = Upstream(msgspec.msgpack.decode(providers, type=dict[str, Provider]))

    async def call(self, request: bytes) -> tuple[bool, bytes]:
        result = await self._upstream.call(msgspec.msgpack.decode(request, type=Request))
        return isinstance(result, Reply), msgspec.msgpack.encode(result)

    async def probe(self, provider: str) -> bytes | None:
        found = await self._upstream.probe(provider)
        return None if found is None else msgspec.msgpack.encode(found)

    async def stop(self) -> None:
        self._upstream.stop()


class RayEngine:
    """Spreads calls over `actors` processes in turn, by default one for each CPU that Ray has.

    It joins the cluster that RAY_ADDRESS names, or starts Ray on this machine. Each actor has an equal share of a
    provider's concurrency, and learns rate limits on its own.
    """

    def __init__(self, providers: Mapping[str, Provider], actors: int | None = None) -> None:
        self._ray, self._started = join_ray()
        count = actors or max(1, int(self._ray.cluster_resources().get("CPU", 1)))
        count = min(count, *(p.concurrency for p in providers.values()))
        share = {n: msgspec.structs.replace(p, concurrency=-(-p.concurrency // count)) for n, p in providers.items()}
        maximum = sum(p.concurrency for p in share.values()) + len(share) + 1
        settings = msgspec.msgpack.encode(share)
        caller: Any = self._ray.remote(_UpstreamActor)
        self._actors = [
            caller.options(max_concurrency=maximum, num_cpus=0, scheduling_strategy="SPREAD").remote(settings)
            for _ in range(count)
        ]
        self._turn = itertools.cycle(self._actors)

    async def call(self, request: Request) -> Reply | Failure:
        """Make a call on the next actor; a lost actor is a broken connection."""
        try:
            fine, data = await next(self._turn).call.remote(msgspec.msgpack.encode(request))
        except self._ray.exceptions.RayError as error:
            return Failure(kind="cut", message=f"a Ray actor was lost: {type(error).__name__}", maybe_billed=1)
        return _reply.decode(data) if fine else _failure.decode(data)

    async def probe(self, provider: str) -> Failure | None:
        """Do `Upstream.probe` in one of the actors."""
        data = await self._actors[0].probe.remote(provider)
        return None if data is None else _failure.decode(data)

    def stop(self) -> None:
        """Do `Upstream.stop` in every actor."""
        for actor in self._actors:
            actor.stop.remote()

    async def close(self) -> None:
        """End the actors, and Ray where it was started here."""
        for actor in self._actors:
            self._ray.kill(actor)
        if self._started:
            await asyncio.get_running_loop().run_in_executor(None, self._ray.shutdown)
