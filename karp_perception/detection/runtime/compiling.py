"""`karp compile`: engines ahead of time, for this machine or, where a backend can, for another one."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from karp_perception.core import ConfigurationError
from karp_perception.detection.model.weights import find_model
from karp_perception.detection.runtime.artefacts import Artefacts
from karp_perception.detection.runtime.backend import AUTO
from karp_perception.detection.runtime.graph import PRECISIONS

COMPILING = ("tensorrt", "tensorrt_rtx", "openvino")
"""Backends whose engines can be kept."""


def compile_model(
    model: str,
    backend: str,
    precision: str = AUTO,
    folder: Path | None = None,
    gpus: Sequence[str] = (),
    *,
    cameras: int = 0,
    onnx_cache: Path | None = None,
) -> list[Path]:
    """Build the engines of a model, whatever is there already.

    Args:
        model: a shipped one, or a weight file.
        backend: one of COMPILING.
        precision: one of PRECISIONS; AUTO: all that the backend may choose from when it starts.
        folder: that they are written to, for `detector.engines`; None: the user's cache, where they are found anyway.
        gpus: compute capabilities to build for, such as "sm_89" or "8.9"; by default the GPU of this machine, or
            where there is none and the backend can, all that it knows.
        cameras: slots for cameras, as in `detector.cameras`; 0: as many as the model has.
        onnx_cache: of exported graphs; the user's by default.

    Returns:
        the files, each with a `.json` beside it that says what it is.

    Raises ConfigurationError for a name that is none, BackendUnavailable where the backend cannot do it here.
    """
    if backend not in COMPILING:
        raise ConfigurationError(f"backend: expected {', '.join(COMPILING)}, got {backend!r}: it keeps no engines")
    if precision not in (AUTO, *PRECISIONS):
        raise ConfigurationError(f"precision: expected {AUTO}, {', '.join(PRECISIONS)}, got {precision!r}")
    targets = tuple(compute_capability(gpu) for gpu in gpus)
    source = find_model(model)
    if 0 < cameras < source.config.cameras:
        source = replace(source, config=replace(source.config, cameras=cameras))
    graph = Artefacts(source, onnx_cache).network
    module = importlib.import_module(f"{__package__}.{backend}")
    precisions = module.automatic(graph) if precision == AUTO else (precision,)
    return [file for each in precisions for file in module.compile_ahead(graph, each, folder, targets)]


def compute_capability(gpu: str) -> str:
    """ "8.9" of "sm_89", "sm89", "89" or "8.9". Raises ConfigurationError for anything else."""
    found = re.fullmatch(r"(?:sm_?)?(\d{1,2})\.?(\d)", gpu.strip().lower())
    if not found:
        raise ConfigurationError(f"gpu: expected a compute capability such as sm_89 or 8.9, got {gpu!r}")
    return f"{found[1]}.{found[2]}"
