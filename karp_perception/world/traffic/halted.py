"""What stands beside the road: lorries, buses, trailers, machines, two-wheelers, people in each other's company.

Streets have few of them. A detector that is to tell ten classes apart wants thousands of each.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from karp_perception.core import ObjectClass
from karp_perception.world.geometry.rectangle import distance_to_rectangle
from karp_perception.world.layout import Layout
from karp_perception.world.layouts.footprint import footprint
from karp_perception.world.traffic.parked import Placed
from karp_perception.world.traffic.population import (
    BUSES,
    BYSTANDERS,
    CAR_TRAILERS,
    CYCLISTS,
    MACHINES,
    PARKED_BIKES,
    SEMI_TRAILERS,
    TRUCKS,
    TWO_WHEELERS,
    WALKERS,
    Population,
)

_ALONG = (-30.0, 200.0)  # m along the route from where the vehicle under test begins
_ASIDE = 24.0  # m, farthest from the route
_BESIDE, _BESIDE_M = 0.5, (2.5, 8.0)  # share of what stands close beside the route, where it fills half of the view
_ALIGNED = 0.65  # share that stands along the road, more or less
_TRIES = 12  # places for each
_LANE_GAP, _WAY_GAP, _GAP = 0.2, 0.3, 0.5  # m to lanes, to ways on foot, to all that stands
_SPOT_GAP = 0.2  # m to parking spaces, taken or not
_POINTS = 1.0  # m between points of an outline

_LIGHT_TRUCKS = {"light_truck": 3.0, "light_flatbed": 1.5, "box_van": 4.0}  # what much of the world delivers with
_OWNER = 0.4  # share of parked two-wheelers with somebody beside them
_OWNER_ASIDE = (0.4, 0.9)  # m from the middle
_COMPANY = (0.55, 0.4)  # shares of those in company with whom one more person is, and of these with yet another
_PERSON_GAP = (0.45, 0.9)  # m from one person's middle to the next one's

# Each group as often as any other.
_GROUPS: Sequence[Mapping[str, float]] = (
    {**{name: weight for name, weight in TRUCKS.items() if name != "semi_tractor"}, **_LIGHT_TRUCKS},
    {"semi_tractor": 1.0},
    {name: weight for name, weight in BUSES.items() if name != "articulated_bus"},
    SEMI_TRAILERS,
    CAR_TRAILERS,
    {**MACHINES, "mobile_crane": 2.0},
    PARKED_BIKES,
    {"parked_motorcycle": 1.0, "parked_scooter": 1.0},
    TWO_WHEELERS,
    CYCLISTS,
    {**BYSTANDERS, **WALKERS},
)


def halted(
    layout: Layout, population: Population, rng: np.random.Generator, count: int, placed: Sequence[Placed]
) -> list[Placed]:
    """Model, x, y (m) and yaw of up to `count` things near the route, clear of lanes, of ways and of what stands."""
    if count == 0:
        return []
    taken = _Taken(layout, placed)
    found: list[Placed] = []
    for _ in range(count):
        things = _train(population, rng)
        for _ in range(_TRIES):
            there = _somewhere(layout, things, rng)
            if all(taken.is_free(thing) for thing in there):
                for thing in there:
                    taken.add(thing)
                found += there
                break
    return found


def _train(population: Population, rng: np.random.Generator) -> list[Placed]:
    """One thing at the origin, or several: a tractor and its trailer, a two-wheeler and its people, people together."""
    name = population.one_of(_GROUPS[int(rng.integers(len(_GROUPS)))])
    model = population.model(name)
    alone = [(model, 0.0, 0.0, 0.0)]
    if model.label == ObjectClass.PEDESTRIAN:
        return [*alone, *_company(population, rng, 0.0, 0.0, float(rng.uniform(-math.pi, math.pi)))]
    if name.startswith("parked") and rng.random() < _OWNER:
        x, aside = float(rng.uniform(-0.5, 0.5)), float(rng.choice([-1.0, 1.0]) * rng.uniform(*_OWNER_ASIDE))
        owner = (population.bystander(), x, aside, float(rng.uniform(-math.pi, math.pi)))
        return [*alone, owner, *_company(population, rng, x, aside, math.copysign(math.pi / 2, aside))]
    if name != "semi_tractor":
        return alone
    trailer = population.model(population.one_of(SEMI_TRAILERS))
    assert model.hitch is not None
    assert trailer.king_pin is not None
    return [*alone, (trailer, model.hitch - trailer.king_pin, 0.0, 0.0)]


def _company(population: Population, rng: np.random.Generator, x: float, y: float, line: float) -> list[Placed]:
    """Those who stand close to somebody at x, y, one behind the other into the direction `line`, more or less."""
    found: list[Placed] = []
    for share in _COMPANY:
        if rng.random() >= share:
            break
        gap = float(rng.uniform(*_PERSON_GAP))
        x, y = x + gap * math.cos(line), y + gap * math.sin(line)
        found.append((population.bystander(), x, y, float(rng.uniform(-math.pi, math.pi))))
        line += float(rng.normal(0.0, 0.5))
    return found


def _somewhere(layout: Layout, things: Sequence[Placed], rng: np.random.Generator) -> list[Placed]:
    route = layout.route_points[:, :2]
    along = np.concatenate([[0.0], np.linalg.norm(np.diff(route, axis=0), axis=1).cumsum()])
    s = rng.uniform(_ALONG[0], min(_ALONG[1], along[-1]))
    k = int(np.clip(np.searchsorted(along, s), 1, len(route) - 1))
    ahead = (route[k] - route[k - 1]) / max(along[k] - along[k - 1], 1e-6)
    aside = rng.choice([-1.0, 1.0]) * rng.uniform(*_BESIDE_M if rng.random() < _BESIDE else (0.0, _ASIDE))
    x, y = route[k] + (s - along[k]) * ahead + aside * np.array([-ahead[1], ahead[0]])
    yaw = math.atan2(ahead[1], ahead[0])
    if rng.random() < _ALIGNED:
        yaw += float(rng.choice([0.0, math.pi])) + float(rng.normal(0.0, 0.06))
    else:
        yaw = float(rng.uniform(-math.pi, math.pi))
    c, s = math.cos(yaw), math.sin(yaw)
    return [
        (model, float(x + dx * c - dy * s), float(y + dx * s + dy * c), yaw + turn) for model, dx, dy, turn in things
    ]


class _Taken:
    """Where nothing may stand: near points of lanes and ways, and near rectangles."""

    def __init__(self, layout: Layout, placed: Sequence[Placed]) -> None:
        lanes = [(lane.center[:, :2], 0.5 * lane.width + _LANE_GAP) for lane in layout.lanes.values()]
        ways = [(np.asarray(way, float), _WAY_GAP) for way in map(_dense, layout.walkways)]
        self._points = np.concatenate([points for points, _ in (*lanes, *ways)])
        self._reach = np.concatenate([np.full(len(points), reach) for points, reach in (*lanes, *ways)])
        boxes = [(thing.x, thing.y, thing.yaw, *(thing.size or footprint(thing.family, thing.seed))[:2], _GAP)
                 for thing in layout.scenery]  # fmt: skip
        boxes += [(spot.x, spot.y, spot.yaw, spot.length, spot.width, _SPOT_GAP) for spot in layout.parking]
        boxes += [(x, y, yaw, *model.size[:2], _GAP) for model, x, y, yaw in placed]
        self._boxes = np.array(boxes, float).reshape(-1, 6)

    def add(self, thing: Placed) -> None:
        """Somewhere else nothing may stand from now on."""
        model, x, y, yaw = thing
        self._boxes = np.append(self._boxes, [(x, y, yaw, *model.size[:2], _GAP)], axis=0)

    def is_free(self, thing: Placed) -> bool:
        """Whether it keeps its distance from everything."""
        model, x, y, yaw = thing
        length, width = model.size[:2]
        if (distance_to_rectangle(self._points, x, y, yaw, length, width) < self._reach).any():
            return False
        bx, by, _, blength, bwidth, gap = self._boxes.T
        near = np.hypot(bx - x, by - y) < 0.5 * (np.hypot(blength, bwidth) + math.hypot(length, width)) + gap
        own = _outline(x, y, yaw, length, width)
        for box in self._boxes[near]:
            if (distance_to_rectangle(own, *box[:5]) < box[5]).any():
                return False
            if (distance_to_rectangle(_outline(*box[:5]), x, y, yaw, length, width) < box[5]).any():
                return False
        return True


def _dense(way: np.ndarray) -> np.ndarray:
    """(N, 2) polyline -> the same with points at most `_POINTS` m apart."""
    parts = [way[:1]]
    for a, b in itertools.pairwise(way):
        steps = max(1, math.ceil(math.dist(a, b) / _POINTS))
        parts.append(a + np.linspace(0.0, 1.0, steps + 1)[1:, None] * (b - a))
    return np.concatenate(parts)


def _outline(x: float, y: float, yaw: float, length: float, width: float) -> np.ndarray:
    """(N, 2) m: points of a rectangle, its outline and its inside, `_POINTS` m apart at most."""
    u = np.linspace(-0.5, 0.5, max(2, math.ceil(length / _POINTS) + 1)) * length
    v = np.linspace(-0.5, 0.5, max(2, math.ceil(width / _POINTS) + 1)) * width
    u, v = (axis.ravel() for axis in np.meshgrid(u, v))
    c, s = math.cos(yaw), math.sin(yaw)
    return np.column_stack([x + u * c - v * s, y + u * s + v * c])
