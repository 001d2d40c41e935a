"""The encoders in 8 bits: QuantizeLinear and DequantizeLinear before their convolutions and matrix products.

Engines read from such pairs what they may compute in 8 bits. Per tensor for activations, by ranges that were measured;
per output channel for weights; symmetric, for those are the kernels that exist. What rounding shifts the mean of a
convolution's output by is taken from its bias (Nagel et al., 2019). Decoder, heads and heatmaps stay as they are: of
them a box is made, and they cost little. So do products of activations within attention.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from karp_perception.detection.runtime.onnx_scopes import scope_of, within

if TYPE_CHECKING:
    from karp_perception.detection.runtime.calibration import Range

_ENCODERS = ("image_encoder", "lidar_encoder")
_TINY = 1e-6  # least range: of what is always zero
_OUTPUT_AXIS = {"Conv": 0, "MatMul": 1}  # of the weight
OPSET = 19
"""The first one whose QuantizeLinear knows float8."""


@dataclass(frozen=True)
class EightBits:
    """A number format of 8 bits.

    Attributes:
        numpy: its dtype.
        largest: what the end of a range is mapped to.
        uniform: whether its steps are all the same.
        operators: whose inputs are brought to it.
    """

    numpy: np.dtype
    largest: float
    uniform: bool
    operators: frozenset[str]

    def scale(self, ends: np.ndarray | float) -> np.ndarray:
        """What a step of one means, for ranges up to `ends`."""
        return np.asarray(np.maximum(ends, _TINY) / self.largest, np.float32)

    def of(self, values: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Values in the format."""
        steps = np.clip(values / scale, -self.largest, self.largest)
        return (np.rint(steps) if self.uniform else steps).astype(self.numpy)

    def through(self, values: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """Values after a trip through the format."""
        return self.of(values, scale).astype(np.float32) * scale


EIGHT_BITS: Mapping[str, EightBits] = {
    "int8": EightBits(np.dtype(np.int8), 127.0, True, frozenset({"Conv", "MatMul"})),
    # Three bits of mantissa are too few for convolutions, which add up what is the same all over an empty street.
    "fp8": EightBits(np.dtype(ml_dtypes.float8_e4m3fn), 448.0, False, frozenset({"MatMul"})),
}


def quantized_nodes(model: onnx.ModelProto, format: EightBits) -> list[onnx.NodeProto]:
    """Convolutions and products with a weight in the encoders, as far as the format serves them."""
    weights = {weight.name for weight in model.graph.initializer}
    return [
        node
        for node in model.graph.node
        if node.op_type in format.operators and node.input[1] in weights and within(scope_of(node), *_ENCODERS)
    ]


def quantized_activations(model: onnx.ModelProto, format: EightBits) -> list[str]:
    """Names of the values that `quantized_graph` can bring to 8 bits, each once."""
    return list(dict.fromkeys(node.input[0] for node in quantized_nodes(model, format)))


def quantized_graph(model: onnx.ModelProto, format: EightBits, ranges: Mapping[str, Range]) -> onnx.ModelProto:
    """A copy of the network's f32 graph with 8 bits in its encoders.

    Args:
        model: the network.
        format: of the 8 bits.
        ranges: of those of `quantized_activations` that are brought to 8 bits.
    """
    return _Quantizing(model, format, ranges).quantized()


class _Quantizing:
    """One pass over the nodes; what goes through 8 bits is made once, whoever reads it."""

    def __init__(self, model: onnx.ModelProto, format: EightBits, ranges: Mapping[str, Range]) -> None:
        self._model, self._format, self._ranges = model, format, ranges
        self._weights = {weight.name: weight for weight in model.graph.initializer}
        self._nodes: list[onnx.NodeProto] = []
        self._made: dict[str, TensorProto] = {}
        self._through: set[str] = set()

    def quantized(self) -> onnx.ModelProto:
        """The new model."""
        nodes = quantized_nodes(self._model, self._format)
        chosen = {node.output[0] for node in nodes if node.input[0] in self._ranges}
        for node in self._model.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            if node.output[0] in chosen:
                copy.input[0] = self._activation(node.input[0])
                copy.input[1] = self._weight(node.input[1], _OUTPUT_AXIS[node.op_type])
                if node.op_type == "Conv":
                    del copy.input[2:]
                    copy.input.append(self._bias(node))
            self._nodes.append(copy)
        result = onnx.ModelProto()
        result.CopyFrom(self._model)
        used = {name for node in self._nodes for name in node.input}
        del result.graph.node[:], result.graph.initializer[:], result.graph.value_info[:]
        result.graph.node.extend(self._nodes)
        weights = (*self._weights.values(), *self._made.values())
        result.graph.initializer.extend(weight for weight in weights if weight.name in used)
        for entry in result.opset_import:
            entry.version = max(entry.version, OPSET)
        return shape_inference.infer_shapes(result, strict_mode=True)

    def _activation(self, name: str) -> str:
        """Name of the activation after 8 bits."""
        through = f"{name}_dequantized"
        if through not in self._through:
            self._through.add(through)
            scale = self._constant(f"{name}_scale", self._format.scale(self._ranges[name].end))
            zero = self._constant(f"{name}_zero_point", np.zeros((), self._format.numpy))
            eight = f"{name}_quantized"
            self._nodes += [
                helper.make_node("QuantizeLinear", [name, scale, zero], [eight], f"quantize_{name}"),
                helper.make_node("DequantizeLinear", [eight, scale, zero], [through], f"dequantize_{name}"),
            ]
        return through

    def _weight(self, name: str, axis: int) -> str:
        """Name of the weight after 8 bits; it is stored in them, with a scale for each output channel."""
        through = f"{name}_dequantized"
        if through not in self._through:
            self._through.add(through)
            values = numpy_helper.to_array(self._weights[name])
            scale = self._scale(values, axis)
            parts = [
                self._constant(f"{name}_quantized", self._format.of(values, scale)),
                self._constant(f"{name}_scale", scale.ravel()),
                self._constant(f"{name}_zero_point", np.zeros(scale.size, self._format.numpy)),
            ]
            self._nodes.append(helper.make_node("DequantizeLinear", parts, [through], f"dequantize_{name}", axis=axis))
        return through

    def _bias(self, node: onnx.NodeProto) -> str:
        """Name of a convolution's bias, less what 8 bits shift the mean of each output channel by."""
        values, *biases = (numpy_helper.to_array(self._weights[name]) for name in node.input[1:])
        bias = biases[0] if biases else np.zeros(len(values), np.float32)
        eight = self._format.through(values, self._scale(values, 0))
        known = self._ranges[node.input[0]]
        shift = eight.sum(axis=(2, 3)) @ known.quantized_mean - values.sum(axis=(2, 3)) @ known.mean
        return self._constant(f"{node.input[1]}_corrected_bias", (bias - shift).astype(np.float32))

    def _scale(self, weight: np.ndarray, axis: int) -> np.ndarray:
        """Of a weight, for each output channel, in the weight's axes."""
        others = tuple(other for other in range(weight.ndim) if other != axis)
        return self._format.scale(np.abs(weight).max(axis=others, keepdims=True))

    def _constant(self, name: str, values: np.ndarray) -> str:
        self._made[name] = numpy_helper.from_array(values, name)
        return name
