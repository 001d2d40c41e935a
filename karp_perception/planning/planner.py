"""The planner: objects, obstacles, own motion and a route become a trajectory and a decision with its reason."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from karp_perception.core import (
    Boxes,
    Decision,
    DecisionKind,
    EgoState,
    MotionSource,
    Objects,
    Plan,
    Route,
    Trajectory,
    Vehicle,
)
from karp_perception.core.errors import InvalidInput
from karp_perception.core.geometry import invert_pose, transform_points
from karp_perception.core.settings import Settings, nested, setting
from karp_perception.core.validation import as_stamp
from karp_perception.planning.corridor import Approach, Corridor
from karp_perception.planning.decision import DecisionFilter, DecisionSettings, choose, describe, is_emergency
from karp_perception.planning.hazard_memory import HazardMemory
from karp_perception.planning.hazards import Hazard, HazardSettings, find_hazards
from karp_perception.planning.idm import IdmSettings
from karp_perception.planning.reference_line import ReferenceLine, nearest_distance, polyline_distance
from karp_perception.planning.surroundings import Surroundings
from karp_perception.planning.trajectory import (
    MotionLimits,
    SpeedProfile,
    along_line,
    brake,
    follow,
    needed_deceleration,
    speed_bound,
)


@dataclass(frozen=True)
class PlannerSettings(Settings):
    """How the vehicle is to be driven."""

    idm: IdmSettings = nested(IdmSettings)
    hazards: HazardSettings = nested(HazardSettings)
    limits: MotionLimits = nested(MotionLimits)
    decision: DecisionSettings = nested(DecisionSettings)
    speed_limit: float = setting(13.9, "where neither route nor map says", unit="m/s", low=0.0, high=70.0)
    lateral_margin: float = setting(0.25, "kept free on either side of the vehicle", unit="m", low=0.0, high=2.0)
    comfort_stop: float = setting(2.0, "deceleration when nothing is known any more", unit="m/s2", low=0.1, high=6.0)
    harmless: float = setting(1.0, "where less is needed, a moment's wait is harmless", unit="m/s2", low=0.0, high=6.0)
    farthest_route: float = setting(8.0, "a route farther away is not followed", unit="m", low=0.5, high=100.0)
    return_time: float = setting(3.0, "for coming back to the route", unit="s", low=0.5, high=20.0)
    return_distance: float = setting(12.0, "and at least", unit="m", low=2.0, high=100.0)
    arc_speed: float = setting(1.0, "below it, without a route, the path is straight", unit="m/s", low=0.1, high=10.0)
    arc_turn: float = setting(0.8, "an arc goes straight on after turning so far", unit="rad", low=0.0, high=3.0)
    arc_memory: float = setting(0.5, "time over which the arc's curvature is averaged", unit="s", low=0.0, high=5.0)
    longest_gap: float = setting(1.0, "after a longer gap in time nothing is remembered", unit="s", low=0.1, high=10.0)
    crossing_before: float = setting(1.0, "time kept before something crosses", unit="s", low=0.0, high=5.0)
    crossing_after: float = setting(0.5, "and after", unit="s", low=0.0, high=5.0)


class Planner:
    """Follows a route, or the path the vehicle is on, and keeps off what is in the way.

    Remembers the last plan for continuity: hazards and emergencies are confirmed over frames, and decisions become
    calmer only when several frames agree. `reset` forgets it, and so does any jump in time.
    """

    def __init__(self, settings: PlannerSettings | None = None, vehicle: Vehicle | None = None) -> None:
        self.settings = settings or PlannerSettings()
        self.vehicle = vehicle or Vehicle()
        self.reset()

    def reset(self) -> None:
        """Forgets everything about earlier frames."""
        self._stamp_ns: int | None = None
        self._last: Plan | None = None
        self._memory = HazardMemory(self.settings.hazards)
        self._filter = DecisionFilter(self.settings.decision)
        self._curvature = 0.0
        self._route: Route | None = None
        self._progress: float | None = None
        self._alarms = 0
        self._emergency = False

    def step(
        self,
        stamp_ns: int,
        objects: Objects | None,
        obstacles: Boxes | None,
        ego: EgoState | None,
        route: Route | None = None,
        speed_limit: float | None = None,
    ) -> Plan:
        """Plans from one moment on.

        Args:
            stamp_ns: the moment, ns; objects and obstacles belong to it.
            objects: tracked, `base_link`; None where the tracker said nothing.
            obstacles: of the geometric channel, `base_link`; None where it said nothing.
            ego: the vehicle's motion; None where it is not known.
            route: where to go; None follows the path the vehicle is on.
            speed_limit: m/s; the lowest of it, the route's and the settings' one holds (the settings' only where no
                other is known).

        Returns:
            the plan; without inputs, or with a route that cannot be followed, NO_INPUT and a comfortable stop.

        Raises:
            InvalidInput: an impossible stamp or speed limit, or boxes in another frame than `base_link`.
        """
        stamp_ns = as_stamp("Planner.step stamp_ns", stamp_ns)
        if speed_limit is not None and not (np.isfinite(speed_limit) and speed_limit >= 0):
            raise InvalidInput("Planner.step speed_limit", "m/s of at least 0, or None", speed_limit)
        for name, boxes in (("objects", objects.boxes if objects else None), ("obstacles", obstacles)):
            if boxes is not None and boxes.frame != "base_link":
                raise InvalidInput(f"Planner.step {name}", "boxes in base_link", boxes.frame, "transform them first")
        dt = 0.0 if self._stamp_ns is None else (stamp_ns - self._stamp_ns) * 1e-9
        if dt < 0 or dt > self.settings.longest_gap:
            self.reset()
            dt = 0.0
        plan = self._plan(stamp_ns, dt, objects, obstacles, ego, route, speed_limit)
        self._stamp_ns, self._last = stamp_ns, plan
        return plan

    def _plan(
        self,
        stamp_ns: int,
        dt: float,
        objects: Objects | None,
        obstacles: Boxes | None,
        ego: EgoState | None,
        route: Route | None,
        speed_limit: float | None,
    ) -> Plan:
        settings = self.settings
        if ego is None:
            return self._without_input(stamp_ns, dt, None, "the vehicle's motion is not known")
        if objects is None and obstacles is None:
            return self._without_input(stamp_ns, dt, ego, "neither objects nor obstacles are known")
        limit = min((x for x in (speed_limit, route.speed_limit if route else None) if x is not None), default=None)
        limit = settings.speed_limit if limit is None else min(limit, 100.0)
        speed = float(np.clip(ego.speed, 0.0, 100.0))
        length = max(40.0, 1.5 * max(speed, limit) * settings.limits.horizon)
        line = self._line(ego, route, length, dt)
        if isinstance(line, str):
            return self._without_input(stamp_ns, dt, ego, line)
        approach = self._approach(line, speed) if route else Approach()
        corridor = Corridor(line, self.vehicle, settings.lateral_margin, length, approach)
        around = Surroundings.of(objects or Objects.empty(), obstacles or Boxes.empty(), line, settings.hazards.around)
        found = find_hazards(around, corridor, settings.hazards)
        needed = [needed_deceleration(h.gap, speed - h.speed) for h in found]
        urgent = [n > settings.comfort_stop and not h.guessed for h, n in zip(found, needed, strict=True)]
        soon = [n > settings.harmless or h.speed != 0.0 for h, n in zip(found, needed, strict=True)]
        found = [replace(h, firm=h.firm and s and not h.guessed) for h, s in zip(found, soon, strict=True)]
        hazards = self._memory.filtered(found, urgent, ego, dt)
        started = self._started(dt)
        bound = speed_bound(line, approach, speed, limit, settings.limits)
        goal = self._goal(line)
        ways = (line, bound, settings.idm, settings.limits)
        leads = [h for h in hazards if not h.crossing] + goal
        profile = follow(speed, started, leads, *ways)
        crossing, met = [h for h in hazards if h.crossing], leads
        for _ in range(2):  # yielding to one may bring the vehicle in the way of another
            conflicts = [h for h in crossing if self._conflict(h, profile)]
            if not conflicts:
                break
            crossing = [h for h in crossing if h not in conflicts]
            met = met + [self._yielded(h) for h in conflicts]
            profile = follow(speed, started, met, *ways)
        return self._decided(stamp_ns, profile, met, line, approach, speed, started, limit)

    def _decided(
        self,
        stamp_ns: int,
        profile: SpeedProfile,
        hazards: list[Hazard],
        line: ReferenceLine,
        approach: Approach,
        speed: float,
        started: float,
        limit: float,
    ) -> Plan:
        """Emergency or not, the decision in words, and the trajectory."""
        settings = self.settings.decision
        alarming = [h for h in hazards if not h.title and is_emergency(h, speed, settings)]
        self._alarms = self._alarms + 1 if alarming else 0
        if self._emergency:
            worst = max((needed_deceleration(h.gap, speed - h.speed) for h in hazards), default=0.0)
            self._emergency = speed > 0.1 and worst > settings.emergency_release
        if self._alarms >= settings.emergency_frames:
            self._emergency = True
        if self._emergency:
            target = max(hazards, key=lambda h: needed_deceleration(h.gap, speed - h.speed))
            decision = describe(DecisionKind.EMERGENCY_STOP, target, speed, settings.standing)
            limits = self.settings.limits
            profile = brake(speed, started, self.vehicle.max_deceleration, limits.emergency_jerk, limits)
        else:
            last = self._last.decision.target_id if self._last else None
            decision, target = choose(profile, hazards, last, limit, settings)
        decision = self._filter.filtered(decision, target, speed)
        return Plan(stamp_ns, along_line(profile, line, approach, self.vehicle), decision)

    def _line(self, ego: EgoState, route: Route | None, length: float, dt: float) -> ReferenceLine | str:
        """The line to follow in `base_link`, or why there is none."""
        behind = self.vehicle.rear + 10.0
        if route is None:
            return self._arc(ego, behind, length, dt)
        if route is not self._route:
            self._route, self._progress = route, None
        points = np.column_stack([route.points, np.full(len(route.points), ego.T_odom_base[2, 3])])
        points = transform_points(invert_pose(ego.T_odom_base), points)[:, :2]
        if np.abs(points).max() > 1e7:
            return "the route has points more than 10,000 km away"
        along = polyline_distance(points)
        origin, away = nearest_distance(points, along, self._progress)
        if away > self.settings.farthest_route:
            return f"the route is {away:.0f} m away"
        line = ReferenceLine.from_polyline(points, origin, behind, length)
        if np.cos(line.at(np.zeros(1))[1][0]) < 0.2:
            return "the route leads another way than the vehicle points"
        self._progress = origin
        return line

    def _arc(self, ego: EgoState, behind: float, length: float, dt: float) -> ReferenceLine:
        """The path the vehicle is on: an arc as it turns now, straight when it hardly moves."""
        settings, vehicle = self.settings, self.vehicle
        speed = ego.speed
        known = ego.source != MotionSource.NONE and speed >= settings.arc_speed
        curvature = float(np.clip(ego.yaw_rate, -3.0, 3.0)) / max(speed, settings.arc_speed) if known else 0.0
        most = np.tan(vehicle.max_steering_angle) / vehicle.wheelbase
        curvature = float(np.clip(curvature, -most, most))
        first = self._stamp_ns is None
        share = 1.0 if first or settings.arc_memory == 0 else 1 - np.exp(-dt / settings.arc_memory)
        self._curvature += share * (curvature - self._curvature)
        return ReferenceLine.arc(self._curvature, behind, length, settings.arc_turn)

    def _approach(self, line: ReferenceLine, speed: float) -> Approach:
        """The way from where the vehicle is and points back to the line."""
        offset = float(line.project(np.zeros((1, 2)))[1][0])
        slope = float(np.clip(np.tan(-line.at(np.zeros(1))[1][0]), -1.0, 1.0))
        length = max(self.settings.return_distance, self.settings.return_time * speed, 4 * abs(offset))
        return Approach(offset, slope, length)

    def _goal(self, line: ReferenceLine) -> list[Hazard]:
        """The end of the route as something to stop for; the gap is such that the vehicle's origin gets there."""
        if not np.isfinite(line.end):
            return []
        return [Hazard(max(line.end, 0.0) + self.settings.idm.min_gap, 0.0, None, -1, title="the end of the route")]

    def _conflict(self, hazard: Hazard, profile: SpeedProfile) -> bool:
        """Whether the vehicle would be where the hazard crosses, at about the time when it does.

        Who was yielded to a moment ago is given twice the time, so as not to hesitate at the edge of it.
        """
        settings, vehicle = self.settings, self.vehicle
        last = self._last.decision if self._last else None
        patient = last is not None and last.kind == DecisionKind.YIELD and last.target_id == hazard.track_id
        share = 2.0 if patient else 1.0
        begin, end = hazard.occupied
        begin, end = begin - share * settings.crossing_before, end + share * settings.crossing_after
        when = (profile.time >= begin) & (profile.time <= end)
        reached = profile.distance >= hazard.gap - settings.idm.min_gap
        passed = profile.distance - vehicle.front - vehicle.rear > hazard.far
        return bool((when & reached & ~passed).any())

    def _yielded(self, hazard: Hazard) -> Hazard:
        begin, end = hazard.occupied
        return replace(hazard, occupied=(begin, end + self.settings.crossing_after))

    def _started(self, dt: float) -> float:
        """The acceleration until now by the last plan, m/s²; each of a plan's values holds for a step."""
        if self._last is None or len(self._last.trajectory) == 0:
            return 0.0
        trajectory = self._last.trajectory
        before = np.searchsorted(trajectory.time, dt - 1e-6) - 1
        return float(trajectory.acceleration[max(before, 0)])

    def _without_input(self, stamp_ns: int, dt: float, ego: EgoState | None, why: str) -> Plan:
        """A comfortable stop, straight ahead or as the vehicle turns: where it was going is all there is to go by."""
        settings = self.settings
        speed, started, last = 0.0, self._started(dt), self._last
        if ego is not None:
            speed = float(np.clip(ego.speed, 0.0, 100.0))
            line = self._arc(ego, self.vehicle.rear + 10.0, 100.0, dt)
        else:
            line = ReferenceLine.arc(self._curvature, 1.0, 100.0, settings.arc_turn)
            if last is not None and len(last.trajectory):
                speed = float(np.interp(dt, last.trajectory.time, last.trajectory.speed))
        profile = brake(speed, started, settings.comfort_stop, settings.limits.jerk, settings.limits)
        self._alarms, self._emergency = 0, False
        trajectory: Trajectory = along_line(profile, line, Approach(), self.vehicle)
        decision = Decision(DecisionKind.NO_INPUT, f"NO_INPUT: {why}; stopping")
        return Plan(stamp_ns, trajectory, self._filter.filtered(decision, None, speed))
