"""What a router was trained on, so that it is not tested on its own training queries: a digest of their texts.

One 64-bit hash per distinct text (normalised: letter case, white space, Unicode form and quotes do not count), at most
65,536 of them: of a larger training set the smallest hashes, and a table is then compared on its texts below the
largest of these, which is a fair sample. A hash does not give its text away, but whoever guesses a text can check
whether it is there: a salt would not change that, as it has to be in the file. `Recipe(digest=False)` leaves the digest
out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from r2router.text import normalised
from r2router.types import BoolArray

MAX_HASHES = 65_536
_PERSON = b"r2router-trained"


@dataclass(frozen=True, slots=True, eq=False)
class TrainedTexts:
    """Hashes of the training texts.

    hashes: (m,) uint64, rising.
    """

    hashes: NDArray[np.uint64]

    @classmethod
    def of(cls, texts: Iterable[str]) -> TrainedTexts:
        """Return the digest of some texts."""
        return cls(np.unique(_hashes(texts))[:MAX_HASHES])

    @classmethod
    def of_all(cls, texts: Iterable[str]) -> TrainedTexts:
        """Hash all of some texts: to look them up in a table at hand, not to keep in a router."""
        return cls(np.unique(_hashes(texts)))

    def joined(self, other: TrainedTexts) -> TrainedTexts:
        """Return the digest of both."""
        if min(len(self.hashes), len(other.hashes)) == 0:
            return self if len(self.hashes) else other
        limit = min((part.hashes[-1] for part in (self, other) if part.is_sample), default=np.uint64(2**64 - 1))
        both = np.union1d(self.hashes, other.hashes)
        return TrainedTexts(both[both <= limit][:MAX_HASHES])

    @property
    def is_sample(self) -> bool:
        """Whether only a part of the training texts is kept."""
        return len(self.hashes) >= MAX_HASHES

    def share(self, texts: Sequence[str]) -> float:
        """Return the share of the texts that were trained on; NaN where a sample holds none that can be compared."""
        found = _hashes(texts)
        if self.is_sample:
            found = found[found <= self.hashes[-1]]
        return float(self._holds(found).mean()) if len(found) else np.nan

    def holds(self, texts: Sequence[str]) -> BoolArray:
        """Return (n,) which of the texts are known to be trained on. Of a sample some that were are not known."""
        return self._holds(_hashes(texts))

    def _holds(self, found: NDArray[np.uint64]) -> BoolArray:
        return np.isin(found, self.hashes)


def checked(hashes: Any) -> TrainedTexts | None:
    """Return the digest from an artifact's array; None where it cannot be one."""
    fits = (
        isinstance(hashes, np.ndarray) and hashes.dtype == np.uint64 and hashes.ndim == 1 and len(hashes) <= MAX_HASHES
    )
    return TrainedTexts(hashes) if fits and (hashes[1:] > hashes[:-1]).all() else None


def _hashes(texts: Iterable[str]) -> NDArray[np.uint64]:
    digests = b"".join(_hash(text) for text in texts)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def _hash(text: str) -> bytes:
    plain = normalised(text).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(plain, digest_size=8, person=_PERSON).digest()
