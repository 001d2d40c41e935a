"""Notices inputs that are missing, old, frozen or out of time, and says what may still be driven on them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from karp_perception.core import EgoState, MotionSource
from karp_perception.core.settings import Settings, setting

_INPUTS = {"objects": "detections", "obstacles": "obstacles", "route": "route"}


class Caution(IntEnum):
    """What may still be driven."""

    NONE = 0
    HOLD = 1  # no faster than now
    SLOW = 2  # down to the degraded speed
    STOP = 3  # a comfortable stop


@dataclass(frozen=True)
class Finding:
    """What is wrong, in words, and what may be driven.

    Attributes:
        caution: what may still be driven. reason: a sentence without full stop.
        blind: whether the vehicle's own motion is not to be believed.
    """

    caution: Caution
    reason: str
    blind: bool = False


@dataclass(frozen=True)
class WatchdogSettings(Settings):
    """After which times what happens. What has never come is not missed."""

    enabled: bool = setting(True, "slow down and stop where inputs are missing, old, frozen or out of time")
    slow_after: float = setting(0.35, "without an input until the vehicle slows", unit="s", low=0.0, high=10.0)
    stop_after: float = setting(2.0, "and until it stops", unit="s", low=0.0, high=60.0)
    late: float = setting(0.35, "age of the data from which the vehicle slows", unit="s", low=0.05, high=10.0)
    too_late: float = setting(1.0, "and stops", unit="s", low=0.1, high=60.0)
    degraded_speed: float = setting(8.0, "that it slows down to", unit="m/s", low=0.0, high=50.0)
    slowing: float = setting(1.0, "deceleration down to that", unit="m/s2", low=0.1, high=5.0)
    frozen_after: float = setting(0.5, "in which the pose must move as the speed says", unit="s", low=0.05, high=5.0)
    frozen_way: float = setting(0.5, "and by which it should have moved until it is missed", unit="m", low=0.05)
    frozen_share: float = setting(0.2, "of the way by the speed that the pose must have moved", low=0.0, high=0.9)
    jump: float = setting(1.0, "two stamps farther apart are a jump, as any back is", unit="s", low=0.1, high=60.0)
    jump_caution: float = setting(1.0, "after a jump the vehicle gets no faster for", unit="s", low=0.0, high=10.0)
    jumps: int = setting(3, "jumps within `jump_memory` at which the vehicle stops", low=1, high=100)
    jump_memory: float = setting(5.0, "over which jumps are counted", unit="s", low=0.1, high=60.0)


class Watchdog:
    """Follows the inputs from step to step. Times are those between steps; a jump counts as no time at all."""

    def __init__(self, settings: WatchdogSettings) -> None:
        self._settings = settings
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self._time = 0.0
        self._came: dict[str, float] = {}
        self._jumps: deque[tuple[float, float]] = deque()
        self._moved = False
        self._anchor: np.ndarray | None = None
        self._frozen = False
        self._restart(None)

    def observed(self, dt: float, age: float, inputs: dict[str, bool], ego: EgoState | None) -> Finding | None:
        """The worst that is wrong now, or None.

        Args:
            dt: s from the last stamp to this one; any number.
            age: s from the stamp until now.
            inputs: which of `objects`, `obstacles` and `route` have come with this step.
            ego: the vehicle's motion, where it has come.
        """
        jumped = self.is_jump(dt)
        if jumped:
            self._jumps.append((self._time, dt))
        else:
            self._time += dt
        missing = [self._missing(name, inputs.get(name, False)) for name in _INPUTS]
        found = [
            *self._blind(inputs),
            *self._stamps(age),
            *(finding for finding in missing if finding is not None),
            *self._odometry(ego, 0.0 if jumped else dt),
        ]
        return max(found, key=lambda finding: (finding.caution, finding.blind), default=None)

    def is_jump(self, dt: float) -> bool:
        """Whether a step of dt s between two stamps is none that frames make."""
        return dt < 0.0 or dt > self._settings.jump

    def _stamps(self, age: float) -> list[Finding]:
        """Of stamps that jump, or are old."""
        settings, found = self._settings, []
        while self._jumps and self._time - self._jumps[0][0] > settings.jump_memory:
            self._jumps.popleft()
        if len(self._jumps) >= settings.jumps:
            words = f"time has jumped {len(self._jumps)} times within {settings.jump_memory:.0f} s"
            found.append(Finding(Caution.STOP, words))
        elif self._jumps and self._time - self._jumps[-1][0] <= settings.jump_caution:
            found.append(Finding(Caution.HOLD, f"time has jumped by {self._jumps[-1][1]:+.1f} s"))
        if age > settings.too_late:
            found.append(Finding(Caution.STOP, f"the data is {age:.1f} s old"))
        elif age > settings.late:
            found.append(Finding(Caution.SLOW, f"the data is {age:.2f} s old"))
        elif age < -settings.late:
            found.append(Finding(Caution.SLOW, f"the data is from {-age:.1f} s in the future"))
        return found

    def _blind(self, inputs: dict[str, bool]) -> list[Finding]:
        """Of both kinds of things that are missing at once: nothing is known of what is ahead."""
        if not self._came or inputs.get("objects") or inputs.get("obstacles"):
            return []
        return [Finding(Caution.STOP, "neither detections nor obstacles come")]

    def _missing(self, name: str, here: bool) -> Finding | None:
        """Of an input that has come before."""
        settings = self._settings
        if here:
            self._came[name] = self._time
        if name not in self._came:
            return None
        silent = self._time - self._came[name]
        if silent <= settings.slow_after or here:
            return None
        caution = Caution.STOP if silent > settings.stop_after else Caution.SLOW
        return Finding(caution, f"no {_INPUTS[name]} for {silent:.1f} s")

    def _odometry(self, ego: EgoState | None, dt: float) -> list[Finding]:
        """Of motion that is missing or frozen."""
        if ego is None or ego.source == MotionSource.NONE:
            if ego is None or self._moved:
                self._restart(None)
                return [Finding(Caution.STOP, "the vehicle's motion is not known", blind=True)]
            return []
        self._moved = True
        place = ego.T_odom_base[:2, 3]
        if self._anchor is None:
            self._restart(place)
        self._since += dt
        self._way += min(abs(float(ego.velocity[0])), 100.0) * dt
        settings = self._settings
        if self._since >= settings.frozen_after:
            moved = float(np.hypot(*(place - self._anchor)))
            enough = self._way >= settings.frozen_way
            if enough or self._way < 0.2 * settings.frozen_way:
                self._frozen = enough and moved < settings.frozen_share * self._way
                self._restart(place)
        if self._frozen:
            speed = f"{ego.speed:.1f} m/s"
            return [Finding(Caution.STOP, f"odometry is frozen: one pose, yet {speed}", blind=True)]
        return []

    def _restart(self, place: np.ndarray | None) -> None:
        """A new stretch of way to compare pose and speed on."""
        self._anchor, self._since, self._way = place, 0.0, 0.0
