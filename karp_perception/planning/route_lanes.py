"""A route among the lanes of a Road: which it follows, what lies beside them, and where one has to stop.

What depends on route and map alone is found once; each step only asks where it lies relative to the line of the moment.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass

import numpy as np

from karp_perception.core.geometry import invert_pose
from karp_perception.core.plans import Route
from karp_perception.core.road import Road, StopLine
from karp_perception.planning.lane_matching import LaneSamples, followed_lanes
from karp_perception.planning.reference_line import ReferenceLine, polyline_at, polyline_distance

STATION = 2.0
"""m along a route between the places at which its lane is known."""

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

    Args:
        route: where to go.
        road: lanes and stop lines.
    """

    def __init__(self, route: Route, road: Road) -> None:
        self.route, self.road = route, road
        along = polyline_distance(route.points)
        self.distance = np.linspace(0.0, along[-1], max(round(along[-1] / STATION), 1) + 1)
        """(S,) m along the route of the stations."""
        self._points = polyline_at(route.points, along, self.distance)
        heading = np.gradient(self._points, axis=0)
        heading /= np.maximum(np.linalg.norm(heading, axis=1), 1e-9)[:, None]
        samples = LaneSamples(road.lanes)
        self.lane = followed_lanes(road.lanes, samples, self._points, heading)
        """(S,) index in `Road.lanes` at each station, -1 for none."""
        self._middle = samples.feet(self.lane, self._points, STATION)
        self._width = np.array([road.lanes[k].width if k >= 0 else np.inf for k in self.lane])
        limits = [road.lanes[k].speed_limit if k >= 0 else None for k in self.lane]
        self._limit = np.array([np.inf if limit is None else limit for limit in limits])
        self._beside = {
            side: (lane, samples.feet(lane, self._points, STATION))
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
            for part in _stretches(near):
                best = part.start + int(np.argmin(away[part]))
                at = float(along[best] + share[best] * np.sqrt(squared[best]))
                around = (self.distance >= at - _PAST) & (self.distance <= at + _AHEAD)
                if stop.lane is None or (self.lane[around] == stop.lane).any():
                    yield at, k


def _places(road: Road) -> list[tuple[int, int | None, float, float]]:
    """What a stop line's place on a route depends on."""
    return [(stop.number, stop.lane, *stop.point.tolist()) for stop in road.stops]


class _ToLine:
    """Line coordinates (distance and offset to the left) of points in `odom`."""

    def __init__(self, line: ReferenceLine, T_odom_line: np.ndarray | None) -> None:
        T = np.eye(4) if T_odom_line is None else invert_pose(T_odom_line)
        self._line, self._R, self._t = line, T[:2, :2], T[:2, 3]

    def __call__(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._line.project(points @ self._R.T + self._t)


def _runs(side: str, lane: np.ndarray, distance: np.ndarray, offset: np.ndarray) -> Iterator[LaneBeside]:
    """Stretches along which there is a lane."""
    there = (lane >= 0) & np.isfinite(distance)
    for part in _stretches(there):
        s = np.maximum.accumulate(distance[part])
        keep = np.r_[True, np.diff(s) > 1e-6]
        if keep.sum() >= 2:
            yield LaneBeside(side, s[keep], offset[part][keep], lane[part][keep])


def _stretches(mask: np.ndarray) -> Iterator[slice]:
    """Where a mask (n,) holds without a break."""
    edges = np.flatnonzero(np.diff(np.r_[False, mask, False].astype(np.int8)))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        yield slice(int(first), int(last))
