"""Streets in town: straight ones and curved ones, of one to three lanes in each direction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from karp_perception.world.geometry.ground import Surface
from karp_perception.world.layout import Layout
from karp_perception.world.layouts import markings
from karp_perception.world.layouts.curves import Spot, from_curvature, line, piece, spot
from karp_perception.world.layouts.edge import Edge
from karp_perception.world.layouts.furniture import furnish
from karp_perception.world.layouts.parameters import Parameter
from karp_perception.world.layouts.plan import Layer, Plan
from karp_perception.world.layouts.road import Road, Section, Side
from karp_perception.world.layouts.site import LANE, WALK
from karp_perception.world.layouts.surroundings import mixed
from karp_perception.world.layouts.terrain import Relief

_PARKED = ("none", "right", "both")
_SURROUNDINGS = ("old_town", "suburb", "blocks", "industrial", "park", "countryside")
_STOP_BEFORE = 1.2  # m from where one stops to a crossing

_COMMON = {
    "lanes": Parameter("lanes in each direction", int, 1, 3),
    "lane_width": Parameter("m", float, 2.6, 4.0),
    "length": Parameter("of the street, m", float, 120.0, 900.0),
    "parked": Parameter("rows of parking spaces along the kerb", str, options=_PARKED),
    "speed_limit": Parameter("m/s", float, 2.0, 40.0),
    "median": Parameter("between the two directions, m", float, 0.0, 12.0),
    "bicycle": Parameter("bicycle lanes", bool),
    "crossing": Parameter("zebra crossings on the way", bool),
    "oneway": Parameter("no lanes against the route", bool),
    "heading": Parameter("direction in which the route begins, rad", float, -np.pi, np.pi),
    "surroundings": Parameter("what lies beside the street", str, options=_SURROUNDINGS),
    "bare": Parameter("a plain test track on level ground, nothing beside it", bool),
}
STRAIGHT = dict(_COMMON)
CURVE = {
    **_COMMON,
    "radius": Parameter("of the sharpest bend, m", float, 25.0, 1000.0),
    "s_bend": Parameter("a second bend the other way follows", bool),
    "left": Parameter("the first bend goes to the left", bool),
}


@dataclass(frozen=True)
class _Street:
    """What both kinds of street draw."""

    road: Road
    crossings: bool
    surroundings: str
    bare: bool


def straight(rng: np.random.Generator, family: str, seed: int, given: Mapping[str, Any]) -> Layout:
    """A straight street."""
    heading = given.get("heading", 0.0 if given.get("bare") else rng.uniform(-np.pi, np.pi))
    length = given.get("length", rng.uniform(320.0, 440.0))
    return _street(Plan(family, seed), rng, line(Spot(0.0, 0.0, heading), length), given)


def curve(rng: np.random.Generator, family: str, seed: int, given: Mapping[str, Any]) -> Layout:
    """A street of bends: straight pieces, clothoids and arcs; an S where `s_bend`."""
    heading = given.get("heading", 0.0 if given.get("bare") else rng.uniform(-np.pi, np.pi))
    radius = given.get("radius", float(np.exp(rng.uniform(np.log(40.0), np.log(320.0)))))
    s_bend = given.get("s_bend", bool(rng.random() < 0.5))
    side = 1.0 if given.get("left", bool(rng.random() < 0.5)) else -1.0
    total = given.get("length", rng.uniform(330.0, 430.0))
    lead = rng.uniform(0.12, 0.28) * total
    knots, s = [(0.0, 0.0), (lead, 0.0)], lead
    for turn in (side, -side) if s_bend else (side,):
        room = (total - lead) * (0.42 if s_bend else 0.75)
        clothoid = min(max(0.25 * radius, 12.0), 0.3 * room)
        # A bend turns by at most 100 degrees, so that the street never meets itself.
        bow = min(room - 2.0 * clothoid, max(1.75 * radius - clothoid, 2.0)) * rng.uniform(0.6, 1.0)
        knots += [(s + clothoid, turn / radius), (s + clothoid + bow, turn / radius), (s + 2.0 * clothoid + bow, 0.0)]
        s = knots[-1][0]
        if s_bend:
            gap = rng.uniform(0.0, 0.06 * total)
            knots.append((s + gap + 0.01, 0.0))
            s = knots[-1][0]
    knots.append((max(total, s + 5.0), 0.0))
    return _street(Plan(family, seed), rng, from_curvature(knots, Spot(0.0, 0.0, heading)), given, radius)


def _drawn(rng: np.random.Generator, points: np.ndarray, given: Mapping[str, Any], radius: float) -> _Street:
    """The street's cross-section. Everything is drawn, given or not, so that a given value changes nothing else."""
    bare = given.get("bare", False)
    lanes = given.get("lanes", int(rng.choice((1, 1, 2, 2, 3)) if radius > 60.0 else rng.choice((1, 1, 2))))
    lane_width = given.get("lane_width", round(rng.uniform(2.8, 3.6), 2))
    surroundings = given.get("surroundings", _SURROUNDINGS[int(rng.random() * 5.0)])
    median = rng.choice((0.0, 0.0, 1.6, 3.0, 5.0)) if lanes > 1 else 0.0
    parked = _PARKED[int(rng.random() * 3.0)]
    bicycle = rng.random() < 0.3
    verge = rng.uniform(1.4, 3.0) if rng.random() < 0.35 else 0.0
    pavement = rng.uniform(2.4, 5.0) if surroundings == "old_town" else rng.uniform(1.8, 3.6)
    limit = given.get("speed_limit", float(rng.choice((30.0, 50.0, 50.0, 60.0)) / 3.6))
    oneway = given.get("oneway", bool(lanes > 1 and rng.random() < 0.08))
    crossings = given.get("crossing", bool(rng.random() < 0.6)) and not bare
    if bare:
        parked, bicycle, verge, pavement, median = "none", False, 0.0, 0.0, 0.0
    parked, bicycle, median = given.get("parked", parked), given.get("bicycle", bicycle), given.get("median", median)
    kind = "parallel" if rng.random() < 0.8 else ("perpendicular", "angled")[int(rng.random() * 2.0)]
    row = {side: kind if parked == "both" or parked == side else "" for side in ("right", "left")}
    strip = (1.6 if row["right"] else 1.85) if bicycle else 0.0
    right = Side(lanes, lane_width, strip, row["right"], 0.2, verge, pavement)
    left = Side(0 if oneway else lanes, lane_width, 0.0 if oneway else strip, row["left"], 0.2, verge, pavement)
    return _Street(Road(points, right, left, 0.0 if oneway else median, limit), crossings, surroundings, bare)


