"""The closed loop: in a world of boxes made here, with faults, and through the commands that drive a suite."""

import json
from dataclasses import replace

import numpy as np
import orjson
import pytest
from typer.testing import CliRunner

from karp_perception.cli import app
from karp_perception.core import (
    Boxes,
    Command,
    ConfigurationError,
    Decision,
    DecisionKind,
    EgoState,
    Lane,
    LightColor,
    Objects,
    Plan,
    Road,
    Route,
    SensorFrame,
    StopKind,
    StopLine,
    Trajectory,
    Vehicle,
)
from karp_perception.core.frames import LidarSweep
from karp_perception.core.geometry import invert_pose
from karp_perception.drive.baselines import make_baseline
from karp_perception.drive.cases import MEASURED, DriveOptions, drivable, expert_way, sight
from karp_perception.drive.drivers import TruthDriver, outlines
from karp_perception.drive.faults import SensorFaults
from karp_perception.drive.loop import Setting, drive
from karp_perception.drive.run import digest, run
from karp_perception.drive.summary import compared, summarised
from karp_perception.evaluation.driving import contacts, gaps
from karp_perception.evaluation.verdict import verdict
from karp_perception.pipeline import PipelineSettings, Result
from karp_perception.view.drive_drawing import draw_drive
from karp_perception.view.drive_report import write_report
from karp_perception.world.embedded import EmbeddedWorld, Setup
from karp_perception.world.interface import Truth, World
from karp_perception.world.layouts.families import FAMILIES, make_layout
from karp_perception.world.scenarios.case import Fault, Kind
from karp_perception.world.scenarios.suite import find_cases, load_suite
from karp_perception.world.vehicle import DrivenVehicle

START_NS = 1_000_000_000
VEHICLE = Vehicle()
EXPERT = np.linspace(0.0, 140.0, 140)  # m along the route, of a driver in no hurry


class RoadOfBoxes:
    """A straight road along x with cars (x, y, speed) that keep their speeds, seen by an eye that sees all."""

    step_s = 0.1

    def __init__(self, cars=(), speed=12.0, hidden=(), length=400.0):
        self.cars, self.speed, self.hidden = list(cars), speed, set(hidden)
        self.route = Route(np.array([[0.0, 0.0], [length, 0.0]]), 12.0)
        self.road = Road((Lane(self.route.points, 3.5, 12.0),))
        self.commands = []
        self.reset()

    def reset(self, seed=0):
        self.vehicle, self.ticks = DrivenVehicle(VEHICLE, speed=self.speed), 0

    @property
    def stamp_ns(self):
        return START_NS + self.ticks * 100_000_000

    def sensors(self):
        return SensorFrame(
            self.stamp_ns, {}, LidarSweep(np.zeros((0, 4)), self.stamp_ns), self.vehicle.ego_state(self.stamp_ns)
        )

    def truth(self):
        n, t = len(self.cars), self.ticks * self.step_s
        cars = np.array(self.cars, float).reshape(-1, 3)
        center = np.column_stack([cars[:, 0] + t * cars[:, 2], cars[:, 1], np.full(n, 0.75)])
        velocity = np.column_stack([cars[:, 2], np.zeros(n)])
        size = np.tile([4.0, 1.8, 1.5], (n, 1))
        boxes = Boxes(center, size, np.zeros(n), velocity, np.zeros(n, int), np.ones(n), frame="odom")
        ego = self.vehicle.ego_state(self.stamp_ns)
        seen = np.array([0.0 if i in self.hidden else 1.0 for i in range(1, n + 1)])
        boxes = boxes.transformed(invert_pose(ego.T_odom_base), "base_link")
        return Truth(self.stamp_ns, ego, boxes, np.arange(1, n + 1), seen, np.full(n, 50))

    def apply(self, command, delay=0.0):
        self.commands.append((self.ticks, delay, command))
        self.vehicle.apply(command, delay)

    def tick(self):
        self.vehicle.step(self.step_s)
        self.ticks += 1

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def driven(world, duration=12.0, faults=(), limit=lambda _: 12.0, planner="karp", **more):
    kept = SensorFaults(faults)
    driver = TruthDriver(PipelineSettings(), kept, planner)
    return drive(world, driver, VEHICLE, duration, Setting(limit, clock=kept.clock, **more))


