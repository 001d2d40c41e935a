"""TensorRT: the backend for NVIDIA GPUs. One way through TensorRT 10, 11 and, as `tensorrt_rtx`, TensorRT for RTX."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from karp_perception.core import BackendUnavailable
from karp_perception.detection.runtime.backend import AUTO, BackendOptions
from karp_perception.detection.runtime.engine_cache import EngineCache, EngineKey, EngineRejected, onnx_digest
from karp_perception.detection.runtime.gpus import Gpu, gpus
from karp_perception.detection.runtime.graph import Graph
from karp_perception.detection.runtime.tensorrt_builder import Library, build_engine, known_capabilities, logger_of

if TYPE_CHECKING:
    from karp_perception.detection.runtime.device_backend import DeviceBackend

ANY = "any"
_ANY_GPU = Gpu(ANY, ANY, "")

TENSORRT = Library("tensorrt", ("tensorrt",), "pip install tensorrt, version 10 or newer", times_tactics=True)


def open_backend(graph: Graph, options: BackendOptions) -> DeviceBackend:
    """The graph on TensorRT. Raises BackendUnavailable."""
    return open_with(TENSORRT, graph, options)


def automatic(graph: Graph) -> tuple[str, ...]:
    """f16 for the network."""
    return ("f16", "f32") if graph.name == "network" else ("f32",)


def fingerprint() -> str:
    """TensorRT's version and the GPU."""
    return fingerprint_of(TENSORRT)


def compile_ahead(graph: Graph, precision: str, folder: Path | None, targets: tuple[str, ...]) -> list[Path]:
    """Build for the GPU of this machine; see `compiling.compile_model`."""
    return compile_with(TENSORRT, graph, precision, folder, targets)


def fingerprint_of(library: Library) -> str:
    """Version and GPU: all that decides how numbers are rounded."""
    gpu = _gpu(library)
    return f"{library.name} {library.load().__version__} {gpu.name} {gpu.compute_capability} CUDA {gpu.driver}"


def open_with(library: Library, graph: Graph, options: BackendOptions) -> DeviceBackend:
    """The graph on one of the TensorRTs, from the engine cache or built now. Raises BackendUnavailable."""
    trt, gpu = library.load(), _gpu(library)
    try:
        from karp_perception.detection.runtime.device_cuda import Cuda
        from karp_perception.detection.runtime.tensorrt_backend import KeptKernels, TensorRtBackend
    except ImportError as error:
        raise BackendUnavailable(f"{library.name} needs torch with CUDA beside it ({error}): see pytorch.org") from None
    cuda = Cuda()
    precision = "f32" if options.precision == AUTO else options.precision
    onnx = graph.onnx(precision)
    cache = EngineCache(options.engines)
    targets = _targets(library, trt, gpu)
    own = _key(library, trt, graph, onnx, precision, gpu if targets or library.times_tactics else _ANY_GPU)
    keys = [own, replace(own, compute_capability=ANY)] if targets else [own]
    runtime = trt.Runtime(logger_of(trt)[0])

    def load(content: bytes) -> tuple[Any, str]:
        engine = runtime.deserialize_cuda_engine(content)
        if engine is None:
            raise EngineRejected(f"{library.name} {trt.__version__} does not load it")
        return engine, hashlib.sha256(content).hexdigest()

    engine, digest = cache.obtain(keys, lambda: _build(library, graph, onnx, own, cache, targets), load)
    kernels = KeptKernels(cache, own, gpu)
    return TensorRtBackend(library.name, trt, runtime, engine, digest, graph, precision, cuda, kernels)


def compile_with(
    library: Library, graph: Graph, precision: str, folder: Path | None, targets: tuple[str, ...]
) -> list[Path]:
    """Build engines ahead of time; see `compiling.compile_model`."""
    trt = library.load()
    onnx = graph.onnx(precision)
    cache = EngineCache(folder)
    if library.times_tactics:
        gpu = _gpu(library)
        if targets and targets != (gpu.compute_capability,):
            raise BackendUnavailable(
                f"{library.name} compiles for the GPU of this machine alone ({gpu.name}, {gpu.compute_capability}), "
                f"not for {', '.join(targets)}: run this on the machine that will use the engine, or take tensorrt_rtx"
            )
        kinds: list[tuple[tuple[str, ...], Gpu]] = [((), gpu)]
    else:
        if not targets and gpus():
            targets = _targets(library, trt, gpus()[0])
        kinds = [((target,), replace(_ANY_GPU, compute_capability=target)) for target in targets] or [((), _ANY_GPU)]
    files = []
    for kind, gpu in kinds:
        key = _key(library, trt, graph, onnx, precision, gpu)
        file = cache.store(key, _build(library, graph, onnx, key, cache, kind))
        if file is None:
            raise BackendUnavailable(f"the engine cannot be written to {cache.folder}; the line above says why")
        files.append(file)
    return files


def _build(
    library: Library, graph: Graph, onnx: Path, key: EngineKey, cache: EngineCache, targets: tuple[str, ...]
) -> bytes:
    where = f" for {' '.join(targets)}" if targets else ""
    what = f"the {graph.name} in {key.precision}{where}"
    if not library.times_tactics:
        return build_engine(library, onnx, what, targets)[0]
    timing = replace(key, graph="timing", onnx="", precision="all", shapes={})
    before = cache.load(timing) or b""
    engine, after = build_engine(library, onnx, what, (), before)
    if after and after != before:
        cache.store(timing, after)
    return engine


def _key(library: Library, trt: ModuleType, graph: Graph, onnx: Path, precision: str, gpu: Gpu) -> EngineKey:
    """The key of an engine for one GPU; TensorRT for RTX compiles for all GPUs of a compute capability."""
    return EngineKey(
        graph=graph.name,
        onnx=onnx_digest(onnx),
        backend=library.name,
        version=trt.__version__,
        device=gpu.name if library.times_tactics else ANY,
        compute_capability=gpu.compute_capability,
        driver="",  # engines outlive drivers; kernels that the driver compiles do not, see KeptKernels
        precision=precision,
        shapes={name: list(shape) for name, shape in graph.inputs.items()},
        options={"tf32": False},
    )


def _targets(library: Library, trt: ModuleType, gpu: Gpu) -> tuple[str, ...]:
    """What an engine for this GPU is compiled for; nothing where the library takes its GPU, or does not name this one.

    For one that it does not name it is asked all the same, with an engine for all that it knows.
    """
    known = () if library.times_tactics else known_capabilities(trt)
    return (gpu.compute_capability,) if gpu.compute_capability in known else ()


def _gpu(library: Library) -> Gpu:
    found = gpus()
    if not found:
        raise BackendUnavailable(f"{library.name} needs an NVIDIA GPU and its driver: there is none here")
    return found[0]
