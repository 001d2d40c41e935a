"""An ONNX file to a TensorRT engine: one way for TensorRT 10, 11 and TensorRT for RTX.

The network is strongly typed: what is computed in which precision is what the ONNX file says.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from karp_perception.core import BackendUnavailable
from karp_perception.core.long_work import LongWork

_LOG = logging.getLogger(__name__)


class Phases:
    """How far a build is, from the phases that TensorRT reports: they lie within each other."""

    def __init__(self, work: LongWork) -> None:
        self._work = work
        self._steps: dict[str, int] = {}
        self._done: dict[str, int] = {}
        self._parent: dict[str, str | None] = {}
        self._share = 0.0

    def start(self, phase: str, parent: str | None, steps: int) -> None:
        """A phase of so many steps begins within another one."""
        self._steps[phase], self._done[phase], self._parent[phase] = max(1, steps), 0, parent
        self._tell(phase)

    def step(self, phase: str, step: int) -> None:
        """A step, counted from 0, is done."""
        if phase in self._steps:
            self._done[phase] = step + 1
            self._tell(phase)

    def finish(self, phase: str) -> None:
        """A phase is done."""
        for table in (self._steps, self._done, self._parent):
            table.pop(phase, None)  # type: ignore[attr-defined]

    def _tell(self, phase: str) -> None:
        share, at = 0.0, phase
        while True:
            share = min(1.0, (self._done[at] + share) / self._steps[at])
            parent = self._parent[at]
            if parent not in self._steps:
                break
            at = parent
        self._share = max(self._share, share)  # a bar does not go back, even where a phase is gone through again
        self._work(self._share, phase.lower())


@dataclass(frozen=True)
class Library:
    """One of the TensorRTs.

    Attributes:
        name: of the backend.
        modules: that it may be imported by.
        advice: how to get it.
        times_tactics: whether it measures kernels on the GPU while it builds: then it needs one, and keeps what it
            measured.
    """

    name: str
    modules: tuple[str, ...]
    advice: str
    times_tactics: bool

    def load(self) -> ModuleType:
        """The module. Raises BackendUnavailable where it is not installed, or too old."""
        reasons = []
        for name in self.modules:
            try:
                trt = importlib.import_module(name)
            except (ImportError, OSError) as error:  # OSError: one of its own libraries is missing
                reasons.append(str(error))
                continue
            if not hasattr(trt, "IProgressMonitor") or not hasattr(trt.IExecutionContext, "execute_async_v3"):
                raise BackendUnavailable(f"{self.name} {trt.__version__} is too old: {self.advice}")
            return trt
        raise BackendUnavailable(f"{self.name} is not installed ({reasons[0]}): {self.advice}")


def build_engine(
    library: Library,
    onnx: Path,
    what: str,
    compute_capabilities: Sequence[str] = (),
    timing_cache: bytes | None = None,
) -> tuple[bytes, bytes | None]:
    """Compile an ONNX file.

    Args:
        library: that compiles.
        onnx: the file; a precision other than float32 is in its types.
        what: is compiled, for people.
        compute_capabilities: to compile for, such as "8.9", where the library can; by default what it takes itself.
        timing_cache: of earlier builds; None: the library has no use for one.

    Returns:
        the engine, and the timing cache after the build.

    Raises BackendUnavailable with what the library said.
    """
    trt = library.load()
    logger, said = logger_of(trt)
    builder = trt.Builder(logger)
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx)):
        reasons = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise BackendUnavailable(f"{library.name} does not read {onnx.name}: {reasons or _last(said)}")
    config = builder.create_builder_config()
    # float32 means float32: TF32 keeps ten bits of it. Who wants speed takes f16.
    config.clear_flag(trt.BuilderFlag.TF32)
    if compute_capabilities:
        config.num_compute_capabilities = len(compute_capabilities)
        for number, capability in enumerate(compute_capabilities):
            config.set_compute_capability(_capability(library, trt, capability), number)
    cache = None
    if timing_cache is not None:
        cache = config.create_timing_cache(timing_cache)
        config.set_timing_cache(cache, False)
    with LongWork(f"compiling {what} with {library.name} {trt.__version__}") as work:
        config.progress_monitor = _monitor(trt, Phases(work))
        engine = builder.build_serialized_network(network, config)
    if engine is None:
        raise BackendUnavailable(f"{library.name} does not compile {onnx.name}: {_last(said)}")
    return bytes(engine), None if cache is None else bytes(config.get_timing_cache().serialize())


def known_capabilities(trt: ModuleType) -> tuple[str, ...]:
    """Compute capabilities that the library compiles for on any machine; none for one that compiles for its own GPU."""
    names = getattr(getattr(trt, "ComputeCapability", None), "__members__", {})
    return tuple(f"{name[2:-1]}.{name[-1]}" for name in names if name.startswith("SM"))


def _capability(library: Library, trt: ModuleType, capability: str) -> Any:
    known = known_capabilities(trt)
    if capability not in known:
        raise BackendUnavailable(
            f"{library.name} {trt.__version__} does not compile for compute capability {capability}: it knows "
            f"{', '.join(known) or 'that of the GPU in this machine alone'}"
        )
    return getattr(trt.ComputeCapability, "SM" + capability.replace(".", ""))


def _network_flags(trt: ModuleType) -> int:
    """Strongly typed: asked for where there is another kind, as in TensorRT 10."""
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _last(said: list[str]) -> str:
    return said[-1] if said else "it does not say why"


def logger_of(trt: ModuleType) -> tuple[Any, list[str]]:
    """A logger for the library, and the list that its errors are added to."""
    errors: list[str] = []

    class Logger(trt.ILogger):  # type: ignore[name-defined, misc]
        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                errors.append(message)
            _LOG.debug("%s: %s", trt.__name__, message)

    return Logger(), errors


def _monitor(trt: ModuleType, phases: Phases) -> Any:
    class Monitor(trt.IProgressMonitor):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            phases.step(phase_name, step)
            return True  # go on

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

    return Monitor()
