"""RouterArena (arXiv 2510.00202): a router's decisions in its prediction format, and the figures of its results.

The files are those of github.com/RouteWorks/RouterArena. Prompts are a JSON list of `global index` and
`prompt_formatted`; predictions are the same list with `prompt` and `prediction` (the name of a model), to which its
pipeline adds `generated_result`, `accuracy` and `cost`; its evaluation writes `metrics.json`. It knows models and no
budgets, so the budget goes with each prediction in fields of our own, which its checks and its scoring leave alone.

It is for evaluation only (`r2router.table.refused`): no outcome table is made of its files, here or anywhere.
"""

from r2router.arena.export import Export, Prediction, export
from r2router.arena.files import ArenaPrompt, read_prompts
from r2router.arena.results import Results, arena_score, read_results

__all__ = ["ArenaPrompt", "Export", "Prediction", "Results", "arena_score", "export", "read_prompts", "read_results"]
