"""Calling LLMs under a budget: one attempt is the primitive; wire formats, limits, and how a budget is enforced."""
