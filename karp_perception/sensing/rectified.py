"""Labelled frames without lens distortion: what a detector sees on a vehicle, and what it must learn from."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from karp_perception.core import CameraFrame, Distortion, DistortionModel
from karp_perception.sensing.calibration import CameraModel
from karp_perception.sensing.labelled_frame import LabelledFrame
from karp_perception.sensing.undistortion import Undistorter

_LENSES_KEPT = 32


def rectified(frame: LabelledFrame) -> LabelledFrame:
    """The frame with lens distortion taken out of its images, as it is before a detector sees them on a vehicle.

    Images keep their size and camera matrix: what a wide lens sees beyond them is lost. Masks are left out.
    """
    cameras = frame.sensors.cameras
    if all(camera is None or camera.distortion.model is DistortionModel.NONE for camera in cameras.values()):
        return frame
    plain = {name: None if camera is None else _undistorted(camera) for name, camera in cameras.items()}
    return replace(frame, sensors=replace(frame.sensors, cameras=plain), masks={})


def _undistorted(camera: CameraFrame) -> CameraFrame:
    height, width = camera.image.shape[:2]
    lens = camera.distortion
    undistorter = _undistorter(width, height, camera.intrinsics.tobytes(), lens.model, lens.coefficients)
    image = undistorter(camera.image)
    return replace(camera, image=image, intrinsics=undistorter.intrinsics, distortion=Distortion())


@lru_cache(maxsize=_LENSES_KEPT)
def _undistorter(
    width: int, height: int, intrinsics: bytes, model: DistortionModel, coefficients: tuple[float, ...]
) -> Undistorter:
    K = np.frombuffer(intrinsics).reshape(3, 3)
    return Undistorter(CameraModel(width, height, K, Distortion(model, coefficients), K, ""))
