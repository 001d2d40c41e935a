"""OpenVINO: the backend for CPUs."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from karp_perception.core import BackendUnavailable
from karp_perception.core.long_work import LongWork
from karp_perception.detection.runtime.backend import BackendOptions
from karp_perception.detection.runtime.engine_cache import EngineCache, EngineKey, EngineRejected, onnx_digest
from karp_perception.detection.runtime.graph import Graph
from karp_perception.detection.runtime.parity import Parity

if TYPE_CHECKING:
    import openvino

_CPU_INFO = Path("/proc/cpuinfo")
_BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})  # of x86 and of ARM
_ROUNDING_FLAGS = _BF16_FLAGS | {"amx_tile", "avx512f", "avx512_fp16", "sve", "svebf16"}


class OpenVinoBackend:
    """A graph compiled for the CPU, one stream, all threads on one frame."""

    name = "openvino"
    engine = ""

    def __init__(self, graph: Graph, options: BackendOptions) -> None:
        openvino = _library()
        file, properties = _plan(graph, options)
        hint = properties["INFERENCE_PRECISION_HINT"]
        if options.engines is None:
            compiled = _compiled(file, properties)
        else:
            key = _key(graph, file, options.precision, properties)
            compiled = EngineCache(options.engines).obtain(
                [key], lambda: _exported(file, properties), lambda blob: _imported(blob, properties)
            )
        used = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_string())
        if used != hint:
            raise BackendUnavailable(f"openvino computes in {used} on this CPU, not in {hint}")
        self._request = compiled.create_infer_request()
        self.version = openvino.__version__.split("-")[0]
        self.precision = options.precision
        self.parity: Parity | None = None
        self._graph = graph

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """See `Backend.run`."""
        arrays = self._graph.arranged(inputs)
        results = self._request.infer(arrays, share_inputs=True, share_outputs=False)
        return {name: results[number] for number, name in enumerate(self._graph.outputs)}


def open_backend(graph: Graph, options: BackendOptions) -> OpenVinoBackend:
    """The graph on OpenVINO. Raises BackendUnavailable."""
    return OpenVinoBackend(graph, options)


def compile_ahead(graph: Graph, precision: str, folder: Path | None, targets: tuple[str, ...]) -> list[Path]:
    """Build for the CPU of this machine; see `compiling.compile_model`."""
    if targets:
        raise BackendUnavailable(f"openvino compiles for the CPU of this machine, not for {', '.join(targets)}")
    if folder is None:
        raise BackendUnavailable("openvino keeps engines only in a folder that is named, as detector.engines is: --out")
    file, properties = _plan(graph, BackendOptions(precision=precision))
    kept = EngineCache(folder).store(_key(graph, file, precision, properties), _exported(file, properties))
    if kept is None:
        raise BackendUnavailable(f"the engine cannot be written to {folder}; the line above says why")
    return [kept]


def _plan(graph: Graph, options: BackendOptions) -> tuple[Path, dict[str, Any]]:
    """The file that is compiled, and how."""
    # What is quantized is written in the file, and the rest of it is computed in bf16 where that is fast; other
    # precisions are its own way of computing the file in f32.
    quantized = options.precision in ("int8", "fp8")
    # Left to itself it takes bf16 where the CPU can: asked for, never a surprise.
    hint = options.precision if not quantized else "bf16" if bf16_cpu(_core()) else "f32"
    return graph.onnx(options.precision) if quantized else graph.onnx(), {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": options.thread_count,
        "NUM_STREAMS": 1,
        # Pinned threads of two processes on the same cores would wait for each other; free ones are as fast.
        "ENABLE_CPU_PINNING": False,
    }


def _compiled(file: Path, properties: Mapping[str, Any]) -> openvino.CompiledModel:
    try:
        model = _core().read_model(str(file))
        leave_keys_untransposed(model)
        return _core().compile_model(model, "CPU", dict(properties))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise BackendUnavailable(f"openvino does not compile {file.name}: {reason}") from None


def _exported(file: Path, properties: Mapping[str, Any]) -> bytes:
    """An engine that is kept: it loads in a third of the time that compiling takes."""
    with LongWork(f"compiling {file.name} with openvino"):
        blob = io.BytesIO()
        _compiled(file, properties).export_model(blob)
        return blob.getvalue()


def _imported(blob: bytes, properties: Mapping[str, Any]) -> openvino.CompiledModel:
    try:
        return _core().import_model(io.BytesIO(blob), "CPU", dict(properties))
    except RuntimeError as error:
        raise EngineRejected(f"openvino does not load it: {str(error).strip().splitlines()[-1]}") from None


def _key(graph: Graph, file: Path, precision: str, properties: Mapping[str, Any]) -> EngineKey:
    return EngineKey(
        graph=graph.name,
        onnx=onnx_digest(file),
        backend="openvino",
        version=_library().__version__,
        device=fingerprint(),
        compute_capability="",
        driver="",
        precision=precision,
        shapes={name: list(shape) for name, shape in graph.inputs.items()},
        # Threads are chosen when it is loaded.
        options={name: value for name, value in properties.items() if name != "INFERENCE_NUM_THREADS"},
    )


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


def leave_keys_untransposed(model: openvino.Model) -> int:
    """Let products of queries and keys transpose the keys themselves; returns how many.

    The exporter writes keys (B, N, heads, D) -> (B, heads, D, N), which moves every number; in bf16 OpenVINO does that
    beside its fused attention and not in it: a fourteenth of nano's time. As (B, heads, N, D) with a product that takes
    its second factor transposed it is part of it. The results are the same to the last bit.
    """
    from openvino import opset13 as operators

    changed = 0
    for product in model.get_ordered_ops():
        if product.get_type_name() != "MatMul" or any(product.get_attributes()[f"transpose_{side}"] for side in "ab"):
            continue
        keys = product.input_value(1).get_node()
        if keys.get_type_name() != "Transpose" or _constant(keys.input_value(1)) != [0, 2, 3, 1]:
            continue
        by_head = operators.transpose(keys.input_value(0), np.array([0, 2, 1, 3], np.int64))
        same = operators.matmul(product.input_value(0), by_head, False, True)
        same.set_friendly_name(product.get_friendly_name())
        product.output(0).replace(same.output(0))
        changed += 1
    return changed


def _constant(value: openvino.Output) -> list[int] | None:
    node = value.get_node()
    return node.data.tolist() if node.get_type_name() == "Constant" else None


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
