"""r2router: which LLM answers, and how long the answer may be.

Each model is a curve of quality against cost over output budgets; a router forecasts the curves for a query and takes the (model,
budget) pair that is worth most. See the README for five lines that train, save and route.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from r2router._version import __version__

if TYPE_CHECKING:
    from r2router.decide import Best, Cheapest, Policy, Tradeoff, Value
    from r2router.errors import (
        ArtifactError,
        ConfigError,
        DataError,
        EncoderError,
        MissingExtra,
        MissingPrice,
        NoFeasibleArm,
        PolicyError,
        QueryError,
        R2Error,
        SaveError,
        UsageError,
    )
    from r2router.evaluation import evaluate
    from r2router.pool import Pool
    from r2router.predict.gbdt import GBDT
    from r2router.predict.knn import KNN
    from r2router.predict.linear import Ridge
    from r2router.predict.mlp import MLP
    from r2router.predict.principal import PrincipalRidge
    from r2router.recipe import Recipe
    from r2router.router import Router
    from r2router.table import Table
    from r2router.types import Arm, Budget, Choices, Curve, Decision, Forecast, Model, PathStep, Prices

_WHERE = {
    "r2router.decide": ("Best", "Cheapest", "Policy", "Tradeoff", "Value"),
    "r2router.errors": (
        "ArtifactError",
        "ConfigError",
        "DataError",
        "EncoderError",
        "MissingExtra",
        "MissingPrice",
        "NoFeasibleArm",
        "PolicyError",
        "QueryError",
        "R2Error",
        "SaveError",
        "UsageError",
    ),
    "r2router.evaluation": ("evaluate",),
    "r2router.pool": ("Pool",),
    "r2router.predict.gbdt": ("GBDT",),
    "r2router.predict.knn": ("KNN",),
    "r2router.predict.linear": ("Ridge",),
    "r2router.predict.mlp": ("MLP",),
    "r2router.predict.principal": ("PrincipalRidge",),
    "r2router.recipe": ("Recipe",),
    "r2router.router": ("Router",),
    "r2router.table": ("Table",),
    "r2router.types": ("Arm", "Budget", "Choices", "Curve", "Decision", "Forecast", "Model", "PathStep", "Prices"),
}
_MODULE_OF = {name: module for module, names in _WHERE.items() for name in names}

__all__ = sorted(["__version__", *_MODULE_OF])


def __getattr__(name: str) -> Any:
    """Public names are imported when first used, so that `import r2router` is light."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'r2router' has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
