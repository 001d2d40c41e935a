"""The two graphs of a model, as a backend sees them: named inputs and outputs of fixed shapes, an ONNX file, a module.

`position` turns a calibration into position embeddings and runs when the calibration changes; `network` turns sensor
data and those embeddings into boxes and runs for every frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from karp_perception.core import InvalidInput
from karp_perception.detection.model.config import ModelConfig

if TYPE_CHECKING:
    from torch import nn

NETWORK_OUTPUTS = ("logits", "center", "log_size", "direction", "velocity", "log_variance")
POSITION_OUTPUTS = ("image_position", "lidar_position", "reference_position", "image_ray")

PRECISIONS = ("f32", "f16", "bf16", "int8", "fp8")
"""What a graph's file can be typed in. Inputs and outputs are float32 in all of them."""


class OnnxFile(Protocol):
    """Gives a graph's ONNX file in a precision (one of PRECISIONS), making it first where it has to.

    In "f16" and "bf16" the graph itself says what is computed in which type; in "int8" and "fp8" the encoders carry
    QuantizeLinear and DequantizeLinear. Raises BackendUnavailable for a precision that the graph does not come in.
    """

    def __call__(self, precision: str = "f32") -> Path:
        """The file."""
        ...


@dataclass(frozen=True)
class Graph:
    """One graph of a model.

    Attributes:
        name: "network" or "position".
        inputs: shapes by name, in order; all float32.
        outputs: names, in order.
        onnx: gives the ONNX file in a precision, exporting it first where it has to.
        module: gives the torch module, which takes and returns tensors in that order.
        examples: gives realistic inputs, on which precisions are compared; None: f32 is the only choice.
    """

    name: str
    inputs: Mapping[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    onnx: OnnxFile
    module: Callable[[], nn.Module]
    examples: Callable[[], list[dict[str, np.ndarray]]] | None = None

    def arranged(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """The arrays in the graph's order, contiguous float32. Raises InvalidInput for a wrong name or shape."""
        if set(inputs) != set(self.inputs):
            raise InvalidInput(f"inputs of the {self.name} graph", ", ".join(self.inputs), ", ".join(sorted(inputs)))
        arrays = []
        for name, shape in self.inputs.items():
            array = np.ascontiguousarray(inputs[name], dtype=np.float32)
            if array.shape != shape:
                raise InvalidInput(f"input {name!r} of the {self.name} graph", f"shape {shape}", f"shape {array.shape}")
            arrays.append(array)
        return arrays


def position_inputs(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Inputs of the position graph, in order."""
    c = config.cameras
    return {"intrinsics": (1, c, 3, 3), "T_base_camera": (1, c, 4, 4), "camera_present": (1, c)}


def network_inputs(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Inputs of the network graph, in order."""
    (rows, columns), (nx, ny) = config.image_tokens, config.canvas_tokens
    return {
        "images": (1, config.cameras, 3, config.image_height, config.image_width),
        "camera_present": (1, config.cameras),
        "canvas": (1, config.canvas_channels, *config.canvas_cells),
        "lidar_present": (1, 1),
        "image_position": (1, config.cameras * rows * columns, config.width),
        "lidar_position": (1, nx * ny, config.width),
        "reference_position": (1, config.learned_queries + nx * ny, config.width),
        "image_ray": (1, config.cameras * rows * columns, 6),
    }
