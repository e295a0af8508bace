"""Executors of work in parts: in this thread, on several threads, or on a Ray cluster.

Parts and results are bytes, and results come in the order of the parts, so the result does not depend on who did the
work.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import Future

T = TypeVar("T")

_AHEAD = 4  # parts that wait for each thread: enough that none is idle while results are used


class Executor(Protocol):
    """Does parts of work somewhere."""

    def map(self, work: Callable[[bytes], bytes], parts: Iterable[bytes]) -> Iterator[bytes]:
        """Return the result of each part, in order; few parts are taken before their turn.

        work: for Ray, a function of a module.
        """
        ...


class Here:
    """This thread."""

    def map(self, work: Callable[[bytes], bytes], parts: Iterable[bytes]) -> Iterator[bytes]:
        return map(work, parts)


class Threads:
    """Several threads of this process, for work that leaves Python's lock alone, as onnxruntime does."""

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def map(self, work: Callable[[bytes], bytes], parts: Iterable[bytes]) -> Iterator[bytes]:
        from concurrent.futures import ThreadPoolExecutor  # only where it is needed: it takes a while to import

        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="r2router")
        waiting: deque[Future[bytes]] = deque()
        try:
            for part in parts:
                waiting.append(pool.submit(work, part))
                if len(waiting) > _AHEAD * self._threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # also Ctrl-C: what waits is not begun
            pool.shutdown(cancel_futures=True)


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of at most `size` items."""
    held: list[T] = []
    for item in items:
        held.append(item)
        if len(held) == size:
            yield held
            held = []
    if held:
        yield held
