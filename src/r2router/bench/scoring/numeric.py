"""The scorer `numeric`: numbers as people and LLMs write them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import msgspec

from r2router.bench.scoring.answers import final_answer, first_line, no_reference
from r2router.bench.suite import Query, Score
from r2router.bench.thinking import without_thinking

_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?![\d])|\d+)(?:\.\d+)?|\.\d+"
_NUMBER = re.compile(
    rf"""
    (?P<sign>(?<![\w.)])[-+]\s?\$?)?
    (?:
        \\[dt]?frac\s*\{{\s*(?P<top>-?(?:{_DIGITS}))\s*\}}\s*\{{\s*(?P<bottom>{_DIGITS})\s*\}}
      | \\[dt]?frac\s*(?P<digit>\d)\s*(?P<below>\d)
      | (?<![\d/])(?:(?P<whole>\d+)\s+)?(?P<over>\d+)\s?/\s?(?P<under>\d+)(?![\d/])
      | (?P<plain>{_DIGITS})(?:[eE](?P<e>[-+]?\d{{1,3}})(?!\w)
        |\s*(?:\\times|\\cdot|[x\u00d7*])\s*10\s*(?:\^|\*\*)\s*\{{?(?P<power>[-+]?\d{{1,3}})\}}?
        |\s?(?:\^|\*\*)\s?\{{?(?P<raised>[-+]?\d{{1,3}})\}}?)?
    )
    (?P<percent>\s?\\?%|\s?per\s?cent\b)?
    """,
    re.VERBOSE,
)
_AS_WRITTEN = {"\u2212": "-", "\u2013": "-", "\\,": "", "\\!": "", "{,}": ","}
_AS_WRITTEN |= {"\u00bd": " 1/2", "\u00bc": " 1/4", "\u00be": " 3/4", "\u2153": " 1/3", "\u2154": " 2/3"}
_WRITTEN = re.compile("|".join(map(re.escape, _AS_WRITTEN)))
_BASE = re.compile(r"(?<=\d)_(?:\{\w+\}|\d+)")


class Numeric(msgspec.Struct, frozen=True):
    """1 where the response's number is the reference's.

    It is the first number behind the mark of the final answer (the one behind the last `=` of that line), or else the last number of
    the response. Thousands separators, fractions, mixed numbers, powers and percent are read; 50% is also 0.5 where only one of
    the two is written in percent. tolerance: relative; 1e-6 takes 0.3333333 for 1/3 and nothing coarser.
    """

    name: str = "numeric"
    tolerance: float = 1e-6

    def score(self, query: Query, response: str) -> Score:
        """1 or 0; no quality where the reference holds no number."""
        if (missing := no_reference(query, self.name)) is not None:
            return missing
        wanted = next(numbers(query.reference or ""), None)
        if wanted is None:
            return Score(quality=None, judge=self.name, error=f"the reference {query.reference!r} holds no number")
        got = answered_number(response)
        if got is None:
            return Score(quality=0.0, judge=self.name, reason="no number in the response")
        return Score(quality=float(self._same(got, wanted)), judge=self.name)

    def _same(self, got: tuple[float, bool], wanted: tuple[float, bool]) -> bool:
        readings = [got[0]]
        if got[1] != wanted[1]:
            readings.append(got[0] / 100 if got[1] else got[0] * 100)
        return any(math.isclose(r, wanted[0], rel_tol=self.tolerance, abs_tol=1e-9) for r in readings)


def answered_number(response: str) -> tuple[float, bool] | None:
    """(the number a response gives as its answer, whether it is in percent); None where it has none."""
    response = without_thinking(response)
    answer = final_answer(response)
    if answer is not None:
        line = first_line(answer)
        for part in (line.rpartition("=")[2], line, answer):
            if (found := next(numbers(part), None)) is not None:
                return found
    every = list(numbers(response))
    return every[-1] if every else None


def numbers(text: str) -> Iterator[tuple[float, bool]]:
    """(value, whether it is in percent) of every number in a text, in order."""
    for m in _NUMBER.finditer(_BASE.sub("", _WRITTEN.sub(lambda m: _AS_WRITTEN[m[0]], text))):
        value = _value(m)
        if value is not None and math.isfinite(value):
            yield (-value if (m["sign"] or "").startswith("-") else value), bool(m["percent"])


def _value(m: re.Match[str]) -> float | None:
    if m["top"] is not None:
        bottom = _float(m["bottom"])
        return _float(m["top"]) / bottom if bottom else None
    if m["digit"] is not None:
        return float(m["digit"]) / float(m["below"]) if m["below"] != "0" else None
    if m["raised"] is not None:
        try:
            return _float(m["plain"]) ** int(m["raised"])
        except (OverflowError, ZeroDivisionError):
            return None
    if m["over"] is not None:
        under = _float(m["under"])
        return _float(m["whole"] or "0") + _float(m["over"]) / under if under else None
    return _float(f"{m['plain']}e{m['e'] or m['power'] or 0}")


def _float(digits: str) -> float:
    return float(digits.replace(",", ""))
