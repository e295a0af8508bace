"""Where the answer stands in a response: behind "the answer is", in a box, behind ####, or at the end."""

from __future__ import annotations

import re
import string

from r2router.bench.suite import Query, Score

_MARK = re.compile(
    r"\banswer\b(?:\s+(?:to|for)\s[^.:\n]{0,80}?)?[\s*_\"']*"
    r"(?:\bis\b(?!\s+not\b)(?:\s+therefore|\s+thus)?[\s*_]*:?|[:=])[\s*_]*|^\s*####[ \t]*",
    re.IGNORECASE | re.MULTILINE,
)
_BOX = re.compile(r"\\boxed\s*\{|\\fbox\s*\{")
_WRAPPED = re.compile(r"\\(?:text|textbf|mathrm|mathbf|textrm|mbox)\s*\{([^{}]*)\}")


def final_answer(response: str) -> str | None:
    """What the response gives as its answer: in its last box, or behind its last "(final) answer is"; None without either."""
    found = [(m.start(), m.end(), False) for m in _MARK.finditer(response) if response[m.end() :].strip()]
    found += [(m.start(), m.end(), True) for m in _BOX.finditer(response) if response[m.end() :].strip()]
    if not found:
        return None
    _, end, boxed = max(found)
    return (_inside(response[end:]) if boxed else response[end:]).strip()


def first_line(text: str) -> str:
    """The first line that says something."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def plain(text: str) -> str:
    """A short answer without case, white space, LaTeX wrapping, and quotes or marks around it."""
    text = _WRAPPED.sub(r"\1", text)
    return " ".join(text.strip(string.whitespace + string.punctuation.replace("-", "")).casefold().split())


def no_reference(query: Query, judge: str) -> Score | None:
    """The score where there is nothing to compare with: none."""
    return Score(quality=None, judge=judge, error="the query has no reference") if query.reference is None else None


def _inside(text: str) -> str:
    """Up to the brace that closes the one before `text`; to the end of the line where none does (an answer that was cut)."""
    depth = 1
    for i, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[:i]
    return text.split("\n", 1)[0]
