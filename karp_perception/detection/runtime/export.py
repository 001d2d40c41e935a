"""torch -> ONNX: static shapes, standard operators."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

import onnx
import torch
from torch import Tensor, nn

from karp_perception.core import BackendUnavailable
from karp_perception.detection.model.detector_net import DetectorNet
from karp_perception.detection.runtime.graph import LIDAR_POSITION, NETWORK_OUTPUTS, Graph
from karp_perception.detection.runtime.onnx_scopes import keep_scopes_only
from karp_perception.detection.runtime.operators import require_standard

OPSET = 18
"""Understood by TensorRT 10, OpenVINO and ONNX Runtime of the last three years."""

_MAX_BATCH = 64  # of a file with a dynamic one


class NetworkGraph(nn.Module):
    """`DetectorNet` with a tuple of tensors as its result, in the order of NETWORK_OUTPUTS."""

    def __init__(self, net: DetectorNet) -> None:
        super().__init__()
        self.net = net
        self.train(net.training)

    def forward(
        self,
        images: Tensor,
        camera_present: Tensor,
        canvas: Tensor,
        lidar_present: Tensor,
        image_position: Tensor,
        lidar_position: Tensor,
        reference_position: Tensor,
        image_ray: Tensor,
    ) -> tuple[Tensor, ...]:
        """Inputs as for `DetectorNet.forward`, outputs as in `Prediction`."""
        prediction = self.net(
            images, camera_present, canvas, lidar_present, image_position, lidar_position, reference_position, image_ray
        )
        return tuple(getattr(prediction, name) for name in NETWORK_OUTPUTS)


def export(graph: Graph, *, dynamic_batch: bool = False) -> onnx.ModelProto:
    """A graph as ONNX in f32.

    The values of the example inputs do not matter: nothing in the model branches on them. With a dynamic batch the
    first axis of whatever has one is named `batch`, and everything else is as fixed as otherwise. Raises
    BackendUnavailable for an operator that not every engine has.
    """
    sizes = (
        (2 if dynamic_batch and name != LIDAR_POSITION else shape[0], *shape[1:])
        for name, shape in graph.inputs.items()
    )
    examples = tuple(torch.ones(size) for size in sizes)
    axes: tuple[dict[int, torch.export.Dim], ...] | None = None
    if dynamic_batch:
        batch = torch.export.Dim("batch", min=1, max=_MAX_BATCH)
        axes = tuple({} if name == LIDAR_POSITION else {0: batch} for name in graph.inputs)
    with _quiet():
        program = torch.onnx.export(
            graph.module().eval(),
            examples,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
            dynamic_shapes=axes,
        )
    assert program is not None
    model = program.model_proto
    if dynamic_batch and any(v.type.tensor_type.shape.dim[0].dim_value > 1 for v in model.graph.input):
        raise BackendUnavailable(f"the {graph.name} graph does not take any number of frames: its module fixes it")
    keep_scopes_only(model)
    require_standard(model)
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter reports its progress and other packages' deprecations: nothing that a user could act on."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
