"""The network in half precision, written into the graph itself: what is computed in which type is no engine's choice.

Engines that are strongly typed (TensorRT from 10 on) compute in the types of the file, and others can follow them. In
half precision are the encoders, the decoder layers, and what makes candidates into queries, with their weights and
activations. In float32 stay inputs and outputs, so that callers need not know; positions and rays, whose metres need
more than eleven bits; heatmaps and the choice of candidates, where ties would break differently; the heads; and what
LayerNorm and softmax add up, which engines do in float32 for themselves (`stash_type`) or by a cast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

from karp_perception.core import BackendUnavailable
from karp_perception.detection.runtime.onnx_scopes import scope_of, within

_HALF_PARTS = ("image_encoder", "lidar_encoder", "layers", "candidate", "image_candidate")
_SHAPE_ONLY = frozenset(
    {
        "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Expand", "Slice", "Gather", "GatherElements", "Identity",
        "Concat", "Split", "Flatten", "Tile",
    }
)  # fmt: skip


@dataclass(frozen=True)
class HalfType:
    """A floating-point type of 16 bits.

    Attributes:
        onnx: its number in ONNX. numpy: its dtype.
        exact: operators that stay in float32 all the same.
        opset: the first one whose operators take the type.
    """

    onnx: int
    numpy: np.dtype
    exact: frozenset[str]
    opset: int


HALF_TYPES: Mapping[str, HalfType] = {
    "f16": HalfType(TensorProto.FLOAT16, np.dtype(np.float16), frozenset(), 18),
    # Eight bits are too few for sums of many layers and of many exponentials.
    "bf16": HalfType(
        TensorProto.BFLOAT16, np.dtype(ml_dtypes.bfloat16), frozenset({"Softmax", "LayerNormalization"}), 22
    ),
}


def typed_graph(model: onnx.ModelProto, half: HalfType) -> onnx.ModelProto:
    """A copy of the network's f32 graph that computes in half precision where that does no harm.

    Raises BackendUnavailable where a weight is too large for the type.
    """
    return _Typing(shape_inference.infer_shapes(model), half).typed()


class _Typing:
    """One pass over the nodes in their order: each is given its type, its inputs are cast where theirs is another."""

    def __init__(self, model: onnx.ModelProto, half: HalfType) -> None:
        self._model, self._half = model, half
        graph = model.graph
        self._weights = {weight.name: weight for weight in graph.initializer}
        values = [*graph.input, *graph.value_info, *graph.output]
        self._types = {value.name: value.type.tensor_type.elem_type for value in values}
        self._types |= {name: weight.data_type for name, weight in self._weights.items()}
        self._float = {name for name, kind in self._types.items() if kind == TensorProto.FLOAT}
        self._outputs = {output.name for output in graph.output}
        self._nodes: list[onnx.NodeProto] = []
        self._half_weights: dict[str, TensorProto] = {}

    def typed(self) -> onnx.ModelProto:
        """The new model."""
        for node in self._model.graph.node:
            self._add(node)
        result = onnx.ModelProto()
        result.CopyFrom(self._model)
        del result.graph.node[:]
        result.graph.node.extend(self._nodes)
        used = {name for node in self._nodes for name in node.input}
        weights = [*self._model.graph.initializer, *self._half_weights.values()]
        del result.graph.initializer[:]
        result.graph.initializer.extend(weight for weight in weights if weight.name in used)
        for entry in result.opset_import:
            entry.version = max(entry.version, self._half.opset)
        del result.graph.value_info[:]  # inferred anew from the types that the nodes have now
        return shape_inference.infer_shapes(result, strict_mode=True)

    def _add(self, node: onnx.NodeProto) -> None:
        kind = self._half.onnx if self._in_half(node) else TensorProto.FLOAT
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [self._as(name, kind) for name in node.input]
        self._nodes.append(copy)
        for position, name in enumerate(node.output):
            if name not in self._float:
                continue
            self._types[name] = kind
            if name in self._outputs and kind != TensorProto.FLOAT:
                copy.output[position] = f"{name}_half"
                self._nodes.append(helper.make_node("Cast", [f"{name}_half"], [name], to=TensorProto.FLOAT))
                self._types[name] = TensorProto.FLOAT

    def _in_half(self, node: onnx.NodeProto) -> bool:
        if not any(name in self._float for name in node.output):
            return False
        if node.op_type in _SHAPE_ONLY:
            # Nothing is computed: it takes the type that it is given, weights take any.
            data = [name for name in node.input if name in self._float and name not in self._weights]
            return bool(data) and all(self._types[name] == self._half.onnx for name in data)
        return within(scope_of(node), *_HALF_PARTS) and node.op_type not in self._half.exact

    def _as(self, name: str, kind: int) -> str:
        """The name of a value in a type, cast where it has another; names of anything but floats stay."""
        if name not in self._float or self._types[name] == kind:
            return name
        cast = f"{name}_as_{TensorProto.DataType.Name(kind).lower()}"
        if cast in self._types:
            return cast
        self._types[cast] = kind
        if name in self._weights:
            self._half_weights[cast] = self._converted(self._weights[name], cast)
        else:
            self._nodes.append(helper.make_node("Cast", [name], [cast], name=f"cast_{cast}", to=kind))
        return cast

    def _converted(self, weight: TensorProto, name: str) -> TensorProto:
        with np.errstate(over="ignore"):
            values = numpy_helper.to_array(weight).astype(self._half.numpy)
        if not np.isfinite(values.astype(np.float32)).all():
            raise BackendUnavailable(f"weight {weight.name} is too large for {self._half.numpy}")
        return numpy_helper.from_array(values, name)
