"""Which model of a pool is meant by a name: the one rule for `--models`, `--now`, `Router.only` and everything else
that takes names.

People write a model as its provider, a gateway or a cloud does: `openai/gpt-5-mini-2025-08-07`,
`anthropic/claude-sonnet-4.5`, `us.anthropic.claude-haiku-4-5-20251001-v1:0`, `accounts/fireworks/models/deepseek-v3`,
`gemini-2.5-flash-latest`. A name is compared as it is first, then without what does not change the model, a step at a
time; a step counts only where it leaves one model. A date is left out only where no model of the pool has it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import lru_cache

from r2router.errors import ConfigError
from r2router.pool.pool import Pool
from r2router.text import listing
from r2router.types import Arm, Model

_PLACE = re.compile(
    r"^(?:.*/)?(?:(?:[a-z]{2,6}\.)?(?:amazon|anthropic|cohere|deepseek|meta|mistral|openai|qwen|ai21)\.)?"
)
_CLOUD = re.compile(
    r"(?:-v\d+)?:\d+$|:(?:free|nitro|floor|beta|extended|online|exacto|thinking|batch|latest)$|-(?:fp8|fp4|bf16|awq|gguf|hf)$"
)
_DATE = re.compile(
    r"[-@](?:20\d\d-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01])|(?:0[1-9]|1[0-2])-(?:20\d\d|[0-3]\d)|\d{4}|00\d|latest|preview|exp)$"
    r"|(?<=-\d)-0$"
)
_KIND = re.compile(r"-(?:instruct|it|chat|turbo)$|(?<=-instruct)-turbo$")
_MAX_HINTS = 3

PROVIDERS = {
    "gemini": "google",
    "google-vertex": "google",
    "google-ai-studio": "google",
    "vertex": "google",
    "claude": "anthropic",
    "azure": "openai",
    "xai": "x-ai",
    "grok": "x-ai",
    "moonshot": "moonshotai",
    "kimi": "moonshotai",
    "mistralai": "mistral",
    "alibaba": "qwen",
    "dashscope": "qwen",
    "zai": "z-ai",
    "zhipu": "z-ai",
    "meta-llama": "meta",
}
"""Other names of providers -> ours."""


def find_model(pool: Pool, name: str) -> Model:
    """Return the model that a name means. Raises `ConfigError` with the nearest known names, or those that it
    may mean.
    """
    found = _named(pool, name)
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"{name!r} may be {_or(m.id for m in found)}: write which")
    raise ConfigError(
        f"no model {name!r} is known{_nearest(pool, name)} (a model that was not measured needs a similar one: like)"
    )


def find_arms(pool: Pool, name: str) -> tuple[Arm, ...]:
    """Return the arms that a name means: those of a model, of a model under one budget (`gpt-5-mini@low`), or of all
    that a pattern fits (`claude-*`). Raises `ConfigError` as `find_model`, also for a pattern that fits none and a
    budget that the model does not have.
    """
    if any(c in name for c in "*?["):
        found = tuple(arm for arm in pool.arms if fnmatchcase(arm.model, name) or fnmatchcase(arm, name))
        if not found:
            raise ConfigError(f"no model fits {name!r}{_nearest(pool, name)}")
        return found
    if (arm := Arm(name)) in pool.index:
        return (arm,)
    whole = _named(pool, name)
    if not whole and "@" in name:
        head, _, budget = name.rpartition("@")
        model = find_model(pool, head)
        budgets = [b.id for b in model.budgets]
        if budget not in budgets:
            raise ConfigError(f"{model.id!r} has no budget {budget!r}; it has {_or(budgets)}")
        return (Arm.of(model.id, budget),)
    head, _, effort = name.rpartition("-")  # o3-mini-high
    if (
        not whole
        and head
        and len(meant := _named(pool, head)) == 1
        and (arm := Arm.of(meant[0].id, effort)) in pool.index
    ):
        return (arm,)
    model = whole[0] if len(whole) == 1 else find_model(pool, name)
    return tuple(Arm.of(model.id, b.id) for b in model.budgets)


def find_provider(pool: Pool, name: str) -> str:
    """Return the provider of the pool that a name means. Raises `ConfigError` naming those there are."""
    there = sorted({m.provider for m in pool.models if m.provider})
    plain = name.strip().casefold()
    for wanted in (plain, PROVIDERS.get(plain, plain), *(ours for ours, known in PROVIDERS.items() if known == plain)):
        for provider in there:
            if provider.casefold() == wanted:
                return provider
    raise ConfigError(f"no model of the pool has the provider {name!r}; there are: {', '.join(there) or 'none'}")


def _named(pool: Pool, name: str) -> list[Model]:
    """Return the models that the first step which fits any finds; empty where none does."""
    name = name.strip()
    for step in (str, str.casefold, _bare, _plain):
        if found := [m for m in pool.models if step(name) in {step(m.id), step(m.upstream or m.id)}]:
            return [m for m in found if step(name) == step(m.id)] or found
    shorter = _bare(name)
    while (date := _DATE.search(shorter)) is not None:  # one at a time: o1-preview-2024-09-12 is o1-preview, not o1
        shorter = shorter[: date.start()]
        if found := [m for m in pool.models if _plain(shorter) in {_plain(m.id), _plain(m.upstream or m.id)}]:
            return [m for m in found if _plain(shorter) == _plain(m.id)] or found
    for step in (_undated, _kindless):
        if found := [m for m in pool.models if step(name) == step(m.id)]:
            exact = [m for m in found if _plain(m.id) == step(name)]  # gpt-4o is meant rather than gpt-4o-2024-05-13
            return exact if len(exact) == 1 else found
    return []


@lru_cache(maxsize=50_000)
def _bare(name: str) -> str:
    """Reduce a name: no provider, no cloud, no upper case."""
    plain = _PLACE.sub("", name.strip().casefold())
    while (shorter := _CLOUD.sub("", plain)) != plain:
        plain = shorter
    return plain


@lru_cache(maxsize=50_000)
def _plain(name: str) -> str:
    """Also whatever stands between the parts, and their order where a version moves: claude-4.5-sonnet is
    claude-sonnet-4-5.
    """
    plain = re.sub(r"[\s._:@-]+", "-", re.sub(r"^meta-(?=llama)", "", _bare(name))).strip("-")
    if (match := re.fullmatch(r"claude-((?:\d-?)+)-(haiku|sonnet|opus)(.*)", plain)) is not None:
        plain = f"claude-{match[2]}-{match[1]}{match[3]}"
    return plain


@lru_cache(maxsize=50_000)
def _undated(name: str) -> str:
    bare = _bare(name)
    while (shorter := _DATE.sub("", bare)) != bare:
        bare = shorter
    return _plain(bare)


@lru_cache(maxsize=50_000)
def _kindless(name: str) -> str:
    plain = _undated(name)
    while (shorter := _KIND.sub("", plain)) != plain:
        plain = shorter
    return plain


def _nearest(pool: Pool, name: str) -> str:
    """`; the nearest are 'a', 'b' and 'c'`."""
    known = {_plain(m.id): m.id for m in pool.models}
    wanted = _kindless(name.partition("@")[0].strip("*?[]"))
    begin = sorted((k for k in known if wanted and k.startswith(wanted)), key=len)
    close = list(dict.fromkeys([*begin, *difflib.get_close_matches(wanted, known, n=_MAX_HINTS, cutoff=0.5)]))[
        :_MAX_HINTS
    ]
    if not close:
        words = set(wanted.split("-"))
        ranked = sorted(known, key=lambda k: -len(words & set(k.split("-"))))
        close = [k for k in ranked[:_MAX_HINTS] if words & set(k.split("-"))]
    if not close:
        return f"; there are: {listing((m.id for m in pool.models), 4)}"
    return f"; the nearest {'is' if len(close) == 1 else 'are'} {listing(known[c] for c in close)}"


def _or(names: Iterable[str]) -> str:
    names = list(names)
    return (
        listing(names)
        if len(names) > 6
        else " or ".join(filter(None, (", ".join(map(repr, names[:-1])), repr(names[-1]))))
    )
