"""The vehicle under test: the bicycle against circles, the actuators against their step responses, and the limits."""

from __future__ import annotations

import math

import numpy as np
import pytest

from karp_perception.core import Command
from karp_perception.core.vehicle import Vehicle
from karp_perception.world.geometry.ground import Ground
from karp_perception.world.vehicle import DrivenVehicle, VehicleDynamics

AT_ONCE = VehicleDynamics(lateness=0.0, max_jerk=1000.0)


def test_a_held_wheel_drives_the_circle_of_the_bicycle() -> None:
    vehicle = DrivenVehicle(Vehicle(steering_rate=10.0), AT_ONCE, speed=8.0)
    vehicle.steering_angle = 0.2
    vehicle.apply(Command(0.2, 8.0, 0.0))
    base, lead = vehicle.vehicle.wheelbase, vehicle.axle
    radius = base / math.tan(0.2)
    for _ in range(100):
        vehicle.step(0.1)
        turned = 8.0 * vehicle.time / radius
        # The rear axle goes round (-lead, radius); base_link is `lead` m before it.
        x = -lead + radius * math.sin(turned) + lead * math.cos(turned)
        y = radius - radius * math.cos(turned) + lead * math.sin(turned)
        assert math.dist((vehicle.x, vehicle.y), (x, y)) < 1e-6
    np.testing.assert_allclose(vehicle.velocity, (8.0, lead * 8.0 / radius), atol=1e-9)
    assert vehicle.yaw_rate == pytest.approx(8.0 / radius)


def test_the_steering_answers_a_step_after_its_dead_time_with_its_lag() -> None:
    vehicle = DrivenVehicle(Vehicle(steering_delay=0.1, steering_lag=0.2, steering_rate=10.0), speed=5.0)
    vehicle.apply(Command(0.3, 5.0, 0.0))
    for _ in range(20):
        vehicle.step(0.05)
        since = max(vehicle.time - 0.1, 0.0)
        assert vehicle.steering_angle == pytest.approx(0.3 * (1 - math.exp(-since / 0.2)), abs=1e-9)


def test_the_wheels_turn_no_faster_and_no_further_than_they_can() -> None:
    vehicle = DrivenVehicle(Vehicle(steering_rate=0.5))
    vehicle.apply(Command(5.0, 0.0, 0.0))
    before = 0.0
    for _ in range(40):
        vehicle.step(0.05)
        assert vehicle.steering_angle - before <= 0.5 * 0.05 + 1e-9
        assert vehicle.steering_angle <= vehicle.vehicle.max_steering_angle
        before = vehicle.steering_angle
    assert vehicle.steering_angle == pytest.approx(vehicle.vehicle.max_steering_angle, abs=1e-3)


def test_the_drive_answers_with_the_acceleration_asked_for_after_delay_and_lag() -> None:
    delay, lag = 0.1, 0.2
    vehicle = DrivenVehicle(Vehicle(acceleration_delay=delay, acceleration_lag=lag))
    vehicle.apply(Command(0.0, 20.0, 2.0))
    way = 0.0
    for _ in range(40):
        vehicle.step(0.05)
        t = max(vehicle.time - delay, 0.0)
        rise = 1 - math.exp(-t / lag)
        way = 2.0 * (0.5 * t * t - lag * t + lag * lag * rise)
        assert vehicle.acceleration == pytest.approx(2.0 * rise, abs=1e-9)
        assert vehicle.speed == pytest.approx(2.0 * (t - lag * rise), abs=1e-9)
    assert vehicle.x == pytest.approx(way, abs=1e-9)


@pytest.mark.parametrize("acceleration", [0.0, 1.0, -1.0])
def test_the_wanted_speed_is_reached_and_kept_whatever_sign_the_acceleration_has(acceleration: float) -> None:
    vehicle = DrivenVehicle(speed=5.0)
    vehicle.apply(Command(0.0, 10.0, acceleration))
    speeds = []
    for _ in range(200):
        vehicle.step(0.1)
        speeds.append(vehicle.speed)
    assert speeds[-1] == pytest.approx(10.0, abs=0.01)
    assert max(speeds) < 10.6


