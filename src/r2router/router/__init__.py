"""The router: how it is trained (`Recipe`), what it decides (`Router`), how it is saved, described and extended."""

from r2router.router.router import Router

__all__ = ["Router"]
