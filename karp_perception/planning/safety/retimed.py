"""The same path, driven slower."""

from __future__ import annotations

import numpy as np

from karp_perception.core import Trajectory

_HORIZON, _STEP = 8.0, 0.1  # s, where a plan has no times of its own


def slowed(
    way: Trajectory, speed: float, started: float, deceleration: float, jerk: float, until: float = 0.0
) -> Trajectory:
    """`way`, but never faster than braking from `speed` with `deceleration` down to `until` allows.

    Args:
        way: what was planned; with fewer than two points the vehicle is braked straight ahead.
        speed: now, m/s; whatever the plan says of it.
        started: acceleration until now, m/s².
        deceleration: m/s², built up with `jerk` (m/s³); 0 keeps the speed.
        until: m/s, where braking ends.
    """
    time = way.time if len(way) > 1 else np.arange(0.0, _HORIZON + 0.5 * _STEP, _STEP)
    dt = np.diff(time)
    built = np.maximum(started - jerk * np.concatenate([[dt[0]], dt[0] + np.cumsum(dt)]), -deceleration)
    lost = np.concatenate([[0.0], np.cumsum(np.minimum(built[:-1], 0.0) * dt)])
    allowed = np.maximum(speed + lost, min(until, speed))
    # A plan that begins at another speed than the vehicle's is followed in how it changes that.
    planned = way.speed + (speed - way.speed[0]) if len(way) > 1 else allowed
    return at_speeds(way, time, np.maximum(np.minimum(allowed, planned), 0.0))


def at_speeds(way: Trajectory, time: np.ndarray, speed: np.ndarray) -> Trajectory:
    """The path of `way`, straight on beyond its end, driven with speeds (T,) m/s at times (T,) s, T > 1."""
    dt = np.diff(time)
    distance = np.concatenate([[0.0], np.cumsum(0.5 * (speed[1:] + speed[:-1]) * dt)])
    acceleration = np.diff(speed) / dt
    x, y, yaw, curvature = _along(way, distance)
    return Trajectory(time, x, y, yaw, speed, np.append(acceleration, acceleration[-1]), curvature)


def stopping_distance(way: Trajectory, deceleration: float) -> float:
    """m until the vehicle stands on a trajectory that goes on braking with `deceleration` (m/s²) beyond its end."""
    if len(way) == 0:
        return 0.0
    driven = float(np.hypot(np.diff(way.x), np.diff(way.y)).sum())
    return driven + 0.5 * float(way.speed[-1]) ** 2 / max(deceleration, 0.1)


def _along(way: Trajectory, distance: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """x, y, yaw and curvature (T,) at distances (T,) along a path."""
    if len(way) == 0:
        return distance, np.zeros_like(distance), np.zeros_like(distance), np.zeros_like(distance)
    along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(way.x), np.diff(way.y)))])
    columns = [np.interp(distance, along, column) for column in (way.x, way.y, way.yaw, way.curvature)]
    beyond = np.maximum(distance - along[-1], 0.0)
    columns[0] = columns[0] + beyond * np.cos(way.yaw[-1])
    columns[1] = columns[1] + beyond * np.sin(way.yaw[-1])
    columns[3] = np.where(beyond > 0.0, 0.0, columns[3])
    return columns[0], columns[1], columns[2], columns[3]
