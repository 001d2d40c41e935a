"""What hides what from a lidar: directions in small cells, and silhouettes in them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from karp_perception.core import Boxes

_CELL_RAD = np.radians(0.45)  # about the distance of beams of the lidars that are trained with
_CLOSING = np.ones((5, 5), np.uint8)  # cells: gaps between beams, and windows
_CLEARANCE_M = 0.3  # between the ground and the lowest points of an object
_MARGIN_M = 0.3  # what is nearer by more than that stands before an object


@dataclass(frozen=True)
class Directions:
    """Points seen from where the beams start.

    Attributes:
        azimuth, elevation: (N,) float32 rad.
        distance: (N,) float32 m.
    """

    azimuth: np.ndarray
    elevation: np.ndarray
    distance: np.ndarray

    @classmethod
    def of(cls, points: np.ndarray, origin: np.ndarray) -> Directions:
        """Of points (N, 3 or more) from the origin (3,), m."""
        offset = points[:, :3] - origin.astype(np.float32)
        level = np.hypot(offset[:, 0], offset[:, 1])
        distance = np.hypot(level, offset[:, 2])
        return cls(np.arctan2(offset[:, 1], offset[:, 0]), np.arctan2(offset[:, 2], level), distance)

    def of_rows(self, rows: np.ndarray) -> Directions:
        """Those of a mask (N,) or of indices."""
        return Directions(self.azimuth[rows], self.elevation[rows], self.distance[rows])


class Silhouette:
    """Where an object's points lie in the lidar's field of view.

    Args:
        seen: directions of its points (P,), P > 0.

    Attributes:
        cells: (rows, columns) mask of directions, the lowest first, that the object fills down to the ground.
    """

    def __init__(self, seen: Directions) -> None:
        self._middle = float(np.arctan2(np.sin(seen.azimuth).mean(), np.cos(seen.azimuth).mean()))
        self._nearest = float(seen.distance.min())
        pad = 3 * _CELL_RAD  # room for closing
        azimuth = self._relative(seen.azimuth)
        self._low = np.array([azimuth.min() - pad, seen.elevation.min() - pad - _CLEARANCE_M / self._nearest])
        high = np.array([azimuth.max() + pad, seen.elevation.max() + pad])
        self._cells = np.ceil((high - self._low) / _CELL_RAD).astype(int)
        self._half = 0.5 * self._cells * _CELL_RAD
        self._center = self._low + self._half
        self._points, _ = self._cell(seen)
        # Down to the ground: what is seen below an object's lowest points lies before it.
        self.cells = np.logical_or.accumulate(self._closed(self._points)[::-1])[::-1]

    def hides(self, scene: Directions, points: np.ndarray, origin: np.ndarray, box: Boxes) -> np.ndarray:
        """Numbers of the scene's points (N, 3 or more) whose ray first passes the silhouette inside the object's box.

        Args:
            scene: their directions.
            points: themselves.
            origin: (3,) of the rays.
            box: of the object, one row.
        """
        near = self._window(scene)
        column, inside = self._cell(scene, near)
        near = near[inside][self.cells.ravel()[column]]
        entry = _entry(points[near, :3].astype(np.float64) - origin, origin, box)
        return near[entry < 1.0]

    def hidden_by(self, scene: Directions, standing: np.ndarray) -> np.ndarray:
        """(P,) mask of the object's points before which others stand.

        Args:
            scene: directions of points (N,).
            standing: (N,) mask of those that can hide something: not the ground.
        """
        near = self._window(scene)
        near = near[(scene.distance[near] < self._nearest - _MARGIN_M)]
        near = near[standing[near]]
        column, _ = self._cell(scene, near)
        return self._closed(column).ravel()[self._points]

    def _relative(self, azimuth: np.ndarray) -> np.ndarray:
        """Azimuths against the silhouette's middle, -pi to pi."""
        offset = azimuth - np.float32(self._middle)
        offset[offset > np.pi] -= np.float32(2 * np.pi)
        offset[offset < -np.pi] += np.float32(2 * np.pi)
        return offset

    def _window(self, scene: Directions) -> np.ndarray:
        """Numbers of the scene's points near the silhouette."""
        rows = np.flatnonzero(np.abs(scene.elevation - np.float32(self._center[1])) < np.float32(self._half[1]))
        return rows[np.abs(self._relative(scene.azimuth[rows]) - np.float32(self._center[0])) < self._half[0]]

    def _cell(self, scene: Directions, rows: np.ndarray | slice = slice(None)) -> tuple[np.ndarray, np.ndarray]:
        """Cell of each point that has one, and (N,) mask of those points."""
        x = ((self._relative(scene.azimuth[rows]) - self._low[0]) / _CELL_RAD).astype(np.int32)
        y = ((scene.elevation[rows] - self._low[1]) / _CELL_RAD).astype(np.int32)
        inside = (x >= 0) & (x < self._cells[0]) & (y >= 0) & (y < self._cells[1])
        return y[inside] * self._cells[0] + x[inside], inside

    def _closed(self, cells: np.ndarray) -> np.ndarray:
        """(rows, columns) mask of cells with points, and those in gaps between them."""
        image = np.zeros(self._cells[::-1], np.uint8)
        image.ravel()[cells] = 1
        return cv2.morphologyEx(image, cv2.MORPH_CLOSE, _CLOSING).astype(bool)


def _entry(rays: np.ndarray, origin: np.ndarray, box: Boxes) -> np.ndarray:
    """(N,) at which share of each ray (N, 3) from the origin it enters the box; infinite where it misses.

    Slabs, as in Kay and Kajiya, "Ray tracing complex scenes" (SIGGRAPH 1986).
    """
    c, s = np.cos(box.yaw[0]), np.sin(box.yaw[0])
    turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    start, along, half = turn @ (origin - box.center[0]), rays @ turn.T, 0.5 * box.size[0]
    along = np.where(np.abs(along) < 1e-9, 1e-9, along)
    a, b = (-half - start) / along, (half - start) / along
    first, last = np.minimum(a, b).max(axis=1), np.maximum(a, b).min(axis=1)
    return np.where((first <= last) & (last > 0), np.maximum(first, 0.0), np.inf)
