"""How a router is laid out in an artifact, and every check before one is believed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from r2router._version import __version__
from r2router.cascade.evidence import Evidence, LookPlan
from r2router.decide import AnyPolicy
from r2router.errors import ArtifactError, MissingExtra, PolicyError, UsageError
from r2router.pool.pool import Pool
from r2router.predict.domain_stats import DomainStats, DomainStatsNames
from r2router.predict.in_distribution import InDistribution
from r2router.predict.input_tokens import InputTokens
from r2router.router import artifact
from r2router.router.card import Facts, write_card
from r2router.router.learners import predictor_class
from r2router.router.router import Router
from r2router.router.trained import TrainedTexts, checked
from r2router.types import Model

_DOMAIN_STATS = "domain_stats."


class _Manifest(msgspec.Struct, forbid_unknown_fields=True):
    """What router.json holds beside the hashes."""

    models: tuple[Model, ...]
    encoder: str
    dim: int
    predictor: str
    policy: AnyPolicy
    scale: float
    input_tokens: InputTokens
    threshold: float | None
    facts: Facts
    ties: Literal["cheaper", "first"] = "cheaper"
    controls: tuple[str, ...] = ()
    temperature: float = 0.0  # of the in-distribution check; routers saved before there was a background have none
    cascade: LookPlan | None = None
    domain_stats: DomainStatsNames | None = None


def save(router: Router, folder: str | Path) -> None:
    """Do the work of `Router.save`."""
    if not isinstance(router.policy, AnyPolicy):
        name = type(router.policy).__name__
        raise PolicyError(
            f"the policy {name} cannot be saved, as it is code: give the router one that can,"
            " router.with_policy(r2.Value(0.01)), say"
        )
    arrays = {f"predictor.{k}": v for k, v in router.predictor.arrays().items()}
    arrays |= {"prior.quality": router.prior_quality, "prior.tokens": router.prior_tokens}
    if router.in_distribution is not None:
        arrays["familiarity.centres"] = router.in_distribution.centres
        if len(router.in_distribution.background):
            arrays["familiarity.background"] = router.in_distribution.background
    if router.trained is not None:
        arrays["trained.hashes"] = router.trained.hashes
    if router.looks is not None:
        arrays |= {f"cascade.{k}": v for k, v in router.looks.arrays().items()}
    if router.domain_stats is not None:
        arrays |= {f"{_DOMAIN_STATS}{name}": array for name, array in router.domain_stats.arrays().items()}
    manifest = _Manifest(
        models=router.pool.models,
        encoder=router.encoder,
        dim=router.dim,
        predictor=router.predictor.kind,
        policy=router.policy,
        scale=router.scale,
        input_tokens=router.input_tokens,
        threshold=None if router.in_distribution is None else router.in_distribution.threshold,
        facts=router.facts,
        ties=router.ties,
        controls=router.controls,
        temperature=0.0 if router.in_distribution is None else router.in_distribution.temperature,
        cascade=None if router.looks is None else router.looks.plan,
        domain_stats=None if router.domain_stats is None else router.domain_stats.names,
    )
    artifact.save(
        folder,
        manifest,
        arrays,
        write_card(router.pool, router.encoder, router.policy, router.facts),
        version=__version__,
    )


def load(folder: str | Path) -> Router:
    """Do the work of `Router.load`."""
    manifest, arrays = artifact.load(folder, _Manifest)
    pool = _saved_pool(folder, manifest)
    own = {k.removeprefix("predictor."): v for k, v in arrays.items() if k.startswith("predictor.")}
    predictor = predictor_class(manifest.predictor).from_arrays(pool.arms, own)
    for name, maximum in (("prior.quality", 1.0), ("prior.tokens", np.finfo(np.float64).max)):
        if name not in arrays or arrays[name].shape != (len(pool),):
            raise ArtifactError(f"{folder}: {name} is missing or not one number per arm; the artifact is damaged")
        if ((arrays[name] < 0) | (arrays[name] > maximum)).any():  # NaN is an arm that was never observed
            raise ArtifactError(f"{folder}: {name} holds impossible values; the artifact is damaged")
    if not len(manifest.input_tokens.factor) == len(manifest.input_tokens.overhead) == len(pool):
        raise ArtifactError(
            f"{folder}: input_tokens does not have one factor and overhead per arm; the artifact is damaged"
        )
    if len(manifest.controls) not in (0, len(pool)):
        raise ArtifactError(f"{folder}: controls are not one per arm; the artifact is damaged")
    if not 0 < manifest.scale < math.inf:
        raise ArtifactError(f"{folder}: scale is {manifest.scale}, not US dollars above 0; the artifact is damaged")
    router = Router(
        pool=pool,
        encoder=manifest.encoder,
        dim=manifest.dim,
        predictor=predictor,
        policy=manifest.policy,
        scale=manifest.scale,
        input_tokens=manifest.input_tokens,
        prior_quality=arrays["prior.quality"],
        prior_tokens=arrays["prior.tokens"],
        in_distribution=_saved_in_distribution(folder, manifest, arrays),
        facts=manifest.facts,
        controls=manifest.controls,
        trained=_saved_digest(folder, arrays),
        ties=manifest.ties,
        evidence=_saved_evidence(folder, manifest, pool, arrays),
        domain_stats=_saved_domain_stats(folder, manifest, arrays, len(pool)),
    )
    try:  # parts that do not fit each other show here, not at the first request
        router.forecast_vectors(np.zeros((1, manifest.dim), dtype=np.float32))
    except MissingExtra:
        raise
    except Exception as error:
        raise ArtifactError(f"{folder}: its parts do not fit each other ({error}); the artifact is damaged") from error
    return router


def _saved_evidence(
    folder: str | Path, manifest: _Manifest, pool: Pool, arrays: dict[str, np.ndarray]
) -> Evidence | None:
    own = {k.removeprefix("cascade."): v for k, v in arrays.items() if k.startswith("cascade.")}
    if (manifest.cascade is None) != (not own):
        raise ArtifactError(f"{folder}: the cascade's arrays do not fit {artifact.MANIFEST}; the artifact is damaged")
    if manifest.cascade is None:
        return None
    return Evidence.from_arrays(pool.arms, manifest.dim, own, manifest.cascade)


def _saved_domain_stats(
    folder: str | Path, manifest: _Manifest, arrays: dict[str, np.ndarray], arms: int
) -> DomainStats | None:
    if manifest.domain_stats is None:
        return None
    own = {name.removeprefix(_DOMAIN_STATS): array for name, array in arrays.items() if name.startswith(_DOMAIN_STATS)}
    try:
        return DomainStats.from_arrays(manifest.domain_stats, own, arms, manifest.dim)
    except ArtifactError as error:
        raise ArtifactError(f"{folder}: {error}") from None


def _saved_digest(folder: str | Path, arrays: dict[str, np.ndarray]) -> TrainedTexts | None:
    if "trained.hashes" not in arrays:
        return None
    digest = checked(arrays["trained.hashes"])
    if digest is None:
        raise ArtifactError(
            f"{folder}: the digest of the training texts is not a list of rising hashes; the artifact is damaged"
        )
    return digest


def _saved_in_distribution(
    folder: str | Path, manifest: _Manifest, arrays: dict[str, np.ndarray]
) -> InDistribution | None:
    centres, background = arrays.get("familiarity.centres"), arrays.get("familiarity.background")
    fits = (centres is None) == (manifest.threshold is None) and (background is None) == (manifest.temperature == 0)
    fits &= 0 <= manifest.temperature < math.inf and (centres is not None or background is None)
    for array in (centres, background):
        fits &= array is None or (array.ndim == 2 and array.shape[1] == manifest.dim and len(array) > 0)
    if not fits:
        raise ArtifactError(
            f"{folder}: the centres of the in-distribution check do not fit router.json; the artifact is damaged"
        )
    if centres is None or manifest.threshold is None:
        return None
    if background is None:
        return InDistribution(centres, manifest.threshold)
    return InDistribution(centres, manifest.threshold, background, manifest.temperature)


def _saved_pool(folder: str | Path, manifest: _Manifest) -> Pool:
    try:
        pool = Pool(manifest.models)
        _ = pool.usd_per_token
    except UsageError as error:
        raise ArtifactError(f"{folder}: {error}; the artifact is damaged") from None
    tokens = manifest.input_tokens
    if not all(0 <= number < math.inf for number in (*tokens.factor, *tokens.overhead, tokens.typical)):
        raise ArtifactError(f"{folder}: input_tokens are not finite numbers of at least 0; the artifact is damaged")
    return pool
