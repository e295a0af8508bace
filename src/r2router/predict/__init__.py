"""Learners turn embeddings and outcomes into predictors; predictors turn embeddings into forecasts."""

from r2router.predict.learner import Learner, Predictor

__all__ = ["Learner", "Predictor"]
