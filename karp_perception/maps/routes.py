"""Ways through the lanes of a Road: the shortest to a destination, or wherever the roads lead for so long."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

import numpy as np

from karp_perception.core.errors import KarpError
from karp_perception.core.plans import Route
from karp_perception.core.road import Lane

FARTHEST = 15.0
"""m from a lane's middle within which it is near."""

_WRONG_WAY = 10.0  # m that a lane at right angles counts as farther away, and twice that one in the other direction
_CHANGE_COST = 20.0  # m that a change of lanes counts as longer
_CHANGE_WAY = 12.0  # m along the road over which a route goes from one lane to the one beside it
_SPACING = 1e-3  # m, points of a route closer together than this are one


class NoWay(KarpError, LookupError):
    """No lane is near, or none leads there."""


def route_between(
    lanes: Sequence[Lane], start: np.ndarray, goal: np.ndarray, yaw: float | None = None, goal_yaw: float | None = None
) -> Route:
    """The shortest way from one place to another: from the lane under `start` to the lane under `goal`.

    Args:
        lanes: of a Road.
        start, goal: (2,) m, in the frame of the lanes, at most 15 m from a lane's middle.
        yaw, goal_yaw: rad, the direction of travel there; None for any.

    Raises NoWay where no lane is near, or none leads to the goal.
    """
    first, begin = nearest_lane(lanes, start, yaw)
    last, end = nearest_lane(lanes, goal, goal_yaw)
    return make_route(lanes, way_between(lanes, (first, begin), (last, end)), begin, end)


def way_between(lanes: Sequence[Lane], start: tuple[int, float], goal: tuple[int, float]) -> list[int]:
    """`shortest_way` between places on lanes, each its index and m along it: around, where the goal lies behind.

    Raises NoWay where no way leads there.
    """
    (first, begin), (last, end) = start, goal
    way = shortest_way(lanes, first, last)
    beside = all(k not in lanes[j].successors for j, k in pairwise(way))
    if beside and end / lanes[last].length <= begin / lanes[first].length:
        return _around(lanes, first, last)
    return way


def nearest_lane(lanes: Sequence[Lane], position: np.ndarray, yaw: float | None = None) -> tuple[int, float]:
    """The lane that runs under a point (2,) m in the direction of `yaw` (rad): its index, and m along it.

    Raises NoWay where no lane is near.
    """
    best: tuple[float, int, float] | None = None
    for index, lane in enumerate(lanes):
        distance = np.hypot(*(lane.center - position).T)
        k = int(np.argmin(distance))
        away, along = _foot(lane, k, position)
        if away > FARTHEST:
            continue
        cost = away
        if yaw is not None:
            step = lane.center[min(k + 1, len(lane.center) - 1)] - lane.center[max(k - 1, 0)]
            cost += _WRONG_WAY * (1.0 - float(step @ (math.cos(yaw), math.sin(yaw)) / np.linalg.norm(step)))
        if best is None or cost < best[0]:
            best = (cost, index, along)
    if best is None:
        raise NoWay(f"the map has no lane within {FARTHEST:g} m of {np.round(position[:2], 1).tolist()}")
    return best[1], best[2]


def shortest_way(lanes: Sequence[Lane], start: int, goal: int) -> list[int]:
    """Indices of the lanes from `start` to `goal`, both included, one that follows or lies beside the other.

    A* (Hart, Nilsson, Raphael 1968) with the straight line as the bound: no way along lanes is shorter. A change of
    lanes costs 20 m, so that it happens where it must. Raises NoWay where no way leads there.
    """
    target = lanes[goal].center[0]

    def bound(index: int) -> float:
        return float(np.linalg.norm(lanes[index].center[-1] - target)) if index != goal else 0.0

    came_from: dict[int, int] = {}
    cost = {start: 0.0}
    open_lanes = [(bound(start), start)]
    done: set[int] = set()
    while open_lanes:
        _, index = heapq.heappop(open_lanes)
        if index == goal:
            way = [index]
            while way[-1] != start:
                way.append(came_from[way[-1]])
            return way[::-1]
        if index in done:
            continue
        done.add(index)
        lane = lanes[index]
        # The cost of a lane is paid as it is left at its end; beside each other, lanes end together.
        steps = [(following, 0.0 if following == goal else lanes[following].length) for following in lane.successors]
        steps += [(beside, _CHANGE_COST) for beside in (lane.left, lane.right) if beside is not None]
        for following, length in steps:
            total = cost[index] + length
            if total < cost.get(following, np.inf):
                cost[following], came_from[following] = total, index
                heapq.heappush(open_lanes, (total + bound(following), following))
    raise NoWay(f"no way leads from lane {start} to lane {goal} of the map")


