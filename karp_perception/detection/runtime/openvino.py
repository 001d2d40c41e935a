"""OpenVINO: the backend for CPUs."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from karp_perception.core import BackendUnavailable
from karp_perception.detection.runtime.backend import BackendOptions
from karp_perception.detection.runtime.graph import Graph


class OpenVinoBackend:
    """A graph compiled for the CPU, one stream, all threads on one frame."""

    name = "openvino"

    def __init__(self, graph: Graph, options: BackendOptions) -> None:
        try:
            import openvino
        except ImportError as error:
            raise BackendUnavailable(f"openvino is not installed ({error}): pip install openvino") from None
        file = graph.onnx()
        # Left to itself it takes bf16 where the CPU can: asked for, never a surprise.
        properties = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": options.precision,
            "INFERENCE_NUM_THREADS": options.thread_count,
        }
        try:
            compiled = openvino.Core().compile_model(str(file), "CPU", properties)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise BackendUnavailable(f"openvino does not compile {file.name}: {reason}") from None
        used = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
        if used != options.precision:
            raise BackendUnavailable(f"openvino computes in {used} on this CPU, not in {options.precision}")
        self._request = compiled.create_infer_request()
        self.version = openvino.__version__.split("-")[0]
        self.precision = options.precision
        self._graph = graph

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Backend.run`."""
        arrays = self._graph.arranged(inputs)
        results = self._request.infer(arrays, share_inputs=True, share_outputs=False)
        return {name: results[number] for number, name in enumerate(self._graph.outputs)}


def open_backend(graph: Graph, options: BackendOptions) -> OpenVinoBackend:
    """The graph on OpenVINO. Raises BackendUnavailable."""
    return OpenVinoBackend(graph, options)
