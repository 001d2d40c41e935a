"""What runs a graph: one interface, one file a backend, and the choice among them."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from karp_perception.core import BackendUnavailable, ConfigurationError
from karp_perception.detection.runtime.graph import Graph
from karp_perception.detection.runtime.parity import Parity

_LOG = logging.getLogger(__name__)

BACKENDS = ("openvino", "onnxruntime", "torch")
"""In the order `auto` tries them: fastest first. Each is a module of this package with three functions:

    open_backend(graph, options) -> Backend   a concrete precision; raises BackendUnavailable
    automatic(graph) -> tuple[str, ...]       precisions that AUTO stands for here, best first, the last one f32
    fingerprint() -> str                      library, version and device: all that decides how numbers are rounded

What they open is not used before its answers were compared with the references, see `open_backend` below.
"""

AUTO = "auto"
"""As a precision: the fastest that was measured to say the same as f32, or f32."""


class Backend(Protocol):
    """A graph made ready to run.

    Attributes:
        name: one of BACKENDS.
        version: of the library behind it.
        precision: of its arithmetic, one of PRECISIONS.
        parity: what a precision that was asked for as "auto" was chosen by; None where there was no choice.
    """

    name: str
    version: str
    precision: str
    parity: Parity | None

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by name, arrays of the caller's own. Raises InvalidInput for wrong names or shapes."""
        ...


@dataclass(frozen=True)
class BackendOptions:
    """How to run.

    Attributes:
        threads: of the CPU; 0: as many as this process may use.
        precision: one of PRECISIONS, what a backend lacks is refused; or AUTO.
    """

    threads: int = 0
    precision: str = "f32"

    @property
    def thread_count(self) -> int:
        """`threads`, with 0 resolved."""
        if self.threads > 0:
            return self.threads
        if hasattr(os, "sched_getaffinity"):
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1


def open_backend(name: str, graph: Graph, options: BackendOptions) -> Backend:
    """A graph on one backend. Raises BackendUnavailable, saying what is missing, and ConfigurationError for a name."""
    if name not in BACKENDS:
        raise ConfigurationError(f"backend: expected auto, {', '.join(BACKENDS)}, got {name!r}")
    opener: Callable[[Graph, BackendOptions], Backend] = importlib.import_module(f"{__package__}.{name}").open_backend
    return opener(graph, options)


def select_backend(name: str, graph: Graph, options: BackendOptions | None = None) -> Backend:
    """The named backend, or for "auto" the first of BACKENDS that works here; each one passed over is logged.

    Raises BackendUnavailable where none works, with the reason of each.
    """
    options = options or BackendOptions()
    if name != "auto":
        return open_backend(name, graph, options)
    reasons = []
    for candidate in BACKENDS:
        try:
            return open_backend(candidate, graph, options)
        except BackendUnavailable as error:
            _LOG.warning("backend %s cannot be used: %s", candidate, error)
            reasons.append(f"{candidate}: {error}")
    raise BackendUnavailable("no inference backend works here; " + "; ".join(reasons))
