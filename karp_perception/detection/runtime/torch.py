"""torch itself: the reference that the others are compared with."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata

import numpy as np

from karp_perception.core import BackendUnavailable
from karp_perception.detection.runtime.backend import BackendOptions
from karp_perception.detection.runtime.graph import Graph


class TorchBackend:
    """The module as it is written, on the CPU in float32."""

    name = "torch"
    precision = "f32"
    engine = ""
    parity = None

    def __init__(self, graph: Graph, options: BackendOptions) -> None:
        try:
            import torch
        except ImportError as error:
            raise BackendUnavailable(f"torch is not installed ({error}): pip install torch") from None
        if options.precision != self.precision:
            raise BackendUnavailable(f"torch is the f32 reference here, not {options.precision}")
        self.version = torch.__version__
        self._torch = torch
        self._module = graph.module().eval()
        self._threads = options.thread_count
        self._graph = graph

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Backend.run`."""
        torch = self._torch
        arrays = self._graph.arranged(inputs)
        tensors = [torch.from_numpy(array if array.flags.writeable else array.copy()) for array in arrays]
        before = torch.get_num_threads()  # one number for the whole process: put back what others set
        torch.set_num_threads(self._threads)
        try:
            with torch.inference_mode():
                results = self._module(*tensors)
        finally:
            torch.set_num_threads(before)
        return {name: value.numpy() for name, value in zip(self._graph.outputs, results, strict=True)}


def open_backend(graph: Graph, options: BackendOptions) -> TorchBackend:
    """The graph on torch. Raises BackendUnavailable."""
    return TorchBackend(graph, options)


def automatic(graph: Graph) -> tuple[str, ...]:
    """f32 alone."""
    return ("f32",)


def fingerprint() -> str:
    """The version and the kind of processor."""
    return f"torch {metadata.version('torch')} {platform.machine()}"
