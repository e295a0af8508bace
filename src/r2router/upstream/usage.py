"""Tokens of a call as endpoints report them, under the names that they use; and which reports cannot be true.

What is reported decides what a run may spend, so a wrong count is no count: it is refused, in words, and affects its
own call alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import msgspec

from r2router.errors import ConfigError
from r2router.text import suggest
from r2router.upstream.endpoint import LONGEST_ANSWER


class Usage(msgspec.Struct, frozen=True):
    """Tokens of one call as the provider counted them; None: not reported.

    cached, cache_write: parts of input that were read from the provider's prompt cache, and written to it.
    reasoning: part of output.
    cache_write_1h: part of cache_write that is kept for an hour.
    """

    input: int
    output: int
    cached: int | None = None
    reasoning: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None


def sum_usage(*usages: Usage | None) -> Usage | None:
    """Return the tokens of several calls, of those that are known; None where none is."""
    known = [u for u in usages if u is not None]
    if not known:
        return None
    return Usage(*(sum([n or 0 for n in each]) for each in zip(*map(msgspec.structs.astuple, known), strict=True)))


# Each is looked for at the top of a report and in its details; where several are given, the largest counts.
_CACHED = (
    "cached_tokens",
    "cache_read_input_tokens",
    "cache_read_tokens",
    "prompt_cache_hit_tokens",
    "num_cached_tokens",
)
_WRITTEN = ("cache_creation_input_tokens", "cache_creation_tokens", "cache_write_tokens", "cache_write_input_tokens")
_WRITTEN_1H = ("ephemeral_1h_input_tokens",)
_WRITTEN_5M = ("ephemeral_5m_input_tokens",)
_REASONING = ("reasoning_tokens", "thinking_tokens", "thoughts_tokens")
_IN_DETAILS = ("prompt_tokens_details", "input_tokens_details")
_OUT_DETAILS = ("completion_tokens_details", "output_tokens_details")
_WRITE_DETAILS = ("cache_creation", "cache_creation_token_details")

TEMPLATE_TOKENS = 4096
"""Input tokens that an endpoint may add to a prompt: its template and a system prompt of its own."""


class _Impossible(Exception):
    """A report that cannot be true."""


def reports_in(chunk: Mapping[str, Any]) -> Iterator[Any]:
    """Find the usage reports of a reply or a chunk: at the top, in a choice (Moonshot), in `x_groq` (Groq)."""
    yield chunk.get("usage")
    for beside in (chunk.get("x_groq"), *_dicts(chunk.get("choices"))):
        if isinstance(beside, dict):
            yield beside.get("usage")
            for said in (beside.get("delta"), beside.get("message")):
                if isinstance(said, dict):
                    yield said.get("usage")
    timings = chunk.get("timings")  # llama.cpp, also where it sends no usage
    if isinstance(timings, dict) and chunk.get("usage") is None:
        given, made, cached = (timings.get(name) for name in ("prompt_n", "predicted_n", "cache_n"))
        if type(given) is int and type(made) is int:
            cached = cached if type(cached) is int else 0
            yield {"prompt_tokens": given + cached, "completion_tokens": made, "cached_tokens": cached}


def larger(known: Any, reported: Any) -> Any:
    """Return the later of two reports of one call, unless it counts less: some endpoints end with a report of zeros."""
    if not isinstance(reported, dict):
        return known
    return reported if known is None or _size(reported) >= _size(known) else known


def usage_of(
    reported: Any,
    max_output: int | None = None,
    *,
    spoke: bool,
    sent_bytes: int | None = None,
    min_output: int = 0,
    read_bytes: int = 0,
    convention: Convention | None = None,
) -> tuple[Usage | None, str]:
    """Return (usage, "") from a provider's report, or (None, what is wrong with it).

    More than the `max_tokens` that was sent (max_output) is what the provider bills, and no wrong count, up to what a
    model can write at all.

    spoke: whether the reply holds any text.
    sent_bytes: of the request; it has no more tokens than that, and what a template adds.
    min_output: tokens that the text comes to at least.
    read_bytes: of the text; no count above it is possible without thinking.
    convention: how the provider counts, where that is known; else it is told from names and sums.
    """
    if not isinstance(reported, dict):
        return None, "the reply reports no usage"
    wrong = ""
    try:
        usage = _read(reported) if convention is None else CONVENTIONS[convention](reported)
    except _Impossible as why:
        usage, wrong = Usage(0, 0), str(why)
    min_output = max(min_output, int(spoke))
    if not wrong and sent_bytes is not None and usage.input > sent_bytes + TEMPLATE_TOKENS:
        wrong = f"{usage.input:,} input tokens for a request of {sent_bytes:,} bytes"
    elif not wrong and usage.output > max(LONGEST_ANSWER, 2 * (max_output or 0), read_bytes):
        wrong = f"{usage.output:,} output tokens"
    elif not wrong and usage.output < min_output:
        wrong = f"{usage.output:,} output tokens for a text of at least {min_output:,}"
    return (None, f"the reply reports impossible usage: {wrong}") if wrong else (usage, "")


def _read(reported: dict[str, Any]) -> Usage:
    """Return the counts of a report, put within each other. Raises `_Impossible`."""
    beside_by_name = "prompt_tokens" not in reported and "input_tokens" in reported and not _has(reported, _IN_DETAILS)
    given, made = _counts(reported)
    inner = [reported, *_details(reported, _IN_DETAILS)]
    cached = _largest(inner, _CACHED)
    writes = [*inner, *(d for where in inner for d in _details(where, _WRITE_DETAILS))]
    written, hourly, minutes = (_largest(writes, names) for names in (_WRITTEN, _WRITTEN_1H, _WRITTEN_5M))
    if hourly is not None or minutes is not None:
        written = max(written or 0, (hourly or 0) + (minutes or 0))
    reasoning = _largest([reported, *_details(reported, _OUT_DETAILS)], _REASONING)
    total = reported.get("total_tokens")
    beside = max(total - given - made, 0) if type(total) is int else 0

    read, write = cached or 0, written or 0
    # what lies beside the prompt: all of it where names or the total say so, else what does not fit into it
    if (read + write and beside_by_name) or (beside and beside == read + write) or read > given:
        given, beside = given + read + write, max(beside - read - write, 0)
    elif read + write > given or (beside and beside == write):
        given, beside = given + write, max(beside - write, 0)
    elif beside and beside == read:
        given, beside = given + read, 0
    # Gemini and xAI count thinking in the total alone, and bill it as output
    if beside > 0 and (reasoning or 0) in (0, beside):
        made, reasoning = made + beside, beside
    elif reasoning is not None and reasoning > made:  # others do not say a total that tells
        made += reasoning
    if given <= 0:
        raise _Impossible(f"{given} input tokens")
    return Usage(given, made, cached, reasoning, written, hourly)


# -- conventions ------------------------------------------------------------------------------------------------------

Convention = Literal["openai", "anthropic", "gemini", "deepseek", "xai"]
"""How a provider counts: what lies within the input and output tokens that it reports, and what beside them."""


def _openai(reported: dict[str, Any]) -> Usage:
    """Cached and written tokens within the input, reasoning within the output; chat and Responses."""
    given, made = _counts(reported)
    inner = [reported, *_details(reported, _IN_DETAILS)]
    cached, written = _largest(inner, _CACHED), _largest(inner, _WRITTEN)
    reasoning = _largest([reported, *_details(reported, _OUT_DETAILS)], _REASONING)
    return _within(Usage(given, made, cached, reasoning, written))


def _anthropic(reported: dict[str, Any]) -> Usage:
    """Return what is read from and written to the cache beside the input; thinking within the output."""
    given, made = _counts(reported)
    inner = [reported, *_details(reported, _IN_DETAILS)]
    by_age = [d for where in inner for d in _details(where, _WRITE_DETAILS)]
    cached, written = _largest(inner, _CACHED), _largest(inner, _WRITTEN)
    hourly, minutes = _largest(by_age, _WRITTEN_1H), _largest(by_age, _WRITTEN_5M)
    if by_age:
        written = max(written or 0, (hourly or 0) + (minutes or 0))
    reasoning = _largest([reported, *_details(reported, _OUT_DETAILS)], _REASONING)
    return _within(Usage(given + (cached or 0) + (written or 0), made, cached, reasoning, written, hourly))


def _gemini(reported: dict[str, Any]) -> Usage:
    """Cached tokens within the input, thoughts beside the candidates; of the OpenAI-compatible endpoint, in the total
    alone.
    """
    native = reported.get("usageMetadata", reported)
    if isinstance(native, dict) and "promptTokenCount" in native:
        names = (
            "promptTokenCount",
            "toolUsePromptTokenCount",
            "candidatesTokenCount",
            "thoughtsTokenCount",
            "cachedContentTokenCount",
        )
        given, tools, said, thought, cached = (_number(native.get(name)) for name in names)
        return _within(Usage((given or 0) + (tools or 0), (said or 0) + (thought or 0), cached, thought))
    return _reasoning_beside(reported)


def _reasoning_beside(reported: dict[str, Any]) -> Usage:
    """Cached tokens within the input, reasoning beside the output, or in the total alone."""
    given, said = _counts(reported)
    cached = _largest([reported, *_details(reported, _IN_DETAILS)], _CACHED)
    named = _largest([reported, *_details(reported, _OUT_DETAILS)], _REASONING)
    total = _number(reported.get("total_tokens"))
    made = said + (named or 0) if total is None else max(total - given, said)
    reasoning = made - said if made > said else named
    return _within(Usage(given, made, cached, reasoning))


def _deepseek(reported: dict[str, Any]) -> Usage:
    """Hits and misses of the cache make up the input, reasoning lies within the output."""
    given, made = _counts(reported)
    hit, miss = (_number(reported.get(f"prompt_cache_{name}_tokens")) for name in ("hit", "miss"))
    given = max(given, (hit or 0) + (miss or 0))
    return _within(Usage(given, made, hit, _largest(_details(reported, _OUT_DETAILS), _REASONING)))


CONVENTIONS: dict[Convention, Callable[[dict[str, Any]], Usage]] = {
    "openai": _openai, "anthropic": _anthropic, "gemini": _gemini, "deepseek": _deepseek, "xai": _reasoning_beside,
}  # fmt: skip


def convention_of(name: str) -> Convention:
    """Return the convention of that name. Raises `ConfigError`."""
    found = next((known for known in CONVENTIONS if known == name), None)
    if found is None:
        raise ConfigError(
            f"usage convention {name!r} is not known{suggest(name, list(CONVENTIONS))}; give one of"
            f" {', '.join(CONVENTIONS)}"
        )
    return found


def merged(known: Any, reported: Any) -> Any:
    """Two reports of one call: of each count the last one, as they are sums so far; but no zero in place of a
    number.
    """
    if not isinstance(reported, dict):
        return known
    if not isinstance(known, dict):
        return reported
    both = dict(known)
    for name, value in reported.items():
        if isinstance(value, dict):
            both[name] = merged(both.get(name), value)
        elif value or name not in both:
            both[name] = value
    return both


def _counts(reported: dict[str, Any]) -> tuple[int, int]:
    """Return the input and output tokens as they are named. Raises `_Impossible`."""
    given = _first(reported, ("prompt_tokens", "input_tokens"))
    made = _first(reported, ("completion_tokens", "output_tokens"))
    if given is None or made is None:
        raise _Impossible("no counts of input and output tokens")
    return given, made


def _within(usage: Usage) -> Usage:
    """Raise `_Impossible` where a part is more than the whole: then it is counted by another convention."""
    if usage.input <= 0:
        raise _Impossible(f"{usage.input} input tokens")
    if (usage.cached or 0) + (usage.cache_write or 0) > usage.input:
        raise _Impossible(
            f"{usage.cached or 0:,} cached and {usage.cache_write or 0:,} written of {usage.input:,} input tokens"
        )
    if (usage.reasoning or 0) > usage.output:
        raise _Impossible(f"{usage.reasoning:,} reasoning of {usage.output:,} output tokens")
    if (usage.cache_write_1h or 0) > (usage.cache_write or 0):
        raise _Impossible(f"{usage.cache_write_1h:,} of {usage.cache_write or 0:,} written tokens are kept for an hour")
    return usage


def _number(value: Any) -> int | None:
    """Return a count; None where there is none. Raises `_Impossible` for a value that is not a count."""
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():  # JSON has one kind of number
        value = int(value)
    # some gateways write all as text
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    if type(value) is not int:
        raise _Impossible("a count that is no whole number")
    if not 0 <= value <= 10**18:
        raise _Impossible("a count below 0" if value < 0 else "a count above 10^18")
    return value


def _first(where: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    return next((n for name in names if (n := _number(where.get(name))) is not None), None)


def _largest(places: list[dict[str, Any]], names: tuple[str, ...]) -> int | None:
    largest = None
    for place in places:
        for name in names:
            if (value := place.get(name)) is not None:
                count = _number(value)
                largest = count if largest is None or (count or 0) > largest else largest
    return largest


def _details(where: Mapping[str, Any], names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [found for name in names if isinstance(found := where.get(name), dict)]


def _has(where: Mapping[str, Any], names: tuple[str, ...]) -> bool:
    return any(isinstance(where.get(name), dict) for name in names)


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _size(reported: Mapping[str, Any]) -> float:
    """Return how much a report counts, whatever its numbers are."""
    names = ("prompt_tokens", "input_tokens", "completion_tokens", "output_tokens", "total_tokens")
    found = [reported.get(name) for name in names]
    return sum(_measure(n) for n in found)


def _measure(value: Any) -> float:
    """Return a count as `_number` reads it; 0 where it is none."""
    try:
        return float(_number(value) or 0)
    except _Impossible:
        return 0.0
