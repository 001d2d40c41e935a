"""What must hold of every plan on a mapped street: mirrors, continuity, caution, and no exception whatever comes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from karp_perception.core import (
    Boxes,
    DecisionKind,
    EgoState,
    Lane,
    LightColor,
    ObjectClass,
    Objects,
    Plan,
    Road,
    Route,
    StopKind,
    StopLine,
)
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.planning.planner import Planner
from karp_perception.prediction.constant_velocity import constant_velocity_paths
from karp_perception.prediction.settings import PredictionSettings

STEP_NS = 100_000_000
SLOW = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def street(side: float = 1.0, color: LightColor | None = None, x_light: float = 60.0) -> Road:
    """Two lanes along x, the route's own and one to the left (`side` 1) or right of it, and one back beside them."""
    x = np.array([-100.0, 400.0])
    own, other, back = (np.column_stack([x, np.full(2, side * y)]) for y in (0.0, 3.5, 7.0))
    left, right = (1, None) if side > 0 else (None, 1)
    lanes = (
        Lane(own, 3.5, 14.0, left=left, right=right),
        Lane(other, 3.5, 14.0, left=None if side > 0 else 0, right=0 if side > 0 else None),
        Lane(back[::-1], 3.5, 14.0),
    )
    stops = () if color is None else (StopLine(1, np.array([x_light, 0.0]), StopKind.LIGHT, color, lane=0),)
    return Road(lanes, stops)


ROUTE = Route(np.array([[-100.0, 0.0], [400.0, 0.0]]), 14.0)


def objects_of(rows: np.ndarray, label: np.ndarray) -> Objects:
    """Rows of x, y, yaw, vx, vy; cars and pedestrians."""
    n = len(rows)
    size = np.where((label == ObjectClass.PEDESTRIAN)[:, None], [0.6, 0.6, 1.7], [4.4, 1.8, 1.5])
    center = np.column_stack([rows[:, :2], np.full(n, 0.8)])
    boxes = Boxes(center, size, rows[:, 2], rows[:, 3:5], label, np.full(n, 0.9))
    paths, probability = constant_velocity_paths(center[:, :2], rows[:, 2], rows[:, 3:5], PredictionSettings())
    return Objects(
        boxes,
        np.arange(1, n + 1),
        np.tile(0.01 * np.eye(6), (n, 1, 1)),
        np.full(n, 2.0),
        np.zeros(n),
        paths,
        probability,
    )


