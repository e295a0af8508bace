"""The experiments of the paper, each on any table: `reproduce(name, table)`."""

from r2router.evaluation.experiments.registry import EXPERIMENTS, check_name, reproduce

__all__ = ["EXPERIMENTS", "check_name", "reproduce"]
