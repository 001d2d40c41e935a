"""Where people walk: the ways of a layout, and the places at which they can cross a road."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.spatial import cKDTree

from karp_perception.world.layout import Crossing, Layout
from karp_perception.world.models.model import Model

_REACH = 9.0  # m between the end of a crossing and the way from which people come to it
_KERB = 0.5  # m before the kerb where people wait
_SAMPLE = 8.0  # m between places tried for crossing a road anywhere
_ACROSS = (5.0, 22.0)  # m between ways on either side of a road
_BESIDE_LANE = 0.7  # m from the edge of a lane to where people wait beside it
_AWAY = 14.0  # m that such places keep from crossings


@dataclass(frozen=True)
class Footway:
    """A polyline. points: (N, 2) m; along: (N,) m; lanes: stretches (from, to; m) of it that lie in lanes."""

    points: np.ndarray
    along: np.ndarray
    lanes: tuple[tuple[float, float], ...] = ()

    def stretch(self, s: float) -> tuple[float, float] | None:
        """The stretch in a lane that holds the place `s` m along."""
        return next((stretch for stretch in self.lanes if stretch[0] <= s <= stretch[1]), None)

    @property
    def length(self) -> float:
        """In m."""
        return float(self.along[-1])

    def at(self, s: float, aside: float) -> tuple[float, float, float]:
        """x, y (m) and direction (rad) `s` m along and `aside` m to the left."""
        k = int(np.searchsorted(self.along, s, side="right")) - 1
        k = min(max(k, 0), len(self.along) - 2)
        (x0, y0), (x1, y1) = self.points[k], self.points[k + 1]
        size = self.along[k + 1] - self.along[k]
        ux, uy, u = (x1 - x0) / size, (y1 - y0) / size, s - self.along[k]
        return float(x0 + u * ux - aside * uy), float(y0 + u * uy + aside * ux), math.atan2(uy, ux)

    def project(self, x: float, y: float) -> tuple[float, float]:
        """m along and m to the left of a place."""
        p, d = self.points[:-1], np.diff(self.points, axis=0)
        square = (d * d).sum(axis=1)
        u = np.clip(((x - p[:, 0]) * d[:, 0] + (y - p[:, 1]) * d[:, 1]) / square, 0.0, 1.0)
        dx, dy = x - p[:, 0] - u * d[:, 0], y - p[:, 1] - u * d[:, 1]
        k = int((dx * dx + dy * dy).argmin())
        size = math.sqrt(square[k])
        return float(self.along[k] + u[k] * size), float((dy[k] * d[k, 0] - dx[k] * d[k, 1]) / size)


@dataclass(frozen=True)
class Passage:
    """A way over a road from one footway to another.

    Attributes:
        crossing: row of the crossing, -1 for a place without one.
        way, s: where it leaves a footway. onto, t: where it joins one; -1 for none there.
        wait: (x, y) m where one waits. leave: (x, y) m where the road is behind.
        half_width: m to either side within which people walk.
    """

    crossing: int
    way: int
    s: float
    onto: int
    t: float
    wait: tuple[float, float]
    leave: tuple[float, float]
    half_width: float

    @property
    def length(self) -> float:
        """m from where one waits to the other side."""
        return math.dist(self.wait, self.leave)


def footways_of(layout: Layout) -> list[Footway]:
    """The layout's ways that are longer than 3 m."""
    ways: list[Footway] = []
    tree, half = _lane_tree(layout)
    for points in layout.walkways:
        points = np.asarray(points, float)
        points = points[np.concatenate([[True], np.linalg.norm(np.diff(points, axis=0), axis=1) > 1e-3])]
        if len(points) < 2:
            continue
        along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        if along[-1] > 3.0:
            way = Footway(points, along)
            ways.append(Footway(points, along, _in_lanes(way, tree, half)))
    return ways


def _lane_tree(layout: Layout) -> tuple[cKDTree, np.ndarray]:
    """The middles of all lanes, and half a lane's width (m) for each point."""
    lanes = list(layout.lanes.values())
    middles = np.concatenate([lane.center[:, :2] for lane in lanes])
    return cKDTree(middles), np.concatenate([np.full(len(lane.center), 0.5 * lane.width) for lane in lanes])


