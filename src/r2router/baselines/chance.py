"""A router that knows nothing of the query: what chance alone gives."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, ClassVar, Self

import msgspec
import numpy as np

from r2router.baselines.cells import Cells, column_means
from r2router.errors import ConfigError
from r2router.predict.linear import check_shapes, rows_of
from r2router.types import Arm, FloatArray, Forecast

if TYPE_CHECKING:
    from r2router.table.table import Table


class Random(msgspec.Struct, frozen=True, tag="random", tag_field="learner", forbid_unknown_fields=True):
    """Quality drawn at random for every query and arm, between the lowest and the highest mean of an arm; tokens: the
    arm's mean.

    Where only quality counts every arm is as likely as any other; the more cost counts, the cheaper the arms that are
    drawn from. The same embedding always draws the same.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ConfigError(f"Random(seed={self.seed}): seed must be at least 0")

    def fit(self, x: FloatArray, table: Table) -> RandomPredictor:
        cells = Cells.of(x, table)
        means = np.stack([column_means(a)[cells.back] for a in (cells.quality, cells.tokens)])
        return RandomPredictor(table.arms, {"means": means, "seed": np.array([self.seed], dtype=np.int64)})


class RandomPredictor:
    """Draws quality at random.

    means: (2, arms) of quality and of tokens, NaN where never observed.
    seed: (1,) the random seed.
    """

    kind: ClassVar[str] = "random"

    def __init__(self, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> None:
        check_shapes(arrays, {"means": (2, len(arms)), "seed": (1,)})
        self.arms, self._arrays = arms, arrays

    def predict(self, x: FloatArray) -> Forecast:
        """The spread is the standard deviation of the draw."""
        known = ~np.isnan(self._arrays["means"][0])
        means = self._arrays["means"][0][known]
        low, high = (float(means.min()), float(means.max())) if len(means) else (0.0, 0.0)
        quality = low + (high - low) * self._draws(x)
        spread = np.where(known, (high - low) / np.sqrt(12), np.nan)
        return Forecast.of(
            self.arms,
            np.where(known, quality, np.nan),
            *(rows_of(a, len(x)) for a in (self._arrays["means"][1], spread)),
        )

    def _draws(self, x: FloatArray) -> FloatArray:
        """Return (n, arms) uniform on [0, 1), from each embedding's bytes and the seed, the same whatever the arms'
        order.
        """
        rows = np.ascontiguousarray(x, dtype=np.float32) + np.float32(0)  # -0 and 0 are the same query
        salt = str(int(self._arrays["seed"][0])).encode()
        by_name = np.argsort(np.array(self.arms), kind="stable")
        draws = np.empty((len(rows), len(self.arms)))
        for i, row in enumerate(rows):
            digest = hashlib.blake2b(row.tobytes(), digest_size=16, salt=salt[-16:]).digest()
            draws[i, by_name] = np.random.default_rng(int.from_bytes(digest, "little")).random(len(self.arms))
        return draws

    def arrays(self) -> dict[str, Any]:
        return dict(self._arrays)

    @classmethod
    def from_arrays(cls, arms: tuple[Arm, ...], arrays: dict[str, Any]) -> Self:
        return cls(arms, dict(arrays))
