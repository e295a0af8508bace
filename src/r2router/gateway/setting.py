"""A configuration together with its router and keys. It is never changed; a reload makes a new one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np

from r2router.errors import ConfigError, UsageError
from r2router.gateway.config import Config, Overlay, Preset, Served
from r2router.gateway.dialects.dialect import Speaks
from r2router.gateway.pacing import Pace
from r2router.gateway.targets import start_of
from r2router.pool.pool import Pool
from r2router.router.router import Router
from r2router.text import listing, suggest
from r2router.types import BoolArray, Budget, Model
from r2router.upstream.endpoint import key_of

REPLAY = "replay"
"""The provider that answers where no other can: it calls nobody."""


@dataclass(frozen=True, eq=False)
class Setting:
    """A configuration with everything that is loaded for it.

    config: the configuration file.
    router: with the file's models laid over its pool; models that cannot be called now are not available.
    providers: all that can be named.
    keys: provider -> its key, empty where it needs none.
    missing: model -> why it cannot be called.
    others: models that can only be asked for by name.
    replay: whether every answer is a replay.
    """

    config: Config
    router: Router
    providers: Mapping[str, Served]
    keys: Mapping[str, str]
    missing: Mapping[str, str]
    others: Mapping[str, Model]
    replay: bool = False

    @classmethod
    def of(cls, config: Config, folder: Path | None = None) -> Setting:
        """Load what a configuration names.

        folder: the folder of the configuration.

        Raises `ConfigError` and `ArtifactError`.
        """
        router = _router(config, folder)
        overlays = {overlay.id: overlay for overlay in config.model}
        models = [overlays[m.id].over(m) if m.id in overlays else m for m in router.pool.models]
        others = {o.id: o.model() for o in config.model if o.id not in {m.id for m in router.pool.models}}
        Pool([*models, *others.values()])  # for its checks
        providers = config.providers()
        keys = dict[str, str]()
        missing = dict[str, str]()
        for model in (*models, *others.values()):
            if why := _cannot(model, providers, keys):
                missing[model.id] = why
        replay = len(missing) == len(models) + len(others) and not config.provider
        if replay:
            models = [msgspec.structs.replace(m, provider=REPLAY, available=True) for m in models]
            providers[REPLAY] = Served(base_url="http://replay.invalid", dialect="openrouter", speaks=get_args(Speaks))
            keys[REPLAY], missing = "", {}
        else:
            models = [msgspec.structs.replace(m, available=m.available and m.id not in missing) for m in models]
        setting = cls(config, router.with_pool(Pool(models)), providers, keys, missing, others, replay)
        for name, preset in config.preset.items():
            setting.mask_of(name, preset)
        _ = setting.paces, setting.baseline  # for their checks
        return setting

    @cached_property
    def version(self) -> str:
        """A digest of all prices in use."""
        prices = {m.id: m.usd_per_million for m in (*self.router.pool.models, *self.others.values())}
        return hashlib.sha256(msgspec.json.encode(prices)).hexdigest()[:12]

    @cached_property
    def masks(self) -> dict[str, BoolArray]:
        """Preset -> (arms,) which of the router's arms it may choose."""
        return {name: self.mask_of(name, preset) for name, preset in self.config.presets().items()}

    def mask_of(self, name: str, preset: Preset) -> BoolArray:
        """Return (arms,) which arms a preset may choose. Raises `ConfigError` where one of its patterns matches
        nothing.
        """
        arms = self.router.arms

        def fitting(patterns: tuple[str, ...]) -> BoolArray:
            found = np.zeros(len(arms), dtype=bool)
            for pattern in patterns:
                fits = np.array([fnmatchcase(arm, pattern) or fnmatchcase(arm.model, pattern) for arm in arms])
                if not fits.any():
                    hint = suggest(pattern, [m.id for m in self.router.pool.models])
                    raise ConfigError(f"preset {name!r}: {pattern!r} fits no model or arm of the router{hint}")
                found |= fits
            return found

        mask = fitting(preset.models) if preset.models else np.ones(len(arms), dtype=bool)
        return mask & ~fitting(preset.exclude)

    @cached_property
    def paces(self) -> dict[str, Pace]:
        """The initial states of the presets' targets, by the clients' name of the preset; none in a replay, which
        spends nothing.
        """
        presets = {} if self.replay else self.config.presets()
        own, scale = self.router.policy, self.router.scale
        return {
            f"auto:{name}": preset.target.pace(start_of(preset.policy, own, scale))
            for name, preset in presets.items()
            if preset.target is not None
        }

    @cached_property
    def baseline(self) -> int | None:
        """The index of the arm that reports compare with. Raises `ConfigError` where the configuration names an unknown
        one.
        """
        wanted, arms, quality = self.config.server.baseline, self.router.arms, self.router.prior_quality
        if wanted == "none":
            return None
        fits = np.array([not wanted or wanted in (arm, arm.model) for arm in arms])
        if not fits.any():
            known = [*(m.id for m in self.router.pool.models), "none"]
            raise ConfigError(f"server.baseline: the router has no model or arm {wanted!r}{suggest(wanted, known)}")
        if not wanted:
            fits &= np.array([self.router.pool[arm.model].available for arm in arms])
        ranked = np.where(fits & np.isfinite(quality), quality, -np.inf)
        return int(ranked.argmax()) if np.isfinite(ranked).any() else None

    @cached_property
    def names(self) -> dict[str, Model]:
        """Name that clients may use -> the model: its id, or its provider's name for it."""
        models = [*self.router.pool.models, *self.others.values()]
        return {m.upstream: m for m in reversed(models) if m.upstream} | {m.id: m for m in models}

    def concrete(self, asked: str) -> tuple[Model, Budget | None] | None:
        """Return (model, budget) of a name with or without `@budget`; None where there is none.

        Raises `ConfigError` for a budget that the model does not have.
        """
        if asked in self.names:
            return self.names[asked], None
        name, at, wanted = asked.rpartition("@")
        model = self.names.get(name) if at else None
        if model is None:
            return None
        wanted = Budget.of(wanted).id
        budget = next((b for b in model.budgets if b.id == wanted), None)
        if budget is None:
            raise ConfigError(f"model {name!r} has no budget {wanted!r}; it has {listing(b.id for b in model.budgets)}")
        return model, budget

    @cached_property
    def overlays(self) -> dict[str, Overlay]:
        """Model -> what the configuration says about it."""
        return {overlay.id: overlay for overlay in self.config.model}


def _router(config: Config, folder: Path | None) -> Router:
    if not config.server.router:
        from r2router.starter import starter

        return starter()
    path = Path(config.server.router)
    try:
        return Router.load(path if path.is_absolute() or folder is None else folder / path)
    except UsageError as error:
        raise ConfigError(f"server.router: {error}") from None


def _cannot(model: Model, providers: Mapping[str, Served], keys: dict[str, str]) -> str:
    """Return why a model cannot be called; empty where it can. Adds its provider's key to the others."""
    if not model.available:
        return "is not available"
    provider = providers.get(model.provider)
    if provider is None:
        return (
            f"has no provider that is known ({model.provider or 'none is named'}): add"
            f" [provider.{model.provider or 'NAME'}]"
        )
    if model.provider not in keys:
        key, wrong = key_of(provider.key) if provider.key else ("", "")
        if wrong:
            return f"provider {model.provider!r}: {wrong}"
        keys[model.provider] = key
    return ""
