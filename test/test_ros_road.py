"""The road over ROS: signals as messages and back, maps placed by tf, colours of the moment."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="needs rclpy: `make setup` installs it, or source a ROS 2 installation")

from ros_graph import NodeProcess, Peer, counts, wait_until

from karp_perception.core import (
    ConfigurationError,
    EgoState,
    InvalidInput,
    LightColor,
    StopKind,
    StopLine,
)
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.maps.files import MapSettings
from karp_perception.ros.goal_input import GoalInput
from karp_perception.ros.primitives import create_ros_message as create
from karp_perception.ros.primitives import set_header, set_pose
from karp_perception.ros.road_input import RoadInput
from karp_perception.ros.signal_messages import signals_message, stops_from_signals
from karp_perception.sensing.message_types import default_message
from karp_perception.sensing.transforms import TransformBuffer

pytestmark = pytest.mark.ros

SECOND = 1_000_000_000
places = st.tuples(st.floats(-500, 500), st.floats(-500, 500)).map(np.array)


@st.composite
def stop_lines(draw: Any) -> StopLine:
    kind = draw(st.sampled_from(StopKind))
    color = draw(st.sampled_from([None, *LightColor])) if kind is StopKind.LIGHT else None
    a = draw(places)
    angle = draw(st.floats(-3, 3))
    way = (np.array([a, a + 7.0 * np.array([math.cos(angle), math.sin(angle)])]),)
    return StopLine(
        draw(st.integers(-100, 10**12)), draw(places), kind, color, way if kind is StopKind.CROSSING else ()
    )


@given(stops=st.lists(stop_lines(), max_size=4), make=st.sampled_from([create, default_message]))
@settings(max_examples=30, deadline=None)
def test_stop_lines_come_back_from_their_messages(stops: list[StopLine], make: Any) -> None:
    message = signals_message(stops, SECOND, make, "map")
    assert message.header.frame_id == "map"
    for stop, back in zip(stops, stops_from_signals(message), strict=True):
        assert (back.number, back.kind, back.color) == (stop.number, stop.kind, stop.color)
        np.testing.assert_allclose(back.point, stop.point)
        assert len(back.first) == len(stop.first)
        for way, again in zip(stop.first, back.first, strict=True):
            np.testing.assert_allclose(again, way, atol=1e-9)


def test_signals_of_somebody_else_need_a_class_and_a_place_alone() -> None:
    message = create("vision_msgs/msg/Detection3DArray")
    detection = create("vision_msgs/msg/Detection3D")
    detection.results.append(create("vision_msgs/msg/ObjectHypothesisWithPose"))
    detection.results[0].hypothesis.class_id = "red"
    detection.bbox.center.position.x = 12.0
    message.detections.append(detection)
    (stop,) = stops_from_signals(message, pose_from_xy_yaw(1.0, 2.0, math.pi / 2))
    assert (stop.number, stop.kind, stop.color) == (-1, StopKind.LIGHT, LightColor.RED)
    np.testing.assert_allclose(stop.point, [1.0, 14.0])


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda d: setattr(d.results[0].hypothesis, "class_id", "purple"), "one of red, yellow, green, light, stop"),
        (lambda d: d.results.clear(), "a hypothesis"),
        (lambda d: setattr(d, "id", "seven"), "an integer or nothing"),
        (lambda d: setattr(d.bbox.center.position, "x", float("nan")), "finite"),
    ],
)
def test_what_is_no_signal_is_dropped_and_counted(break_it: Any, says: str) -> None:
    message = signals_message([StopLine(1, np.zeros(2), StopKind.STOP)], SECOND, create)
    break_it(message.detections[0])
    with pytest.raises(InvalidInput, match=says):
        stops_from_signals(message)
    road, _ = road_input()
    road._heard(message)
    assert sum(road.counters["signals"].as_dict()["dropped"].values()) == 1
    assert road.at(ego_at(0.0)) is None


# The input of a node


def ego_at(x: float, seconds: float = 1.0, yaw: float = 0.0) -> EgoState:
    return EgoState(round(seconds * SECOND), pose_from_xy_yaw(x, 0.0, yaw), np.array([10.0, 0.0]))


def road_input(**map_settings: object) -> tuple[RoadInput, TransformBuffer]:
    node = SimpleNamespace(
        settings=SimpleNamespace(sensing=SimpleNamespace(base_frame="base_link")),
        node_settings=SimpleNamespace(odom_frame="odom", map=MapSettings(**map_settings), signal_timeout=1.0),
    )
    transforms = TransformBuffer()
    motion = {SECOND * k // 10: ego_at(float(k), 0.1 * k) for k in range(100)}  # 10 m/s along x
    return RoadInput(node, transforms, motion.get), transforms


def test_signals_in_the_vehicles_frame_stand_where_they_stood_when_it_saw_them() -> None:
    road, _ = road_input()
    assert road.at(ego_at(10.0)) is None
    seen = StopLine(5, np.array([30.0, 1.0]), StopKind.LIGHT, LightColor.RED)
    road._heard(signals_message([seen], SECOND // 2, create, "base_link"))  # at x = 5
    for x, t in ((10.0, 1.0), (14.0, 1.4)):
        (stop,) = road.at(ego_at(x, t)).stops
        np.testing.assert_allclose(stop.point, [35.0, 1.0])
        assert stop.color is LightColor.RED
    # What it showed is not known any more, where it stands is.
    (stop,) = road.at(ego_at(16.0, 1.6)).stops
    assert stop.color is None
    np.testing.assert_allclose(stop.point, [35.0, 1.0])
    road._heard(signals_message([], 2 * SECOND, create))
    assert road.at(ego_at(21.0, 2.1)).stops == ()


@pytest.fixture
def town_map(tmp_path: Path) -> dict[str, object]:
    pytest.importorskip("lanelet2", reason="needs the lanelet2 package: pip install 'karp_perception[lanelet2]'")
    from test_map_lanelet2 import town

    path = tmp_path / "town.osm"
    path.write_text(town())
    return {"file": str(path), "projection": "local"}


def test_a_map_in_odom_is_one_road_whose_lights_are_coloured_by_signals(town_map: dict[str, object]) -> None:
    road, _ = road_input(**town_map, frame="odom")
    before = road.at(ego_at(0.0))
    (light,) = [stop for stop in before.stops if stop.kind is StopKind.LIGHT]
    assert light.color is None
    known = StopLine(light.number, np.zeros(2), StopKind.LIGHT, LightColor.GREEN)
    other = StopLine(-4, np.array([20.0, 0.0]), StopKind.STOP)
    road._heard(signals_message([known, other], SECOND, create))
    now = road.at(ego_at(0.0))
    assert now.lanes is before.lanes
    assert len(now.stops) == len(before.stops) + 1
    (green,) = [stop for stop in now.stops if stop.kind is StopKind.LIGHT]
    assert (green.number, green.color) == (light.number, LightColor.GREEN)
    np.testing.assert_array_equal(green.point, light.point)
    assert now.stops[-1].number == -4
    assert road.at(ego_at(40.0, 3.0)).lanes is before.lanes


def test_a_map_follows_its_frame_and_stays_the_same_while_that_stands_still(town_map: dict[str, object]) -> None:
    road, transforms = road_input(**town_map)
    ego = ego_at(3.0)
    assert road.at(ego) is None, "no transform yet"
    T_odom_map = pose_from_xy_yaw(100.0, -50.0, 1.0)

    def place(T: np.ndarray, stamp_ns: int) -> None:
        transforms.set("base_link", "map", np.linalg.inv(ego.T_odom_base) @ T, stamp_ns)

    place(T_odom_map, SECOND)
    placed = road.at(ego)
    direct, _ = road_input(**town_map, frame="odom", x=100.0, y=-50.0, yaw=1.0)
    for ours, theirs in zip(placed.lanes, direct._map.lanes, strict=True):
        np.testing.assert_allclose(ours.center, theirs.center, atol=1e-6)
    place(T_odom_map @ pose_from_xy_yaw(0.01, 0.0, 0.0001), SECOND)
    assert road.at(ego).lanes is placed.lanes
    place(T_odom_map @ pose_from_xy_yaw(1.0, 0.0, 0.0), SECOND)
    moved = road.at(ego)
    shift = T_odom_map[:2, :2] @ (1.0, 0.0)
    np.testing.assert_allclose(moved.lanes[0].center, placed.lanes[0].center + shift, atol=1e-6)


def test_a_map_that_is_none_is_one_clear_line() -> None:
    with pytest.raises(ConfigurationError, match=r"map\.file: expected a name that ends in"):
        road_input(file="town.png")


def goal_at(x: float, y: float, yaw: float, frame: str = "odom") -> Any:
    message = create("geometry_msgs/msg/PoseStamped")
    set_header(message.header, SECOND, frame)
    set_pose(message.pose, pose_from_xy_yaw(x, y, yaw))
    return message


def goal_input(**map_settings: object) -> tuple[GoalInput, TransformBuffer]:
    road, transforms = road_input(**map_settings)
    settings = SimpleNamespace(sensing=SimpleNamespace(base_frame="base_link"))
    node = SimpleNamespace(settings=settings, node_settings=SimpleNamespace(odom_frame="odom"))
    return GoalInput(node, transforms, road), transforms


def test_a_goal_becomes_a_route_along_the_lanes_in_any_frame(town_map: dict[str, object]) -> None:
    goal, transforms = goal_input(**town_map)
    T_odom_map = pose_from_xy_yaw(-20.0, 3.0, 0.0)
    ego = ego_at(0.0)  # at (20, -3) of the map, to the right of the right lane
    transforms.set("base_link", "map", T_odom_map, SECOND)
    assert goal.at(ego) is None
    goal._heard(goal_at(70.0, 19.0, math.pi / 2, "map"))
    route = goal.at(ego)
    np.testing.assert_allclose(route.points[0], [0.0, 3.0], atol=0.05)
    np.testing.assert_allclose(route.points[-1], [50.0, 22.0], atol=0.2)
    assert goal.at(ego) is route
    goal._heard(goal_at(30.0, 3.0, 0.0, "base_link"))
    np.testing.assert_allclose(goal.at(ego).points[-1], [30.0, 3.0], atol=0.05)
    assert goal.counters["goal"].used == 2


def test_goals_that_cannot_be_reached_are_counted(town_map: dict[str, object]) -> None:
    goal, _ = goal_input(**town_map, frame="odom")
    goal._heard(goal_at(48.0, -30.0, math.pi / 2))  # on the side road, to which nothing leads
    assert goal.at(ego_at(0.0)) is None
    goal._heard(goal_at(5000.0, 0.0, 0.0))
    assert goal.at(ego_at(0.0)) is None
    goal._heard(goal_at(float("nan"), 0.0, 0.0))
    assert goal.counters["goal"].as_dict()["dropped"] == {"invalid_input": 1, "no_way": 2}
    without, _ = goal_input()
    without._heard(goal_at(1.0, 0.0, 0.0))
    assert without.at(ego_at(0.0)) is None
    assert without.counters["goal"].as_dict()["dropped"] == {"no_map": 1}


# Over real DDS


def test_a_planner_reads_its_map_hears_signals_and_counts_those_that_are_none(town_map: dict[str, object]) -> None:
    peer = Peer()
    diagnostics = peer.heard("diagnostic_msgs/msg/DiagnosticArray", "/diagnostics")
    signals = peer.publisher("vision_msgs/msg/Detection3DArray", "/planner/input/signals")
    given = [f"map.{name}:={value}" for name, value in {**town_map, "frame": "odom"}.items()]
    parameters = [part for text in (*given, "diagnostics_period:=0.2") for part in ("-p", text)]
    node = NodeProcess("planner", *parameters)
    try:
        wait_until(signals.get_subscription_count, "the planner")

        def counted() -> bool:
            message = signals_message([StopLine(1, np.zeros(2), StopKind.LIGHT, LightColor.RED)], SECOND, create)
            signals.publish(message)
            message.detections[0].results[0].hypothesis.class_id = "blue"
            signals.publish(message)
            numbers = counts(diagnostics, "planner: input signals")
            return numbers.get("used", 0) > 0 and numbers.get("dropped.invalid_input", 0) > 0

        wait_until(counted, "both kinds of messages to be counted")
    finally:
        code, _ = node.end()
        peer.close()
    assert code == 0, node.output
    assert "town.osm: 4 lanes, 4 stop lines" in node.output
    assert "one of red, yellow" in node.output


def test_a_map_that_is_not_there_ends_the_process_with_one_clear_line() -> None:
    node = NodeProcess("planner", "-p", "map.file:=/nowhere/town.osm")
    assert node.wait() == 1
    assert "Traceback" not in node.output, node.output
    assert "map.file: expected a file that exists, got /nowhere/town.osm" in node.output
