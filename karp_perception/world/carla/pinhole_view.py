"""The picture of any camera out of the only one that CARLA has: a pinhole with square pixels, its axis in the middle.

Where a camera is just that, its picture is taken as it comes. Otherwise (a fisheye, a principal point off the middle,
pixels that are not square) CARLA renders a pinhole picture that covers its field of view, and each pixel is looked up
there. What lies farther than 75 degrees from the axis no pinhole shows well: it stays black.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from karp_perception.core.frames import DistortionModel

if TYPE_CHECKING:
    from karp_perception.world.sensors.camera import CameraModel

_WIDEST = math.radians(75.0)  # from the axis, that a pinhole is asked for
_LARGEST_SIDE = 4096  # pixels of a rendered picture
_SAME = 1.0  # pixels by which a camera may differ from CARLA's and still be taken for it


class PinholeView:
    """How to render a camera in CARLA.

    Attributes:
        width, height: of the picture that CARLA renders, pixels.
        focal: its focal length, pixels.
    """

    def __init__(self, camera: CameraModel) -> None:
        self._maps: tuple[np.ndarray, np.ndarray] | None = None
        K, size = camera.intrinsics, (camera.width, camera.height)
        middle = np.array([K[0, 2] - 0.5 * (size[0] - 1), K[1, 2] - 0.5 * (size[1] - 1)])
        plain = np.abs(middle).max() <= _SAME and abs(K[0, 0] - K[1, 1]) * size[1] <= _SAME * K[1, 1]
        if plain and camera.distortion.model is DistortionModel.NONE:
            self.width, self.height, self.focal = *size, float(K[0, 0])
            return
        rays = camera.directions.astype(np.float64)
        ahead = rays[..., 2] > math.cos(_WIDEST)
        slope = rays[..., :2] / np.where(ahead, rays[..., 2], 1.0)[..., None]
        reach = np.abs(slope[ahead]).max(axis=0) if ahead.any() else np.ones(2)
        self.focal = float(min(max(K[0, 0], K[1, 1]), 0.5 * _LARGEST_SIDE / reach.max()))
        # One pixel more on each side: the outermost rays are looked up between two pixels.
        self.width, self.height = (2 * math.ceil(self.focal * r) + 2 for r in reach)
        looked_up = self.focal * slope + 0.5 * (np.array([self.width, self.height]) - 1)
        looked_up = np.where(ahead[..., None], looked_up, -2.0).astype(np.float32)
        self._maps = (np.ascontiguousarray(looked_up[..., 0]), np.ascontiguousarray(looked_up[..., 1]))

    @property
    def fov(self) -> float:
        """Horizontal field of view of the picture that CARLA renders, deg."""
        return math.degrees(2.0 * math.atan(0.5 * self.width / self.focal))

    @property
    def intrinsics(self) -> np.ndarray:
        """(3, 3) of the picture that CARLA renders; pixels count from their middles."""
        f = self.focal
        return np.array([[f, 0, 0.5 * (self.width - 1)], [0, f, 0.5 * (self.height - 1)], [0, 0, 1.0]])

    def picture(self, rendered: np.ndarray) -> np.ndarray:
        """The camera's own image from the rendered one, (H, W, 3) uint8."""
        if self._maps is None:
            return rendered
        return cv2.remap(rendered, *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)

    def numbers(self, rendered: np.ndarray) -> np.ndarray:
        """The same for (H, W) int32, of which nothing can be the mean; 0 where nothing was rendered."""
        if self._maps is None:
            return rendered
        columns, rows = (np.rint(m).astype(np.int64) for m in self._maps)
        inside = (columns >= 0) & (columns < self.width) & (rows >= 0) & (rows < self.height)
        found = rendered[np.clip(rows, 0, self.height - 1), np.clip(columns, 0, self.width - 1)]
        return np.where(inside, found, 0)
