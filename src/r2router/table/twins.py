"""Which queries are nearly the same, so that none is forecast from its own twin: the one rule behind folds and
splits.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from r2router.types import IntArray

_WORDS = 6  # in a shingle
_MIN = 12  # shingles that two texts must share
_SHARE = 0.5  # of the shorter text's shingles
_COMMON = 40  # a shingle of more texts than this, and of more than 1 in 50, is a template: asked of everybody, it tells nothing
_LONGEST = 2_000  # words of a text that are looked at


def groups_of(texts: Sequence[str]) -> IntArray:
    """Return (n,) the group of each text, numbered by first appearance: texts in one group are the same or
    near-duplicates.

    Near-duplicates share half of the runs of six words of the shorter text (at least twelve such runs), such as two
    questions about one long passage; runs that stand in many texts are templates and do not count. So do chains of such
    pairs. Case and punctuation do not matter. The work grows with the number of words.
    """
    return np.array(_groups(tuple(texts)), dtype=np.intp)


@lru_cache(maxsize=4)
def _groups(texts: tuple[str, ...]) -> tuple[int, ...]:
    first: dict[str, int] = {}
    distinct = [first.setdefault(text, len(first)) for text in texts]
    root = _joined([_shingles(text) for text in first])
    number: dict[int, int] = {}
    return tuple(number.setdefault(root[i], len(number)) for i in distinct)


def _shingles(text: str) -> set[int]:
    """Hashes of all runs of six words."""
    words = re.findall(r"\w+", text.lower())[:_LONGEST]
    return {hash(tuple(words[i : i + _WORDS])) for i in range(len(words) - _WORDS + 1)}


def _joined(shingles: Sequence[set[int]]) -> list[int]:
    """Return, for each text, the first one of its group."""
    holders: dict[int, list[int]] = defaultdict(list)
    for text, own in enumerate(shingles):
        for shingle in own:
            holders[shingle].append(text)
    maximum = max(_COMMON, len(shingles) // 50)
    size, shared = [len(own) for own in shingles], Counter[tuple[int, int]]()
    for texts in holders.values():
        if len(texts) > maximum:
            for text in texts:
                size[text] -= 1
        elif len(texts) > 1:
            shared.update((a, b) for i, a in enumerate(texts) for b in texts[i + 1 :])
    root = list(range(len(shingles)))

    def find(i: int) -> int:
        while root[i] != i:
            root[i] = root[root[i]]
            i = root[i]
        return i

    for (a, b), count in shared.items():
        if count >= _MIN and count >= _SHARE * min(size[a], size[b]):
            low, high = sorted((find(a), find(b)))
            root[high] = low
    return [find(i) for i in range(len(root))]
