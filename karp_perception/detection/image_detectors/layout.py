"""How a 2D detector's file is fed and read, found out from its inputs and outputs.

Known are the exports of `transformers` (DETR and its descendants: `pixel_values` -> `logits`, `pred_boxes`), the
official ones of RT-DETR, RT-DETRv2, D-FINE and DEIM (`images`, `orig_target_sizes` -> `labels`, `boxes`, `scores`),
that of RF-DETR (`input` -> `dets`, `labels`) and Ultralytics' RT-DETR (`images` -> one output). Names settle it only
where shapes leave a choice. What is still open is asked for: an error names the key of the YAML file.
"""

from __future__ import annotations

import ast
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from karp_perception.core import ConfigurationError, class_from_name
from karp_perception.core.coco import NUMBERINGS
from karp_perception.detection.image_detectors.beside import settings_beside, yaml_of
from karp_perception.detection.image_detectors.file_settings import FileSettings
from karp_perception.detection.image_detectors.onnx_file import FixedModel, OnnxFile, Tensor

_LOG = logging.getLogger(__name__)

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Inputs that only say how large an image was before it was scaled. With ones, boxes come out as shares of its sides.
_SIZE_INPUTS = frozenset({"orig_target_sizes", "orig_target_size", "orig_sizes", "orig_size", "target_sizes"})
_MASK_INPUTS = frozenset({"pixel_mask"})
_LOGITS_NAMES = ("logits", "pred_logits", "labels", "class_logits")
_BOXES_NAMES = ("pred_boxes", "boxes", "dets", "bboxes")
_LABELS_NAMES = ("labels", "classes", "class_ids")
_SCORES_NAMES = ("scores", "confidences")


@dataclass(frozen=True)
class Layout:
    """How images go in and boxes come out.

    Attributes:
        kind: of network, in words.
        image_input: name in the prepared file.
        channels_last: whether images are (B, H, W, 3) instead of (B, 3, H, W).
        batch, height, width: of the input.
        byte_colors: colours go in as 0 to 255, for a network that scales them itself, instead of 0 to 1.
        mean, std: (3,) of colours from 0 to 1, in the order they go in.
        bgr: whether that order is blue, green, red.
        letterbox: whether images keep their shape and are padded at the right and below.
        outputs: names: logits and boxes; labels, boxes and scores; or one that holds boxes and scores of classes.
        activation: sigmoid, softmax, or none where scores come out.
        box_format: cxcywh or xyxy. box_scale: (2,) what makes shares of the input's sides of x and y.
        classes: (C,) our label of each class number.
        class_names: (C,) what the file calls them.
    """

    kind: str
    image_input: str
    channels_last: bool
    batch: int
    height: int
    width: int
    byte_colors: bool
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    bgr: bool
    letterbox: bool
    outputs: tuple[str, ...]
    activation: str
    box_format: str
    box_scale: tuple[float, float]
    classes: np.ndarray
    class_names: tuple[str, ...]


@dataclass(frozen=True)
class _Usual:
    """What goes without saying for a kind of network."""

    kind: str
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    activation: str = ""
    numbering: str = ""


