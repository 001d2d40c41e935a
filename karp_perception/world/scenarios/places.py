"""Where things are along a route: distances become points, and crossings, stop lines and bends become distances."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from karp_perception.core.errors import ConfigurationError
from karp_perception.evaluation.drive_record import project
from karp_perception.world.layout import Layout
from karp_perception.world.scenarios.case import Place

_ON_ROUTE = 8.0  # m from the middle of the route within which a crossing's middle lies on it
_PARKING_REACH = 12.0  # m from the route within which parking spaces are beside it
_BEND = 1.0 / 400.0  # 1/m, from which a stretch is a bend
_SMOOTH = 8.0  # m over which directions are averaged before curvature is taken
_HILL = 0.3  # m that a crest or dip stands out within 60 m
_CONNECTOR = 60.0  # m: a shorter lane that yields lies in the junction, so one waits before it
_APART = 15.0  # m, two bends or hills nearer than this are one


class Spot(NamedTuple):
    """A point (m) and a direction (rad) in the world's frame."""

    x: float
    y: float
    yaw: float


class RouteLine:
    """The middle of a route with distances along it, from where the route begins.

    Args:
        layout: the place.
        start: m along the route where the vehicle begins.
    """

    def __init__(self, layout: Layout, start: float) -> None:
        self.layout, self.start = layout, start
        self.points = layout.route_points[:, :2]
        self.height = layout.route_points[:, 2]
        self.along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(self.points, axis=0), axis=1))])

    @property
    def length(self) -> float:
        """m."""
        return float(self.along[-1])

    def at(self, s: float, lateral: float = 0.0) -> Spot:
        """The spot `s` m along the route and `lateral` m to its left; beyond its ends it goes on straight."""
        yaw = float(np.interp(s, self.along, self._yaw))
        inside = float(np.clip(s, 0.0, self.length))
        x, y = (float(np.interp(inside, self.along, self.points[:, k])) for k in (0, 1))
        rest = s - inside
        x, y = x + rest * np.cos(yaw), y + rest * np.sin(yaw)
        return Spot(x - lateral * np.sin(yaw), y + lateral * np.cos(yaw), yaw)

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """m along and m to the left of the route, of points (N, 2)."""
        return project(self.points, np.asarray(points, float).reshape(-1, 2))

    def strip(self, begin: float, end: float, lateral: float) -> np.ndarray:
        """(N, 2) points every metre beside the route from one distance to another, backwards where `end` is less."""
        count = max(2, round(abs(end - begin)) + 1)
        return np.array([self.at(s, lateral)[:2] for s in np.linspace(begin, end, count)])

    def station(self, place: Place, source: str) -> float:
        """m along the route of a place that is not given by a gap.

        Raises ConfigurationError where the route has no such thing or ends before.
        """
        found = [s for s in self.anchors(place.anchor) if s >= self.start + place.after]
        if place.index >= len(found):
            raise ConfigurationError(
                f"{source}: from: {place.anchor} {place.index}: the route of this layout has {len(found)} of them there"
            )
        s = found[place.index] + place.along
        if not -300.0 <= s <= self.length + 300.0:
            raise ConfigurationError(
                f"{source}: along: expected a place on the route of {self.length:.0f} m, got {s:.0f} m"
            )
        return s

    def anchors(self, kind: str) -> list[float]:
        """Distances along the route of all of a kind, those that lie ahead of the vehicle's start."""
        if kind == "start":
            return [self.start]
        if kind == "end":
            return [self.length]
        return [s for s in sorted(self._found[kind]) if s > self.start]

    @cached_property
    def places(self) -> dict[str, float]:
        """All of them by name: "crossing", "crossing 1" and so on."""
        named = {"start": self.start, "end": self.length}
        for kind in self._found:
            for i, s in enumerate(self.anchors(kind)):
                named[f"{kind} {i}" if i else kind] = s
        return named

    @cached_property
    def _yaw(self) -> np.ndarray:
        step = np.diff(self.points, axis=0)
        angle = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
        return np.concatenate([angle[:1], 0.5 * (angle[1:] + angle[:-1]), angle[-1:]])

    @cached_property
    def _found(self) -> dict[str, list[float]]:
        layout = self.layout
        left, right = self._parking()
        return {
            "crossing": self._crossings(),
            "stop_line": [end for number, _, end in self._lanes if layout.lanes[number].signal is not None],
            "yield_line": self._yield_lines(),
            "junction": self._junctions(),
            "bend": self._peaks(np.abs(self._curvature), _BEND),
            "crest": self._peaks(self._standing_out, _HILL),
            "dip": self._peaks(-self._standing_out, _HILL),
            "parking_left": left,
            "parking_right": right,
        }

    @cached_property
    def _lanes(self) -> list[tuple[int, float, float]]:
        """Number, begin and end (m along the route) of its lanes."""
        found, s = [], -self.layout.start
        for number in self.layout.route:
            length = self.layout.lanes[number].length
            found.append((number, s, s + length))
            s += length
        return found

    def _crossings(self) -> list[float]:
        found = []
        for crossing in self.layout.crossings.values():
            ends = np.stack([crossing.start, crossing.end])
            _, offset = self.project(ends)
            if offset[0] * offset[1] < 0 or np.abs(offset).min() < 0.5 * _ON_ROUTE:
                share = np.clip(offset[0] / (offset[0] - offset[1]), 0, 1) if offset[0] != offset[1] else 0.5
                meeting = ends[0] + share * (ends[1] - ends[0])
                s, away = self.project(meeting)
                if abs(away[0]) < 1.0 and 0.0 < s[0] < self.length:
                    found.append(float(s[0]))
        return found

    def _yield_lines(self) -> list[float]:
        found: list[float] = []
        for number, begin, end in self._lanes:
            lane = self.layout.lanes[number]
            if lane.yields_to:
                found.append(begin if lane.length < _CONNECTOR else end)
        return found

    def _junctions(self) -> list[float]:
        """Where lanes that others cross begin: the first of a run of them."""
        route = set(self.layout.route)
        rivals = {
            other for number in route for other in self.layout.lanes[number].yields_to
        } | {lane.number for lane in self.layout.lanes.values() if route & set(lane.yields_to)}  # fmt: skip
        if not rivals:
            return []
        found = []
        for number, begin, _ in self._lanes:
            lane = self.layout.lanes[number]
            touched = bool(lane.yields_to) or any(number in self.layout.lanes[r].yields_to for r in rivals)
            if touched and lane.length < _CONNECTOR and (not found or begin - found[-1] > _APART):
                found.append(begin)
        return found

    @cached_property
    def _curvature(self) -> np.ndarray:
        """(N,) 1/m, of directions averaged over `_SMOOTH` m."""
        even = np.arange(0.0, self.length, 1.0)
        yaw = np.interp(even, self.along, self._yaw)
        width = max(1, round(_SMOOTH))
        yaw = np.convolve(np.pad(yaw, width, mode="edge"), np.ones(width) / width, "same")[width:-width]
        return np.interp(self.along, even, np.gradient(yaw))

    @cached_property
    def _standing_out(self) -> np.ndarray:
        """(N,) m by which the route is higher than the line between 30 m before and 30 m after."""
        even = np.arange(0.0, self.length, 1.0)
        z = np.interp(even, self.along, self.height)
        before, after = np.interp(even - 30.0, even, z), np.interp(even + 30.0, even, z)
        return np.interp(self.along, even, z - 0.5 * (before + after))

    def _peaks(self, values: np.ndarray, least: float) -> list[float]:
        """Where stretches above `least` have their largest value."""
        over = np.concatenate([[False], values > least, [False]])
        edges = np.flatnonzero(np.diff(over.astype(np.int8)))
        found: list[float] = []
        for i, j in zip(edges[::2], edges[1::2], strict=True):
            s = float(self.along[i + int(values[i:j].argmax())])
            if not found or s - found[-1] > _APART:
                found.append(s)
        return found

    def _parking(self) -> tuple[list[float], list[float]]:
        if not self.layout.parking:
            return [], []
        along, offset = self.project(np.array([[space.x, space.y] for space in self.layout.parking]))
        near = (np.abs(offset) < _PARKING_REACH) & (along > 0) & (along < self.length)
        return along[near & (offset > 0)].tolist(), along[near & (offset < 0)].tolist()
