"""OpenVINO: the backend for CPUs."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from karp_perception.core import BackendUnavailable
from karp_perception.detection.runtime.backend import AUTO, BackendOptions
from karp_perception.detection.runtime.graph import Graph
from karp_perception.detection.runtime.parity import Parity, ParityLimits, checked_parity

if TYPE_CHECKING:
    import openvino

_LOG = logging.getLogger(__name__)
_CPU_INFO = Path("/proc/cpuinfo")
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # of x86 and of ARM
_ROUNDING_FLAGS = _BF16_FLAGS | {"amx_tile", "avx512f", "avx512_fp16", "sve", "svebf16"}


class OpenVinoBackend:
    """A graph compiled for the CPU, one stream, all threads on one frame."""

    name = "openvino"

    def __init__(self, graph: Graph, options: BackendOptions, parity: Parity | None = None) -> None:
        openvino = _library()
        file = graph.onnx()
        # Left to itself it takes bf16 where the CPU can: asked for, never a surprise.
        properties = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": options.precision,
            "INFERENCE_NUM_THREADS": options.thread_count,
            "NUM_STREAMS": 1,
            # Pinned threads of two processes on the same cores would wait for each other; free ones are as fast.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            compiled = _core().compile_model(str(file), "CPU", properties)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise BackendUnavailable(f"openvino does not compile {file.name}: {reason}") from None
        used = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
        if used != options.precision:
            raise BackendUnavailable(f"openvino computes in {used} on this CPU, not in {options.precision}")
        self._request = compiled.create_infer_request()
        self.version = openvino.__version__.split("-")[0]
        self.precision = options.precision
        self.parity = parity
        self._graph = graph

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Backend.run`."""
        arrays = self._graph.arranged(inputs)
        results = self._request.infer(arrays, share_inputs=True, share_outputs=False)
        return {name: results[number] for number, name in enumerate(self._graph.outputs)}


def open_backend(graph: Graph, options: BackendOptions) -> OpenVinoBackend:
    """The graph on OpenVINO; AUTO: in bf16 where the CPU has it and `checked_parity` finds no harm, else in f32.

    Raises BackendUnavailable.
    """
    if options.precision != AUTO:
        return OpenVinoBackend(graph, options)
    exact, fast = replace(options, precision="f32"), replace(options, precision="bf16")
    if not graph.examples or automatic(graph) == ("f32",):
        return OpenVinoBackend(graph, exact)
    opened: dict[str, OpenVinoBackend] = {}
    limits = ParityLimits()

    def measure() -> Parity:
        from karp_perception.detection.runtime.comparison import measure_parity

        assert graph.examples is not None
        opened.update({each.precision: OpenVinoBackend(graph, each) for each in (exact, fast)})
        return measure_parity(opened["f32"], opened["bf16"], graph.examples(), limits)

    parity = checked_parity(graph.onnx(), fingerprint(), limits, measure)
    if not parity.passed:
        _LOG.warning("the network stays in f32: %s", parity)
    chosen = fast if parity.passed else exact
    backend = opened.get(chosen.precision) or OpenVinoBackend(graph, chosen)
    backend.parity = parity
    return backend


def automatic(graph: Graph) -> tuple[str, ...]:
    """bf16 for the network where the CPU multiplies it natively; positions stay in f32."""
    return ("bf16", "f32") if graph.name == "network" and bf16_cpu(_core()) else ("f32",)


def fingerprint() -> str:
    """OpenVINO's version and the CPU, named by what decides how it rounds."""
    core = _core()
    properties = [
        core.get_property("CPU", "FULL_DEVICE_NAME"),
        *sorted(core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
    ]
    return " ".join(["openvino", _library().__version__, *properties, *sorted(_cpu_flags() & _ROUNDING_FLAGS)])


def bf16_cpu(core: openvino.Core) -> bool:
    """Whether the CPU multiplies bf16 natively."""
    abilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if "BF16" not in abilities:
        return False
    flags = _cpu_flags()
    # OpenVINO's word is enough where the system does not list the flags.
    return not flags or bool(flags & _BF16_FLAGS)


def _cpu_flags() -> frozenset[str]:
    """Instruction sets that Linux lists; empty elsewhere."""
    try:
        text = _CPU_INFO.read_text()
    except OSError:
        return frozenset()
    for line in text.splitlines():
        if line.startswith(("flags", "Features")):
            return frozenset(line.partition(":")[2].split())
    return frozenset()


@functools.cache
def _core() -> openvino.Core:
    """The one core of this process, kept until it ends.

    The CPU plugin of each core gives the thread that makes it a stack for signal handlers, and takes it back when the
    core ends, without asking whether a later core still remembers it as the one to go back to: of two cores that do not
    end in the opposite order of their beginning one leaves a stack behind that is no memory any more, and the next
    Ctrl-C is a segmentation fault.
    """
    return _library().Core()


def _library() -> ModuleType:
    try:
        import openvino
    except ImportError as error:
        raise BackendUnavailable(f"openvino is not installed ({error}): pip install openvino") from None
    return openvino
