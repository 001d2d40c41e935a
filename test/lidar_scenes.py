"""Lidar sweeps of analytic scenes: real beam tables, ground as a function of place, boxes, range noise.

A few dozen lines that share nothing with the package but its types, so that tests know the truth from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from karp_perception.core.boxes import Boxes
from karp_perception.core.frames import LidarSweep

Ground = Callable[[np.ndarray, np.ndarray], np.ndarray]

# Elevations in degrees: Velodyne VLP-16, HDL-32E, HDL-64E S2; for 128 the pattern of a VLS-128, dense at the horizon.
BEAMS = {
    16: np.arange(-15.0, 15.1, 2.0),
    32: np.linspace(-30.67, 10.67, 32),
    64: np.concatenate([np.linspace(2.0, -8.33, 32), np.linspace(-8.83, -24.33, 32)]),
    128: np.concatenate([np.linspace(-25, -7, 28), np.linspace(-6.67, 2.2, 81), np.linspace(2.6, 15, 19)]),
}


def flat(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Level ground through the origin."""
    return np.zeros(np.broadcast_shapes(np.shape(x), np.shape(y)))


def boxes(*rows: tuple[float, ...]) -> Boxes:
    """Boxes from rows x, y, bottom, length, width, height, yaw in degrees."""
    a = np.array(rows, float).reshape(-1, 7)
    center = np.column_stack([a[:, 0], a[:, 1], a[:, 2] + 0.5 * a[:, 5]])
    n = len(a)
    return Boxes(center, a[:, 3:6], np.radians(a[:, 6]), np.zeros((n, 2)), np.zeros(n), np.ones(n))


def car(x: float, y: float, yaw_deg: float = 0.0, bottom: float = 0.0) -> Boxes:
    """A car's body (row 0: its footprint is the car's) and its cabin, 4.5 x 1.8 m, with a gap below."""
    c, s = np.cos(np.radians(yaw_deg)), np.sin(np.radians(yaw_deg))
    return boxes(
        (x, y, bottom + 0.2, 4.5, 1.8, 0.75, yaw_deg), (x - 0.3 * c, y - 0.3 * s, bottom + 0.9, 2.4, 1.5, 0.6, yaw_deg)
    )


def scan(
    things: Sequence[Boxes] = (),
    ground: Ground = flat,
    *,
    beams: int = 64,
    step_deg: float = 0.4,
    sensor_height: float = 1.73,
    noise: float = 0.015,
    max_range: float = 100.0,
    seed: int = 0,
) -> LidarSweep:
    """What a lidar above the origin of base_link, `sensor_height` m over z = 0, sees of the ground and of the boxes."""
    rng = np.random.default_rng(seed)
    azimuth, elevation = np.meshgrid(np.radians(np.arange(0, 360, step_deg)), np.radians(BEAMS[beams]))
    azimuth, elevation = azimuth.ravel(), elevation.ravel()
    ray = np.stack(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], axis=1
    )
    origin = np.array([0.0, 0.0, sensor_height])
    distance = _ground_distance(origin, ray, ground, max_range)
    solid = Boxes.concatenate(things)
    for center, size, yaw in zip(solid.center, solid.size, solid.yaw, strict=True):
        distance = np.minimum(distance, _box_distance(origin, ray, center, size, yaw))
    hit = (distance < max_range) & (distance > 0.5)
    distance = distance[hit] + rng.normal(0.0, noise, hit.sum())
    points = origin + ray[hit] * distance[:, None]
    return as_sweep(points)


def as_sweep(points: np.ndarray) -> LidarSweep:
    """A sweep of (N, 3) points."""
    points = np.asarray(points, np.float32).reshape(-1, 3)
    return LidarSweep(np.column_stack([points, np.full(len(points), 0.3, np.float32)]), 0)


def _ground_distance(origin: np.ndarray, ray: np.ndarray, ground: Ground, max_range: float) -> np.ndarray:
    """Marching in growing steps to the first place below ground, then bisection; at once for level ground."""
    if ground is flat:
        with np.errstate(divide="ignore"):
            return np.where(ray[:, 2] < 0, -origin[2] / ray[:, 2], np.inf)
    steps = 0.5 * 1.02 ** np.arange(280)
    steps = steps[steps < max_range]
    low, high = np.full(len(ray), np.nan), np.full(len(ray), np.inf)
    above = np.ones(len(ray), bool)
    for before, here in pairwise(steps):
        at = origin + ray[above] * here
        below = at[:, 2] < ground(at[:, 0], at[:, 1])
        rows = np.flatnonzero(above)[below]
        low[rows], high[rows] = before, here
        above[rows] = False
    rows = np.flatnonzero(np.isfinite(high))
    a, b = low[rows], high[rows]
    for _ in range(12):
        middle = 0.5 * (a + b)
        at = origin + ray[rows] * middle[:, None]
        below = at[:, 2] < ground(at[:, 0], at[:, 1])
        a, b = np.where(below, a, middle), np.where(below, middle, b)
    high[rows] = b
    return high


def _box_distance(origin: np.ndarray, ray: np.ndarray, center: np.ndarray, size: np.ndarray, yaw: float) -> np.ndarray:
    """Slab test in the axes of the box."""
    c, s = np.cos(yaw), np.sin(yaw)
    turn = np.array([[c, s, 0], [-s, c, 0], [0, 0, 1]])
    start, direction = turn @ (origin - center), ray @ turn.T
    with np.errstate(divide="ignore", invalid="ignore"):
        one, other = (-0.5 * size - start) / direction, (0.5 * size - start) / direction
    enter = np.minimum(one, other).max(axis=1)
    leave = np.maximum(one, other).min(axis=1)
    return np.where((enter <= leave) & (enter > 0), enter, np.inf)
