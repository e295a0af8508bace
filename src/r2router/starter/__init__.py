"""The bundled starter router: works at once, with no key, no download and no training."""

from r2router.starter.bundled import starter

__all__ = ["starter"]
