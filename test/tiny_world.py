"""The smallest world there is: a straight road, a wall of points ahead, a vehicle that does at once what it is told."""

from __future__ import annotations

import math
from time import sleep
from types import SimpleNamespace

import numpy as np

from karp_perception.core import (
    Boxes,
    CameraFrame,
    Command,
    EgoState,
    Lane,
    LidarSweep,
    LightColor,
    Road,
    Route,
    SensorFrame,
    StopKind,
    StopLine,
)
from karp_perception.core.geometry import invert_pose, pose_from_xy_yaw
from karp_perception.world.interface import TrafficLight, Truth
from karp_perception.world.world_frames import Beginning

T_BASE_LIDAR = np.array([[1, 0, 0, 0.2], [0, 1, 0, 0], [0, 0, 1, 1.7], [0, 0, 0, 1]], float)
T_BASE_CAMERA = np.array([[0, 0, 1, 0.5], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]], float)
INTRINSICS = np.array([[50.0, 0, 32], [0, 50, 18], [0, 0, 1]])
CAR = (60.0, 0.0)  # m, middle of a standing car
START_NS = 1_700_000_000_000_000_000


class TinyPlaces:
    """OpenWorld of tiny worlds, for processes of their own; `pace` s are slept in each tick."""

    def __init__(self, pace: float = 0.0) -> None:
        self.pace = pace

    def __call__(self, beginning: Beginning) -> TinyWorld:
        return TinyWorld(beginning.seed, beginning.speed or 8.0, self.pace)


class TinyWorld:
    """World for tests of what is around worlds."""

    def __init__(self, seed: int = 0, speed: float = 8.0, pace: float = 0.0) -> None:
        self.pace = pace
        self.rig = SimpleNamespace(T_base_lidar=T_BASE_LIDAR)
        self.step_s, self._speed, self.closed = 0.1, speed, 0
        self.reset(seed)

    def reset(self, seed: int = 0) -> None:
        self.seed, self.ticks = seed, 0
        self.x, self.y, self.yaw, self.speed = 0.0, 0.0, 0.0, self._speed
        self.commands: list[Command] = []
        self._command = Command(0.0, self._speed, 0.0)

    @property
    def stamp_ns(self) -> int:
        return START_NS + self.ticks * 100_000_000

    @property
    def route(self) -> Route:
        return Route(np.array([[0.0, 0.0], [500.0, 0.0]]), 10.0)

    @property
    def road(self) -> Road:
        lane = Lane(np.array([[0.0, 0.0], [500.0, 0.0]]), 3.5, 10.0)
        return Road((lane,), (StopLine(3, np.array([80.0, 0.0]), StopKind.LIGHT, LightColor.RED, lane=0),))

    @property
    def ego(self) -> EgoState:
        pose = pose_from_xy_yaw(self.x, self.y, self.yaw)
        return EgoState(self.stamp_ns, pose, np.array([self.speed, 0.0]))

    def sensors(self) -> SensorFrame:
        rng = np.random.default_rng([self.seed, self.ticks])
        image = rng.integers(0, 255, (36, 64, 3), np.uint8)
        ground = np.column_stack([rng.uniform(-30, 30, (3000, 2)), np.zeros(3000), np.full(3000, 0.3)])
        rear = CAR[0] - 2.0 - self.x
        car = np.column_stack(
            [np.full(400, rear), rng.uniform(-0.9, 0.9, 400), rng.uniform(0.3, 1.4, 400), np.ones(400)]
        )
        points = np.concatenate([ground, car]).astype(np.float32)
        time = rng.uniform(-0.05, 0.05, len(points)).astype(np.float32)
        camera = CameraFrame(image, INTRINSICS, T_BASE_CAMERA, self.stamp_ns)
        return SensorFrame(self.stamp_ns, {"front": camera}, LidarSweep(points, self.stamp_ns, time), self.ego)

    def boxes(self) -> Boxes:
        car = Boxes([[*CAR, 0.75]], [[4.0, 1.8, 1.5]], [0.0], [[0.0, 0.0]], [0], [1.0], frame="odom")
        return car.transformed(invert_pose(self.ego.T_odom_base), "base_link")

    def truth(self) -> Truth:
        light = TrafficLight(3, np.array([80.0 - self.x, 0.0]), LightColor.RED)
        lanes = (np.array([[-self.x, 0.0], [500.0 - self.x, 0.0]]),)
        return Truth(self.stamp_ns, self.ego, self.boxes(), [7], [1.0], [400], (light,), lanes, self.route)

    def apply(self, command: Command) -> None:
        self._command = command
        self.commands.append(command)

    def tick(self) -> None:
        sleep(self.pace)
        wanted, most = self._command.speed - self.speed, abs(self._command.acceleration) or 3.0
        self.speed += math.copysign(min(abs(wanted), 0.1 * most), wanted)
        self.x += 0.1 * self.speed
        self.ticks += 1

    def close(self) -> None:
        self.closed += 1

    def __enter__(self) -> TinyWorld:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
