"""For the tests of other packages: the contracts that every learner and every encoder keeps, and an endpoint to call."""

from r2router.testing.encoders import check_encoder
from r2router.testing.endpoint import FakeEndpoint
from r2router.testing.learners import check_learner

__all__ = ["FakeEndpoint", "check_encoder", "check_learner"]
