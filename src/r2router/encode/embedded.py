"""The embedded encoder: all-MiniLM-L6-v2 with int8 weights on onnxruntime. No torch, no network, nothing written to
disk.

Texts run one at a time, several at once on several threads. The model quantises activations with one scale a run, so a
batch would make a text's vector depend on its neighbours; alone, a text has one vector. Batching would not be faster:
see docs/decisions/0003-embedded-encoder.md.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from r2router.encode.bundle import SHA256, bundled_file
from r2router.encode.tokens import first_pieces
from r2router.types import FloatArray

if TYPE_CHECKING:
    from onnxruntime import InferenceSession  # type: ignore[import-untyped]

MAX_TOKENS = 256
"""The model's own limit, [CLS] and [SEP] included; what comes later in a text is not seen."""
CLS, SEP = 101, 102
DIM = 384

_loading = threading.Lock()


class MiniLM:
    """The default encoder: (n, 384). Instances share one session, which is loaded at the first use and is thread-safe.

    threads: how many texts of one call are encoded at the same time; by default one for each processor this process may
        use. A single text always takes one thread.
    """

    id = f"minilm-int8-{SHA256['model.onnx'][:8]}"
    dim = DIM

    def __init__(self, threads: int | None = None) -> None:
        self.threads = _processors() if threads is None else max(1, threads)

    def __repr__(self) -> str:
        return f"MiniLM(threads={self.threads})"

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Return (n, 384) float32 rows of norm 1, from the first 256 tokens of each text; any string works, also an
        empty one.

        Raises `ArtifactError` where the bundled model is missing or altered.
        """
        vectors = np.empty((len(texts), DIM), dtype=np.float32)
        if len(texts) == 0:
            return vectors
        with _loading:  # two threads must not both load it
            session = _load()
        workers = min(self.threads, len(texts))
        stop = threading.Event()

        def work(first: int) -> None:
            for row in range(first, len(texts), workers):
                if stop.is_set():
                    return
                vectors[row] = _encode_one(session, texts[row])

        if workers == 1:
            work(0)
            return vectors
        with ThreadPoolExecutor(workers, thread_name_prefix="minilm") as pool:
            try:
                list(pool.map(work, range(workers)))
            except BaseException:  # also Ctrl-C: the other workers must not finish a long list first
                stop.set()
                raise
        return vectors


def _encode_one(session: InferenceSession, text: str) -> FloatArray:
    """Return (384,) for one text."""
    ids = np.array([[CLS, *first_pieces(text, MAX_TOKENS - 2), SEP]], dtype=np.int64)
    (vector,) = session.run(None, {"ids": ids})
    row: FloatArray = vector[0]
    return row


@cache
def _load() -> InferenceSession:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # The graph is written in its fastest form; the optimiser would fuse Add and LayerNormalization into a slower node.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    with bundled_file("model.onnx") as path:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
