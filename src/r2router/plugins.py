"""Things by name: what is built in, and what other packages add through entry points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Registry:
    """Objects by name, imported when they are first asked for.

    group: the entry point group through which other packages add theirs; a built-in name cannot be replaced.
    built_in: name -> `module:attribute`.
    """

    group: str
    built_in: Mapping[str, str]

    def find(self, name: str) -> Any | None:
        """The object of that name; None where there is none. Raises whatever another package raises when it is imported."""
        if name in self.built_in:
            module, _, attribute = self.built_in[name].partition(":")
            return getattr(import_module(module), attribute)
        from importlib.metadata import entry_points  # 50 ms that only outside objects have to pay

        return next((entry.load() for entry in entry_points(group=self.group) if entry.name == name), None)

    def names(self) -> list[str]:
        """All names: those built in, then those of other packages."""
        from importlib.metadata import entry_points

        return [*self.built_in, *sorted({entry.name for entry in entry_points(group=self.group)} - set(self.built_in))]
