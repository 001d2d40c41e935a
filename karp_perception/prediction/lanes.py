"""Lanes to follow: where along them something is, and where they lead."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from karp_perception.core import Lane
from karp_perception.core.errors import InvalidInput
from karp_perception.core.geometry import wrap_angle
from karp_perception.prediction.rollout import SEGMENT_S, speeds
from karp_perception.prediction.state import MotionState

SPACING = 2.0
"""Between two points of a lane, m."""

_WAY_AHEAD = 80.0  # m beyond its own end that a lane is followed
_BESIDE = 2.2  # m: who is farther from a lane's middle does not follow it
_ASLANT = 0.8  # rad: nor does who moves in another direction
_LOOK_AHEAD_S, _LEAST_LOOK_AHEAD = 1.2, 5.0  # s, m: followers steer for a point so far ahead


@dataclass(frozen=True)
class Lanes:
    """Ways through a place, sampled evenly, in any planar frame.

    Attributes:
        points: (P, 2) m, one way after the other. heading: (P,) rad.
        last: (P,) index of the last point of the way that each point belongs to.
    """

    points: np.ndarray
    heading: np.ndarray
    last: np.ndarray

    @classmethod
    def of(cls, ways: Sequence[np.ndarray]) -> Lanes:
        """From polylines (N, 2) m, N >= 2. Raises InvalidInput for what is no polyline."""
        points, heading, last, count = [np.zeros((0, 2))], [np.zeros(0)], [np.zeros(0, int)], 0
        for way in ways:
            if way.ndim != 2 or way.shape[1] != 2 or len(way) < 2 or not np.isfinite(way).all():
                raise InvalidInput("a way to follow", "finite points (N, 2), N >= 2", f"shape {way.shape}")
            step = np.hypot(*np.diff(way, axis=0).T)
            along = np.concatenate([[0.0], np.cumsum(step)])
            if along[-1] < SPACING:
                continue
            at = np.arange(0.0, along[-1], SPACING)
            line = np.stack([np.interp(at, along, way[:, axis]) for axis in (0, 1)], axis=1)
            ahead = np.diff(line, axis=0) if len(line) > 1 else way[-1:] - way[:1]
            ahead = np.concatenate([ahead, ahead[-1:]]) if len(line) > 1 else ahead
            points.append(line)
            heading.append(np.arctan2(ahead[:, 1], ahead[:, 0]))
            last.append(np.full(len(line), count + len(line) - 1))
            count += len(line)
        return cls(np.concatenate(points), np.concatenate(heading), np.concatenate(last))

    def __len__(self) -> int:
        return len(self.points)

    def joined(self, state: MotionState) -> np.ndarray:
        """(N,) index of the point from which each thing follows a way, -1 where there is none that it is on.

        The nearest of those that lead where it moves; a vehicle or two-wheeler is on a way if it is within 2.2 m of its
        middle. Nobody else follows one.
        """
        if len(self) == 0 or len(state) == 0:
            return np.full(len(state), -1)
        away = np.hypot(*(state.position[:, None] - self.points).transpose(2, 0, 1))
        aslant = np.abs(wrap_angle(state.heading[:, None] - self.heading))
        cost = np.where((aslant < _ASLANT) & (away < _BESIDE + 0.5 * SPACING), away + 2.0 * aslant, np.inf)
        best = cost.argmin(axis=1)
        rows = np.arange(len(state))
        offset = state.position - self.points[best]
        c, s = np.cos(self.heading[best]), np.sin(self.heading[best])
        beside = np.abs(c * offset[:, 1] - s * offset[:, 0])
        return np.where(np.isfinite(cost[rows, best]) & (beside < _BESIDE) & (state.group < 2), best, -1)

    def at(self, index: np.ndarray, ahead: np.ndarray) -> np.ndarray:
        """(..., 2) points `ahead` (...) m along the ways from the points `index` (...); straight on at their ends."""
        steps = ahead / SPACING
        position = index + steps
        low = np.minimum(np.floor(position).astype(int), self.last[index])
        rest = (position - low) * SPACING
        direction = np.stack([np.cos(self.heading[low]), np.sin(self.heading[low])], axis=-1)
        return self.points[low] + rest[..., None] * direction

    def follow(self, state: MotionState, index: np.ndarray, acceleration: np.ndarray) -> np.ndarray:
        """Turn rates (N, K, S) by which things follow the ways from the points `index` (N,), for accelerations alike.

        Pure pursuit (Coulter, 1992): an arc to a point on the way ahead. Where it leads depends on `rollout.roll_out`,
        which bounds what is asked for here.
        """
        v = speeds(state.speed[:, None], acceleration)
        n, k, count = acceleration.shape
        turn = np.zeros((n, k, count))
        x = np.broadcast_to(state.position[:, None, 0], (n, k)).copy()
        y = np.broadcast_to(state.position[:, None, 1], (n, k)).copy()
        heading = np.broadcast_to(state.heading[:, None], (n, k)).copy()
        offset = state.position - self.points[index]
        along = offset[:, 0] * np.cos(self.heading[index]) + offset[:, 1] * np.sin(self.heading[index])
        way = np.broadcast_to(along[:, None], (n, k)).copy()
        start = np.broadcast_to(index[:, None], (n, k))
        limit_curvature, limit_lateral = state.limits[:, 0, None], state.limits[:, 1, None]
        for segment in range(count):
            middle = 0.5 * (v[..., segment] + v[..., segment + 1])
            reach = np.maximum(_LEAST_LOOK_AHEAD, _LOOK_AHEAD_S * middle)
            goal = self.at(start, np.maximum(way, 0.0) + reach)
            dx, dy = goal[..., 0] - x, goal[..., 1] - y
            across = -np.sin(heading) * dx + np.cos(heading) * dy
            most = np.minimum(limit_curvature, limit_lateral / np.maximum(middle, 1e-3) ** 2)
            curvature = np.clip(2.0 * across / np.maximum(dx**2 + dy**2, 1.0), -most, most)
            rate = curvature * middle
            turn[..., segment] = rate
            angle = heading + 0.5 * SEGMENT_S * rate
            x, y = x + middle * SEGMENT_S * np.cos(angle), y + middle * SEGMENT_S * np.sin(angle)
            heading = heading + SEGMENT_S * rate
            way = way + SEGMENT_S * middle
        return turn


def ways_ahead(lanes: Sequence[Lane]) -> list[np.ndarray]:
    """(N, 2) m, of each lane of a map: its middle, and on along what follows it most nearly straight.

    Whoever is about to turn off is on the lane that turns once it does so.
    """
    headings = []
    for lane in lanes:
        first, last = lane.center[1] - lane.center[0], lane.center[-1] - lane.center[-2]
        headings.append((np.arctan2(first[1], first[0]), np.arctan2(last[1], last[0])))
    ways = []
    for number in range(len(lanes)):
        pieces, length, k = [lanes[number].center], 0.0, number
        while length < _WAY_AHEAD and lanes[k].successors:
            end = headings[k][1]
            k = min(lanes[k].successors, key=lambda n: _turn(end, headings[n][0]) + _turn(*headings[n]))
            pieces.append(lanes[k].center)
            length += lanes[k].length
        way = np.concatenate(pieces)
        step = np.linalg.norm(np.diff(way, axis=0), axis=1)
        ways.append(way[np.r_[True, step > 1e-6]])
    return ways


def _turn(first: float, second: float) -> float:
    return abs(float(wrap_angle(second - first)))
