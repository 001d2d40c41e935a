"""A recorded drive says what the world said; its driver keeps lane and distance."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tiny_world import CAR, T_BASE_LIDAR, TinyWorld

from karp_perception.core import Boxes, Command, EgoState, LightColor, Route, Vehicle
from karp_perception.core.geometry import invert_pose, pose_from_xy_yaw, transform_points
from karp_perception.ros.signal_messages import stops_from_signals
from karp_perception.sensing.bags import BagReader
from karp_perception.sensing.pointclouds import decode_pointcloud
from karp_perception.world.interface import TrafficLight
from karp_perception.world.recording import record_drive
from karp_perception.world.route_driver import RouteDriver


class KeepsOn(RouteDriver):
    """Goes on as it is."""

    def command(self, ego: EgoState, boxes: Boxes, lights: Sequence[TrafficLight] = ()) -> Command:
        return Command(0.0, ego.speed, 0.0)


def test_the_recording_says_what_the_world_said(tmp_path: Path) -> None:
    world, calls = TinyWorld(seed=3), []
    driver = KeepsOn(world.route)
    record_drive(world, tmp_path / "bag", 0.3, lambda done, of: calls.append((done, of)), driver=driver)
    assert calls == [(1, 3), (2, 3), (3, 3)]
    with BagReader(tmp_path / "bag") as bag:
        topics = dict(bag.topics)
        messages: dict[str, list[Any]] = {}
        for item in bag.messages():
            messages.setdefault(item.topic, []).append(item.message)
    often = {
        "/tf", "/odometry", "/speed_limit", "/camera/front/camera_info", "/camera/front/image_raw/compressed",
        "/lidar/points", "/world/truth/objects", "/world/truth/markers", "/world/truth/lights",
        "/signals",
    }  # fmt: skip
    counts = {name: topic.count for name, topic in topics.items()}
    assert counts == {"/tf_static": 1, "/route": 1, **dict.fromkeys(often, 3)}
    assert topics["/tf_static"].qos[0].durability == topics["/route"].qos[0].durability == "transient_local"
    mounts = {item.child_frame_id: item for item in messages["/tf_static"][0].transforms}
    assert mounts["lidar"].transform.translation.z == T_BASE_LIDAR[2, 3]
    world = TinyWorld(seed=3)
    for k in range(3):
        sensors = world.sensors()
        decoded = decode_pointcloud(messages["/lidar/points"][k])
        in_base = transform_points(T_BASE_LIDAR, decoded.points[:, :3])
        np.testing.assert_allclose(in_base, sensors.lidar.points[:, :3], atol=1e-5)
        np.testing.assert_array_equal(decoded.points[:, 3], sensors.lidar.points[:, 3])
        np.testing.assert_array_equal(decoded.time, sensors.lidar.time)
        position = messages["/odometry"][k].pose.pose.position
        np.testing.assert_allclose((position.x, position.y), sensors.ego.T_odom_base[:2, 3])
        (stop,) = stops_from_signals(messages["/signals"][k])
        assert (stop.number, stop.color, stop.point.tolist()) == (3, LightColor.RED, [80.0, 0.0])
        assert [d.id for d in messages["/world/truth/objects"][k].detections] == ["7"]
        image = cv2.imdecode(np.asarray(messages["/camera/front/image_raw/compressed"][k].data), cv2.IMREAD_COLOR)
        assert image.shape == sensors.cameras["front"].image.shape
        world.tick()


def test_raw_images_are_recorded_byte_by_byte(tmp_path: Path) -> None:
    record_drive(TinyWorld(), tmp_path / "bag", 0.1, compressed=False)
    image = TinyWorld().sensors().cameras["front"].image
    with BagReader(tmp_path / "bag") as bag:
        (message,) = [m.message for m in bag.messages() if m.topic == "/camera/front/image_raw"]
    assert (message.encoding, message.width, message.height, message.step) == ("rgb8", 64, 36, 192)
    assert bytes(message.data) == image.tobytes()


def test_the_driver_stops_behind_what_stands_and_at_a_red_light() -> None:
    for lights, stop in (((), CAR[0] - 2.0), ((TrafficLight(1, np.array([40.0, 0.0]), LightColor.RED),), 40.0)):
        world, driver = TinyWorld(), RouteDriver(TinyWorld().route)
        for _ in range(200):
            moved = tuple(TrafficLight(1, light.stop - [world.x, 0.0], light.color) for light in lights)
            world.apply(driver.command(world.ego, world.boxes(), moved))
            world.tick()
        front = world.x + Vehicle().front
        assert world.speed < 0.3
        assert 0.5 < stop - front < 3.0, front


def test_the_driver_passes_a_green_light_and_what_stands_beside_the_lane() -> None:
    world, driver = TinyWorld(), RouteDriver(TinyWorld().route)
    for _ in range(100):
        beside = Boxes([[30.0, 2.6, 0.8]], [[4, 1.8, 1.5]], [0], [[0, 0]], [0], [1], frame="odom")
        beside = beside.transformed(invert_pose(world.ego.T_odom_base), "base_link")
        green = TrafficLight(1, np.array([40.0 - world.x, 0.0]), LightColor.GREEN)
        world.apply(driver.command(world.ego, beside, [green]))
        world.tick()
    assert world.x > 80.0
    assert world.speed == pytest.approx(10.0, abs=0.5)


def test_the_driver_follows_a_bend_of_the_route() -> None:
    """A kinematic bicycle from the closed form: it stays within 0.5 m of a circle of 30 m, and slows down for it."""
    angle = np.linspace(0.0, 2.0, 100)
    bend = np.stack([50.0 + 30.0 * np.sin(angle), 30.0 - 30.0 * np.cos(angle)], axis=1)
    route = Route(np.concatenate([[[0.0, 0.0]], bend]), 14.0)
    driver, vehicle = RouteDriver(route), Vehicle()
    x = y = yaw = 0.0
    speed, worst, slowest = 12.0, 0.0, 12.0
    for k in range(1100):
        ego = EgoState(k * 10**7, pose_from_xy_yaw(x, y, yaw), np.array([speed, 0.0]))
        command = driver.command(ego, Boxes.empty())
        speed = max(speed + 0.01 * command.acceleration, 0.0)
        yaw += 0.01 * speed * np.tan(command.steering_angle) / vehicle.wheelbase
        x, y = x + 0.01 * speed * np.cos(yaw), y + 0.01 * speed * np.sin(yaw)
        if 1.0 < np.arctan2(x - 50.0, 30.0 - y) < 1.6:
            worst = max(worst, abs(np.hypot(x - 50.0, y - 30.0) - 30.0))
            slowest = min(slowest, speed)
    assert 0 < worst < 0.5
    assert slowest < np.sqrt(2.0 * 30.0) * 1.15
