"""The two graphs of a model, as a backend sees them: named inputs and outputs of fixed shapes, an ONNX file, a module.

`position` turns a calibration into position embeddings and runs when the calibration changes; `network` turns sensor
data and those embeddings into boxes and runs for every frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from karp_perception.core import InvalidInput
from karp_perception.detection.model.config import ModelConfig

if TYPE_CHECKING:
    from torch import nn

NETWORK_OUTPUTS = ("logits", "center", "log_size", "direction", "velocity", "log_variance")
LIDAR_POSITION = "lidar_position"
"""The one input of the network that a batch has only once, whatever its size."""

POSITION_OUTPUTS = ("image_position", LIDAR_POSITION, "reference_position", "image_ray")

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
class Reference:
    """Inputs of a graph, and what the f32 reference made of them.

    Attributes:
        inputs: by name.
        outputs: by name.
        every: `outputs` hold every so-manieth row (of axis 1), from the first on.
    """

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    every: int = 1


@dataclass(frozen=True)
class Graph:
    """One graph of a model.

    Attributes:
        name: "network" or "position".
        inputs: shapes by name, in order; all float32.
        outputs: names, in order.
        onnx: gives the ONNX file in a precision, exporting it first where it has to.
        module: gives the torch module, which takes and returns tensors in that order.
        references: gives what engines are compared with before they are used; None for a graph that nobody keeps
            answers of.
    """

    name: str
    inputs: Mapping[str, tuple[int, ...]]
    outputs: tuple[str, ...]
    onnx: OnnxFile
    module: Callable[[], nn.Module]
    references: Callable[[], Iterable[Reference]] | None = None

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


def position_inputs(config: ModelConfig, batch: int = 1) -> dict[str, tuple[int, ...]]:
    """Inputs of the position graph, in order."""
    c = config.cameras
    return {"intrinsics": (batch, c, 3, 3), "T_base_camera": (batch, c, 4, 4), "camera_present": (batch, c)}


def network_inputs(config: ModelConfig, batch: int = 1) -> dict[str, tuple[int, ...]]:
    """Inputs of the network graph, in order. The lidar's tokens are in the same places for the whole batch."""
    (rows, columns), (nx, ny) = config.image_tokens, config.canvas_tokens
    places = config.canvas_places[0] * config.canvas_places[1]
    return {
        "images": (batch, config.cameras, 3, config.image_height, config.image_width),
        "camera_present": (batch, config.cameras),
        "canvas": (batch, config.canvas_channels, *config.canvas_cells),
        "lidar_present": (batch, 1),
        "image_position": (batch, config.cameras * rows * columns, config.width),
        LIDAR_POSITION: (1, nx * ny, config.width),
        "reference_position": (batch, config.learned_queries + places, config.width),
        "image_ray": (batch, config.cameras * rows * columns, 6),
    }
