"""The CUDA calls that an engine on a GPU makes, in one place: memory, two streams, events, graphs; by way of torch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor

from karp_perception.core import BackendUnavailable

_WARM_UP_RUNS = 3  # libraries choose and load their kernels in the first runs, which must not be captured


class Cuda:
    """One GPU, with one stream that computes and one that copies what comes in beside it.

    Raises BackendUnavailable where torch cannot use a GPU.
    """

    def __init__(self) -> None:
        if not torch.cuda.is_available():
            kind = "has no CUDA" if torch.version.cuda is None else f"finds no GPU for CUDA {torch.version.cuda}"
            raise BackendUnavailable(f"torch {torch.__version__} {kind}: install a torch with CUDA (pytorch.org)")
        self.device = torch.device("cuda", torch.cuda.current_device())
        self.compute = torch.cuda.Stream(self.device)
        self.copies = torch.cuda.Stream(self.device)

    def zeros(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Memory of the GPU, ready for any stream."""
        memory = torch.zeros(shape, dtype=dtype, device=self.device)
        torch.cuda.current_stream(self.device).synchronize()
        return memory

    def pinned(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Memory of the host that is copied without waiting."""
        return torch.zeros(shape, dtype=dtype, pin_memory=True)

    def on(self, stream: Any) -> AbstractContextManager[Any]:
        """Work begun within goes to this stream, `compute` or `copies`."""
        return torch.cuda.stream(stream)

    def handle(self, stream: Any) -> int:
        """The stream as C libraries take it."""
        return stream.cuda_stream

    def mark(self, stream: Any) -> Any:
        """An event behind all that the stream has to do by now."""
        event = torch.cuda.Event(enable_timing=True)
        event.record(stream)
        return event

    def wait(self, stream: Any, event: Any) -> None:
        """Have the stream wait for an event; the host goes on."""
        stream.wait_event(event)

    def synchronise(self, event: Any) -> None:
        """Have the host wait for an event."""
        event.synchronize()

    def milliseconds(self, first: Any, last: Any) -> float:
        """Time of the GPU between two events that have happened."""
        return first.elapsed_time(last)

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """What the work does on the compute stream, recorded once as a CUDA graph: started again by one call.

        The work must use the same memory each time. It is run before it is recorded.
        """
        with torch.inference_mode(), torch.cuda.stream(self.compute):
            for _ in range(_WARM_UP_RUNS):
                work()
            self.compute.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self.compute):
                work()

        def replay() -> None:
            with torch.cuda.stream(self.compute):
                graph.replay()

        return replay
