"""For the tests of other packages: the contracts that every learner and every encoder keeps."""

from r2router.testing.encoders import check_encoder
from r2router.testing.learners import check_learner

__all__ = ["check_encoder", "check_learner"]
