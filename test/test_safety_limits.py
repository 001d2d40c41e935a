"""Limits: what the vehicle cannot do is clamped and told; what it can do is left as it is."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karp_perception.core import Trajectory, Vehicle
from karp_perception.planning.safety.limits import CommandLimiter, LimitSettings, largest_curvature, within_limits

CAR = Vehicle()
ROBOT = Vehicle(kind="differential", max_speed=2.0, max_acceleration=1.0, max_deceleration=2.0, wheelbase=0.5)
LIMITS = LimitSettings()


def driven(speed: np.ndarray, curvature: np.ndarray, dt: float = 0.1) -> Trajectory:
    """A trajectory whose columns belong together."""
    time = np.arange(len(speed)) * dt
    step = 0.5 * (speed[1:] + speed[:-1]) * dt
    turn = 0.5 * (curvature[1:] + curvature[:-1]) * step
    yaw = np.concatenate([[0.0], np.cumsum(turn)])
    x = np.concatenate([[0.0], np.cumsum(step * np.cos(yaw[:-1] + 0.5 * turn))])
    y = np.concatenate([[0.0], np.cumsum(step * np.sin(yaw[:-1] + 0.5 * turn))])
    return Trajectory(time, x, y, yaw, speed, np.append(np.diff(speed) / dt, 0.0), curvature)


def breaches(way: Trajectory, vehicle: Vehicle) -> list[str]:
    """Which of the vehicle's limits a trajectory breaks."""
    dt, slack = np.diff(way.time), 1e-4
    angle = np.arctan(way.curvature * vehicle.wheelbase)
    tight = np.abs(way.curvature) > largest_curvature(way.speed, vehicle, LIMITS) * (1 + slack)
    # Where tyres or yaw rate allow less than a moment ago, they count for more than how fast the wheels turn.
    turned = np.abs(np.diff(angle)) > vehicle.largest_steering_rate() * dt + slack
    bound = np.abs(way.curvature[1:]) >= largest_curvature(way.speed[1:], vehicle, LIMITS) * (1 - slack)
    change = np.diff(way.speed) / dt
    found = {
        "speed": (way.speed < 0).any() or (way.speed > vehicle.max_speed + slack).any(),
        "acceleration": (way.acceleration > vehicle.max_acceleration + slack).any()
        or (change > vehicle.max_acceleration + slack).any(),
        "deceleration": (way.acceleration < -vehicle.max_deceleration - slack).any()
        or (change < -vehicle.max_deceleration - slack).any(),
        "curvature": tight.any(),
        "steering rate": (turned & ~bound).any(),
    }
    return [name for name, broken in found.items() if broken]


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.floats(-5.0, 90.0), min_size=20, max_size=20),
    st.lists(st.floats(-2.0, 2.0), min_size=20, max_size=20),
    st.sampled_from([CAR, ROBOT]),
)
def test_any_trajectory_comes_out_within_the_limits(speed: list[float], bend: list[float], vehicle: Vehicle) -> None:
    asked = driven(np.array(speed), np.array(bend))
    way, notes = within_limits(asked, vehicle, LIMITS)
    assert breaches(way, vehicle) == []
    assert bool(notes) == (way is not asked)
    assert notes or not breaches(asked, vehicle)
    assert within_limits(way, vehicle, LIMITS)[1] == ()


@settings(max_examples=60, deadline=None)
@given(st.floats(0.0, 30.0), st.floats(-7.9, 2.9), st.floats(-0.9, 0.9), st.floats(0.0, 0.1))
def test_what_can_be_driven_is_left_as_it_is(speed: float, a: float, share: float, turning: float) -> None:
    time = np.arange(81) * 0.1
    v = np.clip(speed + a * time, 0.0, 50.0)
    most = largest_curvature(v.max(), CAR, LIMITS)
    way = driven(v, share * most * np.sin(turning * time))
    assert within_limits(way, CAR, LIMITS, 60.0) == (way, ())


