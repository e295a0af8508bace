"""RouterArena's JSON files, entry by entry; every mistake is named by its file, entry and field."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from r2router.errors import DataError
from r2router.files import check_file


class ArenaPrompt(msgspec.Struct, frozen=True):
    """One prompt.

    index: its `global index`, which begins with the data set that it comes from.
    """

    index: str
    text: str


def read_prompts(path: str | Path) -> tuple[ArenaPrompt, ...]:
    """Return the prompts of a file as RouterArena's `prep_datasets.py` writes it. Raises `DataError` naming file, entry
    and field.
    """
    prompts, seen = [], set[str]()
    for number, entry in enumerate(entries_of(path)):
        index = text_of(entry, ("global index", "global_index"), f"{path}, entry {number}")
        text = text_of(entry, ("prompt_formatted", "prompt"), f"{path}, entry {number}")
        if index in seen:
            raise DataError(f"{path}, entry {number}: global index {index!r} occurs twice; a prompt has one entry")
        seen.add(index)
        prompts.append(ArenaPrompt(index, text))
    return tuple(prompts)


def read_json(path: str | Path) -> Any:
    """Return the content of a JSON file. Raises `DataError`."""
    check_file(path)
    try:
        return msgspec.json.decode(Path(path).read_bytes())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path}: is not JSON ({error})") from None


def entries_of(path: str | Path, content: Any = None) -> list[dict[str, Any]]:
    """Return the list of objects that RouterArena's files are, read from `path` unless it is there already. Raises
    `DataError`.
    """
    found = read_json(path) if content is None else content
    if not isinstance(found, list) or not found or not all(isinstance(e, dict) for e in found):
        raise DataError(
            f"{path}: is not a list of RouterArena's entries; it is one JSON list of objects with a 'global index'"
        )
    return found


def text_of(entry: Mapping[str, Any], names: Sequence[str], where: str) -> str:
    """Return the text under the first of the names that has one. Raises `DataError`."""
    value = next((entry[name] for name in names if entry.get(name)), None)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: {names[0]!r} is {value!r}; it must be a text")
    return value


def number_of(entry: Mapping[str, Any], name: str, maximum: float, where: str, *, flags: bool = False) -> float:
    """Return a number from 0 to `maximum`; NaN where there is none.

    flags: true and false are 1 and 0.

    Raises `DataError`.
    """
    value = entry.get(name)
    if value is None:
        return math.nan
    if flags and isinstance(value, bool):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= maximum:
        raise DataError(
            f"{where}: {name!r} is {value!r}; it must be a number from"
            f" 0{'' if math.isinf(maximum) else f' to {maximum:g}'}"
        )
    return float(value)