@pytest.fixture(scope="module")
def stopped():
    """Of a drive towards a standing car."""
    return driven(RoadOfBoxes([(80.0, 0.0, 0.0)]), names={"target": 1})


@pytest.fixture(scope="module")
def hit():
    """Of the same drive where nobody sees the car."""
    return driven(RoadOfBoxes([(80.0, 0.0, 0.0)], hidden=[1]), names={"target": 1})


def test_the_road_of_boxes_is_a_world():
    assert isinstance(RoadOfBoxes(), World)


def test_an_empty_road_is_driven_at_the_limit():
    record = driven(RoadOfBoxes(speed=8.0))
    assert record.speed[-1] == pytest.approx(12.0, abs=0.7)
    assert np.abs(record.along_and_offset[1]).max() < 0.05
    assert contacts(record) == []


def test_the_limit_is_that_of_where_one_is():
    record = driven(RoadOfBoxes(speed=8.0), duration=20.0, limit=lambda along: 8.0 if along < 60 else 4.0)
    assert record.speed[record.x < 50].min() > 7.5
    assert record.speed[-1] < 5.5


def test_a_standing_car_is_stopped_for_and_one_that_nobody_sees_is_hit(stopped, hit):
    assert contacts(stopped) == []
    assert stopped.speed[-1] < 0.3
    (contact,) = contacts(hit)
    assert contact.at_fault
    assert contact.speed == pytest.approx(12.0, abs=0.5)
    assert hit.time[-1] == pytest.approx(contact.time, abs=0.75)  # the drive ends soon after


def test_the_drive_ends_where_the_route_does():
    record = driven(RoadOfBoxes(length=60.0), duration=60.0)
    assert record.time[-1] < 59.0 or record.speed[-1] < 0.1
    assert record.x[-1] < 61.0


def test_two_drives_are_the_same():
    first, second = (driven(RoadOfBoxes([(70.0, 0.3, 2.0), (40.0, 3.5, 9.0)]), duration=4.0) for _ in range(2))
    np.testing.assert_array_equal(first.speed, second.speed)
    assert first.reason == second.reason


def test_perfect_perception_knows_what_is_in_sight_and_no_more():
    world = RoadOfBoxes([(30.0, 0.0, 5.0), (50.0, 3.0, 6.0)], hidden=[2])
    driver = TruthDriver(PipelineSettings(), SensorFaults(()))
    objects = driver.objects(world.truth(), START_NS)
    assert objects.track_id.tolist() == [1]
    np.testing.assert_allclose(objects.predicted[0, 0, 9, :2], (35.0, 0.0), atol=1e-9)
    shapes = outlines(objects.boxes)
    assert np.isnan(shapes.velocity).all()
    assert (shapes.label == -1).all()


def wall(x):
    """A car that stands in the way."""
    return [(x, 0.0, 0.0)]


def test_idm_keeps_its_distance_and_stops():
    record = driven(RoadOfBoxes(wall(90.0)), 20.0, planner="idm")
    assert contacts(record) == []
    assert record.speed[-1] < 0.1
    # PDM-Closed's IDM stands at its least gap, 1 m; creeping up to it takes long.
    assert 0.8 < gaps(record).min() < 3.0
    behind = driven(RoadOfBoxes([(40.0, 0.0, 8.0)]), 25.0, planner="idm")
    assert behind.speed[-1] == pytest.approx(8.0, abs=0.2)
    # Treiber et al.: in equilibrium s = (s0 + v T) / sqrt(1 - (v / v0)^delta).
    wanted = (1.0 + 8.0 * 1.5) / np.sqrt(1 - (8.0 / 12.0) ** 10)
    assert gaps(behind)[-1] == pytest.approx(wanted, abs=0.5)


def test_idm_looks_at_nothing_but_its_own_way():
    assert driven(RoadOfBoxes([(50.0, 3.5, 0.0)]), planner="idm").speed.min() > 11.0


@pytest.mark.parametrize(("color", "stands"), [(LightColor.RED, True), (LightColor.GREEN, False)])
def test_idm_stops_at_red_lights(color, stands):
    world = RoadOfBoxes()
    light = StopLine(1, np.array([90.0, 0.0]), StopKind.LIGHT, color)
    world.road = Road(world.road.lanes, (light,))
    record = driven(world, planner="idm")
    assert (record.speed[-1] < 0.3) == stands
    assert not stands or record.x[-1] + record.front < 90.0


