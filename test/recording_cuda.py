"""Stand-ins for a GPU and for TensorRT that work on the CPU and write down, in order, what was asked of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

Calls = list[tuple[Any, ...]]


class RecordingCuda:
    """`Cuda` whose memory is the host's and whose streams are the order of the calls.

    Attributes:
        calls: what was asked, in order: (name, stream or number of an event, ...).
    """

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.compute, self.copies = "compute", "copies"
        self.calls: Calls = []
        self._current: list[str] = []
        self._events = 0

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        self.calls.append(("allocate", tuple(shape)))
        return torch.zeros(shape, dtype=dtype)

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        self.calls.append(("pin", tuple(shape)))
        return torch.zeros(shape, dtype=dtype)

    @contextmanager
    def on(self, stream: str) -> Iterator[None]:
        self._current.append(stream)
        try:
            yield
        finally:
            self._current.pop()

    def handle(self, stream: str) -> int:
        return {"compute": 7, "copies": 8}[stream]

    def mark(self, stream: str) -> int:
        self._events += 1
        self.calls.append(("mark", stream, self._events))
        return self._events

    def wait(self, stream: str, event: int) -> None:
        self.calls.append(("wait", stream, event))

    def synchronise(self, event: int) -> None:
        self.calls.append(("synchronise", event))

    def milliseconds(self, first: int, last: int) -> float:
        return float(last - first)

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        self.calls.append(("warm up",))
        with torch.inference_mode():
            work()
            self.calls.append(("capture",))
            work()

        def replay() -> None:
            self.calls.append(("replay",))
            with torch.inference_mode():
                work()

        return replay


class RecordingTensorRt:
    """A module like `tensorrt` whose engines are names of ONNX files, and which runs what it is given as `network`.

    Args:
        calls: that it adds to.
        version: that it claims to be.
        strongly_typed: whether networks have to be asked to be, as in version 10.
        network: makes outputs by name of inputs by name.
        shapes: of inputs and outputs by name.
        outputs: names of outputs.
    """

    float32 = "float32"

    def __init__(
        self, calls: Calls, network: Callable[[dict[str, Tensor]], dict[str, Tensor]],
        shapes: dict[str, tuple[int, ...]], *, version: str = "10.9.0", strongly_typed: bool = True,
        memory: dict[int, Tensor] | None = None,
    ) -> None:  # fmt: skip
        self.__version__, self.__name__ = version, "tensorrt"
        self.calls, self.network, self.shapes = calls, network, shapes
        self.memory = memory if memory is not None else {}
        self.NetworkDefinitionCreationFlag = SimpleNamespace(**({"STRONGLY_TYPED": 1} if strongly_typed else {}))
        self.BuilderFlag = SimpleNamespace(TF32="TF32")
        self.fails: str | None = None
        self.refuses: set[bytes] = set()

        class Logger:
            ERROR, INTERNAL_ERROR = 1, 0

            def log(self, severity: int, message: str) -> None:
                raise NotImplementedError

        class Monitor:
            pass

        self.ILogger, self.IProgressMonitor = Logger, Monitor
        self.IExecutionContext = SimpleNamespace(execute_async_v3=None)

    def Builder(self, logger: Any) -> Any:
        def create_network(flags: int) -> Any:
            self.calls.append(("create_network", flags))
            return SimpleNamespace(file=None)

        def create_builder_config() -> Any:
            return SimpleNamespace(
                progress_monitor=None,
                clear_flag=lambda flag: self.calls.append(("clear_flag", flag)),
                create_timing_cache=lambda content: SimpleNamespace(content=content),
                set_timing_cache=lambda cache, ignore: self.calls.append(("timing_cache", cache.content)),
                get_timing_cache=lambda: SimpleNamespace(serialize=lambda: b"timings"),
            )

        def build(network: Any, config: Any) -> bytes | None:
            self.calls.append(("build", network.file.name))
            monitor = config.progress_monitor
            monitor.phase_start("Building engine", None, 2)
            monitor.step_complete("Building engine", 0)
            monitor.phase_start("Timing tactics", "Building engine", 4)
            monitor.step_complete("Timing tactics", 1)
            monitor.phase_finish("Timing tactics")
            monitor.phase_finish("Building engine")
            if self.fails:
                logger.log(self.ILogger.ERROR, self.fails)
                return None
            return b"engine of " + network.file.read_bytes()[:20]

        return SimpleNamespace(
            create_network=create_network, create_builder_config=create_builder_config, build_serialized_network=build
        )

    def OnnxParser(self, network: Any, logger: Any) -> Any:
        def parse_from_file(file: str) -> bool:
            network.file = Path(file)
            return not network.file.read_bytes().startswith(b"not")

        reason = SimpleNamespace(desc=lambda: "no such operator")
        return SimpleNamespace(parse_from_file=parse_from_file, num_errors=1, get_error=lambda number: reason)

    def Runtime(self, logger: Any) -> Any:
        def deserialize(content: bytes) -> Any:
            self.calls.append(("deserialize", content[:6]))
            return None if content in self.refuses else self._engine()

        return SimpleNamespace(deserialize_cuda_engine=deserialize)

    def _engine(self) -> Any:
        names = list(self.shapes)
        return SimpleNamespace(
            num_io_tensors=len(names),
            get_tensor_name=lambda number: names[number],
            get_tensor_shape=lambda name: self.shapes[name],
            get_tensor_dtype=lambda name: self.float32,
            create_execution_context=self._context,
        )

    def _context(self) -> Any:
        addresses: dict[str, int] = {}

        def set_tensor_address(name: str, address: int) -> bool:
            self.calls.append(("address", name))
            addresses[name] = address
            return True

        def execute(stream: int) -> bool:
            self.calls.append(("execute", stream))
            values = {name: self.memory[address] for name, address in addresses.items()}
            for name, value in self.network(values).items():
                values[name].copy_(value)
            return True

        return SimpleNamespace(set_tensor_address=set_tensor_address, execute_async_v3=execute)
