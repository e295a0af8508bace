"""Learners and predictors by name, ours and those of other packages.

Other packages add a learner class through the entry point group `r2router.learners`, and its predictor, by its `kind`,
through `r2router.predictors`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from r2router.errors import ArtifactError, ConfigError
from r2router.plugins import Registry
from r2router.text import suggest

LEARNERS = Registry(
    "r2router.learners",
    {
        "automatic": "r2router.predict.automatic:Automatic",
        "blend": "r2router.predict.blend:Blend",
        "domains": "r2router.predict.domains:Domains",
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
    },
)
PREDICTORS = Registry(
    "r2router.predictors",
    {
        "blend": "r2router.predict.blend:BlendPredictor",
        "domains": "r2router.predict.domains:DomainsPredictor",
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
        "extended": "r2router.router.extended:ExtendedPredictor",
        "selected": "r2router.router.only:SelectedPredictor",
    },
)


def learner_class(name: str) -> type[Any]:
    """Return the learner of that name. Raises `ConfigError` listing what there is."""
    found: type[Any] | None = LEARNERS.find(name)
    if found is None:
        known = LEARNERS.names()
        raise ConfigError(f"no learner {name!r}{suggest(name, known)}; there are: {', '.join(known)}")
    return found


def learner_of(spec: Mapping[str, Any]) -> Any:
    """Return the learner that a card names with its settings. Raises `ConfigError` for one that is not installed or has
    other settings here.
    """
    kind = learner_class(str(spec.get("learner", "")))
    try:
        return msgspec.convert(dict(spec), kind)
    except msgspec.ValidationError as error:
        raise ConfigError(f"the router's learner {spec}: {error}") from None


def predictor_class(kind: str) -> type[Any]:
    """Return the predictor of that kind. Raises `ArtifactError` for one that is not installed."""
    found: type[Any] | None = PREDICTORS.find(kind)
    if found is None:
        raise ArtifactError(f"the router's predictor is of kind {kind!r}, which is not installed here")
    return found
