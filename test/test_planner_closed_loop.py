"""The planner drives: a point-mass vehicle follows its trajectories at 10 Hz, with perfect perception."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from karp_perception.core import Boxes, DecisionKind, EgoState, ObjectClass, Objects, Route, Vehicle
from karp_perception.core.geometry import invert_pose, pose_from_xy_yaw, wrap_angle
from karp_perception.planning.planner import Planner
from karp_perception.prediction.constant_velocity import constant_velocity_paths
from karp_perception.prediction.settings import PredictionSettings

STEP_NS, DT = 100_000_000, 0.1
VEHICLE = Vehicle()


@dataclass
class Drive:
    """What happened, one entry a step."""

    x: list[float] = field(default_factory=list)
    y: list[float] = field(default_factory=list)
    speed: list[float] = field(default_factory=list)
    acceleration: list[float] = field(default_factory=list)
    gap: list[float] = field(default_factory=list)
    kind: list[DecisionKind] = field(default_factory=list)
    contact: bool = False


Actors = Callable[[float], list[tuple[float, float, float, float, float, float, float, int]]]
"""At a time (s): x, y, yaw, speed, length, width, visibility range, label of every actor, in the world."""


def seen_from(T: np.ndarray, actors: list[tuple[float, ...]]) -> Objects:
    """The actors within their range, exactly as they are, in `base_link`."""
    back, rows, ids = invert_pose(T), [], []
    for i, (x, y, yaw, speed, length, width, reach, label) in enumerate(actors):
        place = back @ np.array([x, y, 0, 1])
        if np.hypot(*place[:2]) < reach:
            turned = yaw - np.arctan2(T[1, 0], T[0, 0])
            rows.append((*place[:2], length, width, turned, speed * np.cos(turned), speed * np.sin(turned), label))
            ids.append(i + 1)
    a = np.array(rows).reshape(-1, 8)
    n = len(a)
    boxes = Boxes(np.column_stack([a[:, :2], np.full(n, 0.8)]), np.column_stack([a[:, 2:4], np.full(n, 1.6)]), a[:, 4],
                  a[:, 5:7], a[:, 7].astype(int), np.ones(n))  # fmt: skip
    paths, probability = constant_velocity_paths(boxes.center[:, :2], boxes.yaw, boxes.velocity, PredictionSettings())
    covariance = np.tile(1e-4 * np.eye(6), (n, 1, 1))
    return Objects(boxes, np.array(ids, np.int64), covariance, np.full(n, 1.0), np.zeros(n), paths, probability)


def drive(
    actors: Actors, speed: float, seconds: float, route: Route | None = None, limit: float | None = None
) -> Drive:
    """Follows every plan for one step: acceleration and curvature of its first points, exactly executed."""
    planner, log = Planner(), Drive()
    x, y, yaw, v, yaw_rate = 0.0, 0.0, 0.0, speed, 0.0
    for k in range(int(seconds / DT)):
        T = pose_from_xy_yaw(x, y, yaw)
        there = actors(k * DT)
        objects = seen_from(T, there)
        ego = EgoState(k * STEP_NS, T, np.array([v, 0.0]), yaw_rate)
        plan = planner.step(k * STEP_NS, objects, objects.boxes, ego, route, limit)
        t = plan.trajectory
        a, bend = float(t.acceleration[0]), float(t.curvature[0] + t.curvature[1]) / 2
        half = np.array([VEHICLE.front + VEHICLE.rear, VEHICLE.width]) / 2
        middle = (VEHICLE.front - VEHICLE.rear) / 2
        outline = objects.boxes.footprint()
        inside = (np.abs(outline[..., 0] - middle) < half[0]) & (np.abs(outline[..., 1]) < half[1])
        log.contact |= bool(inside.any())
        log.gap.append(float(plan.decision.distance_m) if plan.decision.distance_m is not None else np.inf)
        for name, value in (("x", x), ("y", y), ("speed", v), ("acceleration", a), ("kind", plan.decision.kind)):
            getattr(log, name).append(value)
        after = max(v + a * DT, 0.0)
        moved = 0.5 * (v + after) * DT
        x, y = x + moved * np.cos(yaw + bend * moved / 2), y + moved * np.sin(yaw + bend * moved / 2)
        yaw, v, yaw_rate = float(wrap_angle(yaw + bend * moved)), after, bend * after
    return log


def standing_car(distance: float, offset: float = 0.0, reach: float = 80.0) -> Actors:
    return lambda t: [(distance + 2.25, offset, 0.0, 0.0, 4.5, 1.8, reach, int(ObjectClass.CAR))]


@pytest.mark.parametrize("kmh", [10, 20, 30, 40, 50])
@pytest.mark.parametrize("offset", [-0.9, 0.0, 1.35])
def test_stops_comfortably_behind_a_standing_car(kmh: int, offset: float) -> None:
    log = drive(standing_car(90.0, offset), kmh / 3.6, 15 + 90 / (kmh / 3.6), limit=kmh / 3.6)
    assert not log.contact
    assert log.speed[-1] < 0.05
    assert 0.8 < log.gap[-1] < 2.5
    assert min(log.acceleration) > -3.6
    assert DecisionKind.EMERGENCY_STOP not in log.kind
    assert log.kind[-1] == DecisionKind.STOP


@pytest.mark.parametrize(("kmh", "reach"), [(30, 15.0), (50, 24.0)])
def test_a_car_seen_too_late_for_comfort_is_not_touched(kmh: int, reach: float) -> None:
    """Seen so late that more than the comfortable but less than the possible deceleration is needed."""
    log = drive(standing_car(60.0, reach=reach), kmh / 3.6, 15.0, limit=kmh / 3.6)
    assert not log.contact
    assert DecisionKind.EMERGENCY_STOP in log.kind
    assert min(log.acceleration) >= -VEHICLE.max_deceleration - 1e-9
    assert log.speed[-1] < 0.3


def test_follows_a_lead_at_its_speed_and_idm_distance() -> None:
    log = drive(lambda t: [(40 + 8 * t, 0, 0, 8.0, 4.5, 1.8, 200.0, 0)], 12.0, 60.0)
    assert log.speed[-1] == pytest.approx(8.0, abs=0.1)
    assert log.gap[-1] == pytest.approx(1.0 + 1.5 * 8.0, rel=0.1)
    assert log.kind[-1] == DecisionKind.FOLLOW
    assert min(log.acceleration) > -3.0
    assert not log.contact


def test_a_lead_that_brakes_hard_is_not_touched() -> None:
    """Euro NCAP's CCRb: 50 km/h both, 40 m apart, the lead brakes with 6 m/s²."""

    def lead(t: float) -> list[tuple[float, ...]]:
        braking = min(max(t - 2.0, 0.0), 13.9 / 6)
        return [
            (45 + 13.9 * min(t, 2.0) + 13.9 * braking - 3 * braking**2, 0, 0, 13.9 - 6 * braking, 4.5, 1.8, 200.0, 0)
        ]

    log = drive(lead, 13.9, 20.0)
    assert not log.contact
    assert log.speed[-1] < 0.3


