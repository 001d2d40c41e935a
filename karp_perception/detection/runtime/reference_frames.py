"""Frames of the embedded world that come with the package: what engines are compared and calibrated on.

Frames of several kinds of places with six cameras and a lidar, made once by `tools/reference_frames.py` and kept in
`models/reference_frames.npz`: making them anew would cost every first start a minute of compiling the world. The first
ones are for comparing, the others for calibrating, so that no engine is judged by what it was made from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from karp_perception.core import CameraFrame, ConfigurationError, LidarSweep, SensorFrame
from karp_perception.core.resources import resource

_COMPARED = 4  # frames that engines are compared on; the rest are for calibrating
_JPEG_QUALITY = 85
_POINT_M = 0.01  # in which coordinates are kept, finer than a lidar is
_TIME_S = 1e-3
_INTENSITIES = 255.0


def reference_frames_file() -> Path:
    """Where they lie. Raises ConfigurationError where the package is installed in part only."""
    return resource("models", "reference_frames.npz")


@cache
def reference_frames() -> tuple[SensorFrame, ...]:
    """The frames to compare engines on."""
    return load_frames(reference_frames_file(), slice(0, _COMPARED))


@cache
def calibration_frames() -> tuple[SensorFrame, ...]:
    """The frames that ranges of activations are taken from."""
    return load_frames(reference_frames_file(), slice(_COMPARED, None))


def save_frames(file: Path, frames: Sequence[SensorFrame]) -> None:
    """Write frames: images as JPEG, points in steps of 1 cm, intensity of 1/255, time of 1 ms.

    Every frame needs a lidar with times and the same number of cameras, all of them delivering.
    """
    arrays: dict[str, np.ndarray] = {}
    for number, frame in enumerate(frames):
        cameras, lidar = [c for c in frame.cameras.values() if c is not None], frame.lidar
        assert lidar is not None
        assert lidar.time is not None
        arrays |= {f"{number}.image{slot}": _jpeg(camera.image) for slot, camera in enumerate(cameras)}
        arrays[f"{number}.intrinsics"] = np.stack([camera.intrinsics for camera in cameras])
        arrays[f"{number}.T_base_camera"] = np.stack([camera.T_base_camera for camera in cameras])
        steps = np.round(lidar.points[:, :3] / _POINT_M).astype(np.int16)
        # Differences from point to point along a scan take half the space.
        arrays[f"{number}.points"] = np.diff(steps, axis=0, prepend=np.zeros((1, 3), np.int16)).T
        arrays[f"{number}.intensity"] = np.round(lidar.points[:, 3] * _INTENSITIES).astype(np.uint8)
        arrays[f"{number}.time"] = np.round(lidar.time / _TIME_S).astype(np.int8)
    np.savez_compressed(file, count=np.array(len(frames)), **arrays)


def load_frames(file: Path, part: slice = slice(None)) -> tuple[SensorFrame, ...]:
    """What `save_frames` wrote, or a part of it. Raises ConfigurationError for a file that cannot be read."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return tuple(_frame(arrays, str(number)) for number in range(int(arrays["count"]))[part])
    except (OSError, ValueError, KeyError) as error:
        raise ConfigurationError(f"{file}: expected reference frames, got something else: {error}") from None


def _frame(arrays: Mapping[str, np.ndarray], name: str) -> SensorFrame:
    calibration = zip(arrays[f"{name}.intrinsics"], arrays[f"{name}.T_base_camera"], strict=True)
    cameras: dict[str, CameraFrame | None] = {
        f"camera{slot}": CameraFrame(_image(arrays[f"{name}.image{slot}"]), intrinsics, pose, 0)
        for slot, (intrinsics, pose) in enumerate(calibration)
    }
    # The sums wrap around where the differences did.
    points = np.cumsum(arrays[f"{name}.points"], axis=1, dtype=np.int16).T * _POINT_M
    intensity = arrays[f"{name}.intensity"] / _INTENSITIES
    time = (arrays[f"{name}.time"] * _TIME_S).astype(np.float32)
    return SensorFrame(0, cameras, LidarSweep(np.column_stack([points, intensity]).astype(np.float32), 0, time))


def _jpeg(image: np.ndarray) -> np.ndarray:
    written, content = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    if not written:
        raise ConfigurationError(f"an image of shape {image.shape} cannot be written as JPEG")
    return content.ravel()


def _image(content: np.ndarray) -> np.ndarray:
    image = cv2.imdecode(content, cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("an image cannot be decoded")
    return np.ascontiguousarray(image[:, :, ::-1])