def random_objects(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    yaw = rng.choice([0.0, np.pi, np.pi / 2, -np.pi / 2], count)
    speed = rng.uniform(0, 10, count) * (rng.random(count) < 0.7)
    label = rng.choice([ObjectClass.CAR, ObjectClass.PEDESTRIAN], count)
    speed = np.where(label == ObjectClass.PEDESTRIAN, 0.15 * speed, speed)
    rows = np.column_stack(
        [rng.uniform(6, 70, count), rng.uniform(-10, 10, count), yaw, speed * np.cos(yaw), speed * np.sin(yaw)]
    )
    return rows, label


def driven(
    objects: Objects, speed: float, road: Road | None, frames: int = 4, obstacles: Boxes | None = None, y: float = 0.0
) -> Plan:
    """The plan after a few frames in which everything stays as far away."""
    planner = Planner()
    for k in range(frames):
        ego = EgoState(k * STEP_NS, pose_from_xy_yaw(0.1 * speed * k, y, 0.0), np.array([speed, 0.0]))
        plan = planner.step(k * STEP_NS, objects, obstacles or Boxes.empty(), ego, ROUTE, 14.0, road)
    return plan


@given(seed=st.integers(0, 10_000))
@SLOW
def test_mirrored_streets_give_mirrored_plans(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows, label = random_objects(rng, 6)
    y, speed = float(rng.uniform(-0.6, 0.6)), float(rng.uniform(0, 14))
    mirror = np.array([1.0, -1.0, -1.0, 1.0, -1.0])
    a = driven(objects_of(rows, label), speed, street(), y=y)
    b = driven(objects_of(rows * mirror, label), speed, street(-1.0), y=-y)
    assert a.decision.kind == b.decision.kind
    assert a.decision.target_id == b.decision.target_id
    for name, sign in (("x", 1), ("y", -1), ("yaw", -1), ("speed", 1), ("acceleration", 1), ("curvature", -1)):
        np.testing.assert_allclose(getattr(a.trajectory, name), sign * getattr(b.trajectory, name), atol=1e-6)


@given(seed=st.integers(0, 10_000))
@SLOW
def test_who_moves_away_faster_never_shortens_the_way(seed: int) -> None:
    """Of a lead at any distance: the faster it runs, the farther the plan gets; and behind, it says nothing at all."""
    rng = np.random.default_rng(seed)
    gap, speed = float(rng.uniform(5, 50)), float(rng.uniform(1, 14))
    ends = []
    for lead in (speed, speed + 2.0, speed + 5.0):
        rows = np.array([[gap + 5.1, 0.0, 0.0, lead, 0.0]])
        ends.append(driven(objects_of(rows, np.array([ObjectClass.CAR])), speed, street()).trajectory.x[-1])
    free = driven(objects_of(np.zeros((0, 5)), np.zeros(0, int)), speed, street())
    assert ends[0] <= ends[1] + 1e-6
    assert ends[1] <= ends[2] + 1e-6
    assert ends[2] <= free.trajectory.x[-1] + 1e-6
    falls_behind = np.array([[-12.0 - gap, 0.0, 0.0, 0.5 * speed, 0.0]])
    plan = driven(objects_of(falls_behind, np.array([ObjectClass.CAR])), speed, street())
    np.testing.assert_allclose(plan.trajectory.x, free.trajectory.x)
    assert plan.decision.kind == free.decision.kind


@given(seed=st.integers(0, 10_000))
@SLOW
def test_who_walks_away_from_the_road_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    side = rng.choice([-1.0, 1.0])
    row = np.array(
        [[rng.uniform(8, 40), side * rng.uniform(2.5, 6.0), side * np.pi / 2, 0.0, side * rng.uniform(0.5, 2)]]
    )
    speed = float(rng.uniform(1, 14))
    plan = driven(objects_of(row, np.array([ObjectClass.PEDESTRIAN])), speed, street())
    free = driven(objects_of(np.zeros((0, 5)), np.zeros(0, int)), speed, street())
    np.testing.assert_allclose(plan.trajectory.speed, free.trajectory.speed)
    assert plan.decision.kind == DecisionKind.CRUISE


@given(seed=st.integers(0, 10_000))
@SLOW
def test_plans_are_continuous_from_step_to_step(seed: int) -> None:
    """Driven as planned among noisy neighbours: acceleration changes as the jerk allows, the path by centimetres."""
    rng = np.random.default_rng(seed)
    rows, label = random_objects(rng, 5)
    rows = rows[np.abs(rows[:, 1]) > 2.6]
    label = label[: len(rows)] * 0
    planner, road = Planner(), street()
    T, speed, last = np.eye(4), 10.0, None
    for k in range(25):
        now, yaw = rows.copy(), np.arctan2(T[1, 0], T[0, 0])
        now[:, :2] += 0.1 * k * rows[:, 3:5] + rng.normal(0.0, 0.03, (len(rows), 2)) - T[:2, 3]
        now[:, :2], now[:, 3:5] = now[:, :2] @ T[:2, :2], rows[:, 3:5] @ T[:2, :2]
        now[:, 2] -= yaw
        ego = EgoState(k * STEP_NS, T, np.array([speed, 0.0]))
        plan = planner.step(k * STEP_NS, objects_of(now, label), Boxes.empty(), ego, ROUTE, 14.0, road)
        way = plan.trajectory
        if last is not None and plan.decision.kind != DecisionKind.EMERGENCY_STOP:
            allowed = 8.0 * 0.1 + 0.05  # where braking is pressing; 2.5 m/s³ else
            # More is allowed where the safety layer itself had to brake.
            if not plan.notes:
                if speed > 0.0:  # who stands brakes no more; and an emergency ends at once
                    assert way.acceleration[0] - max(last.acceleration[0], -4.0) <= allowed
                assert way.acceleration[0] - last.acceleration[0] >= -allowed
            assert abs(np.interp(0.5, way.time, way.y) - np.interp(0.6, last.time, last.y)) < 0.1
        last = way
        T = T @ pose_from_xy_yaw(*(float(np.interp(0.1, way.time, c)) for c in (way.x, way.y, way.yaw)))
        speed = max(0.0, speed + 0.1 * float(way.acceleration[0]))


@given(seed=st.integers(0, 10_000), spread=st.sampled_from([1.0, 1e3, 1e8]), extent=st.sampled_from([1e-3, 1.0, 1e4]))
@SLOW
def test_garbage_around_a_mapped_street_never_raises(seed: int, spread: float, extent: float) -> None:
    rng = np.random.default_rng(seed)
    rows, label = random_objects(rng, 5)
    rows = rows + spread * rng.normal(size=rows.shape)
    objects = objects_of(rows, label)
    boxes = replace(objects.boxes, size=np.abs(extent * rng.normal(size=(5, 3))) + 1e-3)
    objects = replace(objects, boxes=boxes, predicted=objects.predicted * spread)
    lane = 10.0 * spread * rng.normal(size=(int(rng.integers(2, 8)), 2)).clip(-30, 30) / max(spread, 1.0)
    road = Road((*street().lanes, Lane(lane, 3.5)), street(color=LightColor.RED).stops)
    route = Route(spread * rng.normal(size=(4, 2)) + np.arange(4)[:, None])
    planner = Planner()
    for k in range(3):
        ego = EgoState(k * STEP_NS, pose_from_xy_yaw(0.5 * k, 0.0, 0.0), np.array([5.0, 0.0]))
        for way in (route, ROUTE):
            plan = planner.step(k * STEP_NS, objects, boxes[:2], ego, way, 14.0, road)
            assert np.isfinite(plan.trajectory.x).all()
            assert plan.trajectory.speed.min(initial=0.0) >= 0.0


@pytest.mark.parametrize(("color", "stops"), [(LightColor.RED, True), (LightColor.GREEN, False), (None, False)])
def test_a_red_light_is_a_stop_before_its_line(color: LightColor | None, stops: bool) -> None:
    planner, x, speed, nothing = Planner(), 0.0, 12.0, objects_of(np.zeros((0, 5)), np.zeros(0, int))
    road = street(color=color, x_light=60.0) if color else street()
    reasons = []
    for k in range(160):
        ego = EgoState(k * STEP_NS, pose_from_xy_yaw(x, 0.0, 0.0), np.array([speed, 0.0]))
        plan = planner.step(k * STEP_NS, nothing, Boxes.empty(), ego, ROUTE, 14.0, road)
        reasons.append(plan.decision.reason)
        speed, x = max(0.0, speed + 0.1 * float(plan.trajectory.acceleration[0])), x + 0.1 * speed
        assert plan.trajectory.acceleration.min() > -4.1
    assert (speed < 0.05) == stops
    if stops:
        assert 57.0 < x + planner.vehicle.front <= 60.0
        assert any("the red light" in reason for reason in reasons)


def test_a_yellow_light_stops_who_can_and_lets_through_who_cannot_until_it_is_passed() -> None:
    nothing = objects_of(np.zeros((0, 5)), np.zeros(0, int))
    for distance, stops in ((12.0, False), (60.0, True)):
        planner, x, speed = Planner(), 0.0, 12.0
        for k in range(120):
            color = LightColor.YELLOW if k < 15 else LightColor.RED
            ego = EgoState(k * STEP_NS, pose_from_xy_yaw(x, 0.0, 0.0), np.array([speed, 0.0]))
            road = street(color=color, x_light=distance)
            plan = planner.step(k * STEP_NS, nothing, Boxes.empty(), ego, ROUTE, 14.0, road)
            speed, x = max(0.0, speed + 0.1 * float(plan.trajectory.acceleration[0])), x + 0.1 * speed
        assert (speed < 0.1) == stops


def test_another_lane_is_used_only_after_patience_behind_what_stands() -> None:
    """A car stands for good; the vehicle stops behind it, waits, passes it in the free lane and comes back."""
    planner, x, y, yaw, speed, names = Planner(), 0.0, 0.0, 0.0, 10.0, []
    stood = 0.0
    for k in range(450):
        T = pose_from_xy_yaw(x, y, yaw)
        there = np.linalg.inv(T) @ np.array([60.0, 0.0, 0.0, 1.0])
        car = objects_of(np.array([[there[0], there[1], -yaw, 0.0, 0.0]]), np.array([ObjectClass.CAR]))
        ego = EgoState(k * STEP_NS, T, np.array([speed, 0.0]))
        plan = planner.step(k * STEP_NS, car, Boxes.empty(), ego, ROUTE, 14.0, street())
        way = plan.trajectory
        names.append(plan.proposals.names[plan.proposals.chosen].split()[0] if plan.proposals else "")
        stood += 0.1 * (speed < 2.0)
        ahead = float(np.interp(0.1, way.time, way.speed))
        place = T @ np.array([np.interp(0.1, way.time, way.x), np.interp(0.1, way.time, way.y), 0.0, 1.0])
        x, y, yaw, speed = float(place[0]), float(place[1]), yaw + float(np.interp(0.1, way.time, way.yaw)), ahead
        if abs(x - 60.0) < 4.0:
            assert y > 2.0, "beside the car, not in it"
    assert stood > planner.settings.proposals.patience - 0.5
    assert x > 90.0
    assert abs(y) < 0.3
