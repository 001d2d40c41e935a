"""The planner's decisions, words and trajectories in single scenes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karp_perception.core import (
    Boxes,
    DecisionKind,
    EgoState,
    InvalidInput,
    MotionSource,
    ObjectClass,
    Objects,
    Plan,
    Route,
    Vehicle,
)
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.planning.decision import DecisionSettings
from karp_perception.planning.emergency import is_emergency
from karp_perception.planning.hazards import Hazard
from karp_perception.planning.planner import Planner, PlannerSettings
from karp_perception.prediction.constant_velocity import constant_velocity_paths
from karp_perception.prediction.settings import PredictionSettings

CAR, PEDESTRIAN, UNKNOWN = int(ObjectClass.CAR), int(ObjectClass.PEDESTRIAN), -1
STEP_NS = 100_000_000


def boxes(rows: list[tuple[float, ...]], label: int = UNKNOWN) -> Boxes:
    """Boxes from x, y, length, width, yaw, vx, vy."""
    a = np.array(rows, float).reshape(-1, 7)
    n = len(a)
    center, size = np.column_stack([a[:, :2], np.full(n, 0.8)]), np.column_stack([a[:, 2:4], np.full(n, 1.6)])
    return Boxes(center, size, a[:, 4], a[:, 5:7], np.full(n, label), np.full(n, 0.9))


def objects_of(found: Boxes, first_id: int = 12, deviation: float = 0.1) -> Objects:
    """Well known objects, ids from `first_id` on, with constant-velocity paths."""
    n = len(found)
    paths, probability = constant_velocity_paths(found.center[:, :2], found.yaw, found.velocity, PredictionSettings())
    covariance = np.tile(deviation**2 * np.eye(6), (n, 1, 1))
    return Objects(found, first_id + np.arange(n), covariance, np.full(n, 2.0), np.zeros(n), paths, probability)


def ego_at(k: int, speed: float, yaw_rate: float = 0.0, T: np.ndarray | None = None) -> EgoState:
    return EgoState(k * STEP_NS, np.eye(4) if T is None else T, np.array([speed, 0.0]), yaw_rate)


def plan_for(objects: Objects | None, obstacles: Boxes | None, speed: float, frames: int = 4, **more: object) -> Plan:
    """The plan after a few equal frames."""
    planner = Planner()
    for k in range(frames):
        plan = planner.step(k * STEP_NS, objects, obstacles, ego_at(k, speed), **more)
    return plan


def test_a_car_standing_ahead_is_named_with_its_numbers() -> None:
    plan = plan_for(objects_of(boxes([(8.0, 0, 4.0, 1.8, 0, 0, 0)], CAR)), Boxes.empty(), 0.7)
    decision = plan.decision
    assert decision.kind == DecisionKind.STOP
    assert decision.target_id == 12
    assert decision.distance_m == pytest.approx(6.0 - 2.9)
    assert decision.ttc_s == pytest.approx(3.1 / 0.7, abs=0.01)
    assert decision.reason == "STOP for car 12 standing ahead in the path, 3.1 m, closing 0.7 m/s, 4.4 s"


def test_an_obstacle_without_a_track_stops_too_and_the_measured_face_of_a_tracked_one_counts() -> None:
    plan = plan_for(None, boxes([(8.0, 0, 1.0, 1.8, 0, np.nan, np.nan)]), 0.7)
    assert plan.decision.kind == DecisionKind.STOP
    assert plan.decision.target_id is None
    assert "an obstacle" in plan.decision.reason
    tracked = objects_of(boxes([(9.0, 0, 4.0, 1.8, 0, 0, 0)]))
    plan = plan_for(tracked, boxes([(7.0, 0, 0.4, 1.8, 0, np.nan, np.nan)]), 0.7)
    assert plan.decision.target_id == 12
    assert "obstacle 12" in plan.decision.reason
    assert plan.decision.distance_m == pytest.approx(6.8 - 2.9)


@pytest.mark.parametrize(
    ("row", "speed", "kind"),
    [
        ((20.0, 0, 4.5, 1.8, 0, 8.0, 0), 8.0, DecisionKind.FOLLOW),
        ((30.0, 0, 4.5, 1.8, 0, 6.0, 0), 12.0, DecisionKind.SLOW),
        ((45.0, 0, 4.5, 1.8, 0, 0.0, 0), 12.0, DecisionKind.STOP),
        ((8.0, 0, 4.5, 1.8, 0, 0.0, 0), 10.0, DecisionKind.EMERGENCY_STOP),
        ((20.0, 3.2, 4.5, 1.8, 0, 0.0, 0), 10.0, DecisionKind.CRUISE),  # parked beside the lane
        ((20.0, -4.0, 10.0, 2.5, 0, 12.0, 0), 10.0, DecisionKind.CRUISE),  # a truck in the next lane
        ((-12.0, 0, 4.5, 1.8, 0, 12.0, 0), 10.0, DecisionKind.CRUISE),  # comes up behind
        ((60.0, 3.5, 4.5, 1.8, np.pi, -12.0, 0), 10.0, DecisionKind.CRUISE),  # oncoming in its own lane
    ],
)
def test_decision_for_a_car(row: tuple[float, ...], speed: float, kind: DecisionKind) -> None:
    plan = plan_for(objects_of(boxes([row], CAR)), Boxes.empty(), speed)
    assert plan.decision.kind == kind
    assert plan.decision.target_id == (None if kind == DecisionKind.CRUISE else 12)


def test_a_crossing_pedestrian_is_yielded_to_and_one_who_is_past_is_not() -> None:
    coming = objects_of(boxes([(30.0, -4.0, 0.6, 0.6, np.pi / 2, 0, 1.4)], PEDESTRIAN))
    decision = plan_for(coming, Boxes.empty(), 8.0).decision
    assert decision.kind == DecisionKind.YIELD
    assert "pedestrian 12 crossing from the right" in decision.reason
    assert decision.distance_m == pytest.approx(30 - 0.3 - 2.9, abs=0.1)
    gone = objects_of(boxes([(30.0, 2.5, 0.6, 0.6, np.pi / 2, 0, 1.4)], PEDESTRIAN))
    assert plan_for(gone, Boxes.empty(), 8.0).decision.kind == DecisionKind.CRUISE
    walks_along = objects_of(boxes([(30.0, -2.5, 0.6, 0.6, 0, 1.4, 0)], PEDESTRIAN))
    assert plan_for(walks_along, Boxes.empty(), 8.0).decision.kind == DecisionKind.CRUISE


def test_somebody_who_crosses_long_before_or_after_changes_nothing() -> None:
    before = objects_of(boxes([(90.0, -3.0, 0.6, 0.6, np.pi / 2, 0, 2.0)], PEDESTRIAN))
    assert plan_for(before, Boxes.empty(), 8.0).decision.kind == DecisionKind.CRUISE
    after = objects_of(boxes([(6.0, -6.0, 0.6, 0.6, np.pi / 2, 0, 1.2)], PEDESTRIAN))
    assert plan_for(after, Boxes.empty(), 12.0).decision.kind == DecisionKind.CRUISE


def test_speeds_within_their_uncertainty_are_no_motion() -> None:
    """A wall piece with a phantom speed towards the path, as uncertain as it is."""
    wall = objects_of(boxes([(20.0, -3.0, 4.0, 0.4, 0, 0.5, 1.0)]), deviation=1.0)
    assert plan_for(wall, Boxes.empty(), 8.0).decision.kind == DecisionKind.CRUISE


def test_an_empty_road_is_driven_at_the_limit() -> None:
    plan = plan_for(Objects.empty(), Boxes.empty(), 10.0)
    assert plan.decision.kind == DecisionKind.CRUISE
    assert plan.trajectory.speed[-1] == pytest.approx(PlannerSettings().speed_limit, abs=0.5)
    assert plan_for(Objects.empty(), Boxes.empty(), 5.0, speed_limit=5.0).trajectory.speed[-1] == pytest.approx(
        5.0, abs=0.1
    )
    route = Route(np.array([[0.0, 0.0], [500.0, 0.0]]), speed_limit=7.0)
    assert plan_for(Objects.empty(), None, 7.0, route=route).trajectory.speed[-1] == pytest.approx(7.0, abs=0.1)
    slow = plan_for(Objects.empty(), None, 12.0, speed_limit=6.0)
    assert slow.decision.kind == DecisionKind.SLOW
    assert "limit" in slow.decision.reason


def test_no_input_is_a_comfortable_stop() -> None:
    planner = Planner()
    before = planner.step(0, Objects.empty(), Boxes.empty(), ego_at(0, 8.0))
    for k, (objects, ego) in enumerate([(None, ego_at(1, 8.0)), (Objects.empty(), None)], start=1):
        plan = planner.step(k * STEP_NS, objects, None, ego)
        assert plan.decision.kind == DecisionKind.NO_INPUT
        assert plan.trajectory.speed[0] == pytest.approx(before.trajectory.speed[0], abs=1.0)
        assert plan.trajectory.speed[-1] == 0
        assert plan.trajectory.acceleration.min() >= -Vehicle().comfortable_deceleration - 1e-9
    far = plan_for(Objects.empty(), None, 5.0, route=Route(np.array([[0.0, 300.0], [100.0, 300.0]])))
    assert far.decision.kind == DecisionKind.NO_INPUT
    assert "300 m away" in far.decision.reason


def test_an_unknown_own_speed_still_stops_for_what_comes_closer() -> None:
    planner, obstacles = Planner(), boxes([(6.0, 0, 1.0, 1.8, 0, np.nan, np.nan)])
    tracked = objects_of(boxes([(6.0, 0, 1.0, 1.8, 0, -0.7, 0)]))
    for k in range(3):
        plan = planner.step(k * STEP_NS, tracked, obstacles, EgoState.standing(k * STEP_NS))
    assert plan.decision.kind == DecisionKind.STOP
    assert plan.decision.target_id == 12
    assert EgoState.standing(0).source == MotionSource.NONE


def test_the_trajectory_starts_where_and_as_fast_as_the_vehicle_is_and_comes_back_to_the_route() -> None:
    route = Route(np.column_stack([np.linspace(-50, 200, 100), np.full(100, 1.5)]))
    t = plan_for(Objects.empty(), None, 8.0, route=route).trajectory
    assert (t.x[0], t.y[0], t.speed[0]) == pytest.approx((0, 0, 8.0), abs=1e-6)
    assert t.yaw[0] == pytest.approx(0, abs=0.01)
    assert t.y[-1] == pytest.approx(1.5, abs=0.02)
    np.testing.assert_allclose(np.diff(t.time), 0.1)
    travelled = np.r_[0, np.cumsum(np.hypot(np.diff(t.x), np.diff(t.y)))]
    np.testing.assert_allclose(travelled, np.r_[0, np.cumsum(0.5 * (t.speed[1:] + t.speed[:-1]) * 0.1)], atol=0.3)
    turned = np.arctan2(np.diff(t.y), np.diff(t.x))
    course = t.yaw + np.arcsin(Vehicle().axle * t.curvature)  # base_link lies before the axle that it turns about
    np.testing.assert_allclose(turned, 0.5 * (course[1:] + course[:-1]), atol=0.01)


def test_bends_are_taken_at_a_speed_that_is_comfortable_and_braked_for_before() -> None:
    angle = np.linspace(0, np.pi, 100)
    bend = np.column_stack([40 + 12 * np.sin(angle), 12 - 12 * np.cos(angle)])
    route = Route(np.concatenate([[[0.0, 0.0]], bend, [[-60.0, 24.0]]]))
    plan = plan_for(Objects.empty(), None, 12.0, route=route)
    t = plan.trajectory
    lateral = t.speed**2 * np.abs(t.curvature)
    assert lateral.max() < 1.35 * Planner().settings.limits.lateral_acceleration
    assert t.acceleration.min() > -3.01
    assert plan.decision.kind == DecisionKind.SLOW
    assert "bend" in plan.decision.reason


def test_the_end_of_the_route_is_a_stop() -> None:
    plan = plan_for(Objects.empty(), None, 8.0, route=Route(np.array([[-20.0, 0.0], [30.0, 0.0]])))
    assert plan.decision.kind == DecisionKind.STOP
    assert "end of the route" in plan.decision.reason
    assert plan.trajectory.x[-1] < 30.5


def test_without_a_route_the_path_bends_as_the_vehicle_does() -> None:
    planner = Planner()
    for k in range(20):
        plan = planner.step(k * STEP_NS, Objects.empty(), None, ego_at(k, 8.0, 0.4))
    assert plan.trajectory.curvature[5] == pytest.approx(0.05, abs=0.005)
    assert plan_for(Objects.empty(), None, 0.2).trajectory.y[-1] == pytest.approx(0)


def test_one_false_box_for_one_frame_changes_no_decision() -> None:
    planner = Planner()
    for k in range(20):
        ghost = boxes([(25.0, 0, 0.3, 0.3, 0, np.nan, np.nan)]) if k in (8, 13) else Boxes.empty()
        T = pose_from_xy_yaw(0.8 * k, 0.0, 0.0)
        plan = planner.step(k * STEP_NS, Objects.empty(), ghost, ego_at(k, 8.0, T=T))
        assert plan.decision.kind == DecisionKind.CRUISE


def test_one_missed_frame_changes_no_decision_and_a_box_close_ahead_counts_at_once() -> None:
    planner, car = Planner(), objects_of(boxes([(14.0, 0, 4.0, 1.8, 0, 0, 0)], CAR))
    for k in range(20):
        seen = Objects.empty() if k in (8, 13) else car
        T = pose_from_xy_yaw(0.2 * k, 0.0, 0.0)
        plan = planner.step(k * STEP_NS, seen, None, ego_at(k, 2.0, T=T))
        assert plan.decision.kind == DecisionKind.STOP
        assert plan.decision.target_id == 12
    planner = Planner()
    for k in range(5):
        planner.step(k * STEP_NS, Objects.empty(), Boxes.empty(), ego_at(k, 10.0))
    near = boxes([(12.0, 0, 1.0, 1.8, 0, np.nan, np.nan)])
    first = planner.step(5 * STEP_NS, Objects.empty(), near, ego_at(5, 10.0))
    assert first.trajectory.acceleration.min() <= -3.9
    assert first.decision.kind != DecisionKind.CRUISE
    second = planner.step(6 * STEP_NS, Objects.empty(), near, ego_at(6, 10.0))
    assert second.decision.kind == DecisionKind.EMERGENCY_STOP
    assert second.trajectory.acceleration.min() == pytest.approx(-Vehicle().max_deceleration)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000))
def test_mirrored_scenes_give_mirrored_plans(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(0, 8))
    rows = np.column_stack([rng.uniform(-10, 60, n), rng.uniform(-8, 8, n), rng.uniform(0.3, 6, (n, 2)),
                            rng.uniform(-3, 3, n), rng.normal(0, 4, (n, 2))])  # fmt: skip
    flip = np.array([1, -1, 1, 1, -1, 1, -1])
    speed, yaw_rate, offset = rng.uniform(0, 14), rng.normal(0, 0.2), rng.uniform(-2, 2)
    angle = np.linspace(0, rng.uniform(-1, 1), 50)
    steps = 2.0 * np.column_stack([np.cos(angle), np.sin(angle)])
    line = np.cumsum(steps, axis=0) + np.array([-10, offset])
    with_route = rng.random() < 0.5
    plans = []
    for sign in (1, -1):
        found = objects_of(boxes(rows * flip if sign < 0 else rows, CAR))
        route = Route(line * (1, sign)) if with_route else None
        planner = Planner()
        for k in range(3):
            plan = planner.step(k * STEP_NS, found, found.boxes, ego_at(k, speed, sign * yaw_rate), route)
        plans.append(plan)
    a, b = plans
    assert a.decision.kind == b.decision.kind
    assert a.decision.target_id == b.decision.target_id
    np.testing.assert_allclose(a.trajectory.x, b.trajectory.x, atol=1e-6)
    np.testing.assert_allclose(a.trajectory.y, -b.trajectory.y, atol=1e-6)
    np.testing.assert_allclose(a.trajectory.speed, b.trajectory.speed, atol=1e-6)


@settings(max_examples=120, deadline=None)
@given(st.integers(0, 100_000), st.floats(0, 8), st.floats(0, 12))
def test_garbage_never_raises(seed: int, spread: float, extent: float) -> None:
    """Objects, obstacles, routes and motion of any magnitude give a valid plan."""
    rng, planner = np.random.default_rng(seed), Planner()

    def any_boxes(label: int) -> Boxes:
        n = int(rng.integers(0, 12))
        center, size = rng.normal(0, 10**spread, (n, 3)), 10 ** rng.uniform(-3, extent, (n, 3))
        velocity = rng.normal(0, 10**extent, (n, 2))
        return Boxes(center, size, rng.uniform(-9, 9, n), velocity, np.full(n, label), np.ones(n))

    for _ in range(4):
        route = None
        if rng.random() < 0.7:
            points = np.cumsum(rng.normal(0, 10**spread, (int(rng.integers(3, 30)), 2)), axis=0)
            route = Route(points, None if rng.random() < 0.5 else float(rng.uniform(0, 50)))
        T = pose_from_xy_yaw(*rng.normal(0, 10**spread, 2), rng.uniform(-4, 4))
        ego = EgoState(0, T, rng.normal(0, 10 ** (extent / 3), 2), float(rng.normal(0, 10 ** (extent / 4))))
        stamp = int(rng.integers(0, 3)) * STEP_NS
        plan = planner.step(stamp, objects_of(any_boxes(CAR)), any_boxes(-1), ego, route, float(rng.uniform(0, 100)))
        assert len(plan.trajectory) == 81
        assert plan.trajectory.speed.min() >= 0


def test_wrong_calls_are_refused() -> None:
    with pytest.raises(InvalidInput, match="speed_limit"):
        Planner().step(0, None, None, None, None, float("nan"))
    with pytest.raises(InvalidInput, match="base_link"):
        Planner().step(0, None, Boxes.empty("odom"), None)


def test_little_time_is_no_emergency_for_who_brakes_enough_already() -> None:
    person = Hazard(4.9, 0.0, 7, int(ObjectClass.PEDESTRIAN))  # 2.9 m/s² are needed, 0.9 s are left
    assert is_emergency(person, 5.2, DecisionSettings())
    assert not is_emergency(person, 5.2, DecisionSettings(), braking=4.0)
    assert is_emergency(replace(person, gap=2.5), 5.2, DecisionSettings(), braking=4.0)
