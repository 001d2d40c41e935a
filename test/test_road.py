"""What a map says of the road: the types, and what the embedded world tells of its places."""

from __future__ import annotations

import math

import numpy as np
import pytest

from karp_perception.core import InvalidInput, Lane, LightColor, Road, StopKind, StopLine
from karp_perception.world.embedded import EmbeddedWorld, Setup
from karp_perception.world.layout import Layout
from karp_perception.world.layout_road import road_of
from karp_perception.world.layouts.families import FAMILIES, make_layout

LINE = np.array([[0.0, 0.0], [10.0, 0.0]])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Lane(np.zeros((1, 2)), 3.0), r"Lane\.center: expected at least two"),
        (lambda: Lane(np.zeros((5, 2)), 3.0), r"Lane\.center: expected at least two distinct"),
        (lambda: Lane(np.array([[0.0, 0.0], [np.nan, 1.0]]), 3.0), "finite"),
        (lambda: Lane(LINE, 0.0), r"Lane\.width"),
        (lambda: Lane(LINE, 3.0, -1.0), r"Lane\.speed_limit"),
        (lambda: StopLine(1, np.zeros(3), StopKind.STOP), r"StopLine\.point"),
        (lambda: StopLine(1, np.zeros(2), StopKind.YIELD, first=(np.zeros((1, 2)),)), r"StopLine\.first"),
        (lambda: Road((Lane(LINE, 3.0, left=1),)), r"Road\.lanes\[0\]\.left"),
        (lambda: Road((Lane(LINE, 3.0, successors=(0,)),)), r"Road\.lanes\[0\]\.successors"),
        (lambda: Road((), (StopLine(1, np.zeros(2), StopKind.STOP, lane=0),)), r"StopLine\.lane"),
    ],
)
def test_what_cannot_be_a_road_is_refused(make: object, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        make()


def test_points_that_repeat_are_left_out_and_distances_are_along_the_lane() -> None:
    lane = Lane(np.array([[0.0, 0.0], [3.0, 4.0], [3.0, 4.0], [3.0, 10.0]]), 3.0)
    np.testing.assert_allclose(lane.along, [0.0, 5.0, 11.0])
    np.testing.assert_allclose(lane.point_at(8.0), [3.0, 7.0])


def test_colours_change_lights_alone_and_leave_the_lanes_where_they_are() -> None:
    road = Road(
        (Lane(LINE, 3.0),),
        (
            StopLine(4, LINE[0], StopKind.LIGHT, LightColor.RED),
            StopLine(4, LINE[1], StopKind.LIGHT),
            StopLine(5, LINE[1], StopKind.YIELD, first=(LINE,)),
            StopLine(6, LINE[1], StopKind.LIGHT, LightColor.GREEN),
        ),
    )
    now = road.with_colors({4: LightColor.YELLOW, 5: LightColor.RED})
    assert [stop.color for stop in now.stops] == [LightColor.YELLOW, LightColor.YELLOW, None, None]
    assert now.lanes is road.lanes
    assert now.stops[2] is road.stops[2]
    assert [stop.color for stop in road.stops] == [LightColor.RED, None, None, LightColor.GREEN]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_layout_becomes_a_road(family: str) -> None:
    layout = make_layout(family, 3)
    road = road_of(layout.lanes, layout.crossings, layout.bikeways)
    ours = [lane for number, lane in layout.lanes.items() if number not in layout.bikeways]
    assert len(road.lanes) == len(ours)
    for lane, theirs in zip(road.lanes, ours, strict=True):
        np.testing.assert_array_equal(lane.center, theirs.center[:, :2])
        assert [ours[k].number for k in lane.successors] == [n for n in theirs.successors if n not in layout.bikeways]
        assert (None if lane.left is None else ours[lane.left].number) == theirs.left
        assert (None if lane.right is None else ours[lane.right].number) == theirs.right
    # Every light, every lane that yields and every zebra crossing has its line, on the lane that it stops.
    assert sorted(s.lane for s in road.stops if s.kind is StopKind.LIGHT) == [
        k for k, lane in enumerate(ours) if lane.signal is not None
    ]
    assert sorted(s.lane for s in road.stops if s.kind is StopKind.YIELD) == [
        k for k, lane in enumerate(ours) if lane.yields_to
    ]
    others = [stop.number for stop in road.stops if stop.kind is not StopKind.LIGHT]
    assert len(set(others)) == len(others)
    assert not set(others) & set(layout.signals)
    for stop in road.stops:
        lane = road.lanes[stop.lane]
        assert np.hypot(*(lane.center - stop.point).T).min() < 0.51
        if stop.kind is StopKind.CROSSING:
            (way,) = stop.first
            reach = np.array([lane.point_at(s) for s in np.linspace(0, lane.length, 200)])
            a, b = way
            t = np.clip((reach - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
            # People cross ahead of the line: on this lane, or just behind its end.
            assert np.hypot(*(a + t[:, None] * (b - a) - reach).T).min() < 6.0


def test_who_goes_first_comes_from_afar_and_gets_in_the_way() -> None:
    layout = _lit_or_not("roundabout")
    road = road_of(layout.lanes, layout.crossings, layout.bikeways)
    stops = [stop for stop in road.stops if stop.kind is StopKind.YIELD]
    assert stops
    for stop in stops:
        own = road.lanes[stop.lane].center
        for way in stop.first:
            assert np.hypot(*(own[:, None] - way[None]).transpose(2, 0, 1)).min() < 2.5
            assert np.linalg.norm(np.diff(way, axis=0), axis=1).max() < 1.5  # no jumps from lane to lane
            assert np.linalg.norm(np.diff(way, axis=0), axis=1).sum() > 15.0


def _lit_or_not(family: str) -> Layout:
    return next(
        layout for layout in (make_layout(family, seed) for seed in range(9))
        if any(lane.yields_to for lane in layout.lanes.values())
    )  # fmt: skip


def test_the_worlds_road_shows_the_lights_of_the_moment_on_the_same_lanes() -> None:
    seed = next(s for s in range(20) if make_layout("intersection", s).signals)
    with EmbeddedWorld(Setup("intersection", layout_seed=seed, speed_limit=9.0), rig="nano") as world:
        before, seen = world.road, {}
        assert {lane.speed_limit for lane in before.lanes} == {9.0}
        for _ in range(600):
            road = world.road
            assert road.lanes is before.lanes
            assert world.route is world.route
            for stop in road.stops:
                if stop.kind is StopKind.LIGHT:
                    assert stop.color is world.layout.signals[stop.number].color(world.time)
                    seen.setdefault(stop.number, set()).add(stop.color)
            world._ticks += 1  # time alone: nothing has to drive for lights to change
        assert all(colors == set(LightColor) for colors in seen.values())
        assert math.isclose(world.time, 60.0)
        world.begin(Setup("straight"), 1)
        assert world.road.lanes is not before.lanes
