"""A route among the lanes of a Road: which it follows, what lies beside them, and where one has to stop.

What depends on route and map alone is found once; each step only asks where it lies relative to the line of the moment.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from karp_perception.core.geometry import invert_pose
from karp_perception.core.plans import Route
from karp_perception.core.road import Lane, Road, StopLine
from karp_perception.planning.reference_line import ReferenceLine, polyline_distance

STATION = 2.0
"""m along a route between the places at which its lane is known."""

_SPACING = 1.0  # m between the points of lanes
_MOST = 32  # points of lanes that are looked at around a station
_BESIDE = 0.3  # m beyond a lane's edge within which the route still follows it
_ASLANT = 0.7  # cosine: lanes that run in another direction are not followed
_NOWHERE = 4.0  # cost of a station without a lane; for one with a lane it is the distance to its middle, m
_CHANGE, _JUMP = 2.0, 6.0  # cost of going on in the lane beside, or in one that does not follow
_ON_ROUTE = 1.75  # m from the route within which a stop line is on it
_PAST, _AHEAD = 5.0, 15.0  # m before and behind a stop line within which the route follows the lane that it stops


@dataclass(frozen=True)
class StopAhead:
    """A stop line on the route, `distance` m along the line (that of `ReferenceLine.project`)."""

    stop: StopLine
    distance: float


@dataclass(frozen=True)
class LaneBeside:
    """A lane in the same direction that one may change to, for as long as it runs beside that of the route.

    Attributes:
        side: "left" or "right".
        distance: (n,) m along the line, increasing. offset: (n,) m to the left of the line, of the lane's middle.
        lane: (n,) index in `Road.lanes`.
    """

    side: str
    distance: np.ndarray
    offset: np.ndarray
    lane: np.ndarray


@dataclass(frozen=True)
class LanesAlong:
    """The lanes along a line, at S stations.

    Attributes:
        distance: (S,) m along the line, increasing.
        lane: (S,) index in `Road.lanes` of the lane that the route follows, -1 for none.
        left, right: (S,) m from the line to the edges of that lane, infinite where there is none; negative where the
            line runs outside of it.
        speed_limit: (S,) m/s, infinite where the map does not say.
        beside: lanes to change to.
    """

    distance: np.ndarray
    lane: np.ndarray
    left: np.ndarray
    right: np.ndarray
    speed_limit: np.ndarray
    beside: tuple[LaneBeside, ...]


class RouteLanes:
    """A route among the lanes of a Road, both in `odom`.

    Which lanes it follows is the cheapest of all ways through those near it: close to their middles, from each lane
    into one that follows (Viterbi, as in map matching: Newson and Krumm 2009). So where lanes part, those further on
    decide.

    Args:
        route: where to go.
        road: lanes and stop lines.
    """

    def __init__(self, route: Route, road: Road) -> None:
        self.route, self.road = route, road
        along = polyline_distance(route.points)
        self.distance = np.linspace(0.0, along[-1], max(round(along[-1] / STATION), 1) + 1)
        """(S,) m along the route of the stations."""
        self._points = np.column_stack([np.interp(self.distance, along, route.points[:, k]) for k in (0, 1)])
        heading = np.gradient(self._points, axis=0)
        heading /= np.maximum(np.linalg.norm(heading, axis=1), 1e-9)[:, None]
        samples = _Samples(road.lanes)
        self.lane = _follow(road.lanes, samples, self._points, heading)
        """(S,) index in `Road.lanes` at each station, -1 for none."""
        self._middle = samples.feet(self.lane, self._points)
        self._width = np.array([road.lanes[k].width if k >= 0 else np.inf for k in self.lane])
        limits = [road.lanes[k].speed_limit if k >= 0 else None for k in self.lane]
        self._limit = np.array([np.inf if limit is None else limit for limit in limits])
        self._beside = {
            side: (lane, samples.feet(lane, self._points))
            for side in ("left", "right")
            for lane in (self._neighbours(side),)
        }
        self._passes = list(self._find_passes())

    @classmethod
    def of(cls, route: Route, road: Road, previous: RouteLanes | None = None) -> RouteLanes:
        """The previous one where route and lanes have not changed, with other stop lines where those have.

        Colours of lights do not matter.
        """
        if (
            previous is None
            or previous.road.lanes is not road.lanes
            or not np.array_equal(previous.route.points, route.points)
        ):
            return cls(route, road)
        if _places(previous.road) == _places(road):
            return previous
        other = copy(previous)
        other.road = road
        other._passes = list(other._find_passes())
        return other

    def along(self, line: ReferenceLine, origin: float, T_odom_line: np.ndarray | None = None) -> LanesAlong:
        """The lanes along a line that follows the route.

        Args:
            line: of the moment.
            origin: m along the route at which the line's distance is 0.
            T_odom_line: (4, 4) pose of the line's frame in `odom`; None for a line in `odom`.
        """
        first, last = np.searchsorted(self.distance, [origin + line.start, origin + line.distance[-1]])
        window = slice(max(first - 1, 0), min(last + 1, len(self.distance)))
        to_line = _ToLine(line, T_odom_line)
        distance, _ = to_line(self._points[window])
        # Stations follow each other along the line; in a bend those on its inner side may change places.
        distance = np.maximum.accumulate(distance)
        _, middle = to_line(self._middle[window])
        lane, half = self.lane[window], 0.5 * self._width[window]
        on_lane = (lane >= 0) & np.isfinite(middle)
        beside = tuple(
            found
            for side, (lanes, feet) in self._beside.items()
            for found in _runs(side, lanes[window], *to_line(feet[window]))
        )
        return LanesAlong(
            distance,
            lane,
            np.where(on_lane, half + middle, np.inf),
            np.where(on_lane, half - middle, np.inf),
            self._limit[window],
            beside,
        )

    def stops_ahead(
        self, line: ReferenceLine, road: Road, origin: float, T_odom_line: np.ndarray | None = None
    ) -> list[StopAhead]:
        """The stop lines on the route within the reach of a line, nearest first; those behind have negative distances.

        Args:
            line, origin, T_odom_line: as `along` takes them.
            road: with the colours of the moment.
        """
        low, high = origin + line.start, origin + line.distance[-1]
        passes = [(at, k) for at, k in self._passes if low <= at <= high]
        if not passes:
            return []
        distance, _ = _ToLine(line, T_odom_line)(np.array([road.stops[k].point for _, k in passes]))
        expected = np.array([at for at, _ in passes]) - origin
        # Where the line comes back to a place, the nearest part of it may be another one than that of this pass.
        distance = np.where(np.abs(distance - expected) < 10.0, distance, expected)
        found = [StopAhead(road.stops[k], float(s)) for (_, k), s in zip(passes, distance, strict=True)]
        return sorted(found, key=lambda ahead: ahead.distance)

    def _neighbours(self, side: str) -> np.ndarray:
        beside = [getattr(self.road.lanes[k], side) if k >= 0 else None for k in self.lane]
        return np.array([-1 if k is None else k for k in beside], int)

    def _find_passes(self) -> Iterator[tuple[float, int]]:
        """Where the route comes over a stop line: m along it, and the index of the line. A loop may do so twice."""
        points, along = self.route.points, polyline_distance(self.route.points)
        a, step = points[:-1], np.diff(points, axis=0)
        squared = np.einsum("ni,ni->n", step, step)
        for k, stop in enumerate(self.road.stops):
            share = np.clip(np.einsum("ni,ni->n", stop.point - a, step) / squared, 0.0, 1.0)
            away = np.hypot(*(a + share[:, None] * step - stop.point).T)
            near = away < _ON_ROUTE
            edges = np.flatnonzero(np.diff(np.r_[False, near, False].astype(np.int8)))
            for first, last in zip(edges[::2], edges[1::2], strict=True):
                best = first + int(np.argmin(away[first:last]))
                at = float(along[best] + share[best] * np.sqrt(squared[best]))
                around = (self.distance >= at - _PAST) & (self.distance <= at + _AHEAD)
                if stop.lane is None or (self.lane[around] == stop.lane).any():
                    yield at, k


def _places(road: Road) -> list[tuple[int, int | None, float, float]]:
    """What a stop line's place on a route depends on."""
    return [(stop.number, stop.lane, *stop.point.tolist()) for stop in road.stops]


