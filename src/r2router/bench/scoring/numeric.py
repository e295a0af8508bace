"""The scorer `numeric`: numbers as people and LLMs write them."""

from __future__ import annotations

import math
import re

import msgspec

from r2router.bench.scoring.answers import no_reference
from r2router.bench.scoring.arithmetic import NARROW, NUMBER, Computed, NotNumber, evaluate
from r2router.bench.suite import Query, Score
from r2router.bench.thinking import without_thinking
from r2router.final_answer import marked_answers, reference_answer

_LONGEST = 600
"""So many characters of a line are read as an answer."""


class Numeric(msgspec.Struct, frozen=True):
    """1 where the response's number is the reference's.

    It is the first number behind the mark of the final answer (the one behind the last `=` of that line), or else the
    last number of the response. Separators, fractions, powers, sums and products of numbers, percent and `million` are
    read; 50% is also 0.5 where only one of the two is written in percent. A formula has no number: `2x+1` is not 2.

    tolerance: relative; 1e-6 takes 0.3333333 for 1/3 and nothing coarser.
    """

    name: str = "numeric"
    tolerance: float = 1e-6

    def score(self, query: Query, response: str) -> Score:
        """1 or 0; no quality where the reference is no number."""
        if (missing := no_reference(query, self.name)) is not None:
            return missing
        wanted = reference_number(query.reference or "")
        if wanted is None:
            why = (
                f"the reference {(query.reference or '')[:80]!r} is no number; score it with `math` or `exact`, or an"
                " LLM judge"
            )
            return Score(quality=None, judge=self.name, error=why)
        got = answered_numbers(response)
        if not got:
            return Score(quality=0.0, judge=self.name, reason="no number in the response")
        return Score(quality=float(any(self._same(g, wanted) for g in got)), judge=self.name)

    def _same(self, got: ParsedNumber, wanted: ParsedNumber) -> bool:
        readings = [got.value]
        if got.percent != wanted.percent:
            readings.append(got.value / 100 if got.percent else got.value * 100)
        if got.scale != wanted.scale:  # "2 million" may answer how many millions
            readings.append(got.value / got.scale * wanted.scale)
        return any(math.isclose(r, wanted.value, rel_tol=self.tolerance, abs_tol=1e-9) for r in readings)


class ParsedNumber(msgspec.Struct, frozen=True):
    """A number.

    percent: it is written in percent.
    scale: of the word behind it, a part of the value (1e6 for million).
    """

    value: float
    percent: bool = False
    scale: float = 1.0


def reference_number(reference: str) -> ParsedNumber | None:
    """Return the number that a reference is; None for a tuple, an interval, a formula, or several numbers."""
    found = _whole(_readable(reference_answer(reference)[-_LONGEST:]), factorial=True)
    return found[0] if found and found[1] else None


def answered_numbers(response: str) -> list[ParsedNumber]:
    """Return the number that a response gives as its answer, twice where it is given exactly and about; empty where it
    has none.
    """
    response = without_thinking(response)
    for answer, boxed in marked_answers(response):
        for line in _lines(answer):
            return _of_line(line, boxed)
    return _last(response)


def _lines(text: str) -> list[str]:
    """Return the first line with a digit of the first two that say something."""
    lines = [line for raw in text[: 8 * _LONGEST].splitlines() if (line := raw.strip()[:_LONGEST])]
    return [line for line in lines[:2] if _DIGIT.search(line)][:1]


_DIGIT = re.compile(r"[\d\u00bd\u00bc\u00be\u2153\u2154\u03c0]|\\pi\b")
_ABOUT = re.compile(r"\\approx|\u2248|~=|\\simeq")


def _of_line(line: str, boxed: bool) -> list[ParsedNumber]:
    found = []
    said = _REASON.split(line, maxsplit=1)[0]
    line = said if not boxed and _DIGIT.search(said) else line
    for part in _ABOUT.split(_readable(line, grouped=True)):
        sides = [side for side in _EQUALS.split(part) if _DIGIT.search(side)]
        if not sides or _SEVERAL.search(part):
            continue
        whole = _whole(part, factorial=True) if boxed else (_whole(sides[-1]) or _leading(sides[-1]))
        found += [] if whole is None else [whole[0]]
    return found


