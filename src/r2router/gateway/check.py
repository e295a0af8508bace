"""Checks a configuration for doubtful settings, and whether its providers can be reached."""

from __future__ import annotations

import asyncio

from r2router.gateway.setting import Setting
from r2router.upstream.client import Upstream


def problems(setting: Setting) -> list[str]:
    """List settings that are allowed but may surprise."""
    models = (*setting.router.pool.models, *setting.others.values())
    unpriced = "no price, so what it costs is not known, and keys with a budget cannot use it: add usd_per_million"
    found = [f"{model.id}: {unpriced}" for model in models if model.usd_per_million is None]
    for name, provider in setting.config.provider.items():
        if provider.key and name not in setting.keys and all(m.provider != name for m in setting.router.pool.models):
            found.append(f"provider {name!r}: no model names it")
    for pattern, target in setting.config.alias.items():
        if target != "auto" and not target.startswith("auto:") and setting.config.resolve(target) not in setting.names:
            base = target.rpartition("@")[0]
            if base not in setting.names:
                found.append(f"alias {pattern!r}: there is no model {target!r}")
    for name, mask in setting.masks.items():
        able = [
            arm
            for arm, ok in zip(setting.router.arms, mask, strict=True)
            if ok and setting.router.pool[arm.model].available
        ]
        if not able and not setting.replay:
            found.append(f"preset {name!r}: none of its models can be called now")
    return found


def reach(setting: Setting) -> list[str]:
    """List why providers in use cannot be called; empty where all answer."""
    used = {m.provider for m in setting.router.pool.models if m.available}
    used |= {m.provider for m in setting.others.values() if m.id not in setting.missing}

    async def ask() -> list[str]:
        async with Upstream({name: setting.providers[name] for name in sorted(used)}) as upstream:
            answers = await asyncio.gather(*(upstream.probe(name) for name in sorted(used)))
        return [
            f"provider {name!r}: {failure.message}"
            for name, failure in zip(sorted(used), answers, strict=True)
            if failure
        ]

    return asyncio.run(ask())
