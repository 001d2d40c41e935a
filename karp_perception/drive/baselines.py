"""Simple planners to compare with: the Intelligent Driver Model alone, and constant speed, both along the route."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
from scipy.ndimage import gaussian_filter1d

from karp_perception.core import (
    Boxes,
    Decision,
    DecisionKind,
    EgoState,
    LightColor,
    Objects,
    Plan,
    Road,
    Route,
    StopKind,
    Trajectory,
    Vehicle,
)
from karp_perception.core.geometry import invert_pose
from karp_perception.evaluation.drive_record import project
from karp_perception.planning.idm import IdmSettings, free_acceleration, interaction

PLANNERS = ("karp", "idm", "constant")
"""What `karp drive --planner` can be."""

_HORIZON, _STEP = 4.0, 0.1  # s
_SIGHT = 100.0  # m of way that is looked along
_LIMIT = 13.9  # m/s, where none is told
_SMOOTH = 1.5  # m over which directions of the route are averaged
_ON_LINE = 1.0  # m beside the route within which a stop line is the route's


class RouteBaseline(ABC):
    """Drives along the middle of the route; how fast is up to who inherits it."""

    def __init__(self, vehicle: Vehicle = Vehicle()) -> None:
        self.vehicle = vehicle
        self.reset()

    def reset(self) -> None:
        """Forget the route."""
        self._route: Route | None = None
        self._reached = 0.0

    def step(
        self,
        stamp_ns: int,
        objects: Objects | None,
        obstacles: Boxes | None,
        ego: EgoState | None,
        route: Route | None = None,
        speed_limit: float | None = None,
        road: Road | None = None,
        now_ns: int | None = None,
    ) -> Plan:
        """See `Planner.step`. Without motion or a route there is nothing to go by: an empty plan, NO_INPUT."""
        del obstacles, now_ns
        if ego is None or route is None:
            why = "the vehicle's motion is not known" if ego is None else "there is no route"
            return Plan(stamp_ns, Trajectory.empty(), Decision(DecisionKind.NO_INPUT, f"NO_INPUT: {why}"))
        limit = min((x for x in (speed_limit, route.speed_limit) if x is not None), default=_LIMIT)
        way = self._ahead(ego, route)
        boxes = Boxes.empty() if objects is None else objects.boxes
        speeds, decision = self.speeds(max(ego.speed, 0.0), limit, way, boxes, _lines(ego, road))
        return Plan(stamp_ns, self._trajectory(way, speeds), decision)

    @abstractmethod
    def speeds(
        self, speed: float, limit: float, way: np.ndarray, boxes: Boxes, lines: np.ndarray
    ) -> tuple[np.ndarray, Decision]:
        """What to drive and why.

        Args:
            speed, limit: m/s.
            way: (N, 2) m, the route from beside the vehicle on, in `base_link`.
            boxes: what is known of others, in `base_link`.
            lines: (L, 2) m in `base_link`, where red lights stop traffic.

        Returns:
            (T,) m/s at every `_STEP` from now on, and the decision.
        """

    def _ahead(self, ego: EgoState, route: Route) -> np.ndarray:
        """(N, 2) m in `base_link`: the route from beside the vehicle's origin on, as far as one looks."""
        points = route.points
        along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
        known = self._route is not None and np.array_equal(self._route.points, points)
        low = max(int(np.searchsorted(along, self._reached - 10.0)) - 1, 0) if known else 0
        high = max(int(np.searchsorted(along, self._reached + 50.0)) + 1, low + 2) if known else len(points)
        s, _ = project(points[low:high], ego.T_odom_base[None, :2, 3])
        self._route, self._reached = route, float(along[low] + s[0])
        at = self._reached + np.arange(0.0, _SIGHT + 1.0)
        last = points[-1] - points[-2]
        beyond = np.maximum(at - along[-1], 0.0)[:, None] * last / np.linalg.norm(last)
        line = np.stack([np.interp(at, along, points[:, k]) for k in (0, 1)], axis=1) + beyond
        T = invert_pose(ego.T_odom_base)
        return line @ T[:2, :2].T + T[:2, 3]

    def _trajectory(self, way: np.ndarray, speeds: np.ndarray) -> Trajectory:
        """Along the route at these speeds; the controller brings the vehicle onto it."""
        along = np.arange(len(way), dtype=float)
        heading = gaussian_filter1d(np.unwrap(np.arctan2(*np.gradient(way, axis=0).T[::-1])), _SMOOTH)
        s = np.concatenate([[0.0], np.cumsum(0.5 * (speeds[1:] + speeds[:-1]) * _STEP)])
        x, y, yaw, curvature = (np.interp(s, along, column) for column in (*way.T, heading, np.gradient(heading)))
        acceleration = np.append(np.diff(speeds) / _STEP, 0.0)
        return Trajectory(_STEP * np.arange(len(speeds)), x, y, yaw, speeds, acceleration, curvature)


