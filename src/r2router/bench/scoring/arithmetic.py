"""The value of a number as people, LLMs and LaTeX write it: separators, fractions, powers, roots, sums and products of
numbers.

A small recursive reader of our own, without a parser of a language behind it: it meets what an LLM wrote. Texts are
bounded by the caller.
"""

from __future__ import annotations

import math
import re

import msgspec

NARROW = "\u202f"
"""What every narrow space and LaTeX's spaces become: it may stand between groups of digits."""

_DEPTH = 30
_GROUPS = rf"""
    \d{{1,3}}(?:\.\d{{3}})+,\d+(?![\d,])             # 12.345,67
  | (?: \d{{1,3}}(?:,\d{{3}})+(?!\d)                   # 12,345
      | \d{{1,2}}(?:,\d{{2}})+,\d{{3}}(?!\d)           # 1,00,000
      | \d{{1,3}}(?:{NARROW}\d{{3}})+(?!\d)            # 12 345
      | \d{{1,3}}(?:'\d{{3}})+(?!\d)                   # 12'345
      | \d{{1,3}}(?:_\d{{3}})+(?![\d_])                # 1_000
      | \d{{1,3}}(?:\.\d{{3}}){{2,}}(?![\d.])          # 1.234.567
      | \d++ ) (?:\.\d+)?
  | \.\d+
"""
NUMBER = re.compile(rf"(?:{_GROUPS})(?:e[-+]?\d{{1,3}}(?!\w))?", re.VERBOSE | re.IGNORECASE)
_EUROPEAN = re.compile(r"[\d.]+,\d+")
_MIXED = re.compile(
    r"(?P<whole>\d{1,9})[ \u202f]?(?:\\frac\{(?P<top>\d{1,9})\}\{(?P<low>\d{1,9})\}|["
    r" \u202f](?P<over>\d{1,9})/(?P<under>\d{1,9})(?![\d/]))"
)
_DATE = re.compile(r"\d{1,4}/\d{1,2}/\d{1,4}(?!\d)")
_FRAC = re.compile(r"\\frac ?(?:(?P<digit>\d) ?(?P<below>\d)|(?=\{))")
_ROOT = re.compile(r"\\sqrt(?:\[(?P<degree>\d{1,2})\])?|\u221a|sqrt(?=[({])")
_PI = re.compile(r"\\pi(?![a-zA-Z])|\u03c0|pi\b", re.IGNORECASE)
_TIMES = re.compile(
    r"\s?(?:\\times|\\cdot|\u00d7|\u00b7|\u22c5|\*(?!\*)|[xX](?=\s?10\s?(?:\^|\*\*))|(?<=\s)[xX](?=\s\d))\s?"
)
_OVER = re.compile(r"\s?(?:/(?!/)|\\div|\u00f7)\s?")
_PLUS = re.compile(r"\s?([+-])\s?")
_POWER = re.compile(r"\s?(?:\^|\*\*)\s?")


class NotNumber(Exception):
    """What stands there has no value of its own."""


class Computed(msgspec.Struct, frozen=True):
    """The value of an arithmetic expression.

    end: where the expression ends in the text.
    exact: no root and no constant in it.
    operated: it is more than one number.
    """

    value: float
    end: int
    exact: bool = True
    operated: bool = False


def evaluate(text: str, at: int, *, spaced: bool = True) -> Computed:
    """Return the longest expression of numbers that begins there.

    spaced: whether `a-b` is a difference.

    Raises `NotNumber`.
    """
    reader = _Evaluator(text, spaced)
    value, end = reader.sum(at, 0)
    if isinstance(value, complex) or not math.isfinite(value):
        raise NotNumber
    return Computed(value, end, reader.exact, reader.operated)


