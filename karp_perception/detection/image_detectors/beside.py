"""What lies beside an ONNX file and speaks of it: a YAML of the same name, or what `transformers` puts there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from karp_perception.core import ConfigurationError
from karp_perception.detection.image_detectors.file_settings import FileSettings

_SOFTMAX = frozenset({"detr", "table-transformer", "yolos"})
_SIGMOID = frozenset(
    {"rt_detr", "rt_detr_v2", "d_fine", "rf_detr", "lw_detr", "deformable_detr", "conditional_detr", "dab-detr"}
)


def settings_beside(file: Path) -> FileSettings:
    """What is said of an ONNX file; the YAML has the last word. Raises ConfigurationError for what is wrong in it."""
    said = _of_transformers(file)
    for suffix in (".yaml", ".yml"):
        named = file.with_suffix(suffix)
        if named.is_file():
            given = FileSettings.from_yaml(named)
            defaults = FileSettings()
            changed = {p.name: p.value for p in given.parameters() if p.value != getattr(defaults, p.name)}
            if "class_names" in changed or "class_numbering" in changed:
                said = replace(said, class_names=(), class_numbering="")
            return replace(said, **changed)
    return said


def yaml_of(file: Path) -> Path:
    """Where the YAML of an ONNX file is, or would be."""
    return next(
        (f for f in (file.with_suffix(".yaml"), file.with_suffix(".yml")) if f.is_file()), file.with_suffix(".yaml")
    )


def _of_transformers(file: Path) -> FileSettings:
    """From config.json and preprocessor_config.json in the file's folder, or one up from a folder called onnx."""
    folders = [file.parent, file.parent.parent] if file.parent.name == "onnx" else [file.parent]
    folder = next((f for f in folders if (f / "config.json").is_file()), None)
    if folder is None:
        return FileSettings()
    config = _json(folder / "config.json")
    kind = config.get("model_type")
    if kind not in _SOFTMAX | _SIGMOID:
        return FileSettings()  # of another model in the same folder
    said: dict[str, Any] = {"activation": "softmax" if kind in _SOFTMAX else "sigmoid"}
    names = config.get("id2label")
    if isinstance(names, Mapping) and names:
        by_number = {int(number): str(name) for number, name in names.items()}
        said["class_names"] = tuple(by_number.get(number, "") for number in range(max(by_number) + 1))
    processor = folder / "preprocessor_config.json"
    if processor.is_file():
        said |= _of_processor(_json(processor))
    return FileSettings(**said)


def _of_processor(content: Mapping[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    if content.get("do_normalize", True) and "image_mean" in content:
        said |= {"mean": tuple(map(float, content["image_mean"])), "std": tuple(map(float, content["image_std"]))}
    size = content.get("size")
    if isinstance(size, Mapping) and {"height", "width"} <= set(size):
        said |= {"height": int(size["height"]), "width": int(size["width"])}
    return said


def _json(file: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{file}: lies beside an ONNX model and cannot be read: {error}") from None
    return content if isinstance(content, Mapping) else {}
