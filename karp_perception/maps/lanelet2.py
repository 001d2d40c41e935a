"""Lanelet2 files (.osm) as a Road, read by the library of that name; the extra `lanelet2` brings it.

What may be driven on, where to and how fast is what its traffic rules (Germany, cars) and its routing graph say
(Poggenhans et al., "Lanelet2: A high-definition map framework for the future of automated driving", ITSC 2018).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from karp_perception.core.errors import BackendUnavailable, InvalidInput
from karp_perception.core.road import Lane, Road, StopKind, StopLine
from karp_perception.maps.approaches import predecessors, ways_into

PROJECTIONS = ("utm", "local_cartesian", "local")
"""How latitude and longitude become x and y; "local" takes the tags local_x and local_y of the points instead."""

_BEFORE_CROSSING = 1.0  # m before a crossing at which one stops
_STOP_SIGN = "206"  # ends the type of a stop sign, such as de206
_KMH = 1.0 / 3.6


@dataclass(frozen=True)
class _Library:
    """The modules of lanelet2."""

    core: ModuleType
    io: ModuleType
    projection: ModuleType
    routing: ModuleType
    rules: ModuleType


def read_lanelet2(file: Path, latitude: float = 0.0, longitude: float = 0.0, projection: str = "utm") -> Road:
    """The lanes, lights, right of way and crossings of a file.

    Args:
        file: in OSM's XML.
        latitude, longitude: degrees, of the point that becomes x = y = 0; x points east, y north.
        projection: one of PROJECTIONS.

    Raises InvalidInput for a file that cannot be read or holds no lane to drive on, BackendUnavailable without the
    package.
    """
    library = _load()
    map_ = _read(library, file, latitude, longitude, projection)
    rules = library.rules.create(library.rules.Locations.Germany, library.rules.Participants.VehicleCar)
    graph = library.routing.RoutingGraph(map_, rules)
    lanelets = list(_driven(map_, rules))
    if not lanelets:
        raise InvalidInput(f"map {file}", "lanelets that cars may drive on", "none")
    index = {_key(lanelet): k for k, lanelet in enumerate(lanelets)}
    lanes = tuple(_lane(lanelet, graph, rules, index) for lanelet in lanelets)
    return Road(lanes, tuple(_stops(library, map_, lanelets, lanes, index)))


def _load() -> _Library:
    try:
        names = ("core", "io", "projection", "routing", "traffic_rules")
        return _Library(*(importlib.import_module(f"lanelet2.{name}") for name in names))
    except ImportError as error:
        raise BackendUnavailable(
            f"the lanelet2 package cannot be imported ({error}); pip install 'karp_perception[lanelet2]' "
            "(wheels exist for Python 3.10 to 3.13)"
        ) from None


def _read(library: _Library, file: Path, latitude: float, longitude: float, projection: str) -> Any:
    if projection not in PROJECTIONS:
        raise InvalidInput("projection of a lanelet2 map", " or ".join(PROJECTIONS), projection)
    projector = library.projection.LocalCartesianProjector if projection == "local_cartesian" else None
    origin = library.io.Origin(latitude, longitude)
    try:
        map_, problems = library.io.loadRobust(str(file), (projector or library.projection.UtmProjector)(origin))
    except RuntimeError as error:
        raise InvalidInput(f"map {file}", "a readable lanelet2 file", next(iter(str(error).splitlines()), "")) from None
    if len(problems):
        raise InvalidInput(f"map {file}", "a lanelet2 file without mistakes", f"{len(problems)}: {problems[0]}")
    if projection == "local":
        for point in map_.pointLayer:
            try:
                point.x, point.y = (float(point.attributes[tag]) for tag in ("local_x", "local_y"))
            except (KeyError, IndexError, ValueError, RuntimeError):
                raise InvalidInput(
                    f"map {file}, point {point.id}", "the tags local_x and local_y", dict(point.attributes)
                ) from None
        for lanelet in map_.laneletLayer:
            lanelet.resetCache()
    return map_


def _driven(map_: Any, rules: Any) -> Iterator[Any]:
    """Lanelets in each direction that cars may drive in."""
    for lanelet in sorted(map_.laneletLayer, key=lambda lanelet: lanelet.id):
        if rules.canPass(lanelet):
            yield lanelet
            if not rules.isOneWay(lanelet):
                yield lanelet.invert()


def _key(lanelet: Any) -> tuple[int, bool]:
    return int(lanelet.id), bool(lanelet.inverted())


def _points(line: Any) -> np.ndarray:
    points = np.array([(point.x, point.y) for point in line], float).reshape(-1, 2)
    return points[np.r_[True, np.abs(np.diff(points, axis=0)).max(axis=1) > 1e-6]] if len(points) else points


def _lane(lanelet: Any, graph: Any, rules: Any, index: Mapping[tuple[int, bool], int]) -> Lane:
    center = _points(lanelet.centerline)
    width = np.mean([_away(_points(bound), center) for bound in (lanelet.leftBound, lanelet.rightBound)], axis=1).sum()
    limit = float(rules.speedLimit(lanelet).speedLimit) * _KMH
    beside = [
        None if other is None else index.get(_key(other)) for other in (graph.left(lanelet), graph.right(lanelet))
    ]
    follow = sorted(index[_key(other)] for other in graph.following(lanelet) if _key(other) in index)
    own = index[_key(lanelet)]
    return Lane(center, float(width), limit, *beside, tuple(k for k in follow if k != own))


def _stops(
    library: _Library,
    map_: Any,
    lanelets: Sequence[Any],
    lanes: Sequence[Lane],
    index: Mapping[tuple[int, bool], int],
) -> Iterator[StopLine]:
    before = predecessors((k, lane.successors) for k, lane in enumerate(lanes))
    crossings = [_points(other.centerline) for other in map_.laneletLayer if _is_crossing(other)]
    widths = [_width(other) for other in map_.laneletLayer if _is_crossing(other)]
    number = max((abs(int(element.id)) for element in map_.regulatoryElementLayer), default=0)
    for k, lanelet in enumerate(lanelets):
        lane = lanes[k]
        for light in lanelet.trafficLights():
            yield StopLine(int(light.id), _crossed(lane, light.stopLine), StopKind.LIGHT, lane=k)
        signed = any(_STOP_SIGN in str(sign.type()) for sign in lanelet.trafficSigns())
        for rule in lanelet.rightOfWay():
            if rule.getManeuver(lanelet) == library.core.ManeuverType.Yield:
                goers = [index[_key(other)] for other in rule.rightOfWayLanelets() if _key(other) in index]
                centers = [each.center for each in lanes]
                first = tuple(way for other in goers for way in ways_into(centers, before, other))
                number += 1
                kind = StopKind.STOP if signed else StopKind.YIELD
                yield StopLine(number, _crossed(lane, rule.stopLine), kind, first=first, lane=k)
                signed = False
        for rule in lanelet.allWayStop():
            number += 1
            # Either each of its lanelets has a line, in this order, or none has.
            lines = dict(zip((int(other.id) for other in rule.lanelets()), rule.stopLines(), strict=False))
            yield StopLine(number, _crossed(lane, lines.get(int(lanelet.id))), StopKind.STOP, lane=k)
            signed = False
        if signed:
            number += 1
            yield StopLine(number, lane.center[-1], StopKind.STOP, lane=k)
        for crossing, width in zip(crossings, widths, strict=True):
            at = _reaches(lane, crossing, 0.5 * width)
            if at is not None:
                number += 1
                point = lane.point_at(max(at - _BEFORE_CROSSING, 0.0))
                yield StopLine(number, point, StopKind.CROSSING, first=(crossing[[0, -1]],), lane=k)


def _is_crossing(lanelet: Any) -> bool:
    attributes = lanelet.attributes
    return "subtype" in attributes and attributes["subtype"] == "crosswalk"


def _width(lanelet: Any) -> float:
    return float(_away(_points(lanelet.leftBound), _points(lanelet.rightBound)).mean())


def _away(line: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(P,) m from points (P, 2) to a polyline (N, 2)."""
    a, step = line[:-1], np.diff(line, axis=0)
    share = np.einsum("pni,ni->pn", points[:, None] - a, step) / np.einsum("ni,ni->n", step, step)
    foot = a + np.clip(share, 0.0, 1.0)[..., None] * step
    return np.hypot(*(foot - points[:, None]).transpose(2, 0, 1)).min(axis=1)


def _crossed(lane: Lane, line: Any) -> np.ndarray:
    """(2,) where a lane comes nearest to a stop line; its end where there is none."""
    if line is None or len(line) < 2:
        return lane.center[-1]
    s = np.linspace(0.0, lane.length, max(int(lane.length / 0.1), 1) + 1)
    fine = np.column_stack([np.interp(s, lane.along, lane.center[:, axis]) for axis in (0, 1)])
    return fine[int(np.argmin(_away(_points(line), fine)))]


def _reaches(lane: Lane, crossing: np.ndarray, half: float) -> float | None:
    """m along a lane at which it comes within `half` m of the middle of a crossing; None where it does not."""
    s = np.linspace(0.0, lane.length, max(int(lane.length / 0.25), 1) + 1)
    fine = np.column_stack([np.interp(s, lane.along, lane.center[:, axis]) for axis in (0, 1)])
    near = np.flatnonzero(_away(crossing, fine) <= half)
    return float(s[near[0]]) if len(near) else None
