"""Checks of the user's own: what a callable, a pattern or a schema says of an answer.

A check is called with the question and the answer, and says whether the answer is right: true, false, a share in [0, 1], or None where it
cannot tell. What raises or does not end in time cannot tell. Checks that run programs or score answers as the bench does are in
`r2router.bench.checks`.
"""

from __future__ import annotations

import json
import math
import re
import threading
from collections.abc import Mapping
from numbers import Real
from typing import Any

import msgspec

from r2router.cascade.spec import Check
from r2router.errors import ConfigError, MissingExtra

SECONDS = 10.0
"""The longest that a check may take."""

_LONGEST = 20_000  # characters that a pattern is tried on: the time of some patterns grows with the square of it


def verdict(check: Check, question: str, answer: str, seconds: float = SECONDS) -> tuple[float, str]:
    """(what the check says, in [0, 1], NaN where it cannot tell; why it cannot). A check that hangs is left behind in its thread."""
    said: list[Any] = []

    def run() -> None:
        try:
            said.append(check(question, answer))
        except Exception as error:  # noqa: BLE001 - whatever the user's code raises
            said.append(error)

    thread = threading.Thread(target=run, daemon=True, name="check")
    thread.start()
    thread.join(seconds)
    if not said:
        return math.nan, f"the check did not end within {seconds:g} s"
    return read_verdict(said[0])


def read_verdict(said: object) -> tuple[float, str]:
    """A verdict as a number; NaN, and why, where it is none."""
    if said is None:
        return math.nan, ""
    if isinstance(said, BaseException):
        return math.nan, f"the check failed: {type(said).__name__}: {str(said)[:200]}"
    if isinstance(said, Real) and 0 <= float(said) <= 1:
        return float(said), ""
    return math.nan, f"the check said {said!r:.60}, which is not true, false, None or a number from 0 to 1"


class Matches(msgspec.Struct, frozen=True):
    """The answer holds what a regular expression describes (`re.search`), in its first 20,000 characters. Raises `ConfigError`."""

    pattern: str

    def __post_init__(self) -> None:
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise ConfigError(f"Matches({self.pattern!r}): not a regular expression ({error})") from None

    def __call__(self, question: str, answer: str) -> bool:
        return re.search(self.pattern, answer[:_LONGEST]) is not None


class JsonSchema(msgspec.Struct, frozen=True):
    """The answer, or the code block in it, is JSON that a schema allows (by the jsonschema package: `pip install 'r2router[checks]'`).

    Nothing is fetched: a reference to another file or address fails the check. Raises `ConfigError` for what is no schema, `MissingExtra`.
    """

    schema: Mapping[str, Any]

    def __post_init__(self) -> None:
        self._validator()

    def _validator(self) -> Any:
        try:
            from jsonschema import SchemaError, validators  # type: ignore[import-untyped]
            from referencing import Registry
        except ImportError:
            raise MissingExtra("JSON schemas need the [checks] extra: pip install 'r2router[checks]'") from None
        kind = validators.validator_for(self.schema, default=validators.Draft202012Validator)
        try:
            kind.check_schema(self.schema)
        except SchemaError as error:
            raise ConfigError(f"JsonSchema: not a JSON schema ({error.message[:200]})") from None
        return kind(self.schema, registry=Registry())

    def __call__(self, question: str, answer: str) -> bool:
        block = re.search(r"```(?:json)?\s{0,20}\n(.{0,20000}?)```", answer[: 2 * _LONGEST], re.DOTALL)
        try:
            value = json.loads(block[1] if block else answer)
        except (ValueError, RecursionError):
            return False
        return bool(self._validator().is_valid(value))
