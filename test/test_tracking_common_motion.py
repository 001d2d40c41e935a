"""The vehicle's motion from what is around, against the motion that the scene was made with."""

from __future__ import annotations

import numpy as np
import pytest

from karp_perception.core import Boxes, EgoState
from karp_perception.core.geometry import invert_pose, pose_from_xy_yaw, yaw_of
from karp_perception.tracking.common_motion import CommonMotion
from karp_perception.tracking.tracker import Tracker

STEP_NS = 100_000_000


def cars(place: np.ndarray, yaw: np.ndarray, rng: np.random.Generator, noise: float = 0.08) -> Boxes:
    n = len(place)
    center = np.column_stack([place + rng.normal(0, noise, (n, 2)), np.full(n, 0.8)])
    variance = np.tile([noise**2] * 3 + [0.04] * 3 + [0.03**2] + [1.0] * 2, (n, 1))
    return Boxes(center, np.tile((4.2, 1.8, 1.5), (n, 1)), yaw + rng.normal(0, 0.03, n), np.full((n, 2), np.nan),
                 np.zeros(n, int), np.full(n, 0.9), variance)  # fmt: skip


def follow(speed: float, yaw_rate: float, world: np.ndarray, velocity: np.ndarray, frames: int = 40) -> list[EgoState]:
    """Cars at `world` (N, 2) with `velocity` (N, 2), seen ahead from a vehicle that drives a circle or straight on."""
    rng, tracker, motion, pose, states = np.random.default_rng(3), Tracker(), CommonMotion(), np.eye(4), []
    for k in range(frames):
        place = world + 0.1 * k * velocity
        here = (place - pose[:2, 3]) @ pose[:2, :2]
        seen = (here[:, 0] > 2) & (np.hypot(*here.T) < 60)
        boxes = cars(here[seen], np.full(seen.sum(), -yaw_of(pose)), rng)
        states.append(motion.step(k * STEP_NS, *tracker.expected(k * STEP_NS), boxes))
        tracker.step(k * STEP_NS, boxes, Boxes.empty(), states[-1])
        pose = pose @ pose_from_xy_yaw(0.1 * speed, 0, 0.1 * yaw_rate)
    return states


@pytest.mark.parametrize(("speed", "yaw_rate"), [(0.0, 0.0), (5.0, 0.0), (20.0, 0.0), (8.0, 0.25), (8.0, -0.25)])
def test_among_parked_cars_speed_and_turn_are_those_of_the_vehicle(speed: float, yaw_rate: float) -> None:
    grid = np.array([(x, y) for x in range(-40, 140, 9) for y in range(-60, 61, 12)], float)
    states = follow(speed, yaw_rate, grid, np.zeros_like(grid))
    assert np.mean([s.velocity[0] for s in states[10:]]) == pytest.approx(speed, abs=0.3)
    assert np.mean([s.yaw_rate for s in states[10:]]) == pytest.approx(yaw_rate, abs=0.03)
    way = invert_pose(states[9].T_odom_base) @ states[-1].T_odom_base
    exact = np.eye(4)
    for _ in range(len(states) - 10):
        exact = exact @ pose_from_xy_yaw(0.1 * speed, 0, 0.1 * yaw_rate)
    assert np.hypot(*(way[:2, 3] - exact[:2, 3])) < 0.5 + 0.03 * speed * 3


def test_cars_that_drive_are_outvoted_by_those_that_stand() -> None:
    grid = np.array([(x, y) for x in range(5, 140, 8) for y in (-8.0, 8.0)], float)
    lanes = np.array([(15.0, 0.0), (30.0, 3.0), (80.0, 3.0), (50.0, 0.0)])
    velocity = np.r_[np.zeros_like(grid), [(12.0, 0), (-10.0, 0), (-12.0, 0), (15.0, 0)]]
    states = follow(10.0, 0.0, np.r_[grid, lanes], velocity)
    assert np.mean([s.velocity[0] for s in states[10:]]) == pytest.approx(10.0, abs=0.4)
    assert np.abs(np.mean([s.yaw_rate for s in states[10:]])) < 0.02


def test_one_car_alone_makes_no_vehicle_race_and_nothing_at_all_is_standing() -> None:
    states = follow(0.0, 0.0, np.array([[20.0, 2.0]]), np.array([[3.0, 0.0]]))
    assert max(abs(s.velocity[0]) for s in states) < 4.0
    nothing = follow(7.0, 0.2, np.zeros((0, 2)), np.zeros((0, 2)))
    np.testing.assert_array_equal([s.velocity for s in nothing], 0)
    assert all(s.yaw_rate == 0 for s in nothing)
