"""RSS: distances by the paper's formulas, computed by hand, and responses that are no harder than they have to be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safety_drives import PEDESTRIAN, STEP_NS, VEHICLE, Rows, boxes_of, drive, objects_of, onward

from karp_perception.core import Boxes, DecisionKind, EgoState, Objects, Plan
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.planning.safety import SafetyLayer, SafetySettings
from karp_perception.planning.safety.rss import RssSettings, distance_behind, distance_beside, distance_oncoming

USUAL = RssSettings(response_time=1.0, acceleration=3.5, braking=4.0, others_braking=8.0)
SPEEDS = st.floats(0.0, 50.0)


def test_safe_distances_are_those_of_the_paper() -> None:
    # 20·1 + ½·3.5 + 23.5²/8 - 10²/16 = 20 + 1.75 + 69.03 - 6.25
    assert distance_behind(20.0, 10.0, 3.5, USUAL) == pytest.approx(84.53125)
    assert distance_behind(5.0, 30.0, 3.5, USUAL) == 0.0
    # Each for itself: (20 + 23.5)/2 + 23.5²/8 = 90.78, (10 + 13.5)/2 + 13.5²/8 = 34.53.
    assert distance_oncoming(20.0, 10.0, 3.5, USUAL) == pytest.approx(90.78125 + 34.53125)
    # 0.1 + (0 + 0.2)/2 + 0.2²/1.6 for the own sway, (1 + 1.2)/2 + 1.2²/1.6 for what comes nearer.
    assert distance_beside(1.0, 0.8, USUAL) == pytest.approx(0.1 + 0.125 + 1.1 + 0.9)
    assert distance_beside(-5.0, 0.8, USUAL) == pytest.approx(0.1 + 0.125)


@settings(max_examples=50, deadline=None)
@given(SPEEDS, SPEEDS, SPEEDS, st.floats(0.0, 5.0), st.floats(0.1, 2.0))
def test_more_speed_needs_more_room_and_a_faster_lead_less(
    v: float, front: float, more: float, acceleration: float, response: float
) -> None:
    rss = RssSettings(response_time=response)
    needed = distance_behind(v, front, acceleration, rss)
    assert needed >= 0.0
    assert distance_behind(v + more, front, acceleration, rss) >= needed
    assert distance_behind(v, front + more, acceleration, rss) <= needed
    assert distance_behind(v, front, acceleration + 1.0, rss) >= needed
    oncoming = distance_oncoming(v, front, acceleration, rss)
    assert distance_oncoming(v, front + more, acceleration, rss) >= oncoming
    assert oncoming >= distance_behind(v, 0.0, acceleration, rss) - 1e-9
    assert distance_beside(front + more, 0.8, rss) >= distance_beside(front, 0.8, rss)


@settings(max_examples=30, deadline=None)
@given(st.floats(1.0, 30.0), st.floats(0.0, 30.0), st.floats(1.0, 6.0))
def test_keeping_the_distance_there_is_no_contact_in_the_worst_case(v: float, front: float, braking: float) -> None:
    """Simulated: the lead brakes as hard as it may, the follower accelerates, reacts, and brakes as RSS says."""
    rss = RssSettings(braking=braking)
    step, gap = 0.001, float(distance_behind(v, front, rss.acceleration, rss)) + 0.05
    t = np.arange(0.0, 70.0, step)
    turned = v + rss.response_time * rss.acceleration
    own = np.where(t < rss.response_time, v + rss.acceleration * t, turned - braking * (t - rss.response_time))
    other = np.maximum(front - rss.others_braking * t, 0.0)
    apart = gap + np.cumsum(other - np.maximum(own, 0.0)) * step
    assert apart.min() > 0.0


def lead(gap: float, speed: float, lateral: float = 0.0) -> Callable[[float], Rows]:
    return lambda t: [(VEHICLE.front + gap + 2.25 + speed * t, lateral, 4.5, 1.8, 0, speed, 0)]


RSS_ALONE = SafetySettings().with_parameters({"emergency_brake.enabled": False})


def test_a_plan_that_would_run_into_a_standing_car_is_braked_as_rss_says() -> None:
    """RSS brakes where the safe distance ends: response time, then b_min to standstill just before the car."""
    v = 12.0
    log = drive(lead(60.0, 0.0), v, 12.0, known=True, settings=RSS_ALONE)
    first = next(k for k, a in enumerate(log.acceleration) if a < 0)
    safe = distance_behind(v, 0.0, 0.0, RssSettings())
    assert 60.0 - log.x[first] == pytest.approx(safe, abs=2 * v * 0.1 + 0.3)
    assert not log.contact
    assert min(log.acceleration) >= -RssSettings().braking - 1e-9
    assert log.speed[-1] < 0.3
    stop = log.plans[first + 5].decision
    assert stop.kind == DecisionKind.STOP
    assert stop.target_id == 1
    assert stop.reason.startswith("STOP to keep a safe distance to car 1, ")
    assert any(note.startswith("RSS: ") and "braking with" in note for note in log.plans[first + 5].notes)


@pytest.mark.parametrize("speed", [8.0, 14.0, 25.0])
@pytest.mark.parametrize("share", [0.4, 0.7, 0.9])
def test_closing_in_on_a_slower_lead_is_no_reason_to_panic(speed: float, share: float) -> None:
    log = drive(lead(50.0, share * speed), speed, 50 / ((1 - share) * speed) + 3, known=True, settings=RSS_ALONE)
    assert not log.contact
    assert min(log.acceleration) >= -RssSettings().braking - 1e-9
    if share > 0.5:
        assert min(log.acceleration) > -2.0
    assert log.speed[-1] < share * speed + 1.5


@pytest.mark.parametrize("gap", [2.0, 5.0, 10.0])
@pytest.mark.parametrize("faster", [0.0, 0.2, 5.0])
def test_a_car_that_cuts_in_and_does_not_come_nearer_is_noted_and_not_braked_for(gap: float, faster: float) -> None:
    log = drive(lead(gap, 14.0 + faster), 14.0, 3.0, known=True)
    assert min(log.acceleration) == 0.0
    assert log.kinds() == {DecisionKind.CRUISE}
    assert any("RSS" in note for note in log.plans[0].notes) == (
        gap < distance_behind(14.0, 14.0 + faster, 0.0, RssSettings())
    )


def test_a_plan_that_copes_by_itself_is_left_alone() -> None:
    """Braking with 3 m/s² for a car 20 m ahead: nearer than RSS wants, and enough."""
    layer = SafetyLayer()
    for k in range(3):
        objects = objects_of(boxes_of([(VEHICLE.front + 22.0 - k + 2.25, 0, 4.5, 1.8, 0, 0, 0)]))
        ego = EgoState(k * STEP_NS, pose_from_xy_yaw(1.0 * k, 0, 0), np.array([10.0, 0.0]))
        plan = onward(k * STEP_NS, 10.0, acceleration=-3.0)
        checked = layer.checked(plan, objects, Boxes.empty(), ego, np.inf, k * STEP_NS)
        assert checked.trajectory is plan.trajectory
        assert checked.decision is plan.decision


def across(x: float, y: float, vy: float, label: int, size: tuple[float, float]) -> Callable[[float], Boxes]:
    return lambda t: boxes_of([(x, y + vy * t, *size, np.pi / 2, 0, vy)], label)


def planned(scene: Callable[[float], Boxes], speed: float, frames: int = 3) -> Plan:
    """The last plan of a few frames of a scene that is seen from a vehicle that drives on."""
    layer = SafetyLayer()
    for k in range(frames):
        there = scene(0.1 * k)
        moved = Boxes(
            there.center - np.array([0.1 * k * speed, 0, 0]), there.size, there.yaw, there.velocity, there.label,
            there.score,
        )  # fmt: skip
        ego = EgoState(k * STEP_NS, pose_from_xy_yaw(0.1 * k * speed, 0, 0), np.array([speed, 0.0]))
        plan = layer.checked(
            onward(k * STEP_NS, speed), objects_of(moved), Boxes.empty(), ego, np.inf, k * STEP_NS
        )  # fmt: skip
    return plan


@pytest.mark.parametrize(
    ("scene", "brakes"),
    [
        (across(20.0, -2.0, 1.4, PEDESTRIAN, (0.5, 0.5)), True),  # steps into the road, in the path in 0.6 s
        (across(20.0, -2.0, 0.0, PEDESTRIAN, (0.5, 0.5)), False),  # stands at the kerb
        (across(20.0, -2.0, -1.4, PEDESTRIAN, (0.5, 0.5)), False),  # walks away
        (across(20.0, 0.5, 1.4, PEDESTRIAN, (0.5, 0.5)), False),  # leaves the path long before it is reached
        (across(20.0, -30.0, 8.0, 0, (4.5, 1.8)), False),  # will cross behind
        (across(20.0, -9.0, 8.0, 0, (4.5, 1.8)), True),  # cannot stop any more, and meets the vehicle
    ],
)
def test_what_crosses_is_braked_for_where_it_would_be_met(scene: Callable[[float], Boxes], brakes: bool) -> None:
    plan = planned(scene, 12.0)
    assert (plan.trajectory.acceleration.min() < -0.5) == brakes, plan.notes


def test_oncoming_traffic_in_its_own_lane_is_passed_and_in_the_own_lane_braked_for() -> None:
    def oncoming(lateral: float) -> Callable[[float], Boxes]:
        return lambda t: boxes_of([(45.0 - 14 * t, lateral, 4.5, 1.8, np.pi, -14.0, 0)])

    assert planned(oncoming(3.2), 14.0).notes == ()
    plan = planned(oncoming(0.5), 14.0)
    assert plan.trajectory.acceleration.min() == pytest.approx(-RssSettings().braking)
    assert plan.decision.kind == DecisionKind.STOP


def test_switched_off_it_says_nothing() -> None:
    off = SafetySettings().with_parameters({"rss.enabled": False, "emergency_brake.enabled": False})
    log = drive(lead(20.0, 0.0), 10.0, 2.0, known=True, settings=off)
    assert all(plan.notes == () for plan in log.plans)


OBJECT = st.tuples(
    st.floats(-10, 50), st.floats(-6, 6), st.floats(0.3, 8), st.floats(0.3, 2.5), st.floats(-3.1, 3.1),
    st.floats(-12, 12), st.floats(-6, 6),
)  # fmt: skip


def checked(rows: Rows, speed: float, curvature: float, side: float = 1.0) -> Plan:
    layer = SafetyLayer()
    rows = [(x, side * y, length, width, side * yaw, vx, side * vy) for x, y, length, width, yaw, vx, vy in rows]
    for k in range(3):
        ego = EgoState(
            k * STEP_NS, pose_from_xy_yaw(0.1 * k * speed, 0, 0), np.array([speed, 0]), side * curvature * speed
        )
        found = boxes_of(rows)
        plan = layer.checked(
            onward(k * STEP_NS, speed, side * curvature), objects_of(found), Boxes.empty(), ego, np.inf, k * STEP_NS
        )
    return plan


@settings(max_examples=40, deadline=None)
@given(st.lists(OBJECT, max_size=5), st.floats(0.0, 20.0), st.floats(-0.03, 0.03))
def test_mirrored_scenes_are_judged_alike(rows: Rows, speed: float, curvature: float) -> None:
    here, there = checked(rows, speed, curvature), checked(rows, speed, curvature, -1.0)
    assert np.allclose(here.trajectory.speed, there.trajectory.speed, atol=1e-6)
    assert here.decision.kind == there.decision.kind
    assert here.notes == there.notes


@settings(max_examples=40, deadline=None)
@given(st.floats(1.0, 40.0), st.floats(0.0, 20.0), st.floats(-0.5, 0.5), st.floats(0.0, 10.0), st.floats(0.0, 20.0))
def test_an_object_that_moves_away_faster_never_makes_it_more_cautious(
    gap: float, speed: float, lateral: float, other: float, faster: float
) -> None:
    def least(v: float) -> float:
        return float(
            checked([(VEHICLE.front + gap + 2.25, lateral, 4.5, 1.8, 0, v, 0)], speed, 0.0).trajectory.speed.min()
        )

    assert least(other + faster) >= least(other) - 1e-9
    away = checked([(VEHICLE.front + gap + 2.25, lateral, 4.5, 1.8, 0, speed + faster, 0)], speed, 0.0)
    assert away.trajectory.speed.min() == pytest.approx(speed)
    assert away.decision.kind == DecisionKind.CRUISE


def test_young_tracks_do_not_count_yet() -> None:
    found = objects_of(boxes_of([(VEHICLE.front + 8.0, 0, 4.5, 1.8, 0, 0, 0)]))
    young = Objects(
        found.boxes, found.track_id, found.covariance, np.full(1, 0.1), found.unseen, found.predicted,
        found.predicted_probability,
    )  # fmt: skip
    layer = SafetyLayer()
    for k in range(4):
        ego = EgoState(k * STEP_NS, pose_from_xy_yaw(k, 0, 0), np.array([10.0, 0.0]))
        plan = layer.checked(onward(k * STEP_NS, 10.0), young, Boxes.empty(), ego, np.inf, k * STEP_NS)
    assert plan.trajectory.speed.min() == 10.0


@pytest.mark.parametrize(("deviation", "believed"), [(0.3, True), (3.0, False)])
def test_motion_towards_the_vehicle_is_believed_where_it_is_known(deviation: float, believed: bool) -> None:
    """Something at the end of a short gap that seems to come at 4 m/s, while the vehicle creeps."""
    found = objects_of(boxes_of([(VEHICLE.front + 4.0, 0, 2.0, 1.8, 0, -4.0, 0)], -1))
    uncertain = replace(found, covariance=np.tile(deviation**2 * np.eye(6), (1, 1, 1)))
    layer = SafetyLayer()
    for k in range(4):
        ego = EgoState(k * STEP_NS, pose_from_xy_yaw(0.2 * k, 0, 0), np.array([2.0, 0.0]))
        plan = layer.checked(onward(k * STEP_NS, 2.0), uncertain, Boxes.empty(), ego, np.inf, k * STEP_NS)
    assert any("RSS" in note for note in plan.notes) == believed
