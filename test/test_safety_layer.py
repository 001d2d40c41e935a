"""The safety layer as a whole: which rule has the last word, what it leaves alone, and how it says what it did."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safety_drives import DT, STEP_NS, VEHICLE, boxes_of, drive, objects_of, onward, unlabelled

from karp_perception.core import Boxes, Decision, DecisionKind, EgoState, Objects, Plan, Trajectory
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.planning.safety import SafetyLayer, SafetySettings
from karp_perception.planning.safety.retimed import slowed, stopping_distance
from karp_perception.planning.safety.swept_path import SweptPath

SWITCHES = ("rss", "emergency_brake", "watchdog", "limits")


def ego_at(k: int, speed: float) -> EgoState:
    return EgoState(k * STEP_NS, pose_from_xy_yaw(k * DT * speed, 0, 0), np.array([speed, 0.0]))


def test_every_rule_has_its_switch_on_by_default_and_reads_from_yaml() -> None:
    switches = [p for p in SafetySettings().parameters() if p.name.endswith("enabled")]
    assert [p.name for p in switches] == [f"{name}.enabled" for name in SWITCHES]
    assert all(p.value is True for p in switches)
    off = SafetySettings.from_mapping({name: {"enabled": False} for name in SWITCHES})
    layer = SafetyLayer(off)
    near = boxes_of([(VEHICLE.front + 5.0, 0, 4.5, 1.8, 0, -5, 0)])
    for k in range(10):
        plan = onward(k * STEP_NS, 90.0, curvature=0.5)
        assert layer.checked(plan, objects_of(near), unlabelled(near), None, 10.0, 10**12) is plan


def test_a_harmless_plan_is_given_back_itself() -> None:
    layer = SafetyLayer()
    beside = boxes_of([(20.0, 3.0, 4.5, 1.8, 0, 0, 0), (40.0, -3.0, 4.5, 1.8, 0, 8.0, 0)])
    for k in range(10):
        plan = onward(k * STEP_NS, 10.0, acceleration=1.0)
        assert layer.checked(plan, objects_of(beside), unlabelled(beside), ego_at(k, 10.0), 20.0, k * STEP_NS) is plan


def test_the_emergency_brake_has_the_last_word_and_everything_is_noted() -> None:
    layer = SafetyLayer()
    for k in range(8):
        near = boxes_of([(VEHICLE.front + 14.0 - 1.2 * k + 2.25, 0, 4.5, 1.8, 0, 0, 0)])
        ego = ego_at(k, 12.0)
        late = k * STEP_NS + (400_000_000 if k > 2 else 0)
        plan = layer.checked(onward(k * STEP_NS, 12.0), objects_of(near), unlabelled(near), ego, np.inf, late)
    assert plan.decision.kind == DecisionKind.EMERGENCY_STOP
    assert [note.split(":")[0] for note in plan.notes] == ["watchdog", "RSS", "emergency brake"]
    assert plan.trajectory.acceleration.min() == pytest.approx(-VEHICLE.max_deceleration)


def test_the_planners_own_words_stay_where_they_are_as_cautious() -> None:
    layer = SafetyLayer()
    for k in range(4):
        near = boxes_of([(VEHICLE.front + 8.0 - k + 2.25, 0, 4.5, 1.8, 0, 0, 0)])
        own = Decision(DecisionKind.EMERGENCY_STOP, "EMERGENCY_STOP for car 1 standing ahead in the path, 5.0 m", 1)
        plan = replace(onward(k * STEP_NS, 10.0), decision=own)
        checked = layer.checked(plan, objects_of(near), unlabelled(near), ego_at(k, 10.0), np.inf, k * STEP_NS)
    assert checked.decision is own
    assert checked.notes[-1].startswith("emergency brake: an obstacle ahead, ")


def test_what_is_not_possible_is_clamped_and_noted() -> None:
    layer = SafetyLayer()
    plan = layer.checked(onward(0, 20.0, curvature=0.2), Objects.empty(), Boxes.empty(), ego_at(0, 20.0), np.inf, 0)
    assert plan.notes == ("limits: curvature clamped by up to 0.185 1/m",)  # 6 m/s² at 20 m/s: 0.015 1/m
    assert np.abs(plan.trajectory.curvature).max() == pytest.approx(0.015)


def test_a_plan_without_points_is_a_stop_where_nothing_is_known() -> None:
    layer = SafetyLayer()
    layer.checked(onward(0, 10.0), Objects.empty(), Boxes.empty(), ego_at(0, 10.0), np.inf, 0)
    nothing = Plan(STEP_NS, Trajectory.empty(), Decision(DecisionKind.NO_INPUT, "NO_INPUT: nothing"))
    plan = layer.checked(nothing, None, None, None, np.inf, STEP_NS)
    assert plan.decision.reason == "NO_INPUT: nothing"
    assert plan.trajectory.speed[0] == pytest.approx(10.0)
    assert plan.trajectory.speed[-1] == 0.0
    assert stopping_distance(plan.trajectory, 2.0) == pytest.approx(10.0**2 / 4 + 10.0 * 0.25, abs=1.0)


def test_comfortable_stops_begin_without_a_jolt() -> None:
    layer, v, a = SafetyLayer(), 10.0, []
    for k in range(30):
        there = Objects.empty() if k < 5 else None
        plan = layer.checked(
            onward(k * STEP_NS, v), there, Boxes.empty() if k < 5 else None, ego_at(k, 10.0), np.inf, k * STEP_NS
        )
        a.append(float(plan.trajectory.acceleration[0]))
        v += DT * a[-1]
    assert np.abs(np.diff(a)).max() <= 4.0 * DT + 1e-9
    assert min(a) == pytest.approx(-VEHICLE.comfortable_deceleration)


def test_slowed_plans_stay_on_their_path_and_are_never_faster() -> None:
    plan = onward(0, 10.0, curvature=0.05, acceleration=1.0).trajectory
    way = slowed(plan, 10.0, 0.0, 3.0, 10.0)
    assert (way.speed <= plan.speed + 1e-12).all()
    radius = np.hypot(way.x, way.y - 20.0)  # all on the circle of 20 m
    assert radius == pytest.approx(np.full(len(radius), 20.0), abs=0.01)
    assert way.yaw == pytest.approx(0.05 * np.hypot(way.x, way.y) / np.sinc(way.yaw / (2 * np.pi)), abs=0.01)
    assert np.diff(way.speed) / 0.1 == pytest.approx(way.acceleration[:-1])


@settings(max_examples=60, deadline=None)
@given(
    st.floats(6.0, 50.0), st.floats(-4.0, 4.0), st.floats(0.2, 8.0), st.floats(0.2, 3.0), st.floats(-3.1, 3.1),
    st.floats(0.0, 1.0),
)  # fmt: skip
def test_the_way_that_is_free_is_that_to_the_nearest_point_of_the_outline(
    x: float, y: float, length: float, width: float, yaw: float, margin: float
) -> None:
    """Straight on; the reference looks at many points of the outline, in a strip that gets narrower far ahead."""
    box = boxes_of([(x, y, length, width, yaw, 0, 0)])
    path = SweptPath.ahead(onward(0, 10.0).trajectory, None, VEHICLE, 60.0)
    free, _, _ = path.free(box, np.full(1, margin))
    corner = box.footprint()[0]
    part = np.linspace(0.0, 1.0, 2000)[:, None, None]
    outline = (corner + part * (np.roll(corner, -1, axis=0) - corner)).reshape(-1, 2)
    assume(outline[:, 0].min() > VEHICLE.front)
    station = np.floor((outline[:, 0] - VEHICLE.front) / path.step) * path.step
    half = np.maximum(0.5 * VEHICLE.width - 0.012 * station, 0.3 * VEHICLE.width) + margin
    inside = outline[np.abs(outline[:, 1]) <= half]
    expected = inside[:, 0].min() - VEHICLE.front if len(inside) else np.inf
    # A box that only just reaches into the strip may be seen by one of the two alone.
    assume(not len(inside) or (np.abs(outline[:, 1]) <= half - 0.02).any())
    assume(len(inside) or (np.abs(outline[:, 1]) > half + 0.02).all())
    assert free[0] == pytest.approx(expected, abs=0.15)


@pytest.mark.parametrize("side", [-1.0, 1.0])
def test_along_a_bend_the_way_to_a_box_is_measured_on_the_arc(side: float) -> None:
    path = SweptPath.ahead(onward(0, 10.0, curvature=side / 20.0).trajectory, None, VEHICLE, 40.0)
    angle = 0.9
    place = (20 * np.sin(angle), side * (20 - 20 * np.cos(angle)))
    on_arc = boxes_of([(*place, 0.2, 1.0, side * angle, 0, 0), (25.0, 0.0, 0.5, 2.0, 0, 0, 0)])
    free, _, _ = path.free(on_arc, np.zeros(2))
    assert free[0] == pytest.approx(20 * angle - VEHICLE.front - 0.1, abs=0.4)
    assert np.isinf(free[1])  # straight ahead, where the vehicle does not go


def test_what_is_beside_the_vehicle_already_counts_only_in_the_way_of_its_bare_width() -> None:
    path = SweptPath.ahead(onward(0, 10.0).trajectory, None, VEHICLE, 40.0)
    beside = boxes_of([(1.0, 2.0, 6.0, 1.8, 0, 0, 0), (8.0, 2.0, 4.0, 1.8, 0, 0, 0)])  # both 0.15 m clear
    free, _, _ = path.free(beside, np.full(2, 0.3))
    assert np.isinf(free[0])
    assert free[1] == pytest.approx(6.0 - VEHICLE.front)


def test_a_drive_with_all_rules_on_and_nothing_wrong_is_untouched() -> None:
    log = drive(lambda t: [(200.0, 0, 4.5, 1.8, 0, 0, 0), (30.0, 3.2, 4.5, 1.8, 0, 0, 0)], 12.0, 8.0, known=True)
    assert set(log.acceleration) == {0.0}
    assert all(plan.notes == () for plan in log.plans)
