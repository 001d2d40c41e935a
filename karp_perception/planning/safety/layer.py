"""The safety layer: the last word on every plan, whatever made it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from karp_perception.core import Boxes, Decision, DecisionKind, EgoState, Objects, Plan, Route, Trajectory, Vehicle
from karp_perception.core.settings import Settings, nested, setting
from karp_perception.planning.safety.emergency_brake import Alarm, EmergencyBrake, EmergencyBrakeSettings
from karp_perception.planning.safety.limits import LimitSettings, within_limits
from karp_perception.planning.safety.retimed import slowed, stopping_distance
from karp_perception.planning.safety.rss import Danger, RssCheck, RssSettings
from karp_perception.planning.safety.swept_path import SweptPath
from karp_perception.planning.safety.watchdog import Caution, Finding, Watchdog, WatchdogSettings

_STANDING = 0.5  # m/s, slower objects stand
_FASTEST = 100.0  # m/s, what is faster is an error


@dataclass(frozen=True)
class SafetySettings(Settings):
    """The rules, each with its own switch `enabled`."""

    rss: RssSettings = nested(RssSettings)
    emergency_brake: EmergencyBrakeSettings = nested(EmergencyBrakeSettings)
    watchdog: WatchdogSettings = nested(WatchdogSettings)
    limits: LimitSettings = nested(LimitSettings)
    jerk: float = setting(4.0, "with which the watchdog's braking is built up", unit="m/s3", low=0.5)


class SafetyLayer:
    """Checks every plan, and makes it safer where a rule says so.

    It knows nothing of networks, scores and why a plan was chosen. It only ever slows a plan down on the plan's own
    path, or brings it within the vehicle's limits; what it found and did is in the plan's notes.
    """

    def __init__(self, settings: SafetySettings | None = None, vehicle: Vehicle | None = None) -> None:
        self.settings = settings or SafetySettings()
        self.vehicle = vehicle or Vehicle()
        self._rss = RssCheck(self.settings.rss, self.vehicle)
        self._brake = EmergencyBrake(self.settings.emergency_brake, self.vehicle)
        self._watchdog = Watchdog(self.settings.watchdog)
        self.reset()

    def reset(self) -> None:
        """Forget everything about earlier plans. Not to be called for a jump of time: that is one of the rules."""
        self._stamp_ns: int | None = None
        self._last = Trajectory.empty()
        self._rss.reset()
        self._brake.reset()
        self._watchdog.reset()

    def checked(
        self,
        plan: Plan,
        objects: Objects | None,
        obstacles: Boxes | None,
        ego: EgoState | None,
        limit: float,
        now_ns: int,
        route: Route | None = None,
    ) -> Plan:
        """The plan, or a safer one on the same path.

        Args:
            plan: what is to be driven from its stamp on.
            objects, obstacles: what it was made of, `base_link` at its stamp; None where nothing came.
            ego: the vehicle's motion at its stamp; None where it is not known.
            limit: speed limit, m/s; infinite where there is none.
            now_ns: on the clock of the plan's stamp, ns; later than it by what sensing and thinking took.
            route: that is followed; None where none came.

        Returns:
            the plan itself where no rule has anything to say.
        """
        dt = 0.0 if self._stamp_ns is None else (plan.stamp_ns - self._stamp_ns) * 1e-9
        self._stamp_ns = plan.stamp_ns
        age = (now_ns - plan.stamp_ns) * 1e-9
        inputs = {"objects": objects is not None, "obstacles": obstacles is not None, "route": route is not None}
        finding = self._watchdog.observed(dt, age, inputs, ego) if self.settings.watchdog.enabled else None
        if self._watchdog.is_jump(dt):
            self._brake.forget()
            self._rss.reset()
            dt = 0.0
        trusted = ego is not None and not (finding is not None and finding.blind)
        speed = float(np.clip(ego.speed, 0.0, _FASTEST)) if trusted else self._reckoned_speed(plan, dt)
        age = float(np.clip(age, 0.0, self.settings.watchdog.too_late))
        started = self._started(dt)
        path = SweptPath.ahead(plan.trajectory, ego if trusted else None, self.vehicle, self._reach(speed))
        checked = plan if finding is None else self._cautious(plan, finding, speed, started)
        if self.settings.rss.enabled and objects is not None:
            dangers = self._rss.dangers(checked.trajectory, path, objects, speed, age)
            checked = self._responded(checked, dangers, speed, started)
        if self.settings.emergency_brake.enabled:
            alarm = self._brake.observed(obstacles, path, speed, dt, age)
            checked = checked if alarm is None else self._braked(checked, alarm, speed, started)
        way, notes = within_limits(checked.trajectory, self.vehicle, self.settings.limits, limit)
        if notes:
            checked = _noted(replace(checked, trajectory=way), "limits: " + "; ".join(notes))
        self._last = checked.trajectory
        return checked

    def _cautious(self, plan: Plan, finding: Finding, speed: float, started: float) -> Plan:
        """A plan that drives no more than the watchdog's finding lets it."""
        settings, jerk = self.settings.watchdog, self.settings.jerk
        most, until = {
            Caution.HOLD: (0.0, speed),
            Caution.SLOW: (settings.slowing, settings.degraded_speed),
            Caution.STOP: (self.vehicle.comfortable_deceleration, 0.0),
        }[finding.caution]
        way = slowed(plan.trajectory, speed, started, most, jerk, until)
        if finding.caution == Caution.HOLD:
            return _noted(replace(plan, trajectory=way), f"watchdog: {finding.reason}; no faster than now")
        if finding.caution == Caution.SLOW:
            words = f"{finding.reason}; no faster than {settings.degraded_speed:.1f} m/s"
            kind = DecisionKind.SLOW
        else:
            words = f"{finding.reason}; standing within {stopping_distance(way, most):.0f} m"
            kind = DecisionKind.NO_INPUT if finding.blind else DecisionKind.STOP
        decision = _more_cautious(plan.decision, Decision(kind, f"{kind.value}: {words}"))
        return _noted(replace(plan, trajectory=way, decision=decision), f"watchdog: {words}")

    def _responded(self, plan: Plan, dangers: list[Danger], speed: float, started: float) -> Plan:
        """A plan that gives RSS's proper response to the worst danger."""
        if not dangers:
            return plan
        plan = _noted(plan, *(danger.note() for danger in dangers[:3]))
        worst = dangers[0]
        if worst.braking <= 0.0:
            return plan
        jerk = self.settings.rss.jerk
        way = slowed(plan.trajectory, speed, started, worst.braking, jerk, max(worst.speed, 0.0))
        kind = DecisionKind.STOP if worst.speed < _STANDING else DecisionKind.SLOW
        ttc = worst.gap / worst.closing
        reason = (
            f"{kind.value} to keep a safe distance to {worst.name}, {worst.gap:.1f} of {worst.safe:.1f} m, "
            f"closing {worst.closing:.1f} m/s, {ttc:.1f} s"
        )
        decision = Decision(kind, reason, worst.track_id, worst.gap, ttc)
        return replace(plan, trajectory=way, decision=_more_cautious(plan.decision, decision))

    def _braked(self, plan: Plan, alarm: Alarm, speed: float, started: float) -> Plan:
        """Full braking."""
        jerk = self.settings.emergency_brake.jerk
        way = slowed(plan.trajectory, speed, min(started, 0.0), self.vehicle.max_deceleration, jerk)
        kind = DecisionKind.EMERGENCY_STOP
        decision = Decision(kind, f"{kind.value} for {alarm.words()}", None, alarm.free, alarm.ttc)
        if plan.decision.kind == kind:
            decision = plan.decision  # it names what it is
        return _noted(replace(plan, trajectory=way, decision=decision), f"emergency brake: {alarm.words()}")

    def _reach(self, speed: float) -> float:
        """How far ahead anything can matter, m."""
        return max(20.0, self._rss.reach(speed))

    def _started(self, dt: float) -> float:
        """The acceleration until now by the last plan, m/s²; each of a plan's values holds for a step."""
        if len(self._last) == 0:
            return 0.0
        before = int(np.searchsorted(self._last.time, dt - 1e-6)) - 1
        return float(self._last.acceleration[max(before, 0)])

    def _reckoned_speed(self, plan: Plan, dt: float) -> float:
        """The speed by the last plan, else by this one, m/s: what there is to go by where nothing measures it."""
        way = self._last if len(self._last) else plan.trajectory
        return float(np.interp(dt, way.time, way.speed)) if len(way) else 0.0


def _noted(plan: Plan, *notes: str) -> Plan:
    return replace(plan, notes=(*plan.notes, *notes))


def _more_cautious(first: Decision, second: Decision) -> Decision:
    """Of two decisions the one that is more cautious; the first where they are alike."""
    return second if second.kind.caution > first.kind.caution else first
