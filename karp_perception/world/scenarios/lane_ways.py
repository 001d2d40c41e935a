"""Ways along lanes of a layout that meet a route: from the left, from the right, oncoming, joining."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from karp_perception.core.errors import ConfigurationError
from karp_perception.core.geometry import wrap_angle
from karp_perception.world.layout import Lane
from karp_perception.world.scenarios.places import RouteLine

_BEFORE, _AFTER = 160.0, 120.0  # m of way before and after the lane that meets the route, where the lanes have it
_FROM = {"from_left": -0.5 * np.pi, "from_right": 0.5 * np.pi, "oncoming": np.pi}
_NEAR = np.radians(50.0)  # that an approach may differ from the direction it is named after
_TURNS = {"straight": (-0.5, 0.5), "left": (0.5, np.pi), "right": (-np.pi, -0.5)}  # rad


class LaneWay(NamedTuple):
    """A way (N, 2) m, m along it to where it meets the route, and m along the route to there."""

    points: np.ndarray
    meeting: float
    station: float


def lane_way(route: RouteLine, kind: str, turn: str, source: str) -> LaneWay:
    """The first way of a kind that meets the route ahead of the vehicle.

    Raises ConfigurationError where the layout has none.
    """
    found = _joining(route) if kind == "joining" else _crossing(route, kind, turn)
    found = [way for way in found if way.station > route.start]
    if not found:
        name = kind if kind == "joining" else f"{kind} that goes {turn}"
        raise ConfigurationError(
            f"{source}: way: lane: expected a layout with a lane {name} across the route, got none"
        )
    return min(found, key=lambda way: way.station)


def _crossing(route: RouteLine, kind: str, turn: str) -> list[LaneWay]:
    found = []
    own = set(route.layout.route)
    low, high = _TURNS[turn]
    for lane in route.layout.lanes.values():
        if lane.number in own:
            continue
        points = lane.center[:, :2]
        along, offset = route.project(points)
        change = (offset[:-1] * offset[1:] < 0) & (np.abs(offset[:-1]) < 3.0) & (np.abs(np.diff(along)) < 3.0)
        rows = np.flatnonzero(change & (along[:-1] > 0) & (along[:-1] < route.length))
        if not len(rows):
            continue
        k = int(rows[0])
        station = float(along[k])
        heading = _heading(points)
        entry = route.at(_entry(route, station)).yaw
        approach = float(wrap_angle(heading[0] - entry))
        turned = float(heading[-1] - heading[0])
        if abs(float(wrap_angle(approach - _FROM[kind]))) < _NEAR and low <= turned <= high:
            found.append(_extended(route, lane, k, station))
    return found


def _entry(route: RouteLine, station: float) -> float:
    """Where the route enters the junction that lies at a distance: the beginning of its lane there."""
    begin = -route.layout.start
    for number in route.layout.route:
        length = route.layout.lanes[number].length
        if begin + length > station:
            break
        begin += length
    return max(begin, 0.0) if station - begin < 60.0 else station - 5.0


def _joining(route: RouteLine) -> list[LaneWay]:
    layout, found = route.layout, []
    station = -layout.start
    for before, number in zip(layout.route[:-1], layout.route[1:], strict=True):
        station += layout.lanes[before].length
        for lane in layout.lanes.values():
            if number in lane.successors and lane.number != before and lane.number not in layout.bikeways:
                found.append(_extended(route, lane, len(lane.center) - 1, station))
    return found


def _extended(route: RouteLine, lane: Lane, row: int, station: float) -> LaneWay:
    """The lane with those before and after it; `row` is the point at which it meets the route."""
    parts, lanes = [lane.center[:, :2]], route.layout.lanes
    before, first, own = 0.0, lane, {lane.number}
    while before < _BEFORE:
        feeding = [other for other in lanes.values() if first.number in other.successors and other.number not in own]
        if not feeding:
            break
        first = min(feeding, key=lambda other: (_kink(other, first), -other.length))
        own.add(first.number)
        parts.insert(0, first.center[:-1, :2])
        before += first.length
    after, last, taken = 0.0, lane, set(route.layout.route)
    while after < _AFTER:
        leaving = [lanes[number] for number in last.successors if number in lanes and number not in own]
        if not leaving:
            break
        last = min(leaving, key=lambda other: (other.number in taken, _kink(last, other), other.number))
        own.add(last.number)
        parts.append(last.center[1:, :2])
        after += last.length
    return LaneWay(np.concatenate(parts), before + float(lane.along[row]), station)


def _kink(first: Lane, second: Lane) -> float:
    """rad by which the second lane turns away from the end of the first, over its whole length."""
    end, begin = _heading(first.center[:, :2])[-1], _heading(second.center[:, :2])
    return round(float(np.abs(wrap_angle(begin[-1] - end))), 3)


def _heading(points: np.ndarray) -> np.ndarray:
    step = np.diff(points, axis=0)
    step = step[np.linalg.norm(step, axis=1) > 1e-6]
    return np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
