"""r2router: which LLM answers, and how long the answer may be.

Each model is a curve of quality against cost over output budgets; a router forecasts the curves for a query and takes
the (model, budget) pair that is worth most. See the README for five lines that train, save and route.
"""

import lazy_loader

from r2router._version import __version__

_lazy, _names, _public = lazy_loader.attach_stub(__name__, __file__)
__all__ = sorted([*_public, "__version__"])


def __getattr__(name: str) -> object:
    """Public names are imported when first used, so that `import r2router` is light."""
    return _lazy(name)


def __dir__() -> list[str]:
    return __all__
