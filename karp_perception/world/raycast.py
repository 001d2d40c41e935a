"""A spinning lidar by ray casting: tapered boxes on a street, with noise, drop-outs and see-through materials."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from karp_perception.world.solids import MATERIALS, Material, Solids
from karp_perception.world.street import Street

_TINY = np.float32(1e-9)
_INTENSITY = np.array([MATERIALS[m].intensity for m in Material])
_PASSES = np.array([MATERIALS[m].passes for m in Material])
_HIT_INSIDE = np.array([MATERIALS[m].hit_inside for m in Material])


@dataclass(frozen=True)
class LidarModel:
    """A lidar that turns once a sweep and looks forward at the sweep's stamp (its turn begins and ends behind)."""

    beams: int = 64
    columns: int = 1024
    lowest: float = -25.0  # degrees
    highest: float = 3.0  # degrees
    height: float = 1.85  # m above the ground, over the origin of base_link
    max_range: float = 90.0  # m
    min_range: float = 1.5  # m; closer returns come from the vehicle itself and are not reported
    range_noise: float = 0.015  # m, standard deviation
    dropout: float = 0.015  # share of returns that are lost for no reason
    sweep_time: float = 0.1  # s for a turn; 0 for a sweep taken at one instant

    @property
    def origin(self) -> np.ndarray:
        """(3,) m in base_link."""
        return np.array([0.0, 0.0, self.height])

    def elevation(self) -> np.ndarray:
        """(beams,) rad, downwards first: closer together near the horizon, as on sensors made for roads."""
        low, high = np.deg2rad(self.lowest), np.deg2rad(self.highest)
        u = np.linspace(0, 1, self.beams)
        return low + (high - low) * (1.6 * u - 0.6 * u**2)

    def azimuth(self) -> np.ndarray:
        """(columns,) rad, from behind clockwise: the middle column looks forward."""
        return np.pi - (np.arange(self.columns) + 0.5) * (2 * np.pi / self.columns)

    def time(self) -> np.ndarray:
        """(columns,) s of each column relative to the stamp."""
        return ((np.arange(self.columns) + 0.5) / self.columns - 0.5) * self.sweep_time


@dataclass(frozen=True)
class Motion:
    """How the scene and the sensor move during a sweep: velocities over ground in base_link, m/s and rad/s."""

    ego_velocity: np.ndarray  # (2,)
    ego_yaw_rate: float
    solid_velocity: np.ndarray  # (N, 2), a row for each solid


@dataclass(frozen=True)
class Returns:
    """What came back.

    Attributes:
        points: (M, 4) float32 x y z (m, base_link as it stood when the ray was fired) and intensity 0..1.
        time: (M,) float32 s relative to the stamp.
        owner: (M,) number of the body hit (see Solids), 0 for the ground.
    """

    points: np.ndarray
    time: np.ndarray
    owner: np.ndarray