def _street(
    plan: Plan, rng: np.random.Generator, points: np.ndarray, given: Mapping[str, Any], radius: float = np.inf
) -> Layout:
    street = _drawn(rng, points, given, radius)
    road, bare = street.road, street.bare
    if bare:
        plan.base = Surface.ASPHALT
    road.pave(plan, pavement=Surface.PAVEMENT if rng.random() < 0.8 else Surface.COBBLE)
    section = road.add_lanes(plan)[0]
    lane = section.right[int(rng.random() * len(section.right))]
    plan.route = (lane,)
    road.ways_on_foot(plan)
    at = _crossings(plan, rng, road, section) if street.crossings else []
    if road.median and road.left.lanes:
        _median(plan, road, at)
    free = [(s - 9.0, s + 9.0) for s in at]
    for sign in (-1.0, 1.0):
        road.park(plan, rng, sign, free, painted=rng.random() < 0.6)
    for a, b in pairwise([0.0, *(x for s in at for x in (s - 3.6, s + 3.6)), road.length]):
        if b - a > 8.0:
            road.lines(plan, a, b)
    if bare:
        road.edge_lines(plan)
        plan.lay_out(30.0)
        return plan.finish(rng, Relief(0.0, 0.0, 0.0, 0.0))
    half = 0.5 * (road.edge(1.0) - road.edge(-1.0))
    markings.wear(plan, rng, road.points, half)
    markings.old_stretches(plan, rng, road.points, half)
    plan.lay_out()
    for s in at:
        _crossing_signs(plan, road, s)
    if road.median >= 1.5 and road.left.lanes:
        _plant_median(plan, rng, road, at)
    for sign in (-1.0, 1.0):
        furnish(plan, rng, road, sign)
        other = street.surroundings if "surroundings" in given else _SURROUNDINGS[int(rng.random() * 6.0)]
        mixed(Edge(plan, rng, road.points, road.border(sign), sign), (street.surroundings, other))
    return plan.finish(rng, Relief(swell=rng.uniform(0.1, 0.6), camber=rng.uniform(0.01, 0.025)))


