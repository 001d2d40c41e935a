"""A route among lanes whose places are known: which it follows, how far to either side, where to stop."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karp_perception.core import Lane, LightColor, Road, Route, StopKind, StopLine
from karp_perception.core.geometry import pose_from_xy_yaw
from karp_perception.planning.reference_line import ReferenceLine
from karp_perception.planning.route_lanes import RouteLanes
from karp_perception.world.layout_road import road_of
from karp_perception.world.layouts.families import FAMILIES, make_layout


def straight(y: float, x0: float = 0.0, x1: float = 100.0) -> np.ndarray:
    return np.array([[x0, y], [x1, y]])


def two_lanes() -> Road:
    """Two lanes to the east and one back; the right one ends after 100 m in another, the left one runs 60 m."""
    lanes = (
        Lane(straight(0.0), 3.5, 14.0, left=1, successors=(3,)),
        Lane(straight(3.4, 20.0, 80.0), 3.2, 14.0, right=0),
        Lane(straight(7.0)[::-1], 3.5, 10.0),
        Lane(straight(0.0, 100.0, 200.0), 3.5, 8.0),
    )
    stops = (
        StopLine(1, np.array([100.0, 0.0]), StopKind.LIGHT, LightColor.RED, lane=0),
        StopLine(2, np.array([0.0, 7.0]), StopKind.LIGHT, LightColor.GREEN, lane=2),
        StopLine(3, np.array([50.0, 3.4]), StopKind.STOP, lane=1),
        StopLine(4, np.array([150.0, 0.2]), StopKind.STOP),
    )
    return Road(lanes, stops)


def line_along(length: float, offset: float = 0.0) -> ReferenceLine:
    """Straight on along x of its frame, 20 m of it behind, `offset` m to the left."""
    x = np.arange(-20.0, length + 0.5, 0.5)
    return ReferenceLine(np.column_stack([x, np.full(len(x), offset)]), -20.0, 0.5)


@given(x=st.floats(0.0, 60.0), yaw=st.floats(-0.05, 0.05), y=st.floats(-1.0, 1.0))
@settings(max_examples=25, deadline=None)
def test_room_lanes_and_stop_lines_lie_where_the_map_has_them_wherever_the_vehicle_is(
    x: float, yaw: float, y: float
) -> None:
    road = two_lanes()
    route = Route(straight(0.3, 0.0, 190.0))
    lanes = RouteLanes(route, road)
    T_odom_base = pose_from_xy_yaw(x, y, yaw)
    # The line follows the route, seen from the vehicle: 0.3 m to the left of the lane's middle.
    at = np.arange(max(-20.0, -x), 120.0, 0.5)
    odom = np.column_stack([x + at, np.full(len(at), 0.3), np.zeros(len(at)), np.ones(len(at))])
    line = ReferenceLine((odom @ np.linalg.inv(T_odom_base).T)[:, :2], float(at[0]), 0.5)

    found = lanes.along(line, x, T_odom_base)
    inside = (found.distance > -x + 3) & (found.distance < 185 - x)
    np.testing.assert_allclose(found.left[inside], 1.75 - 0.3, atol=1e-6)
    np.testing.assert_allclose(found.right[inside], 1.75 + 0.3, atol=1e-6)
    expected = np.where(x + found.distance < 100.0, 14.0, 8.0)
    clear = inside & (np.abs(x + found.distance - 100.0) > 2.0)
    np.testing.assert_allclose(found.speed_limit[clear], expected[clear])
    (beside,) = found.beside
    assert beside.side == "left"
    np.testing.assert_allclose(beside.offset, 3.1, atol=1e-6)
    assert beside.lane.tolist() == [1] * len(beside.lane)
    assert beside.distance[0] == pytest.approx(max(20.0 - x, line.start), abs=2.5)
    assert beside.distance[-1] == pytest.approx(80.0 - x, abs=2.5)

    stops = lanes.stops_ahead(line, road, x, T_odom_base)
    assert [(a.stop.number, a.stop.color) for a in stops] == [(1, LightColor.RED), (4, None)][: len(stops)]
    np.testing.assert_allclose([a.distance for a in stops], [100.0 - x, 150.0 - x][: len(stops)], atol=0.01)
    assert len(stops) == 1 + (x >= 30.5)


def test_colours_of_the_moment_are_told_and_the_work_is_done_once() -> None:
    road, route = two_lanes(), Route(straight(0.0, 0.0, 190.0))
    lanes = RouteLanes.of(route, road)
    now = road.with_colors({1: LightColor.GREEN})
    assert RouteLanes.of(Route(route.points.copy(), 3.0), now, lanes) is lanes
    assert lanes.stops_ahead(line_along(120.0), now, 0.0)[0].stop.color is LightColor.GREEN
    assert RouteLanes.of(Route(route.points[::-1]), now, lanes) is not lanes
    # Another stop line comes into sight: the lanes stay.
    more = road.with_stops((StopLine(9, np.array([70.0, 0.0]), StopKind.STOP), *road.stops))
    other = RouteLanes.of(route, more, lanes)
    assert other is not lanes
    assert other.lane is lanes.lane
    assert [a.stop.number for a in other.stops_ahead(line_along(120.0), more, 0.0)] == [9, 1]
    assert [a.stop.number for a in lanes.stops_ahead(line_along(120.0), road, 0.0)] == [1]
    assert RouteLanes.of(route, two_lanes(), lanes) is not lanes


def test_a_stop_line_at_a_fork_holds_for_the_branch_that_it_names() -> None:
    angle = np.linspace(0.0, math.pi / 2, 20)
    turn = np.column_stack([100.0 + 10.0 * np.sin(angle), 10.0 - 10.0 * np.cos(angle)])
    ahead = straight(0.0, 100.0, 130.0)
    road = Road(
        (Lane(straight(0.0), 3.5, successors=(1, 2)), Lane(ahead, 3.5), Lane(turn, 3.5)),
        tuple(
            StopLine(number, np.array([100.0, 0.0]), StopKind.YIELD, first=(straight(5.0),), lane=lane)
            for number, lane in ((1, 1), (2, 2))
        ),
    )
    for way, expected in ((ahead, 1), (turn, 2)):
        lanes = RouteLanes(Route(np.concatenate([straight(0.0), way])), road)
        assert [a.stop.number for a in lanes.stops_ahead(line_along(110.0), road, 0.0)] == [expected]


def test_a_loop_comes_over_its_stop_line_twice() -> None:
    angle = np.linspace(0.0, 2.0 * math.pi, 200)
    ring = np.column_stack([30.0 * np.sin(angle), 30.0 - 30.0 * np.cos(angle)])
    half = len(ring) // 2
    road = Road(
        (Lane(ring[: half + 1], 3.5, successors=(1,)), Lane(ring[half:], 3.5, successors=(0,))),
        (StopLine(7, ring[half], StopKind.LIGHT, lane=0),),
    )
    route = Route(np.concatenate([ring, ring[1:], ring[1:60]]))
    lanes = RouteLanes(route, road)
    assert (lanes.lane >= 0).all()
    around = 2.0 * math.pi * 30.0
    s = np.linspace(0.0, 1.5 * around - 1.0, 700)
    points = np.column_stack([30.0 * np.sin(s / 30.0), 30.0 - 30.0 * np.cos(s / 30.0)])
    line = ReferenceLine(points, 0.0, s[1])
    stops = lanes.stops_ahead(line, road, 0.0)
    np.testing.assert_allclose([a.distance for a in stops], [0.5 * around], atol=0.5)
    second = lanes.stops_ahead(line, road, around)
    np.testing.assert_allclose([a.distance for a in second], [0.5 * around], atol=0.5)


def test_a_route_off_the_lanes_follows_none_and_one_without_a_map_neither() -> None:
    for road in (two_lanes(), Road()):
        lanes = RouteLanes(Route(straight(40.0)), road)
        found = lanes.along(line_along(60.0), 0.0)
        assert (found.lane == -1).all()
        assert np.isinf(found.left).all()
        assert np.isinf(found.right).all()
        assert np.isinf(found.speed_limit).all()
        assert not found.beside
        assert not lanes.stops_ahead(line_along(60.0), road, 0.0)
    # Against the traffic is no lane of one's own.
    assert (RouteLanes(Route(straight(7.0)), two_lanes()).lane == -1).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_routes_of_layouts_follow_exactly_their_lanes(family: str) -> None:
    for seed in range(4):
        layout = make_layout(family, seed)
        road = road_of(layout.lanes, layout.crossings, layout.bikeways)
        numbers = [number for number in layout.lanes if number not in layout.bikeways]
        lanes = RouteLanes(Route(layout.route_points[:, :2]), road)
        assert [numbers[k] for k in dict.fromkeys(lanes.lane.tolist())] == list(layout.route)
        lit = [n for n in layout.route if layout.lanes[n].signal is not None]
        found = [road.stops[k].lane for _, k in lanes._passes if road.stops[k].kind is StopKind.LIGHT]
        assert [numbers[k] for k in found] == lit
