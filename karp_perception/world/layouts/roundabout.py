"""Roundabouts: one lane around an island, three to five arms that give way to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from karp_perception.world.geometry.ground import Surface
from karp_perception.world.layout import Layout
from karp_perception.world.layouts import junction, markings
from karp_perception.world.layouts.curves import Spot, arc, from_curvature, offset, piece, spot, turn
from karp_perception.world.layouts.edge import Edge
from karp_perception.world.layouts.furniture import furnish
from karp_perception.world.layouts.junction import Arm
from karp_perception.world.layouts.parameters import Parameter
from karp_perception.world.layouts.plan import Layer, Plan, ribbon
from karp_perception.world.layouts.road import Road, Side
from karp_perception.world.layouts.site import LANE, TAKEN, WALK
from karp_perception.world.layouts.surroundings import mixed
from karp_perception.world.layouts.terrain import Relief

_SURROUNDINGS = ("old_town", "suburb", "blocks", "industrial", "park", "countryside")

PARAMETERS = {
    "arms": Parameter("how many roads meet", int, 3, 5),
    "radius": Parameter("of the middle of the lane around the island, m", float, 12.0, 30.0),
    "exit": Parameter("which exit the route takes, the first being the next on the right", int, 1, 4),
    "crossings": Parameter("zebra crossings on every arm", bool),
    "length": Parameter("of each arm, m", float, 80.0, 300.0),
    "speed_limit": Parameter("of the arms, m/s", float, 2.0, 25.0),
    "heading": Parameter("direction of the first arm, rad", float, -np.pi, np.pi),
    "surroundings": Parameter("what lies around", str, options=_SURROUNDINGS),
}


def roundabout(rng: np.random.Generator, family: str, seed: int, given: Mapping[str, Any]) -> Layout:
    """A roundabout; traffic on it goes first, counterclockwise."""
    plan = Plan(family, seed)
    count = given.get("arms", int(rng.choice((3, 4, 4, 4, 5))))
    radius = max(given.get("radius", rng.uniform(13.0, 21.0)), {3: 12.0, 4: 12.0, 5: 16.0}[count])
    crossings = given.get("crossings", bool(rng.random() < 0.6))
    limit = given.get("speed_limit", float(rng.choice((30.0, 50.0, 50.0)) / 3.6))
    arms = _arms(rng, given, count, limit)
    half = rng.uniform(2.6, 3.2)  # m, half the width of the lane around
    pavement = Surface.PAVEMENT if rng.random() < 0.8 else Surface.COBBLE
    stop = radius + half + 2.0
    for arm in arms:
        arm.stop, arm.corner = stop, stop + 4.0
        arm.road.pave(plan, pavement=pavement)
        section = arm.beyond(stop).add_lanes(plan)[0]
        arm.inward, arm.outward, arm.far = section.left, section.right, section.left
    entries, exits, ring = _ring(plan, arms, radius)
    side = arms[0].road.right
    _pave(plan, rng, arms, [*entries, *exits], radius, half, side, pavement)
    _walk(plan, arms, radius + half)
    width = rng.uniform(3.0, 4.0)
    for arm in arms:
        if crossings:
            _crossing(plan, arm, width)
        _mark(plan, arm, stop)
        markings.wear(plan, rng, arm.road.points[20:], 0.5 * (arm.road.edge(1.0) - arm.road.edge(-1.0)), 0.7)
    origin = int(rng.random() * count)
    ahead = min(given.get("exit", 1 + int(rng.random() * (count - 1))), count - 1)
    goal = (origin + ahead) % count
    around = [n for k in range(ahead) for n in (ring[(origin + k) % count][1], ring[(origin + k + 1) % count][0])][
        : 2 * ahead - 1
    ]
    plan.route = (arms[origin].inward[0], entries[origin], *around, exits[goal], arms[goal].outward[0])
    plan.lay_out()
    _furnish(plan, rng, arms, radius - half, radius + half, given)
    return plan.finish(rng, Relief(swell=rng.uniform(0.1, 0.6), camber=0.012))


def _arms(rng: np.random.Generator, given: Mapping[str, Any], count: int, limit: float) -> list[Arm]:
    heading = given.get("heading", rng.uniform(-np.pi, np.pi))
    length = given.get("length", rng.uniform(130.0, 175.0))
    lane_width = round(rng.uniform(2.9, 3.5), 2)
    verge = rng.uniform(1.4, 2.6) if rng.random() < 0.4 else 0.0
    side = Side(1, lane_width, 0.0, "", 0.25, verge, rng.uniform(2.0, 3.6))
    median = rng.uniform(1.6, 3.0)
    angles = heading + np.pi + np.arange(count) * (2.0 * np.pi / count) + rng.uniform(-0.1, 0.1, count)
    bends = rng.choice((0.0, 0.0, 1 / 120.0, -1 / 120.0, 1 / 200.0, -1 / 200.0), count)
    if count == 5:
        bends *= 0.0
    arms = []
    for angle, bend in zip(angles.tolist(), bends.tolist(), strict=True):
        knots = [(0.0, 0.0), (60.0, 0.0), (80.0, bend), (max(length, 90.0), bend)]
        points = piece(from_curvature(knots, Spot(0.0, 0.0, angle)), 0.0, length)
        arms.append(Arm(angle, Road(points, side, side, median, limit)))
    return arms


def _ring(plan: Plan, arms: list[Arm], radius: float) -> tuple[list[int], list[int], list[tuple[int, int]]]:
    """Entries, exits, and for each arm the lane past it and the lane from its entry to the next arm's exit."""
    width, count = 4.0, len(arms)
    spread = np.radians({3: 38.0, 4: 33.0, 5: 27.0}[count])
    slow = float(np.sqrt(2.2 * radius))
    past, on = [], []
    for k, arm in enumerate(arms):
        following = arms[(k + 1) % count].angle + (2.0 * np.pi if k == count - 1 else 0.0)
        past.append(plan.lane(arc((0.0, 0.0), radius, arm.angle - spread, arm.angle + spread, 0.3), width, slow, 0.5))
        on.append(plan.lane(arc((0.0, 0.0), radius, arm.angle + spread, following - spread, 0.3), width, slow, 0.5))
    entries, exits = [], []
    for k, arm in enumerate(arms):
        before = (k - 1) % count
        join, leave = _tangent(radius, arm.angle + spread), _tangent(radius, arm.angle - spread)
        into = turn(plan.lanes[arm.inward[0]].end(), join)
        out = turn(leave, plan.lanes[arm.outward[0]].begin())
        entries.append(plan.lane(into, 3.6, junction.bend_limit(into, slow), 0.4))
        exits.append(plan.lane(out, 3.6, junction.bend_limit(out, slow), 0.4))
        plan.follow(arm.inward[0], entries[k])
        plan.follow(entries[k], on[k])
        plan.follow(on[before], past[k], exits[k])
        plan.follow(past[k], on[k])
        plan.follow(exits[k], arm.outward[0])
        plan.lanes[entries[k]].yields_to.append(past[k])
    return entries, exits, list(zip(past, on, strict=True))


