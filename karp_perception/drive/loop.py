"""The closed loop: a world, a driver, and the record of what happened."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from karp_perception.core import Boxes, Command, EgoState, Lane, Plan, Route, SensorFrame, Vehicle
from karp_perception.core.geometry import yaw_of
from karp_perception.drive.drivers import Driver
from karp_perception.evaluation.drive_record import OFF_ROAD, DriveRecord, project
from karp_perception.evaluation.footprints import rectangles, separation
from karp_perception.pipeline import Result
from karp_perception.planning.control import Controller, ControlSettings
from karp_perception.world.interface import Truth, World

_AFTER_CONTACT_S = 0.5
_AT_END_M = 0.5  # from the front to the end of the route, where the drive is over: beyond it there may be no road
_AROUND = 12  # places around a corner that are looked at for where one may drive
_TINY = 1e-9  # s

OnTick = Callable[[SensorFrame, Result, Truth], None]


@dataclass(frozen=True)
class Setting:
    """What is known of a drive before it begins.

    Attributes:
        limit: speed limit (m/s) at a distance (m) along the route.
        names: object ids of a scenario's own actors. places: m along the route of what lies there.
        drivable: whether one may drive at places (N, 2) m in `odom`; None where only the lanes tell.
        clock: s by which the vehicle's clock is ahead at a time (s).
        latency: s from a frame to what comes of it; None takes what the pipeline measured, frame by frame.
        perceived: whether what perception says is kept in the record.
    """

    limit: Callable[[float], float | None] = lambda _: None
    names: Mapping[str, int] = field(default_factory=dict)
    places: Mapping[str, float] = field(default_factory=dict)
    drivable: Callable[[np.ndarray], np.ndarray] | None = None
    clock: Callable[[float], float] = lambda _: 0.0
    latency: float | None = 0.0
    perceived: bool = False


def drive(
    world: World,
    driver: Driver,
    vehicle: Vehicle,
    duration: float,
    setting: Setting = Setting(),
    on_tick: OnTick | None = None,
    control: ControlSettings = ControlSettings(),
) -> DriveRecord:
    """Drive through a world until the time is over, the route ends, or the vehicle has run into something.

    A plan takes effect when its frame's latency is over; until then the vehicle follows the last one. A frame that
    comes while another is still being worked on is left out, as the nodes do.

    Args:
        world: reset already.
        driver: makes plans.
        vehicle: that is driven.
        duration: s.
        setting: what is known of the drive.
        on_tick: called with what was seen, planned and true.
        control: how plans become commands.
    """
    route = Route(world.route.points)
    log, steered = _Log(vehicle, route, setting), _Delayed(Controller(control, vehicle))
    log.lanes = world.road.lanes
    contact_at: float | None = None
    for k in range(max(2, round(duration / world.step_s))):
        t = k * world.step_s
        truth = world.truth()
        along = log.progress(truth)
        limit = setting.limit(along)
        made = None if steered.busy(t) else driver.step(world, t, route, limit)
        if made is not None:
            latency = made[1].latency_ms.get("total", 0.0) * 1e-3 if setting.latency is None else setting.latency
            steered.expect(t + latency, *made)
        now_ns = truth.stamp_ns + round(setting.clock(t) * 1e9)
        commands = steered.commands(t, world.step_s, now_ns, truth.ego.speed)
        log.add(t, truth, limit, commands[-1][1], steered.plan, None if made is None else made[1])
        if on_tick is not None and made is not None:
            on_tick(*made, truth)
        if contact_at is None and log.touches(truth):
            contact_at = t
        ended = contact_at is not None and t - contact_at >= _AFTER_CONTACT_S
        # The next tick would bring it over the end.
        next_front = along + vehicle.front + max(truth.ego.speed, 0.0) * world.step_s
        if k > 0 and (ended or next_front > log.length - _AT_END_M):
            break
        for delay, command in commands:
            world.apply(command, delay)
        world.tick()
    return log.record()


class _Coming(NamedTuple):
    """A plan that takes effect at a time (s), and the motion state that came with its frame."""

    due: float
    plan: Plan
    ego: EgoState | None


class _Delayed:
    """Plans that take time to be made, and the commands that come of them."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.plan: Plan | None = None
        self._ego: EgoState | None = None
        self._coming: deque[_Coming] = deque()
        self._until = -math.inf

    def busy(self, t: float) -> bool:
        """Whether an earlier frame is still being worked on at time t (s)."""
        return t < self._until - _TINY

    def expect(self, due: float, frame: SensorFrame, result: Result) -> None:
        """A plan of a frame, which takes effect at a time (s)."""
        self._until = due
        self._ego = frame.ego
        self._coming.append(_Coming(due, result.plan, frame.ego))

    def commands(self, t: float, step: float, now_ns: int, speed: float) -> list[tuple[float, Command]]:
        """Commands from time t (s) on, for a step of time: (s from t, command), the first at once."""
        while self._coming and self._coming[0].due <= t + _TINY:
            self.plan = self._coming.popleft().plan
        # Until a first plan has come the vehicle goes on as it began.
        first = Command(0.0, speed, 0.0) if self.plan is None else self._command(now_ns)
        found = [(0.0, first)]
        while self._coming and self._coming[0].due < t + step - _TINY:
            coming = self._coming.popleft()
            self.plan = coming.plan
            delay = coming.due - t
            found.append((delay, self._command(now_ns + round(delay * 1e9))))
        return found

    def _command(self, now_ns: int) -> Command:
        assert self.plan is not None
        return self.controller.step(self.plan, self._ego, now_ns)


