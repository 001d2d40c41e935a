"""The picture of the road against OpenCV's test of points in polygons and directions in closed form."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from karp_perception.core import InvalidInput, Lane
from karp_perception.planning.road_raster import CELL, RoadRaster
from karp_perception.world.layout_road import road_of
from karp_perception.world.layouts.families import FAMILIES, make_layout


def outside(lanes: tuple[Lane, ...], points: np.ndarray) -> np.ndarray:
    """(P,) m from each point to the nearest lane's strip, negative inside; by OpenCV, segment by segment."""
    best = np.full(len(points), np.inf)
    for lane in lanes:
        near = np.flatnonzero(((points > lane.center.min(0) - 9) & (points < lane.center.max(0) + 9)).all(axis=1))
        for a, b in zip(lane.center[:-1], lane.center[1:], strict=True):
            u = (b - a) / np.linalg.norm(b - a)
            side = 0.5 * lane.width * np.array([-u[1], u[0]])
            quad = np.array([a + side, b + side, b - side, a - side], np.float32)
            for k in near[np.hypot(*(points[near] - a).T) < 9.0]:
                x, y = map(float, points[k])
                best[k] = min(best[k], -cv2.pointPolygonTest(quad, (x, y), True))
    return best


@pytest.mark.parametrize("family", ["intersection", "roundabout", "yard", "curve"])
def test_drivable_is_what_lies_on_a_lane_to_within_a_cell(family: str) -> None:
    layout = make_layout(family, 1)
    lanes = road_of(layout.lanes, layout.crossings, layout.bikeways).lanes
    raster = RoadRaster(lanes)
    rng = np.random.default_rng(0)
    middle = np.concatenate([lane.center for lane in lanes])
    points = middle[rng.integers(0, len(middle), 400)] + rng.normal(0.0, 2.0, (400, 2))
    away, found = outside(lanes, points), raster.drivable(points)
    # Quads fan out where a lane bends: 0.1 m at the outer edge.
    assert found[away < -CELL].all()
    assert not found[away > 0.8 + CELL].any()  # gaps of 0.8 m are closed
    lane, found = lanes[0], RoadRaster(lanes[:1]).drivable(points)
    assert found[outside((lane,), points) < -CELL].all()
    # At its ends a lane may reach half a cell farther: there another one goes on.
    ends = [lane.center[0] - lane.center[1], lane.center[-1] - lane.center[-2]]
    a, b = (lane.center[k] + 0.5 * CELL * v / np.linalg.norm(v) for k, v in zip((0, -1), ends, strict=True))
    longer = Lane(np.concatenate([[a], lane.center, [b]]), lane.width)
    assert not found[outside((longer,), points) > CELL * 1.5].any()


def test_gaps_between_lanes_are_closed_and_wider_ones_are_not() -> None:
    def lane(y: float, x0: float = 0.0, x1: float = 50.0) -> Lane:
        return Lane(np.array([[x0, y], [x1, y]]), 3.0)

    raster = RoadRaster([lane(0.0), lane(3.5), lane(8.5)])
    assert raster.drivable(np.array([[25.0, 1.75], [25.0, 5.0 - CELL], [25.0, 6.0], [25.0, 7.0 + CELL]])).tolist() == [
        True, True, False, True,
    ]  # fmt: skip
    gap = np.array([[25.0, 1.75]])
    assert not raster.against(gap, np.array([0.0])).any()  # no lane's direction holds there
    assert not raster.against(gap, np.array([math.pi])).any()


@given(yaw=st.floats(-10.0, 10.0), turn=st.floats(-math.pi, math.pi))
@settings(max_examples=60, deadline=None)
def test_against_the_traffic_is_who_turns_far_enough_from_every_lane(yaw: float, turn: float) -> None:
    ahead = np.array([math.cos(yaw), math.sin(yaw)])
    lane = Lane(np.array([-20.0 * ahead, 20.0 * ahead]), 3.0)
    point = np.array([[0.1, 0.2]])
    angle = abs(turn)
    expected = None if 0.33 * math.pi < angle < 0.8 * math.pi else angle > math.pi / 2
    found = bool(RoadRaster([lane]).against(point, np.array([yaw + turn]))[0])
    if expected is not None:
        assert found is expected
    # Where the other direction is there as well, nobody goes against it.
    both = RoadRaster([lane, Lane(lane.center[::-1], 3.0)])
    if expected is not None:
        assert not both.against(point, np.array([yaw + turn]))[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_who_follows_a_lane_never_goes_against_it_and_who_turns_back_on_a_road_of_one_does(family: str) -> None:
    layout = make_layout(family, 2)
    lanes = road_of(layout.lanes, layout.crossings, layout.bikeways).lanes
    raster = RoadRaster(lanes)
    for lane in lanes:
        middle = 0.5 * (lane.center[:-1] + lane.center[1:])
        yaw = np.arctan2(*np.diff(lane.center, axis=0).T[::-1])
        assert raster.drivable(middle).all()
        assert not raster.against(middle, yaw).any()
        alone = RoadRaster([lane])
        assert alone.against(middle, yaw + math.pi).mean() > 0.95


def test_a_bend_tighter_than_half_the_width_has_no_holes() -> None:
    angle = np.linspace(0.0, math.pi, 12)
    lane = Lane(np.column_stack([1.2 * np.sin(angle), -1.2 * np.cos(angle)]), 4.0)
    rng = np.random.default_rng(1)
    points = rng.uniform(-1, 4, (500, 2))
    inside = outside((lane,), points) < -0.1
    assert inside.sum() > 50
    assert RoadRaster([lane]).drivable(points[inside]).all()


def test_shapes_are_kept_and_nothing_is_drivable_outside_or_nowhere() -> None:
    raster = RoadRaster([Lane(np.array([[0.0, 0.0], [30.0, 0.0]]), 3.0)])
    points = np.broadcast_to([15.0, 0.0], (2, 3, 4, 2))
    assert raster.drivable(points).shape == (2, 3, 4)
    assert raster.drivable(points).all()
    assert raster.against(points, np.full((2, 3, 4), math.pi)).all()
    bad = np.array([[np.nan, 0.0], [np.inf, 0.0], [1e300, 0.0], [-5.0, 0.0], [15.0, 9.0], [15.0, -1e12]])
    assert not raster.drivable(bad).any()
    assert not raster.against(np.array([[15.0, 0.0]] * 3), np.array([np.nan, np.inf, -np.inf])).any()
    assert not RoadRaster([]).drivable(points).any()


def test_a_map_that_is_too_large_says_what_to_do() -> None:
    far = [Lane(np.array([[0.0, 0.0], [30.0, 0.0]]), 3.0), Lane(np.array([[9e3, 9e3], [9.1e3, 9e3]]), 3.0)]
    with pytest.raises(InvalidInput, match=r"4 km².*Road\.around"):
        RoadRaster(far)
