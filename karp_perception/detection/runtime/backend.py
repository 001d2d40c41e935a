"""What runs a graph: one interface, one file a backend, and the choice among them."""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast

import numpy as np

from karp_perception.core import BackendUnavailable, ConfigurationError
from karp_perception.core.long_work import LongWork
from karp_perception.detection.runtime.gpus import gpus
from karp_perception.detection.runtime.graph import Graph
from karp_perception.detection.runtime.parity import Parity, checked_parity, earlier_parity, limits_of, parity_record

_LOG = logging.getLogger(__name__)

REFERENCE = "torch"
"""The backend whose answers in f32 are the references: the only one that is not compared."""

BACKENDS = ("tensorrt", "tensorrt_rtx", "torch_cuda", "openvino", "onnxruntime", "torch")
"""In the order `auto` tries them: fastest first. Each is a module of this package with three functions:

    open_backend(graph, options) -> Backend   a concrete precision; raises BackendUnavailable
    automatic(graph) -> tuple[str, ...]       precisions that AUTO stands for here, best first, the last one f32
    fingerprint() -> str                      library, version and device: all that decides how numbers are rounded

What they open is not used before its answers were compared with the references, see `open_backend` below.
"""

DEVICE_BACKENDS = frozenset({"tensorrt", "tensorrt_rtx", "torch_cuda"})
"""Those that run the network on an NVIDIA GPU: what they open is a `DeviceBackend`. Positions are computed once for a
calibration, on the CPU."""

AUTO = "auto"
"""As a precision: the fastest that was measured to say the same as f32, or f32."""


class Backend(Protocol):
    """A graph made ready to run.

    Attributes:
        name: one of BACKENDS.
        version: of the library behind it.
        precision: of its arithmetic, one of PRECISIONS.
        engine: digest of the engine's content where each build is another one; "" where file, library and device decide
            all of it. An engine that was built anew is compared anew.
        parity: what the comparison with the references found, set by `open_backend`; None for the reference itself.
    """

    name: str
    version: str
    precision: str
    engine: str
    parity: Parity | None

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name, arrays of the caller's own. Raises InvalidInput for wrong names or shapes."""
        ...


@dataclass(frozen=True)
class BackendOptions:
    """How to run.

    Attributes:
        threads: of the CPU; 0: as many as this process may use.
        precision: one of PRECISIONS, what a backend lacks is refused; or AUTO: the first of what the backend names
            that says the same as f32.
        engines: folder of compiled engines; None: in the user's cache.
    """

    threads: int = 0
    precision: str = "f32"
    engines: Path | None = None

    @property
    def thread_count(self) -> int:
        """`threads`, with 0 resolved."""
        if self.threads > 0:
            return self.threads
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1


def open_backend(name: str, graph: Graph, options: BackendOptions) -> Backend:
    """A graph on one backend, found to say what the references say.

    An engine that was never compared is run on the graph's references first; what was found is kept beside the ONNX.

    Raises BackendUnavailable, saying what is missing, or by how much the engine is wrong; ConfigurationError for a
    name.
    """
    if name not in BACKENDS:
        raise ConfigurationError(f"backend: expected auto, {', '.join(BACKENDS)}, got {name!r}")
    module = importlib.import_module(f"{__package__}.{name}")
    if options.precision != AUTO:
        return _compared(module, name, graph, options)
    *preferred, last = module.automatic(graph)
    for precision in preferred:
        try:
            return _compared(module, name, graph, replace(options, precision=precision))
        except BackendUnavailable as error:
            _LOG.warning("the %s does without %s: %s", graph.name, precision, error)
    return _compared(module, name, graph, replace(options, precision=last))


def _compared(module: ModuleType, name: str, graph: Graph, options: BackendOptions) -> Backend:
    """What a module opens, if it is the reference, or says the same."""
    if graph.references is None or (name == REFERENCE and options.precision == "f32"):
        return cast(Backend, module.open_backend(graph, options))
    limits, source = limits_of(options.precision), hashlib.sha256(Path(module.__file__ or "").read_bytes())
    where = [name, graph.name, options.precision, module.fingerprint(), source.hexdigest()]
    earlier = earlier_parity(parity_record(graph.onnx(), [*where, ""], limits))
    if earlier is not None and not earlier.passed:
        raise BackendUnavailable(f"{name} is refused: {earlier}")
    backend = cast(Backend, module.open_backend(graph, options))
    references = graph.references

    def measure() -> Parity:
        from karp_perception.detection.runtime.comparison import measure_parity

        with LongWork(f"comparing the {graph.name} on {name} in {options.precision} with its references"):
            return measure_parity(backend, references(), limits)

    backend.parity = checked_parity(parity_record(graph.onnx(), [*where, backend.engine], limits), measure)
    if not backend.parity.passed:
        raise BackendUnavailable(f"{name} is refused: {backend.parity}")
    return backend


def select_backend(name: str, graph: Graph, options: BackendOptions | None = None) -> Backend:
    """The named backend, or for "auto" the first of BACKENDS that works and is right; those passed over are logged.

    Raises BackendUnavailable where none works, with the reason of each.
    """
    options = options or BackendOptions()
    if name != "auto":
        return open_backend(name, graph, options)
    reasons = []
    on_gpu = graph.name != "position" and bool(gpus())
    for candidate in BACKENDS:
        if candidate in DEVICE_BACKENDS and not on_gpu:
            continue
        try:
            return open_backend(candidate, graph, options)
        except BackendUnavailable as error:
            _LOG.warning("backend %s cannot be used: %s", candidate, error)
            reasons.append(f"{candidate}: {error}")
    raise BackendUnavailable("no inference backend works here; " + "; ".join(reasons))
