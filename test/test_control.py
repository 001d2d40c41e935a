"""The controller in closed loop with the world's vehicle: ways and speeds that are known in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_discrete_are
from scipy.signal import cont2discrete

from karp_perception.core import Command, Decision, DecisionKind, EgoState, Plan, Trajectory, Vehicle
from karp_perception.core.geometry import invert_pose, pose_from_xy_yaw, transform_points, yaw_of
from karp_perception.core.resources import parameter_file
from karp_perception.pipeline import PipelineSettings
from karp_perception.planning.control import Controller, ControlSettings, planned
from karp_perception.planning.control.lateral import Lqr
from karp_perception.planning.control.reference import Reference
from karp_perception.planning.control.settings import LqrSettings
from karp_perception.world.vehicle import DrivenVehicle, VehicleDynamics

CAR = Vehicle()
ROBOT = PipelineSettings.from_yaml(parameter_file("robot")).vehicle
SHUTTLE = PipelineSettings.from_yaml(parameter_file("shuttle")).vehicle
VEHICLES = {"car": CAR, "shuttle": SHUTTLE, "robot": ROBOT}
CRUISE = Decision(DecisionKind.CRUISE, "a test")
EMPTY = Plan(10**9, Trajectory.empty(), Decision(DecisionKind.NO_INPUT, "nothing came"))
TICK, HORIZON, START_NS = 0.1, 4.0, 10**9

Curvature = Callable[[np.ndarray], np.ndarray]
Speed = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Way:
    """A rear axle's way by distance and a speed by time, integrated finely."""

    vehicle: Vehicle
    curvature: Curvature
    speed: Speed
    duration: float

    def __post_init__(self) -> None:
        t = np.arange(0.0, self.duration + HORIZON + 2.0, 0.01)
        v = self.speed(t)
        s = np.concatenate([[0.0], np.cumsum(0.5 * (v[1:] + v[:-1]) * 0.01)])
        fine = np.arange(0.0, s[-1] + 40.0, 0.02)
        bend = self.curvature(fine)
        yaw = np.concatenate([[0.0], np.cumsum(0.5 * (bend[1:] + bend[:-1]) * 0.02)])
        middle = 0.5 * (yaw[1:] + yaw[:-1])
        x = np.concatenate([[0.0], np.cumsum(0.02 * np.cos(middle))])
        y = np.concatenate([[0.0], np.cumsum(0.02 * np.sin(middle))])
        columns = np.stack([np.interp(s, fine, column) for column in (x, y, yaw, bend)])
        object.__setattr__(self, "_rows", np.vstack([t, s, columns, v, np.gradient(v, t)]))
        object.__setattr__(self, "_fine", np.stack([fine, x, y, yaw]))

    def plan(self, ego: EgoState, t: float) -> Plan:
        """What a planner that wants this way says at time t (s), in `base_link` of `ego`, which is the state then."""
        time = np.linspace(0.0, HORIZON, 41)
        x, y, yaw, bend, v, a = (np.interp(t + time, self._rows[0], row) for row in self._rows[2:])
        axle = self.vehicle.axle
        base = np.column_stack([x + axle * np.cos(yaw), y + axle * np.sin(yaw), np.zeros_like(x)])
        base = transform_points(invert_pose(ego.T_odom_base), base)
        way = Trajectory(time, base[:, 0], base[:, 1], yaw - yaw_of(ego.T_odom_base), v, a, bend)
        return Plan(ego.stamp_ns, way, CRUISE)

    def errors(self, x: float, y: float, t: float) -> tuple[float, float]:
        """m that a rear axle is to the left of the way, and m that it is behind where it is to be at time t (s)."""
        s, px, py, yaw = self._fine
        k = int(np.argmin(np.hypot(px - x, py - y)))
        left = -math.sin(yaw[k]) * (x - px[k]) + math.cos(yaw[k]) * (y - py[k])
        ahead = math.cos(yaw[k]) * (x - px[k]) + math.sin(yaw[k]) * (y - py[k])
        return left, float(np.interp(t, self._rows[0], self._rows[1])) - (s[k] + ahead)