def roaming_way(lanes: Sequence[Lane], start: int, length: float, rng: np.random.Generator) -> list[int]:
    """Indices of lanes from `start` on for `length` m or until the road ends, with turns drawn by `rng`.

    Turns that lead on are preferred to those that end soon; a lane is driven on a second time only where there is no
    other.
    """
    way, driven = [start], lanes[start].length
    while driven < length:
        follow = list(lanes[way[-1]].successors)
        follow = [n for n in follow if lanes[n].successors or lanes[n].length > length - driven] or follow
        follow = [n for n in follow if n not in way] or follow
        if not follow:
            break
        way.append(int(follow[int(rng.integers(len(follow)))]))
        driven += lanes[way[-1]].length
    return way


def straight_way(lanes: Sequence[Lane], start: int, length: float) -> list[int]:
    """Indices of lanes from `start` on for `length` m or until the road ends, where it parts along the least turn."""
    way, driven = [start], lanes[start].length
    while driven < length and lanes[way[-1]].successors:
        way.append(min(lanes[way[-1]].successors, key=lambda k: abs(_turn(lanes[k]))))
        driven += lanes[way[-1]].length
    return way


def route_ahead(lanes: Sequence[Lane], position: np.ndarray, yaw: float, length: float) -> Route:
    """Along the lane under a point (2,) m in the direction of `yaw` (rad), and straight on for `length` m.

    Raises NoWay where no lane is near, or the road ends there.
    """
    index, begin = nearest_lane(lanes, position, yaw)
    way = straight_way(lanes, index, begin + length)
    before = sum(lanes[k].length for k in way[:-1])
    return make_route(lanes, way, begin, min(begin + length - before, lanes[way[-1]].length))


def way_points(lanes: Sequence[Lane], way: Sequence[int], start: float = 0.0, end: float | None = None) -> np.ndarray:
    """(N, 2) m along a way, from `start` m along its first lane to `end` m along its last (None: all of it).

    From a lane to the one beside it the line goes over within 12 m, or what there is left of the lane.
    """
    parts: list[np.ndarray] = []
    position = start
    for k, index in enumerate(way):
        lane = lanes[index]
        following = way[k + 1] if k + 1 < len(way) else None
        if following is not None and following not in lane.successors:
            beside = lanes[following]
            share = position / max(lane.length, 1e-9)
            position = min(share * beside.length + _CHANGE_WAY, beside.length)
            parts.append(lane.point_at(share * lane.length)[None])
            continue
        stop = lane.length if following is not None or end is None else max(end, position)
        inside = (lane.along > position) & (lane.along < stop)
        parts += [lane.point_at(position)[None], lane.center[inside], lane.point_at(stop)[None]]
        position = 0.0
    points = np.concatenate(parts)
    steps = np.linalg.norm(np.diff(points, axis=0), axis=1)
    return points[np.concatenate([[True], steps > _SPACING])]


def make_route(lanes: Sequence[Lane], way: Sequence[int], start: float = 0.0, end: float | None = None) -> Route:
    """The route along a way, with the speed limit of its first lane. Raises NoWay for one without length."""
    points = way_points(lanes, way, start, end)
    if len(points) < 2:
        raise NoWay("the route has no length: choose another beginning or destination")
    return Route(points, lanes[way[0]].speed_limit)


def _foot(lane: Lane, nearest: int, position: np.ndarray) -> tuple[float, float]:
    """Distance to a lane whose nearest point is known, and m along it, between its points."""
    best = (math.inf, 0.0)
    for k in (max(nearest - 1, 0), min(nearest, len(lane.center) - 2)):
        a, step = lane.center[k], lane.center[k + 1] - lane.center[k]
        share = float(np.clip((position - a) @ step / (step @ step), 0.0, 1.0))
        away = float(np.hypot(*(a + share * step - position)))
        if away < best[0]:
            best = (away, float(lane.along[k] + share * (lane.along[k + 1] - lane.along[k])))
    return best


def _around(lanes: Sequence[Lane], first: int, last: int) -> list[int]:
    """The shortest way that leaves `first` at its end and comes to `last` from its beginning."""
    ways = []
    for following in lanes[first].successors:
        with suppress(NoWay):
            ways.append([first, *shortest_way(lanes, following, last)])
    if not ways:
        raise NoWay("the goal lies behind, and no way leads around to it")
    return min(ways, key=lambda way: sum(lanes[k].length for k in way))


def _turn(lane: Lane) -> float:
    """rad from a lane's first direction to its last."""
    first, last = lane.center[1] - lane.center[0], lane.center[-1] - lane.center[-2]
    return math.atan2(first[0] * last[1] - first[1] * last[0], float(first @ last))