def _tangent(radius: float, angle: float) -> Spot:
    return Spot(float(radius * np.cos(angle)), float(radius * np.sin(angle)), angle + 0.5 * np.pi)


def _pave(
    plan: Plan, rng: np.random.Generator, arms: list[Arm], turns: list[int], radius: float, half: float, side: Side,
    pavement: Surface,
) -> None:  # fmt: skip
    """Asphalt around the island and along the turns, kerbs and pavements around that, the islands."""
    outer = side.kerb + side.verge + side.pavement
    for layer, surface, more in (
        (Layer.PAVEMENT, pavement, outer),
        (Layer.KERB, Surface.KERB, side.kerb),
        (Layer.ROAD, Surface.ASPHALT, 0.0),
    ):
        plan.patch(layer, surface, markings.disc(0.0, 0.0, radius + half + more, 72))
        if layer == Layer.PAVEMENT:
            continue
        for number in turns:
            # A turn is wider on its outer side, the right.
            plan.patch(layer, surface, ribbon(plan.lanes[number].points, -2.3 - more, 2.6))
    island = radius - half
    apron = rng.uniform(0.8, 2.0)
    plan.patch(Layer.ISLAND, Surface.KERB, markings.disc(0.0, 0.0, island, 60))
    plan.patch(Layer.ISLAND, Surface.COBBLE, markings.disc(0.0, 0.0, island - 0.16, 60))
    inside = Surface.GRASS if rng.random() < 0.7 else Surface.GRAVEL
    plan.patch(Layer.ISLAND, inside, markings.disc(0.0, 0.0, max(island - apron, 1.0), 48))
    for arm in arms:  # splitter islands
        w = 0.5 * arm.road.median
        begin, tip = arm.stop + 1.2, arm.stop + 16.0
        nose = piece(arm.road.points, begin, tip)
        taper = np.linspace(w - 0.25, 0.2, len(nose))
        plan.patch(Layer.ISLAND, Surface.KERB, ribbon(nose, -taper, taper))
        markings.solid(plan, piece(arm.road.points, tip, tip + 25.0), 0.0)