def test_constant_speed_stays_constant_whatever_comes():
    record = driven(RoadOfBoxes(wall(90.0), speed=10.0), planner="constant")
    assert np.ptp(record.speed) < 0.3
    assert contacts(record)[0].at_fault


def test_baselines_follow_a_bend():
    world = RoadOfBoxes(speed=8.0)
    angle = np.linspace(0.0, 1.5, 60)
    world.route = Route(
        np.vstack([[0.0, 0.0], np.column_stack([30 + 40 * np.sin(angle), 40 * (1 - np.cos(angle))])]), 8.0
    )
    record = driven(world, 10.0, planner="constant")
    assert record.yaw[-1] > 1.0
    assert np.abs(record.along_and_offset[1]).max() < 0.5


def test_without_motion_or_route_baselines_stop():
    plan = make_baseline("idm", VEHICLE).step(START_NS, None, None, None)
    assert (plan.decision.kind, len(plan.trajectory)) == (DecisionKind.NO_INPUT, 0)


# Latency


class TwoSpeeds:
    """Plans 5 m/s for the first second, then 10 m/s."""

    def __init__(self):
        self.asked = []

    def step(self, world, t, route, limit):
        self.asked.append(t)
        speed, time = 5.0 if t < 0.95 else 10.0, np.linspace(0.0, 4.0, 41)
        way = Trajectory(time, speed * time, 0 * time, 0 * time, np.full(41, speed), 0 * time, 0 * time)
        plan = Plan(world.stamp_ns, way, Decision(DecisionKind.CRUISE, f"CRUISE {speed:g}"))
        ego = world.truth().ego
        empty = Objects.empty()
        result = Result(world.stamp_ns, ego, empty.boxes, empty.boxes, empty, plan, {"total": 250.0})
        return SensorFrame(world.stamp_ns, ego=ego), result


def first_fast(latency):
    """s at which the command of the second speed begins to hold, and the driver."""
    world, driver = RoadOfBoxes(speed=5.0), TwoSpeeds()
    drive(world, driver, VEHICLE, 2.5, Setting(latency=latency))
    fast = next((tick, delay) for tick, delay, command in world.commands if command.speed > 7.0)
    return 0.1 * fast[0] + fast[1], driver


@pytest.mark.parametrize("latency", [0.0, 0.04, 0.1])
def test_a_plan_takes_effect_when_its_latency_is_over(latency):
    when, driver = first_fast(latency)
    assert when == pytest.approx(1.0 + latency)
    assert len(driver.asked) == 25  # it keeps up


@pytest.mark.parametrize(("latency", "took"), [(0.25, 0.25), (None, 0.25)])
def test_frames_that_come_while_another_is_worked_on_are_left_out(latency, took):
    when, driver = first_fast(latency)
    np.testing.assert_allclose(np.diff(driver.asked), 0.3)
    assert when == pytest.approx(driver.asked[4] + took)  # 1.2 s is the first after 0.95 s


def test_latency_delays_braking_by_as_much():
    def brakes_at(latency):
        driver = TruthDriver(PipelineSettings(), SensorFaults(()), "idm")
        record = drive(RoadOfBoxes(wall(35.0)), driver, VEHICLE, 3.0, Setting(lambda _: 12.0, latency=latency))
        return record.time[np.flatnonzero(record.speed < 11.0)[0]]

    assert brakes_at(0.5) - brakes_at(0.0) == pytest.approx(0.5, abs=0.11)


def test_a_command_holds_from_its_delay_on():
    def way(delay):
        vehicle = DrivenVehicle(VEHICLE, speed=5.0)
        vehicle.apply(Command(0.0, 0.0, -4.0), delay)
        for _ in range(20):
            vehicle.step(0.1)
        return vehicle.x

    # Each s that braking begins later is one more at 5 m/s.
    assert way(0.06) - way(0.0) == pytest.approx(0.06 * 5.0, abs=0.06)


# Where one may drive


