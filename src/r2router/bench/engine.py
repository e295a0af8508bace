"""Engines by name: what makes the calls, and what scores answers and embeds texts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from r2router.errors import ConfigError
from r2router.executors import Executor, Here
from r2router.types import Provider
from r2router.upstream.client import Upstream
from r2router.upstream.reply import Failure, Reply, Request

ENGINES = ("asyncio", "ray")


class Engine(Protocol):
    """Makes calls, with retries; raises for nothing that an endpoint or a network does."""

    async def call(self, request: Request) -> Reply | Failure: ...

    async def probe(self, provider: str) -> Failure | None:
        """Return why nothing can be asked of a provider now; None where it answers."""
        ...

    def stop(self) -> None:
        """Begin no attempt any more, retries of calls under way included."""
        ...

    async def close(self) -> None: ...


def open_engine(name: str, providers: Mapping[str, Provider]) -> Engine:
    """Return an engine by its name. Raises `ConfigError`, and `MissingExtra` where an optional package is needed."""
    if name == "asyncio":
        return Upstream(providers)
    if name == "ray":
        from r2router.bench.ray_engine import RayEngine

        return RayEngine(providers)
    raise ConfigError(f"no engine {name!r}; there are: {', '.join(ENGINES)}")


def open_spread(name: str) -> AbstractContextManager[Executor]:
    """Open the executor for the work beside the calls, by the engine's name. Raises as `open_engine` does."""
    if name == "asyncio":
        return nullcontext(Here())
    if name == "ray":
        from r2router.executors.on_ray import OnRay

        return OnRay()
    raise ConfigError(f"no engine {name!r}; there are: {', '.join(ENGINES)}")