@dataclass(frozen=True)
class Driven:
    """What came of it, tick by tick: m, m, m/s, m/s, m/s², and the commands."""

    left: np.ndarray
    behind: np.ndarray
    speed: np.ndarray
    wanted: np.ndarray
    acceleration: np.ndarray
    commands: list[Command]


def drive(
    way: Way,
    control: ControlSettings = ControlSettings(),
    age: float = 0.0,
    lateness: float = 1.0,
    ego_age: float = 0.0,
) -> Driven:
    """Drive along a way by plans that are `age` s old, and odometry that is `ego_age` s old."""
    vehicle, controller = way.vehicle, Controller(control, way.vehicle)
    driven = DrivenVehicle(
        vehicle, VehicleDynamics(lateness=lateness), x=vehicle.axle, speed=float(way.speed(np.zeros(1))[0])
    )
    egos: list[EgoState] = []
    rows, commands = [], []
    for k in range(round(way.duration / TICK)):
        now_ns = START_NS + round(k * TICK * 1e9)
        egos.append(driven.ego_state(now_ns))
        made = max(k - round(age / TICK), 0)
        plan = way.plan(egos[made], made * TICK)
        command = controller.step(plan, egos[max(k - round(ego_age / TICK), 0)], now_ns)
        x, y = driven.x - vehicle.axle * math.cos(driven.yaw), driven.y - vehicle.axle * math.sin(driven.yaw)
        rows.append(
            (*way.errors(x, y, k * TICK), driven.speed, float(way.speed(np.array([k * TICK]))[0]), driven.acceleration)
        )
        commands.append(command)
        driven.apply(command)
        driven.step(TICK)
    return Driven(*np.array(rows).T, commands)


def at(speed: float) -> Speed:
    return lambda t: np.full_like(t, speed)


def ramp(first: float, last: float, acceleration: float, begin: float = 1.0) -> Speed:
    change = math.copysign(acceleration, last - first)
    low, high = min(first, last), max(first, last)
    return lambda t: np.clip(first + change * np.maximum(t - begin, 0.0), low, high)


def straight(s: np.ndarray) -> np.ndarray:
    return np.zeros_like(s)


def circle(radius: float, lead_in: float = 8.0) -> Curvature:
    return lambda s: np.clip((s - lead_in) / lead_in, 0.0, 1.0) / radius


def slalom(most: float, length: float) -> Curvature:
    return lambda s: most * np.sin(2 * np.pi * s / length)


def s_bend(most: float) -> Curvature:
    return lambda s: np.interp(s, [10, 18, 30, 46, 58, 66], [0, most, most, -most, -most, 0])


# Name, vehicle, curvature, speed (m/s), most deviation (m) by LQR and by pure pursuit.
WAYS = [
    ("straight", "car", straight, 20.0, 0.001, 0.001),
    ("circle", "car", circle(10.0), 3.0, 0.005, 0.09),
    ("circle", "car", circle(60.0), 10.0, 0.01, 0.07),
    ("slalom", "car", slalom(0.06, 40.0), 5.0, 0.01, 0.08),
    ("slalom", "car", slalom(0.025, 60.0), 10.0, 0.01, 0.1),
    ("slalom", "car", slalom(0.006, 120.0), 20.0, 0.01, 0.1),
    ("slalom", "car", slalom(0.0025, 200.0), 30.0, 0.01, 0.1),
    ("s_bend", "car", s_bend(0.12), 3.0, 0.01, 0.1),
    ("s_bend", "car", s_bend(0.08), 5.0, 0.01, 0.1),
    ("s_bend", "car", s_bend(0.04), 8.0, 0.015, 0.13),
    ("s_bend", "shuttle", s_bend(0.06), 5.0, 0.02, 0.1),
    ("circle", "robot", circle(1.5, 2.0), 1.0, 0.005, 0.1),
    ("s_bend", "robot", lambda s: s_bend(0.6)(6.0 * s), 1.5, 0.02, 0.15),
]


