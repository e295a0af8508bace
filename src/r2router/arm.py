"""The name of a (model, budget) pair, and how structs of msgspec hold it."""

from __future__ import annotations

from typing import Any

import msgspec


class Arm(str):
    """One choice of a router: a model under a budget, written `model@budget`.

    It is a string, so it prints, compares, sorts, hashes and serialises as one.
    """

    __slots__ = ()

    @classmethod
    def of(cls, model: str, budget: str) -> Arm:
        return cls(f"{model}@{budget}")

    @property
    def model(self) -> str:
        return self.partition("@")[0]

    @property
    def budget(self) -> str:
        return self.partition("@")[2]


class ArmField:
    """A field of arms in a struct: kept as plain text, which msgspec can write and read (it refuses subclasses), and
    given as `Arm`.
    """

    def __init__(self, kind: type[msgspec.Struct], name: str) -> None:
        self._kept = kind.__dict__[name]
        setattr(kind, name, self)

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        if owner is None:
            return self
        value = self._kept.__get__(owner)
        return Arm(value) if isinstance(value, str) else tuple(map(Arm, value))

    def __set__(self, owner: Any, value: Any) -> None:
        self._kept.__set__(owner, str(value) if isinstance(value, str) else tuple(map(str, value)))


def plain(value: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a struct in types that JSON has: numbers that are NaN or infinite become None."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(value, enc_hook=str))
    return found
