"""Is routing worth it on this table? `evaluate` answers with figures, intervals and the arms to beat."""

from r2router.evaluation.evaluation import evaluate
from r2router.evaluation.router_forecasts import calibrate
from r2router.evaluation.sparse import SparseReport
from r2router.evaluation.training_queries import leak_words, trained_share

__all__ = ["SparseReport", "calibrate", "evaluate", "leak_words", "trained_share"]
