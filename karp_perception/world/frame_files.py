"""A frame of a world as a folder that `sensing.labelled_frame` reads: frame.json, points.bin, images and more."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from karp_perception.core import CameraFrame, DistortionModel, SensorFrame, class_name
from karp_perception.sensing.labelled_frame import ALL_AROUND
from karp_perception.world.interface import Truth

FRAME = "base_link: x forward, y left, z up, origin on the ground"
POINTS = "points.bin: N x 4 little-endian float32, x y z (m, base_link) and intensity 0..1"
TIME = "time.bin: N little-endian float32, s relative to stamp_ns"
SOURCE = "karp_perception, embedded world"

_DECIMALS = 4  # 0.1 mm, finer than any sensor
_JPEG_QUALITY = 95


def write_frame(folder: Path, sensors: SensorFrame, truth: Truth) -> None:
    """Write a frame into an existing folder.

    Boxes are those of `truth`, hidden ones included: `visibility` and `points_inside` tell what can be seen of each.
    """
    content: dict[str, Any] = {"source": SOURCE, "frame": FRAME, "stamp_ns": sensors.stamp_ns}
    if sensors.ego is not None:
        ego = sensors.ego
        content["ego"] = {
            "T_odom_base": ego.T_odom_base.tolist(),
            "velocity": ego.velocity.tolist(),
            "yaw_rate": ego.yaw_rate,
        }
    if sensors.lidar is not None:
        content["points"] = POINTS
        sensors.lidar.points.astype("<f4").tofile(folder / "points.bin")
        if sensors.lidar.time is not None:
            content["time"] = TIME
            sensors.lidar.time.astype("<f4").tofile(folder / "time.bin")
    cameras = ((name, camera) for name, camera in sensors.cameras.items() if camera is not None)
    content["cameras"] = [_camera(folder, name, camera) for name, camera in cameras]
    content["labels"] = ALL_AROUND
    content["boxes"] = _boxes(truth)
    content["lights"] = [
        {"number": light.number, "color": light.color.value, "stop": _rounded(light.stop)} for light in truth.lights
    ]
    content["lanes"] = [_rounded(lane) for lane in truth.lanes]
    (folder / "frame.json").write_text(json.dumps(content))


def _camera(folder: Path, name: str, camera: CameraFrame) -> dict[str, Any]:
    file = f"{name}.jpg"
    cv2.imwrite(str(folder / file), camera.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
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


def _boxes(truth: Truth) -> list[dict[str, Any]]:
    boxes = truth.boxes
    columns = (
        truth.object_id.tolist(),
        map(class_name, boxes.label.tolist()),
        *(_rounded(getattr(boxes, name)) for name in ("center", "size", "yaw", "velocity")),
        _rounded(truth.visibility),
        truth.points_inside.tolist(),
    )
    keys = ("id", "label", "center", "size", "yaw", "velocity", "visibility", "points_inside")
    return [dict(zip(keys, values, strict=True)) for values in zip(*columns, strict=True)]


def _rounded(values: np.ndarray) -> list[Any]:
    # Adding 0.0 turns -0.0 into 0.0: the same number must look the same.
    return (np.round(values, _DECIMALS) + 0.0).tolist()
