"""A measured number with its interval."""

from __future__ import annotations

import math

import msgspec

from r2router.text import written


class Figure(msgspec.Struct, frozen=True, omit_defaults=True):
    """A measured number with its 95 % interval (by bootstrap over queries) and the number of queries behind it.

    NaN is what could not be measured; JSON has no word for it, so such a number is left out there. An infinite cost is
    one at which the quality asked for is never reached.
    """

    name: str
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    n: int = 0
    unit: str = ""

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            if math.isnan(getattr(self, name)):
                msgspec.structs.force_setattr(self, name, math.nan)  # the very object, by which msgspec knows a default

    def scaled(self, factor: float) -> Figure:
        """Return the figure and its interval times a positive factor."""
        value, low, high = (factor * v for v in (self.value, self.low, self.high))
        return msgspec.structs.replace(self, value=value, low=low, high=high)

    def __str__(self) -> str:
        value, low, high = (written(v, ".3g") for v in (self.value, self.low, self.high))
        return f"{value}{self.unit} [{low}, {high}]"
