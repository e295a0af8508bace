"""The two protocols of a learner and of what it fits.

A *learner* is a small frozen spec (`Ridge(alpha=30)`), comparable and written to `router.json`. A *predictor* is what
it fitted: frozen, saved as named arrays, and served by numpy alone. Those that have a name: `r2router.router.learners`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

from r2router.types import Arm, FloatArray, Forecast

if TYPE_CHECKING:
    from r2router.table.table import Table


@runtime_checkable
class Predictor(Protocol):
    """A fitted forecast of every arm from an embedding."""

    kind: ClassVar[str]
    arms: tuple[Arm, ...]

    def predict(self, x: FloatArray) -> Forecast:
        """Forecasts for (n, d) embeddings: quality in [0, 1], tokens > 0, NaN for an arm that was never observed."""
        ...

    def arrays(self) -> dict[str, Any]:
        """Everything it needs, as named numpy arrays."""
        ...

    @classmethod
    def from_arrays(cls, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> Self:
        """Return the predictor of `arrays()`. Raises `ArtifactError` where names or shapes are wrong."""
        ...


@runtime_checkable
class Learner(Protocol):
    """A spec of how to learn; equal specs on equal data give equal predictors."""

    def fit(self, x: FloatArray, table: Table) -> Predictor:
        """Fit on (n, d) embeddings of the table's n queries. Cells that are NaN are not used."""
        ...
