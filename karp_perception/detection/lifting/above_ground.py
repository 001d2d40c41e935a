"""A sweep without its ground, and the ground itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core import LidarSweep
from karp_perception.detection.ground import GroundEstimator, GroundSurface

_MAX_HEIGHT_M = 30.0  # above and below base_link; beyond is no road
_CLEARANCE_M, _MOST_UNSURE_M = 0.15, 0.2


@dataclass(frozen=True)
class AboveGround:
    """What stands on the ground.

    Attributes:
        xyz: (N, 3) float32 m, points above it.
        surface: the ground.
    """

    xyz: np.ndarray
    surface: GroundSurface

    @classmethod
    def of(cls, sweep: LidarSweep, estimator: GroundEstimator) -> AboveGround:
        """Of a sweep in `base_link`."""
        x, y, z = np.ascontiguousarray(sweep.points[:, :3].T)
        reach = np.float32(estimator.settings.max_range)
        with np.errstate(over="ignore"):
            used = (x * x + y * y < reach * reach) & (np.abs(z) < _MAX_HEIGHT_M)
        x, y, z = x[used], y[used], z[used]
        where = estimator.grid.locate(x, y)
        surface = estimator.estimate(z, *where)
        above = z - surface.height_at(x, y, where)
        unsure = np.minimum(surface.sigma, _MOST_UNSURE_M).astype(np.float32).reshape(-1)[where[0]]
        solid = above > np.float32(_CLEARANCE_M) + unsure
        return cls(np.column_stack([x[solid], y[solid], z[solid]]), surface)

    def ground_at(self, xy: np.ndarray) -> np.ndarray:
        """(N,) height of the ground at places (N, 2), m; what is out of reach is as high as the farthest ground."""
        reach = 0.999 * self.surface.grid.edges[-1]
        distance = np.linalg.norm(xy, axis=1)
        inside = xy * np.minimum(1.0, reach / np.maximum(distance, 1e-6))[:, None]
        x, y = np.ascontiguousarray(inside.T, np.float32)
        return self.surface.height_at(x, y).astype(np.float64)


def flat_ground(xy: np.ndarray) -> np.ndarray:
    """(N,) height of the ground where nothing measures it: `base_link` stands on it."""
    return np.zeros(len(xy))
