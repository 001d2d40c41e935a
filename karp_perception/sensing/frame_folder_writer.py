"""A labelled frame as a folder that `sensing.labelled_frame` reads: frame.json, points.bin, images and more."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from karp_perception.core import CameraFrame, DistortionModel, SensorFrame, class_name
from karp_perception.core.errors import InvalidInput
from karp_perception.sensing.image_files import write_image
from karp_perception.sensing.labelled_frame import ALL_AROUND, IN_VIEW, LabelledFrame

FRAME = "base_link: x forward, y left, z up, origin on the ground"
POINTS = "points.bin: N x 4 little-endian float32, x y z (m, base_link) and intensity 0..1"
TIME = "time.bin: N little-endian float32, s relative to stamp_ns"

_DECIMALS = 4  # 0.1 mm, finer than any sensor
_JPEG_QUALITY = 95


def write_labelled_frame(
    folder: Path, frame: LabelledFrame, source: str, more: Mapping[str, Any] | None = None
) -> None:
    """Write a frame into an existing folder. Read back it is the same, but for what JPEG does to images.

    Not kept are masks, names of cameras that gave nothing, stamps of single sensors, and what measured the motion.

    Args:
        folder: that exists and is empty: files of another frame in it would become part of this one.
        frame: with any of its optional fields.
        source: where it comes from, for people.
        more: further content of frame.json (JSON values), which readers of labelled frames ignore.

    Raises InvalidInput for a camera whose name is no file name, or an image that cannot be written.
    """
    sensors = frame.sensors
    content: dict[str, Any] = {"source": source, "frame": FRAME, "stamp_ns": sensors.stamp_ns}
    if sensors.ego is not None:
        ego = sensors.ego
        content["ego"] = {
            "T_odom_base": ego.T_odom_base.tolist(),
            "velocity": ego.velocity.tolist(),
            "yaw_rate": ego.yaw_rate,
        }
    content |= _lidar(folder, sensors)
    cameras = ((name, camera) for name, camera in sensors.cameras.items() if camera is not None)
    content["cameras"] = [_camera(folder, name, camera) for name, camera in cameras]
    content["labels"] = IN_VIEW if frame.sector else ALL_AROUND
    content["boxes"] = _boxes(frame)
    if len(frame.unlabelled):
        content["unlabelled"] = [{"center": place[:2], "radius": place[2]} for place in rounded(frame.unlabelled)]
    (folder / "frame.json").write_text(json.dumps({**content, **(more or {})}, allow_nan=False))


def rounded(values: np.ndarray) -> list[Any]:
    """An array as nested lists of numbers, to 0.1 mm, with None for NaN, which JSON does not have."""
    # Adding 0.0 turns -0.0 into 0.0: the same number must look the same.
    numbers = np.round(values, _DECIMALS) + 0.0
    if np.isnan(numbers).any():
        numbers = np.where(np.isnan(numbers), None, numbers.astype(object))
    return numbers.tolist()


def _lidar(folder: Path, sensors: SensorFrame) -> dict[str, str]:
    if sensors.lidar is None:
        return {}
    sensors.lidar.points.astype("<f4").tofile(folder / "points.bin")
    if sensors.lidar.time is None:
        return {"points": POINTS}
    sensors.lidar.time.astype("<f4").tofile(folder / "time.bin")
    return {"points": POINTS, "time": TIME}


def _camera(folder: Path, name: str, camera: CameraFrame) -> dict[str, Any]:
    file = f"{name}.jpg"
    if Path(file).name != file:
        raise InvalidInput("name of a camera", "one that can be a file's", repr(name), "rename it")
    write_image(folder / file, camera.image, (cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY))
    entry: dict[str, Any] = {
        "name": name,
        "file": file,
        "K": camera.intrinsics.tolist(),
        "T_base_camera": camera.T_base_camera.tolist(),
    }
    if camera.distortion.model is not DistortionModel.NONE:
        entry["distortion"] = {
            "model": camera.distortion.model.value,
            "coefficients": list(camera.distortion.coefficients),
        }
    return entry


def _boxes(frame: LabelledFrame) -> list[dict[str, Any]]:
    boxes = frame.labels
    columns: dict[str, list[Any] | None] = {
        "id": None if frame.object_id is None else frame.object_id.tolist(),
        "label": [class_name(label) for label in boxes.label.tolist()],
        **{name: rounded(getattr(boxes, name)) for name in ("center", "size", "yaw", "velocity")},
        "visibility": None if frame.visibility is None else rounded(frame.visibility),
        "weight": None if frame.weight is None else rounded(frame.weight),
        "points_inside": frame.points_inside.tolist(),
    }
    known = {name: column for name, column in columns.items() if column is not None}
    return [dict(zip(known, values, strict=True)) for values in zip(*known.values(), strict=True)]
