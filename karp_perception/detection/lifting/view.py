"""A camera as lifting needs it: where things appear, and where in space a pixel's ray goes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core import Boxes, CameraFrame
from karp_perception.core.geometry import invert_pose, transform_points

_NEAR_M = 0.2  # before the lens; nearer places are taken to be there
_EDGES = np.array([[0, 1], [1, 2], [2, 3], [3, 0], [4, 5], [5, 6], [6, 7], [7, 4], [0, 4], [1, 5], [2, 6], [3, 7]])
_BORDER_PX = 2.0  # a rectangle that comes so close to the image's border goes on beyond it


@dataclass(frozen=True)
class View:
    """One camera's geometry.

    Attributes:
        intrinsics: (3, 3) px. T_camera_base: (4, 4). T_base_camera: (4, 4).
        size: width and height of the image, px.
    """

    intrinsics: np.ndarray
    T_camera_base: np.ndarray
    T_base_camera: np.ndarray
    size: tuple[int, int]

    @classmethod
    def of(cls, camera: CameraFrame) -> View:
        """Of a rectified image."""
        height, width = camera.image.shape[:2]
        return cls(camera.intrinsics, invert_pose(camera.T_base_camera), camera.T_base_camera, (width, height))

    @property
    def origin(self) -> np.ndarray:
        """(3,) the camera's place in `base_link`, m."""
        return self.T_base_camera[:3, 3]

    @property
    def focal(self) -> tuple[float, float]:
        """Focal lengths across and down, px."""
        return float(self.intrinsics[0, 0]), float(self.intrinsics[1, 1])

    def pixels(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(..., 2) px and (...) depth, m, of points (..., 3) of `base_link`; what is behind is put before the lens."""
        flat = transform_points(self.T_camera_base, points.reshape(-1, 3))
        depth = flat[:, 2]
        pixels = (flat @ self.intrinsics.T.astype(flat.dtype))[:, :2]
        pixels = (pixels - flat[:, 2:] * self.intrinsics[:2, 2].astype(flat.dtype)) / np.maximum(depth, _NEAR_M)[
            :, None
        ]
        pixels += self.intrinsics[:2, 2].astype(flat.dtype)
        return pixels.reshape(*points.shape[:-1], 2), depth.reshape(points.shape[:-1])

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """(N, 3) directions in `base_link`, of length 1 along the optical axis, through pixels (N, 2)."""
        homogeneous = np.column_stack([pixels, np.ones(len(pixels))])
        return np.linalg.solve(self.intrinsics, homogeneous.T).T @ self.T_base_camera[:3, :3].T

    def cut(self, corners: np.ndarray) -> np.ndarray:
        """(N, 4) which edges of rectangles (N, 4) are the image's border instead of the object's."""
        width, height = self.size
        low, high = (
            corners[:, :2] <= _BORDER_PX - 0.5,
            corners[:, 2:] >= (width - 0.5 - _BORDER_PX, height - 0.5 - _BORDER_PX),
        )
        return np.concatenate([low, high], axis=1)

    def rectangles(self, boxes: Boxes) -> tuple[np.ndarray, np.ndarray]:
        """Where boxes appear: (N, 4) corners within the image, px, and (N,) whether any of it does.

        What is behind the lens is cut off exactly.
        """
        corners = transform_points(self.T_camera_base, boxes.corners().reshape(-1, 3)).reshape(-1, 8, 3)
        ends = corners[:, _EDGES]  # (N, 12, 2, 3)
        a, b = ends[:, :, 0], ends[:, :, 1]
        step = b[..., 2] - a[..., 2]
        share = (_NEAR_M - a[..., 2]) / np.where(step == 0, 1.0, step)
        cut = a + np.clip(share, 0.0, 1.0)[..., None] * (b - a)
        before_a, before_b = a[..., 2] >= _NEAR_M, b[..., 2] >= _NEAR_M
        places = np.concatenate([a, b, cut], axis=1)
        seen = np.concatenate([before_a, before_b, before_a != before_b], axis=1)
        pixels = (places @ self.intrinsics.T)[..., :2] / np.where(seen, places[..., 2], 1.0)[..., None]
        low = np.where(seen[..., None], pixels, np.inf).min(axis=1, initial=np.inf)
        high = np.where(seen[..., None], pixels, -np.inf).max(axis=1, initial=-np.inf)
        limit = np.array(self.size) - 0.5
        found = np.concatenate([np.clip(low, -0.5, limit), np.clip(high, -0.5, limit)], axis=1)
        return found, (found[:, 2:] > found[:, :2]).all(axis=1)
