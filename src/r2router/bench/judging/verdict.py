"""Reading a judge's reply: one JSON object and nothing else, or no verdict.

What a judge writes holds what the judged wrote, so nothing is searched for within a reply: an object among other words
may be a quotation. Thinking, a code fence and slips of notation that leave no doubt are forgiven; the rest is asked
again. Time is linear in the length.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from r2router.bench.outcome import CUT
from r2router.bench.thinking import split_thinking

GRID = tuple(i / 10 for i in range(11))


class Verdict(msgspec.Struct, frozen=True):
    """What a judge said about one answer.

    score: on the grid.
    reason: the judge's sentence.
    """

    score: float
    reason: str = ""


NOT_WHOLE = frozenset({*CUT, "content_filter"})
"""Finish reasons of a reply that may end before its verdict, or within it."""


def read_verdict(text: str, finish_reason: str | None = None) -> Verdict | None:
    """Return the verdict of a judge's reply; None where it is none.

    The reply is one JSON object with a `score` on the grid, beside nothing but thinking and a fence around it. Forgiven
    are raw line breaks and LaTeX within a reason, single quotes, comments, a comma too many, a missing brace at the
    end, other case of the keys. A score off the grid is none, rather than rounded: a judge that says 7 or 0.75 has not
    understood the scale. A reply that was cut off is none, whatever it holds.
    """
    said = split_thinking(text)
    if said.cut or finish_reason in NOT_WHOLE:
        return None
    reply = _unfenced(said.answer.strip().removeprefix("\ufeff"))
    pairs = _strict(reply) or _strict(_ESCAPES.sub(lambda m: m[0] if m[1] else r"\\", reply)) or _loose(reply)
    fields = {str(name).lower(): value for name, value in pairs or ()}
    if pairs is None or len(fields) < len(pairs):  # a field that stands twice says two things
        return None
    score, reason = _on_grid(fields.get("score")), fields.get("reason")
    return None if score is None else Verdict(score, reason if isinstance(reason, str) else "")


_ESCAPES = re.compile(r'\\(["\\/bfnrt]|u[0-9a-fA-F]{4})|\\')
_FENCE = re.compile(r"(`{3,}|~{3,})[a-zA-Z0-9]{0,12}[ \t]*+\n?")
_WITHOUT_DOUBT = re.compile(r"\+?(?:[01](?:\.\d{0,20})?|\.\d{1,20})")

Pairs = list[tuple[str, Any]]


def _unfenced(reply: str) -> str:
    m = _FENCE.match(reply)
    return reply if m is None else reply[m.end() :].removesuffix(m[1]).strip()


class _Pairs(list[tuple[str, Any]]):
    """The fields of an object, twice where they stand twice."""


# a raw line break within a reason is no reason to lose a verdict
_JSON = json.JSONDecoder(strict=False, object_pairs_hook=_Pairs)


def _strict(reply: str) -> Pairs | None:
    """Return the fields of a reply that is one JSON object."""
    if not reply.startswith("{"):
        return None
    try:
        found, end = _JSON.raw_decode(reply)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, _Pairs) and not reply[end:].strip() else None


_SPACE = re.compile(r"(?:\s++|//[^\n]*+|\#[^\n]*+|/\*[^*]*+\*++(?:[^/*][^*]*+\*++)*/)*")
_STRING = re.compile(
    r"""  "([^"\\]*+(?:\\.[^"\\]*+)*)"  |  '([^'\\]*+(?:\\.[^'\\]*+)*)'  |  \u201c([^\u201c\u201d]*+)\u201d  """,
    re.VERBOSE | re.DOTALL,
)
_WORD = re.compile(r"[-+\w.]{1,40}")


def _loose(reply: str) -> Pairs | None:
    """Return the fields of one flat object in the notation of JSON5 or Python; its last brace may be missing."""
    if not reply.startswith("{"):
        return None
    pairs: Pairs = []
    at = _skip(reply, 1)
    while at < len(reply) and reply[at] != "}":
        key = _STRING.match(reply, at) or _WORD.match(reply, at)
        colon = _skip(reply, key.end()) if key else at
        if key is None or reply[colon : colon + 1] != ":":
            return None
        begin = _skip(reply, colon + 1)
        value = _STRING.match(reply, begin) or _WORD.match(reply, begin)
        if value is None:
            return None
        if value.end() == len(reply) and value[0] in ("0", "0.", "1.", "."):  # the beginning of any score
            return None
        pairs.append((_text(key), _text(value)))
        at = _skip(reply, value.end())
        if reply[at : at + 1] == ",":
            at = _skip(reply, at + 1)
        elif reply[at : at + 1] not in ("}", ""):
            return None
    return pairs if not reply[at + 1 :].strip() else None


def _skip(text: str, at: int) -> int:
    m = _SPACE.match(text, at)
    return at if m is None else m.end()


def _text(m: re.Match[str]) -> str:
    inner = next((group for group in m.groups() if group is not None), None)
    return m[0] if inner is None else inner


def _on_grid(value: Any) -> float | None:
    if isinstance(value, str):
        value = float(value) if _WITHOUT_DOUBT.fullmatch(value.strip()) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        return None
    nearest = round(10 * value) / 10
    return nearest if abs(value - nearest) < 1e-6 else None
