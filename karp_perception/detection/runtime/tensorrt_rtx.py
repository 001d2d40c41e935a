"""TensorRT for RTX: TensorRT whose kernels are compiled for the GPU at first run, so that engines build anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from karp_perception.detection.runtime import tensorrt
from karp_perception.detection.runtime.backend import BackendOptions
from karp_perception.detection.runtime.graph import Graph
from karp_perception.detection.runtime.tensorrt import automatic
from karp_perception.detection.runtime.tensorrt_builder import Library

if TYPE_CHECKING:
    from karp_perception.detection.runtime.device_backend import DeviceBackend

__all__ = ["RTX", "automatic", "compile_ahead", "fingerprint", "open_backend"]

RTX = Library(
    "tensorrt_rtx",
    ("tensorrt_rtx", "tensorrt_rtx_bindings"),
    "pip install tensorrt_rtx_cu13_bindings tensorrt_rtx_cu13_libs",
    times_tactics=False,
)


def open_backend(graph: Graph, options: BackendOptions) -> DeviceBackend:
    """The graph on TensorRT for RTX. Raises BackendUnavailable."""
    return tensorrt.open_with(RTX, graph, options)


def fingerprint() -> str:
    """The library's version and the GPU."""
    return tensorrt.fingerprint_of(RTX)


def compile_ahead(graph: Graph, precision: str, folder: Path | None, targets: tuple[str, ...]) -> list[Path]:
    """Build for compute capabilities, or for all that the library knows; see `compiling.compile_model`."""
    return tensorrt.compile_with(RTX, graph, precision, folder, targets)