@pytest.mark.parametrize("lateral", ["lqr", "pure_pursuit"])
@pytest.mark.parametrize(("name", "vehicle", "curvature", "speed", "lqr", "pursuit"), WAYS)
def test_the_vehicle_stays_on_its_way(
    name: str, vehicle: str, curvature: Curvature, speed: float, lqr: float, pursuit: float, lateral: str
) -> None:
    way = Way(VEHICLES[vehicle], curvature, at(speed), min(12.0, 100.0 / speed))
    driven = drive(way, ControlSettings(lateral=lateral))
    assert np.abs(driven.left).max() < (lqr if lateral == "lqr" else pursuit)
    # It settles: nothing swings up over the last third.
    assert np.abs(driven.left[-20:]).max() < 1.2 * np.abs(driven.left).max() + 1e-3


def test_a_vehicle_that_is_later_than_it_says_stays_near_its_way() -> None:
    way = Way(CAR, s_bend(0.04), at(8.0), 12.0)
    assert np.abs(drive(way, lateness=1.5).left).max() < 0.13
    assert np.abs(drive(Way(CAR, slalom(0.006, 120.0), at(20.0), 8.0), lateness=1.5).left).max() < 0.1


@pytest.mark.parametrize("curvature", [slalom(0.025, 60.0), circle(60.0)])
def test_an_old_plan_is_followed_as_well_as_a_new_one(curvature: Curvature) -> None:
    way = Way(CAR, curvature, ramp(10.0, 6.0, 1.0), 10.0)
    new, old = drive(way), drive(way, age=0.5)
    # Half a second is 5 m: taken for new, the plan would be driven that much too late.
    assert np.abs(old.left).max() < np.abs(new.left).max() + 0.01
    assert np.abs(old.behind).max() < np.abs(new.behind).max() + 0.05


def test_odometry_that_is_as_old_as_the_plan_is_carried_on_by_what_was_commanded() -> None:
    driven = drive(Way(CAR, slalom(0.025, 60.0), ramp(10.0, 6.0, 1.0), 10.0), age=0.3, ego_age=0.3)
    assert np.abs(driven.left).max() < 0.1
    assert np.abs(driven.behind).max() < 0.3


def test_a_vehicle_beside_its_way_comes_back_without_swinging_across() -> None:
    way = Way(CAR, straight, at(8.0), 8.0)
    controller, driven = Controller(), DrivenVehicle(CAR, x=CAR.axle, y=0.5, speed=8.0)
    begin = EgoState(START_NS, pose_from_xy_yaw(CAR.axle, 0.0, 0.0), np.zeros(2))
    beside = []
    for k in range(80):
        now_ns = START_NS + round(k * TICK * 1e9)
        ego = driven.ego_state(now_ns)
        there = way.plan(begin, k * TICK).trajectory
        x = there.x - (driven.x - CAR.axle)
        c, s = math.cos(driven.yaw), math.sin(driven.yaw)
        way_now = replace(there, x=c * x - s * driven.y, y=-s * x - c * driven.y, yaw=there.yaw - driven.yaw)
        driven.apply(controller.step(Plan(now_ns, way_now, CRUISE), ego, now_ns))
        driven.step(TICK)
        beside.append(driven.y)
    assert min(beside) > -0.03
    assert abs(beside[-1]) < 0.02


