"""Ways through the lanes: the shortest to a destination, or wherever the roads lead for so long."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import numpy as np

from karp_perception.core import Route
from karp_perception.world.carla.client import CarlaError
from karp_perception.world.layout import Lane

_CHANGE_COST = 20.0  # m that a change of lanes counts as longer
_CHANGE_WAY = 12.0  # m along the road over which a route goes from one lane to the one beside it
_SPACING = 1e-3  # m, points of a route closer together than this are one


def shortest_way(lanes: Mapping[int, Lane], start: int, goal: int) -> list[int]:
    """Numbers of the lanes from `start` to `goal`, both included, one that follows or lies beside the other.

    A* (Hart, Nilsson, Raphael 1968) with the straight line as the bound: no way along lanes is shorter. A change of
    lanes costs 20 m, so that it happens where it must. Raises CarlaError where no way leads there.
    """
    target = lanes[goal].center[0, :2]

    def bound(number: int) -> float:
        return float(np.linalg.norm(lanes[number].center[-1, :2] - target)) if number != goal else 0.0

    came_from: dict[int, int] = {}
    cost = {start: 0.0}
    open_lanes = [(bound(start), start)]
    done: set[int] = set()
    while open_lanes:
        _, number = heapq.heappop(open_lanes)
        if number == goal:
            way = [number]
            while way[-1] != start:
                way.append(came_from[way[-1]])
            return way[::-1]
        if number in done:
            continue
        done.add(number)
        lane = lanes[number]
        # The cost of a lane is paid as it is left at its end; beside each other, lanes end together.
        steps = [(following, 0.0 if following == goal else lanes[following].length) for following in lane.successors]
        steps += [(beside, _CHANGE_COST) for beside in (lane.left, lane.right) if beside is not None]
        for following, length in steps:
            if following not in lanes:
                continue
            total = cost[number] + length
            if total < cost.get(following, np.inf):
                cost[following], came_from[following] = total, number
                heapq.heappush(open_lanes, (total + bound(following), following))
    raise CarlaError(f"no way leads from lane {start} to lane {goal} of the map")


def roaming_way(lanes: Mapping[int, Lane], start: int, length: float, rng: np.random.Generator) -> list[int]:
    """Numbers of lanes from `start` on for `length` m or until the road ends, with turns drawn by `rng`.

    Turns that lead on are preferred to those that end soon; a lane is driven on a second time only where there is no
    other.
    """
    way, driven = [start], lanes[start].length
    while driven < length:
        follow = [number for number in lanes[way[-1]].successors if number in lanes]
        follow = [n for n in follow if lanes[n].successors or lanes[n].length > length - driven] or follow
        follow = [n for n in follow if n not in way] or follow
        if not follow:
            break
        way.append(int(follow[int(rng.integers(len(follow)))]))
        driven += lanes[way[-1]].length
    return way


def route_points(
    lanes: Mapping[int, Lane], way: Sequence[int], start: float = 0.0, end: float | None = None
) -> np.ndarray:
    """(N, 3) m along a way, from `start` m along its first lane to `end` m along its last (None: all of it).

    From a lane to the one beside it the line goes over within 12 m, or what there is left of the lane.
    """
    parts: list[np.ndarray] = []
    position = start
    for k, number in enumerate(way):
        lane = lanes[number]
        following = way[k + 1] if k + 1 < len(way) else None
        if following is not None and following not in lane.successors:
            beside = lanes[following]
            share = position / max(lane.length, 1e-9)
            position = min(share * beside.length + _CHANGE_WAY, beside.length)
            parts.append(_point_at(lane, share * lane.length)[None])
            continue
        stop = lane.length if following is not None or end is None else max(end, position)
        inside = (lane.along > position) & (lane.along < stop)
        parts += [_point_at(lane, position)[None], lane.center[inside], _point_at(lane, stop)[None]]
        position = 0.0
    points = np.concatenate(parts)
    steps = np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1)
    return points[np.concatenate([[True], steps > _SPACING])]


def make_route(lanes: Mapping[int, Lane], way: Sequence[int], start: float = 0.0, end: float | None = None) -> Route:
    """The route along a way, with the speed limit of its first lane. Raises CarlaError for one without length."""
    points = route_points(lanes, way, start, end)
    if len(points) < 2:
        raise CarlaError("the route has no length: choose another spawn point or destination")
    return Route(points[:, :2], lanes[way[0]].speed_limit)


def _point_at(lane: Lane, along: float) -> np.ndarray:
    return np.array([np.interp(along, lane.along, lane.center[:, axis]) for axis in range(3)])