_REASON = re.compile(r"[,;.]?\s(?:since|because|given|where|which|while|but)\s", re.IGNORECASE)
_EQUALS = re.compile(r"(?<![<>!])=+>?")
_SEVERAL = re.compile(r"=[^=\n]{1,80}\b(?:or|and)\b[^=\n]{1,80}=|=[^=\n,]{1,40},\s?[a-zA-Z]\s?=")


def _last(response: str) -> list[ParsedNumber]:
    """Return the last number of a response without a mark."""
    line = next((line for line in reversed(response.splitlines()) if _DIGIT.search(line)), "").strip()
    if (whole := _whole(_readable(line[-_LONGEST:], grouped=True), spaced=False)) is not None:
        return [whole[0]]
    text = _readable(line[-_LONGEST:])
    side = next((side for side in reversed(text.split("=")) if _DIGIT.search(side)), "")
    if (whole := _whole(side, spaced=False)) is not None:
        return [whole[0]]
    for m in reversed(list(re.finditer(r"\S+", side))):
        word = m[0].strip("*_`$\"',;:!?").rstrip(".")
        if not _DIGIT.search(word):
            continue
        if (whole := _whole(word + _unit(side[m.end() :]), spaced=False)) is not None:
            return [whole[0]]
        if _FORMULA.search(word):
            return []
        if re.search(r"[a-z]", word, re.IGNORECASE):  # H2O, COVID-19
            continue
        *_, last = NUMBER.finditer(word)
        return [ParsedNumber(value)] if (value := _finite(last[0])) is not None else []
    return []


def _unit(rest: str) -> str:
    """Return what follows a number, where it belongs to it."""
    m = re.match(r"\s?(?:%|per\s?cent\b|(?:hundred|thousand|million|billion|trillion)\b)", rest, re.IGNORECASE)
    return m[0] if m else ""


def _finite(digits: str) -> float | None:
    from r2router.bench.scoring.arithmetic import number

    value = number(digits)
    return value if math.isfinite(value) else None


_FORMULA = re.compile(
    r"(?:\b[a-z]|[)}])[-+*/^=]|[-+*/^=](?:[a-z](?![a-z])|[(\\{])|\\[a-z]|^\d+[a-z]$|[a-z]\(", re.IGNORECASE
)

# -- a text that holds one number
# ---------------------------------------------------------------------------------------

_TEXT = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|textrm|mbox|operatorname)\s{0,4}\{([^{}]*)\}")
_WORD_MARK = "\ue000"
_AS_WRITTEN = {
    "\u2212": "-", "\u2013": "-", "\u2010": "-", "\u2011": "-", "\u2019": "'", "\u2044": "/", "{,}": ",", "\\%": "%",
    "\\$": "$",
    **dict.fromkeys(("\\,", "\\;", "\\:", "\\ ", "\u00a0", "\u2009", "\u2007"), NARROW),
    **dict.fromkeys(("\\dfrac", "\\tfrac", "\\cfrac"), "\\frac"),
    **dict.fromkeys(("\\(", "\\)", "\\[", "\\]"), " "),
    **dict.fromkeys(("\\!", "\\left", "\\right", "\\displaystyle"), ""),
    "\u00bd": " 1/2", "\u00bc": " 1/4", "\u00be": " 3/4", "\u2153": " 1/3", "\u2154": " 2/3",
}  # fmt: skip
_WRITTEN = re.compile("|".join(map(re.escape, sorted(_AS_WRITTEN, key=len, reverse=True))))
_BASE = re.compile(r"(?<=\d)_(?:\{\w{1,6}\}|\d{1,2}(?!\d))")
_HIGH = str.maketrans("\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079\u207b", "0123456789-")
_RAISED = re.compile(r"(?<=[\d)])[\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u207b]{1,4}")
_EMPHASIS = re.compile(r"(?<![\w)])\*\*|\*\*(?![\w(])|__|`")
_SPACED_GROUPS = re.compile(r"(?<![\d.,/])\d{1,3}(?: \d{3})+(?![\d/]|[ ,]\d|\.\d{4})")