@pytest.mark.parametrize(
    ("vehicle", "speed", "over"),
    [
        ("car", ramp(5.0, 10.0, 1.5), 0.06),
        ("car", ramp(10.0, 15.0, 2.5), 0.1),
        ("car", ramp(15.0, 8.0, 2.0), 0.08),
        ("car", ramp(0.0, 5.0, 1.0), 0.05),
        ("shuttle", ramp(0.0, 6.0, 0.8), 0.05),
        ("robot", ramp(0.0, 1.5, 0.6), 0.03),
        ("robot", ramp(1.5, 0.5, 0.8), 0.03),
    ],
)
def test_speeds_are_reached_without_going_beyond_them(vehicle: str, speed: Speed, over: float) -> None:
    driven = drive(Way(VEHICLES[vehicle], straight, speed, 10.0))
    low, high = driven.wanted.min(), driven.wanted.max()
    assert low - over < driven.speed.min()
    assert driven.speed.max() < high + over
    assert driven.speed[-1] == pytest.approx(driven.wanted[-1], abs=0.02)


@pytest.mark.parametrize(
    ("vehicle", "speed", "short"),
    [
        ("car", ramp(10.0, 0.0, 1.0), 0.03),
        ("car", ramp(10.0, 0.0, 3.0), 0.12),
        ("car", ramp(3.0, 0.0, 0.6), 0.03),
        ("shuttle", ramp(5.0, 0.0, 0.8), 0.05),
        ("robot", ramp(1.5, 0.0, 0.5), 0.03),
    ],
)
def test_it_stops_at_the_point_and_stays_there(vehicle: str, speed: Speed, short: float) -> None:
    driven = drive(Way(VEHICLES[vehicle], circle(40.0), speed, 16.0))
    assert abs(driven.behind[-1]) < short
    assert (driven.speed >= 0.0).all()
    assert driven.speed[-10:].max() == 0.0
    stands = int(np.argmax(driven.speed[20:] == 0.0)) + 20
    assert driven.speed[stands:].max() == 0.0, "no creeping"
    held = driven.commands[stands + 1 :]
    assert {command.speed for command in held} == {0.0}
    assert len({command.steering_angle for command in held}) == 1, "no turning of wheels on the spot"


@pytest.mark.parametrize("braking", [2.0, 6.0, 8.0])
def test_braking_that_is_planned_anew_ten_times_a_second_is_braked_in_full(braking: float) -> None:
    vehicle, controller = DrivenVehicle(Vehicle(), x=0.0, y=0.0, yaw=0.0, speed=15.0), Controller()
    way, before, t = 0.0, 15.0, np.linspace(0.0, 4.0, 41)
    for k in range(100):
        now_ns = 10**9 + k * 10**8
        speed = np.maximum(vehicle.speed - braking * t, 0.0)
        x, zeros = np.concatenate([[0.0], np.cumsum(0.05 * (speed[1:] + speed[:-1]))]), np.zeros(41)
        trajectory = Trajectory(t, x, zeros, zeros, speed, np.where(speed > 0, -braking, 0.0), zeros)
        vehicle.apply(controller.step(Plan(now_ns, trajectory, CRUISE), vehicle.ego_state(now_ns), now_ns))
        for _ in range(2):
            vehicle.step(0.05)
        way += 0.05 * (before + vehicle.speed)
        before = vehicle.speed
        if vehicle.speed < 0.01:
            break
    # The dead time and lag of the brakes cost about a quarter of a second's way, and the last metre is gentle.
    ideal = 15.0**2 / (2 * braking)
    assert ideal < way < ideal + 15.0 * 0.35 + 0.8


def test_an_empty_plan_stops_comfortably_and_then_stands() -> None:
    controller, driven = Controller(), DrivenVehicle(CAR, speed=6.0)
    for k in range(60):
        now_ns = START_NS + round(k * TICK * 1e9)
        driven.apply(controller.step(EMPTY, driven.ego_state(now_ns), now_ns))
        driven.step(TICK)
        assert driven.acceleration > -CAR.comfortable_deceleration - 0.05
    assert driven.speed == 0.0
    assert driven.x < 6.0**2 / (2 * CAR.comfortable_deceleration) + 6.0 * 0.4
    assert controller.step(EMPTY, driven.ego_state(now_ns), now_ns) == Command(0.0, 0.0, 0.0)
    assert planned(EMPTY) == (0.0, 0.0, 0.0)