def _in_lanes(way: Footway, tree: cKDTree, half: np.ndarray) -> tuple[tuple[float, float], ...]:
    s = np.arange(0.0, way.length + 0.5, 0.5)
    places = np.column_stack([np.interp(s, way.along, way.points[:, axis]) for axis in (0, 1)])
    distance, nearest = tree.query(places)
    edges = np.diff(np.concatenate([[0], (distance < half[nearest] + 0.3).astype(np.int64), [0]]))
    begins, ends = s[np.flatnonzero(edges == 1)], s[np.flatnonzero(edges == -1) - 1]
    return tuple((float(a) - 0.4, float(b) + 0.4) for a, b in zip(begins, ends, strict=True))


def marked_passages(layout: Layout, ways: list[Footway]) -> list[Passage]:
    """Both directions of every crossing that a way leads to."""
    found = []
    for row, crossing in enumerate(layout.crossings.values()):
        for start, end in ((crossing.start, crossing.end), (crossing.end, crossing.start)):
            passage = _over(row, crossing, np.asarray(start, float), np.asarray(end, float), ways)
            if passage is not None:
                found.append(passage)
    return found


def _over(row: int, crossing: Crossing, start: np.ndarray, end: np.ndarray, ways: list[Footway]) -> Passage | None:
    near, far = _nearest(ways, start), _nearest(ways, end)
    if near is None or far is None:
        return None
    u = (end - start) / np.linalg.norm(end - start)
    wait, leave = start - _KERB * u, end + _KERB * u
    inner = max(0.5 * crossing.width - 0.5, 0.1)
    return Passage(row, *near, *far, (float(wait[0]), float(wait[1])), (float(leave[0]), float(leave[1])), inner)


def _nearest(ways: list[Footway], place: np.ndarray) -> tuple[int, float] | None:
    best, found = _REACH, None
    for k, way in enumerate(ways):
        s, _ = way.project(float(place[0]), float(place[1]))
        x, y, _ = way.at(s, 0.0)
        off = math.hypot(x - place[0], y - place[1])
        if off < best:
            best, found = off, (k, s)
    return found


def unmarked_passages(layout: Layout, ways: list[Footway]) -> list[Passage]:
    """Places away from crossings where a road lies between two ways: where people cross although nothing says so."""
    if len(ways) < 2:
        return []
    tree, half = _lane_tree(layout)
    crossings = [0.5 * (np.asarray(c.start, float) + np.asarray(c.end, float)) for c in layout.crossings.values()]
    found = []
    for k, way in enumerate(ways):
        for s in np.arange(0.5 * _SAMPLE, way.length, _SAMPLE):
            x, y, _ = way.at(float(s), 0.0)
            if any(math.hypot(x - c[0], y - c[1]) < _AWAY for c in crossings):
                continue
            other = min(
                ((math.dist((x, y), w.at(w.project(x, y)[0], 0.0)[:2]), m) for m, w in enumerate(ways) if m != k),
                default=(math.inf, -1),
            )
            if not _ACROSS[0] < other[0] < _ACROSS[1]:
                continue
            t = ways[other[1]].project(x, y)[0]
            ox, oy, _ = ways[other[1]].at(t, 0.0)
            share = np.linspace(0.0, 1.0, int(other[0] / 0.25) + 1)
            line = np.column_stack([x + share * (ox - x), y + share * (oy - y)])
            distance, nearest = tree.query(line)
            on_road = np.flatnonzero(distance < half[nearest] + _BESIDE_LANE)
            if len(on_road) and on_road[0] > 0 and on_road[-1] < len(line) - 1:
                wait, leave = line[on_road[0]], line[on_road[-1]]
                places = (float(wait[0]), float(wait[1])), (float(leave[0]), float(leave[1]))
                found.append(Passage(-1, k, float(s), other[1], t, *places, 0.3))
    return found


def is_barred(passage: Passage, model: Model, x: float, y: float, yaw: float) -> bool:
    """Whether a thing that stands comes near the line over a road or the first metres before and behind it."""
    (ax, ay), (bx, by) = passage.wait, passage.leave
    if math.hypot(0.5 * (ax + bx) - x, 0.5 * (ay + by) - y) > 0.5 * passage.length + 5.0 + math.hypot(*model.size[:2]):
        return False
    ux, uy = (bx - ax) / passage.length, (by - ay) / passage.length
    c, s = math.cos(yaw), math.sin(yaw)
    for along in np.arange(-4.0, passage.length + 4.0, 0.4):
        dx, dy = ax + along * ux - x, ay + along * uy - y
        if abs(dx * c + dy * s) < 0.5 * model.size[0] + 0.5 and abs(dy * c - dx * s) < 0.5 * model.size[1] + 0.5:
            return True
    return False
