"""The paper's released router, read as data: `read_release(folder)`.

The release is a `config.json` and, for each model, three joblib files of scikit-learn Ridge regressors, which
`ucf_pickle` reads without trusting them. `import_release(folder)` makes a router of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import numpy as np

from r2router.decide import Tradeoff
from r2router.importers.ucf_pickle import bad, read_bytes, read_pickle
from r2router.pool.pool import Pool
from r2router.predict.input_tokens import InputTokens
from r2router.predict.released import ReleasedPredictor
from r2router.router.card import Facts
from r2router.router.router import Router
from r2router.types import UNLIMITED, Budget, FloatArray, Model, Prices

_TYPICAL_INPUT = 100.0  # the input tokens that the release's own code assumes where none are given
_LEAST_SHARE = 0.1  # of a head's intercept: the least an unlimited answer is believed to be forecast at

_Head: TypeAlias = tuple[FloatArray, float | np.floating[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class UcfRelease:
    """The released router as arrays; d is the embedding's dimension, B the number of budgets.

    models: with their OpenRouter ids, prices and budgets; `available` as the release states it (its code ignores it).
    budgets: the order of the budget axis; numbers of tokens and `"unlimited"`.
    quality_coef, quality_intercept: (models, B, d), (models, B); quality is linear in the embedding, then cut to 0..1.
    token_coef, token_intercept: (models, d), (models,); output tokens of an unlimited answer, then cut to at least 0.
    default_lambda: for cost in raw dollars.
    embedding_model: the encoder's name on Hugging Face.
    """

    models: tuple[Model, ...]
    budgets: tuple[int | str, ...]
    quality_coef: FloatArray
    quality_intercept: FloatArray
    token_coef: FloatArray
    token_intercept: FloatArray
    default_lambda: float
    embedding_model: str


class _UcfModel(msgspec.Struct):
    openrouter_id: str
    input_price_per_million: Annotated[float, msgspec.Meta(ge=0)]
    output_price_per_million: Annotated[float, msgspec.Meta(ge=0)]
    checkpoint_dir: str
    available: bool = True


class _UcfConfig(msgspec.Struct):
    embedding_model: str
    embedding_dim: Annotated[int, msgspec.Meta(ge=1)]
    default_lambda: Annotated[float, msgspec.Meta(ge=0, le=1)]
    token_limits: list[Annotated[int, msgspec.Meta(ge=1)] | Literal["unlimited"]]
    models: Annotated[dict[str, _UcfModel], msgspec.Meta(min_length=1, max_length=1_000)]


def read_release(folder: str | Path) -> UcfRelease:
    """Return the release in `folder`: `config.json` beside `checkpoints/`, or the checkpoints folder itself.

    In the second case `config.json` is looked for inside it, then in its parent. Raises `ArtifactError` naming the file
    and how to fix it where one is missing, too large, damaged, of the wrong shape, or holds anything but Ridge
    regressors.
    """
    folder = Path(folder).resolve()
    checkpoints = folder / "checkpoints" if (folder / "checkpoints").is_dir() else folder
    places = (folder / "config.json", folder.parent / "config.json")
    config = _read_config(next((place for place in places if place.is_file()), places[0]))
    heads = [_read_heads(checkpoints / entry.checkpoint_dir, config) for entry in config.models.values()]
    coef, intercept = (np.array([[head[part] for head in row] for row in heads]) for part in (0, 1))
    budgets = tuple(Budget.of(b) for b in config.token_limits)
    return UcfRelease(
        models=tuple(
            Model(
                id=name,
                budgets=budgets,
                provider="openrouter",
                upstream=entry.openrouter_id,
                usd_per_million=Prices(entry.input_price_per_million, entry.output_price_per_million),
                available=entry.available,
            )
            for name, entry in config.models.items()
        ),
        budgets=tuple(config.token_limits),
        quality_coef=coef[:, :-1],
        quality_intercept=intercept[:, :-1],
        token_coef=coef[:, -1],
        token_intercept=intercept[:, -1],
        default_lambda=config.default_lambda,
        embedding_model=config.embedding_model,
    )


def import_release(folder: str | Path, *, faithful: bool = False, encoder: str | None = None) -> Router:
    """Return a router with the released heads. Raises `ArtifactError` as `read_release` does.

    faithful: keep the release's forecasts and choices to the letter: every model may be called, a negative token
        forecast counts as 0 (so that `unlimited` costs its input only), equal scores go to the first arm. Without it,
        models marked as not available are not chosen, and an unlimited answer is never forecast below a tenth of its
        head's intercept.
    encoder: spec of an encoder that gives the release's embeddings (1,024 values of Qwen3-0.6B, not normalised by us);
        without one the router decides on vectors only.

    Its policy is the release's default lambda on raw dollars; calibrate it on outcomes of your own.
    """
    release = read_release(folder)
    models = [msgspec.structs.replace(m, available=True) for m in release.models] if faithful else release.models
    pool = Pool(models)
    budget_count, dim = release.quality_coef.shape[1:]
    unlimited = np.arange(len(models)) * budget_count + release.budgets.index(UNLIMITED)
    predictor = ReleasedPredictor(
        arms=pool.arms,
        weight=np.concatenate([release.quality_coef.reshape(-1, dim), release.token_coef]).T.astype(np.float32),
        bias=np.concatenate([release.quality_intercept.ravel(), release.token_intercept]).astype(np.float64),
        budget_tokens=pool.budget_tokens,
        unlimited=unlimited,
        least=(
            np.zeros(len(models))
            if faithful
            else np.maximum(_LEAST_SHARE * release.token_intercept, 1.0).astype(np.float64)
        ),
    )
    typical = predictor.predict(np.zeros((1, dim), dtype=np.float32))
    cost = pool.cost(np.full((1, 1), _TYPICAL_INPUT), typical.tokens)[0]
    return Router(
        pool=pool,
        encoder=encoder or f"given:{release.embedding_model}",
        dim=dim,
        predictor=predictor,
        policy=Tradeoff(release.default_lambda, scale=1.0),
        scale=float(cost[typical.quality[0].argmax()]),
        input_tokens=InputTokens((1.0,) * len(pool), (0.0,) * len(pool), _TYPICAL_INPUT),
        prior_quality=typical.quality[0],
        prior_tokens=typical.tokens[0],
        in_distribution=None,
        facts=Facts(
            title="The paper's released router" + (" (faithful import)" if faithful else ""),
            learner={"learner": "imported", "release": "UCF-ML-Research/R2-Router"},
            limits=(
                "Its heads were fitted by the paper's authors on R2-Bench; nothing was measured here.",
                (
                    "It expects the embeddings of its own encoder, and cannot tell when a query is unlike its training"
                    " data."
                ),
                "The prompt it serves is not the one its data was collected with; see the paper's repository.",
            ),
        ),
        ties="first" if faithful else "cheaper",
    )


def _read_config(path: Path) -> _UcfConfig:
    try:
        config = msgspec.json.decode(read_bytes(path), type=_UcfConfig)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise bad(path, str(error)) from None
    if len(set(config.token_limits)) < len(config.token_limits) or UNLIMITED not in config.token_limits:
        raise bad(path, "token_limits must name each budget once, 'unlimited' among them")
    for name, entry in config.models.items():
        if re.fullmatch(r"\.*|.{200,}|.*[/\\\0].*", entry.checkpoint_dir, re.DOTALL):
            raise bad(path, f"checkpoint_dir of model {name[:80]!r} must be the plain name of a folder")
    return config


def _read_heads(folder: Path, config: _UcfConfig) -> list[_Head]:
    """Return one model's regressors: quality under each budget, in the order of `token_limits`, then tokens when
    unlimited.
    """
    path = folder / "limited_score_predictors.joblib"
    limited = read_pickle(path)
    keys = [f"{b}_score" for b in config.token_limits if b != UNLIMITED]
    if not isinstance(limited, dict) or set(limited) != set(keys):
        raise bad(path, "does not hold one regressor for each number in token_limits of config.json")
    heads = {key: _head(f"{path}: {key}", limited[key], config.embedding_dim) for key in keys}
    for key in ("unlimited_score", "unlimited_token"):
        path = folder / f"{key}_predictor.joblib"
        heads[key] = _head(path, read_pickle(path), config.embedding_dim)
    return [heads[f"{b}_score"] for b in config.token_limits] + [heads["unlimited_token"]]


def _head(where: Path | str, value: Any, dim: int) -> _Head:
    """Coefficients and intercept of one regressor; `where` names it in the `ArtifactError`."""
    match value:
        case {"coef_": np.ndarray(shape=(n,)) as coef, "intercept_": (float() | np.floating()) as intercept}:
            if n == dim and coef.dtype.kind == "f" and np.isfinite(coef).all() and np.isfinite(intercept):
                return coef, intercept
    raise bad(where, f"is no Ridge regressor of {dim} (embedding_dim in config.json) finite floats and an intercept")