@pytest.mark.parametrize("side", [-1.0, 1.0])
@pytest.mark.parametrize("kmh", [20, 40])
def test_a_crossing_pedestrian_is_let_pass(side: float, kmh: int) -> None:
    """Walks at 5 km/h so as to meet the vehicle in the middle of its front."""
    v, walk = kmh / 3.6, 1.39
    arrival = (40 - VEHICLE.front) / v

    def walker(t: float) -> list[tuple[float, ...]]:
        return [
            (40.0, side * walk * (arrival - t), -side * np.pi / 2, walk, 0.6, 0.6, 100.0, int(ObjectClass.PEDESTRIAN))
        ]

    log = drive(walker, v, 20.0, limit=v)
    assert not log.contact
    assert DecisionKind.YIELD in log.kind
    assert DecisionKind.EMERGENCY_STOP not in log.kind
    assert min(log.acceleration) > -4.1
    assert log.x[-1] > 45  # and then it drives on


def test_traffic_beside_the_lane_changes_nothing() -> None:
    def traffic(t: float) -> list[tuple[float, ...]]:
        parked = [(20.0 + 8 * i, 2.3 + 0.02 * i, 0.03, 0.0, 4.5, 1.8, 80.0, 0) for i in range(10)]
        oncoming = [(150 - 12 * t, 5.5, np.pi, 12.0, 4.5, 1.8, 80.0, 0)]
        return parked + oncoming + [(10 + 9 * t, -3.3, 0.0, 9.0, 16.0, 2.5, 80.0, 1)]

    log = drive(traffic, 10.0, 10.0, limit=10.0)
    assert set(log.kind) == {DecisionKind.CRUISE}
    assert min(log.acceleration) > -0.3


def test_a_curved_route_is_followed_past_cars_parked_outside_and_behind_one_standing_on_it() -> None:
    angle = np.linspace(0, np.pi / 2, 60)
    bend = np.column_stack([30 + 25 * np.sin(angle), 25 - 25 * np.cos(angle)])
    route = Route(np.concatenate([[[-20.0, 0.0]], bend, [[55.0, 120.0]]]))

    def cars(t: float) -> list[tuple[float, ...]]:
        straight_on = (62.0, 0.0, 0.0, 0.0, 4.5, 1.8, 80.0, 0)
        return [straight_on, (55.0, 80.0, np.pi / 2, 0.0, 4.5, 1.8, 80.0, 0)]

    log = drive(cars, 8.0, 35.0, route=route, limit=8.0)
    assert not log.contact
    assert log.speed[-1] < 0.1
    assert log.y[-1] == pytest.approx(80 - 2.25 - VEHICLE.front - 1.0, abs=1.0)
    on_bend = [abs(np.hypot(x - 30, y - 25) - 25) for x, y in zip(log.x, log.y, strict=True) if x > 30 and y < 25]
    assert max(on_bend) < 0.5
    assert min(log.acceleration) > -3.3


def test_an_empty_scene_is_driven_at_the_limit_and_smoothly() -> None:
    log = drive(lambda t: [], 0.0, 40.0, limit=10.0)
    assert log.speed[-1] == pytest.approx(10.0, abs=0.2)
    assert set(log.kind) == {DecisionKind.CRUISE}
    assert np.abs(np.diff(log.acceleration)).max() <= 4.0 * DT + 1e-6


def test_decisions_do_not_flicker_on_the_way_to_a_stop() -> None:
    log = drive(standing_car(70.0), 10.0, 25.0, limit=10.0)
    changes = sum(a != b for a, b in zip(log.kind, log.kind[1:], strict=False))
    assert changes <= 3
    assert np.abs(np.diff(log.acceleration)).max() <= 4.0 * DT + 1e-6
