from __future__ import annotations

import numpy as np
import pytest

from karp_perception.core import Command, Decision, DecisionKind, Plan, Trajectory, Vehicle
from karp_perception.planning.control import command_of, planned
from karp_perception.world.vehicle import DrivenVehicle


def plan_of(speed: np.ndarray, acceleration: np.ndarray, curvature: float = 0.0) -> Plan:
    t = np.linspace(0.0, 4.0, len(speed))
    zeros = np.zeros_like(t)
    way = Trajectory(t, zeros, zeros, zeros, speed, acceleration, np.full_like(t, curvature))
    return Plan(0, way, Decision(DecisionKind.CRUISE, "a test"))


def test_the_front_wheels_follow_the_bicycle_model() -> None:
    command = command_of(plan_of(np.full(41, 5.0), np.zeros(41), 0.1), wheelbase=2.8)
    assert command == Command(np.arctan(0.28), 5.0, 0.0)


def test_an_empty_plan_asks_for_standing_still() -> None:
    plan = Plan(0, Trajectory.empty(), Decision(DecisionKind.NO_INPUT, "nothing came"))
    assert command_of(plan, 2.8) == Command(0.0, 0.0, 0.0)
    assert planned(plan) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("braking", [2.0, 6.0, 8.0])
def test_braking_that_is_planned_anew_ten_times_a_second_is_braked_in_full(braking: float) -> None:
    vehicle = DrivenVehicle(Vehicle(), x=0.0, y=0.0, yaw=0.0, speed=15.0)
    way, before = 0.0, 15.0
    for _ in range(100):
        v = vehicle.speed
        t = np.linspace(0.0, 4.0, 41)
        speed = np.maximum(v - braking * t, 0.0)
        vehicle.apply(command_of(plan_of(speed, np.where(speed > 0, -braking, 0.0)), 2.8))
        for _ in range(2):
            vehicle.step(0.05)
        way += 0.05 * (before + vehicle.speed)
        before = vehicle.speed
        if vehicle.speed < 0.01:
            break
    # The dead time and lag of the brakes cost about a quarter of a second's way, and the last metre is gentle.
    ideal = 15.0**2 / (2 * braking)
    assert ideal < way < ideal + 15.0 * 0.35 + 0.8
