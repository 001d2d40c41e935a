"""Ways through lanes against an independent search and places known in closed form."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import dijkstra

from karp_perception.core import Lane
from karp_perception.maps.routes import (
    NoWay,
    make_route,
    nearest_lane,
    roaming_way,
    route_ahead,
    route_between,
    shortest_way,
    way_points,
)

LEFT, RIGHT, AHEAD, TURN, EAST, SOUTH = range(6)
RADIUS = 8.25


def junction() -> list[Lane]:
    """Two lanes eastwards; from the right one straight on, or to the right on a quarter of a circle."""
    angle = np.linspace(0.0, math.pi / 2, 14)
    bend = np.column_stack([50.0 + RADIUS * np.sin(angle), -13.5 + RADIUS * np.cos(angle)])
    return [
        Lane(_line(0, -1.75, 50, -1.75), 3.5, 14.0, right=RIGHT),
        Lane(_line(0, -5.25, 50, -5.25), 3.5, 13.0, left=LEFT, successors=(AHEAD, TURN)),
        Lane(_line(50, -5.25, 70, -5.25), 3.5, successors=(EAST,)),
        Lane(bend, 3.5, successors=(SOUTH,)),
        Lane(_line(70, -5.25, 110, -5.25), 3.5),
        Lane(_line(58.25, -13.5, 58.25, -43.5), 3.5),
    ]


def ring() -> list[Lane]:
    """A square of 100 m, driven counterclockwise."""
    corners = np.array([(0, 0), (100, 0), (100, 100), (0, 100)], float)
    return [Lane(_line(*corners[k], *corners[k - 3]), 3.0, 5.0, successors=((k + 1) % 4,)) for k in range(4)]


def _line(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.linspace((x0, y0), (x1, y1), max(round(math.hypot(x1 - x0, y1 - y0)), 1) + 1)


def test_the_nearest_lane_is_one_in_the_right_direction() -> None:
    lanes = junction()
    assert nearest_lane(lanes, np.array([20.0, -2.0]), 0.1) == (LEFT, pytest.approx(20.0))
    assert nearest_lane(lanes, np.array([20.4, -4.8]), 0.0) == (RIGHT, pytest.approx(20.4))
    # Where the turn leaves, the heading decides.
    assert nearest_lane(lanes, np.array([55.0, -6.5]), -0.8)[0] == TURN
    assert nearest_lane(lanes, np.array([55.0, -5.25]), 0.0)[0] == AHEAD
    assert nearest_lane(lanes, np.array([120.0, -5.25])) == (EAST, pytest.approx(40.0))
    with pytest.raises(NoWay, match="no lane within 15 m"):
        nearest_lane(lanes, np.array([500.0, 0.0]), 0.0)


def test_a_route_changes_lanes_where_it_must_and_turns_where_it_is_to_go() -> None:
    lanes = junction()
    way = shortest_way(lanes, LEFT, SOUTH)
    assert way == [LEFT, RIGHT, TURN, SOUTH]
    points = way_points(lanes, way, start=5.0, end=20.0)
    np.testing.assert_allclose(points[0], [5.0, -1.75])
    np.testing.assert_allclose(points[-1], [58.25, -33.5])  # 20 m to the south
    steps = np.sort(np.linalg.norm(np.diff(points, axis=0), axis=1))
    assert steps[-1] == pytest.approx(math.hypot(12.0, 3.5))  # the change of lanes
    assert steps[-2] <= 1.01
    assert make_route(lanes, way, 5.0, 20.0).speed_limit == 14.0
    with pytest.raises(NoWay, match="no way leads from lane 4 to lane 5"):
        shortest_way(lanes, EAST, SOUTH)


def test_a_route_between_two_places_has_the_length_of_the_ring_between_them() -> None:
    lanes = ring()
    # On the same side ahead, on the same side behind (once around), and two sides on.
    for start, goal, expected in [
        ((20, 0), (70, 0), 50.0),
        ((70, 0), (20, 0), 350.0),
        ((70, 1), (60, 100), 30.0 + 100.0 + 40.0),
    ]:
        route = route_between(lanes, np.array(start, float), np.array(goal, float), yaw=0.0)
        assert np.linalg.norm(np.diff(route.points, axis=0), axis=1).sum() == pytest.approx(expected)
        np.testing.assert_allclose(route.points[[0, -1], 0], [start[0], goal[0]])
        assert route.speed_limit == 5.0
    with pytest.raises(NoWay, match="lies behind"):
        route_between(junction(), np.array([30.0, -1.75]), np.array([10.0, -5.25]))


def test_straight_ahead_is_along_the_least_turn_for_as_long_as_the_road() -> None:
    lanes = junction()
    route = route_ahead(lanes, np.array([30.0, -5.0]), 0.0, 50.0)
    np.testing.assert_allclose(route.points[[0, -1]], [[30.0, -5.25], [80.0, -5.25]])
    np.testing.assert_allclose(route_ahead(lanes, np.array([30.0, -5.0]), 0.0, 1e3).points[-1], [110.0, -5.25])
    around = route_ahead(ring(), np.array([50.0, 0.0]), 0.0, 420.0)
    np.testing.assert_allclose(around.points[-1], [70.0, 0.0], atol=1e-9)


def grid(size: int, seed: int) -> list[Lane]:
    """One-way streets between the corners of a jittered grid, some of them missing."""
    rng = np.random.default_rng(seed)
    corners = {(i, j): 100.0 * np.array([i, j]) + rng.uniform(-20, 20, 2) for i in range(size) for j in range(size)}
    ends = [
        (a, b)
        for a in corners
        for b in [(a[0] + 1, a[1]), (a[0] - 1, a[1]), (a[0], a[1] + 1), (a[0], a[1] - 1)]
        if b in corners and rng.random() < 0.8
    ]
    lanes = [Lane(np.linspace(corners[a], corners[b], 120), 3.5, 10.0) for a, b in ends]
    following = [tuple(m for m, (c, d) in enumerate(ends) if c == b and d != a) for a, b in ends]
    return [replace(lane, successors=after) for lane, after in zip(lanes, following, strict=True)]


@pytest.mark.parametrize("seed", range(3))
def test_the_shortest_way_is_that_of_an_independent_search(seed: int) -> None:
    lanes = grid(5, seed)
    edges = np.array([(k, n, lanes[n].length) for k, lane in enumerate(lanes) for n in lane.successors])
    rows, columns = edges[:, :2].astype(int).T
    table = dijkstra(csr_matrix((edges[:, 2], (rows, columns)), (len(lanes), len(lanes))))
    for start, goal in np.random.default_rng(seed).integers(0, len(lanes), (30, 2)):
        if not np.isfinite(table[start, goal]):
            with pytest.raises(NoWay):
                shortest_way(lanes, int(start), int(goal))
            continue
        way = shortest_way(lanes, int(start), int(goal))
        assert (way[0], way[-1]) == (start, goal)
        assert all(b in lanes[a].successors for a, b in pairwise(way))
        assert sum(lanes[k].length for k in way[1:]) == pytest.approx(table[start, goal])


def test_a_roaming_way_is_long_enough_and_drawn_from_its_seed() -> None:
    lanes = grid(6, 1)
    ways = [roaming_way(lanes, 1, 1500.0, np.random.default_rng(seed)) for seed in (0, 0, 1, 2)]
    assert ways[0] == ways[1]
    assert len({tuple(way) for way in ways}) > 1
    for way in ways:
        assert all(b in lanes[a].successors for a, b in pairwise(way))
        assert sum(lanes[k].length for k in way) >= 1500.0
    # A dead end is where it ends.
    assert roaming_way([Lane(lanes[0].center, 3.5)], 0, 1e4, np.random.default_rng(0)) == [0]
