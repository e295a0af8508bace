"""The same question, typed in another way: what a decision should not depend on."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

_NEIGHBOURS = {
    key: row[max(i - 1, 0) : i] + row[i + 1 : i + 2]
    for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    for i, key in enumerate(row)
}
_BEFORE = (
    "Hi, quick question: ",
    "Hello! ",
    "Please help me with this. ",
    "I was wondering about something. ",
    "OK so, ",
)
_AFTER = (" Thanks!", " Thank you in advance.", " Please answer.", " Any help is appreciated.", "")
_PHRASES = (
    (r"\bWhat is\b", "What's"),
    (r"\bwhat is\b", "what's"),
    (r"\bWho is\b", "Who's"),
    (r"\bHow many\b", "What number of"),
    (r"\bWhich of the following\b", "Which one of these"),
    (r"\bWhat was\b", "Can you tell me what was"),
    (r"\bWho was\b", "Do you know who was"),
    (r"\bIn what year\b", "In which year"),
    (r"\bIn which\b", "In what"),
    (r"\bdo not\b", "don't"),
    (r"\bdoes not\b", "doesn't"),
    (r"\bis not\b", "isn't"),
    (r"\bcannot\b", "can't"),
    (r"\blargest\b", "biggest"),
    (r"\bCalculate\b", "Work out"),
    (r"\bFind\b", "Determine"),
    (r"\bbegin\b", "start"),
    (r"\bbecause\b", "since"),
    (r"\bmust\b", "has to"),
)

Noise = Callable[[str, np.random.Generator], str]


def typos(text: str, rng: np.random.Generator) -> str:
    """Return one letter in thirty, at least one: swapped with the next, left out, doubled, or its neighbour on the
    keyboard.
    """
    letters = [i for i, c in enumerate(text) if c.isalpha()]
    if not letters:
        return text
    chars = list(text)
    for i in rng.choice(letters, size=max(len(letters) // 30, 1), replace=False):
        near = _NEIGHBOURS.get(text[i].lower(), "")
        match int(rng.integers(4)):
            case 0 if i + 1 < len(text) and text[i + 1].isalpha():
                chars[i], chars[i + 1] = chars[i + 1], chars[i]
            case 1:
                chars[i] = ""
            case 2:
                chars[i] = text[i] * 2
            case _ if near:
                chars[i] = near[int(rng.integers(len(near)))]
    return "".join(chars)


def case(text: str, rng: np.random.Generator) -> str:
    """Write a text in lower case, or in capitals."""
    return text.lower() if rng.integers(2) else text.upper()


def filler(text: str, rng: np.random.Generator) -> str:
    """Polite words before and after."""
    return _BEFORE[int(rng.integers(len(_BEFORE)))] + text + _AFTER[int(rng.integers(len(_AFTER)))]


def paraphrase(text: str, rng: np.random.Generator) -> str:
    """Common phrases said in another way, and the last mark left out: like a paraphrase, as far as rules go."""
    for pattern, other in _PHRASES:
        text = re.sub(pattern, other, text)
    return text.rstrip().rstrip("?.!") if rng.integers(2) else text


NOISES: dict[str, Noise] = {"typos": typos, "case": case, "filler": filler, "paraphrase": paraphrase}


def noisy(texts: Sequence[str], kind: str, seed: int) -> list[str]:
    """Return the texts with one kind of noise, seeded; each text has a generator of its own, so that its neighbours do
    not matter.
    """
    noise = NOISES[kind]
    return [noise(text, np.random.default_rng([seed, *text.encode()[:64]])) for text in texts]
