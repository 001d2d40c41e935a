"""Stop lines of an OpenDRIVE text: lights, and stop and yield signs with the traffic that goes first.

Signals are those of ASAM OpenDRIVE 1.7, chapter 14: they stand at a distance along their road and hold for the lanes
in their direction that they are valid for. Types are of the German catalogue, which maps without a country use as well.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from karp_perception.core.road import Lane, StopKind, StopLine
from karp_perception.maps.approaches import predecessors, ways_into
from karp_perception.world.carla.opendrive_text import LaneKey, LanePiece

_KINDS = {"205": StopKind.YIELD, "206": StopKind.STOP, "R1-2": StopKind.YIELD, "R1-1": StopKind.STOP}
_LIGHTS = ("1000001", "1000009", "1000010", "1000011")  # with three or two lamps, for all or for one direction
_AT_JUNCTION = 25.0  # m before a junction within which a sign is that junction's
_CLOSE = 2.2  # m between the middles of lanes that are in each other's way
_SAMPLES = 24


@dataclass(frozen=True)
class _Signal:
    """A signal or a reference to one: what it is, its number, and where it stands."""

    kind: StopKind
    number: int
    road: int
    s: float
    orientation: str
    valid: tuple[tuple[int, int], ...]

    def holds_for(self, piece: LanePiece) -> bool:
        """Whether the lane is one that it stops."""
        road, _, lane = piece.key
        if road != self.road or not piece.start - 1e-6 <= self.s <= piece.end + 1e-6:
            return False
        if self.orientation in ("+", "-") and piece.forward != (self.orientation == "+"):
            return False
        return not self.valid or any(low <= lane <= high for low, high in self.valid)


def stops_of(
    root: ElementTree.Element, pieces: Sequence[LanePiece], index: Mapping[LaneKey, int], lanes: Sequence[Lane]
) -> tuple[StopLine, ...]:
    """The stop lines of a map.

    Args:
        root: the OpenDRIVE element.
        pieces: its lanes to drive on.
        index: of each piece's lane in `lanes`; pieces without one are skipped.
        lanes: of the Road.
    """
    junction = {int(road.get("id", "-1")): int(road.get("junction", "-1")) for road in root.iter("road")}
    inside = {index[piece.key]: junction.get(piece.key[0], -1) for piece in pieces if piece.key in index}
    found: list[tuple[_Signal, int, np.ndarray]] = []
    for signal in _signals(root):
        seen: set[int] = set()
        for piece in pieces:
            k = index.get(piece.key)
            # Where one section ends the next begins: the lane that ends at the signal is the one it stops.
            if k is None or not signal.holds_for(piece) or any(n in seen for n in lanes[k].successors):
                continue
            seen.add(k)
            share = (signal.s - piece.start) / (piece.end - piece.start)
            share = share if piece.forward else 1.0 - share
            row = share * (len(lanes[k].center) - 1)
            rows = np.arange(len(lanes[k].center))
            point = np.array([np.interp(row, rows, lanes[k].center[:, axis]) for axis in (0, 1)])
            found.append((signal, k, point))
    signed = {k for signal, k, _ in found if signal.kind is not StopKind.LIGHT}
    before = predecessors((k, lane.successors) for k, lane in enumerate(lanes))
    stops: list[StopLine] = []
    numbers = itertools.count(max((signal.number for signal, *_ in found), default=0) + 1)
    for signal, k, point in found:
        ways = [n for n in lanes[k].successors if inside.get(n, -1) >= 0]
        left = float(np.linalg.norm(lanes[k].center[-1] - point))
        if signal.kind is StopKind.LIGHT:
            stops.append(StopLine(signal.number, point, signal.kind, lane=k))
        elif inside.get(k, -1) < 0 and ways and left < _AT_JUNCTION:
            for way in ways:  # whom to let go first depends on where one goes
                first = _first(lanes, before, inside, signed, way)
                stops.append(StopLine(next(numbers), point, signal.kind, first=first, lane=way))
        else:
            stops.append(StopLine(next(numbers), point, signal.kind, lane=k))
    return tuple(stops)


def _signals(root: ElementTree.Element) -> Iterator[_Signal]:
    """Those that stop traffic, with numbers of their own where theirs are none."""
    known: dict[str, tuple[StopKind, int]] = {}
    texts = [signal.get("id", "") for signal in root.iter("signal")]
    spare = itertools.count(max((int(text) for text in texts if text.isdigit()), default=0) + 1)
    for signal in root.iter("signal"):
        name, kind = signal.get("id", ""), _KINDS.get(signal.get("type", ""))
        if signal.get("dynamic") == "yes" and signal.get("type") in _LIGHTS:
            kind = StopKind.LIGHT
        if kind is not None:
            known[name] = (kind, int(name) if name.isdigit() else next(spare))
    for road in root.iter("road"):
        for element in (*road.iter("signal"), *road.iter("signalReference")):
            if element.get("id", "") in known:
                kind, number = known[element.get("id", "")]
                valid = tuple(_range(v) for v in element.iter("validity"))
                s, orientation = float(element.get("s", "0")), element.get("orientation", "none")
                yield _Signal(kind, number, int(road.get("id", "-1")), s, orientation, valid)


def _range(validity: ElementTree.Element) -> tuple[int, int]:
    ends = sorted(int(validity.get(name, "0")) for name in ("fromLane", "toLane"))
    return ends[0], ends[1]


def _first(
    lanes: Sequence[Lane],
    before: Mapping[int, Sequence[int]],
    inside: Mapping[int, int],
    signed: set[int],
    way: int,
) -> tuple[np.ndarray, ...]:
    """Ways of traffic without a sign that cross or join a lane of a junction."""
    own, sources = _sampled(lanes[way]), set(before.get(way, ()))
    first: list[np.ndarray] = []
    for other, where in inside.items():
        comes_from = set(before.get(other, ()))
        if other == way or where != inside[way] or comes_from & sources or (comes_from and comes_from <= signed):
            continue
        away = np.linalg.norm(_sampled(lanes[other])[:, None] - own, axis=2)
        if away.min() < _CLOSE:
            first += ways_into([lane.center for lane in lanes], before, other)
    return tuple(first)


def _sampled(lane: Lane) -> np.ndarray:
    at = np.linspace(0.0, lane.length, _SAMPLES)
    return np.column_stack([np.interp(at, lane.along, lane.center[:, axis]) for axis in (0, 1)])