@pytest.mark.parametrize("family", FAMILIES)
def test_routes_lie_on_ground_that_is_made_for_driving(family):
    layout = make_layout(family, 4)
    points = layout.route_points[5:-5:15, :2]
    ahead = points[1:] - points[:-1]
    beside = points[:-1] + 60.0 * np.column_stack([-ahead[:, 1], ahead[:, 0]]) / np.linalg.norm(ahead, axis=1)[:, None]
    assert np.mean([drivable(layout.ground, p)[0] for p in points]) > 0.97
    # Lots and other streets may lie there, but not everywhere.
    assert np.mean([drivable(layout.ground, p)[0] for p in beside]) < 0.9


def test_an_eye_sees_without_sensors():
    with EmbeddedWorld(Setup("straight", {"bare": True}, layout_seed=3), sight()) as world:
        frame, truth = world.sensors(), world.truth()
    assert frame.lidar is None
    assert frame.cameras == {}
    assert truth.visibility.max(initial=0.0) <= 1.0
    assert len(truth.boxes) == 0 or truth.visibility.max() > 0.3


# Faults


def lost(*sensors, begin=2.0, end=100.0, kind="lost", amount=0.0):
    return [Fault(sensor, kind, begin, end, amount) for sensor in sensors]


def test_blind_the_vehicle_stops_by_itself():
    record = driven(RoadOfBoxes(), faults=lost("lidar", "cameras"))
    assert "NO_INPUT" in set(record.decision)
    assert record.speed[-1] < 0.1
    assert record.speed[15] > 11.0


def test_one_kind_of_sensor_suffices_for_perfect_perception():
    record = driven(RoadOfBoxes(), duration=5.0, faults=lost("lidar"))
    assert record.speed.min() > 11.0


def test_a_silent_detector_leaves_the_geometric_channel():
    faults = SensorFaults(lost("detector", begin=0.0))
    driver, world = TruthDriver(PipelineSettings(), faults), RoadOfBoxes(wall(30.0))
    _, result = driver.step(world, 0.5, world.route, 12.0)
    assert len(result.objects) == 0
    assert len(result.obstacles) == 1
    record = driven(RoadOfBoxes(wall(80.0)), faults=lost("detector"))
    assert contacts(record) == []


def test_a_jump_of_the_clock_is_one_of_the_vehicles():
    faults = SensorFaults([Fault("clock", "jump", 1.0, 9.0, 5.0)])
    assert [faults.clock(t) for t in (0.5, 1.5)] == [0.0, 5.0]
    record = driven(RoadOfBoxes(), duration=4.0, faults=[Fault("clock", "jump", 1.0, 9.0, 5.0)])
    assert record.speed.min() > 9.0


def test_frozen_odometry_repeats_itself_with_new_stamps():
    faults = SensorFaults(lost("odometry", kind="frozen", begin=0.1))
    world = RoadOfBoxes()
    poses = []
    for k in range(5):
        stamp_ns, ego, _ = faults.truth(0.1 * k, world.truth())
        poses.append(ego.T_odom_base[0, 3])
        assert ego.stamp_ns == stamp_ns == world.stamp_ns
        world.tick()
    assert poses[0] < poses[1] == poses[2] == poses[4]


def test_delayed_frames_are_those_of_then():
    faults = SensorFaults(lost("all", kind="delayed", begin=0.0, amount=0.3))
    world = RoadOfBoxes()
    stamps = []
    for k in range(8):
        frame = faults.frame(0.1 * k, world.sensors())
        stamps.append(None if frame is None else (frame.stamp_ns - START_NS) * 1e-9)
        world.tick()
    assert stamps[:3] == [None] * 3
    np.testing.assert_allclose(stamps[3:], [0.0, 0.1, 0.2, 0.3, 0.4], atol=1e-9)


def test_a_clock_that_jumps_moves_every_stamp():
    faults = SensorFaults([Fault("clock", "jump", 0.1, 9.0, 5.0)])
    world = RoadOfBoxes()
    before = faults.frame(0.0, world.sensors())
    world.tick()
    after = faults.frame(0.1, world.sensors())
    assert after.stamp_ns - before.stamp_ns == 5_100_000_000
    assert after.lidar.stamp_ns == after.ego.stamp_ns == after.stamp_ns


