"""Parts of a moving body: they move with it, and what really stands beside or before it is still seen."""

from __future__ import annotations

import numpy as np
import pytest
from world_drives import BRAKING_CAR, frames, open_world

from karp_perception.core import Boxes, DecisionKind, EgoState, Plan
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.detection.obstacles import ObstacleDetector
from karp_perception.planning.planner import Planner
from karp_perception.tracking.bodies import BodySettings, moving_bodies, parts_of_bodies
from karp_perception.tracking.tracker import Tracker


def boxes(rows: list[tuple[float, ...]], velocity: list[tuple[float, float]] | None = None) -> Boxes:
    """x, y, length, width of parts without a class."""
    a = np.array(rows, float).reshape(-1, 4)
    n = len(a)
    speed = np.full((n, 2), np.nan) if velocity is None else np.array(velocity, float)
    size = np.column_stack([a[:, 2:], np.full(n, 1.4)])
    return Boxes(np.column_stack([a[:, :2], np.full(n, 0.7)]), size, np.zeros(n), speed, np.full(n, -1), np.ones(n))


def covariance(*deviation: float) -> np.ndarray:
    return np.array([np.diag([0.01, 0.01, d * d, d * d]) for d in deviation])


def test_a_rear_as_wide_as_a_car_has_a_cars_length_away_from_the_sensor() -> None:
    seen = boxes([(20, 0, 1.0, 1.8), (20, 8, 0.6, 0.6), (20, -8, 1.0, 1.8)], [(7, 0), (7, 0), (0.1, 0)])
    settings = BodySettings(touch=0.0, vehicle_length=4.5)
    bodies = moving_bodies(seen, covariance(0.4, 0.4, 0.4), np.zeros(3, bool), np.zeros(2), settings)
    np.testing.assert_array_equal(bodies.row, [0, 1])
    np.testing.assert_allclose(bodies.box.size[:, 0], [4.5, 0.6])
    assert bodies.box.center[0, 0] - 0.5 * 4.5 == pytest.approx(19.5)  # the rear stays where it was seen


def test_a_part_is_what_may_have_the_bodys_velocity() -> None:
    seen = boxes([(20, 0, 1.0, 1.8), (22, 0, 1.0, 0.3), (22.5, 0.4, 0.4, 0.4)], [(7, 0), (3, 0), (0, 0)])
    unsure = covariance(0.4, 2.0, 0.2)  # the last one surely stands
    whole = np.zeros(3, bool)
    bodies = moving_bodies(seen, unsure, whole, np.zeros(2), BodySettings())
    np.testing.assert_array_equal(parts_of_bodies(seen, unsure, whole, bodies, BodySettings()), [-1, 0, -1])


class Drive:
    """A vehicle at 7 m/s behind a car 15 m ahead at the same speed; `step` adds what else is there, in world axes."""

    def __init__(self) -> None:
        self.tracker, self.planner, self.frame = Tracker(), Planner(), 0

    @property
    def lead(self) -> float:
        """x of the rear face of the car ahead, world."""
        return 18.8 + 0.7 * self.frame

    def step(self, more: list[tuple[float, ...]]) -> Plan:
        k, stamp = self.frame, self.frame * 100_000_000
        rows = [(self.lead + 0.5, 0, 1.0, 1.8), *more]
        seen = boxes([(x - 0.7 * k, *rest) for x, *rest in rows])
        ego = EgoState(stamp, pose_from_xy_yaw(0.7 * k, 0, 0), np.array([7.0, 0.0]))
        self.objects = self.tracker.step(stamp, Boxes.empty(), seen, ego)
        plan = self.planner.step(stamp, self.objects, seen, ego, None, 8.0)
        self.frame += 1
        return plan


def test_bits_of_the_car_ahead_that_come_and_go_do_not_stand() -> None:
    drive, rng = Drive(), np.random.default_rng(0)
    for k in range(50):
        bit = (drive.lead + rng.uniform(1.8, 3.8), rng.uniform(-0.6, 0.6), 0.5, 0.4)
        decision = drive.step([bit] if rng.random() < 0.6 else []).decision
        if k >= 6:
            assert decision.kind == DecisionKind.FOLLOW, (k, decision.reason)


def test_an_unknown_thing_ahead_is_not_said_to_stand_in_the_first_frame() -> None:
    plan = Drive().step([])
    assert plan.decision.kind == DecisionKind.SLOW
    assert "standing" not in plan.decision.reason
    assert plan.trajectory.acceleration.min() > -3.3  # well below what an emergency takes


@pytest.mark.parametrize("ahead", [1.0, 3.0])
def test_what_is_left_standing_by_the_car_ahead_is_seen_within_half_a_second(ahead: float) -> None:
    """It appears inside the body of the car, which then leaves it behind: a lost load."""
    drive = Drive()
    for _ in range(10):
        drive.step([])
    load = (drive.lead + ahead, 0.0, 0.6, 0.6)
    decisions = [drive.step([load]).decision for _ in range(12)]
    free_since = next(k for k in range(12) if load[0] + 0.3 < 18.8 + 0.7 * (10 + k))
    assert all(d.distance_m < drive.lead - 0.7 * drive.frame - 3.8 for d in decisions[free_since + 5 :])
    assert decisions[-1].kind in (DecisionKind.STOP, DecisionKind.EMERGENCY_STOP)


def test_somebody_who_steps_between_the_two_cars_is_seen_within_three_frames() -> None:
    drive = Drive()
    for _ in range(10):
        drive.step([])
    x = drive.lead - 1.5
    kinds = [drive.step([(x, -1.2 + 0.14 * k, 0.5, 0.5)]).decision for k in range(3)]
    assert any(d.kind != DecisionKind.FOLLOW and d.distance_m < 14.0 for d in kinds)


def test_a_parked_car_that_the_car_ahead_passes_closely_stays_standing() -> None:
    drive, parked = Drive(), (34.0, 1.9, 4.3, 1.5)
    for _ in range(30):
        drive.step([parked])
    report = drive.objects.boxes
    standing = np.hypot(report.velocity[:, 0], report.velocity[:, 1]) < 0.3
    here = (parked[0] - 0.7 * (drive.frame - 1), parked[1])
    np.testing.assert_allclose(report.center[standing, :2], [here], atol=0.3)


@pytest.mark.parametrize("every", [1, 2])
def test_decisions_behind_a_driving_car_do_not_flip(every: int) -> None:
    """Behind a car that brakes after two seconds, also with every second frame lost."""
    world = open_world(BRAKING_CAR, speed=7.0, image=(32, 18))
    detector, tracker, planner, route = ObstacleDetector(), Tracker(), Planner(), world.route
    kinds, targets = [], []
    for frame, _ in list(frames(world, 4.5))[::every]:
        ego, sweep = frame.ego, frame.lidar
        assert ego is not None
        assert sweep is not None
        obstacles = detector.detect(sweep)
        objects = tracker.step(frame.stamp_ns, Boxes.empty(), obstacles, ego)
        decision = planner.step(frame.stamp_ns, objects, obstacles, ego, route).decision
        kinds.append(decision.kind)
        targets.append(decision.target_id)
    stops = np.array([k in (DecisionKind.STOP, DecisionKind.EMERGENCY_STOP, DecisionKind.YIELD) for k in kinds])
    assert np.count_nonzero(stops[1:] != stops[:-1]) <= 1
    late = set(targets[8 // every :])
    assert len(late) == 1
    assert late != {None}
