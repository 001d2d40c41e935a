"""The operators that exported graphs may hold: those that every engine has of its own."""

from __future__ import annotations

import onnx

from karp_perception.core import BackendUnavailable

STANDARD_OPERATORS = frozenset(
    {
        "Add", "Sub", "Mul", "Div", "Clip", "Relu", "Erf", "Exp", "Gelu", "Sigmoid", "Sin", "Cos", "Sqrt", "Pow", "Neg",
        "Reciprocal", "Conv", "MatMul", "Gemm", "Softmax", "LayerNormalization", "MaxPool", "ReduceMax", "ReduceMean",
        "ReduceSum", "TopK", "Gather", "GatherElements", "Concat", "Split", "Slice", "Reshape", "Transpose", "Expand",
        "Unsqueeze", "Squeeze", "Cast", "Constant", "And", "Greater", "Less", "Max", "Min", "Identity", "Tile",
        "Flatten", "Shape", "QuantizeLinear", "DequantizeLinear",
    }
)  # fmt: skip
"""Elementwise, matrix products, convolutions, reductions, shapes, and 8 bits: no plugin, no GridSample, no NMS."""


def require_standard(model: onnx.ModelProto) -> None:
    """Raises BackendUnavailable for a model with another operator, one of another domain, or functions of its own."""
    foreign = sorted(
        {
            f"{node.domain or 'ai.onnx'}::{node.op_type}"
            for node in model.graph.node
            if node.domain not in ("", "ai.onnx") or node.op_type not in STANDARD_OPERATORS
        }
    )
    if foreign or model.functions:
        raise BackendUnavailable(
            f"the exported graph holds {', '.join(foreign) or 'functions'}, which not every engine has: "
            "write the model with operators of STANDARD_OPERATORS"
        )
