"""Roads in the country: bends, slopes and crests, no pavement; ditches, trees, guard rails, posts along them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from karp_perception.world.geometry.ground import Surface
from karp_perception.world.layout import Layout
from karp_perception.world.layouts import markings
from karp_perception.world.layouts.curves import Spot, distances, from_curvature
from karp_perception.world.layouts.edge import Edge
from karp_perception.world.layouts.junction import bend_limit
from karp_perception.world.layouts.parameters import Parameter
from karp_perception.world.layouts.plan import Layer, Plan
from karp_perception.world.layouts.road import Road, Side
from karp_perception.world.layouts.surroundings import mixed
from karp_perception.world.layouts.terrain import Relief

PARAMETERS = {
    "length": Parameter("m", float, 150.0, 1500.0),
    "lane_width": Parameter("m", float, 2.5, 3.75),
    "radius": Parameter("of the sharpest bend, m", float, 30.0, 2000.0),
    "slope": Parameter("steepest, m per m", float, 0.0, 0.08),
    "guard_rails": Parameter("on the outside of bends", bool),
    "speed_limit": Parameter("m/s", float, 2.0, 30.0),
    "heading": Parameter("direction in which the route begins, rad", float, -np.pi, np.pi),
}
_CREST = 1100.0  # m, radius of crests and hollows at least: a road for 70 km/h


def rural(rng: np.random.Generator, family: str, seed: int, given: Mapping[str, Any]) -> Layout:
    """A road in the country."""
    plan = Plan(family, seed)
    length = given.get("length", rng.uniform(420.0, 620.0))
    radius = given.get("radius", float(np.exp(rng.uniform(np.log(45.0), np.log(350.0)))))
    heading = given.get("heading", rng.uniform(-np.pi, np.pi))
    points = _bends(rng, length, radius, heading)
    width = given.get("lane_width", round(rng.uniform(2.7, 3.4), 2))
    limit = given.get("speed_limit", float(rng.choice((60.0, 70.0, 80.0, 100.0)) / 3.6))
    limit = bend_limit(points, limit)
    side = Side(1, width, shoulder=rng.uniform(0.2, 0.5))
    road = Road(points, side, side, 0.0, limit)
    road.pave(plan)
    soft = rng.uniform(0.5, 1.2)
    for sign in (-1.0, 1.0):
        edge = road.edge(sign)
        near, far = sorted((edge, edge + sign * soft))
        plan.strip(Layer.PLOT, Surface.GRAVEL if rng.random() < 0.6 else Surface.SOIL, points, near, far)
    ditch = rng.uniform(0.25, 0.7) if rng.random() < 0.6 else 0.0
    half = road.edge(1.0)
    if ditch:
        for sign in (-1.0, 1.0):
            near, far = sorted((sign * (half + 1.8), sign * (half + 3.0)))
            plan.strip(Layer.PLOT, Surface.SOIL, points, near, far)
    section = road.add_lanes(plan)[0]
    plan.route = (section.right[0],)
    markings.dashed(plan, points, 0.0, 4.0, 8.0)
    if rng.random() < 0.8:
        road.edge_lines(plan)
    markings.wear(plan, rng, points, half, 0.6)
    markings.old_stretches(plan, rng, points, half)
    plan.lay_out()
    rails = given.get("guard_rails", bool(rng.random() < 0.6))
    _beside(plan, rng, road, rails, bool(ditch))
    relief = Relief(
        swell=rng.uniform(0.4, 1.2), bumps=rng.uniform(0.15, 0.3), camber=0.025, bank=rng.uniform(-0.06, 0.08),
        ditch=ditch,
    )  # fmt: skip
    return plan.finish(rng, relief, _slopes(rng, points, given.get("slope", rng.uniform(0.01, 0.08))))


def _bends(rng: np.random.Generator, length: float, radius: float, heading: float) -> np.ndarray:
    """Bends to either side with straights between them; none turns by more than about 75 degrees."""
    knots, s = [(0.0, 0.0), (rng.uniform(30.0, 70.0), 0.0)], 0.0
    sign = 1.0 if rng.random() < 0.5 else -1.0
    first = True
    while True:
        s = knots[-1][0]
        r = radius * (1.0 if first else float(np.exp(rng.uniform(0.0, 1.2))))
        first = False
        clothoid = max(0.3 * r, 15.0)
        bow = min(rng.uniform(0.4, 1.2) * r, 160.0)
        if s + 2.0 * clothoid + bow > length:
            break
        knots += [(s + clothoid, sign / r), (s + clothoid + bow, sign / r), (s + 2.0 * clothoid + bow, 0.0)]
        knots.append((knots[-1][0] + rng.uniform(10.0, 60.0), 0.0))
        sign = -sign
    if len(knots) == 2:  # too short for the whole bend: as much of it as there is room for
        knots += [(0.5 * (s + length), sign / radius), (length - 2.0, sign / radius)]
    knots = [k for k in knots if k[0] < length - 1.0]
    knots.append((length, knots[-1][1]))
    return from_curvature(knots, Spot(0.0, 0.0, heading))


def _slopes(rng: np.random.Generator, points: np.ndarray, steepest: float) -> np.ndarray:
    """Heights (N,) m along the road: slopes up to `steepest`, rounded at crests and in hollows."""
    s = distances(points)
    if steepest < 1e-4:
        return np.zeros(len(s))
    step = 2.0 * steepest * _CREST * 0.5  # m from the steepest way up to the steepest way down is at least twice that
    at, slope, sign = [0.0], [0.0], 1.0 if rng.random() < 0.5 else -1.0
    while at[-1] < s[-1]:
        change = max(step, 25.0)
        at += [at[-1] + change * rng.uniform(1.0, 1.5), at[-1] + change * 1.5 + rng.uniform(5.0, 90.0)]
        steep = sign * steepest * rng.uniform(0.6, 1.0)
        slope += [steep, steep]
        sign = -sign
    grade = np.interp(s, at, slope)
    grade *= steepest / max(float(np.abs(grade).max()), 1e-9)
    return np.concatenate([[0.0], np.cumsum(0.5 * (grade[1:] + grade[:-1]) * np.diff(s))])


def _beside(plan: Plan, rng: np.random.Generator, road: Road, rails: bool, ditch: bool) -> None:
    angle = np.unwrap(np.arctan2(*np.diff(road.points, axis=0).T[::-1]))
    s = distances(road.points)
    bend = np.interp(s, s[:-1] + 0.5, np.gradient(angle, s[:-1]))
    for sign in (-1.0, 1.0):
        edge = Edge(plan, rng, road.points, road.edge(sign), sign)
        scale = edge.length / s[-1]
        outside = (-sign * bend) > 1.0 / 260.0
        if rails:
            for begin, end in _stretches(outside, s):
                edge.row(
                    "guard_rail", max(begin - 12.0, 0.0) * scale, min(end + 12.0, s[-1]) * scale, 0.9, 0.3, 0.75, 8.0
                )
        for k in range(int(edge.length / 25.0)):  # delineators
            edge.put("bollard", 12.0 + 25.0 * k, 0.75)
        _warnings(edge, bend, s, sign)
        if edge.chance(0.5):  # a line of telegraph poles
            out, step = edge.uniform(4.5, 9.0), edge.uniform(35.0, 50.0)
            for k in range(int(edge.length / step) + 1):
                edge.put("pole", 3.0 + step * k, out)
        far = Edge(plan, rng, road.points, road.edge(sign) + sign * (3.3 if ditch else 1.6), sign)
        mixed(far, ("countryside", "countryside", "countryside", "suburb", "park"))


def _stretches(mask: np.ndarray, s: np.ndarray) -> list[tuple[float, float]]:
    """Where a mask along a curve is true, (begin, end) m."""
    change = np.flatnonzero(np.diff(np.concatenate([[0], mask.astype(int), [0]])))
    return [(float(s[a]), float(s[b - 1])) for a, b in change.reshape(-1, 2) if s[b - 1] - s[a] > 8.0]


def _warnings(edge: Edge, bend: np.ndarray, s: np.ndarray, sign: float) -> None:
    """Chevrons outside sharp bends, a sign before them."""
    for begin, end in _stretches((-sign * bend) > 1.0 / 140.0, s):
        for at in np.arange(begin, end, 14.0):
            edge.put("sign", float(at), 1.9, edge.to_traffic)
    for k in range(int(edge.length / 160.0)):
        edge.put("sign", 30.0 + 160.0 * k + edge.uniform(0.0, 90.0), 1.7, edge.to_traffic)
