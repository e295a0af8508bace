"""The ONNX graph of all-MiniLM-L6-v2 with int8 weights, written node by node; used by `build_minilm.py`.

Shapes: n tokens, 384 channels, 1536 hidden units, 12 heads. Products are uint8 activations (one scale a run) times int8
weights (one scale a column), summed in int32; everything else is float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
Array = NDArray[np.floating[Any]]


def quantise_columns(weight: Array, copies: list[NDArray[np.intp]] | None = None) -> tuple[NDArray[np.int8], Array]:
    """(in, out) float weights -> (in, out) int8 and (out,) float32 scales, safe in 16-bit sums.

    x86 processors without VNNI add the products of two neighbouring rows in 16 bits, which overflows (silently, by
    saturating) if 255 * (w1 + w2) leaves the range. So the scale of a column is the least that keeps the sum of any
    such pair of equal sign within 128: every processor then gives the same integers. The usual cure, 7-bit weights,
    costs more precision.

    copies: groups of equal rows; their rounded values add up to the rounded sum, which is finer than each row alone.
    """
    scale = np.maximum(_largest_pair(weight) / 127.5, np.abs(weight).max(0) / 127).astype(np.float32)
    while True:
        rounded = np.round(weight / scale)
        for rows in copies or []:
            total = np.round(weight[rows].sum(0) / scale)
            rounded[rows] = np.floor((total + np.arange(len(rows))[:, None]) / len(rows))
        unsafe = (_largest_pair(rounded) > 128) | (np.abs(rounded).max(0) > 127)
        if not unsafe.any():
            return rounded.astype(np.int8), scale
        scale = np.where(unsafe, scale * np.float32(1.002), scale)


def _largest_pair(weight: Array) -> Array:
    """(in, out) -> (out,): the largest sum of two neighbouring rows, counting only what has one sign."""
    up, down = np.maximum(weight, 0), np.maximum(-weight, 0)
    largest: Array = np.maximum((up[0::2] + up[1::2]).max(0), (down[0::2] + down[1::2]).max(0))
    return largest


def spread_units(divisors: Array) -> tuple[NDArray[np.intp], list[NDArray[np.intp]]]:
    """Which hidden unit stands in each place, and where the copies of one unit stand.

    A unit divided by d is there d times, with its weights as they are. (Weights multiplied by d would do as well, but
    would stretch the scale of their columns: measured, that error was the largest of all.) Copies of one unit never
    stand side by side, and zero-weight places fill up to a multiple of 16, as the kernels like it.
    """
    count = divisors.astype(np.intp)
    rounds = [np.flatnonzero(count > turn) for turn in range(count.max())]
    unit = np.concatenate(rounds)
    places = [np.flatnonzero(unit == outlier) for outlier in np.flatnonzero(count > 1)]
    return np.concatenate([unit, np.full(-len(unit) % 16, -1)]), places


class GraphWriter:
    """Collects nodes and constants; each method returns the name of what it made."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], name: str, *more: str, domain: str = "", **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [name, *more], name=name, domain=domain, **attributes))
        return name

    def product(
        self, x: str, weight: Array, bias: Array | None, name: str, copies: list[NDArray[np.intp]] | None = None
    ) -> str:
        """x @ weight + bias with int8 weights; x is quantised inside."""
        quantised, scale = quantise_columns(weight, copies)
        inputs = [x, self.constant(f"{name}.weight", quantised), self.constant(f"{name}.scale", scale)]
        if bias is not None:
            inputs += ["", self.constant(f"{name}.bias", bias)]
        return self.node("DynamicQuantizeMatMul", inputs, name, domain=MICROSOFT)

    def attention(self, x: str, weight: Array, bias: Array, name: str) -> str:
        """Twelve-head self-attention up to (not with) the output projection; the three projections in one int8
        product.
        """
        quantised, scale = quantise_columns(weight)
        self.node("DynamicQuantizeLinear", [x], f"{name}.x", f"{name}.x_scale", f"{name}.x_zero")
        inputs = [f"{name}.x", self.constant(f"{name}.weight", quantised), self.constant(f"{name}.bias", bias)]
        inputs += [f"{name}.x_scale", self.constant(f"{name}.scale", scale), "", f"{name}.x_zero"]
        return self.node("QAttention", inputs, name, domain=MICROSOFT, num_heads=12)

    def add_norm(self, x: str, residual: str, gain: Array, offset: Array, name: str) -> str:
        """LayerNorm(x + residual). Two nodes: onnxruntime's fused SkipLayerNormalization is six times slower."""
        total = self.node("Add", [x, residual], f"{name}.sum")
        inputs = [total, self.constant(f"{name}.gain", gain), self.constant(f"{name}.offset", offset)]
        return self.node("LayerNormalization", inputs, name, axis=-1, epsilon=1e-12)

    def scaled(self, x: str, factor: Array, name: str) -> str:
        """x * factor, channel by channel."""
        return self.node("Mul", [x, self.constant(f"{name}.factor", factor.astype(np.float32))], name)