def _readable(text: str, *, grouped: bool = False) -> str:
    """Return the text in one notation.

    grouped: digits in groups of three are one number also with common spaces between them.
    """
    text = text.rstrip("\\ ")  # of a bracket that was cut
    text = _TEXT.sub(
        lambda m: f" {m[1]} " if _DIGIT.search(m[1]) or m[1].strip() in ("or", "and", "to") else f" {_WORD_MARK}", text
    )
    text = _WRITTEN.sub(lambda m: _AS_WRITTEN[m[0]], text)
    text = _RAISED.sub(lambda m: f"^{{{m[0].translate(_HIGH)}}}", text)
    text = _BASE.sub("", _EMPHASIS.sub("", text))
    return _SPACED_GROUPS.sub(lambda m: m[0].replace(" ", NARROW), text) if grouped else text


_BEGIN = re.compile(
    rf"""(?P<sign>(?<![\w)}}.])[-+][ ]?)?[$\u20ac\u00a3\u00a5\u20b9({{\[]{{0,3}}
    (?P<first>\\frac|\\sqrt|\u221a|sqrt\(|\\pi\b|\u03c0|{NUMBER.pattern})""",
    re.VERBOSE | re.IGNORECASE,
)
_UNITS = frozenset("mgshlvjfckLVWJNCFK")
_UNIT_WORD = re.compile(
    r"(?:cm|mm|km|nm|kg|mg|ml|dl|ft|in|lbs?|oz|hrs?|mins?|secs?|ms|am|pm|mph|kmh|kph|kwh?|[kmgt]b|hz|usd|eur|gbp|inr|pts?|th|st|nd|rd|px|yds?|mi|"
    r"sq|pc|pcs|kj|mol|ev|pa|rs)\b|[a-z]{4,}",
    re.IGNORECASE,
)
_SCALES = {"hundred": 1e2, "thousand": 1e3, "million": 1e6, "billion": 1e9, "trillion": 1e12, "k": 1e3}
_SCALE = re.compile(r"\s?(hundred|thousand|million|billion|trillion)\b|(?<=\d)k\b", re.IGNORECASE)
_PERCENT = re.compile(r"\s?%|\s?per\s?cent\b", re.IGNORECASE)
_DEGREES = re.compile(r"\s?(?:\^\s?\{?\\circ\}?|\u00b0)")
_ANOTHER = re.compile(
    r"[\s*_$)]{0,4}(?:[a-z]{2,12}\s)?(?:or|and|to|through)\s{1,3}\W{0,3}[\d]|\s?(?::|\\pm|\u00b1|[\u2013-])\s?\d|\s?[<>]",
    re.IGNORECASE,
)
_GOES_ON = re.compile(
    r"\s?(?:\\(?!text|%|\$|circ|quad|end|,|;|\\)[a-z]+|[-+*/^\u00d7\u00b7]\s?(?:[a-z](?![a-z])|[(\\{]))|\((?!s\))|\s?!(?=\s?[-+*/^(\d])",
    re.IGNORECASE,
)


def _leading(text: str, *, spaced: bool = False) -> tuple[ParsedNumber, bool] | None:
    """Return (the first number of a text, whether it is exact); None where it belongs to a formula, or to several that
    are offered.
    """
    for m in _BEGIN.finditer(text):
        before = text[: m.start()].rstrip(" $*_\"'" + NARROW)
        if m.start() and text[m.start() - 1].isalnum() and not m["sign"]:  # H2O
            continue
        if before[-1:] in ("^", "\\", "<", ">", "/", "+", "\u00b1") or re.search(
            r"(?:\\[a-z]+|[-*/]|\b[a-zA-Z])$", before
        ):
            if re.search(r"\b(?:[aAI])$", before) or (before.endswith("-") and not re.search(r"[\w)}]\s?-$", before)):
                pass
            else:
                return None
        return _read(text, m, spaced=spaced)
    return None


