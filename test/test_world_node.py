"""The world node over real DDS: what it publishes, who drives, resets, and the end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs rclpy: `make setup` installs it, or source a ROS 2 installation")

from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile
from ros_graph import NodeProcess, Peer, counts, wait_until
from tiny_world import CAR, INTRINSICS, START_NS, T_BASE_CAMERA, T_BASE_LIDAR, TinyWorld

from karp_perception.core import LightColor, StopKind
from karp_perception.core.geometry import pose_from_quaternion, transform_points
from karp_perception.ros import messages
from karp_perception.ros.messages import create_ros_message as create
from karp_perception.ros.signal_messages import stops_from_signals
from karp_perception.sensing.pointclouds import decode_pointcloud

pytestmark = pytest.mark.ros

NODE = str(Path(__file__).with_name("tiny_world_node.py"))
STEP = 100_000_000
SENSORS = ("/lidar/points", "/camera/front/image_raw/compressed", "/odometry")
FAST = ["-p", "real_time_factor:=0.0", "-p", "diagnostics_period:=0.2"]
LATCHED = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
MANY = 500


@pytest.fixture
def peer() -> Iterator[Peer]:
    made = Peer()
    yield made
    made.close()


def listeners(*topics: str) -> list[str]:
    return ["-p", f"wait_for:=[{', '.join(topics)}]"]


class Driver:
    """Answers each odometry message with a command of its stamp."""

    def __init__(self, peer: Peer, speed: float, acceleration: float, count: int = 10**6) -> None:
        self.speeds: list[float] = []
        self.stamps: list[int] = []
        self._speed, self._acceleration, self._count = speed, acceleration, count
        self._commands = peer.publisher("ackermann_msgs/msg/AckermannDriveStamped", "/world/input/command")
        kind = messages.message_class("nav_msgs/msg/Odometry")
        peer.node.create_subscription(kind, "/odometry", self._answer, MANY)

    def _answer(self, odometry: Any) -> None:
        self.speeds.append(odometry.twist.twist.linear.x)
        self.stamps.append(messages.get_stamp(odometry.header.stamp))
        if len(self.speeds) <= self._count:
            command = create("ackermann_msgs/msg/AckermannDriveStamped")
            command.header.stamp = odometry.header.stamp
            command.drive.speed, command.drive.acceleration = self._speed, self._acceleration
            self._commands.publish(command)


def test_everything_a_world_says_arrives_as_it_was_said(peer: Peer) -> None:
    heard = {
        topic: peer.heard(kind, topic, MANY)
        for topic, kind in {
            "/lidar/points": "sensor_msgs/msg/PointCloud2",
            "/camera/front/image_raw/compressed": "sensor_msgs/msg/CompressedImage",
            "/camera/front/camera_info": "sensor_msgs/msg/CameraInfo",
            "/odometry": "nav_msgs/msg/Odometry",
            "/speed_limit": "std_msgs/msg/Float32",
            "/signals": "vision_msgs/msg/Detection3DArray",
            "/tf": "tf2_msgs/msg/TFMessage",
            "/clock": "rosgraph_msgs/msg/Clock",
            "/world/truth/objects": "vision_msgs/msg/Detection3DArray",
            "/world/truth/lights": "autoware_perception_msgs/msg/TrafficLightGroupArray",
            "/world/truth/markers": "visualization_msgs/msg/MarkerArray",
        }.items()
    }
    waited = listeners(*(topic for topic in heard if topic != "/clock"))
    alone = "-p", "exit_at_end:=false", "-p", "command_timeout:=60.0"
    node = NodeProcess(NODE, *FAST, *waited, *alone, "-p", "duration:=1.0", "-p", "seed:=4")
    try:
        wait_until(lambda: all(len(found) >= 10 for found in heard.values()), "ten frames of everything")
        # Late subscribers get what is said once.
        static = peer.heard("tf2_msgs/msg/TFMessage", "/tf_static", LATCHED)
        route = peer.heard("nav_msgs/msg/Path", "/route", LATCHED)
        wait_until(lambda: static and route, "what was said once")
    finally:
        code, _ = node.end()
    assert code == 0, node.output
    assert {len(found) for found in heard.values()} == {10}
    world = TinyWorld(seed=4)
    mounts = {t.child_frame_id: t.transform for t in static[0].transforms}
    for frame, expected in (("lidar", T_BASE_LIDAR), ("camera_front_optical", T_BASE_CAMERA)):
        t, q = mounts[frame].translation, mounts[frame].rotation
        np.testing.assert_allclose(pose_from_quaternion((t.x, t.y, t.z), (q.x, q.y, q.z, q.w)), expected, atol=1e-12)
    np.testing.assert_allclose(messages.route_from_path(route[0]).points, world.route.points)
    for k in range(10):
        sensors, truth, said = world.sensors(), world.truth(), {topic: found[k] for topic, found in heard.items()}
        cloud = decode_pointcloud(said["/lidar/points"])
        assert said["/lidar/points"].header.frame_id == "lidar"
        in_base = transform_points(T_BASE_LIDAR, cloud.points[:, :3].astype(float))
        np.testing.assert_allclose(in_base, sensors.lidar.points[:, :3], atol=1e-4)
        np.testing.assert_array_equal(cloud.time, sensors.lidar.time)
        encoded = np.asarray(said["/camera/front/image_raw/compressed"].data, np.uint8)
        assert cv2.imdecode(encoded, cv2.IMREAD_COLOR).shape == (36, 64, 3)
        np.testing.assert_array_equal(said["/camera/front/camera_info"].k, INTRINSICS.ravel())
        assert said["/odometry"].pose.pose.position.x == pytest.approx(world.x)
        assert said["/tf"].transforms[0].transform.translation.x == pytest.approx(world.x)
        assert messages.get_stamp(said["/clock"].clock) == sensors.stamp_ns
        boxes = messages.boxes_from_detections(said["/world/truth/objects"])
        np.testing.assert_allclose(boxes.center, truth.boxes.center)
        assert said["/world/truth/objects"].detections[0].id == "7"
        (group,) = said["/world/truth/lights"].traffic_light_groups
        assert (group.traffic_light_group_id, group.elements[0].color) == (3, 1)
        (stop,) = stops_from_signals(said["/signals"])
        assert said["/signals"].header.frame_id == "odom"
        assert (stop.number, stop.kind, stop.color) == (3, StopKind.LIGHT, LightColor.RED)
        np.testing.assert_allclose(stop.point, [80.0, 0.0])
        assert said["/speed_limit"].data == 10.0
        assert len(said["/world/truth/markers"].markers) > 1
        world.tick()


def test_in_step_every_frame_gets_its_own_answer(peer: Peer) -> None:
    diagnostics = peer.heard("diagnostic_msgs/msg/DiagnosticArray", "/diagnostics")
    driver = Driver(peer, speed=5.0, acceleration=-2.0)
    arguments = [*FAST, *listeners("/odometry"), "-p", "wait_for_command:=20.0", "-p", "duration:=4.0"]
    node = NodeProcess(NODE, *arguments)
    assert node.wait() == 0, node.output
    wait_until(lambda: len(driver.speeds) == 40, "the last frame")
    assert driver.stamps == [START_NS + k * STEP for k in range(40)]
    # The answer to a frame is what the next one comes of: 0.2 m/s less each, until the speed is reached.
    np.testing.assert_allclose(driver.speeds, np.maximum(8.0 - 0.2 * np.arange(40), 5.0), atol=1e-9)
    drive = wait_until(lambda: counts(diagnostics, "world: drive"), "the account")
    assert (drive["unanswered"], drive["braked"], drive["contacts"]) == (0, 0, 0)
    used = counts(diagnostics, "world: input command")
    assert used["received"] == used["used"] == 40
    assert drive["least_gap_m"] == pytest.approx(CAR[0] - 2.0 - 2.9 - 0.1 * sum(driver.speeds[1:]), abs=0.01)


def test_without_commands_the_vehicle_is_braked_and_says_so(peer: Peer) -> None:
    diagnostics = peer.heard("diagnostic_msgs/msg/DiagnosticArray", "/diagnostics")
    driver = Driver(peer, speed=8.0, acceleration=0.0, count=5)
    node = NodeProcess(
        NODE, *FAST, *listeners("/odometry"), "-p", "wait_for_command:=0.4", "-p", "duration:=2.6",
        "-p", "command_timeout:=0.3", "-p", "timeout_braking:=5.0",
    )  # fmt: skip
    assert node.wait() == 0, node.output
    wait_until(lambda: len(driver.speeds) == 26, "the last frame")
    assert driver.speeds[:8] == [8.0] * 8, "0.3 s after the last command, which answered frame 4"
    assert driver.speeds[-1] == 0.0
    np.testing.assert_allclose(np.diff(driver.speeds[7:20]), -0.5, atol=1e-9)
    drive = counts(diagnostics, "world: drive")
    assert (drive["unanswered"], drive["braked"]) == (21, 19)
    assert "no command for" in node.output


def test_a_twist_drives_and_what_is_no_command_is_counted(peer: Peer) -> None:
    diagnostics = peer.heard("diagnostic_msgs/msg/DiagnosticArray", "/diagnostics")
    odometry = peer.heard("nav_msgs/msg/Odometry", "/odometry", MANY)
    twists = peer.publisher("geometry_msgs/msg/Twist", "/world/input/command")
    node = NodeProcess(NODE, "-p", "command:=twist", "-p", "diagnostics_period:=0.2")
    try:
        wait_until(twists.get_subscription_count, "the world")
        bad = create("geometry_msgs/msg/Twist")
        bad.linear.x = float("nan")
        twists.publish(bad)
        wanted = create("geometry_msgs/msg/Twist")
        wanted.linear.x = 3.0

        def slower() -> bool:
            twists.publish(wanted)
            return bool(odometry) and odometry[-1].twist.twist.linear.x == pytest.approx(3.0)

        wait_until(slower, "the wanted speed")
        wait_until(
            lambda: counts(diagnostics, "world: input command").get("dropped.invalid_input") == 1, "the bad one's count"
        )
    finally:
        code, _ = node.end(signal.SIGTERM)
    assert code == 0, node.output
    assert "Traceback" not in node.output


def test_real_time_is_kept_and_a_reset_begins_anew(peer: Peer) -> None:
    odometry = peer.heard("nav_msgs/msg/Odometry", "/odometry", MANY)
    clock = peer.heard("rosgraph_msgs/msg/Clock", "/clock", MANY)
    empty = peer.publisher("std_msgs/msg/Empty", "/world/input/reset")
    node = NodeProcess(NODE)

    def stamps() -> list[int]:
        return [messages.get_stamp(item.header.stamp) for item in odometry]

    def change(name: str, value: Any) -> tuple[bool, str]:
        parameter = Parameter(name, value=value).to_parameter_msg()
        fill = lambda request: setattr(request, "parameters", [parameter])  # noqa: E731
        result = peer.call("rcl_interfaces/srv/SetParameters", "/world/set_parameters", fill).results[0]
        return result.successful, result.reason

    try:
        wait_until(lambda: len(stamps()) > 5, "some frames")
        told = [messages.get_stamp(item.clock) for item in clock]
        assert told == sorted(told)
        assert len(told) > 2 * len(stamps()), "the time goes on between frames"
        empty.publish(create("std_msgs/msg/Empty"))
        wait_until(lambda: (np.diff(stamps()) < 0).sum() == 1, "time to start over")
        wait_until(lambda: stamps()[-1] > START_NS + 3 * STEP, "some more frames")
        taken, why = change("rig", "nano")
        assert not taken
        assert "at the start" in why
        assert change("real_time_factor", 3.0)[0]
        assert change("seed", 9)[0]
        wait_until(lambda: (np.diff(stamps()) < 0).sum() == 2, "time to start over again")
    finally:
        code, _ = node.end()
    assert code == 0, node.output


def test_a_world_that_breaks_ends_the_process_with_its_reason(peer: Peer) -> None:
    node = NodeProcess(NODE, *FAST, "-p", "scenario:=breaks")
    assert node.wait() == 1
    assert "world: the simulator is gone" in node.output
    assert "Traceback" not in node.output


@pytest.mark.parametrize(
    ("argument", "says"), [("world:=moon", "moon"), ("timeout_braking:=-1.0", "timeout_braking"), ("seed:=-1", "seed")]
)
def test_a_wrong_parameter_is_one_line(argument: str, says: str) -> None:
    node = NodeProcess(NODE, "-p", argument)
    assert node.wait() == 1
    assert says in node.output
    assert "Traceback" not in node.output, node.output
