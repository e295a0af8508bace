"""Pool files: TOML as people write it, and messages that name the line where it went wrong."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from r2router.errors import ConfigError
from r2router.types import Budget, Control, Model, Prices


class _ModelEntry(msgspec.Struct, forbid_unknown_fields=True):
    """One `[[model]]` of a pool file, as written by a person."""

    id: str
    budgets: list[int | str | Budget]
    usd_per_million: Prices | None = None
    control: list[Control] = []
    provider: str = ""
    upstream: str = ""
    capabilities: list[str] = []
    context: int | None = None
    available: bool = True

    def model(self) -> Model:
        control = tuple(self.control)
        budgets = tuple(b if isinstance(b, Budget) else Budget.of(b, control) for b in self.budgets)
        return Model(
            id=self.id,
            budgets=budgets,
            provider=self.provider,
            upstream=self.upstream or self.id,
            usd_per_million=self.usd_per_million,
            capabilities=frozenset(self.capabilities),
            context=self.context,
            available=self.available,
        )


class _PoolFile(msgspec.Struct, forbid_unknown_fields=True):
    model: list[_ModelEntry]


def read_models(path: str | Path) -> tuple[list[Model], Callable[[str], str]]:
    """The models of a pool file, and a function that finds the line an error message is about.

    Raises `ConfigError` naming file, line and key.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from None
    try:
        entries = msgspec.convert(tomllib.loads(text), _PoolFile).model
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}{_explain(str(error), text)}") from None
    return [entry.model() for entry in entries], lambda message: _line_of_value(text, message)


def listing(names: Iterable[str], most: int = 6) -> str:
    names = list(names)
    shown = ", ".join(repr(n) for n in names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def suggest(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


_PATH = re.compile(r"(?P<what>.*?) - at `\$(?P<path>[^`]*)`")


def _explain(message: str, text: str) -> str:
    """`, line N: ...` for a validation error of msgspec, which names the path of the value but not its line."""
    match = _PATH.fullmatch(message)
    what, path = (match["what"], match["path"]) if match else (message, "")
    entry = re.match(r"\.model\[(\d+)\]", path)
    starts = [n for n, line in enumerate(text.splitlines()) if re.match(r"\s*\[\[\s*model\s*\]\]", line)]
    start = starts[int(entry[1])] if entry and int(entry[1]) < len(starts) else 0
    field = re.search(r"field `([^`]+)`", what)
    key = field[1] if field and "unknown" in what else (re.findall(r"\.([a-z_]+)", path) or [""])[-1]
    line = start
    for n, row in enumerate(text.splitlines()[start:], start):
        if key and re.search(rf"(?<![\w]){re.escape(key)}\s*=", row):
            line = n
            break
    known = {*_ModelEntry.__struct_fields__, *Prices.__struct_fields__, *Budget.__struct_fields__, "model"}
    hint = suggest(key, known - {key}) if "unknown field" in what else ""
    what = f"unknown key {key!r}" if "unknown field" in what else what
    return f", line {line + 1}: {what}{hint} (at {path.lstrip('.') or 'the top'})"


def _line_of_value(text: str, message: str) -> str:
    """`, line N` of the last line that holds the value which the message quotes first."""
    quoted = re.search(r"'([^']+)'", message)
    value = (quoted[1].partition("@") if quoted else ("", "", ""))
    for needle in (quoted[1] if quoted else "", value[2], value[0]):
        lines = [n for n, row in enumerate(text.splitlines(), 1) if needle and needle in row]
        if lines:
            return f", line {lines[-1]}"
    return ""
