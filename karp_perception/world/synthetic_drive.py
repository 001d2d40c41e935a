"""A short drive along a made-up street: camera, lidar, odometry and the truth, the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from karp_perception.core import Boxes, CameraFrame, EgoState, LidarSweep, ObjectClass, Route, SensorFrame
from karp_perception.core.errors import ConfigurationError
from karp_perception.core.geometry import invert_pose, pose_from_xy_yaw, yaw_of
from karp_perception.world import bodies
from karp_perception.world.painter import Camera, CameraModel
from karp_perception.world.raycast import Lidar, LidarModel, Motion
from karp_perception.world.scenario import Actor, Course, Script, Shape, script
from karp_perception.world.solids import Part, Solids
from karp_perception.world.street import Street

_EGO_STEP = 0.01  # s between the vehicle's own states
_VIEW = 110.0  # m around the vehicle within which things are cast and painted
_BRAKE_LIGHT = -0.4  # m/s² below which brake lights are on


@dataclass(frozen=True)
class SyntheticFrame:
    """What the sensors of one moment say, and what is true.

    Attributes:
        stamp_ns: ns.
        sensors: camera "front", lidar and ego state.
        truth: every actor within `truth_range`, hidden or not, in base_link; velocities over ground.
        truth_id: (N,) positive, the same for an actor throughout.
        truth_points: (N,) lidar returns from each actor.
    """

    stamp_ns: int
    sensors: SensorFrame
    truth: Boxes
    truth_id: np.ndarray
    truth_points: np.ndarray


class SyntheticDrive:
    """Drives a scripted scenario. `frames()` may be called again and gives the same frames.

    Args:
        seed: of scenery and noise.
        duration_s: length, s.
        rate_hz: frames a second.
        image_size: width, height of the camera image.
        scenario: one of `scenario.SCENARIOS`.
        lidar: its model; by default 64 beams of 1024 columns with a sweep as long as a frame.
        start_ns: stamp of the first frame.
        truth_range: m around the vehicle within which actors are labelled.
    """

    def __init__(
        self,
        seed: int = 0,
        duration_s: float = 12.0,
        rate_hz: float = 10.0,
        image_size: tuple[int, int] = (1280, 720),
        *,
        scenario: str = "street",
        lidar: LidarModel | None = None,
        start_ns: int = 1_700_000_000_000_000_000,
        truth_range: float = 80.0,
    ) -> None:
        if not (duration_s > 0 and rate_hz > 0 and min(image_size) >= 16):
            raise ConfigurationError(
                f"SyntheticDrive: expected a duration and a rate above 0 and an image of at least 16x16, "
                f"got {duration_s} s, {rate_hz} Hz, {image_size}"
            )
        self.seed, self.duration_s, self.rate_hz, self.scenario = seed, duration_s, rate_hz, scenario
        self.start_ns, self.truth_range = start_ns, truth_range
        self.script: Script = script(scenario)
        self.street = Street()
        self.camera = CameraModel(*image_size)
        self.lidar = lidar or LidarModel(sweep_time=1 / rate_hz)
        self._way, self._speed = self.script.ego_motion(self.street, duration_s, _EGO_STEP)
        # The street goes on behind the vehicle and beyond where it stops.
        self._span = (-_VIEW, float(self._way[-1]) + _VIEW)
        scenery = np.random.default_rng([seed, 1])
        self.actors: tuple[Actor, ...] = self.script.actors + tuple(self._parked(scenery))
        self._scenery = Solids.concatenate(self._houses(scenery))

    def __len__(self) -> int:
        """Number of frames."""
        return max(1, round(self.duration_s * self.rate_hz))

    def route(self) -> Route:
        """The lane's middle in odom, for longer than the drive, with the speed the vehicle likes."""
        s = np.arange(0.0, self._span[1], 1.0)
        x, y, _ = self.street.pose(s, np.full_like(s, self.script.lane_d))
        return Route(np.stack([x, y], axis=1), self.script.driver.desired_speed)

    def ego(self, index: int) -> EgoState:
        """The vehicle's own state in frame `index`; odom is the street's frame."""
        t = index / self.rate_hz
        s, speed = self._ego_at(t)
        x, y, heading = self.street.pose(np.float64(s), np.float64(self.script.lane_d))
        along = speed * (1 - self.script.lane_d / self.street.radius)
        pose = pose_from_xy_yaw(float(x), float(y), float(heading))
        return EgoState(self._stamp(index), pose, np.array([along, 0.0]), speed / self.street.radius)

    def frames(self) -> Iterator[SyntheticFrame]:
        """The frames in order of time."""
        camera = Camera(self.camera, self.street, self.script.lane_d, float(self._way[-1]) + 10.0, seed=self.seed)
        lidar = Lidar(self.lidar)
        for index in range(len(self)):
            yield self._frame(index, camera, lidar)

    def _frame(self, index: int, camera: Camera, lidar: Lidar) -> SyntheticFrame:
        t, stamp_ns, ego = index / self.rate_hz, self._stamp(index), self.ego(index)
        pose = ego.T_odom_base
        heading = yaw_of(pose)
        truth, ids, actor_solids = self._actors_at(t, stamp_ns, pose)
        solids = Solids.concatenate([self._scenery, *actor_solids])
        near = np.linalg.norm(solids.center[:, :2] - pose[:2, 3], axis=1) < _VIEW
        solids, velocity = solids[near], np.zeros((int(near.sum()), 2))
        T = invert_pose(pose)
        solids = solids.placed(0, 0, 0, -heading).moved(T[:3, 3])
        for actor_id, v in zip(ids, truth.velocity, strict=True):
            velocity[solids.owner == actor_id] = v
        motion = Motion(np.asarray(ego.velocity), ego.yaw_rate, velocity)
        where = (float(pose[0, 3]), float(pose[1, 3]), heading)
        returns = lidar.sweep(solids, self.street, where, motion, np.random.default_rng([self.seed, 2, index]))
        image = camera.paint(self._ego_at(t)[0], solids, heading)
        sensors = SensorFrame(
            stamp_ns,
            {"front": CameraFrame(image, self.camera.intrinsics, self.camera.T_base_camera, stamp_ns)},
            LidarSweep(returns.points, stamp_ns, returns.time if self.lidar.sweep_time > 0 else None),
            ego,
        )
        points = np.array([np.count_nonzero(returns.owner == i) for i in ids], int)
        labelled = np.linalg.norm(truth.center[:, :2], axis=1) < self.truth_range
        return SyntheticFrame(stamp_ns, sensors, truth[labelled], ids[labelled], points[labelled])

    def _actors_at(self, t: float, stamp_ns: int, pose: np.ndarray) -> tuple[Boxes, np.ndarray, list[Solids]]:
        """All actors: boxes in base_link, ids, and solids in odom."""
        states = [actor.state(t, self.street) for actor in self.actors]
        solids = []
        for actor_id, (actor, (foot, yaw, _)) in enumerate(zip(self.actors, states, strict=True), start=1):
            group = Solids.of_parts(_body(actor, t), actor_id, layer=2)
            solids.append(group.placed(foot[0], foot[1], foot[2], yaw))
        n = len(states)
        size = np.array([actor.size for actor in self.actors]).reshape(n, 3)
        foot = np.array([state[0] for state in states]).reshape(n, 3)
        boxes = Boxes(
            foot + 0.5 * size * (0, 0, 1),
            size,
            np.array([state[1] for state in states]),
            np.array([state[2] for state in states]).reshape(n, 2),
            np.array([actor.label for actor in self.actors], np.int64),
            np.ones(n),
            frame="odom",
        )
        return boxes.transformed(invert_pose(pose), "base_link"), np.arange(1, n + 1), solids

    def _ego_at(self, t: float) -> tuple[float, float]:
        """Way along the street (m) and its rate (m/s) at time t; the speed is linear between two steps."""
        k = min(int(t / _EGO_STEP + 1e-9), len(self._way) - 2)
        dt = t - k * _EGO_STEP
        a = (self._speed[k + 1] - self._speed[k]) / _EGO_STEP
        return float(self._way[k] + self._speed[k] * dt + 0.5 * a * dt * dt), float(self._speed[k] + a * dt)

    def _stamp(self, index: int) -> int:
        return self.start_ns + round(index * 1e9 / self.rate_hz)

    def _parked(self, rng: np.random.Generator) -> Iterator[Actor]:
        """Parked cars and a few vans on both sides, none on the crossing."""
        for side in (1, -1):
            s = self._span[0] + 40.0
            while s < self._span[1]:
                s += rng.uniform(5.6, 7.0) + (rng.uniform(5, 22) if rng.random() < 0.3 else 0)
                if self.street.crossing is not None and abs(s - self.street.crossing) < 9.0:
                    s = self.street.crossing + 9.5
                is_van = rng.random() < 0.14
                d = side * (self.street.kerb - 1.15 + rng.uniform(-0.1, 0.1))
                color = bodies.CAR_COLORS[rng.integers(len(bodies.CAR_COLORS))]
                size = np.array([5.4, 2.0, 2.3] if is_van else [4.35, 1.78, 1.48]) * rng.uniform(0.95, 1.06, 3)
                turn = (0.0 if side < 0 else np.pi) + rng.normal(0, 0.015)
                shape = Shape.VAN if is_van else Shape.CAR
                length, width, height = (round(float(v), 3) for v in size)
                yield Actor(ObjectClass.CAR, shape, (length, width, height), color, Course(s), Course(d), turn)

    def _houses(self, rng: np.random.Generator) -> Iterator[Solids]:
        """Houses, hedges, trees and lamp posts on both sides; numbers below 0 tell them from actors."""
        number = -1
        edge = self.street.kerb + self.street.pavement

        def stand(parts: list[Part], s: float, d: float, layer: int) -> Solids:
            nonlocal number
            number -= 1
            x, y, heading = self.street.pose(np.float64(s), np.float64(d))
            z = float(self.street.height(np.float64(d)))
            turn = np.pi if d < 0 else 0.0
            return Solids.of_parts(parts, number, layer).placed(float(x), float(y), z, float(heading) + turn)

        for side in (1, -1):
            s = self._span[0]
            while s < self._span[1]:
                length = rng.uniform(9, 16)
                if rng.random() < 0.72:
                    size = (length, 8.0, 3.0 * rng.integers(2, 5) + 0.6)
                    color = bodies.FACADES[rng.integers(len(bodies.FACADES))]
                    d = side * (edge + 4.6 + rng.uniform(0, 1.5))
                    yield stand(bodies.building(size, color), s + length / 2, d, 0)
                else:
                    yield stand(bodies.hedge(length - 1.0), s + length / 2, side * (edge + 0.6), 1)
                s += length + rng.uniform(0.3, 3.5)
            for s in np.arange(self._span[0] + 6, self._span[1], 13.0):
                place = float(s + rng.uniform(-2, 2))
                if self.street.crossing is not None and abs(place - self.street.crossing) < 4.0:
                    continue
                d = side * (self.street.kerb + 0.75)
                if rng.random() < 0.6:
                    yield stand(bodies.tree(rng.uniform(5.0, 7.0), rng.uniform(1.7, 2.5)), place, d, 2)
                else:
                    yield stand(bodies.lamp_post(6.5), place, d, 2)


def _body(actor: Actor, t: float) -> list[Part]:
    if actor.shape is Shape.PEDESTRIAN:
        return bodies.pedestrian(actor.size, actor.color, actor.s.at(t) + actor.d.at(t))
    before = abs(actor.s.speed(t - 0.1))
    braking = (abs(actor.s.speed(t)) - before) / 0.1 < _BRAKE_LIGHT or (before == 0 and len(actor.s.knots) > 1)
    return (bodies.van if actor.shape is Shape.VAN else bodies.car)(actor.size, actor.color, braking)