def _crossings(plan: Plan, rng: np.random.Generator, road: Road, section: Section) -> list[float]:
    """Zebra crossings; where they are, m along the road."""
    count = 1 if road.length < 250.0 or rng.random() < 0.5 else 2
    found = []
    for k in range(count):
        s = road.length * (k + rng.uniform(0.35, 0.65)) / count
        if s < 40.0 or s > road.length - 30.0:
            continue
        width = rng.uniform(3.0, 4.5)
        mid_block(plan, road, section, s, width)
        found.append(s)
    return found


def mid_block(plan: Plan, road: Road, section: Section, s: float, width: float, priority: bool = True) -> int:
    """A crossing at s m along a road of one section; its number."""
    at = spot(road.points, s)
    start, end = at.shifted(0.0, road.edge(-1.0)), at.shifted(0.0, road.edge(1.0))
    number = plan.crossing(np.array(start[:2]), np.array(end[:2]), width, priority=priority)
    lanes = [*section.right, *section.left, section.right_bicycle, section.left_bicycle]
    for lane in lanes:
        if lane is None:
            continue
        draft = plan.lanes[lane]
        steps = np.hypot(*(draft.points - np.array(at[:2])).T)
        nearest = int(np.argmin(steps))
        along = float(np.hypot(*np.diff(draft.points[: nearest + 1], axis=0).T).sum())
        heading = np.arctan2(*(draft.points[nearest] - draft.points[nearest - 1])[::-1])
        along += float((np.array(at[:2]) - draft.points[nearest]) @ (np.cos(heading), np.sin(heading)))
        draft.crossings.append((number, along - 0.5 * width - _STOP_BEFORE))
    if priority:
        markings.zebra(plan, np.array(start[:2]), np.array(end[:2]), width)
    return number


def _crossing_signs(plan: Plan, road: Road, s: float) -> None:
    for sign, ahead in ((-1.0, -3.2), (1.0, 3.2)):
        at = spot(road.points, s + ahead).shifted(0.0, road.edge(sign) + sign * 0.55)
        plan.place("sign", at._replace(heading=at.heading + (np.pi if sign < 0 else 0.0)), forbidden=LANE | WALK)


def _median(plan: Plan, road: Road, at: list[float]) -> None:
    """An island along the middle, cut at the crossings."""
    half = 0.5 * road.median - 0.3
    if half < 0.3:
        return
    points = road.points
    for a, b in pairwise([3.0, *(x for s in at for x in (s - 3.0, s + 3.0)), road.length - 3.0]):
        if any(abs(0.5 * (a + b) - s) < 1.0 for s in at) or b - a < 6.0:
            continue
        part = piece(points, a, b)
        plan.strip(Layer.ISLAND, Surface.KERB, part, -half, half)
        inside = Surface.GRASS if road.median >= 2.4 else Surface.PAVEMENT
        plan.strip(Layer.ISLAND, inside, piece(points, a + 0.2, b - 0.2), -half + 0.16, half - 0.16)


def _plant_median(plan: Plan, rng: np.random.Generator, road: Road, at: list[float]) -> None:
    edge = Edge(plan, rng, road.points, 0.0, 1.0)
    step = edge.uniform(9.0, 30.0)
    things = ("tree", "lamp_post", "young_tree", "bush") if road.median >= 2.4 else ("lamp_post", "sign", "bollard")
    kind = edge.pick(*things)
    for k in range(1, int(road.length / step)):
        if all(abs(k * step - s) > 6.0 for s in at):
            edge.put(kind, k * step, 0.0, forbidden=LANE | WALK)
