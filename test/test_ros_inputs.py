"""What subscriptions make of what they hear: losses by sequence numbers, routes in any frame."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="needs rclpy: `make setup` installs it, or source a ROS 2 installation")

from karp_perception.core import EgoState, Route
from karp_perception.core.geometry import pose_from_xy_yaw, transform_points
from karp_perception.ros import messages
from karp_perception.ros.inputs import Losses, RouteInput
from karp_perception.sensing.message_types import default_message, typestore
from karp_perception.sensing.transforms import TransformBuffer

pytestmark = pytest.mark.ros


def test_gaps_in_a_publishers_numbers_are_losses() -> None:
    lost: dict[str, int] = {}
    losses = Losses(lost, "lidar")
    for number in (7, 8, 11, 12):  # what came before the first was before our time
        losses.note(number)
    assert lost == {"lidar": 2}


def test_with_two_publishers_only_the_middleware_can_tell() -> None:
    lost: dict[str, int] = {}
    losses = Losses(lost, "lidar")
    for number in (100, 5, 101, 6, 102):
        losses.note(number)
    assert lost == {"lidar": 0}
    losses.told(SimpleNamespace(total_count=3))
    assert lost == {"lidar": 3}


def test_without_numbers_the_middleware_tells() -> None:
    lost: dict[str, int] = {}
    losses = Losses(lost, "lidar")
    losses.note(None)
    losses.told(SimpleNamespace(total_count=4))
    assert lost == {"lidar": 4}


ROUTE = np.array([[0.0, 0.0], [10.0, 0.0], [20.0, 5.0]])


def a_path(frame: str = "odom") -> Any:
    return typestore().deserialize_cdr(messages.route_bytes(Route(ROUTE), 10**9, frame), "nav_msgs/msg/Path")


def a_route_input(frame: str) -> tuple[RouteInput, TransformBuffer]:
    settings = SimpleNamespace(sensing=SimpleNamespace(base_frame="base_link"))
    node = SimpleNamespace(settings=settings, node_settings=SimpleNamespace(odom_frame="odom"))
    transforms = TransformBuffer()
    route = RouteInput(node, transforms)
    route._heard(a_path(frame))
    return route, transforms


def ego_at(x: float, y: float, yaw: float, stamp_ns: int = 10**9) -> EgoState:
    return EgoState(stamp_ns, pose_from_xy_yaw(x, y, yaw), np.zeros(2))


def in_odom(T: np.ndarray) -> np.ndarray:
    return transform_points(T, np.column_stack([ROUTE, np.zeros(3)]))[:, :2]


def test_a_route_in_odom_is_taken_as_it_is() -> None:
    route, _ = a_route_input("odom")
    np.testing.assert_array_equal(route.at(None).points, ROUTE)


def test_a_route_from_the_vehicle_stays_where_the_vehicle_was() -> None:
    route, _ = a_route_input("base_link")
    then = ego_at(100.0, 50.0, 0.3)
    first = route.at(then)
    np.testing.assert_allclose(first.points, in_odom(then.T_odom_base))
    assert route.at(ego_at(110.0, 50.0, 0.3)) is first


def test_a_route_in_a_map_follows_the_map_and_is_one_route_while_the_map_stands_still() -> None:
    route, transforms = a_route_input("map")
    ego = ego_at(3.0, 4.0, 0.5)
    assert route.at(ego) is None, "no transform yet"
    T_map_odom = pose_from_xy_yaw(1000.0, -500.0, 1.0)
    transforms.set("map", "odom", T_map_odom, 10**9, static=True)
    transforms.set("odom", "base_link", ego.T_odom_base, 10**9, static=True)
    placed = route.at(ego)
    np.testing.assert_allclose(placed.points, in_odom(np.linalg.inv(T_map_odom)), atol=1e-9)
    assert route.at(ego) is placed


def test_an_empty_path_ends_the_route_and_a_bad_one_is_counted() -> None:
    route, _ = a_route_input("odom")
    bad = a_path()
    bad.poses[1].pose.position.x = float("nan")
    route._heard(bad)
    assert route.counters["route"].as_dict()["dropped"] == {"invalid_input": 1}
    np.testing.assert_array_equal(route.at(None).points, ROUTE)
    route._heard(default_message("nav_msgs/msg/Path"))
    assert route.at(None) is None


@pytest.mark.parametrize(("value", "expected"), [(8.0, 8.0), (-1.0, None), (float("nan"), None)])
def test_speed_limits_that_cannot_be_are_counted(value: float, expected: float | None) -> None:
    route, _ = a_route_input("odom")
    route._heard_limit(SimpleNamespace(data=value))
    assert route.speed_limit == expected
    assert route.counters["speed_limit"].received == 1