def test_each_limit_is_told_of() -> None:
    straight, still = np.zeros(30), np.full(30, 10.0)
    jump = np.where(np.arange(30) < 10, 10.0, 20.0)
    cases = [
        (driven(jump, straight), "speed clamped by up to 9.7 m/s"),
        (driven(still, np.full(30, 0.4)), "curvature clamped by up to 0.340 1/m"),  # 6 m/s² at 10 m/s: 0.06 1/m
        (driven(np.full(30, 2.0), np.full(30, 0.5)), "curvature clamped by up to 0.281 1/m"),  # tan(0.55)/2.8
    ]
    for way, note in cases:
        assert within_limits(way, CAR, LIMITS)[1] == (note,)


def test_the_speed_limit_is_kept_but_come_down_to_calmly() -> None:
    faster = driven(np.linspace(10.0, 20.0, 81), np.zeros(81))
    way, notes = within_limits(faster, CAR, LIMITS, 14.0)
    assert way.speed.max() == pytest.approx(14.0 + LIMITS.over_limit)
    assert notes[0].startswith("speed clamped")
    calm = driven(np.linspace(20.0, 14.0, 81), np.zeros(81))
    assert within_limits(calm, CAR, LIMITS, 13.9) == (calm, ())


def test_switched_off_nothing_is_clamped() -> None:
    way = driven(np.full(10, 200.0), np.full(10, 3.0))
    assert within_limits(way, CAR, LimitSettings(enabled=False)) == (way, ())


ANYTHING = st.floats(allow_nan=True, allow_infinity=True)
DRIVEN = st.floats(-100.0, 100.0) | st.just(math.nan) | st.just(math.inf)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(ANYTHING, ANYTHING, ANYTHING, DRIVEN, st.floats(0.0, 1.0)), max_size=6))
@pytest.mark.parametrize("vehicle", [CAR, ROBOT])
def test_any_command_comes_out_within_the_limits(vehicle: Vehicle, asked: list[tuple[float, ...]]) -> None:
    limiter, last = CommandLimiter(LIMITS, vehicle), None
    for angle, speed, acceleration, now, dt in asked:
        command, notes = limiter.limited(angle, speed, acceleration, now, dt)
        assert 0.0 <= command.speed <= vehicle.max_speed
        assert -vehicle.max_deceleration <= command.acceleration <= vehicle.max_acceleration
        v = abs(now) if math.isfinite(now) else vehicle.max_speed
        most = min(
            vehicle.largest_steering_angle(v), math.atan(largest_curvature(v, vehicle, LIMITS) * vehicle.wheelbase)
        )
        assert abs(command.steering_angle) <= most + 1e-9
        bound = abs(command.steering_angle) >= most - 1e-9
        rate = vehicle.steering_rate if vehicle is CAR else math.inf
        assert last is None or bound or abs(command.steering_angle - last) <= max(rate * max(dt, 1e-9), 1e-9) + 1e-9
        if not all(math.isfinite(x) for x in (angle, speed, acceleration)):
            assert notes[0] == "a command that is no number: stopping"
            assert command.speed == 0.0
        last = command.steering_angle


@settings(max_examples=50, deadline=None)
@given(st.floats(-0.3, 0.3), st.floats(0.0, 50.0), st.floats(-7.9, 2.9))
def test_a_possible_command_is_left_as_it_is(angle: float, speed: float, acceleration: float) -> None:
    command, notes = CommandLimiter(LIMITS, CAR).limited(angle, speed, acceleration, 3.0, 0.1)
    assert notes == ()
    assert (command.steering_angle, command.speed, command.acceleration) == (angle, speed, acceleration)


def test_wheels_turn_no_faster_than_they_can_and_that_is_told() -> None:
    limiter = CommandLimiter(LIMITS, CAR)
    assert limiter.limited(0.0, 5.0, 0.0, 3.0, 0.1)[1] == ()
    command, notes = limiter.limited(0.5, 5.0, -9.0, 3.0, 0.1)
    assert command.steering_angle == pytest.approx(0.06)  # 0.6 rad/s for 0.1 s
    assert notes == (
        "steering angle of 0.50 rad clamped to 0.06",
        "acceleration of -9.00 m/s² clamped to -8.00",
    )
    limiter.reset()
    assert limiter.limited(0.5, 5.0, 0.0, 3.0, 0.1)[1] == ()
