"""Tests for other packages: the contracts of learners and encoders, and a fake endpoint."""

from typing import TYPE_CHECKING

from r2router.testing.encoders import check_encoder
from r2router.testing.learners import check_learner

if TYPE_CHECKING:
    from r2router.testing.endpoint import FakeEndpoint

__all__ = ["FakeEndpoint", "check_encoder", "check_learner"]


def __getattr__(name: str) -> object:
    """The endpoint is imported when first used: it runs as a program too, and only then is it imported once."""
    if name == "FakeEndpoint":
        from r2router.testing.endpoint import FakeEndpoint

        return FakeEndpoint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
