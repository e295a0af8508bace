"""Finds the final answer in a response: behind "the answer is", in a box, under a heading, behind ####, or at the end.

Every pattern is bounded, so that time is linear in the length of a response.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

MARKS = 20
"""So many of a response's marks are looked at, from its end."""

_ADVERB = (
    r"(?:clearly|therefore|thus|then|hence|definitely|obviously|indeed|simply|just|actually|most\ likely|likely|probably|surely|certainly|"
    r"of\ course|still|now|given\ by|as\ follows|equal\ to)"
)
_VERB = (
    r"(?:is|was|are|equals|becomes|(?:should|would|must|will)(?:\ have\ to)?\ be|has\ to\ be|can\ only\ be|ought\ to\ be|"
    r"(?:seems|appears|turns\ out|comes\ out|has)\ to\ be|seems|comes\ (?:out\ )?(?:to|at)|remains)\b"
)
_IS = rf"(?:{_VERB}|[:=\u2192\u21d2\u2013\u2014]|[-=]>|-(?=\ ))"
_MARK = re.compile(
    rf"""
    \banswers?\b(?:\ \([^()\n]{{0,30}}\))?
      (?:[\s*_"'`]{{0,12}}(?:,?\ ?{_ADVERB},?\ ){{0,2}}{_IS}
        |\ (?:to|for|of|that|which|here|I|we)\b[^.:\n]{{0,80}}?(?:[\s*_"'`]{{0,4}}:|\s(?:{_ADVERB}\ )?{_VERB}))
      (?:[,:]?\s{{1,4}}{_ADVERB}\b){{0,2}}[,:]?(?P<no>\s{{1,4}}not\b)?[\s*_]{{0,12}}:?[\s*_]{{0,12}}
  | ^[ \t#*_>-]{{0,12}}(?:(?:the|my|final|correct|short)[ ]){{0,2}}answer[ \t.:*_#-]{{0,8}}\n\s{{0,12}}     # a heading
  | ^[ \t]{{0,8}}(?P<hashes>\#\#\#\#)(?!\#)[ \t]{{0,8}}                                                      # GSM8K
  | <(?P<tag>(?:final_?)?answer)>\s{{0,12}}
  | (?P<box>\\(?:boxed|fbox)\s{{0,4}}(?:\{{|(?=[\w.-])))
    """,
    re.IGNORECASE | re.MULTILINE | re.VERBOSE,
)
_BUT = re.compile(
    r"[^.\n]{0,120}?(?:\bbut|,\ (?:it\ is|it's)|;\ (?:it\ is|it's)|\binstead)\b(?:\ rather)?[,:]?\s{1,4}",
    re.IGNORECASE | re.VERBOSE,
)
_WRAPPED = re.compile(r"\\(?:text|textbf|textit|mathrm|mathbf|textrm|mbox|operatorname)\s{0,4}\{([^{}]*)\}")
_LINE = re.compile(r"[^\n]*")


def final_answer(response: str) -> str | None:
    """Return what the response gives as its answer: in its last box, or behind its last "(final) answer is"; None
    without either.
    """
    return next(final_answers(response), None)


def final_answers(response: str) -> Iterator[str]:
    """Return what stands behind the marks of an answer, from the last mark to the first of the last `MARKS`."""
    return (answer for answer, _ in marked_answers(response))


def marked_answers(response: str) -> Iterator[tuple[str, bool]]:
    """Return the `final_answers`, each with whether it is all that a box or a tag holds."""
    length = len(response.rstrip())
    found: list[tuple[int, str]] = []
    for m in _MARK.finditer(response):
        if (begin := _begin(response, m, length)) is not None:
            found.append((begin, "box" if m["box"] else "tag" if m["tag"] else ""))
            del found[:-MARKS]
    for begin, kind in reversed(found):
        if kind == "box":
            yield _inside(response, begin).strip(), True
        elif kind == "tag":
            yield response[begin:].partition("</")[0].strip(), True
        else:
            yield response[begin:].strip(), False


def _begin(response: str, m: re.Match[str], length: int) -> int | None:
    """Find where the answer behind a mark begins; None where none follows, or the mark is none."""
    begin: int | None = m.end()
    if m["no"]:  # "is not A but B"
        other = _BUT.match(response, m.end())
        begin = other.end() if other else None
    if begin is None or begin >= length:
        return None
    if m["hashes"]:  # also a heading in Markdown: an answer where it is the last line, or a number
        line = _LINE.match(response, begin)
        if line is not None and line.end() < length and any(c.isalpha() for c in line[0]):
            return None
    return begin


def reference_answer(reference: str) -> str:
    """Return what of a reference is compared with: behind #### (GSM8K holds the working too) or in a box, without
    LaTeX's wrapping of words.
    """
    if "####" in reference:
        reference = reference.rpartition("####")[2]
    elif "\\boxed" in reference:
        reference = final_answer(reference) or reference
    return _WRAPPED.sub(r"\1", reference).strip()


def first_line(text: str) -> str:
    """Return the first line that says something."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


_SAME = str.maketrans(
    {
        "\u2018": "'",
        "\u2019": "'",
        "\u201c": '"',
        "\u201d": '"',
        "\u2013": "-",
        "\u2014": "-",
        "\u2212": "-",
        "\u00a0": " ",
    }
    | dict.fromkeys(("\u2010", "\u2011"), "-")
)
_PAIRS = (
    ("**", "**"),
    ("__", "__"),
    ("\\(", "\\)"),
    ("\\[", "\\]"),
    *((c, c) for c in "\"'`*_$"),
    ("\u00ab", "\u00bb"),
    ("(", ")"),
)


def plain(text: str) -> str:
    """Return a short text without case, LaTeX wrapping, forms of Unicode and quotes, and runs of white space. Marks
    stay: C++ is not C.
    """
    return " ".join(unicodedata.normalize("NFC", _WRAPPED.sub(r"\1", text)).translate(_SAME).casefold().split())


def bare_forms(text: str) -> set[str]:
    """`plain` text as it stands, and with the marks around it taken off one after the other: quotes, emphasis, the end
    of a sentence.

    A mark that may be part of the answer stays: `.5`, `5!`, `50%`, `C#`, `A*`, and brackets of lists.
    """
    said = plain(text)
    forms = {said}
    for _ in range(_LAYERS):
        if not (barer := _barer(said)) or barer == said:
            break
        forms.add(said := barer)
    return forms


_LAYERS = 20


def _barer(said: str) -> str:
    for begin, end in _PAIRS:
        inner = said[len(begin) : len(said) - len(end)]
        if (
            len(said) > len(begin + end)
            and said.startswith(begin)
            and said.endswith(end)
            and not (begin == "(" and set(inner) & set(",()"))
        ):
            return inner.strip()
    if said[-1:] in ".,;:" or (said[-1:] in "!?" and said[-2:-1].isalpha()):
        return said[:-1].rstrip()
    if said.endswith(("**", "__")):  # the other end was before the mark
        return said[:-2].rstrip()
    if said.startswith(("- ", "* ", "> ", "# ")):
        return said[2:].lstrip()
    return said


def _inside(text: str, begin: int) -> str:
    """Up to the brace that closes the one before `begin`; to the end of the line where none does (an answer that was
    cut).
    """
    if text[begin - 1] != "{":  # \boxed 5
        return re.split(r"[\s$]", text[begin : begin + 40], maxsplit=1)[0]
    depth = 1
    for m in re.compile(r"[{}]").finditer(text, begin):
        depth += 1 if m[0] == "{" else -1
        if depth == 0:
            return text[begin : m.start()]
    return text[begin:].split("\n", 1)[0]
