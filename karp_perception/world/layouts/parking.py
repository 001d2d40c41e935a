"""Where cars are parked: narrow streets with a row on either side, and lots with aisles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from karp_perception.world.geometry.ground import Surface
from karp_perception.world.layout import Layout, ParkingSpace
from karp_perception.world.layouts import markings
from karp_perception.world.layouts.curves import Spot, from_curvature, line, placed, rounded, turn
from karp_perception.world.layouts.edge import Edge
from karp_perception.world.layouts.furniture import furnish
from karp_perception.world.layouts.parameters import Parameter
from karp_perception.world.layouts.plan import Layer, Plan, rectangle
from karp_perception.world.layouts.road import Road, Section, Side
from karp_perception.world.layouts.site import LANE, SPACE, TAKEN
from karp_perception.world.layouts.surroundings import mixed
from karp_perception.world.layouts.terrain import Relief

_KINDS = ("street", "lot")
_ROWS = ("parallel", "perpendicular", "angled")
_STYLES = ("old_town", "suburb", "blocks", "industrial")

PARAMETERS = {
    "kind": Parameter("a narrow street or a lot with aisles", str, options=_KINDS),
    "right": Parameter("how cars stand on the right of the street", str, options=_ROWS),
    "left": Parameter("how cars stand on its left", str, options=_ROWS),
    "oneway": Parameter("the street has one lane only", bool),
    "length": Parameter("of the street, m", float, 150.0, 600.0),
    "aisles": Parameter("of the lot, an even number", int, 2, 6),
    "speed_limit": Parameter("m/s", float, 1.0, 14.0),
    "heading": Parameter("direction in which the route begins, rad", float, -np.pi, np.pi),
}
_SPACE = (5.0, 2.5)  # m
_END = 7.5  # m, free at either end of the rows of a lot


def parking(rng: np.random.Generator, family: str, seed: int, given: Mapping[str, Any]) -> Layout:
    """A narrow street between parked rows, or a lot."""
    kind = given.get("kind", _KINDS[int(rng.random() < 0.4)])
    heading = given.get("heading", rng.uniform(-np.pi, np.pi))
    plan = Plan(family, seed)
    return (_street if kind == "street" else _lot)(plan, rng, given, heading)


def _street(plan: Plan, rng: np.random.Generator, given: Mapping[str, Any], heading: float) -> Layout:
    length = given.get("length", rng.uniform(280.0, 380.0))
    oneway = given.get("oneway", bool(rng.random() < 0.4))
    width = rng.uniform(3.2, 3.8) if oneway else rng.uniform(2.5, 2.8)
    right, left = (given.get(side, _ROWS[int(rng.random() ** 1.5 * 3.0)]) for side in ("right", "left"))
    pavement = rng.uniform(1.7, 3.0)
    bend = rng.uniform(-1.0, 1.0) / 180.0
    knots = [(0.0, 0.0), (0.3 * length, 0.0), (0.5 * length, bend), (0.7 * length, -bend), (length, 0.0)]
    points = from_curvature(knots, Spot(0.0, 0.0, heading))
    limit = given.get("speed_limit", float(rng.choice((20.0, 30.0, 30.0)) / 3.6))
    # Cars that stand across the lane need room to come out.
    room = 0.2 if right == left == "parallel" else 0.6
    road = Road(
        points,
        Side(1, width, parking=right, pavement=pavement, shoulder=room),
        Side(0 if oneway else 1, width, parking=left, pavement=pavement, shoulder=room),
        0.0,
        limit,
    )
    surface = Surface.COBBLE if rng.random() < 0.25 else Surface.ASPHALT
    road.pave(plan, surface, Surface.PAVEMENT if rng.random() < 0.7 else Surface.COBBLE)
    section = road.add_lanes(plan)[0]
    plan.route = (section.right[0],)
    road.ways_on_foot(plan)
    for sign in (-1.0, 1.0):
        road.park(plan, rng, sign, painted=rng.random() < 0.6)
    half = 0.5 * (road.edge(1.0) - road.edge(-1.0))
    markings.wear(plan, rng, points, half)
    if surface == Surface.ASPHALT:
        markings.old_stretches(plan, rng, points, half)
    plan.lay_out()
    style = _STYLES[int(rng.random() * 4.0)]
    for sign in (-1.0, 1.0):
        furnish(plan, rng, road, sign, 1.2)
        mixed(Edge(plan, rng, points, road.border(sign), sign), (style, _STYLES[int(rng.random() * 4.0)]))
    return plan.finish(rng, Relief(swell=rng.uniform(0.1, 0.6)))


def _lot(plan: Plan, rng: np.random.Generator, given: Mapping[str, Any], heading: float) -> Layout:
    """A street with a lot on its right: in by a right turn, up and down the aisles, out by a right turn."""
    base = Spot(0.0, 0.0, heading)
    count = given.get("aisles", int(rng.choice((2, 4, 4))))
    count += count % 2
    depth = rng.uniform(45.0, 70.0) if count > 2 else rng.uniform(70.0, 95.0)
    aisle, strip = rng.uniform(6.0, 6.8), 1.6 if rng.random() < 0.5 else 0.0
    pitch = aisle + 2.0 * _SPACE[0] + strip
    limit = given.get("speed_limit", 13.9)
    slow = min(limit, float(rng.choice((10.0, 20.0)) / 3.6 + 0.5))
    first = rng.uniform(60.0, 75.0)
    columns = first + pitch * np.arange(count)
    length = float(columns[-1]) + rng.uniform(60.0, 75.0)
    side = Side(1, round(rng.uniform(2.9, 3.4), 2), pavement=rng.uniform(2.0, 3.2))
    road = Road(line(base, length), side, side, 0.0, limit)
    road.pave(plan)
    top = road.border(-1.0) - rng.uniform(1.5, 4.0)
    bottom = top - depth - 2.0 * _END
    edge = 0.5 * pitch + 1.0
    outline = np.array([(columns[0] - edge, top), (columns[-1] + edge, top)])
    outline = np.concatenate([outline, outline[::-1] * (1.0, 0.0) + (0.0, bottom)])
    grown = outline + np.sign(outline - outline.mean(axis=0)) * 0.16
    plan.patch(Layer.KERB, Surface.KERB, placed(grown, base))
    surface = Surface.ASPHALT if rng.random() < 0.6 else Surface.ASPHALT_OLD
    plan.patch(Layer.ROAD, surface, placed(outline, base))
    sections = road.add_lanes(plan, [columns[0] - 11.0, columns[-1] + 11.0])
    lot = _through(plan, base, road, sections, columns, (top, bottom), slow, aisle)
    plan.route = (sections[0].right[0], *lot, sections[2].right[0])
    road.ways_on_foot(plan)
    road.lines(plan)
    spaces = _rows(plan, rng, base, columns, top - _END, depth, aisle)
    middle = placed(
        np.array([(float(columns[0]), 0.5 * (top + bottom)), (float(columns[-1]), 0.5 * (top + bottom))]), base
    )
    markings.wear(plan, rng, middle, 0.45 * (top - bottom), 2.0)
    markings.wear(plan, rng, road.points, road.edge(1.0))
    plan.lay_out(40.0)
    _equip(plan, rng, base, road, columns, (top, bottom), edge, spaces, strip)
    return plan.finish(rng, Relief(swell=rng.uniform(0.1, 0.5)))


def _through(
    plan: Plan, base: Spot, road: Road, sections: list[Section], columns: np.ndarray, ends: tuple[float, float],
    slow: float, aisle: float,
) -> list[int]:  # fmt: skip
    """Lanes in, up and down the aisles, and out; their numbers."""
    top, bottom = ends[0] - 0.5 * _END, ends[1] + 0.5 * _END
    entry_at = base.shifted(float(columns[0]), top - 2.0)
    exit_at = base.shifted(float(columns[-1]), top - 2.0)
    begin, after = plan.lanes[sections[0].right[0]].end(), plan.lanes[sections[2].right[0]].begin()
    into = turn(begin, entry_at._replace(heading=base.heading - 0.5 * np.pi), 8.0)
    out = turn(exit_at._replace(heading=base.heading + 0.5 * np.pi), after, 8.0)
    corners = [(columns[0], top - 2.0)]
    for k, x in enumerate(columns):
        low = k % 2 == 0
        corners += [(x, bottom if low else top)]
        if k + 1 < len(columns):
            corners += [(columns[k + 1], bottom if low else top)]
    corners[-1] = (columns[-1], top - 2.0)
    way = rounded(placed(np.array(corners), base), 6.0)
    numbers = [plan.lane(points, 3.2, slow, 0.5) for points in (into, way, out)]
    plan.follow(sections[0].right[0], numbers[0])
    plan.follow(numbers[0], numbers[1])
    plan.follow(numbers[1], numbers[2])
    plan.follow(numbers[2], sections[2].right[0])
    plan.lanes[numbers[2]].yields_to.append(sections[1].right[0])
    for points in (into, out):
        for layer, surface, more in ((Layer.KERB, Surface.KERB, 0.16), (Layer.ROAD, Surface.ASPHALT, 0.0)):
            plan.strip(layer, surface, points, -2.6 - more, 3.4 + more)
    markings.teeth(plan, plan.lanes[numbers[1]].end().shifted(3.0, 0.0), -2.4, 2.4)
    return numbers


def _rows(
    plan: Plan, rng: np.random.Generator, base: Spot, columns: np.ndarray, top: float, depth: float, aisle: float
) -> list[Spot]:
    """Parking spaces on both sides of every aisle; returns where islands with trees take the place of some."""
    count = int(depth / _SPACE[1])
    islands = []
    every = int(rng.integers(6, 14)) if rng.random() < 0.7 else 1000
    for x in columns.tolist():
        for sign in (-1.0, 1.0):
            middle = x + sign * (0.5 * aisle + 0.5 * _SPACE[0])
            turned = 0.0 if sign > 0 else np.pi
            for k in range(count):
                at = base.shifted(middle, top - (k + 0.5) * _SPACE[1])
                yaw = at.heading + turned
                if k % every == every - 1 or (every < 1000 and k in (0, count - 1)):
                    islands.append(at)
                else:
                    yaw = float(np.arctan2(np.sin(yaw), np.cos(yaw)))
                    plan.parking.append(ParkingSpace(at.x, at.y, yaw, _SPACE[0], _SPACE[1] - 0.1))
            for k in range(count + 1):
                at = base.shifted(middle, top - k * _SPACE[1])
                plan.patch(Layer.MARKING, Surface.MARKING, rectangle(at, _SPACE[0], 0.1))
    for at in islands:
        plan.patch(Layer.LID, Surface.KERB, rectangle(at, 4.8, 2.2))
        plan.patch(Layer.LID, Surface.GRASS, rectangle(at, 4.5, 1.9))
    return islands


def _equip(
    plan: Plan, rng: np.random.Generator, base: Spot, road: Road, columns: np.ndarray, ends: tuple[float, float],
    edge: float, islands: list[Spot], strip: float,
) -> None:  # fmt: skip
    """Trees, lamps and shelters in the lot, hedges and a market around it, what stands along the street."""
    top, bottom = ends
    for at in islands:
        for along in (-1.3, 1.3):
            thing = ("tree", "young_tree", "bush", "lamp_post", "bush")[int(rng.random() * 5.0)]
            plan.place(thing, at.shifted(along, 0.0), forbidden=LANE | TAKEN)
    if strip:
        for x in 0.5 * (columns[1:] + columns[:-1]):
            for y in np.arange(bottom + _END + 4.0, top - _END, rng.uniform(7.0, 14.0)):
                thing = ("tree", "lamp_post", "bush", "sign")[int(rng.random() * 4.0)]
                plan.place(thing, base.shifted(float(x), float(y)), forbidden=LANE | TAKEN | SPACE)
    left, right = float(columns[0]) - edge, float(columns[-1]) + edge
    corners = placed(np.array([(left, top), (left, bottom), (right, bottom), (right, top), (left, top)]), base)
    market = (rng.uniform(30.0, 60.0), rng.uniform(18.0, 26.0), rng.uniform(5.0, 9.0))
    back = Edge(plan, rng, corners[1:3], 0.0, -1.0)
    back.put("hall", 0.5 * back.length, 4.0 + 0.5 * market[1], math.pi, size=market, sink=0.3)
    for a, b in pairwise(corners):
        side = Edge(plan, rng, np.stack([a, b]), 0.0, -1.0)
        kind = side.pick("hedge", "fence", "wall", "hedge", "guard_rail")
        side.row(
            kind, 0.5, side.length - 0.5, 0.7, {"hedge": 0.9, "fence": 0.12}.get(kind, 0.3), side.uniform(0.7, 1.8)
        )
        for _ in range(int(side.length / 9.0)):
            thing = side.pick(
                "tree", "bush", "lamp_post", "ragged_vegetation", "bin", "cabinet", "billboard", "conifer"
            )
            side.put(thing, side.uniform(1.0, side.length - 1.0), side.uniform(1.5, 4.0), side.to_road)
    for sign in (-1.0, 1.0):
        furnish(plan, rng, road, sign)
        mixed(Edge(plan, rng, road.points, road.border(sign), sign), ("suburb", "blocks", "industrial", "park"))
