"""The emergency brake: in time for what stands, never for what is beside the path or there for a moment only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safety_drives import DT, STEP_NS, VEHICLE, Rows, boxes_of, drive, onward, unlabelled

from karp_perception.core import Boxes, DecisionKind, EgoState, Objects
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.planning.safety import SafetyLayer, SafetySettings
from karp_perception.planning.safety.emergency_brake import EmergencyBrake, EmergencyBrakeSettings
from karp_perception.planning.safety.swept_path import SweptPath

EMERGENCY = DecisionKind.EMERGENCY_STOP


def standing(distance: float, offset: float = 0.0) -> Callable[[float], Rows]:
    """A car whose rear is `distance` m before base_link at the start."""
    return lambda t: [(distance + 2.25, offset, 4.5, 1.8, 0, 0, 0)]


def noisy(seed: int, deviation: float = 0.1, lost: float = 0.1) -> Callable[[Boxes, int], Boxes]:
    """Faces that scatter, lengths that come and go as more or less is seen, and boxes that are missed."""
    rng = np.random.default_rng(seed)

    def shaken(boxes: Boxes, k: int) -> Boxes:
        del k
        boxes = boxes[rng.random(len(boxes)) >= lost]
        n = len(boxes)
        shift = np.column_stack([rng.normal(0, deviation, n), rng.normal(0, 0.5 * deviation, n), np.zeros(n)])
        longer = rng.uniform(-0.5, 0.5, n) * boxes.size[:, 0]
        size = boxes.size + np.column_stack([longer, rng.normal(0, 0.05, (n, 2))])
        # The face that is seen stays where it is.
        shift[:, 0] += 0.5 * longer * np.cos(boxes.yaw)
        shift[:, 1] += 0.5 * longer * np.sin(boxes.yaw)
        yaw = boxes.yaw + rng.normal(0, 0.03, n)
        return Boxes(boxes.center + shift, np.maximum(size, 0.1), yaw, boxes.velocity, boxes.label, boxes.score)

    return shaken


@pytest.mark.parametrize("kmh", [10, 20, 30, 40, 50, 60])
@pytest.mark.parametrize("offset", [-1.35, 0.0])
@pytest.mark.parametrize("seen_from", ["far", "just_in_time"])
def test_a_standing_car_is_never_touched_where_full_braking_after_a_reaction_suffices(
    kmh: int, offset: float, seen_from: str
) -> None:
    """0.3 s and 8 m/s²: v·0.3 + v²/16 m when it is first seen, which is at most a frame after it comes in sight."""
    v = kmh / 3.6
    suffices = v * 0.3 + v * v / (2 * VEHICLE.max_deceleration)
    sight = suffices + v * DT if seen_from == "just_in_time" else 200.0
    log = drive(standing(30.0 + 20 * v / 10, offset), v, (30.0 + 2 * v) / v + 3, sight=sight)
    assert not log.contact
    assert EMERGENCY in log.kinds()
    assert log.speed[-1] < 0.05
    assert log.acceleration[-1] > -0.1
    assert min(log.acceleration) >= -VEHICLE.max_deceleration - 1e-9


@pytest.mark.parametrize("kmh", [20, 50])
def test_it_does_not_brake_while_less_would_do(kmh: int) -> None:
    v = kmh / 3.6
    log = drive(standing(90.0), v, 90 / v + 3)
    first = next(k for k, plan in enumerate(log.plans) if plan.decision.kind == EMERGENCY)
    gap = 90.0 - VEHICLE.front - log.x[first]
    assert 0.5 * v * v / gap > 0.5 * VEHICLE.max_deceleration  # more than half of all brakes was needed
    words = log.plans[first].decision
    assert words.distance_m == pytest.approx(gap, abs=0.2)
    assert words.ttc_s == pytest.approx(gap / v, abs=0.1)
    assert words.reason == (
        f"EMERGENCY_STOP for an obstacle ahead, {words.distance_m:.1f} m, closing {v:.1f} m/s, {words.ttc_s:.1f} s"
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kmh", [20, 50])
def test_noise_and_changing_shapes_do_not_hide_a_car(kmh: int, seed: int) -> None:
    v = kmh / 3.6
    log = drive(standing(70.0), v, 70 / v + 3, noise=noisy(seed))
    assert not log.contact


def test_a_lead_that_brakes_hard_is_not_touched() -> None:
    """50 km/h both, 12 m apart, the lead brakes with 6 m/s² to standstill."""

    def lead(t: float) -> Rows:
        braking = min(max(t - 2.0, 0.0), 13.9 / 6)
        x = 13.9 * min(t, 2.0) + 13.9 * braking - 3 * braking**2
        return [(VEHICLE.front + 12.0 + 2.25 + x, 0, 4.5, 1.8, 0, 13.9 - 6 * braking, 0)]

    log = drive(lead, 13.9, 8.0)
    assert EMERGENCY in log.kinds()
    assert log.contact_speed < 1.0
    assert log.speed[-1] < 0.05


def beside(t: float, clear: float = 0.35) -> Rows:
    """Posts and parked cars close to both sides."""
    edge = 0.5 * VEHICLE.width + clear
    cars = [(9.0 * i, edge + 0.9, 4.5, 1.8, 0.02 * (-1) ** i, 0, 0) for i in range(40)]
    return cars + [(5.0 * i, -edge - 0.15, 0.3, 0.3, 0, 0, 0) for i in range(60)]


@pytest.mark.parametrize("speed", [3.0, 8.0, 14.0, 20.0])
def test_things_close_beside_the_path_are_passed(speed: float) -> None:
    assert drive(beside, speed, 8.0, noise=noisy(round(speed))).kinds() == {DecisionKind.CRUISE}


@pytest.mark.parametrize(("speed", "radius"), [(5.0, 12.0), (8.0, 25.0), (14.0, 80.0), (20.0, 200.0)])
@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_walls_along_a_bend_are_passed(speed: float, radius: float, side: float) -> None:
    def walls(t: float) -> Rows:
        angles = np.arange(-0.3, 2.5, 1.0 / radius)
        rings = (radius + 1.95, radius - 1.95)
        return [
            (r * np.sin(a), side * (radius - r * np.cos(a)), 1.0, 0.3, side * a, 0, 0) for a in angles for r in rings
        ]

    log = drive(walls, speed, min(8.0, 2.0 * radius / speed), curvature=side / radius, noise=noisy(0))
    assert log.kinds() == {DecisionKind.CRUISE}


@pytest.mark.parametrize("speed", [5.0, 14.0, 22.0])
@pytest.mark.parametrize("headway", [0.5, 1.0])
def test_a_lead_at_the_same_speed_is_followed(speed: float, headway: float) -> None:
    def lead(t: float) -> Rows:
        return [(VEHICLE.front + 2.25 + 1.0 + headway * speed + speed * t, 0, 4.5, 1.8, 0, speed, 0)]

    for seed in range(2):
        assert drive(lead, speed, 5.0, noise=noisy(seed, 0.15)).kinds() == {DecisionKind.CRUISE}


def test_a_lead_that_comes_and_goes_in_pieces_is_followed() -> None:
    """The rear is now one piece, now two, and something of it is seen half a metre nearer in every fifth frame."""

    def lead(t: float) -> Rows:
        k, rear = round(t / DT), VEHICLE.front + 8.0 + 10 * t
        if k % 5 == 0:
            return [(rear - 0.4, 0.2, 0.2, 0.4, 0, 0, 0), (rear + 2.25, 0, 4.5, 1.8, 0, 0, 0)]
        if k % 3 == 0:
            return [(rear + 1.0, -0.45, 2.0, 0.9, 0, 0, 0), (rear + 1.6, 0.45, 2.8, 0.9, 0, 0, 0)]
        return [(rear + 2.25, 0, 4.5, 1.8, 0, 0, 0)]

    assert drive(lead, 10.0, 10.0).kinds() == {DecisionKind.CRUISE}


@pytest.mark.parametrize("gap", [6.0, 9.0])
@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_a_car_that_cuts_in_only_a_little_slower_is_not_braked_for_in_an_emergency(gap: float, side: float) -> None:
    """Its front corner comes into the path first, then ever more of it: the free way shrinks faster than the gap."""

    def cut_in(t: float) -> Rows:
        y = side * max(3.2 - 1.6 * t, 0.0)
        yaw = -side * 0.12 if t < 2.0 else 0.0
        return [(VEHICLE.front + gap + 2.25 + 12.5 * t, y, 4.5, 1.8, yaw, 0, 0)]

    assert drive(cut_in, 14.0, 3.0).kinds() == {DecisionKind.CRUISE}


def test_what_hangs_above_the_road_is_driven_under() -> None:
    layer = SafetyLayer()
    for k in range(60):
        gantry = unlabelled(boxes_of([(60.0 - 1.39 * k, 0, 0.5, 12.0, 0, 0, 0)], bottom=4.5))
        ego = EgoState(k * STEP_NS, pose_from_xy_yaw(1.39 * k, 0, 0), np.array([13.9, 0.0]))
        plan = onward(k * STEP_NS, 13.9)
        assert layer.checked(plan, Objects.empty(), gantry, ego, np.inf, k * STEP_NS) is plan


@pytest.mark.parametrize("distance", [4.0, 8.0, 15.0])
def test_ghosts_of_one_frame_are_not_braked_for(distance: float) -> None:
    def ghosts(boxes: Boxes, k: int) -> Boxes:
        ghost = unlabelled(boxes_of([(VEHICLE.front + distance, 0.3 * (-1) ** k, 0.5, 0.5, 0, 0, 0)]))
        return ghost if k % 4 == 2 else boxes

    assert drive(lambda t: [], 13.9, 6.0, noise=ghosts).kinds() == {DecisionKind.CRUISE}


def test_a_bend_that_only_begins_is_followed_by_the_plan_not_by_the_wheels() -> None:
    """A wall straight ahead of a junction in which the plan turns: the wheels still point at it."""
    layer = SafetyLayer()
    wall = unlabelled(boxes_of([(14.0, 0.0, 0.5, 6.0, 0, 0, 0)]))
    for k in range(6):
        T = pose_from_xy_yaw(0.5 * k, 0, 0)
        ego = EgoState(k * STEP_NS, T, np.array([5.0, 0.0]), 0.0)
        moved = replace(wall, center=wall.center - np.array([0.5 * k, 0, 0]))
        plan = onward(k * STEP_NS, 5.0, curvature=1 / 7)
        assert layer.checked(plan, Objects.empty(), moved, ego, np.inf, k * STEP_NS) is plan


def test_braking_goes_on_while_obstacles_are_not_seen_and_ends_when_they_are_gone() -> None:
    brake = EmergencyBrake(EmergencyBrakeSettings(), VEHICLE)
    path = SweptPath.ahead(onward(0, 10.0).trajectory, None, VEHICLE, 60.0)
    near = [unlabelled(boxes_of([(VEHICLE.front + d + 0.25, 0, 0.5, 1.0, 0, 0, 0)])) for d in (8.0, 7.0, 6.0)]
    alarms = [brake.observed(boxes, path, 10.0, 0.1) for boxes in near]
    assert alarms[0] is None
    assert alarms[-1] is not None
    for _ in range(20):
        assert brake.observed(None, path, 6.0, 0.1) is not None  # nothing was said: nothing is resolved
    gone = [brake.observed(Boxes.empty(), path, 6.0, 0.1) is None for _ in range(10)]
    assert not gone[0]
    assert gone[-1]


def test_the_latency_of_obstacles_is_made_up_for() -> None:
    """What was 12 m ahead half a second ago at 10 m/s is 7 m ahead."""
    brakes = {}
    for age in (0.0, 0.5):
        brake = EmergencyBrake(EmergencyBrakeSettings(), VEHICLE)
        path = SweptPath.ahead(onward(0, 10.0).trajectory, None, VEHICLE, 60.0)
        for k in range(4):
            boxes = unlabelled(boxes_of([(VEHICLE.front + 15.25 - k, 0, 0.5, 1.0, 0, 0, 0)]))
            alarm = brake.observed(boxes, path, 10.0, 0.1, age)
        brakes[age] = alarm
    assert brakes[0.0] is None
    assert brakes[0.5] is not None
    assert brakes[0.5].free == pytest.approx(7.0, abs=0.3)


def test_switched_off_it_does_nothing() -> None:
    off = SafetySettings().with_parameters({"emergency_brake.enabled": False})
    log = drive(standing(30.0), 10.0, 5.0, settings=off)
    assert log.contact
    assert log.kinds() == {DecisionKind.CRUISE}


@settings(max_examples=15, deadline=None)
@given(st.floats(2.0, 20.0), st.floats(-1.5, 1.5), st.floats(8.0, 40.0), st.floats(-0.5, 0.5), st.floats(-0.04, 0.04))
def test_mirrored_scenes_are_braked_for_alike(
    speed: float, offset: float, distance: float, yaw: float, curvature: float
) -> None:
    def scene(side: float) -> Callable[[float], Rows]:
        return lambda t: [(distance, side * offset, 3.0, 1.6, side * yaw, 0, 0)]

    here, there = (drive(scene(side), speed, 2.5, curvature=side * curvature) for side in (1.0, -1.0))
    assert np.allclose(here.acceleration, there.acceleration, atol=1e-6)
    assert [p.decision.kind for p in here.plans] == [p.decision.kind for p in there.plans]


@settings(max_examples=15, deadline=None)
@given(st.floats(3.0, 20.0), st.floats(0.5, 20.0), st.floats(0.0, 10.0), st.floats(0.0, 5.0))
def test_what_moves_away_is_never_braked_for(speed: float, gap: float, faster: float, acceleration: float) -> None:
    def lead(t: float) -> Rows:
        x = (speed + faster) * t + 0.5 * acceleration * t * t
        return [(VEHICLE.front + gap + 2.25 + x, 0, 4.5, 1.8, 0, 0, 0)]

    assert drive(lead, speed, 3.0).kinds() == {DecisionKind.CRUISE}


def test_bits_of_a_car_that_drives_ahead_come_and_go_without_an_alarm() -> None:
    """Behind its rear a lidar sees bits of the roof and of the wheels, each for a frame: none of them stands."""
    brake, rng = EmergencyBrake(EmergencyBrakeSettings(), VEHICLE), np.random.default_rng(0)
    speed, rear = 11.0, 6.0  # m/s of both, m before base_link
    path = SweptPath.ahead(onward(0, speed).trajectory, None, VEHICLE, 40.0)
    for k in range(60):
        rows = [(rear + 1.6 + rng.normal(0, 0.05), 0.0, 3.2, 1.7, 0, 0, 0)]
        if k > 5 and k % 4 == 0:
            rows.append((rear + 3.0, rng.uniform(-0.6, 0.6), 0.5, 0.1, 0, 0, 0))
        seen = unlabelled(boxes_of(rows))
        assert brake.observed(seen, path, speed, DT) is None
