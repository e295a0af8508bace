"""The right option of a multiple-choice question, in whichever way a file gives it: as a letter, a text, a label, or a
number.

What a number means is decided by the whole column: 0 among them shows that they are counted from 0, as many as there
are options that they are counted from 1. Whole numbers (MMLU's layout) are taken from 0 where nothing shows it; digits
in text are then an error.
"""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from r2router.errors import DataError

LETTERS = string.ascii_uppercase
_LETTER = re.compile(r"[(\[]?([A-Z])[)\].:]?")
_DIGITS = re.compile(r"[0-9]+(?:\.0)?")
_FROM = "?base=0 or ?base=1 behind the file's name (file:PATH?base=1) says it, or write letters"


class Options(msgspec.Struct, frozen=True):
    """The texts of a question's options, and their labels where the file gives them."""

    texts: tuple[str, ...]
    labels: tuple[str, ...] = ()


def options_of(value: Any) -> Options | None:
    """Return the options in a cell: a list, an object by letter or number, or ARC's object of texts and labels; None
    for anything else.
    """
    if isinstance(value, dict):
        texts, labels = value.get("text"), value.get("label")
        if isinstance(texts, list) and isinstance(labels, list) and len(texts) == len(labels):
            return _options(texts, [str(label) for label in labels])
        names = list(value)
        known = [list(LETTERS[: len(names)]), *([str(i + base) for i in range(len(names))] for base in (0, 1))]
        return _options(list(value.values()), names) if names in known else None
    return _options(value, []) if isinstance(value, list) else None


def _options(texts: Sequence[Any], labels: Sequence[str]) -> Options | None:
    return Options(tuple(map(str, texts)), tuple(labels)) if 2 <= len(texts) <= len(LETTERS) else None


class ReferenceCell(msgspec.Struct, frozen=True):
    """A reference as it stands in the file, with its question's options.

    where: file and line.
    """

    where: str
    reference: Any
    options: Options

    @property
    def index(self) -> int | None:
        """The number that the reference is; None where it is none."""
        given = self.reference
        if isinstance(given, float) and given.is_integer():
            return int(given)
        if isinstance(given, int) and not isinstance(given, bool):
            return given
        return int(float(given)) if self.written and len(given) < 6 else None

    @property
    def written(self) -> bool:
        """Whether it is a whole number in a text; `1.0` is what data frames make of 1 beside empty cells."""
        return isinstance(self.reference, str) and _DIGITS.fullmatch(self.reference.strip()) is not None

    @property
    def by_text(self) -> str | None:
        """The letter of the option whose text it is."""
        texts = self.options.texts
        return (
            LETTERS[texts.index(self.reference)]
            if isinstance(self.reference, str) and self.reference in texts
            else None
        )

    @property
    def by_letter(self) -> str | None:
        """The letter that it is."""
        m = _LETTER.fullmatch(self.reference.strip()) if isinstance(self.reference, str) else None
        return m[1] if m and m[1] in LETTERS[: len(self.options.texts)] else None

    @property
    def by_label(self) -> str | None:
        """The letter of the option whose label it is."""
        labels = self.options.labels
        return LETTERS[labels.index(str(self.reference))] if str(self.reference) in labels else None


class ReferenceReading(msgspec.Struct, frozen=True):
    """How the references of a file are read.

    base: what numbers are counted from, None where there are none.
    shown: the file shows it.
    """

    texts: bool
    letters: bool
    base: int | None
    shown: bool

    def letter(self, cell: ReferenceCell) -> str | None:
        """Return the letter of the right option; None where the reference names none."""
        if cell.by_label is not None:
            return cell.by_label
        if cell.index is not None and not (cell.written and self.texts):
            place = cell.index - (self.base or 0)
            return LETTERS[place] if 0 <= place < len(cell.options.texts) else None
        if self.letters and cell.by_letter is not None:
            return cell.by_letter
        return cell.by_text or cell.by_letter


def reading_of(cells: Iterable[ReferenceCell], base: int | None = None) -> ReferenceReading:
    """Return how the references of a file are to be read.

    base: where the user says it.

    Raises `DataError` where there are two readings.
    """
    cells = [cell for cell in cells if cell.by_label is None]
    written = [cell for cell in cells if cell.written]
    texts = bool(written) and base is None and all(cell.by_text is not None for cell in written)
    letters = [cell for cell in cells if cell.by_letter is not None]
    by_letter = any(cell.by_text is None for cell in letters)
    if not by_letter and (two := next((c for c in letters if c.by_text != c.by_letter), None)) is not None:
        raise DataError(
            f"{two.where}: the reference {two.reference!r} is the letter of option {two.by_letter} and the text of"
            f" option {two.by_text}; give the options as an object by letter: {{'A': ..., 'B': ...}}"
        )
    numbered = [cell for cell in cells if cell.index is not None and not (cell.written and texts)]
    base, shown = _base(numbered, base)
    return ReferenceReading(texts, by_letter, base, shown)


def _base(cells: Sequence[ReferenceCell], told: int | None) -> tuple[int | None, bool]:
    """Return (what the numbers are counted from, whether they show it)."""
    if not cells:
        return None, True
    first = next((c for c in cells if c.index == 0), None)
    last = next((c for c in cells if c.index == len(c.options.texts)), None)
    beyond = next((c for c in cells if not 0 <= (c.index or 0) <= len(c.options.texts)), None)
    if beyond is not None:
        raise DataError(
            f"{beyond.where}: the reference {beyond.reference!r} is none of the {len(beyond.options.texts)} options"
        )
    if told is not None:
        wrong = last if told == 0 else first
        if wrong is not None:
            raise DataError(
                f"{wrong.where}: the reference {wrong.reference!r} is none of {len(wrong.options.texts)} options from"
                f" {told} on"
            )
        return told, True
    if first is not None and last is not None:
        raise DataError(
            f"{last.where}: the reference {last.reference!r} of {len(last.options.texts)} options is counted from 1,"
            f" and {first.reference!r} ({first.where}) from 0; write letters"
        )
    if first is not None or last is not None:
        return (0 if first is not None else 1), True
    if any(c.written for c in cells):
        one = next(c for c in cells if c.written)
        place = one.index or 0
        raise DataError(
            f"{one.where}: the reference {one.reference!r} is option {LETTERS[place]} counted from 0, and option"
            f" {LETTERS[place - 1]} counted from 1, and no row shows which; {_FROM}"
        )
    return 0, False
