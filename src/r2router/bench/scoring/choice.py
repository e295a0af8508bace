"""The scorer `choice`: which letter a response picked."""

from __future__ import annotations

import re
import string

import msgspec

from r2router.bench.scoring.answers import no_reference
from r2router.bench.suite import Query, Score
from r2router.bench.thinking import without_thinking
from r2router.final_answer import final_answers, first_line, plain, reference_answer

_OPTIONS = 10
"""As many letters count where the query does not say how many options it has (`meta["options"]`)."""
_GOES_ON = frozenset(
    {"and", "as", "because", "but", "by", "due", "for", "from", "given", "instead", "is", "it", "or", "rather", "since",
    "so", "that",
     "though", "although", "thus", "which", "while", "with", "not", "the", "are", "was", "seems", "fits", "would"}
)  # fmt: skip
_DECORATION = " \t\n*_\"'`$({["
_CLOSING = " \t*_\"'`$)}].:,;"
_HEAD = re.compile(
    r"[\s*_\"'`$]{0,12}(?:(?:the\s)?(?:option|choice|letter|answer)\s{1,4})?[*_\"'`$]{0,4}([(\[{]?)([A-Za-z])(?:([)\].:,;*_\"'`$}\u2013\u2014])|(?=\s|$|\())"
)
_HEDGE = re.compile(
    r"[\s*_\"'`)\].,]{0,6}(?:or|and|and/or|/|&)[\s*_\"'`]{0,4}(?:(?:option|choice)\s)?[(\[]?([A-Z])\b(?!\s[a-z])"
)
_ITEM = re.compile(r"[(\[]?([A-Z])(?:[)\].]|:)(?=[\s*_]|$)")
_BRACKETED = re.compile(r"[(\[]([A-Z])[)\]]")
_NAMED = re.compile(
    r"\b(?:options?|choices?|answers?)\s{1,4}(?:is:?\s{1,4})?[*_\"'`(]{0,4}([A-Z])\b(?!')", re.IGNORECASE
)
_CAPITAL = re.compile(r"(?<![\w'\u2019.+-])([A-Z])(?![\w'\u2019+#-]|\.\w)(?:\s{1,4}([a-z]+))?")
_L = r"[*_\"'`$({\[]{0,4}([A-Z])[*_\"'`$)}\]]{0,4}"
_KIND = r"(?:answer|option|choice|one|statement|letter|response|alternative|solution|pick)s?"
_RIGHT = r"(?:correct|right|best|true|accurate|appropriate|suitable|valid)"
_SAID_RIGHT = re.compile(
    rf"""
    (?<![\w'])(?:option\s|choice\s|answer\s|letter\s)?{_L}\s(?:is|must\sbe|should\sbe|would\sbe|seems|looks|appears\sto\sbe)\s(?:\w{{2,12}}ly\s)?
      (?:the\s(?:only\s|most\s)?|my\s|our\s|a\s)?(?:{_RIGHT}\b|(?:final\s)?(?:answer|choice|pick)\b)
  | \b{_RIGHT}\s{_KIND}\s?(?:here\s)?(?:is|was|:|=|\u2013|\u2014|would\sbe|should\sbe|must\sbe|seems\sto\sbe)(?:\s\w{{2,12}}ly)?
      [:]?\s{{0,3}}(?:option\s|choice\s|letter\s)?{_L}(?!\w)
  | \bI(?:'d|'ll|\swill|\swould|\sam)?\s(?:therefore\s)?(?:choose|pick|select|go(?:ing)?\swith|opt\sfor|say|chose|answer)\s
      (?:option\s|choice\s|letter\s)?{_L}(?!\w)
    """,
    re.VERBOSE,
)
_CONCLUDED = re.compile(
    rf"""
    (?:\b(?:is|be|so|hence|thus|therefore|consequently|leaving|leaves|only|with|choose|pick|select|fits|remains?)\b|[\u2192\u21d2]|[-=]>)[,:]?\s{{1,4}}(?:only\s|us\s|with\s)?
    (?:(?:the\s)?(?:answer|option|choice|letter)\s(?:is\s)?)?{_L}[.!\s*_$]{{0,6}}\Z
    """,
    re.VERBOSE,
)
_EITHER = re.compile(rf"\beither\s(?:option\s)?{_L}\sor\s(?:option\s)?{_L}(?!\w)")
_REJECTED = re.compile(
    r"\W{0,6}(?:(?:it|this|that)\s)?(?:\w{1,12}\s){0,1}?(?:is\s|are\s|was\s)?(?:wrong|incorrect|false|fails?|no\b|not\b|too\b|cannot|can't|doesn't|does\snot|isn't|"
    r"eliminated|excluded|ruled\sout|impossible|out\b|contradicts?|violates?|unlikely)",
    re.IGNORECASE,
)


