"""The closed loop: a world, a driver, and the record of what happened."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from karp_perception.core import Boxes, Command, Route, SensorFrame, Vehicle
from karp_perception.core.geometry import yaw_of
from karp_perception.drive.drivers import Driver
from karp_perception.evaluation.drive_record import DriveRecord, project
from karp_perception.evaluation.footprints import rectangles, separation
from karp_perception.pipeline import Result
from karp_perception.planning.control import command_of
from karp_perception.world.interface import Truth, World

_AFTER_CONTACT_S = 0.5
_AT_END_M = 1.0  # from the end of the route the drive is over

OnTick = Callable[[SensorFrame, Result, Truth], None]


def drive(
    world: World,
    driver: Driver,
    vehicle: Vehicle,
    duration: float,
    limit: Callable[[float], float | None] = lambda _: None,
    names: Mapping[str, int] = {},
    places: Mapping[str, float] = {},
    lanes: tuple[np.ndarray, ...] = (),
    on_tick: OnTick | None = None,
) -> DriveRecord:
    """Drive through a world until the time is over, the route ends, or the vehicle has run into something.

    Args:
        world: reset already.
        driver: makes plans.
        vehicle: the footprint, and the wheelbase that commands are for.
        duration: s.
        limit: speed limit (m/s) at a distance (m) along the route.
        names: object ids of a scenario's own actors. places: m along the route of what lies there.
        lanes: (N, 2) m in `odom`, for drawings; those that the truth tells of at the beginning where none are given.
        on_tick: called with what was seen, planned and true.
    """
    route = Route(world.route.points)
    log = _Log(vehicle, route, names, places)
    log.lanes = lanes or _in_odom(world.truth())
    contact_at: float | None = None
    for k in range(max(2, round(duration / world.step_s))):
        t = k * world.step_s
        truth = world.truth()
        along = log.progress(truth)
        made = driver.step(world, t, route, limit(along))
        command = Command(0.0, truth.ego.speed, 0.0) if made is None else command_of(made[1].plan, vehicle.wheelbase)
        log.add(t, truth, command, None if made is None else made[1])
        if on_tick is not None and made is not None:
            on_tick(*made, truth)
        if contact_at is None and log.touches(truth):
            contact_at = t
        ended = contact_at is not None and t - contact_at >= _AFTER_CONTACT_S
        if k > 0 and (ended or along > log.length - _AT_END_M):
            break
        world.apply(command)
        world.tick()
    return log.record()


class _Log:
    def __init__(self, vehicle: Vehicle, route: Route, names: Mapping[str, int], places: Mapping[str, float]) -> None:
        self.vehicle, self.route, self.names, self.places = vehicle, route, names, places
        self.lanes: tuple[np.ndarray, ...] = ()
        steps = np.linalg.norm(np.diff(route.points, axis=0), axis=1)
        self._along = np.concatenate([[0.0], np.cumsum(steps)])
        self.length = float(self._along[-1])
        self._reached = 0.0
        self._ego: list[tuple[float, ...]] = []
        self._said: list[tuple[str, str]] = []
        self._actors: list[np.ndarray] = []
        self._lights: list[tuple[float, ...]] = []
        self._colors: list[str] = []

    def progress(self, truth: Truth) -> float:
        """m along the route; looked for near where it was, so that a route may cross itself."""
        low = max(int(np.searchsorted(self._along, self._reached - 20.0)) - 1, 0)
        high = max(int(np.searchsorted(self._along, self._reached + 60.0)) + 1, low + 2)
        along, _ = project(self.route.points[low:high], truth.ego.T_odom_base[None, :2, 3])
        self._reached = float(np.clip(self._along[low] + along[0], 0.0, self.length))
        return self._reached

    def add(self, t: float, truth: Truth, command: Command, result: Result | None) -> None:
        ego, tick = truth.ego, len(self._ego)
        T = ego.T_odom_base
        self._ego.append((t, T[0, 3], T[1, 3], yaw_of(T), ego.speed, command.steering_angle))
        decision = None if result is None else result.plan.decision
        self._said.append(
            ("NO_INPUT", "nothing has arrived yet") if decision is None else (decision.kind.value, decision.reason)
        )
        boxes: Boxes = truth.boxes.transformed(T, "odom")
        n = len(boxes)
        columns = (
            np.full(n, tick), truth.object_id, boxes.label, boxes.center[:, 0], boxes.center[:, 1], boxes.yaw,
            boxes.size[:, 0], boxes.size[:, 1], boxes.velocity[:, 0], boxes.velocity[:, 1], truth.visibility,
        )  # fmt: skip
        self._actors.append(np.column_stack(columns))
        for light in truth.lights:
            x, y = T[:2, :2] @ light.stop + T[:2, 3]
            self._lights.append((tick, light.number, x, y))
            self._colors.append(light.color.value)

    def touches(self, truth: Truth) -> bool:
        boxes, vehicle = truth.boxes, self.vehicle
        reach = math.hypot(max(vehicle.front, vehicle.rear), vehicle.width) + 0.5 * np.hypot(*boxes.size[:, :2].T)
        near = boxes[np.hypot(boxes.center[:, 0], boxes.center[:, 1]) < reach]
        if not len(near):
            return False
        middle = np.array([[0.5 * (vehicle.front - vehicle.rear), 0.0]])
        size = (np.array([vehicle.front + vehicle.rear]), np.array([vehicle.width]))
        own = np.repeat(rectangles(middle, np.zeros(1), *size), len(near), axis=0)
        return bool((separation(own, near.footprint())[0] <= 0).any())

    def record(self) -> DriveRecord:
        ego = np.array(self._ego).T
        rows = np.concatenate(self._actors).T
        lights = np.array(self._lights, float).reshape(-1, 4).T
        return DriveRecord(
            *ego,
            decision=np.array([kind for kind, _ in self._said]),
            reason=tuple(reason for _, reason in self._said),
            front=self.vehicle.front,
            rear=self.vehicle.rear,
            width=self.vehicle.width,
            route=self.route.points,
            actor_tick=rows[0].astype(np.int64),
            actor_id=rows[1].astype(np.int64),
            actor_label=rows[2].astype(np.int64),
            actor_x=rows[3],
            actor_y=rows[4],
            actor_yaw=rows[5],
            actor_length=rows[6],
            actor_width=rows[7],
            actor_vx=rows[8],
            actor_vy=rows[9],
            visibility=rows[10],
            lanes=self.lanes,
            names=dict(self.names),
            places=dict(self.places),
            light_tick=lights[0].astype(np.int64),
            light_number=lights[1].astype(np.int64),
            light_x=lights[2],
            light_y=lights[3],
            light_color=np.array(self._colors, "U8"),
        )


def _in_odom(truth: Truth) -> tuple[np.ndarray, ...]:
    T = truth.ego.T_odom_base
    return tuple(lane @ T[:2, :2].T + T[:2, 3] for lane in truth.lanes)
