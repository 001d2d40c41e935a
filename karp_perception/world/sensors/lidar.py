"""A lidar on a vehicle: one turn of it in a scene, as its driver would report it."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from functools import lru_cache

import numpy as np

from karp_perception.core import LidarSweep
from karp_perception.core.validation import as_pose
from karp_perception.world.geometry.cast import Carrier, cast
from karp_perception.world.geometry.ground import GroundRays
from karp_perception.world.geometry.scene import SceneRays
from karp_perception.world.sensors.laser_returns import NORMAL, echo_tables, packed, returns, turned
from karp_perception.world.sensors.laser_weather import LaserWeather
from karp_perception.world.sensors.lidar_models import LidarModel
from karp_perception.world.sensors.weather import Weather


@dataclass(frozen=True)
class LidarReturns:
    """A sweep of M points, and what a simulator knows about each.

    Attributes:
        sweep: points in `base_link` as it stood when each was fired, as drivers give them.
        owner: (M,) int64 id of the actor hit, 0 for scenery, ground and air.
        ring: (M,) int16, the lowest beam first.
        column: (M,) int32, the firing.
        surface: (M,) int16 Material, or Surface where it is the ground; AIR for rain and fog.
        ground: (M,) bool, whether the ground was hit.
        fired: pulses in this turn.
    """

    sweep: LidarSweep
    owner: np.ndarray
    ring: np.ndarray
    column: np.ndarray
    surface: np.ndarray
    ground: np.ndarray
    fired: int


class Lidar:
    """A model mounted somewhere.

    Args:
        model: of `lidar_models`.
        T_base_lidar: (4, 4) its pose in `base_link`; x of the sensor looks where it is when half turned around.
        threads: rays are shared out among so many; the outcome is the same.
    """

    def __init__(self, model: LidarModel, T_base_lidar: np.ndarray, threads: int = 2) -> None:
        self.model, self.threads = model, threads
        self.T_base_lidar = as_pose("Lidar.T_base_lidar", T_base_lidar)
        columns, beams = model.columns, model.beams
        elevation = np.radians(model.elevations)
        # Clockwise from the rear: sensors turn so, and their sweeps join behind the vehicle.
        azimuth = (
            np.pi - (np.arange(columns) + 0.5)[:, None] * (2 * np.pi / columns) - np.radians(model.azimuth_offsets)
        )
        level = np.cos(elevation)
        shape = (columns, beams)
        self._directions = np.stack(
            [np.cos(azimuth) * level, np.sin(azimuth) * level, np.broadcast_to(np.sin(elevation), shape)], axis=-1
        ).reshape(-1, 3)
        firing = (np.arange(columns) + 0.5) / columns - model.stamp_at
        self._time = np.repeat(firing * model.sweep_s, beams)
        self._sensor = sensor_numbers(model)
        self._free = ~own_roof(model, self._directions)

    @property
    def origin(self) -> np.ndarray:
        """(3,) m, of its beams in `base_link`."""
        return self.T_base_lidar[:3, 3]

    def directions(self, seed: int) -> np.ndarray:
        """(columns * beams, 3) of unit length in `base_link`, column by column, each ring's from the lowest up.

        The head is where it is when a turn begins: `seed` draws by which part of a column all are turned.
        """
        turn = np.random.default_rng([seed, 3]).uniform(-0.5, 0.5) * 2 * np.pi / self.model.columns
        c, s = np.cos(turn), np.sin(turn)
        R = self.T_base_lidar[:3, :3] @ np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
        return turned(self._directions, R)

    def sweep(
        self,
        scene: SceneRays,
        ground: GroundRays,
        carrier: Carrier,
        stamp_ns: int,
        seed: int,
        weather: Weather | None = None,
    ) -> LidarReturns:
        """One turn.

        Args:
            scene, ground: of `Scene.rays`.
            carrier: pose and motion of `base_link` at the stamp.
            stamp_ns: of the sweep; `LidarModel.stamp_at` says which part of the turn that is.
            seed: of everything random in it; the same seed gives the same bytes.
            weather: None for a clear day.
        """
        model = self.model
        rays = self.directions(seed)
        hits = cast(scene, ground, carrier, self.origin, rays, self._time, model.max_range, seed, self.threads)
        n = len(rays)
        reported, intensity, kind = np.zeros(n), np.zeros(n, np.float32), np.empty(n, np.int64)
        air = astuple(LaserWeather.of(weather))
        tables = echo_tables(scene)
        key = int(np.random.default_rng([seed, 4]).integers(1 << 62))

        def part(span: tuple[int, int]) -> None:
            returns(hits.distance, hits.primitive, hits.surface, hits.incidence, model.beams, self._sensor,
                    model.sensitivity, air, tables, self._free, key, *span, reported, intensity, kind)  # fmt: skip

        edges = np.linspace(0, n, max(1, self.threads) + 1).astype(int)
        list(_pool(self.threads).map(part, [(int(a), int(b)) for a, b in itertools.pairwise(edges)]))
        points, time, *columns = packed(
            reported, intensity, kind, rays, self.origin, self._time, model.beams, hits.owner, hits.surface,
            hits.primitive,
        )  # fmt: skip
        return LidarReturns(LidarSweep(points, stamp_ns, time), *columns, n)


def own_roof(model: LidarModel, directions: np.ndarray) -> np.ndarray:
    """(N,) whether beams in directions (N, 3) of the sensor's frame end on the roof it stands on."""
    if model.roof is None:
        return np.zeros(len(directions), bool)
    below, ahead, behind, aside = model.roof
    down = directions[:, 2] < 0.0
    x, y = (directions[:, k] * below / np.maximum(-directions[:, 2], 1e-9) for k in (0, 1))
    return down & (x < ahead) & (x > -behind) & (np.abs(y) < aside)


def sensor_numbers(model: LidarModel) -> tuple[float | np.ndarray, ...]:
    """What `laser_returns.returns` needs of a model, in its order."""
    half_beam = 0.5 * model.divergence / (2 * np.pi / model.columns)
    return (
        model.min_range, model.max_range, model.noise, model.noise_per_m, model.range_step, min(half_beam, 0.5),
        model.pulse_length, 0.1 / model.reach_at_10**2, model.missing,
        model.intensity_scale, model.intensity_gamma, model.intensity_floor, float(model.intensity_steps),
        NORMAL, np.exp(model.fading * NORMAL), np.exp(model.intensity_noise * NORMAL),
    )  # fmt: skip


@lru_cache(maxsize=4)
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="returns")
