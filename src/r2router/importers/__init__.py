"""Artifacts of others: the checkpoints that the paper's authors released."""