class _Log:
    def __init__(self, vehicle: Vehicle, route: Route, setting: Setting) -> None:
        self.vehicle, self.route, self.setting = vehicle, route, setting
        self.lanes: tuple[Lane, ...] = ()
        steps = np.linalg.norm(np.diff(route.points, axis=0), axis=1)
        self._along = np.concatenate([[0.0], np.cumsum(steps)])
        self.length = float(self._along[-1])
        self._reached = 0.0
        self._ego: list[tuple[float, ...]] = []
        self._limit: list[float] = []
        self._took: list[float] = []
        self._off_road: list[np.ndarray] = []
        self._said: list[tuple[str, str, int]] = []
        self._actors: list[np.ndarray] = []
        self._seen: list[np.ndarray] = []
        self._lights: list[tuple[float, ...]] = []
        self._colors: list[str] = []

    def progress(self, truth: Truth) -> float:
        """m along the route; looked for near where it was, so that a route may cross itself."""
        low = max(int(np.searchsorted(self._along, self._reached - 20.0)) - 1, 0)
        high = max(int(np.searchsorted(self._along, self._reached + 60.0)) + 1, low + 2)
        along, _ = project(self.route.points[low:high], truth.ego.T_odom_base[None, :2, 3])
        self._reached = float(np.clip(self._along[low] + along[0], 0.0, self.length))
        return self._reached

    def add(
        self, t: float, truth: Truth, limit: float | None, command: Command, plan: Plan | None, result: Result | None
    ) -> None:
        """A tick: what is true, the plan that is followed, and what was seen in it."""
        ego, tick = truth.ego, len(self._ego)
        T = ego.T_odom_base
        self._ego.append((t, T[0, 3], T[1, 3], yaw_of(T), ego.speed, command.steering_angle))
        self._limit.append(math.nan if limit is None else limit)
        self._took.append(math.nan if result is None else result.latency_ms.get("total", math.nan) * 1e-3)
        if self.setting.drivable is not None:
            self._off_road.append(self._corners_off_road(T))
        decision = None if plan is None else plan.decision
        self._said.append(
            ("NO_INPUT", "nothing has arrived yet", -1)
            if decision is None
            else (decision.kind.value, decision.reason, -1 if decision.target_id is None else decision.target_id)
        )
        boxes: Boxes = truth.boxes.transformed(T, "odom")
        self._actors.append(np.column_stack([_rows(tick, truth.object_id, boxes), truth.visibility]))
        if self.setting.perceived and result is not None:
            objects = result.objects.boxes.transformed(result.ego.T_odom_base, "odom")
            self._seen.append(_rows(tick, result.objects.track_id, objects))
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
        own = np.repeat(self._footprint(np.eye(4)), len(near), axis=0)
        return bool((separation(own, near.footprint())[0] <= 0).any())

    def record(self) -> DriveRecord:
        ego = np.array(self._ego).T
        rows = np.concatenate(self._actors).T
        lights = np.array(self._lights, float).reshape(-1, 4).T
        seen = np.concatenate([np.zeros((0, 10)), *self._seen]).T
        return DriveRecord(
            *ego,
            decision=np.array([kind for kind, _, _ in self._said]),
            reason=tuple(reason for _, reason, _ in self._said),
            front=self.vehicle.front,
            rear=self.vehicle.rear,
            width=self.vehicle.width,
            axle=self.vehicle.axle,
            route=self.route.points,
            actor_tick=rows[0].astype(np.int64),
            actor_id=rows[1].astype(np.int64),
            actor_label=rows[2].astype(np.int64),
            **dict(zip(_PLACES, rows[3:10], strict=True)),
            visibility=rows[10],
            lanes=self.lanes,
            limit=np.array(self._limit),
            off_road=np.array(self._off_road, bool).reshape(-1, 4),
            took=np.array(self._took),
            target=np.array([target for _, _, target in self._said], np.int64),
            names=dict(self.setting.names),
            places=dict(self.setting.places),
            light_tick=lights[0].astype(np.int64),
            light_number=lights[1].astype(np.int64),
            light_x=lights[2],
            light_y=lights[3],
            light_color=np.array(self._colors, "U8"),
            seen_tick=seen[0].astype(np.int64),
            seen_id=seen[1].astype(np.int64),
            seen_label=seen[2].astype(np.int64),
            **{name.replace("actor", "seen"): column for name, column in zip(_PLACES, seen[3:], strict=True)},
        )

    def _footprint(self, T: np.ndarray) -> np.ndarray:
        """(1, 4, 2) corners."""
        vehicle = self.vehicle
        middle = T[:2, :2] @ (0.5 * (vehicle.front - vehicle.rear), 0.0) + T[:2, 3]
        size = (np.array([vehicle.length]), np.array([vehicle.width]))
        return rectangles(middle[None], np.array([yaw_of(T)]), *size)

    def _corners_off_road(self, T: np.ndarray) -> np.ndarray:
        """(4,) corners that are farther than `OFF_ROAD` from where one may drive."""
        assert self.setting.drivable is not None
        corners = self._footprint(T)[0]
        angle = np.linspace(0.0, 2.0 * np.pi, _AROUND, endpoint=False)
        ring = OFF_ROAD * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        spots = corners[:, None] + np.concatenate([np.zeros((1, 2)), 0.5 * ring, ring])
        return ~self.setting.drivable(spots.reshape(-1, 2)).reshape(4, -1).any(axis=1)


_PLACES = ("actor_x", "actor_y", "actor_yaw", "actor_length", "actor_width", "actor_vx", "actor_vy")


def _rows(tick: int, ids: np.ndarray, boxes: Boxes) -> np.ndarray:
    """(N, 10): tick, id, label, and `_PLACES`, of boxes in `odom`."""
    velocity = np.nan_to_num(boxes.velocity)
    return np.column_stack(
        [np.full(len(boxes), tick), ids, boxes.label, boxes.center[:, :2], boxes.yaw, boxes.size[:, :2], velocity]
    )
