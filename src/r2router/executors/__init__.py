"""Executors of work in parts: in this thread, on several threads, or on a Ray cluster."""

from r2router.executors.executor import Executor, Here, Threads, batched

__all__ = ["Executor", "Here", "Threads", "batched"]