def sweep(seed=0, n=4000):
    rng = np.random.default_rng(seed)
    azimuth, elevation = rng.uniform(-np.pi, np.pi, n), np.radians(rng.uniform(-25, 3, n))
    r = rng.uniform(3, 50, n)
    x, y, z = (
        r * np.cos(elevation) * np.cos(azimuth),
        r * np.cos(elevation) * np.sin(azimuth),
        r * np.sin(elevation) + 1.73,
    )
    return LidarSweep(np.column_stack([x, y, z, rng.random(n)]), START_NS, rng.random(n))


def test_half_the_beams_are_half_the_points_and_whole_rings():
    frame = SensorFrame(START_NS, {}, sweep(), EgoState.standing(START_NS))
    left = SensorFaults([Fault("lidar", "thinned", 0, 9, 0.5)]).frame(1.0, frame).lidar

    def rings(points):
        return set(np.floor(np.arctan2(points[:, 2] - 1.73, np.hypot(*points[:, :2].T)) / np.radians(0.4)).astype(int))

    assert 0.45 < len(left.points) / len(frame.lidar.points) < 0.55
    assert len(rings(left.points)) == pytest.approx(0.5 * len(rings(frame.lidar.points)), abs=2)
    assert len(left.time) == len(left.points)


def test_range_noise_moves_points_along_their_beams():
    frame = SensorFrame(START_NS, {}, sweep(), EgoState.standing(START_NS))
    noisy = SensorFaults([Fault("lidar", "noisy", 0, 9, 0.2)]).frame(1.0, frame).lidar
    origin = np.array([0, 0, 1.73])
    before, after = frame.lidar.points[:, :3] - origin, noisy.points[:, :3] - origin
    change = np.linalg.norm(after, axis=1) - np.linalg.norm(before, axis=1)
    assert change.std() == pytest.approx(0.2, rel=0.1)
    across = np.linalg.norm(np.cross(before, after), axis=1) / np.linalg.norm(before, axis=1)
    assert across.max() < 1e-3


def test_a_fault_ends():
    faults = SensorFaults(lost("lidar", begin=0.0, end=0.2))
    world = RoadOfBoxes()
    assert [faults.frame(0.1 * k, world.sensors()).lidar is None for k in range(4)] == [True, True, False, False]


# What comes of it


@pytest.fixture(scope="module")
def ccrs():
    (case,) = find_cases(["ccrs,speed=40,overlap=100"], load_suite())
    return case


def test_verdicts_tell_contact_gap_and_checks(ccrs, stopped, hit):
    good = verdict(ccrs, stopped, EXPERT)
    assert (good["passed"], good["contact"], good["score"]) == (True, False, 1.0)
    assert 0.3 < good["min_gap_m"] < 5.0
    assert good["min_gap_to"] == "target"
    bad = verdict(ccrs, hit, EXPERT)
    assert (bad["passed"], bad["contact"], bad["score"]) == (False, True, 0.0)
    assert bad["contact_speed_kmh"] == pytest.approx(43.2, abs=2.0)
    assert (bad["contact_with"], bad["contact_side"]) == ("target", "front")
    json.dumps(bad)


def test_contact_that_nobody_can_avoid_is_scored_by_its_speed(ccrs, stopped, hit):
    row = verdict(replace(ccrs, avoidable=False), hit, EXPERT)
    assert row["contact"]
    assert row["score"] < 0.1  # it was hit at full speed
    assert verdict(replace(ccrs, avoidable=False), stopped, EXPERT)["score"] == 1.0


def test_braking_is_needless_in_clear_scenarios_only(ccrs):
    record = driven(RoadOfBoxes([(38.0, 0.0, 0.0)]), duration=5.0, names={"target": 1})
    assert verdict(ccrs, record, EXPERT)["max_deceleration"] > 2.0
    assert not verdict(ccrs, record, EXPERT)["needless_braking"]
    row = verdict(replace(ccrs, kind=Kind.CLEAR), record, EXPERT)
    assert row["needless_braking"]
    assert row["braking_because"]


def test_a_drawing_shows_the_drive(stopped):
    image = draw_drive(stopped)
    assert image.dtype == np.uint8
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 200
    alone = draw_drive(driven(RoadOfBoxes(), duration=1.0))
    assert alone.shape == image.shape


