"""A case in its place: the layout is made, and everything that is given along the route gets points and times."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from karp_perception.core import Vehicle
from karp_perception.core.errors import ConfigurationError, KarpError
from karp_perception.world.layout import Layout, Placement
from karp_perception.world.layouts.families import make_layout
from karp_perception.world.models.catalogue import draw
from karp_perception.world.scenarios.case import ActorPart, Case, Event, Place
from karp_perception.world.scenarios.lane_ways import lane_way
from karp_perception.world.scenarios.places import RouteLine, Spot
from karp_perception.world.traffic.script import ScriptedActor, Step, Trigger

_BEHIND = 30.0  # m of way behind an actor that drives along the route
_BEYOND = 250.0  # m of way beyond the route's ends
_LINE = 150.0  # m of a straight way
_FINE = 0.1  # m between points at which a way is looked at for where it meets the vehicle's


@dataclass(frozen=True)
class Staged:
    """What a world needs to begin a case.

    Attributes:
        case, layout: it is made of.
        start: m along the route where the vehicle begins. speed: m/s, None for the speed limit.
        scripted: its actors, in the order of the case.
        scenery: what stands in it beside the layout's own.
        places: m along the route of what lies there, by name.
    """

    case: Case
    layout: Layout
    start: float
    speed: float | None
    scripted: tuple[ScriptedActor, ...]
    scenery: tuple[Placement, ...]
    places: Mapping[str, float]

    @property
    def limit(self) -> Callable[[float], float]:
        """Speed limit (m/s) at m along the route: the case's, else that of the lane there."""
        if self.case.limit is not None:
            fixed = self.case.limit
            return lambda along: fixed
        lanes = [self.layout.lanes[number] for number in self.layout.route]
        ends = np.cumsum([lane.length for lane in lanes]) - self.layout.start
        return lambda along: lanes[min(int(np.searchsorted(ends, along, side="right")), len(lanes) - 1)].speed_limit


def stage(case: Case, vehicle: Vehicle = Vehicle()) -> Staged:
    """Put a case into its place.

    Raises:
        ConfigurationError: in one line, where the layout does not exist or cannot hold what the case asks for.
    """
    try:
        layout = make_layout(case.layout, case.seed, **case.layout_parameters)
    except KarpError as error:
        raise ConfigurationError(f"{case.source}: layout: {error}") from None
    route = RouteLine(layout, case.start)
    if not case.start < route.length - 20.0:
        raise ConfigurationError(
            f"{case.source}: ego: along: expected 0 to {route.length - 20:.0f} m, got {case.start:g} m on a route of "
            f"{route.length:.0f} m"
        )
    speed = case.speed
    if speed is None:
        speed = layout.lanes[layout.route[0]].speed_limit
    stager = _Stager(case, route, vehicle, speed)
    scripted = tuple(stager.actor(part, f"{case.source}: actors: {part.name}") for part in case.actors)
    scenery = []
    for part in case.scenery:
        where = f"{case.source}: scenery: {part.family}"
        spot = stager.spot(part.place, 0.0, where)
        _drawn(part.family, part.seed, part.size, where)
        scenery.append(Placement(part.family, spot.x, spot.y, spot.yaw, part.seed, part.size, part.sink))
    for check in case.checks:
        at = check.parameters.get("at")
        if at and at not in route.places:
            where = f"{case.source}: checks: {check.name}: at"
            raise ConfigurationError(f"{where}: expected one of {', '.join(route.places)} on this route, got {at!r}")
    return Staged(case, layout, case.start, case.speed, scripted, tuple(scenery), route.places)


