"""The path the vehicle will really sweep, and how far ahead boxes enter it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from karp_perception.core import Boxes, EgoState, Trajectory, Vehicle
from karp_perception.core.compiled import njit

_STATIONS = 240  # most poses that a path is cut into
_STEP = 0.5  # m between them where that suffices
_STEERING_TIME = 0.6  # s in which the wheels come from where they are to what is planned
_SLOWEST = 2.0  # m/s: a yaw rate says little of the curvature below
_SHRINK = 0.012  # m of half width that is left out for each m ahead: so well is the path known
_LEAST_SHARE = 0.6  # of the half width that is always looked at
_LARGEST, _FARTHEST = 1e4, 1e5  # m: beyond, a box is no thing on a road


@dataclass(frozen=True)
class SweptPath:
    """Poses of `base_link` at even distances ahead, in `base_link` now.

    Attributes:
        x, y: (M,) m. yaw: (M,) rad.
        step: m between two of them.
        vehicle: whose footprint is swept.
    """

    x: np.ndarray
    y: np.ndarray
    yaw: np.ndarray
    step: float
    vehicle: Vehicle

    @classmethod
    def ahead(cls, way: Trajectory, ego: EgoState | None, vehicle: Vehicle, length: float) -> SweptPath:
        """The planned path for `length` m, beginning with the bend that is driven now.

        The wheels need a moment to get where the plan wants them: till then the vehicle turns as it does. Beyond the
        end of the plan it goes on as it bends there.
        """
        count = int(min(_STATIONS, max(2.0, np.ceil(length / _STEP))))
        step = max(length, _STEP) / count
        s = step * np.arange(count + 1)
        bend = np.zeros(count + 1)
        if len(way) > 1:
            along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(way.x), np.diff(way.y)))])
            bend = np.interp(s, along, way.curvature)
        if ego is not None and ego.speed > _SLOWEST:
            now = float(np.clip(ego.yaw_rate / ego.speed, -1.0, 1.0))
            share = np.minimum(s / (_STEERING_TIME * ego.speed), 1.0)
            bend = now + share * (bend - now)
        most = np.tan(vehicle.max_steering_angle) / vehicle.wheelbase
        bend = np.clip(bend, -most, most)
        middle = 0.5 * (bend[1:] + bend[:-1]) * step
        yaw = np.concatenate([[0.0], np.cumsum(middle)])
        half = yaw[:-1] + 0.5 * middle
        x = np.concatenate([[0.0], np.cumsum(step * np.cos(half))])
        y = np.concatenate([[0.0], np.cumsum(step * np.sin(half))])
        return cls(x, y, yaw, step, vehicle)

    def nearest(self, boxes: Boxes) -> tuple[np.ndarray, np.ndarray]:
        """Offset to the left (N,) m of the boxes' centres from the path, and its heading (N,) where it is nearest."""
        return _nearest(self.x, self.y, self.yaw, np.ascontiguousarray(boxes.center))

    def free(self, boxes: Boxes, margin: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """How far the vehicle can go until its front, or the side behind it, touches each box.

        What lies beside the vehicle already counts only if it is in the way of the bare width, and what lies beyond
        the headroom not at all.

        Args:
            boxes: N, in `base_link`.
            margin: (N,) m that is kept free beside the vehicle for each box.

        Returns:
            (N,) m, infinite where the path is free of a box; (N,) m until the front is level with the box's nearest
            point, beside the path or on it; and (N,) offset (m) to the left of where it is touched.
        """
        vehicle = self.vehicle
        return _free(
            (self.x, self.y, self.yaw), self.step, np.ascontiguousarray(boxes.center),
            np.ascontiguousarray(boxes.size), np.ascontiguousarray(boxes.yaw), margin,
            (vehicle.front, vehicle.rear, 0.5 * vehicle.width, vehicle.height),
        )  # fmt: skip


@njit(cache=True, nogil=True, error_model="numpy")
def _nearest(x: np.ndarray, y: np.ndarray, yaw: np.ndarray, center: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """See `SweptPath.nearest`."""
    n = len(center)
    offset, heading = np.zeros(n), np.zeros(n)
    for i in range(n):
        best, least = 0, np.inf
        for k in range(len(x)):
            dx, dy = center[i, 0] - x[k], center[i, 1] - y[k]
            away = dx * dx + dy * dy
            if away < least:
                best, least = k, away
        heading[i] = yaw[best]
        offset[i] = np.cos(yaw[best]) * (center[i, 1] - y[best]) - np.sin(yaw[best]) * (center[i, 0] - x[best])
    return offset, heading


@njit(cache=True, nogil=True, error_model="numpy")
def _in_strip(px: np.ndarray, py: np.ndarray, half: float) -> tuple[float, float]:
    """Least and greatest x of a convex outline (4,) within |y| <= half; (inf, -inf) where it is outside."""
    low, high = np.inf, -np.inf
    for a in range(4):
        b = (a + 1) % 4
        y0, y1 = py[a], py[b]
        begin, end = 0.0, 1.0
        for sign in (-1.0, 1.0):
            from_edge, to_edge = half - sign * y0, half - sign * y1
            if from_edge < 0.0 and to_edge < 0.0:
                begin, end = 1.0, 0.0
            elif from_edge < 0.0:
                begin = max(begin, from_edge / (from_edge - to_edge))
            elif to_edge < 0.0:
                end = min(end, from_edge / (from_edge - to_edge))
        if begin <= end:
            first = px[a] + begin * (px[b] - px[a])
            last = px[a] + end * (px[b] - px[a])
            low, high = min(low, first, last), max(high, first, last)
    return low, high


@njit(cache=True, nogil=True, error_model="numpy")
def _free(
    path: tuple[np.ndarray, np.ndarray, np.ndarray],
    step: float,
    center: np.ndarray,
    size: np.ndarray,
    yaw: np.ndarray,
    margin: np.ndarray,
    body: tuple[float, float, float, float],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """See `SweptPath.free`. In each pose's own axes the box is clipped to the strip that the vehicle's front sweeps
    until the next pose.
    """
    x, y, heading = path
    front, rear, half, height = body
    n, stations = len(center), len(x)
    gap, level, offset = np.full(n, np.inf), np.full(n, np.inf), np.zeros(n)
    px, py = np.empty(4), np.empty(4)
    for i in range(n):
        length, width = 0.5 * size[i, 0], 0.5 * size[i, 1]
        radius = np.hypot(length, width)
        overhead = center[i, 2] - 0.5 * size[i, 2] > height
        if overhead or not radius < _LARGEST or not abs(center[i, 0]) + abs(center[i, 1]) < _FARTHEST:
            continue
        beside = False
        for k in range(stations):
            dx, dy = center[i, 0] - x[k], center[i, 1] - y[k]
            reach = radius + max(front + step, rear) + half + margin[i]
            if dx * dx + dy * dy > reach * reach:
                continue
            side = max(half - _SHRINK * step * k, _LEAST_SHARE * half)
            turn = yaw[i] - heading[k]
            c, s = np.cos(heading[k]), np.sin(heading[k])
            along, left = c * dx + s * dy, c * dy - s * dx
            ct, st = np.cos(turn), np.sin(turn)
            for corner in range(4):
                a = length if corner == 0 or corner == 3 else -length
                b = width if corner < 2 else -width
                px[corner], py[corner] = along + ct * a - st * b, left + st * a + ct * b
            low, high = _in_strip(px, py, side if beside else side + margin[i])
            if k == 0 and low < front and high > -rear:
                beside = True
                low, high = _in_strip(px, py, side)
            if low - front > step or high <= (front if k == 0 else 0.0):
                continue
            gap[i] = k * step + max(low - front, 0.0)
            level[i] = k * step + min(px[0], px[1], px[2], px[3]) - front
            offset[i] = min(max(left, -side), side)
            break
    return gap, level, offset
