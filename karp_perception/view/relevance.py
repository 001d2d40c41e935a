"""Which of many objects deserve a name, a fill and an arrow in a drawing, and which only an outline."""

from __future__ import annotations

import numpy as np

from karp_perception.core import ObjectClass, Objects, Vehicle

MOVING_SPEED = 0.5  # m/s
_SIGNIFICANT = 3.0  # standard deviations by which a speed must stand out to be believed
_BESIDE = 3.0  # m beside the path within which something without a class matters
_RANGE = 40.0  # m
_STRAIGHT_AHEAD = 15.0  # m, looked at along the x axis where the path is shorter


def speeds(objects: Objects) -> np.ndarray:
    """(N,) m/s."""
    return np.hypot(objects.boxes.velocity[:, 0], objects.boxes.velocity[:, 1])


def moving(objects: Objects) -> np.ndarray:
    """(N,) mask of objects whose speed is more than the uncertainty of their velocity explains."""
    variance = np.maximum(objects.covariance[:, 4, 4], objects.covariance[:, 5, 5])
    speed = speeds(objects)
    return (speed >= MOVING_SPEED) & (speed > _SIGNIFICANT * np.sqrt(np.maximum(variance, 0)))


def relevant(objects: Objects, path: np.ndarray, vehicle: Vehicle, target_id: int | None) -> np.ndarray:
    """(N,) mask of the target, of all with a class, and of others that stand in or right beside the way.

    Args:
        objects: in base_link.
        path: (P, 2 or more) x, y of the planned way, m; may be empty.
    """
    if len(objects) == 0:
        return np.zeros(0, bool)
    straight = np.arange(0.0, vehicle.front + _STRAIGHT_AHEAD, 1.0)
    way = np.vstack([np.stack([straight, 0 * straight], axis=1), path[:, :2]]) if len(path) < 2 else path[:, :2]
    footprints = objects.boxes.footprint()
    spots = np.concatenate([footprints, footprints.mean(axis=1, keepdims=True)], axis=1)
    away = np.linalg.norm(spots[:, :, None] - way[None, None], axis=-1).min(axis=(1, 2))
    center = objects.boxes.center
    ahead = (center[:, 0] > -vehicle.rear) & (np.hypot(center[:, 0], center[:, 1]) < _RANGE)
    in_way = ahead & (away < 0.5 * vehicle.width + _BESIDE)
    has_class = objects.boxes.label != ObjectClass.UNKNOWN
    is_target = objects.track_id == target_id if target_id is not None else np.zeros(len(objects), bool)
    return is_target | has_class | in_way
