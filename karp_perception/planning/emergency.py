"""What is an emergency: when nothing but hard braking will do, and for how long."""

from __future__ import annotations

from collections.abc import Sequence

from karp_perception.planning.decision import DecisionSettings
from karp_perception.planning.hazards import Hazard
from karp_perception.planning.trajectory import needed_deceleration


def is_emergency(hazard: Hazard, speed: float, settings: DecisionSettings, braking: float = 0.0) -> bool:
    """Whether only hard braking keeps the vehicle (m/s) from touching the hazard, at the real closing speed.

    Too little time is left only where the vehicle does not yet brake as much as is needed; it brakes with `braking`
    (m/s²) now.
    """
    closing = speed - hazard.speed
    if closing <= 0.5 or speed <= 0.1:
        return False
    if hazard.crossing and (hazard.gap / closing > hazard.occupied[1] or hazard.occupied[0] > settings.emergency_entry):
        return False  # it will be gone, or there is time to see whether it comes at all
    if hazard.guessed:
        return False
    needed = needed_deceleration(hazard.gap, closing)
    if needed > settings.emergency_deceleration:
        return True
    late = hazard.gap / closing < settings.emergency_ttc and closing > settings.emergency_closing
    return late and needed > braking


class EmergencyWatch:
    """Begins and ends emergencies: several frames must agree, and it lasts until little braking is needed."""

    def __init__(self, settings: DecisionSettings) -> None:
        self._settings = settings
        self.reset()

    def reset(self) -> None:
        """No emergency, and no sign of one."""
        self._alarms = 0
        self.active = False
        """Whether there is one."""

    def watch(self, hazards: Sequence[Hazard], speed: float, acceleration: float) -> None:
        """Looks at what is in the way of the vehicle, which drives with a speed (m/s) and an acceleration (m/s²)."""
        settings = self._settings
        alarming = any(is_emergency(h, speed, settings, max(-acceleration, 0.0)) for h in hazards)
        self._alarms = self._alarms + 1 if alarming else 0
        if self.active:
            worst = max((needed_deceleration(h.gap, speed - h.speed) for h in hazards), default=0.0)
            self.active = speed > 0.1 and worst > settings.emergency_release
        if self._alarms >= settings.emergency_frames:
            self.active = True
