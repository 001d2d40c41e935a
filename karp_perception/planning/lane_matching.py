"""Which lanes of a map a route follows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from karp_perception.core.road import Lane
from karp_perception.planning.reference_line import polyline_at

_SPACING = 1.0  # m between the points of lanes
_MOST = 32  # points of lanes that are looked at around a station
_BESIDE = 0.3  # m beyond a lane's edge within which the route still follows it
_ASLANT = 0.7  # cosine: lanes that run in another direction are not followed
_NOWHERE = 4.0  # cost of a station without a lane; for one with a lane it is the distance to its middle, m
_CHANGE, _JUMP = 2.0, 6.0  # cost of going on in the lane beside, or in one that does not follow


class LaneSamples:
    """Points of all lanes, at most 1 m apart."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        points, direction, owner = [np.zeros((0, 2))], [np.zeros((0, 2))], [np.zeros(0, int)]
        for k, lane in enumerate(lanes):
            s = np.linspace(0.0, lane.length, max(int(np.ceil(lane.length / _SPACING)), 1) + 1)
            line = polyline_at(lane.center, lane.along, s)
            ahead = np.gradient(line, axis=0)
            points.append(line)
            direction.append(ahead / np.maximum(np.linalg.norm(ahead, axis=1), 1e-9)[:, None])
            owner.append(np.full(len(line), k))
        self.points, self.direction = np.concatenate(points), np.concatenate(direction)
        self.owner = np.concatenate(owner)
        self.first = np.searchsorted(self.owner, np.arange(len(lanes) + 1))

    def feet(self, lane: np.ndarray, points: np.ndarray, reach: float) -> np.ndarray:
        """(S, 2) the point on the middle of lane (S,) that lies beside each point (S, 2); NaN where none does.

        A lane's end still lies beside what is less than `reach` m beyond it.
        """
        feet = np.full(points.shape, np.nan)
        for k in np.unique(lane[lane >= 0]):
            rows = np.flatnonzero(lane == k)
            part = slice(self.first[k], self.first[k + 1])
            middle, direction = self.points[part], self.direction[part]
            offset = points[rows, None] - middle
            nearest = np.argmin(np.einsum("rni,rni->rn", offset, offset), axis=1)
            ahead = np.einsum("ri,ri->r", offset[np.arange(len(rows)), nearest], direction[nearest])
            beside = np.abs(ahead) <= reach
            feet[rows[beside]] = (middle[nearest] + ahead[:, None] * direction[nearest])[beside]
        return feet


def followed_lanes(lanes: Sequence[Lane], samples: LaneSamples, points: np.ndarray, heading: np.ndarray) -> np.ndarray:
    """(S,) lane that a route follows at each of its stations, points and headings (S, 2); -1 for none.

    The cheapest of all ways through the lanes near it: close to their middles, from each lane into one that follows
    (Viterbi, as in map matching: Newson and Krumm 2009). So where lanes part, those further on decide.
    """
    if not lanes:
        return np.full(len(points), -1)
    widest = max(lane.width for lane in lanes)
    count = min(_MOST, len(samples.points))
    _, found = cKDTree(samples.points).query(
        points, k=np.arange(1, count + 1), distance_upper_bound=0.5 * widest + _SPACING
    )
    width = np.array([lane.width for lane in lanes])
    states: list[dict[int, tuple[float, int]]] = []  # of each station: lane -> (cost, lane at the station before)
    before: dict[int, tuple[float, int]] = {-1: (0.0, -1)}
    for station, (point, ahead) in enumerate(zip(points, heading, strict=True)):
        near = found[station][found[station] < len(samples.points)]
        offset, direction, owner = point - samples.points[near], samples.direction[near], samples.owner[near]
        aside = np.abs(direction[:, 0] * offset[:, 1] - direction[:, 1] * offset[:, 0])
        beside = np.abs(np.einsum("ni,ni->n", offset, direction)) <= _SPACING
        fits = (aside <= 0.5 * width[owner] + _BESIDE) & (direction @ ahead >= _ASLANT) & beside
        costs = {-1: _NOWHERE}
        for k, cost in zip(owner[fits].tolist(), aside[fits].tolist(), strict=True):
            costs[k] = min(cost, costs.get(k, np.inf))
        now = {}
        for k, cost in costs.items():
            step = [(total + _transition(lanes, j, k), j) for j, (total, _) in before.items()]
            least, origin = min(step)
            now[k] = (least + cost, origin)
        states.append(now)
        before = now
    lane = np.empty(len(points), int)
    k = min(before, key=lambda k: before[k][0])
    for station in range(len(points) - 1, -1, -1):
        lane[station] = k
        k = states[station][k][1]
    return lane


def _transition(lanes: Sequence[Lane], a: int, b: int) -> float:
    if a == b:
        return 0.0
    if a < 0 or b < 0:
        return 0.5 * _JUMP
    if b in lanes[a].successors:
        return 0.0
    if any(b in lanes[n].successors for n in lanes[a].successors):  # a lane shorter than a step
        return 0.5
    return _CHANGE if b in (lanes[a].left, lanes[a].right) else _JUMP