def test_a_summary_weighs_scenarios_not_cases(ccrs, tmp_path, stopped):
    row = {**verdict(ccrs, stopped, EXPERT), "picture": "cases/a.png", "clip": None}
    worse = {**row, "score": 0.0, "passed": False, "clip": "cases/a.mp4", "perception_error": "a phantom <b>"}
    rows = [row, worse, {**row, "scenario": "other", "case": "other", "picture": "cases/other.png"}]
    summary = summarised(rows, DriveOptions())
    other = {**summary, "planner": "idm"}
    summary |= {"baselines": {"idm": other}, "comparison": [compared(summary), compared(other)]}
    assert (summary["scenarios"], summary["cases"], summary["contacts"]) == (2, 3, 0)
    assert summary["score"] == pytest.approx(0.75)
    write_report(tmp_path, summary)
    page = (tmp_path / "report.html").read_text()
    assert "cases/other.png" in page
    assert "<video controls muted loop preload=none src='cases/a.mp4'>" in page
    assert "a phantom &lt;b&gt;" in page
    assert "<td>idm" in page
    assert "ccrs,speed=40,overlap=100" in (tmp_path / "report.md").read_text()


def test_results_depend_on_the_case_and_on_how_it_is_driven(ccrs):
    settings = PipelineSettings()
    base = digest(ccrs, DriveOptions(), settings)
    assert base == digest(ccrs, DriveOptions(), settings)
    others = [
        digest(replace(ccrs, duration=3.0), DriveOptions(), settings),
        digest(ccrs, DriveOptions(seed=1), settings),
        digest(ccrs, DriveOptions("model"), settings),
        digest(ccrs, DriveOptions(planner="idm"), settings),
        digest(ccrs, DriveOptions(latency_ms=50.0), settings),
        digest(ccrs, DriveOptions(), replace(settings, vehicle=Vehicle(width=2.0))),
    ]
    assert len({base, *others}) == 7


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"suite": "nothing"}, "expected a file, a folder or one of all"),
        ({"scenarios": ["nothing"]}, "nothing: expected the name of a scenario"),
        ({"workers": 0}, "workers: expected at least 1, got 0"),
    ],
)
def test_wrong_orders_are_one_clear_line(tmp_path, how, words):
    with pytest.raises(ConfigurationError) as caught:
        run(tmp_path, **how)
    assert words in str(caught.value)
    with pytest.raises(ConfigurationError, match="perception: expected one of truth, model"):
        DriveOptions("eyes")
    with pytest.raises(ConfigurationError, match="planner: expected one of karp, idm, constant"):
        DriveOptions(planner="somebody")
    with pytest.raises(ConfigurationError, match="latency_ms: expected 0 to 2000 ms"):
        DriveOptions(latency_ms=5000.0)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--compare", "--planner", "idm"], "--compare: expected no --planner"),
        (["--measured-latency", "--latency-ms", "20"], "--measured-latency: expected no --latency-ms"),
    ],
)
def test_orders_that_contradict_themselves_are_refused(tmp_path, more, words):
    answer = CliRunner().invoke(app, ["drive", "--out", str(tmp_path), *more])
    assert words in str(answer.exception)


def test_latency_is_fixed_unless_measured():
    assert DriveOptions().latency == 0.0
    assert DriveOptions("model").latency == pytest.approx(0.1)
    assert DriveOptions("model", latency_ms=30.0).latency == pytest.approx(0.03)
    assert DriveOptions("model", latency_ms=MEASURED).latency is None


# Through the embedded world

SMALL = """
scenarios:
  - name: standing_car
    sentence: A car stands ahead.
    kind: conflict
    layout: {family: straight, seed: 3, bare: true, oneway: true, lanes: 1, lane_width: 3.5, length: 200}
    ego: {along: 20, speed_kmh: 30, limit_kmh: 30}
    traffic: {density: 0, pedestrians: 0, parking: 0, roadworks: 0}
    actors: [{name: car, model: sedan, at: {gap: 35}}]
    duration_s: 9
    checks: [no_contact, comes_to_stand, {min_gap_at_least: {m: 0.3, to: car}}]
  - name: next_lane
    sentence: A car drives beside us.
    kind: clear
    layout: {family: straight, seed: 3, bare: true, oneway: true, lanes: 2, lane_width: 3.5, length: 200}
    ego: {along: 20, speed_kmh: 40, limit_kmh: 40}
    traffic: {density: 0, pedestrians: 0, parking: 0, roadworks: 0}
    actors: [{name: car, model: suv, at: {along: 12, lateral: 3.5}, way: along, speed_kmh: 35}]
    duration_s: 4
    checks: [no_contact, {no_braking_harder_than: {mps2: 2.0}}]
"""


