"""The user's own checks of an answer: a callable, a regular expression or a JSON schema.

A check is called with the question and the answer. It says whether the answer is right: true, false, a share in [0, 1],
or None where it cannot tell. It may be an `async def`. A check that raises, or does not end in time, counts as None.
Checks that run programs in the sandbox, or score answers with the bench's scorers, are in `r2router.bench.checks`.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import math
import re
import threading
from collections.abc import Awaitable, Iterator, Mapping
from numbers import Real
from typing import Any

import msgspec
import numpy as np

from r2router.cascade.spec import Check
from r2router.errors import ConfigError, MissingExtra

SECONDS = 10.0
"""The longest that a check may take."""

_LONGEST = 20_000  # characters that a pattern is tried on
_PATTERN_SECONDS = 1.0


def verdict(check: Check, question: str, answer: str, seconds: float = SECONDS) -> tuple[float, str]:
    """Run a check. Returns (its verdict in [0, 1], NaN where it cannot tell; the reason for NaN).

    A check that does not end in time is left behind in its thread.
    """
    said: list[Any] = []

    def run() -> None:
        try:
            found = check(question, answer)
            said.append(asyncio.run(_awaited(found)) if inspect.isawaitable(found) else found)
        except BaseException as error:  # noqa: BLE001 - whatever the user's code raises, SystemExit too: it ends a thread only
            said.append(error)

    thread = threading.Thread(target=run, daemon=True, name="check")
    thread.start()
    thread.join(seconds)
    if not said:
        return math.nan, f"the check did not end within {seconds:g} s"
    return read_verdict(said[0])


async def _awaited(found: Awaitable[Any]) -> Any:
    return await found


def read_verdict(said: object) -> tuple[float, str]:
    """Read a verdict as a number. Returns (number, ""), or (NaN, why) for anything that is no verdict."""
    if said is None:
        return math.nan, ""
    if isinstance(said, BaseException):
        return math.nan, f"the check failed: {type(said).__name__}: {str(said)[:200]}"
    said = said.item() if isinstance(said, np.generic) else said
    if isinstance(said, Real) and 0 <= float(said) <= 1:
        return float(said), ""
    return math.nan, f"the check said {said!r:.60}, which is not true, false, None or a number from 0 to 1"


class Matches(msgspec.Struct, frozen=True):
    """Checks that the answer matches a regular expression (`search`) within its first 20,000 characters.

    It uses the regex package (`pip install 'r2router[checks]'`), which gives up after a second: the time of some
    patterns grows exponentially with the answer, and Python's own `re` cannot be stopped. Raises `ConfigError`,
    `MissingExtra`.
    """

    pattern: str

    def __post_init__(self) -> None:
        try:
            _searched(self.pattern, "")
        except ValueError as error:
            raise ConfigError(f"Matches({self.pattern!r:.200}): {error}") from None

    def __call__(self, question: str, answer: str) -> bool | None:
        return _searched(self.pattern, answer)


def _searched(pattern: str, text: str) -> bool | None:
    """Return whether a pattern is found; None where the search takes too long. Raises `ValueError` for an invalid
    pattern, `MissingExtra`.
    """
    try:
        import regex  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtra("regular expressions need the [checks] extra: pip install 'r2router[checks]'") from None
    try:
        return regex.search(pattern, text[:_LONGEST], timeout=_PATTERN_SECONDS, concurrent=True) is not None
    except TimeoutError:
        return None
    except regex.error as error:
        raise ValueError(f"not a regular expression ({error})") from None


class JsonSchema(msgspec.Struct, frozen=True):
    """Checks that the answer, or the code block in it, is JSON that a schema allows (`pip install 'r2router[checks]'`).

    Nothing is downloaded: a reference to another file or address fails the check. A `pattern` of the schema that takes
    too long does not match. Raises `ConfigError` for an invalid schema, `MissingExtra`.
    """

    schema: Mapping[str, Any]

    def __post_init__(self) -> None:
        self._validator()

    def _validator(self) -> Any:
        try:
            from jsonschema import SchemaError, ValidationError, validators  # type: ignore[import-untyped]
            from referencing import Registry
        except ImportError:
            raise MissingExtra("JSON schemas need the [checks] extra: pip install 'r2router[checks]'") from None
        kind = validators.validator_for(self.schema, default=validators.Draft202012Validator)
        try:
            kind.check_schema(self.schema)
        except SchemaError as error:
            raise ConfigError(f"JsonSchema: not a JSON schema ({error.message[:200]})") from None

        def pattern(_: Any, wanted: str, instance: Any, __: Any) -> Iterator[Any]:
            if isinstance(instance, str) and not _searched(wanted, instance):
                yield ValidationError(f"does not match {wanted!r:.100}")

        return validators.extend(kind, {"pattern": pattern})(self.schema, registry=Registry())

    def __call__(self, question: str, answer: str) -> bool:
        block = re.search(r"```(?:json)?\s{0,20}\n(.{0,20000}?)```", answer[: 2 * _LONGEST], re.DOTALL)
        try:
            value = json.loads(block[1] if block else answer)
        except (ValueError, RecursionError):
            return False
        return bool(self._validator().is_valid(value))
