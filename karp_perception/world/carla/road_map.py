"""OpenDRIVE as our lanes: `carla.Map` reads the geometry (with or without a server), this makes `layout.Lane` of it.

Which lanes there are, and what may be driven on them, stands in the OpenDRIVE text; where they run is asked of the
map, point by point. Lanes are cut where roads and lane sections are, as the standard has them (ASAM OpenDRIVE 1.7):
one lane of one section is one Lane, and those of a junction's connecting roads are lanes like others.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from karp_perception.core.road import Road
from karp_perception.world.carla.client import CarlaError
from karp_perception.world.carla.coordinates import vector_from_carla
from karp_perception.world.carla.opendrive_text import LaneKey, LanePiece, lane_pieces, parse_opendrive
from karp_perception.world.carla.road_signs import stops_of
from karp_perception.world.layout import Lane
from karp_perception.world.layout_road import road_of

log = logging.getLogger(__name__)

_SPACING = 1.0  # m between points of a lane, at most
_INSIDE = 0.02  # m by which the first and last point stay off the ends of a section, where the map is undecided
_ACROSS = 0.1  # m from the last point into what follows


@dataclass(frozen=True)
class RoadMap:
    """The lanes of a map.

    Attributes:
        lanes: by number, which counts from 1 in order of road, section and lane.
        number_of: of a lane by its OpenDRIVE key.
        road: the same for planning, with the stop lines that the text tells of.
    """

    lanes: Mapping[int, Lane]
    number_of: Mapping[LaneKey, int]
    road: Road

    def at(self, waypoint: Any) -> int | None:
        """Number of the lane that a carla.Waypoint lies on."""
        return self.number_of.get(_key(waypoint))

    def index_of(self, number: int | None) -> int | None:
        """Index in `road.lanes` of a lane by its number."""
        return None if number is None else number - 1


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
    name = str(carla_map.name)
    root = parse_opendrive(carla_map.to_opendrive(), name)
    pieces = list(lane_pieces(root))
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
    index = {key: number - 1 for key, number in numbers.items()}
    road = road_of(lanes)
    stops = stops_of(root, pieces, index, road.lanes)
    return RoadMap(lanes, numbers, road.with_stops(stops))


def _waypoints(carla_map: Any, piece: LanePiece) -> list[Any]:
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


def lanes_around(lanes: Mapping[int, Lane], center: np.ndarray, reach: float) -> list[Lane]:
    """Lanes that come within `reach` m of a point (at least (2,))."""
    return [
        lane for lane in lanes.values() if ((lane.center[:, :2] - center[:2]) ** 2).sum(axis=1).min() <= reach * reach
    ]
