"""What a user may say of an ONNX file in a YAML file of the same name beside it; what is not said is found out."""

from __future__ import annotations

from dataclasses import dataclass

from karp_perception.core.settings import Settings, setting


@dataclass(frozen=True)
class FileSettings(Settings):
    """Keys of the YAML file. Zero or empty: as the ONNX file says, or as is usual for networks of its kind."""

    width: int = setting(0, "of the images that go in", unit="px", low=0, high=8192)
    height: int = setting(0, "of the images that go in", unit="px", low=0, high=8192)
    batch: int = setting(0, "images in one run, where the file leaves that open", low=0, high=16)
    mean: tuple = setting((), "taken off the colours, which are from 0 to 1: three numbers")
    std: tuple = setting((), "that colours are then divided by: three numbers")
    color: str = setting("rgb", "order of the colours", choices=("rgb", "bgr"))
    resize: str = setting(
        "stretch", "how images come to that size; letterbox keeps their shape", choices=("stretch", "letterbox")
    )
    logits_output: str = setting("", "output with a number for each query and class")
    boxes_output: str = setting("", "output with four numbers a query")
    scores_output: str = setting("", "output with a score a query, where a network decodes by itself")
    labels_output: str = setting("", "output with a class number a query, likewise")
    activation: str = setting("", "that makes scores of logits", choices=("", "sigmoid", "softmax", "none"))
    box_format: str = setting("", "of the four numbers", choices=("", "cxcywh", "xyxy"))
    box_units: str = setting(
        "", "of the four numbers: 0..1, or pixels of the input", choices=("", "normalised", "pixels")
    )
    class_numbering: str = setting("", "of COCO's categories", choices=("", "coco80", "coco91"))
    class_names: tuple = setting((), "name of each class in the order of the logits, instead of a numbering")
    score_threshold: float = setting(0.0, "least score; 0: the detector's own", low=0.0, high=1.0)
