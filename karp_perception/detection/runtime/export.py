"""torch -> ONNX: static shapes, standard operators, one self-contained file a graph."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from karp_perception.detection.model.detector_net import DetectorNet
from karp_perception.detection.runtime.graph import NETWORK_OUTPUTS, Graph

OPSET = 18
"""Understood by TensorRT 10, OpenVINO and ONNX Runtime of the last three years."""


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


def export(graph: Graph, file: Path) -> None:
    """Write a graph as ONNX. The values of the example inputs do not matter: nothing in the model branches on them."""
    examples = tuple(torch.ones(shape) for shape in graph.inputs.values())
    with _quiet():
        torch.onnx.export(
            graph.module().eval(),
            examples,
            str(file),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )


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
