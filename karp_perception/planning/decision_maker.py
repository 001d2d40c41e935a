"""From the chosen proposal to what the vehicle does: full braking in an emergency, and calm words for everything."""

from __future__ import annotations

from collections.abc import Sequence

from karp_perception.core import Decision, DecisionKind, Vehicle
from karp_perception.planning.decision import DecisionFilter, DecisionSettings, choose, describe, keeping_off, passing
from karp_perception.planning.emergency import EmergencyWatch
from karp_perception.planning.hazards import Hazard
from karp_perception.planning.proposals import Proposal, Way
from karp_perception.planning.start import Start
from karp_perception.planning.trajectory import MotionLimits, SpeedProfile, brake, needed_deceleration


class DecisionMaker:
    """Decides from moment to moment; remembers the last decisions, and whether there is an emergency."""

    def __init__(self, settings: DecisionSettings, limits: MotionLimits, vehicle: Vehicle) -> None:
        self._settings, self._limits, self._vehicle = settings, limits, vehicle
        self.reset()

    def reset(self) -> None:
        """Forget everything about earlier moments."""
        self._emergency = EmergencyWatch(self._settings)
        self._filter = DecisionFilter(self._settings)

    def decided(
        self, chosen: Proposal, ways: Sequence[Way], culprit: Hazard | None, start: Start
    ) -> tuple[SpeedProfile, Decision]:
        """The speeds to drive, and the decision that they amount to.

        Args:
            chosen: on one of the ways, of which the first is the route itself.
            culprit: what free driving along the route would touch or come near to.
        """
        settings, way = self._settings, ways[chosen.way]
        hazards = [h for h in chosen.hazards if not h.title]
        self._emergency.watch(hazards, start.speed, start.acceleration)
        profile, target = chosen.profile, None
        if self._emergency.active and hazards:
            target = max(hazards, key=lambda h: needed_deceleration(h.gap, start.speed - h.speed))
            decision = describe(DecisionKind.EMERGENCY_STOP, target, start.speed, settings.standing)
            hardest, limits = self._vehicle.max_deceleration, self._limits
            profile = brake(start.speed, start.acceleration, hardest, limits.emergency_jerk, limits)
        else:
            last = start.last.decision.target_id if start.last else None
            decision, target = choose(profile, chosen.hazards, last, start.limit, settings)
            if chosen.share < 1.0 and target is None and culprit is not None:
                decision, target = keeping_off(culprit, profile), culprit
            elif way.side:
                decision = passing(decision, ways[0].hazards, way.side)
        return profile, self._filter.filtered(decision, target, start.speed)

    def without_input(self, why: str, speed: float) -> Decision:
        """The decision where too little is known to make a plan; speed in m/s."""
        self._emergency.reset()
        decision = Decision(DecisionKind.NO_INPUT, f"NO_INPUT: {why}; stopping")
        return self._filter.filtered(decision, None, speed)
