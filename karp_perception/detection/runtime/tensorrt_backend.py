"""A TensorRT engine at work on memory of the GPU: importing this needs torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType
from typing import Any

from karp_perception.core import BackendUnavailable
from karp_perception.detection.runtime.device_backend import DeviceBackend
from karp_perception.detection.runtime.engine_cache import EngineCache, EngineKey
from karp_perception.detection.runtime.gpus import Gpu
from karp_perception.detection.runtime.graph import Graph


class KeptKernels:
    """Kernels that TensorRT for RTX compiles when an engine first runs, kept so that the next start need not.

    Args:
        cache: that they are kept in.
        engine: key of the engine that they are of.
        gpu: they are for it and its driver alone.
    """

    def __init__(self, cache: EngineCache, engine: EngineKey, gpu: Gpu) -> None:
        self._cache = cache
        self._key = replace(
            engine, graph=f"{engine.graph}-kernels", device=gpu.name, compute_capability=gpu.compute_capability,
            driver=gpu.driver,
        )  # fmt: skip
        self._compiled: Any = None
        self._before = b""

    def context(self, engine: Any) -> Any:
        """An execution context that uses what was kept and keeps what it compiles; a usual one for other libraries."""
        if not hasattr(engine, "create_runtime_config"):
            return engine.create_execution_context()
        settings = engine.create_runtime_config()
        if not hasattr(settings, "create_runtime_cache"):
            return engine.create_execution_context()
        self._compiled = settings.create_runtime_cache()
        self._before = self._cache.load(self._key) or b""
        if self._before:
            self._compiled.deserialize(self._before)
        settings.set_runtime_cache(self._compiled)
        return engine.create_execution_context(settings)

    def keep(self) -> None:
        """After the first run: write down what was compiled, if anything."""
        if self._compiled is None:
            return
        after = bytes(self._compiled.serialize())
        if after != self._before:
            self._cache.store(self._key, after)
        self._compiled = None


class TensorRtBackend(DeviceBackend):
    """An engine with its execution context, whose inputs and outputs stay where they are.

    Args:
        name: of the backend.
        trt: the library's module.
        engine: deserialised by `runtime`, which lives as long as this.
        digest: of the engine's content.
        graph, precision: that it was built from.
        cuda: the GPU.
        kernels: of earlier starts.

    Raises BackendUnavailable for an engine of another graph, or without room on the GPU.
    """

    def __init__(
        self, name: str, trt: ModuleType, runtime: Any, engine: Any, digest: str, graph: Graph, precision: str,
        cuda: Any, kernels: KeptKernels,
    ) -> None:  # fmt: skip
        super().__init__(graph, cuda, _output_shapes(trt, engine, graph))
        self.name, self.version, self.precision, self.engine = name, trt.__version__, precision, digest
        self._alive = (runtime, engine)
        self._kernels = kernels
        self._context = kernels.context(engine)
        if self._context is None:
            raise BackendUnavailable(f"{name} has no room on the GPU to run the {graph.name}")
        for tensor_name, tensor in {**self.inputs, **self.outputs}.items():
            if not self._context.set_tensor_address(tensor_name, tensor.data_ptr()):
                raise BackendUnavailable(f"{name} does not take memory of torch for {tensor_name!r}")

    def enqueue(self) -> None:
        """See `DeviceBackend.enqueue`."""
        if not self._context.execute_async_v3(self.cuda.handle(self.cuda.compute)):
            raise BackendUnavailable(f"{self.name} does not start the {self._graph.name}")

    def launch(self) -> None:
        """See `DeviceBackend.launch`."""
        super().launch()
        self._kernels.keep()


def _output_shapes(trt: ModuleType, engine: Any, graph: Graph) -> Mapping[str, tuple[int, ...]]:
    """By name. Raises BackendUnavailable where the engine is not one of this graph."""
    names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
    shapes = {name: tuple(engine.get_tensor_shape(name)) for name in names}
    differing = sorted(set(graph.inputs).union(graph.outputs).symmetric_difference(names))
    wrong = [f"{name!r} is missing or not of the graph" for name in differing]
    for name, shape in shapes.items():
        if engine.get_tensor_dtype(name) != trt.float32:
            wrong.append(f"{name!r} is not float32")
        if graph.inputs.get(name, shape) != shape:
            wrong.append(f"{name!r} is {shape}, not {graph.inputs[name]}")
    if wrong:
        raise BackendUnavailable(f"the engine is not one of the {graph.name} graph: {'; '.join(wrong)}")
    return {name: shapes[name] for name in graph.outputs}
