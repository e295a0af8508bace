"""Outcome tables of any size whose truth is known. For tests; never for claims."""

from r2router.simulate.noise import Noise
from r2router.simulate.outcomes import Simulated, simulate

__all__ = ["Noise", "Simulated", "simulate"]
