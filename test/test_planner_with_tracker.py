"""Tracker and planner together on obstacles as a lidar gives them: cut differently in every frame, with no classes."""

from __future__ import annotations

import numpy as np
import pytest

from karp_perception.core import Boxes, DecisionKind, EgoState
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.planning.planner import Planner
from karp_perception.tracking.tracker import Tracker


def street(rng: np.random.Generator, ego_x: float, more: list[tuple[float, ...]]) -> Boxes:
    """Walls in pieces, parked cars in parts, posts and ragged hedges beside a lane; `more` in world coordinates."""
    rows = [(x - ego_x, y, length, width, yaw) for x, y, length, width, yaw in more]
    for y in (-4.5, 6.0):
        for x in np.arange(-25 + rng.uniform(-2, 2), 75, 4.0):
            rows.append((x, y + rng.normal(0, 0.05), 4.0, 0.4, rng.normal(0, 0.03)))
    for i in range(30):  # parked cars, rear or side in view
        x = 12.0 * i - ego_x
        if -30 < x < 70:
            length = rng.uniform(0.5, 4.5)
            rows.append((x + length / 2, 3.0 + rng.normal(0, 0.05), length, 1.8, rng.normal(0, 0.04)))
    for i in range(60):  # a hedge whose pieces come and go
        x = 6.0 * i - ego_x + rng.normal(0, 0.5)
        if -30 < x < 60 and rng.random() < 0.7:
            rows.append((x, -2.9 + rng.normal(0, 0.2), *rng.uniform(0.3, 1.8, 2), rng.uniform(-3, 3)))
    a = np.array(rows)
    n = len(a)
    size = np.column_stack([a[:, 2], np.minimum(a[:, 3], 1.8), np.full(n, 1.5)])
    center = np.column_stack([a[:, :2], np.full(n, 0.8)])
    return Boxes(center, size, a[:, 4], np.full((n, 2), np.nan), np.full(n, -1), np.full(n, 0.5))


@pytest.mark.parametrize("speed", [0.0, 4.0, 12.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_cluttered_street_is_driven_without_braking(speed: float, seed: int) -> None:
    rng, tracker, planner = np.random.default_rng(seed), Tracker(), Planner()
    for k in range(60):
        stamp, x = k * 100_000_000, speed * 0.1 * k
        ego = EgoState(stamp, pose_from_xy_yaw(x, 0, 0), np.array([speed, 0.0]))
        obstacles = street(rng, x, [])
        plan = planner.step(stamp, tracker.step(stamp, Boxes.empty(), obstacles, ego), obstacles, ego, None, 12.0)
        assert plan.decision.kind == DecisionKind.CRUISE, plan.decision.reason
        assert plan.trajectory.acceleration.min() > -0.5


def test_in_the_same_clutter_a_standing_car_is_named_by_one_id_until_the_vehicle_stands() -> None:
    rng, tracker, planner = np.random.default_rng(2), Tracker(), Planner()
    x, v, names, gap = 0.0, 8.0, [], np.inf
    for k in range(140):
        stamp = k * 100_000_000
        ego = EgoState(stamp, pose_from_xy_yaw(x, 0, 0), np.array([v, 0.0]))
        length = rng.uniform(0.4, 2.0)
        ahead = [(60 + length / 2 + rng.normal(0, 0.03), rng.normal(0, 0.05), length, 1.8, rng.normal(0, 0.03))]
        obstacles = street(rng, x, ahead)
        plan = planner.step(stamp, tracker.step(stamp, Boxes.empty(), obstacles, ego), obstacles, ego, None, 8.0)
        assert plan.decision.kind != DecisionKind.EMERGENCY_STOP
        if k > 10 and plan.decision.kind != DecisionKind.CRUISE:
            names.append(plan.decision.target_id)
            gap = plan.decision.distance_m
        after = max(v + 0.1 * float(plan.trajectory.acceleration[0]), 0.0)
        x, v = x + 0.05 * (v + after), after
    assert len(set(names)) == 1
    assert v < 0.1
    assert 0.7 < gap < 2.5
