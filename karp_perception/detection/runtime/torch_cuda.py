"""torch on an NVIDIA GPU: the engine of machines without a TensorRT."""

from __future__ import annotations

from importlib import metadata
from typing import TYPE_CHECKING

from karp_perception.core import BackendUnavailable
from karp_perception.detection.runtime.backend import AUTO, BackendOptions
from karp_perception.detection.runtime.gpus import gpus
from karp_perception.detection.runtime.graph import Graph

if TYPE_CHECKING:
    from karp_perception.detection.runtime.device_backend import DeviceBackend

_PRECISIONS = ("f32", "f16", "bf16")


def open_backend(graph: Graph, options: BackendOptions) -> DeviceBackend:
    """The graph on torch's CUDA. Raises BackendUnavailable."""
    if not gpus():
        raise BackendUnavailable("torch_cuda needs an NVIDIA GPU and its driver: there is none here")
    precision = "f32" if options.precision == AUTO else options.precision
    if precision not in _PRECISIONS:
        raise BackendUnavailable(f"torch_cuda computes in {', '.join(_PRECISIONS)}, not in {precision}")
    try:
        from karp_perception.detection.runtime.device_cuda import Cuda
        from karp_perception.detection.runtime.device_torch import TorchDeviceBackend
    except ImportError as error:
        raise BackendUnavailable(f"torch is not installed ({error}): pip install torch") from None
    return TorchDeviceBackend(graph, precision, Cuda())


def automatic(graph: Graph) -> tuple[str, ...]:
    """f16 for the network."""
    return ("f16", "f32") if graph.name == "network" else ("f32",)


def fingerprint() -> str:
    """The version and the GPU."""
    if not gpus():
        raise BackendUnavailable("torch_cuda needs an NVIDIA GPU and its driver: there is none here")
    gpu = gpus()[0]
    return f"torch {metadata.version('torch')} {gpu.name} {gpu.compute_capability} CUDA {gpu.driver}"
