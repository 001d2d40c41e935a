"""torch on a GPU as an engine: the module compiled by torch.compile, and captured as a CUDA graph."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from karp_perception.core.long_work import LongWork
from karp_perception.detection.runtime.device_backend import DeviceBackend
from karp_perception.detection.runtime.graph import Graph

_LOG = logging.getLogger(__name__)
_TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
_EXACT = ("heads", "heatmap", "image_heatmap", "image_depth")
"""Parts of the network that compute in float32 in every precision: what they say are metres and logits."""


class InFloat32(nn.Module):
    """A part that computes in float32 whatever surrounds it."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.part = part

    def forward(self, *values: Tensor) -> Any:
        """The part's own result."""
        with torch.autocast(values[0].device.type, enabled=False):
            return self.part(*(value.float() for value in values))


class TorchDeviceBackend(DeviceBackend):
    """The module of a graph on a GPU.

    Args:
        graph: that is run.
        precision: f32, or f16 or bf16 by autocast.
        cuda: the GPU.
        compiled: by torch.compile.
    """

    name = "torch_cuda"

    def __init__(self, graph: Graph, precision: str, cuda: Any, compiled: bool = True) -> None:
        module = copy.deepcopy(graph.module()).eval().to(cuda.device)
        net = getattr(module, "net", module)
        for part in _EXACT:
            if hasattr(net, part):
                setattr(net, part, InFloat32(getattr(net, part)))
        self._module: Callable[..., tuple[Tensor, ...]] = module
        self._type = _TYPES[precision]
        self.version, self.precision = torch.__version__, precision
        with torch.inference_mode(), cuda.on(cuda.compute):
            arguments = [torch.zeros(shape, device=cuda.device) for shape in graph.inputs.values()]
            shapes = [tuple(value.shape) for value in self._computed(cuda, arguments)]
            if compiled:
                self._compile(graph, cuda, arguments)
        super().__init__(graph, cuda, dict(zip(graph.outputs, shapes, strict=True)))

    def enqueue(self) -> None:
        """See `DeviceBackend.enqueue`."""
        for target, value in zip(
            self.outputs.values(), self._computed(self.cuda, list(self.inputs.values())), strict=True
        ):
            target.copy_(value)

    def _computed(self, cuda: Any, arguments: list[Tensor]) -> tuple[Tensor, ...]:
        with torch.autocast(cuda.device.type, self._type, enabled=self._type != torch.float32):
            return self._module(*arguments)

    def _compile(self, graph: Graph, cuda: Any, arguments: list[Tensor]) -> None:
        """Compile by running once; what cannot be compiled runs as it is, with a line that says so."""
        plain = self._module
        self._module = torch.compile(plain, dynamic=False)
        try:
            with LongWork(f"compiling the {graph.name} in {self.precision} with torch.compile"):
                self._computed(cuda, arguments)
        except Exception as error:  # whatever its compilers raise: there is no common base
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            _LOG.warning("torch.compile does not work here (%s): the %s runs uncompiled", reason, graph.name)
            self._module = plain
