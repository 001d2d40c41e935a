"""Plans that drive on regardless, and a vehicle that follows what the safety layer makes of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from karp_perception.core import (
    Boxes,
    Decision,
    DecisionKind,
    EgoState,
    ObjectClass,
    Objects,
    Plan,
    Trajectory,
    Vehicle,
)
from karp_perception.core.geometry import invert_pose, pose_from_xy_yaw, wrap_angle
from karp_perception.planning.safety import SafetyLayer, SafetySettings

VEHICLE = Vehicle()
DT, STEP_NS = 0.1, 100_000_000
CAR, PEDESTRIAN = int(ObjectClass.CAR), int(ObjectClass.PEDESTRIAN)
Rows = list[tuple[float, ...]]
"""x, y, length, width, yaw, vx, vy of things."""


def boxes_of(rows: Rows, label: int = CAR, bottom: float = 0.0) -> Boxes:
    """Boxes 1.6 m high that stand `bottom` m above the ground."""
    a = np.array(rows, float).reshape(-1, 7)
    n = len(a)
    center = np.column_stack([a[:, :2], np.full(n, 0.8 + bottom)])
    size = np.column_stack([a[:, 2:4], np.full(n, 1.6)])
    return Boxes(center, size, a[:, 4], a[:, 5:7], np.full(n, label), np.full(n, 0.9))


def unlabelled(boxes: Boxes) -> Boxes:
    """What the geometric channel says of them."""
    n = len(boxes)
    return Boxes(boxes.center, boxes.size, boxes.yaw, np.full((n, 2), np.nan), np.full(n, -1), boxes.score)


def objects_of(boxes: Boxes, first_id: int = 1) -> Objects:
    """Well known objects without predicted paths."""
    n = len(boxes)
    return Objects(
        boxes, first_id + np.arange(n), np.tile(1e-4 * np.eye(6), (n, 1, 1)), np.full(n, 2.0), np.zeros(n),
        np.zeros((n, 0, 0, 3)), np.zeros((n, 0)),
    )  # fmt: skip


def onward(stamp_ns: int, speed: float, curvature: float = 0.0, acceleration: float = 0.0, until: float = 60.0) -> Plan:
    """A plan that drives an arc with one acceleration up to (or down to) a speed, whatever there is."""
    time = np.arange(81) * 0.1
    v = np.clip(speed + acceleration * time, 0.0, until)
    s = np.concatenate([[0.0], np.cumsum(0.5 * (v[1:] + v[:-1]) * 0.1)])
    yaw = curvature * s
    way = Trajectory(
        time, s * np.sinc(yaw / (2 * np.pi)) * np.cos(yaw / 2), s * np.sinc(yaw / (2 * np.pi)) * np.sin(yaw / 2), yaw,
        v, np.append(np.diff(v) / 0.1, 0.0), np.full(81, curvature),
    )  # fmt: skip
    return Plan(stamp_ns, way, Decision(DecisionKind.CRUISE, "CRUISE, path free"))


@dataclass
class Log:
    """What was driven, one entry a step."""

    x: list[float] = field(default_factory=list)
    speed: list[float] = field(default_factory=list)
    acceleration: list[float] = field(default_factory=list)
    plans: list[Plan] = field(default_factory=list)
    contact_speed: float = 0.0
    contact: bool = False

    def kinds(self) -> set[DecisionKind]:
        return {plan.decision.kind for plan in self.plans}


def drive(
    things: Callable[[float], Rows],
    speed: float,
    seconds: float,
    *,
    curvature: float = 0.0,
    sight: float = 1000.0,
    known: bool = False,
    seen: bool = True,
    noise: Callable[[Boxes, int], Boxes] = lambda boxes, k: boxes,
    settings: SafetySettings = SafetySettings(),
) -> Log:
    """Drives on as if nothing were there, but for the safety layer; what it says is done exactly.

    Args:
        things: in the world, at a time (s). speed: m/s. curvature: of the road, 1/m.
        sight: m from the front bumper within which things are seen.
        known: whether they are tracked objects. seen: whether they are obstacles.
        noise: what becomes of the obstacles of a frame.
    """
    layer, log = SafetyLayer(settings, VEHICLE), Log()
    x, y, yaw, v = 0.0, 0.0, 0.0, speed
    for k in range(int(seconds / DT)):
        T = pose_from_xy_yaw(x, y, yaw)
        there = boxes_of(things(k * DT)).transformed(invert_pose(T), "base_link")
        log.contact = log.contact or touches(there)
        if log.contact and not log.contact_speed:
            log.contact_speed = v
        near = there[there.footprint()[:, :, 0].min(axis=1, initial=np.inf) < sight + VEHICLE.front]
        ego = EgoState(k * STEP_NS, T, np.array([v, 0.0]), curvature * v)
        plan = layer.checked(
            onward(k * STEP_NS, v, curvature), objects_of(near) if known else Objects.empty(),
            noise(unlabelled(near), k) if seen else Boxes.empty(), ego, np.inf, k * STEP_NS,
        )  # fmt: skip
        a = float(plan.trajectory.acceleration[0])
        for name, value in (("x", x), ("speed", v), ("acceleration", a), ("plans", plan)):
            getattr(log, name).append(value)
        after = max(v + a * DT, 0.0)
        moved = 0.5 * (v + after) * DT if after > 0 or a == 0 else 0.5 * v * v / max(-a, 1e-6)
        turn = curvature * moved
        x, y = x + moved * np.cos(yaw + turn / 2), y + moved * np.sin(yaw + turn / 2)
        yaw, v = float(wrap_angle(yaw + turn)), after
    return log


def touches(boxes: Boxes) -> bool:
    """Whether a box reaches into the vehicle's footprint: points of its outline and the footprint's own corners."""
    if len(boxes) == 0:
        return False
    corner = boxes.footprint()
    part = np.arange(16)[:, None, None, None] / 16
    outline = corner[None] + part * (np.roll(corner, -1, axis=1) - corner)[None]
    inside = (outline[..., 0] < VEHICLE.front) & (outline[..., 0] > -VEHICLE.rear)
    own = np.array([[a, b, 0.8] for a in (VEHICLE.front, -VEHICLE.rear) for b in (-0.95, 0.95)])
    return bool((inside & (np.abs(outline[..., 1]) < 0.5 * VEHICLE.width)).any() or boxes.contains(own).any())
