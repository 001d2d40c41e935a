from __future__ import annotations

import numpy as np
import pytest

from karp_perception.core import Command, Decision, DecisionKind, EgoState, Plan, Trajectory, Vehicle
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.planning.control import Controller, planned
from karp_perception.world.vehicle import DrivenVehicle

EMPTY = Plan(10**9, Trajectory.empty(), Decision(DecisionKind.NO_INPUT, "nothing came"))


def ego_of(speed: float, stamp_ns: int = 10**9) -> EgoState:
    return EgoState(stamp_ns, pose_from_xy_yaw(3.0, 4.0, 0.5), np.array([speed, 0.0]))


def plan_of(speed: np.ndarray, acceleration: np.ndarray, stamp_ns: int) -> Plan:
    t = np.linspace(0.0, 4.0, len(speed))
    x = np.concatenate([[0.0], np.cumsum(0.5 * (speed[1:] + speed[:-1]) * np.diff(t))])
    zeros = np.zeros_like(t)
    way = Trajectory(t, x, zeros, zeros, speed, acceleration, zeros)
    return Plan(stamp_ns, way, Decision(DecisionKind.CRUISE, "a test"))


def test_an_empty_plan_asks_for_standing_still() -> None:
    assert Controller().step(EMPTY, ego_of(0.0), 10**9) == Command(0.0, 0.0, 0.0)
    assert planned(EMPTY) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("braking", [2.0, 6.0, 8.0])
def test_braking_that_is_planned_anew_ten_times_a_second_is_braked_in_full(braking: float) -> None:
    vehicle, controller = DrivenVehicle(Vehicle(), x=0.0, y=0.0, yaw=0.0, speed=15.0), Controller()
    way, before = 0.0, 15.0
    for k in range(100):
        v, now_ns = vehicle.speed, 10**9 + k * 10**8
        speed = np.maximum(v - braking * np.linspace(0.0, 4.0, 41), 0.0)
        plan = plan_of(speed, np.where(speed > 0, -braking, 0.0), now_ns)
        vehicle.apply(controller.step(plan, vehicle.ego_state(now_ns), now_ns))
        for _ in range(2):
            vehicle.step(0.05)
        way += 0.05 * (before + vehicle.speed)
        before = vehicle.speed
        if vehicle.speed < 0.01:
            break
    # The dead time and lag of the brakes cost about a quarter of a second's way, and the last metre is gentle.
    ideal = 15.0**2 / (2 * braking)
    assert ideal < way < ideal + 15.0 * 0.35 + 0.8