def test_a_plan_that_nobody_renews_is_followed_to_a_comfortable_stop_on_its_way() -> None:
    way = Way(CAR, circle(40.0), at(6.0), 12.0)
    controller, driven = Controller(), DrivenVehicle(CAR, x=CAR.axle, speed=6.0)
    plan = way.plan(driven.ego_state(START_NS), 0.0)
    left = []
    for k in range(100):
        now_ns = START_NS + round(k * TICK * 1e9)
        driven.apply(controller.step(plan, driven.ego_state(now_ns), now_ns))
        driven.step(TICK)
        x, y = driven.x - CAR.axle * math.cos(driven.yaw), driven.y - CAR.axle * math.sin(driven.yaw)
        left.append(way.errors(x, y, 0.0)[0])
    assert driven.speed == 0.0
    assert np.abs(left).max() < 0.03
    went = float(np.hypot(driven.x, driven.y))
    assert went < 6.0 * 1.5 + 6.0**2 / (2 * CAR.comfortable_deceleration) + 3.0


def test_without_odometry_the_plan_is_driven_as_it_stands() -> None:
    way = Way(CAR, circle(60.0), at(8.0), 6.0)
    controller, driven = Controller(), DrivenVehicle(CAR, x=CAR.axle, speed=8.0)
    for k in range(50):
        now_ns = START_NS + round(k * TICK * 1e9)
        plan = way.plan(driven.ego_state(now_ns), k * TICK)
        driven.apply(controller.step(plan, None, now_ns))
        driven.step(TICK)
    x, y = driven.x - CAR.axle * math.cos(driven.yaw), driven.y - CAR.axle * math.sin(driven.yaw)
    left, behind = way.errors(x, y, 5.0)
    assert abs(left) < 0.1
    assert abs(behind) < 0.5


def mirrored(command: Command) -> Command:
    return replace(command, steering_angle=-command.steering_angle)


@pytest.mark.parametrize("lateral", ["lqr", "pure_pursuit"])
def test_a_mirrored_way_gives_mirrored_commands(lateral: str) -> None:
    control = ControlSettings(lateral=lateral)
    left = drive(Way(CAR, slalom(0.04, 50.0), ramp(6.0, 3.0, 1.0), 6.0), control).commands
    right = drive(Way(CAR, slalom(-0.04, 50.0), ramp(6.0, 3.0, 1.0), 6.0), control).commands
    for one, other in zip(left, right, strict=True):
        assert np.allclose(
            (one.steering_angle, one.speed, one.acceleration),
            (-other.steering_angle, other.speed, other.acceleration),
            atol=1e-9,
        )


@pytest.mark.parametrize("speed", [0.5, 3.0, 12.0, 30.0])
def test_the_gain_is_the_riccati_equation_s(speed: float) -> None:
    """Against scipy's discretisation, and by what the gain is for: the closed loop is stable and costs the least."""
    weights, period = LqrSettings(), 0.1
    regulator = Lqr(weights, CAR, period)
    A = np.array([[0, speed, 0], [0, 0, speed / CAR.wheelbase], [0, 0, -1 / CAR.steering_lag]])
    B = np.array([[0.0], [0.0], [1 / CAR.steering_lag]])
    Ad, Bd, *_ = cont2discrete((A, B, np.eye(3), np.zeros((3, 1))), period)
    # 0 at a grid point of the regulator's speeds is exact: take the nearest.
    index = round(4 * math.log2(speed / 0.3))
    grid = 0.3 * 2 ** (index / 4)
    Ad, Bd, *_ = cont2discrete((A * np.where(A > 0, grid / speed, 1.0), B, np.eye(3), np.zeros((3, 1))), period)
    angle = min(0.5 * CAR.largest_steering_angle(grid), CAR.wheelbase * weights.lateral_acceleration / grid**2)
    Q, R = np.diag([weights.lateral**-2, weights.heading**-2, 0.0]), np.array([[angle**-2]])
    P = solve_discrete_are(Ad, Bd, Q, R)
    expected = np.linalg.inv(R + Bd.T @ P @ Bd) @ Bd.T @ P @ Ad
    np.testing.assert_allclose(regulator.gain(grid), expected[0], rtol=1e-6)
    assert np.abs(np.linalg.eigvals(Ad - Bd @ regulator.gain(grid)[None])).max() < 1.0


