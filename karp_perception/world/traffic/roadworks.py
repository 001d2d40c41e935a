"""Roadworks: a stretch beside the outermost lane with cones, barriers, a machine and people at work."""

from __future__ import annotations

import math

import numpy as np

from karp_perception.world.geometry.rectangle import distance_to_rectangle
from karp_perception.world.layout import Lane, Layout
from karp_perception.world.traffic.parked import Placed
from karp_perception.world.traffic.population import MACHINES, Population

_LENGTH = (14.0, 40.0)  # m
_FAR = 25.0  # m from lane ends and crossings
_ROW = 0.55  # m from the edge of the lane to the row of cones
_CONES = {"cone": 3, "tall_cone": 2}
_BARRIERS = {"water_barrier": 2, "jersey_barrier": 2, "crowd_barrier": 1}
_MACHINE_ROOM = 4.2  # m beside the lane that a machine and its cones take


def roadworks(layout: Layout, population: Population, rng: np.random.Generator, chance: float) -> list[Placed]:
    """Model, x, y (m) and yaw of what stands there; nothing where chance or the place do not allow it.

    Everything stands off the driven lanes: a slanted row of cones leads to a row along the edge, of cones or barriers;
    where there is room behind it, a machine and somebody at work.
    """
    if rng.random() >= chance:
        return []
    lanes = [
        lane
        for lane in layout.lanes.values()
        if lane.right is None and lane.signal is None and lane.number not in layout.bikeways and lane.length > 70.0
    ]
    if not lanes:
        return []
    for _ in range(8):
        lane = lanes[int(rng.integers(len(lanes)))]
        length = float(rng.uniform(*_LENGTH))
        begin = float(rng.uniform(_FAR, lane.length - _FAR - length)) if lane.length > 2 * _FAR + length else _FAR
        if all(abs(stop - begin) > _FAR + length for _, stop in lane.crossings):
            found = _along(layout, lane, begin, length, population, rng)
            if found:
                return found
    return []


def _along(
    layout: Layout, lane: Lane, begin: float, length: float, population: Population, rng: np.random.Generator
) -> list[Placed]:
    found: list[Placed] = []
    edge = 0.5 * lane.width + _ROW
    kind = population.one_of(_BARRIERS) if rng.random() < 0.45 else None
    cone = population.one_of(_CONES)
    s = begin
    while s < begin + length:
        model = population.model(kind or cone)
        extent = model.size[1] if kind else 0.0
        slant = max(0.0, 1.0 - (s - begin) / 8.0)
        x, y, yaw = _beside(lane, s, -(edge + 1.2 * slant + (0.5 * model.size[0] if kind else 0.0)))
        # A barrier's width is its extent: it lies along the road when its own x points across it.
        found.append((model, x, y, yaw + (math.pi / 2 if kind else float(rng.uniform(0.0, 2.0 * math.pi)))))
        s += extent + 0.15 if kind else float(rng.uniform(2.6, 3.4))
    if rng.random() < 0.6:
        machine = population.model(population.one_of(MACHINES))
        x, y, yaw = _beside(lane, begin + 0.55 * length, -(edge + 0.9 + 0.5 * machine.size[1]))
        found.append((machine, x, y, yaw + float(rng.choice([0.0, math.pi])) + float(rng.normal(0.0, 0.08))))
    for _ in range(int(rng.integers(0, 3))):
        aside = edge + rng.uniform(0.7, 1.4)
        x, y, yaw = _beside(lane, begin + float(rng.uniform(0.75, 1.0)) * length, -aside)
        found.append((population.bystander(), x, y, float(rng.uniform(-math.pi, math.pi))))
    return found if _free(layout, found) else []


def _beside(lane: Lane, s: float, aside: float) -> tuple[float, float, float]:
    along = lane.along
    k = min(max(int(np.searchsorted(along, s)), 1), len(along) - 1)
    (x0, y0), (x1, y1) = lane.center[k - 1, :2], lane.center[k, :2]
    yaw = math.atan2(y1 - y0, x1 - x0)
    u = s - along[k - 1]
    c, n = math.cos(yaw), math.sin(yaw)
    return float(x0 + u * c - aside * n), float(y0 + u * n + aside * c), yaw


def _free(layout: Layout, placed: list[Placed]) -> bool:
    """Whether all of it stands off every lane, off the ways on foot, off parking spaces and off other scenery."""
    lanes = np.concatenate([lane.center[:, :2] for lane in layout.lanes.values()])
    half = np.concatenate([np.full(len(lane.center), 0.5 * lane.width) for lane in layout.lanes.values()])
    ways = np.concatenate([np.zeros((0, 2)), *(np.asarray(way, float) for way in layout.walkways)])
    spots = np.array([(p.x, p.y) for p in layout.parking], float).reshape(-1, 2)
    things = np.array([(p.x, p.y) for p in layout.scenery], float).reshape(-1, 2)
    for model, x, y, yaw in placed:
        to_lanes, to_spots, to_things, to_ways = (
            distance_to_rectangle(points, x, y, yaw, *model.size[:2]) for points in (lanes, spots, things, ways)
        )
        if (to_lanes < half + 0.2).any() or (to_spots < 2.8).any() or (to_things < 0.7).any() or (to_ways < 0.6).any():
            return False
    return True
