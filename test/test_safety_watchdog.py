"""The watchdog: what is missing, old, frozen or out of time slows the vehicle and then stops it where it says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safety_drives import STEP_NS, VEHICLE, boxes_of, objects_of, onward, unlabelled

from karp_perception.core import Boxes, DecisionKind, EgoState, MotionSource, Objects, Plan, Route, Trajectory
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.planning.safety import SafetyLayer, SafetySettings
from karp_perception.planning.safety.watchdog import Caution, Watchdog, WatchdogSettings

WATCH = WatchdogSettings()
EVERYTHING = {"objects": True, "obstacles": True, "route": True}


def ego_at(k: int, speed: float = 10.0, moved: float | None = None) -> EgoState:
    """Straight on, `moved` m or as far as the speed says after k steps."""
    return EgoState(
        k * STEP_NS, pose_from_xy_yaw(0.1 * k * speed if moved is None else moved, 0, 0), np.array([speed, 0])
    )


def cautions(missing: str, frames: int = 40, since: int = 10) -> list[Caution]:
    """Step by step, while an input is missing from step `since` on."""
    watchdog, found = Watchdog(WATCH), []
    for k in range(frames):
        inputs = EVERYTHING | ({missing: False} if k >= since else {})
        finding = watchdog.observed(0.1 if k else 0.0, 0.0, inputs, ego_at(k))
        found.append(Caution.NONE if finding is None else finding.caution)
    return found


@pytest.mark.parametrize("missing", ["objects", "obstacles", "route"])
def test_a_missing_input_slows_and_then_stops(missing: str) -> None:
    """The last came at step 9: 0.35 s later the vehicle slows, 2 s later it stops."""
    found = cautions(missing)
    assert found[:13] == [Caution.NONE] * 13
    assert found[13:29] == [Caution.SLOW] * 16
    assert found[30:] == [Caution.STOP] * 10


def test_what_has_never_come_is_not_missed() -> None:
    watchdog = Watchdog(WATCH)
    for k in range(50):
        assert watchdog.observed(0.1, 0.0, {"objects": True, "obstacles": False, "route": False}, ego_at(k)) is None


def test_both_kinds_of_things_missing_is_a_stop_at_once_until_one_is_back() -> None:
    watchdog = Watchdog(WATCH)
    nothing = EVERYTHING | {"objects": False, "obstacles": False}
    assert watchdog.observed(0.0, 0.0, EVERYTHING, ego_at(0)) is None
    blind = watchdog.observed(0.1, 0.0, nothing, ego_at(1))
    assert blind is not None
    assert blind.caution == Caution.STOP
    assert blind.reason == "neither detections nor obstacles come"
    assert watchdog.observed(0.1, 0.0, EVERYTHING, ego_at(2)) is None


@pytest.mark.parametrize(
    ("age", "caution"), [(0.0, None), (0.3, None), (0.5, Caution.SLOW), (1.5, Caution.STOP), (-0.5, Caution.SLOW)]
)
def test_old_data_slows_and_stops(age: float, caution: Caution | None) -> None:
    finding = Watchdog(WATCH).observed(0.0, age, EVERYTHING, ego_at(0))
    assert (finding.caution if finding else None) == caution


def test_a_jump_of_time_holds_the_speed_for_a_moment_and_many_jumps_stop() -> None:
    watchdog, found = Watchdog(WATCH), []
    for dt in [0.1] * 3 + [-2.0] + [0.1] * 14:
        finding = watchdog.observed(dt, 0.0, EVERYTHING, ego_at(0, 0.0))
        found.append(Caution.NONE if finding is None else finding.caution)
    assert found[:3] == [Caution.NONE] * 3
    assert found[3:14] == [Caution.HOLD] * 11
    assert found[14:] == [Caution.NONE] * 4
    for dt in (5.0, -5.0, 5.0):
        finding = watchdog.observed(dt, 0.0, EVERYTHING, ego_at(0, 0.0))
    assert finding is not None
    assert finding.caution == Caution.STOP


@pytest.mark.parametrize("speed", [1.5, 5.0, 14.0])
def test_a_pose_that_stays_while_the_speed_says_it_moves_is_frozen(speed: float) -> None:
    watchdog, frozen = Watchdog(WATCH), []
    for k in range(40):
        moved = 0.1 * speed * (min(k, 10) if k < 25 else k)
        finding = watchdog.observed(0.1 if k else 0.0, 0.0, EVERYTHING, ego_at(k, speed, moved))
        frozen.append(finding is not None and finding.blind and "frozen" in finding.reason)
    first = frozen.index(True)
    assert 10 < first <= 20  # within two stretches of half a second
    assert all(frozen[first:25])
    assert not any(frozen[:11])
    assert not frozen[-1]


@pytest.mark.parametrize("speed", [0.0, 0.05])
def test_standing_still_is_not_frozen(speed: float) -> None:
    watchdog = Watchdog(WATCH)
    for k in range(60):
        assert watchdog.observed(0.1, 0.0, EVERYTHING, ego_at(k, speed, 0.0)) is None


def test_noisy_odometry_is_not_frozen() -> None:
    rng, watchdog = np.random.default_rng(0), Watchdog(WATCH)
    for k in range(200):
        moved = 0.3 * k + rng.normal(0, 0.05)
        assert watchdog.observed(0.1, 0.0, EVERYTHING, ego_at(k, 3.0 + rng.normal(0, 0.2), moved)) is None


def stop(fault: str, speed: float, frames: int = 150) -> tuple[list[Plan], list[float], list[float]]:
    """Plans, true speeds and ways of a vehicle on which `fault` comes after a second, of a planner that drives on."""
    layer, x, v = SafetyLayer(), 0.0, speed
    frozen: EgoState | None = None
    plans, speeds, ways = [], [], []
    for k in range(frames):
        ego: EgoState | None = EgoState(k * STEP_NS, pose_from_xy_yaw(x, 0, 0), np.array([v, 0.0]))
        objects: Objects | None = Objects.empty()
        obstacles: Boxes | None = Boxes.empty()
        believed = v
        if k >= 10:
            frozen = frozen or ego
            if fault == "odometry lost":
                ego, believed = None, speed
            if fault == "odometry given up":
                ego, believed = EgoState.standing(k * STEP_NS), 0.0
            if fault == "odometry frozen":
                ego, believed = EgoState(k * STEP_NS, frozen.T_odom_base, frozen.velocity), speed
            if fault in ("detections", "all"):
                objects = None
            if fault in ("obstacles", "all"):
                obstacles = None
        plan = onward(k * STEP_NS, believed, acceleration=1.0, until=max(speed, believed))
        checked = layer.checked(plan, objects, obstacles, ego, np.inf, k * STEP_NS)
        a = float(checked.trajectory.acceleration[0])
        plans.append(checked)
        speeds.append(v)
        ways.append(x)
        after = max(v + 0.1 * a, 0.0)
        x, v = x + 0.05 * (v + after), after
    return plans, speeds, ways


@pytest.mark.parametrize(
    "fault", ["odometry lost", "odometry given up", "odometry frozen", "detections", "obstacles", "all"]
)
def test_every_fault_ends_in_a_comfortable_stop_within_the_way_that_it_says(fault: str) -> None:
    plans, speeds, ways = stop(fault, 12.0)
    assert speeds[-1] < 0.05
    assert np.diff(speeds).min() / 0.1 >= -VEHICLE.comfortable_deceleration - 1e-6
    stopping = next(k for k, plan in enumerate(plans) if any("standing within" in note for note in plan.notes))
    assert stopping <= 32
    note = next(note for note in plans[stopping].notes if "standing within" in note)
    said = float(note.split("standing within ")[1].split(" m")[0])
    assert ways[-1] - ways[stopping] == pytest.approx(said, abs=1.5)
    assert all(plan.decision.kind in (DecisionKind.STOP, DecisionKind.NO_INPUT) for plan in plans[stopping:])
    assert plans[stopping].decision.reason.endswith(f"standing within {said:.0f} m")


def test_old_data_is_driven_on_slowly() -> None:
    layer, v, x = SafetyLayer(), 14.0, 0.0
    for k in range(120):
        ego = EgoState(k * STEP_NS, pose_from_xy_yaw(x, 0, 0), np.array([v, 0.0]))
        plan = layer.checked(
            onward(k * STEP_NS, v, acceleration=1.0, until=14.0), Objects.empty(), Boxes.empty(), ego, np.inf,
            k * STEP_NS + 500_000_000,
        )  # fmt: skip
        assert plan.decision.kind == DecisionKind.SLOW
        a = float(plan.trajectory.acceleration[0])
        assert a >= -WATCH.slowing - 1e-9
        x, v = x + 0.1 * v, v + 0.1 * a
    assert v == pytest.approx(WATCH.degraded_speed, abs=0.2)
    assert plan.decision.reason == "SLOW: the data is 0.50 s old; no faster than 8.0 m/s"


def test_a_plan_that_stops_already_is_kept() -> None:
    layer = SafetyLayer()
    plan = onward(0, 10.0, acceleration=-3.0)
    checked = layer.checked(plan, None, Boxes.empty(), None, np.inf, 0)
    assert np.array_equal(checked.trajectory.speed, plan.trajectory.speed)
    assert checked.notes[0].startswith("watchdog: the vehicle's motion is not known; standing within")


def test_no_motion_ever_is_taken_for_standing_not_for_a_fault() -> None:
    layer = SafetyLayer()
    for k in range(20):
        plan = onward(k * STEP_NS, 0.0)
        ego = EgoState.standing(k * STEP_NS)
        assert ego.source == MotionSource.NONE
        assert layer.checked(plan, Objects.empty(), Boxes.empty(), ego, np.inf, k * STEP_NS) is plan


def test_a_lost_route_is_not_driven_on() -> None:
    layer, route = SafetyLayer(), Route(np.array([[0.0, 0.0], [100.0, 0.0]]))
    for k in range(40):
        plan = layer.checked(
            onward(k * STEP_NS, 5.0), Objects.empty(), Boxes.empty(), ego_at(k, 5.0), np.inf, k * STEP_NS,
            route if k < 10 else None,
        )  # fmt: skip
    assert plan.decision.reason.startswith("STOP: no route for 3.0 s; standing within")


def test_switched_off_nothing_is_missed() -> None:
    layer = SafetyLayer(SafetySettings().with_parameters({"watchdog.enabled": False}))
    for k in range(20):
        plan = onward(k * STEP_NS, 5.0)
        assert layer.checked(plan, None, None, None, np.inf, k * STEP_NS + 10**10) is plan


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**62), st.integers(-(2**62), 2**62), st.booleans(), st.booleans(),
            st.sampled_from(["none", "standing", "moving", "absurd"]), st.floats(0.0, 1e6),
        ),
        min_size=1, max_size=8,
    ),
    st.floats(0.0, 1e300),
)  # fmt: skip
def test_garbage_ends_in_a_plan_that_can_be_driven_never_in_an_exception(
    steps: list[tuple[int, int, bool, bool, str, float]], limit: float
) -> None:
    layer = SafetyLayer()
    far = boxes_of([(1e300, -1e300, 1e-9, 1e300, 3.0, 1e300, -1e300), (3.5, 0, 4.5, 1.8, 0, -1e9, 0)])
    for stamp, now, some, more, motion, speed in steps:
        stamp %= 2**31 * 10**9
        ego = {
            "none": None,
            "standing": EgoState.standing(stamp),
            "moving": EgoState(stamp, pose_from_xy_yaw(speed, 0, 0), np.array([speed, 0.0]), 0.1),
            "absurd": EgoState(stamp, pose_from_xy_yaw(1e200, -1e200, 2), np.array([-1e300, 1e300]), 1e300),
        }[motion]
        way = onward(stamp, min(speed, 50.0)) if more else Plan(stamp, Trajectory.empty(), onward(0, 0.0).decision)
        checked = layer.checked(
            way, objects_of(far) if some else None, unlabelled(far) if more else None, ego, limit, now
        )
        assert np.isfinite(checked.trajectory.speed).all()
        assert (checked.trajectory.speed >= 0).all()
        assert len(checked.decision.reason) > 0