def embeddings(graph: GraphWriter, weights: dict[str, Array], max_tokens: int) -> tuple[str, str]:
    """Word vectors (int8 rows, one scale each) and position vectors (token type 0 added in), both (1, n, 384)."""
    words = weights["embeddings.word_embeddings.weight"]
    scale = (np.abs(words).max(1, keepdims=True) / 127).astype(np.float32)
    table = graph.constant("words", np.round(words / scale).astype(np.int8))
    rows = graph.node("Cast", [graph.node("Gather", [table, "ids"], "words.rows")], "words.float", to=TensorProto.FLOAT)
    scales = graph.node("Gather", [graph.constant("words.scale", scale), "ids"], "words.row_scale")
    word = graph.node("Mul", [rows, scales], "words.vector")

    position = weights["embeddings.position_embeddings.weight"][:max_tokens]
    table = graph.constant("positions", position + weights["embeddings.token_type_embeddings.weight"][0])
    length = graph.node("Shape", ["ids"], "length", start=1, end=2)
    start = graph.constant("zero", np.array([0], dtype=np.int64))
    return word, graph.node("Slice", [table, start, length], "positions.vector")


def build_model(weights: dict[str, Array], divisors: dict[tuple[int, str], Array], max_tokens: int) -> bytes:
    """The serialised model. weights: the official float32 tensors by name; divisors: see `outlier_divisors`.

    Divided channels: a LayerNorm's gain and offset are divided once, here; the weights that follow are multiplied, and
    so is the residual path. Powers of two make that exact.
    """
    graph = GraphWriter()
    layers = 1 + max(layer for layer, _ in divisors)
    scale_in = divisors[0, "qkv"]
    word, position = embeddings(graph, weights, max_tokens)
    gain, offset = (weights[f"embeddings.LayerNorm.{part}"] for part in ("weight", "bias"))
    x = graph.add_norm(word, position, np.float32(gain / scale_in), np.float32(offset / scale_in), "embedding")
    for layer in range(layers):

        def get(name: str, layer: int = layer) -> Array:
            return weights[f"encoder.layer.{layer}.{name}"]

        name = f"layer{layer}"
        scale_middle, scale_hidden = divisors[layer, "ff1"], divisors[layer, "ff2"]
        unit, copies = spread_units(scale_hidden)
        scale_out = divisors[layer + 1, "qkv"] if layer + 1 < layers else np.ones_like(scale_in)

        projections = np.concatenate(
            [get(f"attention.self.{part}.weight").T for part in ("query", "key", "value")], axis=1
        )
        bias = np.concatenate([get(f"attention.self.{part}.bias") for part in ("query", "key", "value")])
        y = graph.attention(x, projections * scale_in[:, None], bias, f"{name}.attention")
        y = graph.product(
            y, get("attention.output.dense.weight").T, get("attention.output.dense.bias"), f"{name}.projection"
        )
        gain, offset = get("attention.output.LayerNorm.weight"), get("attention.output.LayerNorm.bias")
        residual = graph.scaled(x, scale_in, f"{name}.residual1")
        x = graph.add_norm(
            y, residual, np.float32(gain / scale_middle), np.float32(offset / scale_middle), f"{name}.middle"
        )

        y = graph.product(
            x, get("intermediate.dense.weight").T[:, unit] * scale_middle[:, None], None, f"{name}.hidden"
        )
        bias_name = graph.constant(f"{name}.hidden.bias", get("intermediate.dense.bias")[unit])
        # The tanh form of GELU: 3 % less time for the whole model than the exact one, and no measurable loss beside
        # int8.
        y = graph.node("FastGelu", [y, bias_name], f"{name}.active", domain=MICROSOFT)
        y = graph.scaled(y, 1 / scale_hidden[unit], f"{name}.tamed")
        down = np.where((unit >= 0)[:, None], get("output.dense.weight").T[unit], np.float32(0))
        y = graph.product(y, down, get("output.dense.bias"), f"{name}.output", copies)
        gain, offset = get("output.LayerNorm.weight"), get("output.LayerNorm.bias")
        residual = graph.scaled(x, scale_middle, f"{name}.residual2")
        x = graph.add_norm(y, residual, np.float32(gain / scale_out), np.float32(offset / scale_out), f"{name}.end")
        scale_in = scale_out

    axes = graph.constant("token_axis", np.array([1], dtype=np.int64))
    pooled = graph.node("ReduceMean", [x, axes], "pooled", keepdims=0)
    graph.node("LpNormalization", [pooled], "vector", axis=-1, p=2)
    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "all-MiniLM-L6-v2-int8",
            [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, "n"])],
            [helper.make_tensor_value_info("vector", TensorProto.FLOAT, [1, 384])],
            graph.constants,
        ),
        producer_name="r2router scripts/build_minilm.py",
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid(MICROSOFT, 1)],
        ir_version=9,
    )
    return bytes(model.SerializeToString())
