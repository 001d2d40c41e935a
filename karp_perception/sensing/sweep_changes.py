"""Changes to the points of a sweep: fewer of them, noisier ones, other intensities, weather.

Every function takes a LidarSweep in `base_link` and gives another one; all chance comes from the generator.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from karp_perception.core import CameraFrame, LidarSweep
from karp_perception.core.geometry import invert_pose

_FOG_MOR_EXTINCTION = 2.996  # extinction times meteorological optical range: contrast falls to 5 % (WMO definition)
_CLEAR_REACH_M = 70.0  # at which half of the pulses that met an average surface come back in clear air
_REACH_SPREAD = 0.35  # standard deviation of the logarithm of that, over surfaces
_HAZE_POINTS = 0.12  # share of lost pulses that come back from fog close by
_HAZE_DEPTH_M = 4.0
_DROP_POINTS = 0.25  # share of pulses lost in rain that come back from a drop
_BLIND_M = 1.5  # nearer than which drivers give no points


def chosen(sweep: LidarSweep, kept: np.ndarray) -> LidarSweep:
    """The points of a mask (N,) or of indices."""
    return replace(sweep, points=sweep.points[kept], time=None if sweep.time is None else sweep.time[kept])


def dropped(sweep: LidarSweep, share: float, rng: np.random.Generator) -> LidarSweep:
    """Without a random share of its points."""
    return chosen(sweep, rng.random(len(sweep.points), np.float32) >= share)


def with_range_noise(
    sweep: LidarSweep, sigma_m: float, rng: np.random.Generator, origin: np.ndarray | tuple[float, ...]
) -> LidarSweep:
    """Each point moved along its ray from `origin` (3,) by a normal error of `sigma_m`."""
    offset = sweep.points[:, :3] - np.asarray(origin, np.float32)
    distance = np.sqrt(np.einsum("ij,ij->i", offset, offset))
    share = rng.standard_normal(len(offset), np.float32) * np.float32(sigma_m) / np.maximum(distance, np.float32(0.1))
    points = sweep.points.copy()
    points[:, :3] += offset * share[:, None]
    return replace(sweep, points=points)


def with_intensity(sweep: LidarSweep, scale: float, gamma: float) -> LidarSweep:
    """Intensity i becomes scale * i ** gamma, at most 1 (at most what it was before, where that is more)."""
    points = sweep.points.copy()
    before = np.maximum(points[:, 3], 0.0)
    points[:, 3] = np.minimum(np.float32(scale) * before ** np.float32(gamma), max(1.0, float(before.max(initial=0.0))))
    return replace(sweep, points=points)


def with_constant_intensity(sweep: LidarSweep, value: float) -> LidarSweep:
    """Every point says the same, as sensors do whose driver gives no intensity."""
    points = sweep.points.copy()
    points[:, 3] = value
    return replace(sweep, points=points)


def in_view_of(sweep: LidarSweep, camera: CameraFrame) -> LidarSweep:
    """The points that a camera's image covers: all that KITTI's object frames keep."""
    return chosen(sweep, view_mask(sweep, camera))


def view_mask(sweep: LidarSweep, camera: CameraFrame) -> np.ndarray:
    """(N,) mask of the points that a camera's image covers, by a pinhole."""
    T, K = invert_pose(camera.T_base_camera).astype(np.float32), camera.intrinsics.astype(np.float32)
    u, v, depth = (sweep.points[:, :3] @ (K @ T[:3, :3]).T + K @ T[:3, 3]).T
    height, width = camera.image.shape[:2]
    return (depth > 0) & (u >= 0) & (u <= (width - 1) * depth) & (v >= 0) & (v <= (height - 1) * depth)


def without_sector(sweep: LidarSweep, middle: float, width: float) -> LidarSweep:
    """Without the points whose azimuth lies within `width` / 2 of `middle` (rad): something stands before the lidar."""
    azimuth = np.arctan2(sweep.points[:, 1], sweep.points[:, 0])
    return chosen(sweep, np.abs((azimuth - middle + np.pi) % (2 * np.pi) - np.pi) > 0.5 * width)


def in_fog(
    sweep: LidarSweep, visibility_m: float, rng: np.random.Generator, origin: np.ndarray | tuple[float, ...]
) -> LidarSweep:
    """Seen through fog in which a dark object can be made out at `visibility_m`.

    The light that comes back falls by exp(-2 a r), a = 2.996 / visibility, against the reach of an average surface in
    clear air; part of what is lost comes back from the fog itself, a few metres ahead. After Bijelic et al., "A
    benchmark for lidar sensors in fog" (IV 2018), and Hahner et al., "Fog simulation on real LiDAR point clouds"
    (ICCV 2021), without their waveforms.
    """
    extinction = _FOG_MOR_EXTINCTION / visibility_m
    unit, distance = _rays(sweep, origin)
    # Power falls with the square of distance in clear air: that on top, a surface's reach says how much it can lose.
    reach = _CLEAR_REACH_M * np.exp(_REACH_SPREAD * rng.standard_normal(len(distance), np.float32))
    margin = 2.0 * np.log(np.maximum(reach / np.maximum(distance, 1.0), 1.0))
    lost = 2.0 * extinction * distance > margin
    back = lost & (rng.random(len(distance), np.float32) < _HAZE_POINTS)
    haze = _BLIND_M + rng.exponential(_HAZE_DEPTH_M * min(1.0, visibility_m / 50.0), len(distance))
    back &= haze < distance
    return _with_air_points(sweep, ~lost, back, unit, haze, np.exp(-2.0 * extinction * distance), origin)


def in_rain(
    sweep: LidarSweep, lost_share: float, rng: np.random.Generator, origin: np.ndarray | tuple[float, ...]
) -> LidarSweep:
    """In rain that swallows a share of the pulses, the farther the more, and answers some of them itself.

    `lost_share` is that at 40 m; at distance r it is 1 - (1 - lost_share) ** (r / 40).
    """
    unit, distance = _rays(sweep, origin)
    passed = (1.0 - lost_share) ** (distance / 40.0)
    lost = rng.random(len(distance), np.float32) > passed
    back = lost & (rng.random(len(distance), np.float32) < _DROP_POINTS)
    drop = _BLIND_M + rng.random(len(distance)) ** 2 * 20.0
    back &= drop < distance
    return _with_air_points(sweep, ~lost, back, unit, drop, passed, origin)


def _rays(sweep: LidarSweep, origin: np.ndarray | tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) unit directions and (N,) distances of points from the origin."""
    offset = sweep.points[:, :3] - np.asarray(origin, np.float32)
    distance = np.sqrt(np.einsum("ij,ij->i", offset, offset))
    return offset / np.maximum(distance, np.float32(1e-3))[:, None], distance


def _with_air_points(
    sweep: LidarSweep,
    kept: np.ndarray,
    back: np.ndarray,
    unit: np.ndarray,
    air_distance: np.ndarray,
    brightness: np.ndarray,
    origin: np.ndarray | tuple[float, ...],
) -> LidarSweep:
    """The points of `kept`, dimmed by `brightness` (N,), and those of `back` moved to `air_distance` on their rays."""
    points = sweep.points.copy()
    points[:, 3] *= brightness.astype(np.float32)
    points[back, :3] = np.asarray(origin, np.float32) + unit[back] * air_distance[back, None].astype(np.float32)
    return chosen(replace(sweep, points=points), kept | back)
