"""OpenDRIVE as our lanes: `carla.Map` reads the geometry (with or without a server), this makes `layout.Lane` of it.

Which lanes there are, and what may be driven on them, stands in the OpenDRIVE text; where they run is asked of the
map, point by point. Lanes are cut where roads and lane sections are, as the standard has them (ASAM OpenDRIVE 1.7):
one lane of one section is one Lane, and those of a junction's connecting roads are lanes like others.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from xml.etree import ElementTree

import numpy as np

from karp_perception.world.carla.client import CarlaError
from karp_perception.world.carla.coordinates import vector_from_carla
from karp_perception.world.layout import Lane

log = logging.getLogger(__name__)

SPEED_SIGN = "274"  # of the German catalogue, which OpenDRIVE takes for maximum speed where no country is named

_SPACING = 1.0  # m between points of a lane, at most
_INSIDE = 0.02  # m by which the first and last point stay off the ends of a section, where the map is undecided
_ACROSS = 0.1  # m from the last point into what follows
_SHORTEST = 0.2  # m; shorter sections are seams of the map, not lanes
_UNITS = {"km/h": 1 / 3.6, "kmh": 1 / 3.6, "mph": 0.44704, "m/s": 1.0, "": 1.0}
_DRIVING = ("driving", "bidirectional", "entry", "exit", "onRamp", "offRamp", "connectingRamp")

_FARTHEST = 15.0  # m from a lane's middle
_WRONG_WAY = 10.0  # m that a lane at right angles counts as farther away, and twice that one in the other direction

LaneKey = tuple[int, int, int]
"""Numbers of road, lane section and lane."""


@dataclass(frozen=True)
class _Piece:
    """One lane of one section as the text has it: its key, and from where to where along the road, m."""

    key: LaneKey
    start: float
    end: float
    forward: bool
    speed: float | None


@dataclass(frozen=True)
class RoadMap:
    """The lanes of a map.

    Attributes:
        lanes: by number, which counts from 1 in order of road, section and lane.
        number_of: of a lane by its OpenDRIVE key.
    """

    lanes: Mapping[int, Lane]
    number_of: Mapping[LaneKey, int]

    def at(self, waypoint: Any) -> int | None:
        """Number of the lane that a carla.Waypoint lies on."""
        return self.number_of.get(_key(waypoint))

    def with_signals(self, signals: Mapping[int, int]) -> RoadMap:
        """The same with the light (its number) at the end of some lanes (by number)."""
        lanes = {n: replace(lane, signal=signals.get(n, lane.signal)) for n, lane in self.lanes.items()}
        return replace(self, lanes=lanes)


def read_road_map(carla: Any, name: str, xodr: str, speed_limit: float = 13.9) -> RoadMap:
    """The lanes of an OpenDRIVE text, without a server. `carla` is the module; `speed_limit` where none is given, m/s.

    Raises CarlaError for a text that is no OpenDRIVE, or holds no lane to drive on.
    """
    try:
        road_map = carla.Map(name, xodr)
    except RuntimeError as error:
        raise CarlaError(f"map {name}: not an OpenDRIVE map ({error})") from None
    return road_map_of(road_map, speed_limit)


def road_map_of(carla_map: Any, speed_limit: float = 13.9) -> RoadMap:
    """The same of a carla.Map."""
    name, pieces = str(carla_map.name), list(_pieces(carla_map.to_opendrive(), str(carla_map.name)))
    centers: dict[LaneKey, list[Any]] = {}
    for piece in pieces:
        points = _waypoints(carla_map, piece)
        if points:
            centers[piece.key] = points
    if not centers:
        raise CarlaError(f"map {name}: expected lanes to drive on, got an OpenDRIVE text without any")
    numbers = {key: number for number, key in enumerate(sorted(centers), start=1)}
    speeds = {piece.key: piece.speed for piece in pieces}
    lanes = {
        numbers[key]: _lane(numbers, key, points, speeds[key] or speed_limit) for key, points in sorted(centers.items())
    }
    return RoadMap(lanes, numbers)


def _pieces(xodr: str, name: str) -> Iterator[_Piece]:
    """The lanes to drive on that the text names."""
    try:
        root = ElementTree.fromstring(xodr)
    except ElementTree.ParseError as error:
        raise CarlaError(f"map {name}: its OpenDRIVE text is no XML: {error}") from None
    for road in root.iter("road"):
        number, length = int(road.get("id", "-1")), float(road.get("length", "0"))
        right_hand = road.get("rule", "RHT").upper() != "LHT"
        sections = sorted(road.iter("laneSection"), key=lambda section: float(section.get("s", "0")))
        starts = [float(section.get("s", "0")) for section in sections]
        speed = _speed_of(road)
        for index, (section, start) in enumerate(zip(sections, starts, strict=True)):
            end = starts[index + 1] if index + 1 < len(starts) else length
            if end - start < _SHORTEST:
                continue
            for lane in section.iter("lane"):
                lane_id = int(lane.get("id", "0"))
                if lane_id and lane.get("type") in _DRIVING:
                    yield _Piece((number, index, lane_id), start, end, (lane_id < 0) == right_hand, speed)


def _speed_of(road: ElementTree.Element) -> float | None:
    """m/s: of the first maximum speed sign on the road, else of its type; None where neither is there."""
    for signal in road.iter("signal"):
        if signal.get("type") == SPEED_SIGN:
            speed = _metres_per_second(signal.get("value"), signal.get("unit") or "km/h")
            if speed is not None:
                return speed
    for speed in road.iter("speed"):
        found = _metres_per_second(speed.get("max"), speed.get("unit") or "")
        if found is not None:
            return found
    return None


def _metres_per_second(value: str | None, unit: str) -> float | None:
    try:
        number = float(value or "")
    except ValueError:
        return None  # "no limit", "undefined"
    factor = _UNITS.get(unit.strip().lower())
    return number * factor if factor and math.isfinite(number) and number > 0 else None


def _waypoints(carla_map: Any, piece: _Piece) -> list[Any]:
    """Points of a lane in driving direction; none where the map knows of no such lane."""
    road, _, lane = piece.key
    start, end = piece.start + _INSIDE, piece.end - _INSIDE
    count = max(2, math.ceil((end - start) / _SPACING) + 1)
    along = np.linspace(start, end, count)
    found = [carla_map.get_waypoint_xodr(road, lane, float(s)) for s in (along if piece.forward else along[::-1])]
    if any(waypoint is None for waypoint in found):
        log.debug("map: lane %s is not there all along", piece.key)
        found = [waypoint for waypoint in found if waypoint is not None]
    return found if len(found) >= 2 else []


def _lane(numbers: Mapping[LaneKey, int], key: LaneKey, points: list[Any], speed: float) -> Lane:
    middle = points[len(points) // 2]
    follow = {numbers[k] for k in (_key(w) for w in points[-1].next(_ACROSS)) if k in numbers and k != key}
    return Lane(
        number=numbers[key],
        center=np.array([vector_from_carla(waypoint.transform.location) for waypoint in points]),
        width=float(middle.lane_width),
        speed_limit=speed,
        successors=tuple(sorted(follow)),
        left=_beside(numbers, key, middle, "Left"),
        right=_beside(numbers, key, middle, "Right"),
    )


def _beside(numbers: Mapping[LaneKey, int], key: LaneKey, waypoint: Any, side: str) -> int | None:
    """The lane on one side in the same direction, where the marking allows to change to it."""
    if str(waypoint.lane_change) not in (side, "Both"):
        return None
    other = waypoint.get_left_lane() if side == "Left" else waypoint.get_right_lane()
    if other is None or (other.lane_id > 0) != (key[2] > 0):
        return None
    return numbers.get(_key(other))


def _key(waypoint: Any) -> LaneKey:
    return int(waypoint.road_id), int(waypoint.section_id), int(waypoint.lane_id)


def nearest_lane(lanes: Mapping[int, Lane], position: np.ndarray, yaw: float) -> tuple[int, float]:
    """The lane that runs under a point (at least (2,) m) in the direction of `yaw` (rad): its number, and m along it.

    Raises CarlaError where no lane is near.
    """
    best: tuple[float, int, float] | None = None
    heading = np.array([math.cos(yaw), math.sin(yaw)])
    for number, lane in lanes.items():
        offset = lane.center[:, :2] - position[:2]
        distance = np.hypot(offset[:, 0], offset[:, 1])
        k = int(np.argmin(distance))
        if distance[k] > _FARTHEST:
            continue
        a, b = lane.center[max(k - 1, 0), :2], lane.center[min(k + 1, len(lane.center) - 1), :2]
        along = float((b - a) @ heading / max(np.linalg.norm(b - a), 1e-9))
        cost = float(distance[k]) + _WRONG_WAY * (1.0 - along)
        if best is None or cost < best[0]:
            best = (cost, number, float(lane.along[k]))
    if best is None:
        raise CarlaError(f"the map has no lane within {_FARTHEST:g} m of {np.round(position[:2], 1).tolist()}")
    return best[1], best[2]


def lanes_around(lanes: Mapping[int, Lane], center: np.ndarray, reach: float) -> list[Lane]:
    """Lanes that come within `reach` m of a point (at least (2,))."""
    return [
        lane for lane in lanes.values() if ((lane.center[:, :2] - center[:2]) ** 2).sum(axis=1).min() <= reach * reach
    ]
