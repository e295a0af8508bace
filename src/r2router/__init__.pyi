"""The public names, once: type checkers read them here, and `__init__.py` imports them from here when they are first used."""

from .cascade import Answer as Answer
from .cascade import Cascade as Cascade
from .cascade import Step as Step
from .decide import Best as Best
from .decide import Cheapest as Cheapest
from .decide import Policy as Policy
from .decide import Tradeoff as Tradeoff
from .decide import Value as Value
from .errors import ArtifactError as ArtifactError
from .errors import ConfigError as ConfigError
from .errors import DataError as DataError
from .errors import EncoderError as EncoderError
from .errors import MissingExtra as MissingExtra
from .errors import MissingPrice as MissingPrice
from .errors import NoAnswer as NoAnswer
from .errors import NoFeasibleArm as NoFeasibleArm
from .errors import PolicyError as PolicyError
from .errors import QueryError as QueryError
from .errors import R2Error as R2Error
from .errors import SaveError as SaveError
from .errors import UsageError as UsageError
from .evaluation import evaluate as evaluate
from .pool import Pool as Pool
from .predict.blend import Blend as Blend
from .predict.gbdt import GBDT as GBDT
from .predict.knn import KNN as KNN
from .predict.linear import Ridge as Ridge
from .predict.mlp import MLP as MLP
from .predict.principal import PrincipalRidge as PrincipalRidge
from .prompts.savings import savings as savings
from .router import Router as Router
from .router.recipe import Recipe as Recipe
from .table import Table as Table
from .types import Arm as Arm
from .types import Budget as Budget
from .types import Choices as Choices
from .types import Curve as Curve
from .types import Decision as Decision
from .types import Forecast as Forecast
from .types import Model as Model
from .types import PathStep as PathStep
from .types import Prices as Prices

__all__ = [
    "GBDT",
    "KNN",
    "MLP",
    "Answer",
    "Arm",
    "ArtifactError",
    "Best",
    "Blend",
    "Budget",
    "Cascade",
    "Cheapest",
    "Choices",
    "ConfigError",
    "Curve",
    "DataError",
    "Decision",
    "EncoderError",
    "Forecast",
    "MissingExtra",
    "MissingPrice",
    "Model",
    "NoAnswer",
    "NoFeasibleArm",
    "PathStep",
    "Policy",
    "PolicyError",
    "Pool",
    "Prices",
    "PrincipalRidge",
    "QueryError",
    "R2Error",
    "Recipe",
    "Ridge",
    "Router",
    "SaveError",
    "Step",
    "Table",
    "Tradeoff",
    "UsageError",
    "Value",
    "__version__",
    "evaluate",
    "savings",
]
__version__: str
