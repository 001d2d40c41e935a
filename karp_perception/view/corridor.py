"""The strip of ground a vehicle sweeps along its planned path, and the place of the obstacle that decides on it."""

from __future__ import annotations

import numpy as np

from karp_perception.core import Trajectory, Vehicle

_SPACING = 0.5  # m between the points of an edge
_STANDING = 0.3  # m; a shorter way is drawn as none


def resampled(trajectory: Trajectory, spacing: float = _SPACING) -> np.ndarray:
    """(N, 4) x, y (m), yaw (rad) and speed (m/s) at equal distances along a trajectory; N = 0 where it stands still."""
    if len(trajectory) < 2:
        return np.zeros((0, 4))
    way = np.r_[0, np.cumsum(np.hypot(np.diff(trajectory.x), np.diff(trajectory.y)))]
    if way[-1] < _STANDING:
        return np.zeros((0, 4))
    moving = np.r_[True, np.diff(way) > 1e-6]
    at = np.linspace(0, way[-1], max(2, int(np.ceil(way[-1] / spacing)) + 1))
    yaw = np.unwrap(trajectory.yaw[moving])
    columns = (trajectory.x[moving], trajectory.y[moving], yaw, trajectory.speed[moving])
    return np.stack([np.interp(at, way[moving], column) for column in columns], axis=1)


def edges(path: np.ndarray, vehicle: Vehicle) -> tuple[np.ndarray, np.ndarray]:
    """Left and right edge (N, 2), m, of what the vehicle's front sweeps along a path (N, 3 or more: x, y, yaw)."""
    if len(path) == 0:
        return np.zeros((0, 2)), np.zeros((0, 2))
    along = np.stack([np.cos(path[:, 2]), np.sin(path[:, 2])], axis=1)
    left = np.stack([-along[:, 1], along[:, 0]], axis=1) * (0.5 * vehicle.width)
    nose = path[:, :2] + along * vehicle.front
    # The bumper is ahead of the path's points: the strip begins at the bumper as it is now.
    return nose + left, nose - left


def point_ahead(path: np.ndarray, vehicle: Vehicle, distance: float) -> tuple[float, float, float]:
    """x, y (m), heading (rad) `distance` m before the front bumper, along the path and straight on beyond its end."""
    if len(path) == 0:
        return vehicle.front + distance, 0.0, 0.0
    nose = path[:, :2] + vehicle.front * np.stack([np.cos(path[:, 2]), np.sin(path[:, 2])], axis=1)
    way = np.r_[0, np.cumsum(np.hypot(*np.diff(nose, axis=0).T))]
    beyond = max(0.0, distance - way[-1])
    x, y, yaw = (float(np.interp(distance, way, column)) for column in (nose[:, 0], nose[:, 1], path[:, 2]))
    return x + beyond * np.cos(yaw), y + beyond * np.sin(yaw), yaw


def bar(path: np.ndarray, vehicle: Vehicle, distance: float) -> np.ndarray:
    """(2, 2) ends, m, of a line across the way at `distance` m before the bumper, a little wider than the vehicle."""
    x, y, yaw = point_ahead(path, vehicle, distance)
    half = 0.5 * vehicle.width + 0.25
    middle, side = np.array([x, y]), half * np.array([-np.sin(yaw), np.cos(yaw)])
    return np.stack([middle + side, middle - side])
