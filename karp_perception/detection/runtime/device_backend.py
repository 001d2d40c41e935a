"""What backends on a GPU have in common: memory that the network always reads and writes, and a CUDA graph over it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from karp_perception.detection.runtime.graph import Graph
from karp_perception.detection.runtime.parity import Parity


class DeviceBackend(ABC):
    """A graph on a GPU. `DeviceDetection` works on its memory; `run` serves comparisons.

    Attributes:
        name, version, precision, engine, parity: see `Backend`.
        cuda: the GPU, see `Cuda`.
        inputs, outputs: float32 memory of the GPU by name: written before, and read after, each `launch`.
    """

    name: str
    version: str
    precision: str
    engine: str = ""
    parity: Parity | None = None

    def __init__(self, graph: Graph, cuda: Any, output_shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.cuda = cuda
        self.inputs: dict[str, Tensor] = {n: cuda.zeros(s, torch.float32) for n, s in graph.inputs.items()}
        self.outputs: dict[str, Tensor] = {n: cuda.zeros(output_shapes[n], torch.float32) for n in graph.outputs}
        self._graph = graph
        self._staged = {name: cuda.pinned(shape, torch.float32) for name, shape in graph.inputs.items()}
        self._results = {name: cuda.pinned(output_shapes[name], torch.float32) for name in graph.outputs}
        self._replay: Callable[[], None] | None = None

    @abstractmethod
    def enqueue(self) -> None:
        """Put the network's work on the compute stream: `inputs` to `outputs`."""

    def launch(self) -> None:
        """The network once, on the compute stream; the first time it is warmed up and captured as a CUDA graph."""
        if self._replay is None:
            self._replay = self.cuda.captured(self.enqueue)
        self._replay()

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Backend.run`."""
        arrays = self._graph.arranged(inputs)
        compute = self.cuda.compute
        with torch.inference_mode(), self.cuda.on(compute):
            for name, array in zip(self.inputs, arrays, strict=True):
                self._staged[name].numpy()[...] = array
                self.inputs[name].copy_(self._staged[name], non_blocking=True)
            self.launch()
            for name, value in self.outputs.items():
                self._results[name].copy_(value, non_blocking=True)
            self.cuda.synchronise(self.cuda.mark(compute))
        return {name: value.numpy().copy() for name, value in self._results.items()}