class Choice(msgspec.Struct, frozen=True):
    """1 where the letter that a response picks is the reference."""

    name: str = "choice"

    def score(self, query: Query, response: str) -> Score:
        """1 or 0; no quality where the reference is no letter."""
        if (missing := no_reference(query, self.name)) is not None:
            return missing
        right = reference_answer(query.reference or "").strip("()[].$* ").upper()
        if right not in string.ascii_uppercase or len(right) != 1:
            return Score(
                quality=None,
                judge=self.name,
                error=f"the reference {(query.reference or '')[:80]!r} is no letter of an option",
            )
        options = query.meta.get("options")
        texts = [str(o) for o in options] if isinstance(options, list) else []
        if texts and ord(right) - ord("A") >= len(texts):
            return Score(
                quality=None, judge=self.name, error=f"the reference {right} is none of the {len(texts)} options"
            )
        letters = string.ascii_uppercase[: max(len(texts) or _OPTIONS, ord(right) - ord("A") + 1)]
        picked = picked_letter(response, letters, texts)
        return Score(
            quality=float(picked == right), judge=self.name, reason="" if picked else "no letter in the response"
        )


def picked_letter(
    response: str, letters: str = string.ascii_uppercase[:_OPTIONS], options: list[str] | None = None
) -> str | None:
    """Return the option that a response picks; None where it picks none, or several.

    In this order: the option whose text, or the letter that, stands behind the last "answer is" (or in a box); a line
    that is nothing but a letter, the last one; the letter that is said to be right; the letter in which the response
    ends ("hence C"); the one line that begins as an option does ("B. ..."); the last letter in brackets; behind
    "option"; any capital letter that is no word of a sentence ("A" before a small word is an article, "I" a person);
    the one option whose text the answer holds.
    """
    response = without_thinking(response).translate(_FULL_WIDTH)
    texts = {letter: plain(option) for letter, option in zip(letters, options or (), strict=False)}
    for answer in final_answers(response):
        line = first_line(answer[:2000])
        found = _begins_as(line, texts)
        found = _head(line, letters) if found is None else found
        if found == "":
            return None
        if found or (found := _among([line], letters) or _by_text(line, texts)):
            return found
    lines = [line.strip(_DECORATION + _CLOSING) for line in response.splitlines()]
    lone = [line for line in lines if len(line) == 1 and line in letters]
    if lone:
        return lone[-1]
    if (said := _said(response, letters)) or _EITHER.search(response[-120:]):
        return said
    return _among(response.splitlines(), letters) or _by_text(response, texts) or _alone(response, letters)


def _alone(response: str, letters: str) -> str | None:
    alone = response.strip(_DECORATION + _CLOSING).upper()
    return alone if len(alone) == 1 and alone in letters else None


def _begins_as(answer: str, texts: dict[str, str]) -> str | None:
    """Return the option of several words whose text an answer begins with: "A cat" is no choice of A where an option is
    called so.

    Empty where it goes on with another option: "A cat or a dog".
    """
    said = plain(answer.strip(_DECORATION))
    fitting = [
        letter
        for letter, text in texts.items()
        if " " in text and said.startswith(text) and not said[len(text) : len(text) + 1].isalnum()
    ]
    best = max(fitting, key=lambda letter: len(texts[letter]), default=None)
    if best is not None and (m := _AND.match(said, len(texts[best]))) is not None:
        others = [text for letter, text in texts.items() if letter != best and text and said.startswith(text, m.end())]
        return "" if others else best
    return best