@pytest.mark.parametrize("command", [Command(0.3, 0.0, 0.0), Command(0.0, 0.0, -20.0), Command(0.0, 2.0, -3.0)])
def test_braking_ends_at_standstill_within_what_the_brakes_can(command: Command) -> None:
    vehicle = DrivenVehicle(speed=15.0)
    vehicle.apply(command)
    for _ in range(200):
        vehicle.step(0.05)
        assert vehicle.speed >= 0.0
        assert vehicle.acceleration >= -vehicle.vehicle.max_deceleration - 1e-9
    assert vehicle.speed == pytest.approx(command.speed, abs=0.02)


def test_it_goes_backwards_only_for_a_negative_speed() -> None:
    vehicle = DrivenVehicle(speed=2.0)
    vehicle.apply(Command(0.0, -1.0, 0.0))
    for _ in range(100):
        vehicle.step(0.05)
    assert vehicle.speed == pytest.approx(-1.0, abs=0.02)


def test_steps_of_any_length_lead_to_the_same_place() -> None:
    places = []
    for step in (0.1, 0.05, 0.02):
        vehicle = DrivenVehicle(speed=6.0)
        for k in range(30):
            vehicle.apply(Command(0.2 * math.sin(k), 6.0 + 2.0 * math.cos(k), 1.0))
            for _ in range(round(0.1 / step)):
                vehicle.step(step)
        places.append((vehicle.x, vehicle.y, vehicle.yaw, vehicle.speed))
    np.testing.assert_allclose(places[1:], [places[0]] * 2, atol=1e-6)


def test_it_lies_on_a_slope() -> None:
    x = np.arange(-50.0, 51.0, 10.0)
    rise, tilt = 0.08, 0.03  # m per m along x and y
    ground = Ground(rise * x[None, :] + tilt * x[:, None], (-50.0, -50.0), 10.0)
    vehicle = DrivenVehicle(x=3.0, y=2.0, ground=ground)
    pose = vehicle.pose
    assert pose[2, 3] == pytest.approx(rise * 3.0 + tilt * 2.0, abs=1e-9)
    normal = np.array([-rise, -tilt, 1.0]) / math.sqrt(1 + rise**2 + tilt**2)
    np.testing.assert_allclose(pose[:3, 2], normal, atol=2e-4)


def test_what_it_tells_of_itself_is_what_it_does() -> None:
    vehicle = DrivenVehicle(speed=7.0)
    vehicle.apply(Command(0.15, 9.0, 1.0))
    for _ in range(20):
        vehicle.step(0.1)
    before, state = vehicle.pose, vehicle.ego_state(5)
    vehicle.step(1e-4)
    moved = before[:3, :3].T @ (vehicle.pose[:3, 3] - before[:3, 3]) / 1e-4
    np.testing.assert_allclose(moved[:2], state.velocity, atol=2e-3)


def test_one_that_is_later_than_it_says_answers_later() -> None:
    vehicle = DrivenVehicle(
        Vehicle(steering_delay=0.1, steering_lag=0.2, steering_rate=10.0), VehicleDynamics(lateness=1.5)
    )
    vehicle.apply(Command(0.3, 0.0, 0.0))
    vehicle.step(0.45)
    assert vehicle.steering_angle == pytest.approx(0.3 * (1 - math.exp(-0.3 / 0.3)), abs=1e-9)


def test_a_differential_drive_turns_as_tightly_as_its_yaw_rate_allows() -> None:
    robot = Vehicle(kind="differential", wheelbase=0.4, max_yaw_rate=1.5, max_steering_angle=0.1, max_speed=1.5)
    vehicle = DrivenVehicle(robot, speed=1.0)
    vehicle.apply(Command(1.4, 1.0, 0.0))
    for _ in range(40):
        vehicle.step(0.05)
        assert abs(vehicle.yaw_rate) < 1.5 + 1e-9
    assert vehicle.yaw_rate == pytest.approx(1.5, abs=1e-3)
    vehicle.apply(Command(0.0, 9.0, 0.0))
    for _ in range(100):
        vehicle.step(0.05)
    assert vehicle.speed == pytest.approx(1.5, abs=1e-3)