class _Stager:
    def __init__(self, case: Case, route: RouteLine, vehicle: Vehicle, speed: float) -> None:
        self.case, self.route, self.vehicle, self.speed = case, route, vehicle, speed

    def spot(self, place: Place, length: float, where: str) -> Spot:
        """Point and direction of a place; `length` (m) of what stands there, for gaps."""
        at = self.route.at(self.station(place, length, where), place.lateral)
        return at._replace(yaw=at.yaw + place.turn)

    def station(self, place: Place, length: float, where: str) -> float:
        if place.gap is not None:
            return self.case.start + self.vehicle.front + place.gap + 0.5 * length
        return self.route.station(place, where)

    def actor(self, part: ActorPart, where: str) -> ScriptedActor:
        """A part of the case as the traffic acts it."""
        length, width, _ = _drawn(part.family, part.seed, part.size, where)
        points, begin, meeting = self._way(part, length, where)
        steps, speed, visible = [self._step(event, where) for event in part.events], part.speed, True
        if part.meets is not None and part.way.kind == "lane":
            ways, station = meeting
            begin = ways - part.speed * (self._arrival(station) + part.meets[1])
            if begin < 0:  # the lane is shorter than that: it appears at its beginning later
                steps.insert(0, Step(Trigger(time=-begin / part.speed), speed=speed, acceleration=0.0, visible=True))
                begin, speed, visible = 0.0, 0.0, False
        elif part.meets is not None:
            ways, station = _meeting(points, self.route, part.meets[0], where)
            ahead = station - 0.5 * width - self.vehicle.front - self.speed * (ways / part.speed - part.meets[1])
            if ahead < self.case.start - 0.5:
                raise ConfigurationError(
                    f"{where}: meets: expected the vehicle to start at least {station - ahead:.0f} m before, for the "
                    f"actor to get there in {ways / part.speed:.1f} s, got {station - self.case.start:.0f} m"
                )
            steps.insert(0, Step(Trigger(ego_at=ahead), speed=part.speed, acceleration=0.0))
            speed = 0.0
        return ScriptedActor(
            part.family,
            part.seed,
            part.size,
            points=tuple((float(x), float(y)) for x, y in points),
            along=begin,
            speed=0.0 if part.way.kind == "stand" else speed,
            heading=math.pi if part.backwards else 0.0,
            steps=tuple(steps),
            visible=visible,
        )

    def _way(self, part: ActorPart, length: float, where: str) -> tuple[np.ndarray, float, tuple[float, float]]:
        """Points of its way, m along it where it begins, and for lanes where it meets the route (m, m)."""
        route, way, place = self.route, part.way, part.place
        if way.kind == "lane":
            found = lane_way(route, way.lane, way.turn, where)
            return found.points, max(0.0, found.meeting - 40.0), (found.meeting, found.station)
        s = self.station(place, length, where)
        if way.kind in ("along", "against"):
            sign = 1.0 if way.kind == "along" else -1.0
            last = route.length + _BEYOND if way.kind == "along" else -_BEYOND
            before = route.strip(s - sign * _BEHIND, s, place.lateral)
            points = np.concatenate([before, route.strip(s, last, place.lateral)[1:]])
            return points, float(np.linalg.norm(np.diff(before, axis=0), axis=1).sum()), (0.0, 0.0)
        if way.kind == "points":
            return np.array([route.at(s + along, lateral)[:2] for along, lateral in way.points]), 0.0, (0.0, 0.0)
        spot = self.spot(place, length, where)
        far = _LINE if way.kind == "line" else 1.0
        end = (spot.x + far * math.cos(spot.yaw), spot.y + far * math.sin(spot.yaw))
        return np.array([(spot.x, spot.y), end]), 0.0, (0.0, 0.0)

    def _arrival(self, station: float) -> float:
        """s until the vehicle's front gets to a place at its first speed."""
        return (station - self.case.start - self.vehicle.front) / max(self.speed, 0.1)

    def _step(self, event: Event, where: str) -> Step:
        trigger, value = event.trigger, event.trigger.value
        if trigger.kind == "time":
            when = Trigger(time=value)
        elif trigger.kind == "gap":
            when = Trigger(ego_distance=value)
        else:
            station = self.station(trigger.place or Place(), 0.0, f"{where}: events")
            when = Trigger(ego_at=station - self.vehicle.front - self.speed * value)
        return Step(when, event.speed, event.acceleration, event.lateral, event.within)


def _meeting(points: np.ndarray, route: RouteLine, lateral: float, where: str) -> tuple[float, float]:
    """m along a way to where it is `lateral` m beside the route, and m along the route there."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    at = np.arange(0.0, min(length[-1], _LINE), _FINE)
    fine = np.stack([np.interp(at, length, points[:, k]) for k in (0, 1)], axis=1)
    along, offset = route.project(fine)
    crosses = np.flatnonzero((offset[:-1] - lateral) * (offset[1:] - lateral) <= 0)
    if not len(crosses):
        raise ConfigurationError(
            f"{where}: meets: expected a way that gets to {lateral:g} m beside the route, got none"
        )
    k = int(crosses[0])
    return float(at[k]), float(along[k])


def _drawn(family: str, seed: int, size: tuple[float, float, float] | None, where: str) -> tuple[float, float, float]:
    """Length, width and height (m) of a model that exists."""
    try:
        return draw(family, seed, size).size
    except KarpError as error:
        raise ConfigurationError(f"{where}: model: {error}") from None
