"""Outcomes: rows of files read into query x arm arrays, whose judge is taken, and what may not be trained on."""

from r2router.table.table import ARRAYS, Table

__all__ = ["ARRAYS", "Table"]