class _Evaluator:
    def __init__(self, text: str, spaced: bool) -> None:
        self.text, self.spaced = text, spaced
        self.exact, self.operated = True, False

    def sum(self, at: int, depth: int) -> tuple[float, int]:
        """Terms with plus and minus between them."""
        total, at = self.product(at, depth)
        while (m := _PLUS.match(self.text, at)) is not None:
            if not self.spaced and m[0] == "-":  # 2-3 in a sentence is a range
                break
            try:
                term, at = self.product(m.end(), depth)
            except NotNumber:
                break
            self.operated = True
            total += term if m[1] == "+" else -term
        return total, at

    def product(self, at: int, depth: int) -> tuple[float, int]:
        """Powers with signs of multiplication and division between them, or none before a root, a constant or a
        bracket.
        """
        while self.text[at : at + 1] in (" ", "$"):
            at += 1
        if self.text[at : at + 1] in ("-", "+") and depth < _DEPTH:  # of the whole product: -3^2 is -9
            total, end = self.product(at + 1, depth + 1)
            return (-total if self.text[at] == "-" else total), end
        total, at = self.power(at, depth)
        while True:
            over = _OVER.match(self.text, at)
            m = over or _TIMES.match(self.text, at)
            begin = m.end() if m else at
            if m is None and not (
                _ROOT.match(self.text, at) or _PI.match(self.text, at) or self.text[at : at + 1] == "("
            ):
                return total, at
            try:
                factor, end = self.power(begin, depth)
            except NotNumber:
                return total, at
            self.operated = True
            try:
                total, at = (total / factor if over else total * factor), end
            except (OverflowError, ZeroDivisionError):
                raise NotNumber from None

    def power(self, at: int, depth: int) -> tuple[float, int]:
        """A number or what stands for one, and what it is raised to."""
        base, at = self.atom(at, depth)
        m = _POWER.match(self.text, at)
        if m is None or self.text.startswith(("\\circ", "{\\circ}"), m.end()):
            return base, at
        exponent, at = (
            self.atom(m.end(), depth) if self.text[m.end() : m.end() + 1] != "{" else self.group(m.end(), depth)
        )
        self.operated = True
        self.exact = self.exact and exponent == int(exponent)
        try:
            raised = base**exponent
        except (OverflowError, ZeroDivisionError):
            raise NotNumber from None
        if isinstance(raised, complex):
            raise NotNumber
        return raised, at

    def atom(self, at: int, depth: int) -> tuple[float, int]:
        """A number, a fraction, a root, a constant, a bracket; with a sign before it."""
        text = self.text
        while at < len(text) and text[at] in " $" + NARROW:
            at += 1
        if text[at : at + 1] in ("-", "+"):
            value, end = self.atom(at + 1, depth + 1) if depth < _DEPTH else _refuse()
            return (-value if text[at] == "-" else value), end
        if _DATE.match(text, at):
            raise NotNumber
        if (m := _MIXED.match(text, at)) is not None:
            low = float(m["low"] or m["under"])
            if not low:
                raise NotNumber
            return float(m["whole"]) + float(m["top"] or m["over"]) / low, m.end()
        if (m := NUMBER.match(text, at)) is not None:
            return number(m[0]), m.end()
        if (m := _FRAC.match(text, at)) is not None:
            if m["digit"]:
                top, low, end = float(m["digit"]), float(m["below"]), m.end()
            else:
                top, middle = self.group(m.end(), depth)
                low, end = self.group(middle, depth)
            if not low:
                raise NotNumber
            return top / low, end
        if (m := _ROOT.match(text, at)) is not None:
            self.exact = False
            value, end = (
                self.group(m.end(), depth)
                if text[m.end() : m.end() + 1] in ("{", "(")
                else self.atom(m.end(), depth + 1)
            )
            if value < 0:
                raise NotNumber
            return value ** (1 / (int(m["degree"] or 2) or 2)), end
        if (m := _PI.match(text, at)) is not None:
            self.exact = False
            return math.pi, m.end()
        return self.group(at, depth)

    def group(self, at: int, depth: int) -> tuple[float, int]:
        """What stands in braces or brackets."""
        closing = {"{": "}", "(": ")"}.get(self.text[at : at + 1])
        if closing is None or depth >= _DEPTH:
            raise NotNumber
        spaced, self.spaced = self.spaced, True
        value, end = self.sum(at + 1, depth + 1)
        self.spaced = spaced
        while self.text[end : end + 1] == " ":
            end += 1
        if self.text[end : end + 1] != closing:
            raise NotNumber
        return value, end + 1


def _refuse() -> tuple[float, int]:
    raise NotNumber


def number(digits: str) -> float:
    """Return the value of digits with separators."""
    if _EUROPEAN.fullmatch(digits) and "." in digits and digits.index(".") < digits.index(","):
        digits = digits.replace(".", "").replace(",", ".")
    elif digits.count(".") > 1:
        digits = digits.replace(".", "")
    return float(digits.replace(",", "").replace(NARROW, "").replace("'", "").replace("_", ""))
