"""Pool files: TOML as people write it, and messages that name the line where it went wrong."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from r2router.errors import ConfigError
from r2router.files import check_text, readable
from r2router.text import suggest
from r2router.types import Budget, Control, Model, Prices, Provider, Tier
from r2router.upstream.endpoint import check_provider

_LARGEST = 4 << 20  # bytes: thousands of models
_LONGEST_LINE = 4_000  # characters
_DOTTED = re.compile(r"[^\s.]\s*\.")
_MAX_DOTS = 50


class _ModelEntry(msgspec.Struct, forbid_unknown_fields=True):
    """One `[[model]]` of a pool file, as written by a person."""

    id: str
    budgets: list[int | float | str | Budget]
    usd_per_million: Prices | None = None
    control: list[Control] = []
    provider: str = ""
    upstream: str = ""
    openrouter: str = ""
    capabilities: list[str] = []
    context: int | None = None
    available: bool = True
    max_output_tokens: Annotated[int, msgspec.Meta(ge=1)] | None = None

    def model(self) -> Model:
        control = tuple(self.control)
        budgets = tuple(b if isinstance(b, Budget) else Budget.of(b, control) for b in self.budgets)
        return Model(
            id=self.id,
            budgets=budgets,
            provider=self.provider,
            upstream=self.upstream or self.id,
            openrouter=self.openrouter,
            usd_per_million=self.usd_per_million,
            capabilities=frozenset(self.capabilities),
            context=self.context,
            available=self.available,
            max_output_tokens=self.max_output_tokens,
        )


class _PoolFile(msgspec.Struct, forbid_unknown_fields=True):
    model: list[_ModelEntry]
    provider: dict[str, Provider] = {}


def read_models(path: str | Path) -> tuple[list[Model], Callable[[int, str], str]]:
    """Return the models of a pool file, and a function that finds the line of a key (`usd_per_million.input`) of a
    model (by number).

    Raises `ConfigError` naming file, line and key.
    """
    file, text = _read(Path(path))

    def locate(number: int, key: str) -> str:
        return f", line {_line_of(text, number, key.split('.'))}"

    models = []
    for number, entry in enumerate(file.model):
        try:
            models.append(entry.model())
        except ConfigError as error:
            raise ConfigError(f"{path}{locate(number, 'budgets')}: model {entry.id!r}: {error}") from None
    return models, locate


def read_providers(path: str | Path) -> dict[str, Provider]:
    """Return the `[provider.NAME]` tables of a pool file: where its models are called. Raises `ConfigError` naming
    file, line and key.
    """
    return _read(Path(path))[0].provider


def _read(path: Path) -> tuple[_PoolFile, str]:
    """Return a pool file and its text."""
    check_text(path, ConfigError)
    with readable(path, ConfigError):
        if path.stat().st_size > _LARGEST:
            raise ConfigError(f"{path}: has {path.stat().st_size:,} bytes; a pool file has at most {_LARGEST:,}")
        text = path.read_text(encoding="utf-8-sig")
    # Python's parser takes time in the square of the parts of a dotted key
    for number, line in enumerate(text.splitlines(), 1):
        if len(line) > _LONGEST_LINE or len(_DOTTED.findall(line)) > _MAX_DOTS:
            raise ConfigError(f"{path}, line {number}: is longer or nested deeper than any line of a pool file")
    try:
        file = msgspec.convert(tomllib.loads(text), _PoolFile)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply to be a pool file") from None
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}{_explain(str(error), text)}") from None
    for name, provider in file.provider.items():
        try:
            check_provider(name, provider)
        except ConfigError as error:
            key = "key" if " key " in str(error).partition(";")[0] else "base_url"
            raise ConfigError(f"{path}, line {_provider_line(text, [key], name)}: {error}") from None
    return file, text


_PATH = re.compile(r"(?P<what>.*?) - at `\$(?P<path>[^`]*)`")


def _explain(message: str, text: str) -> str:
    """`, line N: ...` for a validation error of msgspec, which names the path of the value but not its line."""
    match = _PATH.fullmatch(message)
    what, path = (match["what"], match["path"].lstrip(".")) if match else (message, "")
    entry = re.match(r"model\[(\d+)\]", path)
    keys = re.findall(r"[a-z_]+", path)
    unknown = re.search(r"unknown field `([^`]+)`", what)
    hint = ""
    if unknown:
        known = {
            *_ModelEntry.__struct_fields__,
            *Prices.__struct_fields__,
            *Tier.__struct_fields__,
            *Budget.__struct_fields__,
            *Provider.__struct_fields__,
            "model",
            "provider",
        }
        what, hint = f"unknown key {unknown[1]!r}", suggest(unknown[1], known - {unknown[1]})
        keys.append(unknown[1])
    if path.startswith("provider"):  # its name is not in the path
        line = _provider_line(text, keys[1:])
    else:
        line = _line_of(text, int(entry[1]), keys[1:]) if entry else _line_of(text, None, keys)
    return f", line {line}: {what}{hint} (at {path or 'the top'})"


def _provider_line(text: str, keys: Sequence[str], name: str = "") -> int:
    """Return the line of a provider's key, which no model has, in the table of that name or any; of the table, where it
    cannot be found.
    """
    rows = text.splitlines()
    table = rf"\s*\[\s*provider\s*\.\s*[\"']?{re.escape(name)}[\"']?\s*\]" if name else r"\s*\[\s*provider\b"
    first = next((n for n, row in enumerate(rows) if re.match(table, row)), 0)
    pattern = rf"\s*{re.escape(keys[-1])}\s*=" if keys else table
    return next((n for n, row in enumerate(rows[first:], first + 1) if re.match(pattern, row)), first + 1)


def _line_of(text: str, number: int | None, keys: Sequence[str]) -> int:
    """Return the line of a key of the numbered `[[model]]`, or of the file's top; of what it stands in, where it cannot
    be found.
    """
    lines = text.splitlines()
    line, end = 0, len(lines)
    if number is not None:
        heads = [*(n for n, row in enumerate(lines) if re.match(r"\s*\[\[\s*model\s*\]\]", row)), end]
        line, end = (heads[number], heads[number + 1]) if number + 1 < len(heads) else (0, end)
    for depth, key in enumerate(keys):
        name = rf"""["']?{re.escape(key)}["']?"""
        own_line = rf"\s*(\[\[?\s*(model\s*\.\s*)?{name}\s*\]|{name}\s*[=.])"
        inline = rf"[^#]*(?<![\w-]){name}\s*="  # only inside another key's table
        found = [n for n in range(line, end) if re.match(own_line, lines[n]) or (depth and re.match(inline, lines[n]))]
        line = found[0] if found else line
    return line + 1