def _head(answer: str, letters: str) -> str | None:
    """Return the letter that an answer begins with, a small one only in brackets or alone; empty where it offers
    several.
    """
    answer = re.sub(r"\\(?:text|textbf|mathrm|mathbf)\s{0,4}\{([^{}]*)\}", r"\1", answer)
    m = _HEAD.match(answer)
    if m is None or m[2].upper() not in letters:
        return None
    rest = answer[m.end() :]
    if m[2].isupper() and (other := _HEDGE.match(rest)) is not None and other[1] in letters and other[1] != m[2]:
        return ""
    words = rest.split(maxsplit=1)
    closed = m[3] not in (None, "", ",", '"', "'", "\u2013", "\u2014")
    if m[2].islower():
        return m[2].upper() if closed or not words else None
    if closed or not words or m[3] in (",", "\u2013", "\u2014"):
        return m[2]
    return None if _is_word(m[2], _small_word(words[0])) else m[2]


def _small_word(word: str) -> str | None:
    """Return the word without the marks behind it, where it is one in small letters."""
    m = re.match(r"[a-z][a-z'\u2019-]*(?=[.,;:!?)\"'*]*$)", word)
    return m[0] if m else None


def _is_word(letter: str, following: str | None) -> bool:
    """Return whether a capital letter is a word: "A dog", "I think"."""
    return letter in "AI" and following is not None and following not in _GOES_ON


def _said(response: str, letters: str) -> str | None:
    """Return the one letter that is said to be right, or the one in which the response ends."""
    right = set()
    for m in _SAID_RIGHT.finditer(response):
        letter = next(g for g in m.groups() if g)
        following = response[m.end() : m.end() + 20].split(maxsplit=1) if m.end(m.lastindex or 0) == m.end() else []
        if letter in letters and not (following and _is_word(letter, _small_word(following[0]))):
            right.add(letter)
    if len(right) == 1:
        return right.pop()
    end = _CONCLUDED.search(response.rstrip()[-120:])
    return end[1] if end is not None and end[1] in letters else None


def _among(lines: list[str], letters: str) -> str | None:
    """Return the letter that the lines name in the style of an option, the last one of the clearest style."""
    items = [
        (m[1], line[m.end() :])
        for line in lines
        if (m := _ITEM.match(line.lstrip(" \t*_"))) is not None and m[1] in letters
    ]
    if len({letter for letter, _ in items}) == 1 and not _REJECTED.match(items[0][1]):
        return items[0][0]
    text = "\n".join(lines)
    for pattern in (_BRACKETED, _NAMED):
        found = [m[1] for m in pattern.finditer(text) if m[1] in letters]
        if found:
            return found[-1]
    standing = [m[1] for m in _CAPITAL.finditer(text) if m[1] in letters and not _is_word(m[1], m[2])]
    return standing[-1] if standing else None


def _by_text(answer: str, texts: dict[str, str]) -> str | None:
    """Return the one option whose text the answer holds."""
    said = plain(answer.strip(_DECORATION + _CLOSING))
    exact = [letter for letter, text in texts.items() if text and text == said]
    words = _words(said)
    found = exact or [letter for letter, text in texts.items() if (bare := _words(text)).strip() and bare in words]
    if len(found) > 1:  # "Paris, not London"
        found = [letter for letter in found if not any(f" {no}{_words(texts[letter])}" in words for no in _NOT)]
    return found[0] if len(found) == 1 else None


def _words(text: str) -> str:
    """Return the words of a text, a space around each."""
    return f" {' '.join(_BETWEEN.sub(' ', text).split())} "


_NOT = ("not", "rather than", "instead of")
_AND = re.compile(r",? (?:and|or|and/or) ")
_FULL_WIDTH = {full: full - 0xFEE0 for full in range(0xFF01, 0xFF5F)}  # as Chinese and Japanese texts write letters
_BETWEEN = re.compile(r"[^\w\s+#%-]+")
