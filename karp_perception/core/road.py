"""What a map says of the road, in the `odom` frame: lanes, where one stops and for what, and what lights show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property

import numpy as np

from karp_perception.core.errors import InvalidInput
from karp_perception.core.validation import as_array


class LightColor(str, Enum):
    """What a traffic light shows."""

    RED = "red"
    YELLOW = "yellow"
    GREEN = "green"


class StopKind(str, Enum):
    """Why one stops at a line."""

    LIGHT = "light"
    """While the light is red, and for yellow where one can."""
    STOP = "stop"
    """A stop sign: stand still, then give way."""
    YIELD = "yield"
    """Give way to the traffic that goes first."""
    CROSSING = "crossing"
    """While people cross."""


@dataclass(frozen=True)
class Lane:
    """A piece of lane between two places where lanes join or part.

    Attributes:
        center: (N, 2) m, points of its middle in driving direction, N >= 2, consecutive points distinct.
        width: m.
        speed_limit: m/s, None where the map does not say.
        left, right: indices in `Road.lanes` of the lanes beside it in the same direction that one may change to; None
            for none.
        successors: indices of the lanes that begin where it ends.
    """

    center: np.ndarray
    width: float
    speed_limit: float | None = None
    left: int | None = None
    right: int | None = None
    successors: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "center", _polyline("Lane.center", self.center))
        if not (np.isfinite(self.width) and self.width > 0):
            raise InvalidInput("Lane.width", "m above 0", self.width)
        if self.speed_limit is not None and not (np.isfinite(self.speed_limit) and self.speed_limit >= 0):
            raise InvalidInput("Lane.speed_limit", "m/s of at least 0, or None", self.speed_limit)
        set_field(self, "successors", tuple(int(k) for k in self.successors))

    @cached_property
    def along(self) -> np.ndarray:
        """(N,) m from its beginning to each point of `center`."""
        return np.r_[0.0, np.cumsum(np.linalg.norm(np.diff(self.center, axis=0), axis=1))]

    @property
    def length(self) -> float:
        """In m."""
        return float(self.along[-1])

    def point_at(self, distance: float) -> np.ndarray:
        """(2,) m of its middle, `distance` m from its beginning; at an end what is beyond it."""
        return np.array([np.interp(distance, self.along, self.center[:, axis]) for axis in (0, 1)])


@dataclass(frozen=True)
class StopLine:
    """A place where one has to stop, always or at times.

    Attributes:
        number: its own; stop lines of one light have the light's number in common.
        point: (2,) m, where the lane's middle meets it: the vehicle's front stops before.
        kind: why one stops.
        color: what its light shows, None for no light or where that is not known.
        first: polylines (N, 2) m, N >= 2, in driving direction: the ways of traffic that goes first, from where it
            comes to behind the place where it crosses or joins. Of a CROSSING: one line from kerb to kerb, on which
            people cross.
        lane: index in `Road.lanes` of the lane that it stops; where that begins or ends there, others that begin or end
            there too are free. None: it holds for whoever comes over `point`.
    """

    number: int
    point: np.ndarray
    kind: StopKind
    color: LightColor | None = None
    first: tuple[np.ndarray, ...] = ()
    lane: int | None = None

    def __post_init__(self) -> None:
        set_field = object.__setattr__
        set_field(self, "number", int(self.number))
        set_field(self, "point", as_array("StopLine.point", self.point, (2,)))
        set_field(self, "kind", StopKind(self.kind))
        set_field(self, "first", tuple(_polyline("StopLine.first", line) for line in self.first))


@dataclass(frozen=True)
class Road:
    """Lanes and stop lines around the vehicle, in `odom`.

    Attributes:
        lanes: as long as the map stays the same, the same tuple from step to step: what is made of it can be kept.
            None at all where only stop lines are known: then nothing is said of where one may drive.
        stops: with the colours of the moment.
    """

    lanes: tuple[Lane, ...] = ()
    stops: tuple[StopLine, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "lanes", tuple(self.lanes))
        object.__setattr__(self, "stops", tuple(self.stops))
        count = len(self.lanes)
        for k, lane in enumerate(self.lanes):
            for name, others in (("left", (lane.left,)), ("right", (lane.right,)), ("successors", lane.successors)):
                if any(other is not None and (not 0 <= other < count or other == k) for other in others):
                    raise InvalidInput(f"Road.lanes[{k}].{name}", f"indices of other lanes, 0 to {count - 1}", others)
        for stop in self.stops:
            if stop.lane is not None and not 0 <= stop.lane < count:
                raise InvalidInput("StopLine.lane", f"an index in Road.lanes, 0 to {count - 1}, or None", stop.lane)

    def with_colors(self, colors: Mapping[int, LightColor]) -> Road:
        """The same lanes with lights (LIGHT alone) that show `colors`, by number; the others are not known.

        Cheap: neither lanes nor stop lines are checked again.
        """
        stops = tuple(
            stop
            if stop.kind is not StopKind.LIGHT or stop.color == colors.get(stop.number)
            else _recolored(stop, colors.get(stop.number))
            for stop in self.stops
        )
        road = object.__new__(Road)
        object.__setattr__(road, "lanes", self.lanes)
        object.__setattr__(road, "stops", stops)
        return road

    def with_stops(self, stops: tuple[StopLine, ...]) -> Road:
        """The same lanes with other stop lines."""
        return replace(self, stops=stops)

    def around(self, center: np.ndarray, reach: float) -> Road:
        """What comes within `reach` m of a point (2,): lanes as a whole, with indices of their own, and stop lines."""

        def near(points: np.ndarray) -> bool:
            return bool((((points - center) ** 2).sum(axis=-1) <= reach * reach).any())

        kept = [k for k, lane in enumerate(self.lanes) if near(lane.center)]
        index = {k: n for n, k in enumerate(kept)}
        lanes = tuple(
            replace(
                lane,
                left=None if lane.left is None else index.get(lane.left),
                right=None if lane.right is None else index.get(lane.right),
                successors=tuple(index[n] for n in lane.successors if n in index),
            )
            for lane in (self.lanes[k] for k in kept)
        )
        stops = tuple(
            replace(stop, lane=None if stop.lane is None else index[stop.lane])
            for stop in self.stops
            if (stop.lane is None or stop.lane in index) and near(stop.point)
        )
        return Road(lanes, stops)

    def transformed(self, T_new_road: np.ndarray) -> Road:
        """The same in another frame: T_new_road (4, 4) maps points of this one's into it; its xy plane stays flat."""
        R, t = np.asarray(T_new_road)[:2, :2], np.asarray(T_new_road)[:2, 3]
        # Of a tilted frame what is seen from above would be shortened: only its heading counts.
        angle = np.arctan2(R[1, 0], R[0, 0])
        R = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        lanes = tuple(replace(lane, center=lane.center @ R.T + t) for lane in self.lanes)
        stops = tuple(
            replace(stop, point=R @ stop.point + t, first=tuple(way @ R.T + t for way in stop.first))
            for stop in self.stops
        )
        return Road(lanes, stops)


def _recolored(stop: StopLine, color: LightColor | None) -> StopLine:
    other = object.__new__(StopLine)
    other.__dict__.update(stop.__dict__, color=color)
    return other


def _polyline(name: str, value: np.ndarray) -> np.ndarray:
    points = as_array(name, value, (None, 2))
    if len(points) >= 2 and (np.abs(np.diff(points, axis=0)).max(axis=1) < 1e-6).any():
        keep = np.r_[True, np.abs(np.diff(points, axis=0)).max(axis=1) >= 1e-6]
        points = as_array(name, points[keep], (None, 2))
    if len(points) < 2:
        raise InvalidInput(name, "at least two distinct points", len(points))
    return points
