"""Encoders from optional packages, imported when they are first used."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from r2router.encode.rows import checked_unit_rows
from r2router.encode.tokens import bounded, well_formed
from r2router.errors import EncoderError, MissingExtra
from r2router.types import FloatArray


class SentenceTransformers:
    """A sentence-transformers model by its name on Hugging Face (downloaded there at the first use) or by its
    folder.
    """

    def __init__(self, name: str) -> None:
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingExtra(
                f"encoder 'st:{name}' needs sentence-transformers ({error}): pip install 'r2router[st]'"
            ) from error
        self.id = f"st:{name}"
        try:
            self._model: Any = SentenceTransformer(name)
        except (OSError, ValueError) as error:
            line = (str(error).strip() or repr(error)).splitlines()[0]
            raise EncoderError(f"sentence-transformers cannot load {name!r}: {line}") from error
        self.dim = len(self.encode([" "])[0])

    def __repr__(self) -> str:
        return f"SentenceTransformers({self.id.removeprefix('st:')!r})"

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return (n, dim) float32 rows of norm 1; the model's own length limit applies. Raises `EncoderError`."""
        if len(texts) == 0:
            return np.empty((0, self.dim), dtype=np.float32)
        sent = [well_formed(bounded(text)) or " " for text in texts]
        vectors = self._model.encode(sent, convert_to_numpy=True, show_progress_bar=False)
        return checked_unit_rows(vectors, len(texts), self.id)


class WordLlama:
    """Static word vectors (wordllama's l2_supercat, 256-d): an average of token vectors, far faster and less exact than
    a model.
    """

    id = "wordllama-l2_supercat-256"
    dim = 256

    def __init__(self) -> None:
        # Importing wordllama calls logging.basicConfig; the program's logging is not its business.
        root = logging.getLogger()
        handlers, level = root.handlers[:], root.level
        try:
            import wordllama
        except ImportError as error:
            raise MissingExtra(
                f"encoder 'wordllama' needs the package wordllama ({error}): pip install 'r2router[wordllama]'"
            ) from error
        finally:
            root.handlers[:] = handlers
            root.setLevel(level)
        # Its wheel carries the tokenizer in a folder where it does not look, and would download it; as a cache it is
        # found.
        folder = Path(wordllama.__file__).parent
        try:
            self._model: Any = wordllama.WordLlama.load(cache_dir=folder, dim=self.dim, disable_download=True)
        except OSError as error:
            raise EncoderError(f"wordllama's own files are missing ({error}); reinstall wordllama") from error

    def __repr__(self) -> str:
        return "WordLlama()"

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return (n, 256) float32 rows of norm 1."""
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        # one at a time: it pads a batch to its longest text, whatever memory that takes
        for row, text in enumerate(texts):
            # Texts without any token have no average; one constant vector stands for them all.
            ids = self._model.tokenizer.encode(well_formed(bounded(text)), add_special_tokens=False).ids or [0]
            vectors[row] = self._model.embedding[np.minimum(ids, len(self._model.embedding) - 1)].mean(axis=0)
        return checked_unit_rows(vectors, len(texts), self.id) if len(texts) else vectors
