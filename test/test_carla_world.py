"""CarlaWorld against a stand-in for CARLA: what it spawns, senses, tells, and that it leaves nothing behind."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from carla_stand_in import DEPTH, Actor, Blueprint, Location, Rotation, Server, Transform, VehicleControl

from karp_perception.core import Command, KarpError, LightColor
from karp_perception.core.classes import ObjectClass
from karp_perception.world.carla.client import CarlaError, load_carla
from karp_perception.world.carla.mailbox import Mailbox
from karp_perception.world.carla.settings import CarlaSettings
from karp_perception.world.carla.undo import Undo
from karp_perception.world.carla.world import CarlaWorld
from karp_perception.world.interface import World
from karp_perception.world.rig import Rig, make_rig
from karp_perception.world.sensors.camera import CameraModel
from karp_perception.world.sensors.lidar_models import lidar_named
from karp_perception.world.sensors.weather import Weather

ROOT = Path(__file__).resolve().parents[1]
QUICK = CarlaSettings(vehicles=2, walkers=1, spawn_point=0, sensor_timeout=0.2, settle=2)


def small_rig(lidar: str | None = "16x32", cameras: int = 1) -> Rig:
    T = np.eye(4)
    T[2, 3] = 1.7
    models = tuple(CameraModel.pinhole(f"cam{i}", 32, 16, 90.0, (0.3, 0.0, 1.5)) for i in range(cameras))
    return Rig("small", None if lidar is None else lidar_named(lidar), T, models)


def make(server: Server, settings: CarlaSettings = QUICK, seed: int = 3, rig: Rig | None = None) -> CarlaWorld:
    return CarlaWorld(settings, rig or small_rig(), seed, carla=server.module)


def test_it_is_a_world_and_its_sensors_speak_rep_103() -> None:
    server = Server()
    with make(server) as world:
        assert isinstance(world, World)
        assert server.settings.synchronous_mode
        assert server.settings.fixed_delta_seconds == world.step_s == 0.1
        assert server.settings.max_substeps * server.settings.max_substep_delta_time >= world.step_s - 1e-12
        assert (server.manager_in_step, server.manager_seed, server.manager_hybrid) == (True, 3, False)
        first = world.stamp_ns
        world.apply(Command(0.1, 5.0, 1.0))
        world.tick()
        frame = world.sensors()
        assert frame is world.sensors()
        assert frame.stamp_ns == world.stamp_ns == first + 100_000_000
        # CARLA's (12, 3, -1) lies to the right; the return from inside the own vehicle is gone; 16 beams of uneven
        # distances are one block of CARLA's.
        np.testing.assert_allclose(frame.lidar.points[:, :4], [[12, -3, 0.7, 0.5], [30, 0, 1.7, 0.9]], atol=1e-6)
        camera = frame.cameras["cam0"]
        assert camera.image.shape == (16, 32, 3)
        assert camera.image[0, 0].tolist() == [30, 20, 10]
        # Spawn point 0: x = 20, y = 1.75 to the right.
        np.testing.assert_allclose(frame.ego.T_odom_base[:3, 3], [20.5, -1.75, 0.1], atol=1e-9)
        assert frame.ego.speed == pytest.approx(5.0)
        control = world._present.ego.control
        assert (control.steer, control.speed, control.acceleration) == (-0.1, 5.0, 1.0)
    server.check_untouched()


def test_truth_has_boxes_of_every_class_in_base_link() -> None:
    server = Server()
    with make(server) as world:

        def spawn(blueprint: Blueprint, x: float, y: float, z: float = 0.1, yaw: float = 0.0) -> Actor:
            return server.foreigner(blueprint, Transform(Location(x, y, z), Rotation(yaw=yaw)))

        car = spawn(Blueprint("vehicle.tesla.model3", base_type="car"), 40.0, 5.25, yaw=90.0)
        bicycle = spawn(Blueprint("vehicle.diamondback.century", number_of_wheels="2"), 30.0, -3.0)
        person = spawn(Blueprint("walker.pedestrian.0001"), 25.0, 6.0, 1.0)
        cone = spawn(Blueprint("static.prop.trafficcone01"), 26.0, 3.0)
        cone.bounding_box.extent.x = cone.bounding_box.extent.y = cone.bounding_box.extent.z = 0.3
        spawn(Blueprint("static.prop.bench01"), 27.0, 3.0)
        car.velocity.y = 4.0  # to the right
        world.tick()
        truth = world.truth()
        rows = {int(number): i for i, number in enumerate(truth.object_id)}
        ours = truth.boxes[[rows[actor.id] for actor in (car, bicycle, person, cone)]]
        classes = (ObjectClass.CAR, ObjectClass.BICYCLE, ObjectClass.PEDESTRIAN, ObjectClass.TRAFFIC_CONE)
        assert ours.label.tolist() == list(classes)
        np.testing.assert_allclose(ours.center[0], [20.0, -3.5, 0.75], atol=1e-9)
        np.testing.assert_allclose(ours.size[0], [4.8, 2.0, 1.5])
        assert ours.yaw[0] == pytest.approx(-math.pi / 2)
        np.testing.assert_allclose(ours.velocity[0], [0.0, -4.0], atol=1e-12)
        assert ours.size[1, 1] == pytest.approx(0.6)  # CARLA says 0
        np.testing.assert_allclose(ours.center[2], [5.0, -4.25, 0.9], atol=1e-9)  # a person's origin is the middle
        assert world._present.ego.id not in rows  # itself
        assert sum(truth.object_id >= 1 << 24) == 1  # the parked car of the map
        assert not any(truth.boxes.label == ObjectClass.UNKNOWN)
        # One road of three, with 36 km/h; a light at x = 290, on either lane, is out of range.
        assert truth.route is world.route
        assert world.route.speed_limit == pytest.approx(10.0)
        assert truth.lights == ()
        assert all(np.allclose(lane[:, 1], lane[0, 1]) for lane in truth.lanes)
        assert sorted({round(float(lane[0, 1]), 3) for lane in truth.lanes}) == [-3.5, 0.0]
    server.check_untouched()


def test_lights_in_range_stop_lanes_and_show_their_colour() -> None:
    server = Server()
    with make(server, CarlaSettings(vehicles=0, walkers=0, spawn_point=10)) as world:  # x = 270
        truth = world.truth()
        assert {light.color for light in truth.lights} == {LightColor.RED}
        assert sorted(light.stop.round(3).tolist() for light in truth.lights) == [[20.0, -3.5], [20.0, 0.0]]
        lanes = world.road.lanes
        stops = sorted(world.road.stops, key=lambda stop: -stop.point[1])
        assert {(stop.number, stop.color) for stop in stops} == {(7, LightColor.RED)}
        np.testing.assert_allclose([stop.point for stop in stops], [[290.0, -1.75], [290.0, -5.25]], atol=1e-6)
        for stop in stops:
            np.testing.assert_allclose(lanes[stop.lane].center[:, 1], stop.point[1], atol=1e-6)
        server.actors[7].state = "Green"
        world.tick()
        assert {light.color for light in world.truth().lights} == {LightColor.GREEN}
        assert {stop.color for stop in world.road.stops} == {LightColor.GREEN}
        assert world.road.lanes is lanes
        server.actors[7].state = "Off"
        world.tick()
        assert world.truth().lights == ()
        assert {stop.color for stop in world.road.stops} == {None}
    server.check_untouched()


def test_masks_show_what_the_depth_cameras_meet() -> None:
    server = Server()
    settings = CarlaSettings(vehicles=0, walkers=0, spawn_point=0, masks=True)
    with make(server, settings) as world:
        # The wall that depth cameras see 20 m ahead of the camera runs through this car; the other is behind it.
        near = server.foreigner(Blueprint("vehicle.tesla.model3"), Transform(Location(20.3 + DEPTH, 1.75, 0.1)))
        far = server.foreigner(Blueprint("vehicle.tesla.model3"), Transform(Location(50.3 + DEPTH, 1.75, 0.1)))
        world.tick()
        truth = world.truth()
        rows = {int(number): i for i, number in enumerate(truth.object_id)}
        mask = truth.masks["cam0"]
        assert set(np.unique(mask)) == {0, near.id}
        # 2 m wide and 1.5 m high at 20 m with a focal length of 16 pixels.
        rows_shown, columns_shown = np.nonzero(mask)
        assert 1 <= np.ptp(columns_shown) + 1 <= 3
        assert rows_shown.min() >= 8
        assert truth.visibility[rows[near.id]] == 1.0
        assert truth.visibility[rows[far.id]] == 0.0
    server.check_untouched()


def test_a_rig_without_lidar_has_no_sweep_and_its_depth_cameras_tell_what_is_seen() -> None:
    server = Server()
    with make(server, rig=small_rig(lidar=None)) as world:
        assert world.sensors().lidar is None
        assert world.truth().points_inside.sum() == 0
        assert "sensor.camera.depth" in {actor.type_id for actor in server.ever}
    server.check_untouched()


def test_the_same_seed_spawns_the_same_and_a_reset_begins_again() -> None:
    def drive(seed: int) -> list[tuple[str, float, float]]:
        server = Server()
        settings = CarlaSettings(vehicles=4, walkers=2, settle=2)
        with make(server, settings, seed) as world:
            world.tick()
            route = world.route.points.round(6).tolist()
            before = [(a.type_id, a.transform.location.x, a.transform.location.y) for a in server.ever]
            count, stamp_ns = len(server.ever), world.stamp_ns
            world.reset(seed)
            world.tick()
            again = [(a.type_id, a.transform.location.x, a.transform.location.y) for a in server.ever[count:]]
            assert again == before
            assert world.route.points.round(6).tolist() == route
            assert world.stamp_ns == stamp_ns
            assert all(not actor.is_alive for actor in server.ever[:count])
        server.check_untouched()
        return before

    assert drive(1) == drive(1)
    assert drive(1) != drive(2)


# What sensors deliver


def test_data_of_other_frames_is_ignored_and_late_sensors_are_none() -> None:
    def delivery(sensor: str, frame: int) -> list[tuple[int, float]]:
        if sensor == "sensor.lidar.ray_cast":
            return [(frame - 1, 0.0), (frame, 0.02), (frame - 2, 0.0)]  # out of order, the right one last
        return [(frame - 1, 0.0), (frame + 5, 0.0)]  # never the right one

    server = Server(delivery=delivery)
    settings = CarlaSettings(vehicles=0, walkers=0, spawn_point=0, sensor_timeout=0.1, settle=1)
    with make(server, settings) as world:
        for _ in range(3):
            world.tick()
            frame = world.sensors()
            assert frame.lidar is not None
            assert frame.cameras["cam0"] is None
        assert world.counters["cam0"].counters.as_dict() == {"received": 4, "used": 0, "dropped": {"no_answer": 4}}
        assert world.counters["lidar/0"].counters.as_dict() == {"received": 4, "used": 4, "dropped": {}}
        assert world.counters["lidar/0"].ignored > 0
    server.check_untouched()


def test_a_sensor_that_never_answers_costs_no_more_than_its_first_ticks() -> None:
    server = Server(delivery=lambda sensor, frame: [] if "camera" in sensor else [(frame, 0.0)])
    settings = CarlaSettings(vehicles=0, walkers=0, spawn_point=0, sensor_timeout=0.1, settle=1)
    with make(server, settings) as world:
        for _ in range(20):
            world.tick()
            assert world.sensors().cameras == {"cam0": None}
            assert world.sensors().lidar is not None
        assert world.counters["cam0"].counters.dropped == {"no_answer": 21}
        server.delivery = lambda sensor, frame: [(frame, 0.0)]
        world.tick()
        assert world.sensors().cameras["cam0"] is not None
    server.check_untouched()


def test_a_mailbox_keeps_what_comes_early() -> None:
    class Data:
        def __init__(self, frame: int) -> None:
            self.frame = frame

    mailbox = Mailbox()
    for frame in (7, 5, 6, 6):
        mailbox.put(Data(frame))
    assert mailbox.take(5, 0.0).frame == 5
    assert mailbox.take(6, 0.0).frame == 6
    assert mailbox.take(7, 0.0).frame == 7
    assert mailbox.take(8, 0.0) is None
    assert mailbox.ignored == 1  # the second 6


# Whatever fails, nothing is left behind


def whole_drive(server: Server, ackermann: bool = True) -> None:
    settings = CarlaSettings(
        vehicles=2, walkers=1, spawn_point=0, settle=2, sensor_timeout=0.05, masks=True,
        control="ackermann" if ackermann else "pedals",
    )  # fmt: skip
    with make(server, settings) as world:
        world.apply(Command(0.0, 3.0, 1.0))
        world.tick()
        world.sensors()
        world.truth()
        world.reset(4)
        world.tick()


def failure_of_a_drive(server: Server) -> CarlaError | None:
    try:
        whole_drive(server)
    except CarlaError as error:
        return error
    return None


def calls_of_a_drive() -> int:
    server = Server()
    whole_drive(server)
    server.check_untouched()
    return len(server.calls)


@pytest.mark.parametrize("after", [False, True], ids=["before its effect", "after its effect"])
def test_whatever_call_fails_all_is_taken_back_and_the_failure_is_told(after: bool) -> None:
    silent = []
    for number in range(1, calls_of_a_drive() + 1):
        server = Server(fail_at=number, after=after)
        failure = failure_of_a_drive(server)
        if failure is None:
            silent.append(server.calls[number - 1])
        else:
            assert failure.__cause__ is server.error, (number, server.calls[number - 1])
        server.check_untouched()
    # Only what is being taken back may fail without a word: it is tried again.
    assert set(silent) <= {"destroy", "stop", "apply_settings", "set_weather", "get_actors", "tm.set_synchronous_mode"}


@pytest.mark.parametrize(
    ("error", "every"), [(KeyboardInterrupt(), 2), (SystemExit(143), 7)], ids=["Ctrl-C", "SIGTERM"]
)
def test_an_interrupt_anywhere_takes_all_back_too(error: BaseException, every: int) -> None:
    for number in range(1, calls_of_a_drive() + 1, every):
        server = Server(fail_at=number, after=True, error=error)
        with pytest.raises(type(error)):
            whole_drive(server)
        server.check_untouched()


def test_a_server_that_dies_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    world = make(server)
    server.fail_at, server.lasting = len(server.calls) + 1, True
    with pytest.raises(CarlaError, match="ticking: time-out") as raised:
        world.tick()
    assert raised.value.__cause__ is server.error
    count = len(server.calls)
    world.close()
    assert len(server.calls) - count <= 6
    assert "no longer answers" in caplog.text


def test_closing_twice_is_harmless_and_a_closed_world_says_so() -> None:
    server = Server()
    world = make(server)
    world.close()
    count = len(server.calls)
    world.close()
    assert len(server.calls) == count
    server.check_untouched()
    for use in (world.tick, world.sensors, world.reset, lambda: world.route):
        with pytest.raises(CarlaError, match="closed"):
            use()


def test_an_exception_in_the_block_is_not_masked() -> None:
    server = Server()

    def drive() -> None:
        with make(server):
            server.fail_at, server.lasting = len(server.calls) + 1, True
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        drive()


def test_undo_goes_on_after_a_failure_and_runs_each_action_once() -> None:
    done: list[str] = []
    undo = Undo()

    def bad() -> None:
        done.append("bad")
        raise ValueError("no")

    undo.add("first", lambda: done.append("first"))
    undo.add("second", bad)
    undo.add("third", lambda: done.append("third"))
    undo.run()
    undo.run()
    assert done == ["third", "bad", "bad", "first"]


PROGRAM = """
import sys, time
sys.path[:0] = [{root!r}, {test!r}]
from test_carla_world import Server, make
server = Server()
import atexit
# Registered before the world: runs after it.
atexit.register(lambda: (server.check_untouched(), print("untouched", flush=True)))
world = make(server)
print("open", flush=True)
{rest}
"""


@pytest.mark.parametrize(
    ("number", "rest", "code"),
    [
        (signal.SIGTERM, "time.sleep(60)", 128 + signal.SIGTERM),
        (signal.SIGINT, "time.sleep(60)", -signal.SIGINT),
        (None, "sys.exit(5)", 5),
        (None, "raise ValueError('ours')", 1),
    ],
    ids=["SIGTERM", "SIGINT", "exit", "exception"],
)
def test_a_process_that_ends_leaves_nothing_behind(number: int | None, rest: str, code: int) -> None:
    program = textwrap.dedent(PROGRAM).format(root=str(ROOT), test=str(ROOT / "test"), rest=rest)
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert process.stdout.readline() == "open\n", process.stderr.read()
    if number is not None:
        process.send_signal(number)
    process.wait(30)
    errors = process.stderr.read()
    assert process.stdout.read() == "untouched\n", errors
    assert process.returncode == code, errors


# What is refused


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (CarlaSettings(blueprint="vehicle.none.such"), "no 'vehicle.none.such'"),
        (CarlaSettings(spawn_point=99), "spawn_point: expected -1 to 11 on this map, got 99"),
        (CarlaSettings(spawn_point=0, destination=99), "destination: expected -1 to 11 on this map, got 99"),
        (CarlaSettings(spawn_point=6, destination=0), "no way leads around"),
    ],
    ids=["blueprint", "spawn point", "destination", "one-way"],
)
def test_impossible_settings_get_one_clear_line(settings: CarlaSettings, expected: str) -> None:
    server = Server()
    with pytest.raises(KarpError, match=expected) as raised:
        make(server, settings)
    assert "\n" not in str(raised.value)
    server.check_untouched()


def test_a_missing_server_gets_one_clear_line() -> None:
    server = Server(fail_at=1)
    with pytest.raises(CarlaError, match=r"no CARLA server answers on localhost:2000 .*CarlaUE4\.sh") as raised:
        make(server)
    assert "\n" not in str(raised.value)


def test_a_missing_package_gets_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "carla", None)
    with pytest.raises(CarlaError, match=r"pip install 'karp_perception\[carla\]'"):
        load_carla()


def test_an_occupied_spawn_point_is_told_and_another_is_found_where_it_was_not_asked_for() -> None:
    server = Server()
    reload = server.reload

    def occupied(town: str) -> object:
        world = reload(town)
        server.actors[9] = Actor(server, 9, Blueprint("vehicle.tesla.model3"), Transform(Location(20.0, 1.75, 0)), None)
        server.foreign = dict(server.actors)
        return world

    server.reload = occupied
    with pytest.raises(CarlaError, match="spawn point 0: something stands there"):
        make(server)
    with make(server, CarlaSettings(vehicles=0, walkers=0)) as world:
        assert world.ego.T_odom_base[0, 3] > 30.0
    server.check_untouched()


def test_a_destination_ends_the_route() -> None:
    server = Server()
    with make(server, CarlaSettings(vehicles=0, walkers=0, spawn_point=0, destination=11)) as world:
        # From x = 20 on the left lane to x = 295 on the right one.
        np.testing.assert_allclose(world.route.points[[0, -1]], [[20.0, -1.75], [295.0, -5.25]], atol=1.0)
        assert np.linalg.norm(np.diff(world.route.points, axis=0), axis=1).max() < 13.0


def test_other_weather_reaches_the_server_and_goes_again() -> None:
    server = Server()
    weather = Weather(sun_azimuth=0.5, sun_elevation=0.25, rain=50.0, visibility=50.0, cloudiness=0.5)
    with CarlaWorld(QUICK, small_rig(), 0, weather, carla=server.module):
        assert server.weather.sun_altitude_angle == pytest.approx(math.degrees(0.25))
        assert server.weather.sun_azimuth_angle == pytest.approx(360 - math.degrees(0.5))
        assert (server.weather.precipitation, server.weather.fog_density) == (100.0, pytest.approx(100.0))
    server.check_untouched()


def test_without_ackermann_control_pedals_are_worked() -> None:
    server = Server(ackermann=False)
    with make(server) as world:
        world.apply(Command(0.35, 8.0, 1.0))
        world.tick()
        control = world._present.ego.control
        assert isinstance(control, VehicleControl)
        assert control.throttle > 0.3
        assert control.brake == 0
        # Positive to the right, in parts of 70 degrees.
        assert control.steer == pytest.approx(-0.35 / math.radians(70.0), rel=0.02)
    server.check_untouched()


def test_every_named_rig_can_be_mounted() -> None:
    for name in ("nano", "kitti", "nuscenes", "fisheye", "lidar16"):
        server = Server()
        with CarlaWorld(CarlaSettings(vehicles=0, walkers=0), make_rig(name), carla=server.module) as world:
            frame = world.sensors()
            assert all(camera is not None for camera in frame.cameras.values())
            assert frame.lidar is not None
        server.check_untouched()


def test_the_packages_own_types_take_what_they_are_given() -> None:
    carla = pytest.importorskip("carla", reason="needs the carla package: pip install 'karp_perception[carla]'")
    server = Server(package=carla)
    with make(server, CarlaSettings(vehicles=2, walkers=2, masks=True, spawn_point=0, settle=2)) as world:
        settings = world._in_step(carla.WorldSettings())
        assert settings.fixed_delta_seconds == 0.1
        assert settings.deterministic_ragdolls
        world.apply(Command(0.1, 4.0, 1.0))
        world.tick()
        control = world._present.ego.control
        assert isinstance(control, carla.VehicleAckermannControl)
        assert (control.steer, control.speed) == (pytest.approx(-0.1), 4.0)
        assert world.sensors().cameras["cam0"] is not None
        assert world.truth().boxes.frame == "base_link"
    server.check_untouched()
    with make(server, CarlaSettings(vehicles=0, walkers=0, control="pedals", spawn_point=0)) as world:
        world.apply(Command(0.0, 4.0, 1.0))
        world.tick()
        assert isinstance(world._present.ego.control, carla.VehicleControl)
    server.check_untouched()
    # What CARLA's enumerations are called is what is looked for.
    assert {str(carla.TrafficLightState.Red), str(carla.TrafficLightState.Green)} == {"Red", "Green"}
    assert {str(carla.LaneChange.Left), str(carla.LaneChange.Both)} == {"Left", "Both"}
    assert all(hasattr(carla.CityObjectLabel, name) for name in ("Car", "Truck", "Bus", "Motorcycle", "Bicycle"))
