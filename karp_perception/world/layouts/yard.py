"""Yards: open paved ground with halls, containers and pallets, or houses and garages, and ways between them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from karp_perception.world.geometry.ground import Patch, Surface
from karp_perception.world.layout import Layout, ParkingSpace
from karp_perception.world.layouts import junction, markings
from karp_perception.world.layouts.curves import Spot, distances, offset, piece, placed, rounded
from karp_perception.world.layouts.edge import Edge
from karp_perception.world.layouts.footprint import footprint
from karp_perception.world.layouts.junction import Movement
from karp_perception.world.layouts.parameters import Parameter
from karp_perception.world.layouts.plan import Layer, Plan, rectangle, ribbon
from karp_perception.world.layouts.site import LANE, SPACE, TAKEN, WALK
from karp_perception.world.layouts.surroundings import surround
from karp_perception.world.layouts.terrain import Relief

_KINDS = ("industrial", "residential")

PARAMETERS = {
    "kind": Parameter("what the yard is for", str, options=_KINDS),
    "speed_limit": Parameter("m/s", float, 1.0, 10.0),
    "length": Parameter("of the route, at least, m", float, 100.0, 400.0),
    "heading": Parameter("direction in which the route begins, rad", float, -np.pi, np.pi),
}
_KEEP_OFF = LANE | WALK | TAKEN | SPACE
_APPROACH = 45.0  # m from the edge of the map to the gate
_GOODS = ("container", "container", "pallet_pile", "pallet_pile", "pallet_pile", "dumpster", "bin", "container", "pile",
          "wall_fragment", "facade_fragment", "cabinet", "planter", "ragged_vegetation")  # fmt: skip
_HOUSEHOLD = ("bin", "bin", "dumpster", "bike_rack", "bench", "planter", "bush", "tree", "young_tree", "cabinet",
              "hedge", "phone_box", "shopping_cart", "wall_fragment", "house_corner", "cafe_table", "bollard",
              "ragged_vegetation")  # fmt: skip


def yard(rng: np.random.Generator, family: str, seed: int, given: Mapping[str, Any]) -> Layout:
    """A yard with two gates; the route winds through it, other traffic comes the other way."""
    plan = Plan(family, seed)
    kind = given.get("kind", _KINDS[int(rng.random() < 0.4)])
    base = Spot(0.0, 0.0, given.get("heading", rng.uniform(-np.pi, np.pi)))
    limit = given.get("speed_limit", float(rng.choice((10.0, 20.0)) / 3.6))
    least = given.get("length", rng.uniform(250.0, 320.0))
    columns, rows = int(rng.integers(4, 6)), int(rng.integers(3, 5))
    size = rng.uniform(26.0, 33.0) if kind == "industrial" else rng.uniform(24.0, 30.0)
    nodes = np.stack(np.meshgrid(np.arange(columns) * size, np.arange(rows) * size), axis=-1)
    nodes = nodes + rng.uniform(-2.0, 2.0, nodes.shape)
    there = _walk(rng, columns, rows, least - 2.0 * _APPROACH, size)
    back = _walk(rng, columns, rows, 0.0, size)[::-1]
    ways = [_curve(nodes, walk, base, size) for walk in (there, back)]
    routes = [_lanes(plan, way, limit) for way in ways]
    plan.route = tuple(routes[0])
    _yield(plan, routes)
    _pave(plan, rng, base, nodes, ways, kind)
    plan.lay_out(30.0)
    _fill(plan, rng, base, nodes, kind)
    _enclose(plan, rng, base, nodes, kind)
    return plan.finish(rng, Relief(swell=rng.uniform(0.1, 0.5), bumps=0.12, road_share=0.5, camber=0.004))


def _walk(rng: np.random.Generator, columns: int, rows: int, least: float, size: float) -> list[tuple[int, int]]:
    """Nodes (column, row) from the left side to the right one, none twice: long enough, or the longest of many."""
    best: list[tuple[int, int]] = []
    for _ in range(60):
        at = (0, int(rng.random() * rows))
        path, seen = [at], {at}
        while True:
            x, y = path[-1]
            steps = [(x + 1, y), (x, y + 1), (x, y - 1), (x - 1, y)]
            free = [s for s in steps if 0 <= s[0] < columns and 0 <= s[1] < rows and s not in seen]
            if x == columns - 1 and (not free or (len(path) - 1) * size >= least):
                break
            if not free:
                path = []
                break
            path.append(free[int(rng.random() * len(free))])
            seen.add(path[-1])
        if len(path) > len(best):
            best = path
        if (len(best) - 1) * size >= least > 0.0 or (best and least <= 0.0):
            break
    return best or [(k, 0) for k in range(columns)]


def _curve(nodes: np.ndarray, walk: list[tuple[int, int]], base: Spot, size: float) -> np.ndarray:
    """The middle of the way through some nodes, from the edge of the map to the other; a lane keeps to its right."""
    corners = np.array([nodes[y, x] for x, y in walk])
    outward = _APPROACH if walk[0][0] == 0 else -_APPROACH
    first, last = corners[0] - (outward, 0.0), corners[-1] + (outward, 0.0)
    way = rounded(placed(np.concatenate([[first], corners, [last]]), base), 0.3 * size)
    return offset(way, -2.0)


def _lanes(plan: Plan, way: np.ndarray, limit: float) -> list[int]:
    """A way in pieces of about 15 m, so that one can wait before a place where ways cross."""
    length = float(distances(way)[-1])
    ends = np.linspace(0.0, length, max(round(length / 15.0), 2) + 1)
    numbers = []
    for a, b in pairwise(ends):
        points = piece(way, a, b)
        numbers.append(plan.lane(points, 3.4, junction.bend_limit(points, limit), 0.4))
    for before, after in pairwise(numbers):
        plan.follow(before, after)
    return numbers


def _yield(plan: Plan, routes: list[list[int]]) -> None:
    """The other way waits for the route where they cross."""
    movements = [
        Movement(n, numbers[k - 1] if k else -n, n, index, index, "straight")
        for index, numbers in enumerate(routes)
        for k, n in enumerate(numbers)
    ]
    together = ~np.eye(2, dtype=bool)
    junction.give_way(plan, movements, [m.origin for m in movements], together)


def _pave(
    plan: Plan, rng: np.random.Generator, base: Spot, nodes: np.ndarray, ways: list[np.ndarray], kind: str
) -> None:
    low, high = nodes.min(axis=(0, 1)) - 14.0, nodes.max(axis=(0, 1)) + 14.0
    surfaces = (Surface.CONCRETE, Surface.ASPHALT_OLD, Surface.ASPHALT, Surface.COBBLE, Surface.GRAVEL)
    surface = surfaces[int(rng.random() * (4.0 if kind == "residential" else 5.0))]
    square = placed(np.array([low, (high[0], low[1]), high, (low[0], high[1])]), base)
    plan.layers[Layer.ROAD].append(Patch(surface, square))
    for way in ways:
        plan.patch(Layer.ROAD, Surface.ASPHALT_OLD if rng.random() < 0.5 else Surface.ASPHALT, ribbon(way, -2.4, 4.4))
    middle = placed(np.array([(low[0], 0.5 * (low[1] + high[1])), (high[0], 0.5 * (low[1] + high[1]))]), base)
    markings.wear(plan, rng, middle, 0.45 * float(high[1] - low[1]), 4.0)
    span = high - low
    for _ in range(int(rng.integers(8, 26))):  # slabs, stains, soil and weeds
        x, y = low + span * rng.random(2)
        kinds = (Surface.SOIL, Surface.GRASS, Surface.ASPHALT_OLD, Surface.CONCRETE, Surface.GRAVEL, Surface.PUDDLE)
        at = base.shifted(float(x), float(y))
        blot = markings.blot(rng, at.x, at.y, at.heading, rng.uniform(0.6, 3.0))
        plan.layers[Layer.REPAIR].append(Patch(kinds[int(rng.random() * 6.0)], blot))
    if surface == Surface.CONCRETE:  # joints between slabs
        for x in np.arange(low[0] + 6.0, high[0], 12.0):
            joint = rectangle(base.shifted(float(x), float(0.5 * (low[1] + high[1]))), 0.12, float(span[1]))
            plan.layers[Layer.ROAD].insert(1, Patch(Surface.ASPHALT_OLD, joint))
    plan.roads.extend((way, 3.0) for way in ways)


def _fill(plan: Plan, rng: np.random.Generator, base: Spot, nodes: np.ndarray, kind: str) -> None:
    """Something in every block between the ways, and things all over."""
    goods = _GOODS if kind == "industrial" else _HOUSEHOLD
    rows, columns = nodes.shape[:2]
    for i in range(rows - 1):
        for j in range(columns - 1):
            block = nodes[i : i + 2, j : j + 2]
            middle = base.shifted(*block.mean(axis=(0, 1)).tolist())
            room = float(np.ptp(block[..., 0])) - 11.0
            _block(plan, rng, middle, max(room, 8.0), kind)
    low, high = nodes.min(axis=(0, 1)) - 11.0, nodes.max(axis=(0, 1)) + 11.0
    for _ in range(60 * (rows - 1) * (columns - 1) // 6):
        x, y = low + (high - low) * rng.random(2)
        thing = goods[int(rng.random() * len(goods))]
        turned = round(rng.random() * 4.0) * 0.5 * math.pi + rng.uniform(-0.12, 0.12)
        at = base.shifted(float(x), float(y))
        plan.place(thing, at._replace(heading=at.heading + turned), forbidden=_KEEP_OFF)


def _block(plan: Plan, rng: np.random.Generator, middle: Spot, room: float, kind: str) -> None:
    what = rng.random()
    if what < 0.4:
        height = rng.uniform(5.0, 11.0)
        size = (room * rng.uniform(0.6, 0.95), room * rng.uniform(0.5, 0.9), height)
        plan.place("building", middle, size, forbidden=_KEEP_OFF, sink=0.3)
        return
    if what < 0.6:  # parked vehicles
        for k in range(int(room / 2.6)):
            for sign in (-1.0, 1.0):
                at = middle.shifted(-0.5 * room + 1.4 + 2.6 * k, sign * 2.7)
                yaw = at.heading + sign * 0.5 * math.pi
                if plan.site.claim(at.x, at.y, yaw, 5.0, 2.3, _KEEP_OFF, 16):
                    yaw = float(math.atan2(math.sin(yaw), math.cos(yaw)))
                    plan.parking.append(ParkingSpace(at.x, at.y, yaw, 5.0, 2.3))
        return
    if kind == "residential":
        plan.layers[Layer.REPAIR].append(Patch(Surface.GRASS, rectangle(middle, 0.8 * room, 0.8 * room)))
        for _ in range(9):
            x, y = rng.uniform(-0.4, 0.4, 2) * room
            thing = ("tree", "bush", "bush", "bench", "young_tree", "hedge", "bike_rack")[int(rng.random() * 7.0)]
            plan.place(thing, middle.shifted(float(x), float(y)), forbidden=_KEEP_OFF)
        return
    for row in np.arange(-0.4 * room, 0.4 * room, 2.9 if what < 0.85 else 2.2):
        x = -0.45 * room
        while x < 0.4 * room:
            thing = "container" if what < 0.85 else "pallet_pile"
            length = footprint(thing, plan.next_seed())[0]
            if rng.random() < 0.75:
                at = middle.shifted(x + 0.5 * length, float(row))
                at = at._replace(heading=at.heading + rng.uniform(-0.03, 0.03))
                plan.place(thing, at, forbidden=_KEEP_OFF)
            x += length + rng.uniform(0.2, 1.2)


def _enclose(plan: Plan, rng: np.random.Generator, base: Spot, nodes: np.ndarray, kind: str) -> None:
    """Walls, fences and buildings around the yard, with gates where ways go through."""
    low, high = nodes.min(axis=(0, 1)) - 13.0, nodes.max(axis=(0, 1)) + 13.0
    corners = placed(np.array([low, (high[0], low[1]), high, (low[0], high[1]), low]), base)
    for a, b in pairwise(corners):
        edge = Edge(plan, rng, np.stack([a, b]), 0.0, -1.0)
        barrier = edge.pick("wall", "fence", "wall", "noise_wall", "hedge")
        width = {"fence": 0.12, "hedge": 0.9}.get(barrier, 0.35)
        edge.row(barrier, 0.0, edge.length, 0.5, width, edge.uniform(1.6, 3.0), 6.0)
        inner = Edge(plan, rng, np.stack([a, b]), 0.0, 1.0)
        s = 2.0
        while s < edge.length - 8.0:
            long = edge.uniform(8.0, 22.0)
            if edge.chance(0.5):
                size = (long, edge.uniform(5.0, 8.0), edge.uniform(2.6, 8.0))
                inner.put("building", s + 0.5 * long, 0.8 + 0.5 * size[1], size=size, forbidden=_KEEP_OFF, sink=0.3)
            s += long + edge.uniform(1.0, 8.0)
        for k in range(int(edge.length / 30.0)):
            inner.put(edge.pick("lamp_post", "pole", "sign"), 10.0 + 30.0 * k, 1.2, 1.57, forbidden=_KEEP_OFF)
        surround(Edge(plan, rng, np.stack([a, b]), -2.0, -1.0), edge.pick("industrial", "park", "blocks", "suburb"))
