"""Intersections in town: four arms or three, with lights or priority, turning lanes, zebra crossings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from karp_perception.world.geometry.ground import Surface
from karp_perception.world.layout import Layout
from karp_perception.world.layouts import junction, markings
from karp_perception.world.layouts.curves import Spot, from_curvature, offset, piece, smooth, spot
from karp_perception.world.layouts.edge import Edge
from karp_perception.world.layouts.furniture import furnish, light
from karp_perception.world.layouts.junction import Arm, Movement
from karp_perception.world.layouts.parameters import Parameter
from karp_perception.world.layouts.plan import Layer, Plan
from karp_perception.world.layouts.road import Road, Side
from karp_perception.world.layouts.signals import signal
from karp_perception.world.layouts.site import LANE, WALK
from karp_perception.world.layouts.surroundings import mixed
from karp_perception.world.layouts.terrain import Relief

_POCKET = 42.0  # m, length of a lane for turning left, with its taper
_TURNS = ("left", "straight", "right")
_SURROUNDINGS = ("old_town", "suburb", "blocks", "industrial", "park")

PARAMETERS = {
    "arms": Parameter("how many roads meet", int, 3, 4),
    "lights": Parameter("traffic lights; otherwise signs give the first road priority", bool),
    "lanes": Parameter("in each direction of the first road", int, 1, 3),
    "lane_width": Parameter("m", float, 2.7, 3.75),
    "length": Parameter("of each arm, m", float, 80.0, 300.0),
    "turn": Parameter("which way the route goes", str, options=_TURNS),
    "from_minor": Parameter("the route comes from the road without priority", bool),
    "pocket": Parameter("a lane of its own for turning left", bool),
    "crossings": Parameter("zebra crossings or lights for people on every arm", bool),
    "square": Parameter("arms at right angles and straight", bool),
    "speed_limit": Parameter("m/s", float, 2.0, 25.0),
    "heading": Parameter("direction of the first road, rad", float, -np.pi, np.pi),
    "surroundings": Parameter("what lies around", str, options=_SURROUNDINGS),
}


def intersection(rng: np.random.Generator, family: str, seed: int, given: Mapping[str, Any]) -> Layout:
    """An intersection: arms 0 and 2 are the first road, arm 1 and, of four, arm 3 the second."""
    plan = Plan(family, seed)
    count = given.get("arms", 3 if rng.random() < 0.35 else 4)
    lit = given.get("lights", bool(rng.random() < 0.55))
    crossings = given.get("crossings", bool(rng.random() < 0.75))
    limit = given.get("speed_limit", float(rng.choice((30.0, 50.0, 50.0)) / 3.6))
    arms, radius = _arms(rng, given, count, limit)
    radii = [radius] * count
    reach = 34.0 + 2.0 * max(abs(a.road.border(s)) for a in arms for s in (-1.0, 1.0))
    junction.corners(arms, radii, reach)
    pavement = Surface.PAVEMENT if rng.random() < 0.8 else Surface.COBBLE
    junction.pave(plan, arms, radii, reach, pavement)
    width = rng.uniform(3.0, 4.2)
    for k, arm in enumerate(arms):
        arm.stop = arm.corner + (1.8 + width if crossings else 1.5)
        arm.road.pave(plan, pavement=pavement)
        _lanes(plan, arm, turns_left=count == 4 or k > 0)
    junction.ways_on_foot(plan, arms, radii, reach)
    movements = junction.connect(plan, arms, limit, radius)
    numbers = _control(plan, rng, arms, movements, lit)
    if crossings:
        for k, arm in enumerate(arms):
            _crossing(plan, arm, k, movements, width, numbers[k] if lit else None, lit)
    for k, arm in enumerate(arms):
        _mark(plan, arm, k, movements, lit, count)
        markings.wear(plan, rng, arm.road.points, 0.5 * (arm.road.edge(1.0) - arm.road.edge(-1.0)), 0.8)
        for sign in (-1.0, 1.0):
            arm.beyond(arm.stop + 12.0).park(plan, rng, sign, painted=False)
    _route(plan, rng, arms, movements, given)
    plan.lay_out()
    _furnish(plan, rng, arms, lit, given)
    return plan.finish(rng, Relief(swell=rng.uniform(0.1, 0.6), camber=rng.uniform(0.008, 0.02)))


def _arms(rng: np.random.Generator, given: Mapping[str, Any], count: int, limit: float) -> tuple[list[Arm], float]:
    """The arms and the radius of the corners, m."""
    heading = given.get("heading", rng.uniform(-np.pi, np.pi))
    square = given.get("square", bool(rng.random() < 0.35))
    lanes = given.get("lanes", int(rng.choice((1, 1, 2, 2, 3))))
    minor = min(lanes, int(rng.choice((1, 1, 2))))
    lane_width = given.get("lane_width", round(rng.uniform(2.9, 3.5), 2))
    pocket = given.get("pocket", bool(rng.random() < 0.45))
    bicycle = 1.85 if rng.random() < 0.3 else 0.0
    verge = rng.uniform(1.4, 2.6) if rng.random() < 0.3 else 0.0
    pavement = rng.uniform(2.2, 4.5)
    length = given.get("length", rng.uniform(155.0, 195.0))
    parking = "parallel" if rng.random() < 0.3 else ""
    angles = np.arange(4) * 0.5 * np.pi + (0.0 if square else rng.uniform(-0.18, 0.18, 4))
    bends = np.zeros(4) if square else rng.choice((0.0, 0.0, 1 / 160.0, -1 / 160.0, 1 / 90.0, -1 / 90.0), 4)
    arms = []
    for k in range(count):
        first = k % 2 == 0
        n = lanes if first else minor
        median = (lane_width + 1.0 if pocket else 0.0) if first else 0.0
        side = Side(n, lane_width, bicycle if first else 0.0, "" if first else parking, 0.25, verge, pavement)
        knots = [(0.0, 0.0), (75.0, 0.0), (95.0, float(bends[k])), (max(length, 100.0), float(bends[k]))]
        angle = float(heading + np.pi + angles[k])
        points = from_curvature(knots, Spot(0.0, 0.0, angle))
        arms.append(Arm(angle, Road(piece(points, 0.0, length), side, side, median, limit)))
    return arms, rng.uniform(6.0, 11.0)


def _lanes(plan: Plan, arm: Arm, turns_left: bool) -> None:
    """Lanes from the stop line out; of a road with a median, a lane for turning left takes its place."""
    outer = arm.beyond(arm.stop)
    length = min(_POCKET, 0.5 * outer.length) if arm.road.median and turns_left else 0.0
    sections = outer.add_lanes(plan, [length] if length else [])
    near = sections[0]
    arm.inward, arm.outward, arm.far = near.left, near.right, sections[-1].left
    arm.bicycle_in, arm.bicycle_out = near.left_bicycle, near.right_bicycle
    if arm.road.median:
        _island(plan, arm, arm.stop + length + 3.0)
    if length:
        _pocket(plan, arm, length)


def _pocket(plan: Plan, arm: Arm, length: float) -> None:
    """The lane for turning left: it leaves the innermost lane `length` m before the stop line."""
    width = arm.road.left.lane_width
    middle = 0.5 * arm.road.median - 0.5 * width - 0.1
    straight = offset(piece(arm.road.points, arm.stop, arm.stop + length - 18.0), middle)[::-1]
    d = straight[1] - straight[0]
    side = Spot(float(straight[0, 0]), float(straight[0, 1]), float(np.arctan2(d[1], d[0])))
    entry = smooth(plan.lanes[arm.far[0]].end(), side)
    arm.pocket = plan.lane(np.concatenate([entry, straight[1:]]), width, arm.road.speed_limit)
    plan.follow(arm.far[0], arm.pocket)


def _island(plan: Plan, arm: Arm, begin: float) -> None:
    """A planted island in the middle of an arm from `begin` m on."""
    island = piece(arm.road.points, begin, np.inf)
    half = 0.5 * arm.road.median - 0.25
    plan.strip(Layer.ISLAND, Surface.KERB, island, -half, half)
    plan.strip(Layer.ISLAND, Surface.GRASS, piece(island, 0.3, np.inf), -half + 0.16, half - 0.16)


def _control(
    plan: Plan, rng: np.random.Generator, arms: Sequence[Arm], movements: Sequence[Movement], lit: bool
) -> list[int]:
    """Lights or priority. Returns the numbers of the lights for people on each arm."""
    order = {"straight": 0, "right": 1, "left": 2}
    if not lit:
        rank = [order[m.way] - m.bicycles + 3 * (m.origin % 2) for m in movements]
        junction.give_way(plan, movements, rank, np.ones((len(arms), len(arms)), bool))
        return []
    stages = [rng.uniform(14.0, 26.0), rng.uniform(10.0, 20.0)]
    protected = any(arm.pocket for arm in arms)
    if protected:
        stages.append(rng.uniform(6.0, 10.0))
    offset_s = rng.uniform(0.0, 60.0)
    on_foot = []
    for k, arm in enumerate(arms):
        number = len(plan.signals) + 1
        plan.signals[number] = signal(number, stages, k % 2, offset_s)
        for lane in (*arm.inward, arm.bicycle_in):
            if lane is not None:
                plan.lanes[lane].signal = number
        if arm.pocket:
            number = len(plan.signals) + 1
            plan.signals[number] = signal(number, stages, 2, offset_s)
            plan.lanes[arm.pocket].signal = number
        number = len(plan.signals) + 1
        plan.signals[number] = signal(number, stages, 1 - k % 2, offset_s, on_foot=True)
        on_foot.append(number)
    arm_of = np.arange(len(arms)) % 2
    rank = [order[m.way] - m.bicycles for m in movements]
    together = arm_of[:, None] == arm_of[None, :]
    apart = [m for m in movements if arms[m.origin].pocket == m.source]
    rest = [m for m in movements if arms[m.origin].pocket != m.source]
    junction.give_way(plan, rest, [rank[movements.index(m)] for m in rest], together)
    junction.give_way(plan, apart, [0] * len(apart), together)
    return on_foot


def _crossing(
    plan: Plan, arm: Arm, index: int, movements: Sequence[Movement], width: float, number: int | None, lit: bool
) -> None:
    """A crossing over an arm, between its corners and its stop line."""
    at = spot(arm.road.points, arm.stop - 1.0 - 0.5 * width)
    start, end = at.shifted(0.0, arm.road.edge(-1.0)), at.shifted(0.0, arm.road.edge(1.0))
    crossing = plan.crossing(np.array(start[:2]), np.array(end[:2]), width, number, priority=not lit)
    markings.zebra(plan, np.array(start[:2]), np.array(end[:2]), width, stripes=not lit)
    for lane in (*arm.inward, arm.pocket, arm.bicycle_in):
        if lane is not None:
            plan.lanes[lane].crossings.append((crossing, _length(plan.lanes[lane].points)))
    for movement in movements:
        if movement.goal == index:
            lane = plan.lanes[movement.lane]
            # It ends where its arm's lanes begin, 1 m behind the crossing; one stops 1 m before it.
            lane.crossings.append((crossing, max(_length(lane.points) - width - 2.0, 0.0)))


def _length(points: np.ndarray) -> float:
    return float(np.hypot(*np.diff(points, axis=0).T).sum())


def _mark(plan: Plan, arm: Arm, index: int, movements: Sequence[Movement], lit: bool, count: int) -> None:
    """Lines, stop lines and arrows of an arm."""
    outer = arm.beyond(arm.stop)
    outer.lines(plan, 0.0 if outer.length < 30.0 else 22.0)
    near = piece(outer.points, 0.0, 22.0)
    width = arm.road.left.lane_width
    for k in range(1, arm.road.left.lanes):  # nobody changes lanes close to the stop line
        markings.solid(plan, near, 0.5 * arm.road.median + k * width)
    for k in range(1, arm.road.right.lanes):
        markings.dashed(plan, near, -0.5 * arm.road.median - k * width, 3.0, 6.0)
    if arm.road.median:
        markings.solid(plan, piece(outer.points, 0.0, 24.0), 0.5 * arm.road.median)
        markings.solid(plan, piece(outer.points, 0.0, 42.0), -0.5 * arm.road.median + 0.1)
    else:
        markings.solid(plan, near, 0.0)
    at = arm.inward_at(arm.stop)
    inner = -0.5 * arm.road.median if not arm.pocket else 0.5 * arm.road.median - 0.2
    outermost = -(0.5 * arm.road.median + arm.road.left.driven + arm.road.left.bicycle)
    minor = index % 2 == 1
    if lit or (minor and plan.seed % 2):
        markings.across(plan, at, outermost, inner)
    elif minor:
        markings.teeth(plan, at, outermost, inner)
    for lane in (*arm.inward, *([arm.pocket] if arm.pocket else [])):
        ways = [m.way for m in movements if m.source == lane and not m.bicycles]
        if len(arm.inward) > 1 or arm.pocket:
            markings.arrow(plan, plan.lanes[lane].end().shifted(-9.0, 0.0), ways)


def _route(
    plan: Plan, rng: np.random.Generator, arms: Sequence[Arm], movements: Sequence[Movement], given: Mapping[str, Any]
) -> None:
    minor = given.get("from_minor", bool(rng.random() < 0.4))
    way = given.get("turn", _TURNS[int(rng.random() * 3.0)])
    cars = [m for m in movements if not m.bicycles]
    fitting = [m for m in cars if m.way == way and m.origin % 2 == int(minor)]
    fitting = fitting or [m for m in cars if m.way == way] or cars
    chosen = fitting[int(rng.random() * len(fitting))]
    before = [n for n in arms[chosen.origin].far if chosen.source in plan.lanes[n].successors]
    after, last = [chosen.target], chosen.target
    while plan.lanes[last].successors:
        last = plan.lanes[last].successors[0]
        after.append(last)
    plan.route = (*before[:1], chosen.source, chosen.lane, *after)


def _furnish(plan: Plan, rng: np.random.Generator, arms: Sequence[Arm], lit: bool, given: Mapping[str, Any]) -> None:
    """Lights, signs, and what stands along the arms."""
    for k, arm in enumerate(arms):
        at, road = arm.inward_at(arm.stop), arm.road
        beside = road.edge(1.0) + 0.55
        if lit:
            number = plan.lanes[arm.inward[0]].signal
            light(plan, at, -beside, number)
            if arm.pocket:
                light(plan, at, 0.5 * road.median - 0.45, plan.lanes[arm.pocket].signal)
            elif rng.random() < 0.5:  # a second one across the road
                light(plan, at, 0.55 - road.edge(-1.0), number)
        else:
            sign = at.shifted(-1.0 - 3.0 * (k % 2 == 0), -beside)
            plan.place("sign", sign._replace(heading=sign.heading + np.pi), forbidden=LANE | WALK)
    main = given.get("surroundings", _SURROUNDINGS[int(rng.random() * 5.0)])
    for arm in arms:
        beyond = arm.beyond(arm.corner + 1.0)
        for sign in (-1.0, 1.0):
            furnish(plan, rng, beyond, sign)
            front = arm.beyond(max(arm.corner - 6.0, 0.0))
            other = main if "surroundings" in given else _SURROUNDINGS[int(rng.random() * 5.0)]
            mixed(Edge(plan, rng, front.points, arm.road.border(sign), sign), (main, other))