class Lidar:
    """Casts the rays of a model. Every random number comes from the generator given to `sweep`."""

    def __init__(self, model: LidarModel) -> None:
        self.model = model
        self._elevation, self._azimuth = model.elevation(), model.azimuth()
        cos = np.cos(self._elevation)[:, None]
        azimuth = self._azimuth[None]
        self._fired = np.stack(
            [cos * np.cos(azimuth), cos * np.sin(azimuth), np.sin(self._elevation)[:, None] + 0 * azimuth], axis=-1
        ).astype(np.float32)

    def sweep(
        self, solids: Solids, street: Street, ego: tuple[float, float, float], motion: Motion, rng: np.random.Generator
    ) -> Returns:
        """One turn.

        Args:
            solids: the scene in base_link at the stamp.
            street: the ground.
            ego: x, y (m) and yaw (rad) of base_link in the street's frame.
            motion: what moves while the lidar turns.
        """
        model = self.model
        time = model.time().astype(np.float32)
        # The vehicle's own pose at the time of each column, as seen from its pose at the stamp.
        heading = np.float32(motion.ego_yaw_rate) * time
        shift = (motion.ego_velocity[None] * time[:, None]).astype(np.float32)
        c, s = np.cos(heading), np.sin(heading)
        fx, fy, fz = self._fired[..., 0], self._fired[..., 1], self._fired[..., 2]
        directions = np.stack([c * fx - s * fy, s * fx + c * fy, fz])  # (3, beams, columns)
        origin = np.stack([shift[:, 0], shift[:, 1], np.full_like(time, model.height)])  # (3, columns)

        distance, material = street.cast(origin, directions, ego)
        distance = np.where(distance < model.max_range, distance, np.float32(np.inf)).astype(np.float32)
        hit = np.full(distance.shape, -1, np.int32)
        luck = rng.random(distance.shape, dtype=np.float32)
        for index, rows, columns in self._windows(solids, motion):
            velocity, local_origin = motion.solid_velocity[index], origin[:, columns]
            if velocity.any():
                local_origin = local_origin.copy()
                local_origin[:2] -= velocity.astype(np.float32)[:, None] * time[columns]
            t_in, t_out = _enter_and_leave(solids, index, local_origin, directions[:, rows, columns])
            kind = solids.material[index]
            chance = luck[rows, columns]
            if _HIT_INSIDE[kind]:
                t_in = t_in + (t_out - t_in) * chance
            here = (t_in > 0) & (t_in < t_out) & (t_in < distance[rows, columns]) & (chance >= _PASSES[kind])
            np.copyto(distance[rows, columns], t_in, where=here)
            np.copyto(material[rows, columns], kind, where=here)
            np.copyto(hit[rows, columns], index, where=here)
        return self._measured(distance, material, hit, solids, time, rng)

    def _windows(self, solids: Solids, motion: Motion) -> list[tuple[int, slice, slice]]:
        """The rays that can meet each solid, as slices of beams and columns; two where it lies across the rear."""
        model = self.model
        offset = solids.corners() - model.origin
        flat = np.linalg.norm(offset[..., :2], axis=-1)
        center = solids.center[:, :2]
        reach = 0.5 * np.linalg.norm(solids.size[:, :2], axis=1)
        # What moves against the vehicle during half a turn may be met from beside its place at the stamp.
        speed = np.linalg.norm(motion.solid_velocity - motion.ego_velocity, axis=1)
        reach = reach + 0.5 * model.sweep_time * (speed + abs(motion.ego_yaw_rate) * flat.max(axis=1)) + 0.01
        distance = np.linalg.norm(center, axis=1)
        nearest = np.maximum(distance - reach, 0.05)
        bearing = np.arctan2(center[:, 1], center[:, 0])
        half = np.where(distance > reach, np.arcsin(np.minimum(reach / np.maximum(distance, 1e-9), 1)), np.pi)
        top, bottom = offset[..., 2].max(axis=1), offset[..., 2].min(axis=1)
        farthest = distance + reach
        highest = np.arctan2(top, np.where(top > 0, nearest, farthest))
        lowest = np.arctan2(bottom, np.where(bottom > 0, farthest, nearest))
        first = np.searchsorted(self._elevation, lowest - 1e-3)
        last = np.searchsorted(self._elevation, highest + 1e-3)
        per_radian = model.columns / (2 * np.pi)
        left = np.floor((np.pi - bearing - half) * per_radian).astype(int) - 1
        right = np.ceil((np.pi - bearing + half) * per_radian).astype(int) + 1
        windows = []
        solid = _PASSES[solids.material] < 1
        outside = (solids.facing * solids.center[:, :2]).sum(axis=1) <= 0
        for i in np.flatnonzero(solid & outside & (nearest < model.max_range) & (first < last)):
            rows = slice(int(first[i]), int(last[i]))
            lo, hi, n = int(left[i]), int(right[i]), model.columns
            if hi - lo >= n:
                spans = [(0, n)]
            elif lo < 0:
                spans = [(0, hi), (lo + n, n)] if hi > 0 else [(lo + n, hi + n)]
            else:
                spans = [(lo, min(hi, n)), (0, hi - n)] if hi > n else [(lo, hi)]
            windows += [(int(i), rows, slice(a, b)) for a, b in spans if a < b]
        return windows

    def _measured(
        self,
        distance: np.ndarray,
        material: np.ndarray,
        hit: np.ndarray,
        solids: Solids,
        time: np.ndarray,
        rng: np.random.Generator,
    ) -> Returns:
        model = self.model
        noise = rng.standard_normal(distance.shape, dtype=np.float32)
        kept = rng.random(distance.shape, dtype=np.float32) >= model.dropout
        kept &= (distance > model.min_range) & np.isfinite(distance)
        row, column = np.nonzero(kept)
        kind, body = material[kept], hit[kept]
        true_range, grain = distance[kept], noise[kept]
        measured = true_range + model.range_noise * grain
        xyz = self._fired[kept] * measured[:, None] + model.origin
        # Sensors correct intensity for range, so the material alone decides.
        intensity = np.clip(_INTENSITY[kind] * (1 + 0.12 * grain), 0, 1)
        points = np.concatenate([xyz, intensity[:, None]], axis=1).astype(np.float32)
        owner = np.where(body >= 0, solids.owner[np.maximum(body, 0)], 0)
        # A driver hands points over in the order they were fired.
        order = np.lexsort((row, column))
        return Returns(points[order], time[column].astype(np.float32)[order], owner[order])


def _enter_and_leave(
    solids: Solids, index: int, origin: np.ndarray, directions: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where rays (origins (3, columns), directions (3, beams, columns)) enter and leave a solid's six planes, m."""
    yaw = float(solids.yaw[index])
    c, s = math.cos(yaw), math.sin(yaw)
    ox, oy, oz = origin - solids.center[index].astype(np.float32)[:, None]
    dx, dy, dz = directions
    half = 0.5 * solids.size[index]
    # A face that leans inward by k per metre of height is the plane a + k z = h (1 - taper / 2).
    lean = solids.taper[index] * half[:2] / solids.size[index][2]
    reach = half[:2] * (1 - 0.5 * solids.taper[index])
    t_in, t_out = None, None
    for a, b, k, h in (
        (oz, dz, 0.0, float(half[2])),
        (c * ox + s * oy, c * dx + s * dy, float(lean[0]), float(reach[0])),
        (c * oy - s * ox, c * dy - s * dx, float(lean[1]), float(reach[1])),
    ):
        if k == 0.0:
            # Parallel faces: the slab test of boxes, one division for two planes.
            inverse = 1.0 / np.where(b == 0, _TINY, b)
            middle, extent = -a * inverse, h * np.abs(inverse)
            near, far = middle - extent, middle + extent
            t_in, t_out = (near, far) if t_in is None else (np.maximum(t_in, near), np.minimum(t_out, far))
            continue
        for sign in (1.0, -1.0):
            rate = sign * b + k * dz
            t = (h - sign * a - k * oz) / np.where(rate == 0, _TINY, rate)
            t_in = np.maximum(t_in, np.where(rate < 0, t, -np.inf))
            t_out = np.minimum(t_out, np.where(rate > 0, t, np.inf))
    return t_in, t_out
