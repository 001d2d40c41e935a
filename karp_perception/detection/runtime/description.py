"""What an exported file says of itself, in the metadata of the ONNX."""

from __future__ import annotations

import json
from importlib import metadata

import onnx

from karp_perception import __version__
from karp_perception.core import CLASS_NAMES
from karp_perception.detection.model.weights import ModelSource

PREFIX = "karp."
"""Of the keys of all that is written here."""

_EXPORTERS = ("torch", "onnx", "onnxscript")


def describe(model: onnx.ModelProto, source: ModelSource, graph: str, precision: str) -> None:
    """Write model, graph, precision, classes, ranges, shapes, configuration, weights and versions into the metadata.

    Everything is text; lists and objects are JSON.
    """
    config = source.config
    ranges = {
        "x_m": config.x_range_m,
        "y_m": config.y_range_m,
        "height_m": config.height_edges_m,
        "cell_m": config.cell_m,
    }
    values = (*model.graph.input, *model.graph.output)
    said = {
        "model": config.name,
        "graph": graph,
        "precision": precision,
        "classes": json.dumps(CLASS_NAMES),
        "ranges": json.dumps(ranges),
        "shapes": json.dumps({value.name: _shape(value) for value in values}),
        "config": config.to_json(),
        "weights": source.digest,
        "trained": json.dumps(source.trained),
        "exporters": json.dumps({package: metadata.version(package) for package in _EXPORTERS}),
        "package": __version__,
    }
    onnx.helper.set_model_props(model, {PREFIX + key: value for key, value in said.items()})
    model.producer_name, model.producer_version = "karp_perception", __version__


def description(model: onnx.ModelProto) -> dict[str, str]:
    """What `describe` wrote, by key; empty for a file of another origin."""
    entries = ((entry.key, entry.value) for entry in model.metadata_props)
    return {key.removeprefix(PREFIX): value for key, value in entries if key.startswith(PREFIX)}


def _shape(value: onnx.ValueInfoProto) -> list[int | str]:
    return [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
