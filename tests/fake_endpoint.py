"""The fake endpoint of `r2router.testing`, under the name that the tests beside it use."""

from __future__ import annotations

from r2router.testing.endpoint import FAULTS, FakeEndpoint, answer, digest
from r2router.testing.endpoint import error as _error

__all__ = ["FAULTS", "FakeEndpoint", "_error", "answer", "digest"]
