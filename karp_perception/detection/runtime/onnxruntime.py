"""ONNX Runtime: the backend that runs nearly everywhere, on the CPU.

It computes what the file says: in float32 unless asked for another precision, whose rounding it then follows, node by
node and slower. That is how the typed files are measured without the engines that they are for.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata

import numpy as np

from karp_perception.core import BackendUnavailable
from karp_perception.detection.runtime.backend import BackendOptions
from karp_perception.detection.runtime.graph import Graph
from karp_perception.detection.runtime.parity import Parity


class OnnxRuntimeBackend:
    """A graph in an inference session."""

    name = "onnxruntime"
    engine = ""

    def __init__(self, graph: Graph, options: BackendOptions) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise BackendUnavailable(f"onnxruntime is not installed ({error}): pip install onnxruntime") from None
        file = graph.onnx(options.precision)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.thread_count
        try:
            self._session = onnxruntime.InferenceSession(str(file), settings, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no base of their own
            raise BackendUnavailable(f"onnxruntime does not load {file.name}: {error}") from error
        self.version = onnxruntime.__version__
        self.precision = options.precision
        self.parity: Parity | None = None
        self._graph = graph

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Backend.run`."""
        arrays = self._graph.arranged(inputs)
        feed = dict(zip(self._graph.inputs, arrays, strict=True))
        return dict(zip(self._graph.outputs, self._session.run(list(self._graph.outputs), feed), strict=True))


def open_backend(graph: Graph, options: BackendOptions) -> OnnxRuntimeBackend:
    """The graph on ONNX Runtime. Raises BackendUnavailable."""
    return OnnxRuntimeBackend(graph, options)


def automatic(graph: Graph) -> tuple[str, ...]:
    """f32 alone."""
    return ("f32",)


def fingerprint() -> str:
    """The version and the kind of processor."""
    return f"onnxruntime {metadata.version('onnxruntime')} {platform.machine()}"
