"""r2router: which LLM answers, and how long the answer may be.

Each model is a curve of quality against cost over output budgets; a router forecasts the curves for a query and takes the (model,
budget) pair that is worth most. See the README for five lines that train, save and route.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from r2router._version import __version__

if TYPE_CHECKING:
    from r2router.decide import Best as Best
    from r2router.decide import Cheapest as Cheapest
    from r2router.decide import Policy as Policy
    from r2router.decide import Tradeoff as Tradeoff
    from r2router.decide import Value as Value
    from r2router.errors import (
        ArtifactError as ArtifactError,
    )
    from r2router.errors import (
        ConfigError as ConfigError,
    )
    from r2router.errors import (
        DataError as DataError,
    )
    from r2router.errors import (
        EncoderError as EncoderError,
    )
    from r2router.errors import (
        MissingExtra as MissingExtra,
    )
    from r2router.errors import (
        MissingPrice as MissingPrice,
    )
    from r2router.errors import (
        NoFeasibleArm as NoFeasibleArm,
    )
    from r2router.errors import (
        PolicyError as PolicyError,
    )
    from r2router.errors import (
        QueryError as QueryError,
    )
    from r2router.errors import (
        R2Error as R2Error,
    )
    from r2router.errors import (
        SaveError as SaveError,
    )
    from r2router.errors import (
        UsageError as UsageError,
    )
    from r2router.evaluation import evaluate as evaluate
    from r2router.pool import Pool as Pool
    from r2router.predict.blend import Blend as Blend
    from r2router.predict.gbdt import GBDT as GBDT
    from r2router.predict.knn import KNN as KNN
    from r2router.predict.linear import Ridge as Ridge
    from r2router.predict.mlp import MLP as MLP
    from r2router.predict.principal import PrincipalRidge as PrincipalRidge
    from r2router.router import Router as Router
    from r2router.router.recipe import Recipe as Recipe
    from r2router.table import Table as Table
    from r2router.types import (
        Arm as Arm,
    )
    from r2router.types import (
        Budget as Budget,
    )
    from r2router.types import (
        Choices as Choices,
    )
    from r2router.types import (
        Curve as Curve,
    )
    from r2router.types import (
        Decision as Decision,
    )
    from r2router.types import (
        Forecast as Forecast,
    )
    from r2router.types import (
        Model as Model,
    )
    from r2router.types import (
        PathStep as PathStep,
    )
    from r2router.types import (
        Prices as Prices,
    )

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
    "r2router.predict.blend": ("Blend",),
    "r2router.predict.principal": ("PrincipalRidge",),
    "r2router.router.recipe": ("Recipe",),
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
