"""Lanes and routes of an OpenDRIVE text with a junction; the carla package reads its geometry without a server."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from karp_perception.core.errors import KarpError
from karp_perception.world.carla.client import CarlaError
from karp_perception.world.carla.road_map import (
    RoadMap,
    lanes_around,
    nearest_lane,
    read_road_map,
)
from karp_perception.world.carla.route import make_route, roaming_way, route_points, shortest_way
from karp_perception.world.layout import Lane


def lane(identifier: int, kind: str = "driving", width: float = 3.5, links: str = "", change: str = "none") -> str:
    return (
        f'<lane id="{identifier}" type="{kind}" level="false"><link>{links}</link>'
        f'<width sOffset="0" a="{width}" b="0" c="0" d="0"/>'
        f'<roadMark sOffset="0" type="broken" weight="standard" color="standard" width="0.1" laneChange="{change}"/>'
        "</lane>"
    )


def road(
    number: int, length: float, geometry: str, right: str, *, left: str = "", links: str = "", junction: int = -1,
    speed: str = "", sign: str = "", start: tuple[float, float, float] = (0.0, 0.0, 0.0), height: str = "",
) -> str:  # fmt: skip
    x, y, heading = start
    types = f'<type s="0" type="town">{speed}</type>' if speed else ""
    signals = f"<signals>{sign}</signals>" if sign else ""
    return f"""<road name="r{number}" length="{length}" id="{number}" junction="{junction}"><link>{links}</link>{types}
