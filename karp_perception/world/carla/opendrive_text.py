"""What stands in an OpenDRIVE text: which lanes there are, from where to where, and how fast one may drive."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree import ElementTree

from karp_perception.world.carla.client import CarlaError

SPEED_SIGN = "274"  # of the German catalogue, which OpenDRIVE takes for maximum speed where no country is named
_SHORTEST = 0.2  # m; shorter sections are seams of the map, not lanes
_UNITS = {"km/h": 1 / 3.6, "kmh": 1 / 3.6, "mph": 0.44704, "m/s": 1.0, "": 1.0}
_DRIVING = ("driving", "bidirectional", "entry", "exit", "onRamp", "offRamp", "connectingRamp")

LaneKey = tuple[int, int, int]
"""Numbers of road, lane section and lane."""


@dataclass(frozen=True)
class LanePiece:
    """One lane of one section as the text has it: its key, and from where to where along the road, m.

    `forward`: traffic drives with the road's direction. `speed`: limit in m/s, None where the text has none.
    """

    key: LaneKey
    start: float
    end: float
    forward: bool
    speed: float | None


def parse_opendrive(xodr: str, name: str) -> ElementTree.Element:
    """The OpenDRIVE element of a text. Raises CarlaError for what is no XML."""
    try:
        return ElementTree.fromstring(xodr)
    except ElementTree.ParseError as error:
        raise CarlaError(f"map {name}: its OpenDRIVE text is no XML: {error}") from None


def lane_pieces(root: ElementTree.Element) -> Iterator[LanePiece]:
    """The lanes to drive on that the text names."""
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
                    yield LanePiece((number, index, lane_id), start, end, (lane_id < 0) == right_hand, speed)


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