@pytest.fixture(scope="module")
def suite_run(tmp_path_factory):
    out = tmp_path_factory.mktemp("drives")
    (out / "mine.yaml").write_text(SMALL)
    return out, run(out / "out", out / "mine.yaml", workers=1, planners=("karp", "constant"))


def test_baselines_drive_the_same_cases(suite_run):
    out, summary = suite_run
    constant = summary["baselines"]["constant"]
    assert [row["case"] for row in constant["rows"]] == [row["case"] for row in summary["rows"]]
    assert constant["contacts"] == 1  # the car that stands ahead
    assert [line["planner"] for line in summary["comparison"]] == ["karp", "constant"]
    assert constant["nuplan_score"] < summary["nuplan_score"]
    row = constant["rows"][0]
    assert (out / "out" / row["picture"]).is_file()
    assert (out / "out" / row["clip"]).stat().st_size > 5_000


def test_the_expert_gets_along_and_stops_behind_what_stands(suite_run):
    out, _ = suite_run
    stood, passed = (s.cases[0] for s in load_suite(out / "mine.yaml"))
    way = expert_way(stood)
    assert 15.0 < way[-1] - way[0] < 36.0
    assert way[-1] - way[-20] < 1.0
    way = expert_way(passed)
    assert way[-1] - way[0] == pytest.approx(39 * 0.1 * 40 / 3.6, rel=0.05)


def test_a_suite_is_driven_and_leaves_its_files(suite_run):
    out, summary = suite_run
    assert (summary["scenarios"], summary["cases"], summary["contacts"]) == (2, 2, 0)
    assert summary == orjson.loads((out / "out" / "summary.json").read_bytes())
    names = {path.name for path in (out / "out").rglob("*") if path.is_file()}
    assert {"standing_car.json", "standing_car.npz", "standing_car.png", "report.html", "report.md"} <= names
    assert not any(name.startswith(".") for name in names)
    stood = summary["rows"][0]
    assert (stood["passed"], stood["min_gap_to"]) == (True, "car")
    assert 0.3 < stood["min_gap_m"] < 6.0
    assert summary["rows"][1]["passed"]


def test_finished_cases_are_kept_and_changed_ones_driven_again(suite_run):
    out, summary = suite_run
    path = out / "out" / "cases" / "standing_car.json"
    before, other = path.stat().st_mtime_ns, (out / "out" / "cases" / "next_lane.json").stat().st_mtime_ns
    (out / "mine.yaml").write_text(SMALL.replace("duration_s: 4", "duration_s: 3"))
    again = run(out / "out", out / "mine.yaml", workers=1, planners=("karp", "constant"))
    assert path.stat().st_mtime_ns == before
    assert (out / "out" / "cases" / "next_lane.json").stat().st_mtime_ns > other
    assert again["rows"][0] == summary["rows"][0]


@pytest.mark.slow
def test_processes_give_the_same_rows_as_one(suite_run, tmp_path):
    out, _ = suite_run
    (out / "mine.yaml").write_text(SMALL)
    one = run(tmp_path / "one", out / "mine.yaml", workers=1)
    two = run(tmp_path / "two", out / "mine.yaml", workers=2)
    assert one["rows"] == two["rows"]


@pytest.mark.slow
def test_a_single_case_makes_a_video(suite_run, tmp_path):
    out, _ = suite_run
    run(tmp_path, out / "mine.yaml", ["next_lane"])
    assert (tmp_path / "drive.mp4").stat().st_size > 10_000


@pytest.mark.slow
def test_the_whole_suite_runs_with_perfect_perception(tmp_path):
    summary = run(tmp_path)
    assert summary["scenarios"] >= 60
    assert len(summary["rows"]) == summary["cases"]
    assert 0.0 < summary["score"] <= 1.0