<planView><geometry s="0" x="{x}" y="{y}" hdg="{heading}" length="{length}">{geometry}</geometry></planView>
<elevationProfile>{height}</elevationProfile><lateralProfile/>
<lanes><laneSection s="0">{"<left>" + left + "</left>" if left else ""}
<center>{lane(0, "none", 0)}</center><right>{right}</right></laneSection></lanes>{signals}</road>"""


def link(kind: str, number: int) -> str:
    return f'<{kind} id="{number}"/>'


RADIUS = 10.0
QUARTER = RADIUS * math.pi / 2
# Road 1 comes from the west with two lanes; in the junction its right lane goes straight on to road 2 (east) or turns
# right to road 3 (south).
ROADS = "".join(
    [
        road(
            1, 50.0, "<line/>", lane(-1, change="both") + lane(-2, change="both") + lane(-3, "sidewalk", 2.0),
            links='<successor elementType="junction" elementId="100"/>',
            speed='<speed max="50" unit="km/h"/>', height='<elevation s="0" a="1" b="0.02" c="0" d="0"/>',
        ),
        road(
            2, 40.0, "<line/>", lane(-1), start=(70.0, -3.5, 0.0),
            links='<predecessor elementType="junction" elementId="100"/>',
            sign='<signal s="5" t="-4" id="1" name="" dynamic="no" orientation="+" type="274" subtype="30" value="30" '
            'unit="mph" zOffset="0" country="" height="1" width="1"/>',
            height='<elevation s="0" a="2" b="0" c="0" d="0"/>',
        ),
        road(
            3, 30.0, "<line/>", lane(-1), start=(60.0, -13.5, -math.pi / 2),
            links='<predecessor elementType="junction" elementId="100"/>',
            height='<elevation s="0" a="2" b="0" c="0" d="0"/>',
        ),
        road(
            10, 20.0, "<line/>", lane(-1, links=link("predecessor", -2) + link("successor", -1)), junction=100,
            start=(50.0, -3.5, 0.0), height='<elevation s="0" a="2" b="0" c="0" d="0"/>',
            links='<predecessor elementType="road" elementId="1" contactPoint="end"/>'
            '<successor elementType="road" elementId="2" contactPoint="start"/>',
        ),
        road(
            11, QUARTER, f'<arc curvature="{-1 / RADIUS}"/>',
            lane(-1, links=link("predecessor", -2) + link("successor", -1)), junction=100, start=(50.0, -3.5, 0.0),
            height='<elevation s="0" a="2" b="0" c="0" d="0"/>',
            links='<predecessor elementType="road" elementId="1" contactPoint="end"/>'
            '<successor elementType="road" elementId="3" contactPoint="start"/>',
        ),
    ]
)  # fmt: skip
JUNCTION = """<junction id="100" name="j">
<connection id="0" incomingRoad="1" connectingRoad="10" contactPoint="start"><laneLink from="-2" to="-1"/></connection>
<connection id="1" incomingRoad="1" connectingRoad="11" contactPoint="start"><laneLink from="-2" to="-1"/></connection>
</junction>"""
HEADER = '<header revMajor="1" revMinor="4" name="t" version="1" north="0" south="0" east="0" west="0"/>'
XODR = f'<?xml version="1.0"?><OpenDRIVE>{HEADER}{ROADS}{JUNCTION}</OpenDRIVE>'


@pytest.fixture(scope="module")
def road_map() -> RoadMap:
    carla = pytest.importorskip("carla", reason="needs the carla package: pip install 'karp_perception[carla]'")
    return read_road_map(carla, "junction", XODR)


def test_every_driving_lane_is_there_and_no_other(road_map: RoadMap) -> None:
    keys = [(1, 0, -2), (1, 0, -1), (2, 0, -1), (3, 0, -1), (10, 0, -1), (11, 0, -1)]
    assert dict(road_map.number_of) == {key: i for i, key in enumerate(keys, start=1)}
    assert all(number == lane.number for number, lane in road_map.lanes.items())


def test_lanes_lie_where_the_text_puts_them(road_map: RoadMap) -> None:
    left, right = (road_map.lanes[road_map.number_of[1, 0, lane]] for lane in (-1, -2))
    # OpenDRIVE and REP-103 are both right-handed: CARLA mirrors in between, and that must cancel out.
    np.testing.assert_allclose(left.center[:, 1], -1.75, atol=1e-4)
    np.testing.assert_allclose(right.center[:, 1], -5.25, atol=1e-4)
    np.testing.assert_allclose(left.center[[0, -1], 0], [0.0, 50.0], atol=0.05)
    np.testing.assert_allclose(left.center[:, 2], 1.0 + 0.02 * left.center[:, 0], atol=1e-3)
    assert left.width == pytest.approx(3.5, abs=1e-3)
    # The turn to the right: an arc around (50, -13.5).
    turn = road_map.lanes[road_map.number_of[11, 0, -1]]
    radius = np.hypot(turn.center[:, 0] - 50.0, turn.center[:, 1] + 13.5)
    np.testing.assert_allclose(radius, RADIUS - 1.75, atol=1e-3)
    assert turn.length == pytest.approx((RADIUS - 1.75) * math.pi / 2, abs=0.1)
    for each in road_map.lanes.values():
        assert np.diff(each.along).max() <= 1.0 + 1e-3


def test_lanes_know_what_follows_what_is_beside_them_and_how_fast(road_map: RoadMap) -> None:
    number, lanes = road_map.number_of, road_map.lanes
    left, right = lanes[number[1, 0, -1]], lanes[number[1, 0, -2]]
    assert right.successors == (number[10, 0, -1], number[11, 0, -1])
    assert left.successors == ()
    assert lanes[number[10, 0, -1]].successors == (number[2, 0, -1],)
    assert lanes[number[11, 0, -1]].successors == (number[3, 0, -1],)
    assert lanes[number[2, 0, -1]].successors == ()
    assert (left.left, left.right) == (None, right.number)
    assert (right.left, right.right) == (left.number, None)  # no changing to the pavement
    assert left.speed_limit == pytest.approx(50 / 3.6)  # of the road
    assert lanes[number[2, 0, -1]].speed_limit == pytest.approx(30 * 0.44704)  # of the sign
    assert lanes[number[3, 0, -1]].speed_limit == pytest.approx(13.9)  # of nobody


def test_the_nearest_lane_is_one_in_the_right_direction(road_map: RoadMap) -> None:
    number = road_map.number_of
    assert nearest_lane(road_map.lanes, np.array([20.0, -2.0, 1.4]), 0.1)[0] == number[1, 0, -1]
    found, along = nearest_lane(road_map.lanes, np.array([20.0, -4.8]), 0.0)
    assert found == number[1, 0, -2]
    assert along == pytest.approx(20.0, abs=0.6)
    # Where the turn leaves, the heading decides.
    assert nearest_lane(road_map.lanes, np.array([55.0, -6.5]), -0.8)[0] == number[11, 0, -1]
    assert nearest_lane(road_map.lanes, np.array([55.0, -5.25]), 0.0)[0] == number[10, 0, -1]
    with pytest.raises(CarlaError, match="no lane within 15 m"):
        nearest_lane(road_map.lanes, np.array([500.0, 0.0]), 0.0)


def test_a_route_changes_lanes_where_it_must_and_turns_where_it_is_to_go(road_map: RoadMap) -> None:
    number, lanes = road_map.number_of, road_map.lanes
    way = shortest_way(lanes, number[1, 0, -1], number[3, 0, -1])
    assert way == [number[1, 0, -1], number[1, 0, -2], number[11, 0, -1], number[3, 0, -1]]
    points = route_points(lanes, way, start=5.0, end=20.0)
    np.testing.assert_allclose(points[0, :2], [5.0, -1.75], atol=0.05)
    np.testing.assert_allclose(points[-1, :2], [58.25, -33.5], atol=0.1)  # 20 m down road 3
    steps = np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1)
    assert np.sort(steps)[-1] == pytest.approx(math.hypot(12.0, 3.5), abs=0.1)  # the change of lanes
    assert np.sort(steps)[-2] <= 1.01
    route = make_route(lanes, way, 5.0, 20.0)
    assert route.speed_limit == pytest.approx(50 / 3.6)
    with pytest.raises(CarlaError, match="no way leads"):
        shortest_way(lanes, number[2, 0, -1], number[3, 0, -1])


def test_lanes_around_are_those_in_reach(road_map: RoadMap) -> None:
    found = {lane.number for lane in lanes_around(road_map.lanes, np.array([0.0, 0.0, 0.0]), 10.0)}
    assert found == {road_map.number_of[1, 0, -1], road_map.number_of[1, 0, -2]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<nonsense", "not an OpenDRIVE map"),
        ("<OpenDRIVE/>", "without any"),
        (XODR.replace('type="driving"', 'type="sidewalk"'), "without any"),
    ],
    ids=["no XML", "empty", "pavements only"],
)
def test_what_is_no_map_gets_one_clear_line(text: str, expected: str) -> None:
    carla = pytest.importorskip("carla", reason="needs the carla package: pip install 'karp_perception[carla]'")
    with pytest.raises(KarpError, match=expected) as raised:
        read_road_map(carla, "bad", text)
    assert "\n" not in str(raised.value)


# Ways through lanes, without the package


def grid(size: int, seed: int) -> dict[int, Lane]:
    """One-way streets between the corners of a jittered grid, some of them missing."""
    rng = np.random.default_rng(seed)
    corners = {
        (i, j): np.array([100.0 * i, 100.0 * j, 0.0]) + np.append(rng.uniform(-20, 20, 2), 0.0)
        for i in range(size)
        for j in range(size)
    }
    ends = [
        (a, b)
        for a in corners
        for b in [(a[0] + 1, a[1]), (a[0] - 1, a[1]), (a[0], a[1] + 1), (a[0], a[1] - 1)]
        if b in corners and rng.random() < 0.8
    ]
    lanes = {n: Lane(n, np.linspace(corners[a], corners[b], 120), 3.5, 10.0) for n, (a, b) in enumerate(ends, start=1)}
    following = {
        n: tuple(m for m, (c, d) in enumerate(ends, start=1) if c == b and d != a)
        for n, (a, b) in enumerate(ends, start=1)
    }
    return {n: replace(lane, successors=following[n]) for n, lane in lanes.items()}


def test_the_shortest_way_is_that_of_an_independent_search() -> None:
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import dijkstra

    for seed in range(3):
        lanes = grid(5, seed)
        n = len(lanes) + 1
        rows, columns, lengths = [], [], []
        for number, each in lanes.items():
            for following in each.successors:
                rows.append(number)
                columns.append(following)
                lengths.append(lanes[following].length)
        table = dijkstra(csr_matrix((lengths, (rows, columns)), (n, n)))
        rng = np.random.default_rng(seed)
        for start, goal in rng.integers(1, n, (30, 2)):
            if not np.isfinite(table[start, goal]):
                with pytest.raises(CarlaError):
                    shortest_way(lanes, int(start), int(goal))
                continue
            way = shortest_way(lanes, int(start), int(goal))
            assert (way[0], way[-1]) == (start, goal)
            assert all(b in lanes[a].successors for a, b in pairwise(way))
            assert sum(lanes[number].length for number in way[1:]) == pytest.approx(table[start, goal])


def test_a_roaming_way_is_long_enough_and_drawn_from_its_seed() -> None:
    lanes = grid(6, 1)
    ways = [roaming_way(lanes, 1, 1500.0, np.random.default_rng(seed)) for seed in (0, 0, 1, 2)]
    assert ways[0] == ways[1]
    assert len({tuple(way) for way in ways}) > 1
    for way in ways:
        assert all(b in lanes[a].successors for a, b in pairwise(way))
        assert sum(lanes[number].length for number in way) >= 1500.0
    # A dead end is where it ends.
    dead_end = {1: lanes[1].__class__(1, lanes[1].center, 3.5, 10.0)}
    assert roaming_way(dead_end, 1, 1e4, np.random.default_rng(0)) == [1]