def _read(text: str, m: re.Match[str], *, spaced: bool) -> tuple[ParsedNumber, bool] | None:
    try:
        found = evaluate(text, _begin(text, m), spaced=spaced)
    except NotNumber:
        return None
    return _with_unit(text, found, opened=text[m.start("first") - 1 : m.start("first")] in ("(", "[", "{"))


def _begin(text: str, m: re.Match[str]) -> int:
    """Find the start of an expression: its sign, or the brackets before it."""
    if m["sign"]:
        return m.start("sign")
    at = m.start("first")
    while at > m.start() and text[at - 1] in "({":
        at -= 1
    return at


def _with_unit(text: str, found: Computed, *, opened: bool) -> tuple[ParsedNumber, bool] | None:
    """Return the number with what stands behind it; None where that makes it a part of a formula, or one of several."""
    at = found.end
    if (m := _DEGREES.match(text, at)) is not None:
        at = m.end()
    percent = _PERCENT.match(text, at)
    at = percent.end() if percent else at
    scale = 1.0
    if (m := _SCALE.match(text, at)) is not None:
        scale, at = _SCALES[(m[1] or "k").lower()], m.end()
    rest = text[at:]
    if rest[:1].isalpha() and rest[0] != _WORD_MARK and not percent:
        unit = _UNIT_WORD.match(rest)
        if unit is None and not (rest[0] in _UNITS and not rest[1:2].isalnum()):
            return None  # a variable
        rest = rest[unit.end() if unit else 1 :]
        rest = re.sub(r"^\s?\^\s?\{?-?\d\}?", "", rest)
    elif re.match(r"\s[xyznt](?![\w'])", rest):
        return None
    if _ANOTHER.match(rest) or _GOES_ON.match(rest) or (opened and re.match(r"\s?,", rest)):
        return None
    return ParsedNumber(found.value * scale, percent is not None, scale), found.exact


_ONLY_WORDS = re.compile(r"[^\d\\+*/=<>|^\[\]{}(]*")
_WORDS_BEFORE = re.compile(
    rf"(?:[^\W\d]{{2,}}+[.:]?|[#$\u20ac\u00a3\u00a5\u20b9{_WORD_MARK}*\"'(]|_(?![^\W\d])|\s|\b[aI]\b|-(?=[ $]))*"
)
_EXPONENT = re.compile(rf"(?<=[a-zA-Z{_WORD_MARK}])\s?\^\s?\{{?-?\d\}}?|[\u00b2\u00b3]|/(?=[a-z\ue000 ])")


def _whole(text: str, *, spaced: bool = True, factorial: bool = False) -> tuple[ParsedNumber, bool] | None:
    """Return (the number that a text is, whether it is exact), with words and a unit around it; None where it is
    anything more.
    """
    text = text.strip(" $*_\n\t" + NARROW)
    if _SEVERAL.search(text):
        return None
    text = _EQUALS.split(text)[-1].strip(" $*_" + NARROW)
    m = _BEGIN.search(text)
    if m is None or not _WORDS_BEFORE.fullmatch(text[: m.start()]):
        return None
    if factorial and (n := re.fullmatch(r"(\d{1,3})!", text)) is not None and int(n[1]) <= 170:
        return ParsedNumber(float(math.factorial(int(n[1])))), True
    found = _read(text, m, spaced=spaced)
    if found is None:
        return None
    try:
        end = evaluate(text, _begin(text, m), spaced=spaced).end
    except NotNumber:
        return None
    rest = _DEGREES.sub("", _EXPONENT.sub("", text[end:])).strip()
    if rest.startswith(",") and re.match(r",\s?[-\d\\]", rest):
        return None
    return found if _ONLY_WORDS.fullmatch(rest.rstrip("}").replace("(", "") if found else rest) else None