_PLAIN = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
_IMAGENET = {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
_DEPLOYED = _Usual("RT-DETR or D-FINE, deployed", **_PLAIN, activation="none", numbering="coco80")
_RF_DETR = _Usual("RF-DETR", **_IMAGENET, activation="sigmoid", numbering="coco91")
_ULTRALYTICS = _Usual("RT-DETR of Ultralytics", **_PLAIN, activation="none")
# Of transformers, by the number of logits.
_TRANSFORMERS = {
    80: _Usual("RT-DETR or D-FINE of transformers", **_PLAIN, activation="sigmoid", numbering="coco80"),
    91: _Usual("DETR with focal loss of transformers", **_IMAGENET, activation="sigmoid", numbering="coco91"),
    92: _Usual("DETR of transformers", **_IMAGENET, activation="softmax", numbering="coco91"),
}


def find_layout(file: Path, batch: int) -> tuple[Layout, bytes]:
    """The layout of a file, and the network as ONNX with static shapes and the layout's outputs alone.

    Args:
        file: ONNX; see `beside` for what may lie next to it.
        batch: images in one run, where the file leaves that open.

    Raises ConfigurationError for what cannot be found out, naming the YAML key that tells it.
    """
    said = settings_beside(file)
    content = OnnxFile(file)
    ask = _Asking(file)
    image, channels_last = _image_input(content, ask)
    height, width = _size(image, channels_last, said, content.metadata, ask)
    constants = {other.name: other for other in content.inputs if other.name != image.name}
    fixed, batch = _fixed(content, image, channels_last, (height, width), said.batch or batch, constants, ask)
    roles = _roles(fixed, said, ask)
    usual = _usual(image, roles, fixed, content)
    logits = roles.get("logits")
    classes = None if logits is None else int(logits.shape[-1] or 0) - 4 * ("boxes" not in roles)
    names = _class_names(said, usual, content.metadata, classes, ask)
    layout = Layout(
        kind=usual.kind,
        image_input=image.name if image.dtype == "float32" else f"{image.name}_f32",
        channels_last=channels_last,
        batch=batch,
        height=height,
        width=width,
        byte_colors=not image.is_float,
        mean=_triple(said.mean or usual.mean, "mean", image, ask),
        std=_triple(said.std or usual.std, "std", image, ask),
        bgr=said.color == "bgr",
        letterbox=said.resize == "letterbox",
        outputs=tuple(dict.fromkeys(tensor.name for tensor in roles.values())),
        activation=_activation(said, usual, names, classes, ask),
        box_format=said.box_format or _box_format(roles, constants, ask),
        box_scale=_box_scale(said, roles, constants, (width, height), ask),
        classes=np.array([int(class_from_name(name)) for name in names], np.int64),
        class_names=names,
    )
    return layout, fixed.serialized(layout.outputs)


class _Asking:
    """Errors about one file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self, what: str, key: str) -> ConfigurationError:
        """What cannot be found out, and the key that would tell it."""
        return ConfigurationError(f"{self._file}: {what}; say so with `{key}:` in {yaml_of(self._file).name} beside it")

    def unusable(self, what: str) -> ConfigurationError:
        """What no key can help."""
        return ConfigurationError(f"{self._file}: {what}")


def _image_input(content: OnnxFile, ask: _Asking) -> tuple[Tensor, bool]:
    images = [t for t in content.inputs if len(t.shape) == 4 and 3 in (t.shape[1], t.shape[3])]
    if not images:  # dynamic exports may leave even the channels open
        images = [t for t in content.inputs if len(t.shape) == 4 and t.shape[1] is None]
    if len(images) != 1:
        found = ", ".join(map(str, content.inputs))
        raise ask.unusable(f"expected one input of images, (batch, 3, height, width); its inputs are {found}")
    (image,) = images
    return image, image.shape[1] not in (3, None) and image.shape[3] == 3


def _size(
    image: Tensor, channels_last: bool, said: FileSettings, metadata: Mapping[str, str], ask: _Asking
) -> tuple[int, int]:
    """Height and width of the input."""
    stored = image.shape[1:3] if channels_last else image.shape[2:]
    known = _literal(metadata.get("imgsz", ""))
    usual = known if isinstance(known, (list, tuple)) and len(known) == 2 else (0, 0)
    sides = []
    for key, fixed, told, listed in zip(("height", "width"), stored, (said.height, said.width), usual, strict=True):
        if fixed and told and fixed != told:
            _LOG.warning("%s px are said of the %s of a model's images: its file says %s", told, key, fixed)
        side = fixed or told or int(listed)
        if not side:
            raise ask(f"it takes images of any {key}, and nothing says which is right for it", key)
        sides.append(side)
    return sides[0], sides[1]


def _fixed(
    content: OnnxFile,
    image: Tensor,
    channels_last: bool,
    size: tuple[int, int],
    wanted: int,
    others: Mapping[str, Tensor],
    ask: _Asking,
) -> tuple[FixedModel, int]:
    """The network at a size and the batch that it allows, at best the one wanted."""

    def at(batch: int) -> FixedModel:
        shape = (batch, *size, 3) if channels_last else (batch, 3, *size)
        return content.fixed({image.name: shape}, _constants(others, batch, size, ask))

    if image.shape[0] is not None:
        return at(image.shape[0]), image.shape[0]
    if wanted > 1:
        try:
            fixed = at(wanted)
            if all(tensor.shape[:1] == (wanted,) for tensor in fixed.outputs):
                return fixed, wanted
        except ConfigurationError:
            pass  # exported for one image, whatever its input says
    return at(1), 1


def _constants(others: Mapping[str, Tensor], batch: int, size: tuple[int, int], ask: _Asking) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    for name, tensor in others.items():
        if name in _SIZE_INPUTS:
            found[name] = np.ones((batch, 2))
        elif name in _MASK_INPUTS:
            found[name] = np.ones((batch, *size))
        else:
            raise ask.unusable(f"its input {tensor} is none that is known; export it with images as its only input")
    return found


def _roles(fixed: FixedModel, said: FileSettings, ask: _Asking) -> dict[str, Tensor]:
    """Which output is what: {logits, boxes}, {labels, boxes, scores} or {logits} that begins with the boxes."""
    outputs = fixed.outputs
    three = [t for t in outputs if t.is_float and len(t.shape) == 3]
    two = [t for t in outputs if len(t.shape) == 2]

    def named(name: str, key: str) -> Tensor:
        for tensor in outputs:
            if tensor.name == name:
                return tensor
        there = ", ".join(tensor.name for tensor in outputs)
        raise ask.unusable(f"`{key}: {name}` is none of its outputs, which are {there}")

    def chosen(candidates: Sequence[Tensor], names: Sequence[str], key: str) -> Tensor | None:
        if getattr(said, key):
            return named(getattr(said, key), key)
        if len(candidates) == 1:
            return candidates[0]
        for name in names:
            for tensor in candidates:
                if tensor.name == name:
                    return tensor
        return None

    there = ", ".join(map(str, outputs))
    if len(outputs) == 1 and len(three) == 1 and not said.boxes_output:
        if three[0].shape[-1] is None or not 4 < three[0].shape[-1] < (three[0].shape[1] or 0):
            raise ask.unusable(f"expected queries with boxes and classes; its one output is {there}")
        return {"logits": three[0]}
    boxes = chosen([t for t in three if t.shape[-1] == 4], _BOXES_NAMES, "boxes_output")
    if boxes is None:
        raise ask(f"which of its outputs holds boxes cannot be told: {there}", "boxes_output")
    if said.logits_output or not (two and chosen(two, _SCORES_NAMES, "scores_output")):
        rest = [t for t in three if t.name != boxes.name and t.shape[1] == boxes.shape[1]]
        logits = chosen(rest, _LOGITS_NAMES, "logits_output")
        if logits is None:
            raise ask(f"which of its outputs holds logits cannot be told: {there}", "logits_output")
        return {"logits": logits, "boxes": boxes}
    integers = [t for t in two if not t.is_float]
    scores = chosen([t for t in two if t.is_float], _SCORES_NAMES, "scores_output")
    labels = chosen(integers or two, _LABELS_NAMES, "labels_output")
    if scores is None or labels is None or scores.name == labels.name:
        key = "labels_output" if labels is None else "scores_output"
        raise ask(f"which of its outputs holds {key.split('_', maxsplit=1)[0]} cannot be told: {there}", key)
    return {"labels": labels, "boxes": boxes, "scores": scores}


def _usual(image: Tensor, roles: Mapping[str, Tensor], fixed: FixedModel, content: OnnxFile) -> _Usual:
    names = {tensor.name for tensor in fixed.outputs}
    if "labels" in roles:
        deployed = any(tensor.name in _SIZE_INPUTS for tensor in content.inputs)
        return _DEPLOYED if deployed else _Usual("a network that decodes by itself", activation="none")
    if "boxes" not in roles:
        ultralytics = "names" in content.metadata
        return _ULTRALYTICS if ultralytics else _Usual("a network with one output")
    classes = roles["logits"].shape[-1]
    if (image.name, names) == ("input", {"dets", "labels"}):
        usual = _RF_DETR
        return usual if classes == 91 else _Usual(usual.kind, usual.mean, usual.std, usual.activation)
    if image.name == "pixel_values" and classes in _TRANSFORMERS:
        return _TRANSFORMERS[classes]
    return _Usual("a DETR")


def _class_names(
    said: FileSettings, usual: _Usual, metadata: Mapping[str, str], logits: int | None, ask: _Asking
) -> tuple[str, ...]:
    in_file = _literal(metadata.get("names", ""))
    if said.class_names:
        names = tuple(map(str, said.class_names))
    elif said.class_numbering:
        names = NUMBERINGS[said.class_numbering]
    elif isinstance(in_file, Mapping) and in_file and all(isinstance(number, int) for number in in_file):
        names = tuple(str(in_file.get(number, "")) for number in range(max(in_file) + 1))
    elif usual.numbering:
        names = NUMBERINGS[usual.numbering]
    else:
        raise ask("what its classes are cannot be told", "class_names")
    if logits is not None and not 0 <= logits - len(names) <= 1:
        raise ask(f"it has {logits} logits a query, and {len(names)} classes are named", "class_names")
    if not any(class_from_name(name) >= 0 for name in names):
        raise ask(f"none of its classes is one of ours: {', '.join(filter(None, names))}", "class_names")
    return names


def _activation(said: FileSettings, usual: _Usual, names: Sequence[str], logits: int | None, ask: _Asking) -> str:
    if said.activation or usual.activation:
        return said.activation or usual.activation
    if logits == len(names):
        return "sigmoid"  # a softmax needs one more, for nothing
    raise ask("whether its logits are for a sigmoid or a softmax cannot be told", "activation")


def _box_format(roles: Mapping[str, Tensor], constants: Mapping[str, Tensor], ask: _Asking) -> str:
    if "logits" in roles:
        return "cxcywh"  # all descendants of DETR
    if any(name in _SIZE_INPUTS for name in constants):
        return "xyxy"
    raise ask("whether its boxes are corners or centre and size cannot be told", "box_format")


def _box_scale(
    said: FileSettings,
    roles: Mapping[str, Tensor],
    constants: Mapping[str, Tensor],
    size: tuple[int, int],
    ask: _Asking,
) -> tuple[float, float]:
    known = "logits" in roles or any(name in _SIZE_INPUTS for name in constants)
    units = said.box_units or ("normalised" if known else "")
    if not units:
        raise ask("whether its boxes are in pixels or shares of the image cannot be told", "box_units")
    return (1.0 / size[0], 1.0 / size[1]) if units == "pixels" else (1.0, 1.0)


def _triple(values: Sequence[float], key: str, image: Tensor, ask: _Asking) -> tuple[float, float, float]:
    if not values and not image.is_float:
        values = (0.0, 0.0, 0.0) if key == "mean" else (1.0, 1.0, 1.0)
    if not values:
        raise ask(f"which {key} its training took of the colours cannot be told", key)
    if len(values) != 3 or not all(isinstance(v, (int, float)) and np.isfinite(v) for v in values):
        raise ask(f"its {key} should be three numbers, not {list(values)}", key)
    if key == "std" and min(values) <= 0:
        raise ask(f"its std should be more than 0, not {list(values)}", key)
    return float(values[0]), float(values[1]), float(values[2])


def _literal(text: str) -> object:
    """What a Python literal in the metadata means; None for anything else."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None