def test_the_nearest_place_of_a_circle_is_on_the_circle() -> None:
    radius, angle = 20.0, np.linspace(0.0, 1.5, 31)
    x, y = radius * np.sin(angle), radius * (1 - np.cos(angle))
    even = np.full(31, 10.0)
    way = Reference(Trajectory(angle * 2, x, y, angle, even, 0 * even, 0 * even + 1 / radius), 0.0, 10.0)
    for turned in (0.01, 0.33, 0.777, 1.49, 1.6):  # the last lies beyond the end
        for left in (-0.8, 0.0, 0.5):
            at_x, at_y = (radius - left) * math.sin(turned), radius - (radius - left) * math.cos(turned)
            spot = way.nearest(at_x, at_y, radius * turned, 5.0)
            assert spot.left == pytest.approx(left, abs=2e-3)
            assert spot.heading == pytest.approx(turned, abs=2e-3)
            assert spot.distance == pytest.approx(radius * turned, abs=0.02)


ANY = st.floats(-1e3, 1e3) | st.just(0.0)


@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(sorted(VEHICLES)),
    st.sampled_from(["lqr", "pure_pursuit"]),
    st.lists(st.floats(-0.2, 3.0), min_size=3, max_size=6),
)
@settings(max_examples=40, deadline=None)
def test_commands_are_finite_and_within_limits_whatever_is_planned(
    seed: int, name: str, lateral: str, gaps: list[float]
) -> None:
    random, vehicle = np.random.default_rng(seed), VEHICLES[name]
    controller, now_ns = Controller(ControlSettings(lateral=lateral), vehicle), START_NS
    for gap in gaps:
        now_ns = max(now_ns + round(gap * 1e9), 0)
        n, scale = int(random.integers(0, 12)), 10.0 ** random.uniform(-3, 4)
        columns = random.normal(size=(6, n)) * scale * (random.random((6, 1)) < 0.8)
        way = Trajectory(np.cumsum(random.uniform(0.01, 1.0, n)), *columns)
        pose = pose_from_xy_yaw(*random.normal(size=3) * scale)
        ego = EgoState(now_ns, pose, random.normal(size=2) * scale, float(random.normal() * scale))
        seen = None if random.random() < 0.2 else replace(ego, stamp_ns=max(now_ns - int(random.integers(0, 10**9)), 0))
        plan = Plan(max(now_ns - int(random.integers(0, 2 * 10**9)), 0), way, CRUISE)
        command = controller.step(plan, seen, now_ns)
        assert abs(command.steering_angle) <= vehicle.largest_steering_angle() + 1e-9
        assert 0.0 <= command.speed <= vehicle.max_speed
        assert -vehicle.max_deceleration <= command.acceleration <= vehicle.max_acceleration


@pytest.mark.parametrize("name", sorted(VEHICLES))
def test_turning_stays_within_what_the_vehicle_can(name: str) -> None:
    vehicle = VEHICLES[name]
    speed = min(1.0, vehicle.max_speed)
    way = Way(vehicle, lambda s: np.full_like(s, 3.0 * vehicle.largest_curvature(speed)), at(speed), 3.0)
    driven = drive(way)
    for v, command in zip(driven.speed.tolist(), driven.commands, strict=True):
        assert abs(v * math.tan(command.steering_angle) / vehicle.wheelbase) <= vehicle.max_yaw_rate + 1e-6
        assert abs(command.steering_angle) <= vehicle.largest_steering_angle(v) + 1e-9