class _Samples:
    """Points of all lanes, at most 1 m apart."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        points, direction, owner = [np.zeros((0, 2))], [np.zeros((0, 2))], [np.zeros(0, int)]
        for k, lane in enumerate(lanes):
            s = np.linspace(0.0, lane.length, max(int(np.ceil(lane.length / _SPACING)), 1) + 1)
            line = np.column_stack([np.interp(s, lane.along, lane.center[:, axis]) for axis in (0, 1)])
            ahead = np.gradient(line, axis=0)
            points.append(line)
            direction.append(ahead / np.maximum(np.linalg.norm(ahead, axis=1), 1e-9)[:, None])
            owner.append(np.full(len(line), k))
        self.points, self.direction = np.concatenate(points), np.concatenate(direction)
        self.owner = np.concatenate(owner)
        self.first = np.searchsorted(self.owner, np.arange(len(lanes) + 1))

    def feet(self, lane: np.ndarray, points: np.ndarray) -> np.ndarray:
        """(S, 2) the point on the middle of lane (S,) that lies beside each point (S, 2); NaN where none does."""
        feet = np.full(points.shape, np.nan)
        for k in np.unique(lane[lane >= 0]):
            rows = np.flatnonzero(lane == k)
            part = slice(self.first[k], self.first[k + 1])
            middle, direction = self.points[part], self.direction[part]
            offset = points[rows, None] - middle
            nearest = np.argmin(np.einsum("rni,rni->rn", offset, offset), axis=1)
            ahead = np.einsum("ri,ri->r", offset[np.arange(len(rows)), nearest], direction[nearest])
            beside = np.abs(ahead) <= STATION
            feet[rows[beside]] = (middle[nearest] + ahead[:, None] * direction[nearest])[beside]
        return feet


class _ToLine:
    """Line coordinates (distance and offset to the left) of points in `odom`."""

    def __init__(self, line: ReferenceLine, T_odom_line: np.ndarray | None) -> None:
        T = np.eye(4) if T_odom_line is None else invert_pose(T_odom_line)
        self._line, self._R, self._t = line, T[:2, :2], T[:2, 3]

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._line.project(points @ self._R.T + self._t)


def _follow(lanes: Sequence[Lane], samples: _Samples, points: np.ndarray, heading: np.ndarray) -> np.ndarray:
    """(S,) lane that a route follows at each of its stations, points and headings (S, 2); -1 for none."""
    if not lanes:
        return np.full(len(points), -1)
    widest = max(lane.width for lane in lanes)
    count = min(_MOST, len(samples.points))
    _, found = cKDTree(samples.points).query(
        points, k=np.arange(1, count + 1), distance_upper_bound=0.5 * widest + _SPACING
    )
    width = np.array([lane.width for lane in lanes])
    states: list[dict[int, tuple[float, int]]] = []  # of each station: lane -> (cost, lane at the station before)
    before: dict[int, tuple[float, int]] = {-1: (0.0, -1)}
    for station, (point, ahead) in enumerate(zip(points, heading, strict=True)):
        near = found[station][found[station] < len(samples.points)]
        offset, direction, owner = point - samples.points[near], samples.direction[near], samples.owner[near]
        aside = np.abs(direction[:, 0] * offset[:, 1] - direction[:, 1] * offset[:, 0])
        beside = np.abs(np.einsum("ni,ni->n", offset, direction)) <= _SPACING
        fits = (aside <= 0.5 * width[owner] + _BESIDE) & (direction @ ahead >= _ASLANT) & beside
        costs = {-1: _NOWHERE}
        for k, cost in zip(owner[fits].tolist(), aside[fits].tolist(), strict=True):
            costs[k] = min(cost, costs.get(k, np.inf))
        now = {}
        for k, cost in costs.items():
            step = [(total + _transition(lanes, j, k), j) for j, (total, _) in before.items()]
            least, origin = min(step)
            now[k] = (least + cost, origin)
        states.append(now)
        before = now
    lane = np.empty(len(points), int)
    k = min(before, key=lambda k: before[k][0])
    for station in range(len(points) - 1, -1, -1):
        lane[station] = k
        k = states[station][k][1]
    return lane


def _transition(lanes: Sequence[Lane], a: int, b: int) -> float:
    if a == b:
        return 0.0
    if a < 0 or b < 0:
        return 0.5 * _JUMP
    if b in lanes[a].successors:
        return 0.0
    if any(b in lanes[n].successors for n in lanes[a].successors):  # a lane shorter than a step
        return 0.5
    return _CHANGE if b in (lanes[a].left, lanes[a].right) else _JUMP


def _runs(side: str, lane: np.ndarray, distance: np.ndarray, offset: np.ndarray) -> Iterator[LaneBeside]:
    """Stretches along which there is a lane."""
    there = (lane >= 0) & np.isfinite(distance)
    edges = np.flatnonzero(np.diff(np.r_[False, there, False].astype(np.int8)))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        part = slice(first, last)
        s = np.maximum.accumulate(distance[part])
        keep = np.r_[True, np.diff(s) > 1e-6]
        if keep.sum() >= 2:
            yield LaneBeside(side, s[keep], offset[part][keep], lane[part][keep])
