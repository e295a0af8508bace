"""Learners turn embeddings and outcomes into predictors; predictors turn embeddings into forecasts.

A *learner* is a small frozen spec (`Ridge(alpha=30)`), comparable and written to `router.json`. A *predictor* is what it fitted:
frozen, saved as named arrays, and served by numpy alone. Both registries are plain dicts; learners from outside come in through
the entry point group `r2router.learners` (name -> learner class) and predictors through `r2router.predictors`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self, runtime_checkable

from r2router.errors import ArtifactError, ConfigError
from r2router.text import suggest
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
        """The predictor of `arrays()`. Raises `ArtifactError` where names or shapes are wrong."""
        ...


@runtime_checkable
class Learner(Protocol):
    """A spec of how to learn; equal specs on equal data give equal predictors."""

    def fit(self, x: FloatArray, table: Table) -> Predictor:
        """Fit on (n, d) embeddings of the table's n queries. Cells that are NaN are not used."""
        ...


LEARNERS: dict[str, str] = {
    "blend": "r2router.predict.blend:Blend",
    "principal": "r2router.predict.principal:PrincipalRidge",
    "ridge": "r2router.predict.linear:Ridge",
    "mlp": "r2router.predict.mlp:MLP",
    "gbdt": "r2router.predict.gbdt:GBDT",
    "knn": "r2router.predict.knn:KNN",
    "carrot-knn": "r2router.baselines.carrot:CarrotKNN",
    "carrot-linear": "r2router.baselines.carrot:CarrotLinear",
    "mirt": "r2router.baselines.irt:MIRT",
    "nirt": "r2router.baselines.irt:NIRT",
    "unirouter": "r2router.baselines.clusters:UniRouter",
    "mf": "r2router.baselines.factorisation:MatrixFactorisation",
    "clusters": "r2router.baselines.clusters:Clusters",
    "random": "r2router.baselines.chance:Random",
}
PREDICTORS: dict[str, str] = {
    "blend": "r2router.predict.blend:BlendPredictor",
    "linear": "r2router.predict.linear:LinearPredictor",
    "mlp": "r2router.predict.mlp:MLPPredictor",
    "gbdt": "r2router.predict.gbdt:GBDTPredictor",
    "knn": "r2router.predict.knn:KNNPredictor",
    "released": "r2router.predict.released:ReleasedPredictor",
    "carrot-knn": "r2router.baselines.carrot:CarrotKNNPredictor",
    "carrot-linear": "r2router.baselines.carrot:CarrotLinearPredictor",
    "mirt": "r2router.baselines.irt:MIRTPredictor",
    "nirt": "r2router.baselines.irt:NIRTPredictor",
    "clusters": "r2router.baselines.clusters:ClusterPredictor",
    "random": "r2router.baselines.chance:RandomPredictor",
    "extended": "r2router.predict.extended:ExtendedPredictor",
}


def learner_class(name: str) -> type[Any]:
    """The learner of that name. Raises `ConfigError` listing what there is."""
    found = _find(name, LEARNERS, "r2router.learners")
    if found is None:
        raise ConfigError(f"no learner {name!r}{suggest(name, LEARNERS)}; there are: {', '.join(LEARNERS)}")
    return found


def predictor_class(kind: str) -> type[Any]:
    """The predictor of that kind. Raises `ArtifactError` for one that is not installed."""
    found = _find(kind, PREDICTORS, "r2router.predictors")
    if found is None:
        raise ArtifactError(f"the router's predictor is of kind {kind!r}, which is not installed here")
    return found


def _find(name: str, registry: dict[str, str], group: str) -> type[Any] | None:
    if name in registry:
        module, _, attribute = registry[name].partition(":")
        return getattr(import_module(module), attribute)
    from importlib.metadata import entry_points  # a twentieth of a second that only outside learners have to pay

    for entry in entry_points(group=group):
        if entry.name == name:
            return entry.load()
    return None
