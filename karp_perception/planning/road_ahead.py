"""What the map says of the way ahead: where there is room, where one stops, and for what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from karp_perception.core import EgoState, Lane, LightColor, Road, Route, StopKind, Vehicle
from karp_perception.core.settings import Settings, setting
from karp_perception.planning.hazards import Hazard
from karp_perception.planning.proposals import LANE, ProposalSettings
from karp_perception.planning.reference_line import ReferenceLine
from karp_perception.planning.right_of_way import STANDS, Crossed, goes_first, people_on
from karp_perception.planning.road_raster import RoadRaster
from karp_perception.planning.route_lanes import RouteLanes, StopAhead
from karp_perception.planning.surroundings import Surroundings
from karp_perception.planning.trajectory import needed_deceleration

_OVER_LINE = 1.0  # m: whose front is farther beyond a stop line has passed it
_AT_LINE = 3.0  # m before a line within which one has stopped at it
SIDES = ("left", "right")
_EDGE = 0.1  # m between the vehicle and the edge of its lane
_LEAST_SIDE = 0.2  # m: a place nearer to the line is no other place


@dataclass(frozen=True)
class RoadAheadSettings(Settings):
    """How the map is heeded."""

    lights: bool = setting(True, "stop at red lights, and at yellow ones where that is comfortable")
    signs: bool = setting(True, "stop at stop signs")
    right_of_way: bool = setting(True, "let traffic pass that goes first, and people on crossings")
    yellow: float = setting(3.0, "braking up to which a yellow light is stopped for", unit="m/s2", low=0.5, high=8.0)
    crossing_patience: float = setting(4.0, "time given to who stands at a crossing", unit="s", low=0.0, high=60.0)
    sight: float = setting(8.0, "how soon who goes first has to come to be waited for", unit="s", low=1.0, high=20.0)
    room_ahead: float = setting(4.0, "time ahead over which a place must be free to drive at", unit="s", low=1.0)
    least_room_ahead: float = setting(25.0, "and at least", unit="m", low=5.0, high=200.0)


class RoadAhead:
    """Asks the map, and keeps what is made of it as long as it stays the same."""

    def __init__(self, settings: RoadAheadSettings, vehicle: Vehicle) -> None:
        self.settings, self.vehicle = settings, vehicle
        self.raster: RoadRaster | None = None
        """Of the road's lanes; None where there is no map."""
        self._mapped: tuple[Lane, ...] | None = None
        self._lanes: RouteLanes | None = None
        self.reset()

    def reset(self) -> None:
        """Forget everything about earlier moments but the map."""
        self._passing: set[int] = set()
        self._stood: set[int] = set()
        self._waited: dict[int, float] = {}
        self._places: list[tuple[str, float]] = []
        self._stops: list[Hazard] = []

    def look(
        self,
        road: Road | None,
        route: Route | None,
        origin: float,
        line: ReferenceLine,
        ego: EgoState,
        around: Surroundings,
        dt: float,
    ) -> None:
        """At this moment, `dt` s after the last.

        Args:
            road: the map, in `odom`; None for none.
            route: that the line follows; None for none, then the map tells only where one may drive.
            origin: m along the route where the line's distance is 0.
            line: in `base_link`.
        """
        self._places, self._stops = [], []
        if road is None:
            self.raster = self._lanes = self._mapped = None
            return
        if self._mapped is not road.lanes:
            self._mapped = road.lanes
            self.raster = RoadRaster(road.lanes) if road.lanes else None
        if route is None:
            self._lanes = None
            return
        self._lanes = RouteLanes.of(route, road, self._lanes)
        self._places = list(self._found_places(line, origin, ego))
        stops = self._lanes.stops_ahead(line, road, origin, ego.T_odom_base)
        self._stops = [hazard for stop in stops for hazard in self._demands(stop, line, ego, around, dt)]

    def places(self, settings: ProposalSettings) -> Sequence[tuple[str, float]]:
        """Names of places sideways and their offsets from the line, m to the left; the line itself first."""
        if self._lanes is None:
            aside = settings.unmapped_offset
            return [(LANE, 0.0), ("left", aside), ("right", -aside)] if aside > 0.0 else [(LANE, 0.0)]
        within = [(n, float(np.clip(d, -settings.offset, settings.offset))) for n, d in self._places if n in SIDES]
        others = [(n, d) for n, d in self._places if n not in SIDES and settings.lane_changes]
        return [(LANE, 0.0), *[(n, d) for n, d in within if abs(d) >= _LEAST_SIDE], *others]

    @property
    def stops(self) -> Sequence[Hazard]:
        """What one has to stop for at a line."""
        return self._stops

    def _found_places(self, line: ReferenceLine, origin: float, ego: EgoState) -> Iterator[tuple[str, float]]:
        """How far to either side the vehicle may drive within its lane, and the lanes beside it."""
        assert self._lanes is not None
        ahead = max(self.settings.least_room_ahead, self.settings.room_ahead * ego.speed)
        lanes = self._lanes.along(line, origin, ego.T_odom_base)
        near = (lanes.distance >= -self.vehicle.rear) & (lanes.distance <= ahead)
        half = 0.5 * self.vehicle.width
        for side, room, sign in (("left", lanes.left, 1.0), ("right", lanes.right, -1.0)):
            if near.any() and np.isfinite(room[near]).all():
                yield side, sign * max(float(room[near].min()) - half - _EDGE, 0.0)
        for lane in lanes.beside:
            here = (lane.distance >= 0.0) & (lane.distance <= ahead)
            if here.any() and lane.distance[0] <= 5.0 and lane.distance[-1] >= ahead:
                yield f"{lane.side} lane", float(np.median(lane.offset[here]))

    def _demands(
        self, ahead: StopAhead, line: ReferenceLine, ego: EgoState, around: Surroundings, dt: float
    ) -> Iterator[Hazard]:
        """What a stop line asks for now."""
        settings, stop = self.settings, ahead.stop
        gap = ahead.distance - self.vehicle.front
        if gap < -_OVER_LINE:
            self._passing.discard(stop.number)
            self._waited.pop(stop.number, None)
            return
        before = max(gap, 0.0)
        if stop.kind is StopKind.LIGHT:
            if settings.lights and self._light_stops(stop.number, stop.color, before, ego.speed):
                yield Hazard(before, 0.0, None, -1, title=f"the {stop.color.value if stop.color else ''} light")
            return
        if stop.kind is StopKind.STOP and settings.signs and not self._has_stood(stop.number, before, ego.speed):
            yield Hazard(before, 0.0, None, -1, title="the stop sign")
            return
        if not settings.right_of_way:
            return
        crossed = Crossed(ahead, before, line, ego.T_odom_base, around, self.vehicle, settings.sight)
        if stop.kind is StopKind.CROSSING:
            yield from people_on(crossed, self._is_patient(stop.number, before, ego.speed, dt))
        else:
            yield from goes_first(crossed)

    def _light_stops(self, number: int, color: LightColor | None, gap: float, speed: float) -> bool:
        """Whether a light stops the vehicle. Who was too near when it turned yellow goes through."""
        if color is LightColor.GREEN or color is None:
            self._passing.discard(number)
            return False
        if color is LightColor.YELLOW and needed_deceleration(gap, speed) > self.settings.yellow:
            self._passing.add(number)
        return number not in self._passing

    def _has_stood(self, number: int, gap: float, speed: float) -> bool:
        if gap < _AT_LINE and speed < STANDS:
            self._stood.add(number)
        return number in self._stood

    def _is_patient(self, number: int, gap: float, speed: float, dt: float) -> bool:
        """Whether to give who only stands at a crossing time: for a while, and where that takes no hard braking."""
        if gap < _AT_LINE and speed < STANDS:
            self._waited[number] = self._waited.get(number, 0.0) + dt
        patient = self._waited.get(number, 0.0) < self.settings.crossing_patience
        return patient and needed_deceleration(gap, speed) < self.vehicle.comfortable_deceleration
