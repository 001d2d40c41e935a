"""The plan of a place: lanes, lights, crossings, ways for people, parking, the ground and what stands on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from karp_perception.core import LightColor
from karp_perception.world.geometry.ground import Ground


@dataclass(frozen=True)
class Lane:
    """A piece of lane between two places where lanes join or part.

    Attributes:
        number: key in `Layout.lanes`, at least 1.
        center: (N, 3) m, points of its middle in driving direction, at most 1 m apart, z of the ground.
        width: m.
        speed_limit: m/s.
        successors: numbers of lanes that begin where it ends.
        left, right: numbers of the lanes beside it in the same direction that one may change to; None for none.
        signal: number of the light at its end, None for none. Its stop line is the lane's last point.
        yields_to: numbers of lanes whose traffic, on them or about to enter them, goes first where they cross or join
            this one. One waits at this lane's beginning.
        crossings: (number of the crossing, m along the lane at which one stops for it).
    """

    number: int
    center: np.ndarray
    width: float
    speed_limit: float
    successors: tuple[int, ...] = ()
    left: int | None = None
    right: int | None = None
    signal: int | None = None
    yields_to: tuple[int, ...] = ()
    crossings: tuple[tuple[int, float], ...] = ()

    @cached_property
    def along(self) -> np.ndarray:
        """(N,) m from its beginning to each point of `center`, in the plane."""
        steps = np.linalg.norm(np.diff(self.center[:, :2], axis=0), axis=1)
        return np.concatenate([[0.0], np.cumsum(steps)])

    @property
    def length(self) -> float:
        """In m."""
        return float(self.along[-1])


@dataclass(frozen=True)
class Signal:
    """A traffic light with fixed phases.

    Attributes:
        number: key in `Layout.signals`.
        phases: (colour, s) in order, repeated for ever.
        offset: s into the cycle at time 0.
    """

    number: int
    phases: tuple[tuple[LightColor, float], ...]
    offset: float = 0.0

    def color(self, t: float) -> LightColor:
        """What it shows at time t, s."""
        cycle = sum(duration for _, duration in self.phases)
        rest = (t + self.offset) % cycle
        for color, duration in self.phases:
            if rest < duration:
                return color
            rest -= duration
        return self.phases[-1][0]


@dataclass(frozen=True)
class Crossing:
    """Where people cross a road.

    Attributes:
        number: key in `Layout.crossings`.
        start, end: (2,) m, its middle at either kerb.
        width: m along the road.
        signal: number of the light that people wait for, None for a zebra crossing or an unmarked place.
        priority: whether vehicles wait for people (zebra) where no light says so.
    """

    number: int
    start: np.ndarray
    end: np.ndarray
    width: float = 4.0
    signal: int | None = None
    priority: bool = True


@dataclass(frozen=True)
class ParkingSpace:
    """Where a vehicle may stand: x, y (m), yaw (rad), length and width (m)."""

    x: float
    y: float
    yaw: float
    length: float = 5.5
    width: float = 2.2


@dataclass(frozen=True)
class Placement:
    """Something that stands: the name of a family of `world.models`, where, and the seed of its own shape.

    Attributes:
        family: key in `models.catalogue.FAMILIES`, such as "tree", "building", "pole".
        x, y: m; z follows the ground.
        yaw: rad.
        seed: draws one of the family's shapes.
        size: (length, width, height), m, where the place decides it (buildings, walls, fences); None lets it draw.
        sink: m by which it stands lower than the ground.
        signal: of a traffic light: number of the Signal that its lamps show.

    Its model's x axis points along `yaw` (see `models.catalogue`): the length of a building or a wall runs along it,
    their fronts face -y; what looks somewhere (a sign, a light, a bench) looks along +x.
    """

    family: str
    x: float
    y: float
    yaw: float
    seed: int
    size: tuple[float, float, float] | None = None
    sink: float = 0.0
    signal: int | None = None


@dataclass(frozen=True)
class Layout:
    """A place to drive in; frame `odom` = the world's, x east, y north.

    Attributes:
        family: which generator made it. seed: from which number.
        lanes, signals, crossings: by number.
        walkways: (N, 2) polylines along which people walk.
        parking: spaces along the road and off it.
        ground: terrain and surfaces.
        scenery: what stands and has no label.
        route: lanes in order that the vehicle under test follows.
        start: m along the first of them where it begins.
        bikeways: numbers of lanes for bicycles only.
    """

    family: str
    seed: int
    lanes: Mapping[int, Lane]
    signals: Mapping[int, Signal]
    crossings: Mapping[int, Crossing]
    walkways: Sequence[np.ndarray]
    parking: Sequence[ParkingSpace]
    ground: Ground
    scenery: Sequence[Placement]
    route: tuple[int, ...]
    start: float = 10.0
    bikeways: frozenset[int] = frozenset()

    @cached_property
    def route_points(self) -> np.ndarray:
        """(N, 3) m, the middle of the route's lanes from `start` on."""
        return self._route[:, :3]

    @cached_property
    def route_limits(self) -> np.ndarray:
        """(N,) m/s, the speed limit at each of `route_points`."""
        return self._route[:, 3]

    @cached_property
    def _route(self) -> np.ndarray:
        lanes = [self.lanes[number] for number in self.route]
        rows = [np.column_stack([lane.center, np.full(len(lane.center), lane.speed_limit)]) for lane in lanes]
        rows[0] = rows[0][lanes[0].along >= self.start]
        points = np.concatenate(rows)
        step = np.linalg.norm(np.diff(points[:, :2], axis=0), axis=1)
        return points[np.concatenate([[True], step > 1e-3])]
