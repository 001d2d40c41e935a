"""What a camera sees: which points lie in its image."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from karp_perception.core import CameraFrame
from karp_perception.core.geometry import invert_pose, project_points, transform_points


@dataclass(frozen=True)
class View:
    """What a camera sees: (3, 3) intrinsics, (4, 4) pose in `base_link`, width and height in pixels."""

    intrinsics: np.ndarray
    T_base_camera: np.ndarray
    width: int
    height: int

    @classmethod
    def of(cls, camera: CameraFrame) -> View:
        """The view of a camera; lens distortion is not regarded."""
        height, width = camera.image.shape[:2]
        return cls(camera.intrinsics, camera.T_base_camera, width, height)

    def sees(self, points: np.ndarray) -> np.ndarray:
        """(N,) whether points (N, 3) of `base_link` lie in the image."""
        inside = transform_points(invert_pose(self.T_base_camera), points)
        pixels, depth = project_points(inside, self.intrinsics)
        with np.errstate(invalid="ignore"):
            return (depth > 0) & (pixels >= 0).all(axis=1) & (pixels < (self.width, self.height)).all(axis=1)


def seen_by(cameras: Iterable[CameraFrame | None], points: np.ndarray) -> np.ndarray:
    """(N,) whether points (N, 3) of `base_link` lie in an image of these cameras; one that is missing sees nothing."""
    seen = np.zeros(len(points), bool)
    for camera in cameras:
        if camera is not None:
            seen |= View.of(camera).sees(points)
    return seen
