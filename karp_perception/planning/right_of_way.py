"""Who goes first where the route comes over a stop line: traffic on other ways, and people on crossings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from karp_perception.core import ObjectClass, Vehicle
from karp_perception.core.geometry import invert_pose, wrap_angle
from karp_perception.planning.hazards import Hazard
from karp_perception.planning.reference_line import ReferenceLine, polyline_at, polyline_distance
from karp_perception.planning.route_lanes import StopAhead
from karp_perception.planning.surroundings import Surroundings, place_of

STANDS = 0.3
"""m/s, who is slower stands."""

_BESIDE_WAY = 2.0  # m from the middle of a way that goes first, within which who moves along it is on it
_ASLANT = 0.7  # rad
_WAITING = 1.5  # m beyond the kerb within which somebody is about to use a crossing
_BESIDE_CROSSING = 2.5  # m from the middle of a crossing within which people use it
_TOGETHER = 10.0  # m of two ways within the vehicle's width of each other, from which one joins the other
_MERGING = 3.0  # m of a way that is joined, in which the first one there goes first
_BEYOND = 35.0  # m beyond a stop line within which the ways meet
_PEOPLE = (ObjectClass.PEDESTRIAN, ObjectClass.BICYCLE)


@dataclass(frozen=True)
class Crossed:
    """A stop line that has others go first, and what is around there.

    Attributes:
        ahead: the stop line. gap: m to it from the front bumper.
        line: of the route, in `base_link`. T_odom_base: (4, 4), of the vehicle.
        around: seen from the line.
        vehicle: that is to stop.
        sight: s, how soon who goes first has to come to be waited for.
    """

    ahead: StopAhead
    gap: float
    line: ReferenceLine
    T_odom_base: np.ndarray
    around: Surroundings
    vehicle: Vehicle
    sight: float

    def ways(self) -> Iterator[np.ndarray]:
        """Those that go first, (N, 2) m each in `base_link`."""
        T = invert_pose(self.T_odom_base)
        for way in self.ahead.stop.first:
            yield way @ T[:2, :2].T + T[:2, 3]

    def hazard(self, i: int, side: str, when: tuple[float, float], far: float, joins: bool = False) -> Hazard:
        """An object to let pass. `far`: m along the line to where it is out of the way; the others as in Hazard."""
        objects = self.around.objects
        identity = (int(objects.track_id[i]), int(objects.boxes.label[i]))
        beyond = max(far - self.vehicle.front, self.gap)
        return Hazard(self.gap, 0.0, *identity, side, when, beyond, place_of(objects.boxes, i), joins=joins)


def goes_first(crossed: Crossed) -> Iterator[Hazard]:
    """Those on ways that go first, while they may be where the ways meet."""
    around, boxes = crossed.around, crossed.around.objects.boxes
    fast = np.flatnonzero(np.hypot(boxes.velocity[:, 0], boxes.velocity[:, 1]) > STANDS)
    if not len(fast):
        return
    for points in crossed.ways():
        meet = _meeting(points, crossed.line, crossed.ahead.distance, crossed.vehicle.width)
        if meet is None:
            continue
        along = polyline_distance(points)
        for i in fast:
            position = _along(points, along, boxes.center[i, :2], boxes.velocity[i])
            if position is None:
                continue
            speed = float(np.hypot(*boxes.velocity[i]))
            half = 0.5 * float(boxes.size[i, 0])
            arrives, leaves = (meet.begin - position - half) / speed, (meet.end - position + half) / speed
            if leaves < 0.0 or arrives > crossed.sight:
                continue
            side = "left" if around.across[i] < 0 else "right"
            yield crossed.hazard(i, side, (max(arrives, 0.0), leaves), meet.far, meet.joins)


def people_on(crossed: Crossed, patient: bool) -> Iterator[Hazard]:
    """Those who walk on a crossing, or onto it; and those who only stand there, for who is patient with them."""
    start, end = next(crossed.ways())[[0, -1]]
    width = float(np.hypot(*(end - start)))
    unit = (end - start) / max(width, 1e-6)
    boxes = crossed.around.objects.boxes
    s, d = crossed.line.project(np.stack([start, end]))
    # Where along the crossing the vehicle's way lies.
    middle = width * (d[0] / (d[0] - d[1]) if d[0] * d[1] < 0 else 0.5)
    half = 0.5 * crossed.vehicle.width + 0.5
    far = float(s.mean()) + 0.5 * _BESIDE_CROSSING
    for i in np.flatnonzero(np.isin(boxes.label, _PEOPLE)):
        offset, velocity = boxes.center[i, :2] - start, boxes.velocity[i]
        along, beside = float(offset @ unit), float(unit[0] * offset[1] - unit[1] * offset[0])
        walks = float(velocity @ unit)
        if abs(beside) > _BESIDE_CROSSING or not -_WAITING < along < width + _WAITING:
            continue
        arrives, leaves = 0.0, crossed.sight
        if abs(walks) >= STANDS:
            leaves = ((middle + np.sign(walks) * half) - along) / walks
            arrives = max(((middle - np.sign(walks) * half) - along) / walks, 0.0)
            if leaves < 0.0 or arrives > crossed.sight:
                continue
        elif not patient or float(np.hypot(*velocity)) >= STANDS:
            continue
        side = "left" if (along - middle) * (d[1] - d[0]) > 0 else "right"
        yield crossed.hazard(i, side, (arrives, leaves), far)


@dataclass(frozen=True)
class _Meeting:
    """Where a way meets the line: from `begin` to `end` m along the way; `far` m along the line where that ends.

    `joins`: whether they go on together. Then what matters is who is there first, not who has left.
    """

    begin: float
    end: float
    far: float
    joins: bool


def _meeting(way: np.ndarray, line: ReferenceLine, stop: float, width: float) -> _Meeting | None:
    """Where a way (N, 2) comes within the vehicle's width of the line beyond a stop line; None where it does not."""
    along = polyline_distance(way)
    at = np.arange(0.0, along[-1] + 0.5, 1.0)
    s, d = line.project(polyline_at(way, along, at))
    there = (np.abs(d) < 0.5 * width + _BESIDE_WAY) & (s > stop - 1.0) & (s < stop + _BEYOND)
    if not there.any():
        return None
    rows = np.flatnonzero(there)
    joins = bool(at[rows[-1]] - at[rows[0]] > _TOGETHER)
    if joins:
        rows = rows[at[rows] <= at[rows[0]] + _MERGING]  # who joins before somebody leads them from there on
    return _Meeting(float(at[rows[0]]), float(at[rows[-1]]), float(s[rows].max()), joins)


def _along(way: np.ndarray, along: np.ndarray, point: np.ndarray, velocity: np.ndarray) -> float | None:
    """m along a way of who is on it and moves along it; None for others."""
    step = np.diff(way, axis=0)
    length = np.diff(along)
    unit = step / length[:, None]
    offset = point - way[:-1]
    ahead = np.clip(np.einsum("ni,ni->n", offset, unit), 0.0, length)
    away = np.hypot(*(offset - ahead[:, None] * unit).T)
    best = int(away.argmin())
    turn = np.arctan2(velocity[1], velocity[0]) - np.arctan2(unit[best, 1], unit[best, 0])
    if away[best] > _BESIDE_WAY or abs(float(wrap_angle(turn))) > _ASLANT:
        return None
    return float(along[best] + ahead[best])
