"""A layout in the making."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from karp_perception.world.geometry.ground import Ground, Patch, Surface
from karp_perception.world.layout import Crossing, Lane, Layout, ParkingSpace, Placement, Signal
from karp_perception.world.layouts.curves import STEP, Spot, offset, resample, simplified
from karp_perception.world.layouts.footprint import EXAMPLES, SIZED_EXAMPLES, footprint
from karp_perception.world.layouts.site import LANE, PAVED, SPACE, TAKEN, WALK, Site
from karp_perception.world.layouts.terrain import Relief, terrain

KEEP_CLEAR = 0.35  # m beside a lane in which nothing stands
WALK_CLEAR = 0.6  # m on either side of the middle of a way on foot


class Layer(IntEnum):
    """In which order surfaces are painted."""

    LAND = 0
    PLOT = 1
    PAVEMENT = 2
    VERGE = 3
    KERB = 4
    ROAD = 5
    REPAIR = 6
    ISLAND = 7
    MARKING = 8
    LID = 9


@dataclass
class LaneDraft:
    """A lane that is not finished; see `layout.Lane`."""

    points: np.ndarray
    width: float
    speed_limit: float
    successors: list[int] = field(default_factory=list)
    left: int | None = None
    right: int | None = None
    signal: int | None = None
    yields_to: list[int] = field(default_factory=list)
    crossings: list[tuple[int, float]] = field(default_factory=list)
    bicycles: bool = False

    def begin(self) -> Spot:
        """Where it begins, and the direction there."""
        d = self.points[1] - self.points[0]
        return Spot(float(self.points[0, 0]), float(self.points[0, 1]), float(np.arctan2(d[1], d[0])))

    def end(self) -> Spot:
        """Where it ends, and the direction there."""
        d = self.points[-1] - self.points[-2]
        return Spot(float(self.points[-1, 0]), float(self.points[-1, 1]), float(np.arctan2(d[1], d[0])))


class Plan:
    """Gathers what a family draws and makes a Layout of it. First the roads, then `lay_out`, then what stands.

    Args:
        family, seed: of the layout.
        base: surface of what no patch covers.
    """

    def __init__(self, family: str, seed: int, base: Surface = Surface.GRASS) -> None:
        self.family, self.seed, self.base = family, seed, base
        self.lanes: dict[int, LaneDraft] = {}
        self.signals: dict[int, Signal] = {}
        self.crossings: dict[int, Crossing] = {}
        self.walkways: list[np.ndarray] = []
        self.parking: list[ParkingSpace] = []
        self.scenery: list[Placement] = []
        self.roads: list[tuple[np.ndarray, float]] = []
        self.layers: tuple[list[Patch], ...] = tuple([] for _ in Layer)
        self.paved: list[np.ndarray] = []
        self.route: tuple[int, ...] = ()
        self.start = 10.0
        self.site = Site(np.zeros(2), np.ones(2))

    def lane(
        self, points: np.ndarray, width: float, speed_limit: float, step: float = STEP, bicycles: bool = False
    ) -> int:
        """Add a lane; its number."""
        number = len(self.lanes) + 1
        self.lanes[number] = LaneDraft(resample(points, step), width, speed_limit, bicycles=bicycles)
        return number

    def patch(self, layer: Layer, surface: Surface, polygon: np.ndarray) -> None:
        """Paint a polygon (N, 2), m."""
        self.layers[layer].append(Patch(surface, polygon))
        if layer in (Layer.PAVEMENT, Layer.ROAD):
            self.paved.append(polygon)

    def strip(
        self,
        layer: Layer,
        surface: Surface,
        points: np.ndarray,
        right: float | np.ndarray,
        left: float | np.ndarray,
    ) -> None:
        """Paint along a curve what lies between two offsets, m to its left."""
        self.patch(layer, surface, ribbon(points, right, left))

    def beside(self, right: int, left: int) -> None:
        """Two lanes between which one may change."""
        self.lanes[right].left, self.lanes[left].right = left, right

    def follow(self, first: int, *then: int) -> None:
        """Lanes that begin where `first` ends."""
        self.lanes[first].successors.extend(n for n in then if n not in self.lanes[first].successors)

    def crossing(
        self, start: np.ndarray, end: np.ndarray, width: float, signal: int | None = None, priority: bool = True
    ) -> int:
        """Add a crossing; its number."""
        number = len(self.crossings) + 1
        self.crossings[number] = Crossing(
            number, np.asarray(start, float), np.asarray(end, float), width, signal, priority
        )
        return number

    def lay_out(self, margin: float = 45.0, cell: float = 0.25) -> None:
        """The roads are complete: fix the extent of the place and keep lanes, ways and crossings clear.

        Args:
            margin: m around all lanes and walkways.
            cell: m, how finely it is noted what ground is taken.
        """
        everything = np.concatenate([d.points for d in self.lanes.values()] + [*self.walkways])
        self.lower, self.upper = everything.min(axis=0) - margin, everything.max(axis=0) + margin
        self.site = Site(self.lower, self.upper, cell)
        for polygon in self.paved:
            self.site.mark(PAVED, polygon)
        for draft in self.lanes.values():
            half = 0.5 * draft.width + KEEP_CLEAR
            self.site.mark(LANE, ribbon(draft.points, -half, half))
        for way in self.walkways:
            self.site.mark(WALK, ribbon(way, -WALK_CLEAR, WALK_CLEAR))
        for crossing in self.crossings.values():
            half = 0.5 * crossing.width + 0.5
            along = crossing.end - crossing.start
            along = along / np.hypot(*along)
            ends = np.stack([crossing.start - 1.5 * along, crossing.end + 1.5 * along])
            self.site.mark(LANE | WALK, ribbon(ends, -half, half))
        for space in self.parking:
            spot = Spot(space.x, space.y, space.yaw)
            self.site.mark(SPACE, rectangle(spot, space.length, space.width))

    def place(
        self,
        family: str,
        at: Spot,
        size: tuple[float, float, float] | None = None,
        *,
        forbidden: int = LANE | WALK | TAKEN | SPACE,
        sink: float = 0.0,
        signal: int | None = None,
        spare: float = 0.0,
    ) -> bool:
        """Stand something at a spot unless the ground that it needs is taken; whether it stands.

        Args:
            family: of models.
            at: where.
            size: length, width, height, m, rounded so that models are drawn only once; None for its own.
            forbidden: bits of `site` that it keeps off.
            sink: m below the ground.
            signal: of a traffic light.
            spare: m at either end of its length that it may share with its neighbours.
        """
        seed = self.next_seed()
        if size is not None:
            size = (math.floor(size[0]), math.floor(size[1]), round(2.0 * size[2]) / 2.0)
            seed %= SIZED_EXAMPLES
        length, width = footprint(family, seed) if size is None else size[:2]
        if not self.site.claim(at.x, at.y, at.heading, length - 2.0 * spare, width, forbidden):
            return False
        self.scenery.append(Placement(family, at.x, at.y, at.heading, seed, size, sink, signal))
        return True

    def next_seed(self) -> int:
        """The seed of what stands next."""
        return (self.seed * 31 + len(self.scenery) * 37) % EXAMPLES

    def stand(self, family: str, at: Spot, size: tuple[float, float, float], seed: int, sink: float = 0.0) -> None:
        """Stand something at a spot, whatever is there."""
        self.scenery.append(Placement(family, at.x, at.y, at.heading, seed, size, sink))

    def finish(
        self, rng: np.random.Generator, relief: Relief, heights: np.ndarray | None = None, cell: float = 2.0
    ) -> Layout:
        """The layout. `heights` (N,) m lie along the first road."""
        if self.roads:
            ground_heights = terrain(rng, relief, self.roads, self.lower, self.upper, cell, heights, self.paved)
        else:
            ground_heights = np.zeros((2, 2))
        ground = Ground(
            ground_heights, (float(self.lower[0]), float(self.lower[1])), cell,
            [patch for layer in self.layers for patch in layer], self.base,
        )  # fmt: skip
        points = np.concatenate([d.points for d in self.lanes.values()])
        z = ground.height(points[:, 0], points[:, 1])
        center = np.split(np.column_stack([points, z]), np.cumsum([len(d.points) for d in self.lanes.values()])[:-1])
        lanes = {
            number: Lane(
                number, xyz, d.width, d.speed_limit, tuple(d.successors), d.left, d.right, d.signal,
                tuple(d.yields_to), tuple(d.crossings),
            )
            for (number, d), xyz in zip(self.lanes.items(), center, strict=True)
        }  # fmt: skip
        return Layout(
            self.family, self.seed, lanes, self.signals, self.crossings, self.walkways, self.parking, ground,
            self.scenery, self.route, self.start, frozenset(n for n, d in self.lanes.items() if d.bicycles),
        )  # fmt: skip


def ribbon(points: np.ndarray, right: float | np.ndarray, left: float | np.ndarray) -> np.ndarray:
    """The polygon between two offsets (m to the left, numbers or one a point) of a curve, as few points as possible."""
    return np.concatenate([simplified(offset(points, right)), simplified(offset(points, left))[::-1]])


def rectangle(at: Spot, length: float, width: float) -> np.ndarray:
    """(4, 2) m, corners of a rectangle around a spot."""
    c, s = np.cos(at.heading), np.sin(at.heading)
    corners = np.array([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]]) * (0.5 * length, 0.5 * width)
    return corners @ np.array([[c, s], [-s, c]]) + (at.x, at.y)
