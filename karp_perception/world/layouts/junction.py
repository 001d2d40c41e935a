"""Where roads meet: corners, connecting lanes, and who goes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from karp_perception.core.compiled import njit
from karp_perception.world.geometry.ground import Surface
from karp_perception.world.layouts.curves import Spot, distances, headings, joined, offset, piece, resample, spot, turn
from karp_perception.world.layouts.plan import Layer, Plan
from karp_perception.world.layouts.road import Road

_LATERAL = 2.5  # m/s^2, what drivers accept in a turn
_CLOSE = 2.2  # m between the middles of lanes that are in each other's way


@dataclass
class Arm:
    """A road that leads to a junction. Its curve begins at the middle of the junction and goes outwards.

    Attributes:
        angle: rad, its direction there.
        road: lanes on its right lead away, those on its left come in.
        corner: m from the middle to where its corners end.
        stop: m from the middle to its stop line, where its lanes begin and end.
        inward, outward: lane numbers at the stop line, from the middle of the road outwards.
        far: lane numbers where traffic comes in, where they differ from `inward`.
        pocket: number of a lane for turning left alone.
        bicycle_in, bicycle_out: numbers of bicycle lanes.
    """

    angle: float
    road: Road
    corner: float = 0.0
    stop: float = 0.0
    inward: list[int] = field(default_factory=list)
    outward: list[int] = field(default_factory=list)
    far: list[int] = field(default_factory=list)
    pocket: int | None = None
    bicycle_in: int | None = None
    bicycle_out: int | None = None

    def beyond(self, s: float) -> Road:
        """Its road from s m on."""
        return replace(self.road, points=piece(self.road.points, s, np.inf))

    def inward_at(self, s: float) -> Spot:
        """The middle of its road s m away, looking in."""
        at = spot(self.road.points, s)
        return at._replace(heading=at.heading + np.pi)


@dataclass(frozen=True)
class Movement:
    """A connecting lane.

    Attributes:
        lane: its number. source, target: lanes before and behind it.
        origin, goal: indices of its arms.
        way: "left", "straight" or "right".
        bicycles: for them only.
    """

    lane: int
    source: int
    target: int
    origin: int
    goal: int
    way: str
    bicycles: bool = False


def corners(arms: Sequence[Arm], radii: Sequence[float], reach: float) -> None:
    """Find where each arm's corners end. `radii` m: of the corner between arm k and the next counterclockwise."""
    for k, arm in enumerate(arms):
        following = arms[(k + 1) % len(arms)]
        path = _corner(arm, following, reach, arm.road.edge(1.0), following.road.edge(-1.0), radii[k])
        angle = headings(path)
        straight = np.flatnonzero(np.abs(angle - angle[0]) < 1e-3)
        ahead = np.flatnonzero(np.abs(angle - angle[-1]) < 1e-3)
        if abs(angle[-1] - angle[0]) < 0.3:
            continue
        s = distances(path)
        arm.corner = max(arm.corner, reach - float(s[straight[straight < len(s) // 2 + 1]].max(initial=0.0)))
        following.corner = max(following.corner, reach - float(s[-1] - s[ahead].min()))
    for arm in arms:
        arm.corner = max(arm.corner, 6.0)


def pave(plan: Plan, arms: Sequence[Arm], radii: Sequence[float], reach: float, pavement: Surface) -> None:
    """Paint the middle: pavements around the corners, kerbs and asphalt. The arms' own roads come on top."""
    n = len(arms)
    paved = any(arm.road.right.pavement for arm in arms)
    for layer, surface in ((Layer.PAVEMENT, pavement), (Layer.KERB, Surface.KERB), (Layer.ROAD, Surface.ASPHALT)):
        if not paved and layer != Layer.ROAD:
            continue
        outline = []
        for k, arm in enumerate(arms):
            following = arms[(k + 1) % n]
            if layer == Layer.PAVEMENT:
                left, right = arm.road.border(1.0), following.road.border(-1.0)
            else:
                more = arm.road.left.kerb if layer == Layer.KERB else 0.0
                left, right = arm.road.edge(1.0) + more, following.road.edge(-1.0) - more
            beyond = max(left - arm.road.edge(1.0), following.road.edge(-1.0) - right)
            outline.append(_corner(arm, following, reach, left, right, max(radii[k] - beyond, 1.0)))
        plan.patch(layer, surface, np.concatenate([resample(p, 1.0) for p in outline]))


def ways_on_foot(plan: Plan, arms: Sequence[Arm], radii: Sequence[float], reach: float) -> None:
    """Walkways along the arms and around the corners."""
    for k, arm in enumerate(arms):
        following = arms[(k + 1) % len(arms)]
        left, right = arm.road.way_offset(1.0), following.road.way_offset(-1.0)
        radius = max(radii[k] - (left - arm.road.edge(1.0)), 1.5)
        bow = _corner(arm, following, reach, left, right, radius)
        come, go = piece(arm.road.points, reach, np.inf), piece(following.road.points, reach, np.inf)
        plan.walkways.append(resample(joined(offset(come, left)[::-1], bow, offset(go, right)), 1.0))


def _corner(arm: Arm, following: Arm, reach: float, left: float, right: float, radius: float) -> np.ndarray:
    """The way around a corner between two offsets: in along `arm`, out along the next arm."""
    begin = spot(arm.road.points, reach).shifted(0.0, left)
    end = spot(following.road.points, reach).shifted(0.0, right)
    return turn(begin._replace(heading=begin.heading + np.pi), end, radius)


def connect(plan: Plan, arms: Sequence[Arm], limit: float, corner_radius: float) -> list[Movement]:
    """Connecting lanes from every arm to every other, with lanes chosen as arrows on the road would say."""
    found: list[Movement] = []
    for k, arm in enumerate(arms):
        for j, goal in enumerate(arms):
            if j == k:
                continue
            bend = (goal.angle - arm.angle) % (2.0 * np.pi) - np.pi  # from the direction in which one comes
            way = "straight" if abs(bend) < np.radians(38.0) else "left" if bend > 0 else "right"
            if way == "left":
                pairs = [(arm.pocket or arm.inward[0], goal.outward[0])]
            elif way == "right":
                pairs = [(arm.inward[-1], goal.outward[-1])]
            else:
                pairs = list(zip(arm.inward, goal.outward, strict=False))
                if arm.bicycle_in and goal.bicycle_out:
                    pairs.append((arm.bicycle_in, goal.bicycle_out))
            for source, target in pairs:
                bicycles = source == arm.bicycle_in
                begin, end = plan.lanes[source].end(), plan.lanes[target].begin()
                widest = corner_radius + 0.5 * plan.lanes[source].width + 1.0 if way == "right" else np.inf
                points = turn(begin, end, widest)
                width = min(plan.lanes[source].width, plan.lanes[target].width)
                number = plan.lane(points, width, bend_limit(points, 6.0 if bicycles else limit), 0.5, bicycles)
                plan.follow(source, number)
                plan.follow(number, target)
                found.append(Movement(number, source, target, k, j, way, bicycles))
    return found


def bend_limit(points: np.ndarray, limit: float) -> float:
    """Speed (m/s) at which the tightest part of a curve is comfortable, `limit` at most."""
    s = distances(points)
    bend = np.abs(np.diff(np.interp(np.arange(0.0, s[-1], 2.0), s, headings(points)))).max(initial=0.0) / 2.0
    return float(min(limit, np.sqrt(_LATERAL / max(bend, 1e-6))))


def conflicts(plan: Plan, movements: Sequence[Movement]) -> list[tuple[int, int]]:
    """Pairs of movements (indices, the lower first) of different lanes that cross or join."""
    if not movements:
        return []
    count = 24
    points = np.array(
        [
            np.stack([np.interp(np.linspace(0.0, s[-1], count), s, p[:, axis]) for axis in (0, 1)], axis=1)
            for p in (plan.lanes[m.lane].points for m in movements)
            for s in (distances(p),)
        ]
    )
    near = _near(points, _CLOSE)
    source = np.array([m.source for m in movements])
    near &= source[:, None] != source[None, :]
    return [(int(i), int(j)) for i, j in np.argwhere(np.triu(near, 1))]


def give_way(plan: Plan, movements: Sequence[Movement], rank: Sequence[int], together: np.ndarray) -> None:
    """Let the movement of the higher rank wait for the other; of equals the later one.

    Args:
        plan: with the lanes.
        movements: of one junction.
        rank: of each; 0 goes first.
        together: (A, A) whether arms may move at the same time.
    """
    for i, j in conflicts(plan, movements):
        a, b = movements[i], movements[j]
        if not together[a.origin, b.origin]:
            continue
        waits, goes = (a, b) if rank[i] > rank[j] else (b, a)
        plan.lanes[waits.lane].yields_to.append(goes.lane)


@njit(cache=True)
def _near(points, limit):
    """(n, n) bool: whether two of n curves, points (n, count, 2), come within `limit` m of each other."""
    n, count = points.shape[:2]
    found = np.zeros((n, n), np.bool_)
    for i in range(n):
        for j in range(i):
            for a in range(count):
                for b in range(count):
                    dx, dy = points[i, a, 0] - points[j, b, 0], points[i, a, 1] - points[j, b, 1]
                    if dx * dx + dy * dy < limit * limit:
                        found[i, j] = found[j, i] = True
                        break
                if found[i, j]:
                    break
    return found
