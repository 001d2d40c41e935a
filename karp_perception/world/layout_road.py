"""The lanes of a layout as a Road: what a planner may know of it."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import numpy as np

from karp_perception.core.road import Lane as RoadLane
from karp_perception.core.road import Road, StopKind, StopLine
from karp_perception.maps.approaches import predecessors, ways_into
from karp_perception.world.layout import Crossing, Lane

_AT_END = 1.0  # m: a crossing that one stops for so close to a light is that light's


def road_of(
    lanes: Mapping[int, Lane], crossings: Mapping[int, Crossing] | None = None, bikeways: Collection[int] = ()
) -> Road:
    """Lanes and stop lines, without colours.

    Args:
        lanes: by number; what they name and is not among them is left out.
        crossings: by number.
        bikeways: numbers of lanes for bicycles alone: no lanes of the Road, but who rides on them may go first.
    """
    numbers = [number for number in lanes if number not in bikeways]
    index = {number: k for k, number in enumerate(numbers)}
    made = tuple(
        RoadLane(
            lane.center[:, :2],
            lane.width,
            lane.speed_limit,
            None if lane.left is None else index.get(lane.left),
            None if lane.right is None else index.get(lane.right),
            tuple(index[n] for n in lane.successors if n in index),
        )
        for lane in (lanes[number] for number in numbers)
    )
    return Road(made, tuple(_stops(lanes, crossings or {}, index)))


def _stops(
    lanes: Mapping[int, Lane], crossings: Mapping[int, Crossing], index: Mapping[int, int]
) -> Iterator[StopLine]:
    """Lights under their own numbers, the rest counted on from there."""
    before = predecessors((number, lane.successors) for number, lane in lanes.items())
    centers = {number: lane.center[:, :2] for number, lane in lanes.items()}
    number = max((lane.signal for lane in lanes.values() if lane.signal is not None), default=0)
    for own, k in index.items():
        lane = lanes[own]
        if lane.signal is not None:
            yield StopLine(lane.signal, lane.center[-1, :2], StopKind.LIGHT, lane=k)
        first = tuple(way for other in lane.yields_to if other in lanes for way in ways_into(centers, before, other))
        if first:
            number += 1
            yield StopLine(number, lane.center[0, :2], StopKind.YIELD, first=first, lane=k)
        for crossing, at in ((crossings[c], at) for c, at in lane.crossings if c in crossings):
            lit = lane.signal is not None and at > lane.length - _AT_END
            if lit or not (crossing.priority or crossing.signal is not None):
                continue  # people wait, for their light or for a gap
            number += 1
            point = np.array([np.interp(at, lane.along, lane.center[:, axis]) for axis in (0, 1)])
            yield StopLine(number, point, StopKind.CROSSING, first=(np.stack([crossing.start, crossing.end]),), lane=k)
