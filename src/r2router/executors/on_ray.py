"""Work in parts as tasks of a Ray cluster. It needs the `[ray]` extra."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self

from r2router.errors import MissingExtra, R2Error


def join_ray() -> tuple[Any, bool]:
    """Return (the module, whether Ray was started here): the cluster that RAY_ADDRESS names, or one on this machine."""
    try:
        import ray
    except ImportError:
        raise MissingExtra("--engine ray needs Ray: pip install 'r2router[ray]'") from None
    started = not ray.is_initialized()
    if started:
        ray.init(
            address=os.environ.get("RAY_ADDRESS"), log_to_driver=False, configure_logging=False, include_dashboard=False
        )
    return ray, started


class OnRay:
    """An `Executor` of Ray tasks, one CPU each. As a context it ends Ray where it was started here. Raises
    `MissingExtra`.
    """

    def __init__(self) -> None:
        self._ray, self._started = join_ray()
        self._max = 2 * max(1, int(self._ray.cluster_resources().get("CPU", 1)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._started:
            self._ray.shutdown()

    def map(self, work: Callable[[bytes], bytes], parts: Iterable[bytes]) -> Iterator[bytes]:
        """Run at most two parts per CPU at a time."""
        task: Any = self._ray.remote(work)
        waiting: deque[Any] = deque()
        for part in parts:
            waiting.append(task.remote(part))
            if len(waiting) == self._max:
                yield self._result(waiting.popleft())
        while waiting:
            yield self._result(waiting.popleft())

    def _result(self, task: Any) -> bytes:
        try:
            done: bytes = self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from None  # what went wrong in the work, as if it had been done here
        except self._ray.exceptions.RayError as error:
            raise R2Error(
                f"the Ray cluster lost a part of the work ({type(error).__name__}): run the same command again"
            ) from None
        return done
