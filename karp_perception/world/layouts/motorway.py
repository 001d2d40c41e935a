"""Motorways: two to four lanes each way, hard shoulders, a barrier, a ramp that merges, gantries, noise walls."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from karp_perception.world.geometry.ground import Surface
from karp_perception.world.layout import Layout
from karp_perception.world.layouts import markings
from karp_perception.world.layouts.curves import (
    Spot,
    distances,
    from_curvature,
    joined,
    offset,
    piece,
    smooth,
    spot,
)  # fmt: skip
from karp_perception.world.layouts.edge import ON_PAVEMENT, Edge
from karp_perception.world.layouts.parameters import Parameter
from karp_perception.world.layouts.plan import Layer, Plan
from karp_perception.world.layouts.road import Road, Section, Side
from karp_perception.world.layouts.surroundings import surround
from karp_perception.world.layouts.terrain import Relief

PARAMETERS = {
    "lanes": Parameter("in each direction", int, 2, 4),
    "lane_width": Parameter("m", float, 3.25, 3.75),
    "length": Parameter("m", float, 700.0, 2000.0),
    "radius": Parameter("of its bend, m", float, 400.0, 10000.0),
    "merge": Parameter("a ramp joins on the right", bool),
    "from_ramp": Parameter("the route comes from the ramp", bool),
    "speed_limit": Parameter("m/s", float, 10.0, 45.0),
    "heading": Parameter("direction in which the route begins, rad", float, -np.pi, np.pi),
}
_TAPER = 60.0  # m over which the merging lane ends


def motorway(rng: np.random.Generator, family: str, seed: int, given: Mapping[str, Any]) -> Layout:
    """A motorway; the route is on its right half."""
    plan = Plan(family, seed)
    length = given.get("length", rng.uniform(900.0, 1100.0))
    radius = given.get("radius", float(np.exp(rng.uniform(np.log(600.0), np.log(4000.0)))))
    heading = given.get("heading", rng.uniform(-np.pi, np.pi))
    bend = (1.0 if rng.random() < 0.5 else -1.0) / radius
    a, b = rng.uniform(0.0, 0.3) * length, rng.uniform(0.5, 0.8) * length
    back = -bend if rng.random() < 0.3 else bend
    knots = [(0.0, 0.0), (a, 0.0), (a + 0.12 * length, bend), (b, bend), (b + 0.15 * length, back), (length, back)]
    points = from_curvature(knots, Spot(0.0, 0.0, heading))
    lanes = given.get("lanes", int(rng.choice((2, 2, 3, 3, 4))))
    width = given.get("lane_width", float(rng.choice((3.5, 3.5, 3.75))))
    shoulder = rng.uniform(2.5, 3.0)
    limit = given.get("speed_limit", float(rng.choice((80.0, 100.0, 120.0, 130.0)) / 3.6))
    side = Side(lanes, width, shoulder=shoulder)
    road = Road(points, side, side, rng.uniform(3.0, 5.0), limit)
    merge = given.get("merge", bool(rng.random() < 0.6) or given.get("from_ramp", False))
    from_ramp = given.get("from_ramp", bool(rng.random() < 0.45)) and merge
    surface = Surface.CONCRETE if rng.random() < 0.25 else Surface.ASPHALT
    road.pave(plan, surface)
    cuts = _cuts(rng, road.length) if merge else []
    sections = road.add_lanes(plan, cuts)
    ramp = _ramp(plan, rng, road, sections, cuts, surface) if merge else []
    _mark(plan, road, cuts)
    _median(plan, road)
    for sign in (-1.0, 1.0):
        near, far = sorted((road.edge(sign), road.edge(sign) + sign * 1.2))
        plan.strip(Layer.PLOT, Surface.GRAVEL, points, near, far)
    markings.wear(plan, rng, points, road.edge(1.0), 0.12)
    plan.route = _route(rng, sections, ramp, from_ramp)
    plan.lay_out(35.0, 0.4)
    _beside(plan, rng, road, cuts)
    relief = Relief(
        swell=rng.uniform(0.3, 0.9), bumps=0.15, camber=0.02, bank=rng.choice((-0.18, -0.08, 0.0, 0.1, 0.22))
    )
    return plan.finish(rng, relief, cell=4.0)


def _cuts(rng: np.random.Generator, length: float) -> list[float]:
    """Where the ramp has come alongside, where its lane begins to end, and where it has ended, m."""
    begin = rng.uniform(0.28, 0.36) * length
    end = begin + rng.uniform(180.0, 250.0)
    return [begin, end, end + _TAPER]


def _ramp(
    plan: Plan, rng: np.random.Generator, road: Road, sections: list[Section], cuts: list[float], surface: Surface
) -> list[int]:
    """The ramp, the lane alongside and its taper; their numbers in order."""
    width, lanes = road.right.lane_width, road.right.lanes
    outer = road.lane_offset(-1.0, lanes)
    alongside = offset(piece(road.points, cuts[0], cuts[1]), outer)
    begin = spot(alongside, 0.0)
    # Backwards from where it joins: a straight at a small angle, then the bend it comes from.
    angle = np.radians(rng.uniform(3.0, 5.0))
    r = rng.uniform(70.0, 160.0)
    turned = min(rng.uniform(0.7, 1.3), 150.0 / r)
    knots = [(0.0, 0.0), (50.0, angle / 50.0 * 2.0), (52.0, 0.0), (80.0, 0.0), (100.0, 1.0 / r)]
    knots += [(100.0 + turned * r, 1.0 / r), (120.0 + turned * r, 0.0), (170.0 + turned * r, 0.0)]
    behind = from_curvature(knots, begin._replace(heading=begin.heading + np.pi))[::-1]
    slow = min(road.speed_limit, float(np.sqrt(3.0 * r)))
    ramp = plan.lane(behind, 3.75, slow)
    beside = plan.lane(alongside, width, road.speed_limit)
    taper_from = spot(alongside, float(distances(alongside)[-1]))
    taper_to = spot(offset(road.points, road.lane_offset(-1.0, lanes - 1)), _nearest(road, lanes, cuts[2]))
    taper = plan.lane(smooth(taper_from, taper_to), 3.2, road.speed_limit)
    last = plan.lanes[sections[3].right[-1]].points[0]
    plan.lanes[taper].points[-1] = last
    plan.follow(ramp, beside)
    plan.follow(beside, taper)
    plan.follow(taper, sections[3].right[-1])
    plan.lanes[beside].left = sections[1].right[-1]
    plan.lanes[taper].yields_to.append(sections[2].right[-1])
    _paint_ramp(plan, road, behind, alongside, plan.lanes[taper].points, cuts, surface)
    return [ramp, beside, taper]


def _nearest(road: Road, lanes: int, s: float) -> float:
    """Distance along the outer lane that corresponds to s m along the road."""
    return float(distances(offset(piece(road.points, 0.0, s), road.lane_offset(-1.0, lanes - 1)))[-1])


def _paint_ramp(
    plan: Plan, road: Road, behind: np.ndarray, alongside: np.ndarray, taper: np.ndarray, cuts: list[float],
    surface: Surface,
) -> None:  # fmt: skip
    width, shoulder = road.right.lane_width, road.right.shoulder
    plan.strip(Layer.ROAD, surface, joined(behind, alongside), -0.5 * width - 1.2, 0.5 * width + 0.6)
    plan.strip(Layer.PLOT, Surface.GRAVEL, behind, -0.5 * width - 2.4, 0.5 * width + 1.8)
    plan.strip(Layer.ROAD, surface, alongside, -0.5 * width - shoulder, 0.5 * width)
    plan.strip(Layer.ROAD, surface, taper, -0.5 * width - shoulder, 0.5 * width)
    plan.roads.append((behind, 0.5 * width + 1.0))
    markings.solid(plan, piece(behind, 0.0, distances(behind)[-1] - 70.0), 0.5 * width)
    markings.solid(plan, joined(behind, alongside), -0.5 * width - 0.1, markings.WIDE_LINE)
    markings.solid(plan, taper, -0.5 * width - 0.1, markings.WIDE_LINE)
    line = offset(piece(road.points, cuts[0], cuts[2]), -0.5 * road.median - road.right.driven)
    markings.dashed(plan, line, 0.0, 6.0, 6.0, 0.3)
    ahead = piece(alongside, distances(alongside)[-1] - 60.0, np.inf)
    for s in (5.0, 35.0):
        markings.arrow(plan, spot(ahead, s), ("left",))


def _mark(plan: Plan, road: Road, cuts: list[float]) -> None:
    """Lane lines of 6 m with 12 m between them, broad lines at the edges."""
    road.lines(plan, dash=(6.0, 12.0))
    inner, outer = 0.5 * road.median, 0.5 * road.median + road.right.driven
    markings.solid(plan, road.points, inner - 0.15, 0.15)
    markings.solid(plan, road.points, -inner + 0.15, 0.15)
    markings.solid(plan, road.points, outer + 0.15, markings.WIDE_LINE)
    ends = [0.0, cuts[0] - 12.0, cuts[2], road.length] if cuts else [0.0, road.length]
    for k, (a, b) in enumerate(pairwise(ends)):
        if k != 1:
            markings.solid(plan, piece(road.points, a, b), -outer - 0.15, markings.WIDE_LINE)


def _median(plan: Plan, road: Road) -> None:
    half = 0.5 * road.median - 0.6
    if half > 0.4:
        plan.strip(Layer.ISLAND, Surface.GRASS if road.median > 3.6 else Surface.GRAVEL, road.points, -half, half)


def _route(rng: np.random.Generator, sections: list[Section], ramp: list[int], from_ramp: bool) -> tuple[int, ...]:
    if from_ramp:
        return (*ramp, sections[-1].right[-1])
    # Mostly the right lane, where things join.
    index = -1 if rng.random() < 0.6 else int(rng.random() * len(sections[0].right))
    return tuple(section.right[index] for section in sections)


def _beside(plan: Plan, rng: np.random.Generator, road: Road, cuts: list[float]) -> None:
    """Barriers, gantries, signs, noise walls, and the land behind them."""
    middle = Edge(plan, rng, road.points, 0.0, 1.0)
    if rng.random() < 0.5:
        middle.row("guard_rail", 0.0, middle.length, 0.0, 0.5, 0.8, 12.0, ON_PAVEMENT)
    else:
        middle.row("wall", 0.0, middle.length, 0.0, 0.5, rng.uniform(0.8, 1.1), 12.0, ON_PAVEMENT)
    for k in range(int(middle.length / 300.0)):
        s = 120.0 + 300.0 * k + middle.uniform(-60.0, 60.0)
        if middle.chance(0.6):
            _gantry(plan, road, s, -1.0 if middle.chance(0.7) else 1.0)
    for sign in (-1.0, 1.0):
        edge = Edge(plan, rng, road.points, road.edge(sign), sign)
        stretches = [0.0, 0.33 * edge.length, 0.66 * edge.length, edge.length]
        for begin, end in pairwise(stretches):
            _side(edge, begin, end)
        for k in range(int(edge.length / 50.0)):
            edge.put("bollard", 20.0 + 50.0 * k, 0.5)
        for k in range(int(edge.length / 180.0)):
            edge.put("sign", 40.0 + 180.0 * k + edge.uniform(0.0, 120.0), 2.2, edge.to_traffic)
            if edge.chance(0.3):
                edge.put("billboard", 90.0 + 180.0 * k, 9.0, edge.to_traffic)
            if edge.chance(0.6):
                edge.put("lamp_post", 130.0 + 180.0 * k, 1.7, edge.to_road)
            if edge.chance(0.3):
                edge.put("cabinet", 60.0 + 180.0 * k, 2.6, edge.to_road)


def _gantry(plan: Plan, road: Road, s: float, sign: float) -> None:
    """A sign across one direction, on a post beyond the shoulder and one in the median."""
    reach = abs(road.edge(sign)) + 1.2
    at = spot(road.points, s).shifted(0.0, 0.5 * sign * reach)
    heading = at.heading + (np.pi if sign < 0 else 0.0)
    plan.stand("sign_gantry", at._replace(heading=heading), (0.8, round(reach, 1), 7.5), plan.next_seed())


def _side(edge: Edge, begin: float, end: float) -> None:
    kind = edge.rng.random()
    if kind < 0.3:
        edge.row("noise_wall", begin, end, 4.0, 0.3, edge.uniform(2.0, 5.0), 12.0)
        edge.row("guard_rail", begin, end, 0.9, 0.4, 0.75, 12.0)
    elif kind < 0.75:
        edge.row("guard_rail", begin, end, 0.9, 0.4, 0.75, 12.0)
    for _ in range(int((end - begin) / 5.0)):
        plant = edge.pick("bush", "ragged_vegetation", "tree", "bush", "conifer")
        edge.put(plant, edge.uniform(begin, end), edge.uniform(5.0, 16.0), edge.uniform(0.0, 6.0))
    far = Edge(edge.plan, edge.rng, edge.points, edge.sign * 8.0, edge.sign)
    surround(far, edge.pick("countryside", "countryside", "industrial"), begin, end)