def _walk(plan: Plan, arms: list[Arm], outer: float) -> None:
    """Walkways along the arms and around the ring."""
    for k, arm in enumerate(arms):
        following = arms[(k + 1) % len(arms)]
        side = arm.road.left
        left, right = arm.road.way_offset(1.0), following.road.way_offset(-1.0)
        r = outer + side.kerb + side.verge + 0.55 * side.pavement + 0.4
        reach = np.sqrt(r * r - left * left) + 0.5
        come = offset(piece(arm.road.points, reach, np.inf), left)[::-1]
        go = offset(piece(following.road.points, reach, np.inf), right)
        angle = following.angle + (2.0 * np.pi if k == len(arms) - 1 else 0.0)
        clear = np.arcsin(left / r) + 0.5 / r
        bow = arc((0.0, 0.0), r, arm.angle + clear, angle - clear, 1.0)
        plan.walkways.append(np.concatenate([come, bow, go]))


def _crossing(plan: Plan, arm: Arm, width: float) -> None:
    """A zebra crossing one car's length before the ring, over the splitter island."""
    s = arm.stop + 5.5 + 0.5 * width
    at = spot(arm.road.points, s)
    start, end = at.shifted(0.0, arm.road.edge(-1.0)), at.shifted(0.0, arm.road.edge(1.0))
    number = plan.crossing(np.array(start[:2]), np.array(end[:2]), width)
    half = 0.5 * arm.road.median
    markings.zebra(plan, np.array(start[:2]), np.array(at.shifted(0.0, -half)[:2]), width)
    markings.zebra(plan, np.array(at.shifted(0.0, half)[:2]), np.array(end[:2]), width)
    inward, outward = plan.lanes[arm.inward[0]], plan.lanes[arm.outward[0]]
    length = float(np.hypot(*np.diff(inward.points, axis=0).T).sum())
    inward.crossings.append((number, length - 5.5 - width - 1.2))
    outward.crossings.append((number, 5.5 - 1.2))


def _mark(plan: Plan, arm: Arm, stop: float) -> None:
    arm.beyond(stop + 40.0).edge_lines(plan)
    at = arm.inward_at(stop)
    markings.teeth(plan, at, -arm.road.right.carriageway - 0.5 * arm.road.median, -0.5 * arm.road.median)
    past = piece(arm.road.points, stop + 41.0, np.inf)
    markings.dashed(plan, past, 0.0, 3.0, 6.0)


def _furnish(
    plan: Plan, rng: np.random.Generator, arms: list[Arm], island: float, outer: float, given: Mapping[str, Any]
) -> None:
    """The island's planting, signs, and what stands along the arms."""
    spin = rng.uniform(0.0, 2.0 * np.pi, 24)
    away = np.sqrt(rng.random(24)) * (island - 2.6)
    kinds = ("bush", "bush", "tree", "rock", "ragged_vegetation", "young_tree", "lamp_post", "conifer")
    for k in range(int(rng.integers(3, 24))):
        at = Spot(float(away[k] * np.cos(spin[k])), float(away[k] * np.sin(spin[k])), float(spin[k]))
        plan.place(kinds[int(rng.random() * len(kinds))], at, forbidden=LANE | WALK)
    main = given.get("surroundings", _SURROUNDINGS[int(rng.random() * 6.0)])
    for arm in arms:
        look = arm.inward_at(arm.stop + 1.8)
        for beside in (arm.road.edge(1.0) + 0.6, 0.0):
            plan.place(
                "sign", look.shifted(0.0, -beside)._replace(heading=look.heading + np.pi), forbidden=LANE | TAKEN
            )
        chevron = Spot(float((island - 1.4) * np.cos(arm.angle)), float((island - 1.4) * np.sin(arm.angle)), arm.angle)
        plan.place("sign", chevron, forbidden=LANE | TAKEN)
        far = arm.beyond(arm.stop + 14.0)
        for sign in (-1.0, 1.0):
            furnish(plan, rng, far, sign, 0.8)
    for arm in arms:
        front = arm.beyond(outer + 2.0)
        for sign in (-1.0, 1.0):
            other = main if "surroundings" in given else _SURROUNDINGS[int(rng.random() * 6.0)]
            mixed(Edge(plan, rng, front.points, arm.road.border(sign), sign), (main, other))
