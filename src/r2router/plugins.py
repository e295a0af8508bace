"""Things by name: what is built in, and what other packages add through entry points."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from r2router.errors import ConfigError


@dataclass(frozen=True)
class Registry:
    """Objects by name, imported when they are first asked for.

    group: the entry point group through which other packages add theirs; a built-in name cannot be replaced.
    built_in: name -> `module:attribute`, or the object itself.
    """

    group: str
    built_in: Mapping[str, Any]

    def find(self, name: str) -> Any | None:
        """Return the object of that name; None where there is none. Raises `ConfigError` where another package's cannot
        be loaded.
        """
        if name in self.built_in:
            found = self.built_in[name]
            if not isinstance(found, str):
                return found
            module, _, attribute = found.partition(":")
            return getattr(import_module(module), attribute)
        from importlib.metadata import entry_points  # 50 ms that only outside objects have to pay

        entry = next((entry for entry in entry_points(group=self.group) if entry.name == name), None)
        try:
            return None if entry is None else entry.load()
        except Exception as error:  # another package's code: whatever it raises, say whose it is
            raise ConfigError(f"{self.group} {name!r}: {entry and entry.value} cannot be loaded: {error}") from error

    def names(self) -> list[str]:
        """List all names: the built-in ones, then those of other packages."""
        from importlib.metadata import entry_points

        return [*self.built_in, *sorted({entry.name for entry in entry_points(group=self.group)} - set(self.built_in))]