class IdmPlanner(RouteBaseline):
    """The Intelligent Driver Model alone: follows the nearest thing in its way, stops at red lights.

    It predicts nothing and never leaves the middle of the route, like the IDM planner of nuplan-devkit that Dauner et
    al. (CoRL 2023) compare with; that one looks 40 m far, this one 100 m, because it is driven on motorways too.

    Args:
        vehicle: its footprint.
        settings: of the model.
    """

    def __init__(self, vehicle: Vehicle = Vehicle(), settings: IdmSettings = IdmSettings()) -> None:
        super().__init__(vehicle)
        self.settings = settings

    def speeds(
        self, speed: float, limit: float, way: np.ndarray, boxes: Boxes, lines: np.ndarray
    ) -> tuple[np.ndarray, Decision]:
        """See RouteBaseline."""
        gap, lead, row = self._lead(way, boxes, lines)
        idm, most = self.settings.model, self.vehicle.max_deceleration
        found, v, left = np.empty(round(_HORIZON / _STEP) + 1), speed, gap
        for k in range(len(found)):
            found[k] = v
            a = free_acceleration(v, limit, idm)
            if math.isfinite(left):
                a -= interaction(v, left, lead, idm)
            v = max(v + max(a, -most) * _STEP, 0.0)
            left += (lead - v) * _STEP
        if not math.isfinite(gap):
            return found, Decision(DecisionKind.CRUISE, "CRUISE: nothing in the way")
        what = "a red light" if row < 0 else "what is ahead"
        kind = DecisionKind.FOLLOW if lead > 0.5 else DecisionKind.STOP
        return found, Decision(kind, f"{kind.value} for {what}, {gap:.1f} m", None, max(gap, 0.0))

    def _lead(self, way: np.ndarray, boxes: Boxes, lines: np.ndarray) -> tuple[float, float, int]:
        """Gap (m) to the nearest thing in the way, its speed along it (m/s), and its row: -1 for a line, or none."""
        half, best = 0.5 * self.vehicle.width, (math.inf, 0.0, -1)
        s, offset = project(way, np.concatenate([boxes.footprint().reshape(-1, 2), lines]))
        count = 4 * len(boxes)
        near, far = s[:count].reshape(-1, 4).min(axis=1), s[:count].reshape(-1, 4).max(axis=1)
        left = offset[:count].reshape(-1, 4)
        met = (left.min(axis=1) < half) & (left.max(axis=1) > -half) & (far > 0.0) & (near < _SIGHT)
        # What is beside the vehicle already is no lead.
        met &= near > -self.vehicle.rear
        for row in np.flatnonzero(met):
            gap = float(near[row]) - self.vehicle.front
            if gap < best[0]:
                k = int(np.clip(near[row], 0, len(way) - 2))
                dx, dy = way[k + 1] - way[k]
                along = float(boxes.velocity[row] @ (dx, dy)) if np.isfinite(boxes.velocity[row]).all() else 0.0
                best = (gap, max(along, 0.0), int(row))
        for at, away in zip(s[count:], offset[count:], strict=True):
            gap = float(at) - self.vehicle.front
            if abs(away) < _ON_LINE and -1.0 < gap < best[0]:
                best = (max(gap, 0.1), 0.0, -1)
        return best


class ConstantPlanner(RouteBaseline):
    """Drives on at the speed it began with, whatever comes."""

    def reset(self) -> None:
        """Forget the route and the speed."""
        super().reset()
        self._speed: float | None = None

    def speeds(
        self, speed: float, limit: float, way: np.ndarray, boxes: Boxes, lines: np.ndarray
    ) -> tuple[np.ndarray, Decision]:
        """See RouteBaseline."""
        if self._speed is None:
            self._speed = speed
        return np.full(round(_HORIZON / _STEP) + 1, self._speed), Decision(
            DecisionKind.CRUISE, f"CRUISE at {self._speed * 3.6:.0f} km/h, whatever comes"
        )


def make_baseline(name: str, vehicle: Vehicle) -> RouteBaseline:
    """The baseline of a name in PLANNERS other than karp."""
    return {"idm": IdmPlanner, "constant": ConstantPlanner}[name](vehicle)


def _lines(ego: EgoState, road: Road | None) -> np.ndarray:
    """(L, 2) m in `base_link`, where red lights stop traffic."""
    stops = () if road is None else road.stops
    red = [stop.point for stop in stops if stop.kind is StopKind.LIGHT and stop.color is LightColor.RED]
    T = invert_pose(ego.T_odom_base)
    return np.array(red, float).reshape(-1, 2) @ T[:2, :2].T + T[:2, 3]
