"""The scorer `choice`: which letter a response picked."""

from __future__ import annotations

import re
import string

import msgspec

from r2router.bench.scoring.answers import final_answer, first_line, no_reference, plain
from r2router.bench.suite import Query, Score
from r2router.bench.thinking import without_thinking

_OPTIONS = 10
"""As many letters count where the query does not say how many options it has (`meta["options"]`)."""
_GOES_ON = frozenset(
    {"and", "as", "because", "but", "by", "due", "for", "from", "given", "is", "or", "since", "so", "that", "thus", "which", "with"}
)
_HEAD = re.compile(r"[\s*_\"'`$]*(?:(?:option|choice|letter)\s+)?[*_\"'`$]*([(\[]?)([A-Za-z])([)\].:,;*_\"'`$}]|(?=\s|$))")
_LONE = re.compile(r"^[\s*_(\[\"'`$]*([A-Z])[\s*_)\].:\"'`$]*$", re.MULTILINE)
_ITEM = re.compile(r"^[\s*_]*[(\[]?([A-Z])[)\].:][\s*_]", re.MULTILINE)
_BRACKETED = re.compile(r"[(\[]([A-Z])[)\]]")
_NAMED = re.compile(r"\b(?:option|choice|answer)s?\s+(?:is:?\s+)?[*_\"'`(]*([A-Z])\b", re.IGNORECASE)
_CAPITAL = re.compile(r"(?<![\w'\u2019.+-])([A-Z])(?![\w'\u2019+-]|\.\w)(?:\s+([a-z]+))?")


class Choice(msgspec.Struct, frozen=True):
    """1 where the letter that a response picks is the reference."""

    name: str = "choice"

    def score(self, query: Query, response: str) -> Score:
        """1 or 0; no quality where the reference is no letter."""
        if (missing := no_reference(query, self.name)) is not None:
            return missing
        right = (query.reference or "").strip().strip("()[].").upper()
        if right not in string.ascii_uppercase or len(right) != 1:
            return Score(quality=None, judge=self.name, error=f"the reference {query.reference!r} is no letter of an option")
        options = query.meta.get("options")
        texts = [str(o) for o in options] if isinstance(options, list) else []
        if texts and ord(right) - ord("A") >= len(texts):
            return Score(quality=None, judge=self.name, error=f"the reference {right} is none of the {len(texts)} options")
        letters = string.ascii_uppercase[: max(len(texts) or _OPTIONS, ord(right) - ord("A") + 1)]
        picked = picked_letter(response, letters, texts)
        return Score(quality=float(picked == right), judge=self.name, reason="" if picked else "no letter in the response")


def picked_letter(response: str, letters: str = string.ascii_uppercase[:_OPTIONS], options: list[str] | None = None) -> str | None:
    """The option that a response picks; None where it picks none.

    In this order: the letter right behind the last "answer is" (or in a box); a line that is nothing but a letter, the last one; a
    single line that begins as an option does ("B. ..."); the last letter in brackets; behind "option"; any capital letter that is
    no word of a sentence ("A" before a small word is an article, "I" a person); the one option whose text the answer holds.
    """
    response = without_thinking(response)
    answer = final_answer(response)
    if answer is not None and (letter := _head(answer, letters)) is not None:
        return letter
    for where in ([] if answer is None else [answer]) + [response]:
        for pattern, single in ((_LONE, False), (_ITEM, True), (_BRACKETED, False), (_NAMED, False)):
            found = [m[1] for m in pattern.finditer(where) if m[1] in letters]
            if found and not (single and len(set(found)) > 1):
                return found[-1]
        standing = [m[1] for m in _CAPITAL.finditer(where) if m[1] in letters and not _is_word(m[1], m[2])]
        if standing:
            return standing[-1]
    named = _by_text(response if answer is None else first_line(answer), options or [])
    if named is not None:
        return named
    alone = plain(response).upper()
    return alone if len(alone) == 1 and alone in letters else None


def _head(answer: str, letters: str) -> str | None:
    """The letter that an answer begins with; a small one only in brackets or alone."""
    answer = re.sub(r"\\(?:text|textbf|mathrm|mathbf)\s*\{([^{}]*)\}", r"\1", answer)
    m = _HEAD.match(answer)
    if m is None or m[2].upper() not in letters:
        return None
    rest = answer[m.end() :].split(maxsplit=1)
    closed = m[3] not in ("", ",", '"', "'")
    if m[2].islower():
        return m[2].upper() if closed or not rest else None
    if closed or not rest:
        return m[2]
    return None if _is_word(m[2], rest[0] if rest[0].isalpha() and rest[0].islower() else None) else m[2]


def _is_word(letter: str, following: str | None) -> bool:
    """Whether a capital letter is a word: "A dog", "I think"."""
    return letter in "AI" and following is not None and following not in _GOES_ON


def _by_text(answer: str, options: list[str]) -> str | None:
    said = f" {plain(answer)} "
    found = [i for i, option in enumerate(options) if plain(option) and f" {plain(option)} " in said]
    exact = [i for i in found if plain(options[i]) == said.strip()]
    found = exact or found
    return string.ascii_uppercase[found[0]] if len(found) == 1 else None
