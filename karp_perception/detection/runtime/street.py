"""A made-up street, seen by cameras and a lidar: inputs on which precisions are compared, the same at every start.

A road with houses along it, parked and driving cars, a lorry, pedestrians and poles, all boxes, cast by rays. What
matters is that a network's layers see what they see in use: dense near ground, sparse far surfaces, edges, texture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core import CameraFrame, LidarSweep, SensorFrame

_IMAGE_WIDTH = 320  # a network's image is as wide or wider; rays cost time
_LIDAR_HEIGHT_M, _CAMERA_HEIGHT_M = 1.8, 1.5
_ELEVATIONS_RAD = np.radians(np.linspace(-24.0, 3.0, 40))
_AZIMUTHS_RAD = np.radians(np.arange(0.0, 360.0, 0.4))
_CAMERA_STEP_RAD = np.radians(55.0)  # between neighbouring cameras, as on a car
_REACH_M = 80.0
_RANGE_NOISE_M = 0.02


@dataclass(frozen=True)
class Street:
    """Upright boxes on flat ground.

    Attributes:
        low, high: (N, 3) m, corners; the sides lie along x and y.
        shade: (N, 3) colour, 0..1.
    """

    low: np.ndarray
    high: np.ndarray
    shade: np.ndarray


def make_street(seed: int) -> Street:
    """A street along x with the sensors at its origin."""
    rng = np.random.default_rng(seed)
    rows = []  # x, y, length, width, height
    for side in (-1, 1):
        rows += [
            (x, side * rng.uniform(11, 16), rng.uniform(8, 15), 6.0, rng.uniform(5, 12)) for x in range(-30, 70, 17)
        ]
        rows += [(x + rng.uniform(-2, 2), side * 4.8, 4.4, 1.8, 1.5) for x in range(-24, 60, 9) if rng.random() < 0.6]
        rows += [(rng.uniform(-20, 40), side * rng.uniform(6.5, 8), 0.5, 0.6, 1.75) for _ in range(4)]
        rows += [(x, side * 6.2, 0.2, 0.2, 5.0) for x in range(-20, 60, 25)]
    rows += [
        (rng.uniform(10, 16), -1.6, 4.5, 1.8, 1.5),
        (rng.uniform(22, 35), 1.8, 9.0, 2.5, 3.4),
        (-14, 1.7, 4.3, 1.8, 1.6),
    ]
    x, y, length, width, height = np.array(rows).T
    half = np.column_stack([length, width, np.zeros(len(x))]) / 2
    middle = np.column_stack([x, y, np.zeros(len(x))])
    high = middle + half
    high[:, 2] = height
    return Street(middle - half, high, rng.uniform(0.15, 0.9, (len(x), 3)))


def cast(street: Street, origin: np.ndarray, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance (m, infinite for the sky) along each ray (R, 3) and what it meets: a box's number, -1 for the ground."""
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = (1.0 / rays.astype(np.float32)).astype(np.float32)
        distance = np.where(rays[:, 2] < 0, -origin[2] * inverse[:, 2], np.inf).astype(np.float32)
        met = np.full(len(rays), -1)
        for number, (low, high) in enumerate(zip(street.low, street.high, strict=True)):
            one, other = (low - origin).astype(np.float32) * inverse, (high - origin).astype(np.float32) * inverse
            near = np.fmin(one, other).max(axis=1)
            far = np.fmax(one, other).min(axis=1)
            hit = (near > 0) & (near <= far) & (near < distance)
            distance[hit], met[hit] = near[hit], number
    return distance, met


def street_frame(seed: int, cameras: int, aspect: float) -> SensorFrame:
    """What a lidar and a ring of cameras deliver, with images of `aspect` (height over width)."""
    rng = np.random.default_rng(seed + 1)
    street = make_street(seed)
    yaws = [(number + 1) // 2 * (1, -1)[number % 2] * _CAMERA_STEP_RAD for number in range(cameras)]
    images: dict[str, CameraFrame | None] = {
        f"camera{i}": _camera(street, yaw, aspect, rng) for i, yaw in enumerate(yaws)
    }
    return SensorFrame(0, images, _sweep(street, rng))


def example_frames(cameras: int, aspect: float) -> list[SensorFrame]:
    """Frames of whole rigs and of what is left of them when sensors fail."""
    first, second = (street_frame(seed, cameras, aspect) for seed in range(2))
    ahead = dict(list(second.cameras.items())[:1])
    return [
        first,
        second,
        SensorFrame(0, {}, first.lidar),
        SensorFrame(0, first.cameras),
        SensorFrame(0, ahead, second.lidar),
    ]


def _sweep(street: Street, rng: np.random.Generator) -> LidarSweep:
    elevation, azimuth = (grid.ravel() for grid in np.meshgrid(_ELEVATIONS_RAD, _AZIMUTHS_RAD))
    level = np.cos(elevation)
    rays = np.column_stack([level * np.cos(azimuth), level * np.sin(azimuth), np.sin(elevation)])
    origin = np.array([0.0, 0.0, _LIDAR_HEIGHT_M])
    distance, met = cast(street, origin, rays)
    seen = (distance < _REACH_M) & (rng.random(len(rays)) < 0.95)
    points = origin + rays[seen] * (distance[seen] + _RANGE_NOISE_M * rng.standard_normal(seen.sum()))[:, None]
    bright = np.append(street.shade.mean(axis=1), 0.25)[met[seen]] * rng.uniform(0.7, 1.0, seen.sum())
    time = (azimuth[seen] / (2 * np.pi) - 1) * 0.1
    return LidarSweep(np.column_stack([points, bright]).astype(np.float32), 0, time.astype(np.float32))


def _camera(street: Street, yaw: float, aspect: float, rng: np.random.Generator) -> CameraFrame:
    width, height = _IMAGE_WIDTH, max(1, round(_IMAGE_WIDTH * aspect))
    focal = width / 2  # 90 degrees
    c, s = np.cos(yaw), np.sin(yaw)
    pose = np.array([[s, 0, c, 0.3 * c], [-c, 0, s, 0.3 * s], [0, -1, 0, _CAMERA_HEIGHT_M], [0, 0, 0, 1.0]])
    intrinsics = np.array([[focal, 0, (width - 1) / 2], [0, focal, 0.45 * height], [0, 0, 1]])
    v, u = np.mgrid[:height, :width].reshape(2, -1)
    local = np.column_stack([(u - intrinsics[0, 2]) / focal, (v - intrinsics[1, 2]) / focal, np.ones(u.size)])
    rays = local @ pose[:3, :3].T
    distance, met = cast(street, pose[:3, 3], rays)
    sky = ~np.isfinite(distance)
    spot = pose[:3, 3] + rays * np.where(sky, 0.0, distance)[:, None]
    # Stripes of a quarter of a metre to a metre across every surface: windows, joints, asphalt.
    texture = 0.12 * np.sin(spot @ (7.0, 2.0, 3.0)) * np.sin(spot @ (1.0, 9.0, 2.0)) + 0.08 * np.sin(
        spot @ (3.0, 1.0, 20.0)
    )
    colour = np.vstack([street.shade, (0.35, 0.35, 0.36)])[met] * (1.0 + texture[:, None])
    colour[sky] = np.array([0.6, 0.75, 0.95]) + 0.2 * rays[sky, 2:3]
    colour += 0.02 * rng.standard_normal(colour.shape)
    image = (255 * np.clip(colour, 0, 1)).astype(np.uint8).reshape(height, width, 3)
    return CameraFrame(image, intrinsics, pose, 0)
